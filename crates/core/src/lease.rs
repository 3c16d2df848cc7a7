//! Who does which part of the work, where several controllers share one database.
//!
//! ```text
//! work       servers/0 … servers/15: tasks, moves and debts of the servers of that shard; chores: what is done once for all
//! lease      work -> holder, fence, end by the database's clock
//! each look  renew what is held -> steps() -> take what is free up to one's share, give back what is above it
//! ```
//!
//! Ground rules:
//! - the fence rises by one with each taking and never falls; every write of who works under a lease names its fence, and a row
//!   that has seen a higher one refuses it;
//! - a lease ends by itself when its holder is not heard of, and at once when a controller of the holder's name starts anew;
//! - whoever cannot renew in time stops before anybody else may begin: see [`WORK_TIME`].

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::id::InstanceId;

/// More than controllers that anybody needs, so that each finds a share.
pub const SHARDS: u8 = 16;
/// Without a word of its holder, a lease ends after this.
pub const LEASE_US: i64 = 10_000_000;
/// By its own clock, from when the renewal was asked for, a holder works for so long: two clocks run at almost the same pace.
pub const WORK_TIME: Duration = Duration::from_secs(9);

const SERVERS: &str = "servers/";
const CHORES: &str = "chores";

/// What one controller does and no other at that time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Work {
    /// All that is asked of agents for the servers of a shard.
    Servers(u8),
    /// What is looked at from time to time for the whole cloud.
    Chores,
}

impl Work {
    pub fn all() -> impl Iterator<Item = Work> {
        (0..SHARDS).map(Work::Servers).chain([Work::Chores])
    }

    /// The same for a server's whole life, and evenly spread.
    pub fn of(server: InstanceId) -> Work {
        let low = server.0.as_u128() % u128::from(SHARDS);
        Work::Servers(u8::try_from(low).unwrap_or(0))
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Work::Servers(shard) => write!(f, "{SERVERS}{shard}"),
            Work::Chores => f.write_str(CHORES),
        }
    }
}

impl FromStr for Work {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let shard = text.strip_prefix(SERVERS).and_then(|shard| shard.parse().ok()).filter(|shard| *shard < SHARDS);
        match (text, shard) {
            (CHORES, _) => Ok(Work::Chores),
            (_, Some(shard)) => Ok(Work::Servers(shard)),
            (_, None) => Err(format!("'{text}' is no work that is known")),
        }
    }
}

/// Rises with each holder. Zero is nobody's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fence(pub u64);

/// One start of one controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// As configured; one controller at a time has it.
    pub name: String,
    /// Another one at each start.
    pub run: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    pub work: Work,
    /// `None` where it was given back, or nobody ever had it.
    pub holder: Option<Holder>,
    pub fence: Fence,
    /// By the database's clock.
    pub ends_us: i64,
}

/// What to do about leases; each names what was seen, and is refused if that is not so any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseStep {
    Take { work: Work, seen: Fence },
    GiveBack { work: Work, fence: Fence },
}

/// `alive`: how many controllers are heard of, this one among them.
pub fn steps(now_us: i64, me: &Holder, alive: usize, leases: &[Lease]) -> Vec<LeaseStep> {
    let share = leases.len().div_ceil(alive.max(1));
    let mine = |lease: &&Lease| lease.holder.as_ref() == Some(me) && lease.ends_us > now_us;
    let held: Vec<&Lease> = leases.iter().filter(mine).collect();
    if held.len() > share {
        let above = held.iter().rev().take(held.len() - share);
        return above.map(|lease| LeaseStep::GiveBack { work: lease.work, fence: lease.fence }).collect();
    }
    let free = leases.iter().filter(|lease| is_free(now_us, me, lease));
    free.take(share - held.len()).map(|lease| LeaseStep::Take { work: lease.work, seen: lease.fence }).collect()
}

fn is_free(now_us: i64, me: &Holder, lease: &Lease) -> bool {
    match &lease.holder {
        None => true,
        // An earlier start of this very controller: it is dead, or it is about to learn that it is not wanted.
        Some(holder) => lease.ends_us <= now_us || (holder.name == me.name && holder.run != me.run),
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const NOW_US: i64 = 1_000_000_000;

    fn holder(name: &str, run: &str) -> Holder {
        Holder { name: name.to_owned(), run: run.to_owned() }
    }

    fn lease(shard: u8, holder: Option<Holder>, ends_in_us: i64) -> Lease {
        Lease { work: Work::Servers(shard), holder, fence: Fence(u64::from(shard) + 7), ends_us: NOW_US + ends_in_us }
    }

    #[test]
    fn work_has_a_name_and_a_server_its_shard() {
        for work in Work::all() {
            assert_eq!(work.to_string().parse(), Ok(work));
        }
        for bad in ["servers/16", "servers/", "servers/-1", "", "chore"] {
            assert!(bad.parse::<Work>().is_err(), "{bad} was taken");
        }
        let id = InstanceId(Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_002b));
        assert_eq!(Work::of(id), Work::Servers(11));
    }

    #[test]
    fn what_is_free_is_taken_up_to_a_share_and_what_is_above_it_given_back() {
        let (me, other) = (holder("a", "1"), holder("b", "1"));
        let check = |alive: usize, leases: &[Lease], take: &[u8], give: &[u8]| {
            let steps = steps(NOW_US, &me, alive, leases);
            let of = |wanted: bool| {
                let shards = steps.iter().filter_map(|step| match step {
                    LeaseStep::Take { work: Work::Servers(shard), seen } if wanted => {
                        assert_eq!(seen.0, u64::from(*shard) + 7);
                        Some(*shard)
                    }
                    LeaseStep::GiveBack { work: Work::Servers(shard), .. } if !wanted => Some(*shard),
                    LeaseStep::Take { .. } | LeaseStep::GiveBack { .. } => None,
                });
                shards.collect::<Vec<_>>()
            };
            assert_eq!((of(true), of(false)), (take.to_vec(), give.to_vec()), "{alive} {leases:?}");
        };
        let free = |shard| lease(shard, None, 0);
        let mine = |shard| lease(shard, Some(me.clone()), 1);
        let theirs = |shard| lease(shard, Some(other.clone()), 1);
        let ended = |shard| lease(shard, Some(other.clone()), 0);
        let of_a_start_before = |shard| lease(shard, Some(holder("a", "0")), 1);
        check(1, &[free(0), free(1), free(2)], &[0, 1, 2], &[]);
        check(0, &[free(0)], &[0], &[]);
        check(2, &[free(0), free(1), free(2)], &[0, 1], &[]);
        check(2, &[theirs(0), theirs(1), free(2)], &[2], &[]);
        check(2, &[theirs(0), theirs(1), theirs(2)], &[], &[]);
        check(1, &[mine(0), ended(1), theirs(2)], &[1], &[]);
        check(2, &[mine(0), mine(1), mine(2), mine(3)], &[], &[3, 2]);
        check(3, &[mine(0), mine(1), theirs(2), theirs(3)], &[], &[]);
        check(1, &[of_a_start_before(0), of_a_start_before(1)], &[0, 1], &[]);
        // What ran out while nobody was heard of is taken anew, under a higher fence.
        check(1, &[lease(0, Some(me.clone()), 0)], &[0], &[]);
        check(1, &[], &[], &[]);
    }

    /// Whatever the order in which they look, all is held by one of them, and by nobody twice.
    #[test]
    fn controllers_that_look_in_turn_share_all_the_work() {
        for controllers in 1..=5_usize {
            let all: Vec<Holder> = (0..controllers).map(|number| holder(&number.to_string(), "1")).collect();
            let mut leases: Vec<Lease> =
                Work::all().map(|work| Lease { work, holder: None, fence: Fence(0), ends_us: 0 }).collect();
            for alive in [1, controllers] {
                for _ in 0..3 {
                    for me in &all[..alive] {
                        for step in steps(NOW_US, me, alive, &leases) {
                            let (work, taken) = match step {
                                LeaseStep::Take { work, seen } => (work, Some(seen)),
                                LeaseStep::GiveBack { work, .. } => (work, None),
                            };
                            let Some(lease) = leases.iter_mut().find(|lease| lease.work == work) else { continue };
                            lease.holder = taken.map(|_| me.clone());
                            lease.fence = taken.map_or(lease.fence, |seen| Fence(seen.0 + 1));
                            lease.ends_us = NOW_US + 1;
                        }
                    }
                }
                let share = leases.len().div_ceil(alive);
                for me in &all[..alive] {
                    let held = leases.iter().filter(|lease| lease.holder.as_ref() == Some(me)).count();
                    assert!(held <= share && held > 0, "{held} of {} at {alive}", leases.len());
                }
                assert!(leases.iter().all(|lease| lease.holder.is_some()));
            }
        }
    }

    #[test]
    fn a_holder_stops_before_its_lease_ends() {
        assert!(i64::try_from(WORK_TIME.as_micros()).unwrap() < LEASE_US);
    }
}
