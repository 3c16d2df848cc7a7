//! Bad input of every kind: each gets the status and the body of its service, and nothing changes.
//!
//! Spoils each good call in each place, one at a time; `generated.rs` does it in many places at once.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    books,
    calls::{self, Answered, Call, Credential, Payload, Sent},
    fault,
    place::until,
    world::World,
};

/// Objects in which clients may write keys of their own.
const FREE: [&str; 9] = [
    "/extra_specs",
    "/server/metadata",
    "/metadata",
    "/os:scheduler_hints",
    "/set_metadata/metadata",
    "/createImage/metadata",
    "/user",
    "/server/block_device_mapping_v2/0",
    "/quota_class_set",
];

struct Ground {
    world: World,
    reading: String,
}

impl Ground {
    async fn new() -> Self {
        let world = World::new().await;
        let reading = books::reading(&world.database).await;
        Ground { world, reading }
    }

    /// `Ok` if it was refused in the right form and changed nothing.
    async fn refused(&self, sent: &Sent, credential: Credential<'_>) -> Result<Answered, String> {
        let before = books::read(&self.world.database, &self.reading).await;
        let answered = self.world.send(sent, credential).await?;
        let about =
            |why: &str| Err(format!("{} {}: {} {why}: {}", sent.method, sent.path, answered.status, answered.text));
        if !answered.status.is_client_error() {
            return about("it was not refused");
        }
        if let Some(why) = fault::wrong(&sent.path, &answered) {
            return about(&why);
        }
        let changed = books::changes(&before, &books::read(&self.world.database, &self.reading).await);
        if changed.is_empty() { Ok(answered) } else { about(&format!("it changed {changed:#?}")) }
    }

    fn admin(&self, call: &Call) -> Credential<'_> {
        match (call.is_native(), call.path.as_str()) {
            (true, "/v1/renew") => Credential::Host("h1"),
            (true, _) => Credential::Bearer(&self.world.bearers["admin"]),
            (false, _) => Credential::Token(&self.world.tokens["admin"]),
        }
    }
}

/// Calls with an object in their body, as an administrator may make them; not those that only agents make.
fn with_objects() -> Vec<Call> {
    let takes = |call: &Call| call.body.as_deref().is_some_and(|body| body.starts_with('{'));
    calls::all().into_iter().filter(takes).collect()
}

fn places_in(value: &Value, here: String, visit: &mut impl FnMut(&str, &Value)) {
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(key, value)| places_in(value, format!("{here}/{key}"), visit))
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(at, value)| places_in(value, format!("{here}/{at}"), visit))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    visit(&here, value);
}

#[tokio::test]
async fn an_unknown_key_is_refused_wherever_it_is() {
    let mut ground = Ground::new().await;
    let mut failed = Vec::new();
    for call in with_objects().iter().filter(|call| call.path.starts_with("/compute/") || call.is_native()) {
        let sent = ground.world.fill(call).await.unwrap();
        let Payload::Json(body) = &sent.payload else { panic!("{call:?}") };
        let mut objects = Vec::new();
        places_in(body, String::new(), &mut |place, value| {
            if value.is_object() && !FREE.contains(&place) && !value.as_object().is_some_and(serde_json::Map::is_empty)
            {
                objects.push(place.to_owned());
            }
        });
        for place in objects {
            let mut body = body.clone();
            body.pointer_mut(&place).unwrap()["surprise"] = json!(1);
            let sent = Sent { payload: Payload::Json(body), ..sent.clone() };
            match ground.refused(&sent, ground.admin(call)).await {
                Ok(answered) if answered.status == 400 => {}
                Ok(answered) => failed.push(format!("{} {place}: {} {}", call.title(), answered.status, answered.text)),
                Err(why) => failed.push(format!("{place}: {why}")),
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[tokio::test]
async fn a_value_of_the_wrong_type_is_refused_wherever_it_is() {
    let mut ground = Ground::new().await;
    let mut failed = Vec::new();
    for call in with_objects() {
        let sent = ground.world.fill(&call).await.unwrap();
        let Payload::Json(body) = &sent.payload else { panic!("{call:?}") };
        let mut leaves = Vec::new();
        places_in(body, String::new(), &mut |place, value| {
            if !(value.is_object() || value.is_array() || value.is_null() || place.is_empty()) {
                leaves.push(place.to_owned());
            }
        });
        for place in leaves {
            for wrong in [json!({"a": [1]}), json!([[{}]])] {
                let mut body = body.clone();
                *body.pointer_mut(&place).unwrap() = wrong.clone();
                let sent = Sent { payload: Payload::Json(body), ..sent.clone() };
                if let Err(why) = ground.refused(&sent, ground.admin(&call)).await {
                    failed.push(format!("{place} = {wrong}: {why}"));
                }
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[tokio::test]
async fn what_is_too_long_or_no_base64_is_refused() {
    let mut ground = Ground::new().await;
    let long = "n".repeat(256);
    let mut failed = Vec::new();
    for call in with_objects() {
        let sent = ground.world.fill(&call).await.unwrap();
        let Payload::Json(body) = &sent.payload else { panic!("{call:?}") };
        let mut names = Vec::new();
        places_in(body, String::new(), &mut |place, value| {
            if value.is_string() && (place.ends_with("/name") || place == "/name") {
                names.push(place.to_owned());
            }
        });
        for place in names {
            let mut body = body.clone();
            *body.pointer_mut(&place).unwrap() = json!(long);
            let sent = Sent { payload: Payload::Json(body), ..sent.clone() };
            if let Err(why) = ground.refused(&sent, ground.admin(&call)).await {
                failed.push(format!("{place}: {why}"));
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));

    let create = calls::all().into_iter().find(|call| call.path.ends_with("/servers") && call.body.is_some()).unwrap();
    let sent = ground.world.fill(&create).await.unwrap();
    let Payload::Json(body) = &sent.payload else { panic!("{create:?}") };
    for bad in ["aGVsbG8", "aGVs*G8=", "====", "é", &"A".repeat(65_536 + 4)] {
        let mut body = body.clone();
        body["server"]["user_data"] = json!(bad);
        let sent = Sent { payload: Payload::Json(body), ..sent.clone() };
        let answered = ground.refused(&sent, ground.admin(&create)).await.unwrap();
        assert_eq!(answered.status, 400, "{bad}: {}", answered.text);
        assert!(answered.json()["badRequest"]["message"].as_str().unwrap().contains("user_data"), "{}", answered.text);
    }
}

#[tokio::test]
async fn a_version_that_is_none_or_not_offered_is_refused() {
    let ground = Ground::new().await;
    for (at, status, name) in [
        ("2.97", 406, "computeFault"),
        ("3.1", 406, "computeFault"),
        ("2.0", 406, "computeFault"),
        ("1.1", 406, "computeFault"),
        ("2", 400, "badRequest"),
        ("two", 400, "badRequest"),
        ("2.01", 400, "badRequest"),
    ] {
        let flavor = json!({"flavor": {"name": "f", "id": "f", "ram": 64, "vcpus": 1, "disk": 1}});
        let path = "/compute/v2.1/flavors".to_owned();
        let sent = Sent { method: Method::POST, path, at: at.to_owned(), payload: Payload::Json(flavor) };
        let answered = ground.refused(&sent, Credential::Token(&ground.world.tokens["admin"])).await.unwrap();
        assert_eq!(answered.status, status, "{at}: {}", answered.text);
        assert_eq!(answered.json()[name]["code"], status, "{at}: {}", answered.text);
        assert_eq!(answered.headers["x-openstack-nova-api-version"], "2.1", "{at}");
    }
}

#[tokio::test]
async fn what_is_no_json_is_refused() {
    let mut ground = Ground::new().await;
    for call in with_objects() {
        let sent = ground.world.fill(&call).await.unwrap();
        let cut = match &sent.payload {
            Payload::Json(body) => body.to_string().trim_end_matches('}').to_owned(),
            other => panic!("{other:?}"),
        };
        let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
        for text in [
            "",
            "{",
            "null",
            "[]",
            "7",
            "\"text\"",
            "{\"a\": \"\\u0000\"}",
            "{\"\\u0000\": 1}",
            "\u{feff}{}",
            &cut,
            &deep,
        ] {
            let sent = Sent { payload: Payload::Text(text.to_owned()), ..sent.clone() };
            let answered = ground.refused(&sent, ground.admin(&call)).await.unwrap();
            assert!(
                [400, 403, 404, 409].contains(&answered.status.as_u16()),
                "{} with {text:.40}: {}",
                call.title(),
                answered.text
            );
        }
    }
}

/// Each is asked many times at once: one is taken, the others are told that the server is busy or is so already.
#[tokio::test]
async fn of_clients_that_race_one_wins() {
    for (from, body, count) in [
        ("$server", json!({"os-stop": null}), 1),
        ("$server", json!({"pause": null}), 1),
        ("$stopped", json!({"os-start": null}), 1),
        ("$server", json!({"os-migrateLive": {"host": null, "block_migration": "auto"}}), 1),
    ] {
        let mut ground = Ground::new().await;
        let id = ground.world.text(from).await.unwrap();
        let path = format!("/compute/v2.1/servers/{id}/action");
        let sent = Sent { method: Method::POST, path, at: "2.30".to_owned(), payload: Payload::Json(body.clone()) };
        let begun = async |what: &str| {
            let count = format!("SELECT COUNT(*) FROM {what} WHERE instance = $1");
            let count = sqlx::query_scalar(sqlx::AssertSqlSafe(count)).bind(&id);
            count.fetch_one(&ground.world.database).await.unwrap()
        };
        let before: i64 = begun("claims").await;
        let token = Credential::Token(&ground.world.tokens["admin"]);
        let answers = join_all((0..8).map(|_| ground.world.send(&sent, token))).await;
        let statuses: Vec<u16> = answers.iter().map(|answer| answer.as_ref().unwrap().status.as_u16()).collect();
        let won = statuses.iter().filter(|status| **status == 202).count();
        assert_eq!(won, count, "{body}: {statuses:?}");
        assert!(statuses.iter().all(|status| [202, 409].contains(status)), "{body}: {statuses:?}");
        for answer in answers.into_iter().map(Result::unwrap).filter(|answer| answer.status == 409) {
            assert_eq!(fault::wrong(&sent.path, &answer), None, "{}", answer.text);
        }
        let moves: i64 = begun("migrations").await;
        let is_move = body.get("os-migrateLive").is_some();
        assert_eq!(moves, i64::from(is_move), "{body}");
        assert_eq!(begun("claims").await, before + i64::from(is_move), "{body}");
    }
}

/// A name that only one may have, a server that is deleted twice.
#[tokio::test]
async fn of_clients_that_make_or_delete_the_same_one_wins() {
    let mut ground = Ground::new().await;
    let server = ground.world.text("$server").await.unwrap();
    let calls = [
        (
            Method::POST,
            "/compute/v2.1/flavors",
            json!({"flavor": {"name": "one", "id": "one", "ram": 64, "vcpus": 1, "disk": 1}}),
            200,
            409,
        ),
        (Method::POST, "/compute/v2.1/os-aggregates", json!({"aggregate": {"name": "one"}}), 200, 409),
        (Method::POST, "/identity/v3/projects", json!({"project": {"name": "one"}}), 201, 409),
        (Method::POST, "/identity/v3/users", json!({"user": {"name": "one"}}), 201, 409),
        (
            Method::POST,
            "/image/v2/images",
            json!({"id": "7e0a1b6e-26d9-4b0c-9d3b-5a0a5a0a5a0a", "name": "one"}),
            201,
            409,
        ),
    ];
    let token = Credential::Token(&ground.world.tokens["admin"]);
    for (method, path, body, won, lost) in calls {
        let sent = Sent { method, path: path.to_owned(), at: "2.96".to_owned(), payload: Payload::Json(body) };
        let answers = join_all((0..6).map(|_| ground.world.send(&sent, token))).await;
        let mut statuses: Vec<u16> = answers.into_iter().map(|answer| answer.unwrap().status.as_u16()).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [won, lost, lost, lost, lost, lost], "{path}");
    }
    let path = format!("/compute/v2.1/servers/{server}");
    let sent = Sent { method: Method::DELETE, path, at: "2.96".to_owned(), payload: Payload::None };
    let answers = join_all((0..6).map(|_| ground.world.send(&sent, token))).await;
    let statuses: Vec<u16> = answers.into_iter().map(|answer| answer.unwrap().status.as_u16()).collect();
    assert!(statuses.contains(&204) && statuses.iter().all(|status| [204, 404, 409].contains(status)), "{statuses:?}");
    let gone = Sent { method: Method::GET, ..sent };
    until("the server to be gone", async || {
        let answered = ground.world.send(&gone, token).await.unwrap();
        (answered.status == 404).then_some(())
    })
    .await;
}
