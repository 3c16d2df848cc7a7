//! The Network API as its clients use it: over HTTPS, with what they send.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::cloud::{Cloud, on_project};

/// A cloud with an administrator, and users of two projects.
struct Site {
    cloud: Cloud,
    admin: String,
    alice: String,
    bob: String,
    projects: [String; 2],
}

impl Site {
    async fn new() -> Self {
        let cloud = Cloud::new().await;
        let admin = cloud.admin().await;
        let (alice, one) = user(&cloud, &admin, "alice", "member").await;
        let (bob, other) = user(&cloud, &admin, "bob", "reader").await;
        Site { cloud, admin, alice, bob, projects: [one, other] }
    }

    async fn call(&self, method: Method, path: &str, token: &str, body: Option<Value>, want: u16) -> Value {
        let reply = self.cloud.network(method.clone(), &format!("/v2.0{path}"), token, body.clone()).await;
        assert_eq!(reply.status, want, "{method} {path} {body:?}: {}", reply.body);
        if want >= 400 && want != 401 {
            let error = &reply.body["NeutronError"];
            assert!(error["message"].is_string() && error["type"].is_string() && error["detail"] == "", "{error}");
        }
        reply.body
    }

    async fn get(&self, path: &str, token: &str) -> Value {
        self.call(Method::GET, path, token, None, 200).await
    }

    /// By an administrator; the thing itself.
    async fn make(&self, path: &str, kind: &str, fields: Value) -> Value {
        self.call(Method::POST, path, &self.admin, Some(json!({ kind: fields })), 201).await[kind].clone()
    }

    /// Its id.
    async fn network(&self, fields: Value) -> String {
        text(&self.make("/networks", "network", fields).await["id"])
    }

    async fn subnet(&self, network: &str, cidr: &str) -> Value {
        let version = if cidr.contains(':') { 6 } else { 4 };
        self.make("/subnets", "subnet", json!({"network_id": network, "cidr": cidr, "ip_version": version})).await
    }

    async fn refused(&self, method: Method, path: &str, token: &str, body: Option<Value>, want: (u16, &str)) -> String {
        let body = self.call(method, path, token, body, want.0).await;
        assert_eq!(body["NeutronError"]["type"], want.1, "{path}: {body}");
        text(&body["NeutronError"]["message"])
    }
}

/// The token, and the id of a project of that user's own.
async fn user(cloud: &Cloud, admin: &str, name: &str, role: &str) -> (String, String) {
    let project = cloud.make(admin, "project", json!({ "name": format!("of-{name}") })).await;
    let user = cloud.make(admin, "user", json!({"name": name, "password": "a secret"})).await;
    let role = cloud.role(admin, role).await;
    let grant = format!("/v3/projects/{project}/users/{user}/roles/{role}");
    assert_eq!(cloud.status(Method::PUT, &grant, admin).await, 204);
    (cloud.log_in(name, "a secret", on_project(&format!("of-{name}"))).await.token.unwrap(), project)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

fn names(list: &Value, key: &str) -> String {
    let mut names: Vec<String> = list[key].as_array().unwrap().iter().map(|item| text(&item["name"])).collect();
    names.sort();
    names.join(" ")
}

fn flat(name: &str, bridge: &str, shared: bool) -> Value {
    json!({"name": name, "shared": shared, "admin_state_up": true, "provider:network_type": "flat",
           "provider:physical_network": bridge})
}

#[tokio::test]
async fn a_network_is_an_administrators_and_seen_by_those_who_may_use_it() {
    let site = Site::new().await;
    let shared = site.network(flat("shared", "br0", true)).await;
    let vlan = json!({"name": "theirs", "provider:network_type": "vlan", "provider:physical_network": "br0",
                      "provider:segmentation_id": 7, "project_id": site.projects[1]});
    let theirs = site.network(vlan).await;
    assert_eq!(names(&site.get("/networks", &site.admin).await, "networks"), "shared theirs");
    assert_eq!(names(&site.get("/networks", &site.alice).await, "networks"), "shared");
    assert_eq!(names(&site.get("/networks", &site.bob).await, "networks"), "shared theirs");
    assert_eq!(names(&site.get("/networks?name=theirs&fields=name", &site.alice).await, "networks"), "");
    let shown = site.get(&format!("/networks/{shared}"), &site.alice).await["network"].clone();
    assert!(shown.get("provider:physical_network").is_none() && shown["status"] == "ACTIVE", "{shown}");
    let whole = site.get(&format!("/networks/{theirs}"), &site.admin).await["network"].clone();
    assert_eq!((&whole["provider:segmentation_id"], &whole["mtu"]), (&json!(7), &json!(1500)));

    let (alice, bob) = (&site.alice, &site.bob);
    let create = async |token: &str, fields: Value, want: (u16, &str)| {
        site.refused(Method::POST, "/networks", token, Some(json!({ "network": fields })), want).await
    };
    create(alice, flat("mine", "br1", false), (403, "PolicyNotAuthorized")).await;
    let told = create(alice, json!({"name": "mine"}), (503, "NoNetworkAvailable")).await;
    assert!(told.contains("No tenant network is available") && told.contains("hint:"), "{told}");
    create(bob, json!({"name": "mine"}), (403, "PolicyNotAuthorized")).await;
    create(&site.admin, flat("again", "br0", false), (409, "FlatNetworkInUse")).await;
    let of = |id: &str| format!("/networks/{id}");
    let rename = || Some(json!({"network": {"name": "x"}}));
    site.refused(Method::GET, &of(&theirs), alice, None, (404, "NetworkNotFound")).await;
    site.refused(Method::DELETE, &of(&theirs), alice, None, (404, "NetworkNotFound")).await;
    site.refused(Method::PUT, &of(&shared), alice, rename(), (403, "PolicyNotAuthorized")).await;
    site.refused(Method::DELETE, &of(&shared), alice, None, (403, "PolicyNotAuthorized")).await;
    site.refused(Method::DELETE, &of(&theirs), bob, None, (403, "PolicyNotAuthorized")).await;
    site.refused(Method::GET, &of("shared"), &site.admin, None, (404, "NetworkNotFound")).await;

    let update = json!({"network": {"name": "new", "shared": true, "mtu": 9000}});
    let told = site.call(Method::PUT, &of(&theirs), &site.admin, Some(update), 200).await;
    assert_eq!((&told["network"]["mtu"], &told["network"]["revision_number"]), (&json!(9000), &json!(2)));
    assert_eq!(names(&site.get("/networks", alice).await, "networks"), "new shared");
    site.call(Method::DELETE, &of(&theirs), &site.admin, None, 204).await;
    site.refused(Method::DELETE, &of(&theirs), &site.admin, None, (404, "NetworkNotFound")).await;
    assert_eq!(site.cloud.network(Method::GET, "/v2.0/networks", "0000", None).await.status, 401);
}

#[tokio::test]
async fn subnets_and_ports_are_given_out_and_hold_what_they_stand_on() {
    let site = Site::new().await;
    let net = site.network(flat("shared", "br0", true)).await;
    let subnet = site.subnet(&net, "10.0.0.0/24").await;
    let id = text(&subnet["id"]);
    assert_eq!(subnet["gateway_ip"], "10.0.0.1");
    assert_eq!(subnet["allocation_pools"], json!([{"start": "10.0.0.2", "end": "10.0.0.254"}]));
    site.subnet(&net, "fd00::/64").await;
    let shown = site.get(&format!("/networks/{net}"), &site.alice).await;
    assert_eq!(shown["network"]["subnets"].as_array().unwrap().len(), 2);
    let listed = site.get("/subnets?cidr=10.0.0.0/24&ip_version=4", &site.alice).await;
    assert_eq!(listed["subnets"][0]["id"], json!(id));
    let on_it = |cidr: &str| json!({"subnet": {"network_id": net, "cidr": cidr, "ip_version": 4}});
    let (post, put, delete) = (Method::POST, Method::PUT, Method::DELETE);
    let told =
        site.refused(post.clone(), "/subnets", &site.admin, Some(on_it("10.0.0.128/25")), (400, "InvalidInput")).await;
    assert!(told.contains("overlaps with another subnet"), "{told}");
    site.refused(post.clone(), "/subnets", &site.alice, Some(on_it("10.1.0.0/24")), (403, "PolicyNotAuthorized")).await;

    let make = async |token: &str, fields: Value, want: u16| {
        let mut port = json!({ "network_id": net });
        port.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        site.call(Method::POST, "/ports", token, Some(json!({ "port": port })), want).await["port"].clone()
    };
    let port = make(&site.alice, json!({"name": "p"}), 201).await;
    let addresses: Vec<&Value> = port["fixed_ips"].as_array().unwrap().iter().map(|ip| &ip["ip_address"]).collect();
    assert_eq!(addresses, ["10.0.0.2", "fd00::2"]);
    assert!(text(&port["mac_address"]).starts_with("52:54:00:") && port["project_id"] == site.projects[0], "{port}");
    assert!(port.get("binding:host_id").is_none() && port["status"] == "DOWN", "{port}");
    assert_eq!(port["security_groups"].as_array().unwrap().len(), 1, "the default group");
    let fixed = make(&site.alice, json!({"fixed_ips": [{"ip_address": "10.0.0.99"}]}), 201).await;
    assert_eq!(fixed["fixed_ips"], json!([{"subnet_id": id, "ip_address": "10.0.0.99"}]));
    make(&site.alice, json!({"fixed_ips": [{"ip_address": "10.0.0.99"}]}), 409).await;
    make(&site.alice, json!({"fixed_ips": [{"ip_address": "10.9.0.1"}]}), 400).await;
    make(&site.alice, json!({"mac_address": "52:54:00:00:00:09"}), 403).await;
    make(&site.admin, json!({"mac_address": "52:54:00:00:00:09"}), 201).await;
    make(&site.admin, json!({"mac_address": "52:54:00:00:00:09"}), 409).await;
    make(&site.alice, json!({"binding:host_id": "h1"}), 403).await;
    make(&site.alice, json!({"project_id": site.projects[1]}), 403).await;
    make(&site.bob, json!({}), 403).await;
    make(&site.alice, json!({"security_groups": ["00000000-0000-0000-0000-000000000000"]}), 404).await;

    let of = format!("/ports/{}", text(&port["id"]));
    site.refused(Method::GET, &of, &site.bob, None, (404, "PortNotFound")).await;
    assert_eq!(site.get("/ports", &site.bob).await["ports"], json!([]));
    assert_eq!(site.get(&format!("/ports?network_id={net}&name=p"), &site.alice).await["ports"][0]["id"], port["id"]);
    let by_address = site.get("/ports?fixed_ips=ip_address%3D10.0.0.99", &site.alice).await;
    assert_eq!(by_address["ports"][0]["id"], fixed["id"]);
    let update = Some(json!({"port": {"name": "q", "device_id": "d", "fixed_ips": [{"subnet_id": id}]}}));
    let told = site.call(put, &of, &site.alice, update, 200).await["port"].clone();
    assert_eq!((told["fixed_ips"].as_array().unwrap().len(), &told["device_id"]), (1, &json!("d")));
    assert_eq!(site.get("/ports?device_id=d", &site.alice).await["ports"].as_array().unwrap().len(), 1);
    assert_eq!(site.get("/ports?device_id=d", &site.bob).await["ports"], json!([]));

    let (network, subnet) = (format!("/networks/{net}"), format!("/subnets/{id}"));
    site.refused(delete.clone(), &network, &site.admin, None, (409, "NetworkInUse")).await;
    site.refused(delete.clone(), &subnet, &site.admin, None, (409, "SubnetInUse")).await;
    for port in site.get("/ports", &site.admin).await["ports"].as_array().unwrap() {
        site.call(delete.clone(), &format!("/ports/{}", text(&port["id"])), &site.admin, None, 204).await;
    }
    site.call(delete.clone(), &subnet, &site.admin, None, 204).await;
    site.call(delete, &network, &site.admin, None, 204).await;
}

#[tokio::test]
async fn many_at_once_get_an_address_each_or_a_refusal() {
    let site = Site::new().await;
    let net = site.network(flat("shared", "br0", true)).await;
    site.subnet(&net, "10.0.0.0/28").await;
    let body = json!({"port": {"network_id": net}});
    let asked = (0..50).map(|_| site.cloud.network(Method::POST, "/v2.0/ports", &site.alice, Some(body.clone())));
    let mut given = BTreeSet::new();
    let mut refused = 0;
    for reply in join_all(asked).await {
        match reply.status.as_u16() {
            201 => assert!(given.insert(text(&reply.body["port"]["fixed_ips"][0]["ip_address"])), "{}", reply.body),
            409 => {
                assert_eq!(reply.body["NeutronError"]["type"], "IpAddressGenerationFailure");
                refused += 1;
            }
            other => panic!("{other}: {}", reply.body),
        }
    }
    assert_eq!((given.len(), refused), (13, 37), "{given:?}");
    assert_eq!(site.get("/ports", &site.admin).await["ports"].as_array().unwrap().len(), 13);
}

#[tokio::test]
async fn bad_input_is_refused_and_changes_nothing() {
    let site = Site::new().await;
    let net = site.network(flat("shared", "br0", true)).await;
    let subnet = site.subnet(&net, "10.0.0.0/24").await;
    let everything = async || {
        let mut all = Vec::new();
        for path in ["/networks", "/subnets", "/ports", "/security-groups", "/security-group-rules"] {
            all.push(site.get(path, &site.admin).await);
        }
        all
    };
    everything().await;
    let before = everything().await;
    let bad = async |method: Method, path: &str, body: Value, want: u16| {
        site.call(method, path, &site.admin, Some(body), want).await;
    };
    let (of_net, of_subnet) = (format!("/networks/{net}"), format!("/subnets/{}", text(&subnet["id"])));
    for body in [json!([]), json!(null), json!("x"), json!({}), json!({"networks": []}), json!({"network": 5})] {
        bad(Method::POST, "/networks", body.clone(), 400).await;
        bad(Method::PUT, &of_net, body, 400).await;
    }
    bad(Method::POST, "/networks", json!({"network": {"colour": "red"}}), 400).await;
    bad(Method::POST, "/networks", json!({"network": {"name": "a".repeat(256)}}), 400).await;
    bad(Method::POST, "/networks", json!({"network": {"id": "x"}}), 400).await;
    bad(Method::PUT, &of_net, json!({"network": {"provider:network_type": "vlan"}}), 400).await;
    bad(Method::PUT, &of_net, json!({"network": {"mtu": 1}}), 400).await;
    let of = |fields: Value| {
        let mut subnet = json!({"network_id": net, "cidr": "10.1.0.0/24", "ip_version": 4});
        subnet.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        json!({ "subnet": subnet })
    };
    bad(Method::POST, "/subnets", of(json!({"gateway_ip": "10.2.0.1"})), 400).await;
    bad(Method::POST, "/subnets", of(json!({"cidr": "10.0.0.0/25"})), 400).await;
    bad(Method::POST, "/subnets", of(json!({"network_id": "00000000-0000-0000-0000-000000000000"})), 404).await;
    let pool = json!([{"start": "10.1.0.1", "end": "10.1.0.9"}]);
    bad(Method::POST, "/subnets", of(json!({ "allocation_pools": pool })), 409).await;
    bad(Method::PUT, &of_subnet, json!({"subnet": {"gateway_ip": "10.0.0.9"}}), 409).await;
    bad(Method::PUT, &of_subnet, json!({"subnet": {"cidr": "10.1.0.0/24"}}), 400).await;
    bad(Method::POST, "/ports", json!({"port": {}}), 400).await;
    bad(Method::POST, "/ports", json!({"port": {"network_id": "00000000-0000-0000-0000-000000000000"}}), 404).await;
    bad(Method::POST, "/ports", json!({"port": {"network_id": net, "fixed_ips": [{}]}}), 400).await;
    bad(Method::POST, "/security-group-rules", json!({"security_group_rule": {"direction": "ingress"}}), 400).await;
    bad(Method::PATCH, "/networks", json!({}), 405).await;
    bad(Method::GET, "/agents", json!({}), 404).await;
    bad(Method::POST, "/routers", json!({}), 405).await;
    for query in ["colour=red", "sort_key=colour", "limit=-1", "marker=nobody", "shared=perhaps"] {
        let want = if query.starts_with("marker") { 404 } else { 400 };
        site.call(Method::GET, &format!("/networks?{query}"), &site.admin, None, want).await;
    }
    site.call(Method::POST, "/networks", &site.admin, None, 415).await;
    assert_eq!(everything().await, before);
}

#[tokio::test]
async fn a_project_has_a_default_group_from_the_first_look_on() {
    let site = Site::new().await;
    let path = format!("/security-groups?project_id={}&name=default", site.projects[0]);
    let found = site.get(&path, &site.admin).await["security_groups"].clone();
    assert_eq!(found.as_array().unwrap().len(), 1, "{found}");
    assert_eq!(found[0]["security_group_rules"].as_array().unwrap().len(), 4);
    let own = site.get("/security-groups", &site.alice).await["security_groups"].clone();
    assert_eq!(own, found);
    let default = format!("/security-groups/{}", text(&found[0]["id"]));
    site.refused(Method::GET, &default, &site.bob, None, (404, "SecurityGroupNotFound")).await;
    let delete = Method::DELETE;
    site.refused(delete.clone(), &default, &site.alice, None, (409, "SecurityGroupCannotRemoveDefault")).await;
    let named = |name: &str| Some(json!({"security_group": {"name": name}}));
    let taken = (409, "SecurityGroupDefaultAlreadyExists");
    site.refused(Method::POST, "/security-groups", &site.alice, named("default"), taken).await;
    site.refused(Method::POST, "/security-groups", &site.bob, named("web"), (403, "PolicyNotAuthorized")).await;
    let made = site.call(Method::POST, "/security-groups", &site.alice, named("web"), 201).await;
    let web = text(&made["security_group"]["id"]);
    let rule = json!({"security_group_rule": {"security_group_id": web, "direction": "ingress", "protocol": "tcp",
                      "port_range_min": 22, "port_range_max": 22, "remote_ip_prefix": "0.0.0.0/0"}});
    let ssh = site.call(Method::POST, "/security-group-rules", &site.alice, Some(rule.clone()), 201).await;
    let twice = (409, "SecurityGroupRuleExists");
    site.refused(Method::POST, "/security-group-rules", &site.alice, Some(rule), twice).await;
    let rules = site.get(&format!("/security-group-rules?security_group_id={web}"), &site.alice).await;
    assert_eq!(rules["security_group_rules"].as_array().unwrap().len(), 3);
    let of_rule = format!("/security-group-rules/{}", text(&ssh["security_group_rule"]["id"]));
    site.refused(delete.clone(), &of_rule, &site.bob, None, (404, "SecurityGroupRuleNotFound")).await;
    site.call(delete.clone(), &of_rule, &site.alice, None, 204).await;
    let of_web = format!("/security-groups/{web}");
    let told = site.call(Method::PUT, &of_web, &site.alice, named("www"), 200).await;
    assert_eq!(told["security_group"]["name"], "www");
    site.call(delete.clone(), &of_web, &site.alice, None, 204).await;
    site.call(delete, &default, &site.admin, None, 204).await;
    let again = site.get(&path, &site.admin).await["security_groups"].clone();
    assert_ne!(again[0]["id"], found[0]["id"]);
}

#[tokio::test]
async fn the_service_tells_what_it_has() {
    let site = Site::new().await;
    let versions = site.cloud.network(Method::GET, "", "", None).await;
    let link = &versions.body["versions"][0]["links"][0]["href"];
    assert_eq!(link, &json!(format!("{}/network/v2.0/", site.cloud.place.url)));
    assert_eq!(site.cloud.network(Method::GET, "/", "", None).await.body, versions.body);
    let resources = site.get("/", &site.bob).await;
    assert_eq!(resources["resources"][0]["collection"], "networks");
    let listed = site.get("/extensions", &site.bob).await;
    let aliases: Vec<&str> =
        listed["extensions"].as_array().unwrap().iter().map(|each| each["alias"].as_str().unwrap()).collect();
    assert!(aliases.contains(&"provider") && !aliases.contains(&"router"), "{aliases:?}");
    site.get("/extensions/security-group", &site.bob).await;
    site.refused(Method::GET, "/extensions/Availability%20Zone", &site.bob, None, (404, "HTTPNotFound")).await;
    assert_eq!(site.get("/availability_zones", &site.bob).await["availability_zones"][0]["state"], "available");
    for (path, key) in [("/routers", "routers"), ("/floatingips", "floatingips")] {
        assert_eq!(site.get(path, &site.bob).await[key], json!([]));
    }
    let quota = site.get(&format!("/quotas/{}", site.projects[1]), &site.bob).await;
    assert_eq!((&quota["quota"]["network"], &quota["quota"]["router"]), (&json!(-1), &json!(0)));
    let of_other = format!("/quotas/{}", site.projects[0]);
    site.refused(Method::GET, &of_other, &site.bob, None, (403, "PolicyNotAuthorized")).await;
    for number in 1..=3 {
        let fields = json!({"name": format!("n{number}"), "provider:network_type": "vlan",
                            "provider:physical_network": "br0", "provider:segmentation_id": number});
        site.network(fields).await;
    }
    let page = site.get("/networks?limit=2&sort_key=name&sort_dir=desc", &site.admin).await;
    assert_eq!(names(&page, "networks"), "n2 n3");
    let next = text(&page["networks_links"][0]["href"]);
    let path = next.strip_prefix(&format!("{}/network/v2.0", site.cloud.place.url)).unwrap();
    assert_eq!(names(&site.get(path, &site.admin).await, "networks"), "n1");
}
