//! Whose tokens are taken: the controller's own, or those of a Keystone that the site has already.
//!
//! Ground rules: a setting that would be ignored stops the start; the password is in the file, in a file of its own or in the
//! environment, in one of them, and is never printed.

use std::{fmt, path::PathBuf, time::Duration};

use serde::Deserialize;
use whimbrel_api::openstack::identity::vouched::Credentials;

/// Takes the place of `password` and `password_file`.
const PASSWORD_VARIABLE: &str = "WHIMBREL_KEYSTONE_PASSWORD";
/// Where Debian collects the CAs that a system trusts.
const SYSTEM_CA_FILE: &str = "/etc/ssl/certs/ca-certificates.crt";
const PROJECT_NAME: &str = "service";
const DOMAIN_NAME: &str = "Default";
const CACHE_S: u64 = 30;
/// A revoked token works on for as long as it is kept.
const CACHE_S_MAX: u64 = 300;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    /// Users, projects and tokens are in the controller's database.
    #[default]
    Builtin,
    /// They are in the site's Keystone.
    Keystone,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityConfig {
    #[serde(default)]
    pub backend: Backend,
    #[serde(default)]
    pub keystone: Option<KeystoneConfig>,
}

/// The site's Keystone, and the user as whom the controller asks it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeystoneConfig {
    /// By which the controller reaches it: `https://keystone:5000/v3`.
    pub url: String,
    /// By which clients do; told to those who have no token. `url` by default.
    #[serde(default)]
    pub public_url: Option<String>,
    pub username: String,
    #[serde(default)]
    pub password: Option<Password>,
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    #[serde(default = "project_name")]
    pub project_name: String,
    #[serde(default = "domain_name")]
    pub user_domain_name: String,
    #[serde(default = "domain_name")]
    pub project_domain_name: String,
    /// CAs in PEM; those of the system by default.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// For how long a token that Keystone vouched for is taken without asking again; 0 asks every time.
    #[serde(default = "cache_s")]
    pub cache_s: u64,
}

#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Password(String);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// All that is needed to ask, read from where it is.
pub struct Site {
    pub url: String,
    pub public_url: String,
    pub ca_pem: Vec<u8>,
    pub credentials: Credentials,
    pub cache: Duration,
}

#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("identity.backend is \"keystone\", but there is no [identity.keystone] with url and username")]
    NoKeystone,
    #[error("[identity.keystone] is there, but identity.backend is \"builtin\"")]
    Ignored,
    #[error("identity.keystone.cache_s is {0}, {CACHE_S_MAX} is the most: a revoked token works on for so long")]
    CacheTooLong(u64),
    #[error("the password of identity.keystone is said in more than one place: {0}")]
    ManyPasswords(String),
    #[error("identity.keystone has no password; name password_file, or set {PASSWORD_VARIABLE}")]
    NoPassword,
    #[error("cannot read {path} of identity.keystone", path = path.display())]
    Read { path: PathBuf, source: std::io::Error },
}

fn project_name() -> String {
    PROJECT_NAME.to_owned()
}

fn domain_name() -> String {
    DOMAIN_NAME.to_owned()
}

fn cache_s() -> u64 {
    CACHE_S
}

impl IdentityConfig {
    /// `None`: the controller's own. `variable` reads the environment.
    pub fn site(&self, variable: impl Fn(&str) -> Option<String>) -> Result<Option<Site>, IdentityError> {
        let keystone = match (self.backend, &self.keystone) {
            (Backend::Builtin, None) => return Ok(None),
            (Backend::Builtin, Some(_)) => return Err(IdentityError::Ignored),
            (Backend::Keystone, None) => return Err(IdentityError::NoKeystone),
            (Backend::Keystone, Some(keystone)) => keystone,
        };
        if keystone.cache_s > CACHE_S_MAX {
            return Err(IdentityError::CacheTooLong(keystone.cache_s));
        }
        let credentials = Credentials {
            username: keystone.username.clone(),
            password: keystone.found_password(variable(PASSWORD_VARIABLE))?,
            user_domain_name: keystone.user_domain_name.clone(),
            project_name: keystone.project_name.clone(),
            project_domain_name: keystone.project_domain_name.clone(),
        };
        Ok(Some(Site {
            url: keystone.url.clone(),
            public_url: keystone.public_url.clone().unwrap_or_else(|| keystone.url.clone()),
            ca_pem: keystone.ca_pem()?,
            credentials,
            cache: Duration::from_secs(keystone.cache_s),
        }))
    }
}

impl KeystoneConfig {
    fn found_password(&self, variable: Option<String>) -> Result<String, IdentityError> {
        let places = [
            ("password", self.password.is_some()),
            ("password_file", self.password_file.is_some()),
            (PASSWORD_VARIABLE, variable.is_some()),
        ];
        let said: Vec<&str> = places.into_iter().filter(|(_, there)| *there).map(|(name, _)| name).collect();
        if said.len() > 1 {
            return Err(IdentityError::ManyPasswords(said.join(", ")));
        }
        let password = match (&self.password, &self.password_file, variable) {
            (Some(Password(password)), _, _) => password.clone(),
            (None, Some(path), _) => {
                let read = |source| IdentityError::Read { path: path.clone(), source };
                let text = std::fs::read_to_string(path).map_err(read)?;
                text.lines().next().unwrap_or_default().to_owned()
            }
            (None, None, variable) => variable.unwrap_or_default(),
        };
        if password.is_empty() { Err(IdentityError::NoPassword) } else { Ok(password) }
    }

    /// Nothing where nothing needs it.
    fn ca_pem(&self) -> Result<Vec<u8>, IdentityError> {
        let path = match &self.ca_file {
            Some(path) => path.clone(),
            None if self.url.starts_with("https:") => SYSTEM_CA_FILE.into(),
            None => return Ok(Vec::new()),
        };
        std::fs::read(&path).map_err(|source| IdentityError::Read { path, source })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const KEYSTONE: &str = "backend = 'keystone'\n[keystone]\nurl = 'http://k:5000/v3'\nusername = 'whimbrel'\n";

    fn site(text: &str, variable: Option<&str>) -> Result<Option<Site>, String> {
        let config = whimbrel_daemon::config::parse::<IdentityConfig>(Path::new("controller.toml"), text);
        let config = config.map_err(|error| error.to_string())?;
        config.site(|_| variable.map(str::to_owned)).map_err(|error| error.to_string())
    }

    #[test]
    fn the_controllers_own_is_the_usual() {
        assert!(site("", None).unwrap().is_none());
        assert!(site("backend = 'builtin'", Some("unused")).unwrap().is_none());
    }

    #[test]
    fn a_keystone_needs_an_address_a_user_and_one_password() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        std::fs::write(&path, "from a file\nmore\n").unwrap();
        let file = format!("{KEYSTONE}password_file = '{}'", path.display());
        let check = |text: &str, variable: Option<&str>, password: &str| {
            let site = site(text, variable).unwrap().unwrap();
            assert_eq!(site.credentials.password, password);
            assert_eq!((site.url.as_str(), site.public_url.as_str()), ("http://k:5000/v3", "http://k:5000/v3"));
            assert_eq!((site.credentials.project_name.as_str(), site.cache.as_secs()), ("service", 30));
        };
        check(&file, None, "from a file");
        check(&format!("{KEYSTONE}password = 'in it'"), None, "in it");
        check(KEYSTONE, Some("from outside"), "from outside");
    }

    #[test]
    fn what_would_not_work_or_be_ignored_stops_the_start() {
        let check = |text: &str, variable: Option<&str>, word: &str| match site(text, variable) {
            Ok(_) => panic!("{text} was taken"),
            Err(error) => assert!(error.contains(word), "{error} lacks {word}"),
        };
        check("backend = 'keystone'", None, "[identity.keystone]");
        check("backend = 'ldap'", None, "unknown variant");
        check(&KEYSTONE.replace("backend = 'keystone'", ""), Some("p"), "builtin");
        check(KEYSTONE, None, "WHIMBREL_KEYSTONE_PASSWORD");
        check(&format!("{KEYSTONE}password = ''"), None, "no password");
        check(&format!("{KEYSTONE}password = 'a'"), Some("b"), "password, WHIMBREL_KEYSTONE_PASSWORD");
        check(&format!("{KEYSTONE}password_file = '/nowhere'"), None, "/nowhere");
        check(&format!("{KEYSTONE}cache_s = 301"), Some("p"), "300");
        check(&format!("{KEYSTONE}ca_file = '/nowhere'"), Some("p"), "/nowhere");
        check(&format!("{KEYSTONE}user = 'x'"), Some("p"), "unknown field");
    }

    #[test]
    fn a_password_is_not_printed() {
        let text = format!("{KEYSTONE}password = 'hidden'");
        let config = whimbrel_daemon::config::parse::<IdentityConfig>(Path::new("x"), &text).unwrap();
        assert!(!format!("{config:?}").contains("hidden"));
    }
}
