//! Follows a migration until it ends: one bar that never goes backwards, a lane per disk and for RAM.
//!
//! Ground rules: the server's word is the truth, this only shows it; Ctrl-C asks before it cancels, and a cancel is waited
//! for until the guest is known to run where it was.

use std::{
    io::IsTerminal,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Result;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use whimbrel_api::{
    client::ControllerClient,
    failure::Failure,
    id::MigrationId,
    native::{Migration, MigrationStatus},
    progress::{Limiter, Progress},
};

use crate::{failure::CANCELLED, receipt, table};

const LOOK: Duration = Duration::from_millis(100);
/// In `--json`, a line this often.
const LINE: Duration = Duration::from_secs(1);
/// The controller may restart meanwhile: the move goes on without it.
const CONTROLLER_AWAY_MAX: Duration = Duration::from_secs(120);

pub async fn follow(client: &ControllerClient, first: Migration, json: bool) -> Result<ExitCode> {
    let mut screen = Screen::new(json);
    let mut migration = first;
    let mut seen = Instant::now();
    while !migration.status.is_end() {
        screen.show(&migration)?;
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            _ = tokio::signal::ctrl_c() => interrupted(client, &migration, &screen).await?,
        }
        match client.migration(migration.id).await {
            Ok(now) => {
                migration = now;
                seen = Instant::now();
            }
            Err(failure) if seen.elapsed() > CONTROLLER_AWAY_MAX => return Err(failure.into()),
            Err(_) => screen.note("the controller does not answer; the move goes on without it"),
        }
    }
    screen.end();
    finish(&migration, json)
}

fn finish(migration: &Migration, json: bool) -> Result<ExitCode> {
    match (&migration.status, &migration.receipt) {
        (MigrationStatus::Completed, Some(receipt)) if json => table::print_json(receipt)?,
        (MigrationStatus::Completed, Some(receipt)) => {
            receipt::print(receipt, migration.verification, (&migration.server_name, ""));
        }
        (MigrationStatus::Completed, None) => println!("{} moved to {}", migration.server_name, migration.target),
        (MigrationStatus::Cancelled, _) => {
            say_ending(migration, "was cancelled", json)?;
            return Ok(ExitCode::from(CANCELLED));
        }
        _ => {
            say_ending(migration, "failed", json)?;
            return Ok(ExitCode::FAILURE);
        }
    }
    match &migration.failure {
        Some(failure) => {
            eprintln!("error: {failure}");
            Ok(ExitCode::FAILURE)
        }
        None => Ok(ExitCode::SUCCESS),
    }
}

/// What failed, where the guest runs now, what was cleaned up, what to do.
fn say_ending(migration: &Migration, what: &str, json: bool) -> Result<()> {
    if json {
        table::print_json(migration)?;
    }
    let why = migration.failure.as_ref().map_or(String::new(), |failure| format!(": {failure}"));
    eprintln!(
        "error: the move of {} from {} to {} {what}{why}",
        migration.server_name, migration.source, migration.target
    );
    match &migration.guest_at {
        Some(host) => eprintln!("the guest is at {host} now"),
        None => eprintln!("where the guest is cannot be said yet: see `whimbrel migration show {}`", migration.id),
    }
    if let Some(cleaned_up) = &migration.cleaned_up {
        eprintln!("cleaned up: {cleaned_up}");
    }
    if let Some(left_behind) = &migration.left_behind {
        eprintln!("left to be cleaned up: {left_behind}");
    }
    if let Some(hint) = migration.failure.as_ref().and_then(|failure: &Failure| failure.hint.as_ref()) {
        eprintln!("hint: {hint}");
    }
    Ok(())
}

async fn interrupted(client: &ControllerClient, migration: &Migration, screen: &Screen) -> Result<()> {
    let id = migration.id;
    if !std::io::stdin().is_terminal() {
        return cancel(client, id, screen).await;
    }
    screen.note(&format!("cancel the move of {}? It goes on meanwhile. [y/N, Ctrl-C for yes]", migration.server_name));
    let answer = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).map(|_| line)
    });
    let yes = tokio::select! {
        line = answer => matches!(line??.trim(), "y" | "Y" | "yes"),
        _ = tokio::signal::ctrl_c() => true,
    };
    match yes {
        true => cancel(client, id, screen).await,
        false => Ok(screen.note("the move goes on")),
    }
}

async fn cancel(client: &ControllerClient, id: MigrationId, screen: &Screen) -> Result<()> {
    screen.note("cancelling; the guest stays where it is");
    match client.cancel_migration(id).await {
        Ok(_) => {}
        // Too late, or the controller is away: the next look says what is so.
        Err(failure) => screen.note(&failure.to_string()),
    }
    Ok(())
}

/// Bars on a terminal, lines in JSON, nothing otherwise.
struct Screen {
    json: bool,
    bars: MultiProgress,
    overall: ProgressBar,
    lanes: Vec<ProgressBar>,
    last_line: Option<Instant>,
}

impl Screen {
    fn new(json: bool) -> Self {
        let target = match json || !std::io::stderr().is_terminal() {
            true => ProgressDrawTarget::hidden(),
            false => ProgressDrawTarget::stderr(),
        };
        let bars = MultiProgress::with_draw_target(target);
        let overall = bars.add(ProgressBar::new(1_000));
        overall.set_style(style("{bar:40.cyan} {percent:>3} %  {msg}"));
        Screen { json, bars, overall, lanes: Vec::new(), last_line: None }
    }

    fn show(&mut self, migration: &Migration) -> Result<()> {
        if self.json {
            if self.last_line.is_none_or(|at| at.elapsed() >= LINE) {
                self.last_line = Some(Instant::now());
                table::print_json(migration)?;
            }
            return Ok(());
        }
        let Some(progress) = &migration.progress else {
            self.overall.set_message(migration.step.clone());
            return Ok(());
        };
        self.overall.set_position(u64::from(progress.permille).max(self.overall.position()));
        self.overall.set_message(headline(migration, progress));
        let lanes: Vec<(String, u64, u64)> = progress
            .disks
            .iter()
            .map(|lane| (lane.name.to_string(), lane.done_bytes, lane.total_bytes))
            .chain([(format!("RAM (pass {})", progress.ram.passes), progress.ram.done_bytes, progress.ram.total_bytes)])
            .collect();
        while self.lanes.len() < lanes.len() {
            let lane = self.bars.add(ProgressBar::new(1));
            lane.set_style(style("  {prefix:14} {bar:26.blue} {bytes:>11} of {total_bytes}"));
            self.lanes.push(lane);
        }
        for (bar, (name, done, total)) in self.lanes.iter().zip(lanes) {
            bar.set_prefix(name);
            bar.set_length(total.max(done));
            bar.set_position(done);
        }
        Ok(())
    }

    fn note(&self, words: &str) {
        match self.json {
            true => eprintln!("{words}"),
            false => drop(self.bars.println(words)),
        }
    }

    fn end(&self) {
        for lane in &self.lanes {
            lane.finish_and_clear();
        }
        self.overall.finish_and_clear();
    }
}

fn headline(migration: &Migration, progress: &Progress) -> String {
    let left = match progress.remaining_ms {
        Some((best, worst)) if worst > best => format!("{} to {} left", table::time_ms(best), table::time_ms(worst)),
        Some((best, _)) => format!("{} left", table::time_ms(best)),
        None => "time left unknown".to_owned(),
    };
    format!(
        "{} · round {} · {} (dirty {}) · {left}{}",
        migration.step,
        progress.round,
        table::rate(progress.rate_bps),
        table::rate(progress.dirty_bps),
        limiter(progress.limiter)
    )
}

fn limiter(limiter: Limiter) -> &'static str {
    match limiter {
        Limiter::Unknown => "",
        Limiter::SourceRead => " · held back by the source's disk",
        Limiter::Link => " · held back by the link",
        Limiter::TargetWrite => " · held back by the target's disk",
        Limiter::GuestWrites => " · held back by the guest's own writes",
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
