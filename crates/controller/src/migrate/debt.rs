//! What a target owes: a migration whose server is free, but whose target has not said that it left nothing behind.
//!
//! Ground rules: asked again as long as it takes, also after a restart of the controller (the store keeps the phase); a host
//! that is down is not asked; nothing of the same server comes to that host before. A host that was set up anew knows
//! nothing of it, says so, and has paid.

use std::time::Duration;

use whimbrel_core::{
    failure::{Failure, FailureCode},
    id::{HostName, InstanceId, MigrationId},
    migration::coordinator::Event,
};
use whimbrel_store::{HostState, MigrationRow, PageAsk, StoreError};

use super::driver::Driver;
use crate::app::App;

const ASK_EVERY: Duration = Duration::from_secs(1);
/// A host that came back just now is given so long before the next move to it is refused.
const SETTLE_TIME_MAX: Duration = Duration::from_secs(5);
const SETTLE_LOOK_EVERY: Duration = Duration::from_millis(100);

pub(super) async fn run(driver: &mut Driver<'_>) {
    let driven = driver.driven.clone();
    while driver.row.phase.is_owing() {
        if is_up(driver).await {
            driver.feed(Event::Tick).await;
        }
        if !driver.row.phase.is_owing() {
            tracing::info!(migration = %driver.row.id, host = %driver.row.target, "the target has cleaned up at last");
            return;
        }
        tokio::select! {
            () = driven.nudge.notified() => {}
            () = tokio::time::sleep(ASK_EVERY) => {}
        }
    }
}

async fn is_up(driver: &Driver<'_>) -> bool {
    match driver.app.store.host(&driver.row.target).await {
        Ok(host) => host.state == HostState::Up,
        Err(error) => {
            tracing::warn!(migration = %driver.row.id, %error, "cannot read the host that owes a clean-up");
            false
        }
    }
}

/// Before a new move of the server to `host`: what the host owes of an earlier one, if it can, is settled first.
pub(super) async fn settle_first(app: &App, instance: InstanceId, host: &str) -> Result<(), StoreError> {
    let looks = SETTLE_TIME_MAX.as_millis() / SETTLE_LOOK_EVERY.as_millis();
    for look in 0..looks {
        let Some((host, migration)) = of(app, instance).await?.into_iter().find(|(owing, _)| owing.as_str() == host)
        else {
            return Ok(());
        };
        if app.store.host(&host).await?.state == HostState::Down {
            return Ok(());
        }
        if look == 0
            && let Some(driven) = app.drivers.of(migration)
        {
            driven.nudge.notify_one();
        }
        tokio::time::sleep(SETTLE_LOOK_EVERY).await;
    }
    Ok(())
}

/// The hosts that still owe something of this server, each with the migration that it owes it of.
async fn of(app: &App, instance: InstanceId) -> Result<Vec<(HostName, MigrationId)>, StoreError> {
    let mut owing = Vec::new();
    let mut ask = PageAsk::default();
    loop {
        let page = app.store.list_migrations(Some(instance), &ask).await?;
        let rows = page.items.into_iter().filter(|row| row.phase.is_owing());
        owing.extend(rows.map(|row| (row.target, row.id)));
        ask.marker = page.next;
        if ask.marker.is_none() {
            return Ok(owing);
        }
    }
}

/// Why the host cannot take the server yet.
pub(super) fn reason(server: &str, host: &HostName, migration: MigrationId) -> Failure {
    let detail = format!("host '{host}' has not yet cleaned up after migration {migration} of server '{server}'");
    Failure::new(FailureCode::Conflict, detail)
        .hint(format!("it is asked again every second: try again soon, or see `whimbrel migration show {migration}`"))
}

/// What is still to be cleaned up, and where.
pub(super) fn in_words(row: &MigrationRow, silence: Option<&Failure>) -> Option<String> {
    let why = silence.map_or(String::new(), |failure| format!(" ({})", failure.detail));
    row.phase.is_owing().then(|| {
        format!(
            "host '{}' may still hold disks and a stopped QEMU of this migration{why}; they are removed as soon as its \
             agent answers",
            row.target
        )
    })
}
