//! Tells the controller every [`HEARTBEAT_MS`] that this host is up, what it has and what runs on it.
//!
//! Ground rules: a controller that is away changes nothing here; it is told again with a growing pause, and as often as
//! before when it answers; the log says once that it is away and once that it is back.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use whimbrel_api::agent::{HEARTBEAT_MS, Heartbeat};
use whimbrel_core::failure::{Failure, FailureCode};

use crate::{context::Context, facts::Facts};

const EVERY: Duration = Duration::from_millis(HEARTBEAT_MS);
/// A controller that comes back sees its hosts again within this.
const PAUSE_MAX: Duration = Duration::from_secs(3);

/// Until shutdown.
pub async fn beat(context: Arc<Context>, facts: Arc<Facts>) {
    let mut pause = EVERY;
    let mut away = false;
    loop {
        let begun = Instant::now();
        let told = tokio::select! {
            () = context.shutdown.cancelled() => return,
            told = tell(&context, &facts) => told,
        };
        match told {
            Ok(()) => {
                if away {
                    tracing::info!(controller = context.controller.url(), "the controller is back");
                }
                (pause, away) = (EVERY, false);
            }
            Err(failure) => {
                if !away {
                    tracing::warn!(%failure, "the controller cannot be told; guests and moves go on");
                }
                (pause, away) = ((pause * 2).min(PAUSE_MAX), true);
            }
        }
        tokio::select! {
            () = context.shutdown.cancelled() => return,
            () = tokio::time::sleep_until(begun + pause) => {}
        }
    }
}

async fn tell(context: &Context, facts: &Facts) -> Result<(), Failure> {
    let heartbeat = Heartbeat {
        facts: facts.of(context).await?,
        control_url: format!("https://{}", context.config.control_listen),
        instances: context.instances.reports().await,
    };
    // One that does not answer makes way for the next, before this host counts as down.
    let mut told = context.controller.heartbeat(context.host(), &heartbeat).await;
    for _ in 1..context.controller.urls() {
        if !told.as_ref().is_err_and(|failure| failure.code == FailureCode::HostDown) {
            break;
        }
        told = context.controller.heartbeat(context.host(), &heartbeat).await;
    }
    told
}
