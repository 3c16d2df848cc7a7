//! Instances whose files other hosts see too: whose they are, and how they change hands without a copy.
//!
//! ```text
//! source: move.json {migration} ─▶ target reads it: the same files, and owner.json names the source
//! target: owner.json names the target ─▶ cont        source, later: forgets the instance, touches nothing
//! target refuses:  owner.json names the source again ─▶ it may resume
//! ```
//!
//! Ground rules: one host writes at a time, the one that has the guest by the journals; `owner.json` is on the storage before
//! what it permits; what lies in the directory is moved, retired and removed by nobody but the host that it names; a host
//! that died is taken over only when no process anywhere holds its disks.

use std::{path::PathBuf, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::{process::Command, time::Instant};
use whimbrel_api::agent::InstanceAsk;
use whimbrel_core::{
    failure::{Failure, FailureCode},
    id::{Epoch, HostName, InstanceId, MigrationId},
};
use whimbrel_daemon::durable;

use super::{Instance, Instances, instance, make};
use crate::{
    fault,
    owner::{Owner, OwnerState},
    storage::probe::PROBE_TIME_MAX,
};

/// In the instance's directory while it is offered to another host.
const OFFER_FILE: &str = "move.json";
const OFFER_BYTES_MAX: u64 = 4 << 10;
/// Clients of a network file system keep what they read for about a second.
const SEEN_TIME_MAX: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(50);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Offered {
    migration: MigrationId,
}

impl Instances {
    /// This host where others read what it writes.
    pub(super) fn me(&self) -> Option<&HostName> {
        self.paths.shared().map(|shared| &shared.host)
    }

    pub(super) fn signed(&self, owner: Owner) -> Owner {
        Owner { host: self.me().cloned(), ..owner }
    }

    /// What the disk says now of who owns it, as this host sees it.
    pub(super) fn owner_on_disk(&self, id: InstanceId) -> Result<Option<Owner>, Failure> {
        Ok(Owner::load(&self.paths.instance(id))?.map(|owner| owner.seen_by(self.me())))
    }

    /// Its files here are another host's business.
    pub(super) fn is_of_another(&self, id: InstanceId) -> Result<bool, Failure> {
        Ok(Owner::load(&self.paths.instance(id))?.is_some_and(|owner| owner.is_of_another(self.me())))
    }

    /// A move that brings copies would put them over the very disks that it reads.
    pub async fn refuse_copies_of_shared(&self, id: InstanceId) -> Result<(), Failure> {
        if !self.is_of_another(id)? {
            return Ok(());
        }
        let detail = format!("the disks of server {id} lie on storage that this host sees too");
        Err(Failure::new(FailureCode::Conflict, detail).hint("move it by its RAM alone"))
    }

    /// On the source: what only a host that sees these very files can read.
    pub async fn offer(&self, id: InstanceId, migration: MigrationId) -> Result<(), Failure> {
        let path = self.offer_file(id);
        let bytes = serde_json::to_vec(&Offered { migration });
        let bytes = bytes.map_err(|error| fault::internal("cannot write move.json", &error))?;
        let written = durable::write_async(path.clone(), bytes).await;
        written.map_err(|error| fault::of_file("write", &path, &error))
    }

    /// The move is over; nothing to do where nothing was offered.
    pub async fn withdraw(&self, id: InstanceId) -> Result<(), Failure> {
        let path = self.offer_file(id);
        fault::blocking(move || {
            durable::remove(&path).map(drop).map_err(|error| fault::of_file("remove", &path, &error))
        })
        .await
    }

    /// On the target: whether this host sees what `source` offers, and `source` owns it at the epoch before.
    pub async fn sees_offer(
        &self,
        id: InstanceId,
        migration: MigrationId,
        source: &HostName,
        epoch: Epoch,
    ) -> Result<(), Failure> {
        let begun = Instant::now();
        loop {
            let Err(failure) = self.look_at_offer(id, migration, source, epoch).await else { return Ok(()) };
            if begun.elapsed() > SEEN_TIME_MAX {
                return Err(failure);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn look_at_offer(
        &self,
        id: InstanceId,
        migration: MigrationId,
        source: &HostName,
        epoch: Epoch,
    ) -> Result<(), Failure> {
        let path = self.offer_file(id);
        let bytes = durable::read_async(path.clone(), OFFER_BYTES_MAX).await;
        let bytes = bytes.map_err(|error| fault::of_file("read", &path, &error))?;
        let offered: Option<Offered> = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let refused = |why: String| {
            Failure::new(FailureCode::Conflict, why)
                .hint("is the storage mounted on both hosts, and is it the same? See shared_dir in their agents' files")
        };
        if offered != Some(Offered { migration }) {
            return Err(refused(format!(
                "this host does not see what host {source} writes beside the disks of server {id}"
            )));
        }
        match Owner::load(&self.paths.instance(id))? {
            Some(owner)
                if owner.state == OwnerState::Owned
                    && owner.host.as_ref() == Some(source)
                    && owner.epoch.next() == epoch =>
            {
                Ok(())
            }
            other => Err(refused(format!("the files of server {id} are not host {source}'s to give: {other:?}"))),
        }
    }

    /// On the target, with OWN in its journal and before the guest may run: nobody else starts it from now on.
    pub async fn own_shared(&self, id: InstanceId, epoch: Epoch) -> Result<(), Failure> {
        self.store_owner(self.signed(Owner::owned(id, epoch))).await
    }

    /// On a target that refuses, before it says so: what it took is the source's again.
    pub async fn give_back_shared(&self, id: InstanceId, epoch: Epoch, source: &HostName) -> Result<(), Failure> {
        let mine = self.signed(Owner::owned(id, epoch));
        if Owner::load(&self.paths.instance(id))? != Some(mine) {
            return Ok(());
        }
        let before = Owner::owned(id, Epoch(epoch.0.saturating_sub(1)));
        self.store_owner(Owner { host: Some(source.clone()), ..before }).await
    }

    async fn store_owner(&self, owner: Owner) -> Result<(), Failure> {
        let dir = self.paths.instance(owner.instance);
        fault::blocking(move || owner.store(&dir)).await
    }

    /// Another host owns it at `epoch` on the same files, and its QEMU here is gone: it is none of this host's any more.
    pub async fn leave_shared(&self, id: InstanceId, epoch: Epoch) -> Result<(), Failure> {
        let Some(instance) = self.get(id).filter(|instance| instance.epoch() < epoch) else { return Ok(()) };
        if instance.vm().is_some_and(|vm| vm.has_exited().is_none()) {
            let detail = format!("server {id} still has a QEMU here and cannot be left");
            return Err(Failure::new(FailureCode::Conflict, detail));
        }
        self.known().remove(&id);
        tracing::info!(instance = %id, %epoch, "left to another host, with its disks where they are");
        Ok(())
    }

    /// After a restart in the middle of a hand-over: the other host has signed already, and what runs here is still to be
    /// dealt with. It is none of this host's instances.
    pub async fn find_of_another(&self, id: InstanceId) -> Result<Option<Arc<Instance>>, Failure> {
        let dir = self.paths.instance(id);
        let Some(owner) = self.owner_on_disk(id)? else { return Ok(None) };
        let instance = Instance::new(&dir, make::load_spec(&dir)?, owner);
        self.attach(&instance).await;
        Ok(Some(instance))
    }

    /// The instance of a host that died. Refused while anybody holds its disks: then that host did not die.
    pub(super) async fn take_over(&self, ask: &InstanceAsk, from: &HostName) -> Result<Arc<Instance>, Failure> {
        let (id, dir) = (ask.spec.id, self.paths.instance(ask.spec.id));
        let refused =
            |why: String| Failure::new(FailureCode::Conflict, format!("server {id} cannot be taken over: {why}"));
        let owner = self.me().and(Owner::load(&dir)?).ok_or_else(|| {
            refused("its disks are on no storage that this host sees".to_owned())
                .hint("choose a host with the same shared_dir, or rebuild it from its image")
        })?;
        let mine = self.signed(Owner::owned(id, ask.epoch));
        let theirs = owner.host.as_ref() == Some(from) && owner.state == OwnerState::Owned && owner.epoch < ask.epoch;
        if owner != mine && !theirs {
            return Err(refused(format!("host {from} does not own it before epoch {}: {owner:?}", ask.epoch))
                .hint("look at the server again: somebody else has it"));
        }
        let spec = make::load_spec(&dir)?;
        super::refuse_other_hardware(&spec, &ask.spec)?;
        if owner != mine {
            self.refuse_held_disks(instance::disk_files(&spec, &dir).into_iter().map(|(_, path, _)| path)).await?;
            self.store_owner(mine.clone()).await?;
        }
        let instance = Instance::new(&dir, spec, mine);
        self.insert(instance.clone());
        tracing::info!(instance = %id, %from, epoch = %ask.epoch, "taken over");
        Ok(instance)
    }

    /// A QEMU that has a disk open for writing locks it, on whatever host; without `--force-share` nobody else opens it then.
    async fn refuse_held_disks(&self, disks: impl Iterator<Item = PathBuf>) -> Result<(), Failure> {
        for disk in disks {
            let mut command = Command::new(&self.hypervisor.img);
            command.arg("info").arg(&disk);
            self.hypervisor.run(command, PROBE_TIME_MAX).await.map_err(|failure| {
                let detail = format!("{} is in use, or cannot be read: {}", disk.display(), failure.detail);
                Failure::new(FailureCode::Conflict, detail)
                    .hint("the server may still run where it was: switch that host off first")
            })?;
        }
        Ok(())
    }

    fn offer_file(&self, id: InstanceId) -> PathBuf {
        self.paths.instance(id).join(OFFER_FILE)
    }
}
