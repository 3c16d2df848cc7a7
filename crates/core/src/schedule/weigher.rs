//! Which of the hosts that will do is best: the first weigher that sees a difference decides.

use super::{Candidate, Wanted, wishes::GroupPolicy};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weigher {
    /// The soft policies of server groups.
    ServerGroup,
    FreeRam,
    FreeDisk,
}

impl Weigher {
    /// In the order in which they decide.
    pub const ALL: [Weigher; 3] = [Weigher::ServerGroup, Weigher::FreeRam, Weigher::FreeDisk];

    pub fn name(self) -> &'static str {
        match self {
            Weigher::ServerGroup => "server_group",
            Weigher::FreeRam => "free_ram_mb",
            Weigher::FreeDisk => "free_disk_bytes",
        }
    }

    /// More is better.
    pub fn weigh(self, wanted: &Wanted<'_>, candidate: &Candidate<'_>) -> i64 {
        match self {
            Weigher::ServerGroup => server_group(wanted, candidate),
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
