//! Quotas: how much of each thing a project and each of its users may have, and whether what is asked for is within.
//!
//! ```text
//!  usual limit ◀ class `default` ◀ project ◀ user     the last one that says something counts
//! ```
//!
//! Ground rules: a limit below zero is none; of what nothing more is wanted, nothing can be too much; a refusal has Nova's
//! words, since clients show them and their tests read them.
//! Sources: nova, quota.py; conf/quota.py; compute/utils.py, `check_num_instances_quota`.

use std::{collections::BTreeMap, fmt, str::FromStr};

pub const UNLIMITED: i64 = -1;
/// The class whose limits count where a project has none of its own.
pub const DEFAULT_CLASS: &str = "default";

macro_rules! quotas {
    ($($(#[$doc:meta])* $quota:ident = $name:literal, $usual:expr);+ $(;)?) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Quota { $($(#[$doc])* $quota),+ }

        impl Quota {
            pub const ALL: &'static [Quota] = &[$(Quota::$quota),+];

            pub fn name(self) -> &'static str {
                match self { $(Quota::$quota => $name),+ }
            }

            /// Where nobody said anything.
            pub fn usual_limit(self) -> i64 {
                match self { $(Quota::$quota => $usual),+ }
            }
        }
    };
}

quotas! {
    Cores = "cores", 20;
    Instances = "instances", 10;
    /// In MB.
    Ram = "ram", 51_200;
    /// Of one user, in all projects.
    KeyPairs = "key_pairs", 100;
    /// Of one server.
    MetadataItems = "metadata_items", 128;
    ServerGroups = "server_groups", 10;
    /// Of one group.
    ServerGroupMembers = "server_group_members", 10;
    /// This and all that follow limit what is no longer there: they are kept for clients that set and read them.
    FixedIps = "fixed_ips", UNLIMITED;
    FloatingIps = "floating_ips", UNLIMITED;
    SecurityGroups = "security_groups", UNLIMITED;
    SecurityGroupRules = "security_group_rules", UNLIMITED;
    InjectedFiles = "injected_files", 5;
    InjectedFileContentBytes = "injected_file_content_bytes", 10_240;
    InjectedFilePathBytes = "injected_file_path_bytes", 255;
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Quota {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let found = Quota::ALL.iter().find(|quota| quota.name() == text);
        found.copied().ok_or_else(|| format!("'{text}' is no quota"))
    }
}

/// What somebody said about a class, a project or a user.
pub type Said = BTreeMap<Quota, i64>;

/// Every quota's limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits(Said);

impl Limits {
    /// Layers from the most general one to the most special.
    pub fn of_layers<'a>(layers: impl IntoIterator<Item = &'a Said>) -> Limits {
        Limits(layers.into_iter().flatten().map(|(quota, limit)| (*quota, *limit)).collect())
    }

    pub fn of(&self, quota: Quota) -> i64 {
        self.0.get(&quota).copied().unwrap_or(quota.usual_limit())
    }
}

/// What servers take of quotas: those there are, or those that are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProjectUse {
    pub instances: u64,
    pub cores: u64,
    pub ram_mb: u64,
}

impl ProjectUse {
    /// In the order of names, which is that of a refusal.
    fn amounts(&self) -> [(Quota, u64); 3] {
        [(Quota::Cores, self.cores), (Quota::Instances, self.instances), (Quota::Ram, self.ram_mb)]
    }

    fn times(&self, count: u32) -> ProjectUse {
        let times = |amount: u64| amount.saturating_mul(count.into());
        ProjectUse { instances: times(self.instances), cores: times(self.cores), ram_mb: times(self.ram_mb) }
    }
}

impl std::ops::AddAssign for ProjectUse {
    fn add_assign(&mut self, other: ProjectUse) {
        self.instances = self.instances.saturating_add(other.instances);
        self.cores = self.cores.saturating_add(other.cores);
        self.ram_mb = self.ram_mb.saturating_add(other.ram_mb);
    }
}

/// Each is a list: of quotas in the order of their names, and of numbers in that order.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Quota exceeded for {quotas}: Requested {requested}, but already used {used} of {limits} {quotas}")]
pub struct Exceeded {
    quotas: String,
    requested: String,
    used: String,
    limits: String,
}

/// May so much more be taken?
pub fn check(limits: &Limits, used: &ProjectUse, wanted: &ProjectUse) -> Result<(), Exceeded> {
    exceeded(limits, used, wanted, None).map_or(Ok(()), Err)
}

/// How many servers of one size may be made, where `least` are needed and `most` would be better. `each` is one of them.
pub fn fit(limits: &Limits, used: &ProjectUse, each: &ProjectUse, least: u32, most: u32) -> Result<u32, Exceeded> {
    let room = |(quota, used): (Quota, u64), each: u64| match u64::try_from(limits.of(quota)) {
        Ok(limit) => limit.saturating_sub(used).checked_div(each),
        // Below zero.
        Err(_) => None,
    };
    let rooms = used.amounts().into_iter().zip(each.amounts()).filter_map(|(used, (_, each))| room(used, each));
    let count = rooms.min().map_or(most, |room| u32::try_from(room).unwrap_or(u32::MAX).min(most));
    if count >= least {
        return Ok(count);
    }
    let instances = if least == most { most.to_string() } else { format!("{least}-{most}") };
    exceeded(limits, used, &each.times(most), Some(instances)).map_or(Ok(count), Err)
}

struct Over {
    quota: Quota,
    wanted: u64,
    used: u64,
    limit: u64,
}

/// `instances`: how their number is told, where it is none.
fn exceeded(limits: &Limits, used: &ProjectUse, wanted: &ProjectUse, instances: Option<String>) -> Option<Exceeded> {
    let over = |(quota, used): (Quota, u64), wanted: u64| {
        let limit = u64::try_from(limits.of(quota)).ok()?;
        (wanted > 0 && used.saturating_add(wanted) > limit).then_some(Over { quota, wanted, used, limit })
    };
    let amounts = used.amounts().into_iter().zip(wanted.amounts());
    let overs: Vec<Over> = amounts.filter_map(|(used, (_, wanted))| over(used, wanted)).collect();
    if overs.is_empty() {
        return None;
    }
    let list = |told: &dyn Fn(&Over) -> String| overs.iter().map(told).collect::<Vec<_>>().join(", ");
    Some(Exceeded {
        quotas: list(&|over| over.quota.to_string()),
        requested: list(&|over| {
            let told = instances.clone().filter(|_| over.quota == Quota::Instances);
            told.unwrap_or_else(|| over.wanted.to_string())
        }),
        used: list(&|over| over.used.to_string()),
        limits: list(&|over| over.limit.to_string()),
    })
}

/// Is there room for one more?
pub fn has_room(limit: i64, used: u64) -> bool {
    u64::try_from(limit).map_or(true, |limit| used < limit)
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsettable {
    #[error("Quota limit {limit} for {quota} must be greater than or equal to already used and reserved {least}.")]
    TooLow { quota: Quota, limit: i64, least: i64 },
    #[error("Quota limit {limit} for {quota} must be less than or equal to {most}.")]
    TooHigh { quota: Quota, limit: i64, most: i64 },
}

/// Between what a limit may be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settable {
    pub least: i64,
    /// [`UNLIMITED`] for as high as anybody likes.
    pub most: i64,
}

impl Settable {
    /// Of a project whose limit is `now`: not below what is in use, nor below what its users were given of it.
    pub fn of_project(now: i64, given: i64, in_use: u64) -> Settable {
        let given = if now < 0 { 0 } else { given };
        Settable { least: given.max(i64::try_from(in_use).unwrap_or(i64::MAX)), most: UNLIMITED }
    }

    /// Of a user: not below what he uses, nor above what the project's limit leaves beside the `others`'.
    pub fn of_user(project: i64, others: i64, in_use: u64) -> Settable {
        let most = if project < 0 { UNLIMITED } else { project.saturating_sub(others).max(0) };
        Settable { least: i64::try_from(in_use).unwrap_or(i64::MAX), most }
    }

    pub fn check(self, quota: Quota, limit: i64) -> Result<(), Unsettable> {
        let height = |limit: i64| if limit < 0 { i64::MAX } else { limit };
        if height(limit) < self.least {
            return Err(Unsettable::TooLow { quota, limit, least: self.least });
        }
        if height(limit) > height(self.most) {
            return Err(Unsettable::TooHigh { quota, limit, most: self.most });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
