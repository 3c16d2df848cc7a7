//! Which servers a list is about: its filters, read once and applied to each.
//!
//! Ground rules: what the database can sort out by an index is its work, the rest is done row by row in the order of the list;
//! a filter that only administrators may use is ignored for others, as Nova does it.
//! Source: nova, api/openstack/compute/servers.py, `_get_servers`; schemas/servers.py, `query_params_v2*`.

use regex_lite::{Regex, RegexBuilder};
use whimbrel_api::openstack::{
    compute::{
        query::Query,
        server::{record::Server, state},
        times,
        values::boolean_word,
    },
    fault::Fault,
    microversion::Microversion,
};

/// A pattern that grows into more than this is refused.
const PATTERN_BYTES_MAX: usize = 64 << 10;
const STATUS_STRICT_SINCE: Microversion = Microversion::v2(38);
const STATUSES: &[&str] = &[
    "ACTIVE",
    "BUILD",
    "DELETED",
    "ERROR",
    "HARD_REBOOT",
    "MIGRATING",
    "PASSWORD",
    "PAUSED",
    "REBOOT",
    "REBUILD",
    "RESCUED",
    "RESIZE",
    "REVERT_RESIZE",
    "SHELVED",
    "SHELVED_OFFLOADED",
    "SHUTOFF",
    "SOFT_DELETED",
    "SUSPENDED",
    "UNKNOWN",
    "VERIFY_RESIZE",
];

pub(super) const QUERY: &[&str] = &[
    "limit",
    "marker",
    "sort_key",
    "sort_dir",
    "all_tenants",
    "all_projects",
    "name",
    "status",
    "vm_state",
    "task_state",
    "power_state",
    "host",
    "node",
    "hypervisor_hostname",
    "image",
    "image_ref",
    "flavor",
    "instance_type_id",
    "tenant_id",
    "project_id",
    "user_id",
    "uuid",
    "ip",
    "ip6",
    "deleted",
    "changes-since",
    "changes-before",
    "tags",
    "tags-any",
    "not-tags",
    "not-tags-any",
    "locked",
    "availability_zone",
    "key_name",
    "config_drive",
    "description",
    "display_name",
    "display_description",
    "hostname",
    "reservation_id",
    "launch_index",
    "access_ip_v4",
    "access_ip_v6",
    "created_at",
    "updated_at",
    "launched_at",
    "terminated_at",
    "kernel_id",
    "ramdisk_id",
    "root_device_name",
    "disk_config",
    "auto_disk_config",
    "progress",
    "soft_deleted",
    "not_deleted",
    "block_device_mapping",
    "services",
    "metadata",
    "system_metadata",
    "info_cache",
    "instance_type",
    "locked_by",
    "launched_on",
    "cell_name",
    "pci_devices",
];

type Test = Box<dyn Fn(&Server) -> bool + Send + Sync>;

pub(super) struct Wanted {
    tests: Vec<Test>,
    /// Nothing can be what is asked for.
    pub nothing: bool,
}

impl Wanted {
    pub(super) fn read(query: &Query, at: Microversion, is_admin: bool) -> Result<Wanted, Fault> {
        let mut wanted = Wanted { tests: Vec::new(), nothing: false };
        wanted.words(query, at)?;
        wanted.patterns(query)?;
        wanted.times(query)?;
        wanted.tags(query, at);
        if is_admin {
            wanted.places(query);
        }
        // What was deleted is not kept.
        wanted.nothing |= query.get("deleted").and_then(boolean_word).unwrap_or(false) && is_admin;
        Ok(wanted)
    }

    pub(super) fn takes(&self, server: &Server) -> bool {
        self.tests.iter().all(|test| test(server))
    }

    fn must(&mut self, test: impl Fn(&Server) -> bool + Send + Sync + 'static) {
        self.tests.push(Box::new(test));
    }

    fn words(&mut self, query: &Query, at: Microversion) -> Result<(), Fault> {
        if let Some(status) = query.get("status") {
            let status = status.to_uppercase();
            match STATUSES.contains(&status.as_str()) {
                true => self.must(move |server| state::status(server.vm_state, server.task_state) == status),
                false if at >= STATUS_STRICT_SINCE => {
                    return Err(Fault::new(400, format!("Invalid status value '{status}'")));
                }
                false => self.nothing = true,
            }
        }
        if let Some(vm_state) = query.get("vm_state") {
            let vm_state = vm_state.to_owned();
            self.must(move |server| server.vm_state.name() == vm_state);
        }
        if let Some(task_state) = query.get("task_state") {
            let task_state = task_state.to_owned();
            self.must(move |server| server.task_state.map_or("None", |task| task.name()) == task_state);
        }
        for name in ["image", "image_ref"] {
            if let Some(image) = last_part(query.get(name)) {
                self.must(move |server| server.image_id.is_some_and(|id| id.to_string() == image));
            }
        }
        if let Some(flavor) = last_part(query.get("flavor")) {
            self.must(move |server| server.flavor.id == flavor);
        }
        for (name, of) in EXACT {
            if let Some(text) = query.get(name).map(str::to_owned) {
                self.must(move |server| of(server) == Some(text.as_str()));
            }
        }
        if let Some(locked) = query.get("locked").filter(|_| at >= Microversion::v2(73)) {
            let bad = || Fault::new(400, format!("Invalid value '{locked}' for query parameter locked"));
            let locked = boolean_word(locked).ok_or_else(bad)?;
            self.must(move |server| server.locked == locked);
        }
        if let Some(uuid) = query.get("uuid").map(str::to_owned) {
            self.must(move |server| server.id.to_string() == uuid);
        }
        Ok(())
    }

    fn patterns(&mut self, query: &Query) -> Result<(), Fault> {
        for name in ["name", "display_name"] {
            if let Some(pattern) = query.get(name) {
                let pattern = compiled(name, pattern)?;
                self.must(move |server| pattern.is_match(&server.name));
            }
        }
        for name in ["ip", "ip6"] {
            if let Some(pattern) = query.get(name) {
                let pattern = compiled(name, pattern)?;
                let matches = move |server: &Server| {
                    let all = server.addresses.iter().flat_map(|(_, addresses)| addresses);
                    all.map(|address| address.ip.to_string()).any(|ip| pattern.is_match(&ip))
                };
                self.must(matches);
            }
        }
        Ok(())
    }

    fn times(&mut self, query: &Query) -> Result<(), Fault> {
        let time = |name: &str| {
            let bad =
                |text: &str| Fault::new(400, format!("Invalid input for query parameters {name}. Value: {text}."));
            query.get(name).map(|text| times::parse(text).ok_or_else(|| bad(text))).transpose()
        };
        if let Some(since) = time("changes-since")? {
            self.must(move |server| server.updated.unwrap_or(server.created) >= since);
        }
        if let Some(before) = time("changes-before")? {
            self.must(move |server| server.updated.unwrap_or(server.created) <= before);
        }
        Ok(())
    }

    fn tags(&mut self, query: &Query, at: Microversion) {
        if at < Microversion::v2(26) {
            return;
        }
        let listed = |name: &str| query.get(name).map(|text| text.split(',').map(str::to_owned).collect::<Vec<_>>());
        if let Some(tags) = listed("tags") {
            self.must(move |server| tags.iter().all(|tag| server.tags.contains(tag)));
        }
        if let Some(tags) = listed("tags-any") {
            self.must(move |server| tags.iter().any(|tag| server.tags.contains(tag)));
        }
        if let Some(tags) = listed("not-tags") {
            self.must(move |server| !tags.iter().all(|tag| server.tags.contains(tag)));
        }
        if let Some(tags) = listed("not-tags-any") {
            self.must(move |server| !tags.iter().any(|tag| server.tags.contains(tag)));
        }
    }

    fn places(&mut self, query: &Query) {
        for name in ["host", "node", "hypervisor_hostname"] {
            if let Some(host) = query.get(name).map(str::to_owned) {
                self.must(move |server| server.placed.as_ref().is_some_and(|placed| placed.host == host));
            }
        }
    }
}

type Of = fn(&Server) -> Option<&str>;

const EXACT: &[(&str, Of)] = &[
    ("user_id", |server| Some(&server.user_id)),
    ("key_name", |server| server.key_name.as_deref()),
    ("hostname", |server| Some(&server.hostname)),
    ("reservation_id", |server| server.reservation_id.as_deref()),
    ("availability_zone", |server| server.availability_zone.as_deref()),
    ("description", |server| server.description.as_deref()),
    ("display_description", |server| server.description.as_deref()),
    ("kernel_id", |server| server.kernel_id.as_deref()),
    ("ramdisk_id", |server| server.ramdisk_id.as_deref()),
    ("access_ip_v4", |server| server.access_ipv4.as_deref()),
    ("access_ip_v6", |server| server.access_ipv6.as_deref()),
];

/// Clients give ids and whole addresses alike.
fn last_part(text: Option<&str>) -> Option<String> {
    Some(text?.rsplit('/').next()?.to_owned())
}

fn compiled(name: &str, pattern: &str) -> Result<Regex, Fault> {
    RegexBuilder::new(pattern)
        .size_limit(PATTERN_BYTES_MAX)
        .build()
        .map_err(|error| Fault::new(400, format!("Invalid filter for {name}: {error}")))
}
