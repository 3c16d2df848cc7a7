//! `PUT /servers/{id}`: what of a server its owner may change.
//!
//! Ground rules: what is left out stays; a description of `null` is one that is taken away.
//! Source: nova, api/openstack/compute/servers.py, `update`, and schemas/servers.py.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde_json::Value;

use super::{
    super::{
        super::{fault::Fault, microversion::Microversion},
        fields::{self, Input, Key},
    },
    create::{description, disk_config, hostname},
    record::DiskConfig,
};

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ServerUpdate {
    pub name: Option<String>,
    pub description: Option<Option<String>>,
    pub disk_config: Option<DiskConfig>,
    pub access_ipv4: Option<Ipv4Addr>,
    pub access_ipv6: Option<Ipv6Addr>,
    pub hostname: Option<String>,
}

const SERVER: &[Key] = &[
    Key::new("name"),
    Key::new("OS-DCF:diskConfig"),
    Key::new("accessIPv4"),
    Key::new("accessIPv6"),
    Key::new("description").since(19),
    Key::new("hostname").since(90),
];

pub fn parse(body: &Value, at: Microversion) -> Result<ServerUpdate, Fault> {
    let server = fields::wrapped(body, "server", SERVER, at)?;
    Ok(ServerUpdate {
        name: server.read("name", Input::name)?,
        description: server.read("description", description)?,
        disk_config: server.read("OS-DCF:diskConfig", disk_config)?,
        access_ipv4: server.read("accessIPv4", |input| input.address("ipv4"))?,
        access_ipv6: server.read("accessIPv6", |input| input.address("ipv6"))?,
        hostname: server.read("hostname", hostname)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_may_change_grows_with_the_version() {
        let check = |server: Value, minor, want: Option<ServerUpdate>| {
            let got = parse(&json!({ "server": server }), Microversion::v2(minor));
            assert_eq!(got.as_ref().ok(), want.as_ref(), "{server} at 2.{minor}: {got:?}");
        };
        let nothing = ServerUpdate::default;
        check(json!({}), 1, Some(nothing()));
        check(json!({"name": "n"}), 1, Some(ServerUpdate { name: Some("n".into()), ..nothing() }));
        check(json!({"name": " n"}), 1, None);
        check(
            json!({"OS-DCF:diskConfig": "AUTO"}),
            1,
            Some(ServerUpdate { disk_config: Some(DiskConfig::Auto), ..nothing() }),
        );
        check(json!({"OS-DCF:diskConfig": "auto"}), 1, None);
        check(json!({"accessIPv4": "::1"}), 1, None);
        check(
            json!({"accessIPv6": "::1"}),
            1,
            Some(ServerUpdate { access_ipv6: Some(Ipv6Addr::LOCALHOST), ..nothing() }),
        );
        check(json!({"description": "d"}), 18, None);
        check(json!({"description": "d"}), 19, Some(ServerUpdate { description: Some(Some("d".into())), ..nothing() }));
        check(json!({"description": null}), 19, Some(ServerUpdate { description: Some(None), ..nothing() }));
        check(json!({"hostname": "h1"}), 89, None);
        check(json!({"hostname": "h1"}), 90, Some(ServerUpdate { hostname: Some("h1".into()), ..nothing() }));
        check(json!({"hostname": "h1.lab"}), 93, None);
        check(json!({"hostname": "h1.lab"}), 94, Some(ServerUpdate { hostname: Some("h1.lab".into()), ..nothing() }));
        check(json!({"status": "ACTIVE"}), 96, None);
    }
}
