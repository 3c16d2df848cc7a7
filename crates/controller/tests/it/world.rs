//! A cloud in which there is one of everything that can be asked for, and somebody of every role.
//!
//! Ground rules: what a call names is made when it is first named, and made anew when a call has used it up, so that calls can
//! follow each other in any order; only what all calls share (projects, users, flavor, image, network, hosts) stays.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::future::LocalBoxFuture;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::SqlitePool;
use tokio_util::sync::CancellationToken;
use whimbrel_api::native::{HostState, NewImage, NewMigration, NewServer, ServerStatus};
use whimbrel_daemon::{
    pki::{Identity, Role, Secret, new_signing_request},
    tls,
};

use crate::{
    calls::Sent,
    cloud::{Cloud, PASSWORD, on_project},
    fake_agent::FakeAgent,
    place::name,
};

/// Something that is there, or why it cannot be made.
pub type Made<T = String> = Result<T, String>;

const TIME_MAX: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(20);
const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGE/h4ykxtsMByP5CkJ8gtsg51o/Xho4k4k57a0ex97f c@h";
/// Of project `p`: who only reads, who works, who manages; of project `q`: who has nothing to do with `p`.
const PEOPLE: [(&str, &str, &str); 4] =
    [("reader", "p", "reader"), ("member", "p", "member"), ("manager", "p", "manager"), ("other", "q", "member")];

pub struct World {
    pub cloud: Cloud,
    /// By who has them: those of [`PEOPLE`], `admin`, `system-reader`, `system-admin`, `expired`.
    pub tokens: BTreeMap<&'static str, String>,
    /// Of the native API, by role.
    pub bearers: BTreeMap<&'static str, String>,
    /// With the certificates of the hosts.
    pub agents: BTreeMap<&'static str, reqwest::Client>,
    /// The token that calls about tokens are about.
    pub subject: String,
    pub database: SqlitePool,
    /// What stays.
    pub kept: BTreeMap<&'static str, String>,
    /// What was made, until a call uses it up.
    pub made: BTreeMap<String, String>,
    pub fakes: Vec<Arc<FakeAgent>>,
    count: u32,
}

impl World {
    pub async fn new() -> World {
        let cloud = Cloud::new().await;
        let file = cloud.place.dir.path().join("controller.db");
        let database = SqlitePool::connect(&format!("sqlite:{}", file.display())).await.unwrap();
        let mut world = World {
            cloud,
            tokens: BTreeMap::new(),
            bearers: BTreeMap::new(),
            agents: BTreeMap::new(),
            subject: String::new(),
            database,
            kept: BTreeMap::new(),
            made: BTreeMap::new(),
            fakes: Vec::new(),
            count: 0,
        };
        world.hosts().await;
        world.people().await;
        world.things().await;
        world
    }

    async fn hosts(&mut self) {
        let place = &self.cloud.place;
        for host in ["h1", "h2"] {
            let both = place.join_by(&place.token(host).await, host).await.unwrap();
            let fake = FakeAgent::start(&name(host), &place.url, &place.ca(), &both, CancellationToken::new()).await;
            {
                let mut told = fake.told();
                let facts = told.facts.as_mut().unwrap();
                (facts.memory_mb, facts.disk_free_bytes, facts.disk_total_bytes) = (1 << 20, 1 << 50, 1 << 50);
            }
            place.host_is(host, HostState::Up).await;
            let identity = Identity::new(&both).unwrap();
            let expect = tls::Expect::Any(Role::Controller);
            let config = tls::client_config(&identity, &place.ca(), expect, tls::Protocol::Http).unwrap();
            self.agents.insert(host, reqwest::Client::builder().tls_backend_preconfigured(config).build().unwrap());
            self.fakes.push(fake);
        }
    }

    async fn people(&mut self) {
        let admin = self.cloud.admin().await;
        self.tokens.insert("admin", admin.clone());
        for (project, id) in [("p", "project"), ("q", "other_project")] {
            let made = self.cloud.make(&admin, "project", json!({ "name": project })).await;
            self.kept.insert(id, made);
        }
        for (who, project, role) in PEOPLE {
            self.cloud.someone(&admin, project, who, role).await;
        }
        let watcher = self.cloud.make(&admin, "user", json!({"name": "system-reader", "password": PASSWORD})).await;
        let role = self.cloud.role(&admin, "reader").await;
        let grant = format!("/v3/system/users/{watcher}/roles/{role}");
        assert_eq!(self.cloud.status(Method::PUT, &grant, &admin).await, 204);
        let member = self.cloud.call(Method::GET, "/v3/users?name=member", Some(&admin), None).await;
        self.kept.insert("user", text(&member.body["users"][0]["id"]));
        self.kept.insert("role", role);
        self.kept.insert("domain", "default".to_owned());
        self.kept.insert("password", PASSWORD.to_owned());
        self.kept.insert("admin_password", PASSWORD.to_owned());
        self.log_in().await;
        self.native().await;
    }

    /// All of them, the last token among them expired.
    pub async fn log_in(&mut self) {
        let token = async |user: &str, scope: Value| {
            let reply = self.cloud.log_in(user, PASSWORD, scope).await;
            reply.token.unwrap_or_else(|| panic!("{user} cannot log in: {}", reply.body))
        };
        let mut tokens = BTreeMap::from([("admin", token("admin", on_project("admin")).await)]);
        for (who, project, _) in PEOPLE {
            tokens.insert(who, token(who, on_project(project)).await);
        }
        let system = || json!({"system": {"all": true}});
        tokens.insert("system-reader", token("system-reader", system()).await);
        tokens.insert("system-admin", token("admin", system()).await);
        tokens.insert("expired", token("member", on_project("p")).await);
        let last = "(SELECT MAX(issued_us) FROM identity_tokens)";
        let expire = format!("UPDATE identity_tokens SET expires_us = issued_us - 1 WHERE issued_us = {last}");
        assert_eq!(sqlx::query(sqlx::AssertSqlSafe(expire)).execute(&self.database).await.unwrap().rows_affected(), 1);
        self.subject = token("member", on_project("p")).await;
        self.tokens = tokens;
    }

    async fn native(&mut self) {
        let admin = std::fs::read_to_string(self.cloud.place.dir.path().join("admin.token")).unwrap();
        self.bearers.insert("admin", admin.trim().to_owned());
        for role in ["member", "reader"] {
            let secret = Secret::generate().unwrap();
            let insert = "INSERT INTO api_tokens (hash, name, role, created_us) VALUES ($1, $2, $3, 0)";
            let insert = sqlx::query(insert).bind(secret.hash().to_string()).bind(role).bind(role);
            insert.execute(&self.database).await.unwrap();
            self.bearers.insert(role, secret.reveal());
        }
    }

    async fn things(&mut self) {
        let image = self.cloud.place.image("debian", &[0; 4096]).await.unwrap();
        self.kept.insert("digest", image.disk.unwrap().digest.to_string());
        self.kept.insert("image", image.id.to_string());
        let flavor = json!({"flavor": {"name": "tiny", "id": "tiny", "ram": 64, "vcpus": 1, "disk": 1}});
        let specs = json!({"extra_specs": {"colour": "red"}});
        self.put("admin", "/compute/v2.1/flavors", flavor).await.unwrap();
        self.put("admin", "/compute/v2.1/flavors/tiny/os-extra_specs", specs).await.unwrap();
        self.kept.insert("flavor", "tiny".to_owned());
        self.kept.insert("flavor_name", "tiny".to_owned());
        let network = json!({"network": {
            "name": "net", "project_id": self.kept["project"], "provider:network_type": "flat",
            "provider:physical_network": "br0",
        }});
        let network = self.put("admin", "/network/v2.0/networks", network).await.unwrap();
        let network = text(&network["network"]["id"]);
        let subnet = json!({"subnet": {"network_id": network, "cidr": "10.9.0.0/16", "ip_version": 4}});
        let subnet = self.put("member", "/network/v2.0/subnets", subnet).await.unwrap();
        self.kept.insert("network", network);
        self.kept.insert("subnet", text(&subnet["subnet"]["id"]));
        // A project has its default group from the first look on.
        for who in ["member", "other", "admin"] {
            self.look(who, "/network/v2.0/security-groups").await.unwrap();
        }
        let limits = json!({"quota_set": {
            "cores": -1, "instances": -1, "ram": -1, "key_pairs": -1, "server_groups": -1, "server_group_members": -1,
        }});
        let path = format!("/os-quota-sets/{}", self.kept["project"]);
        let reply = self.cloud.compute(Method::PUT, &path, &self.tokens["admin"], "2.57", Some(limits)).await;
        assert_eq!(reply.status, 200, "{}", reply.body);
    }

    /// `POST`ed by who has that token; what is answered.
    async fn put(&self, who: &str, path: &str, body: Value) -> Made<Value> {
        let ask = self.cloud.request(Method::POST, path, &self.tokens[who]);
        let ask = ask.header("OpenStack-API-Version", "compute 2.90").header("Accept", "application/json");
        let reply = ask.json(&body).send().await.map_err(|error| error.to_string())?;
        let status = reply.status();
        let answer = reply.json().await.unwrap_or(Value::Null);
        if status.is_success() { Ok(answer) } else { Err(format!("POST {path} {body}: {status} {answer}")) }
    }

    async fn look(&self, who: &str, path: &str) -> Made<Value> {
        let ask = self.cloud.request(Method::GET, path, &self.tokens[who]).header("Accept", "application/json");
        let reply = ask.header("OpenStack-API-Version", "compute 2.90").send().await;
        let reply = reply.map_err(|error| error.to_string())?;
        let status = reply.status();
        let answer = reply.json().await.unwrap_or(Value::Null);
        if status.is_success() { Ok(answer) } else { Err(format!("GET {path}: {status} {answer}")) }
    }

    pub fn new_name(&mut self) -> String {
        self.count += 1;
        format!("new-{}", self.count)
    }

    /// `template` with what its names stand for.
    pub async fn text(&mut self, template: &str) -> Made {
        let mut filled = String::new();
        let mut rest = template;
        while let Some(at) = rest.find('$') {
            let (before, from) = rest.split_at(at);
            let end = from[1..].find(|c: char| !c.is_ascii_lowercase() && c != '_').map_or(from.len(), |at| at + 1);
            filled.push_str(before);
            let value = self.name(&from[1..end]).await?;
            match value.starts_with('{') {
                true => filled.push_str(&value),
                false => filled.push_str(json!(value).to_string().trim_matches('"')),
            }
            rest = &from[end..];
        }
        filled.push_str(rest);
        Ok(filled)
    }

    /// What `kind` stands for, made if it is not there.
    pub fn name<'a>(&'a mut self, kind: &'a str) -> LocalBoxFuture<'a, Made> {
        Box::pin(async move {
            if let Some(id) = self.kept.get(kind).or_else(|| self.made.get(kind)) {
                return Ok(id.clone());
            }
            let id = match self.found(kind).await? {
                Some(id) => return Ok(id),
                None => self.make(kind).await?,
            };
            self.made.insert(kind.to_owned(), id.clone());
            Ok(id)
        })
    }

    /// After a call that was taken: what it named may have been used up.
    pub async fn used(&mut self, sent: &Sent, names: &[&str]) {
        for name in names {
            self.made.remove(*name);
        }
        if names.contains(&"spare_service") {
            self.made.remove("spare_host");
        }
        if sent.path == "/v1/bootstrap" {
            let again = whimbrel_api::native::Bootstrap { password: PASSWORD.to_owned() };
            self.cloud.place.client.bootstrap(&again).await.unwrap();
            self.log_in().await;
        }
        if sent.path.starts_with("/identity/v3/auth/tokens") && sent.method == Method::DELETE {
            self.subject = self.cloud.log_in("member", PASSWORD, on_project("p")).await.token.unwrap();
        }
    }

    /// What is not made for itself: it is new each time, or hangs on something else.
    async fn found(&mut self, kind: &str) -> Made<Option<String>> {
        let server = format!("/compute/v2.1/servers/{}", self.made.get("server").cloned().unwrap_or_default());
        Ok(Some(match kind {
            "new" => self.new_name(),
            "number" => {
                self.count += 1;
                (self.count % 4000 + 1).to_string()
            }
            "subject" => self.subject.clone(),
            "action" => text(
                &self.look("member", &format!("{server}/os-instance-actions")).await?["instanceActions"][0]["request_id"],
            ),
            "nic_port" => text(
                &self.look("member", &format!("{server}/os-interface")).await?["interfaceAttachments"][0]["port_id"],
            ),
            "elsewhere" => {
                let host = self.look("admin", &server).await?["server"]["OS-EXT-SRV-ATTR:host"].take();
                if host == "h1" { "h2".to_owned() } else { "h1".to_owned() }
            }
            "migration" => {
                let moving = self.name("moving").await?;
                let path = format!("/compute/v2.1/servers/{moving}/migrations");
                self.look("admin", &path).await?["migrations"][0]["id"].to_string()
            }
            "service" | "spare_service" => {
                let host = if kind == "service" { "h2".to_owned() } else { self.name("spare_host").await? };
                text(&self.look("admin", &format!("/compute/v2.1/os-services?host={host}")).await?["services"][0]["id"])
            }
            "hypervisor" => {
                let path = "/compute/v2.1/os-hypervisors?hypervisor_hostname_pattern=h1";
                text(&self.look("admin", path).await?["hypervisors"][0]["id"])
            }
            "catalog_service" => text(&self.look("admin", "/identity/v3/services").await?["services"][0]["id"]),
            "heartbeat" => serde_json::to_string(&self.fakes[0].heartbeat("https://127.0.0.1:1")).unwrap(),
            "csr" => new_signing_request().unwrap().csr_pem.to_string(),
            _ => return Ok(None),
        }))
    }

    async fn make(&mut self, kind: &str) -> Made {
        match kind {
            "spare_project" | "spare_user" | "spare_domain" | "spare_role" | "granted" => {
                self.make_identity(kind).await
            }
            "server" | "stopped" | "paused" | "locked" | "locked_by_admin" | "moving" => self.make_server(kind).await,
            "native_flavor" | "native_image" | "native_server" | "native_migration" | "spare_host" | "secret" => {
                self.make_native(kind).await
            }
            _ => self.make_thing(kind).await,
        }
    }

    async fn make_identity(&mut self, kind: &str) -> Made {
        let new = self.new_name();
        let (of, fields) = match kind {
            "spare_project" => ("project", json!({ "name": new })),
            "spare_domain" => ("domain", json!({"name": new, "enabled": false})),
            "spare_role" => ("role", json!({ "name": new })),
            _ => ("user", json!({"name": new, "password": PASSWORD})),
        };
        let made = self.put("admin", &format!("/identity/v3/{of}s"), json!({ of: fields })).await?;
        let id = text(&made[of]["id"]);
        if kind == "granted" {
            let (project, role) = (&self.kept["project"], &self.kept["role"]);
            for place in [format!("projects/{project}"), "domains/default".to_owned(), "system".to_owned()] {
                let path = format!("/v3/{place}/users/{id}/roles/{role}");
                let status = self.cloud.status(Method::PUT, &path, &self.tokens["admin"]).await;
                if status != 204 {
                    return Err(format!("{path}: {status}"));
                }
            }
        }
        Ok(id)
    }

    async fn make_server(&mut self, kind: &str) -> Made {
        let new = json!({"server": {
            "name": self.new_name(), "flavorRef": "tiny", "imageRef": self.kept["image"],
            "networks": [{"uuid": self.kept["network"]}], "metadata": {"role": "web"}, "tags": ["web"],
        }});
        let made = self.put("member", "/compute/v2.1/servers", new).await?;
        let id = text(&made["server"]["id"]);
        self.is(&id, "ACTIVE").await?;
        let act = async |who: &str, body: Value, status: &str| {
            self.put(who, &format!("/compute/v2.1/servers/{id}/action"), body).await?;
            self.is(&id, status).await
        };
        match kind {
            "stopped" => act("member", json!({"os-stop": null}), "SHUTOFF").await?,
            "paused" => act("member", json!({"pause": null}), "PAUSED").await?,
            "locked" => act("member", json!({"lock": null}), "ACTIVE").await?,
            "locked_by_admin" => act("admin", json!({"lock": null}), "ACTIVE").await?,
            "moving" => {
                let live = json!({"os-migrateLive": {"host": null, "block_migration": "auto"}});
                act("admin", live, "MIGRATING").await?;
                wait("the move to be running", async || {
                    let path = format!("/compute/v2.1/servers/{id}/migrations");
                    let moves = self.look("admin", &path).await.ok()?;
                    (moves["migrations"][0]["status"] == "running").then_some(())
                })
                .await?;
            }
            _ => {}
        }
        Ok(id)
    }

    async fn is(&self, id: &str, status: &str) -> Made<()> {
        wait(&format!("server {id} to be {status}"), async || {
            let server = self.look("admin", &format!("/compute/v2.1/servers/{id}")).await.ok()?["server"].take();
            let idle = server["OS-EXT-STS:task_state"].is_null() || status == "MIGRATING";
            (server["status"] == status && idle).then_some(())
        })
        .await
    }

    async fn make_native(&mut self, kind: &str) -> Made {
        let new = self.new_name();
        let place = &self.cloud.place;
        let said = |failure: whimbrel_core::failure::Failure| failure.to_string();
        Ok(match kind {
            "native_flavor" => {
                place.flavor(&new, 64, 1).await;
                new
            }
            "native_image" => {
                let image =
                    NewImage { name: new.clone(), os_command_line: None, disk: None, kernel: None, ramdisk: None };
                place.client.create_image(&image).await.map_err(said)?;
                new
            }
            "native_server" => {
                let server = json!({"name": new, "flavor": "tiny", "image": "debian", "host": "h1"});
                let server: NewServer = serde_json::from_value(server).unwrap();
                place.client.create_server(&server).await.map_err(said)?;
                wait("the native server to be active", async || {
                    let server = place.client.server(&new).await.ok()?;
                    (server.status == ServerStatus::Active).then_some(())
                })
                .await?;
                new
            }
            "native_migration" => {
                let server = self.name("native_server").await?;
                // The next one moves another server.
                self.made.remove("native_server");
                let client = &self.cloud.place.client;
                client.migrate(&server, &NewMigration::default()).await.map_err(said)?.id.to_string()
            }
            "secret" => place.token("h7").await.secret.reveal(),
            _ => {
                place.join_by(&place.token(&new).await, &new).await.map_err(said)?;
                new
            }
        })
    }

    async fn make_thing(&mut self, kind: &str) -> Made {
        let new = self.new_name();
        let project = self.kept["project"].clone();
        let network = self.kept["network"].clone();
        let id = |answer: Value, key: &str| text(&answer[key]["id"]);
        Ok(match kind {
            "spare_flavor" | "private_flavor" => {
                let public = kind == "spare_flavor";
                let flavor = json!({"name": new, "id": new, "ram": 64, "vcpus": 1, "disk": 1, "os-flavor-access:is_public": public});
                self.put("admin", "/compute/v2.1/flavors", json!({ "flavor": flavor })).await?;
                let (path, body) = match public {
                    true => ("os-extra_specs", json!({"extra_specs": {"colour": "red"}})),
                    false => ("action", json!({"addTenantAccess": {"tenant": project}})),
                };
                self.put("admin", &format!("/compute/v2.1/flavors/{new}/{path}"), body).await?;
                new
            }
            "keypair" => {
                let body = json!({"keypair": {"name": new, "public_key": KEY, "type": "ssh"}});
                self.put("member", "/compute/v2.1/os-keypairs", body).await?;
                new
            }
            "group" | "spare_group" => {
                let body = json!({"server_group": {"name": new, "policy": "soft-affinity"}});
                id(self.put("member", "/compute/v2.1/os-server-groups", body).await?, "server_group")
            }
            "aggregate" | "full_aggregate" => {
                let made =
                    self.put("admin", "/compute/v2.1/os-aggregates", json!({"aggregate": {"name": new}})).await?;
                let id = made["aggregate"]["id"].to_string();
                if kind == "full_aggregate" {
                    let path = format!("/compute/v2.1/os-aggregates/{id}/action");
                    self.put("admin", &path, json!({"add_host": {"host": "h2"}})).await?;
                }
                id
            }
            "spare_network" => {
                let vlan: u32 = self.name("number").await?.parse().unwrap();
                let fields = json!({
                    "name": new, "project_id": project, "provider:network_type": "vlan",
                    "provider:physical_network": "br0", "provider:segmentation_id": vlan,
                });
                id(self.put("admin", "/network/v2.0/networks", json!({ "network": fields })).await?, "network")
            }
            "spare_subnet" => {
                let network = self.name("spare_network").await?;
                self.made.remove("spare_network");
                let fields = json!({"network_id": network, "cidr": "10.6.0.0/24", "ip_version": 4});
                id(self.put("member", "/network/v2.0/subnets", json!({ "subnet": fields })).await?, "subnet")
            }
            "port" => {
                let body = json!({"port": {"network_id": network}});
                id(self.put("member", "/network/v2.0/ports", body).await?, "port")
            }
            "security_group" | "spare_security_group" => {
                let body = json!({"security_group": {"name": new}});
                id(self.put("member", "/network/v2.0/security-groups", body).await?, "security_group")
            }
            "rule" => {
                let group = self.name("security_group").await?;
                let fields = json!({"security_group_id": group, "direction": "ingress", "protocol": "udp"});
                let body = json!({ "security_group_rule": fields });
                id(self.put("member", "/network/v2.0/security-group-rules", body).await?, "security_group_rule")
            }
            "own_image" | "queued_image" => self.make_image(&new, kind == "own_image").await?,
            other => return Err(format!("nobody knows what ${other} is")),
        })
    }

    async fn make_image(&self, new: &str, with_content: bool) -> Made {
        let image = json!({"name": new, "disk_format": "raw", "container_format": "bare", "tags": ["green"]});
        let id = text(&self.put("member", "/image/v2/images", image).await?["id"]);
        if with_content {
            let upload =
                self.cloud.request(Method::PUT, &format!("/image/v2/images/{id}/file"), &self.tokens["member"]);
            let upload = upload.header("Content-Type", "application/octet-stream").body(vec![0; 4096]);
            let status = upload.send().await.map_err(|error| error.to_string())?.status();
            if !status.is_success() {
                return Err(format!("the upload of {id} ended with {status}"));
            }
        }
        Ok(id)
    }
}

/// A world that spoiled calls have changed may never come to it.
async fn wait(what: &str, mut look: impl AsyncFnMut() -> Option<()>) -> Made<()> {
    let waited = tokio::time::timeout(TIME_MAX, async {
        while look().await.is_none() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    });
    waited.await.map_err(|_| format!("waited {} s for {what}", TIME_MAX.as_secs()))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The names in a template.
pub fn names(template: &str) -> Vec<&str> {
    let parts = template.split('$').skip(1);
    parts.map(|part| part.split(|c: char| !c.is_ascii_lowercase() && c != '_').next().unwrap_or_default()).collect()
}
