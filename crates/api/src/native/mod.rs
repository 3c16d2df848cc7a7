//! The controller's own API, version 1. JSON over HTTP/2 and TLS; operators show a bearer token, agents their certificate.
//!
//! | call | body | answer |
//! |---|---|---|
//! | `GET /v1/version` | | `Version`, without a token |
//! | `POST /v1/flavors` · `GET /v1/flavors` · `GET, DELETE /v1/flavors/{id or name}` | `NewFlavor` | `Flavor` |
//! | `POST /v1/images` · `GET /v1/images` · `GET, DELETE /v1/images/{id or name}` | `NewImage` | `Image` |
//! | `PUT /v1/images/{id}/content/{part}` | bytes; part is `disk`, `kernel` or `ramdisk` | `Image` |
//! | `GET /v1/blobs/{digest}` | | bytes (agents and operators) |
//! | `POST /v1/servers` · `GET /v1/servers` · `GET, DELETE /v1/servers/{id or name}` | `NewServer` | `Server` |
//! | `POST /v1/servers/{id or name}/start`, `…/stop` | | `Server` |
//! | `POST /v1/servers/{id or name}/plan` | `NewMigration` | `Plan` |
//! | `POST /v1/servers/{id or name}/migrations` | `NewMigration` | `Migration` |
//! | `GET /v1/migrations` · `GET /v1/migrations/{id}` | | `Migration` |
//! | `POST /v1/migrations/{id}/cancel` | | `Migration` |
//! | `GET /v1/hosts` · `GET /v1/hosts/{name}` | | `Host` |
//! | `POST /v1/join-tokens` | `NewJoinToken` | `JoinToken` |
//! | `POST /v1/join` | `Join`, without a token or certificate | `Joined` |
//! | `POST /v1/renew` | `Renew`, with the agent's certificate | `Joined` |
//! | `POST /v1/bootstrap` | `Bootstrap` | `Bootstrapped`: the first administrator of OpenStack's front door |
//! | `PUT /v1/hosts/{name}/heartbeat` | `agent::Heartbeat`, with that host's certificate | 204 |
//!
//! Lists take `?limit=` (at most `PAGE_MAX`) and `?marker=`; they answer `{"items": [...], "next": marker or null}`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use whimbrel_core::{
    disk::{CopyMode, DiskFormat},
    failure::Failure,
    host::HostFacts,
    id::{Epoch, FlavorId, HostName, ImageDigest, ImageId, InstanceId, MigrationId},
    instance::{InstanceSpec, PowerState},
    progress::Progress,
    receipt::Receipt,
};

use crate::agent::{MoveOptions, Verification};

pub const PAGE_MAX: u32 = 1_000;

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    pub items: Vec<T>,
    pub next: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Version {
    pub product: String,
    pub version: String,
    pub api: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewFlavor {
    pub name: String,
    /// The id that OpenStack's clients use, such as `13`; a UUID if none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flavorid: Option<String>,
    pub vcpus: u32,
    pub ram_mb: u64,
    /// Root disk; 0 takes the image's virtual size.
    pub disk_gb: u64,
    #[serde(default)]
    pub ephemeral_gb: u64,
    #[serde(default)]
    pub swap_mb: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Flavor {
    #[schema(value_type = String)]
    pub id: FlavorId,
    #[serde(flatten)]
    pub flavor: NewFlavor,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewImage {
    pub name: String,
    /// Command line for images that bring a kernel (Glance's `os_command_line`).
    #[serde(default)]
    pub os_command_line: Option<String>,
    /// Content that is already stored, by digest: no upload is needed then.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub disk: Option<ImageDigest>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub kernel: Option<ImageDigest>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub ramdisk: Option<ImageDigest>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ImagePart {
    Disk,
    Kernel,
    Ramdisk,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Image {
    #[schema(value_type = String)]
    pub id: ImageId,
    pub name: String,
    pub os_command_line: Option<String>,
    #[schema(value_type = Option<Object>)]
    pub disk: Option<StoredDisk>,
    #[schema(value_type = Option<String>)]
    pub kernel: Option<ImageDigest>,
    #[schema(value_type = Option<String>)]
    pub ramdisk: Option<ImageDigest>,
}

/// A disk image in the store: format and sizes as read from its content, never from its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredDisk {
    pub digest: ImageDigest,
    pub format: DiskFormat,
    pub file_bytes: u64,
    pub virtual_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewServer {
    pub name: String,
    /// Id or name.
    pub flavor: String,
    /// Id or name.
    pub image: String,
    /// Where; `None` lets the scheduler choose.
    #[serde(default)]
    pub host: Option<String>,
    /// Bridges, one NIC each; MACs are given by the controller.
    #[serde(default)]
    pub networks: Vec<String>,
    /// Takes the place of the image's `os_command_line`.
    #[serde(default)]
    pub os_command_line: Option<String>,
    /// One iothread per disk; refused where a host's QEMU is below 9.0.
    #[serde(default)]
    pub iothreads: bool,
    /// Versioned machine type; `None` for the oldest that every host knows (`pc-q35-7.2`).
    #[serde(default)]
    pub machine: Option<String>,
    /// A drive that tells the guest who it is, in OpenStack's form: its last disk, which it can only read.
    #[serde(default)]
    pub config_drive: bool,
    /// For the guest's first start, in base64; on its config drive, which it then gets in any case.
    #[serde(default)]
    pub user_data: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ServerStatus {
    Building,
    Active,
    Paused,
    Stopped,
    Migrating,
    Error,
    /// Its host does not answer; where it runs is what was last known.
    Unknown,
    Deleting,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Server {
    #[schema(value_type = String)]
    pub id: InstanceId,
    pub name: String,
    pub status: ServerStatus,
    #[schema(value_type = Option<String>)]
    pub host: Option<HostName>,
    #[schema(value_type = u64)]
    pub epoch: Epoch,
    #[schema(value_type = Option<String>)]
    pub power: Option<PowerState>,
    #[schema(value_type = Object)]
    pub spec: InstanceSpec,
    #[schema(value_type = Option<String>)]
    pub migration: Option<MigrationId>,
    #[schema(value_type = Option<Object>)]
    pub failure: Option<Failure>,
    pub write_bps: u64,
    /// Microseconds since 1970.
    pub created_us: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NewMigration {
    /// The target; `None` lets the scheduler choose.
    pub host: Option<String>,
    pub options: MoveOptions,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MigrationStatus {
    Queued,
    Preparing,
    Running,
    /// A cancel was asked for and is under way.
    Cancelling,
    /// The guest runs on the target; disks are being compared.
    Verifying,
    Completed,
    Cancelled,
    Failed,
}

impl ImagePart {
    /// As in the path of an upload.
    pub fn as_str(self) -> &'static str {
        match self {
            ImagePart::Disk => "disk",
            ImagePart::Kernel => "kernel",
            ImagePart::Ramdisk => "ramdisk",
        }
    }
}

impl MigrationStatus {
    pub fn is_end(self) -> bool {
        matches!(self, MigrationStatus::Completed | MigrationStatus::Cancelled | MigrationStatus::Failed)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Migration {
    #[schema(value_type = String)]
    pub id: MigrationId,
    #[schema(value_type = String)]
    pub server: InstanceId,
    pub server_name: String,
    #[schema(value_type = String)]
    pub source: HostName,
    #[schema(value_type = String)]
    pub target: HostName,
    pub status: MigrationStatus,
    #[schema(value_type = u64)]
    pub epoch: Epoch,
    /// What the agents do now, for people.
    pub step: String,
    #[schema(value_type = Option<Object>)]
    pub progress: Option<Progress>,
    #[schema(value_type = Option<Object>)]
    pub receipt: Option<Receipt>,
    #[schema(value_type = String)]
    pub verification: Verification,
    #[schema(value_type = Option<Object>)]
    pub failure: Option<Failure>,
    /// Where the guest runs now.
    #[schema(value_type = Option<String>)]
    pub guest_at: Option<HostName>,
    /// What was cleaned up after a failure or cancel, for people.
    pub cleaned_up: Option<String>,
    /// What is still to be cleaned up, and on which host, for people. It is done as soon as that host can be asked.
    pub left_behind: Option<String>,
    pub created_us: i64,
    pub finished_us: Option<i64>,
}

/// What a move would do; nothing was touched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Plan {
    pub server: String,
    #[schema(value_type = String)]
    pub source: HostName,
    #[schema(value_type = Option<String>)]
    pub target: Option<HostName>,
    #[schema(value_type = String)]
    pub mode: CopyMode,
    pub steps: Vec<String>,
    pub disk_bytes: u64,
    pub ram_bytes: u64,
    /// At best and at worst.
    pub time_ms: (u64, u64),
    pub downtime_ms: (u64, u64),
    /// Why the move would be refused, if it would.
    #[schema(value_type = Vec<Object>)]
    pub reasons: Vec<Failure>,
    /// Why each host that was not chosen was not.
    #[schema(value_type = Vec<Object>)]
    pub why_not: Vec<(HostName, Vec<Failure>)>,
    /// Every host in question: those that will do, best first, then the others.
    #[serde(default)]
    pub hosts: Vec<HostVerdict>,
}

/// What speaks for and against one host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HostVerdict {
    #[schema(value_type = String)]
    pub host: HostName,
    /// Empty: it will do.
    #[schema(value_type = Vec<Object>)]
    pub reasons: Vec<Failure>,
    /// In the order in which they decide, more is better; of a host that will do.
    pub weights: Vec<Weight>,
    /// `None` of a host that cannot be asked.
    pub room: Option<Room>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Weight {
    pub name: String,
    pub value: i64,
}

/// What the server needs there and what there is; less than nothing where more is promised than there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Room {
    pub ram_mb: u64,
    pub ram_free_mb: i64,
    pub disk_bytes: u64,
    pub disk_free_bytes: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HostState {
    Up,
    Down,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Host {
    #[schema(value_type = String)]
    pub name: HostName,
    pub state: HostState,
    pub last_seen_us: i64,
    #[schema(value_type = Object)]
    pub facts: HostFacts,
    pub servers: u32,
    /// It takes no new servers, and no move chooses it.
    #[serde(default)]
    pub disabled: bool,
    #[serde(default)]
    pub disabled_reason: Option<String>,
    /// An administrator says that it is dead, whatever its agent says.
    #[serde(default)]
    pub forced_down: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewJoinToken {
    /// The token is good for this host only.
    #[schema(value_type = String)]
    pub host: HostName,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct JoinToken {
    /// The whole text that `whimbrel agent` takes; shown once.
    pub token: String,
    pub expires_us: i64,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Join {
    pub secret: String,
    #[schema(value_type = String)]
    pub host: HostName,
    /// PKCS#10, PEM. The key stays on the host.
    pub csr_pem: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Renew {
    pub csr_pem: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Joined {
    pub certificate_pem: String,
    pub ca_pem: String,
}

#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Bootstrap {
    /// Of the user `admin`; takes the place of the one before.
    pub password: String,
}

/// How OpenStack's clients log in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Bootstrapped {
    pub auth_url: String,
    pub region: String,
    pub user: String,
    pub project: String,
    /// Of both.
    pub domain: String,
}
