//! Servers of a lost host, made anew on another one; and the lost host, told so when it is back.
//!
//! ```text
//! begin    scheduler -> host, epoch, claim, migration and evacuee in one transaction -> task rebuilding
//! is_free  the lost host is heard and has not let go -> the rebuild waits
//! tell     the lost host is heard -> disown (or delete, if the server is gone) -> it may be used again
//! ```
//!
//! Ground rules: that the lost host runs the guest no more is the operator's word (`forced_down`) or follows from its silence,
//! as with Nova: fencing comes before evacuation. What the controller can see it holds to: while that host is heard, nothing
//! starts elsewhere before it has let go, and until it has, it is given no work at all.

use uuid::Uuid;
use whimbrel_api::agent::Disown;
use whimbrel_core::{
    failure::{Failure, FailureCode},
    host::HostFacts,
    id::MigrationId,
    schedule::{self, Candidate, Wanted},
    server::Ownership,
};
use whimbrel_store::{Desired, Errand, EvacueeRow, HostLoad, HostState, InstanceRow, NewEvacuation, Room, StoreError};

use crate::{
    answer::{Answer, ApiError, failure_of},
    app::App,
    books::virtual_bytes,
    migrate,
    placement::{self, Offer, placement},
};

pub struct Wish {
    pub host: Option<String>,
    /// A named host is taken though it is disabled or in another zone.
    pub forced: bool,
    pub desired: Desired,
    pub asked_by: Ownership,
    pub errand: Errand,
}

/// Takes the best host whose room is still free when its turn comes.
pub async fn begin(app: &App, row: &InstanceRow, wish: &Wish) -> Answer<MigrationId> {
    let mut offers = placement::candidates(app, wish.host.as_deref()).await?;
    offers.retain(|offer| offer.host != row.host);
    let mut facts: Vec<HostFacts> = Vec::new();
    for offer in &offers {
        facts.push(offer.books.with(&app.store.host_load(&offer.host).await?));
    }
    let wishes = migrate::wishes(app, row, row.flavor, wish.forced && wish.host.is_some()).await?;
    let question = Wanted { wishes: &wishes, ..Wanted::new(&row.spec) };
    let candidates = facts.iter().zip(&offers);
    let candidates: Vec<Candidate<'_>> =
        candidates.map(|(host, offer)| Candidate { place: &offer.place, ..Candidate::new(host) }).collect();
    let ranking = schedule::rank(&question, &candidates);
    let mut refused: Vec<Failure> = ranking.why_not.into_iter().flat_map(|host| host.reasons).collect();
    for host in ranking.fit {
        let Some(offer) = offers.iter().find(|offer| offer.host == host) else { continue };
        let new = evacuation(row, wish, offer);
        let admit = |load: &HostLoad| match placement(&row.spec, &offer.books.with(load)).check() {
            reasons if reasons.is_empty() => Ok(()),
            reasons => Err(reasons),
        };
        match app.store.create_evacuation(&new, admit).await {
            Ok(()) => {
                tracing::warn!(server = %row.id, from = %row.host, to = %host, epoch = %new.epoch, "evacuation");
                app.servers_changed.notify_one();
                return Ok(new.id);
            }
            Err(StoreError::Refused { reasons }) => refused.extend(reasons),
            Err(error) => return Err(error.into()),
        }
    }
    if refused.is_empty() {
        refused.push(
            Failure::new(FailureCode::NoHost, "no other host is up")
                .hint("start `whimbrel agent` on a host; see `whimbrel host list`"),
        );
    }
    Err(ApiError::of_reasons(&format!("no host for server '{}'", row.name), refused))
}

fn evacuation(row: &InstanceRow, wish: &Wish, offer: &Offer) -> NewEvacuation {
    let missing_base_bytes = placement(&row.spec, &offer.books.with(&HostLoad::default())).missing_base_bytes();
    NewEvacuation {
        id: MigrationId(Uuid::now_v7()),
        instance: row.id,
        source: row.host.clone(),
        target: offer.host.clone(),
        epoch: row.epoch.next(),
        desired: wish.desired,
        errand: wish.errand.clone(),
        asked_by: wish.asked_by.clone(),
        room: Room { ram_mb: row.spec.ram_mb, disk_bytes: virtual_bytes(&row.spec).saturating_add(missing_base_bytes) },
        created_us: App::now_us(),
    }
}

/// No host that is heard still holds it.
pub async fn is_free(app: &App, row: &InstanceRow) -> Result<(), Failure> {
    for evacuee in app.store.list_evacuees().await.map_err(failure_of)? {
        if evacuee.instance != row.id {
            continue;
        }
        match app.store.host(&evacuee.host).await {
            Ok(host) if host.state == HostState::Up => {
                let detail = format!("host '{}' is back and has yet to let go of server '{}'", host.name, row.name);
                return Err(Failure::new(FailureCode::HostDown, detail));
            }
            Ok(_) | Err(StoreError::NotFound { .. }) => {}
            Err(error) => return Err(failure_of(error)),
        }
    }
    Ok(())
}

/// Nothing to do while the host is silent.
pub async fn tell(app: &App, evacuee: &EvacueeRow) {
    match let_go(app, evacuee).await {
        Ok(true) => {
            tracing::info!(host = %evacuee.host, server = %evacuee.instance, "a host that was lost has let go of a server");
            app.servers_changed.notify_one();
        }
        Ok(false) => {}
        Err(failure) => {
            tracing::warn!(host = %evacuee.host, server = %evacuee.instance, %failure,
                "a host that was lost does not let go of a server: it is given no work");
        }
    }
}

async fn let_go(app: &App, evacuee: &EvacueeRow) -> Result<bool, Failure> {
    let host = match app.store.host(&evacuee.host).await {
        Err(StoreError::NotFound { .. }) => return Ok(false),
        other => other.map_err(failure_of)?,
    };
    if host.state == HostState::Down {
        return Ok(false);
    }
    let agent = app.agents.of(&host)?;
    let is_gone = match app.store.server(evacuee.instance).await {
        Ok(_) => false,
        Err(StoreError::NotFound { .. }) => true,
        Err(error) => return Err(failure_of(error)),
    };
    let disown = Disown { to: evacuee.target.clone(), epoch: evacuee.epoch };
    agent.disown(evacuee.instance, &disown).await?;
    if is_gone {
        agent.delete_instance(evacuee.instance).await?;
    }
    match app.store.settle_evacuee(evacuee, App::now_us()).await {
        Ok(()) => Ok(true),
        // Another controller was faster.
        Err(StoreError::NotFound { .. }) => Ok(false),
        Err(error) => Err(failure_of(error)),
    }
}
