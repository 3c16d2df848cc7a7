//! An image that comes from another host, with real files and the real data plane.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::io::{BufStream, duplex};
use uuid::Uuid;
use whimbrel_core::{
    failure::FailureCode,
    id::{ImageDigest, MigrationId},
};
use whimbrel_transfer::{
    Stream,
    receive::{Receiver, Sink, TargetDisk},
    send::{DiskRound, Sender},
};

use super::Arrival;
use crate::trial::{Trial, until};

const MIGRATION: MigrationId = MigrationId(Uuid::from_u128(7));
const IMAGE_BYTES: usize = (3 << 20) + 1234;
const TIME_MAX: Duration = Duration::from_secs(20);

fn image() -> (Vec<u8>, ImageDigest) {
    let mut bytes = vec![0; IMAGE_BYTES];
    blake3::Hasher::new_keyed(&[9; 32]).finalize_xof().fill(&mut bytes);
    let digest = blake3::hash(&bytes).to_hex().parse().unwrap();
    (bytes, digest)
}

/// A host that has `bytes` under the image's name.
fn source(digest: &ImageDigest, bytes: &[u8]) -> Trial {
    let trial = Trial::new();
    fs_err::write(trial.paths.image(digest), bytes).unwrap();
    trial
}

async fn carry(from: &Trial, digest: &ImageDigest, arrival: &Arrival) {
    let name: whimbrel_core::disk::DiskName = "root".parse().unwrap();
    let (near, far) = duplex(1 << 20);
    let [near, far] = [near, far].map(|half| Box::new(BufStream::new(half)) as Stream);
    let sink = TargetDisk { name: name.clone(), sink: Sink::Image(arrival.sink()) };
    let receiver = Receiver::start(vec![far], vec![sink]);
    let mut sender = Sender::start(vec![near], vec![name]);
    let part = DiskRound::image(0, Arc::new(from.images.open(digest).unwrap()));
    let totals = sender.round(0, vec![part]).await.unwrap();
    receiver.await_round(0, &totals, TIME_MAX).await.unwrap();
}

fn listed(trial: &Trial) -> Vec<PathBuf> {
    fs_err::read_dir(trial.paths.images()).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[tokio::test]
async fn an_image_is_nobody_elses_before_it_is_durable() {
    let (bytes, digest) = image();
    let (from, to) = (source(&digest, &bytes), Trial::new());
    let mut arrival = to.images.arrive(&digest, bytes.len() as u64, MIGRATION).await.unwrap().unwrap();
    carry(&from, &digest, &arrival).await;
    assert!(!arrival.path().exists(), "it has its name before it was compared");
    arrival.name().await.unwrap();
    assert_eq!(fs_err::read(arrival.path()).unwrap(), bytes, "this move's own processes find it");
    assert!(!to.images.has(&digest) && to.images.list().unwrap().is_empty(), "others were told of it");

    let second = MigrationId(Uuid::from_u128(8));
    let mut waiting = Box::pin(to.images.arrive(&digest, bytes.len() as u64, second));
    assert!(futures_util::poll!(&mut waiting).is_pending(), "two bring the same image");
    let mut wanted = Box::pin(to.images.ensure(&digest));
    assert!(futures_util::poll!(&mut wanted).is_pending(), "it is fetched although it comes");
    arrival.settle().await.unwrap();
    assert!(waiting.await.unwrap().is_none(), "it is brought once more");
    assert_eq!(wanted.await.unwrap(), to.paths.image(&digest));
    assert!(to.images.has(&digest));
    assert_eq!(listed(&to), [to.paths.image(&digest)], "something else stays");
    assert_eq!(fs_err::read(to.paths.image(&digest)).unwrap(), bytes);
}

#[tokio::test]
async fn what_is_not_the_image_gets_no_name_and_leaves_nothing() {
    let (mut bytes, digest) = image();
    bytes[2 << 20] ^= 1;
    let (from, to) = (source(&digest, &bytes), Trial::new());
    let mut arrival = to.images.arrive(&digest, bytes.len() as u64, MIGRATION).await.unwrap().unwrap();
    carry(&from, &digest, &arrival).await;
    let failure = arrival.name().await.unwrap_err();
    assert!(failure.code == FailureCode::Corrupt && failure.hint.is_some(), "{failure:?}");
    assert!(failure.detail.contains(digest.as_str()), "{failure}");
    drop(arrival);
    assert_eq!(listed(&to), <[PathBuf; 0]>::default());
}

/// A fetch that failed once let the next two past each other: one of them took the other's link away.
#[tokio::test]
async fn whoever_waited_for_a_fetch_that_failed_is_alone_after_it() {
    let (bytes, digest) = image();
    let to = Trial::new();
    let room = bytes.len() as u64;
    // Both wait for the place that the fetch, which finds no origin, gives up.
    let first = to.images.flight(&digest).lock_owned().await;
    let mut fetch = Box::pin(to.images.ensure(&digest));
    let mut waiting = Box::pin(to.images.arrive(&digest, room, MIGRATION));
    assert!(futures_util::poll!(&mut fetch).is_pending() && futures_util::poll!(&mut waiting).is_pending());
    drop(first);
    assert_eq!(fetch.await.unwrap_err().code, FailureCode::NotFound);
    let arrival = waiting.await.unwrap().unwrap();
    assert!(to.images.flight(&digest).try_lock().is_err(), "two may bring the same image");
    drop(arrival);
    assert!(to.images.arrive(&digest, room, MigrationId(Uuid::from_u128(8))).await.unwrap().is_some());
}

/// A move that was cancelled while room was made left the room behind.
#[tokio::test]
async fn an_arrival_that_nobody_waits_for_leaves_nothing() {
    let (bytes, digest) = image();
    let to = Trial::new();
    let mut arriving = Box::pin(to.images.arrive(&digest, bytes.len() as u64, MIGRATION));
    assert!(futures_util::poll!(&mut arriving).is_pending());
    until("room is made", async || !listed(&to).is_empty()).await;
    drop(arriving);
    drop(to.images.flight(&digest).lock_owned().await);
    assert_eq!(listed(&to), <[PathBuf; 0]>::default());
}

#[tokio::test]
async fn a_restart_forgets_what_was_not_durable() {
    let (bytes, digest) = image();
    let (from, to) = (source(&digest, &bytes), Trial::new());
    let mut arrival = to.images.arrive(&digest, bytes.len() as u64, MIGRATION).await.unwrap().unwrap();
    carry(&from, &digest, &arrival).await;
    arrival.name().await.unwrap();
    // As a killed agent leaves it.
    std::mem::forget(arrival);
    assert_eq!(listed(&to).len(), 2);
    to.images.sweep().unwrap();
    assert_eq!(listed(&to), <[PathBuf; 0]>::default());
}

#[tokio::test]
async fn an_image_for_which_there_is_no_room_is_refused_at_once() {
    let (_, digest) = image();
    let to = Trial::new();
    let failure = to.images.arrive(&digest, 1 << 50, MIGRATION).await.unwrap_err();
    assert!(failure.detail.contains(&(1_u64 << 50).to_string()) || failure.detail.contains("too large"), "{failure:?}");
    assert_eq!(listed(&to), <[PathBuf; 0]>::default());
}
