//! Servers that are suspended and resumed, and security groups of servers.

use reqwest::Method;
use serde_json::{Value, json};
use whimbrel_core::failure::{Failure, FailureCode};

use crate::{compute_servers::Ground, place::until};

/// The newest action's event, when it is over.
pub async fn event(ground: &Ground, id: &str, action: &str) -> Value {
    until(&format!("the end of {action}"), async || {
        let list = format!("/servers/{id}/os-instance-actions");
        let actions = ground.call(Method::GET, &list, "2.96", None, 200).await;
        let newest = actions["instanceActions"].as_array()?.iter().find(|one| one["action"] == action)?.clone();
        let path = format!("{list}/{}", newest["request_id"].as_str().unwrap());
        let event = ground.call(Method::GET, &path, "2.96", None, 200).await["instanceAction"]["events"][0].take();
        event["finish_time"].is_string().then_some(event)
    })
    .await
}

#[tokio::test]
async fn a_suspended_server_is_only_resumed_restarted_or_deleted() {
    let ground = Ground::new().await;
    let id = ground.server("s1").await;
    ground.act(&id, "2.1", json!({"resume": null}), 409).await;
    ground.act(&id, "2.1", json!({"suspend": null}), 202).await;
    let shown = ground.is(&id, "SUSPENDED").await;
    assert_eq!((&shown["OS-EXT-STS:power_state"], &shown["OS-EXT-STS:vm_state"]), (&json!(4), &json!("suspended")));
    let told = event(&ground, &id, "suspend").await;
    assert_eq!((&told["event"], &told["result"]), (&json!("compute_suspend_instance"), &json!("Success")));
    let live = json!({"os-migrateLive": {"host": "h2", "block_migration": "auto"}});
    for refused in [json!({"os-start": null}), json!({"os-stop": null}), json!({"pause": null}), live] {
        let told = ground.act(&id, "2.96", refused.clone(), 409).await;
        let why = told["conflictingRequest"]["message"].as_str().unwrap();
        assert!(why.ends_with("while it is in vm_state suspended"), "{refused}: {why}");
    }
    let native = ground.cloud.place.client.start_server(&id).await.unwrap_err();
    assert!(native.code == FailureCode::Conflict && native.detail.contains("is suspended"), "{native}");

    ground.h1.told().refuse_instances = Some(Failure::new(FailureCode::QemuFailed, "its memory is kept"));
    ground.act(&id, "2.1", json!({"resume": null}), 202).await;
    let told = event(&ground, &id, "resume").await;
    assert_eq!((&told["result"], &told["details"]), (&json!("Error"), &json!("its memory is kept")));
    ground.is(&id, "SUSPENDED").await;
    ground.h1.told().refuse_instances = None;
    ground.act(&id, "2.1", json!({"resume": null}), 202).await;
    ground.is(&id, "ACTIVE").await;
    ground.act(&id, "2.1", json!({"suspend": null}), 202).await;
    ground.is(&id, "SUSPENDED").await;
    ground.act(&id, "2.1", json!({"reboot": {"type": "HARD"}}), 202).await;
    ground.is(&id, "ACTIVE").await;
    ground.act(&id, "2.1", json!({"suspend": null}), 202).await;
    ground.is(&id, "SUSPENDED").await;
    ground.call(Method::DELETE, &format!("/servers/{id}"), "2.1", None, 204).await;
    until("the server to be gone", async || ground.h1.told().guests.is_empty().then_some(())).await;
}

#[tokio::test]
async fn a_servers_groups_are_those_of_its_ports() {
    let ground = Ground::new().await;
    let network = json!({"network": {"name": "n1", "provider:network_type": "flat",
                         "provider:physical_network": "br0"}});
    let made = ground.cloud.network(Method::POST, "/v2.0/networks", &ground.admin, Some(network)).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let network = made.body["network"]["id"].as_str().unwrap().to_owned();
    let subnet = json!({"subnet": {"network_id": network, "cidr": "10.7.0.0/24", "ip_version": 4}});
    let made = ground.cloud.network(Method::POST, "/v2.0/subnets", &ground.admin, Some(subnet)).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let group = json!({"security_group": {"name": "web"}});
    let made = ground.cloud.network(Method::POST, "/v2.0/security-groups", &ground.admin, Some(group)).await;
    let group = made.body["security_group"]["id"].as_str().unwrap().to_owned();
    let mut server = ground.new_server("s1");
    server["networks"] = json!([{"uuid": network}]);
    let made = ground.call(Method::POST, "/servers", "2.37", Some(json!({"server": server})), 202).await;
    let id = made["server"]["id"].as_str().unwrap().to_owned();
    ground.is(&id, "ACTIVE").await;

    let shown = async |names: &[&str]| {
        let server = ground.call(Method::GET, &format!("/servers/{id}"), "2.96", None, 200).await["server"].take();
        let want: Vec<Value> = names.iter().map(|name| json!({"name": name})).collect();
        match names {
            [] => assert!(server.get("security_groups").is_none(), "{server}"),
            [_, ..] => assert_eq!(server["security_groups"], json!(want)),
        }
    };
    shown(&["default"]).await;
    ground.act(&id, "2.1", json!({"addSecurityGroup": {"name": "web"}}), 202).await;
    ground.act(&id, "2.1", json!({"addSecurityGroup": {"name": group}}), 202).await;
    shown(&["default", "web"]).await;
    let ports = ground.cloud.network(Method::GET, &format!("/v2.0/ports?device_id={id}"), &ground.admin, None).await;
    assert!(ports.body["ports"][0]["security_groups"].as_array().unwrap().contains(&json!(group)), "{}", ports.body);
    ground.act(&id, "2.1", json!({"addSecurityGroup": {"name": "nobody"}}), 404).await;
    for name in ["default", "web"] {
        ground.act(&id, "2.1", json!({"removeSecurityGroup": {"name": name}}), 202).await;
        ground.act(&id, "2.1", json!({"removeSecurityGroup": {"name": name}}), 404).await;
    }
    shown(&[]).await;
}
