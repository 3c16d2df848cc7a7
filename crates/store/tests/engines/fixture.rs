//! A database and the rows that most cases begin with.

use uuid::Uuid;
use whimbrel_core::{
    disk::{DiskFormat, DiskSpec, Storage},
    host::{CpuInfo, HostFacts},
    id::{Epoch, FlavorId, HostName, ImageId, InstanceId, MigrationId},
    instance::{Boot, InstanceSpec, Nic},
};
use whimbrel_store::{MigrationKind, NewInstance, NewMigration, Room, Store};

pub const NOW_US: i64 = 1_800_000_000_000_000;
pub const ROOM: Room = Room { ram_mb: 4096, disk_bytes: 40 << 30 };

pub struct Database {
    pub url: String,
}

impl Database {
    pub fn at(url: String) -> Self {
        Database { url }
    }

    pub async fn store(&self) -> Store {
        Store::open(&self.url).await.unwrap()
    }

    /// With hosts h1 to h3.
    pub async fn with_hosts(&self) -> Store {
        let store = self.store().await;
        for name in ["h1", "h2", "h3"] {
            store.record_certificate(&host(name), "serial", NOW_US).await.unwrap();
        }
        store
    }
}

pub fn host(name: &str) -> HostName {
    name.parse().unwrap()
}

/// In order: a greater number, a greater id.
pub fn uuid(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

pub fn facts(name: &str) -> HostFacts {
    HostFacts {
        name: host(name),
        qemu_version: "7.2.22".to_owned(),
        machines: vec!["pc-q35-7.2".to_owned()],
        cpu_models: vec!["qemu64".to_owned()],
        accel: "tcg".to_owned(),
        vcpus: 2,
        memory_mb: 8192,
        memory_mb_used: 0,
        reserved_memory_mb: 512,
        ram_allocation_ratio: 1.0,
        disk_total_bytes: 100 << 30,
        disk_free_bytes: 50 << 30,
        disk_committed_bytes: 0,
        bridges: vec!["br0".to_owned()],
        images: vec![],
        migration_address: "192.0.2.1:7010".to_owned(),
        iothreads_safe: false,
        link_bps: None,
        disk_bps: Some(1),
        cpu_info: Some(CpuInfo { vendor: "AMD".to_owned(), ..CpuInfo::default() }),
        uptime: Some(" 12:00:00 up 1 min,  0 users,  load average: 0.00, 0.00, 0.00".to_owned()),
        storage: None,
    }
}

pub fn instance(number: u128, name: &str, at: &str) -> NewInstance {
    let disk = DiskSpec {
        name: "root".parse().unwrap(),
        format: DiskFormat::Qcow2,
        virtual_bytes: ROOM.disk_bytes,
        base: None,
        read_only: false,
    };
    NewInstance {
        spec: InstanceSpec {
            id: InstanceId(uuid(number)),
            name: name.to_owned(),
            vcpus: 2,
            ram_mb: ROOM.ram_mb,
            machine: "pc-q35-7.2".to_owned(),
            cpu_model: "qemu64".to_owned(),
            disks: vec![disk],
            nics: vec![Nic { mac: "52:54:00:00:00:01".to_owned(), bridge: "br0".to_owned(), vlan: None }],
            boot: Boot::Disk,
            iothreads: false,
        },
        flavor: FlavorId(uuid(1)),
        image: ImageId(uuid(2)),
        host: host(at),
        room: ROOM,
        owner: Default::default(),
        details: Default::default(),
        limits: None,
        created_us: NOW_US,
    }
}

pub fn migration(number: u128, of: &NewInstance, target: &str) -> NewMigration {
    NewMigration {
        id: MigrationId(uuid(number)),
        instance: of.spec.id,
        source: of.host.clone(),
        target: host(target),
        epoch: Epoch::FIRST.next(),
        kind: MigrationKind::Live,
        asked_by: Default::default(),
        request_id: None,
        options: serde_json::json!({ "streams": 4 }),
        storage: Storage::Local,
        credential: "secret".to_owned(),
        room: of.room,
        created_us: NOW_US,
    }
}

/// As [`Store::create_instance`], then idle, as after its first start.
pub async fn create_idle(store: &Store, new: &NewInstance) {
    store.create_instance(new, |_| Ok(())).await.unwrap();
    store.change_task(new.spec.id, Some(whimbrel_store::TaskState::Building), None, NOW_US).await.unwrap();
}
