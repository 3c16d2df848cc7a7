//! Who asks, in Keystone's words: users and projects in domains, roles on a scope.
//!
//! ```text
//! user --password--> token of one scope (project, domain, system or none) --> roles there --> policy::permits
//! ```
//!
//! Ground rules: a role is effective with all that it implies (admin, manager, member, reader, each the next); a name is
//! unique within its domain only; an id says nothing and is never taken for a name.
//! Sources: Keystone's API version 3; keystone, common/policies/base.py; keystone-manage bootstrap.
pub mod policy;
pub mod vouched;

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Longest id; ours are 32 hex digits, `default` and what came from another Keystone are taken too.
pub const ID_BYTES_MAX: usize = 64;
/// Of users, projects, domains and roles.
pub const NAME_CHARS_MAX: usize = 255;

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no id: 1 to {ID_BYTES_MAX} of a-z, A-Z, 0-9, '-', '_'")]
pub struct BadId(String);

macro_rules! identity_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl FromStr for $name {
            type Err = BadId;
            fn from_str(text: &str) -> Result<Self, BadId> {
                let plain = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
                if (1..=ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(plain) {
                    Ok($name(text.to_owned()))
                } else {
                    Err(BadId(text.chars().take(ID_BYTES_MAX).collect()))
                }
            }
        }
        impl TryFrom<String> for $name {
            type Error = BadId;
            fn try_from(text: String) -> Result<Self, BadId> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }
        /// 32 hex digits, as Keystone writes them.
        impl From<uuid::Uuid> for $name {
            fn from(id: uuid::Uuid) -> Self {
                $name(id.simple().to_string())
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }
    };
}

identity_id!(/// Holds names of users and projects apart from those of other domains.
    DomainId);
identity_id!(/// Owns servers, images and networks; a *tenant* in old bodies.
    ProjectId);
identity_id!(UserId);
identity_id!(RoleId);

impl DomainId {
    /// The domain that is always there.
    pub fn default_domain() -> Self {
        DomainId("default".to_owned())
    }
}

/// Roles that policies know. Others may be made and granted; they open nothing here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    Reader,
    Member,
    Manager,
    Admin,
}

impl Role {
    /// From the weakest to the strongest: each implies those before it.
    pub const ALL: [Role; 4] = [Role::Reader, Role::Member, Role::Manager, Role::Admin];

    pub fn as_str(self) -> &'static str {
        match self {
            Role::Reader => "reader",
            Role::Member => "member",
            Role::Manager => "manager",
            Role::Admin => "admin",
        }
    }

    pub fn of_name(name: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.as_str().eq_ignore_ascii_case(name))
    }

    pub fn implied(self) -> impl Iterator<Item = Role> {
        Role::ALL.into_iter().filter(move |role| *role <= self)
    }
}

/// What a token is good for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    Unscoped,
    Project { id: ProjectId, domain: DomainId },
    Domain(DomainId),
    System,
}

/// Whoever shows a valid token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requester {
    pub user: UserId,
    pub scope: Scope,
    /// The strongest of the known roles on the scope.
    pub role: Option<Role>,
}

impl Requester {
    /// `names` are the roles granted on the scope.
    pub fn new<'a>(user: UserId, scope: Scope, names: impl IntoIterator<Item = &'a str>) -> Self {
        let role = names.into_iter().filter_map(Role::of_name).max();
        Requester { user, scope, role }
    }

    pub fn has(&self, role: Role) -> bool {
        self.role.is_some_and(|mine| mine >= role)
    }

    pub fn project(&self) -> Option<&ProjectId> {
        match &self.scope {
            Scope::Project { id, domain: _ } => Some(id),
            Scope::Unscoped | Scope::Domain(_) | Scope::System => None,
        }
    }
}

/// Names of the granted roles and of all that they imply.
pub fn effective<'a>(granted: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for name in granted {
        match Role::of_name(name) {
            Some(role) => names.extend(role.implied().map(|role| role.as_str().to_owned())),
            None => {
                names.insert(name.to_owned());
            }
        }
    }
    names
}
