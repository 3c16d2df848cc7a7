//! Spoiled calls of every route: each gets an answer below 500 in the right form, and what is refused changes nothing.
//!
//! `WHIMBREL_GENERATED_SEED` and `WHIMBREL_GENERATED_SECONDS` choose other cases and more of them; a failure tells its seed. A
//! round has a cloud and a seed of its own, so that one round is replayed alone.

use std::{
    cell::RefCell,
    panic,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use reqwest::{Method, StatusCode};

use crate::{
    books::{self, FOLLOWING},
    calls::{self, Answered, Call, Credential, Sent},
    fault,
    spoiled::{Spoiling, spoiling},
    world::World,
};

const SEED: u64 = 1;
const SECONDS: u64 = 40;
const ROUND_CASES: u32 = 500;
const SHRINKS_MAX: u32 = 100;
/// Of a refused call beside which something went on.
const TRIES_MAX: u32 = 3;
const TOLD_CHARS_MAX: usize = 2_000;
/// Longer than the reconciler and a report of the agents take.
const QUIET_TIME_MAX: Duration = Duration::from_secs(2);

/// Of the product's own code, in whatever task.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

#[test]
fn a_spoiled_call_is_refused_and_changes_nothing() {
    let number = |name: &str, usual| std::env::var(name).map_or(usual, |text| text.parse().unwrap());
    let (seed, seconds) = (number("WHIMBREL_GENERATED_SEED", SEED), number("WHIMBREL_GENERATED_SECONDS", SECONDS));
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if info.location().is_some_and(|at| at.file().contains("/src/") && at.file().starts_with("crates/")) {
            PANICS.lock().unwrap_or_else(PoisonError::into_inner).push(info.to_string());
        }
        before(info);
    }));
    let begun = Instant::now();
    let mut statuses = std::collections::BTreeMap::new();
    for seed in seed.. {
        round(seed, &mut statuses);
        if begun.elapsed() >= Duration::from_secs(seconds) {
            break;
        }
    }
    println!("answers by status: {statuses:?}");
}

type Statuses = std::collections::BTreeMap<u16, u32>;

fn round(seed: u64, statuses: &mut Statuses) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let config =
        Config { cases: ROUND_CASES, max_shrink_iters: SHRINKS_MAX, failure_persistence: None, ..Config::default() };
    let world = runtime.block_on(World::new());
    let reading = runtime.block_on(books::reading(&world.database));
    let ground = RefCell::new(Ground { world, reading, calls: calls::all(), statuses, unmade: 0 });
    let ran = TestRunner::new_with_rng(config, rng).run(&spoiling(), |spoiling| {
        runtime.block_on(ground.borrow_mut().try_one(&spoiling)).map_err(TestCaseError::fail)
    });
    let unmade = ground.borrow().unmade;
    match ran {
        Ok(()) => assert!(unmade < ROUND_CASES / 5, "{unmade} of {ROUND_CASES} cases had nothing to ask for"),
        Err(TestError::Fail(why, _)) => panic!("with WHIMBREL_GENERATED_SEED={seed}: {why}"),
        Err(TestError::Abort(why)) => panic!("with WHIMBREL_GENERATED_SEED={seed}: {why}"),
    }
}

struct Ground<'a> {
    world: World,
    reading: String,
    calls: Vec<Call>,
    statuses: &'a mut Statuses,
    /// Cases that came to nothing.
    unmade: u32,
}

impl Ground<'_> {
    async fn try_one(&mut self, spoiling: &Spoiling) -> Result<(), String> {
        let call = spoiling.call.get(&self.calls).clone();
        // What earlier cases left may not be enough to make it.
        let Ok(sent) = self.world.fill(&call).await else {
            self.unmade += 1;
            return Ok(());
        };
        let sent = spoiling.apply(sent);
        if sent.path.parse::<axum::http::Uri>().is_err() {
            return Ok(());
        }
        let status = self.answer(&call, &sent, spoiling.who).await.map_err(|why| told(&sent, &why))?;
        *self.statuses.entry(status.as_u16()).or_default() += 1;
        if status.is_success() && sent.method != Method::GET {
            self.world.used(&sent, &call.names()).await;
            self.quiet().await;
        }
        Ok(())
    }

    async fn answer(&self, call: &Call, sent: &Sent, who: &str) -> Result<StatusCode, String> {
        let credential = match (who, call.is_native()) {
            ("nobody", _) => Credential::None,
            (_, true) if call.path.ends_with("/heartbeat") => Credential::Host("h1"),
            ("member" | "other", true) => Credential::Bearer(&self.world.bearers["member"]),
            (_, true) => Credential::Bearer(&self.world.bearers["admin"]),
            (who, false) => Credential::Token(&self.world.tokens[who]),
        };
        let mut tries = 0;
        loop {
            let before = books::read(&self.world.database, &self.reading).await;
            let answered = self.world.send(sent, credential).await;
            if let Some(panic) = PANICS.lock().unwrap_or_else(PoisonError::into_inner).first() {
                return Err(panic.clone());
            }
            let status = match answered {
                Ok(answered) => {
                    check(sent, &answered)?;
                    answered.status
                }
                // Whoever is turned away at the head of a long request may find the line closed before he reads why.
                Err(why) if why.contains("BodyWrite") => StatusCode::UNAUTHORIZED,
                Err(why) => return Err(why),
            };
            if status.as_u16() < 400 {
                return Ok(status);
            }
            let changed = books::changes(&before, &books::read(&self.world.database, &self.reading).await);
            // What goes on by itself goes on for a while only.
            let goes_on = changed.keys().all(|table| FOLLOWING.contains(&table.as_str()));
            tries += 1;
            if changed.is_empty() {
                return Ok(status);
            }
            if !goes_on || tries > TRIES_MAX {
                return Err(format!("{status} and yet it changed {changed:#?}"));
            }
            self.quiet().await;
        }
    }

    /// Waits until what was asked for is carried out.
    async fn quiet(&self) {
        let begun = Instant::now();
        let busy = "SELECT COUNT(*) FROM instances WHERE task_state IS NOT NULL AND task_state <> 'migrating'";
        while begun.elapsed() < QUIET_TIME_MAX {
            let count: i64 = sqlx::query_scalar(busy).fetch_one(&self.world.database).await.unwrap();
            let before = books::read(&self.world.database, &self.reading).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
            if count == 0 && before == books::read(&self.world.database, &self.reading).await {
                return;
            }
        }
    }
}

fn check(sent: &Sent, answered: &Answered) -> Result<(), String> {
    let status = answered.status.as_u16();
    let about = |why: &str| Err(format!("{status}: {why}: {}", answered.text));
    if let Some(why) = fault::wrong(&sent.path, answered) {
        return about(&why);
    }
    let allowed = match status {
        // As Neutron answers where nobody said on which wire.
        503 => answered.text.contains("NoNetworkAvailable"),
        _ => status < 500,
    };
    if allowed { Ok(()) } else { about("that is our fault and not the client's") }
}

fn told(sent: &Sent, why: &str) -> String {
    let cut = |text: String| text.chars().take(TOLD_CHARS_MAX).collect::<String>();
    format!(
        "{} {} at {}\n{}\n{}",
        sent.method,
        cut(sent.path.clone()),
        sent.at,
        cut(format!("{:?}", sent.payload)),
        cut(why.to_owned())
    )
}
