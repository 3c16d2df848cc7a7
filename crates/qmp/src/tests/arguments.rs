//! What each typed command puts on the wire.

use std::path::Path;

use serde_json::{Value, json};

use super::Pair;
use crate::fake::{Act, Script};
use crate::{
    AnnounceRounds, BitmapAdd, BitmapMerge, BitmapName, BitmapSource, ExportDelMode, IoThrottle, MigrationStatus,
    NbdExport, Qmp, Result, ThrottleLimits, TransactionAction,
};

/// Runs `call` and compares the one request that it makes.
async fn check(call: impl AsyncFnOnce(Qmp) -> Result<()>, command: &str, arguments: Value) {
    let pair = Pair::new(Script::new().on(command, [Act::done()])).await;
    call(pair.qmp.clone()).await.unwrap_or_else(|error| panic!("{command}: {error}"));
    let requests = pair.fake.requests();
    assert_eq!(requests.len(), 1, "{requests:?}");
    assert_eq!((requests[0].command.as_str(), &requests[0].arguments), (command, &arguments));
    assert!(!requests[0].oob);
}

#[tokio::test]
async fn migration_commands() {
    let set = json!({ "capabilities": [
        { "capability": "events", "state": true }, { "capability": "multifd", "state": false } ] });
    let capabilities = [("events", true), ("multifd", false)];
    check(async |q| q.migrate_set_capabilities(&capabilities).await, "migrate-set-capabilities", set).await;
    let parameters = json!({ "max-bandwidth": 0 });
    let same = parameters.clone();
    check(async |q| q.migrate_set_parameters(parameters).await, "migrate-set-parameters", same).await;
    check(async |q| q.migrate("unix:/m").await, "migrate", json!({ "uri": "unix:/m" })).await;
    let plain = json!({ "uri": "unix:/m" });
    check(async |q| q.migrate_incoming("unix:/m", None).await, "migrate-incoming", plain).await;
    let kept = json!({ "uri": "unix:/m", "exit-on-error": false });
    check(async |q| q.migrate_incoming("unix:/m", Some(false)).await, "migrate-incoming", kept).await;
    check(async |q| q.migrate_cancel().await, "migrate_cancel", Value::Null).await;
    let state = json!({ "state": "pre-switchover" });
    let go_on = async |q: Qmp| q.migrate_continue(&MigrationStatus::PreSwitchover).await;
    check(go_on, "migrate-continue", state).await;
    let rounds = json!({ "initial": 50, "max": 550, "rounds": 5, "step": 100 });
    check(async |q| q.announce_self(AnnounceRounds::default()).await, "announce-self", rounds).await;
}

#[tokio::test]
async fn block_commands() {
    let active = json!({ "node-name": "d0", "active": true });
    check(async |q| q.blockdev_set_active("d0", true).await, "blockdev-set-active", active).await;
    check(async |q| q.blockdev_del("d0").await, "blockdev-del", json!({ "node-name": "d0" })).await;
    let size = json!({ "node-name": "d0", "size": 4096 });
    check(async |q| q.block_resize("d0", 4096).await, "block_resize", size).await;
    let throttle = IoThrottle { id: "vd0".to_owned(), bps_wr: 7, ..IoThrottle::default() };
    let limits = json!({ "id": "vd0", "bps": 0, "bps_rd": 0, "bps_wr": 7, "iops": 0, "iops_rd": 0, "iops_wr": 0 });
    check(async |q| q.block_set_io_throttle(&throttle).await, "block_set_io_throttle", limits).await;
    let group = ThrottleLimits { bps_write: 9, ..ThrottleLimits::default() };
    let value = json!({ "bps-total": 0, "bps-read": 0, "bps-write": 9,
                        "iops-total": 0, "iops-read": 0, "iops-write": 0 });
    let set = json!({ "path": "/objects/tg0", "property": "limits", "value": value });
    check(async |q| q.throttle_group_set("tg0", &group).await, "qom-set", set).await;
    let link = json!({ "name": "net0", "up": false });
    check(async |q| q.set_link("net0", false).await, "set_link", link).await;
}

#[tokio::test]
async fn export_commands() {
    let start = json!({ "addr": { "type": "unix", "data": { "path": "/run/nbd" } }, "max-connections": 8 });
    check(async |q| q.nbd_server_start(Path::new("/run/nbd"), 8).await, "nbd-server-start", start).await;
    let bare = NbdExport { id: "x".to_owned(), node_name: "d0".to_owned(), ..NbdExport::default() };
    let wire = json!({ "type": "nbd", "id": "x", "node-name": "d0", "writable": false });
    check(async |q| q.block_export_add(&bare).await, "block-export-add", wire).await;
    let full = NbdExport {
        name: Some("disk".to_owned()),
        writable: true,
        bitmaps: vec![BitmapSource::Here("b0".to_owned()), BitmapSource::Of(BitmapName::new("d1", "b1"))],
        allocation_depth: true,
        allow_inactive: true,
        ..bare.clone()
    };
    let wire = json!({ "type": "nbd", "id": "x", "node-name": "d0", "name": "disk", "writable": true,
                       "bitmaps": ["b0", { "node": "d1", "name": "b1" }],
                       "allocation-depth": true, "allow-inactive": true });
    check(async |q| q.block_export_add(&full).await, "block-export-add", wire).await;
    let del = json!({ "id": "x", "mode": "hard" });
    check(async |q| q.block_export_del("x", ExportDelMode::Hard).await, "block-export-del", del).await;
}

#[tokio::test]
async fn a_round_is_one_transaction() {
    let b = |name: &str| BitmapName::new("d0", name);
    let actions = vec![
        TransactionAction::BitmapAdd(BitmapAdd::recording("d0", "b1", 4096)),
        TransactionAction::BitmapDisable(b("b0")),
        TransactionAction::BitmapAdd(BitmapAdd::disabled("n0", "x", 4096)),
        TransactionAction::BitmapMerge(BitmapMerge {
            node: "n0".to_owned(),
            target: "x".to_owned(),
            bitmaps: vec![BitmapSource::Of(b("b0"))],
        }),
        TransactionAction::BitmapEnable(b("b0")),
        TransactionAction::BitmapClear(b("b0")),
        TransactionAction::BitmapRemove(b("b0")),
    ];
    let b0 = json!({ "node": "d0", "name": "b0" });
    let add = |node: &str, name: &str, disabled: bool| json!({ "node": node, "name": name, "granularity": 4096, "persistent": false, "disabled": disabled });
    let wire = json!({ "actions": [
        { "type": "block-dirty-bitmap-add", "data": add("d0", "b1", false) },
        { "type": "block-dirty-bitmap-disable", "data": b0 },
        { "type": "block-dirty-bitmap-add", "data": add("n0", "x", true) },
        { "type": "block-dirty-bitmap-merge", "data": { "node": "n0", "target": "x", "bitmaps": [b0] } },
        { "type": "block-dirty-bitmap-enable", "data": b0 },
        { "type": "block-dirty-bitmap-clear", "data": b0 },
        { "type": "block-dirty-bitmap-remove", "data": b0 },
    ] });
    check(async |q| q.transaction(actions).await, "transaction", wire).await;
}
