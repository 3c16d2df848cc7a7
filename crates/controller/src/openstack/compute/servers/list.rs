//! Lists of servers: all that match, in their order, a page at a time.
//!
//! Ground rules: the usual order, newest first, is read from the database as far as a page needs it; another order has to look at
//! all of them. A marker is the id of the last server of the page before.

use axum::{
    Json,
    extract::State,
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
};
use serde_json::Value;
use whimbrel_api::openstack::{
    compute::{
        query::{LIMIT_MAX, Query},
        server::{
            answer::{self, DetailText},
            record::Server,
            state,
        },
        values::boolean_word,
    },
    fault::Fault,
};
use whimbrel_core::{
    id::{HostName, InstanceId},
    identity::{ProjectId, policy::Operation},
};
use whimbrel_store::{InstanceRow, ServerFilter};

use super::{
    super::{answer::Answer, ask::Ask},
    record::{self, Around},
    wanted::{QUERY, Wanted},
};
use crate::app::{App, Shared};

/// A page and the row that tells of the next one.
const ROWS_AT_ONCE: u32 = LIMIT_MAX as u32 + 1;
const WRITTEN_AT_ONCE: usize = 100;
/// Of a list in another order than the usual one.
const SORTED_MAX: usize = 100_000;

pub(in super::super) async fn list(ask: Ask, State(app): State<Shared>) -> Answer<Json<Value>> {
    let (servers, next) = chosen(&app, &ask).await?;
    Ok(Json(answer::list(&servers, next.as_deref(), &ask.view())))
}

pub(in super::super) async fn detail(ask: Ask, State(app): State<Shared>) -> Answer<Response> {
    let (servers, next) = chosen(&app, &ask).await?;
    let unwritable = |error: serde_json::Error| Fault::new(500, format!("The servers cannot be told: {error}."));
    let (mut text, view) = (DetailText::default(), ask.view());
    for some in servers.chunks(WRITTEN_AT_ONCE) {
        for server in some {
            text.add(server, &view).map_err(unwritable)?;
        }
        // A page takes longer than others should wait.
        tokio::task::yield_now().await;
    }
    let text = text.finish(next.as_deref(), &view).map_err(unwritable)?;
    Ok(([(CONTENT_TYPE, "application/json")], text).into_response())
}

async fn chosen(app: &App, ask: &Ask) -> Answer<(Vec<Server>, Option<String>)> {
    let query = ask.query(QUERY)?;
    let scope = scope(ask, &query)?;
    let wanted = Wanted::read(&query, ask.at, ask.is_admin())?;
    if wanted.nothing {
        return Ok((Vec::new(), None));
    }
    let filter = ServerFilter { project: scope.project.as_ref(), host: scope.host.as_ref(), name: None };
    match order(&query)? {
        None => newest_first(app, &query, &filter, &wanted).await,
        Some((key, descending)) => {
            let mut servers = matching(app, &filter, &wanted, None, SORTED_MAX).await?;
            servers.sort_by(key);
            if descending {
                servers.reverse();
            }
            let named: Vec<(String, Server)> =
                servers.into_iter().map(|server| (server.id.to_string(), server)).collect();
            let (page, next) = query.page(named, |(id, _)| id)?;
            Ok((page.into_iter().map(|(_, server)| server).collect(), next))
        }
    }
}

struct Scope {
    project: Option<ProjectId>,
    host: Option<HostName>,
}

/// Of one's own project, unless an administrator asks for all or for another.
fn scope(ask: &Ask, query: &Query) -> Result<Scope, Fault> {
    let flag = |name: &str| match query.get(name) {
        None => Ok(false),
        Some("") => Ok(true),
        Some(text) => boolean_word(text)
            .ok_or_else(|| Fault::new(400, format!("Invalid input for query parameters {name}. Value: {text}."))),
    };
    let all = flag("all_tenants")? || flag("all_projects")?;
    if all {
        ask.may(Operation::ReadAllServers)?;
    }
    let own = ask.requester().project();
    ask.may_in(Operation::ReadServers, own)?;
    let named = query.get("project_id").or(query.get("tenant_id")).filter(|_| all || ask.is_admin());
    let project = match named {
        Some(id) => Some(id.parse().map_err(|_| Fault::new(400, format!("Project {id} is no id.")))?),
        None if all => None,
        None => own.cloned(),
    };
    // A host that has no such name has no servers: the rows are compared with it as they are.
    let host = query.get("host").filter(|_| ask.is_admin()).and_then(|host| host.parse().ok());
    Ok(Scope { project, host })
}

async fn newest_first(
    app: &App,
    query: &Query,
    filter: &ServerFilter<'_>,
    wanted: &Wanted,
) -> Answer<(Vec<Server>, Option<String>)> {
    let limit = query.number("limit")?.map_or(LIMIT_MAX, |limit| usize::try_from(limit).unwrap_or(LIMIT_MAX));
    let limit = limit.min(LIMIT_MAX);
    let before = match query.get("marker") {
        None => None,
        Some(marker) => {
            let bad = || Fault::new(400, format!("marker [{marker}] not found"));
            let id: InstanceId = marker.parse().map_err(|_| bad())?;
            let there = app.store.server(id).await.map_err(|_| bad())?;
            let own = filter.project.is_none_or(|project| there.owner.project.as_ref() == Some(project));
            if !own {
                return Err(bad().into());
            }
            Some(id)
        }
    };
    let mut servers = matching(app, filter, wanted, before, limit + 1).await?;
    let more = servers.len() > limit;
    servers.truncate(limit);
    let next = servers.last().filter(|_| more).map(|last| query.after(&last.id.to_string()));
    Ok((servers, next))
}

async fn matching(
    app: &App,
    filter: &ServerFilter<'_>,
    wanted: &Wanted,
    mut before: Option<InstanceId>,
    most: usize,
) -> Answer<Vec<Server>> {
    let around = Around::look(app).await?;
    let mut servers = Vec::new();
    loop {
        let rows: Vec<InstanceRow> = app.store.list_servers(filter, before, ROWS_AT_ONCE).await?;
        let last = rows.len() < ROWS_AT_ONCE as usize;
        before = rows.last().map(|row| row.id);
        for row in rows {
            let server = record::record(app, row, &around);
            if wanted.takes(&server) {
                servers.push(server);
            }
            if servers.len() >= most {
                return Ok(servers);
            }
        }
        if last {
            return Ok(servers);
        }
    }
}

type Order = fn(&Server, &Server) -> std::cmp::Ordering;

const ORDERS: &[(&str, Order)] = &[
    ("created_at", |one, other| (one.created, one.id).cmp(&(other.created, other.id))),
    ("updated_at", |one, other| one.updated.cmp(&other.updated)),
    ("launched_at", |one, other| one.launched.cmp(&other.launched)),
    ("display_name", |one, other| one.name.cmp(&other.name)),
    ("name", |one, other| one.name.cmp(&other.name)),
    ("uuid", |one, other| one.id.cmp(&other.id)),
    ("host", |one, other| host(one).cmp(&host(other))),
    ("node", |one, other| host(one).cmp(&host(other))),
    ("vm_state", |one, other| one.vm_state.name().cmp(other.vm_state.name())),
    ("task_state", |one, other| one.task_state.map(|task| task.name()).cmp(&other.task_state.map(|task| task.name()))),
    ("power_state", |one, other| (one.power as u8).cmp(&(other.power as u8))),
    ("project_id", |one, other| one.project_id.cmp(&other.project_id)),
    ("user_id", |one, other| one.user_id.cmp(&other.user_id)),
    ("image_ref", |one, other| one.image_id.cmp(&other.image_id)),
    ("instance_type_id", |one, other| one.flavor.id.cmp(&other.flavor.id)),
    ("hostname", |one, other| one.hostname.cmp(&other.hostname)),
    ("key_name", |one, other| one.key_name.cmp(&other.key_name)),
    ("availability_zone", |one, other| one.availability_zone.cmp(&other.availability_zone)),
    ("display_description", |one, other| one.description.cmp(&other.description)),
    ("progress", |one, other| one.progress.cmp(&other.progress)),
    ("launch_index", |one, other| one.launch_index.cmp(&other.launch_index)),
    ("root_device_name", |one, other| one.root_device_name.cmp(&other.root_device_name)),
    ("config_drive", |one, other| one.config_drive.cmp(&other.config_drive)),
    ("locked", |one, other| one.locked.cmp(&other.locked)),
    ("status", |one, other| status(one).cmp(status(other))),
];

fn host(server: &Server) -> Option<&str> {
    server.placed.as_ref().map(|placed| placed.host.as_str())
}

fn status(server: &Server) -> &'static str {
    state::status(server.vm_state, server.task_state)
}

/// `None` for newest first. Nova takes several keys; the last one that is given counts here.
fn order(query: &Query) -> Result<Option<(Order, bool)>, Fault> {
    let descending = query.word("sort_dir", &[("asc", false), ("desc", true)])?.unwrap_or(true);
    let key = query.word("sort_key", ORDERS)?;
    let usual = descending && matches!(query.get("sort_key"), None | Some("created_at"));
    if usual {
        return Ok(None);
    }
    Ok(Some((key.unwrap_or(ORDERS[0].1), descending)))
}
