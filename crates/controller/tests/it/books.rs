//! What the database holds, read beside the controller: a refused call must leave it as it was.
//!
//! Ground rules: all tables and columns count but for those that agents' reports and the reconciler write by themselves.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{AssertSqlSafe, Row, SqlitePool};

/// By table.
pub type Books = BTreeMap<String, BTreeSet<String>>;

/// Written whenever an agent reports, or by whoever waits for its turn.
const RESTLESS: [(&str, &[&str]); 4] = [
    ("hosts", &["state", "control_url", "facts", "last_seen_us", "claim_turn"]),
    ("instances", &["power_state", "task_state", "failure", "write_bps", "updated_us", "launched_us"]),
    ("migrations", &["progress", "step", "updated_us"]),
    ("networks", &["turn"]),
];
/// Go on changing after a call was taken, when what it asked for is carried out.
pub const FOLLOWING: [&str; 7] = [
    "claims",
    "instance_action_events",
    "instance_actions",
    "instances",
    "migrations",
    "ports",
    "server_group_members",
];

/// One statement that reads all of it; the tables do not change while a controller runs.
pub async fn reading(database: &SqlitePool) -> String {
    let tables = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE '\\_%' ESCAPE '\\' \
                  AND name NOT LIKE 'sqlite%' ORDER BY name";
    let mut parts = Vec::new();
    for table in sqlx::query(tables).fetch_all(database).await.unwrap() {
        let table: String = table.get(0);
        let ignored = RESTLESS.iter().find(|(name, _)| *name == table).map_or(&[][..], |(_, columns)| *columns);
        let columns = sqlx::query(AssertSqlSafe(format!("SELECT name FROM pragma_table_info('{table}')")));
        let columns = columns.fetch_all(database).await.unwrap();
        let columns: Vec<String> = columns.iter().map(|row| row.get(0)).collect();
        let read: Vec<String> = columns
            .iter()
            .filter(|column| !ignored.contains(&column.as_str()))
            .map(|column| format!("'{column}=' || quote(\"{column}\")"))
            .collect();
        parts.push(format!("SELECT '{table}', {} FROM \"{table}\"", read.join(" || ' ' || ")));
    }
    assert!(parts.len() > 25, "{parts:?}");
    parts.join(" UNION ALL ")
}

pub async fn read(database: &SqlitePool, reading: &str) -> Books {
    let mut books = Books::new();
    for row in sqlx::query(AssertSqlSafe(reading.to_owned())).fetch_all(database).await.unwrap() {
        books.entry(row.get(0)).or_default().insert(row.get(1));
    }
    books
}

/// What one has and the other has not, by table.
pub fn changes(before: &Books, after: &Books) -> BTreeMap<String, Vec<String>> {
    let mut changes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let none = BTreeSet::new();
    for table in before.keys().chain(after.keys()) {
        let (was, is) = (before.get(table).unwrap_or(&none), after.get(table).unwrap_or(&none));
        let gone = was.difference(is).map(|row| format!("- {row}"));
        let new = is.difference(was).map(|row| format!("+ {row}"));
        let changed: Vec<String> = gone.chain(new).collect();
        if !changed.is_empty() {
            changes.insert(table.clone(), changed);
        }
    }
    changes
}
