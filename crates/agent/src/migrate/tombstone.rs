//! Answers for migrations that have only a tombstone here: a late ask to begin them is refused by it.

use whimbrel_api::agent::{GiveUp, MigrationReport, Role, Verification};
use whimbrel_core::{
    failure::{Failure, FailureCode},
    id::{Epoch, InstanceId, MigrationId},
    migration::{message::Report, source as source_machine, target as target_machine},
};

use super::{source, target};

/// What a journal without payload still says.
pub fn ask_of(instance: &InstanceId, epoch: Epoch, failure: Option<Failure>) -> GiveUp {
    let failure = failure.unwrap_or_else(|| Failure::new(FailureCode::Cancelled, "it was given up before it began"));
    GiveUp { instance: *instance, epoch, failure }
}

pub fn source(id: MigrationId, ask: &GiveUp, phase: source_machine::Phase) -> MigrationReport {
    let short = source::side_phase(&phase);
    report(id, ask, Role::Source, short, Report::Source(phase))
}

pub fn target(id: MigrationId, ask: &GiveUp, phase: target_machine::Phase) -> MigrationReport {
    let short = target::side_phase(&phase);
    report(id, ask, Role::Target, short, Report::Target(phase))
}

fn report(
    migration: MigrationId,
    ask: &GiveUp,
    role: Role,
    phase: whimbrel_api::agent::SidePhase,
    state: Report,
) -> MigrationReport {
    MigrationReport {
        migration,
        instance: ask.instance,
        epoch: ask.epoch,
        role,
        state,
        phase,
        mode: None,
        step: "nothing of this migration was ever here".to_owned(),
        progress: None,
        failure: Some(ask.failure.clone()),
        receipt: None,
        verification: Verification::None,
        verification_failure: None,
    }
}
