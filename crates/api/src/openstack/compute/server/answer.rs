//! What the API says of servers, version by version.
//!
//! ```text
//!  list    SHORT
//!  detail  BASE + PLACE
//!  show    BASE + PLACE + GROUPS
//!  update  BASE         + GROUPS    until 2.74, from 2.75 what show says
//! ```
//!
//! Ground rules: addresses are hidden while a server is built, and a fault's details from who is no administrator where the fault
//! is the cloud's own.
//! Source: nova, api/openstack/compute/views/servers.py and views/addresses.py.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    super::{
        shape::{self, Field, View},
        times,
    },
    record::{Address, DiskConfig, Placed, Server},
    state::{self, VmState},
};

const COLLECTION: &str = "servers";
/// A fault of the cloud itself.
const INTERNAL: u16 = 500;
const UPDATE_LIKE_SHOW: u16 = 75;

type Row = Field<Server>;

const SHORT: &[Row] = &[
    Row::new("id", |server, _| json!(server.id)),
    Row::new("name", |server, _| json!(server.name)),
    Row::new("links", |server, view| view.links(COLLECTION, &server.id.to_string())),
];

const BASE: &[Row] = &[
    Row::new("status", |server, _| json!(status(server))),
    Row::new("tenant_id", |server, _| json!(server.project_id)),
    Row::new("user_id", |server, _| json!(server.user_id)),
    Row::new("metadata", |server, _| json!(server.metadata)),
    Row::new("hostId", |server, _| json!(server.host_id)),
    Row::new("image", image),
    Row::new("flavor", flavor_link).until(46),
    Row::new("flavor", |server, _| flavor(server)).since(47),
    Row::new("created", |server, _| times::zulu(server.created)),
    Row::new("updated", |server, _| times::zulu(server.updated.unwrap_or(server.created))),
    Row::new("accessIPv4", |server, _| json!(server.access_ipv4.as_deref().unwrap_or_default())),
    Row::new("accessIPv6", |server, _| json!(server.access_ipv6.as_deref().unwrap_or_default())),
    Row::new("OS-DCF:diskConfig", |server, _| json!(server.disk_config.name())),
    Row::maybe("progress", |server, _| state::has_progress(status(server)).then(|| json!(server.progress))),
    Row::maybe("fault", fault),
    Row::new("locked", |server, _| json!(server.locked)).since(9),
    Row::new("description", |server, _| json!(server.description)).since(19),
    Row::new("tags", |server, _| json!(server.tags)).since(26),
    Row::new("trusted_image_certificates", |server, _| json!(server.trusted_image_certificates)).since(63),
    Row::new("locked_reason", |server, _| json!(server.locked_reason)).since(73),
];

const PLACE: &[Row] = &[
    Row::new("addresses", |server, _| addresses(server, long_address)),
    Row::new("config_drive", |server, _| json!(if server.config_drive { "True" } else { "" })),
    Row::new("key_name", |server, _| json!(server.key_name)),
    Row::maybe("security_groups", |server, _| security_groups(&server.security_groups)),
    Row::new("OS-EXT-AZ:availability_zone", |server, _| json!(server.availability_zone.as_deref().unwrap_or_default())),
    Row::new("OS-SRV-USG:launched_at", |server, _| times::fraction_or_null(server.launched)),
    Row::new("OS-SRV-USG:terminated_at", |server, _| times::fraction_or_null(server.terminated)),
    Row::new("OS-EXT-STS:task_state", |server, _| json!(server.task_state.map(|task| task.name()))),
    Row::new("OS-EXT-STS:vm_state", |server, _| json!(server.vm_state.name())),
    Row::new("OS-EXT-STS:power_state", |server, _| json!(server.power as u8)),
    Row::new("os-extended-volumes:volumes_attached", |server, _| volume_ids(server)).until(2),
    Row::new("os-extended-volumes:volumes_attached", |server, _| volumes(server)).since(3),
    Row::new("OS-EXT-SRV-ATTR:host", |server, _| placed(server, |at| &at.host)).admin(),
    Row::new("OS-EXT-SRV-ATTR:hypervisor_hostname", |server, _| placed(server, |at| &at.node)).admin(),
    Row::new("OS-EXT-SRV-ATTR:instance_name", |server, _| json!(server.instance_name)).admin(),
    Row::new("OS-EXT-SRV-ATTR:hostname", |server, _| json!(server.hostname)).since(3).admin(),
    Row::new("OS-EXT-SRV-ATTR:hostname", |server, _| json!(server.hostname)).since(90).member(),
    Row::new("OS-EXT-SRV-ATTR:reservation_id", |server, _| json!(server.reservation_id)).since(3).admin(),
    Row::new("OS-EXT-SRV-ATTR:launch_index", |server, _| json!(server.launch_index)).since(3).admin(),
    Row::new("OS-EXT-SRV-ATTR:kernel_id", |server, _| json!(server.kernel_id.as_deref().unwrap_or_default()))
        .since(3)
        .admin(),
    Row::new("OS-EXT-SRV-ATTR:ramdisk_id", |server, _| json!(server.ramdisk_id.as_deref().unwrap_or_default()))
        .since(3)
        .admin(),
    Row::new("OS-EXT-SRV-ATTR:root_device_name", |server, _| json!(server.root_device_name)).since(3).admin(),
    Row::new("OS-EXT-SRV-ATTR:user_data", |server, _| json!(server.user_data)).since(3).admin(),
    Row::new("host_status", |server, _| json!(server.placed.as_ref().map_or("", |at| at.status.name())))
        .since(16)
        .admin(),
    Row::new("pinned_availability_zone", |server, _| json!(server.pinned_availability_zone)).since(96),
];

/// Of a list it is not told, since it would have to be looked up for each.
const GROUPS: &[Row] = &[Row::new("server_groups", |server, _| json!(server.server_groups)).since(71)];

const SHORT_ADDRESSES: &[Row] = &[Row::new("addresses", |server, _| addresses(server, short_address))];

/// `GET /servers`. `next` is the query of the following page.
pub fn list(servers: &[Server], next: Option<&str>, view: &View) -> Value {
    let items = servers.iter().map(|server| shape::object(&[SHORT], server, view)).collect();
    view.page(COLLECTION, COLLECTION, items, next)
}

/// `GET /servers/detail`.
pub fn detail(servers: &[Server], next: Option<&str>, view: &View) -> Value {
    let items = servers.iter().map(|server| shape::object(&[SHORT, BASE, PLACE], server, view)).collect();
    view.page(COLLECTION, "servers/detail", items, next)
}

/// The text of [`detail`], made server by server: a page of a thousand is never there as a tree.
#[derive(Debug, Default)]
pub struct DetailText {
    out: Vec<u8>,
}

impl DetailText {
    pub fn add(&mut self, server: &Server, view: &View) -> serde_json::Result<()> {
        match self.out.is_empty() {
            true => self.out.extend_from_slice(DETAIL_BEGIN),
            false => self.out.push(b','),
        }
        shape::write(&[SHORT, BASE, PLACE], server, view, &mut self.out)
    }

    pub fn finish(mut self, next: Option<&str>, view: &View) -> serde_json::Result<Vec<u8>> {
        if self.out.is_empty() {
            self.out.extend_from_slice(DETAIL_BEGIN);
        }
        self.out.push(b']');
        if let Some(query) = next {
            self.out.extend_from_slice(b",\"servers_links\":");
            serde_json::to_writer(&mut self.out, &json!([view.next_link("servers/detail", query)]))?;
        }
        self.out.push(b'}');
        Ok(self.out)
    }
}

const DETAIL_BEGIN: &[u8] = b"{\"servers\":[";

/// `GET /servers/{id}`.
pub fn show(server: &Server, view: &View) -> Value {
    json!({ "server": shape::object(&[SHORT, BASE, PLACE, GROUPS], server, view) })
}

/// The answer to `PUT /servers/{id}`.
pub fn updated(server: &Server, view: &View) -> Value {
    match view.since(UPDATE_LIKE_SHOW) {
        true => show(server, view),
        false => json!({ "server": shape::object(&[SHORT, BASE, SHORT_ADDRESSES, GROUPS], server, view) }),
    }
}

/// What is said of a server that was just asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    pub id: Uuid,
    pub disk_config: DiskConfig,
    /// As asked for; none is `default`.
    pub security_groups: Vec<String>,
    pub admin_pass: Option<String>,
}

const CREATED: &[Field<Created>] = {
    type Row = Field<Created>;
    &[
        Row::new("id", |created, _| json!(created.id)),
        Row::new("links", |created, view| view.links(COLLECTION, &created.id.to_string())),
        Row::new("OS-DCF:diskConfig", |created, _| json!(created.disk_config.name())),
        Row::new("security_groups", |created, _| {
            security_groups(&created.security_groups).unwrap_or(json!([{ "name": "default" }]))
        }),
        Row::maybe("adminPass", |created, _| created.admin_pass.as_ref().map(|pass| json!(pass))),
    ]
};

/// The answer to `POST /servers`.
pub fn created(created: &Created, view: &View) -> Value {
    json!({ "server": shape::object(&[CREATED], created, view) })
}

/// The answer to one that asked for the reservation's id instead.
pub fn reserved(reservation_id: &str) -> Value {
    json!({ "reservation_id": reservation_id })
}

fn status(server: &Server) -> &'static str {
    state::status(server.vm_state, server.task_state)
}

fn image(server: &Server, view: &View) -> Value {
    let linked = |id: Uuid| json!({ "id": id, "links": [view.bookmark("images", &id.to_string())] });
    server.image_id.map_or(json!(""), linked)
}

fn flavor_link(server: &Server, view: &View) -> Value {
    let id = &server.flavor.id;
    json!({ "id": id, "links": [view.bookmark("flavors", id)] })
}

fn flavor(server: &Server) -> Value {
    let flavor = &server.flavor;
    json!({
        "original_name": flavor.name,
        "vcpus": flavor.vcpus,
        "ram": flavor.ram_mb,
        "disk": flavor.disk_gb,
        "ephemeral": flavor.ephemeral_gb,
        "swap": flavor.swap_mb,
        "extra_specs": flavor.extra_specs,
    })
}

fn fault(server: &Server, view: &View) -> Option<Value> {
    let fault = server.fault.as_ref().filter(|_| state::has_fault(status(server)))?;
    let mut body = json!({ "code": fault.code, "created": times::zulu(fault.created), "message": fault.message });
    let shown = |_: &&String| view.is_admin() || fault.code != INTERNAL;
    if let Some(details) = fault.details.as_ref().filter(shown) {
        body["details"] = json!(details);
    }
    Some(body)
}

fn addresses(server: &Server, address: fn(&Address) -> Value) -> Value {
    match server.vm_state {
        VmState::Building => json!({}),
        VmState::Active
        | VmState::Paused
        | VmState::Suspended
        | VmState::Stopped
        | VmState::Resized
        | VmState::Error
        | VmState::Deleted => {
            let network = |(name, addresses): &(String, Vec<Address>)| {
                (name.clone(), Value::Array(addresses.iter().map(address).collect()))
            };
            Value::Object(server.addresses.iter().map(network).collect::<Map<_, _>>())
        }
    }
}

/// `GET /servers/{id}/ips`.
pub fn ips(server: &Server) -> Value {
    json!({ "addresses": addresses(server, short_address) })
}

/// `GET /servers/{id}/ips/{network}`; `None` where the server is not in it.
pub fn ips_of(server: &Server, network: &str) -> Option<Value> {
    let all = addresses(server, short_address);
    all.get(network).map(|of| Value::Object(Map::from_iter([(network.to_owned(), of.clone())])))
}

fn short_address(address: &Address) -> Value {
    json!({ "addr": address.ip, "version": if address.ip.is_ipv4() { 4 } else { 6 } })
}

fn long_address(address: &Address) -> Value {
    let mut body = short_address(address);
    body["OS-EXT-IPS:type"] = json!(address.kind.name());
    body["OS-EXT-IPS-MAC:mac_addr"] = json!(address.mac);
    body
}

fn security_groups(names: &[String]) -> Option<Value> {
    let groups: Vec<Value> = names.iter().map(|name| json!({ "name": name })).collect();
    (!groups.is_empty()).then_some(Value::Array(groups))
}

fn volume_ids(server: &Server) -> Value {
    server.volumes.iter().map(|volume| json!({ "id": volume.id })).collect()
}

fn volumes(server: &Server) -> Value {
    let told = |volume: &super::record::Volume| json!({ "id": volume.id, "delete_on_termination": volume.delete_on_termination });
    server.volumes.iter().map(told).collect()
}

fn placed(server: &Server, what: fn(&Placed) -> &String) -> Value {
    json!(server.placed.as_ref().map(what))
}

#[cfg(test)]
mod tests;
