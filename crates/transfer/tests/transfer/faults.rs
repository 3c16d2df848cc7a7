//! What must end a transfer, and what it says then.

use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncWriteExt, DuplexStream, duplex};
use whimbrel_core::failure::FailureCode;
use whimbrel_transfer::{
    NbdPool, TransferError,
    frame::{Header, Kind},
    link::Stream,
    receive::{Receiver, Sink, TargetDisk},
    send::{DiskRound, Due, Origin, Sender, Zeros},
    totals::DiskTotals,
};

use crate::{
    pair::{DISK_BYTES, IDLE, Images, KIB, MIB, Pair, STREAMS, content, name, serve, streams, wait_until},
    qemu::{Daemon, Version},
};

const VERSION: Version = Version::V72;
/// Nothing is on its way any more when this is waited for.
const NOTHING_COMES: Duration = Duration::from_millis(300);

/// A receiver whose source is the test itself.
struct Forged {
    _images: Images,
    _daemon: Daemon,
    pool: NbdPool,
    streams: Vec<DuplexStream>,
    receiver: Receiver,
}

async fn forged() -> Result<Forged> {
    let images = Images::new(VERSION)?;
    images.fresh(VERSION, "target")?;
    let daemon = serve(VERSION, &images.image("target"), true).await?;
    let pool = daemon.pool(2, &[]).await?;
    let (near, far): (Vec<_>, Vec<_>) = (0..2).map(|_| duplex(4 << 20)).unzip();
    let far = far.into_iter().map(|stream| Box::new(stream) as Stream).collect();
    let receiver = Receiver::start(far, vec![TargetDisk { name: name(), sink: Sink::Export(pool.clone()) }]);
    Ok(Forged { _images: images, _daemon: daemon, pool, streams: near, receiver })
}

/// `bytes` come in on stream 1, then its end if `closed`: what does the receiver say, and with which code?
async fn said_of(bytes: &[u8], closed: bool) -> Result<(String, FailureCode)> {
    let mut forged = forged().await?;
    forged.streams[1].write_all(bytes).await?;
    let closing = if closed { forged.streams.pop() } else { None };
    drop(closing);
    let error = tokio::time::timeout(IDLE, forged.receiver.failed()).await?;
    // The same error ends a round that waits.
    let waiting = forged.receiver.await_round(0, &[], IDLE).await.expect_err("the stream has failed");
    assert_eq!(waiting.to_string(), error.to_string());
    let start = forged.pool.read(0, vec![0; 4096].into()).await?;
    assert!(start.iter().all(|byte| *byte == 0), "nothing of a bad frame may be written");
    Ok((error.failure().detail, error.code()))
}

fn frame(round: u32, offset: u64, payload: &[u8]) -> Vec<u8> {
    let header = Header::new(Kind::Data, 0, round, offset, payload.len() as u32, payload);
    [&header.encode()[..], payload].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_frame_ends_the_migration_and_is_named() -> Result<()> {
    let payload = content(1, 0, 4096);
    let good = frame(0, 0, &payload);
    let check = async |bytes: Vec<u8>, closed: bool, code: FailureCode, wants: &[&str]| {
        let (said, got) = said_of(&bytes, closed).await?;
        for want in wants {
            assert!(said.contains(want), "'{said}' does not say '{want}'");
        }
        assert_eq!(got, code, "{said}");
        anyhow::Ok(())
    };
    let bent = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    let corrupt = FailureCode::Corrupt;
    check(bent(100), false, corrupt, &["disk root", "offset 0", "stream 1", "corrupt"]).await?;
    // The lowest bit of the offset: caught before it is written one byte off.
    check(bent(19), false, corrupt, &["disk root", "offset 1", "stream 1"]).await?;
    check(bent(0), false, corrupt, &["stream 1", "magic"]).await?;
    check(bent(24), false, corrupt, &["stream 1", "above the limit"]).await?;
    check(
        good[..2000].to_vec(),
        true,
        FailureCode::PeerLost,
        &["stream 1", "Data frame of disk 0 at offset 0", "2000"],
    )
    .await?;
    check(good[..10].to_vec(), true, FailureCode::PeerLost, &["stream 1", "after 10 bytes"]).await?;
    check(vec![], true, FailureCode::PeerLost, &["ended in the middle of the frames"]).await?;
    check(frame(1, 0, &payload), false, FailureCode::Internal, &["round 1 while round 0 is open"]).await?;
    check(frame(0, DISK_BYTES - 1, &payload), false, FailureCode::Internal, &["disk root, whose size is"]).await?;
    let other = Header::new(Kind::Zero, 1, 0, 0, 512, &[]).encode().to_vec();
    check(other, false, FailureCode::Internal, &["disk 1, of 1 disks"]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_chunk_is_missed() -> Result<()> {
    let mut forged = forged().await?;
    let payload = content(1, 0, 4096);
    let mut totals = DiskTotals::new(0);
    for offset in [0, 4096] {
        totals.add(&Header::new(Kind::Data, 0, 0, offset, 4096, &payload));
    }
    forged.streams[0].write_all(&frame(0, 0, &payload)).await?;
    let sent = std::slice::from_ref(&totals);
    let error = forged.receiver.await_round(0, sent, NOTHING_COMES).await.expect_err("a chunk is missing");
    assert!(matches!(error, TransferError::RoundLate { sent: 2, written: 1, .. }), "{error}");
    // Another chunk in its place is not taken for it.
    forged.streams[0].write_all(&frame(0, 8192, &payload)).await?;
    let error = forged.receiver.await_round(0, sent, IDLE).await.expect_err("the wrong chunk came");
    assert_eq!(error.code(), FailureCode::Corrupt, "{error}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_target_holds_the_source_back_and_loses_nothing() -> Result<()> {
    let images = Images::new(VERSION)?;
    images.fresh(VERSION, "target")?;
    let from = serve(VERSION, &images.image("source"), false).await?;
    let to = serve(VERSION, &images.image("target"), true).await?;
    let (near, far) = streams();
    let mut sender = Sender::start(near, vec![name()]);
    let counters = sender.counters();
    let pool = from.pool(2, &["base:allocation"]).await?;
    let part = DiskRound { disk: 0, origin: Origin::Export(pool), due: Due::Allocated, zeros: Zeros::Skip };
    let round = tokio::spawn(async move { (sender.round(0, vec![part]).await, sender) });
    // Nobody reads the streams: no more than a chunk may be on its way on each.
    let on_its_way = || counters.snapshot().wire_bytes;
    wait_until("each stream to have something to send", || on_its_way() >= STREAMS as u64 * 64 * KIB).await;
    assert!(!round.is_finished(), "a round of 8 MiB ended before anybody took it");
    assert!(on_its_way() <= STREAMS as u64 * (MIB + KIB), "{} bytes were given to sockets of 200 KiB", on_its_way());
    let receiver = Receiver::start(far, vec![TargetDisk { name: name(), sink: Sink::Export(to.pool(2, &[]).await?) }]);
    let (totals, sender) = round.await?;
    receiver.await_round(0, &totals?, IDLE).await?;
    let (sent, received) = tokio::join!(sender.finish(), receiver.finish());
    sent?;
    received?;
    to.quit().await?;
    images.check(VERSION, "target")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_round_lets_go_of_both_sides() -> Result<()> {
    let images = Images::new(VERSION)?;
    images.fresh(VERSION, "target")?;
    let mut pair = Pair::start((VERSION, VERSION), &images, "source", "target", false).await?;
    pair.sender.set_rate(Some(MIB));
    // A round that fits into the queues is done before a byte of it is slow.
    let parts = [Zeros::Skip, Zeros::Send, Zeros::Send].map(|zeros| pair.part(Due::Allocated, zeros));
    let counters = pair.sender.counters();
    {
        let rounds = async {
            for (round, part) in (0..).zip(parts) {
                pair.sender.round(round, part).await?;
            }
            Ok::<_, TransferError>(())
        };
        tokio::select! {
            done = rounds => panic!("24 MiB went in a blink at 1 MiB/s: {done:?}"),
            () = wait_until("the round to be under way", || counters.snapshot().wire_bytes > 0) => {}
        }
    }
    let Pair { from, to, pool, sender, receiver } = pair;
    drop(sender);
    let error = tokio::time::timeout(IDLE, receiver.failed()).await?;
    assert_eq!(error.code(), FailureCode::PeerLost, "{error}");
    receiver.disconnect().await;
    // The guest's export has not felt any of it.
    pool.read(0, vec![0; 4096].into()).await?;
    pool.disconnect().await;
    assert!(pool.read(0, vec![0; 4096].into()).await.is_err(), "a pool that said goodbye takes no requests");
    to.quit().await?;
    from.quit().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_peer_or_storage_daemon_ends_the_round() -> Result<()> {
    for kill_daemon in [false, true] {
        let images = Images::new(VERSION)?;
        images.fresh(VERSION, "target")?;
        let pair = Pair::start((VERSION, VERSION), &images, "source", "target", false).await?;
        pair.sender.set_rate(Some(MIB));
        // A round that fits into the queues is done before a byte of it is slow.
        let parts = [Zeros::Skip, Zeros::Send, Zeros::Send].map(|zeros| pair.part(Due::Allocated, zeros));
        let counters = pair.sender.counters();
        let mut sender = pair.sender;
        let round = tokio::spawn(async move {
            for (round, part) in (0..).zip(parts) {
                sender.round(round, part).await?;
            }
            Ok::<_, TransferError>(())
        });
        wait_until("the round to be under way", || counters.snapshot().wire_bytes > 0).await;
        if kill_daemon {
            drop(pair.to);
            let error = tokio::time::timeout(IDLE, pair.receiver.failed()).await?;
            assert!(error.failure().detail.contains("disk root: writing failed: NBD export 'disk' on"), "{error:?}");
            assert_eq!(error.code(), FailureCode::QemuFailed);
        }
        drop(pair.receiver);
        let error = tokio::time::timeout(IDLE, round).await??.expect_err("the target is gone");
        assert_eq!(error.code(), FailureCode::PeerLost, "{error}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_export_that_dies_ends_the_round() -> Result<()> {
    let images = Images::new(VERSION)?;
    images.fresh(VERSION, "target")?;
    let mut pair = Pair::start((VERSION, VERSION), &images, "source", "target", false).await?;
    let part = pair.part(Due::Allocated, Zeros::Skip);
    drop(pair.from);
    let error = tokio::time::timeout(IDLE, pair.sender.round(0, part)).await?.expect_err("the source is gone");
    let said = error.failure().detail;
    assert!(said.contains("disk root") && said.contains("the connection is lost"), "{said}");
    Ok(())
}
