//! Starts the controller and the agents as a user would: a config file each, and a one-time token to join with.

use std::{
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use fs_err::os::unix::fs::OpenOptionsExt;
use whimbrel_api::{
    client::ControllerClient,
    native::{HostState, NewJoinToken},
};

use crate::{
    binary,
    lab::{HostSite, Lab, Site},
    process::{ProcessId, Start},
    wait,
};

/// Purpose of the controller's process in the record.
pub(crate) const CONTROLLER: &str = "controller";
const START_TIME_MAX: Duration = Duration::from_secs(30);
const AGENT_PORT: u16 = 8771;
const DATA_PORT: u16 = 8772;
/// Lines of a log that an error shows.
const LAST_LINES: usize = 6;

pub(crate) fn agent_purpose(host: &str) -> String {
    format!("agent {host}")
}

impl Site {
    pub fn ca_file(&self) -> PathBuf {
        self.controller_dir().join("state/ca.crt")
    }
    pub fn token_file(&self) -> PathBuf {
        self.controller_dir().join("state/admin.token")
    }

    /// What points every `whimbrel` command at this lab.
    pub fn variables(&self) -> Vec<(String, String)> {
        let file = |path: PathBuf| path.display().to_string();
        let (ca, token) = (file(self.ca_file()), file(self.token_file()));
        // An empty token, since one that the shell has from elsewhere would take the place of the file.
        let own = [("URL", self.url()), ("CA", ca.clone()), ("TOKEN_FILE", token), ("TOKEN", String::new())]
            .map(|(name, value)| (format!("WHIMBREL_{name}"), value));
        let of_cloud = self.cloud.iter().flat_map(|cloud| {
            let made = &cloud.made;
            [
                ("AUTH_URL", made.auth_url.as_str()),
                ("USERNAME", &made.user),
                ("PASSWORD", &cloud.password),
                ("PROJECT_NAME", &made.project),
                ("USER_DOMAIN_NAME", &made.domain),
                ("PROJECT_DOMAIN_NAME", &made.domain),
                ("REGION_NAME", &made.region),
                ("IDENTITY_API_VERSION", "3"),
                ("CACERT", &ca),
            ]
            .map(|(name, value)| (format!("OS_{name}"), value.to_owned()))
        });
        own.into_iter().chain(of_cloud.collect::<Vec<_>>()).collect()
    }

    pub fn client(&self) -> Result<ControllerClient> {
        let ca = fs_err::read_to_string(self.ca_file())?;
        let token = fs_err::read_to_string(self.token_file())?;
        Ok(ControllerClient::new(&self.url(), &ca, token.trim())?)
    }
}

pub(crate) async fn start_controller(lab: &mut Lab) -> Result<()> {
    let site = lab.site().clone();
    let dir = site.controller_dir();
    let config = dir.join("controller.toml");
    let text = format!("listen = \"{}\"\nstate_dir = \"{}\"\n", site.controller_address(), dir.join("state").display());
    fs_err::write(&config, text)?;
    let id = start(lab, &site.fabric, "controller", &config, dir.join("log"))?;
    lab.note(CONTROLLER, id)?;
    let answers = async || {
        running(id, CONTROLLER, &dir.join("log"))?;
        if !site.ca_file().exists() || !site.token_file().exists() {
            return Ok(None);
        }
        // Not yet listening, or its files are not complete yet.
        let Ok(client) = site.client() else { return Ok(None) };
        Ok(client.version().await.ok())
    };
    wait::until_async("the controller's answer", START_TIME_MAX, answers).await?;
    Ok(())
}

pub(crate) async fn start_agents(lab: &mut Lab) -> Result<()> {
    let client = lab.site().client()?;
    let hosts: Vec<String> = lab.site().hosts.iter().filter(|host| host.agent).map(|host| host.name.clone()).collect();
    for host in &hosts {
        let name = host.parse().with_context(|| format!("host '{host}'"))?;
        let token = client.create_join_token(&NewJoinToken { host: name }).await?;
        start_agent(lab, host, Some(&token.token))?;
    }
    agents_up(lab, &hosts).await
}

/// Starts an agent. With a token it joins; without, it has its identity from before.
pub(crate) fn start_agent(lab: &mut Lab, host: &str, join_token: Option<&str>) -> Result<ProcessId> {
    let site = lab.site().clone();
    let host = site.host(host)?;
    let config = host.dir.join("agent.toml");
    write_private(&config, &agent_config(&site, host, join_token))?;
    let id = start(lab, &host.namespace, "agent", &config, host.dir.join("log"))?;
    lab.note(&agent_purpose(&host.name), id)?;
    Ok(id)
}

fn agent_config(site: &Site, host: &HostSite, join_token: Option<&str>) -> String {
    let networks = &site.networks;
    let (control, data) = (networks.control.host(host.index), networks.migration.host(host.index));
    let join = join_token.map_or(String::new(), |token| format!("join_token = \"{token}\"\n"));
    let shared = host.shared_dir.as_ref().map_or(String::new(), |dir| format!("shared_dir = \"{}\"\n", dir.display()));
    format!(
        "name = \"{}\"\n\
         controller_url = \"{}\"\n\
         state_dir = \"{}\"\n\
         run_dir = \"{}\"\n\
         control_listen = \"{control}:{AGENT_PORT}\"\n\
         data_listen = \"{data}:{DATA_PORT}\"\n\
         qemu_dir = \"{}\"\n\
         {join}{shared}",
        host.name,
        site.url(),
        host.dir.join("state").display(),
        host.run_dir.display(),
        host.qemu.display(),
    )
}

/// For a config that holds a secret.
fn write_private(path: &Path, text: &str) -> Result<()> {
    let mut file = fs_err::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path)?;
    Ok(file.write_all(text.as_bytes())?)
}

/// Waits until the controller sees these hosts up.
pub(crate) async fn agents_up(lab: &Lab, hosts: &[String]) -> Result<()> {
    let client = lab.site().client()?;
    let up = async || {
        for host in hosts {
            let log = lab.site().host(host)?.dir.join("log");
            lab.agent(host).with_context(|| last_lines(&log))?;
        }
        let known = client.hosts().await?;
        let is_up = |name: &String| known.iter().any(|host| host.name.as_str() == name && host.state == HostState::Up);
        Ok(hosts.iter().all(is_up).then_some(()))
    };
    wait::until_async(&format!("{} up at the controller", hosts.join(", ")), START_TIME_MAX, up).await
}

fn start(lab: &Lab, namespace: &str, daemon: &str, config: &Path, log: PathBuf) -> Result<ProcessId> {
    let words =
        [binary::path()?.display().to_string(), daemon.to_owned(), "--config".to_owned(), config.display().to_string()];
    Start { lab_id: lab.id(), namespace, words: words.into(), log }.start()
}

fn running(id: ProcessId, what: &str, log: &Path) -> Result<()> {
    if !id.alive() {
        bail!("the {what} ended at its start: {}", last_lines(log));
    }
    Ok(())
}

/// What the daemons of a lab said last, for an error.
pub(crate) fn last_words(site: &Site) -> String {
    let agents = site.hosts.iter().filter(|host| host.agent).map(|host| (&*host.name, host.dir.join("log")));
    let logs = std::iter::once((CONTROLLER, site.controller_dir().join("log"))).chain(agents);
    let words =
        logs.filter(|(_, log)| log.exists()).map(|(name, log)| format!("{name} said last:\n{}", last_lines(&log)));
    format!("the lab did not come up\n{}", words.collect::<Vec<_>>().join("\n"))
}

pub(crate) fn last_lines(log: &Path) -> String {
    let text = fs_err::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().rev().take(LAST_LINES).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}
