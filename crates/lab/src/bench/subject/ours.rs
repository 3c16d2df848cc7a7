//! Whimbrel as a subject.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::time::timeout;
use whimbrel_api::{
    failure::FailureCode,
    native::{Migration, MigrationStatus},
    receipt::Receipt,
};

use super::{Way, Went};
use crate::{
    image::BootLine,
    lab::{GuestSite, Lab},
    wait,
};

pub(super) const HOSTS: [&str; 2] = ["h1", "h2"];
const CLEAR_TIME_MAX: Duration = Duration::from_secs(60);

pub(super) async fn boot(lab: &mut Lab, line: BootLine) -> Result<GuestSite> {
    let [first, second] = HOSTS;
    lab.forget_base_image(second).await?;
    lab.boot_guest(Some(first), line).await
}

pub(super) async fn go(lab: &Lab, way: Way, guest: &str, time_max: Duration) -> Result<Went> {
    let target = match way {
        Way::There => HOSTS[1],
        Way::Back => HOSTS[0],
    };
    let agents = HOSTS.map(|host| lab.agent(host));
    for agent in agents.iter().flatten() {
        agent.forget_rss_max()?;
    }
    // The peer does not compare the disks afterwards, so neither is that timed here; the guest's own proof follows for both.
    let words = ["move", guest, target, "--no-verify", "--json"];
    let began = Instant::now();
    let Ok(output) = timeout(time_max, lab.command(&words)?.output()).await else {
        let total = began.elapsed();
        cancel(lab, guest).await?;
        return Ok(Went { total, ..Went::default() });
    };
    let (total, output) = (began.elapsed(), output?);
    if !output.status.success() {
        bail!("whimbrel {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    let stdout = String::from_utf8_lossy(&output.stdout);
    let line = stdout.lines().last().context("`whimbrel move --json` printed nothing")?;
    let receipt: Receipt = serde_json::from_str(line).with_context(|| format!("no receipt: {line}"))?;
    let rss = agents.iter().flatten().filter_map(|agent| agent.rss_bytes_max()).max();
    settle(lab, guest).await?;
    Ok(Went {
        completed: true,
        total,
        downtime_ms: Some(receipt.downtime_ms),
        receipt_cpu_s: receipt.cpu_seconds.target.map(|target| receipt.cpu_seconds.source + target),
        disk_bytes: Some(receipt.disks.iter().map(|disk| disk.sent_bytes).sum()),
        agent_rss_bytes: rss,
    })
}

/// Waits for the end of the verification, so that it takes nothing from the next measurement, and for what it says.
async fn settle(lab: &Lab, guest: &str) -> Result<()> {
    let ended = ended(lab, guest).await?;
    match ended.status {
        MigrationStatus::Completed => Ok(()),
        MigrationStatus::Queued
        | MigrationStatus::Preparing
        | MigrationStatus::Running
        | MigrationStatus::Cancelling
        | MigrationStatus::Verifying
        | MigrationStatus::Cancelled
        | MigrationStatus::Failed => bail!("the move ended as {:?}: {:?}", ended.status, ended.failure),
    }
}

async fn cancel(lab: &Lab, guest: &str) -> Result<()> {
    lab.site().client()?.cancel_migration(newest(lab, guest).await?.id).await?;
    ended(lab, guest).await.map(drop)
}

async fn ended(lab: &Lab, guest: &str) -> Result<Migration> {
    let at_end = async || {
        let migration = newest(lab, guest).await?;
        Ok(migration.status.is_end().then_some(migration))
    };
    wait::until_async("the end of the migration", CLEAR_TIME_MAX, at_end).await
}

async fn newest(lab: &Lab, guest: &str) -> Result<Migration> {
    let migrations = lab.site().client()?.migrations().await?;
    migrations
        .into_iter()
        .find(|migration| migration.server_name == guest)
        .context("there is no migration of the guest")
}

pub(super) async fn clear(lab: &Lab, guest: &str) -> Result<()> {
    let client = lab.site().client()?;
    client.delete_server(guest).await?;
    let gone = async || match client.server(guest).await {
        Ok(_) => Ok(None),
        Err(failure) if failure.code == FailureCode::NotFound => Ok(Some(())),
        Err(failure) => Err(failure.into()),
    };
    wait::until_async("the end of the server", CLEAR_TIME_MAX, gone).await
}
