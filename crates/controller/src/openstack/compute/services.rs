//! Compute services, one of each host: listed, taken out of service and back, declared dead, deleted.
//!
//! Ground rules: there are no rows for the parts of the controller, which nobody can take out one by one; a host is deleted only
//! when nothing needs it any more, which the store decides.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use serde_json::Value;
use whimbrel_api::openstack::{
    compute::service::{self, Asked, COMPUTE, Change, Service},
    fault::Fault,
};
use whimbrel_core::{host::service_uuid, id::HostName, identity::policy::Operation};
use whimbrel_store::{HostChange, StoreError};

use super::{
    answer::{Answer, Body},
    ask::Ask,
    hosts::{self, Host},
};
use crate::app::{App, Shared};

const QUERY: &[&str] = &["host", "binary"];

fn record(host: &Host) -> Service {
    let row = &host.row;
    Service {
        id: row.number,
        uuid: service_uuid(&row.name),
        binary: COMPUTE.to_owned(),
        host: row.name.to_string(),
        zone: host.place.zone().to_owned(),
        enabled: !row.disabled,
        disabled_reason: row.disabled_reason.clone(),
        up: host.is_up(),
        forced_down: row.forced_down,
        updated: host.seen_us(),
    }
}

pub(super) async fn list(ask: Ask, State(app): State<Shared>) -> Answer<Json<Value>> {
    ask.may(Operation::ReadHosts)?;
    let query = ask.query(QUERY)?;
    let asked = |name: &str, value: &str| query.get(name).is_none_or(|asked| asked.is_empty() || asked == value);
    let mut services: Vec<Service> = hosts::all(&app).await?.iter().map(record).collect();
    services.retain(|service| asked("host", &service.host) && asked("binary", &service.binary));
    Ok(Json(service::list(&services, &ask.view())))
}

pub(super) async fn change(
    ask: Ask,
    State(app): State<Shared>,
    Path(last): Path<String>,
    Body(body): Body,
) -> Answer<Json<Value>> {
    ask.may(Operation::WriteHosts)?;
    match service::parse_change(&last, &body, ask.at)? {
        Asked::Named(named) => {
            let missing = || Fault::new(404, format!("Could not find binary {COMPUTE} on host {}.", named.host));
            let host: HostName = named.host.parse().map_err(|_| missing())?;
            match apply(&app, &host, &named.change).await {
                Err(StoreError::NotFound { .. }) => return Err(missing().into()),
                other => other?,
            }
            Ok(Json(service::changed(&named)))
        }
        Asked::ById(id, change) => {
            let host = hosts::named(&app, id, service_uuid).await?.ok_or_else(|| no_service(&last))?;
            apply(&app, &host, &change).await?;
            Ok(Json(service::show(&record(&hosts::one(&app, &host).await?), &ask.view())))
        }
    }
}

async fn apply(app: &App, host: &HostName, change: &Change) -> Result<(), StoreError> {
    let disabled = change.enabled.map(|enabled| (!enabled, change.disabled_reason.clone()));
    let change = HostChange { disabled, forced_down: change.forced_down };
    app.store.change_host(host, &change).await?;
    tracing::info!(%host, ?change, "an operator changed a host");
    Ok(())
}

pub(super) async fn delete(ask: Ask, State(app): State<Shared>, Path(id): Path<String>) -> Answer<StatusCode> {
    ask.may(Operation::WriteHosts)?;
    let wanted = service::parse_id(&id, ask.at)?;
    let host = hosts::named(&app, wanted, service_uuid).await?.ok_or_else(|| no_service(&id))?;
    app.store.delete_host(&host).await?;
    tracing::info!(%host, "host deleted: it has to join anew to be heard again");
    Ok(StatusCode::NO_CONTENT)
}

fn no_service(id: &str) -> Fault {
    Fault::new(404, format!("Service {id} could not be found."))
}
