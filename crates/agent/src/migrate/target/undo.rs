//! Leaves nothing of an incoming move behind: QEMU, storage daemon, taps, files.
//!
//! Ground rules: returns only when this move's QEMU is surely gone, for then the source may let the guest run; works after
//! a restart of the agent too, from pid files; a retained copy goes back to where it was.

use std::{sync::Arc, time::Duration};

use whimbrel_core::{failure::Failure, migration::target::Event};

use super::{road::Road, shared};
use crate::{network, storage::daemon, vm::process::Vm};

const QUIT_TIME_MAX: Duration = Duration::from_secs(3);
const AGAIN: Duration = Duration::from_millis(500);

pub async fn undo(road: &Arc<Road>) -> Event {
    road.cancel.cancel();
    road.jobs.close();
    // A job may be between the start of a process and its record.
    road.jobs.wait().await;
    while let Err(failure) = once(road).await {
        tracing::error!(migration = %road.ask.migration, %failure, "not everything of the move could be taken away yet");
        tokio::time::sleep(AGAIN).await;
    }
    Event::UndoFinished
}

async fn once(road: &Arc<Road>) -> Result<(), Failure> {
    let id = road.ask.spec.id;
    let mut work = road.work.lock().await;
    work.receiver = None;
    work.pools.clear();
    if let Some(vm) = work.vm.take() {
        vm.quit(QUIT_TIME_MAX).await?;
    }
    if let Some(daemon) = work.daemon.take() {
        daemon.quit(QUIT_TIME_MAX).await?;
    }
    work.taps.clear();
    drop(work);
    let paths = &road.context.paths;
    if road.ask.storage.is_shared() {
        shared::undo(road, QUIT_TIME_MAX).await?;
    }
    if let Some(vm) = Vm::attach(&paths.run_dir(id)).await? {
        vm.quit(QUIT_TIME_MAX).await?;
    }
    daemon::kill_stale(&paths.run_dir_of(road.ask.migration)).await?;
    for tap in network::tap_names(&road.ask.spec) {
        network::delete(&tap).await?;
    }
    if road.with_known(|known| known.took_retained) {
        road.context.instances.put_back_retained(id, road.ask.migration).await?;
    }
    road.context.instances.drop_incoming(road.ask.migration).await
}
