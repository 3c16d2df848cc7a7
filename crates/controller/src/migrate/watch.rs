//! After the move: the verification that goes on between the agents.
//!
//! The guest runs on the target already; nothing here changes that. A difference is the loudest thing that there is to say.
//! A later move of the same server needs the disks that are being compared, and ends the comparison.

use std::time::Duration;

use tokio::time::Instant;
use whimbrel_api::agent::{MigrationReport, MoveOptions, Role, Verification};
use whimbrel_core::migration::{
    coordinator::{Outcome, Phase},
    message::Report,
    source,
};
use whimbrel_store::{MigrationNews, MigrationRow, PageAsk};

use super::driver::Driver;
use crate::app::App;

const LOOK_EVERY: Duration = Duration::from_millis(250);
/// A source that says nothing of a verification for so long will not say anything any more.
const SILENCE_MAX: Duration = Duration::from_secs(600);

pub(super) fn word(verification: Verification) -> &'static str {
    match verification {
        Verification::None => "none",
        Verification::Running => "running",
        Verification::Equal => "equal",
        Verification::Different => "different",
        Verification::Failed => "failed",
        Verification::Superseded => "superseded",
    }
}

pub(super) fn of_word(word: Option<&str>) -> Verification {
    let all = [
        Verification::Running,
        Verification::Equal,
        Verification::Different,
        Verification::Failed,
        Verification::Superseded,
    ];
    all.into_iter().find(|verification| Some(self::word(*verification)) == word).unwrap_or(Verification::None)
}

pub(super) fn is_over(verification: Verification) -> bool {
    match verification {
        Verification::None | Verification::Running => false,
        Verification::Equal | Verification::Different | Verification::Failed | Verification::Superseded => true,
    }
}

/// A move that ended well, whose receipt or verification was not seen to end.
pub(super) fn is_due(row: &MigrationRow) -> bool {
    let options: MoveOptions = serde_json::from_value(row.options.clone()).unwrap_or_default();
    row.phase == Phase::Done(Outcome::Completed)
        && !is_over(of_word(row.verification.as_deref()))
        && (options.verify || row.receipt.is_none())
}

pub(super) async fn run(driver: &mut Driver<'_>) {
    let mut heard_at = Instant::now();
    while is_due(&driver.row) {
        // Asked before the look: what the source could still say of its disks is heard.
        let superseded = driver.options().verify && moves_again(driver).await;
        match driver.look_at_source().await {
            Some(report) => {
                if report.verification != Verification::None || report.receipt.is_some() && !driver.options().verify {
                    heard_at = Instant::now();
                }
                note(driver, &report).await;
                // An agent that restarted in the middle has no receipt to give.
                let retired = report.state == Report::Source(source::Phase::HandedOver { retired: true });
                if retired && report.receipt.is_none() && !driver.options().verify {
                    break;
                }
            }
            None if heard_at.elapsed() > SILENCE_MAX => break,
            None => {}
        }
        if superseded && is_due(&driver.row) {
            let why = "a later move of the server ended the verification".to_owned();
            return end(driver, Verification::Superseded, why).await;
        }
        if heard_at.elapsed() > SILENCE_MAX {
            break;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    if is_due(&driver.row) && driver.options().verify {
        let why = format!("the source said nothing of the verification for {} s", SILENCE_MAX.as_secs());
        tracing::warn!(migration = %driver.row.id, why, "not verified");
        end(driver, Verification::Failed, why).await;
    }
}

async fn moves_again(driver: &Driver<'_>) -> bool {
    let later = PageAsk { limit: Some(1), marker: Some(driver.row.id.to_string()) };
    match driver.app.store.list_migrations(Some(driver.row.instance), &later).await {
        Ok(page) => !page.items.is_empty(),
        Err(error) => {
            tracing::warn!(migration = %driver.row.id, %error, "cannot look for a later move");
            false
        }
    }
}

impl Driver<'_> {
    async fn look_at_source(&self) -> Option<MigrationReport> {
        match self.report_of(Role::Source).await {
            Ok(report) => Some(report),
            Err(failure) => {
                tracing::debug!(migration = %self.row.id, %failure, "the source does not answer");
                None
            }
        }
    }
}

async fn note(driver: &mut Driver<'_>, report: &MigrationReport) {
    let before = of_word(driver.row.verification.as_deref());
    let receipt = report.receipt.clone().filter(|receipt| driver.row.receipt.as_ref() != Some(receipt));
    if report.verification == before && receipt.is_none() {
        return;
    }
    let step = report.verification_failure.clone().unwrap_or_else(|| report.step.clone());
    let news = MigrationNews {
        step: Some(step.clone()),
        receipt: receipt.clone(),
        verification: Some(word(report.verification).to_owned()),
        ..Default::default()
    };
    if let Err(error) = driver.store.record_migration_news(driver.row.id, &news, App::now_us()).await {
        tracing::warn!(migration = %driver.row.id, %error, "news of a verification could not be stored");
        return;
    }
    driver.row.verification = news.verification;
    driver.row.receipt = receipt.or(driver.row.receipt.take());
    match report.verification {
        Verification::None | Verification::Running => {}
        Verification::Equal => tracing::info!(migration = %driver.row.id, "verified: the disks are equal"),
        Verification::Different => tracing::error!(migration = %driver.row.id, server = driver.row.instance_name,
            target = %driver.row.target, detail = step, "THE MOVED DISKS DIFFER FROM THE SOURCE'S"),
        Verification::Failed => tracing::warn!(migration = %driver.row.id, why = step, "not verified"),
        Verification::Superseded => {
            tracing::info!(migration = %driver.row.id, "its verification was ended by a later move")
        }
    }
}

/// The source's word is not waited for any more.
async fn end(driver: &mut Driver<'_>, verification: Verification, why: String) {
    let news =
        MigrationNews { step: Some(why), verification: Some(word(verification).to_owned()), ..Default::default() };
    if let Err(error) = driver.store.record_migration_news(driver.row.id, &news, App::now_us()).await {
        tracing::warn!(migration = %driver.row.id, %error, "news of a verification could not be stored");
    }
}
