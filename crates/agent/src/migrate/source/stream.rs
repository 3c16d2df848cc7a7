//! The RAM stream on the source: QEMU's migration socket, through the agents' link, under our rules.
//!
//! Ground rules: `return-path` and `pause-before-switchover` always; the bandwidth is not QEMU's to limit; the downtime
//! limit is so small that QEMU never finds the moment by itself: the agent stops the guest.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::broadcast,
};
use whimbrel_core::{
    failure::{Failure, FailureCode},
    migration::source::Event,
};
use whimbrel_daemon::tls::TlsStream;
use whimbrel_qmp::EventName;
use whimbrel_transfer::{hello::StreamKind, ram::tunnel};

use super::{
    connect,
    road::{Road, of_qmp},
};

/// QEMU's own limit would be 128 MiB/s.
const BANDWIDTH_BPS_MAX: u64 = 1 << 40;
const DOWNTIME_LIMIT_MS: u64 = 1;
/// QEMU's word for a stream that has sent all but the devices, and waits for `migrate-continue`.
pub const PRE_SWITCHOVER: &str = "pre-switchover";
/// QEMU's least; the ladder raises it in announced steps.
const CPU_THROTTLE_PERCENT_MIN: u8 = 1;
const QEMU_CONNECTS_TIME_MAX: Duration = Duration::from_secs(10);

/// What QEMU says of its stream.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RamLook {
    pub status: String,
    pub error: Option<String>,
    pub remaining_bytes: u64,
    pub total_bytes: u64,
    pub transferred_bytes: u64,
    pub passes: u64,
    pub dirty_bps: u64,
    pub rate_bps: u64,
}

/// QEMU's stream and its way to the target, not joined yet: until they are, QEMU gets no further than the socket's buffer.
pub struct Opened {
    qemu: UnixStream,
    link: TlsStream,
}

/// Begins the stream: QEMU's own preparations (a look at every page) take a while, and go on beside the disk rounds.
pub async fn open(road: &Arc<Road>) -> Result<Opened, Failure> {
    let qmp = road.qmp()?;
    // QEMU takes no capability while it migrates, so the ladder's last rungs are prepared here; they start at no throttle.
    let slow = road.ask.options.allow_auto_converge;
    let capabilities =
        [("events", true), ("return-path", true), ("pause-before-switchover", true), ("auto-converge", slow)]
            .map(|(name, state)| json!({"capability": name, "state": state}));
    qmp.execute("migrate-set-capabilities", json!({"capabilities": capabilities})).await.map_err(of_qmp)?;
    let parameters = json!({
        "max-bandwidth": BANDWIDTH_BPS_MAX, "downtime-limit": DOWNTIME_LIMIT_MS,
        "cpu-throttle-initial": CPU_THROTTLE_PERCENT_MIN, "cpu-throttle-increment": CPU_THROTTLE_PERCENT_MIN,
    });
    qmp.execute("migrate-set-parameters", parameters).await.map_err(of_qmp)?;

    tokio::spawn(note_stop(road.clone(), qmp.events()));
    let link = connect::open(road, StreamKind::Ram).await?;
    let socket = road.run_file("ram.sock");
    let listener = listen(road, &socket)?;
    let uri = format!("unix:{}", socket.display());
    qmp.execute("migrate", json!({"uri": uri})).await.map_err(of_qmp)?;
    let accepted = tokio::time::timeout(QEMU_CONNECTS_TIME_MAX, listener.accept()).await;
    let (qemu, _) = accepted
        .map_err(|_| failed("QEMU did not connect its migration stream"))?
        .map_err(|error| failed(&format!("QEMU's migration stream: {error}")))?;
    let _ = fs_err::remove_file(&socket);
    Ok(Opened { qemu, link })
}

/// From now on the stream goes by itself.
pub fn carry(road: &Arc<Road>, Opened { qemu, link }: Opened) {
    let (road, cancel) = (road.clone(), road.cancel.clone());
    tokio::spawn(async move {
        let carried = tokio::select! {
            carried = tunnel(road.ask.migration, qemu, link, &road.ram) => carried,
            () = cancel.cancelled() => return,
        };
        if let Err(error) = carried {
            let _ = road.events.send(Event::Failed { failure: error.failure() }).await;
        }
    });
}

/// A stream that has nothing left stops the guest by itself, and its downtime begins there.
async fn note_stop(road: Arc<Road>, mut events: broadcast::Receiver<whimbrel_qmp::Event>) {
    loop {
        let event = tokio::select! {
            event = events.recv() => event,
            () = road.cancel.cancelled() => return,
        };
        match event {
            Ok(event) if event.name == EventName::Stop => return road.meter.guest_stops(Instant::now()),
            Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

fn listen(road: &Road, socket: &Path) -> Result<UnixListener, Failure> {
    let _ = fs_err::remove_file(socket);
    let listener = UnixListener::bind(socket)
        .map_err(|error| failed(&format!("cannot listen on {}: {error}", socket.display())))?;
    road.context.paths.give_to_qemu(socket).map_err(|error| failed(&error.to_string()))?;
    Ok(listener)
}

pub async fn look(road: &Road) -> Result<RamLook, Failure> {
    let info = road.qmp()?.execute("query-migrate", json!({})).await.map_err(of_qmp)?;
    Ok(parse(&info))
}

fn parse(info: &Value) -> RamLook {
    let ram = &info["ram"];
    let number = |name: &str| ram[name].as_u64().unwrap_or(0);
    RamLook {
        status: info["status"].as_str().unwrap_or("none").to_owned(),
        error: info["error-desc"].as_str().map(str::to_owned),
        remaining_bytes: number("remaining"),
        total_bytes: number("total"),
        transferred_bytes: number("transferred"),
        passes: number("dirty-sync-count"),
        dirty_bps: number("dirty-pages-rate") * ram["page-size"].as_u64().unwrap_or(4096),
        rate_bps: (ram["mbps"].as_f64().unwrap_or(0.0) * 125_000.0) as u64,
    }
}

/// Waits until QEMU stands where `wanted` says. A failed or cancelled stream is an error.
pub async fn wait(road: &Road, wanted: &str, deadline: Duration) -> Result<RamLook, Failure> {
    let qmp = road.qmp()?;
    let mut events = qmp.events();
    let begun = Instant::now();
    loop {
        let ram = look(road).await?;
        if ram.status == wanted {
            return Ok(ram);
        }
        check(&ram)?;
        if begun.elapsed() > deadline {
            let late = format!("the RAM stream is {} and not '{wanted}' after {} ms", ram.status, deadline.as_millis());
            return Err(Failure::new(FailureCode::DeadlinePassed, late));
        }
        // Events are hints: the query above is the truth, and it is asked again in any case.
        let _ = tokio::time::timeout(Duration::from_millis(2), events.recv()).await;
    }
}

/// A stream that has ended by itself is an error.
pub fn check(look: &RamLook) -> Result<(), Failure> {
    match look.status.as_str() {
        "failed" | "cancelled" | "cancelling" | "none" => {
            let why = look.error.as_deref().unwrap_or("QEMU gave no reason");
            Err(failed(&format!("the RAM stream is {}: {why}", look.status)))
        }
        _ => Ok(()),
    }
}

fn failed(why: &str) -> Failure {
    Failure::new(FailureCode::QemuFailed, why)
}
