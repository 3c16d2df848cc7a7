//! The states of a server, and the one word that most clients look at.
//!
//! Ground rules: `vm_state` is where a server rests, `task_state` what is being done to it; the status is a function of both. The
//! enums hold what this controller can bring about, not all that Nova knows.
//! Source: nova, api/openstack/common.py, `_STATE_MAP`; compute/vm_states.py and task_states.py; objects/fields.py.

use TaskState as Task;
use VmState as Vm;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VmState {
    Building,
    Active,
    Paused,
    Suspended,
    Stopped,
    Resized,
    Error,
    Deleted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskState {
    Scheduling,
    Networking,
    BlockDeviceMapping,
    Spawning,
    Rebooting,
    RebootingHard,
    Pausing,
    Unpausing,
    Suspending,
    Resuming,
    PoweringOff,
    PoweringOn,
    Migrating,
    ResizePrep,
    ResizeMigrating,
    ResizeMigrated,
    ResizeFinish,
    ResizeReverting,
    Rebuilding,
    RebuildSpawning,
    ImageSnapshot,
    ImageUploading,
    Deleting,
}

/// What the hypervisor last said; the numbers are the API's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Power {
    NoState = 0,
    Running = 1,
    Paused = 3,
    Shutdown = 4,
    Crashed = 6,
    Suspended = 7,
}

const RESIZING: &[Task] = &[Task::ResizePrep, Task::ResizeMigrating, Task::ResizeMigrated, Task::ResizeFinish];
const REBUILDING: &[Task] = &[Task::Rebuilding, Task::RebuildSpawning];

/// Where a task changes the status that the state alone would give.
const DURING: &[(&[Vm], &[Task], &str)] = &[
    (&[Vm::Active], &[Task::Rebooting], "REBOOT"),
    (&[Vm::Active], &[Task::RebootingHard], "HARD_REBOOT"),
    (&[Vm::Active, Vm::Paused], &[Task::Migrating], "MIGRATING"),
    (&[Vm::Active, Vm::Stopped], RESIZING, "RESIZE"),
    (&[Vm::Active, Vm::Stopped, Vm::Error], REBUILDING, "REBUILD"),
    (&[Vm::Resized], &[Task::ResizeReverting], "REVERT_RESIZE"),
];

/// While a server has one of these, its progress is told.
const WITH_PROGRESS: &[&str] = &["ACTIVE", "BUILD", "REBUILD", "RESIZE", "VERIFY_RESIZE", "MIGRATING"];
const WITH_FAULT: &[&str] = &["ERROR", "DELETED"];

pub fn status(vm: VmState, task: Option<TaskState>) -> &'static str {
    let applies = |(states, tasks, _): &&(&[Vm], &[Task], &str)| {
        states.contains(&vm) && task.is_some_and(|task| tasks.contains(&task))
    };
    DURING.iter().find(applies).map_or(vm.at_rest(), |(_, _, status)| status)
}

pub fn has_progress(status: &str) -> bool {
    WITH_PROGRESS.contains(&status)
}

pub fn has_fault(status: &str) -> bool {
    WITH_FAULT.contains(&status)
}

impl VmState {
    fn at_rest(self) -> &'static str {
        match self {
            Vm::Building => "BUILD",
            Vm::Active => "ACTIVE",
            Vm::Paused => "PAUSED",
            Vm::Suspended => "SUSPENDED",
            Vm::Stopped => "SHUTOFF",
            Vm::Resized => "VERIFY_RESIZE",
            Vm::Error => "ERROR",
            Vm::Deleted => "DELETED",
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Vm::Building => "building",
            Vm::Active => "active",
            Vm::Paused => "paused",
            Vm::Suspended => "suspended",
            Vm::Stopped => "stopped",
            Vm::Resized => "resized",
            Vm::Error => "error",
            Vm::Deleted => "deleted",
        }
    }
}

impl TaskState {
    pub fn name(self) -> &'static str {
        match self {
            Task::Scheduling => "scheduling",
            Task::Networking => "networking",
            Task::BlockDeviceMapping => "block_device_mapping",
            Task::Spawning => "spawning",
            Task::Rebooting => "rebooting",
            Task::RebootingHard => "rebooting_hard",
            Task::Pausing => "pausing",
            Task::Unpausing => "unpausing",
            Task::Suspending => "suspending",
            Task::Resuming => "resuming",
            Task::PoweringOff => "powering-off",
            Task::PoweringOn => "powering-on",
            Task::Migrating => "migrating",
            Task::ResizePrep => "resize_prep",
            Task::ResizeMigrating => "resize_migrating",
            Task::ResizeMigrated => "resize_migrated",
            Task::ResizeFinish => "resize_finish",
            Task::ResizeReverting => "resize_reverting",
            Task::Rebuilding => "rebuilding",
            Task::RebuildSpawning => "rebuild_spawning",
            Task::ImageSnapshot => "image_snapshot",
            Task::ImageUploading => "image_uploading",
            Task::Deleting => "deleting",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_follows_from_both_states() {
        let check = |vm, task: Option<Task>, want: &str| assert_eq!(status(vm, task), want, "{vm:?} {task:?}");
        check(Vm::Active, None, "ACTIVE");
        check(Vm::Active, Some(Task::Migrating), "MIGRATING");
        check(Vm::Paused, Some(Task::Migrating), "MIGRATING");
        check(Vm::Suspended, Some(Task::Migrating), "SUSPENDED");
        check(Vm::Active, Some(Task::PoweringOff), "ACTIVE");
        check(Vm::Active, Some(Task::Rebooting), "REBOOT");
        check(Vm::Stopped, Some(Task::PoweringOn), "SHUTOFF");
        check(Vm::Stopped, Some(Task::ResizeFinish), "RESIZE");
        check(Vm::Error, Some(Task::Rebuilding), "REBUILD");
        check(Vm::Resized, None, "VERIFY_RESIZE");
        check(Vm::Resized, Some(Task::ResizeReverting), "REVERT_RESIZE");
        check(Vm::Active, Some(Task::ResizeReverting), "ACTIVE");
        check(Vm::Building, Some(Task::Spawning), "BUILD");
        check(Vm::Deleted, Some(Task::Deleting), "DELETED");
    }

    #[test]
    fn progress_and_fault_belong_to_a_status() {
        let check = |status, want| assert_eq!((has_progress(status), has_fault(status)), want, "{status}");
        check("ACTIVE", (true, false));
        check("MIGRATING", (true, false));
        check("PAUSED", (false, false));
        check("SHUTOFF", (false, false));
        check("ERROR", (false, true));
        check("DELETED", (false, true));
    }
}
