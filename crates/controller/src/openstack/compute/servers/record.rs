//! A stored server as the API's record.
//!
//! Ground rules: `vm_state` follows from what the guest does and what is wanted, never from a column of its own, so it cannot be
//! wrong for long; an administrator's word that a server is in error stands above it.
//! Source of the neighbours' id: nova, utils.py, `generate_hostid`.

use std::collections::{BTreeMap, HashMap};

use sha2::{Digest, Sha224};
use whimbrel_api::openstack::compute::server::{
    record::{Address, AddressKind, DiskConfig, HostStatus, Placed, Server, ServerFault, ServerFlavor},
    state::{self, Power, VmState},
};
use whimbrel_core::{
    disk::DiskSpec,
    failure::Failure,
    id::{HostName, InstanceId},
    instance::PowerState,
    schedule::{Place, Reach},
    server::FlavorCopy,
};
use whimbrel_store::{InstanceRow, MigrationRow, StoreError, TaskState};

use crate::{app::App, places::places_of};

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;
const ROOT_DEVICE: &str = "/dev/vda";
const FAULT_CODE: u16 = 500;
const PROGRESS_DONE: u8 = 100;

/// What is looked up once for many servers.
pub(super) struct Around {
    hosts: HashMap<HostName, Place>,
    /// Those that go on.
    moves: BTreeMap<InstanceId, MigrationRow>,
}

impl Around {
    pub(super) async fn look(app: &App) -> Result<Self, StoreError> {
        let store = &app.store;
        let (aggregates, marks, moves) =
            tokio::try_join!(store.list_aggregates(), store.host_marks(None), store.unfinished_migrations())?;
        Ok(Around { hosts: places_of(&marks, &aggregates), moves })
    }

    async fn of(app: &App, row: &InstanceRow) -> Result<Self, StoreError> {
        let (aggregates, marks) = tokio::try_join!(app.store.list_aggregates(), app.store.host_marks(Some(&row.host)))?;
        let going_on = match row.task {
            Some(TaskState::Migrating) => app.store.unfinished_migration_of(row.id).await?,
            Some(_) | None => None,
        };
        let moves = going_on.into_iter().map(|migration| (migration.instance, migration)).collect();
        Ok(Around { hosts: places_of(&marks, &aggregates), moves })
    }
}

pub(super) async fn one(app: &App, row: InstanceRow) -> Result<Server, StoreError> {
    let around = Around::of(app, &row).await?;
    Ok(record(app, row, &around))
}

pub(super) fn record(app: &App, row: InstanceRow, around: &Around) -> Server {
    let progress = progress(app, &row, around);
    // A host whose record is gone says nothing any more.
    let silent = Place { reach: Reach::Silent, ..Place::default() };
    let place = around.hosts.get(&row.host).unwrap_or(&silent);
    of(row, place, progress)
}

/// Of a move that is under way: the truth about disks and memory together.
fn progress(app: &App, row: &InstanceRow, around: &Around) -> u8 {
    let going_on = around.moves.get(&row.id).filter(|_| row.task == Some(TaskState::Migrating));
    let Some(migration) = going_on else { return PROGRESS_DONE };
    let observed = app.drivers.of(migration.id).and_then(|driven| driven.observed().progress);
    let progress = observed.as_ref().or(migration.progress.as_ref());
    progress.map_or(0, |progress| u8::try_from(progress.permille / 10).unwrap_or(PROGRESS_DONE))
}

fn of(row: InstanceRow, place: &Place, progress: u8) -> Server {
    let (vm_state, task_state) = (vm_state(&row), row.task.map(task));
    let flavor = flavor(&row);
    let project = row.owner.project.as_ref().map(ToString::to_string).unwrap_or_default();
    let details = row.details;
    let fault = |failure: &Failure| ServerFault {
        code: FAULT_CODE,
        created: row.updated_us,
        message: failure.detail.clone(),
        details: failure.hint.clone(),
    };
    Server {
        id: row.id.0,
        host_id: host_id(&project, &row.host),
        project_id: project,
        user_id: row.owner.user.as_ref().map(ToString::to_string).unwrap_or_default(),
        hostname: if details.hostname.is_empty() { row.name.clone() } else { details.hostname },
        name: row.name,
        description: details.description,
        created: row.created_us,
        updated: Some(row.updated_us),
        launched: row.launched_us,
        terminated: None,
        vm_state,
        task_state,
        power: power(row.power),
        progress: if vm_state == VmState::Building { 0 } else { progress },
        fault: row.failure.as_ref().map(fault),
        flavor,
        image_id: Some(row.image.0),
        addresses: addresses(&details.nics),
        access_ipv4: details.access_ipv4,
        access_ipv6: details.access_ipv6,
        metadata: details.metadata,
        tags: details.tags,
        security_groups: details.security_groups,
        volumes: Vec::new(),
        server_groups: details.group.into_iter().collect(),
        disk_config: if details.disk_config_manual { DiskConfig::Manual } else { DiskConfig::Auto },
        config_drive: details.config_drive,
        key_name: details.key.map(|key| key.name),
        availability_zone: Some(place.zone().to_owned()),
        pinned_availability_zone: details.availability_zone,
        placed: Some(Placed { host: row.host.to_string(), node: row.host.to_string(), status: host_status(place) }),
        instance_name: format!("instance-{:08x}", row.number),
        reservation_id: details.reservation_id,
        launch_index: details.launch_index,
        kernel_id: details.kernel_id,
        ramdisk_id: details.ramdisk_id,
        root_device_name: Some(ROOT_DEVICE.to_owned()),
        user_data: details.user_data,
        locked: details.lock.is_some(),
        locked_reason: details.lock.and_then(|lock| lock.reason),
        trusted_image_certificates: details.trusted_image_certificates,
    }
}

fn host_status(place: &Place) -> HostStatus {
    match (place.reach, place.disabled) {
        (Reach::ForcedDown, _) => HostStatus::Down,
        (Reach::Silent, _) => HostStatus::Unknown,
        (Reach::Up, true) => HostStatus::Maintenance,
        (Reach::Up, false) => HostStatus::Up,
    }
}

pub(super) fn vm_state(row: &InstanceRow) -> VmState {
    if row.details.set_to_error {
        return VmState::Error;
    }
    match (row.power, row.task) {
        (None, Some(TaskState::Building)) => VmState::Building,
        (Some(PowerState::Stopped | PowerState::Crashed), Some(TaskState::Building)) => VmState::Building,
        // It never was anywhere, and goes before it is.
        (None, Some(TaskState::Deleting)) if row.failure.is_none() => VmState::Building,
        (Some(PowerState::Running), _) => VmState::Active,
        (Some(PowerState::Paused), _) => VmState::Paused,
        // While it is being restarted it is what it was.
        (Some(PowerState::Stopped), Some(TaskState::Rebooting | TaskState::RebootingHard)) => VmState::Active,
        (Some(PowerState::Stopped), _) if row.failure.is_none() => VmState::Stopped,
        (Some(PowerState::Stopped | PowerState::Crashed) | None, _) => VmState::Error,
    }
}

pub(super) fn task(task: TaskState) -> state::TaskState {
    match task {
        TaskState::Building => state::TaskState::Spawning,
        TaskState::Starting => state::TaskState::PoweringOn,
        TaskState::Stopping => state::TaskState::PoweringOff,
        TaskState::Pausing => state::TaskState::Pausing,
        TaskState::Unpausing => state::TaskState::Unpausing,
        TaskState::Rebooting => state::TaskState::Rebooting,
        TaskState::RebootingHard => state::TaskState::RebootingHard,
        TaskState::Migrating => state::TaskState::Migrating,
        TaskState::Deleting => state::TaskState::Deleting,
    }
}

fn power(power: Option<PowerState>) -> Power {
    match power {
        None => Power::NoState,
        Some(PowerState::Running) => Power::Running,
        Some(PowerState::Paused) => Power::Paused,
        Some(PowerState::Stopped) => Power::Shutdown,
        Some(PowerState::Crashed) => Power::Crashed,
    }
}

/// As it was kept, or, of a server that the native API made, as its hardware is.
fn flavor(row: &InstanceRow) -> ServerFlavor {
    let of_disk = |name: &str, unit: u64| {
        let found = row.spec.disks.iter().find(|disk: &&DiskSpec| disk.name.as_str() == name);
        found.map_or(0, |disk| disk.virtual_bytes / unit)
    };
    let hardware = || FlavorCopy {
        id: row.flavor.to_string(),
        name: row.flavor.to_string(),
        vcpus: row.spec.vcpus,
        ram_mb: row.spec.ram_mb,
        disk_gb: of_disk("root", GIB),
        ephemeral_gb: of_disk("ephemeral0", GIB),
        swap_mb: of_disk("swap", MIB),
        extra_specs: Default::default(),
    };
    let copy = row.details.flavor.clone().unwrap_or_else(hardware);
    ServerFlavor {
        id: copy.id,
        name: copy.name,
        vcpus: copy.vcpus,
        ram_mb: copy.ram_mb,
        disk_gb: copy.disk_gb,
        ephemeral_gb: copy.ephemeral_gb,
        swap_mb: copy.swap_mb,
        extra_specs: copy.extra_specs,
    }
}

fn addresses(nics: &[whimbrel_core::server::NicAddresses]) -> Vec<(String, Vec<Address>)> {
    let mut networks: Vec<(String, Vec<Address>)> = Vec::new();
    for nic in nics {
        let told = nic.addresses.iter().map(|ip| Address { ip: *ip, kind: AddressKind::Fixed, mac: nic.mac.clone() });
        match networks.iter_mut().find(|(name, _)| *name == nic.network) {
            Some((_, addresses)) => addresses.extend(told),
            None => networks.push((nic.network.clone(), told.collect())),
        }
    }
    networks
}

pub(super) fn host_id(project: &str, host: &HostName) -> String {
    Sha224::digest(format!("{project}{host}")).iter().map(|byte| format!("{byte:02x}")).collect()
}
