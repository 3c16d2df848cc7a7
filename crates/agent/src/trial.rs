//! What tests need to try things with the real QEMUs: `./x env` names them, `./x test` sets them.

use std::{
    fs::Permissions,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;
use uuid::Uuid;
use whimbrel_core::{
    disk::{DiskFormat, DiskSpec},
    id::InstanceId,
    instance::{Boot, InstanceSpec},
};

use crate::{
    config::{DiskAio, DiskCache, QemuUser},
    hypervisor::Hypervisor,
    paths::Paths,
    reach,
    storage::{ImageStore, image::Origin, shared},
    vm::record::VmRecord,
};

pub const QEMU_VARIABLES: [&str; 2] = ["WHIMBREL_QEMU_72", "WHIMBREL_QEMU_100"];
/// For whatever a test waits for.
pub const TIME_MAX: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(5);

/// A host of its own in a temporary directory.
pub struct Trial {
    pub dir: TempDir,
    pub paths: Paths,
    pub hypervisor: Arc<Hypervisor>,
    pub images: Arc<ImageStore>,
}

impl Trial {
    /// With QEMU 7.2 where the version does not matter.
    pub fn new() -> Self {
        Trial::on(QEMU_VARIABLES[0], None)
    }

    pub fn on(variable: &str, user: Option<QemuUser>) -> Self {
        let qemu =
            std::env::var_os(variable).unwrap_or_else(|| panic!("{variable} is not set: run `eval \"$(./x env)\"`"));
        let mut qemu = PathBuf::from(qemu);
        let dir = tempfile::tempdir().unwrap();
        if let Some(user) = user {
            fs_err::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
            if reach::check(user, &qemu.join("qemu-img"), "").is_err() {
                qemu = copy(&qemu, dir.path());
            }
        }
        let paths = Paths::new(&dir.path().join("s"), &dir.path().join("r"), user).unwrap();
        paths.make().unwrap();
        let hypervisor = Arc::new(Hypervisor {
            system: qemu.join("qemu-system-x86_64"),
            img: qemu.join("qemu-img"),
            storage_daemon: qemu.join("qemu-storage-daemon"),
            accel: "tcg",
            user,
            disk_cache: DiskCache::Direct,
            disk_aio: DiskAio::Threads,
        });
        let images = Arc::new(ImageStore::new(paths.clone(), hypervisor.clone(), Origin::Nowhere));
        Trial { dir, paths, hypervisor, images }
    }
}

impl Trial {
    /// A host whose instances lie in `storage`, with any others that do.
    pub fn sharing(storage: &Path, host: &str) -> Self {
        let mut trial = Trial::new();
        trial.paths = shared::place(trial.paths.clone(), Some(storage), &host.parse().unwrap()).unwrap();
        trial.paths.make().unwrap();
        trial.images = Arc::new(ImageStore::new(trial.paths.clone(), trial.hypervisor.clone(), Origin::Nowhere));
        trial
    }
}

/// QEMU with its firmware, for a user that gets at none in a checkout below `/root`.
fn copy(bin: &Path, to: &Path) -> PathBuf {
    let unpacked = bin.parent().unwrap();
    let copied = Command::new("cp").arg("--archive").args([unpacked, &to.join("qemu")]).status().unwrap();
    assert!(copied.success(), "cannot copy {}", unpacked.display());
    to.join("qemu").join(bin.file_name().unwrap())
}

/// A test that failed leaves no guest behind.
impl Drop for Trial {
    fn drop(&mut self) {
        let runs = fs_err::read_dir(self.paths.run_root()).into_iter().flatten().filter_map(Result::ok);
        for path in runs.map(|entry| entry.path()).filter(|path| path.to_string_lossy().ends_with(".vm.json")) {
            let record = VmRecord::load(&path.with_extension("").with_extension(""));
            if let Ok(Some(record)) = record
                && record.is_alive()
            {
                let _ = kill(Pid::from_raw(record.process.pid.cast_signed()), Signal::SIGKILL);
            }
        }
    }
}

/// One small disk, no NIC, nothing to boot.
pub fn small_spec() -> InstanceSpec {
    InstanceSpec {
        id: InstanceId(Uuid::now_v7()),
        name: "trial".into(),
        vcpus: 1,
        ram_mb: 32,
        machine: "pc-q35-7.2".into(),
        cpu_model: "qemu64".into(),
        disks: vec![blank_disk("root", DiskFormat::Qcow2)],
        nics: Vec::new(),
        boot: Boot::Disk,
        iothreads: false,
    }
}

pub fn blank_disk(name: &str, format: DiskFormat) -> DiskSpec {
    DiskSpec { name: name.parse().unwrap(), format, virtual_bytes: 16 << 20, base: None, read_only: false }
}

/// Asks until it is so.
pub async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let waited = async {
        while !so().await {
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(TIME_MAX, waited).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}
