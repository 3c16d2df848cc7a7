//! Hosts: joined by certificate, alive by heartbeat.

use sqlx::{Row, any::AnyRow};
use whimbrel_core::{host::HostFacts, id::HostName};

use crate::{
    Page, PageAsk, Store,
    error::{Result, db, not_found},
    record::{Record, json, stored_words},
};

stored_words!(HostState { Up = "up", Down = "down" });

#[derive(Clone, Debug, PartialEq)]
pub struct HostRow {
    pub name: HostName,
    pub state: HostState,
    /// Where its agent listens; `None` until its first heartbeat, as `facts`.
    pub control_url: Option<String>,
    pub facts: Option<HostFacts>,
    /// Of the certificate issued last.
    pub certificate_serial: String,
    pub joined_us: i64,
    /// Zero until the first heartbeat.
    pub last_seen_us: i64,
    /// Instances that live there.
    pub instances: u32,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT name, state, control_url, facts, certificate_serial, joined_us, last_seen_us, \
             (SELECT COUNT(*) FROM instances WHERE instances.host = hosts.name) AS instances FROM hosts ",
            $rest
        )
    };
}

fn read(row: &AnyRow) -> Result<HostRow> {
    let record = Record::new("host", row)?;
    Ok(HostRow {
        name: record.parsed("name")?,
        state: record.parsed("state")?,
        control_url: record.text_opt("control_url")?,
        facts: record.json_opt("facts")?,
        certificate_serial: record.text("certificate_serial")?,
        joined_us: record.us("joined_us")?,
        last_seen_us: record.us("last_seen_us")?,
        instances: record.number("instances")?,
    })
}

impl Store {
    /// A certificate was issued: at a join (the host is made, or joins anew) or a renewal.
    pub async fn record_certificate(&self, host: &HostName, serial: &str, now_us: i64) -> Result<()> {
        sqlx::query(
            "INSERT INTO hosts (name, state, certificate_serial, joined_us, last_seen_us, claim_turn) \
             VALUES ($1, $2, $3, $4, 0, 0) \
             ON CONFLICT (name) DO UPDATE SET certificate_serial = excluded.certificate_serial",
        )
        .bind(host.as_str())
        .bind(HostState::Down.as_str())
        .bind(serial)
        .bind(now_us)
        .execute(&self.writes)
        .await
        .map_err(db("record certificate"))?;
        Ok(())
    }

    /// Returns whether the host was down until now.
    pub async fn record_heartbeat(&self, facts: &HostFacts, control_url: &str, now_us: i64) -> Result<bool> {
        let failed = db("record heartbeat");
        let came_up = sqlx::query("UPDATE hosts SET state = $2 WHERE name = $1 AND state <> $2")
            .bind(facts.name.as_str())
            .bind(HostState::Up.as_str())
            .execute(&self.reads)
            .await
            .map_err(&failed)?;
        let done = sqlx::query("UPDATE hosts SET facts = $2, control_url = $3, last_seen_us = $4 WHERE name = $1")
            .bind(facts.name.as_str())
            .bind(json("host", &facts.name, "facts", facts)?)
            .bind(control_url)
            .bind(now_us)
            .execute(&self.reads)
            .await
            .map_err(failed)?;
        if done.rows_affected() == 0 { Err(not_found("host", &facts.name)) } else { Ok(came_up.rows_affected() > 0) }
    }

    /// Hosts not seen since `before_us` are down from now on. Returns those that were up.
    pub async fn mark_silent_hosts_down(&self, before_us: i64) -> Result<Vec<HostName>> {
        let rows = sqlx::query("UPDATE hosts SET state = $2 WHERE last_seen_us < $1 AND state <> $2 RETURNING name")
            .bind(before_us)
            .bind(HostState::Down.as_str())
            .fetch_all(&self.writes)
            .await
            .map_err(db("mark hosts down"))?;
        rows.iter().map(|row| Record::new("host", row)?.parsed("name")).collect()
    }

    pub async fn host(&self, name: &HostName) -> Result<HostRow> {
        let row = sqlx::query(select!("WHERE name = $1"))
            .bind(name.as_str())
            .fetch_optional(&self.reads)
            .await
            .map_err(db("read host"))?;
        read(&row.ok_or_else(|| not_found("host", name))?)
    }

    /// In the order of names.
    pub async fn list_hosts(&self, ask: &PageAsk) -> Result<Page<HostRow>> {
        let rows = sqlx::query(select!("WHERE name > $1 ORDER BY name LIMIT $2"))
            .bind(ask.after())
            .bind(ask.rows())
            .fetch_all(&self.reads)
            .await
            .map_err(db("list hosts"))?;
        ask.page(&rows, read, |host| host.name.to_string())
    }

    pub async fn count_hosts(&self) -> Result<u64> {
        let row = sqlx::query("SELECT COUNT(*) AS hosts FROM hosts")
            .fetch_one(&self.reads)
            .await
            .map_err(db("count hosts"))?;
        let hosts: i64 = row.try_get("hosts").map_err(db("count hosts"))?;
        Ok(u64::try_from(hosts).unwrap_or(0))
    }
}
