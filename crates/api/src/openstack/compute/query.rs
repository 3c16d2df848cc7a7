//! What stands behind the question mark of a list: filters, order, page.
//!
//! Ground rules: up to 2.74 what is not known is ignored, as Nova does it; from 2.75 it is refused. Where a parameter is given
//! twice, the last one counts.
//! Source: nova, api/validation/__init__.py, `query_schema`; api/openstack/common.py, `get_limit_and_marker`.

use super::super::{fault::Fault, microversion::Microversion};

/// From here on an unknown parameter is refused.
const STRICT_SINCE: Microversion = Microversion::v2(75);
/// Items of one answer, however many are asked for (Nova's `max_limit`).
pub const LIMIT_MAX: usize = 1_000;

#[derive(Clone, Debug)]
pub struct Query(Vec<(String, String)>);

impl Query {
    pub fn parse(raw: Option<&str>, known: &[&str], at: Microversion) -> Result<Query, Fault> {
        Query::parse_strict(raw, known, at, STRICT_SINCE)
    }

    /// Of the few lists that refuse what they do not know sooner than the others.
    pub fn parse_strict(
        raw: Option<&str>,
        known: &[&str],
        at: Microversion,
        strict_since: Microversion,
    ) -> Result<Query, Fault> {
        let pairs = form_urlencoded::parse(raw.unwrap_or_default().as_bytes()).into_owned().collect::<Vec<_>>();
        let unknown = pairs.iter().find(|(name, _)| !known.contains(&name.as_str()));
        match unknown {
            Some((name, _)) if at >= strict_since => {
                let why = format!("Additional properties are not allowed ('{name}' was unexpected)");
                Err(Fault::new(400, format!("Invalid input for query parameters {name}. {why}")))
            }
            Some(_) | None => Ok(Query(pairs)),
        }
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A whole number from 0 on.
    pub fn number(&self, name: &str) -> Result<Option<u64>, Fault> {
        let read = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            let why = "is not a number from 0 on";
            let refused =
                || Fault::new(400, format!("Invalid input for query parameters {name}. Value: {text}. '{text}' {why}"));
            // One that is too large for any list counts as the largest.
            if digits { Ok(text.parse().unwrap_or(u64::MAX)) } else { Err(refused()) }
        };
        self.get(name).map(read).transpose()
    }

    /// One of a few words.
    pub fn word<T: Copy>(&self, name: &str, words: &[(&str, T)]) -> Result<Option<T>, Fault> {
        let read = |text: &str| {
            let known: Vec<String> = words.iter().map(|(word, _)| format!("'{word}'")).collect();
            let why = format!("'{text}' is not one of [{}]", known.join(", "));
            let refused =
                || Fault::new(400, format!("Invalid input for query parameters {name}. Value: {text}. {why}"));
            words.iter().find(|(word, _)| *word == text).map(|(_, meant)| *meant).ok_or_else(refused)
        };
        self.get(name).map(read).transpose()
    }

    /// The page of `items` that is asked for with `limit` and `marker`, and the query for the next one.
    pub fn page<T>(&self, items: Vec<T>, id: impl Fn(&T) -> &str) -> Result<(Vec<T>, Option<String>), Fault> {
        let first = match self.get("marker") {
            None => 0,
            Some(marker) => {
                let at = items.iter().position(|item| id(item) == marker);
                at.ok_or_else(|| Fault::new(400, format!("marker [{marker}] not found")))? + 1
            }
        };
        let limit = self.limit()?;
        let more = items.len() > first + limit;
        let page: Vec<T> = items.into_iter().skip(first).take(limit).collect();
        let next = page.last().filter(|_| more).map(|last| self.after(id(last)));
        Ok((page, next))
    }

    /// How many of a list are asked for at most.
    pub fn limit(&self) -> Result<usize, Fault> {
        let asked = self.number("limit")?.map(|limit| usize::try_from(limit).unwrap_or(LIMIT_MAX));
        Ok(asked.unwrap_or(LIMIT_MAX).min(LIMIT_MAX))
    }

    /// What is asked for with `offset` and `limit`, of which none and 0 mean as many as may be.
    pub fn slice<T>(&self, items: Vec<T>) -> Result<Vec<T>, Fault> {
        let offset = self.number("offset")?.map_or(0, |offset| usize::try_from(offset).unwrap_or(usize::MAX));
        let limit = match self.limit()? {
            0 => LIMIT_MAX,
            limit => limit,
        };
        Ok(items.into_iter().skip(offset).take(limit).collect())
    }

    /// The same query for what follows an item.
    pub fn after(&self, marker: &str) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(self.0.iter().filter(|(name, _)| name != "marker"));
        query.append_pair("marker", marker).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[&str] = &["limit", "marker", "name", "order"];

    fn parse(raw: &str, minor: u16) -> Result<Query, Fault> {
        Query::parse(Some(raw), KNOWN, Microversion::v2(minor))
    }

    #[test]
    fn an_unknown_parameter_is_refused_from_75_on() {
        assert!(parse("colour=red&name=a", 74).is_ok());
        let fault = parse("colour=red&name=a", 75).unwrap_err();
        assert!(fault.status == 400 && fault.message.contains("('colour' was unexpected)"), "{}", fault.message);
        assert_eq!(Query::parse(None, KNOWN, Microversion::LAST).unwrap().get("name"), None);
        let query = parse("name=a%20b&name=c+d", 96).unwrap();
        assert_eq!(query.get("name"), Some("c d"));
    }

    #[test]
    fn values_are_what_they_must_be() {
        let number = |raw: &str| parse(raw, 1).unwrap().number("limit").map_err(|fault| fault.status);
        assert_eq!(number("limit=7"), Ok(Some(7)));
        assert_eq!(number("name=7"), Ok(None));
        assert_eq!(number("limit=99999999999999999999"), Ok(Some(u64::MAX)));
        for bad in ["limit=", "limit=-1", "limit=1.5", "limit=x", "limit=%2B1"] {
            assert_eq!(number(bad), Err(400), "{bad}");
        }
        let order = |raw: &str| parse(raw, 1).unwrap().word("order", &[("asc", 1), ("desc", 2)]);
        assert_eq!(order("order=desc"), Ok(Some(2)));
        assert!(order("order=up").unwrap_err().message.contains("'up' is not one of ['asc', 'desc']"));
    }

    #[test]
    fn a_list_is_walked_by_its_markers() {
        let check = |raw: &str, want: Result<(&[&str], Option<&str>), u16>| {
            let items: Vec<String> = ["a", "b", "c"].map(str::to_owned).into();
            let got = parse(raw, 1).unwrap().page(items, |item| item.as_str()).map_err(|fault| fault.status);
            let want = want.map(|(items, next)| {
                (items.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>(), next.map(str::to_owned))
            });
            assert_eq!(got, want, "{raw}");
        };
        check("", Ok((&["a", "b", "c"], None)));
        check("limit=2&name=x+y", Ok((&["a", "b"], Some("limit=2&name=x+y&marker=b"))));
        check("limit=2&name=x+y&marker=b", Ok((&["c"], None)));
        check("limit=3", Ok((&["a", "b", "c"], None)));
        check("limit=0", Ok((&[], None)));
        check("marker=c", Ok((&[], None)));
        check("marker=d", Err(400));
        check("limit=many", Err(400));
    }

    #[test]
    fn a_list_is_cut_by_offset_and_limit() {
        let check = |raw: &str, want: Result<&[u8], u16>| {
            let query = Query::parse(Some(raw), &["limit", "offset"], Microversion::LAST).unwrap();
            let got = query.slice(vec![1, 2, 3]).map_err(|fault| fault.status);
            assert_eq!(got.as_deref(), want.as_ref().copied(), "{raw}");
        };
        check("", Ok(&[1, 2, 3]));
        check("limit=0", Ok(&[1, 2, 3]));
        check("limit=1&offset=1", Ok(&[2]));
        check("offset=9999999999999999999999", Ok(&[]));
        check("offset=-1", Err(400));
        check("limit=x", Err(400));
    }
}
