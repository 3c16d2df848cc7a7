//! What this host is and has, for scheduler, prechecks and forecast.
//!
//! QEMU is asked once, at the start (`Qemu::probe`): machines and CPU models come from a QEMU without a machine, with the
//! accelerator that guests get. The rest is looked at for every heartbeat and costs no process, save the names of bridges,
//! which are looked up every [`BRIDGES_EVERY`].

use std::{
    path::Path,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use nix::sys::statvfs::statvfs;
use whimbrel_core::{
    failure::Failure,
    host::{CpuInfo, HostFacts},
};
use whimbrel_qmp::{CpuDefinition, MachineInfo, Qmp, known_bugs};

use crate::{
    context::Context,
    cpu_info, fault,
    hypervisor::Hypervisor,
    instances::Instance,
    network,
    paths::{self, Paths},
    process::{Detached, Start},
    uptime,
};

const BRIDGES_EVERY: Duration = Duration::from_secs(10);
const PROBE_TIME_MAX: Duration = Duration::from_secs(60);
const QUIT_TIME_MAX: Duration = Duration::from_secs(5);
const PROBE_SOCKET: &str = "probe.sock";
const KIB_PER_MIB: u64 = 1024;
/// Families whose versioned types a guest may have; `q35` and `pc` are aliases, the others no servers.
const MACHINE_FAMILIES: [&str; 2] = ["pc-q35-", "pc-i440fx-"];
/// `host` is no model, it is whatever this host is; `base` can run nothing.
const NO_MODELS: [&str; 2] = ["host", "base"];

/// What this host's QEMU can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Qemu {
    pub version: String,
    pub machines: Vec<String>,
    pub cpu_models: Vec<String>,
    pub iothreads_safe: bool,
}

impl Qemu {
    pub async fn probe(hypervisor: &Hypervisor, paths: &Paths) -> Result<Self, Failure> {
        let dir = paths.probe_dir();
        paths::make_run_dir(&dir, hypervisor.user)?;
        let socket = dir.join(PROBE_SOCKET);
        let machine = format!("none,accel={}", hypervisor.accel);
        let monitor = format!("unix:{},server=on,wait=off", socket.to_string_lossy().replace(',', ",,"));
        let args = ["-S", "-nodefaults", "-no-user-config", "-display", "none", "-machine", &machine, "-qmp", &monitor];
        let args: Vec<String> = args.into_iter().map(str::to_owned).collect();
        let log = dir.with_extension("log");
        let start = Start {
            program: &hypervisor.system,
            args: &args,
            user: hypervisor.user,
            log: &log,
            unit: "whimbrel-probe",
        };
        let process = Detached::start(&start)?;
        let asked = ask(&socket, &process).await;
        process.end(QUIT_TIME_MAX).await?;
        for gone in [fs_err::remove_dir_all(&dir), fs_err::remove_file(&log)] {
            gone.map_err(|error| fault::of_file("remove", &dir, &error))?;
        }
        asked
    }
}

async fn ask(socket: &Path, process: &Detached) -> Result<Qemu, Failure> {
    let questions = async {
        let qmp = Qmp::connect(socket, PROBE_TIME_MAX).await?;
        let machines = qmp.query_machines().await?;
        let models = qmp.query_cpu_definitions().await?;
        let qemu = Qemu {
            version: qmp.version().to_string(),
            machines: versioned(machines),
            cpu_models: runnable(models),
            iothreads_safe: !known_bugs(qmp.version()).iothread_export_aborts,
        };
        Ok::<_, whimbrel_qmp::QmpError>((qmp, qemu))
    };
    tokio::select! {
        biased;
        answered = questions => {
            let (qmp, qemu) = answered.map_err(|error| fault::of_qmp(&error))?;
            // Outside the race with its end, which may be seen before the answer.
            let _ = qmp.quit().await;
            Ok(qemu)
        }
        exit = process.exited() => {
            let detail = format!("QEMU ended with {exit} when it was asked what it can do: {}", process.tail());
            Err(Failure::new(whimbrel_core::failure::FailureCode::QemuFailed, detail)
                .hint("does `qemu-system-x86_64 -machine none` start on this host?"))
        }
    }
}

fn versioned(machines: Vec<MachineInfo>) -> Vec<String> {
    let ours = |name: &str| MACHINE_FAMILIES.iter().any(|family| name.starts_with(family));
    let mut names: Vec<_> = machines.into_iter().map(|machine| machine.name).filter(|name| ours(name)).collect();
    names.sort();
    names
}

fn runnable(models: Vec<CpuDefinition>) -> Vec<String> {
    let good = |model: &CpuDefinition| {
        model.unavailable_features.as_ref().is_none_or(Vec::is_empty) && !NO_MODELS.contains(&model.name.as_str())
    };
    let mut names: Vec<_> = models.into_iter().filter(good).map(|model| model.name).collect();
    names.sort();
    names
}

/// Looks at the host again and again, remembering what is dear.
pub struct Facts {
    qemu: Qemu,
    cpu_info: CpuInfo,
    bridges: Mutex<Option<(Instant, Vec<String>)>>,
}

impl Facts {
    pub fn new(qemu: Qemu) -> Self {
        Facts { qemu, cpu_info: cpu_info::read(), bridges: Mutex::default() }
    }

    pub async fn of(&self, context: &Context) -> Result<HostFacts, Failure> {
        let (config, hypervisor) = (&context.config, &context.hypervisor);
        let disk_dir = context.paths.instances();
        let disk = statvfs(&disk_dir).map_err(|error| fault::of_file("look at", &disk_dir, &error.into()))?;
        let unreadable = |error| fault::of_file("read", &context.paths.images(), &error);
        let here = context.instances.all().into_iter().filter(|instance| instance.owned_epoch().is_some());
        let here: Vec<_> = here.collect();
        Ok(HostFacts {
            name: config.name.clone(),
            qemu_version: self.qemu.version.clone(),
            machines: self.qemu.machines.clone(),
            cpu_models: self.qemu.cpu_models.clone(),
            accel: hypervisor.accel.to_owned(),
            vcpus: std::thread::available_parallelism().map_or(1, |count| count.get() as u32),
            memory_mb: memory_mb(),
            memory_mb_used: here.iter().map(|instance| instance.spec().ram_mb).sum(),
            reserved_memory_mb: config.reserved_memory_mb,
            ram_allocation_ratio: config.ram_allocation_ratio,
            disk_total_bytes: disk.blocks() * disk.fragment_size(),
            disk_free_bytes: disk.blocks_available() * disk.fragment_size(),
            disk_committed_bytes: here.iter().map(|instance| may_grow_bytes(instance)).sum(),
            bridges: self.bridges().await?,
            images: context.images.list().map_err(unreadable)?,
            migration_address: config.data_listen.to_string(),
            iothreads_safe: self.qemu.iothreads_safe,
            link_bps: config.link_bps,
            disk_bps: None,
            cpu_info: Some(self.cpu_info.clone()),
            uptime: uptime::line(),
            storage: context.paths.shared().map(|shared| shared.id),
        })
    }

    async fn bridges(&self) -> Result<Vec<String>, Failure> {
        let remembered = || self.bridges.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, bridges)) = remembered().as_ref()
            && at.elapsed() < BRIDGES_EVERY
        {
            return Ok(bridges.clone());
        }
        let bridges = network::bridges().await?;
        *remembered() = Some((Instant::now(), bridges.clone()));
        Ok(bridges)
    }
}

/// What its disks may still grow by on this host.
fn may_grow_bytes(instance: &Instance) -> u64 {
    instance
        .spec()
        .disks
        .iter()
        .map(|disk| disk.virtual_bytes)
        .sum::<u64>()
        .saturating_sub(instance.all_allocated_bytes())
}

fn memory_mb() -> u64 {
    let text = fs_err::read_to_string("/proc/meminfo").unwrap_or_default();
    let total_kb = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.split_ascii_whitespace().next()?.parse::<u64>().ok());
    total_kb.unwrap_or_default() / KIB_PER_MIB
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trial::{QEMU_VARIABLES, Trial};

    #[test]
    fn only_versioned_machines_and_models_without_missing_features_are_told() {
        let machine = |name: &str| serde_json::from_value(serde_json::json!({"name": name})).unwrap();
        let machines = ["pc-q35-7.2", "q35", "pc-i440fx-7.2", "microvm", "none", "pc", "isapc"].map(machine);
        assert_eq!(versioned(machines.into()), ["pc-i440fx-7.2", "pc-q35-7.2"]);
        let model = |name: &str, missing: Option<&[&str]>| {
            let mut model = serde_json::json!({"name": name});
            if let Some(missing) = missing {
                model["unavailable-features"] = missing.into();
            }
            serde_json::from_value(model).unwrap()
        };
        let models = vec![
            model("qemu64", Some(&[])),
            model("EPYC", Some(&["avx512f"])),
            model("old", None),
            model("host", Some(&[])),
            model("base", None),
        ];
        assert_eq!(runnable(models), ["old", "qemu64"]);
    }

    #[tokio::test]
    async fn qemu_is_asked_and_leaves_nothing() {
        for variable in QEMU_VARIABLES {
            let trial = Trial::on(variable, None);
            let qemu = Qemu::probe(&trial.hypervisor, &trial.paths).await.unwrap();
            let has = |list: &[String], name: &str| list.iter().any(|known| known == name);
            assert!(has(&qemu.machines, "pc-q35-7.2") && !has(&qemu.machines, "q35"), "{qemu:?}");
            assert_eq!(has(&qemu.machines, "pc-q35-10.0"), qemu.version.starts_with("10."), "{qemu:?}");
            assert!(has(&qemu.cpu_models, "qemu64") && !has(&qemu.cpu_models, "host"), "{qemu:?}");
            assert_eq!(qemu.iothreads_safe, qemu.version.starts_with("10."));
            assert!(fs_err::read_dir(trial.paths.run_root()).unwrap().next().is_none(), "something was left");
        }
    }

    #[test]
    fn a_host_has_memory() {
        assert!(memory_mb() > 64);
    }
}
