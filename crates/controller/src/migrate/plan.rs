//! What a move would do, and why not: facts of both sides, then core's checks and forecast. Nothing is touched.

use std::collections::{HashMap, HashSet};

use futures_util::future::join_all;
use whimbrel_api::{
    agent::{MoveFacts, MoveOptions, RetainedReport, STREAMS_MAX},
    native::{NewMigration, Plan},
};
use whimbrel_core::{
    convergence::Limits,
    copy_mode,
    disk::CopyMode,
    failure::{Failure, FailureCode},
    forecast::{Forecast, LINK_BPS_UNKNOWN, Question, forecast},
    host::HostFacts,
    id::{HostName, MigrationId},
    instance::PowerState,
    migration::coordinator::{Outcome, Phase},
    precheck::Placement,
    schedule::{self, Candidate, Place, Wanted, Wishes},
};
use whimbrel_store::{HostRow, HostState, InstanceRow, PageAsk, StoreError, TaskState};

use super::{Wish, debt};
use crate::{
    answer::Answer,
    app::App,
    books::{Books, usable},
    openstack::compute::servers::groups::group_of,
    places::place_of,
};

const MIB: u64 = 1 << 20;
/// With a throttle, the guest is held to this part of what the link gives.
const THROTTLED_PERCENT: u64 = 50;

/// One host that might take the server.
pub(super) struct Offer {
    pub(super) books: Books,
    pub(super) facts: HostFacts,
    place: Place,
    retained: Option<RetainedReport>,
}

/// All that a plan was made of; `target` is `None` if there is none.
pub(super) struct Planned {
    pub(super) plan: Plan,
    pub(super) source: HostFacts,
    pub(super) facts: Option<MoveFacts>,
    pub(super) target: Option<Offer>,
    disk_over_commit: bool,
}

pub async fn plan(app: &App, row: &InstanceRow, new: &NewMigration) -> Answer<Plan> {
    planned(app, row, new, &Wish::default()).await.map(|planned| planned.plan)
}

pub(super) async fn planned(app: &App, row: &InstanceRow, new: &NewMigration, wish: &Wish) -> Answer<Planned> {
    check(&new.options)?;
    // An unknown name is an error of the question, not a reason against the move.
    let named = match &new.host {
        Some(name) => Some(app.host(name).await?),
        None => None,
    };
    let source = app.store.host(&row.host).await?;
    let mut reasons = busy(row);
    let facts = match usable(&source) {
        Ok(_) => match app.agents.of(&source)?.move_facts(row.id).await {
            Ok(facts) => Some(facts),
            Err(failure) => {
                reasons.push(failure);
                None
            }
        },
        Err(failure) => {
            reasons.push(failure);
            None
        }
    };
    let source_facts = match &source.facts {
        Some(facts) => facts.clone(),
        None => return Err(usable(&source).err().unwrap_or_else(|| no_facts(&source)).into()),
    };
    let (offers, mut why_not) = offers(app, row, named.as_ref(), &source).await?;
    let wishes = Wishes { storage: wish.storage, ..wishes(app, row, named.is_some() && !wish.scheduled).await? };
    let wanted = Wanted {
        allocated_bytes: facts.as_ref().map_or(0, allocated_bytes),
        source: Some(&source_facts),
        disk_over_commit: wish.disk_over_commit,
        wishes: &wishes,
        ..Wanted::new(&row.spec)
    };
    let candidates: Vec<Candidate<'_>> = offers
        .iter()
        .map(|offer| Candidate {
            host: &offer.facts,
            retained_bytes: retained_bytes(facts.as_ref(), offer),
            place: &offer.place,
        })
        .collect();
    let ranking = schedule::rank(&wanted, &candidates);
    why_not.extend(ranking.why_not.into_iter().map(|host| (host.host, host.reasons)));
    let target = pick(offers, ranking.fit.first(), named.as_ref(), &mut why_not, &mut reasons, row);
    let plan = words(row, &source_facts, facts.as_ref(), target.as_ref(), &new.options, reasons, why_not);
    Ok(Planned { plan, source: source_facts, facts, target, disk_over_commit: wish.disk_over_commit })
}

/// Who forces a host knows that it is disabled or in another zone, and why.
async fn wishes(app: &App, row: &InstanceRow, forced: bool) -> Answer<Wishes> {
    let group = match row.details.group {
        Some(id) => match app.store.server_group(id).await {
            Ok(group) => Some(group_of(app, &group, Some(row.id)).await?),
            // It went; its servers stay.
            Err(StoreError::NotFound { .. }) => None,
            Err(error) => return Err(error.into()),
        },
        None => None,
    };
    Ok(Wishes {
        disabled_too: forced,
        extra_specs: app.store.extra_specs(Some(row.flavor)).await?.remove(&row.flavor).unwrap_or_default(),
        zone: row.details.availability_zone.clone().filter(|_| !forced),
        group,
        ..Wishes::default()
    })
}

/// Here, so that a wrong wish is told at once and not by an agent.
fn check(options: &MoveOptions) -> Result<(), Failure> {
    let bad = |what: String, hint: String| Err(Failure::new(FailureCode::BadRequest, what).hint(hint));
    if !(1..=STREAMS_MAX).contains(&options.streams) {
        return bad(format!("{} streams were asked for", options.streams), format!("use 1 to {STREAMS_MAX}"));
    }
    if options.bandwidth_bps_max == Some(0) {
        return bad("a bandwidth of 0 moves nothing".to_owned(), "leave it out for what the link gives".to_owned());
    }
    if options.downtime_ms_max == 0 {
        return bad("no guest can be moved in 0 ms of downtime".to_owned(), "use 50 ms or more".to_owned());
    }
    Ok(())
}

fn no_facts(host: &HostRow) -> Failure {
    Failure::new(FailureCode::HostDown, format!("host '{}' has never reported", host.name))
        .hint("start `whimbrel agent` on that host")
}

/// Reasons that lie in the server itself.
fn busy(row: &InstanceRow) -> Vec<Failure> {
    let refuse = |what: &str, hint: &str| {
        vec![Failure::new(FailureCode::Conflict, format!("server '{}' {what}", row.name)).hint(hint.to_owned())]
    };
    match (row.task, row.power) {
        (Some(TaskState::Migrating), _) => {
            refuse("is migrating already", "wait for its end or cancel it: see `whimbrel migration list`")
        }
        (Some(task), _) => refuse(&format!("is {task}"), "wait until that is done"),
        (None, Some(PowerState::Running | PowerState::Paused)) => Vec::new(),
        (None, Some(PowerState::Stopped)) => refuse(
            "is stopped; only a running server can be moved",
            &format!("start it first: `whimbrel server start {}`", row.name),
        ),
        (None, Some(PowerState::Crashed) | None) => refuse(
            "does not run; only a running server can be moved",
            &format!("see `whimbrel server show {}`", row.name),
        ),
    }
}

type WhyNot = Vec<(HostName, Vec<Failure>)>;

/// The hosts in question, with what each has of this server already; and those that cannot be asked.
async fn offers(
    app: &App,
    row: &InstanceRow,
    named: Option<&HostRow>,
    source: &HostRow,
) -> Answer<(Vec<Offer>, WhyNot)> {
    let hosts = match named {
        Some(host) => vec![host.clone()],
        None => app.all_hosts().await?.into_iter().filter(|host| host.name != source.name).collect(),
    };
    let (past, aggregates) = (past(app, row).await?, app.store.list_aggregates().await?);
    let mut offers = Vec::new();
    let mut why_not = Vec::new();
    for host in hosts {
        match (app.books(&host).await?, past.owing.get(&host.name)) {
            (Ok(_), Some(migration)) => {
                let reason = debt::reason(&row.name, &host.name, *migration);
                why_not.push((host.name, vec![reason]));
            }
            (Ok(books), None) => {
                let facts = books.with(&app.store.host_load(&host.name).await?);
                offers.push((host, books, facts));
            }
            (Err(failure), Some(_) | None) => why_not.push((host.name, vec![failure])),
        }
    }
    let offers = join_all(offers.into_iter().map(async |(host, books, facts)| {
        let retained = if past.left.contains(&host.name) { retained(app, row, &host).await } else { None };
        Offer { books, facts, place: place_of(&host, &aggregates), retained }
    }))
    .await;
    Ok((offers, why_not))
}

/// What earlier moves of the server mean for the next one.
#[derive(Default)]
struct Past {
    /// Where the server was before: only there something of it can be retained.
    left: HashSet<HostName>,
    /// Where something of a failed move may still be.
    owing: HashMap<HostName, MigrationId>,
}

async fn past(app: &App, row: &InstanceRow) -> Result<Past, StoreError> {
    let mut past = Past::default();
    let mut ask = PageAsk::default();
    loop {
        let page = app.store.list_migrations(Some(row.id), &ask).await?;
        for migration in page.items {
            if migration.phase == Phase::Done(Outcome::Completed) {
                past.left.insert(migration.source);
            } else if migration.phase.is_owing() {
                past.owing.insert(migration.target, migration.id);
            }
        }
        ask.marker = page.next;
        if ask.marker.is_none() {
            return Ok(past);
        }
    }
}

/// A host that does not say is planned with as if it had nothing.
async fn retained(app: &App, row: &InstanceRow, host: &HostRow) -> Option<RetainedReport> {
    if host.state == HostState::Down {
        return None;
    }
    let asked = match app.agents.of(host) {
        Ok(agent) => agent.retained(row.id).await,
        Err(failure) => Err(failure),
    };
    match asked {
        Ok(report) => Some(report).filter(|report| report.handed_over_epoch.is_some()),
        Err(failure) => {
            tracing::debug!(server = %row.id, host = %host.name, %failure, "no word of a retained copy");
            None
        }
    }
}

fn allocated_bytes(facts: &MoveFacts) -> u64 {
    facts.disks.iter().map(|disk| disk.allocated_bytes).sum()
}

fn retained_bytes(facts: Option<&MoveFacts>, offer: &Offer) -> u64 {
    let (Some(facts), Some(retained)) = (facts, &offer.retained) else { return 0 };
    let kept = facts.disks.iter().filter(|disk| retained.disks.contains(&disk.name));
    kept.map(|disk| disk.allocated_bytes).sum()
}

/// The best offer, or the named one even if it does not fit: its plan is shown with the reasons against it.
fn pick(
    mut offers: Vec<Offer>,
    best: Option<&HostName>,
    named: Option<&HostRow>,
    why_not: &mut WhyNot,
    reasons: &mut Vec<Failure>,
    row: &InstanceRow,
) -> Option<Offer> {
    if let Some(named) = named {
        let against = why_not.iter_mut().filter(|(host, _)| *host == named.name);
        reasons.extend(against.flat_map(|(_, reasons)| std::mem::take(reasons)));
        why_not.retain(|(host, _)| *host != named.name);
        return offers.pop();
    }
    if best.is_none() {
        let details: Vec<String> =
            why_not.iter().flat_map(|(_, all)| all).map(|reason| reason.detail.clone()).collect();
        let why = if details.is_empty() { "there is no other host".to_owned() } else { details.join("; ") };
        reasons.push(
            Failure::new(FailureCode::NoHost, format!("no host can take server '{}': {why}", row.name))
                .hint("add a host, or free RAM or disk on one"),
        );
    }
    let at = offers.iter().position(|offer| Some(&offer.facts.name) == best)?;
    Some(offers.swap_remove(at))
}

/// The mode of the whole move is that of the disk that needs most.
fn mode_of(facts: &MoveFacts, retained: Option<&RetainedReport>) -> CopyMode {
    let modes = facts.disks.iter().map(|disk| {
        let kept =
            retained.filter(|retained| retained.disks.contains(&disk.name)).and_then(|kept| kept.handed_over_epoch);
        copy_mode::choose(facts.epoch, disk.changed_since, kept)
    });
    modes.max().unwrap_or(CopyMode::Full)
}

/// Disk bytes that travel, at best and at worst.
fn disk_bytes(row: &InstanceRow, facts: &MoveFacts, target: Option<&Offer>) -> (u64, u64) {
    let mut sum = (0, 0);
    for disk in &facts.disks {
        let kept = target
            .and_then(|offer| offer.retained.as_ref())
            .filter(|retained| retained.disks.contains(&disk.name))
            .and_then(|retained| retained.handed_over_epoch);
        let base = row.spec.disks.iter().find(|spec| spec.name == disk.name).and_then(|spec| spec.base.as_ref());
        let has_base = base.is_none_or(|base| target.is_some_and(|offer| offer.facts.has_image(&base.digest)));
        let whole = disk.allocated_bytes + if has_base { 0 } else { disk.base_allocated_bytes };
        let (best, worst) = match copy_mode::choose(facts.epoch, disk.changed_since, kept) {
            CopyMode::Delta => (disk.changed_bytes.unwrap_or(0), disk.changed_bytes.unwrap_or(whole)),
            CopyMode::Shared => (0, 0),
            CopyMode::Digest => (0, whole),
            CopyMode::Full => (whole, whole),
        };
        sum = (sum.0 + best, sum.1 + worst);
    }
    sum
}

fn words(
    row: &InstanceRow,
    source: &HostFacts,
    facts: Option<&MoveFacts>,
    target: Option<&Offer>,
    options: &MoveOptions,
    reasons: Vec<Failure>,
    why_not: WhyNot,
) -> Plan {
    let ram_bytes = row.spec.ram_mb * MIB;
    let stays = target.is_some_and(|offer| source.storage_towards(&offer.facts).is_shared());
    let (mode, (best_bytes, worst_bytes)) = match facts {
        _ if stays => (CopyMode::Shared, (0, 0)),
        Some(facts) => {
            (mode_of(facts, target.and_then(|offer| offer.retained.as_ref())), disk_bytes(row, facts, target))
        }
        None => (CopyMode::Full, (0, 0)),
    };
    let write_bps = if stays { 0 } else { facts.map_or(row.write_bps, |facts| facts.write_bps) };
    let question = |disk_bytes: u64, dirty_bps: u64| Question {
        disk_bytes,
        base_bytes: 0,
        ram_bytes,
        link_bps: link_bps(source, target, options),
        disk_bps: slower(source.disk_bps, target.and_then(|offer| offer.facts.disk_bps)),
        dirty_bps,
        limits: Limits {
            downtime_ms_max: options.downtime_ms_max,
            pause_ms_max: options.downtime_ms_max,
            ..Default::default()
        },
    };
    let best = forecast(&question(best_bytes, write_bps));
    let worst = forecast(&question(worst_bytes, write_bps));
    // A guest that outruns the link is slowed down, or the move would never end.
    let throttled = forecast(&question(worst_bytes, worst.rate_bps / 100 * THROTTLED_PERCENT));
    let worst_ms = worst.total_ms.1.or(throttled.total_ms.1).unwrap_or(throttled.total_ms.0);
    Plan {
        server: row.name.clone(),
        source: source.name.clone(),
        target: target.map(|offer| offer.facts.name.clone()),
        mode,
        steps: steps(row, source, target, mode, (best_bytes, worst_bytes), &worst, options),
        disk_bytes: worst_bytes,
        ram_bytes,
        time_ms: (best.total_ms.0, worst_ms),
        downtime_ms: worst.downtime_ms,
        reasons,
        why_not,
    }
}

fn slower(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    [a, b].into_iter().flatten().min()
}

fn link_bps(source: &HostFacts, target: Option<&Offer>, options: &MoveOptions) -> Option<u64> {
    let link = slower(source.link_bps, target.and_then(|offer| offer.facts.link_bps));
    match options.bandwidth_bps_max {
        Some(max) => Some(link.unwrap_or(LINK_BPS_UNKNOWN).min(max)),
        None => link,
    }
}

fn steps(
    row: &InstanceRow,
    source: &HostFacts,
    target: Option<&Offer>,
    mode: CopyMode,
    (best, worst): (u64, u64),
    forecast: &Forecast,
    options: &MoveOptions,
) -> Vec<String> {
    let to = target.map_or("the target", |offer| offer.facts.name.as_str());
    let disks = row.spec.disks.len();
    let mib = |bytes: u64| bytes.div_ceil(MIB);
    let known = if forecast.rate_known { "" } else { " (assumed: no host knows its link)" };
    let rate = forecast.rate_bps / 1_000_000;
    if mode == CopyMode::Shared {
        return vec![
            format!("reserve {} MiB of RAM on {to}", row.spec.ram_mb),
            format!("leave {disks} disks where they are: {} and {to} see the same storage", source.name),
            format!("copy {} MiB of RAM, at {rate} MB/s{known}", row.spec.ram_mb),
            format!("stop the guest on {}, ship the rest, run it on {to}", source.name),
        ];
    }
    let copy = match mode {
        CopyMode::Shared | CopyMode::Full => format!(
            "copy {disks} disks in rounds while the guest runs: {} MiB, and what it writes meanwhile",
            mib(worst)
        ),
        CopyMode::Delta => format!("copy what changed on {disks} disks since the server left {to}: {} MiB", mib(worst)),
        CopyMode::Digest => format!(
            "compare {disks} disks by digest with the copy on {to} and copy what differs: {} to {} MiB",
            mib(best),
            mib(worst)
        ),
    };
    let mut steps = vec![
        format!("reserve {} MiB of RAM and the disk space on {to}", row.spec.ram_mb),
        format!("prepare {disks} disks on {to}"),
        copy,
        format!("copy {} MiB of RAM beside it, at {rate} MB/s{known}", row.spec.ram_mb),
        format!("stop the guest on {}, ship the rest, run it on {to}", source.name),
        format!("keep the disks on {} as a copy for a cheap way back", source.name),
    ];
    if forecast.needs_throttle {
        let allowed = if options.allow_throttle {
            "its writes will be throttled"
        } else {
            "without a throttle it may not finish"
        };
        steps.insert(3, format!("the guest writes faster than the link can take: {allowed}"));
    }
    if options.verify {
        steps.push(format!("compare the disks on {to} with those left on {}", source.name));
    }
    steps
}

/// The chosen target as the store's turn has it: the last word before the claim.
pub(super) fn admit(
    row: &InstanceRow,
    planned: &Planned,
    offer: &Offer,
    load: &whimbrel_store::HostLoad,
) -> Result<(), Vec<Failure>> {
    let facts = planned.facts.as_ref();
    let target = offer.books.with(load);
    let placement = Placement {
        instance: &row.spec,
        allocated_bytes: facts.map_or(0, allocated_bytes),
        retained_bytes: retained_bytes(facts, offer),
        source: Some(&planned.source),
        target: &target,
        disk_over_commit: planned.disk_over_commit,
    };
    match placement.check() {
        reasons if reasons.is_empty() => Ok(()),
        reasons => Err(reasons),
    }
}
