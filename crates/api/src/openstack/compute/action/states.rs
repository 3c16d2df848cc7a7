//! From which states an action may begin.
//!
//! | action | server is |
//! |---|---|
//! | os-start | stopped |
//! | os-stop | active, error |
//! | pause · suspend · unpause · resume | active · active · paused · suspended |
//! | soft reboot | active; a hard one also from stopped, paused, suspended, error |
//! | os-migrateLive | active, paused |
//! | migrate, resize | active, stopped |
//! | evacuate | active, stopped, error |
//! | confirmResize, revertResize | resized |
//! | createImage | active, stopped, paused, suspended |
//!
//! Ground rules: nothing begins while something else is being done, but for an evacuation: what is being done waits for the lost
//! host, and is over with it; who is no administrator does nothing to a locked server.
//! Source: nova, compute/api.py, `check_instance_state` of each call.

use super::{
    super::{
        super::fault::Fault,
        server::state::{TaskState, VmState},
    },
    Action, Reboot,
};

/// What of a server decides.
#[derive(Clone, Copy, Debug)]
pub struct Now<'a> {
    pub id: &'a str,
    pub vm_state: VmState,
    pub task_state: Option<TaskState>,
    pub locked: bool,
}

impl Action {
    /// As bodies and errors name it.
    pub fn name(&self) -> &'static str {
        match self {
            Action::Start => "start",
            Action::Stop => "stop",
            Action::Pause => "pause",
            Action::Unpause => "unpause",
            Action::Suspend => "suspend",
            Action::Resume => "resume",
            Action::Lock { .. } => "lock",
            Action::Unlock => "unlock",
            Action::Reboot(_) => "reboot",
            Action::ResetState(_) => "os-resetState",
            Action::ConsoleOutput { .. } => "os-getConsoleOutput",
            Action::CreateImage { .. } => "createImage",
            Action::Resize { .. } => "resize",
            Action::ConfirmResize => "confirmResize",
            Action::RevertResize => "revertResize",
            Action::Migrate { .. } => "migrate",
            Action::MigrateLive(_) => "os-migrateLive",
            Action::Evacuate(_) => "evacuate",
            Action::AddSecurityGroup { .. } => "addSecurityGroup",
            Action::RemoveSecurityGroup { .. } => "removeSecurityGroup",
        }
    }

    /// `None`: from any, whatever is being done.
    fn begins_from(&self) -> Option<&'static [VmState]> {
        use VmState::{Active, Error, Paused, Resized, Stopped, Suspended};
        match self {
            Action::Start => Some(&[Stopped]),
            Action::Stop => Some(&[Active, Error]),
            Action::Pause | Action::Suspend | Action::Reboot(Reboot::Soft) => Some(&[Active]),
            Action::Unpause => Some(&[Paused]),
            Action::Resume => Some(&[Suspended]),
            Action::Reboot(Reboot::Hard) => Some(&[Active, Stopped, Paused, Suspended, Error]),
            Action::MigrateLive(_) => Some(&[Active, Paused]),
            Action::Migrate { .. } | Action::Resize { .. } => Some(&[Active, Stopped]),
            Action::ConfirmResize | Action::RevertResize => Some(&[Resized]),
            Action::Evacuate(_) => Some(&[Active, Stopped, Error]),
            Action::CreateImage { .. } => Some(&[Active, Stopped, Paused, Suspended]),
            Action::Lock { .. }
            | Action::Unlock
            | Action::ResetState(_)
            | Action::ConsoleOutput { .. }
            | Action::AddSecurityGroup { .. }
            | Action::RemoveSecurityGroup { .. } => None,
        }
    }

    /// A lock keeps these from who is no administrator.
    fn is_kept_by_lock(&self) -> bool {
        match self {
            Action::Start
            | Action::Stop
            | Action::Pause
            | Action::Unpause
            | Action::Suspend
            | Action::Resume
            | Action::Reboot(_)
            | Action::Resize { .. }
            | Action::ConfirmResize
            | Action::RevertResize
            | Action::Migrate { .. }
            | Action::MigrateLive(_)
            | Action::Evacuate(_) => true,
            Action::Lock { .. }
            | Action::Unlock
            | Action::ResetState(_)
            | Action::ConsoleOutput { .. }
            | Action::AddSecurityGroup { .. }
            | Action::RemoveSecurityGroup { .. }
            | Action::CreateImage { .. } => false,
        }
    }

    /// Whether it may begin now; 409 with Nova's words if not.
    pub fn may_begin(&self, now: &Now, is_admin: bool) -> Result<(), Fault> {
        if now.locked && !is_admin && self.is_kept_by_lock() {
            return Err(locked(now.id));
        }
        let waits = matches!(self, Action::Evacuate(_)) && now.task_state.is_none_or(waits_for_its_host);
        let now = Now { task_state: now.task_state.filter(|_| !waits), ..*now };
        match self.begins_from() {
            Some(states) => begins_from(self.name(), states, &now),
            None => Ok(()),
        }
    }
}

fn waits_for_its_host(task: TaskState) -> bool {
    match task {
        TaskState::Rebooting
        | TaskState::RebootingHard
        | TaskState::Pausing
        | TaskState::Unpausing
        | TaskState::Suspending
        | TaskState::Resuming
        | TaskState::PoweringOff
        | TaskState::PoweringOn
        | TaskState::ImageSnapshot
        | TaskState::ImageUploading => true,
        TaskState::Scheduling
        | TaskState::Networking
        | TaskState::BlockDeviceMapping
        | TaskState::Spawning
        | TaskState::Migrating
        | TaskState::ResizePrep
        | TaskState::ResizeMigrating
        | TaskState::ResizeMigrated
        | TaskState::ResizeFinish
        | TaskState::ResizeReverting
        | TaskState::Rebuilding
        | TaskState::RebuildSpawning
        | TaskState::Deleting => false,
    }
}

pub fn locked(id: &str) -> Fault {
    Fault::new(409, format!("Instance {id} is locked"))
}

/// Also for what is no action: metadata, tags, an interface.
pub fn begins_from(what: &str, states: &[VmState], now: &Now) -> Result<(), Fault> {
    let refused = |kind: &str, state: &str| {
        Err(Fault::new(409, format!("Cannot '{what}' instance {} while it is in {kind} {state}", now.id)))
    };
    match (states.contains(&now.vm_state), now.task_state) {
        (false, _) => refused("vm_state", now.vm_state.name()),
        (true, Some(task)) => refused("task_state", task.name()),
        (true, None) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            Evacuation,
            live::{BlockMigration, LiveMigration, Prechecks},
        },
        *,
    };

    fn live() -> Action {
        Action::MigrateLive(LiveMigration {
            host: None,
            block_migration: BlockMigration::Auto,
            disk_over_commit: None,
            forced: false,
            prechecks: Prechecks::AfterAnswer,
        })
    }

    #[test]
    fn an_action_begins_from_its_states_and_while_nothing_else_is_done() {
        let check = |action: &Action, vm_state, task_state, want: Option<&str>| {
            let now = Now { id: "i", vm_state, task_state, locked: false };
            let got = action.may_begin(&now, false).err();
            assert_eq!(got.as_ref().map(|fault| (fault.status, fault.message.as_str())), want.map(|text| (409, text)));
        };
        check(&live(), VmState::Active, None, None);
        check(&live(), VmState::Paused, None, None);
        let suspended = "Cannot 'os-migrateLive' instance i while it is in vm_state suspended";
        check(&live(), VmState::Suspended, None, Some(suspended));
        let busy = "Cannot 'os-migrateLive' instance i while it is in task_state migrating";
        check(&live(), VmState::Active, Some(TaskState::Migrating), Some(busy));
        check(&Action::Start, VmState::Active, None, Some("Cannot 'start' instance i while it is in vm_state active"));
        check(&Action::Stop, VmState::Active, None, None);
        check(&Action::Reboot(Reboot::Hard), VmState::Error, None, None);
        check(
            &Action::Reboot(Reboot::Soft),
            VmState::Stopped,
            None,
            Some("Cannot 'reboot' instance i while it is in vm_state stopped"),
        );
        check(&Action::Lock { reason: None }, VmState::Building, Some(TaskState::Spawning), None);
        check(&Action::Migrate { host: None }, VmState::Stopped, None, None);
        check(&Action::ConfirmResize, VmState::Resized, None, None);
        let (host, admin_pass, on_shared_storage) = (None, None, None);
        let lost = Evacuation { host, admin_pass, on_shared_storage, forced: false, leave_stopped: true };
        let lost = Action::Evacuate(lost);
        check(&lost, VmState::Active, Some(TaskState::PoweringOff), None);
        let moving = "Cannot 'evacuate' instance i while it is in task_state migrating";
        check(&lost, VmState::Active, Some(TaskState::Migrating), Some(moving));
        let suspended = "Cannot 'evacuate' instance i while it is in vm_state suspended";
        check(&lost, VmState::Suspended, None, Some(suspended));
    }

    #[test]
    fn a_lock_holds_for_all_but_administrators() {
        let now = Now { id: "i", vm_state: VmState::Active, task_state: None, locked: true };
        let check = |action: &Action, member: bool| {
            assert_eq!(action.may_begin(&now, false).is_ok(), member, "{}", action.name());
            assert!(action.may_begin(&now, true).is_ok(), "{}", action.name());
        };
        check(&Action::Stop, false);
        check(&live(), false);
        check(&Action::Unlock, true);
        check(&Action::ConsoleOutput { lines: None }, true);
    }
}
