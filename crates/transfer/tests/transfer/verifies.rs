//! Verification after a move: equal is equal, a flip is found, and the guest's own writes are not held against it.

use std::sync::Mutex;

use anyhow::Result;
use tokio::io::duplex;
use whimbrel_transfer::{
    extent::{BITMAP_DIRTY, CONTEXT_ALLOCATION, Extent, push_merged},
    link::Stream,
    verify::{VerifyDisk, VerifyReport, verify_source, verify_target},
};

use crate::{
    pair::{DISK_BYTES, Images, KIB, MIB, content, name, serve},
    qemu::{VERSIONS, Version},
};

/// What the test changes on the target, what its bitmap would say, and what must come out.
struct Case {
    change: fn(&mut Images),
    written: &'static [(u64, u64)],
    exempt: u64,
    mismatches: &'static [(u64, u64)],
    asked: bool,
}

/// As documented: BLAKE3 over the BLAKE3 of each MiB.
fn digest_of(model: &[u8]) -> String {
    let mut root = blake3::Hasher::new();
    for chunk in model.chunks(1 << 20) {
        root.update(blake3::hash(chunk).as_bytes());
    }
    root.finalize().to_hex().to_string()
}

/// As a walk over a bitmap shows it: what is clean too, which must exempt nothing.
fn bitmap(written: &[(u64, u64)]) -> Vec<Extent> {
    let mut extents = Vec::new();
    let mut end = 0;
    for &(offset, len) in written.iter().chain(&[(DISK_BYTES, 0)]) {
        push_merged(&mut extents, Extent { offset: end, len: offset - end, flags: 0 });
        push_merged(&mut extents, Extent { offset, len, flags: BITMAP_DIRTY });
        end = offset + len;
    }
    extents
}

async fn check(version: Version, case: &Case, contexts: &[&str]) -> Result<()> {
    let mut images = Images::new(version)?;
    let digest = digest_of(&images.model);
    (case.change)(&mut images);
    images.write_image(version, "target")?;
    let from = serve(version, &images.image("source"), false).await?;
    let to = serve(version, &images.image("target"), false).await?;
    let frozen = VerifyDisk { name: name(), pool: from.pool(2, contexts).await? };
    let running = VerifyDisk { name: name(), pool: to.pool(2, contexts).await? };
    let (near, far) = duplex(64 << 10);
    let asked = Mutex::new(Vec::new());
    let exempt = |index| {
        asked.lock().unwrap().push(index);
        std::future::ready(Ok(bitmap(case.written)))
    };
    let (said, got) = tokio::join!(
        verify_source(Box::new(near) as Stream, vec![frozen], None),
        verify_target(Box::new(far) as Stream, vec![running], exempt),
    );
    let want = VerifyReport {
        disk: name(),
        compared_bytes: DISK_BYTES,
        exempt_bytes: case.exempt,
        mismatch_bytes: case.mismatches.iter().map(|(_, len)| len).sum(),
        mismatches: case.mismatches.to_vec(),
        digest,
    };
    let got = got?;
    assert_eq!(got, [want], "{version:?}");
    assert_eq!(said?, got, "both sides must know the same");
    assert_eq!(got[0].is_equal(), case.mismatches.is_empty());
    assert_eq!(!asked.into_inner().unwrap().is_empty(), case.asked);
    Ok(())
}

const CASES: [Case; 4] = [
    Case { change: |_| {}, written: &[(0, DISK_BYTES)], exempt: 0, mismatches: &[], asked: false },
    Case {
        change: |images| images.model[(22 << 20) + 70_000] ^= 8,
        written: &[(21 * MIB, MIB), (23 * MIB, MIB)],
        exempt: 0,
        mismatches: &[(22 * MIB + 64 * KIB, 64 * KIB)],
        asked: true,
    },
    Case {
        change: |images| {
            images.put(12 * MIB, &content(4, 0, 128 * KIB)); // the guest's
            images.put(DISK_BYTES - 1536, &[0; 1536]); // nobody's
        },
        written: &[(12 * MIB, 128 * KIB)],
        exempt: 128 * KIB,
        mismatches: &[(40 * MIB + 64 * KIB, 4 * KIB + 1536)],
        asked: true,
    },
    Case {
        change: |images| images.put(0, &content(4, 1, 3 * MIB)),
        written: &[(0, 3 * MIB)],
        exempt: 3 * MIB,
        mismatches: &[],
        asked: true,
    },
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planted_flip_is_found_and_the_guests_writes_are_exempt() -> Result<()> {
    for case in &CASES {
        check(Version::V72, case, &[CONTEXT_ALLOCATION]).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_without_block_status_is_read_whole() -> Result<()> {
    for version in VERSIONS {
        check(version, &CASES[1], &[]).await?;
    }
    Ok(())
}
