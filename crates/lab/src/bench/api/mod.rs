//! How one controller carries a large cloud: a thousand hosts that say every second what runs on them, and clients beside it.
//!
//! ```text
//! for SQLite and PostgreSQL:
//!   controller (the binary, as a user starts it) <- 1,000 joined hosts, mTLS, a heartbeat per second each
//!   20,000 servers by SQL                        -> CPU of the controller, nothing else going on
//!                                                -> GET /servers/detail?limit=1000, GET /servers/{id}, POST /auth/tokens
//! ```
//!
//! Ground rules: hosts and servers are only told of (nothing runs), but every word of theirs goes the way that a real one goes; the
//! calls are made one after another while the heartbeats go on; a token is issued by a token as well as by a password, since the
//! one way does all that the other does but for Argon2.

mod calls;
mod cloud;
mod crowd;
mod filling;
mod postgres;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use self::{calls::Caller, cloud::Cloud, crowd::Crowd};

const HOSTS: usize = 1_000;
const SERVERS: usize = 20_000;
/// All hosts have told of their servers by then, and been compared with the database.
const SETTLE: Duration = Duration::from_secs(15);
const WINDOW: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Engine {
    Sqlite,
    Postgres,
}

/// One engine's numbers, as they are printed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ApiRow {
    pub scenario: String,
    database: Engine,
    pub hosts: usize,
    pub servers: usize,
    pub page: usize,
    pub list_p50_ms: f64,
    pub list_p95_ms: f64,
    /// CPU time of the controller per call, above that of the heartbeats; the same of the others below.
    pub list_cpu_ms: f64,
    pub list_bytes: usize,
    pub show_p50_ms: f64,
    pub show_p95_ms: f64,
    pub show_cpu_ms: f64,
    /// By a token: all of a login but Argon2.
    pub token_p50_ms: f64,
    pub token_cpu_ms: f64,
    /// By a password.
    pub login_p50_ms: f64,
    pub heartbeats_per_s: f64,
    /// Of the controller, with the heartbeats alone.
    pub heartbeat_cores: f64,
    /// Of PostgreSQL's processes meanwhile.
    pub database_cores: Option<f64>,
    pub rss_bytes_max: Option<u64>,
    /// Tasks that wanted one of the machine's CPUs meanwhile, as the kernel counts them.
    pub load: f64,
}

pub(super) async fn measure(dir: &Path, json: bool) -> Result<()> {
    let mut rows = Vec::new();
    for engine in [Engine::Sqlite, Engine::Postgres] {
        if !json {
            eprintln!("api on {engine:?}: {HOSTS} hosts, {SERVERS} servers");
        }
        let row = one(dir, engine).await.with_context(|| format!("api on {engine:?}"))?;
        if json {
            println!("{}", serde_json::to_string(&row)?);
        }
        rows.push(row);
    }
    if !json {
        print!("{}", render(&rows));
    }
    Ok(())
}

async fn one(dir: &Path, engine: Engine) -> Result<ApiRow> {
    fs_err::create_dir_all(dir)?;
    let dir = tempfile::Builder::new().prefix("bench-api-").tempdir_in(dir)?;
    let cloud = Cloud::start(dir.path(), engine).await?;
    let caller = Caller::log_in(&cloud).await?;
    let mut crowd = Crowd::join(&cloud, HOSTS).await?;
    let servers = filling::fill(&cloud, caller.project(), caller.user(), crowd.names(), SERVERS)?;
    crowd.tell_of(&servers);
    crowd.begin();
    crowd.all_up(&cloud).await?;
    sleep(SETTLE).await;

    let (began, beats, cpu_s, database_s) = (Instant::now(), crowd.beats(), cloud.cpu_s()?, cloud.database_cpu_s());
    sleep(WINDOW).await;
    let seconds = began.elapsed().as_secs_f64();
    let heartbeat_cores = (cloud.cpu_s()? - cpu_s) / seconds;
    let database_cores = cloud.database_cpu_s().zip(database_s).map(|(now, before)| (now - before) / seconds);
    let heartbeats_per_s = (crowd.beats() - beats) as f64 / seconds;

    let meter = Meter { cloud: &cloud, heartbeat_cores };
    let (list, list_cpu_ms) = meter.around(calls::LISTS, caller.lists(&servers)).await?;
    let (show, show_cpu_ms) = meter.around(calls::SHOWS, caller.shows(&servers)).await?;
    let (token, token_cpu_ms) = meter.around(calls::TOKENS, caller.tokens()).await?;
    let login = caller.logins().await?;
    let load = load_of_machine()?;
    crowd.end(&cloud).await?;
    Ok(ApiRow {
        scenario: "api".to_owned(),
        database: engine,
        hosts: HOSTS,
        servers: SERVERS,
        page: calls::PAGE,
        list_p50_ms: list.times.part(0.5),
        list_p95_ms: list.times.part(0.95),
        list_cpu_ms,
        list_bytes: list.bytes,
        show_p50_ms: show.part(0.5),
        show_p95_ms: show.part(0.95),
        show_cpu_ms,
        token_p50_ms: token.part(0.5),
        token_cpu_ms,
        login_p50_ms: login.part(0.5),
        heartbeats_per_s,
        heartbeat_cores,
        database_cores,
        rss_bytes_max: cloud.rss_bytes_max(),
        load,
    })
}

/// CPU time of the controller, of which the heartbeats take a part that is known.
struct Meter<'a> {
    cloud: &'a Cloud,
    heartbeat_cores: f64,
}

impl Meter<'_> {
    async fn around<T>(&self, calls: usize, made: impl Future<Output = Result<T>>) -> Result<(T, f64)> {
        let (began, before_s) = (Instant::now(), self.cloud.cpu_s()?);
        let done = made.await?;
        let used_s = self.cloud.cpu_s()? - before_s - self.heartbeat_cores * began.elapsed().as_secs_f64();
        // And one that is not counted.
        Ok((done, used_s * 1e3 / (calls + 1) as f64))
    }
}

fn load_of_machine() -> Result<f64> {
    let text = fs_err::read_to_string("/proc/loadavg")?;
    let first = text.split_whitespace().next().context("an empty /proc/loadavg")?;
    Ok(first.parse()?)
}

fn render(rows: &[ApiRow]) -> String {
    let mut text = String::from(
        "database  list p50  p95 ms  cpu ms  bytes     show p50  p95 ms  cpu ms  token p50  cpu ms  login p50 ms  beats/s  cores  \
         of database  load\n",
    );
    for row in rows {
        let database = match row.database {
            Engine::Sqlite => "sqlite",
            Engine::Postgres => "postgres",
        };
        let cores = row.database_cores.map_or("-".to_owned(), |cores| format!("{cores:.2}"));
        text.push_str(&format!(
            "{database:<9} {:<9.1} {:<7.1} {:<7.1} {:<9} {:<9.2} {:<7.2} {:<7.2} {:<10.2} {:<7.2} {:<13.1} {:<8.0} {:<6.2} \
             {cores:<12} {:.1}\n",
            row.list_p50_ms,
            row.list_p95_ms,
            row.list_cpu_ms,
            row.list_bytes,
            row.show_p50_ms,
            row.show_p95_ms,
            row.show_cpu_ms,
            row.token_p50_ms,
            row.token_cpu_ms,
            row.login_p50_ms,
            row.heartbeats_per_s,
            row.heartbeat_cores,
            row.load,
        ));
    }
    text
}
