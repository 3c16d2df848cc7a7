//! Migrations, as a server's own (`/servers/{id}/migrations`) and as the operator's list (`/os-migrations`).
//!
//! Ground rules: hosts are told to administrators, others see `null` there. A server's own are the live ones in progress. A move
//! in post-copy counts as in progress here, while Nova loses sight of it just then.
//! Sources: nova, api/openstack/compute/server_migrations.py, migrations.py and their schemas.

use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    super::{fault::Fault, microversion::Microversion},
    fields,
    shape::{self, Field, View},
    times::{self, Micros},
};

const PAGED_SINCE: u16 = 59;

/// What the controller knows of a migration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migration {
    pub id: u64,
    pub uuid: Uuid,
    pub server_id: Uuid,
    pub kind: Kind,
    pub status: Status,
    pub source: Place,
    /// Empty while no host is chosen.
    pub target: Place,
    pub target_ip: Option<String>,
    pub memory: Transfer,
    pub disk: Transfer,
    /// Number of the server's flavor before and after.
    pub old_flavor: Option<u64>,
    pub new_flavor: Option<u64>,
    pub user_id: Option<String>,
    pub project_id: Option<String>,
    pub created: Micros,
    pub updated: Option<Micros>,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Place {
    pub host: Option<String>,
    pub node: Option<String>,
}

/// Bytes; unknown until it is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Transfer {
    pub total: Option<u64>,
    pub processed: Option<u64>,
    pub remaining: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Live,
    Cold,
    Resize,
    Evacuation,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Accepted,
    Queued,
    Preparing,
    Running,
    RunningPostCopy,
    Completed,
    Failed,
    Cancelled,
    Error,
    PreMigrating,
    Migrating,
    PostMigrating,
    Finished,
    Confirming,
    Confirmed,
    Reverting,
    Reverted,
    Done,
}

type Row = Field<Migration>;

const BOTH: &[Row] = &[
    Row::new("id", |migration, _| json!(migration.id)),
    Row::new("uuid", |migration, _| json!(migration.uuid)).since(59),
    Row::new("status", |migration, _| json!(migration.status.name())),
    Row::new("source_compute", |migration, _| json!(migration.source.host)).admin(),
    Row::new("source_node", |migration, _| json!(migration.source.node)).admin(),
    Row::new("dest_compute", |migration, _| json!(migration.target.host)).admin(),
    Row::new("dest_node", |migration, _| json!(migration.target.node)).admin(),
    Row::new("dest_host", |migration, _| json!(migration.target_ip)).admin(),
    Row::new("source_compute", hidden).member(),
    Row::new("source_node", hidden).member(),
    Row::new("dest_compute", hidden).member(),
    Row::new("dest_node", hidden).member(),
    Row::new("dest_host", hidden).member(),
    Row::new("created_at", |migration, _| times::fraction(migration.created)),
    Row::new("user_id", |migration, _| json!(migration.user_id)).since(80),
    Row::new("project_id", |migration, _| json!(migration.project_id)).since(80),
];

const OF_SERVER: &[Row] = &[
    Row::new("updated_at", |migration, _| times::fraction(migration.updated.unwrap_or(migration.created))),
    Row::new("server_uuid", |migration, _| json!(migration.server_id)),
    Row::new("memory_total_bytes", |migration, _| json!(migration.memory.total)),
    Row::new("memory_processed_bytes", |migration, _| json!(migration.memory.processed)),
    Row::new("memory_remaining_bytes", |migration, _| json!(migration.memory.remaining)),
    Row::new("disk_total_bytes", |migration, _| json!(migration.disk.total)),
    Row::new("disk_processed_bytes", |migration, _| json!(migration.disk.processed)),
    Row::new("disk_remaining_bytes", |migration, _| json!(migration.disk.remaining)),
];

const OF_ALL: &[Row] = &[
    Row::new("updated_at", |migration, _| times::fraction_or_null(migration.updated)),
    Row::new("instance_uuid", |migration, _| json!(migration.server_id)),
    Row::new("old_instance_type_id", |migration, _| json!(migration.old_flavor)),
    Row::new("new_instance_type_id", |migration, _| json!(migration.new_flavor)),
    Row::new("migration_type", |migration, _| json!(migration.kind.name())).since(23),
    Row::maybe("links", |migration, view| migration.is_live_in_progress().then(|| links(migration, view))).since(23),
];

/// `GET /servers/{id}/migrations`; the caller gives those that are live and in progress.
pub fn of_server(migrations: &[Migration], view: &View) -> Value {
    let items: Vec<Value> = migrations.iter().map(|migration| one_of_server(migration, view)).collect();
    json!({ "migrations": items })
}

/// `GET /servers/{id}/migrations/{id}`.
pub fn show(migration: &Migration, view: &View) -> Value {
    json!({ "migration": one_of_server(migration, view) })
}

/// `GET /os-migrations`. `next` is the query of the following page, which exists from 2.59.
pub fn list(migrations: &[Migration], next: Option<&str>, view: &View) -> Value {
    let items = migrations.iter().map(|migration| shape::object(&[BOTH, OF_ALL], migration, view)).collect();
    view.page("migrations", "os-migrations", items, next.filter(|_| view.since(PAGED_SINCE)))
}

fn one_of_server(migration: &Migration, view: &View) -> Value {
    shape::object(&[BOTH, OF_SERVER], migration, view)
}

fn links(migration: &Migration, view: &View) -> Value {
    view.links(&format!("servers/{}/migrations", migration.server_id), &migration.id.to_string())
}

fn hidden(_: &Migration, _: &View) -> Value {
    Value::Null
}

/// `POST /servers/{id}/migrations/{id}/action`, whose one action is to force the end.
pub fn parse_force_complete(body: &Value, at: Microversion) -> Result<(), Fault> {
    fields::only(body, "force_complete", at)?.null()
}

impl Migration {
    pub fn is_live_in_progress(&self) -> bool {
        self.kind == Kind::Live && self.status.is_in_progress()
    }
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Live => "live-migration",
            Kind::Cold => "migration",
            Kind::Resize => "resize",
            Kind::Evacuation => "evacuation",
        }
    }
}

impl Status {
    /// Of a live migration: between its choice of a host and its end.
    pub fn is_in_progress(self) -> bool {
        match self {
            Status::Queued | Status::Preparing | Status::Running | Status::RunningPostCopy | Status::PostMigrating => {
                true
            }
            Status::Accepted
            | Status::Completed
            | Status::Failed
            | Status::Cancelled
            | Status::Error
            | Status::PreMigrating
            | Status::Migrating
            | Status::Finished
            | Status::Confirming
            | Status::Confirmed
            | Status::Reverting
            | Status::Reverted
            | Status::Done => false,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Status::Accepted => "accepted",
            Status::Queued => "queued",
            Status::Preparing => "preparing",
            Status::Running => "running",
            Status::RunningPostCopy => "running (post-copy)",
            Status::Completed => "completed",
            Status::Failed => "failed",
            Status::Cancelled => "cancelled",
            Status::Error => "error",
            Status::PreMigrating => "pre-migrating",
            Status::Migrating => "migrating",
            Status::PostMigrating => "post-migrating",
            Status::Finished => "finished",
            Status::Confirming => "confirming",
            Status::Confirmed => "confirmed",
            Status::Reverting => "reverting",
            Status::Reverted => "reverted",
            Status::Done => "done",
        }
    }
}

#[cfg(test)]
mod tests;
