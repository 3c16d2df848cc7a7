//! `os-migrateLive`: the request that this product exists for.
//!
//! | version | host without `force` | disk_over_commit | block_migration | prechecks |
//! |---|---|---|---|---|
//! | 2.1 | forced | said | yes, no | before the answer |
//! | 2.25 | forced | unknown | yes, no, auto | before the answer |
//! | 2.30 | scheduler asked; `force` forces | unknown | yes, no, auto | before the answer |
//! | 2.34 | same | unknown | yes, no, auto | after it |
//! | 2.68 | scheduler asked, nothing forces | unknown | yes, no, auto | after it |
//!
//! Source: nova, api/openstack/compute/migrate_server.py and schemas/migrate_server.py.

use super::super::{
    super::fault::Fault,
    fields::{Input, Key, Object},
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveMigration {
    /// `None` has one chosen.
    pub host: Option<String>,
    pub block_migration: BlockMigration,
    /// `None` from 2.25: nothing is said of it.
    pub disk_over_commit: Option<bool>,
    /// The host is taken as it is, without the scheduler.
    pub forced: bool,
    pub prechecks: Prechecks,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockMigration {
    Yes,
    No,
    /// As the disks need it.
    Auto,
}

/// When a client learns that a move is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prechecks {
    /// In the answer, with status 400.
    BeforeAnswer,
    /// In the instance's actions, after a 202.
    AfterAnswer,
}

const LIVE: &[Key] = &[
    Key::new("host").needed(),
    Key::new("block_migration").needed(),
    Key::new("disk_over_commit").until(24).needed(),
    Key::new("force").since(30).until(67),
];

const AUTO_SINCE: u16 = 25;
/// Before this version a host that is named is a host that is forced.
const SCHEDULED_SINCE: u16 = 30;
const CHECKED_AFTER_SINCE: u16 = 34;

pub(super) fn read(input: Input) -> Result<LiveMigration, Fault> {
    let live = input.object(LIVE)?;
    let host = live.need("host")?.or_null(Input::host)?;
    let named = host.is_some();
    let prechecks = if input.since(CHECKED_AFTER_SINCE) { Prechecks::AfterAnswer } else { Prechecks::BeforeAnswer };
    Ok(LiveMigration {
        block_migration: block_migration(live.need("block_migration")?)?,
        disk_over_commit: live.read("disk_over_commit", Input::boolean)?,
        forced: force(live, named)? || (named && !input.since(SCHEDULED_SINCE)),
        prechecks,
        host,
    })
}

fn block_migration(input: Input) -> Result<BlockMigration, Fault> {
    if input.since(AUTO_SINCE) && input.word() == Some("auto") {
        return Ok(BlockMigration::Auto);
    }
    Ok(if input.boolean()? { BlockMigration::Yes } else { BlockMigration::No })
}

/// The `force` of a move or an evacuation, which needs a host.
pub(super) fn force(object: Object, host_is_named: bool) -> Result<bool, Fault> {
    let force = object.read("force", Input::boolean)?.unwrap_or(false);
    match force && !host_is_named {
        true => Err(Fault::new(400, "Can't force to a non-provided destination")),
        false => Ok(force),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::super::super::microversion::Microversion, *};
    use serde_json::{Value, json};

    fn at(minor: u16, body: Value) -> Result<LiveMigration, Fault> {
        read(Input::body(&body, Microversion::v2(minor)))
    }

    #[test]
    fn the_same_words_mean_something_else_at_every_step() {
        use BlockMigration::{Auto, No, Yes};
        use Prechecks::{AfterAnswer, BeforeAnswer};
        let check = |minor, body: Value, block_migration, disk_over_commit, forced, prechecks| {
            let host = body["host"].as_str().map(str::to_owned);
            let want = LiveMigration { host, block_migration, disk_over_commit, forced, prechecks };
            assert_eq!(at(minor, body.clone()), Ok(want), "{body} at 2.{minor}");
        };
        let old = |host: Value| json!({"host": host, "block_migration": true, "disk_over_commit": "False"});
        check(1, old(json!("cn2")), Yes, Some(false), true, BeforeAnswer);
        check(24, old(json!("cn2")), Yes, Some(false), true, BeforeAnswer);
        check(24, old(json!(null)), Yes, Some(false), false, BeforeAnswer);
        let new = |host: Value| json!({"host": host, "block_migration": "auto"});
        check(25, new(json!("cn2")), Auto, None, true, BeforeAnswer);
        check(29, new(json!("cn2")), Auto, None, true, BeforeAnswer);
        check(30, new(json!("cn2")), Auto, None, false, BeforeAnswer);
        check(33, new(json!("cn2")), Auto, None, false, BeforeAnswer);
        check(34, new(json!("cn2")), Auto, None, false, AfterAnswer);
        check(96, new(json!(null)), Auto, None, false, AfterAnswer);
        let forced = |force: Value| json!({"host": "cn2", "block_migration": "no", "force": force});
        check(30, forced(json!("on")), No, None, true, BeforeAnswer);
        check(67, forced(json!(true)), No, None, true, AfterAnswer);
        check(67, forced(json!(false)), No, None, false, AfterAnswer);
    }

    #[test]
    fn what_a_version_does_not_know_is_refused() {
        let check = |minor, body: Value, want: &str| {
            let fault = at(minor, body.clone()).expect_err(want);
            assert!(fault.status == 400 && fault.message.contains(want), "{body} at 2.{minor}: {}", fault.message);
        };
        let old = json!({"host": null, "block_migration": true, "disk_over_commit": false});
        check(25, old, "('disk_over_commit' was unexpected)");
        check(24, json!({"host": null, "block_migration": true}), "'disk_over_commit' is a required property");
        check(24, json!({"host": null, "block_migration": "auto", "disk_over_commit": false}), "'auto' is not one of");
        let forced = json!({"host": "cn2", "block_migration": true, "force": true});
        check(29, forced.clone(), "('force' was unexpected)");
        check(68, forced, "('force' was unexpected)");
        let nowhere = json!({"host": null, "block_migration": true, "force": true});
        check(30, nowhere, "Can't force to a non-provided destination");
        check(96, json!({"block_migration": true}), "'host' is a required property");
        check(96, json!({"host": "", "block_migration": true}), "'' should be non-empty");
        check(96, json!({"host": "cn 2", "block_migration": true}), "'cn 2' does not match");
        check(96, json!({"host": "cn2", "block_migration": null}), "None is not one of");
        check(96, json!(null), "None is not of type 'object'");
    }
}
