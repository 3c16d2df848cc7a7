//! Real QEMU of both ends of the supported range. Machine `none` has neither firmware nor CPUs, so a process is up in
//! a tenth of a second and its block layer, monitors and migration are the real ones.

use std::path::PathBuf;
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::process::{Child, Command};

use super::{PATIENCE, SHORT};
use crate::{
    BitmapAdd, BitmapMerge, BitmapName, BitmapSource, CloseReason, ExportDelMode, Features, MigrationStatus, NbdExport,
    Oob, Qmp, QmpError, RunState, TransactionAction, YankInstance, known_bugs,
};

const QEMU_72: &str = "WHIMBREL_QEMU_72";
const QEMU_100: &str = "WHIMBREL_QEMU_100";

const MIB: u64 = 1 << 20;
const GRANULE: u32 = 64 << 10;

fn binary(variable: &str, name: &str) -> PathBuf {
    let directory = std::env::var_os(variable).unwrap_or_else(|| {
        panic!("{variable} must name the directory of QEMU's binaries: run `./x test`, which unpacks them and sets it")
    });
    PathBuf::from(directory).join(name)
}

/// A process with a monitor, killed when the test ends.
struct Real {
    qmp: Qmp,
    process: Child,
    home: tempfile::TempDir,
}

impl Real {
    async fn emulator(variable: &str, extra: &[&str]) -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let monitor = |name: &str| format!("unix:{},server=on,wait=off", home.path().join(name).display());
        let mut command = Command::new(binary(variable, "qemu-system-x86_64"));
        command.args(["-machine", "none", "-nodefaults", "-display", "none", "-S"]);
        command.args(["-qmp", &monitor("qmp"), "-qmp", &monitor("oob")]).args(extra);
        Self::spawn(command, home).await
    }

    async fn storage_daemon(variable: &str) -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let chardev = format!("socket,id=m,server=on,wait=off,path={}", home.path().join("qmp").display());
        let mut command = Command::new(binary(variable, "qemu-storage-daemon"));
        command.args(["--chardev", &chardev, "--monitor", "chardev=m"]);
        Self::spawn(command, home).await
    }

    async fn spawn(mut command: Command, home: tempfile::TempDir) -> Self {
        command.stdin(Stdio::null()).kill_on_drop(true);
        let process = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let qmp = Qmp::connect(&home.path().join("qmp"), PATIENCE).await.expect("a session");
        Self { qmp, process, home }
    }

    async fn oob(&self) -> Oob {
        Oob::connect(&self.home.path().join("oob"), PATIENCE).await.expect("an out-of-band session")
    }

    async fn quit(mut self) {
        self.qmp.quit().await.expect("done");
        let status = tokio::time::timeout(PATIENCE, self.process.wait()).await.expect("an end");
        assert!(status.expect("a status").success());
        let reason = self.qmp.closed().await;
        assert!(matches!(*reason, CloseReason::Peer | CloseReason::Io(_)), "{reason:?}");
    }

    /// What an agent does after its own restart: QEMU goes on meanwhile.
    async fn attach_again(self) -> Self {
        let Self { qmp, process, home } = self;
        drop(qmp);
        let qmp = Qmp::connect(&home.path().join("qmp"), PATIENCE).await.expect("a second session");
        Self { qmp, process, home }
    }

    async fn add_null_node(&self, node: &str) {
        let options = json!({ "driver": "null-co", "node-name": node, "size": MIB, "read-zeroes": true });
        self.qmp.blockdev_add(options).await.expect("a node");
    }
}

async fn check_session(variable: &str, version: (u32, u32), want: Features) {
    let real = Real::emulator(variable, &[]).await;
    let qmp = &real.qmp;
    assert_eq!((qmp.version().number.major, qmp.version().number.minor), version);
    assert_eq!(known_bugs(qmp.version()).iothread_export_aborts, version < (9, 0));
    assert_eq!(qmp.probe_features().await.expect("a schema"), want);

    assert_eq!(qmp.query_status().await.expect("a reply"), RunState::Prelaunch);
    let machines = qmp.query_machines().await.expect("a reply");
    assert!(machines.iter().any(|machine| machine.name == "pc-q35-7.2"), "{machines:?}");
    let models = qmp.query_cpu_definitions().await.expect("a reply");
    assert!(models.iter().any(|model| model.name == "qemu64"), "{models:?}");
    let features = qmp.cpu_model_features("qemu64").await.expect("a reply");
    let has = |name: &str| features.iter().any(|feature| feature == name);
    assert!(has("sse2") && !has("avx2") && !has("check"), "{features:?}");
    assert!(qmp.cpu_model_features("abacus").await.is_err());
    let capabilities = qmp.query_migrate_capabilities().await.expect("a reply");
    assert_eq!(capabilities.get("pause-before-switchover"), Some(&false));
    assert_eq!(qmp.qom_get("/machine", "type").await.expect("a reply"), "none-machine");
    assert!(qmp.query_migrate_parameters().await.expect("a reply").contains_key("max-bandwidth"));
    assert!(qmp.query_cpus_fast().await.expect("a reply").is_empty());
    assert!(qmp.query_pci().await.expect("a reply").is_empty());
    assert!(qmp.query_jobs().await.expect("a reply").is_empty());
    assert!(qmp.query_block_jobs().await.expect("a reply").is_empty());
    assert!(qmp.query_iothreads().await.expect("a reply").is_empty());
    let status = qmp.human_monitor_command("info status").await.expect("a reply");
    assert!(status.contains("prelaunch"), "{status}");

    let unknown = qmp.execute("no-such-command", Value::Null).await.expect_err("refused");
    assert!(unknown.is_command_not_found(), "{unknown:?}");
    let late = qmp.execute_within("query-qmp-schema", Value::Null, std::time::Duration::ZERO).await;
    assert!(matches!(late, Err(QmpError::Deadline { .. })), "{late:?}");
    // The late reply is dropped and the session goes on.
    qmp.cont().await.expect("done");
    qmp.wait_run_state(RunState::is_running, PATIENCE).await.expect("running");
    qmp.stop().await.expect("done");
    let real = real.attach_again().await;
    assert_eq!(real.qmp.query_status().await.expect("a reply"), RunState::Paused);
    real.quit().await;
}

const FEATURES_72: Features = Features {
    has_blockdev_set_active: false,
    has_allow_inactive: false,
    has_exit_on_error: false,
    has_migrate_channels: false,
    has_block_job_change: false,
    has_target_is_zero: false,
    has_nbd_handshake_limit: false,
    has_switchover_bandwidth: false,
    has_dirty_rate: true,
    has_migrate: true,
    has_yank: true,
};

const FEATURES_100: Features = Features {
    has_blockdev_set_active: true,
    has_allow_inactive: true,
    has_exit_on_error: true,
    has_migrate_channels: true,
    has_block_job_change: true,
    has_nbd_handshake_limit: true,
    has_switchover_bandwidth: true,
    ..FEATURES_72
};

#[tokio::test]
async fn sessions_with_both_releases() {
    check_session(QEMU_72, (7, 2), FEATURES_72).await;
    check_session(QEMU_100, (10, 0), FEATURES_100).await;
}

/// One round of the disk copy, as the agent does it: swap, merge into a null node, export that node.
async fn check_round(variable: &str) {
    let real = Real::emulator(variable, &[]).await;
    let qmp = &real.qmp;
    real.add_null_node("d0").await;
    real.add_null_node("bm0").await;
    qmp.block_dirty_bitmap_add(&BitmapAdd::recording("d0", "b0", GRANULE)).await.expect("a bitmap");
    let written = qmp.human_monitor_command("qemu-io d0 \"write 64k 100k\"").await.expect("a reply");
    assert!(!written.contains("rror"), "{written}");
    qmp.transaction(vec![
        TransactionAction::BitmapAdd(BitmapAdd::recording("d0", "b1", GRANULE)),
        TransactionAction::BitmapDisable(BitmapName::new("d0", "b0")),
        TransactionAction::BitmapAdd(BitmapAdd::disabled("bm0", "x", GRANULE)),
        TransactionAction::BitmapMerge(BitmapMerge {
            node: "bm0".to_owned(),
            target: "x".to_owned(),
            bitmaps: vec![BitmapSource::Of(BitmapName::new("d0", "b0"))],
        }),
    ])
    .await
    .expect("a round");
    let nodes = qmp.query_named_block_nodes().await.expect("a reply");
    let node = |name: &str| nodes.iter().find(|node| node.node_name.as_deref() == Some(name)).expect("a node");
    let dirty = |node_name: &str, name: &str| {
        let bitmap = node(node_name).bitmap(name).expect("a bitmap");
        (bitmap.dirty_bytes, bitmap.recording)
    };
    assert_eq!(node("d0").image.virtual_size, MIB);
    let granules = 2 * u64::from(GRANULE);
    assert_eq!(
        [dirty("d0", "b0"), dirty("d0", "b1"), dirty("bm0", "x")],
        [(granules, false), (0, true), (granules, false)]
    );

    let nbd = real.home.path().join("nbd");
    qmp.nbd_server_start(&nbd, 8).await.expect("a server");
    let bitmaps = vec![BitmapSource::Here("x".to_owned())];
    let (id, node_name) = ("xb".to_owned(), "bm0".to_owned());
    let export = NbdExport { id, node_name, bitmaps, allocation_depth: true, ..NbdExport::default() };
    qmp.block_export_add(&export).await.expect("an export");
    assert!(nbd.exists());
    let again = qmp.block_export_add(&export).await;
    assert!(matches!(again, Err(QmpError::Command { .. })), "{again:?}");
    let exports = qmp.query_block_exports().await.expect("a reply");
    assert_eq!((exports.len(), exports[0].kind.as_str(), exports[0].node_name.as_str()), (1, "nbd", "bm0"));
    let busy = qmp.block_dirty_bitmap_remove(&BitmapName::new("bm0", "x")).await;
    assert!(matches!(busy, Err(QmpError::Command { .. })), "an exported bitmap is busy: {busy:?}");

    qmp.block_export_del("xb", ExportDelMode::Hard).await.expect("done");
    qmp.wait_no_export("xb", PATIENCE).await.expect("gone");
    qmp.block_dirty_bitmap_clear(&BitmapName::new("bm0", "x")).await.expect("done");
    qmp.block_dirty_bitmap_remove(&BitmapName::new("bm0", "x")).await.expect("done");
    qmp.block_dirty_bitmap_enable(&BitmapName::new("d0", "b0")).await.expect("done");
    qmp.block_dirty_bitmap_disable(&BitmapName::new("d0", "b0")).await.expect("done");
    qmp.nbd_server_stop().await.expect("done");
    qmp.blockdev_del("bm0").await.expect("done");
    let stats = qmp.query_blockstats_nodes().await.expect("a reply");
    assert!(stats.iter().any(|stat| stat.node_name.as_deref() == Some("d0")), "{stats:?}");
    assert!(qmp.query_blockstats().await.expect("a reply").is_empty(), "no guest has a disk");
    real.quit().await;
}

#[tokio::test]
async fn a_round_on_both_releases() {
    check_round(QEMU_72).await;
    check_round(QEMU_100).await;
}

/// An NBD server that accepts and says nothing holds the main loop; the out-of-band monitor still answers.
async fn check_oob(variable: &str) {
    let real = Real::emulator(variable, &[]).await;
    let oob = real.oob().await;
    let path = real.home.path().join("mute");
    let mute = UnixListener::bind(&path).expect("a socket");
    let server = json!({ "type": "unix", "path": path });
    let node = json!({ "driver": "nbd", "node-name": "n0", "server": server, "export": "x" });
    let stuck = tokio::spawn({
        let qmp = real.qmp.clone();
        async move { qmp.blockdev_add(node).await }
    });
    let (connection, _) = mute.accept().await.expect("QEMU connects");
    let behind = real.qmp.within(SHORT).query_status().await;
    assert!(matches!(behind, Err(QmpError::Deadline { .. })), "{behind:?}");

    let unknown = YankInstance::BlockNode { node_name: "nobody".to_owned() };
    let refused = oob.yank(&[unknown]).await;
    assert!(matches!(refused, Err(QmpError::Command { .. })), "{refused:?}");
    let pause = oob.migrate_pause().await;
    assert!(matches!(pause, Err(QmpError::Command { .. })), "no migration to pause: {pause:?}");
    let in_band_only = oob.execute("query-status", Value::Null).await;
    assert!(matches!(in_band_only, Err(QmpError::Command { .. })), "{in_band_only:?}");

    drop(connection);
    let failed = stuck.await.expect("no panic");
    assert!(matches!(failed, Err(QmpError::Command { .. })), "{failed:?}");
    assert_eq!(real.qmp.query_status().await.expect("a reply"), RunState::Prelaunch);
    real.quit().await;
}

#[tokio::test]
async fn out_of_band_on_both_releases() {
    check_oob(QEMU_72).await;
    check_oob(QEMU_100).await;
}

async fn check_storage_daemon(variable: &str, set_active: bool) {
    let real = Real::storage_daemon(variable).await;
    let features = real.qmp.probe_features().await.expect("a schema");
    assert!(!features.has_migrate && !features.has_dirty_rate);
    assert_eq!(features.has_blockdev_set_active, set_active);
    real.add_null_node("d0").await;
    real.qmp.nbd_server_start(&real.home.path().join("nbd"), 0).await.expect("a server");
    let (id, node_name) = ("x0".to_owned(), "d0".to_owned());
    let export = NbdExport { id, node_name, writable: true, ..NbdExport::default() };
    real.qmp.block_export_add(&export).await.expect("an export");
    let no_guest = real.qmp.query_status().await.expect_err("a daemon runs no guest");
    assert!(no_guest.is_command_not_found(), "{no_guest:?}");
    real.quit().await;
}

#[tokio::test]
async fn storage_daemons_of_both_releases() {
    check_storage_daemon(QEMU_72, false).await;
    check_storage_daemon(QEMU_100, true).await;
}

/// The order of a switchover: our stop, the pause, our word to go on, `completed`, `postmigrate`.
async fn check_migration(from: &str, to: &str) {
    let source = Real::emulator(from, &[]).await;
    let target = Real::emulator(to, &["-incoming", "defer"]).await;
    let capabilities = [("events", true), ("return-path", true), ("pause-before-switchover", true)];
    source.qmp.migrate_set_capabilities(&capabilities).await.expect("done");
    target.qmp.migrate_set_capabilities(&[("events", true), ("return-path", true)]).await.expect("done");
    assert_eq!(target.qmp.query_status().await.expect("a reply"), RunState::Inmigrate);
    let keeps = target.qmp.probe_features().await.expect("a schema").has_exit_on_error.then_some(false);
    let uri = format!("unix:{}", target.home.path().join("ram").display());
    target.qmp.migrate_incoming(&uri, keeps).await.expect("it listens");
    source.qmp.migrate_set_parameters(json!({ "max-bandwidth": 1 << 30 })).await.expect("done");

    source.qmp.cont().await.expect("done");
    source.qmp.stop().await.expect("done");
    source.qmp.migrate(&uri).await.expect("it starts");
    let paused = |info: &crate::MigrateInfo| info.status == MigrationStatus::PreSwitchover || info.status.is_over();
    let info = source.qmp.wait_migration(paused, PATIENCE).await.expect("a level");
    assert_eq!(info.status, MigrationStatus::PreSwitchover, "{info:?}");
    source.qmp.migrate_continue(&MigrationStatus::PreSwitchover).await.expect("done");
    let over = |info: &crate::MigrateInfo| info.status.is_over();
    let info = source.qmp.wait_migration(over, PATIENCE).await.expect("an end");
    assert_eq!(info.status, MigrationStatus::Completed, "{info:?}");
    assert!(info.ram.is_some() && info.downtime.is_some(), "{info:?}");
    let postmigrate = |state: &RunState| *state == RunState::Postmigrate;
    source.qmp.wait_run_state(postmigrate, PATIENCE).await.expect("the source has handed over");
    let loaded = |state: &RunState| *state != RunState::Inmigrate;
    let state = target.qmp.wait_run_state(loaded, PATIENCE).await.expect("loaded");
    assert_eq!(state, RunState::Paused, "the target must not run by itself");
    source.quit().await;
    target.quit().await;
}

#[tokio::test]
async fn memory_moves_between_both_releases() {
    check_migration(QEMU_72, QEMU_72).await;
    check_migration(QEMU_72, QEMU_100).await;
    check_migration(QEMU_100, QEMU_100).await;
}
