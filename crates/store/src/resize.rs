//! The rest of a resize after its move: stages, hardware, and the claim that is left.
//!
//! Ground rules: each step is a compare-and-set on the server's generation, so two who carry one on do not both take a step.

use whimbrel_core::{id::FlavorId, instance::InstanceSpec, server::ServerDetails};

use crate::{
    Desired, InstanceRow, Room, Store, TaskState,
    error::{Result, conflict, db},
    record::{bigint, json},
};

/// What a server is from now on.
#[derive(Clone, Debug)]
pub struct ResizeStep<'a> {
    pub spec: &'a InstanceSpec,
    pub flavor: FlavorId,
    pub details: &'a ServerDetails,
    pub task: Option<TaskState>,
    pub desired: Desired,
    /// What it takes on its host; `None` leaves what it took.
    pub room: Option<Room>,
}

impl Store {
    /// `Conflict` if the server is not any more what was read, or something else is done with it.
    pub async fn step_resize(&self, read: &InstanceRow, step: &ResizeStep<'_>, now_us: i64) -> Result<()> {
        let failed = db("resize server");
        let mut transaction = self.begin("resize server").await?;
        let done = sqlx::query(
            "UPDATE instances SET spec = $4, flavor = $5, details = $6, task_state = $7, desired = $8, updated_us = $9, \
             generation = generation + 1 WHERE id = $1 AND generation = $2 AND COALESCE(task_state, '') = $3",
        )
        .bind(read.id.to_string())
        .bind(bigint(read.generation))
        .bind(read.task.map_or("", TaskState::as_str))
        .bind(json("server", read.id, "spec", step.spec)?)
        .bind(step.flavor.to_string())
        .bind(json("server", read.id, "details", step.details)?)
        .bind(step.task.map(TaskState::as_str))
        .bind(step.desired.as_str())
        .bind(now_us)
        .execute(&mut *transaction)
        .await
        .map_err(&failed)?;
        if done.rows_affected() == 0 {
            drop(transaction);
            self.server(read.id).await?;
            return Err(conflict("server", read.id, "was changed by somebody else meanwhile"));
        }
        if let Some(room) = step.room {
            sqlx::query("UPDATE claims SET ram_mb = $2, disk_bytes = $3 WHERE instance = $1 AND migration IS NULL")
                .bind(read.id.to_string())
                .bind(bigint(room.ram_mb))
                .bind(bigint(room.disk_bytes))
                .execute(&mut *transaction)
                .await
                .map_err(&failed)?;
        }
        transaction.commit().await.map_err(failed)
    }
}
