//! A base image that travels as the file it is, below the disks.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
    sync::Arc,
};

use anyhow::{Result, ensure};
use rustix::fs::{Advice, fadvise};
use tokio::io::{AsyncWriteExt, duplex};
use whimbrel_transfer::{
    frame::{Header, Kind},
    image::{ImageSink, ImageSource},
    link::Stream,
    receive::{Receiver, Sink, TargetDisk},
    send::{DiskRound, Sender},
};

use crate::pair::{IDLE, MIB, content, name, streams};

/// Linux on x86 and on Arm alike; the file systems of the tests take it.
const O_DIRECT: i32 = if cfg!(target_arch = "aarch64") { 0o200_000 } else { 0o40_000 };

/// `cached`: some of it is in the page cache, some is not.
fn source(path: &Path, cached: bool) -> Result<Arc<ImageSource>> {
    let direct = OpenOptions::new().read(true).custom_flags(O_DIRECT).open(path)?;
    if !cached {
        let file = File::open(path)?;
        file.sync_all()?;
        fadvise(&file, 0, None, Advice::DontNeed)?;
        file.read_exact_at(&mut [0; 1], file.metadata()?.len() / 2)?;
    }
    Ok(Arc::new(ImageSource::new(path.to_owned(), File::open(path)?, direct)?))
}

fn sink(path: &Path, bytes: u64) -> Result<Arc<ImageSink>> {
    let _ = std::fs::remove_file(path);
    let file = OpenOptions::new().write(true).create_new(true).custom_flags(O_DIRECT).open(path)?;
    Ok(Arc::new(ImageSink::new(path.to_owned(), file, bytes)?))
}

/// Ships `image` and says what the sink says of it.
async fn shipped(dir: &Path, image: &[u8], cached: bool) -> Result<Option<[u8; 32]>> {
    let (from, to) = (dir.join("image"), dir.join("arriving"));
    std::fs::write(&from, image)?;
    let source = source(&from, cached)?;
    let sink = sink(&to, image.len() as u64)?;
    let (near, far) = streams();
    let receiver = Receiver::start(far, vec![TargetDisk { name: name(), sink: Sink::Image(sink.clone()) }]);
    let mut sender = Sender::start(near, vec![name()]);
    let totals = sender.round(0, vec![DiskRound::image(0, source)]).await?;
    receiver.await_round(0, &totals, IDLE).await?;
    let counted = sender.counters().snapshot().disks[0];
    ensure!(counted.done_bytes == image.len() as u64 && counted.due_bytes == counted.done_bytes, "{counted:?}");
    let (sent, received) = tokio::join!(sender.finish(), receiver.finish());
    sent?;
    received?;
    let digest = sink.digest().await?;
    sink.sync().await?;
    ensure!(std::fs::read(&to)? == image, "the file differs from the image");
    Ok(digest)
}

#[tokio::test]
async fn an_image_arrives_as_it_is_and_its_digest_with_it() -> Result<()> {
    let dir = tempfile::tempdir()?;
    for cached in [true, false] {
        for len in [1, 4096, MIB, MIB + 1, 9 * MIB + 4096, 12 * MIB + 512 + 3] {
            let mut image = content(7, 0, len);
            if len > 8 * MIB {
                image[3 * MIB as usize..][..2 * MIB as usize].fill(0);
            }
            let digest = shipped(dir.path(), &image, cached).await?;
            assert_eq!(digest, Some(*blake3::hash(&image).as_bytes()), "{len} bytes, cached {cached}");
        }
    }
    Ok(())
}

/// A frame's digest does not cover an image's chunk: what guards it is the name of the whole.
#[tokio::test]
async fn a_bit_that_flips_on_its_way_makes_another_image() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let image = content(5, 0, 3 * MIB + 4096);
    let arrived = async |flipped: Option<usize>| -> Result<Option<[u8; 32]>> {
        let sink = sink(&dir.path().join("arriving"), image.len() as u64)?;
        let (mut near, far) = duplex(8 << 20);
        let disk = TargetDisk { name: name(), sink: Sink::Image(sink.clone()) };
        let receiver = Receiver::start(vec![Box::new(far) as Stream], vec![disk]);
        let mut offset = 0;
        for chunk in image.chunks(MIB as usize) {
            let header = Header::new(Kind::Image, 0, 0, offset, chunk.len() as u32, chunk);
            let mut payload = chunk.to_vec();
            if let Some(at) = flipped.and_then(|at| at.checked_sub(offset as usize)).filter(|at| *at < payload.len()) {
                payload[at] ^= 1;
            }
            near.write_all(&[&header.encode()[..], &payload].concat()).await?;
            offset += chunk.len() as u64;
        }
        near.write_all(&Header::new(Kind::End, 0, 0, 0, 0, &[]).encode()).await?;
        receiver.finish().await?;
        Ok(sink.digest().await?)
    };
    let named = Some(*blake3::hash(&image).as_bytes());
    assert_eq!(arrived(None).await?, named);
    for at in [0, MIB as usize - 1, MIB as usize, 2 * MIB as usize + 77, image.len() - 1] {
        let found = arrived(Some(at)).await?;
        assert!(found.is_some() && found != named, "byte {at}: {found:?}");
    }
    Ok(())
}

#[tokio::test]
async fn an_image_that_is_not_whole_has_no_digest() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let sink = sink(&dir.path().join("arriving"), 3 * MIB)?;
    assert_eq!(sink.digest().await?, None);
    Ok(())
}

#[tokio::test]
async fn a_frame_that_does_not_fit_the_image_is_refused() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let chunk = content(3, 0, MIB);
    let check = async |kind: Kind, offset: u64, len: u32, payload: &[u8], want: &str| -> Result<()> {
        let sink = sink(&dir.path().join("arriving"), 3 * MIB + 7)?;
        let (mut near, far) = duplex(4 << 20);
        let disk = TargetDisk { name: name(), sink: Sink::Image(sink) };
        let receiver = Receiver::start(vec![Box::new(far) as Stream], vec![disk]);
        near.write_all(&[&Header::new(kind, 0, 0, offset, len, payload).encode()[..], payload].concat()).await?;
        let said = tokio::time::timeout(IDLE, receiver.failed()).await?.failure().detail;
        ensure!(said.contains(want), "'{said}' does not say '{want}'");
        Ok(())
    };
    check(Kind::Image, MIB, 512, &chunk[..512], "of disk root, which is not for it").await?;
    check(Kind::Image, 3 * MIB, 8, &chunk[..8], "whose size is 3145735").await?;
    check(Kind::Data, MIB, MIB as u32, &chunk, "which is not for it").await?;
    check(Kind::Zero, 0, 2 * MIB as u32, b"", "which is not for it").await?;
    check(Kind::DigestAsk, 0, MIB as u32, b"", "which is not for it").await
}
