//! Servers of the Compute API: made, switched, described, moved, with agents whose guests are only told of.

use std::sync::Arc;

use reqwest::Method;
use serde_json::{Value, json};
use whimbrel_core::{
    id::MigrationId,
    migration::source,
    progress::{DiskLane, Progress, RamLane},
};

use crate::{
    cloud::{Cloud, on_project},
    fake_agent::FakeAgent,
    place::until,
};

struct Ground {
    cloud: Cloud,
    admin: String,
    image: String,
    h1: Arc<FakeAgent>,
    _h2: Arc<FakeAgent>,
}

impl Ground {
    async fn new() -> Self {
        let cloud = Cloud::new().await;
        let (h1, h2) = tokio::join!(cloud.place.host("h1"), cloud.place.host("h2"));
        let image = cloud.place.image("debian", &[0; 4096]).await.unwrap().id.to_string();
        let admin = cloud.admin().await;
        let flavor = json!({"flavor": {"name": "small", "id": "13", "ram": 512, "vcpus": 1, "disk": 1}});
        assert_eq!(cloud.compute(Method::POST, "/flavors", &admin, "2.1", Some(flavor)).await.status, 200);
        Ground { cloud, admin, image, h1, _h2: h2 }
    }

    async fn call(&self, method: Method, path: &str, at: &str, body: Option<Value>, want: u16) -> Value {
        let reply = self.cloud.compute(method.clone(), path, &self.admin, at, body.clone()).await;
        assert_eq!(reply.status, want, "{method} {path} at {at} {body:?}: {}", reply.body);
        reply.body
    }

    fn new_server(&self, name: &str) -> Value {
        json!({"name": name, "flavorRef": "13", "imageRef": self.image})
    }

    /// On h1, and ACTIVE.
    async fn server(&self, name: &str) -> String {
        let mut server = self.new_server(name);
        server["availability_zone"] = json!("nova:h1");
        let made = self.call(Method::POST, "/servers", "2.1", Some(json!({ "server": server })), 202).await;
        let id = made["server"]["id"].as_str().unwrap().to_owned();
        self.is(&id, "ACTIVE").await;
        id
    }

    async fn is(&self, id: &str, status: &str) -> Value {
        until(&format!("server {id} to be {status}"), async || {
            let server = self.call(Method::GET, &format!("/servers/{id}"), "2.96", None, 200).await["server"].take();
            let idle = server["OS-EXT-STS:task_state"].is_null() || status == "MIGRATING";
            (server["status"] == status && idle).then_some(server)
        })
        .await
    }

    async fn act(&self, id: &str, at: &str, body: Value, want: u16) -> Value {
        self.call(Method::POST, &format!("/servers/{id}/action"), at, Some(body), want).await
    }
}

#[tokio::test]
async fn a_server_lives_from_create_to_delete() {
    let ground = Ground::new().await;
    let mut server = ground.new_server("My server");
    server["metadata"] = json!({"role": "web"});
    server["networks"] = json!("none");
    let made = ground.call(Method::POST, "/servers", "2.96", Some(json!({ "server": server })), 202).await;
    let id = made["server"]["id"].as_str().unwrap().to_owned();
    assert!(made["server"]["adminPass"].is_string() && made["server"]["links"][0]["rel"] == "self", "{made}");
    let shown = ground.is(&id, "ACTIVE").await;
    assert_eq!(shown["flavor"]["original_name"], "small");
    assert_eq!((&shown["metadata"]["role"], &shown["image"]["id"]), (&json!("web"), &json!(ground.image)));
    assert_eq!(shown["OS-EXT-SRV-ATTR:hostname"], "my-server");
    assert_eq!(shown["OS-EXT-SRV-ATTR:instance_name"], "instance-00000001");
    assert!(shown["OS-SRV-USG:launched_at"].is_string() && shown["hostId"].as_str().unwrap().len() == 56);
    ground.call(Method::GET, "/servers/My%20server", "2.1", None, 404).await;

    for (body, status) in [
        (json!({"os-stop": null}), "SHUTOFF"),
        (json!({"os-start": null}), "ACTIVE"),
        (json!({"pause": null}), "PAUSED"),
        (json!({"unpause": null}), "ACTIVE"),
        (json!({"reboot": {"type": "HARD"}}), "ACTIVE"),
    ] {
        ground.act(&id, "2.1", body, 202).await;
        ground.is(&id, status).await;
    }
    assert_eq!(ground.h1.told().reboots + ground._h2.told().reboots, 1);
    let refused = ground.act(&id, "2.1", json!({"os-start": null}), 409).await;
    let why = refused["conflictingRequest"]["message"].as_str().unwrap();
    assert_eq!(why, format!("Cannot 'start' instance {id} while it is in vm_state active"));

    let actions = ground.call(Method::GET, &format!("/servers/{id}/os-instance-actions"), "2.96", None, 200).await;
    let names: Vec<_> =
        actions["instanceActions"].as_array().unwrap().iter().map(|a| a["action"].as_str().unwrap()).collect();
    assert_eq!(names, ["reboot", "unpause", "pause", "start", "stop", "create"]);
    ground.call(Method::DELETE, &format!("/servers/{id}"), "2.1", None, 204).await;
    until("the server to be gone", async || {
        let reply = ground.cloud.compute(Method::GET, &format!("/servers/{id}"), &ground.admin, "2.1", None).await;
        (reply.status == 404).then_some(())
    })
    .await;
    let kept = ground.call(Method::GET, &format!("/servers/{id}/os-instance-actions"), "2.21", None, 200).await;
    assert_eq!(kept["instanceActions"].as_array().unwrap().len(), 7);
    ground.call(Method::GET, &format!("/servers/{id}/os-instance-actions"), "2.20", None, 404).await;
}

#[tokio::test]
async fn what_an_owner_writes_on_a_server_stays() {
    let ground = Ground::new().await;
    let id = ground.server("s1").await;
    let path = |rest: &str| format!("/servers/{id}{rest}");
    let change = json!({"server": {"name": "s2", "description": "d"}});
    let told = ground.call(Method::PUT, &path(""), "2.96", Some(change), 200).await;
    assert_eq!((&told["server"]["name"], &told["server"]["description"]), (&json!("s2"), &json!("d")));
    let add = json!({"metadata": {"a": "1", "b": "2"}});
    ground.call(Method::POST, &path("/metadata"), "2.1", Some(add), 200).await;
    ground.call(Method::PUT, &path("/metadata/c"), "2.1", Some(json!({"meta": {"c": "3"}})), 200).await;
    ground.call(Method::PUT, &path("/metadata/c"), "2.1", Some(json!({"meta": {"d": "3"}})), 400).await;
    ground.call(Method::DELETE, &path("/metadata/a"), "2.1", None, 204).await;
    ground.call(Method::DELETE, &path("/metadata/a"), "2.1", None, 404).await;
    let all = ground.call(Method::GET, &path("/metadata"), "2.1", None, 200).await;
    assert_eq!(all, json!({"metadata": {"b": "2", "c": "3"}}));
    ground.call(Method::GET, &path("/tags"), "2.25", None, 404).await;
    ground.call(Method::PUT, &path("/tags"), "2.26", Some(json!({"tags": ["y", "x"]})), 200).await;
    ground.call(Method::PUT, &path("/tags/z"), "2.26", None, 201).await;
    ground.call(Method::PUT, &path("/tags/z"), "2.26", None, 204).await;
    ground.call(Method::DELETE, &path("/tags/x"), "2.26", None, 204).await;
    assert_eq!(ground.call(Method::GET, &path("/tags"), "2.26", None, 200).await, json!({"tags": ["y", "z"]}));

    ground.act(&id, "2.1", json!({"lock": null}), 202).await;
    ground.act(&id, "2.1", json!({"os-resetState": {"state": "error"}}), 202).await;
    assert_eq!(ground.is(&id, "ERROR").await["locked"], true);
    ground.act(&id, "2.1", json!({"os-resetState": {"state": "active"}}), 202).await;
    ground.is(&id, "ACTIVE").await;
    let output = ground.act(&id, "2.1", json!({"os-getConsoleOutput": {"length": 2}}), 200).await;
    assert_eq!(output, json!({"output": "the last 2 lines"}));
}

#[tokio::test]
async fn lists_are_filtered_ordered_and_paged() {
    let ground = Ground::new().await;
    let mut ids = Vec::new();
    for name in ["web-1", "web-2", "db-1"] {
        ids.push(ground.server(name).await);
    }
    ground.act(&ids[0], "2.1", json!({"os-stop": null}), 202).await;
    ground.is(&ids[0], "SHUTOFF").await;
    let check = async |query: &str, at: &str, want: &[&str]| {
        let list = ground.call(Method::GET, &format!("/servers/detail?{query}"), at, None, 200).await;
        let names: Vec<_> = list["servers"].as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap()).collect();
        assert_eq!(names, want, "{query}");
        list
    };
    check("", "2.1", &["db-1", "web-2", "web-1"]).await;
    check("name=%5Eweb", "2.1", &["web-2", "web-1"]).await;
    check("status=shutoff", "2.96", &["web-1"]).await;
    check("host=h1&sort_key=display_name&sort_dir=asc", "2.96", &["db-1", "web-1", "web-2"]).await;
    check("host=h2", "2.96", &[]).await;
    check(&format!("image={}&flavor=13", ground.image), "2.96", &["db-1", "web-2", "web-1"]).await;
    check("changes-since=2100-01-01T00:00:00Z", "2.96", &[]).await;
    let first = check("limit=2", "2.1", &["db-1", "web-2"]).await;
    let next = first["servers_links"][0]["href"].as_str().unwrap().split_once('?').unwrap().1.to_owned();
    let second = check(&next, "2.1", &["web-1"]).await;
    assert!(second.get("servers_links").is_none(), "{second}");
    ground.call(Method::GET, "/servers?marker=nobody", "2.1", None, 400).await;
    ground.call(Method::GET, "/servers?status=sleepy", "2.38", None, 400).await;
    assert_eq!(check("status=sleepy", "2.37", &[]).await["servers"], json!([]));
    ground.call(Method::GET, "/servers?colour=red", "2.75", None, 400).await;
    ground.call(Method::GET, "/servers?name=%5B", "2.1", None, 400).await;
}

#[tokio::test]
async fn a_new_server_is_refused_before_anything_is_stored() {
    let ground = Ground::new().await;
    let check = async |change: Value, at: &str, want: u16, words: &str| {
        let mut server = ground.new_server("s");
        for (key, value) in change.as_object().unwrap() {
            server[key] = value.clone();
        }
        let body = ground.call(Method::POST, "/servers", at, Some(json!({ "server": server })), want).await;
        assert!(body.to_string().contains(words), "{change}: {body}");
    };
    check(json!({"flavorRef": "99"}), "2.1", 400, "Flavor 99 could not be found.").await;
    let nothing = uuid::Uuid::nil().to_string();
    check(json!({"imageRef": nothing}), "2.1", 400, "could not be found").await;
    check(json!({"imageRef": ""}), "2.1", 400, "Invalid imageRef").await;
    check(json!({"host": "h9", "networks": "none"}), "2.74", 400, "h9").await;
    check(json!({"colour": "red"}), "2.1", 400, "'colour' was unexpected").await;
    let volume = json!([{"source_type": "volume", "uuid": nothing, "boot_index": 0, "destination_type": "volume"}]);
    check(json!({"block_device_mapping_v2": volume}), "2.1", 400, "no volumes here").await;
    check(json!({"max_count": 101}), "2.1", 403, "Quota exceeded").await;
    let list = ground.call(Method::GET, "/servers", "2.1", None, 200).await;
    assert_eq!(list, json!({"servers": []}));
    let two = json!({"server": {"name": "n", "flavorRef": "13", "imageRef": ground.image, "min_count": 2,
                     "return_reservation_id": true}});
    let made = ground.call(Method::POST, "/servers", "2.1", Some(two), 202).await;
    let found = format!("/servers/detail?reservation_id={}", made["reservation_id"].as_str().unwrap());
    let list = ground.call(Method::GET, &found, "2.1", None, 200).await;
    let names: Vec<_> = list["servers"].as_array().unwrap().iter().map(|s| s["name"].clone()).collect();
    assert_eq!(names, [json!("n-2"), json!("n-1")]);
}

#[tokio::test]
async fn other_projects_do_not_see_a_server_and_a_member_does_not_move_his() {
    let ground = Ground::new().await;
    let id = ground.server("s1").await;
    let (cloud, admin) = (&ground.cloud, &ground.admin);
    let project = cloud.make(admin, "project", json!({"name": "demo"})).await;
    let alice = cloud.make(admin, "user", json!({"name": "alice", "password": "secret-a"})).await;
    let role = cloud.role(admin, "member").await;
    let grant = format!("/v3/projects/{project}/users/{alice}/roles/{role}");
    assert_eq!(cloud.status(Method::PUT, &grant, admin).await, 204);
    let member = cloud.log_in("alice", "secret-a", on_project("demo")).await.token.unwrap();
    let check = async |method: Method, path: String, body: Option<Value>, want: u16| {
        let reply = cloud.compute(method, &path, &member, "2.96", body).await;
        assert_eq!(reply.status, want, "{path}: {}", reply.body);
        reply.body
    };
    check(Method::GET, format!("/servers/{id}"), None, 404).await;
    check(Method::DELETE, format!("/servers/{id}"), None, 404).await;
    check(Method::POST, format!("/servers/{id}/action"), Some(json!({"os-stop": null})), 404).await;
    assert_eq!(check(Method::GET, "/servers".into(), None, 200).await, json!({"servers": []}));
    check(Method::GET, "/servers?all_tenants=1".into(), None, 403).await;
    check(Method::GET, "/os-migrations".into(), None, 403).await;
    let new = json!({"server": {"name": "own", "flavorRef": "13", "imageRef": ground.image, "networks": "none"}});
    let own = check(Method::POST, "/servers".into(), Some(new), 202).await["server"]["id"].as_str().unwrap().to_owned();
    ground.is(&own, "ACTIVE").await;
    let shown = check(Method::GET, format!("/servers/{own}"), None, 200).await;
    assert!(shown["server"].get("OS-EXT-SRV-ATTR:host").is_none(), "{shown}");
    let live = json!({"os-migrateLive": {"host": null, "block_migration": "auto"}});
    check(Method::POST, format!("/servers/{own}/action"), Some(live), 403).await;
    ground.act(&own, "2.1", json!({"lock": null}), 202).await;
    check(Method::POST, format!("/servers/{own}/action"), Some(json!({"os-stop": null})), 409).await;
    check(Method::POST, format!("/servers/{own}/action"), Some(json!({"unlock": null})), 403).await;
    check(Method::DELETE, format!("/servers/{own}"), None, 409).await;
    let everybodys = ground.call(Method::GET, "/servers?all_tenants=1", "2.1", None, 200).await;
    assert_eq!(everybodys["servers"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_refused_move_is_told_in_the_way_of_its_version() {
    let ground = Ground::new().await;
    let id = ground.server("s1").await;
    let live = |host: &str, more: Value| {
        let mut wish = json!({"host": host, "block_migration": true});
        wish.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "os-migrateLive": wish })
    };
    let old = json!({"disk_over_commit": false});
    // An unknown host, the own one, and storage that is not shared: synchronous.
    ground.act(&id, "2.1", live("h9", old.clone()), 400).await;
    ground.act(&id, "2.96", live("h9", json!({})), 400).await;
    let same = ground.act(&id, "2.1", live("h1", old), 400).await;
    assert!(same["badRequest"]["message"].as_str().unwrap().contains("current host (h1)"), "{same}");
    let shared = json!({"os-migrateLive": {"host": "h2", "block_migration": false}});
    let told = ground.act(&id, "2.30", shared.clone(), 400).await;
    assert!(told["badRequest"]["message"].as_str().unwrap().contains("not on shared storage"), "{told}");
    ground.is(&id, "ACTIVE").await;
    // A disabled host is refused where the scheduler is asked.
    let services = ground.call(Method::GET, "/os-services?host=h2", "2.53", None, 200).await;
    let service = format!("/os-services/{}", services["services"][0]["id"].as_str().unwrap());
    let disable = Some(json!({"status": "disabled", "disabled_reason": "kernel"}));
    ground.call(Method::PUT, &service, "2.53", disable, 200).await;
    let scheduled = ground.act(&id, "2.30", live("h2", json!({})), 400).await;
    assert!(scheduled["badRequest"]["message"].as_str().unwrap().contains("disabled"), "{scheduled}");
    ground.is(&id, "ACTIVE").await;
    // From 2.34 the same is told in the actions alone.
    ground.act(&id, "2.34", shared, 202).await;
    let actions = ground.call(Method::GET, &format!("/servers/{id}/os-instance-actions"), "2.96", None, 200).await;
    let newest = &actions["instanceActions"][0];
    assert_eq!((&newest["action"], &newest["message"]), (&json!("live-migration"), &json!("Error")));
    let request = newest["request_id"].as_str().unwrap();
    let path = format!("/servers/{id}/os-instance-actions/{request}");
    let event = ground.call(Method::GET, &path, "2.84", None, 200).await["instanceAction"]["events"][0].take();
    assert_eq!((&event["event"], &event["result"]), (&json!("conductor_live_migrate_instance"), &json!("Error")));
    assert!(event["details"].as_str().unwrap().contains("not on shared storage"), "{event}");
    ground.act(&id, "2.1", json!({"os-stop": null}), 202).await;
    ground.is(&id, "SHUTOFF").await;
    let stopped = ground.act(&id, "2.96", live("h2", json!({})), 409).await;
    let why = "Cannot 'os-migrateLive' instance";
    assert!(stopped["conflictingRequest"]["message"].as_str().unwrap().starts_with(why), "{stopped}");
    assert_eq!(ground.call(Method::GET, "/os-migrations", "2.96", None, 200).await, json!({"migrations": []}));
    ground.act(&id, "2.1", json!({"os-start": null}), 202).await;
    ground.is(&id, "ACTIVE").await;
    // Whoever forces the disabled host has it.
    ground.act(&id, "2.1", live("h2", json!({"disk_over_commit": false})), 202).await;
    ground.is(&id, "MIGRATING").await;
}

#[tokio::test]
async fn a_move_shows_its_disks_and_can_be_aborted() {
    let ground = Ground::new().await;
    let id = ground.server("s1").await;
    let live = json!({"os-migrateLive": {"host": "h2", "block_migration": true, "disk_over_commit": false}});
    ground.act(&id, "2.1", live, 202).await;
    ground.is(&id, "MIGRATING").await;
    let migration = until("the source to be asked", async || ground.h1.told().sends.first().cloned()).await.migration;
    let lane = |name: &str, done_bytes, total_bytes| DiskLane { name: name.parse().unwrap(), done_bytes, total_bytes };
    let progress = Progress {
        permille: 420,
        disks: vec![lane("root", 40, 100), lane("swap", 10, 50)],
        ram: RamLane { done_bytes: 0, total_bytes: 512, passes: 0 },
        ..Progress::default()
    };
    ground.h1.progress_of(migration, progress);
    let list = format!("/servers/{id}/migrations");
    let shown = until("the move's disks to be told", async || {
        let all = ground.call(Method::GET, &list, "2.80", None, 200).await;
        all["migrations"].get(0).filter(|one| one["disk_total_bytes"] == 150).cloned()
    })
    .await;
    assert_eq!((&shown["status"], &shown["id"], &shown["dest_compute"]), (&json!("running"), &json!(1), &json!("h2")));
    assert_eq!((&shown["disk_processed_bytes"], &shown["disk_remaining_bytes"]), (&json!(50), &json!(100)));
    assert_eq!(ground.is(&id, "MIGRATING").await["progress"], 42);
    ground.call(Method::GET, &format!("{list}/1"), "2.23", None, 200).await;
    ground.call(Method::GET, &format!("{list}/2"), "2.23", None, 404).await;
    ground.call(Method::GET, &list, "2.22", None, 404).await;
    let busy = json!({"os-migrateLive": {"host": null, "block_migration": "auto"}});
    ground.act(&id, "2.96", busy, 409).await;
    let force = Some(json!({"force_complete": null}));
    ground.call(Method::POST, &format!("{list}/1/action"), "2.22", force, 202).await;
    assert_eq!(ground.h1.told().forced, [migration]);

    ground.call(Method::DELETE, &format!("{list}/1"), "2.24", None, 202).await;
    until("the source to be told", async || ground.h1.told().give_ups.first().cloned()).await;
    aborted(&ground, migration);
    ground.is(&id, "ACTIVE").await;
    let all = ground.call(Method::GET, "/os-migrations?status=cancelled", "2.59", None, 200).await;
    let one = &all["migrations"][0];
    assert_eq!((&one["instance_uuid"], &one["migration_type"]), (&json!(id), &json!("live-migration")));
    assert!(one.get("links").is_none() && one.get("disk_total_bytes").is_none(), "{one}");
    assert_eq!(ground.call(Method::GET, &list, "2.80", None, 200).await, json!({"migrations": []}));
    ground.call(Method::DELETE, &format!("{list}/1"), "2.24", None, 400).await;
}

fn aborted(ground: &Ground, migration: MigrationId) {
    let failure = ground.h1.told().give_ups[0].failure.clone();
    ground.h1.source_is(migration, source::Phase::Aborted { failure });
}

#[tokio::test]
async fn a_server_that_moves_is_deleted_and_its_move_cancelled() {
    let ground = Ground::new().await;
    let id = ground.server("s1").await;
    let live = json!({"os-migrateLive": {"host": "h2", "block_migration": true, "disk_over_commit": false}});
    ground.act(&id, "2.1", live, 202).await;
    let migration = until("the source to be asked", async || ground.h1.told().sends.first().cloned()).await.migration;
    ground.call(Method::DELETE, &format!("/servers/{id}"), "2.1", None, 204).await;
    ground.call(Method::DELETE, &format!("/servers/{id}"), "2.96", None, 204).await;
    until("the source to be told", async || ground.h1.told().give_ups.first().cloned()).await;
    aborted(&ground, migration);
    until("the server to be gone", async || {
        let shown = ground.cloud.compute(Method::GET, &format!("/servers/{id}"), &ground.admin, "2.1", None).await;
        (shown.status == 404).then_some(())
    })
    .await;
    assert!(ground.h1.told().guests.is_empty());
    let all = ground.call(Method::GET, "/os-migrations", "2.59", None, 200).await;
    assert_eq!(all["migrations"][0]["status"], "cancelled", "{all}");
}

#[tokio::test]
async fn moves_come_in_pages() {
    let ground = Ground::new().await;
    let mut ids = Vec::new();
    for name in ["s1", "s2", "s3"] {
        let id = ground.server(name).await;
        let live = json!({"os-migrateLive": {"host": "h2", "block_migration": "auto"}});
        ground.act(&id, "2.30", live, 202).await;
        ids.push(id);
    }
    let list = async |query: &str, at: &str| {
        let page = ground.call(Method::GET, &format!("/os-migrations{query}"), at, None, 200).await;
        let of = |one: &Value| one["instance_uuid"].as_str().unwrap().to_owned();
        let servers: Vec<String> = page["migrations"].as_array().unwrap().iter().map(of).collect();
        let next = page.get("migrations_links").and_then(|links| links[0]["href"].as_str());
        (servers, next.map(|href| href.rsplit_once('?').unwrap().1.to_owned()))
    };
    let (first, next) = list("?limit=2", "2.59").await;
    assert_eq!(first, [ids[2].clone(), ids[1].clone()], "newest first");
    let (rest, none) = list(&format!("?{}", next.unwrap()), "2.59").await;
    assert_eq!((rest.as_slice(), none), (&ids[..1], None));
    assert_eq!(list("", "2.23").await.0, ids, "oldest first before there were pages");
    assert_eq!(list(&format!("?instance_uuid={}", ids[1]), "2.59").await.0, ids[1..2]);
    for nothing in ["?status=completed", "?status=x", "?instance_uuid=x", "?migration_type=x", "?host=h9"] {
        assert!(list(nothing, "2.59").await.0.is_empty(), "{nothing}");
    }
    assert_eq!(list("?host=h2&source_compute=h1", "2.59").await.0.len(), 3);
    ground.call(Method::GET, "/os-migrations?marker=x", "2.59", None, 400).await;
    ground.call(Method::GET, "/os-migrations?limit=x", "2.59", None, 400).await;
}

#[tokio::test]
async fn servers_of_a_group_that_are_made_at_once_are_kept_apart() {
    let ground = Ground::new().await;
    let group = json!({"server_group": {"name": "apart", "policies": ["anti-affinity"]}});
    let group = ground.call(Method::POST, "/os-server-groups", "2.15", Some(group), 200).await;
    let body = |name: &str| json!({"server": ground.new_server(name), "os:scheduler_hints": {"group": group["server_group"]["id"]}});
    let make = async |name: &str| {
        let reply = ground.cloud.compute(Method::POST, "/servers", &ground.admin, "2.1", Some(body(name))).await;
        (reply.status.as_u16(), reply.body)
    };
    // Three for two hosts.
    let (one, other, third) = tokio::join!(make("a"), make("b"), make("c"));
    let made: Vec<&Value> =
        [&one, &other, &third].into_iter().filter(|(status, _)| *status == 202).map(|(_, body)| body).collect();
    assert_eq!(made.len(), 2, "{one:?} {other:?} {third:?}");
    let mut hosts = Vec::new();
    for server in made {
        let shown = ground.is(server["server"]["id"].as_str().unwrap(), "ACTIVE").await;
        hosts.push(shown["OS-EXT-SRV-ATTR:host"].as_str().unwrap().to_owned());
    }
    hosts.sort();
    assert_eq!(hosts, ["h1", "h2"]);
    let group = ground.call(Method::GET, "/os-server-groups", "2.15", None, 200).await;
    assert_eq!(group["server_groups"][0]["members"].as_array().unwrap().len(), 2);
}
