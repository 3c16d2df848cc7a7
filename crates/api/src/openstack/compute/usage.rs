//! Simple tenant usage: what each project's servers used of the hosts over a time.
//!
//! Ground rules: a project's totals are the sums over the servers that are told, of a page too. A project without servers in that
//! time is an empty object.
//! Source: nova, api/openstack/compute/simple_tenant_usage.py and its schema.

use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    shape::{self, Field, View},
    times::{self, Micros},
};

const PATH: &str = "os-simple-tenant-usage";
const PAGED_SINCE: u16 = 40;

#[derive(Clone, Debug, PartialEq)]
pub struct TenantUsage {
    pub project_id: String,
    pub start: Micros,
    pub stop: Micros,
    pub servers: Vec<ServerUsage>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ServerUsage {
    pub id: Uuid,
    pub name: String,
    pub project_id: String,
    pub flavor: String,
    /// Of the time asked for.
    pub hours: f64,
    pub vcpus: u32,
    pub memory_mb: u64,
    pub local_gb: u64,
    pub started: Micros,
    pub ended: Option<Micros>,
    /// `terminated` once it has ended.
    pub state: String,
    pub uptime_s: u64,
}

const SERVER: &[Field<ServerUsage>] = {
    type Row = Field<ServerUsage>;
    &[
        Row::new("instance_id", |server, _| json!(server.id)),
        Row::new("name", |server, _| json!(server.name)),
        Row::new("tenant_id", |server, _| json!(server.project_id)),
        Row::new("flavor", |server, _| json!(server.flavor)),
        Row::new("hours", |server, _| json!(server.hours)),
        Row::new("vcpus", |server, _| json!(server.vcpus)),
        Row::new("memory_mb", |server, _| json!(server.memory_mb)),
        Row::new("local_gb", |server, _| json!(server.local_gb)),
        Row::new("started_at", |server, _| times::fraction(server.started)),
        Row::new("ended_at", |server, _| times::fraction_or_null(server.ended)),
        Row::new("state", |server, _| json!(server.state)),
        Row::new("uptime", |server, _| json!(server.uptime_s)),
    ]
};

type Row = Field<TenantUsage>;

const TENANT: &[Row] = &[
    Row::new("tenant_id", |usage, _| json!(usage.project_id)),
    Row::new("start", |usage, _| times::fraction(usage.start)),
    Row::new("stop", |usage, _| times::fraction(usage.stop)),
    Row::new("total_hours", |usage, _| usage.sum(|_| 1.0)),
    Row::new("total_vcpus_usage", |usage, _| usage.sum(|server| f64::from(server.vcpus))),
    Row::new("total_memory_mb_usage", |usage, _| usage.sum(|server| server.memory_mb as f64)),
    Row::new("total_local_gb_usage", |usage, _| usage.sum(|server| server.local_gb as f64)),
];

const SERVERS: &[Row] = &[Row::new("server_usages", |usage, view| {
    usage.servers.iter().map(|server| shape::object(&[SERVER], server, view)).collect()
})];

/// `GET /os-simple-tenant-usage`. `next` is the query of the following page, which exists from 2.40.
pub fn list(usages: &[TenantUsage], detailed: bool, next: Option<&str>, view: &View) -> Value {
    let tables: &[&[Row]] = if detailed { &[TENANT, SERVERS] } else { &[TENANT] };
    let items = usages.iter().map(|usage| shape::object(tables, usage, view)).collect();
    view.page("tenant_usages", PATH, items, next.filter(|_| view.since(PAGED_SINCE)))
}

/// `GET /os-simple-tenant-usage/{project}`.
pub fn show(project_id: &str, usage: Option<&TenantUsage>, next: Option<&str>, view: &View) -> Value {
    let told = usage.map_or(json!({}), |usage| shape::object(&[TENANT, SERVERS], usage, view));
    let mut body = json!({ "tenant_usage": told });
    if let Some(query) = next.filter(|_| view.since(PAGED_SINCE)) {
        body["tenant_usage_links"] = json!([view.next_link(&format!("{PATH}/{project_id}"), query)]);
    }
    body
}

impl TenantUsage {
    fn sum(&self, weight: fn(&ServerUsage) -> f64) -> Value {
        json!(self.servers.iter().map(|server| weight(server) * server.hours).sum::<f64>())
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::shape::seen::{admin, names},
        *,
    };

    #[test]
    fn totals_are_sums_and_servers_are_told_on_demand() {
        let server = ServerUsage {
            id: Uuid::from_u128(1),
            name: "web".into(),
            project_id: "p".into(),
            flavor: "m1.small".into(),
            hours: 1.5,
            vcpus: 2,
            memory_mb: 512,
            local_gb: 0,
            started: 0,
            ended: None,
            state: "active".into(),
            uptime_s: 5_400,
        };
        let usage = TenantUsage { project_id: "p".into(), start: 0, stop: 1, servers: vec![server.clone(), server] };
        let totals = [
            "start",
            "stop",
            "tenant_id",
            "total_hours",
            "total_local_gb_usage",
            "total_memory_mb_usage",
            "total_vcpus_usage",
        ];
        let full = [&["server_usages"], &totals[..]].concat();
        let view = admin(1);
        assert_eq!(names(&list(std::slice::from_ref(&usage), false, None, &view)["tenant_usages"][0]), totals);
        assert_eq!(names(&list(std::slice::from_ref(&usage), true, None, &view)["tenant_usages"][0]), full);
        let body = show("p", Some(&usage), None, &view);
        let told = &body["tenant_usage"];
        assert_eq!(names(told), full);
        assert_eq!((&told["total_hours"], &told["total_vcpus_usage"]), (&json!(3.0), &json!(6.0)));
        assert_eq!((&told["total_memory_mb_usage"], &told["total_local_gb_usage"]), (&json!(1536.0), &json!(0.0)));
        assert_eq!(told["server_usages"][0]["started_at"], "1970-01-01T00:00:00.000000");
        assert_eq!(show("p", None, None, &view), json!({"tenant_usage": {}}));
    }

    #[test]
    fn pages_exist_from_2_40() {
        let check = |minor, want: bool| {
            let body = list(&[], false, Some("limit=1"), &admin(minor));
            assert_eq!(body.get("tenant_usages_links").is_some(), want, "2.{minor}");
            let body = show("p", None, Some("limit=1"), &admin(minor));
            assert_eq!(body.get("tenant_usage_links").is_some(), want, "2.{minor}");
        };
        check(39, false);
        check(40, true);
    }
}
