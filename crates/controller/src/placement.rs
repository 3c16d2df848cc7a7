//! A new server gets its host: the best one whose room is still free when its turn comes.
//!
//! Ground rules: core ranks, the claim's transaction has the last word; a host that lost its room meanwhile makes way for the
//! next one; where there is none, every reason is told.

use std::collections::HashSet;

use whimbrel_core::{
    failure::{Failure, FailureCode},
    host::HostFacts,
    id::{FlavorId, HostName, ImageId, InstanceId},
    instance::InstanceSpec,
    precheck::Placement,
    quota::Limits,
    schedule::{self, Candidate, Place, Wanted, Wishes},
    server::{Ownership, ServerDetails},
};
use whimbrel_store::{HostLoad, NewInstance, PageAsk, Room, StoreError};

use crate::{
    answer::{Answer, ApiError},
    app::App,
    books::{Books, virtual_bytes},
    places::place_of,
};

/// All of it but the host.
#[derive(Clone, Debug)]
pub struct NewServer {
    pub spec: InstanceSpec,
    pub flavor: FlavorId,
    pub image: ImageId,
    pub owner: Ownership,
    pub details: ServerDetails,
    pub wishes: Wishes,
    pub limits: Option<Limits>,
    /// How many servers its owner may have in its group.
    pub group_members_max: i64,
}

/// A host that might take the server.
pub struct Offer {
    host: HostName,
    books: Books,
    place: Place,
}

/// The hosts in question: the named one, which must be usable, or all that are.
pub async fn candidates(app: &App, named: Option<&str>) -> Answer<Vec<Offer>> {
    let aggregates = app.store.list_aggregates().await?;
    if let Some(name) = named {
        let host = app.host(name).await?;
        let books = app.books(&host).await??;
        return Ok(vec![Offer { books, place: place_of(&host.mark(), &aggregates), host: host.name }]);
    }
    let mut candidates = Vec::new();
    for host in app.all_hosts().await? {
        if let Ok(books) = app.books(&host).await? {
            candidates.push(Offer { books, place: place_of(&host.mark(), &aggregates), host: host.name });
        }
    }
    Ok(candidates)
}

/// Takes the best host whose room is still free when its turn comes.
pub async fn place(app: &App, wanted: NewServer, candidates: &[Offer]) -> Answer<InstanceId> {
    let spec = &wanted.spec;
    let loads = app.store.host_loads().await?;
    let load = |offer: &Offer| loads.get(&offer.host).copied().unwrap_or_default();
    let facts: Vec<HostFacts> = candidates.iter().map(|offer| offer.books.with(&load(offer))).collect();
    let question = Wanted { wishes: &wanted.wishes, ..Wanted::new(spec) };
    let offered = facts.iter().zip(candidates);
    let offered: Vec<Candidate<'_>> =
        offered.map(|(host, offer)| Candidate { place: &offer.place, ..Candidate::new(host) }).collect();
    let ranking = schedule::rank(&question, &offered);
    let mut refused: Vec<Failure> = ranking.why_not.into_iter().flat_map(|host| host.reasons).collect();
    for host in ranking.fit {
        let Some(Offer { books, .. }) = candidates.iter().find(|offer| offer.host == host) else { continue };
        let missing_base_bytes = placement(spec, &books.with(&HostLoad::default())).missing_base_bytes();
        let room = Room { ram_mb: spec.ram_mb, disk_bytes: virtual_bytes(spec).saturating_add(missing_base_bytes) };
        let new = NewInstance {
            spec: spec.clone(),
            flavor: wanted.flavor,
            image: wanted.image,
            host,
            room,
            owner: wanted.owner.clone(),
            details: wanted.details.clone(),
            limits: wanted.limits.clone(),
            group_members_max: wanted.group_members_max,
            created_us: App::now_us(),
        };
        let group = wanted.wishes.group.as_ref();
        let admit = |load: &HostLoad| {
            let mut reasons = placement(spec, &books.with(load)).check();
            let admitted = group.map(|group| group.admits(&new.host, load.group_here, load.group_elsewhere));
            reasons.extend(admitted.and_then(Result::err));
            if reasons.is_empty() { Ok(()) } else { Err(reasons) }
        };
        match app.store.create_instance(&new, admit).await {
            Ok(()) => {
                app.servers_changed.notify_one();
                return Ok(spec.id);
            }
            // No other host has room for it either.
            Err(StoreError::Refused { reasons })
                if reasons.iter().any(|reason| reason.code == FailureCode::Forbidden) =>
            {
                return Err(ApiError::of_reasons("quota", reasons));
            }
            Err(StoreError::Refused { reasons }) => refused.extend(reasons),
            Err(error) => return Err(error.into()),
        }
    }
    if refused.is_empty() {
        refused.push(
            Failure::new(FailureCode::NoHost, "no host is up")
                .hint("start `whimbrel agent` on a host; see `whimbrel host list`"),
        );
    }
    Err(ApiError::of_reasons(&format!("no host for server '{}'", spec.name), refused))
}

fn placement<'a>(spec: &'a InstanceSpec, target: &'a HostFacts) -> Placement<'a> {
    Placement { instance: spec, allocated_bytes: 0, retained_bytes: 0, source: None, target, disk_over_commit: false }
}

pub async fn taken_macs(app: &App) -> Answer<HashSet<String>> {
    let mut taken = HashSet::new();
    let mut ask = PageAsk::default();
    loop {
        let page = app.store.list_instances(None, &ask).await?;
        taken.extend(page.items.into_iter().flat_map(|instance| instance.spec.nics).map(|nic| nic.mac));
        ask.marker = page.next;
        if ask.marker.is_none() {
            return Ok(taken);
        }
    }
}
