//! What was done to a server and how it went: `/servers/{id}/os-instance-actions`.
//!
//! Ground rules: from 2.34 on this is where a client learns why a live migration was refused, so the result and the details matter
//! as much as the fact. Tracebacks, hosts and details are for administrators; owners see no events before 2.51.
//! Source: nova, api/openstack/compute/instance_actions.py and its schema.

use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    shape::{self, Field, View},
    times::{self, Micros},
};

const PAGED_SINCE: u16 = 58;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceAction {
    /// `live-migration`, `create`, …
    pub action: String,
    pub server_id: Uuid,
    pub request_id: String,
    /// `None` where nobody asked.
    pub user_id: Option<String>,
    pub project_id: Option<String>,
    pub started: Micros,
    pub updated: Option<Micros>,
    pub message: Option<String>,
    pub events: Vec<Event>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// `compute_live_migration`, …
    pub event: String,
    pub started: Micros,
    pub finished: Option<Micros>,
    pub result: Option<EventResult>,
    pub traceback: Option<String>,
    /// Why it failed, in words for the owner.
    pub details: Option<String>,
    pub host: Option<String>,
    pub host_id: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventResult {
    Success,
    Error,
}

type Row = Field<InstanceAction>;

const ACTION: &[Row] = &[
    Row::new("action", |action, _| json!(action.action)),
    Row::new("instance_uuid", |action, _| json!(action.server_id)),
    Row::new("request_id", |action, _| json!(action.request_id)),
    Row::new("user_id", |action, _| json!(action.user_id)),
    Row::new("project_id", |action, _| json!(action.project_id)),
    Row::new("start_time", |action, _| times::fraction(action.started)),
    Row::new("message", |action, _| json!(action.message)),
    Row::new("updated_at", |action, _| times::fraction_or_null(action.updated)).since(58),
];

const EVENTS: &[Row] = &[Row::new("events", events).until(50).admin(), Row::new("events", events).since(51)];

const EVENT: &[Field<Event>] = {
    type Row = Field<Event>;
    &[
        Row::new("event", |event, _| json!(event.event)),
        Row::new("start_time", |event, _| times::fraction(event.started)),
        Row::new("finish_time", |event, _| times::fraction_or_null(event.finished)),
        Row::new("result", |event, _| json!(event.result.map(EventResult::name))),
        Row::new("traceback", |event, _| json!(event.traceback)).admin(),
        Row::new("hostId", |event, _| json!(event.host_id)).since(62),
        Row::new("host", |event, _| json!(event.host)).since(62).admin(),
        Row::new("details", |event, _| json!(event.details)).since(84).admin(),
    ]
};

/// `GET /servers/{id}/os-instance-actions`. `next` is the query of the following page, which exists from 2.58.
pub fn list(server_id: Uuid, actions: &[InstanceAction], next: Option<&str>, view: &View) -> Value {
    let items: Vec<Value> = actions.iter().map(|action| shape::object(&[ACTION], action, view)).collect();
    let mut body = json!({ "instanceActions": items });
    if let Some(query) = next.filter(|_| view.since(PAGED_SINCE)) {
        body["links"] = json!([view.next_link(&format!("servers/{server_id}/os-instance-actions"), query)]);
    }
    body
}

/// `GET /servers/{id}/os-instance-actions/{request id}`.
pub fn show(action: &InstanceAction, view: &View) -> Value {
    json!({ "instanceAction": shape::object(&[ACTION, EVENTS], action, view) })
}

fn events(action: &InstanceAction, view: &View) -> Value {
    action.events.iter().map(|event| shape::object(&[EVENT], event, view)).collect()
}

impl EventResult {
    pub fn name(self) -> &'static str {
        match self {
            EventResult::Success => "Success",
            EventResult::Error => "Error",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::shape::seen::{admin, member, names},
        *,
    };

    fn action() -> InstanceAction {
        let event = Event {
            event: "compute_live_migration".into(),
            started: 0,
            finished: None,
            result: Some(EventResult::Error),
            traceback: None,
            details: Some("no room".into()),
            host: Some("cn1".into()),
            host_id: "0a".into(),
        };
        InstanceAction {
            action: "live-migration".into(),
            server_id: Uuid::from_u128(1),
            request_id: "req-1".into(),
            user_id: None,
            project_id: Some("p".into()),
            started: 0,
            updated: Some(1),
            message: None,
            events: vec![event],
        }
    }

    #[test]
    fn an_action_says_more_from_2_58_and_lists_have_no_events() {
        let oldest = ["action", "instance_uuid", "message", "project_id", "request_id", "start_time", "user_id"];
        let id = Uuid::from_u128(1);
        let body = list(id, &[action()], Some("marker=x"), &admin(57));
        assert_eq!((names(&body), names(&body["instanceActions"][0])), (vec!["instanceActions"], oldest.to_vec()));
        let body = list(id, &[action()], Some("marker=x"), &admin(58));
        let mut newer = [&oldest[..], &["updated_at"]].concat();
        newer.sort_unstable();
        assert_eq!((names(&body), names(&body["instanceActions"][0])), (vec!["instanceActions", "links"], newer));
        let next = format!("https://h:1/compute/v2.1/servers/{id}/os-instance-actions?marker=x");
        assert_eq!(body["links"], json!([{"rel": "next", "href": next}]));
    }

    #[test]
    fn events_are_shown_by_version_and_viewer() {
        let check = |view: View, want: Option<&[&str]>| {
            let body = show(&action(), &view);
            let got = body["instanceAction"].get("events").map(|events| names(&events[0]));
            assert_eq!(got, want.map(<[&str]>::to_vec), "{view:?}");
        };
        let base = ["event", "finish_time", "result", "start_time"];
        check(member(50), None);
        check(member(51), Some(&base));
        check(admin(1), Some(&["event", "finish_time", "result", "start_time", "traceback"]));
        check(member(62), Some(&["event", "finish_time", "hostId", "result", "start_time"]));
        check(admin(62), Some(&["event", "finish_time", "host", "hostId", "result", "start_time", "traceback"]));
        check(member(84), Some(&["event", "finish_time", "hostId", "result", "start_time"]));
        check(
            admin(84),
            Some(&["details", "event", "finish_time", "host", "hostId", "result", "start_time", "traceback"]),
        );
        let body = show(&action(), &admin(84));
        let event = &body["instanceAction"]["events"][0];
        assert_eq!((&event["result"], &event["details"]), (&json!("Error"), &json!("no room")));
    }
}
