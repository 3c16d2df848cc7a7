//! What hosts say of themselves and of their instances, many at a time: with a thousand hosts a word comes every millisecond.
//!
//! Ground rules: all that is at hand is one transaction, in the order of names and ids, so that two controllers that write the same
//! rows wait for each other and never block each other; a power cut may take it, since every host says it again within a second;
//! who tells what is new only has read what was known: [`Store::instances_told_by`].

use sqlx::{Any, Transaction};
use whimbrel_core::{
    failure::Failure,
    host::HostFacts,
    id::{Epoch, HostName, InstanceId},
    instance::PowerState,
};

use crate::{
    InstanceNews, Reported, Store,
    error::{Result, db},
    host::HostState,
    record::{Record, bigint, json},
};

/// Rows of one answer: more than servers that one host has.
const ROWS_MAX: i64 = 100_000;

/// One host's word.
#[derive(Clone, Debug, PartialEq)]
pub struct Pulse {
    pub host: HostName,
    pub control_url: String,
    /// `None` where they are as they were told last.
    pub facts: Option<HostFacts>,
    pub reported: Option<Vec<Reported>>,
    /// Of instances of which something is new.
    pub instances: Vec<InstanceNews>,
}

/// What became of a [`Pulse`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// False for a host whose record is gone.
    pub known: bool,
    pub came_up: bool,
    /// Instances of which the host was not believed.
    pub disbelieved: Vec<InstanceId>,
}

/// What is known of an instance by its owner's word.
#[derive(Clone, Debug, PartialEq)]
pub struct KnownInstance {
    pub epoch: Epoch,
    pub power: Option<PowerState>,
    pub failure: Option<Failure>,
    pub write_bps: u64,
}

impl Store {
    /// All or none of them, at this time of the database's clock; in the order in which they were given.
    pub async fn record_pulses(&self, pulses: &[Pulse], now_us: i64) -> Result<Vec<Heard>> {
        let mut order: Vec<usize> = (0..pulses.len()).collect();
        order.sort_by(|one, other| pulses[*one].host.cmp(&pulses[*other].host));
        let mut heard = vec![Heard { known: false, came_up: false, disbelieved: Vec::new() }; pulses.len()];
        let mut transaction = self.begin_lossy("record heartbeats").await?;
        for at in &order {
            let pulse = &pulses[*at];
            (heard[*at].known, heard[*at].came_up) = touch_host(&mut transaction, pulse, now_us).await?;
        }
        let mut news: Vec<(usize, &InstanceNews)> = order
            .iter()
            .filter(|at| heard[**at].known)
            .flat_map(|at| pulses[*at].instances.iter().map(|news| (*at, news)))
            .collect();
        news.sort_by_key(|(_, news)| news.id);
        for (at, news) in news {
            if !record_news(&mut transaction, news, now_us).await? {
                heard[at].disbelieved.push(news.id);
            }
        }
        transaction.commit().await.map_err(db("record heartbeats"))?;
        Ok(heard)
    }

    /// What is known of the instances that live on the host.
    pub async fn instances_told_by(&self, host: &HostName) -> Result<Vec<(InstanceId, KnownInstance)>> {
        let rows =
            sqlx::query("SELECT id, epoch, power_state, failure, write_bps FROM instances WHERE host = $1 LIMIT $2")
                .bind(host.as_str())
                .bind(ROWS_MAX)
                .fetch_all(&self.reads)
                .await
                .map_err(db("read servers of a host"))?;
        let read = |row| {
            let record = Record::new("server", row)?;
            let known = KnownInstance {
                epoch: Epoch(record.number("epoch")?),
                power: record.json_opt("power_state")?,
                failure: record.json_opt("failure")?,
                write_bps: record.number("write_bps")?,
            };
            Ok((record.parsed("id")?, known))
        };
        rows.iter().map(read).collect()
    }
}

/// Whether the host is known, and whether it was down until now.
async fn touch_host(transaction: &mut Transaction<'static, Any>, pulse: &Pulse, now_us: i64) -> Result<(bool, bool)> {
    let failed = db("record heartbeat");
    let facts = pulse.facts.as_ref().map(|facts| json("host", &pulse.host, "facts", facts)).transpose()?;
    let reported = pulse.reported.as_ref().map(|all| json("host", &pulse.host, "reported", all)).transpose()?;
    let seen = sqlx::query(
        "UPDATE hosts SET last_seen_us = $2, control_url = $3, facts = COALESCE($4, facts), reported = COALESCE($5, reported) \
         WHERE name = $1 RETURNING name, state",
    )
    .bind(pulse.host.as_str())
    .bind(now_us)
    .bind(&pulse.control_url)
    .bind(facts)
    .bind(reported)
    .fetch_optional(&mut **transaction)
    .await
    .map_err(&failed)?;
    let Some(seen) = seen else { return Ok((false, false)) };
    let was_down = Record::new("host", &seen)?.parsed::<HostState>("state")? == HostState::Down;
    if was_down {
        let up = sqlx::query("UPDATE hosts SET state = $2 WHERE name = $1").bind(pulse.host.as_str());
        up.bind(HostState::Up.as_str()).execute(&mut **transaction).await.map_err(failed)?;
    }
    Ok((true, was_down))
}

/// Believes an owner at a higher epoch than known, or the known owner.
pub(crate) async fn record_news(
    transaction: &mut Transaction<'static, Any>,
    news: &InstanceNews,
    now_us: i64,
) -> Result<bool> {
    let failure = news.failure.as_ref().map(|failure| json("server", news.id, "failure", failure)).transpose()?;
    let done = sqlx::query(NEWS)
        .bind(news.id.to_string())
        .bind(news.host.as_str())
        .bind(bigint(news.owned_epoch.0))
        .bind(json("server", news.id, "power_state", &news.power)?)
        .bind(failure)
        .bind(bigint(news.write_bps))
        .bind(now_us)
        .execute(&mut **transaction)
        .await
        .map_err(db("record server's state"))?;
    Ok(done.rows_affected() > 0)
}

const NEWS: &str = "UPDATE instances SET host = $2, epoch = $3, power_state = $4, failure = $5, write_bps = $6, \
     updated_us = CASE WHEN host = $2 AND COALESCE(power_state, '') = $4 \
     AND COALESCE(failure, '') = COALESCE($5, '') THEN updated_us ELSE $7 END WHERE id = $1 AND (epoch < $3 OR (epoch = $3 AND host = $2))";
