//! A list of images: which are asked for, in which order, and which page of them.
//!
//! Ground rules: what the requester does not see was left out before; a parameter that is no field is a property; images that
//! are hidden, and community images of others, are in no list that does not ask for them.
//! Source: glance, api/v2/images.py, `RequestDeserializer.index` and `ResponseSerializer.index`.

use std::cmp::Ordering;

use serde_json::{Value, json};
use whimbrel_core::image::Visibility;

use super::{fault::Fault, filter::Filter, record::ImageRecord};

/// Glance's `limit_param_default` and `api_limit_max`.
const LIMIT_DEFAULT: usize = 25;
pub const LIMIT_MAX: usize = 1_000;
/// Conditions and orders of one request.
const PARAMETERS_MAX: usize = 100;

type Order = fn(&ImageRecord, &ImageRecord) -> Ordering;

const SORT_KEYS: &[(&str, Order)] = &[
    ("name", |one, other| one.said.name.cmp(&other.said.name)),
    ("status", |one, other| one.status.as_str().cmp(other.status.as_str())),
    ("container_format", |one, other| one.said.container_format.cmp(&other.said.container_format)),
    ("disk_format", |one, other| one.said.disk_format.cmp(&other.said.disk_format)),
    ("size", |one, other| one.file_bytes.cmp(&other.file_bytes)),
    ("id", by_id),
    ("created_at", by_creation),
    ("updated_at", |one, other| one.updated_us.cmp(&other.updated_us)),
];

fn by_id(one: &ImageRecord, other: &ImageRecord) -> Ordering {
    one.id.cmp(&other.id)
}

fn by_creation(one: &ImageRecord, other: &ImageRecord) -> Ordering {
    one.created_us.cmp(&other.created_us)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Ascending,
    Descending,
}

#[derive(Clone, Debug)]
pub struct Ask {
    pairs: Vec<(String, String)>,
    filters: Vec<Filter>,
    /// `None`: all but community images of others.
    visibility: Option<Option<Visibility>>,
    orders: Vec<(Order, Direction)>,
    limit: usize,
    marker: Option<String>,
}

#[derive(Debug)]
pub struct Chosen {
    pub images: Vec<ImageRecord>,
    /// The query of the next page.
    next: Option<String>,
}

impl Ask {
    pub fn parse(query: Option<&str>) -> Result<Ask, Fault> {
        let pairs: Vec<(String, String)> =
            form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned().collect();
        if pairs.len() > PARAMETERS_MAX {
            return Err(Fault::new(400, format!("More than {PARAMETERS_MAX} parameters were sent in one request.")));
        }
        let mut ask = Ask {
            filters: Vec::new(),
            visibility: None,
            orders: orders(&pairs)?,
            limit: LIMIT_DEFAULT,
            marker: None,
            pairs,
        };
        let pairs = ask.pairs.clone();
        for (name, text) in &pairs {
            ask.take(name, text)?;
        }
        if !pairs.iter().any(|(name, _)| name == "os_hidden") {
            ask.filters.push(Filter::parse("os_hidden", "false")?);
        }
        Ok(ask)
    }

    fn take(&mut self, name: &str, text: &str) -> Result<(), Fault> {
        match name {
            // Told by `orders`.
            "sort" | "sort_key" | "sort_dir" => {}
            "limit" => self.limit = limit(text)?,
            "marker" => self.marker = Some(text.to_owned()),
            "visibility" => self.visibility = Some(visibility(text)?),
            // No image has members.
            "member_status" => {
                if !["pending", "accepted", "rejected", "all"].contains(&text) {
                    return Err(Fault::new(400, format!("Invalid status: {text}")));
                }
            }
            "changes-since" => {
                let told = "The \"changes-since\" filter is no longer available on v2.";
                return Err(Fault::new(400, told));
            }
            _ => self.filters.push(Filter::parse(name, text)?),
        }
        Ok(())
    }

    /// Of `images`, all of which the requester sees; `own` is the requester's project.
    pub fn choose(&self, images: Vec<ImageRecord>, own: Option<&str>) -> Result<Chosen, Fault> {
        let is_own = |image: &ImageRecord| own.is_some() && image.said.owner.as_deref() == own;
        let visible = |image: &ImageRecord| match self.visibility {
            None => image.said.visibility != Visibility::Community || is_own(image),
            Some(None) => true,
            Some(Some(visibility)) => image.said.visibility == visibility,
        };
        // The marker need not be in the list itself: it tells a place in the order.
        let marked = |marker: &String| {
            let found = images.iter().find(|image| image.id == *marker).cloned();
            found.ok_or_else(|| Fault::new(400, format!("Marker {marker} could not be found.")))
        };
        let marker = self.marker.as_ref().map(marked).transpose()?;
        let wanted = |image: &ImageRecord| visible(image) && self.filters.iter().all(|filter| filter.matches(image));
        let mut images: Vec<ImageRecord> = images.into_iter().filter(wanted).collect();
        images.sort_by(|one, other| self.order(one, other));
        if let Some(marker) = marker {
            images.retain(|image| self.order(&marker, image).is_lt());
        }
        let more = images.len() > self.limit;
        images.truncate(self.limit);
        let next = images.last().filter(|_| more).map(|last| self.query(Some(&last.id)));
        Ok(Chosen { images, next })
    }

    fn order(&self, one: &ImageRecord, other: &ImageRecord) -> Ordering {
        let orders = self.orders.iter().map(|(order, direction)| match direction {
            Direction::Ascending => order(one, other),
            Direction::Descending => order(other, one),
        });
        orders.fold(Ordering::Equal, Ordering::then)
    }

    fn query(&self, marker: Option<&str>) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(self.pairs.iter().filter(|(name, _)| name != "marker"));
        if let Some(marker) = marker {
            query.append_pair("marker", marker);
        }
        query.finish()
    }

    pub fn body(&self, chosen: &Chosen) -> Value {
        let at = |query: &str| {
            if query.is_empty() { "/v2/images".to_owned() } else { format!("/v2/images?{query}") }
        };
        let images: Vec<Value> = chosen.images.iter().map(ImageRecord::body).collect();
        let mut body = json!({ "images": images, "first": at(&self.query(None)), "schema": "/v2/schemas/images" });
        if let Some(next) = &chosen.next {
            body["next"] = json!(at(next));
        }
        body
    }
}

fn limit(text: &str) -> Result<usize, Fault> {
    match text.trim().parse::<i64>() {
        Ok(limit) if limit < 0 => Err(Fault::new(400, "limit param must be positive")),
        Ok(limit) => Ok(usize::try_from(limit).unwrap_or(LIMIT_MAX).min(LIMIT_MAX)),
        Err(_) => Err(Fault::new(400, "limit param must be an integer")),
    }
}

fn visibility(text: &str) -> Result<Option<Visibility>, Fault> {
    match text {
        "all" => Ok(None),
        word => word.parse().map(Some).map_err(|_| Fault::new(400, format!("Invalid visibility value: {text}"))),
    }
}

/// Both of Glance's ways to say it: `sort=name:asc,size` or `sort_key=name&sort_dir=asc`; what is equal comes by creation.
fn orders(pairs: &[(String, String)]) -> Result<Vec<(Order, Direction)>, Fault> {
    let all = |wanted: &str| {
        pairs.iter().filter(|(name, _)| name == wanted).map(|(_, text)| text.trim().to_owned()).collect::<Vec<_>>()
    };
    let (sort, mut keys, mut directions) = (all("sort"), all("sort_key"), all("sort_dir"));
    if let Some(sort) = sort.last() {
        if !keys.is_empty() || !directions.is_empty() {
            return Err(Fault::new(400, "Old and new sorting syntax cannot be combined"));
        }
        for part in sort.split(',') {
            let (key, direction) = part.split_once(':').unwrap_or((part, "desc"));
            keys.push(key.trim().to_owned());
            directions.push(direction.trim().to_owned());
        }
    }
    if keys.is_empty() {
        keys.push("created_at".to_owned());
    }
    if directions.len() > 1 && directions.len() != keys.len() {
        return Err(Fault::new(400, "Number of sort dirs does not match the number of sort keys"));
    }
    let directions = directions.iter().map(|text| direction(text)).collect::<Result<Vec<_>, _>>()?;
    let usual = match directions.as_slice() {
        [only] => *only,
        _ => Direction::Descending,
    };
    let mut orders = Vec::new();
    for (at, key) in keys.iter().enumerate() {
        orders.push((order(key)?, directions.get(at).copied().unwrap_or(usual)));
    }
    orders.extend([(by_creation as Order, usual), (by_id, usual)]);
    Ok(orders)
}

fn order(key: &str) -> Result<Order, Fault> {
    let known = || SORT_KEYS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let bad = || Fault::new(400, format!("Invalid sort key: {key}. It must be one of the following: {}.", known()));
    SORT_KEYS.iter().find(|(name, _)| *name == key).map(|(_, order)| *order).ok_or_else(bad)
}

fn direction(text: &str) -> Result<Direction, Fault> {
    match text {
        "asc" => Ok(Direction::Ascending),
        "desc" => Ok(Direction::Descending),
        _ => Err(Fault::new(400, format!("Invalid sort direction: {text}"))),
    }
}

#[cfg(test)]
mod tests;
