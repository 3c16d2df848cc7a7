//! The policy in a closed loop with a model of link, guest and QEMU: what it does, and what it must not do.

use whimbrel_core::{
    convergence::{DOWNTIME_MS_MAX, Decision, Limits, PACE_MS_MAX, Policy, Sample, Throttle, bitmap_granularity},
    failure::FailureCode,
};

const MB: u64 = 1_000_000;
/// Fixed cost of a round: swap of bitmaps, extents, turn-round.
const ROUND_FIXED_MS: u64 = 20;
const ROUNDS_MAX: u32 = 50_000;

#[derive(Clone, Copy)]
struct Guest {
    link_bps: u64,
    disk_bytes: u64,
    write_bps: u64,
    ram_bytes: u64,
    ram_dirty_bps: u64,
}

#[derive(Debug, Default)]
struct Run {
    end: Option<Decision>,
    elapsed_ms: u64,
    rounds: u32,
    ram_started_at_ms: Option<u64>,
    throttles: Vec<Throttle>,
    /// What the guest would have waited for, by the model and not by the policy.
    downtime_ms: u64,
}

fn run(guest: Guest, limits: Limits) -> Run {
    let mut policy = Policy::new(limits);
    let mut run = Run::default();
    let (mut write_bps, mut ram_dirty_bps) = (guest.write_bps, guest.ram_dirty_bps);
    let (mut due, mut ram) = (guest.disk_bytes, guest.ram_bytes);
    while run.rounds < ROUNDS_MAX {
        run.rounds += 1;
        // RAM and disks share the link evenly while both have something to ship; what one leaves, the other has.
        let ram_busy = run.ram_started_at_ms.is_some() && ram > 0;
        let beside = if ram_busy { ram.min(due) } else { 0 };
        let round_ms = ROUND_FIXED_MS + (due + beside) * 1_000 / guest.link_bps;
        run.elapsed_ms += round_ms;
        let round_bytes = due;
        let spare = (guest.link_bps * round_ms / 1_000).saturating_sub(round_bytes);
        let ram_shipped = if ram_busy { ram.min(spare) } else { 0 };
        let ram_bps = ram_shipped * 1_000 / round_ms;
        due = write_bps * round_ms / 1_000;
        if run.ram_started_at_ms.is_some() {
            ram = (ram - ram_shipped + ram_dirty_bps * round_ms / 1_000).min(guest.ram_bytes);
        }
        let sample = Sample {
            elapsed_ms: run.elapsed_ms,
            round_ms,
            round_bytes,
            dirty_bytes: due,
            dirty_bps: write_bps,
            ram_started: run.ram_started_at_ms.is_some(),
            ram_remaining_bytes: ram,
            ram_bps,
        };
        let decision = policy.decide(&sample);
        let pace_ms = policy.pace_ms(&sample);
        assert!(pace_ms <= PACE_MS_MAX, "{pace_ms}");
        match decision {
            Decision::NextRound => {}
            Decision::StartRam => {
                assert_eq!(run.ram_started_at_ms, None, "RAM was started twice");
                run.ram_started_at_ms = Some(run.elapsed_ms);
            }
            Decision::Throttle(throttle) => {
                match throttle {
                    Throttle::DiskWrite { bps_max } => write_bps = write_bps.min(bps_max),
                    Throttle::Cpu { percent } => {
                        ram_dirty_bps = guest.ram_dirty_bps * u64::from(100 - percent) / 100;
                    }
                    Throttle::Pause { .. } => {}
                }
                run.throttles.push(throttle);
            }
            Decision::Switch { .. } | Decision::GiveUp(_) => {
                run.downtime_ms = (due + ram) * 1_000 / guest.link_bps;
                run.end = Some(decision);
                return run;
            }
        }
    }
    run
}

fn switched(run: &Run) -> bool {
    matches!(run.end, Some(Decision::Switch { .. }))
}

fn gave_up(run: &Run) -> Option<FailureCode> {
    match &run.end {
        Some(Decision::GiveUp(failure)) => Some(failure.code),
        Some(Decision::NextRound | Decision::StartRam | Decision::Switch { .. } | Decision::Throttle(_)) | None => None,
    }
}

const QUIET: Guest =
    Guest { link_bps: 300 * MB, disk_bytes: 1_050 * MB, write_bps: 0, ram_bytes: 512 * MB, ram_dirty_bps: 0 };

/// A guest that fits the link moves within `within_ms`, within the budget, and is never slowed down.
fn check_moves(name: &str, guest: Guest, within_ms: u64) {
    let run = run(guest, Limits::default());
    assert!(switched(&run), "{name}: {run:?}");
    assert!(run.downtime_ms <= DOWNTIME_MS_MAX, "{name}: {run:?}");
    assert!(run.elapsed_ms <= within_ms, "{name}: {run:?}");
    assert_eq!(run.throttles, [], "{name}: slowed down without need");
}

#[test]
fn guests_that_fit_the_link_move_untouched() {
    check_moves("idle", QUIET, 6_000);
    check_moves("write20", Guest { write_bps: 20 * MB, ram_dirty_bps: MB, ..QUIET }, 7_000);
    check_moves("write60", Guest { write_bps: 60 * MB, ram_dirty_bps: MB, ..QUIET }, 9_000);
    let gbit = Guest { link_bps: 117 * MB, ..QUIET };
    check_moves("idle 1gbit", gbit, 15_000);
    check_moves("write20 1gbit", Guest { write_bps: 20 * MB, ram_dirty_bps: MB, ..gbit }, 20_000);
    check_moves("write60 1gbit", Guest { write_bps: 60 * MB, ram_dirty_bps: MB, ..gbit }, 45_000);
    check_moves("nothing allocated", Guest { disk_bytes: 0, ..QUIET }, 3_000);
    check_moves(
        "a large disk on a slow link",
        Guest { link_bps: 10 * MB, disk_bytes: 500_000 * MB, ..QUIET },
        60_000_000,
    );
}

#[test]
fn ram_starts_only_when_the_disks_are_nearly_done() {
    let run = run(Guest { write_bps: 20 * MB, ..QUIET }, Limits::default());
    let started = run.ram_started_at_ms.expect("RAM was started");
    assert!(started >= 3_500, "before round 0 ended: {run:?}");
    assert!(started <= 4_500, "long after it could: {run:?}");
}

#[test]
fn it_never_switches_before_ram_was_started() {
    let run = run(Guest { ram_bytes: MB, disk_bytes: MB, ..QUIET }, Limits::default());
    assert!(switched(&run) && run.ram_started_at_ms.is_some(), "{run:?}");
}

#[test]
fn a_writer_above_the_link_is_slowed_down_one_rung_at_a_time() {
    let guest = Guest { link_bps: 50 * MB, write_bps: 60 * MB, ram_dirty_bps: MB, ..QUIET };
    let run = run(guest, Limits::default());
    assert!(switched(&run), "{run:?}");
    assert!(
        matches!(run.throttles.first(), Some(Throttle::DiskWrite { bps_max }) if *bps_max < guest.link_bps),
        "{run:?}"
    );
    assert!(run.throttles.len() <= 3, "more than it took: {run:?}");
    assert!(
        !run.throttles.iter().any(|throttle| matches!(throttle, Throttle::Cpu { .. })),
        "RAM was no trouble: {run:?}"
    );
}

#[test]
fn a_guest_that_dirties_ram_above_the_link_loses_cpu_not_disk() {
    let guest = Guest { link_bps: 117 * MB, ram_bytes: 4_000 * MB, ram_dirty_bps: 150 * MB, ..QUIET };
    let run = run(guest, Limits::default());
    assert!(switched(&run), "{run:?}");
    assert!(run.throttles.iter().all(|throttle| matches!(throttle, Throttle::Cpu { .. })), "{run:?}");
    assert!(!run.throttles.is_empty(), "{run:?}");
}

#[test]
fn without_leave_to_throttle_it_gives_up_for_lack_of_progress_only() {
    let guest = Guest { link_bps: 50 * MB, write_bps: 60 * MB, ..QUIET };
    let run = run(guest, Limits { allow_throttle: false, ..Limits::default() });
    assert_eq!(gave_up(&run), Some(FailureCode::NoProgress), "{run:?}");
    assert_eq!(run.throttles, []);
    assert!(run.elapsed_ms >= 60_000, "given up early: {run:?}");
}

#[test]
fn a_longer_pause_is_used_when_allowed_and_no_further_than_that() {
    // RAM gets clean so slowly that it is as good as never.
    let guest = Guest { link_bps: 117 * MB, ram_dirty_bps: 112 * MB, ..QUIET };
    let limits = Limits { allow_throttle: false, pause_ms_max: 5_000, ..Limits::default() };
    let run = run(guest, limits);
    assert!(switched(&run), "{run:?}");
    assert!(run.downtime_ms <= 5_000, "{run:?}");
    assert!(run.downtime_ms > DOWNTIME_MS_MAX, "the pause was not needed: {run:?}");
    for throttle in &run.throttles {
        assert!(matches!(throttle, Throttle::Pause { downtime_ms_max } if *downtime_ms_max <= 5_000), "{run:?}");
    }
}

#[test]
fn a_deadline_ends_it_and_says_the_numbers() {
    let guest = Guest { link_bps: 50 * MB, write_bps: 60 * MB, ..QUIET };
    let run = run(guest, Limits { deadline_ms: Some(30_000), allow_throttle: false, ..Limits::default() });
    assert_eq!(gave_up(&run), Some(FailureCode::DeadlinePassed), "{run:?}");
    let Some(Decision::GiveUp(failure)) = &run.end else { panic!("{run:?}") };
    assert!(failure.detail.contains("30000 ms") && failure.detail.contains("allowed are 300 ms"), "{failure:?}");
    assert!(failure.hint.is_some());
}

#[test]
fn a_deadline_does_not_end_what_can_switch_now() {
    let sample =
        Sample { elapsed_ms: 10_000, round_ms: 100, round_bytes: 10 * MB, ram_started: true, ..Sample::default() };
    let mut policy = Policy::new(Limits { deadline_ms: Some(10_000), ..Limits::default() });
    assert!(matches!(policy.decide(&sample), Decision::Switch { .. }));
}

#[test]
fn granularity_follows_the_mean_write() {
    let check = |ops: u64, bytes: u64, want: u32| assert_eq!(bitmap_granularity(ops, bytes), want, "{ops} {bytes}");
    check(0, 0, 65_536);
    check(31, 31 * 4_096, 65_536);
    check(1_000, 1_000 * 4_096, 4_096);
    check(1_000, 1_000 * 512, 4_096);
    check(1_000, 1_000 * 12_000, 8_192);
    check(1_000, 1_000 * 16_384, 16_384);
    check(1_000, 1_000 * 65_536, 65_536);
    check(1_000, 1_000 * 1_048_576, 65_536);
    check(u64::MAX, u64::MAX, 4_096);
}
