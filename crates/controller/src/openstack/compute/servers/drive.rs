//! The config drive of a new server: its name, its owner's keys and data, and its addresses, since there is no DHCP and no
//! metadata service to ask.
//!
//! Ground rules: a server that has anything to learn gets one, whether it was asked for or not.

use whimbrel_api::openstack::{
    compute::{keypair::KeyKind, server::create::NewServer},
    config_drive::{Address, ConfigDrive, InjectedFile, Key, Link, Route, from_base64},
    fault::Fault,
};
use whimbrel_core::{id::InstanceId, server::ServerDetails};

use super::super::{
    answer::{Answer, Refused},
    ask::Ask,
};
use crate::openstack::network::allocate::{Attached, Lease};

/// Who gets the drive, with all that is known of it by now.
pub(super) struct Server<'a> {
    pub id: InstanceId,
    pub name: &'a str,
    pub flavor: &'a str,
    pub details: &'a ServerDetails,
    pub attached: &'a [Attached],
    pub admin_pass: &'a str,
}

/// `None`: there is nothing to tell.
pub(super) fn of(ask: &Ask, new: &NewServer, server: &Server) -> Answer<Option<ConfigDrive>> {
    let details = server.details;
    let untold = details.user_data.is_none()
        && details.key.is_none()
        && new.personality.is_empty()
        && server.attached.is_empty();
    if untold && !new.config_drive {
        return Ok(None);
    }
    let bad = |what: &str| Refused::from(Fault::new(400, format!("{what} is no base64.")));
    let raw = |text: &str, what: &str| from_base64(text).ok_or_else(|| bad(what));
    let mut injected = Vec::new();
    for file in &new.personality {
        injected.push(InjectedFile { path: file.path.clone(), content: raw(&file.contents, "A file of personality")? });
    }
    let key = details.key.as_ref().map(|key| Key {
        name: key.name.clone(),
        kind: if key.kind == "x509" { KeyKind::X509 } else { KeyKind::Ssh },
        public_key: key.public_key.clone(),
    });
    Ok(Some(ConfigDrive {
        instance: server.id.0,
        name: server.name.to_owned(),
        hostname: details.hostname.clone(),
        launch_index: details.launch_index,
        availability_zone: details.availability_zone.clone(),
        project_id: ask.requester().project().map(ToString::to_string).unwrap_or_default(),
        flavor: server.flavor.to_owned(),
        reservation_id: details.reservation_id.clone(),
        security_groups: details.security_groups.clone(),
        key,
        meta: details.metadata.clone(),
        admin_pass: Some(server.admin_pass.to_owned()),
        devices: Vec::new(),
        user_data: details.user_data.as_deref().map(|text| raw(text, "user_data")).transpose()?,
        injected,
        network: Some(server.attached.iter().map(link).collect()),
    }))
}

fn link(attached: &Attached) -> Link {
    Link {
        port: attached.port.0,
        network: attached.network.0,
        mac: attached.mac.clone(),
        mtu: Some(attached.mtu),
        addresses: attached.leases.iter().map(address).collect(),
    }
}

fn address(lease: &Lease) -> Address {
    let route = |route: &whimbrel_store::Route| Route {
        destination: route.destination.addr(),
        prefix: route.destination.prefix_len(),
        gateway: route.nexthop,
    };
    Address {
        address: lease.address,
        prefix: lease.net.prefix_len(),
        gateway: lease.gateway,
        routes: lease.routes.iter().map(route).collect(),
        dns: lease.dns_servers.clone(),
    }
}
