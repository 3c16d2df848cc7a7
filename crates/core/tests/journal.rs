//! What is written is read again, by this and by every later release; and the fold says who owns the guest.

use whimbrel_core::{
    failure::{Failure, FailureCode},
    id::{Epoch, InstanceId, MigrationId},
    migration::{
        coordinator,
        journal::{Entry, JOURNAL_VERSION, Owner, Role, SourceRecord, TargetRecord, owner},
        source::{self, Switch},
        target,
    },
};

fn failure() -> Failure {
    Failure::new(FailureCode::PeerLost, "link lost").hint("retry")
}

fn entry(role: Role) -> Entry<Vec<String>> {
    let migration: MigrationId = "01890000-0000-7000-8000-000000000001".parse().expect("a UUID");
    let instance: InstanceId = "01890000-0000-7000-8000-000000000002".parse().expect("a UUID");
    Entry::new(migration, instance, Epoch(2), role, vec!["10.0.0.2:7000".to_owned()])
}

fn roles() -> Vec<Role> {
    vec![
        Role::Source(SourceRecord::Moving),
        Role::Source(SourceRecord::Committed),
        Role::Source(SourceRecord::HandedOver { retired: false }),
        Role::Source(SourceRecord::HandedOver { retired: true }),
        Role::Source(SourceRecord::Aborting { failure: failure() }),
        Role::Source(SourceRecord::Aborted { failure: failure() }),
        Role::Source(SourceRecord::Reowned { failure: failure(), undone: false }),
        Role::Source(SourceRecord::Reowned { failure: failure(), undone: true }),
        Role::Target(TargetRecord::Receiving),
        Role::Target(TargetRecord::Owned),
        Role::Target(TargetRecord::Running),
        Role::Target(TargetRecord::Refusing { failure: failure() }),
        Role::Target(TargetRecord::Refused { failure: failure() }),
        Role::Coordinator(coordinator::Phase::Preparing),
        Role::Coordinator(coordinator::Phase::Done(coordinator::Outcome::Completed)),
        Role::Coordinator(coordinator::Phase::Owing { failure: failure() }),
    ]
}

/// The snapshot is version 1 as other releases have written it: a line that changes needs a new version.
#[test]
fn every_record_is_read_as_written() {
    let mut lines = String::new();
    for role in roles() {
        let entry = entry(role);
        let text = serde_json::to_string(&entry).expect("an entry is JSON");
        assert_eq!(serde_json::from_str::<Entry<Vec<String>>>(&text).expect(&text), entry);
        assert_eq!(entry.check_version(), Ok(()));
        lines.push_str(&text);
        lines.push('\n');
    }
    insta::assert_snapshot!(lines);
}

#[test]
fn an_entry_of_a_later_release_is_refused_by_name() {
    let mut later = entry(Role::Target(TargetRecord::Owned));
    later.version = JOURNAL_VERSION + 1;
    let error = later.check_version().expect_err("version 2 is unknown");
    assert!(error.to_string().contains("01890000-0000-7000-8000-000000000001 has version 2"), "{error}");
}

/// A phase that was journaled comes back as itself, or as one that a restart gives up just so.
#[test]
fn a_record_brings_back_a_phase_that_steps_alike() {
    let sources = [
        source::Phase::Preparing,
        source::Phase::Copying,
        source::Phase::Switching(Switch::Stopping),
        source::Phase::Switching(Switch::Finishing),
        source::Phase::Switching(Switch::Loading),
        source::Phase::Committed,
        source::Phase::HandedOver { retired: false },
        source::Phase::HandedOver { retired: true },
        source::Phase::Aborting { failure: failure() },
        source::Phase::Aborted { failure: failure() },
        source::Phase::Reowned { failure: failure(), undone: false },
        source::Phase::Reowned { failure: failure(), undone: true },
    ];
    for phase in &sources {
        let record = SourceRecord::of(phase).expect("journaled");
        let (alive, loaded) = (phase.step(&source::Event::Restarted), record.phase().step(&source::Event::Restarted));
        assert_eq!(SourceRecord::of(&record.phase()), Some(record.clone()));
        assert_eq!((alive.next, alive.effects), (loaded.next, loaded.effects), "{phase:?}");
    }
    let targets = [
        target::Phase::Preparing,
        target::Phase::Prepared,
        target::Phase::Receiving,
        target::Phase::Sealed,
        target::Phase::Loaded,
        target::Phase::Owned,
        target::Phase::Running,
        target::Phase::Refusing { failure: failure() },
        target::Phase::Refused { failure: failure() },
    ];
    for phase in &targets {
        let record = TargetRecord::of(phase).expect("journaled");
        let (alive, loaded) = (phase.step(&target::Event::Restarted), record.phase().step(&target::Event::Restarted));
        assert_eq!(TargetRecord::of(&record.phase()), Some(record.clone()));
        assert_eq!((alive.next, alive.effects), (loaded.next, loaded.effects), "{phase:?}");
    }
    assert_eq!(SourceRecord::of(&source::Phase::Idle), None);
    assert_eq!(TargetRecord::of(&target::Phase::Unknown), None);
}

fn check_owner(created: Option<u64>, entries: &[(u64, Role)], expected: Owner) {
    let fold = |entries: &mut dyn Iterator<Item = &(u64, Role)>| {
        let entries: Vec<(Epoch, &Role)> = entries.map(|(epoch, role)| (Epoch(*epoch), role)).collect();
        owner(created.map(Epoch), entries)
    };
    assert_eq!(fold(&mut entries.iter()), expected, "{created:?} {entries:?}");
    assert_eq!(fold(&mut entries.iter().rev()), expected, "read backwards: {created:?} {entries:?}");
}

#[test]
fn the_fold_says_who_owns() {
    let source = |record| Role::Source(record);
    let target = |record| Role::Target(record);
    let aborted = || source(SourceRecord::Aborted { failure: failure() });
    let gone = || source(SourceRecord::HandedOver { retired: true });

    check_owner(None, &[], Owner::Nobody);
    check_owner(Some(1), &[], Owner::Here(Epoch(1)));
    // A move that has not passed COMMIT, or was aborted, changes nothing.
    check_owner(Some(1), &[(2, source(SourceRecord::Moving))], Owner::Here(Epoch(1)));
    check_owner(Some(1), &[(2, source(SourceRecord::Aborting { failure: failure() }))], Owner::Here(Epoch(1)));
    check_owner(Some(1), &[(2, aborted()), (2, aborted())], Owner::Here(Epoch(1)));
    // A second attempt at the same epoch went through.
    check_owner(Some(1), &[(2, aborted()), (2, gone())], Owner::Elsewhere(Epoch(2)));
    // COMMIT is given: run nothing.
    check_owner(Some(1), &[(2, source(SourceRecord::Committed))], Owner::Given(Epoch(2)));
    // The target refused after COMMIT: ours again, at an epoch that nobody else can have.
    let reowned = source(SourceRecord::Reowned { failure: failure(), undone: false });
    check_owner(Some(1), &[(2, reowned)], Owner::Here(Epoch(3)));
    // Target side: only OWN counts.
    check_owner(None, &[(2, target(TargetRecord::Receiving))], Owner::Nobody);
    check_owner(None, &[(2, target(TargetRecord::Refused { failure: failure() }))], Owner::Nobody);
    check_owner(None, &[(2, target(TargetRecord::Owned))], Owner::Here(Epoch(2)));
    // There and back, and away again.
    check_owner(Some(1), &[(2, gone()), (3, target(TargetRecord::Running))], Owner::Here(Epoch(3)));
    check_owner(
        Some(1),
        &[(2, gone()), (3, target(TargetRecord::Running)), (4, source(SourceRecord::Committed))],
        Owner::Given(Epoch(4)),
    );
    // The controller's entry says nothing of ownership.
    check_owner(None, &[(2, Role::Coordinator(coordinator::Phase::Settling))], Owner::Nobody);
}

/// Acting on it early must change nothing of what a restart finds: true of the way back before COMMIT or OWN, and of no end.
#[test]
fn only_the_way_back_may_be_gone_before_it_is_on_disk() {
    for role in roles() {
        match &role {
            Role::Source(record) => {
                let moving = matches!(record, SourceRecord::Moving | SourceRecord::Aborting { .. });
                for next in roles().into_iter().filter_map(|role| match role {
                    Role::Source(next) => Some(next.phase()),
                    Role::Target(_) | Role::Coordinator(_) => None,
                }) {
                    let aborting = matches!(next, source::Phase::Aborting { .. });
                    assert_eq!(record.leads_to(&next), moving && aborting, "{record:?} -> {next:?}");
                }
            }
            Role::Target(record) => {
                let receiving = matches!(record, TargetRecord::Receiving | TargetRecord::Refusing { .. });
                for next in roles().into_iter().filter_map(|role| match role {
                    Role::Target(next) => Some(next.phase()),
                    Role::Source(_) | Role::Coordinator(_) => None,
                }) {
                    let refusing = matches!(next, target::Phase::Refusing { .. });
                    assert_eq!(record.leads_to(&next), receiving && refusing, "{record:?} -> {next:?}");
                }
            }
            Role::Coordinator(_) => {}
        }
    }
}
