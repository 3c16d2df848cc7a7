//! Flavors: size templates. Instances keep their own copy of the sizes, so a flavor may go while they live.

use sqlx::any::AnyRow;
use whimbrel_core::id::FlavorId;

use crate::{
    Page, PageAsk, Store,
    error::{Result, db, not_found, unique},
    record::{Record, bigint},
};

#[derive(Clone, Debug, PartialEq)]
pub struct FlavorRow {
    pub id: FlavorId,
    /// Unique.
    pub name: String,
    pub vcpus: u32,
    pub ram_mb: u64,
    pub disk_gb: u64,
    pub ephemeral_gb: u64,
    pub swap_mb: u64,
    /// What clients of the Compute API call it by; unique.
    pub flavorid: String,
    pub rxtx_factor: f64,
    /// Seen by every project; one that is not, by those that have access.
    pub public: bool,
    pub description: Option<String>,
    pub created_us: i64,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, name, vcpus, ram_mb, disk_gb, ephemeral_gb, swap_mb, flavorid, rxtx_factor, public, \
             description, created_us FROM flavors ",
            $rest
        )
    };
}

fn read(row: &AnyRow) -> Result<FlavorRow> {
    let record = Record::new("flavor", row)?;
    Ok(FlavorRow {
        id: record.parsed("id")?,
        name: record.text("name")?,
        vcpus: record.number("vcpus")?,
        ram_mb: record.number("ram_mb")?,
        disk_gb: record.number("disk_gb")?,
        ephemeral_gb: record.number("ephemeral_gb")?,
        swap_mb: record.number("swap_mb")?,
        flavorid: record.text("flavorid")?,
        rxtx_factor: record.real("rxtx_factor")?,
        public: record.flag("public")?,
        description: record.text_opt("description")?,
        created_us: record.us("created_us")?,
    })
}

impl Store {
    pub async fn create_flavor(&self, flavor: &FlavorRow) -> Result<()> {
        sqlx::query(
            "INSERT INTO flavors (id, name, vcpus, ram_mb, disk_gb, ephemeral_gb, swap_mb, flavorid, rxtx_factor, \
             public, description, created_us) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        )
        .bind(flavor.id.to_string())
        .bind(&flavor.name)
        .bind(i64::from(flavor.vcpus))
        .bind(bigint(flavor.ram_mb))
        .bind(bigint(flavor.disk_gb))
        .bind(bigint(flavor.ephemeral_gb))
        .bind(bigint(flavor.swap_mb))
        .bind(&flavor.flavorid)
        .bind(flavor.rxtx_factor)
        .bind(i64::from(flavor.public))
        .bind(&flavor.description)
        .bind(flavor.created_us)
        .execute(&self.writes)
        .await
        .map_err(unique("create flavor", "flavor", &flavor.name, "exists already"))?;
        Ok(())
    }

    /// By id or name.
    pub async fn flavor(&self, id_or_name: &str) -> Result<FlavorRow> {
        let row = sqlx::query(select!("WHERE id = $1 OR name = $1"))
            .bind(id_or_name)
            .fetch_optional(&self.reads)
            .await
            .map_err(db("read flavor"))?;
        read(&row.ok_or_else(|| not_found("flavor", id_or_name))?)
    }

    /// As clients of the Compute API name it: never by its name.
    pub async fn flavor_by_flavorid(&self, flavorid: &str) -> Result<FlavorRow> {
        let row = sqlx::query(select!("WHERE flavorid = $1"))
            .bind(flavorid)
            .fetch_optional(&self.reads)
            .await
            .map_err(db("read flavor"))?;
        read(&row.ok_or_else(|| not_found("flavor", flavorid))?)
    }

    pub async fn describe_flavor(&self, id: FlavorId, description: Option<&str>) -> Result<()> {
        let done = sqlx::query("UPDATE flavors SET description = $2 WHERE id = $1")
            .bind(id.to_string())
            .bind(description)
            .execute(&self.writes)
            .await
            .map_err(db("describe flavor"))?;
        if done.rows_affected() == 0 { Err(not_found("flavor", id)) } else { Ok(()) }
    }

    pub async fn list_flavors(&self, ask: &PageAsk) -> Result<Page<FlavorRow>> {
        let rows = sqlx::query(select!("WHERE id > $1 ORDER BY id LIMIT $2"))
            .bind(ask.after())
            .bind(ask.rows())
            .fetch_all(&self.reads)
            .await
            .map_err(db("list flavors"))?;
        ask.page(&rows, read, |flavor| flavor.id.to_string())
    }

    pub async fn delete_flavor(&self, id: FlavorId) -> Result<()> {
        let done = sqlx::query("DELETE FROM flavors WHERE id = $1")
            .bind(id.to_string())
            .execute(&self.writes)
            .await
            .map_err(db("delete flavor"))?;
        if done.rows_affected() == 0 { Err(not_found("flavor", id)) } else { Ok(()) }
    }
}
