//! The target against what goes wrong on its own host, without a QEMU.

use super::*;
use crate::{
    migrate::trial::{Ground, MIGRATION, receive_ask},
    trial::{Trial, until},
};

/// Longer than any number of tries that somebody may have thought enough.
const AN_HOUR: Duration = Duration::from_secs(3600);

fn payload() -> TargetPayload {
    TargetPayload { ask: receive_ask(), moved_as: MovedAs::Running, took_retained: false, spec: None }
}

fn phase(target: &Target) -> Phase {
    target.phase.borrow().clone()
}

fn waits_for_journal(target: &Target) -> bool {
    target.report().step.contains(WAITS_FOR_JOURNAL)
}

#[tokio::test]
async fn a_refusal_that_cannot_be_written_cleans_up_and_is_told_when_it_can() {
    let ground = Ground::new(Trial::new()).await;
    let (journal, dir) = ground.journal_away();
    let (payload, instances) = (payload(), ground.context.instances.clone());
    let id = payload.ask.spec.id;
    instances.claim(id, MIGRATION).await.unwrap();
    instances.make_incoming(MIGRATION).await.unwrap();
    let failed = Event::Failed { failure: Failure::new(whimbrel_core::failure::FailureCode::NoDisk, "full") };
    let target = Target::start(ground.context.clone(), journal.clone(), payload, Phase::Receiving, failed);
    until("nothing is left", async || !ground.trial.paths.incoming_of(MIGRATION).exists()).await;
    until("the end waits for its record", async || waits_for_journal(&target)).await;
    let now = phase(&target);
    assert!(matches!(now, Phase::Refusing { .. }), "an end that is not on disk: {now:?}");
    assert_eq!(instances.claimed_by(id), Some(MIGRATION));

    fs_err::create_dir(&dir).unwrap();
    until("the end", async || target.is_end()).await;
    let record = journal.target(MIGRATION).await.unwrap().role;
    assert!(matches!(record, JournalRole::Target(TargetRecord::Refused { .. })), "{record:?}");
    assert_eq!(instances.claimed_by(id), None);
}

#[tokio::test]
async fn nothing_is_owned_before_it_is_on_disk() {
    let ground = Ground::new(Trial::new()).await;
    let (journal, dir) = ground.journal_away();
    let target =
        Target::start(ground.context.clone(), journal.clone(), payload(), Phase::Sealed, Event::CommitReceived);
    until("OWN waits for its record", async || waits_for_journal(&target)).await;
    assert_eq!(phase(&target), Phase::Sealed);
    fs_err::create_dir(&dir).unwrap();
    until("OWN", async || phase(&target) != Phase::Sealed).await;
    assert!(!waits_for_journal(&target), "it says that it waits, and does not");
    let record = journal.target(MIGRATION).await.unwrap().role;
    assert!(!matches!(record, JournalRole::Target(TargetRecord::Receiving)), "{record:?}");
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_runs_here_is_taken_in_however_long_that_takes() {
    let ground = Ground::new(Trial::new()).await;
    let (events, _inbox) = mpsc::channel(EVENTS_MAX);
    let journal = Journal::new(&ground.trial.paths.journal());
    let road = Arc::new(new_road(ground.context.clone(), journal, payload(), events));
    let (id, instances) = (road.ask.spec.id, &ground.context.instances);
    instances.make_incoming(MIGRATION).await.unwrap();
    fs_err::write(road.incoming_dir().join("root.qcow2"), "disk").unwrap();
    let place = ground.trial.paths.instance(id);
    fs_err::write(&place, "in the way").unwrap();

    let adopting = {
        let road = road.clone();
        tokio::spawn(async move { adopt(&road).await })
    };
    tokio::time::sleep(AN_HOUR).await;
    let step = road.with_known(|known| known.step.clone());
    assert!(!adopting.is_finished() && step.contains("not in place yet"), "{step}");
    fs_err::remove_file(&place).unwrap();
    tokio::time::timeout(AN_HOUR, adopting).await.unwrap().unwrap();
    assert!(place.join("root.qcow2").is_file());
    assert_eq!(instances.get(id).unwrap().owned_epoch(), Some(road.ask.epoch));
}
