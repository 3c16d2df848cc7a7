//! What the native API puts on a server's config drive: its name and the user's data. It knows neither keys nor addresses.

use whimbrel_api::{
    native::NewServer,
    openstack::config_drive::{ConfigDrive, USER_DATA_BASE64_BYTES_MAX, from_base64},
};
use whimbrel_core::{
    failure::{Failure, FailureCode},
    id::InstanceId,
};
use whimbrel_store::FlavorRow;

/// A label of a domain's name.
const HOSTNAME_BYTES_MAX: usize = 63;

/// `None`: none is wanted.
pub fn of_new_server(new: &NewServer, id: InstanceId, flavor: &FlavorRow) -> Result<Option<ConfigDrive>, Failure> {
    if !new.config_drive && new.user_data.is_none() {
        return Ok(None);
    }
    let user_data = new.user_data.as_deref().map(user_data).transpose()?;
    Ok(Some(ConfigDrive {
        instance: id.0,
        name: new.name.clone(),
        hostname: hostname(&new.name, id),
        flavor: flavor.name.clone(),
        user_data,
        ..ConfigDrive::default()
    }))
}

fn user_data(text: &str) -> Result<Vec<u8>, Failure> {
    let bad = |detail: String, hint: &str| Failure::new(FailureCode::BadRequest, detail).hint(hint);
    if text.len() > USER_DATA_BASE64_BYTES_MAX {
        let detail = format!("user_data has {} bytes, at most {USER_DATA_BASE64_BYTES_MAX} are taken", text.len());
        return Err(bad(detail, "let the guest fetch the rest from elsewhere at its first start"));
    }
    from_base64(text).ok_or_else(|| bad("user_data is no base64".to_owned(), "encode it: base64 --wrap=0 FILE"))
}

/// The name as far as it can be one of a host.
fn hostname(name: &str, id: InstanceId) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let whole: String = name.chars().map(plain).collect();
    let short = whole.trim_matches('-');
    match short[..short.len().min(HOSTNAME_BYTES_MAX)].trim_end_matches('-') {
        "" => format!("server-{id}"),
        good => good.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_becomes_a_hosts_name() {
        let id = InstanceId(uuid::Uuid::from_u128(7));
        let check = |name: &str, expected: &str| assert_eq!(hostname(name, id), expected);
        check("web-1", "web-1");
        check("Web Server, one!", "web-server--one");
        check("käse", "k-se");
        check("…", "server-00000000-0000-0000-0000-000000000007");
        check(&format!("{}-x", "a".repeat(62)), &"a".repeat(62));
        check(&"b".repeat(200), &"b".repeat(63));
    }
}
