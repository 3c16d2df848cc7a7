//! Base images that the target lacks travel first, as the files they are.
//!
//! Ground rules: nothing is asked of QEMU, an image never changes; the link is shared with nothing of this move, so the
//! streams are as many as for the disks; the move's bandwidth limit holds here too.

use std::sync::Arc;

use futures_util::future::try_join_all;
use whimbrel_core::{
    copy_mode,
    failure::{Failure, FailureCode},
    id::ImageDigest,
};
use whimbrel_transfer::{
    Stream,
    hello::StreamKind,
    send::{DiskRound, Sender},
};

use super::{
    connect,
    road::{CarriedImages, Road},
};
use crate::{
    hold::Place,
    migrate::link::{FromSource, Offer},
};

/// Ships `wanted` and says so to the target. The streams stay open until the sender is dropped.
pub async fn ship(road: &Arc<Road>, offer: &Offer, wanted: &[ImageDigest]) -> Result<Sender, Failure> {
    road.images_durable.send_replace(false);
    road.meter.begin("image");
    road.step("the base image");
    let (mut parts, mut names, mut disks) = (Vec::new(), Vec::new(), Vec::new());
    for (at, digest) in wanted.iter().enumerate() {
        let disk = below(offer, digest).ok_or_else(|| unasked(road, digest))?;
        let image = Arc::new(road.context.images.open(digest)?);
        road.with_facts(|facts| {
            facts.disks[disk].due_bytes += image.bytes();
            facts.disks[disk].allocated_bytes += image.bytes();
        });
        parts.push(DiskRound::image(at as u16, image));
        names.push(offer.disks[disk].spec.name.clone());
        disks.push(disk);
    }
    let count = road.ask.options.streams;
    let streams = try_join_all((0..count).map(|at| connect::open(road, StreamKind::Image(at)))).await?;
    let streams = streams.into_iter().map(|stream| Box::new(stream) as Stream).collect();
    let mut sender = Sender::start(streams, names);
    sender.set_rate(road.ask.options.bandwidth_bps_max);
    road.with_facts(|facts| facts.images = Some(CarriedImages { disks, counters: sender.counters() }));
    let totals = sender.round(0, parts).await.map_err(|error| error.failure())?;
    road.context.holds.at(Place::Image).await;
    road.tell(FromSource::ImagesEnd { totals }).await?;
    Ok(sender)
}

/// The first disk that lies on the image.
fn below(offer: &Offer, digest: &ImageDigest) -> Option<usize> {
    offer.disks.iter().position(|disk| copy_mode::base(&disk.spec).is_some_and(|base| base.digest == *digest))
}

fn unasked(road: &Road, digest: &ImageDigest) -> Failure {
    let detail = format!("host {} wants image {digest}, on which no disk of the server lies", road.ask.target);
    Failure::new(FailureCode::Internal, detail)
}
