//! A move while it is under way: one bar that never goes backwards, a lane per disk and for RAM.

use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

use anyhow::Result;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use whimbrel_api::{
    native::Migration,
    progress::{Limiter, Progress},
};

use crate::table;

/// In `--json`, a line this often.
const LINE: Duration = Duration::from_secs(1);

/// Bars on a terminal, lines in JSON, nothing otherwise.
pub(super) struct Screen {
    json: bool,
    bars: MultiProgress,
    overall: ProgressBar,
    lanes: Vec<ProgressBar>,
    last_line: Option<Instant>,
}

impl Screen {
    pub(super) fn new(json: bool) -> Self {
        let target = match json || !std::io::stderr().is_terminal() {
            true => ProgressDrawTarget::hidden(),
            false => ProgressDrawTarget::stderr(),
        };
        let bars = MultiProgress::with_draw_target(target);
        let overall = bars.add(ProgressBar::new(1_000));
        overall.set_style(style("{bar:40.cyan} {percent:>3} %  {msg}"));
        Screen { json, bars, overall, lanes: Vec::new(), last_line: None }
    }

    pub(super) fn show(&mut self, migration: &Migration) -> Result<()> {
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

    /// Where there are no bars, as without a terminal, it must be seen all the same.
    pub(super) fn say(&self, words: &str) {
        if self.bars.is_hidden() || self.bars.println(words).is_err() {
            eprintln!("{words}");
        }
    }

    pub(super) fn end(&self) {
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
