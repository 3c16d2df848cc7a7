//! `whimbrel endpoints`: what a site's own Keystone has to know of this cloud, as lines that its administrator types.
//!
//! Ground rules: the lines are shell as it stands, and typed again they make nothing twice but services and endpoints, of which
//! Keystone keeps any number; the names of services are no other project's, so that they are not taken for a Nova that is there.

use whimbrel_api::openstack::identity::token::{SERVICES, Service};

use super::bootstrap::shell;
use crate::args::Endpoints;

/// Where Keystone's own services have their users.
const PROJECT: &str = "service";
/// May check tokens, and nothing else.
const ROLE: &str = "service";
const INTERFACES: [&str; 3] = ["public", "internal", "admin"];

pub fn run(url: &str, command: &Endpoints) {
    print!("{}", lines(url, command));
}

fn lines(url: &str, command: &Endpoints) -> String {
    let user = shell(&command.user);
    let mut lines = vec![
        "# As an administrator of the site's Keystone. The user as whom the controller checks tokens:".to_owned(),
        format!("openstack project create --or-show --domain default {PROJECT}"),
        format!("openstack role create --or-show {ROLE}"),
        format!("openstack user create --or-show --domain default --password-prompt {user}"),
        format!("openstack role add --project {PROJECT} --user {user} {ROLE}"),
        "# Where clients find this cloud:".to_owned(),
    ];
    // Whose tokens are Keystone's is no other identity service.
    for service in SERVICES.iter().filter(|service| service.kind != "identity") {
        let name = name(service);
        lines.push(format!("openstack service create --name {name} {}", service.kind));
        for interface in INTERFACES {
            let (region, address) = (shell(&command.region), shell(&format!("{url}{}", service.path)));
            lines.push(format!("openstack endpoint create --region {region} {name} {interface} {address}"));
        }
    }
    lines.into_iter().map(|line| line + "\n").collect()
}

fn name(service: &Service) -> String {
    format!("whimbrel-{}", service.kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_service_but_identity_is_told() {
        let command = Endpoints { region: "it's".to_owned(), user: "w".to_owned() };
        let said = lines("https://c:7443", &command);
        for line in [
            "openstack role add --project service --user 'w' service",
            "openstack service create --name whimbrel-compute compute",
            "openstack endpoint create --region 'it'\\''s' whimbrel-compute public 'https://c:7443/compute/v2.1'",
            "openstack endpoint create --region 'it'\\''s' whimbrel-network internal 'https://c:7443/network'",
        ] {
            assert!(said.lines().any(|have| have == line), "{line} is not in\n{said}");
        }
        assert_eq!(said.matches("endpoint create").count(), 9);
        assert!(!said.contains("keystone") && !said.contains("/identity"), "{said}");
    }
}
