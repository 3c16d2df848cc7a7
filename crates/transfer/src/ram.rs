//! The RAM tunnel: QEMU's migration stream, and its return path, through the agents' link.
//!
//! ```text
//!  source QEMU ──unix socket──▶ tunnel ══ link ══▶ tunnel ──unix socket──▶ target QEMU
//!              ◀── return path ──       ══════        ◀── return path ──
//! ```
//!
//! Bytes in here count as sent for QEMU, so little may wait here: one buffer each way, and sockets keep their default
//! sizes. A slow link must be felt by QEMU, which paces itself (and reckons the downtime) by what its socket takes.

use std::sync::Arc;

use futures_util::FutureExt as _;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use whimbrel_core::id::MigrationId;

use crate::{
    counters::{Count, TunnelCounters},
    error::TransferError,
};

const BUFFER_BYTES: usize = 256 << 10;

/// Carries bytes both ways between QEMU's migration socket and the link, until both directions have ended.
/// An end of one direction is passed on as such (half-close). Counters are live. Dropping the future ends the tunnel.
pub async fn tunnel(
    migration: MigrationId,
    qemu: impl AsyncRead + AsyncWrite + Send + Unpin,
    link: impl AsyncRead + AsyncWrite + Send + Unpin,
    counters: &TunnelCounters,
) -> Result<(), TransferError> {
    let (from_qemu, to_qemu) = tokio::io::split(qemu);
    let (from_link, to_link) = tokio::io::split(link);
    tokio::try_join!(
        carry(migration, ["reading from QEMU", "writing to the link"], from_qemu, to_link, &counters.from_qemu),
        carry(migration, ["reading from the link", "writing to QEMU"], from_link, to_qemu, &counters.to_qemu),
    )
    .map(|((), ())| ())
}

async fn carry(
    migration: MigrationId,
    doing: [&'static str; 2],
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    count: &Count,
) -> Result<(), TransferError> {
    let [read_failed, write_failed] =
        doing.map(|doing| move |error| TransferError::Tunnel { migration, doing, source: Arc::new(error) });
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let mut len = from.read(&mut buffer).await.map_err(read_failed)?;
        // A TLS record is 16 KiB, and a QEMU that is woken for each loads a tenth of what it could: take all that is there.
        while len > 0 && len < BUFFER_BYTES {
            match from.read(&mut buffer[len..]).now_or_never() {
                Some(Ok(more)) if more > 0 => len += more,
                // An end shows again at the next read.
                Some(Ok(_)) | None => break,
                Some(Err(error)) => return Err(read_failed(error)),
            }
        }
        if len == 0 {
            // The other side may have closed already; the half-close then has nobody to tell.
            let _ = to.shutdown().await;
            return Ok(());
        }
        to.write_all(&buffer[..len]).await.map_err(write_failed)?;
        // TLS keeps what its socket did not take at once; QEMU's last words must not wait for more.
        to.flush().await.map_err(write_failed)?;
        count.add(len as u64);
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, duplex};
    use uuid::Uuid;

    use super::*;

    const MIGRATION: MigrationId = MigrationId(Uuid::from_u128(1));

    /// Two QEMUs, joined by two tunnels.
    fn joined() -> (DuplexStream, DuplexStream, [std::sync::Arc<TunnelCounters>; 2], [tokio::task::JoinHandle<bool>; 2])
    {
        let (source, near) = duplex(1000);
        let (here, there) = duplex(1000);
        let (far, target) = duplex(1000);
        let counters: [std::sync::Arc<TunnelCounters>; 2] = Default::default();
        let [first, second] = counters.clone();
        let tasks = [
            tokio::spawn(async move { tunnel(MIGRATION, near, here, &first).await.is_ok() }),
            tokio::spawn(async move { tunnel(MIGRATION, far, there, &second).await.is_ok() }),
        ];
        (source, target, counters, tasks)
    }

    #[tokio::test]
    async fn an_end_goes_one_way_and_the_return_path_lives_on() {
        let (mut source, mut target, counters, tasks) = joined();
        let ram: Vec<u8> = (0..1 << 20).map(|at: u32| (at % 251) as u8).collect();
        let sent = ram.clone();
        let send = tokio::spawn(async move {
            source.write_all(&sent).await.unwrap();
            source.shutdown().await.unwrap();
            let mut back = Vec::new();
            source.read_to_end(&mut back).await.unwrap();
            back
        });
        let mut got = Vec::new();
        target.read_to_end(&mut got).await.unwrap();
        assert!(got == ram, "RAM changed on its way");
        target.write_all(b"loaded").await.unwrap();
        target.shutdown().await.unwrap();
        assert_eq!(send.await.unwrap(), b"loaded");
        for task in tasks {
            assert!(task.await.unwrap(), "a tunnel failed");
        }
        let counts = counters.map(|counters| (counters.from_qemu.get(), counters.to_qemu.get()));
        assert_eq!(counts, [(1 << 20, 6), (6, 1 << 20)]);
    }

    #[tokio::test]
    async fn a_target_that_dies_is_felt_by_the_source() {
        let (mut source, target, _counters, _tasks) = joined();
        drop(target);
        let ram = vec![1; 1 << 20];
        assert!(source.write_all(&ram).await.is_err(), "a mebibyte went into a dead tunnel of some kilobytes");
    }
}
