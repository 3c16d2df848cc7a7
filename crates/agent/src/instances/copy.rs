//! A disk copied as it is at one moment, for an image of its server: one qcow2 that stands alone.
//!
//! ```text
//! guest runs   blockdev-backup (old content goes to the copy before the guest's write) -> job concluded -> nodes away
//! guest is off qemu-img convert
//! -> digest -> ready -> fetched by the controller -> dropped
//! ```
//!
//! Ground rules: nobody else changes the instance while a copy is made; a copy that fails is ended before it can hurt the guest,
//! whose write fails where the copy finds no room: so room is watched, and the copy gives way in time; a copy lives in memory
//! and in a directory that is swept at the start, so an agent that dies has none, and QEMU's job of before is ended when QEMU
//! is found again.

use std::{
    collections::hash_map::Entry,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;
use whimbrel_api::agent::{CopyAsk, CopyReport, CopyState};
use whimbrel_core::{
    copy_mode,
    disk::{DiskFormat, DiskName, DiskSpec},
    failure::{Failure, FailureCode},
    id::{ImageId, InstanceId},
};
use whimbrel_qmp::{JobInfo, JobStatus, Qmp, QmpError};

use super::{Instance, Instances, instance::allocated_bytes, suspend::free_bytes};
use crate::{
    fault,
    storage::disk,
    vm::{
        Vm,
        spec::{disk_node, disk_nodes},
    },
};

const FILE: &str = "disk.qcow2";
const JOB: &str = "whimbrel-image";
const NODE: &str = "whimbrel-image";
const FILE_NODE: &str = "whimbrel-image-file";
/// With fewer free bytes than this a copy of a running guest's disk is given up.
const ROOM_BYTES_MIN: u64 = 256 << 20;
const LOOK_EVERY: Duration = Duration::from_millis(100);
const CONVERT_TIME_MAX: Duration = Duration::from_secs(6 * 3600);
const END_TIME_MAX: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Copy {
    instance: InstanceId,
    dir: PathBuf,
    given_up: CancellationToken,
    state: Mutex<CopyState>,
}

impl Copy {
    fn state(&self) -> MutexGuard<'_, CopyState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self) -> CopyReport {
        CopyReport { instance: self.instance, state: self.state().clone() }
    }

    fn file(&self) -> PathBuf {
        self.dir.join(FILE)
    }
}

impl Instances {
    /// Begins a copy, or tells how it goes.
    pub fn copy_disk(self: &Arc<Self>, id: InstanceId, image: ImageId, ask: CopyAsk) -> Result<CopyReport, Failure> {
        if let Some(copy) = self.copies().get(&image).filter(|copy| copy.instance == id) {
            return Ok(copy.report());
        }
        let instance = self.get(id).ok_or_else(|| not_here(id))?;
        instance.owner().permits(ask.epoch)?;
        self.refuse_if_claimed(id)?;
        let spec = instance.spec();
        let found = spec.disks.iter().find(|disk| disk.name == ask.disk).cloned();
        let disk = found
            .ok_or_else(|| Failure::new(FailureCode::NotFound, format!("server {id} has no disk '{}'", ask.disk)))?;
        let copy = Arc::new(Copy {
            instance: id,
            dir: self.paths.being_copied(image),
            given_up: CancellationToken::new(),
            state: Mutex::new(CopyState::Copying),
        });
        match self.copies().entry(image) {
            Entry::Occupied(other) => Ok(other.get().report()),
            Entry::Vacant(place) => {
                place.insert(copy.clone());
                tokio::spawn(self.clone().make_copy(instance, disk, copy.clone()));
                Ok(copy.report())
            }
        }
    }

    async fn make_copy(self: Arc<Self>, instance: Arc<Instance>, disk: DiskSpec, copy: Arc<Copy>) {
        let id = instance.id();
        let change = self.change_of(id);
        let _held = change.lock().await;
        let made = tokio::select! {
            biased;
            () = copy.given_up.cancelled() => Err(given_up()),
            made = self.copy_of(&instance, &disk, &copy) => made,
        };
        let state = match made {
            Ok((file_bytes, digest)) => {
                tracing::info!(instance = %id, disk = %disk.name, file_bytes, "copied for an image");
                CopyState::Ready { file_bytes, digest }
            }
            Err(failure) => {
                tracing::warn!(instance = %id, disk = %disk.name, %failure, "not copied for an image");
                // The job of a copy that was given up: QEMU must not go on with it.
                if let Some(vm) = instance.vm() {
                    end_left_over(&vm).await;
                }
                if let Err(failure) = self.remove_dir(&copy.dir).await {
                    tracing::warn!(instance = %id, %failure, "a copy stays behind");
                }
                CopyState::Failed { failure }
            }
        };
        *copy.state() = state;
    }

    async fn copy_of(
        &self,
        instance: &Arc<Instance>,
        disk: &DiskSpec,
        copy: &Copy,
    ) -> Result<(u64, whimbrel_core::id::ImageDigest), Failure> {
        self.refuse_if_claimed(instance.id())?;
        self.paths.make_dir(&copy.dir)?;
        self.room_for_copy(instance, disk, &copy.dir).await?;
        let running = instance.vm().filter(|vm| vm.has_exited().is_none());
        let copied = match &running {
            Some(vm) => self.copy_running(vm, disk, copy).await,
            None => Ok(()),
        };
        match (running, copied) {
            (Some(vm), Err(failure)) if vm.has_exited().is_none() => return Err(failure),
            (Some(_), Ok(())) => {}
            // It is off, or switched itself off meanwhile: what it wrote last is on the disk.
            (Some(_), Err(_)) | (None, _) => self.copy_still(instance, disk, copy).await?,
        }
        let path = copy.file();
        fault::blocking(move || {
            let mut hasher = blake3::Hasher::new();
            let hashed = fs_err::File::open(&path).and_then(|file| hasher.update_reader(file).map(|_| ()));
            hashed.map_err(|error| fault::of_file("read", &path, &error))?;
            let bytes = fs_err::metadata(&path).map_err(|error| fault::of_file("look at", &path, &error))?.len();
            let digest = hasher.finalize().to_hex();
            let digest = digest.as_str().parse().map_err(|error| fault::internal("BLAKE3 is no digest", &error))?;
            Ok((bytes, digest))
        })
        .await
    }

    /// All that the guest can read may have to be written.
    async fn room_for_copy(&self, instance: &Instance, disk: &DiskSpec, dir: &Path) -> Result<(), Failure> {
        let base = copy_mode::base(disk).map(|base| allocated_bytes(&self.paths.image(&base.digest))).transpose()?;
        let needed = instance.allocated_bytes(&disk.name).await? + base.unwrap_or(0) + ROOM_BYTES_MIN;
        let free = free_bytes(dir)?;
        if free >= needed {
            return Ok(());
        }
        let detail = format!(
            "a copy of disk {} of server {} may take {needed} bytes, {} has {free} left",
            disk.name,
            instance.id(),
            dir.display()
        );
        Err(Failure::new(FailureCode::NoDisk, detail).hint("make room on the host's disk, or move servers away"))
    }

    async fn copy_running(&self, vm: &Vm, disk: &DiskSpec, copy: &Copy) -> Result<(), Failure> {
        let (qmp, of_qmp) = (vm.qmp(), |error: QmpError| fault::of_qmp(&error));
        clear(qmp).await.map_err(of_qmp)?;
        let source = disk_node(&disk.name);
        let nodes = qmp.query_named_block_nodes().await.map_err(of_qmp)?;
        let found = nodes.iter().find(|node| node.node_name.as_deref() == Some(&source));
        // The job wants the sizes to be equal, whatever the record says.
        let virtual_bytes = found.map_or(disk.virtual_bytes, |node| node.image.virtual_size);
        let path = copy.file();
        let blank = DiskSpec { format: DiskFormat::Qcow2, virtual_bytes, base: None, read_only: false, ..disk.clone() };
        disk::create(&self.hypervisor, &path, &blank, None).await?;
        for node in copy_nodes(&disk.name, &path, self.hypervisor.disk_io(&copy.dir)) {
            qmp.blockdev_add(node).await.map_err(of_qmp)?;
        }
        let job = json!({"job-id": JOB, "device": source, "target": NODE, "sync": "full", "auto-dismiss": false});
        qmp.execute_within("blockdev-backup", job, END_TIME_MAX).await.map_err(of_qmp)?;
        let ended = loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let job = our_job(qmp).await.map_err(of_qmp)?;
            match job {
                None => break Err(failed("it is not known any more")),
                Some(job) if job.status == JobStatus::Concluded => {
                    break job.error.map_or(Ok(()), |why| Err(failed(&why)));
                }
                Some(_) if free_bytes(&copy.dir)? < ROOM_BYTES_MIN => break Err(no_room(&copy.dir)),
                Some(_) => {}
            }
        };
        // Closes the copy's file, with all that QEMU still keeps of it.
        clear(qmp).await.map_err(of_qmp)?;
        ended
    }

    async fn copy_still(&self, instance: &Instance, disk: &DiskSpec, copy: &Copy) -> Result<(), Failure> {
        let (from, to) = (instance.dir().join(crate::paths::disk_file(&disk.name, disk.format)), copy.file());
        match fs_err::remove_file(&to) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(fault::of_file("remove", &to, &error));
            }
            Ok(()) | Err(_) => {}
        }
        crate::paths::make_file(&to, self.hypervisor.user)?;
        let mut command = Command::new(&self.hypervisor.img);
        command.args(["convert", "-f", disk.format.driver(), "-O", DiskFormat::Qcow2.driver()]).arg(from).arg(to);
        self.hypervisor.run(command, CONVERT_TIME_MAX).await.map(drop)
    }

    /// To be read from its begin, with its size.
    pub async fn copied(&self, id: InstanceId, image: ImageId) -> Result<(tokio::fs::File, u64), Failure> {
        let copy = self.copies().get(&image).filter(|copy| copy.instance == id).cloned();
        let copy =
            copy.ok_or_else(|| Failure::new(FailureCode::NotFound, format!("there is no copy for image {image}")))?;
        let CopyState::Ready { file_bytes, .. } = copy.report().state else {
            let detail = format!("the copy for image {image} is not ready");
            return Err(Failure::new(FailureCode::Conflict, detail).hint("ask how it goes"));
        };
        let path = copy.file();
        let file = tokio::fs::File::open(&path).await.map_err(|error| fault::of_file("read", &path, &error))?;
        Ok((file, file_bytes))
    }

    /// Nothing to do where there is none.
    pub async fn drop_copy(&self, id: InstanceId, image: ImageId) -> Result<(), Failure> {
        let Some(copy) = self.copies().get(&image).filter(|copy| copy.instance == id).cloned() else { return Ok(()) };
        copy.given_up.cancel();
        // One that is being made goes by its maker.
        if !matches!(copy.report().state, CopyState::Copying) {
            self.remove_dir(&copy.dir).await?;
        }
        self.copies().remove(&image);
        Ok(())
    }

    /// Whoever changes the instance now is not to wait for them.
    pub(super) fn end_copies_of(&self, id: InstanceId) {
        for copy in self.copies().values().filter(|copy| copy.instance == id) {
            copy.given_up.cancel();
        }
    }

    fn copies(&self) -> MutexGuard<'_, std::collections::HashMap<ImageId, Arc<Copy>>> {
        self.copies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn copy_nodes(name: &DiskName, path: &Path, io: crate::hypervisor::DiskIo) -> [Value; 2] {
    let [mut file, mut top] = disk_nodes(name, path, DiskFormat::Qcow2, io);
    file["node-name"] = FILE_NODE.into();
    top["node-name"] = NODE.into();
    top["file"] = FILE_NODE.into();
    [file, top]
}

async fn our_job(qmp: &Qmp) -> Result<Option<JobInfo>, QmpError> {
    Ok(qmp.query_jobs().await?.into_iter().find(|job| job.id == JOB))
}

/// A copy whose agent died, or that was given up: the guest gets rid of it.
pub(super) async fn end_left_over(vm: &Vm) {
    if let Err(error) = clear(vm.qmp()).await {
        tracing::warn!(instance = %vm.id(), error = %fault::chain(&error), "a copy of a disk is left in its QEMU");
    }
}

/// Works from what QEMU has.
async fn clear(qmp: &Qmp) -> Result<(), QmpError> {
    if let Some(job) = our_job(qmp).await? {
        if job.status != JobStatus::Concluded {
            qmp.job_cancel(JOB).await?;
            let query = |qmp: Qmp| async move { our_job(&qmp).await };
            let over = |job: &Option<JobInfo>| job.as_ref().is_none_or(|job| job.status == JobStatus::Concluded);
            let show = |job: &Option<JobInfo>| job.as_ref().map_or("gone".to_owned(), |job| job.status.to_string());
            qmp.wait_level("the end of the copy", query, over, show, END_TIME_MAX).await?;
        }
        qmp.job_dismiss(JOB).await?;
    }
    let nodes = qmp.query_named_block_nodes().await?;
    for name in [NODE, FILE_NODE] {
        if nodes.iter().any(|node| node.node_name.as_deref() == Some(name)) {
            qmp.blockdev_del(name).await?;
        }
    }
    Ok(())
}

fn failed(why: &str) -> Failure {
    Failure::new(FailureCode::QemuFailed, format!("QEMU did not copy the disk: {why}"))
}

fn no_room(dir: &Path) -> Failure {
    let detail =
        format!("{} has fewer than {ROOM_BYTES_MIN} bytes left: the copy gives way to the guests", dir.display());
    Failure::new(FailureCode::NoDisk, detail).hint("make room on the host's disk, or move servers away")
}

fn given_up() -> Failure {
    Failure::new(FailureCode::Cancelled, "the copy was given up")
}

fn not_here(id: InstanceId) -> Failure {
    Failure::new(FailureCode::NotFound, format!("server {id} is not on this host"))
}
