//! Networks, subnets, ports and their addresses, security groups.

use std::{collections::BTreeSet, net::IpAddr};

use whimbrel_core::{
    id::{NetworkId, PortId, SecurityGroupId, SecurityGroupRuleId, SubnetId},
    identity::ProjectId,
    network::{
        address::IpVersion,
        choice::AddressWish,
        refusal::Refusal,
        subnet::{cidr, default_gateway, default_pools},
    },
};
use whimbrel_store::{
    NetworkError, NetworkRow, NewPort, PageAsk, PortChange, PortFilter, PortHold, PortRow, PortWish, Route,
    RuleDirection, SecurityGroupRow, SecurityGroupRuleRow, SubnetRow, every,
};

use crate::{
    books::{assert_conflict, assert_not_found},
    fixture::{Database, NOW_US, instance, uuid},
};

const ALL: PageAsk = PageAsk { limit: None, marker: None };

fn project(name: &str) -> ProjectId {
    name.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn network(number: u128, of: &str, vlan: Option<u16>) -> NetworkRow {
    NetworkRow {
        id: NetworkId(uuid(number)),
        project: project(of),
        name: format!("n{number}"),
        description: "d".to_owned(),
        bridge: "br0".to_owned(),
        vlan,
        mtu: 1500,
        shared: false,
        external: false,
        admin_up: true,
        generation: 1,
        created_us: NOW_US,
        updated_us: NOW_US,
    }
}

fn subnet(number: u128, on: &NetworkRow, net: &str) -> SubnetRow {
    let net = cidr(net).unwrap();
    let gateway = default_gateway(&net);
    SubnetRow {
        id: SubnetId(uuid(number)),
        network: on.id,
        project: on.project.clone(),
        name: String::new(),
        description: String::new(),
        cidr: net,
        gateway,
        pools: default_pools(&net, gateway),
        dns_servers: vec![ip("192.0.2.53")],
        routes: vec![Route { destination: cidr("198.51.100.0/24").unwrap(), nexthop: ip("10.0.0.1") }],
        dhcp: false,
        generation: 1,
        created_us: NOW_US,
        updated_us: NOW_US,
    }
}

fn port(number: u128, on: &NetworkRow) -> NewPort {
    NewPort {
        id: PortId(uuid(number)),
        network: on.id,
        project: on.project.clone(),
        name: format!("p{number}"),
        description: String::new(),
        mac: None,
        admin_up: true,
        device: String::new(),
        device_owner: String::new(),
        host: String::new(),
        hold: PortHold::Free,
        nic: 0,
        addresses: None,
        groups: Vec::new(),
        now_us: NOW_US,
    }
}

fn group(number: u128, of: &str, is_default: bool) -> SecurityGroupRow {
    SecurityGroupRow {
        id: SecurityGroupId(uuid(number)),
        project: project(of),
        name: "default".to_owned(),
        description: String::new(),
        is_default,
        generation: 1,
        created_us: NOW_US,
        updated_us: NOW_US,
    }
}

fn rule(number: u128, of: &SecurityGroupRow) -> SecurityGroupRuleRow {
    SecurityGroupRuleRow {
        id: SecurityGroupRuleId(uuid(number)),
        group: of.id,
        project: of.project.clone(),
        direction: RuleDirection::Ingress,
        version: IpVersion::V4,
        protocol: Some("tcp".to_owned()),
        port_min: Some(22),
        port_max: Some(65_535),
        remote_prefix: Some(cidr("0.0.0.0/0").unwrap()),
        remote_group: None,
        description: String::new(),
        created_us: NOW_US,
    }
}

#[track_caller]
fn assert_refused<T: std::fmt::Debug>(found: Result<T, NetworkError>, want: Refusal) {
    match found {
        Err(NetworkError::Refused(refusal)) => assert_eq!(refusal, want),
        other => panic!("a refusal that says '{want}' expected, not {other:?}"),
    }
}

fn store_error<T: std::fmt::Debug>(found: Result<T, NetworkError>) -> Result<T, whimbrel_store::StoreError> {
    found.map_err(|error| match error {
        NetworkError::Store(error) => error,
        NetworkError::Refused(refusal) => panic!("refused: {refusal}"),
    })
}

fn addresses(port: &PortRow) -> Vec<String> {
    port.addresses.iter().map(|given| given.address.to_string()).collect()
}

pub async fn a_network_has_its_wire_for_itself(database: Database) {
    let store = database.store().await;
    let flat = network(1, "p1", None);
    store.create_network(&flat).await.unwrap();
    assert_refused(
        store.create_network(&network(2, "p2", None)).await,
        Refusal::WireTaken { bridge: "br0".to_owned(), vlan: None },
    );
    let shared = NetworkRow { shared: true, ..network(3, "p1", Some(7)) };
    let of_other = network(4, "p2", Some(8));
    let external = NetworkRow { external: true, ..network(5, "p3", Some(4094)) };
    for each in [&shared, &of_other, &external] {
        store.create_network(each).await.unwrap();
    }
    assert_eq!(store.network(shared.id).await.unwrap(), shared);
    let seen = async |viewer: Option<&str>| {
        let viewer = viewer.map(project);
        let page = store.list_networks(viewer.as_ref(), &ALL).await.unwrap();
        page.items.into_iter().map(|row| row.name).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(seen(None).await, "n1 n3 n4 n5");
    assert_eq!(seen(Some("p1")).await, "n1 n3 n5");
    assert_eq!(seen(Some("p2")).await, "n3 n4 n5");

    let renamed = NetworkRow { name: "new".to_owned(), mtu: 9000, updated_us: NOW_US + 1, ..flat.clone() };
    store.change_network(&renamed).await.unwrap();
    assert_conflict(store.change_network(&renamed).await, "was changed by another");
    assert_eq!(store.network(flat.id).await.unwrap(), NetworkRow { generation: 2, ..renamed });
    store.create_subnet(&subnet(1, &flat, "10.0.0.0/24")).await.unwrap();
    let made = store.create_port(&port(1, &flat)).await.unwrap();
    assert_refused(store.delete_network(flat.id).await, Refusal::NetworkInUse(flat.id));
    store.delete_port(made.id).await.unwrap();
    store.delete_network(flat.id).await.unwrap();
    assert_not_found(store_error(store.delete_network(flat.id).await), "network", &flat.id.to_string());
    assert!(store.list_subnets(Some(flat.id), &ALL).await.unwrap().items.is_empty());
    let nowhere = store_error(store.create_port(&port(2, &flat)).await);
    assert_not_found(nowhere, "network", &flat.id.to_string());
}

pub async fn subnets_do_not_overlap_and_stay_while_used(database: Database) {
    let store = database.store().await;
    let (one, other) = (network(1, "p1", None), network(2, "p1", Some(2)));
    for each in [&one, &other] {
        store.create_network(each).await.unwrap();
    }
    let first = subnet(1, &one, "10.0.0.0/24");
    store.create_subnet(&first).await.unwrap();
    assert_eq!(store.subnet(first.id).await.unwrap(), first);
    let inside = subnet(2, &one, "10.0.0.128/25");
    let want = Refusal::SubnetsOverlap { net: inside.cidr, network: one.id, other: first.cidr };
    assert_refused(store.create_subnet(&inside).await, want);
    store.create_subnet(&subnet(3, &other, "10.0.0.0/24")).await.unwrap();
    store.create_subnet(&subnet(4, &one, "fd00::/64")).await.unwrap();
    assert_eq!(store.list_subnets(Some(one.id), &ALL).await.unwrap().items.len(), 2);
    assert_eq!(store.list_subnets(None, &ALL).await.unwrap().items.len(), 3);

    let made = store.create_port(&port(1, &one)).await.unwrap();
    assert_eq!(addresses(&made), ["10.0.0.2", "fd00::2"]);
    let moved = SubnetRow { gateway: Some(ip("10.0.0.2")), ..first.clone() };
    assert_refused(store.change_subnet(&moved).await, Refusal::GatewayInUse { gateway: ip("10.0.0.2") });
    let without = SubnetRow { gateway: None, name: "s".to_owned(), dns_servers: vec![], ..first.clone() };
    store.change_subnet(&without).await.unwrap();
    assert_conflict(store_error(store.change_subnet(&without).await), "was changed by another");
    assert_eq!(store.subnet(first.id).await.unwrap(), SubnetRow { generation: 2, ..without });
    assert_refused(store.delete_subnet(first.id).await, Refusal::SubnetInUse(first.id));
    store.delete_port(made.id).await.unwrap();
    store.delete_subnet(first.id).await.unwrap();
    assert_not_found(store_error(store.delete_subnet(first.id).await), "subnet", &first.id.to_string());
}

pub async fn no_address_is_given_twice(database: Database) {
    let store = database.store().await;
    let net = network(1, "p1", None);
    store.create_network(&net).await.unwrap();
    store.create_subnet(&subnet(1, &net, "10.0.0.0/28")).await.unwrap();
    // Two controllers at once, each with connections of its own.
    let other = database.store().await;
    let make = async |number: u128| {
        let store = if number.is_multiple_of(2) { &store } else { &other };
        store.create_port(&port(number, &net)).await
    };
    let made: Vec<PortRow> = futures(20, make)
        .await
        .into_iter()
        .filter_map(|made| match made {
            Ok(port) => Some(port),
            Err(NetworkError::Refused(Refusal::NoAddressLeft(id))) if id == net.id => None,
            Err(error) => panic!("{error:?}"),
        })
        .collect();
    let given: BTreeSet<String> = made.iter().flat_map(addresses).collect();
    assert_eq!((made.len(), given.len()), (13, 13), "{given:?}");
    assert!(given.contains("10.0.0.2") && given.contains("10.0.0.14") && !given.contains("10.0.0.1"));
    assert_eq!(made.iter().map(|port| &port.mac).collect::<BTreeSet<_>>().len(), 13);
    let listed = every(|ask| {
        let store = &store;
        async move { store.list_ports(&PortFilter::default(), &PageAsk { limit: Some(5), ..ask }).await }
    })
    .await
    .unwrap();
    assert_eq!(listed.len(), 13, "one that was refused left a port behind");

    let of = |address: &str| made.iter().find(|port| addresses(port) == [address]).unwrap().id;
    store.delete_port(of("10.0.0.9")).await.unwrap();
    assert_eq!(addresses(&store.create_port(&port(30, &net)).await.unwrap()), ["10.0.0.9"], "the only free one");
    store.delete_port(of("10.0.0.14")).await.unwrap();
    store.delete_port(of("10.0.0.3")).await.unwrap();
    let behind = store.create_port(&port(31, &net)).await.unwrap();
    assert_eq!(addresses(&behind), ["10.0.0.14"], "an address rests as long as it can");
    assert_eq!(addresses(&store.create_port(&port(32, &net)).await.unwrap()), ["10.0.0.3"]);
    assert_refused(store.create_port(&port(33, &net)).await, Refusal::NoAddressLeft(net.id));
}

/// All of them at once.
async fn futures<T>(count: u128, make: impl AsyncFn(u128) -> T) -> Vec<T> {
    let mut running: Vec<_> = (1..=count).map(|number| Box::pin(make(number))).collect();
    let mut ended = Vec::new();
    std::future::poll_fn(|context| {
        running.retain_mut(|each| match each.as_mut().poll(context) {
            std::task::Poll::Ready(done) => {
                ended.push(done);
                false
            }
            std::task::Poll::Pending => true,
        });
        if running.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    ended
}

pub async fn a_port_gets_the_addresses_that_it_asks_for(database: Database) {
    let store = database.store().await;
    let net = network(1, "p1", None);
    store.create_network(&net).await.unwrap();
    let v4 = subnet(1, &net, "10.0.0.0/24");
    for each in [&v4, &subnet(2, &net, "fd00::/64")] {
        store.create_subnet(each).await.unwrap();
    }
    let wish = |text: &str| AddressWish { subnet: None, address: Some(ip(text)) };
    let mac = "52:54:00:00:00:01".to_owned();
    let asked = NewPort {
        addresses: Some(vec![wish("10.0.0.200"), wish("fd00::200")]),
        mac: Some(mac.clone()),
        ..port(1, &net)
    };
    let made = store.create_port(&asked).await.unwrap();
    assert_eq!(addresses(&made), ["10.0.0.200", "fd00::200"]);
    assert_eq!(store.port(made.id).await.unwrap(), made);
    let again = NewPort { addresses: Some(vec![wish("10.0.0.200")]), ..port(2, &net) };
    let taken = Refusal::AddressTaken { address: ip("10.0.0.200"), subnet: v4.id };
    assert_refused(store.create_port(&again).await, taken);
    let same_mac = NewPort { mac: Some(mac.clone()), ..port(2, &net) };
    assert_refused(store.create_port(&same_mac).await, Refusal::MacTaken { mac, network: net.id });
    assert_not_found(store.port(PortId(uuid(2))).await, "port", &uuid(2).to_string());
    let bare = store.create_port(&NewPort { addresses: Some(vec![]), ..port(3, &net) }).await.unwrap();
    assert_eq!(addresses(&bare), [""; 0]);

    let keeps = PortRow { name: "new".to_owned(), device: "router".to_owned(), ..made.clone() };
    store.change_port(&PortChange { row: keeps.clone(), addresses: None }).await.unwrap();
    let stale = store.change_port(&PortChange { row: keeps.clone(), addresses: None }).await;
    assert_conflict(store_error(stale), "was changed by another");
    let read = store.port(made.id).await.unwrap();
    assert_eq!(read, PortRow { generation: 2, ..keeps });
    let swapped = Some(vec![wish("10.0.0.200"), wish("10.0.0.201")]);
    store.change_port(&PortChange { row: read, addresses: swapped }).await.unwrap();
    let read = store.port(made.id).await.unwrap();
    assert_eq!(addresses(&read), ["10.0.0.200", "10.0.0.201"]);
    let outside = PortChange { row: read.clone(), addresses: Some(vec![wish("10.0.9.1")]) };
    assert_refused(store.change_port(&outside).await, Refusal::AddressOutsideNetwork(ip("10.0.9.1")));
    assert_eq!(store.port(made.id).await.unwrap(), read, "a refusal changed something");
}

pub async fn a_server_has_all_its_ports_or_none(database: Database) {
    let store = database.with_hosts().await;
    let (one, other) = (network(1, "p1", None), network(2, "p1", Some(2)));
    for (each, net) in [(&one, "10.0.0.0/24"), (&other, "10.0.1.0/24")] {
        store.create_network(each).await.unwrap();
        store.create_subnet(&subnet(each.id.0.as_u128(), each, net)).await.unwrap();
    }
    let given = store.create_port(&port(9, &one)).await.unwrap();
    let make = |number, on: &NetworkRow| PortWish::Make(Box::new(port(number, on)));
    let (vm, owner) = (instance(1, "vm", "h1"), "compute:nova");
    let device = vm.spec.id.to_string();
    let wishes = [make(3, &other), PortWish::Take(given.id), make(1, &one)];
    let ports = store.claim_ports(&device, owner, &wishes, NOW_US + 5).await.unwrap();
    let seen = |ports: &[PortRow]| ports.iter().map(|port| (port.name.clone(), port.hold)).collect::<Vec<_>>();
    let want = [("p3", PortHold::Made), ("p9", PortHold::Bound), ("p1", PortHold::Made)];
    assert_eq!(seen(&ports), want.map(|(name, hold)| (name.to_owned(), hold)));
    assert_eq!(ports.iter().flat_map(addresses).collect::<Vec<_>>(), ["10.0.1.2", "10.0.0.2", "10.0.0.3"]);
    assert!(ports.iter().all(|port| port.device == device && port.device_owner == owner));
    assert_eq!(store.ports_of(&[device.clone(), "other".to_owned()]).await.unwrap(), ports);
    assert_refused(
        store.delete_port(given.id).await,
        Refusal::PortInUse { port: given.id, network: one.id, device: device.clone() },
    );

    let second = store.claim_ports("vm2", owner, &[make(4, &other), PortWish::Take(given.id)], NOW_US).await;
    assert_refused(second, Refusal::PortInUse { port: given.id, network: one.id, device: device.clone() });
    assert!(store.ports_of(&["vm2".to_owned()]).await.unwrap().is_empty(), "half of the ports stayed");
    let absent = store.claim_ports("vm2", owner, &[PortWish::Take(PortId(uuid(77)))], NOW_US).await;
    assert_not_found(store_error(absent), "port", &uuid(77).to_string());

    assert_eq!(store.claims_of_nobody(NOW_US + 6).await.unwrap(), std::slice::from_ref(&device));
    assert!(store.claims_of_nobody(NOW_US + 5).await.unwrap().is_empty(), "it may still be in the making");
    store.create_instance(&vm, |_| Ok(())).await.unwrap();
    assert!(store.claims_of_nobody(NOW_US + 6).await.unwrap().is_empty());

    store.release_ports(&device, NOW_US + 7).await.unwrap();
    assert!(store.ports_of(&[device]).await.unwrap().is_empty());
    let free = store.port(given.id).await.unwrap();
    assert_eq!(free, PortRow { generation: 3, updated_us: NOW_US + 7, ..given });
    let left = store.list_ports(&PortFilter { network: None, project: Some(project("p1")) }, &ALL).await.unwrap();
    assert_eq!(left.items, std::slice::from_ref(&free));
    let on_other = PortFilter { network: Some(other.id), project: None };
    assert!(store.list_ports(&on_other, &ALL).await.unwrap().items.is_empty());
    store.delete_port(free.id).await.unwrap();
}

pub async fn security_groups(database: Database) {
    let store = database.store().await;
    let (one, second) = (group(1, "p1", true), group(2, "p1", true));
    let (rules, others) = ([rule(1, &one)], [rule(2, &second)]);
    let found =
        tokio::join!(store.default_security_group(&one, &rules), store.default_security_group(&second, &others));
    let (found, same) = (found.0.unwrap(), found.1.unwrap());
    assert_eq!(found, same, "a project has two default groups");
    let of_p1 = store.list_security_group_rules(Some(&project("p1")), &ALL).await.unwrap().items;
    assert_eq!(of_p1.iter().map(|rule| rule.group).collect::<Vec<_>>(), [found.id]);

    let web = SecurityGroupRow { name: "web".to_owned(), ..group(5, "p1", false) };
    store.create_security_group(&web, &[]).await.unwrap();
    let ssh = SecurityGroupRuleRow { remote_prefix: None, remote_group: Some(found.id), ..rule(6, &web) };
    store.create_security_group_rule(&ssh).await.unwrap();
    let twice = SecurityGroupRuleRow { id: SecurityGroupRuleId(uuid(7)), description: "x".to_owned(), ..ssh.clone() };
    assert_refused(store.create_security_group_rule(&twice).await, Refusal::RuleExists);
    let nobody = SecurityGroupId(uuid(99));
    let dangling = SecurityGroupRuleRow { id: twice.id, remote_group: Some(nobody), ..ssh.clone() };
    assert_refused(store.create_security_group_rule(&dangling).await, Refusal::NoGroup(nobody));
    let homeless = SecurityGroupRuleRow { id: twice.id, group: nobody, ..ssh.clone() };
    assert_not_found(
        store_error(store.create_security_group_rule(&homeless).await),
        "security group",
        &nobody.to_string(),
    );
    assert_eq!(store.security_group_rule(ssh.id).await.unwrap(), ssh);

    let read = store.security_group(web.id).await.unwrap();
    store.change_security_group(&SecurityGroupRow { name: "www".to_owned(), ..read.clone() }).await.unwrap();
    assert_conflict(store.change_security_group(&read).await, "was changed by another");
    assert_eq!(store.list_security_groups(Some(&project("p2")), &ALL).await.unwrap().items, []);
    assert_eq!(store.list_security_groups(None, &ALL).await.unwrap().items.len(), 2);

    let net = network(1, "p1", None);
    store.create_network(&net).await.unwrap();
    let in_group = store.create_port(&NewPort { groups: vec![web.id, web.id], ..port(1, &net) }).await.unwrap();
    assert_eq!(store.port(in_group.id).await.unwrap(), in_group);
    assert_refused(store.delete_security_group(web.id).await, Refusal::GroupInUse(web.id));
    let stranger = NewPort { groups: vec![nobody], ..port(2, &net) };
    assert_refused(store.create_port(&stranger).await, Refusal::NoGroup(nobody));
    let out = PortChange { row: PortRow { groups: vec![], ..in_group.clone() }, addresses: None };
    store.change_port(&out).await.unwrap();
    store.delete_security_group(web.id).await.unwrap();
    assert_not_found(store.security_group_rule(ssh.id).await, "security group rule", &ssh.id.to_string());
    assert_not_found(store_error(store.delete_security_group(web.id).await), "security group", &web.id.to_string());
    let first = of_p1[0].id;
    store.delete_security_group_rule(first).await.unwrap();
    assert_not_found(store.delete_security_group_rule(first).await, "security group rule", &first.to_string());
}
