//! One condition of a list: a field or a property, an operator, and what it is compared with.
//!
//! Source: glance, db/sqlalchemy/api.py, `_make_conditions_from_filters`; common/utils.py, `split_filter_op`.

use std::cmp::Ordering;

use super::{
    super::compute::times::{self, Micros},
    fault::Fault,
    record::ImageRecord,
};

#[derive(Clone, Debug)]
pub(super) enum Filter {
    /// A text field or property that is one of these.
    Text(Source, Vec<String>),
    /// A number within both bounds; none is in no range.
    Number(fn(&ImageRecord) -> Option<u64>, u64, u64),
    Flag(fn(&ImageRecord) -> bool, bool),
    Time(fn(&ImageRecord) -> Micros, Comparison, Micros),
    Tag(String),
}

#[derive(Clone, Debug)]
pub(super) enum Source {
    Field(fn(&ImageRecord) -> Option<&str>),
    Property(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    AtMost,
    Greater,
    AtLeast,
}

const COMPARISONS: &[(&str, Comparison)] = &[
    ("eq", Comparison::Equal),
    ("neq", Comparison::NotEqual),
    ("lt", Comparison::Less),
    ("lte", Comparison::AtMost),
    ("gt", Comparison::Greater),
    ("gte", Comparison::AtLeast),
];
const IN: &str = "in";

type TextField = fn(&ImageRecord) -> Option<&str>;
type NumberField = fn(&ImageRecord) -> Option<u64>;

/// Those that take `in:a,b`.
const TEXTS: &[(&str, TextField)] = &[
    ("id", |image| Some(&image.id)),
    ("name", |image| image.said.name.as_deref()),
    ("status", |image| Some(image.status.as_str())),
    ("disk_format", |image| image.said.disk_format.as_deref()),
    ("container_format", |image| image.said.container_format.as_deref()),
];
const PLAIN_TEXTS: &[(&str, TextField)] = &[
    ("owner", |image| image.said.owner.as_deref()),
    ("checksum", |image| image.md5.as_deref()),
    ("os_hash_value", |image| image.sha512.as_deref()),
];
const NUMBERS: &[(&str, NumberField)] = &[
    ("size", |image| image.file_bytes),
    ("virtual_size", |image| image.virtual_bytes),
    ("min_disk", |image| Some(image.said.min_disk_gb)),
    ("min_ram", |image| Some(image.said.min_ram_mb)),
];

fn row<T: Copy>(rows: &[(&str, T)], name: &str) -> Option<T> {
    rows.iter().find(|(row, _)| *row == name).map(|(_, found)| *found)
}

impl Filter {
    pub(super) fn parse(name: &str, text: &str) -> Result<Filter, Fault> {
        if let Some(field) = row(TEXTS, name) {
            return texts(text).map(|texts| Filter::Text(Source::Field(field), texts));
        }
        if let Some(field) = row(PLAIN_TEXTS, name) {
            return Ok(Filter::Text(Source::Field(field), vec![text.to_owned()]));
        }
        if let Some(filter) = number(name, text) {
            return filter;
        }
        match name {
            "protected" => flag(name, text).map(|flag| Filter::Flag(|image| image.said.protected, flag)),
            "os_hidden" => flag(name, text).map(|flag| Filter::Flag(|image| image.said.hidden, flag)),
            "created_at" => time(name, text, |image| image.created_us),
            "updated_at" => time(name, text, |image| image.updated_us),
            "tag" => Ok(Filter::Tag(text.trim().to_owned())),
            property => Ok(Filter::Text(Source::Property(property.to_owned()), vec![text.to_owned()])),
        }
    }

    pub(super) fn matches(&self, image: &ImageRecord) -> bool {
        match self {
            Filter::Text(source, wanted) => {
                let text = match source {
                    Source::Field(field) => field(image),
                    Source::Property(name) => image.said.properties.get(name).map(String::as_str),
                };
                text.is_some_and(|text| wanted.iter().any(|wanted| wanted == text))
            }
            Filter::Number(field, least, most) => field(image).is_some_and(|number| (*least..=*most).contains(&number)),
            Filter::Flag(field, wanted) => field(image) == *wanted,
            // To the second, as answers show it.
            Filter::Time(field, comparison, than) => {
                let seconds = |us: Micros| us.div_euclid(1_000_000);
                comparison.holds(seconds(field(image)).cmp(&seconds(*than)))
            }
            Filter::Tag(tag) => image.said.tags.contains(tag),
        }
    }
}

impl Comparison {
    fn holds(self, ordering: Ordering) -> bool {
        match self {
            Comparison::Equal => ordering.is_eq(),
            Comparison::NotEqual => ordering.is_ne(),
            Comparison::Less => ordering.is_lt(),
            Comparison::AtMost => ordering.is_le(),
            Comparison::Greater => ordering.is_gt(),
            Comparison::AtLeast => ordering.is_ge(),
        }
    }
}

/// `in:a,"b,c"`, `eq:a`, or the text itself, which may have a colon of its own in it.
fn texts(text: &str) -> Result<Vec<String>, Fault> {
    match text.split_once(':') {
        Some((IN, list)) => quoted_list(list),
        Some(("eq", text)) => Ok(vec![text.to_owned()]),
        Some((operator, _)) if row(COMPARISONS, operator).is_some() => {
            Err(Fault::new(400, format!("Unable to filter by unknown operator '{operator}'.")))
        }
        Some(_) | None => Ok(vec![text.to_owned()]),
    }
}

fn quoted_list(list: &str) -> Result<Vec<String>, Fault> {
    let bad = || {
        Fault::new(
            400,
            format!(
                "Invalid filter value {list}. There is no comma or end after a closing quote, or no closing quote."
            ),
        )
    };
    let mut items = Vec::new();
    let mut rest = list;
    loop {
        let (item, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').ok_or_else(bad)?,
            None => rest.split_at(rest.find(',').unwrap_or(rest.len())),
        };
        items.push(item.to_owned());
        if after.is_empty() {
            return Ok(items);
        }
        rest = after.strip_prefix(',').ok_or_else(bad)?;
    }
}

/// `None`: no number's name.
fn number(name: &str, text: &str) -> Option<Result<Filter, Fault>> {
    let bound = |suffix| row(NUMBERS, name.strip_suffix(suffix)?);
    let parsed = || text.trim().parse::<u64>();
    let bad = |_| Fault::new(400, "Unable to filter on a range with a non-numeric value.");
    let filter = if let Some(field) = bound("_min") {
        parsed().map(|least| Filter::Number(field, least, u64::MAX))
    } else if let Some(field) = bound("_max") {
        parsed().map(|most| Filter::Number(field, 0, most))
    } else {
        let field = row(NUMBERS, name)?;
        parsed().map(|number| Filter::Number(field, number, number))
    };
    Some(filter.map_err(bad))
}

fn flag(name: &str, text: &str) -> Result<bool, Fault> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => {
            let told = format!("Invalid value '{text}' for '{name}' filter. Valid values are 'true' or 'false'.");
            Err(Fault::new(400, told))
        }
    }
}

fn time(name: &str, text: &str, field: fn(&ImageRecord) -> Micros) -> Result<Filter, Fault> {
    let named = text.split_once(':').and_then(|(word, rest)| Some((row(COMPARISONS, word)?, rest)));
    let (comparison, text) = named.unwrap_or((Comparison::Equal, text));
    let bad = || Fault::new(400, format!("Bad \"{name}\" query filter format. Use ISO 8601 DateTime notation."));
    Ok(Filter::Time(field, comparison, times::parse(text).ok_or_else(bad)?))
}
