//! Whole copies: what arrives is what was there, and no more travels than must.

use anyhow::Result;
use whimbrel_transfer::{
    counters::DiskSnapshot,
    extent::{ALLOCATION_ZERO, BITMAP_DIRTY, CONTEXT_ALLOCATION, bitmap_context},
    send::{Due, Zeros},
};

use crate::{
    pair::{DISK_BYTES, Images, KIB, MIB, Pair, content, guest_writes, guest_zeros, serve},
    qemu::{VERSIONS, Version},
};

fn counts(pair: &Pair) -> DiskSnapshot {
    pair.sender.counters().snapshot().disks[0]
}

async fn full_copy(versions: (Version, Version)) -> Result<()> {
    let images = Images::new(versions.0)?;
    images.fresh(versions.1, "target")?;
    let mut pair = Pair::start(versions, &images, "source", "target", false).await?;
    let allocated = pair.pool.count_bytes(CONTEXT_ALLOCATION, |extent| extent.flags & ALLOCATION_ZERO == 0).await?;
    pair.round(0, Due::Allocated, Zeros::Skip).await?;
    let got = counts(&pair);
    assert_eq!((got.due_bytes, got.done_bytes), (allocated, allocated));
    assert_eq!(got.sent_bytes + got.zero_bytes, DISK_BYTES, "every byte is sent or zero");
    let data = images.model.chunks(64 << 10).filter(|block| block.iter().any(|byte| *byte != 0));
    assert_eq!(got.sent_bytes, data.map(|block| block.len() as u64).sum::<u64>(), "nothing but data travels");
    let received = pair.receiver.counters().snapshot();
    assert_eq!((received.received_bytes, received.written_bytes), (got.sent_bytes, got.sent_bytes));
    pair.finish().await?;
    images.check(versions.1, "target")?;
    versions.1.compare(&images.image("source"), &images.image("target"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_copy_is_identical_in_both_versions_and_between_them() -> Result<()> {
    for source in VERSIONS {
        for target in VERSIONS {
            full_copy((source, target)).await?;
        }
    }
    Ok(())
}

/// Swaps bitmaps as the agent does: `b<k>` stops, `b<k+1>` goes on, and a null-co node shows what `b<k>` has.
fn swap_commands(round: u32) -> Vec<String> {
    let next = round + 1;
    vec![
        format!(
            r#"{{"execute": "blockdev-add", "arguments":
                {{"driver": "null-co", "node-name": "bm{round}", "size": {DISK_BYTES}, "read-zeroes": true}}}}"#
        ),
        format!(
            r#"{{"execute": "transaction", "arguments": {{"actions": [
                {{"type": "block-dirty-bitmap-add", "data": {{"node": "disk", "name": "b{next}"}}}},
                {{"type": "block-dirty-bitmap-disable", "data": {{"node": "disk", "name": "b{round}"}}}},
                {{"type": "block-dirty-bitmap-add", "data":
                    {{"node": "bm{round}", "name": "x", "disabled": true, "granularity": 65536}}}},
                {{"type": "block-dirty-bitmap-merge", "data":
                    {{"node": "bm{round}", "target": "x", "bitmaps": [{{"node": "disk", "name": "b{round}"}}]}}}}]}}}}"#
        ),
        format!(
            r#"{{"execute": "block-export-add", "arguments":
                {{"type": "nbd", "id": "xb{round}", "node-name": "bm{round}", "name": "bm{round}", "bitmaps": ["x"]}}}}"#
        ),
    ]
    .into_iter()
    .map(|command| command.replace('\n', " "))
    .collect()
}

async fn rounds(version: Version) -> Result<()> {
    let mut images = Images::new(version)?;
    images.fresh(version, "target")?;
    let mut pair = Pair::start((version, version), &images, "source", "target", true).await?;
    let arm = r#"{"execute": "block-dirty-bitmap-add", "arguments": {"node": "disk", "name": "b0"}}"#;
    pair.from.qmp(&[arm.to_owned()]).await?;
    let guest = pair.from.pool(1, &[]).await?;
    pair.round(0, Due::Allocated, Zeros::Skip).await?;
    for round in 0..3u32 {
        let before = counts(&pair);
        let seed = 10 + round as u8;
        guest_writes(&guest, &mut images, 100 * KIB, content(seed, 0, 300 * KIB)).await?;
        guest_writes(&guest, &mut images, 30 * MIB, content(seed, 1, 4 * KIB)).await?;
        guest_writes(&guest, &mut images, DISK_BYTES - 512, content(seed, 2, 512)).await?;
        // Data becomes zeros: the target must not keep the old data.
        guest_zeros(&guest, &mut images, 22 * MIB + u64::from(round) * MIB / 2, 256 * KIB).await?;
        guest_writes(&guest, &mut images, 2 * MIB, vec![0; 128 << 10]).await?;

        pair.from.qmp(&swap_commands(round)).await?;
        let shown = pair.from.pool_of(&format!("bm{round}"), 1, &[&bitmap_context("x")]).await?;
        let dirty = shown.count_bytes(&bitmap_context("x"), |extent| extent.flags & BITMAP_DIRTY != 0).await?;
        pair.round(round + 1, Due::Bitmap { pool: shown, bitmap: "x".to_owned() }, Zeros::Send).await?;
        let now = counts(&pair);
        let (sent, zero) = (now.sent_bytes - before.sent_bytes, now.zero_bytes - before.zero_bytes);
        assert_eq!(sent + zero, dirty, "round {}: what is dirty travels, and nothing else", round + 1);
        assert_eq!(zero, 384 * KIB, "round {}: zeros travel as such", round + 1);
        assert!(dirty < 2 * MIB, "round {}: {dirty} bytes", round + 1);
    }
    guest.disconnect().await;
    pair.finish().await?;
    images.check(version, "target")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rounds_catch_up_with_a_guest_that_writes() -> Result<()> {
    for version in VERSIONS {
        rounds(version).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shared_base_image_does_not_travel() -> Result<()> {
    let version = Version::V72;
    let mut images = Images::new(version)?;
    images.overlay(version, "top", "source")?;
    images.overlay(version, "target", "source")?;
    let guest = serve(version, &images.image("top"), true).await?;
    let pool = guest.pool(1, &[]).await?;
    guest_writes(&pool, &mut images, 20 * MIB, content(7, 0, 64 * KIB)).await?;
    guest_writes(&pool, &mut images, 33 * MIB, content(7, 1, 64 * KIB)).await?;
    guest_zeros(&pool, &mut images, MIB, 512 * KIB).await?;
    pool.disconnect().await;
    guest.quit().await?;

    let mut pair = Pair::start((version, version), &images, "top", "target", false).await?;
    pair.round(0, Due::TopLayer, Zeros::Send).await?;
    let got = counts(&pair);
    assert_eq!((got.sent_bytes, got.zero_bytes), (128 * KIB, 512 * KIB));
    assert!(got.reused_bytes >= 7 * MIB, "the base image holds more than {} bytes", got.reused_bytes);
    pair.finish().await?;
    images.check(version, "target")
}

async fn digest_copy(version: Version, change: impl Fn(&mut Images), want: (u64, u64)) -> Result<()> {
    let mut images = Images::new(version)?;
    // The target has the model as it was; the source has it as it is now.
    images.write_image(version, "target")?;
    change(&mut images);
    images.write_image(version, "source")?;
    let mut pair = Pair::start((version, version), &images, "source", "target", false).await?;
    pair.round(0, Due::Digest, Zeros::Skip).await?;
    let got = counts(&pair);
    assert_eq!((got.sent_bytes, got.zero_bytes), want, "sent and punched");
    assert_eq!(got.sent_bytes + got.zero_bytes + got.reused_bytes, DISK_BYTES);
    assert_eq!((got.due_bytes, got.done_bytes), (DISK_BYTES, DISK_BYTES));
    pair.finish().await?;
    images.check(version, "target")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn digests_find_what_differs_without_a_bitmap() -> Result<()> {
    digest_copy(Version::V72, |_| {}, (0, 0)).await?;
    let one_byte = |images: &mut Images| images.model[22 << 20] ^= 2;
    digest_copy(Version::V100, one_byte, (64 * KIB, 0)).await?;
    let much = |images: &mut Images| {
        images.put(10 * MIB, &content(9, 0, 3 * MIB + 512)); // where a hole was
        images.put(0, &[0; 1 << 20]); // a hole, where data was
        images.put(25 * MIB, &[0; 64 << 10]); // zeros amid data
        images.put(DISK_BYTES - 512, &content(9, 1, 512));
    };
    // The end of the disk lies in a block of 4 KiB and 1536 bytes.
    digest_copy(Version::V72, much, (3 * MIB + 64 * KIB + 4 * KIB + 1536, MIB + 64 * KIB)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_is_not_fresh_gets_its_holes_punched() -> Result<()> {
    let version = Version::V100;
    let images = Images::new(version)?;
    let old = Images { dir: tempfile::tempdir()?, model: content(3, 0, DISK_BYTES) };
    old.write_image(version, "old")?;
    std::fs::rename(old.image("old"), images.image("target"))?;
    let mut pair = Pair::start((version, version), &images, "source", "target", false).await?;
    pair.round(0, Due::Allocated, Zeros::Send).await?;
    assert_eq!(counts(&pair).sent_bytes + counts(&pair).zero_bytes, DISK_BYTES);
    pair.finish().await?;
    images.check(version, "target")
}
