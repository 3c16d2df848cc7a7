//! Who is there and who does what, where several controllers share one database; see `whimbrel_core::lease` for the decisions.
//!
//! Ground rules: all times here are the database's own, so that no clock of a controller decides; a lease changes hands by a
//! compare-and-set on its fence, and that must last, since a fence that a power cut lowers would be given twice; a renewal need not.
//! A row of a server or a migration keeps the highest fence that wrote it: see [`Store::fenced`].

use sqlx::Row;
use whimbrel_core::lease::{Fence, Holder, LEASE_US, Lease, Work};

use crate::{
    Engine, Store, counter,
    error::{Result, conflict, db},
    record::{Record, bigint},
};

/// What a look at the leases found, all at one moment of the database's clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseLook {
    pub now_us: i64,
    /// Controllers that are heard of, the one that looks among them.
    pub alive: usize,
    pub leases: Vec<Lease>,
}

/// A controller that is heard of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControllerRow {
    pub name: String,
    pub address: String,
}

const CLOCK_SQLITE: &str = "SELECT CAST((julianday('now') - 2440587.5) * 86400000000.0 AS BIGINT) AS now_us";
const CLOCK_POSTGRES: &str = "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT) AS now_us";
/// Held by whoever sets up what all controllers share.
const SETTING_UP: &str = "set-up";

impl Store {
    /// The same database; what is written to servers and migrations as the one who works on them bears this fence, and is a
    /// `Conflict` where a later holder of that work has written.
    pub fn fenced(&self, fence: Fence) -> Store {
        Store { fence: Some(bigint(fence.0)), ..self.clone() }
    }

    /// The database's clock.
    pub async fn now_us(&self) -> Result<i64> {
        let clock = match self.engine {
            Engine::Sqlite => CLOCK_SQLITE,
            Engine::Postgres => CLOCK_POSTGRES,
        };
        let row = sqlx::query(clock).fetch_one(&self.reads).await.map_err(db("read the clock"))?;
        row.try_get("now_us").map_err(db("read the clock"))
    }

    /// A controller started: whoever went by its name before is not heard of any more.
    pub async fn enlist(&self, me: &Holder, address: &str) -> Result<()> {
        let failed = db("enlist controller");
        let ends_us = self.now_us().await?.saturating_add(LEASE_US);
        let mut transaction = self.begin("enlist controller").await?;
        sqlx::query(
            "INSERT INTO controllers (name, run, address, ends_us) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (name) DO UPDATE SET run = excluded.run, address = excluded.address, ends_us = excluded.ends_us",
        )
        .bind(&me.name)
        .bind(&me.run)
        .bind(address)
        .bind(ends_us)
        .execute(&mut *transaction)
        .await
        .map_err(&failed)?;
        for work in Work::all() {
            sqlx::query(
                "INSERT INTO leases (work, holder, run, fence, ends_us) VALUES ($1, '', '', 0, 0) ON CONFLICT (work) DO NOTHING",
            )
            .bind(work.to_string())
            .execute(&mut *transaction)
            .await
            .map_err(&failed)?;
        }
        transaction.commit().await.map_err(failed)
    }

    /// Renews what this start of the controller holds, and tells all. `Conflict` if another one goes by its name by now.
    pub async fn renew_leases(&self, me: &Holder) -> Result<LeaseLook> {
        let failed = db("renew leases");
        let now_us = self.now_us().await?;
        let ends_us = now_us.saturating_add(LEASE_US);
        let known = sqlx::query("UPDATE controllers SET ends_us = $3 WHERE name = $1 AND run = $2")
            .bind(&me.name)
            .bind(&me.run)
            .bind(ends_us)
            .execute(&self.reads)
            .await
            .map_err(&failed)?;
        if known.rows_affected() == 0 {
            return Err(conflict(
                "controller",
                &me.name,
                "was started a second time: give each controller its own `name`",
            ));
        }
        sqlx::query("UPDATE leases SET ends_us = $3 WHERE holder = $1 AND run = $2 AND ends_us > $4")
            .bind(&me.name)
            .bind(&me.run)
            .bind(ends_us)
            .bind(now_us)
            .execute(&self.reads)
            .await
            .map_err(&failed)?;
        Ok(LeaseLook { now_us, alive: self.controllers_at(now_us).await?.len(), leases: self.leases().await? })
    }

    pub async fn leases(&self) -> Result<Vec<Lease>> {
        let rows = sqlx::query("SELECT work, holder, run, fence, ends_us FROM leases ORDER BY work")
            .fetch_all(&self.reads)
            .await
            .map_err(db("read leases"))?;
        let mut leases = Vec::with_capacity(rows.len());
        for row in &rows {
            let record = Record::new("lease", row)?;
            let name = record.text("holder")?;
            let run = record.text("run")?;
            leases.push(Lease {
                work: record.parsed("work")?,
                holder: Some(Holder { name, run }).filter(|holder| !holder.name.is_empty()),
                fence: Fence(record.number("fence")?),
                ends_us: record.us("ends_us")?,
            });
        }
        leases.sort_by_key(|lease| lease.work);
        Ok(leases)
    }

    /// Takes what is still as it was seen and free, and tells what was taken, each with its new fence.
    pub async fn take_leases(&self, me: &Holder, wanted: &[(Work, Fence)]) -> Result<Vec<(Work, Fence)>> {
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let now_us = self.now_us().await?;
        let mut transaction = self.begin("take leases").await?;
        let mut taken = Vec::new();
        for (work, seen) in wanted {
            let row = sqlx::query(
                "UPDATE leases SET holder = $2, run = $3, fence = fence + 1, ends_us = $4 WHERE work = $1 AND fence = $5 \
                 AND (holder = '' OR ends_us <= $6 OR (holder = $2 AND run <> $3)) RETURNING work, fence",
            )
            .bind(work.to_string())
            .bind(&me.name)
            .bind(&me.run)
            .bind(now_us.saturating_add(LEASE_US))
            .bind(bigint(seen.0))
            .bind(now_us)
            .fetch_optional(&mut *transaction)
            .await
            .map_err(db("take leases"))?;
            if let Some(row) = row {
                taken.push((*work, Fence(Record::new("lease", &row)?.number("fence")?)));
            }
        }
        transaction.commit().await.map_err(db("take leases"))?;
        Ok(taken)
    }

    /// Whoever comes next need not wait for its end. Nothing is changed where it is held by another one by now.
    pub async fn give_back_lease(&self, me: &Holder, work: Work, fence: Fence) -> Result<()> {
        sqlx::query(
            "UPDATE leases SET holder = '', run = '', ends_us = 0 WHERE work = $1 AND fence = $2 AND holder = $3 AND run = $4",
        )
        .bind(work.to_string())
        .bind(bigint(fence.0))
        .bind(&me.name)
        .bind(&me.run)
        .execute(&self.writes)
        .await
        .map_err(db("give back lease"))?;
        Ok(())
    }

    /// A controller ends: all that it held is free at once.
    pub async fn leave(&self, me: &Holder) -> Result<()> {
        for statement in [
            "UPDATE leases SET holder = '', run = '', ends_us = 0 WHERE holder = $1 AND run = $2",
            "DELETE FROM controllers WHERE name = $1 AND run = $2",
        ] {
            let done = sqlx::query(statement).bind(&me.name).bind(&me.run).execute(&self.writes).await;
            done.map_err(db("leave"))?;
        }
        Ok(())
    }

    /// Those that are heard of, in the order of names.
    pub async fn controllers(&self) -> Result<Vec<ControllerRow>> {
        let now_us = self.now_us().await?;
        self.controllers_at(now_us).await
    }

    async fn controllers_at(&self, now_us: i64) -> Result<Vec<ControllerRow>> {
        let rows = sqlx::query("SELECT name, address FROM controllers WHERE ends_us > $1 ORDER BY name")
            .bind(now_us)
            .fetch_all(&self.reads)
            .await
            .map_err(db("read controllers"))?;
        let read = |row| {
            let record = Record::new("controller", row)?;
            Ok(ControllerRow { name: record.text("name")?, address: record.text("address")? })
        };
        rows.iter().map(read).collect()
    }

    /// What was said of the whole cloud under this name.
    ///
    /// `decide` is given it while no other controller sets anything up, and says what it shall be.
    pub async fn set_up<E>(
        &self,
        name: &str,
        decide: impl FnOnce(Option<String>) -> std::result::Result<String, E>,
    ) -> Result<std::result::Result<String, E>> {
        let failed = db("set up");
        let mut transaction = self.begin("set up").await?;
        counter::next(&mut transaction, SETTING_UP).await?;
        let row = sqlx::query("SELECT name, value FROM settings WHERE name = $1")
            .bind(name)
            .fetch_optional(&mut *transaction)
            .await
            .map_err(&failed)?;
        let known = row.map(|row| Record::new("setting", &row)?.text("value")).transpose()?;
        let value = match decide(known) {
            Ok(value) => value,
            Err(error) => return Ok(Err(error)),
        };
        sqlx::query(
            "INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        )
        .bind(name)
        .bind(&value)
        .execute(&mut *transaction)
        .await
        .map_err(&failed)?;
        transaction.commit().await.map_err(failed)?;
        Ok(Ok(value))
    }
}
