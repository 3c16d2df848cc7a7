//! MD5 and SHA-512 of content while it comes in: what the Image API tells of every image beside our own digest.
//!
//! They cost more than TLS and BLAKE3 together, so they run on a thread of their own, a few pieces behind.

use bytes::Bytes;
use md5::Md5;
use sha2::{Digest, Sha512};
use tokio::{sync::mpsc, task::JoinHandle};

/// Pieces that wait to be summed; each is at most what one read from the connection brought.
const QUEUE_PIECES: usize = 64;

/// In lower-case hex.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sums {
    pub md5: String,
    pub sha512: String,
}

/// Ends with its thread when it is dropped.
pub(super) struct Summing {
    pieces: mpsc::Sender<Bytes>,
    sums: JoinHandle<Sums>,
}

impl Summing {
    pub(super) fn start() -> Self {
        let (pieces, mut waiting) = mpsc::channel::<Bytes>(QUEUE_PIECES);
        let sums = tokio::task::spawn_blocking(move || {
            let (mut md5, mut sha512) = (Md5::new(), Sha512::new());
            while let Some(piece) = waiting.blocking_recv() {
                md5.update(&piece);
                sha512.update(&piece);
            }
            Sums { md5: hex(&md5.finalize()), sha512: hex(&sha512.finalize()) }
        });
        Summing { pieces, sums }
    }

    pub(super) async fn add(&self, piece: Bytes) {
        // The other end is gone only if its thread panicked, which `finish` tells.
        let _ = self.pieces.send(piece).await;
    }

    pub(super) async fn finish(self) -> std::io::Result<Sums> {
        drop(self.pieces);
        self.sums.await.map_err(std::io::Error::other)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sums_do_not_depend_on_the_pieces() {
        let check = async |pieces: &[&'static [u8]], md5: &str, sha512: &str| {
            let summing = Summing::start();
            for piece in pieces {
                summing.add(Bytes::from_static(piece)).await;
            }
            let sums = summing.finish().await.unwrap();
            assert_eq!((sums.md5.as_str(), &sums.sha512[..16]), (md5, sha512));
            assert_eq!(sums.sha512.len(), 128);
        };
        check(&[], "d41d8cd98f00b204e9800998ecf8427e", "cf83e1357eefb8bd").await;
        check(&[b"abc"], "900150983cd24fb0d6963f7d28e17f72", "ddaf35a193617aba").await;
        check(&[b"a", b"", b"bc"], "900150983cd24fb0d6963f7d28e17f72", "ddaf35a193617aba").await;
    }
}
