//! Replies of several releases, and of none, read into the types.

use serde_json::{Value, json};

use super::Pair;
use crate::fake::{Act, Script};
use crate::{Features, JobStatus, MigrationStatus, Qmp, Schema, YankInstance};

/// A client of a QEMU that returns `reply` to `command`.
async fn client(command: &str, reply: Value) -> (Qmp, Pair) {
    let pair = Pair::new(Script::new().on(command, [Act::ret(reply)])).await;
    (pair.qmp.clone(), pair)
}

#[tokio::test]
async fn migration_progress() {
    let (qmp, _pair) = client("query-migrate", json!({})).await;
    let none = qmp.query_migrate().await.expect("a reply");
    assert_eq!((none.status, none.ram, none.blocked_reasons.len()), (MigrationStatus::None, None, 0));

    let ram = json!({ "total": 1 << 30, "remaining": -1, "transferred": 4096.0, "dirty-pages-rate": 3,
                      "page-size": 4096, "mbps": 12.5, "dirty-sync-count": 2, "quantum": {} });
    let reply = json!({ "status": "teleporting", "ram": ram, "expected-downtime": -1, "total-time": 7,
                        "blocked-reasons": ["vfio"], "vfio": { "transferred": 1 } });
    let (qmp, _pair) = client("query-migrate", reply).await;
    let info = qmp.query_migrate().await.expect("a reply");
    assert_eq!(info.status, MigrationStatus::Other("teleporting".to_owned()));
    assert!(!info.status.is_over());
    assert_eq!((info.expected_downtime, info.total_time, info.downtime), (Some(0), Some(7), None));
    assert_eq!(info.blocked_reasons, ["vfio"]);
    let ram = info.ram.expect("progress");
    assert_eq!((ram.total, ram.remaining, ram.transferred), (1 << 30, 0, 4096));
    assert_eq!((ram.dirty_bytes_rate(), ram.dirty_sync_count), (12288, 2));
    assert!((ram.mbps - 12.5).abs() < f64::EPSILON);
}

#[tokio::test]
async fn capabilities_of_any_release() {
    let list = json!([{ "capability": "compress", "state": false }, { "capability": "warp", "state": true }]);
    let (qmp, _pair) = client("query-migrate-capabilities", list).await;
    let got = qmp.query_migrate_capabilities().await.expect("a reply");
    assert_eq!(got.into_iter().collect::<Vec<_>>(), [("compress".to_owned(), false), ("warp".to_owned(), true)]);
}

#[tokio::test]
async fn jobs_of_any_release() {
    // 7.2 tells no `actively-synced`, which strict clients trip over.
    let mirror = json!({ "type": "mirror", "device": "j0", "status": "standby", "busy": true, "len": 9, "offset": 4,
                         "io-status": "ok", "speed": 0, "ready": true, "auto-finalize": true });
    let odd = json!({ "type": "teleport", "device": "j1", "status": "dreaming" });
    let (qmp, _pair) = client("query-block-jobs", json!([mirror, odd])).await;
    let jobs = qmp.query_block_jobs().await.expect("a reply");
    assert_eq!((jobs[0].actively_synced, jobs[0].len - jobs[0].offset), (None, 5));
    assert!(!jobs[0].is_at_rest(), "standby but busy is somebody's drain");
    assert_eq!(jobs[1].status, JobStatus::Other("dreaming".to_owned()));
}

#[tokio::test]
async fn yank_instances_of_any_release() {
    let list = json!([{ "type": "block-node", "node-name": "n" }, { "type": "wormhole", "id": "w" }]);
    let (qmp, _pair) = client("query-yank", list).await;
    let got = qmp.query_yank().await.expect("a reply");
    assert_eq!(got, [YankInstance::BlockNode { node_name: "n".to_owned() }]);
}

#[test]
fn features_come_from_the_schema() {
    let command =
        |name: &str, of: &str| json!({ "name": name, "meta-type": "command", "arg-type": of, "ret-type": "0" });
    let object = |name: &str, members: &[&str]| {
        let members: Vec<Value> = members.iter().map(|name| json!({ "name": name, "type": "str" })).collect();
        json!({ "name": name, "meta-type": "object", "members": members })
    };
    let schema = Schema::parse(vec![
        command("migrate-incoming", "7"),
        command("migrate", "8"),
        command("block-job-change", "404"),
        object("7", &["uri", "exit-on-error"]),
        object("8", &["uri"]),
        // Not commands, though named like them.
        object("blockdev-set-active", &[]),
        json!({ "name": "9", "meta-type": "alternate", "members": [{ "type": "7" }] }),
        json!({ "name": "10", "meta-type": "from-the-future" }),
        json!(["no entry at all"]),
    ]);
    let want =
        Features { has_exit_on_error: true, has_block_job_change: true, has_migrate: true, ..Features::default() };
    assert_eq!(Features::of(&schema), want);
}
