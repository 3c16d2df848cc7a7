//! The controller's configuration: one TOML file in which every key but `listen` has a default that suits.

mod identity;

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use serde::Deserialize;
use whimbrel_core::id::HostName;
use whimbrel_daemon::{
    config::{self, ConfigError},
    pki::Names,
};

pub use self::identity::{Backend, IdentityConfig, IdentityError, KeystoneConfig, Password, Site};

const STATE_DIR: &str = "/var/lib/whimbrel/controller";
const DATABASE_FILE: &str = "controller.db";
const ADMIN_TOKEN_FILE: &str = "admin.token";
const NAME: &str = "controller";

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ControllerConfig {
    /// `IP:port` of the API.
    pub listen: SocketAddr,
    /// DNS names and addresses for its certificate, beside that of `listen`.
    #[serde(default)]
    pub names: Vec<String>,
    /// CA, database and image content.
    #[serde(default = "state_dir")]
    pub state_dir: PathBuf,
    /// `sqlite:…` or `postgres:…`; a SQLite file in `state_dir` by default.
    #[serde(default)]
    pub database_url: Option<String>,
    /// Written at the first start, mode 0600, with a random token of an admin; `admin.token` in `state_dir` by default.
    #[serde(default)]
    pub admin_token_file: Option<PathBuf>,
    /// This controller's name in its certificate.
    #[serde(default = "name")]
    pub name: HostName,
    /// Whose tokens OpenStack's clients show.
    #[serde(default)]
    pub identity: IdentityConfig,
}

pub fn load(path: &Path) -> Result<ControllerConfig, ConfigError> {
    config::load(path)
}

fn state_dir() -> PathBuf {
    STATE_DIR.into()
}

fn name() -> HostName {
    // A constant that the parser takes; a test says so.
    NAME.parse().unwrap_or_else(|error| unreachable!("{error}"))
}

impl ControllerConfig {
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        config::load(path)
    }

    pub fn database_url(&self) -> String {
        let default = || format!("sqlite:{}", self.state_dir.join(DATABASE_FILE).display());
        self.database_url.clone().unwrap_or_else(default)
    }

    pub fn admin_token_file(&self) -> PathBuf {
        self.admin_token_file.clone().unwrap_or_else(|| self.state_dir.join(ADMIN_TOKEN_FILE))
    }

    /// Names for tools that compare them with the URL; an unspecified address (`0.0.0.0`) is no name of anyone.
    pub fn certificate_names(&self) -> Names {
        let mut names = Names::default();
        for name in &self.names {
            match name.parse::<IpAddr>() {
                Ok(address) => names.addresses.push(address),
                Err(_) => names.dns.push(name.clone()),
            }
        }
        if !self.listen.ip().is_unspecified() && !names.addresses.contains(&self.listen.ip()) {
            names.addresses.push(self.listen.ip());
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ControllerConfig, whimbrel_daemon::config::ConfigError> {
        whimbrel_daemon::config::parse(Path::new("controller.toml"), text)
    }

    #[test]
    fn one_key_is_enough() {
        let config = parse("listen = '10.0.0.1:7443'").unwrap();
        assert_eq!(config.database_url(), "sqlite:/var/lib/whimbrel/controller/controller.db");
        assert_eq!(config.admin_token_file(), Path::new("/var/lib/whimbrel/controller/admin.token"));
        assert_eq!(config.name.as_str(), "controller");
        assert_eq!(config.certificate_names().addresses, [config.listen.ip()]);
    }

    #[test]
    fn names_are_told_from_addresses() {
        let config = parse("listen = '0.0.0.0:1'\nnames = ['a.example', '10.0.0.1', '::1']").unwrap();
        let names = config.certificate_names();
        assert_eq!(names.dns, ["a.example"]);
        assert_eq!(names.addresses.len(), 2, "{names:?}");
    }

    #[test]
    fn a_misspelt_key_or_a_wrong_address_is_refused() {
        for bad in ["listen = '10.0.0.1'", "listen = '10.0.0.1:1'\nstatedir = '/x'", "names = []"] {
            assert!(parse(bad).is_err(), "{bad} was taken");
        }
    }
}
