//! Tokens that have expired are removed from time to time, so that the table does not grow with every command.

use std::time::Duration;

use whimbrel_core::lease::Work;

use crate::app::{App, Shared};

const LOOK_EVERY: Duration = Duration::from_secs(300);

pub async fn forget_expired(app: Shared) {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    loop {
        tokio::select! {
            () = app.shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        if app.leases.turn(Work::Chores).is_none() {
            continue;
        }
        match app.store.forget_expired_tokens(App::now_us()).await {
            Ok(forgotten) => tracing::debug!(forgotten, "expired tokens were removed"),
            Err(error) => tracing::warn!(%error, "expired tokens stay until the next look"),
        }
    }
}
