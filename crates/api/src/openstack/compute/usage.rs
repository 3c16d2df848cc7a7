//! Simple tenant usage: what each project's servers used of the hosts over a time.
//!
//! Ground rules: a project's totals are the sums over the servers that are told, of a page too. A project without servers in that
//! time is an empty object.
//! Source: nova, api/openstack/compute/simple_tenant_usage.py and its schema.

use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    super::{fault::Fault, microversion::Microversion},
    query::{LIMIT_MAX, Query},
    shape::{self, Field, View},
    times::{self, Micros},
    values::boolean_word,
};

const PATH: &str = "os-simple-tenant-usage";
const PAGED_SINCE: u16 = 40;

/// What stands behind the question mark: of all projects, and of one.
pub const LIST_QUERY: &[&str] = &["start", "end", "detailed", "limit", "marker"];
pub const QUERY: &[&str] = &["start", "end", "limit", "marker"];

/// What is asked for: a time, and which of its servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub start: Micros,
    /// Never in the future.
    pub stop: Micros,
    pub detailed: bool,
    /// Servers of one answer, also where the version has no pages.
    pub limit: usize,
    /// A server's id, after which to go on.
    pub marker: Option<String>,
}

pub fn parse(query: &Query, at: Microversion, now: Micros) -> Result<Asked, Fault> {
    let time = |name: &str| match query.get(name).filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => times::parse(text).map(Some).ok_or_else(|| {
            let told = "Datetime is in invalid format";
            Fault::new(400, format!("Invalid datetime string: {told}: {name}={text}"))
        }),
    };
    let (start, stop) = (time("start")?, time("end")?);
    // Neither is the moment of the question itself, as short as it is.
    if (start.is_some() || stop.is_some()) && start.unwrap_or(now) >= stop.unwrap_or(now) {
        return Err(Fault::new(400, "Invalid start time. The start time cannot occur after the end time."));
    }
    let paged = at >= Microversion::v2(PAGED_SINCE);
    Ok(Asked {
        start: start.unwrap_or(now),
        stop: stop.unwrap_or(now).min(now),
        // Nova takes `1` alone, and openstackclient sends `True`.
        detailed: query.get("detailed").and_then(boolean_word).unwrap_or(false),
        limit: if paged { query.limit()? } else { LIMIT_MAX },
        marker: query.get("marker").filter(|_| paged).map(str::to_owned),
    })
}

/// Hours from the later of two beginnings to the end; none where it ends before.
pub fn hours(started: Micros, asked: &Asked) -> f64 {
    const MICROS_PER_HOUR: f64 = 3.6e9;
    let micros = asked.stop.saturating_sub(started.max(asked.start)).max(0);
    micros as f64 / MICROS_PER_HOUR
}

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
    fn a_time_is_asked_for() {
        const NOW: Micros = 1_767_323_045_000_000;
        let check = |raw: &str, minor, want: Result<(Micros, Micros, bool, usize, Option<&str>), u16>| {
            let at = Microversion::v2(minor);
            let query = Query::parse(Some(raw), LIST_QUERY, at).unwrap();
            let got = parse(&query, at, NOW).map_err(|fault| fault.status);
            let got = got.map(|asked| (asked.start - NOW, asked.stop - NOW, asked.detailed, asked.limit, asked.marker));
            let want = want.map(|(a, b, c, d, marker)| (a, b, c, d, marker.map(str::to_owned)));
            assert_eq!(got, want, "{raw} at 2.{minor}");
        };
        const SECOND: Micros = 1_000_000;
        check("", 1, Ok((0, 0, false, LIMIT_MAX, None)));
        let second = "start=2026-01-02T03:04:04&end=2026-01-02T03:04:05";
        check(second, 1, Ok((-SECOND, 0, false, LIMIT_MAX, None)));
        check("start=2026-01-02+03:04:04.5&detailed=1", 1, Ok((-SECOND / 2, 0, true, LIMIT_MAX, None)));
        check("start=2026-01-02T03:04:04&end=2027-01-02T03:04:05", 1, Ok((-SECOND, 0, false, LIMIT_MAX, None)));
        check("detailed=True", 1, Ok((0, 0, true, LIMIT_MAX, None)));
        check("detailed=perhaps", 1, Ok((0, 0, false, LIMIT_MAX, None)));
        check("start=2026-01-02T03:04:06", 1, Err(400));
        check("start=2026-01-02T03:04:05&end=2026-01-02T03:04:05", 1, Err(400));
        check("start=yesterday", 1, Err(400));
        check("end=13", 1, Err(400));
        check("limit=1&marker=m&detailed=0", 39, Ok((0, 0, false, LIMIT_MAX, None)));
        check("limit=1&marker=m&detailed=0", 40, Ok((0, 0, false, 1, Some("m"))));
        check("limit=x", 39, Ok((0, 0, false, LIMIT_MAX, None)));
        check("limit=x", 40, Err(400));
    }

    #[test]
    fn hours_are_those_of_the_time_asked_for() {
        const HOUR: Micros = 3_600_000_000;
        let asked = |start, stop| Asked { start, stop, detailed: false, limit: 1, marker: None };
        let check = |started, start, stop, want: f64| {
            assert_eq!(hours(started * HOUR, &asked(start * HOUR, stop * HOUR)), want, "{started} {start} {stop}");
        };
        check(0, 2, 5, 3.0);
        check(4, 2, 5, 1.0);
        check(6, 2, 5, 0.0);
        check(0, 7, 5, 0.0);
        assert_eq!(hours(HOUR / 2, &asked(0, HOUR)), 0.5);
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
