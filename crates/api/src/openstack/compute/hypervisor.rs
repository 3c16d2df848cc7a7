//! Hypervisors: the hosts as an operator sees them, with what they have and what of it is in use.
//!
//! Ground rules: from 2.53 a hypervisor is known by its UUID, before by a number. Its sizes are told until 2.87 and nowhere after
//! that, which is Nova's decision; an operator who wants them caps the version.
//! Source: nova, api/openstack/compute/hypervisors.py and its schema.

use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    super::{fault::Fault, microversion::Microversion},
    query::Query,
    shape::{self, Field, View},
    values,
};

const PAGED_SINCE: u16 = 33;
/// Searching by name and asking for servers are parameters of the list from here on, and calls of their own before.
const FILTERED_SINCE: Microversion = Microversion::v2(53);
/// Statistics, and an uptime for which one has to ask.
const SIZES_UNTIL: Microversion = Microversion::v2(87);

const PAGE: [&str; 2] = ["limit", "marker"];
const PATTERN: &str = "hypervisor_hostname_pattern";
const WITH_SERVERS: &str = "with_servers";

/// What a list is to hold.
#[derive(Clone, Debug)]
pub struct Listing {
    /// Part of the host's name.
    pub pattern: Option<String>,
    pub with_servers: bool,
    /// `None` where there are no pages, or none are wanted.
    pub page: Option<Query>,
}

/// The query of `GET /os-hypervisors` and `GET /os-hypervisors/detail`.
pub fn parse_listing(raw: Option<&str>, at: Microversion) -> Result<Listing, Fault> {
    let query = Query::parse_strict(raw, &[PAGE[0], PAGE[1], PATTERN, WITH_SERVERS], at, FILTERED_SINCE)?;
    let whole = Listing { pattern: None, with_servers: false, page: None };
    if at < Microversion::v2(PAGED_SINCE) {
        return Ok(whole);
    }
    if at < FILTERED_SINCE {
        return Ok(Listing { page: Some(query), ..whole });
    }
    let with_servers = with_servers(&query)?;
    let Some(pattern) = query.get(PATTERN) else { return Ok(Listing { with_servers, page: Some(query), ..whole }) };
    if pattern.is_empty() || !values::only_of(pattern, "-._") {
        let why = format!("'{pattern}' does not match '^[a-zA-Z0-9-._]+$'");
        return Err(Fault::new(400, format!("Invalid input for query parameters {PATTERN}. Value: {pattern}. {why}")));
    }
    if PAGE.iter().any(|name| query.get(name).is_some()) {
        let why = format!("Paging over hypervisors with the {PATTERN} query parameter is not supported.");
        return Err(Fault::new(400, why));
    }
    Ok(Listing { pattern: Some(pattern.to_owned()), with_servers, page: None })
}

/// The query of `GET /os-hypervisors/{id}`: whether its servers are wanted too.
pub fn parse_showing(raw: Option<&str>, at: Microversion) -> Result<bool, Fault> {
    let query = Query::parse_strict(raw, &[WITH_SERVERS], at, FILTERED_SINCE)?;
    if at < FILTERED_SINCE { Ok(false) } else { with_servers(&query) }
}

fn with_servers(query: &Query) -> Result<bool, Fault> {
    let Some(text) = query.get(WITH_SERVERS) else { return Ok(false) };
    values::boolean_word(text).ok_or_else(|| {
        let why = format!("'{text}' is no boolean");
        Fault::new(400, format!("Invalid input for query parameters {WITH_SERVERS}. Value: {text}. {why}"))
    })
}

/// `GET /os-hypervisors/{name}/search` and `…/servers` are calls until 2.52.
pub fn calls_by_name(at: Microversion) -> Result<(), Fault> {
    if at < FILTERED_SINCE { Ok(()) } else { Err(gone()) }
}

/// `GET /os-hypervisors/statistics` and `…/{id}/uptime` are calls until 2.87.
pub fn calls_for_sizes(at: Microversion) -> Result<(), Fault> {
    if at <= SIZES_UNTIL { Ok(()) } else { Err(gone()) }
}

fn gone() -> Fault {
    Fault::new(404, "The resource could not be found.")
}

#[derive(Clone, Debug, PartialEq)]
pub struct Hypervisor {
    pub id: u64,
    pub uuid: Uuid,
    pub hostname: String,
    pub up: bool,
    pub service: HypervisorService,
    /// `QEMU`.
    pub kind: String,
    /// 8.2.0 is 8002000.
    pub version: u64,
    pub host_ip: Option<String>,
    pub sizes: Sizes,
    /// Architecture, model, vendor, topology, features.
    pub cpu_info: Value,
    pub uptime: Option<String>,
    /// `None` where nobody asked for them.
    pub servers: Option<Vec<HostedServer>>,
}

/// The compute service on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HypervisorService {
    pub id: u64,
    pub uuid: Uuid,
    pub host: String,
    pub enabled: bool,
    pub disabled_reason: Option<String>,
}

/// What one host has, or all of them together.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Sizes {
    pub vcpus: u64,
    pub vcpus_used: u64,
    pub memory_mb: u64,
    pub memory_mb_used: u64,
    pub local_gb: u64,
    pub local_gb_used: u64,
    /// Negative on a host that was promised too much.
    pub free_ram_mb: i64,
    pub free_disk_gb: i64,
    pub disk_available_least_gb: Option<i64>,
    pub running_vms: u64,
    /// Servers that something is being done to.
    pub current_workload: u64,
}

impl Sizes {
    /// Of all of them together.
    pub fn sum<'a>(all: impl IntoIterator<Item = &'a Sizes>) -> Sizes {
        let mut sum = Sizes { disk_available_least_gb: Some(0), ..Sizes::default() };
        for one in all {
            sum.vcpus += one.vcpus;
            sum.vcpus_used += one.vcpus_used;
            sum.memory_mb += one.memory_mb;
            sum.memory_mb_used += one.memory_mb_used;
            sum.local_gb += one.local_gb;
            sum.local_gb_used += one.local_gb_used;
            sum.free_ram_mb += one.free_ram_mb;
            sum.free_disk_gb += one.free_disk_gb;
            sum.disk_available_least_gb =
                sum.disk_available_least_gb.zip(one.disk_available_least_gb).map(|(a, b)| a + b);
            sum.running_vms += one.running_vms;
            sum.current_workload += one.current_workload;
        }
        sum
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostedServer {
    pub id: Uuid,
    pub name: String,
}

type Row = Field<Hypervisor>;

const BASIC: &[Row] = &[
    Row::new("id", |hypervisor, _| json!(hypervisor.id)).until(52),
    Row::new("id", |hypervisor, _| json!(hypervisor.uuid)).since(53),
    Row::new("hypervisor_hostname", |hypervisor, _| json!(hypervisor.hostname)),
    Row::new("state", |hypervisor, _| json!(if hypervisor.up { "up" } else { "down" })),
    Row::new("status", |hypervisor, _| json!(if hypervisor.service.enabled { "enabled" } else { "disabled" })),
    Row::maybe("servers", |hypervisor, _| servers(hypervisor).filter(|list| !list.is_empty()).map(Value::Array))
        .until(74),
    Row::maybe("servers", |hypervisor, _| servers(hypervisor).map(Value::Array)).since(75),
];

const DETAIL: &[Row] = &[
    Row::new("hypervisor_type", |hypervisor, _| json!(hypervisor.kind)),
    Row::new("hypervisor_version", |hypervisor, _| json!(hypervisor.version)),
    Row::new("host_ip", |hypervisor, _| json!(hypervisor.host_ip)),
    Row::new("service", |hypervisor, _| service(hypervisor, json!(hypervisor.service.id))).until(52),
    Row::new("service", |hypervisor, _| service(hypervisor, json!(hypervisor.service.uuid))).since(53),
    Row::new("cpu_info", |hypervisor, _| json!(hypervisor.cpu_info.to_string())).until(27),
    Row::new("cpu_info", |hypervisor, _| hypervisor.cpu_info.clone()).since(28).until(87),
    Row::new("vcpus", |hypervisor, _| json!(hypervisor.sizes.vcpus)).until(87),
    Row::new("vcpus_used", |hypervisor, _| json!(hypervisor.sizes.vcpus_used)).until(87),
    Row::new("memory_mb", |hypervisor, _| json!(hypervisor.sizes.memory_mb)).until(87),
    Row::new("memory_mb_used", |hypervisor, _| json!(hypervisor.sizes.memory_mb_used)).until(87),
    Row::new("local_gb", |hypervisor, _| json!(hypervisor.sizes.local_gb)).until(87),
    Row::new("local_gb_used", |hypervisor, _| json!(hypervisor.sizes.local_gb_used)).until(87),
    Row::new("free_ram_mb", |hypervisor, _| json!(hypervisor.sizes.free_ram_mb)).until(87),
    Row::new("free_disk_gb", |hypervisor, _| json!(hypervisor.sizes.free_disk_gb)).until(87),
    Row::new("disk_available_least", |hypervisor, _| json!(hypervisor.sizes.disk_available_least_gb)).until(87),
    Row::new("running_vms", |hypervisor, _| json!(hypervisor.sizes.running_vms)).until(87),
    Row::new("current_workload", |hypervisor, _| json!(hypervisor.sizes.current_workload)).until(87),
];

const UPTIME: &[Row] = &[Row::new("uptime", |hypervisor, _| json!(hypervisor.uptime))];
const UPTIME_IN_DETAIL: &[Row] = &[Row::new("uptime", |hypervisor, _| json!(hypervisor.uptime)).since(88)];

/// `GET /os-hypervisors`, and until 2.52 the answers of `…/{name}/search` and `…/{name}/servers`. `next` is the query of the
/// following page, which exists from 2.33.
pub fn list(hypervisors: &[Hypervisor], next: Option<&str>, view: &View) -> Value {
    let items = hypervisors.iter().map(|hypervisor| shape::object(&[BASIC], hypervisor, view)).collect();
    page("os-hypervisors", items, next, view)
}

/// `GET /os-hypervisors/detail`.
pub fn detail(hypervisors: &[Hypervisor], next: Option<&str>, view: &View) -> Value {
    page("os-hypervisors/detail", hypervisors.iter().map(|hypervisor| detailed(hypervisor, view)).collect(), next, view)
}

/// `GET /os-hypervisors/{id}`.
pub fn show(hypervisor: &Hypervisor, view: &View) -> Value {
    json!({ "hypervisor": detailed(hypervisor, view) })
}

/// `GET /os-hypervisors/{id}/uptime`, until 2.87.
pub fn uptime(hypervisor: &Hypervisor, view: &View) -> Value {
    json!({ "hypervisor": shape::object(&[BASIC, UPTIME], hypervisor, view) })
}

/// `GET /os-hypervisors/statistics`, until 2.87, of so many hosts with so much together.
pub fn statistics(count: usize, sum: &Sizes) -> Value {
    json!({ "hypervisor_statistics": {
        "count": count,
        "vcpus": sum.vcpus,
        "vcpus_used": sum.vcpus_used,
        "memory_mb": sum.memory_mb,
        "memory_mb_used": sum.memory_mb_used,
        "local_gb": sum.local_gb,
        "local_gb_used": sum.local_gb_used,
        "free_ram_mb": sum.free_ram_mb,
        "free_disk_gb": sum.free_disk_gb,
        "disk_available_least": sum.disk_available_least_gb,
        "running_vms": sum.running_vms,
        "current_workload": sum.current_workload,
    } })
}

fn page(path: &str, items: Vec<Value>, next: Option<&str>, view: &View) -> Value {
    view.page("hypervisors", path, items, next.filter(|_| view.since(PAGED_SINCE)))
}

fn detailed(hypervisor: &Hypervisor, view: &View) -> Value {
    shape::object(&[BASIC, DETAIL, UPTIME_IN_DETAIL], hypervisor, view)
}

fn service(hypervisor: &Hypervisor, id: Value) -> Value {
    let service = &hypervisor.service;
    json!({ "id": id, "host": service.host, "disabled_reason": service.disabled_reason })
}

fn servers(hypervisor: &Hypervisor) -> Option<Vec<Value>> {
    let told = |server: &HostedServer| json!({ "uuid": server.id, "name": server.name });
    hypervisor.servers.as_ref().map(|servers| servers.iter().map(told).collect())
}

#[cfg(test)]
mod tests;
