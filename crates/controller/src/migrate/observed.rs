//! What the agents of one migration said last, kept in memory for those who look on.

use whimbrel_api::agent::{MigrationReport, Role};
use whimbrel_core::{
    failure::Failure,
    migration::{message::Report, source, target},
    progress::Progress,
};

#[derive(Clone, Debug, Default)]
pub struct Observed {
    pub source: Option<source::Phase>,
    pub target: Option<target::Phase>,
    /// What they do now, for people.
    pub source_step: Option<String>,
    pub target_step: Option<String>,
    pub progress: Option<Progress>,
    /// Why a side gave no answer to the last question.
    pub source_silence: Option<Failure>,
    pub target_silence: Option<Failure>,
}

impl Observed {
    pub fn heard(&mut self, report: &MigrationReport) {
        let step = Some(report.step.clone()).filter(|step| !step.is_empty());
        match report.role {
            Role::Source => {
                self.source_step = step;
                self.source_silence = None;
                self.progress = report.progress.clone().or(self.progress.take());
            }
            Role::Target => {
                self.target_step = step;
                self.target_silence = None;
            }
        }
        match &report.state {
            Report::Source(phase) => self.source = Some(phase.clone()),
            Report::Target(phase) => self.target = Some(phase.clone()),
        }
    }

    /// The source's words: it drives the move; the target's before it was asked and after it gave up.
    pub fn step(&self) -> Option<String> {
        match &self.source {
            None | Some(source::Phase::Idle | source::Phase::Aborted { .. }) => {
                self.target_step.clone().or_else(|| self.source_step.clone())
            }
            Some(
                source::Phase::Preparing
                | source::Phase::Copying
                | source::Phase::Switching(_)
                | source::Phase::Committed
                | source::Phase::HandedOver { .. }
                | source::Phase::Aborting { .. }
                | source::Phase::Reowned { .. },
            ) => self.source_step.clone(),
        }
    }
}
