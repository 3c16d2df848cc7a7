//! What agents say by themselves: who is up, and which host owns which instance at which epoch.
//!
//! ```text
//! a thousand hosts, a word per second each -> what is new of it -> all that is at hand in one transaction -> answered
//! ```
//!
//! Ground rules: agents own ownership, so a higher epoch than stored is believed; a host is down when it missed
//! `HEARTBEATS_MISSED_MAX` heartbeats, by the database's clock, and up with the next; a word is answered when it is stored. What is
//! new is found by comparing with what this controller stored of that host before; where it may have missed something (a gap, a
//! write by somebody else) and from time to time, with what the database has.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};
use whimbrel_api::agent::{HEARTBEAT_MS, Heartbeat, InstanceReport};
use whimbrel_core::{
    failure::{Failure, FailureCode},
    host::HostFacts,
    id::{HostName, InstanceId},
    lease::Work,
};
use whimbrel_store::{Heard, InstanceNews, KnownInstance, Pulse, Reported, StoreError};

use crate::{
    answer::{Answer, failure_of},
    app::{App, Shared},
};

pub const HEARTBEATS_MISSED_MAX: u32 = 3;
pub const DOWN_AFTER: Duration = Duration::from_millis(HEARTBEAT_MS * HEARTBEATS_MISSED_MAX as u64);
const DOWN_AFTER_US: i64 = (HEARTBEAT_MS * HEARTBEATS_MISSED_MAX as u64 * 1_000) as i64;
const LOOK_EVERY: Duration = Duration::from_millis(HEARTBEAT_MS / 2);
/// After a longer pause another controller may have heard the host meanwhile.
const GAP_MAX: Duration = Duration::from_millis(HEARTBEAT_MS * 3 / 2);
const CHECK_EVERY: Duration = Duration::from_secs(10);
/// A guest's write rate is never twice the same; it is stored again when it changed by more than this part of it.
const WRITE_RATE_PARTS: u64 = 8;

#[derive(Default)]
pub struct Heartbeats {
    hosts: Mutex<HashMap<HostName, Known>>,
    /// Of which what is known is to be compared with the database.
    due: Mutex<HashSet<HostName>>,
    queue: Mutex<Vec<Waiting>>,
    came: Notify,
}

/// What this controller stored of a host.
struct Known {
    heard: Instant,
    /// When it was last compared with the database.
    checked: Instant,
    facts: HostFacts,
    reported: Vec<Reported>,
    instances: HashMap<InstanceId, KnownInstance>,
}

struct Waiting {
    pulse: Pulse,
    answer: oneshot::Sender<Result<Heard, Failure>>,
}

impl Heartbeats {
    /// Somebody else wrote what is known of the host's instances.
    pub fn recheck(&self, host: &HostName) {
        self.due.lock().unwrap_or_else(PoisonError::into_inner).insert(host.clone());
    }

    /// Taken out while a word of the host is being stored, so that one that fails leaves nothing to compare with.
    fn take(&self, host: &HostName) -> Option<Known> {
        let due = self.due.lock().unwrap_or_else(PoisonError::into_inner).remove(host);
        let known = self.hosts.lock().unwrap_or_else(PoisonError::into_inner).remove(host)?;
        let fresh = !due && known.heard.elapsed() < GAP_MAX && known.checked.elapsed() < CHECK_EVERY;
        fresh.then_some(known)
    }

    fn put(&self, host: &HostName, known: Known) {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner).insert(host.clone(), known);
    }

    async fn store(&self, pulse: Pulse) -> Result<Heard, Failure> {
        let (answer, stored) = oneshot::channel();
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).push(Waiting { pulse, answer });
        self.came.notify_one();
        let gone = || Failure::new(FailureCode::HostDown, "the controller is stopping").hint("try again");
        stored.await.unwrap_or_else(|_| Err(gone()))
    }
}

/// `heartbeat` was shown to be from `host` itself.
pub async fn take(app: &Shared, host: &HostName, heartbeat: Heartbeat) -> Answer<()> {
    let before = app.heartbeats.take(host);
    let is_new = before.is_none();
    let mut known = match before {
        Some(known) => known,
        None => read(app, host, &heartbeat).await?,
    };
    let reported: Vec<Reported> = heartbeat.instances.iter().map(reported).collect();
    let news: Vec<InstanceNews> =
        heartbeat.instances.iter().filter_map(|report| news(host, report, &known.instances)).collect();
    let pulse = Pulse {
        host: host.clone(),
        control_url: heartbeat.control_url,
        facts: (is_new || known.facts != heartbeat.facts).then(|| heartbeat.facts.clone()),
        reported: (is_new || known.reported != reported).then(|| reported.clone()),
        instances: news.clone(),
    };
    let heard = app.heartbeats.store(pulse).await?;
    if !heard.known {
        return Err(failure_of(StoreError::NotFound { object: "host", id: host.to_string() }).into());
    }
    if heard.came_up {
        tracing::info!(%host, "host is up");
    }
    for told in &news {
        match heard.disbelieved.contains(&told.id) {
            false => drop(known.instances.insert(told.id, stored(told))),
            true => explain_disbelief(app, told).await,
        }
    }
    (known.heard, known.facts, known.reported) = (Instant::now(), heartbeat.facts, reported);
    app.heartbeats.put(host, known);
    Ok(())
}

async fn read(app: &App, host: &HostName, heartbeat: &Heartbeat) -> Answer<Known> {
    let instances = app.store.instances_told_by(host).await?.into_iter().collect();
    let now = Instant::now();
    Ok(Known { heard: now, checked: now, facts: heartbeat.facts.clone(), reported: Vec::new(), instances })
}

fn reported(report: &InstanceReport) -> Reported {
    Reported { id: report.id, owned: report.owned_epoch.is_some(), migrating: report.migration.is_some() }
}

/// What of a report is worth storing.
fn news(host: &HostName, report: &InstanceReport, known: &HashMap<InstanceId, KnownInstance>) -> Option<InstanceNews> {
    let owned_epoch = report.owned_epoch?;
    let same = known.get(&report.id).is_some_and(|known| {
        known.epoch == owned_epoch
            && known.power == Some(report.power)
            && known.failure == report.failure
            && is_about(report.write_bps, known.write_bps)
    });
    (!same).then(|| InstanceNews {
        id: report.id,
        host: host.clone(),
        owned_epoch,
        power: report.power,
        failure: report.failure.clone(),
        write_bps: report.write_bps,
    })
}

fn is_about(now: u64, before: u64) -> bool {
    now.abs_diff(before) <= before / WRITE_RATE_PARTS
}

fn stored(news: &InstanceNews) -> KnownInstance {
    KnownInstance {
        epoch: news.owned_epoch,
        power: Some(news.power),
        failure: news.failure.clone(),
        write_bps: news.write_bps,
    }
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

/// Stores what comes, until shutdown: all that came while the last of it was being stored is the next of it.
pub async fn write(app: Shared) {
    loop {
        tokio::select! {
            () = app.shutdown.cancelled() => break,
            () = app.heartbeats.came.notified() => {}
        }
        let waiting = std::mem::take(&mut *app.heartbeats.queue.lock().unwrap_or_else(PoisonError::into_inner));
        store_all(&app, waiting).await;
    }
    app.heartbeats.queue.lock().unwrap_or_else(PoisonError::into_inner).clear();
}

async fn store_all(app: &App, waiting: Vec<Waiting>) {
    let (pulses, answers): (Vec<Pulse>, Vec<_>) = waiting.into_iter().map(|one| (one.pulse, one.answer)).unzip();
    match store(app, &pulses).await {
        Ok(heard) => {
            for (answer, heard) in answers.into_iter().zip(heard) {
                // The agent may have hung up.
                let _ = answer.send(Ok(heard));
            }
        }
        // One of them may be at fault: each for itself.
        Err(error) => {
            tracing::warn!(%error, hosts = pulses.len(), "words of hosts could not be stored together");
            for (pulse, answer) in pulses.iter().zip(answers) {
                let alone = store(app, std::slice::from_ref(pulse)).await;
                let heard = alone.map_err(failure_of).and_then(|mut heard| {
                    heard.pop().ok_or_else(|| Failure::new(FailureCode::Internal, "a word was lost"))
                });
                let _ = answer.send(heard);
            }
        }
    }
}

async fn store(app: &App, pulses: &[Pulse]) -> Result<Vec<Heard>, StoreError> {
    if pulses.is_empty() {
        return Ok(Vec::new());
    }
    let now_us = app.store.now_us().await?;
    app.store.record_pulses(pulses, now_us).await
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
        if app.leases.turn(Work::Chores).is_none() {
            continue;
        }
        match mark_silent(&app).await {
            Ok(hosts) => {
                for host in hosts {
                    tracing::warn!(%host, silent_s = DOWN_AFTER.as_secs(), "host is down: no heartbeat");
                }
            }
            Err(error) => tracing::warn!(%error, "cannot look for silent hosts"),
        }
    }
}

async fn mark_silent(app: &App) -> Result<Vec<HostName>, StoreError> {
    let now_us = app.store.now_us().await?;
    app.store.mark_silent_hosts_down(now_us - DOWN_AFTER_US).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_news_when_it_changed_by_some_part() {
        let check = |now, before, want| assert_eq!(is_about(now, before), want, "{now} after {before}");
        check(0, 0, true);
        check(1, 0, false);
        check(0, 1, false);
        check(110, 100, true);
        check(90, 100, true);
        check(113, 100, false);
        check(80, 100, false);
    }
}
