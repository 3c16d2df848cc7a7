//! Which version of the Compute API a request is answered at.
//!
//! ```text
//!  OpenStack-API-Version: compute 2.30 ┐
//!  X-OpenStack-Nova-API-Version: 2.25  ┴▶ asked ─▶ Offer::choose ─▶ Microversion, echoed in both headers
//! ```
//!
//! Ground rules: versions are contiguous, each one up to the offer's last behaves as Nova specifies it; who asks for none gets
//! the first; who asks for more than is offered is refused with the range and never given less.
//! Sources: nova, api/openstack/api_version_request.py and wsgi.py; microversion-parse.

use std::{fmt, str::FromStr};

/// Headers that carry it, in requests and in answers.
pub const HEADER: &str = "openstack-api-version";
pub const HEADER_LEGACY: &str = "x-openstack-nova-api-version";
const SERVICE: &str = "compute";
const LATEST: &str = "latest";
const MAJOR: u64 = 2;

/// A version 2.x of the Compute API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Microversion {
    minor: u16,
}

impl Microversion {
    pub const FIRST: Microversion = Microversion::v2(1);
    /// The last one that python-novaclient knows.
    pub const LAST: Microversion = Microversion::v2(96);

    pub const fn v2(minor: u16) -> Microversion {
        Microversion { minor }
    }
}

impl fmt::Display for Microversion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{MAJOR}.{}", self.minor)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("API Version String {asked} is of invalid format. Must be of format MajorNum.MinorNum.")]
    Malformed { asked: String },
    #[error("Version {asked} is not supported by the API. Minimum is {min} and maximum is {max}.")]
    OutOfRange { asked: String, min: Microversion, max: Microversion },
}

impl Refused {
    pub fn status(&self) -> u16 {
        match self {
            Refused::Malformed { .. } => 400,
            Refused::OutOfRange { .. } => 406,
        }
    }
}

/// What a controller serves: every version from the first to this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    max: Microversion,
}

impl Default for Offer {
    fn default() -> Self {
        Offer { max: Microversion::LAST }
    }
}

impl Offer {
    pub const ALL: Offer = Offer { max: Microversion::LAST };

    pub fn max(self) -> Microversion {
        self.max
    }

    /// `None` is a request without a version.
    pub fn choose(self, asked: Option<&str>) -> Result<Microversion, Refused> {
        let asked = match asked {
            None => return Ok(Microversion::FIRST),
            Some(LATEST) => return Ok(self.max),
            Some(asked) => asked,
        };
        let (major, minor) = parse(asked).ok_or_else(|| Refused::Malformed { asked: asked.to_owned() })?;
        let offered = |minor: &u16| (Microversion::FIRST.minor..=self.max.minor).contains(minor);
        match u16::try_from(minor).ok().filter(offered) {
            Some(minor) if major == MAJOR => Ok(Microversion::v2(minor)),
            Some(_) | None => {
                Err(Refused::OutOfRange { asked: asked.to_owned(), min: Microversion::FIRST, max: self.max })
            }
        }
    }
}

/// A cap as an operator writes it: one of the versions that are served at all.
impl FromStr for Offer {
    type Err = Refused;

    fn from_str(cap: &str) -> Result<Offer, Refused> {
        Offer::default().choose(Some(cap)).map(|max| Offer { max })
    }
}

/// What a request asks for, of the values of [`HEADER`] and of [`HEADER_LEGACY`] in their order. The last word counts, and the
/// legacy header only where the other says nothing of the compute service (clients send both to every service).
pub fn asked<'a>(standard: &[&'a str], legacy: &[&'a str]) -> Option<&'a str> {
    let of_compute = |pair: &'a str| {
        let (service, version) = pair.trim().split_once(char::is_whitespace)?;
        service.eq_ignore_ascii_case(SERVICE).then_some(version.trim())
    };
    let words = |values: &[&'a str]| values.iter().flat_map(|value| value.split(',')).collect::<Vec<_>>();
    let standard = words(standard).into_iter().rev().find_map(of_compute);
    standard.or_else(|| words(legacy).last().map(|version| version.trim()))
}

/// `X.Y` without leading zeros. A number that is too large for any version counts as the largest.
fn parse(text: &str) -> Option<(u64, u64)> {
    let number =
        |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().unwrap_or(u64::MAX));
    let (major, minor) = text.split_once('.')?;
    let leads = |digits: &str| digits.is_empty() || digits.starts_with('0');
    if leads(major) || (leads(minor) && minor != "0") {
        return None;
    }
    Some((number(major)?, number(minor)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_served_or_refused_with_the_range() {
        let check = |asked: Option<&str>, want: Result<u16, u16>| {
            let got = Offer::default().choose(asked);
            assert_eq!(got.as_ref().map(|v| v.minor).map_err(Refused::status), want, "{asked:?}");
        };
        check(None, Ok(1));
        check(Some("latest"), Ok(96));
        check(Some("2.1"), Ok(1));
        check(Some("2.30"), Ok(30));
        check(Some("2.96"), Ok(96));
        check(Some("2.0"), Err(406));
        check(Some("2.97"), Err(406));
        check(Some("1.1"), Err(406));
        check(Some("3.1"), Err(406));
        check(Some("2.65537"), Err(406));
        check(Some("2.99999999999999999999"), Err(406));
        for malformed in
            ["", "2", "2.", ".1", "2.01", "02.1", "2.1.1", "2.x", "2,1", "-2.1", "2.+1", "Latest", "2. 1", "٢.1"]
        {
            check(Some(malformed), Err(400));
        }
    }

    #[test]
    fn a_refusal_says_it_in_novas_words() {
        let refused = |asked| Offer::default().choose(Some(asked)).expect_err("refused").to_string();
        assert_eq!(refused("9.9"), "Version 9.9 is not supported by the API. Minimum is 2.1 and maximum is 2.96.");
        assert_eq!(refused("two"), "API Version String two is of invalid format. Must be of format MajorNum.MinorNum.");
    }

    #[test]
    fn a_cap_is_what_latest_means() {
        let capped: Offer = "2.87".parse().expect("a version");
        assert_eq!(capped.choose(Some("latest")), Ok(Microversion::v2(87)));
        assert_eq!(capped.choose(Some("2.88")).map_err(|refused| refused.status()), Err(406));
        assert_eq!("2.97".parse::<Offer>().map_err(|refused| refused.status()), Err(406));
        assert_eq!("".parse::<Offer>().map_err(|refused| refused.status()), Err(400));
    }

    #[test]
    fn the_last_word_on_compute_counts_and_the_legacy_header_after_it() {
        let check = |standard: &[&str], legacy: &[&str], want: Option<&str>| {
            assert_eq!(asked(standard, legacy), want, "{standard:?} {legacy:?}");
        };
        check(&[], &[], None);
        check(&["compute 2.30"], &[], Some("2.30"));
        check(&["Compute  latest "], &[], Some("latest"));
        check(&["compute 2.30"], &["2.25"], Some("2.30"));
        check(&["volume 3.59"], &["2.25"], Some("2.25"));
        check(&["volume 3.59, compute 2.5,network 1.0"], &[], Some("2.5"));
        check(&["compute 2.5,compute 2.6"], &[], Some("2.6"));
        check(&["compute 2.6", "compute 2.5"], &[], Some("2.5"));
        check(&["compute"], &["2.25, 2.26 "], Some("2.26"));
        check(&["2.30"], &[], None);
        check(&[], &[""], Some(""));
    }
}
