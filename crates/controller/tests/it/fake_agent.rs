//! An agent with a real certificate and a real HTTPS listener, whose phases are set by the test.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use tokio_util::sync::CancellationToken;
use whimbrel_api::{
    agent::{
        ConsoleOutput, Desired, DiskFacts, GiveUp, Heartbeat, InstanceAsk, InstanceReport, MigrationReport, MoveFacts,
        ReceiveAsk, Relay, RetainedReport, Role, SendAsk, SidePhase, Verification,
    },
    client::ControllerClient,
    problem::{Problem, status_of},
};
use whimbrel_core::{
    failure::{Failure, FailureCode},
    host::{CpuInfo, HostFacts},
    id::{Epoch, HostName, InstanceId, MigrationId},
    instance::{InstanceSpec, PowerState},
    migration::{message::Report, source, target},
    progress::Progress,
    receipt::Receipt,
};
use whimbrel_daemon::{
    pki::{CaCert, Identity, KeyAndChain},
    serve::{ServeLimits, serve},
    tls,
};

pub const UPTIME: &str = " 12:00:00 up 1 day,  3:04,  2 users,  load average: 0.01, 0.05, 0.10";
const HEARTBEAT_EVERY: Duration = Duration::from_millis(200);

pub struct Guest {
    pub spec: InstanceSpec,
    pub epoch: Epoch,
    pub power: PowerState,
}

#[derive(Default)]
pub struct Told {
    pub guests: HashMap<InstanceId, Guest>,
    pub migrations: HashMap<MigrationId, MigrationReport>,
    pub retained: HashMap<InstanceId, RetainedReport>,
    pub receives: Vec<ReceiveAsk>,
    pub sends: Vec<SendAsk>,
    pub relays: Vec<Relay>,
    pub give_ups: Vec<GiveUp>,
    pub refuse_receive: Option<Failure>,
    pub refuse_discard: Option<Failure>,
    pub refuse_instances: Option<Failure>,
    pub changed_since: Option<Epoch>,
    pub facts: Option<HostFacts>,
    pub forced: Vec<MigrationId>,
    /// Restarts that were asked for, each number once.
    pub reboots: u64,
}

pub struct FakeAgent {
    pub name: HostName,
    told: Mutex<Told>,
    stop: CancellationToken,
}

pub fn facts(name: &HostName) -> HostFacts {
    HostFacts {
        name: name.clone(),
        qemu_version: "7.2.22".to_owned(),
        machines: vec!["pc-q35-7.1".to_owned(), "pc-q35-7.2".to_owned()],
        cpu_models: vec!["qemu64".to_owned(), "Nehalem".to_owned()],
        accel: "tcg".to_owned(),
        vcpus: 4,
        memory_mb: 4096,
        memory_mb_used: 0,
        reserved_memory_mb: 512,
        ram_allocation_ratio: 1.0,
        disk_total_bytes: 100 << 30,
        disk_free_bytes: 60 << 30,
        disk_committed_bytes: 0,
        bridges: vec!["br0".to_owned()],
        images: Vec::new(),
        migration_address: format!("10.9.0.1:4{}", name.as_str().len()),
        iothreads_safe: false,
        link_bps: None,
        disk_bps: None,
        cpu_info: Some(CpuInfo { vendor: "AMD".to_owned(), arch: "x86_64".to_owned(), ..CpuInfo::default() }),
        uptime: Some(UPTIME.to_owned()),
        storage: None,
    }
}

impl FakeAgent {
    /// Serves and reports until `stop`.
    pub async fn start(
        name: &HostName,
        controller_url: &str,
        ca: &CaCert,
        both: &KeyAndChain,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let identity = Identity::new(both).unwrap();
        let told = Told { facts: Some(facts(name)), ..Told::default() };
        let agent = Arc::new(FakeAgent { name: name.clone(), told: Mutex::new(told), stop: stop.clone() });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let control_url = format!("https://{}", listener.local_addr().unwrap());
        let config = tls::mutual(&identity, ca, tls::Protocol::Http).unwrap();
        let limits = ServeLimits { grace: Duration::ZERO, ..ServeLimits::default() };
        tokio::spawn(serve(listener, config, agent.clone().router(), limits, stop.clone()));
        let expect = tls::Expect::Any(whimbrel_daemon::pki::Role::Controller);
        let client_tls = tls::client_config(&identity, ca, expect, tls::Protocol::Http).unwrap();
        let client = ControllerClient::from_tls(controller_url, client_tls).unwrap();
        let beating = agent.clone();
        tokio::spawn(async move {
            loop {
                let heartbeat = beating.heartbeat(&control_url);
                let _ = client.heartbeat(&beating.name, &heartbeat).await;
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(HEARTBEAT_EVERY) => {}
                }
            }
        });
        agent
    }

    pub fn stop(&self) {
        self.stop.cancel();
    }

    pub fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap()
    }

    pub fn heartbeat(&self, control_url: &str) -> Heartbeat {
        let told = self.told();
        let instances = told.guests.values().map(report_of).collect();
        Heartbeat { facts: told.facts.clone().unwrap(), control_url: control_url.to_owned(), instances }
    }

    /// What the source says from now on.
    pub fn source_is(&self, id: MigrationId, phase: source::Phase) {
        self.told().migrations.get_mut(&id).unwrap().state = Report::Source(phase);
    }

    pub fn progress_of(&self, id: MigrationId, progress: Progress) {
        self.told().migrations.get_mut(&id).unwrap().progress = Some(progress);
    }

    pub fn target_is(&self, id: MigrationId, phase: target::Phase) {
        self.told().migrations.get_mut(&id).unwrap().state = Report::Target(phase);
    }

    /// The guest arrived: as the target's journal would have it.
    pub fn owns(&self, id: MigrationId) {
        let mut told = self.told();
        let ask = told.receives.iter().find(|ask| ask.migration == id).unwrap().clone();
        told.guests.insert(ask.spec.id, Guest { spec: ask.spec, epoch: ask.epoch, power: PowerState::Running });
        told.migrations.get_mut(&id).unwrap().state = Report::Target(target::Phase::Running);
    }

    /// The guest is gone; its disks are kept.
    pub fn handed_over(&self, id: MigrationId, receipt: Receipt, verification: Verification) {
        let mut told = self.told();
        let report = told.migrations.get_mut(&id).unwrap();
        report.state = Report::Source(source::Phase::HandedOver { retired: true });
        report.receipt = Some(receipt);
        report.verification = verification;
        let (instance, epoch) = (report.instance, report.epoch);
        let guest = told.guests.remove(&instance).unwrap();
        let disks = guest.spec.disks.iter().map(|disk| disk.name.clone()).collect();
        told.retained.insert(instance, RetainedReport { id: instance, handed_over_epoch: Some(epoch), disks });
    }

    fn router(self: Arc<Self>) -> Router {
        Router::new()
            .route("/v1/instances/{id}", put(put_instance).delete(delete_instance))
            .route("/v1/instances/{id}/move-facts", get(move_facts))
            .route("/v1/retained/{id}", get(retained))
            .route("/v1/migrations/{id}", get(migration))
            .route("/v1/migrations/{id}/receive", put(receive))
            .route("/v1/migrations/{id}/send", put(send))
            .route("/v1/instances/{id}/console", axum::routing::get(console))
            .route("/v1/migrations/{id}/force", post(force))
            .route("/v1/migrations/{id}/cancel", post(cancel))
            .route("/v1/migrations/{id}/discard", post(discard))
            .route("/v1/migrations/{id}/relay", post(relay))
            .with_state(self)
    }
}

type Answer<T> = Result<Json<T>, Response>;
type Agent = State<Arc<FakeAgent>>;

fn refuse(failure: Failure) -> Response {
    let status = StatusCode::from_u16(status_of(failure.code)).unwrap();
    (status, Json(Problem::of(failure))).into_response()
}

fn unknown(what: impl std::fmt::Display) -> Response {
    refuse(Failure::new(FailureCode::NotFound, format!("never heard of {what}")))
}

fn report_of(guest: &Guest) -> InstanceReport {
    InstanceReport {
        id: guest.spec.id,
        name: guest.spec.name.clone(),
        owned_epoch: Some(guest.epoch),
        power: guest.power,
        migration: None,
        failure: None,
        write_bps: 1_000_000,
        qemu_version: Some("7.2.22".to_owned()),
        qemu_pid: Some(1),
    }
}

async fn put_instance(State(agent): Agent, Json(ask): Json<InstanceAsk>) -> Answer<InstanceReport> {
    let mut told = agent.told();
    if let Some(failure) = &told.refuse_instances {
        return Err(refuse(failure.clone()));
    }
    told.reboots = told.reboots.max(ask.reboot.map_or(0, |reboot| reboot.number));
    let power = match ask.desired {
        Desired::Running => PowerState::Running,
        Desired::Paused => PowerState::Paused,
        Desired::Stopped => PowerState::Stopped,
    };
    let guest = Guest { spec: ask.spec, epoch: ask.epoch, power };
    let report = report_of(&guest);
    told.guests.insert(guest.spec.id, guest);
    Ok(Json(report))
}

async fn delete_instance(State(agent): Agent, Path(id): Path<InstanceId>) -> StatusCode {
    let mut told = agent.told();
    told.guests.remove(&id);
    told.retained.remove(&id);
    StatusCode::NO_CONTENT
}

async fn move_facts(State(agent): Agent, Path(id): Path<InstanceId>) -> Answer<MoveFacts> {
    let told = agent.told();
    let guest = told.guests.get(&id).ok_or_else(|| unknown(id))?;
    let disks = guest.spec.disks.iter().map(|disk| DiskFacts {
        name: disk.name.clone(),
        virtual_bytes: disk.virtual_bytes,
        allocated_bytes: 1 << 20,
        base_allocated_bytes: disk.base.as_ref().map_or(0, |base| base.file_bytes),
        changed_bytes: told.changed_since.map(|_| 1 << 16),
        changed_since: told.changed_since,
    });
    Ok(Json(MoveFacts {
        id,
        epoch: guest.epoch,
        disks: disks.collect(),
        ram_mb: guest.spec.ram_mb,
        ram_dirty_bps: None,
        write_bps: 1_000_000,
        qemu_version: "7.2.22".to_owned(),
    }))
}

async fn retained(State(agent): Agent, Path(id): Path<InstanceId>) -> Json<RetainedReport> {
    let none = RetainedReport { id, handed_over_epoch: None, disks: Vec::new() };
    Json(agent.told().retained.get(&id).cloned().unwrap_or(none))
}

async fn migration(State(agent): Agent, Path(id): Path<MigrationId>) -> Answer<MigrationReport> {
    agent.told().migrations.get(&id).cloned().map(Json).ok_or_else(|| unknown(id))
}

fn new_report(id: MigrationId, instance: InstanceId, epoch: Epoch, role: Role, state: Report) -> MigrationReport {
    MigrationReport {
        migration: id,
        instance,
        epoch,
        role,
        state,
        phase: SidePhase::Copying,
        mode: None,
        step: "round 0 of disks".to_owned(),
        progress: None,
        failure: None,
        receipt: None,
        verification: Verification::None,
        verification_failure: None,
    }
}

async fn receive(
    State(agent): Agent,
    Path(id): Path<MigrationId>,
    Json(ask): Json<ReceiveAsk>,
) -> Answer<MigrationReport> {
    let mut told = agent.told();
    if let Some(failure) = &told.refuse_receive {
        return Err(refuse(failure.clone()));
    }
    told.receives.push(ask.clone());
    let prepared = new_report(id, ask.spec.id, ask.epoch, Role::Target, Report::Target(target::Phase::Prepared));
    Ok(Json(told.migrations.entry(id).or_insert(prepared).clone()))
}

async fn send(State(agent): Agent, Path(id): Path<MigrationId>, Json(ask): Json<SendAsk>) -> Answer<MigrationReport> {
    let mut told = agent.told();
    told.sends.push(ask.clone());
    let copying = new_report(id, ask.instance, ask.epoch, Role::Source, Report::Source(source::Phase::Copying));
    Ok(Json(told.migrations.entry(id).or_insert(copying).clone()))
}

async fn console(
    State(_): State<Arc<FakeAgent>>,
    Path(_): Path<InstanceId>,
    axum::extract::Query(query): axum::extract::Query<HashMap<String, u32>>,
) -> Json<ConsoleOutput> {
    Json(ConsoleOutput { output: format!("the last {} lines", query["lines"]) })
}

async fn force(State(agent): Agent, Path(id): Path<MigrationId>) -> Answer<MigrationReport> {
    let mut told = agent.told();
    told.forced.push(id);
    Ok(Json(told.migrations[&id].clone()))
}

async fn cancel(State(agent): Agent, Path(id): Path<MigrationId>, Json(ask): Json<GiveUp>) -> Json<MigrationReport> {
    let mut told = agent.told();
    told.give_ups.push(ask.clone());
    let aborted = Report::Source(source::Phase::Aborted { failure: ask.failure });
    let report =
        told.migrations.entry(id).or_insert(new_report(id, ask.instance, ask.epoch, Role::Source, aborted.clone()));
    if matches!(report.state, Report::Source(source::Phase::Copying)) {
        report.state = aborted;
    }
    Json(report.clone())
}

async fn discard(State(agent): Agent, Path(id): Path<MigrationId>, Json(ask): Json<GiveUp>) -> Answer<MigrationReport> {
    let mut told = agent.told();
    if let Some(failure) = &told.refuse_discard {
        return Err(refuse(failure.clone()));
    }
    told.give_ups.push(ask.clone());
    let refused = Report::Target(target::Phase::Refused { failure: ask.failure });
    let report =
        told.migrations.entry(id).or_insert(new_report(id, ask.instance, ask.epoch, Role::Target, refused.clone()));
    report.state = refused;
    Ok(Json(report.clone()))
}

async fn relay(State(agent): Agent, Path(id): Path<MigrationId>, Json(ask): Json<Relay>) -> Answer<MigrationReport> {
    let mut told = agent.told();
    told.relays.push(ask);
    told.migrations.get(&id).cloned().map(Json).ok_or_else(|| unknown(id))
}
