//! Ports that were given to a server that never came to be, or that went without giving them back, are given back here.

use std::time::Duration;

use whimbrel_core::lease::Work;

use crate::app::{App, Shared};

const LOOK_EVERY: Duration = Duration::from_secs(300);
/// Longer than the making of any server.
const AGE_MIN_US: i64 = 3_600_000_000;

pub async fn release_orphans(app: Shared) {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    loop {
        tokio::select! {
            () = app.shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        if app.leases.turn(Work::Chores).is_none() {
            continue;
        }
        if let Err(error) = release_all(&app).await {
            tracing::warn!(%error, "ports of servers that are gone stay until the next look");
        }
    }
}

async fn release_all(app: &App) -> Result<(), whimbrel_store::StoreError> {
    let now_us = App::now_us();
    for device in app.store.claims_of_nobody(now_us - AGE_MIN_US).await? {
        app.store.release_ports(&device, now_us).await?;
        tracing::info!(device, "gave back the ports of a server that is not there");
    }
    Ok(())
}
