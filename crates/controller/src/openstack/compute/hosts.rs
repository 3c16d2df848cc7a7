//! What services, hypervisors, aggregates and availability zones have in common: the hosts, and their routes.

use axum::{
    Router,
    routing::{get, post, put},
};
use uuid::Uuid;
use whimbrel_api::openstack::compute::host_id::HostId;
use whimbrel_core::{
    id::HostName,
    schedule::{Place, Reach},
};
use whimbrel_store::{HostRow, StoreError};

use super::{aggregates, hypervisors, services, zones};
use crate::{
    app::{App, Shared},
    places::place_of,
};

pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/os-services", get(services::list))
        .route("/os-services/{id}", put(services::change).delete(services::delete))
        .route("/os-hypervisors", get(hypervisors::list))
        .route("/os-hypervisors/detail", get(hypervisors::detail))
        .route("/os-hypervisors/statistics", get(hypervisors::statistics))
        .route("/os-hypervisors/{id}", get(hypervisors::show))
        .route("/os-hypervisors/{id}/uptime", get(hypervisors::uptime))
        .route("/os-hypervisors/{id}/search", get(hypervisors::search))
        .route("/os-hypervisors/{id}/servers", get(hypervisors::servers))
        .route("/os-aggregates", get(aggregates::list).post(aggregates::create))
        .route("/os-aggregates/{id}", get(aggregates::show).put(aggregates::update).delete(aggregates::delete))
        .route("/os-aggregates/{id}/action", post(aggregates::act))
        .route("/os-availability-zone", get(zones::list))
        .route("/os-availability-zone/detail", get(zones::detail))
}

/// A host, and where it stands.
pub(super) struct Host {
    pub row: HostRow,
    pub place: Place,
}

impl Host {
    pub(super) fn is_up(&self) -> bool {
        self.place.reach == Reach::Up
    }

    /// `None` before it ever said a word.
    pub(super) fn seen_us(&self) -> Option<i64> {
        Some(self.row.last_seen_us).filter(|us| *us > 0)
    }
}

/// In the order in which they joined.
pub(super) async fn all(app: &App) -> Result<Vec<Host>, StoreError> {
    let (mut rows, aggregates) = (app.all_hosts().await?, app.store.list_aggregates().await?);
    rows.sort_by_key(|row| row.number);
    Ok(rows.into_iter().map(|row| Host { place: place_of(&row.mark(), &aggregates), row }).collect())
}

pub(super) async fn one(app: &App, name: &HostName) -> Result<Host, StoreError> {
    let row = app.store.host(name).await?;
    Ok(Host { place: place_of(&row.mark(), &app.store.list_aggregates().await?), row })
}

/// The host that has this id; `uuid_of` says which UUIDs are meant.
pub(super) async fn named(
    app: &App,
    id: HostId,
    uuid_of: fn(&HostName) -> Uuid,
) -> Result<Option<HostName>, StoreError> {
    let is_it = |(number, name): &(u64, HostName)| match id {
        HostId::Number(wanted) => *number == wanted,
        HostId::Uuid(wanted) => uuid_of(name) == wanted,
    };
    Ok(app.store.host_numbers().await?.into_iter().find(is_it).map(|(_, name)| name))
}
