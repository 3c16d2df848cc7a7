//! Who may run an instance, as this host knows it: `owner.json` in the instance's directory.
//!
//! ```text
//! (none) --made here--> Owned{1} --retire--> HandedOver{to, 2} --adopt--> Owned{3} --retire--> …
//! ```
//!
//! While a guest arrives here, the migration's journal and its claim speak for it; this file stays as it was until the
//! guest is owned, so that a refused migration has nothing to undo in it.
//!
//! On storage that other hosts see too it names the owner, and is written only by the host that has the guest: by the target
//! before it lets the guest run, by the source when it takes the guest back. Whoever it does not name owns nothing.
//!
//! Ground rules: written whole and fsynced before what it permits; nothing starts a guest on this host unless the file
//! says `Owned` at the asked epoch; a file that cannot be read permits nothing and is never replaced.

use std::path::Path;

use serde::{Deserialize, Serialize};
use whimbrel_core::{
    failure::{Failure, FailureCode},
    id::{Epoch, HostName, InstanceId},
};
use whimbrel_daemon::durable;

use crate::{fault, paths::OWNER_FILE};

const OWNER_BYTES_MAX: u64 = 64 << 10;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Owner {
    pub instance: InstanceId,
    /// Owned here, or the last that was.
    pub epoch: Epoch,
    pub state: OwnerState,
    /// Whose word this is, where not only one host can read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostName>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum OwnerState {
    Owned,
    HandedOver(HandedOver),
}

/// This host owned it at `from` and gave it to `to`, which owns it at `epoch`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HandedOver {
    pub from: Epoch,
    pub to: HostName,
    pub epoch: Epoch,
}

impl Owner {
    pub fn owned(instance: InstanceId, epoch: Epoch) -> Self {
        Owner { instance, epoch, state: OwnerState::Owned, host: None }
    }

    /// As the host in question sees it: what is another's is handed over.
    pub fn seen_by(self, me: Option<&HostName>) -> Self {
        match &self.host {
            Some(host) if me != Some(host) && self.state == OwnerState::Owned => {
                let gone =
                    HandedOver { from: Epoch(self.epoch.0.saturating_sub(1)), to: host.clone(), epoch: self.epoch };
                Owner { epoch: gone.from, state: OwnerState::HandedOver(gone), ..self }
            }
            Some(_) | None => self,
        }
    }

    pub fn is_of_another(&self, me: Option<&HostName>) -> bool {
        self.host.is_some() && self.host.as_ref() != me
    }

    pub fn owned_epoch(&self) -> Option<Epoch> {
        match self.state {
            OwnerState::Owned => Some(self.epoch),
            OwnerState::HandedOver(_) => None,
        }
    }

    /// The one gate before any guest runs.
    pub fn permits(&self, epoch: Epoch) -> Result<(), Failure> {
        let id = self.instance;
        let (detail, hint) = match &self.state {
            OwnerState::Owned if self.epoch == epoch => return Ok(()),
            OwnerState::Owned => (
                format!("server {id} is owned here at epoch {} and not at epoch {epoch}", self.epoch),
                "the controller's record is behind; it follows with the next heartbeat".to_owned(),
            ),
            OwnerState::HandedOver(gone) => (
                format!("server {id} was handed over to host {} at epoch {}", gone.to, gone.epoch),
                match self.host.is_some() {
                    true => format!("it runs on host {}, on the same files", gone.to),
                    false => format!("it runs on host {}; what is here is a retained copy that never boots", gone.to),
                },
            ),
        };
        Err(Failure::new(FailureCode::Conflict, detail).hint(hint))
    }

    /// Into the instance's directory; durable when this returns.
    pub fn store(&self, dir: &Path) -> Result<(), Failure> {
        let path = dir.join(OWNER_FILE);
        let bytes =
            serde_json::to_vec_pretty(self).map_err(|error| fault::internal("cannot write owner.json", &error))?;
        durable::write(&path, &bytes).map_err(|error| fault::of_file("write", &path, &error))
    }

    /// `None` where there is no such file.
    pub fn load(dir: &Path) -> Result<Option<Self>, Failure> {
        let path = dir.join(OWNER_FILE);
        let bytes = durable::read(&path, OWNER_BYTES_MAX).map_err(|error| fault::of_file("read", &path, &error))?;
        let Some(bytes) = bytes else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| {
            Failure::new(FailureCode::Internal, format!("cannot read {}: {error}", path.display()))
                .hint("keep the file: it says who owns the guest; a newer release of whimbrel may read it")
        })
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn owner(state: OwnerState) -> Owner {
        Owner { instance: InstanceId(Uuid::from_u128(1)), epoch: Epoch(3), state, host: None }
    }

    fn gone() -> HandedOver {
        HandedOver { from: Epoch(3), to: "h2".parse().unwrap(), epoch: Epoch(4) }
    }

    #[test]
    fn only_the_owner_at_the_very_epoch_may_run_it() {
        let check = |state: OwnerState, epoch: u64, refusal: Option<&str>| {
            let owner = owner(state);
            match (owner.permits(Epoch(epoch)), refusal) {
                (Ok(()), None) => {}
                (Err(failure), Some(part)) => {
                    assert_eq!(failure.code, FailureCode::Conflict);
                    assert!(failure.detail.contains(part) && failure.hint.is_some(), "{failure:?} lacks {part}");
                }
                (got, want) => panic!("{owner:?} at {epoch}: {got:?} where {want:?} was due"),
            }
        };
        check(OwnerState::Owned, 3, None);
        check(OwnerState::Owned, 2, Some("epoch 3 and not at epoch 2"));
        check(OwnerState::Owned, 4, Some("epoch 3 and not at epoch 4"));
        check(OwnerState::HandedOver(gone()), 3, Some("handed over to host h2 at epoch 4"));
        check(OwnerState::HandedOver(gone()), 4, Some("handed over"));
    }

    #[test]
    fn what_another_host_signed_permits_nothing_here() {
        let [h1, h2] = ["h1", "h2"].map(|name| name.parse::<HostName>().unwrap());
        let signed = Owner { host: Some(h1.clone()), ..owner(OwnerState::Owned) };
        assert_eq!(signed.clone().seen_by(Some(&h1)).permits(Epoch(3)), Ok(()));
        for me in [Some(&h2), None] {
            let seen = signed.clone().seen_by(me);
            let failure = seen.permits(Epoch(3)).unwrap_err();
            assert!(failure.detail.contains("host h1 at epoch 3"), "{failure:?}");
            assert_eq!(seen.owned_epoch(), None);
        }
        // Where one host alone reads, nobody signs.
        assert_eq!(owner(OwnerState::Owned).seen_by(Some(&h2)).permits(Epoch(3)), Ok(()));
    }

    #[test]
    fn every_state_reads_back_and_damage_permits_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Owner::load(dir.path()).unwrap(), None);
        for state in [OwnerState::Owned, OwnerState::HandedOver(gone())] {
            let owner = owner(state);
            owner.store(dir.path()).unwrap();
            assert_eq!(Owner::load(dir.path()).unwrap(), Some(owner));
        }
        let path = dir.path().join(OWNER_FILE);
        let text = std::fs::read_to_string(&path).unwrap();
        for damaged in [text[..text.len() / 2].to_owned(), text.replace("epoch", "epochs"), String::new()] {
            std::fs::write(&path, damaged).unwrap();
            assert!(Owner::load(dir.path()).is_err());
        }
    }
}
