//! Base images that this host lacks: the source brings them before the disks that lie on them.
//!
//! ```text
//! Offer ─▶ all here ────────────────────────────────────────────────────────────▶ disks::accept
//!       └▶ WantImages ─▶ chunks on streams of their own ─▶ ImagesEnd ─▶ named ─▶ disks::accept
//!                                                                       └▶ durable ─▶ ImagesDurable
//! ```
//!
//! Ground rules: a disk that lay on a base is made on it here; an image that is durable stays, whatever becomes of the move:
//! the next guest on it, or the retry, finds it here.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use whimbrel_core::{
    copy_mode,
    disk::{BaseImage, DiskName},
    failure::Failure,
};
use whimbrel_transfer::{
    Stream,
    receive::{Receiver, Sink, TargetDisk},
};

use super::{
    disks::{self, DATA_STREAMS_TIME_MAX, ROUND_WRITTEN_TIME_MAX},
    road::Road,
    shared,
};
use crate::{
    migrate::link::{FromTarget, Offer},
    storage::Arrival,
};

/// While an image comes from elsewhere, the source hears at least this often that it is waited for.
const PATIENCE: Duration = Duration::from_secs(15);

/// Answers the source's offer: with what disks are accepted as, or with the images that are missing first.
pub async fn begin(road: &Arc<Road>, offer: Offer) -> Result<(), Failure> {
    if road.ask.storage.is_shared() {
        return shared::accept(road, offer).await;
    }
    disks::check(road, &offer)?;
    let mut arrivals = Vec::new();
    if disks::fitting_retained(road, &offer).await.is_none() {
        for (base, name) in copy_mode::bases(offer.disks.iter().map(|disk| &disk.spec)).into_values() {
            if let Some(arrival) = arrive(road, &base).await? {
                arrivals.push((name, arrival));
            }
        }
    }
    if arrivals.is_empty() {
        road.images_durable.cancel();
        return disks::accept(road, offer, &BTreeMap::new()).await;
    }
    road.step("receiving the base image");
    let images = arrivals.iter().map(|(_, arrival)| arrival.digest().clone()).collect();
    road.tell(FromTarget::WantImages { images }).await?;
    let streams = road.arrivals.images(offer.streams, DATA_STREAMS_TIME_MAX).await?;
    receive(road, streams, &arrivals).await?;
    let mut here = BTreeMap::new();
    for (_, arrival) in &mut arrivals {
        arrival.name().await?;
        here.insert(arrival.digest().clone(), arrival.path().to_owned());
    }
    super::work(road, |road| async move { settle(&road, arrivals).await });
    disks::accept(road, offer, &here).await
}

/// Beside the rounds: no disk is sealed before the image below it is durable, and no guest stopped.
async fn settle(road: &Road, arrivals: Vec<(DiskName, Arrival)>) -> Result<(), Failure> {
    for (_, arrival) in arrivals {
        arrival.settle().await?;
    }
    road.images_durable.cancel();
    road.tell(FromTarget::ImagesDurable).await
}

async fn receive(road: &Road, streams: Vec<Stream>, arrivals: &[(DiskName, Arrival)]) -> Result<(), Failure> {
    let sink =
        |(name, arrival): &(DiskName, Arrival)| TargetDisk { name: name.clone(), sink: Sink::Image(arrival.sink()) };
    let receiver = Receiver::start(streams, arrivals.iter().map(sink).collect());
    let mut ended = road.images_end.subscribe();
    let totals = tokio::select! {
        biased;
        error = receiver.failed() => return Err(error.failure()),
        totals = ended.wait_for(Option::is_some) => totals.ok().and_then(|totals| totals.clone()).unwrap_or_default(),
    };
    receiver.await_round(0, &totals, ROUND_WRITTEN_TIME_MAX).await.map_err(|error| error.failure())
}

async fn arrive(road: &Road, base: &BaseImage) -> Result<Option<Arrival>, Failure> {
    patiently(road, road.context.images.arrive(&base.digest, base.file_bytes, road.ask.migration)).await
}

/// As long as it takes; the source hears that it is waited for.
pub async fn patiently<T>(road: &Road, coming: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::pin!(coming);
    loop {
        match tokio::time::timeout(PATIENCE, &mut coming).await {
            Ok(came) => return came,
            Err(_) => road.tell(FromTarget::Waiting).await?,
        }
    }
}
