//! Who may do what, as one table: each operation lists what is enough for it.
//!
//! Ground rules: nothing is allowed by default; `admin` on any scope is an administrator of the whole cloud, as in Keystone
//! and Nova without `enforce_scope`; a refusal tells what would have been enough.
//! Sources: keystone, common/policies/*.py; nova, policies/*.py; glance, policies/image.py; neutron, conf/policies/*.py
//! (defaults of 2025).

use super::{DomainId, ProjectId, Requester, Role, Scope, UserId};

/// One thing that is enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    AnyToken,
    Admin,
    /// That role on the system.
    System(Role),
    /// That role on the target's domain.
    Domain(Role),
    /// That role on the target's project.
    Project(Role),
    /// The target is who asks.
    Oneself,
}

/// What an operation is about.
#[derive(Clone, Copy, Debug, Default)]
pub struct Target<'a> {
    pub user: Option<&'a UserId>,
    pub project: Option<&'a ProjectId>,
    pub domain: Option<&'a DomainId>,
}

macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident = $needs:expr),+ $(,)?) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Operation { $($(#[$doc])* $name),+ }

        impl Operation {
            pub const ALL: &'static [Operation] = &[$(Operation::$name),+];

            /// Any one of these is enough.
            pub fn needs(self) -> &'static [Need] {
                match self { $(Operation::$name => $needs),+ }
            }
        }
    };
}

const READ_ALL: &[Need] = &[Need::Admin, Need::System(Role::Reader)];
const READ_DOMAIN: &[Need] = &[Need::Admin, Need::System(Role::Reader), Need::Domain(Role::Reader)];
const WRITE_ALL: &[Need] = &[Need::Admin];
const WRITE_DOMAIN: &[Need] = &[Need::Admin, Need::Domain(Role::Manager)];
const READ_PROJECT: &[Need] = &[Need::Admin, Need::System(Role::Reader), Need::Project(Role::Reader)];
const WRITE_PROJECT: &[Need] = &[Need::Admin, Need::Project(Role::Member)];
const MANAGE_PROJECT: &[Need] = &[Need::Admin, Need::Project(Role::Manager)];
const READ_OR_SELF: &[Need] = &[Need::Admin, Need::System(Role::Reader), Need::Domain(Role::Reader), Need::Oneself];
const OWN: &[Need] = &[Need::Admin, Need::Oneself];

const READ_OWN: &[Need] = &[Need::Admin, Need::Project(Role::Reader)];
const WRITE_OWN: &[Need] = &[Need::Admin, Need::Project(Role::Member)];

operations! {
    /// Catalog, own projects and domains, own token.
    ReadOneself = &[Need::AnyToken],
    /// A token that somebody else holds.
    CheckToken = READ_OR_SELF,
    RevokeToken = &[Need::Admin, Need::Oneself],
    ListDomains = READ_ALL,
    ShowDomain = &[Need::Admin, Need::System(Role::Reader), Need::Domain(Role::Reader), Need::Project(Role::Reader)],
    WriteDomain = WRITE_ALL,
    ListProjects = READ_DOMAIN,
    ShowProject = &[Need::Admin, Need::System(Role::Reader), Need::Domain(Role::Reader), Need::Project(Role::Reader)],
    WriteProject = WRITE_DOMAIN,
    ListUsers = READ_DOMAIN,
    ShowUser = READ_OR_SELF,
    WriteUser = WRITE_DOMAIN,
    ChangeOwnPassword = &[Need::Oneself],
    ListRoles = &[Need::Admin, Need::System(Role::Reader), Need::Domain(Role::Manager)],
    WriteRole = WRITE_ALL,
    ListGrants = READ_DOMAIN,
    WriteGrant = WRITE_DOMAIN,
    /// Else a domain's manager could make anyone an administrator of the whole cloud.
    GrantAdmin = WRITE_ALL,
    ReadServices = READ_ALL,
    ReadFlavors = &[Need::AnyToken],
    WriteFlavors = WRITE_ALL,
    ReadFlavorAccess = WRITE_ALL,
    ReadServers = READ_PROJECT,
    /// Those of all projects, deleted ones, hosts in filters.
    ReadAllServers = READ_ALL,
    WriteServers = WRITE_PROJECT,
    /// Host, zone:host, and what else of the scheduler's work an administrator may take over.
    PlaceServer = WRITE_ALL,
    UnlockOverride = WRITE_ALL,
    ResetServer = WRITE_ALL,
    MigrateServer = MANAGE_PROJECT,
    MigrateServerToHost = WRITE_ALL,
    EvacuateServer = WRITE_ALL,
    ListServerMigrations = MANAGE_PROJECT,
    ShowServerMigration = WRITE_ALL,
    EndServerMigration = MANAGE_PROJECT,
    ListMigrations = MANAGE_PROJECT,
    ListAllMigrations = WRITE_ALL,
    ReadActions = READ_PROJECT,
    ReadActionEvents = READ_ALL,
    /// Of those that the requester sees. The target is the requester's own project, as for [`Operation::DownloadImages`].
    ReadImages = &[Need::Admin, Need::Project(Role::Reader)],
    DownloadImages = &[Need::Admin, Need::Project(Role::Member)],
    /// The target is the project that owns it.
    WriteImages = &[Need::Admin, Need::Project(Role::Member)],
    PublicizeImage = WRITE_ALL,
    /// Give one away, or make it without an owner.
    ChangeImageOwner = WRITE_ALL,
    /// Versions apart, what the network service can do.
    ReadNetworkService = &[Need::AnyToken],
    /// Own ones; what is shared is there for every project.
    ReadNetworks = READ_OWN,
    WriteNetworks = WRITE_OWN,
    /// On which wire it is, and who else may use it.
    WriteProviderNetworks = WRITE_ALL,
    ReadPorts = READ_OWN,
    WritePorts = WRITE_OWN,
    /// On which host it is.
    BindPorts = WRITE_ALL,
    ReadSecurityGroups = READ_OWN,
    WriteSecurityGroups = WRITE_OWN,
    ReadNetworkQuotas = READ_OWN,
    /// Services and hypervisors.
    ReadHosts = WRITE_ALL,
    WriteHosts = WRITE_ALL,
    ReadAggregates = WRITE_ALL,
    WriteAggregates = WRITE_ALL,
    ReadZones = &[Need::AnyToken],
    ReadZoneHosts = WRITE_ALL,
    ReadKeyPairs = OWN,
    WriteKeyPairs = OWN,
    /// Of the own project.
    ReadLimits = &[Need::AnyToken],
    ReadLimitsOfAny = WRITE_ALL,
    ReadQuotas = READ_PROJECT,
    ReadDefaultQuotas = &[Need::AnyToken],
    WriteQuotas = WRITE_ALL,
    ReadQuotaClasses = WRITE_ALL,
    ReadUsage = READ_PROJECT,
    ReadUsageOfAll = WRITE_ALL,
    ReadServerGroups = READ_PROJECT,
    ReadServerGroupsOfAll = WRITE_ALL,
    WriteServerGroups = WRITE_PROJECT,
}

pub fn permits(operation: Operation, requester: &Requester, target: Target<'_>) -> bool {
    operation.needs().iter().any(|need| meets(*need, requester, target))
}

fn meets(need: Need, requester: &Requester, target: Target<'_>) -> bool {
    match need {
        Need::AnyToken => true,
        Need::Admin => requester.has(Role::Admin),
        Need::System(role) => requester.scope == Scope::System && requester.has(role),
        Need::Domain(role) => match &requester.scope {
            Scope::Domain(domain) => target.domain == Some(domain) && requester.has(role),
            Scope::Unscoped | Scope::Project { .. } | Scope::System => false,
        },
        Need::Project(role) => {
            requester.project().is_some_and(|mine| target.project == Some(mine)) && requester.has(role)
        }
        Need::Oneself => target.user == Some(&requester.user),
    }
}

/// For the refused: what would have been enough, in words.
pub fn enough(operation: Operation) -> String {
    let words = operation.needs().iter().map(|need| match need {
        Need::AnyToken => "a token".to_owned(),
        Need::Admin => "the role admin".to_owned(),
        Need::System(role) => format!("{} on the system", role.as_str()),
        Need::Domain(role) => format!("{} on its domain", role.as_str()),
        Need::Project(role) => format!("{} on its project", role.as_str()),
        Need::Oneself => "being that user".to_owned(),
    });
    words.collect::<Vec<_>>().join(" or ")
}
