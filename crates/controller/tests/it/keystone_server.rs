//! The Keystone of Debian's packages for the time of one test: SQLite, keys and log in a temporary directory, TLS on loopback.
//! It ends with the test.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use whimbrel_daemon::{
    clock::Timestamp,
    pki::{Authority, Names, PeerIdentity, Secret},
};

use crate::{cloud::https, place::name};

pub const ADMIN_PASSWORD: &str = "sites-own";
const REGION: &str = "RegionOne";
const KEYS: [&str; 2] = ["fernet", "receipts"];
const REMEDY: &str = "run through ./x test, which unpacks it";
const SERVER: &str = include_str!("keystone_server.py");

pub struct KeystoneServer {
    dir: TempDir,
    running: Option<Child>,
    port: u16,
    http: reqwest::Client,
}

impl KeystoneServer {
    /// With a certificate of the controller's CA, which is made in `state_dir` if it is not there.
    pub async fn start(state_dir: &Path) -> Self {
        let dir = tempfile::Builder::new().prefix("whimbrel-keystone-").tempdir().unwrap();
        let authority = Authority::open(state_dir, Timestamp::now()).unwrap();
        let names = Names { addresses: vec!["127.0.0.1".parse().unwrap()], ..Names::default() };
        let certificate = authority.issue(&PeerIdentity::controller(name("keystone")), &names, Timestamp::now());
        certificate.unwrap().save(&dir.path().join("keystone.pem")).unwrap();
        // What `keystone-manage fernet_setup` does, which would want a user to give the keys to.
        for keys in KEYS {
            fs::create_dir(dir.path().join(keys)).unwrap();
            for key in ["0", "1"] {
                fs::write(dir.path().join(keys).join(key), fernet_key()).unwrap();
            }
        }
        fs::write(dir.path().join("server.py"), SERVER).unwrap();
        let mut server = KeystoneServer { dir, running: None, port: 0, http: https(state_dir) };
        server.configure(3600);
        manage(server.dir.path(), &["db_sync"]);
        let bootstrap = ["bootstrap", "--bootstrap-password", ADMIN_PASSWORD, "--bootstrap-region-id", REGION];
        manage(server.dir.path(), &bootstrap);
        server.run();
        server.register().await;
        server
    }

    /// Itself, which `keystone-manage bootstrap` could not do: the port was not known.
    async fn register(&self) {
        let scope = json!({"project": {"name": "admin", "domain": {"id": "default"}}});
        let admin = self.log_in("admin", ADMIN_PASSWORD, scope).await;
        let service = json!({"service": {"type": "identity", "name": "keystone"}});
        let (status, made, _) = self.call(Method::POST, "/services", &admin, Some(service)).await;
        assert_eq!(status, 201, "{made}");
        let endpoint = json!({"endpoint": {"service_id": made["service"]["id"], "interface": "public",
            "region_id": REGION, "url": self.url()}});
        let (status, body, _) = self.call(Method::POST, "/endpoints", &admin, Some(endpoint)).await;
        assert_eq!(status, 201, "{body}");
    }

    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}/v3", self.port)
    }

    /// How long tokens live that are given out from the next run on.
    pub fn configure(&self, token_time_s: u32) {
        configure(self.dir.path(), token_time_s);
    }

    /// On the port that it had.
    pub fn run(&mut self) {
        let dir = self.dir.path();
        let mut child = python()
            .arg(dir.join("server.py"))
            .args([dir.join("keystone.conf"), dir.join("keystone.pem")])
            .arg(self.port.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        self.running = Some(child);
        self.port = line
            .trim()
            .parse()
            .unwrap_or_else(|_| panic!("Keystone did not start: {REMEDY}\n{}", log(self.dir.path())));
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.running.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// A call of Keystone's own API; its status, body and the token that it gave.
    pub async fn call(&self, method: Method, path: &str, token: &str, body: Option<Value>) -> (u16, Value, String) {
        let mut ask = self.http.request(method, format!("{}{path}", self.url())).header("X-Auth-Token", token);
        if let Some(body) = body {
            ask = ask.json(&body);
        }
        let reply = ask.send().await.unwrap();
        let status = reply.status().as_u16();
        let given = reply.headers().get("x-subject-token").map(|value| value.to_str().unwrap().to_owned());
        (status, reply.json().await.unwrap_or(Value::Null), given.unwrap_or_default())
    }

    /// A token; `scope` is `null` for none.
    pub async fn log_in(&self, user: &str, password: &str, scope: Value) -> String {
        let user = json!({"name": user, "domain": {"id": "default"}, "password": password});
        let identity = json!({"methods": ["password"], "password": {"user": user}});
        let scope = if scope.is_null() { json!("unscoped") } else { scope };
        let auth = json!({"auth": {"identity": identity, "scope": scope}});
        let (status, body, token) = self.call(Method::POST, "/auth/tokens", "", Some(auth)).await;
        assert_eq!(status, 201, "{body}");
        token
    }

    /// Its id.
    pub async fn user_of(&self, token: &str) -> String {
        let url = format!("{}/auth/tokens?nocatalog", self.url());
        let ask = self.http.get(url).header("X-Auth-Token", token).header("X-Subject-Token", token);
        let shown: Value = ask.send().await.unwrap().json().await.unwrap();
        shown["token"]["user"]["id"].as_str().unwrap().to_owned()
    }

    pub async fn revoke(&self, token: &str) {
        let url = format!("{}/auth/tokens", self.url());
        let ask = self.http.delete(url).header("X-Auth-Token", token).header("X-Subject-Token", token);
        assert_eq!(ask.send().await.unwrap().status(), 204);
    }
}

impl Drop for KeystoneServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn configure(dir: &Path, token_time_s: u32) {
    let text = format!(
        "[DEFAULT]\nlog_file = {dir}/keystone.log\nuse_stderr = false\n\
         [database]\nconnection = sqlite:///{dir}/keystone.db\n\
         [token]\nexpiration = {token_time_s}\n\
         [fernet_tokens]\nkey_repository = {dir}/fernet\n\
         [fernet_receipts]\nkey_repository = {dir}/receipts\n\
         [identity]\npassword_hash_rounds = 4\n\
         [cache]\nenabled = false\n",
        dir = dir.display()
    );
    fs::write(dir.join("keystone.conf"), text).unwrap();
}

fn manage(dir: &Path, words: &[&str]) {
    let program = "from keystone.cmd import manage; manage.main()";
    let mut command = python();
    command.args(["-c", program, "--config-file"]).arg(dir.join("keystone.conf"));
    let output = command.args(words).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "keystone-manage {words:?}: {REMEDY}\n{said}\n{}", log(dir));
}

fn log(dir: &Path) -> String {
    fs::read_to_string(dir.join("keystone.log")).unwrap_or_default()
}

/// Ends with this process, however that ends.
fn python() -> Command {
    let packages = std::env::var_os("WHIMBREL_KEYSTONE").map(PathBuf::from);
    let packages = packages.unwrap_or_else(|| panic!("WHIMBREL_KEYSTONE is not set; hint: {REMEDY}"));
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "/usr/bin/python3"]).env("PYTHONPATH", packages);
    // Nothing of this machine's own settings.
    command.env("PYTHONNOUSERSITE", "1").env("PYTHONWARNINGS", "ignore").current_dir("/").stdin(Stdio::null());
    command
}

/// 32 random bytes in Base64 for URLs.
fn fernet_key() -> String {
    use base64::{Engine, engine::general_purpose::URL_SAFE};
    let hex = Secret::generate().unwrap().reveal();
    let bytes: Vec<u8> = (0..32).map(|n| u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).unwrap()).collect();
    URL_SAFE.encode(bytes)
}
