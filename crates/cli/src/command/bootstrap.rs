//! `whimbrel bootstrap`: the first administrator, in the forms that OpenStack's clients read.

use std::path::Path;

use anyhow::{Context, Result};
use whimbrel_api::{
    client::ControllerClient,
    failure::{Failure, FailureCode},
    native::{self, Bootstrapped},
};

use crate::{
    args::{Bootstrap, Credentials},
    connection::ca_file,
};

/// Of the one entry in `clouds.yaml`.
const CLOUD: &str = "whimbrel";

pub async fn run(client: &ControllerClient, command: Bootstrap) -> Result<()> {
    let password = match &command.password_file {
        Some(path) => first_line(path)?,
        None => random()?,
    };
    let made = client.bootstrap(&native::Bootstrap { password: password.clone() }).await?;
    let ca = ca_file()?;
    match command.print {
        Some(Credentials::Openrc) => print!("{}", openrc(&made, &password, &ca)),
        Some(Credentials::Clouds) => print!("{}", clouds(&made, &password, &ca)),
        None => {
            println!("# openrc: source it in a shell");
            print!("{}", openrc(&made, &password, &ca));
            println!("\n# clouds.yaml: put it into ~/.config/openstack, then `openstack --os-cloud {CLOUD} …`");
            print!("{}", clouds(&made, &password, &ca));
        }
    }
    Ok(())
}

fn first_line(path: &Path) -> Result<String> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() {
        let failure = Failure::new(FailureCode::BadRequest, format!("{} holds no password", path.display()));
        return Err(failure.hint("write it on the file's first line").into());
    }
    Ok(line.to_owned())
}

/// 244 random bits: two random UUIDs.
fn random() -> Result<String> {
    let bytes = std::fs::read_to_string("/proc/sys/kernel/random/uuid").context("the kernel gives no random UUID")?;
    let more = std::fs::read_to_string("/proc/sys/kernel/random/uuid").context("the kernel gives no random UUID")?;
    Ok(format!("{}{}", bytes.trim(), more.trim()).replace('-', ""))
}

fn openrc(made: &Bootstrapped, password: &str, ca: &Path) -> String {
    let exports = [
        ("OS_AUTH_URL", made.auth_url.as_str()),
        ("OS_USERNAME", &made.user),
        ("OS_PASSWORD", password),
        ("OS_PROJECT_NAME", &made.project),
        ("OS_USER_DOMAIN_NAME", &made.domain),
        ("OS_PROJECT_DOMAIN_NAME", &made.domain),
        ("OS_REGION_NAME", &made.region),
        ("OS_IDENTITY_API_VERSION", "3"),
        ("OS_CACERT", &ca.to_string_lossy()),
    ];
    exports.iter().map(|(name, value)| format!("export {name}={}\n", shell(value))).collect()
}

/// In single quotes, in which only a quote itself means anything.
pub(super) fn shell(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn clouds(made: &Bootstrapped, password: &str, ca: &Path) -> String {
    let auth = [
        ("auth_url", made.auth_url.as_str()),
        ("username", &made.user),
        ("password", password),
        ("project_name", &made.project),
        ("user_domain_name", &made.domain),
        ("project_domain_name", &made.domain),
    ];
    let auth: String = auth.iter().map(|(key, value)| format!("      {key}: {}\n", yaml(value))).collect();
    let (region, ca) = (yaml(&made.region), yaml(&ca.to_string_lossy()));
    format!(
        "clouds:\n  {CLOUD}:\n    auth:\n{auth}    region_name: {region}\n    identity_api_version: 3\n    cacert: {ca}\n"
    )
}

/// In single quotes, which YAML doubles.
fn yaml(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made() -> Bootstrapped {
        let text = |text: &str| text.to_owned();
        Bootstrapped {
            auth_url: text("https://c:1/identity/v3"),
            region: text("RegionOne"),
            user: text("admin"),
            project: text("admin"),
            domain: text("Default"),
        }
    }

    #[test]
    fn a_quote_in_a_password_stays_one() {
        let (password, ca) = ("it's $HOME \"x\"", Path::new("/etc/ca.crt"));
        let script = format!("{}printf %s \"$OS_PASSWORD\"", openrc(&made(), password, ca));
        let said = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
        assert_eq!(String::from_utf8(said.stdout).unwrap(), password);
        let clouds = clouds(&made(), password, ca);
        assert!(clouds.contains("      password: 'it''s $HOME \"x\"'\n"), "{clouds}");
        assert!(clouds.contains("    cacert: '/etc/ca.crt'\n"), "{clouds}");
    }

    #[test]
    fn random_passwords_differ() {
        let (one, other) = (random().unwrap(), random().unwrap());
        assert!(one.len() == 64 && one != other, "{one} {other}");
    }
}
