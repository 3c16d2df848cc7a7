//! Every route by every role, as a table that is kept beside this file.
//!
//! Ground rules: the calls are good ones, so that what differs between two columns is who asks; who may do least comes first, so
//! that what an allowed call uses up is made anew for the next column.

use reqwest::Method;

use crate::{
    calls::{self, Call, Credential},
    fault,
    world::World,
};

const COLUMNS: [&str; 10] =
    ["nobody", "forged", "expired", "other", "reader", "member", "manager", "system-reader", "admin", "system-admin"];
const NATIVE_COLUMNS: [&str; 7] = ["nobody", "forged", "reader", "member", "admin", "host h1", "host h2"];
/// Answered to anyone: versions, and whoever logs in or joins has nothing to show yet.
const OPEN: [&str; 19] = [
    "/identity",
    "/identity/",
    "/identity/v3",
    "/identity/v3/",
    "/compute",
    "/compute/",
    "/compute/v2",
    "/compute/v2/",
    "/compute/v2.1",
    "/compute/v2.1/",
    "/image",
    "/image/",
    "/image/versions",
    "/network",
    "/network/",
    "/v1/version",
    "/v1/openapi.json",
    "/v1/join",
    "POST /identity/v3/auth/tokens",
];
/// Of project `p`: who has no role on it neither sees nor changes any of these.
const OWNED: [&str; 21] = [
    "server",
    "stopped",
    "paused",
    "locked",
    "locked_by_admin",
    "moving",
    "keypair",
    "group",
    "spare_group",
    "network",
    "spare_network",
    "subnet",
    "spare_subnet",
    "port",
    "security_group",
    "spare_security_group",
    "rule",
    "own_image",
    "queued_image",
    "user",
    "project",
];
/// The same for every project, so nobody's.
const OTHERS_MAY: [&str; 1] = ["/compute/v2.1/os-quota-sets/$project/defaults"];

fn is_open(call: &Call) -> bool {
    OPEN.contains(&call.path.as_str()) || OPEN.contains(&format!("{} {}", call.method, call.path).as_str())
}

async fn row(world: &mut World, call: &Call, columns: &[&'static str]) -> Vec<u16> {
    let mut statuses = Vec::new();
    for column in columns {
        let sent = world.fill(call).await.unwrap_or_else(|why| panic!("{}: {why}", call.title()));
        let forged = "0".repeat(64);
        let credential = match (*column, call.is_native()) {
            ("nobody", _) => Credential::None,
            ("forged", true) => Credential::Bearer(&forged),
            ("forged", false) => Credential::Token(&forged),
            ("host h1", _) => Credential::Host("h1"),
            ("host h2", _) => Credential::Host("h2"),
            (role, true) => Credential::Bearer(&world.bearers[role]),
            (role, false) => Credential::Token(&world.tokens[role]),
        };
        let answered = world.send(&sent, credential).await.unwrap_or_else(|why| panic!("{}: {why}", call.title()));
        let wrong = fault::wrong(&sent.path, &answered);
        assert_eq!(wrong, None, "{} by {column}: {} {}", call.title(), answered.status, answered.text);
        if answered.status.is_success() && call.method != Method::GET {
            world.used(&sent, &call.names()).await;
        }
        statuses.push(answered.status.as_u16());
    }
    statuses
}

async fn table(columns: &[&'static str], chosen: impl Fn(&Call) -> bool) -> (String, Vec<(Call, Vec<u16>)>) {
    let mut world = World::new().await;
    let mut rows = Vec::new();
    for call in calls::all().into_iter().filter(chosen) {
        let statuses = row(&mut world, &call, columns).await;
        rows.push((call, statuses));
    }
    let width = rows.iter().map(|(call, _)| call.title().chars().count()).max().unwrap_or(0);
    let line = |title: &str, cells: Vec<String>| {
        let cells: Vec<String> =
            cells.iter().zip(columns).map(|(cell, name)| format!("{cell:<0$}", name.len())).collect();
        format!("{title:<width$}  {}", cells.join("  ").trim_end())
    };
    let head = line("", columns.iter().map(|name| (*name).to_owned()).collect());
    let lines = rows.iter().map(|(call, statuses)| line(&call.title(), statuses.iter().map(u16::to_string).collect()));
    (std::iter::once(head).chain(lines).collect::<Vec<_>>().join("\n"), rows)
}

#[tokio::test]
async fn every_route_by_every_role() {
    let (table, rows) = table(&COLUMNS, |call| !call.is_native()).await;
    let of = |statuses: &[u16], column: &str| statuses[COLUMNS.iter().position(|name| *name == column).unwrap()];
    insta::assert_snapshot!("openstack", table);
    for (call, statuses) in &rows {
        let title = call.title();
        let refused = statuses[..3].iter().all(|status| *status == 401);
        assert!(refused || is_open(call), "{title} is answered to who shows no good token: {statuses:?}");
        assert!(!refused || !is_open(call), "{title} is not answered to all");
        let owned = call.names().iter().any(|name| OWNED.contains(name)) && !is_open(call);
        let other = of(statuses, "other");
        assert!(
            !owned || [400, 403, 404].contains(&other) || OTHERS_MAY.contains(&call.path.as_str()),
            "{title} by another: {other}"
        );
    }
}

#[tokio::test]
async fn every_native_route_by_every_role() {
    let (table, rows) = table(&NATIVE_COLUMNS, Call::is_native).await;
    insta::assert_snapshot!("native", table);
    for (call, statuses) in &rows {
        let refused = statuses[..2].iter().all(|status| *status == 401);
        assert_eq!(refused, !is_open(call), "{}: {statuses:?}", call.title());
    }
}
