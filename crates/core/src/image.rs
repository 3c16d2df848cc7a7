//! Images as projects share them: who sees which, and which may be changed when.
//!
//! ```text
//! queued --upload begins--> saving --content is good--> active
//!    ^------- it broke off, or is refused ---'
//! ```
//!
//! Ground rules: what is not seen is not there, whatever is asked about it; content is given once and never changes.
//! Source: glance, domain/__init__.py and policies/base.py.

use std::{fmt, str::FromStr};

use crate::identity::{ProjectId, Requester, Role};

/// A word that is no member of its closed set.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not known")]
pub struct UnknownWord(String);

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant),+ }

        impl $name {
            pub const ALL: &'static [$name] = &[$($name::$variant),+];

            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word),+ }
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
        impl FromStr for $name {
            type Err = UnknownWord;
            fn from_str(text: &str) -> Result<Self, UnknownWord> {
                $name::ALL.iter().copied().find(|word| word.as_str() == text).ok_or_else(|| UnknownWord(text.to_owned()))
            }
        }
    };
}

words!(
    /// To whom an image is there.
    Visibility {
        /// To every project, in every list.
        Public = "public",
        /// To every project, in the lists of those that ask for it.
        Community = "community",
        /// To its own project and to those that it names.
        Shared = "shared",
        Private = "private",
    }
);

words!(
    ImageStatus {
        /// A name without content.
        Queued = "queued",
        Saving = "saving",
        Active = "active",
    }
);

/// An image without an owner belongs to the administrators.
pub fn is_seen(visibility: Visibility, owner: Option<&ProjectId>, requester: &Requester) -> bool {
    match visibility {
        Visibility::Public | Visibility::Community => true,
        Visibility::Shared | Visibility::Private => {
            requester.has(Role::Admin) || owner.is_some_and(|owner| requester.project() == Some(owner))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Scope;

    #[test]
    fn what_is_not_public_is_there_for_its_project_and_for_administrators() {
        let scope = |project: &str| Scope::Project { id: project.parse().unwrap(), domain: "d".parse().unwrap() };
        let who = |project: &str, role: &str| Requester::new("u".parse().unwrap(), scope(project), [role]);
        let owner: ProjectId = "p1".parse().unwrap();
        let check = |visibility, owner: Option<&ProjectId>, own: bool, other: bool| {
            assert_eq!(is_seen(visibility, owner, &who("p1", "reader")), own, "{visibility} own");
            assert_eq!(is_seen(visibility, owner, &who("p2", "manager")), other, "{visibility} other");
            assert!(is_seen(visibility, owner, &who("p2", "admin")), "{visibility} admin");
        };
        check(Visibility::Public, Some(&owner), true, true);
        check(Visibility::Community, Some(&owner), true, true);
        check(Visibility::Shared, Some(&owner), true, false);
        check(Visibility::Private, Some(&owner), true, false);
        check(Visibility::Private, None, false, false);
    }

    #[test]
    fn words_are_read_as_they_are_written() {
        for word in Visibility::ALL {
            assert_eq!(word.as_str().parse(), Ok(*word));
        }
        for word in ImageStatus::ALL {
            assert_eq!(word.to_string().parse(), Ok(*word));
        }
        assert!("Public".parse::<Visibility>().is_err());
    }
}
