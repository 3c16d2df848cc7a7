//! `POST /servers/{id}/action`: everything that a server can be asked to do, as one closed enum.
//!
//! Ground rules: a body names exactly one action. Those without parameters take any value, as Nova does, since clients send
//! `null`, `{}` or nothing sensible. `live` holds the one whose meaning changed most.
//! Sources: nova, api/openstack/compute/servers.py, migrate_server.py, evacuate.py, admin_actions.py, lock_server.py,
//! console_output.py and their schemas; api/openstack/wsgi.py, `action_peek`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    super::{fault::Fault, microversion::Microversion},
    fields::{self, Input, Key},
    server::{
        create::{disk_config, flavor_ref},
        record::DiskConfig,
    },
    values::SHORT,
};

pub mod answer;
pub mod live;
pub mod states;

use live::{LiveMigration, force};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Start,
    Stop,
    Pause,
    Unpause,
    Suspend,
    Resume,
    Unlock,
    ConfirmResize,
    RevertResize,
    Lock {
        reason: Option<String>,
    },
    Reboot(Reboot),
    ResetState(ResetTo),
    ConsoleOutput {
        /// Lines from the end; `None` for all.
        lines: Option<u32>,
    },
    CreateImage {
        name: String,
        metadata: BTreeMap<String, String>,
    },
    Resize {
        flavor: String,
        disk_config: Option<DiskConfig>,
    },
    Migrate {
        host: Option<String>,
    },
    MigrateLive(LiveMigration),
    Evacuate(Evacuation),
    /// By name or id.
    AddSecurityGroup {
        name: String,
    },
    RemoveSecurityGroup {
        name: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reboot {
    Soft,
    Hard,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetTo {
    Active,
    Error,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evacuation {
    pub host: Option<String>,
    pub admin_pass: Option<String>,
    /// Said until 2.13; later it is found out.
    pub on_shared_storage: Option<bool>,
    /// Do not ask the scheduler.
    pub forced: bool,
    /// From 2.95 the server is left shut off, before it got its state back.
    pub leave_stopped: bool,
}

/// An action and how its value is read.
type Known = (&'static str, fn(Input) -> Result<Action, Fault>);

const ACTIONS: &[Known] = &[
    ("os-start", |_| Ok(Action::Start)),
    ("os-stop", |_| Ok(Action::Stop)),
    ("pause", |_| Ok(Action::Pause)),
    ("unpause", |_| Ok(Action::Unpause)),
    ("suspend", |_| Ok(Action::Suspend)),
    ("resume", |_| Ok(Action::Resume)),
    ("unlock", |_| Ok(Action::Unlock)),
    ("confirmResize", |_| Ok(Action::ConfirmResize)),
    ("revertResize", |_| Ok(Action::RevertResize)),
    ("lock", lock),
    ("reboot", reboot),
    ("os-resetState", reset_state),
    ("os-getConsoleOutput", console_output),
    ("createImage", create_image),
    ("resize", resize),
    ("migrate", migrate),
    ("os-migrateLive", |input| live::read(input).map(Action::MigrateLive)),
    ("evacuate", evacuate),
    ("addSecurityGroup", |input| security_group(input).map(|name| Action::AddSecurityGroup { name })),
    ("removeSecurityGroup", |input| security_group(input).map(|name| Action::RemoveSecurityGroup { name })),
];

const LOCK: &[Key] = &[Key::new("locked_reason")];
const REBOOT: &[Key] = &[Key::new("type").needed()];
const RESET_STATE: &[Key] = &[Key::new("state").needed()];
const CONSOLE_OUTPUT: &[Key] = &[Key::new("length")];
const CREATE_IMAGE: &[Key] = &[Key::new("name").needed(), Key::new("metadata")];
const RESIZE: &[Key] = &[Key::new("flavorRef").needed(), Key::new("OS-DCF:diskConfig")];
const MIGRATE: &[Key] = &[Key::new("host")];
const EVACUATE: &[Key] = &[
    Key::new("host"),
    Key::new("adminPass"),
    Key::new("onSharedStorage").until(13).needed(),
    Key::new("force").since(29).until(67),
];

/// Nova looks at nothing else of it.
const SECURITY_GROUP: &[Key] = &[Key::new("name").needed()];

const REBOOTS: &[(&str, Reboot)] = &[
    ("HARD", Reboot::Hard),
    ("Hard", Reboot::Hard),
    ("hard", Reboot::Hard),
    ("SOFT", Reboot::Soft),
    ("Soft", Reboot::Soft),
    ("soft", Reboot::Soft),
];
const RESETS: &[(&str, ResetTo)] = &[("active", ResetTo::Active), ("error", ResetTo::Error)];

/// From these versions the value of an action is looked at.
const LOCK_READ_SINCE: u16 = 73;
const MIGRATE_READ_SINCE: u16 = 56;
const LEFT_STOPPED_SINCE: u16 = 95;

pub fn parse(body: &Value, at: Microversion) -> Result<Action, Fault> {
    let (name, input) = fields::action(body, at)?;
    let known = ACTIONS.iter().find(|(known, _)| *known == name);
    let (_, read) = known.ok_or_else(|| fields::no_such_action(name))?;
    read(input)
}

fn lock(input: Input) -> Result<Action, Fault> {
    if !input.since(LOCK_READ_SINCE) || input.is_null() {
        return Ok(Action::Lock { reason: None });
    }
    let reason = input.object(LOCK)?.read("locked_reason", |input| input.text(SHORT).map(str::to_owned))?;
    Ok(Action::Lock { reason })
}

fn reboot(input: Input) -> Result<Action, Fault> {
    input.object(REBOOT)?.need("type")?.choice(REBOOTS).map(Action::Reboot)
}

fn reset_state(input: Input) -> Result<Action, Fault> {
    input.object(RESET_STATE)?.need("state")?.choice(RESETS).map(Action::ResetState)
}

fn console_output(input: Input) -> Result<Action, Fault> {
    let length =
        input.object(CONSOLE_OUTPUT)?.read("length", |input| input.or_null(|input| input.integer(-1..=i64::MAX)))?;
    // -1 has no lines that fit: it means all of them.
    let lines = length.flatten().filter(|length| *length >= 0).map(|length| u32::try_from(length).unwrap_or(u32::MAX));
    Ok(Action::ConsoleOutput { lines })
}

fn create_image(input: Input) -> Result<Action, Fault> {
    let image = input.object(CREATE_IMAGE)?;
    let metadata = image.read("metadata", Input::metadata)?.unwrap_or_default();
    Ok(Action::CreateImage { name: image.need("name")?.name()?, metadata })
}

fn resize(input: Input) -> Result<Action, Fault> {
    let resize = input.object(RESIZE)?;
    let disk_config = resize.read("OS-DCF:diskConfig", disk_config)?;
    Ok(Action::Resize { flavor: flavor_ref(resize.need("flavorRef")?)?, disk_config })
}

fn migrate(input: Input) -> Result<Action, Fault> {
    if !input.since(MIGRATE_READ_SINCE) || input.is_null() {
        return Ok(Action::Migrate { host: None });
    }
    let host = input.object(MIGRATE)?.read("host", |input| input.or_null(Input::host))?.flatten();
    Ok(Action::Migrate { host })
}

fn evacuate(input: Input) -> Result<Action, Fault> {
    let evacuate = input.object(EVACUATE)?;
    let host = evacuate.read("host", Input::host)?;
    let admin_pass = evacuate.read("adminPass", |input| input.text(0..=usize::MAX).map(str::to_owned))?;
    let on_shared_storage = evacuate.read("onSharedStorage", Input::boolean)?;
    let forced = force(evacuate, host.is_some())?;
    if on_shared_storage == Some(true) && admin_pass.is_some() {
        return Err(Fault::new(400, "admin password can't be changed on existing disk"));
    }
    let leave_stopped = input.since(LEFT_STOPPED_SINCE);
    Ok(Action::Evacuate(Evacuation { host, admin_pass, on_shared_storage, forced, leave_stopped }))
}

fn security_group(input: Input) -> Result<String, Fault> {
    input.object(SECURITY_GROUP)?.need("name")?.text(SHORT).map(str::to_owned)
}

#[cfg(test)]
mod tests;
