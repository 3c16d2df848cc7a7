//! What a server asks for, against a store of its own.

use whimbrel_core::network::subnet::{cidr, default_gateway, default_pools};
use whimbrel_store::SecurityGroupRow;

use super::*;

struct Ground {
    store: Store,
    project: ProjectId,
    _dir: tempfile::TempDir,
}

const NOW_US: i64 = 1_800_000_000_000_000;

impl Ground {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&format!("sqlite:{}", dir.path().join("w.db").display())).await.unwrap();
        Ground { store, project: "p1".parse().unwrap(), _dir: dir }
    }

    /// `net`: its only subnet.
    async fn network(&self, name: &str, of: &str, vlan: u16, net: Option<&str>) -> NetworkRow {
        let row = NetworkRow {
            id: NetworkId(Uuid::now_v7()),
            project: of.parse().unwrap(),
            name: name.to_owned(),
            description: String::new(),
            bridge: "br0".to_owned(),
            vlan: Some(vlan).filter(|vlan| *vlan > 0),
            mtu: 1500,
            shared: name.contains("shared"),
            external: name.contains("external"),
            admin_up: !name.contains("down"),
            generation: 1,
            created_us: NOW_US,
            updated_us: NOW_US,
        };
        self.store.create_network(&row).await.unwrap();
        if let Some(net) = net {
            let net = cidr(net).unwrap();
            let gateway = default_gateway(&net);
            let subnet = SubnetRow {
                id: SubnetId(Uuid::now_v7()),
                network: row.id,
                project: row.project.clone(),
                name: String::new(),
                description: String::new(),
                cidr: net,
                gateway,
                pools: default_pools(&net, gateway),
                dns_servers: vec!["192.0.2.53".parse().unwrap()],
                routes: vec![],
                dhcp: false,
                generation: 1,
                created_us: NOW_US,
                updated_us: NOW_US,
            };
            self.store.create_subnet(&subnet).await.unwrap();
        }
        row
    }

    async fn port(&self, on: &NetworkRow, of: &str) -> PortId {
        let wanted = Wanted {
            server: InstanceId(Uuid::nil()),
            project: &of.parse().unwrap(),
            is_admin: false,
            networks: &Networks::None,
            groups: &[],
            now_us: NOW_US,
        };
        let new = NewPort { device: String::new(), hold: PortHold::Free, ..new_port(&wanted, on, None, &[]) };
        self.store.create_port(&new).await.unwrap().id
    }

    async fn ask(&self, number: u128, networks: Networks) -> Result<Vec<Attached>, Fault> {
        self.ask_in(number, networks, &[]).await
    }

    async fn ask_in(&self, number: u128, networks: Networks, groups: &[&str]) -> Result<Vec<Attached>, Fault> {
        let groups: Vec<String> = groups.iter().map(|name| (*name).to_owned()).collect();
        let wanted = Wanted {
            server: server(number),
            project: &self.project,
            is_admin: false,
            networks: &networks,
            groups: &groups,
            now_us: NOW_US,
        };
        allocate(&self.store, &wanted).await
    }
}

fn server(number: u128) -> InstanceId {
    InstanceId(Uuid::from_u128(number))
}

fn on(network: &NetworkRow, fixed_ip: Option<&str>) -> NetworkRequest {
    let fixed_ip = fixed_ip.map(|text| text.parse().unwrap());
    NetworkRequest { target: NetworkTarget::Network(network.id.0), fixed_ip, tag: None }
}

fn by(port: PortId) -> NetworkRequest {
    NetworkRequest { target: NetworkTarget::Port(port.0), fixed_ip: None, tag: None }
}

#[track_caller]
fn refused(found: Result<Vec<Attached>, Fault>, status: u16, part: &str) {
    let fault = found.expect_err(part);
    assert!(fault.status == status && fault.message.contains(part), "{fault:?}");
}

#[tokio::test]
async fn auto_takes_the_only_network() {
    let ground = Ground::new().await;
    assert_eq!(ground.ask(1, Networks::Auto).await, Ok(vec![]), "there is no network");
    ground.network("other's", "p2", 1, Some("10.9.0.0/24")).await;
    ground.network("external", "p2", 2, Some("10.8.0.0/24")).await;
    ground.network("shared down", "p2", 3, Some("10.7.0.0/24")).await;
    assert_eq!(ground.ask(1, Networks::Auto).await, Ok(vec![]), "none is for this project");
    let shared = ground.network("shared", "p2", 0, None).await;
    refused(ground.ask(1, Networks::Auto).await, 400, "requires a subnet in order to boot instances on.");
    ground.store.delete_network(shared.id).await.unwrap();
    let shared = ground.network("shared", "p2", 0, Some("10.0.0.0/24")).await;
    for (number, wish) in [(1, Networks::Auto), (2, Networks::Unsaid), (3, Networks::Listed(vec![]))] {
        let nics = ground.ask(number, wish).await.unwrap();
        assert_eq!((nics.len(), nics[0].network, nics[0].vlan), (1, shared.id, None));
        assert_eq!(nics[0].leases[0].address.to_string(), format!("10.0.0.{}", number + 1));
        assert_eq!(nics[0].leases[0].gateway, Some("10.0.0.1".parse().unwrap()));
        assert_eq!(nics[0].nic(), Nic { mac: nics[0].mac.clone(), bridge: "br0".to_owned(), vlan: None });
        assert_eq!(nics[0].groups.len(), 1, "the default group");
    }
    assert_eq!(ground.ask(4, Networks::None).await, Ok(vec![]));
    ground.network("mine", "p1", 4, Some("10.1.0.0/24")).await;
    let several = "Multiple possible networks found, use a Network ID to be more specific.";
    refused(ground.ask(5, Networks::Auto).await, 409, several);
}

#[tokio::test]
async fn what_was_asked_for_is_taken_shown_and_given_back() {
    let ground = Ground::new().await;
    let (one, other) = (
        ground.network("one", "p1", 5, Some("10.0.0.0/24")).await,
        ground.network("other", "p1", 6, Some("10.1.0.0/30")).await,
    );
    let port = ground.port(&one, "p1").await;
    let wish = Networks::Listed(vec![on(&other, None), by(port), on(&one, Some("10.0.0.77"))]);
    let nics = ground.ask(1, wish.clone()).await.unwrap();
    let seen: Vec<(Option<u16>, String)> =
        nics.iter().map(|nic| (nic.vlan, nic.leases[0].address.to_string())).collect();
    let want = [(Some(6), "10.1.0.2"), (Some(5), "10.0.0.2"), (Some(5), "10.0.0.77")];
    assert_eq!(seen, want.map(|(vlan, address)| (vlan, address.to_owned())));
    let of = ports_of(&ground.store, &[server(1), server(2)]).await.unwrap();
    assert_eq!(of, BTreeMap::from([(server(1), nics)]));

    refused(ground.ask(2, Networks::Listed(vec![by(port)])).await, 409, &format!("Port {port} is still in use."));
    refused(ground.ask(2, Networks::Listed(vec![on(&other, None)])).await, 409, "No fixed IP addresses available");
    let taken = Networks::Listed(vec![on(&one, Some("10.0.0.77"))]);
    refused(ground.ask(2, taken).await, 400, "Fixed IP address 10.0.0.77 is already in use");
    assert!(ports_of(&ground.store, &[server(2)]).await.unwrap().is_empty(), "a refusal left ports behind");

    release(&ground.store, server(1), NOW_US).await.unwrap();
    release(&ground.store, server(1), NOW_US).await.unwrap();
    assert!(ports_of(&ground.store, &[server(1)]).await.unwrap().is_empty());
    assert_eq!(ground.ask(2, wish).await.unwrap()[1].port, port);
}

#[tokio::test]
async fn what_is_not_there_or_not_ours_is_refused() {
    let ground = Ground::new().await;
    let mine = ground.network("mine", "p1", 1, Some("10.0.0.0/24")).await;
    let bare = ground.network("bare", "p1", 2, None).await;
    let theirs = ground.network("theirs", "p2", 3, Some("10.2.0.0/24")).await;
    let external = ground.network("external", "p2", 4, Some("10.3.0.0/24")).await;
    let check = async |request: NetworkRequest, status: u16, part: &str| {
        refused(ground.ask(1, Networks::Listed(vec![on(&mine, None), request])).await, status, part);
    };
    let absent = NetworkRow { id: NetworkId(Uuid::nil()), ..mine.clone() };
    check(on(&absent, None), 400, &format!("Network {} could not be found.", Uuid::nil())).await;
    check(on(&theirs, None), 400, "could not be found.").await;
    check(on(&external, None), 403, "It is not allowed to create an interface on external network").await;
    check(on(&bare, None), 400, "requires a subnet").await;
    check(on(&mine, Some("10.9.0.1")), 400, "10.9.0.1 is not a valid ip address").await;
    check(by(PortId(Uuid::nil())), 400, "could not be found.").await;
    check(by(ground.port(&theirs, "p2").await), 400, "could not be found.").await;
    let nine = Networks::Listed(vec![on(&mine, None); 9]);
    refused(ground.ask(1, nine).await, 400, "9 networks were asked for");
    let listed = || Networks::Listed(vec![on(&mine, None)]);
    refused(ground.ask_in(1, listed(), &["web"]).await, 400, "Security group web not found for project p1.");
    for number in [1_u128, 2] {
        let group = SecurityGroupRow {
            id: SecurityGroupId(Uuid::from_u128(number)),
            project: ground.project.clone(),
            name: "web".to_owned(),
            description: String::new(),
            is_default: false,
            generation: 1,
            created_us: NOW_US,
            updated_us: NOW_US,
        };
        ground.store.create_security_group(&group, &[]).await.unwrap();
    }
    refused(ground.ask_in(1, listed(), &["web"]).await, 409, "Multiple security groups found");
    let by_id = Uuid::from_u128(2).to_string();
    let nics = ground.ask_in(1, listed(), &[&by_id, "default"]).await.unwrap();
    assert_eq!(nics[0].groups.len(), 2);
}
