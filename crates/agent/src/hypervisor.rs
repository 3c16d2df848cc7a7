//! How this host runs QEMU: its programs, accelerator, user, and the way its disks are opened.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use fs_err::os::unix::fs::OpenOptionsExt;
use nix::{fcntl::OFlag, sys::prctl};
use tokio::process::Command;
use whimbrel_core::failure::{Failure, FailureCode};

use crate::{
    config::{Accel, AgentConfig, DiskAio, DiskCache, QemuUser},
    fault,
};

const KVM: &str = "/dev/kvm";
/// QEMU's name of the accelerator that needs no hardware.
pub const EMULATION: &str = "tcg";
const CPUINFO: &str = "/proc/cpuinfo";

#[derive(Clone, Debug)]
pub struct Hypervisor {
    pub system: PathBuf,
    pub img: PathBuf,
    pub storage_daemon: PathBuf,
    /// `kvm` or `tcg`.
    pub accel: &'static str,
    pub user: Option<QemuUser>,
    pub disk_cache: DiskCache,
    pub disk_aio: DiskAio,
}

/// How one file is opened by QEMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskIo {
    pub direct: bool,
    pub aio: &'static str,
}

impl Hypervisor {
    pub fn new(config: &AgentConfig) -> Result<Self, Failure> {
        let program = |name: &str| {
            let path = config.qemu_dir.join(name);
            if path.is_file() {
                return Ok(path);
            }
            Err(Failure::new(FailureCode::Incompatible, format!("there is no {}", path.display()))
                .hint("install qemu-system-x86 and qemu-utils, or name their directory with qemu_dir"))
        };
        Ok(Hypervisor {
            system: program("qemu-system-x86_64")?,
            img: program("qemu-img")?,
            storage_daemon: program("qemu-storage-daemon")?,
            accel: choose_accel(config.accel, Path::new(KVM).exists(), &cpu_flags())?,
            user: config.qemu_user,
            disk_cache: config.disk_cache,
            disk_aio: config.disk_aio,
        })
    }

    /// For every process that this one starts from now on. An emulated guest gains next to nothing from huge pages, and its
    /// arrival loses: a target has to clear 2 MiB wherever a page of 4 KiB is not zero.
    pub fn choose_pages(&self) {
        if self.accel == EMULATION
            && let Err(error) = prctl::set_thp_disable(true)
        {
            tracing::info!(%error, "huge pages stay as the host has them");
        }
    }

    /// How a file in `dir` is opened: O_DIRECT only where the file system has it.
    pub fn disk_io(&self, dir: &Path) -> DiskIo {
        let direct = match self.disk_cache {
            DiskCache::Direct => allows_direct(dir),
            DiskCache::Writeback => false,
        };
        DiskIo { direct, aio: self.disk_aio.as_str(direct) }
    }

    /// Runs a program that ends by itself, as QEMU's user; its output if it succeeds.
    pub async fn run(&self, mut command: Command, time_max: Duration) -> Result<Vec<u8>, Failure> {
        if let Some(user) = self.user {
            command.uid(user.uid).gid(user.gid);
        }
        output(command, time_max).await
    }
}

/// Runs a program to its end. A refusal carries what it said on stderr.
pub(crate) async fn output(mut command: Command, time_max: Duration) -> Result<Vec<u8>, Failure> {
    command.stdin(Stdio::null()).env("LC_ALL", "C").kill_on_drop(true);
    let name = command.as_std().get_program().to_string_lossy().into_owned();
    let ran = tokio::time::timeout(time_max, command.output()).await.map_err(|_| {
        let detail = format!("{name} did not end within {} s and was killed", time_max.as_secs());
        Failure::new(FailureCode::DeadlinePassed, detail).hint("is the storage below it slow or stuck?")
    })?;
    let ran = ran.map_err(|error| fault::internal(format!("cannot run {name}"), &error))?;
    if ran.status.success() {
        return Ok(ran.stdout);
    }
    let said = String::from_utf8_lossy(&ran.stderr);
    Err(Failure::new(FailureCode::Internal, format!("{name} ended with {}: {}", ran.status, said.trim())))
}

fn cpu_flags() -> String {
    fs_err::read_to_string(CPUINFO).unwrap_or_default()
}

/// `/dev/kvm` may open on a host that yet cannot run a guest (nested, paravirtual): the CPU must say vmx or svm too.
fn choose_accel(wanted: Accel, has_device: bool, cpuinfo: &str) -> Result<&'static str, Failure> {
    let flag = || cpuinfo.split_ascii_whitespace().any(|word| word == "vmx" || word == "svm");
    match wanted {
        Accel::Tcg => Ok(EMULATION),
        Accel::Auto if has_device && flag() => Ok("kvm"),
        Accel::Auto => Ok(EMULATION),
        Accel::Kvm if has_device => Ok("kvm"),
        Accel::Kvm => Err(Failure::new(FailureCode::Incompatible, format!("accel is kvm but there is no {KVM}"))
            .hint("load kvm_intel or kvm_amd, or set accel to auto")),
    }
}

fn allows_direct(dir: &Path) -> bool {
    let path = dir.join(".direct-io");
    let opened = fs_err::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .custom_flags(OFlag::O_DIRECT.bits())
        .open(&path);
    if let Err(error) = fs_err::remove_file(&path) {
        tracing::debug!(%error, "the trial of O_DIRECT left no file");
    }
    opened.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trial::Trial;

    #[test]
    fn kvm_needs_the_device_and_the_flag() {
        let check = |wanted, device, flags: &str, want: Option<&str>| {
            assert_eq!(choose_accel(wanted, device, flags).ok(), want, "{wanted:?} {device} {flags}");
        };
        check(Accel::Auto, true, "flags: fpu vmx sse", Some("kvm"));
        check(Accel::Auto, true, "flags: fpu svm", Some("kvm"));
        check(Accel::Auto, true, "flags: fpu vmxish", Some("tcg"));
        check(Accel::Auto, false, "flags: vmx", Some("tcg"));
        check(Accel::Kvm, true, "", Some("kvm"));
        check(Accel::Kvm, false, "vmx", None);
        check(Accel::Tcg, true, "vmx", Some("tcg"));
    }

    #[tokio::test]
    async fn only_emulated_guests_get_small_pages() {
        let trial = Trial::new();
        let check = async |accel, want: &str| {
            Hypervisor { accel, ..Hypervisor::clone(&trial.hypervisor) }.choose_pages();
            let mut started = Command::new("grep");
            started.args(["THP_enabled", "/proc/self/status"]);
            let said = String::from_utf8(output(started, Duration::from_secs(30)).await.unwrap()).unwrap();
            assert!(said.trim().ends_with(want), "{accel}: {said}");
        };
        check("kvm", "1").await;
        check(EMULATION, "0").await;
    }

    #[tokio::test]
    async fn a_program_is_bounded_and_its_words_are_kept() {
        let shell = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            command
        };
        let long = Duration::from_secs(30);
        assert_eq!(output(shell("echo good"), long).await.unwrap(), b"good\n");
        let failure = output(shell("echo because >&2; exit 3"), long).await.unwrap_err();
        assert!(failure.detail.contains("because") && failure.detail.contains('3'), "{failure}");
        let failure = output(shell("exec sleep 60"), Duration::from_millis(50)).await.unwrap_err();
        assert_eq!(failure.code, FailureCode::DeadlinePassed);
    }
}
