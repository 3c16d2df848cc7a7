//! Hosts: joined by certificate, alive by heartbeat, taken out of service or away by operators.

use serde::{Deserialize, Serialize};
use sqlx::{Row, any::AnyRow};
use whimbrel_core::{
    host::HostFacts,
    id::{HostName, InstanceId},
};

use crate::{
    Page, PageAsk, Store, claim, counter,
    error::{Result, conflict, db, not_found},
    record::{Record, stored_words},
};

/// Rows of one answer: more than hosts that one cloud has.
const ROWS_MAX: i64 = 100_000;

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
    /// The integer that old clients know it by; no other host ever has it.
    pub number: u64,
    /// Takes no new servers.
    pub disabled: bool,
    pub disabled_reason: Option<String>,
    /// Counts as down, whatever its agent says.
    pub forced_down: bool,
    /// What its agent told of last.
    pub reported: Vec<Reported>,
}

/// An instance that a host's agent told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reported {
    pub id: InstanceId,
    pub owned: bool,
    /// It is on its way here or away.
    pub migrating: bool,
}

/// What lists of servers show of a host: cheap to read for all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostMark {
    pub name: HostName,
    pub state: HostState,
    pub disabled: bool,
    pub disabled_reason: Option<String>,
    pub forced_down: bool,
}

impl HostRow {
    pub fn mark(&self) -> HostMark {
        HostMark {
            name: self.name.clone(),
            state: self.state,
            disabled: self.disabled,
            disabled_reason: self.disabled_reason.clone(),
            forced_down: self.forced_down,
        }
    }
}

/// What an operator changes of a host; `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostChange {
    /// With the reason. One that is enabled has none.
    pub disabled: Option<(bool, Option<String>)>,
    pub forced_down: Option<bool>,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT name, state, control_url, facts, certificate_serial, joined_us, last_seen_us, \
             number, disabled, disabled_reason, forced_down, reported, \
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
        number: record.number("number")?,
        disabled: record.flag("disabled")?,
        disabled_reason: record.text_opt("disabled_reason")?,
        forced_down: record.flag("forced_down")?,
        reported: record.json("reported")?,
    })
}

impl Store {
    /// A certificate was issued: at a join (the host is made, or joins anew) or a renewal.
    pub async fn record_certificate(&self, host: &HostName, serial: &str, now_us: i64) -> Result<()> {
        let failed = db("record certificate");
        let known = sqlx::query("UPDATE hosts SET certificate_serial = $2 WHERE name = $1")
            .bind(host.as_str())
            .bind(serial)
            .execute(&self.writes)
            .await
            .map_err(&failed)?;
        if known.rows_affected() > 0 {
            return Ok(());
        }
        let mut transaction = self.begin("record certificate").await?;
        let number = counter::next(&mut transaction, counter::HOST).await?;
        sqlx::query(
            "INSERT INTO hosts (name, state, certificate_serial, joined_us, last_seen_us, claim_turn, number) \
             VALUES ($1, $2, $3, $4, 0, 0, $5) \
             ON CONFLICT (name) DO UPDATE SET certificate_serial = excluded.certificate_serial",
        )
        .bind(host.as_str())
        .bind(HostState::Down.as_str())
        .bind(serial)
        .bind(now_us)
        .bind(number)
        .execute(&mut *transaction)
        .await
        .map_err(&failed)?;
        transaction.commit().await.map_err(failed)
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

    /// Of one host, or of all.
    pub async fn host_marks(&self, only: Option<&HostName>) -> Result<Vec<HostMark>> {
        let rows = sqlx::query(
            "SELECT name, state, disabled, disabled_reason, forced_down FROM hosts WHERE $1 = '' OR name = $1 \
             ORDER BY name LIMIT $2",
        )
        .bind(only.map_or("", HostName::as_str))
        .bind(ROWS_MAX)
        .fetch_all(&self.reads)
        .await
        .map_err(db("read hosts"))?;
        let read = |row| {
            let record = Record::new("host", row)?;
            Ok(HostMark {
                name: record.parsed("name")?,
                state: record.parsed("state")?,
                disabled: record.flag("disabled")?,
                disabled_reason: record.text_opt("disabled_reason")?,
                forced_down: record.flag("forced_down")?,
            })
        };
        rows.iter().map(read).collect()
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

    /// Of all hosts the number and the name, in the order in which they joined.
    pub async fn host_numbers(&self) -> Result<Vec<(u64, HostName)>> {
        let rows = sqlx::query("SELECT name, number FROM hosts ORDER BY number LIMIT $1")
            .bind(ROWS_MAX)
            .fetch_all(&self.reads)
            .await
            .map_err(db("list hosts"))?;
        let read = |row| {
            let record = Record::new("host", row)?;
            Ok((record.number("number")?, record.parsed("name")?))
        };
        rows.iter().map(read).collect()
    }

    pub async fn change_host(&self, name: &HostName, change: &HostChange) -> Result<()> {
        let disabled = change.disabled.as_ref().map(|(disabled, _)| i64::from(*disabled));
        let reason = change.disabled.as_ref().and_then(|(disabled, reason)| reason.clone().filter(|_| *disabled));
        let done = sqlx::query(
            "UPDATE hosts SET disabled = COALESCE($2, disabled), \
             disabled_reason = CASE WHEN $2 IS NULL THEN disabled_reason ELSE $3 END, \
             forced_down = COALESCE($4, forced_down) WHERE name = $1",
        )
        .bind(name.as_str())
        .bind(disabled)
        .bind(reason)
        .bind(change.forced_down.map(i64::from))
        .execute(&self.writes)
        .await
        .map_err(db("change host"))?;
        if done.rows_affected() == 0 { Err(not_found("host", name)) } else { Ok(()) }
    }

    /// With its membership of aggregates; refused while a server lives there or holds room, or a move still needs the host.
    /// What an agent there says afterwards is not heard until the host joins anew.
    pub async fn delete_host(&self, name: &HostName) -> Result<()> {
        const SERVERS: &str = "SELECT $1 AS host, (SELECT COUNT(*) FROM instances WHERE host = $1) + \
             (SELECT COUNT(*) FROM claims WHERE host = $1 AND instance NOT IN (SELECT id FROM instances WHERE host = $1)) \
             AS found";
        const MIGRATIONS: &str = "SELECT $1 AS host, COUNT(*) AS found FROM migrations WHERE (source = $1 OR target = $1) \
             AND (finished_us IS NULL OR owing_us IS NOT NULL OR verification = 'running')";
        let failed = db("delete host");
        let mut transaction = self.begin("delete host").await?;
        // Whoever wants to put a server there waits, and then finds no host.
        claim::take_turn(&mut transaction, name).await?;
        for (question, what) in
            [(MIGRATIONS, "unfinished migrations: wait for their end"), (SERVERS, "servers: move or delete them")]
        {
            let row = sqlx::query(question).bind(name.as_str()).fetch_one(&mut *transaction).await.map_err(&failed)?;
            let found: u64 = Record::new("host", &row)?.number("found")?;
            if found > 0 {
                return Err(conflict("host", name, format!("has {found} {what} first")));
            }
        }
        let gone =
            sqlx::query("DELETE FROM hosts WHERE name = $1").bind(name.as_str()).execute(&mut *transaction).await;
        gone.map_err(&failed)?;
        transaction.commit().await.map_err(failed)
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
