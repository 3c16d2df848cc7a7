//! Flavors: listed, shown, made, described, deleted.
//!
//! Ground rules: a flavor that is not public is there only for administrators and for projects with access; a flavor is found
//! by its id and never by its name, which clients try first.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use serde_json::Value;
use uuid::Uuid;
use whimbrel_api::openstack::{
    compute::{
        flavor::{self, Flavor},
        query::Query,
        values::boolean_word,
    },
    fault::Fault,
};
use whimbrel_core::{
    id::FlavorId,
    identity::{ProjectId, policy::Operation},
};
use whimbrel_store::{FlavorRow, StoreError, every};

use super::{
    answer::{Answer, Body},
    ask::Ask,
};
use crate::app::{App, Shared};

const QUERY: &[&str] = &["is_public", "minRam", "minDisk", "limit", "marker", "sort_key", "sort_dir"];

/// One with what hangs on it.
pub(super) async fn find(app: &App, ask: &Ask, flavorid: &str) -> Answer<(FlavorId, Flavor)> {
    let missing = || Fault::new(404, format!("Flavor {flavorid} could not be found."));
    let row = match app.store.flavor_by_flavorid(flavorid).await {
        Err(StoreError::NotFound { .. }) => return Err(missing().into()),
        other => other?,
    };
    let id = row.id;
    let mut specs = app.store.extra_specs(Some(id)).await?;
    let mut access = app.store.flavor_access(Some(id)).await?;
    let record = record(row, specs.remove(&id).unwrap_or_default(), access.remove(&id).unwrap_or_default());
    if !is_seen(&record, ask) {
        return Err(missing().into());
    }
    Ok((id, record))
}

fn is_seen(flavor: &Flavor, ask: &Ask) -> bool {
    let has_access =
        || ask.requester().project().is_some_and(|own| flavor.projects.iter().any(|id| id == own.as_str()));
    flavor.public || ask.is_admin() || has_access()
}

fn record(row: FlavorRow, extra_specs: std::collections::BTreeMap<String, String>, access: Vec<ProjectId>) -> Flavor {
    Flavor {
        id: row.flavorid,
        name: row.name,
        ram_mb: row.ram_mb,
        vcpus: row.vcpus,
        disk_gb: row.disk_gb,
        ephemeral_gb: row.ephemeral_gb,
        swap_mb: row.swap_mb,
        rxtx_factor: row.rxtx_factor,
        disabled: false,
        public: row.public,
        description: row.description,
        extra_specs,
        projects: access.into_iter().map(String::from).collect(),
    }
}

async fn all(app: &App) -> Result<Vec<Flavor>, StoreError> {
    let (mut specs, mut access) = (app.store.extra_specs(None).await?, app.store.flavor_access(None).await?);
    let rows = every(|ask| async move { app.store.list_flavors(&ask).await }).await?;
    let whole = |row: FlavorRow| {
        let id = row.id;
        record(row, specs.remove(&id).unwrap_or_default(), access.remove(&id).unwrap_or_default())
    };
    Ok(rows.into_iter().map(whole).collect())
}

pub(super) async fn list(ask: Ask, State(app): State<Shared>) -> Answer<Json<Value>> {
    let (flavors, next) = chosen(&ask, all(&app).await?)?;
    Ok(Json(flavor::list(&flavors, next.as_deref(), &ask.view())))
}

pub(super) async fn detail(ask: Ask, State(app): State<Shared>) -> Answer<Json<Value>> {
    let (flavors, next) = chosen(&ask, all(&app).await?)?;
    Ok(Json(flavor::detail(&flavors, next.as_deref(), &ask.view())))
}

fn chosen(ask: &Ask, flavors: Vec<Flavor>) -> Result<(Vec<Flavor>, Option<String>), Fault> {
    ask.may(Operation::ReadFlavors)?;
    let query = ask.query(QUERY)?;
    let public = is_public(&query, ask.is_admin())?;
    let least = |name: &str| {
        let refused = |text: &str| Fault::new(400, format!("Invalid {name} filter [{text}]"));
        query.get(name).map(|text| text.parse::<u64>().map_err(|_| refused(text))).transpose()
    };
    let (ram_mb, disk_gb) = (least("minRam")?.unwrap_or(0), least("minDisk")?.unwrap_or(0));
    let wanted = |flavor: &Flavor| {
        let public = match public {
            Some(public) => flavor.public == public || (public && is_seen(flavor, ask) && !ask.is_admin()),
            None => true,
        };
        public && flavor.ram_mb >= ram_mb && flavor.disk_gb >= disk_gb
    };
    let mut flavors: Vec<Flavor> = flavors.into_iter().filter(wanted).collect();
    let order = query.word("sort_key", SORT_KEYS)?.unwrap_or(by_id);
    // Stable: what is equal stays in the order of its making.
    flavors.sort_by(order);
    if query.word("sort_dir", &[("asc", false), ("desc", true)])?.unwrap_or(false) {
        flavors.reverse();
    }
    query.page(flavors, |flavor| &flavor.id)
}

/// `None`: both. Others than administrators see what is public and what they have access to, whatever they ask for.
fn is_public(query: &Query, is_admin: bool) -> Result<Option<bool>, Fault> {
    match query.get("is_public") {
        _ if !is_admin => Ok(Some(true)),
        None => Ok(Some(true)),
        Some(text) if text.eq_ignore_ascii_case("none") => Ok(None),
        Some(text) => {
            let refused = || Fault::new(400, format!("Invalid is_public filter [{text}]"));
            boolean_word(text).map(Some).ok_or_else(refused)
        }
    }
}

type Order = fn(&Flavor, &Flavor) -> std::cmp::Ordering;

fn by_id(one: &Flavor, other: &Flavor) -> std::cmp::Ordering {
    one.id.cmp(&other.id)
}

fn as_made(_: &Flavor, _: &Flavor) -> std::cmp::Ordering {
    std::cmp::Ordering::Equal
}

const SORT_KEYS: &[(&str, Order)] = &[
    ("flavorid", by_id),
    ("name", |one, other| one.name.cmp(&other.name)),
    ("memory_mb", |one, other| one.ram_mb.cmp(&other.ram_mb)),
    ("vcpus", |one, other| one.vcpus.cmp(&other.vcpus)),
    ("root_gb", |one, other| one.disk_gb.cmp(&other.disk_gb)),
    ("ephemeral_gb", |one, other| one.ephemeral_gb.cmp(&other.ephemeral_gb)),
    ("swap", |one, other| one.swap_mb.cmp(&other.swap_mb)),
    ("rxtx_factor", |one, other| one.rxtx_factor.total_cmp(&other.rxtx_factor)),
    ("is_public", |one, other| one.public.cmp(&other.public)),
    ("description", |one, other| one.description.cmp(&other.description)),
    ("created_at", as_made),
    ("updated_at", as_made),
    ("id", as_made),
    ("disabled", as_made),
    ("vcpu_weight", as_made),
];

pub(super) async fn show(ask: Ask, State(app): State<Shared>, Path(id): Path<String>) -> Answer<Json<Value>> {
    ask.may(Operation::ReadFlavors)?;
    let (_, flavor) = find(&app, &ask, &id).await?;
    Ok(Json(flavor::show(&flavor, &ask.view())))
}

pub(super) async fn create(ask: Ask, State(app): State<Shared>, Body(body): Body) -> Answer<Json<Value>> {
    ask.may(Operation::WriteFlavors)?;
    let new = flavor::parse_create(&body, ask.at)?;
    let id = FlavorId(Uuid::now_v7());
    let row = FlavorRow {
        id,
        flavorid: new.id.unwrap_or_else(|| id.to_string()),
        name: new.name,
        vcpus: new.vcpus,
        ram_mb: new.ram_mb,
        disk_gb: new.disk_gb,
        ephemeral_gb: new.ephemeral_gb,
        swap_mb: new.swap_mb,
        rxtx_factor: new.rxtx_factor,
        public: new.public,
        description: new.description,
        created_us: App::now_us(),
    };
    match app.store.create_flavor(&row).await {
        Err(StoreError::Conflict { .. }) => {
            let by_id = app.store.flavor_by_flavorid(&row.flavorid).await.is_ok();
            let (what, which) = if by_id { ("ID", &row.flavorid) } else { ("name", &row.name) };
            Err(Fault::new(409, format!("Flavor with {what} {which} already exists.")).into())
        }
        other => {
            other?;
            let flavor = record(row, Default::default(), Vec::new());
            Ok(Json(flavor::show(&flavor, &ask.view())))
        }
    }
}

pub(super) async fn update(
    ask: Ask,
    State(app): State<Shared>,
    Path(id): Path<String>,
    Body(body): Body,
) -> Answer<Json<Value>> {
    let description = flavor::parse_update(&body, ask.at)?;
    ask.may(Operation::WriteFlavors)?;
    let (row, _) = find(&app, &ask, &id).await?;
    app.store.describe_flavor(row, description.as_deref()).await?;
    let (_, flavor) = find(&app, &ask, &id).await?;
    Ok(Json(flavor::show(&flavor, &ask.view())))
}

pub(super) async fn delete(ask: Ask, State(app): State<Shared>, Path(id): Path<String>) -> Answer<StatusCode> {
    ask.may(Operation::WriteFlavors)?;
    let (row, _) = find(&app, &ask, &id).await?;
    app.store.delete_flavor(row).await?;
    Ok(StatusCode::ACCEPTED)
}
