//! A controller that takes the tokens of a real Keystone: who is let in as what, who is not, and what is so when Keystone is gone.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use reqwest::Method;
use serde_json::{Value, json};
use whimbrel_api::native::Bootstrap;

use crate::{
    cloud::Cloud,
    keystone_server::{ADMIN_PASSWORD, KeystoneServer},
    place::{Place, until},
};

const ASKER: &str = "whimbrel";
const ASKER_PASSWORD: &str = "askers-own";
const PASSWORD: &str = "correct-horse";
const AT: &str = "2.96";

struct Site {
    keystone: KeystoneServer,
    cloud: Cloud,
}

impl Site {
    /// With users `reader`, `member` and `boss` of project `demo`, who have the roles of these names (the boss is an admin).
    async fn new(cache_s: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let keystone = KeystoneServer::start(dir.path()).await;
        let config = config(&keystone, dir.path(), cache_s);
        let site = Site { cloud: Cloud::of(Place::with(dir, &config).await), keystone };
        site.register();
        site
    }

    async fn take_up_anew(&mut self, cache_s: u32) {
        self.cloud.place.stop().await;
        let config = config(&self.keystone, self.cloud.place.dir.path(), cache_s);
        self.cloud.place.start_again_with(&config).await;
    }

    /// What `whimbrel endpoints` says, typed by Keystone's administrator, and some users.
    fn register(&self) {
        let program = std::env::var_os("WHIMBREL_BIN").expect("WHIMBREL_BIN is not set; hint: run through ./x test");
        let output =
            Command::new(program).arg("endpoints").env("WHIMBREL_URL", &self.cloud.place.url).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let said = String::from_utf8(output.stdout).unwrap();
        let password = format!("--password {ASKER_PASSWORD}");
        let mut lines = said.replace("--password-prompt", &password).replace("openstack ", "");
        lines += "project create demo\n";
        for (user, role) in [("reader", "reader"), ("member", "member"), ("boss", "admin")] {
            lines += &format!("user create --password {PASSWORD} {user}\n");
            lines += &format!("role add --project demo --user {user} {role}\n");
        }
        lines += "role add --system all --user boss admin\nrole add --domain default --user member member\n";
        let output = self.output("openstack", &[], ("admin", ADMIN_PASSWORD, "admin"), &lines);
        // A session's exit status says nothing of its lines.
        let said = String::from_utf8_lossy(&output.stdout);
        for path in ["/compute/v2.1", "/image", "/network"] {
            assert_eq!(said.matches(&format!("{}{path} ", self.cloud.place.url)).count(), 3, "{path}: {output:?}");
        }
    }

    /// A client of PyPI's, with a Keystone and a CA and no address of anything else. `who`: user, password, project.
    fn output(&self, name: &str, words: &[&str], who: (&str, &str, &str), input: &str) -> Output {
        let bin =
            std::env::var_os("WHIMBREL_CLIENTS").expect("WHIMBREL_CLIENTS is not set; hint: run through ./x test");
        let mut child = Command::new(PathBuf::from(bin).join(name))
            .args(words)
            .env("OS_AUTH_URL", self.keystone.url())
            .env("OS_CACERT", self.cloud.place.dir.path().join("ca.crt"))
            .env("OS_IDENTITY_API_VERSION", "3")
            .env("OS_REGION_NAME", "RegionOne")
            .envs([("OS_USERNAME", who.0), ("OS_PASSWORD", who.1), ("OS_PROJECT_NAME", who.2)])
            .envs([("OS_USER_DOMAIN_NAME", "Default"), ("OS_PROJECT_DOMAIN_NAME", "Default")])
            .env("PYTHONWARNINGS", "ignore")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    /// What a user of project `demo` sees, off the thread on which the controller serves him.
    async fn client(&self, name: &str, words: &[&str], user: &str) -> Result<String, String> {
        let output = tokio::task::block_in_place(|| self.output(name, words, (user, PASSWORD, "demo"), ""));
        let told = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(told(&output.stdout)) } else { Err(told(&output.stderr)) }
    }

    async fn token(&self, user: &str) -> String {
        self.keystone.log_in(user, PASSWORD, on("demo")).await
    }

    async fn status(&self, token: &str) -> u16 {
        self.cloud.compute(Method::GET, "/servers", token, AT, None).await.status.as_u16()
    }

    async fn check(&self, what: &str, token: &str, want: u16) {
        assert_eq!(self.status(token).await, want, "{what}");
    }
}

fn config(keystone: &KeystoneServer, state_dir: &Path, cache_s: u32) -> String {
    let (url, ca) = (keystone.url(), state_dir.join("ca.crt"));
    let ca = ca.display();
    format!(
        "[identity]\nbackend = 'keystone'\n[identity.keystone]\nurl = '{url}'\nusername = '{ASKER}'\n\
         password = '{ASKER_PASSWORD}'\nca_file = '{ca}'\ncache_s = {cache_s}\n"
    )
}

fn on(project: &str) -> Value {
    json!({"project": {"name": project, "domain": {"name": "Default"}}})
}

/// One after the other with one Keystone, which takes some ten seconds to set up.
#[tokio::test(flavor = "multi_thread")]
async fn a_site_has_a_keystone() {
    let mut site = Site::new(30).await;
    clients_work_with_it(&site).await;
    site.take_up_anew(300).await;
    a_token_opens_what_it_says(&mut site).await;
    site.take_up_anew(300).await;
    nobody_is_refused_when_it_is_gone(&mut site).await;
}

/// A server that is made as a user of Keystone, seen by the clients as they are.
async fn clients_work_with_it(site: &Site) {
    let place = &site.cloud.place;
    let _host = place.host("h1").await;
    place.image("debian", &[0; 4096]).await.unwrap();
    place.flavor("small", 512, 1).await;

    let member = site.token("member").await;
    let images = site.cloud.request(Method::GET, "/image/v2/images", &member).send().await.unwrap();
    let images: Value = images.json().await.unwrap();
    let flavors = site.cloud.compute(Method::GET, "/flavors", &member, AT, None).await.body;
    let server = json!({"server": {"name": "s1", "networks": "none", "imageRef": images["images"][0]["id"],
        "flavorRef": flavors["flavors"][0]["id"]}});
    let reader = site.token("reader").await;
    let refused = site.cloud.compute(Method::POST, "/servers", &reader, AT, Some(server.clone())).await;
    assert_eq!(refused.status, 403, "{}", refused.body);
    let made = site.cloud.compute(Method::POST, "/servers", &member, AT, Some(server)).await;
    assert_eq!(made.status, 202, "{}", made.body);
    let path = format!("/servers/{}", made.body["server"]["id"].as_str().unwrap());
    until("the server to be active", async || {
        let shown = site.cloud.compute(Method::GET, &path, &reader, AT, None).await;
        (shown.body["server"]["status"] == "ACTIVE").then_some(())
    })
    .await;

    for (client, words, user, has) in [
        ("openstack", &["server", "list"][..], "member", "s1"),
        ("nova", &["list"], "member", "s1"),
        ("openstack", &["image", "list"], "reader", "debian"),
        ("openstack", &["security", "group", "list"], "member", "default"),
        ("openstack", &["hypervisor", "list"], "boss", "h1"),
        ("openstack", &["catalog", "list"], "reader", "/compute/v2.1"),
    ] {
        let said = site.client(client, words, user).await.unwrap_or_else(|error| panic!("{words:?}: {error}"));
        assert!(said.contains(has), "{client} {words:?} does not say {has}:\n{said}");
    }
    let error = site.client("openstack", &["hypervisor", "list"], "member").await.unwrap_err();
    assert!(error.contains("403"), "{error}");
}

/// And one that is none opens nothing.
async fn a_token_opens_what_it_says(site: &mut Site) {
    let (member, boss) = (site.token("member").await, site.token("boss").await);
    let hypervisors =
        async |token: &str| site.cloud.compute(Method::GET, "/os-hypervisors", token, AT, None).await.status.as_u16();
    assert_eq!((hypervisors(&member).await, hypervisors(&boss).await), (403, 200));
    let of_system = site.keystone.log_in("boss", PASSWORD, json!({"system": {"all": true}})).await;
    assert_eq!(hypervisors(&of_system).await, 200);
    let of_domain = site.keystone.log_in("member", PASSWORD, json!({"domain": {"id": "default"}})).await;
    let unscoped = site.keystone.log_in("member", PASSWORD, Value::Null).await;
    site.check("a domain is no project", &of_domain, 403).await;
    site.check("nothing was asked for", &unscoped, 403).await;
    let asker = site.keystone.log_in(ASKER, ASKER_PASSWORD, on("service")).await;
    site.check("the role `service` opens nothing here", &asker, 403).await;

    for wrong in ["", "gAAAAAB", &"x".repeat(9000), &format!("{member}x")] {
        site.check("a wrong token", wrong, 401).await;
    }
    let reply = site.cloud.compute(Method::GET, "/servers", "wrong", AT, None).await;
    let challenge = format!("Keystone uri=\"{}\"", site.keystone.url());
    assert_eq!(reply.headers["www-authenticate"].to_str().unwrap(), challenge);

    // A credential that is for some calls only is for none, since nobody here looks at which.
    let limited = limited_token(&site.keystone, &member).await;
    site.check("a credential with access rules", &limited, 401).await;

    // What was vouched for is taken on, and asked about where nothing is kept.
    site.keystone.revoke(&member).await;
    site.check("a revoked token that was seen before", &member, 200).await;
    site.take_up_anew(0).await;
    site.check("a revoked token", &member, 401).await;
    site.check("another's", &boss, 200).await;
    identity_is_elsewhere(site).await;
}

/// Of an application credential that may list servers.
async fn limited_token(keystone: &KeystoneServer, member: &str) -> String {
    let user = keystone.user_of(member).await;
    let rule = json!({"path": "/v2.1/servers", "method": "GET", "service": "compute"});
    let credential = json!({"application_credential": {"name": "ci", "secret": "s3cret", "access_rules": [rule]}});
    let path = format!("/users/{user}/application_credentials");
    let (status, made, _) = keystone.call(Method::POST, &path, member, Some(credential)).await;
    assert_eq!(status, 201, "{made}");
    let credential = json!({"id": made["application_credential"]["id"], "secret": "s3cret"});
    let identity = json!({"methods": ["application_credential"], "application_credential": credential});
    let log_in = json!({"auth": {"identity": identity}});
    let (status, body, token) = keystone.call(Method::POST, "/auth/tokens", "", Some(log_in)).await;
    assert_eq!(status, 201, "{body}");
    token
}

async fn identity_is_elsewhere(site: &Site) {
    for (method, path) in [(Method::GET, "/v3"), (Method::POST, "/v3/auth/tokens"), (Method::GET, "")] {
        let reply = site.cloud.call(method, path, None, None).await;
        assert_eq!(reply.status, 410, "{path}");
        assert!(reply.body["error"]["message"].as_str().unwrap().contains(&site.keystone.url()), "{}", reply.body);
    }
    let refused = site.cloud.place.client.bootstrap(&Bootstrap { password: PASSWORD.to_owned() }).await.unwrap_err();
    assert!(refused.detail.contains(&site.keystone.url()) && refused.hint.unwrap().contains("endpoints"));
    assert_eq!(site.cloud.place.client.hosts().await.unwrap().len(), 1, "the native API's tokens are its own");
}

async fn nobody_is_refused_when_it_is_gone(site: &mut Site) {
    let (known, unknown) = (site.token("member").await, site.token("boss").await);
    site.check("a member's", &known, 200).await;
    site.keystone.kill();
    site.check("one that was vouched for", &known, 200).await;
    let reply = site.cloud.compute(Method::GET, "/servers", &unknown, AT, None).await;
    assert_eq!((reply.status.as_u16(), reply.headers.contains_key("retry-after")), (503, true), "{}", reply.body);
    let reply = site.cloud.request(Method::GET, "/network/v2.0/networks", &unknown).send().await.unwrap();
    assert_eq!(reply.status(), 503);

    // From here on tokens live for two seconds, the controller's own too: each is asked about by one that was got anew.
    site.keystone.configure(2);
    site.keystone.run();
    site.check("Keystone is back", &unknown, 200).await;
    site.take_up_anew(300).await;
    let short = site.token("member").await;
    let seen = site.status(&short).await;
    assert!(matches!(seen, 200 | 401), "a slow machine sees it expired: {seen}");
    until("the token to expire, kept or not", async || (site.status(&short).await == 401).then_some(())).await;

    site.keystone.kill();
    site.keystone.configure(3600);
    site.keystone.run();
    site.take_up_anew(1).await;
    let known = site.token("member").await;
    site.check("a member's", &known, 200).await;
    the_askers_token_is_renewed(site, &known).await;
    site.keystone.kill();
    until("the word to end", async || (site.status(&known).await == 503).then_some(())).await;
}

/// Without anybody noticing, when Keystone takes it back before its end; not when its user is shut out.
async fn the_askers_token_is_renewed(site: &Site, known: &str) {
    let admin = site.keystone.log_in("admin", ADMIN_PASSWORD, on("admin")).await;
    let path = format!("/users?name={ASKER}");
    let (_, users, _) = site.keystone.call(Method::GET, &path, &admin, None).await;
    let path = format!("/users/{}", users["users"][0]["id"].as_str().unwrap());
    let enable = async |enabled: bool| {
        let change = json!({"user": {"enabled": enabled}});
        assert_eq!(site.keystone.call(Method::PATCH, &path, &admin, Some(change)).await.0, 200);
    };
    enable(false).await;
    until("the asker to be shut out", async || (site.status(known).await == 503).then_some(())).await;
    enable(true).await;
    // Its old token is not back, and Keystone counts in seconds what was given out before that.
    until("the asker to be let in again", async || (site.status(known).await == 200).then_some(())).await;
}
