//! The target's QEMU: started late and paused (`-S -incoming defer`), fed with the source's RAM stream.
//!
//! Ground rules: it opens the images inactive, so the storage daemon beside it goes on writing; its tap exists but is down,
//! for QEMU announces the guest before anybody decided that it may run here; below 10.0 `late-block-activate` stays off,
//! so the disks are active at the end of the load and a bitmap can be armed before `cont`; but not where the files are the
//! source's too: there it would lock them before COMMIT, and the source could not take them back.

use std::sync::Arc;

use serde_json::json;
use tokio::net::UnixStream;
use whimbrel_core::failure::{Failure, FailureCode};
use whimbrel_transfer::{counters::TunnelCounters, ram::tunnel};

use super::road::Road;
use crate::{
    hold::Place,
    migrate::{link::FromTarget, source::road::of_qmp},
    network,
    paths::disk_file,
    vm::process::{StartSpec, Vm},
};

/// Starts QEMU and says `QemuReady`; the RAM stream is joined to it when it comes.
pub async fn start(road: &Arc<Road>) -> Result<(), Failure> {
    let spec = road
        .with_known(|known| known.spec.clone())
        .ok_or_else(|| Failure::new(FailureCode::Internal, "the source wants QEMU before its disks were accepted"))?;
    let taps = network::create_all(&spec, road.context.config.qemu_user).await?;
    road.work.lock().await.taps = taps.clone();
    let dir = road.disks_dir();
    let disks = spec
        .disks
        .iter()
        .map(|disk| (disk.name.clone(), dir.join(disk_file(&disk.name, disk.format)), disk.format))
        .collect();
    let paths = &road.context.paths;
    let start = StartSpec {
        run_dir: paths.run_dir(spec.id),
        images_dir: paths.images(),
        spec,
        dir,
        incoming: true,
        disks,
        taps,
    };
    let vm = Arc::new(Vm::start(&road.context.hypervisor, start).await?);
    road.context.holds.at(Place::QemuStarts).await;
    road.work.lock().await.vm = Some(vm.clone());
    let qmp = vm.qmp().clone();
    let late = road.ask.storage.is_shared();
    let capabilities = [("events", true), ("return-path", true), ("late-block-activate", late)]
        .map(|(name, state)| json!({"capability": name, "state": state}));
    qmp.execute("migrate-set-capabilities", json!({"capabilities": capabilities})).await.map_err(of_qmp)?;
    let socket = road.context.paths.run_dir(road.ask.spec.id).join("ram-in.sock");
    let _ = fs_err::remove_file(&socket);
    let mut arguments = json!({"uri": format!("unix:{}", socket.display())});
    if vm.features().has_exit_on_error {
        arguments["exit-on-error"] = json!(false);
    }
    qmp.execute("migrate-incoming", arguments).await.map_err(of_qmp)?;
    watch(road, &vm);
    join_ram(road, socket);
    road.tell(FromTarget::QemuReady).await
}

/// A failed load on 7.2 is told only on stderr and by the exit.
fn watch(road: &Arc<Road>, vm: &Arc<Vm>) {
    let (road, vm) = (road.clone(), vm.clone());
    tokio::spawn(async move {
        let ended = tokio::select! {
            ended = vm.exited() => ended,
            () = road.cancel.cancelled() => return,
        };
        road.fail(vm.death(ended)).await;
    });
}

fn join_ram(road: &Arc<Road>, socket: std::path::PathBuf) {
    let road = road.clone();
    tokio::spawn(async move {
        let joined = tokio::select! {
            joined = carry(&road, &socket) => joined,
            () = road.cancel.cancelled() => return,
        };
        if let Err(failure) = joined {
            road.fail(failure).await;
        }
    });
}

async fn carry(road: &Road, socket: &std::path::Path) -> Result<(), Failure> {
    let link = road.arrivals.ram().await;
    let qemu = UnixStream::connect(socket).await.map_err(|error| {
        Failure::new(FailureCode::QemuFailed, format!("cannot connect to {}: {error}", socket.display()))
    })?;
    let counters = TunnelCounters::default();
    tunnel(road.ask.migration, qemu, link, &counters).await.map_err(|error| error.failure())
}
