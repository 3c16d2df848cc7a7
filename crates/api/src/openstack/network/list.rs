//! What stands behind the question mark: filters by any attribute, which fields, in which order, which page.
//!
//! Ground rules: repeated filters of one attribute are alternatives, those of several must all match; what is no attribute is
//! refused, since a filter that is ignored answers with what was not asked for.
//! Source: neutron, api/api_common.py (`get_filters`, `get_sorts`, `PaginationNativeHelper`); extension filter-validation.

use std::cmp::Ordering;

use serde_json::{Map, Value, json};

use super::{super::compute::values::boolean_word, fault::Fault, resource::Resource};

/// Items of one page, however many are asked for.
pub const LIMIT_MAX: usize = 1_000;
/// Of one request: far more than any client sends.
const PARAMETERS_MAX: usize = 1_000;

#[derive(Clone, Debug, Default)]
pub struct Query {
    pairs: Vec<(String, String)>,
    filters: Vec<(String, Vec<String>)>,
    fields: Vec<String>,
    /// Attribute, and whether the greatest comes first.
    sort: Vec<(String, bool)>,
    limit: Option<usize>,
    marker: Option<String>,
    reverse: bool,
}

impl Query {
    pub fn parse(raw: Option<&str>, resource: &Resource) -> Result<Query, Fault> {
        let pairs: Vec<(String, String)> =
            form_urlencoded::parse(raw.unwrap_or_default().as_bytes()).into_owned().take(PARAMETERS_MAX).collect();
        let mut query = Query { pairs: pairs.clone(), ..Query::default() };
        let (mut keys, mut directions) = (Vec::new(), Vec::new());
        for (name, value) in pairs {
            match name.as_str() {
                "fields" => query.fields.push(value),
                "limit" => query.limit = limit(&value)?,
                "marker" => query.marker = Some(value),
                "page_reverse" => query.reverse = boolean(&value)?,
                "sort_key" => keys.push(value),
                "sort_dir" => directions.push(direction(&value)?),
                other if resource.attribute(other).is_some() => query.filter(name, value),
                other => return Err(no_attribute(other, "filtering")),
            }
        }
        if let Some(key) = keys.iter().find(|key| resource.attribute(key).is_none()) {
            return Err(no_attribute(key, "sort_keys"));
        }
        if keys.len() < directions.len() {
            return Err(Fault::bad_request("The number of sort_keys and sort_dirs must be same"));
        }
        let directions = directions.into_iter().chain(std::iter::repeat(false));
        query.sort = keys.into_iter().zip(directions).collect();
        Ok(query)
    }

    fn filter(&mut self, name: String, value: String) {
        match self.filters.iter_mut().find(|(known, _)| *known == name) {
            Some((_, values)) => values.push(value),
            None => self.filters.push((name, vec![value])),
        }
    }

    /// The values of one filter; nothing where it is not there.
    pub fn wanted(&self, name: &str) -> Option<&[String]> {
        self.filters.iter().find(|(known, _)| known == name).map(|(_, values)| values.as_slice())
    }

    /// `{"networks": [...], "networks_links": [...]}` out of all that the caller may see. `base` is where the API lives.
    pub fn answer(&self, items: Vec<Value>, resource: &Resource, base: &str) -> Result<Value, Fault> {
        let mut found = Vec::new();
        for item in items {
            if self.matches(&item)? {
                found.push(item);
            }
        }
        found.sort_by(|one, other| self.order(one, other));
        let (first, count) = self.page(&found, resource)?;
        let links = self.links(&found, first, count, &format!("{base}/{}", resource.path));
        let page = found.into_iter().skip(first).take(count).map(|item| self.narrowed(item)).collect();
        let mut body = Map::from_iter([(resource.collection.to_owned(), Value::Array(page))]);
        if !links.is_empty() {
            body.insert(format!("{}_links", resource.collection), Value::Array(links));
        }
        Ok(Value::Object(body))
    }

    /// Of a single object too.
    pub fn narrowed(&self, item: Value) -> Value {
        let Value::Object(mut map) = item else { return item };
        if !self.fields.is_empty() {
            map.retain(|name, _| self.fields.iter().any(|field| field == name));
        }
        Value::Object(map)
    }

    fn matches(&self, item: &Value) -> Result<bool, Fault> {
        for (name, values) in &self.filters {
            let own = &item[name];
            let fits = match own {
                Value::Array(items) if items.iter().any(Value::is_object) => has_pairs(items, values),
                _ => {
                    let mut fits = false;
                    for value in values {
                        fits |= equals(own, value)?;
                    }
                    fits
                }
            };
            if !fits {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn order(&self, one: &Value, other: &Value) -> Ordering {
        let mut order = Ordering::Equal;
        for (key, descending) in &self.sort {
            let by_key = compare(&one[key], &other[key]);
            order = order.then(if *descending { by_key.reverse() } else { by_key });
        }
        // What is equal stays in the order of ids, so that pages fit together.
        order.then_with(|| compare(&one["id"], &other["id"]))
    }

    /// Where the page begins, and how many are on it.
    fn page(&self, found: &[Value], resource: &Resource) -> Result<(usize, usize), Fault> {
        let limit = self.limit.unwrap_or(LIMIT_MAX).min(LIMIT_MAX);
        let marker = match &self.marker {
            None => None,
            Some(marker) => {
                let at = found.iter().position(|item| item["id"] == **marker);
                Some(at.ok_or_else(|| resource.no_such(marker))?)
            }
        };
        if self.reverse {
            let end = marker.unwrap_or(found.len());
            let first = end.saturating_sub(limit);
            return Ok((first, end - first));
        }
        let first = marker.map_or(0, |at| at + 1);
        Ok((first, limit.min(found.len() - first)))
    }

    fn links(&self, found: &[Value], first: usize, count: usize, url: &str) -> Vec<Value> {
        let id = |at: usize| found.get(at).and_then(|item| item["id"].as_str()).unwrap_or_default();
        let link = |rel: &str, marker: &str, reverse: bool| {
            let mut query = form_urlencoded::Serializer::new(String::new());
            query.extend_pairs(self.pairs.iter().filter(|(name, _)| name != "marker" && name != "page_reverse"));
            query.append_pair("marker", marker);
            if reverse {
                query.append_pair("page_reverse", "True");
            }
            json!({ "rel": rel, "href": format!("{url}?{}", query.finish()) })
        };
        let mut links = Vec::new();
        if count > 0 && first + count < found.len() {
            links.push(link("next", id(first + count - 1), false));
        }
        if count > 0 && first > 0 {
            links.push(link("previous", id(first), true));
        }
        links
    }
}

/// `fixed_ips=ip_address=10.0.0.5`: one of the objects has every key with one of its values.
fn has_pairs(items: &[Value], values: &[String]) -> bool {
    let pairs: Vec<(&str, &str)> = values.iter().filter_map(|value| value.split_once('=')).collect();
    let fits = |item: &Value, name: &str| {
        pairs.iter().any(|(key, value)| *key == name && item[*key].as_str().is_some_and(|own| own == *value))
    };
    !pairs.is_empty() && items.iter().any(|item| pairs.iter().all(|(name, _)| fits(item, name)))
}

fn equals(own: &Value, asked: &str) -> Result<bool, Fault> {
    Ok(match own {
        Value::Null => asked.is_empty() || asked == "None",
        Value::Bool(own) => *own == boolean(asked)?,
        Value::Number(own) => own.to_string() == asked,
        Value::String(own) => own == asked,
        Value::Array(own) => own.iter().any(|item| item.as_str() == Some(asked)),
        Value::Object(_) => false,
    })
}

fn compare(one: &Value, other: &Value) -> Ordering {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => {
            one.as_f64().unwrap_or(0.0).total_cmp(&other.as_f64().unwrap_or(0.0))
        }
        (Value::Bool(one), Value::Bool(other)) => one.cmp(other),
        (Value::String(one), Value::String(other)) => one.cmp(other),
        (Value::Null, Value::Null) => Ordering::Equal,
        (Value::Null, _) => Ordering::Less,
        (_, Value::Null) => Ordering::Greater,
        (one, other) => one.to_string().cmp(&other.to_string()),
    }
}

fn limit(text: &str) -> Result<Option<usize>, Fault> {
    let bad = || {
        Fault::bad_request(format!(
            "Limit must be an integer 0 or greater and not '{}'",
            text.chars().take(40).collect::<String>()
        ))
    };
    match text {
        "" | "0" | "infinite" => Ok(None),
        text => text.parse().map(Some).map_err(|_| bad()),
    }
}

fn boolean(text: &str) -> Result<bool, Fault> {
    let shown: String = text.chars().take(40).collect();
    boolean_word(text).ok_or_else(|| Fault::invalid(format_args!("'{shown}' cannot be converted to boolean")))
}

fn direction(text: &str) -> Result<bool, Fault> {
    match text {
        "asc" => Ok(false),
        "desc" => Ok(true),
        _ => Err(Fault::bad_request("sort_dir must be one of asc, desc")),
    }
}

fn no_attribute(name: &str, purpose: &str) -> Fault {
    let shown: String = name.chars().take(40).collect();
    Fault::bad_request(format!("['{shown}'] is invalid attribute for {purpose}"))
}

#[cfg(test)]
mod tests;
