//! What agents say by themselves: who is up, and which host owns which instance at which epoch.
//!
//! Ground rules: agents own ownership, so a higher epoch than stored is believed; a host is down when it missed
//! `HEARTBEATS_MISSED_MAX` heartbeats, and up with the next.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use whimbrel_api::agent::{HEARTBEAT_MS, Heartbeat, InstanceReport};
use whimbrel_core::id::HostName;
use whimbrel_daemon::clock::Timestamp;
use whimbrel_store::{InstanceNews, StoreError};

use crate::{answer::Answer, app::Shared};

pub const HEARTBEATS_MISSED_MAX: u32 = 3;
pub const DOWN_AFTER: Duration = Duration::from_millis(HEARTBEAT_MS * HEARTBEATS_MISSED_MAX as u64);
const LOOK_EVERY: Duration = Duration::from_millis(HEARTBEAT_MS / 2);

/// The last word of each host about its instances.
#[derive(Debug, Default)]
pub struct Heartbeats {
    instances: Mutex<HashMap<HostName, Vec<InstanceReport>>>,
}

impl Heartbeats {
    /// Empty if the host has not reported to this controller yet.
    pub fn instances(&self, host: &HostName) -> Vec<InstanceReport> {
        let all = self.instances.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(host).cloned().unwrap_or_default()
    }

    fn put(&self, host: &HostName, reports: Vec<InstanceReport>) {
        self.instances.lock().unwrap_or_else(PoisonError::into_inner).insert(host.clone(), reports);
    }
}

/// `heartbeat` was shown to be from `host` itself.
pub async fn take(app: &Shared, host: &HostName, heartbeat: Heartbeat) -> Answer<()> {
    let now_us = Timestamp::now().0;
    if app.store.record_heartbeat(&heartbeat.facts, &heartbeat.control_url, now_us).await? {
        tracing::info!(%host, url = heartbeat.control_url, "host is up");
    }
    for report in &heartbeat.instances {
        let Some(owned_epoch) = report.owned_epoch else { continue };
        let news = InstanceNews {
            id: report.id,
            host: host.clone(),
            owned_epoch,
            power: report.power,
            failure: report.failure.clone(),
            write_bps: report.write_bps,
        };
        if !app.store.record_instance_news(&news, now_us).await? {
            explain_disbelief(app, &news).await;
        }
    }
    app.heartbeats.put(host, heartbeat.instances);
    Ok(())
}

/// A report that was not taken: of an instance unknown here, or of an owner that is behind.
async fn explain_disbelief(app: &Shared, news: &InstanceNews) {
    match app.store.instance(&news.id.to_string()).await {
        Ok(known) => tracing::debug!(instance = %news.id, host = %news.host, epoch = %news.owned_epoch,
            owner = %known.host, owner_epoch = %known.epoch, "a host reports an instance that another one owns"),
        Err(StoreError::NotFound { .. }) => tracing::debug!(instance = %news.id, host = %news.host,
            "a host reports an instance that is not known here; it is left alone"),
        Err(error) => tracing::warn!(%error, instance = %news.id, "cannot read a server"),
    }
}

/// Marks silent hosts down until shutdown.
pub async fn watch(app: Shared) {
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = app.shutdown.cancelled() => return,
            _ = look.tick() => {}
        }
        match app.store.mark_silent_hosts_down(Timestamp::now().minus(DOWN_AFTER).0).await {
            Ok(hosts) => {
                for host in hosts {
                    tracing::warn!(%host, silent_s = DOWN_AFTER.as_secs(), "host is down: no heartbeat");
                }
            }
            Err(error) => tracing::warn!(%error, "cannot look for silent hosts"),
        }
    }
}
