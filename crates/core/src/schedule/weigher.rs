//! Which of the hosts that will do is best: the first weigher that sees a difference decides.

use super::{Candidate, Wanted, placement, wishes::GroupPolicy};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weigher {
    /// The soft policies of server groups.
    ServerGroup,
    /// Of a move: hosts that see the disks where they are need no copy of them.
    Storage,
    FreeRam,
    FreeDisk,
}

impl Weigher {
    /// In the order in which they decide.
    pub const ALL: [Weigher; 4] = [Weigher::ServerGroup, Weigher::Storage, Weigher::FreeRam, Weigher::FreeDisk];

    /// More is better.
    pub fn weigh(self, wanted: &Wanted<'_>, candidate: &Candidate<'_>) -> i64 {
        match self {
            Weigher::ServerGroup => server_group(wanted, candidate),
            Weigher::Storage => i64::from(placement(wanted, candidate).storage().is_shared()),
            Weigher::FreeRam => candidate.host.free_ram_mb(),
            Weigher::FreeDisk => candidate.host.disk_available_least_bytes(),
        }
    }
}

fn server_group(wanted: &Wanted<'_>, candidate: &Candidate<'_>) -> i64 {
    let Some(group) = &wanted.wishes.group else { return 0 };
    let others = i64::from(group.others_on(&candidate.host.name));
    match group.policy {
        GroupPolicy::SoftAffinity => others,
        GroupPolicy::SoftAntiAffinity => -others,
        // A filter's matter.
        GroupPolicy::Affinity | GroupPolicy::AntiAffinity { max_server_per_host: _ } => 0,
    }
}
