//! What becomes of an instance whose host was given up, on that host when it is back, and on one that had it before.
//!
//! ```text
//! disown   guest cut off -> owner.json: HandedOver -> disks to retired/        (asked of the host that was lost)
//! anew     owner.json: HandedOver, older than asked -> gone -> made again      (asked of the host that shall have it)
//! ```
//!
//! Ground rules: an older owner never contradicts a newer one; whatever runs of the instance ends before the answer, known or
//! not; disks that were left behind become a retained copy, since nobody but their owner may throw data away.

use std::sync::Arc;

use whimbrel_api::agent::Disown;
use whimbrel_core::{
    failure::{Failure, FailureCode},
    id::{Epoch, InstanceId},
};

use super::{Instances, apart};
use crate::{owner::OwnerState, vm::Vm};

impl Instances {
    /// Another host owns it at `ask.epoch`, though nobody here handed it over.
    pub async fn disown(self: &Arc<Self>, id: InstanceId, ask: Disown) -> Result<(), Failure> {
        let instances = self.clone();
        apart(async move { instances.disown_here(id, ask).await }).await
    }

    async fn disown_here(&self, id: InstanceId, ask: Disown) -> Result<(), Failure> {
        self.end_copies_of(id);
        let change = self.change_of(id);
        let _held = change.lock().await;
        self.refuse_if_claimed(id)?;
        let Some(instance) = self.get(id) else {
            Vm::kill_recorded(&self.paths.run_dir(id)).await?;
            return self.refuse_if_unread(id);
        };
        match instance.owner().state {
            OwnerState::Owned if instance.epoch() >= ask.epoch => {
                let detail = format!(
                    "server {id} is owned here at epoch {}, host '{}' cannot own it at epoch {}",
                    instance.epoch(),
                    ask.to,
                    ask.epoch
                );
                return Err(Failure::new(FailureCode::Conflict, detail)
                    .hint("the controller's record is behind; it follows with the next heartbeat"));
            }
            OwnerState::HandedOver(gone) if gone.epoch >= ask.epoch => return Ok(()),
            OwnerState::Owned | OwnerState::HandedOver(_) => {}
        }
        tracing::warn!(instance = %id, to = %ask.to, epoch = %ask.epoch, "this host was given up, and another has the server");
        self.switch_off(&instance).await?;
        self.forget_memory(&instance).await?;
        self.retire(id, &ask.to, ask.epoch).await
    }

    /// A directory that says nothing which can be read may hold anything.
    fn refuse_if_unread(&self, id: InstanceId) -> Result<(), Failure> {
        let dir = self.paths.instance(id);
        if !dir.exists() {
            return Ok(());
        }
        let detail = format!("{} is there and cannot be read", dir.display());
        Err(Failure::new(FailureCode::Internal, detail).hint("look into the agent's log for the reason"))
    }

    /// This host had it before it went on: what says so makes room for the instance at `epoch`. Its retained copy stays.
    pub(super) async fn forget_older(&self, id: InstanceId, epoch: Epoch) -> Result<(), Failure> {
        let older = self.get(id).is_some_and(
            |instance| matches!(instance.owner().state, OwnerState::HandedOver(ref gone) if gone.epoch < epoch),
        );
        if older {
            self.remove_dir(&self.paths.instance(id)).await?;
            self.known().remove(&id);
        }
        Ok(())
    }
}
