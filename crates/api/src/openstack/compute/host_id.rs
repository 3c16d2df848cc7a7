//! How services and hypervisors are named in a path: by a number until 2.52, by a UUID from 2.53 on.

use uuid::Uuid;

use super::super::microversion::Microversion;

const UUID_SINCE: Microversion = Microversion::v2(53);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostId {
    Number(u64),
    Uuid(Uuid),
}

impl HostId {
    /// `None` for what is no id at this version.
    pub fn parse(text: &str, at: Microversion) -> Option<HostId> {
        match is_uuid(at) {
            true => Uuid::try_parse(text).ok().map(HostId::Uuid),
            false => text.parse().ok().map(HostId::Number),
        }
    }

    /// As markers of a list have it.
    pub fn text(number: u64, uuid: Uuid, at: Microversion) -> String {
        if is_uuid(at) { uuid.to_string() } else { number.to_string() }
    }
}

pub fn is_uuid(at: Microversion) -> bool {
    at >= UUID_SINCE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_number_and_then_a_uuid() {
        let uuid = Uuid::from_u128(7);
        let check = |text: &str, minor: u16, want: Option<HostId>| {
            assert_eq!(HostId::parse(text, Microversion::v2(minor)), want, "{text} at 2.{minor}");
        };
        check("7", 1, Some(HostId::Number(7)));
        check("7", 52, Some(HostId::Number(7)));
        check("7", 53, None);
        check("-7", 1, None);
        check("h1", 1, None);
        check(&uuid.to_string(), 52, None);
        check(&uuid.to_string(), 53, Some(HostId::Uuid(uuid)));
        check("h1", 96, None);
        assert_eq!(HostId::text(7, uuid, Microversion::v2(52)), "7");
        assert_eq!(HostId::text(7, uuid, Microversion::v2(53)), uuid.to_string());
    }
}
