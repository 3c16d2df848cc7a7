//! Background jobs. Whimbrel copies disks in rounds and starts none of its own on the road of a move; what it finds is
//! left over or somebody else's, and must be seen, ended and dismissed before a guest moves.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::client::Qmp;
use crate::error::Result;
use crate::lenient::count;
use crate::open_enum::open_enum;

open_enum! {
    pub enum JobStatus {
        Undefined = "undefined",
        Created = "created",
        Running = "running",
        Paused = "paused",
        Ready = "ready",
        Standby = "standby",
        Waiting = "waiting",
        Pending = "pending",
        Aborting = "aborting",
        Concluded = "concluded",
        Null = "null",
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct JobInfo {
    pub id: String,
    /// `mirror`, `backup`, `commit` and what comes.
    #[serde(rename = "type")]
    pub kind: String,
    pub status: JobStatus,
    #[serde(default, deserialize_with = "count")]
    pub current_progress: u64,
    #[serde(default, deserialize_with = "count")]
    pub total_progress: u64,
    #[serde(default)]
    pub error: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct BlockJobInfo {
    #[serde(rename = "type")]
    pub kind: String,
    /// The job's id; QEMU calls it the device for its history's sake.
    pub device: String,
    pub status: JobStatus,
    #[serde(default, deserialize_with = "count")]
    pub len: u64,
    #[serde(default, deserialize_with = "count")]
    pub offset: u64,
    #[serde(default)]
    pub busy: bool,
    #[serde(default)]
    pub paused: bool,
    #[serde(default)]
    pub ready: bool,
    #[serde(default, deserialize_with = "count")]
    pub speed: u64,
    #[serde(default)]
    pub error: Option<String>,
    /// Told from 8.2 on, by mirrors.
    #[serde(default)]
    pub actively_synced: Option<bool>,
}

impl BlockJobInfo {
    /// Paused for good: `standby` alone may be the drain of something else.
    pub fn is_at_rest(&self) -> bool {
        self.status == JobStatus::Standby && !self.busy
    }
}

impl Qmp {
    pub async fn query_jobs(&self) -> Result<Vec<JobInfo>> {
        self.ask("query-jobs", Value::Null).await
    }

    pub async fn query_block_jobs(&self) -> Result<Vec<BlockJobInfo>> {
        self.ask("query-block-jobs", Value::Null).await
    }

    pub async fn job_pause(&self, id: &str) -> Result<()> {
        self.tell("job-pause", json!({ "id": id })).await
    }

    pub async fn job_resume(&self, id: &str) -> Result<()> {
        self.tell("job-resume", json!({ "id": id })).await
    }

    /// Ends a job by force, whatever its state; a mirror's target is left inconsistent.
    pub async fn job_cancel(&self, id: &str) -> Result<()> {
        self.tell_slow("job-cancel", json!({ "id": id })).await
    }

    /// Forgets a concluded job, which would otherwise keep its id taken.
    pub async fn job_dismiss(&self, id: &str) -> Result<()> {
        self.tell("job-dismiss", json!({ "id": id })).await
    }
}
