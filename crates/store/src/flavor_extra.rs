//! What hangs on flavors: extra specs, and the projects that may use one that is not public.

use std::collections::BTreeMap;

use whimbrel_core::{id::FlavorId, identity::ProjectId};

use crate::{
    Store,
    error::{Result, db, not_found, unique},
    record::Record,
};

/// Rows of one answer: more than all flavors of a cloud have.
const ROWS_MAX: i64 = 100_000;

impl Store {
    /// Of one, or of all that have any.
    pub async fn extra_specs(&self, flavor: Option<FlavorId>) -> Result<BTreeMap<FlavorId, BTreeMap<String, String>>> {
        let rows = sqlx::query(
            "SELECT flavor, key, value FROM flavor_extra_specs WHERE $1 = '' OR flavor = $1 ORDER BY flavor, key LIMIT $2",
        )
        .bind(flavor.map(|id| id.to_string()).unwrap_or_default())
        .bind(ROWS_MAX)
        .fetch_all(&self.reads)
        .await
        .map_err(db("read extra specs"))?;
        let mut specs: BTreeMap<FlavorId, BTreeMap<String, String>> = BTreeMap::new();
        for row in &rows {
            let record = Record::new("flavor", row)?;
            specs.entry(record.parsed("flavor")?).or_default().insert(record.text("key")?, record.text("value")?);
        }
        Ok(specs)
    }

    /// Those that are named are set, others stay.
    pub async fn set_extra_specs(&self, flavor: FlavorId, specs: &BTreeMap<String, String>) -> Result<()> {
        let failed = db("set extra specs");
        let mut transaction = self.begin("set extra specs").await?;
        for (key, value) in specs {
            sqlx::query(
                "INSERT INTO flavor_extra_specs (flavor, key, value) VALUES ($1, $2, $3) \
                 ON CONFLICT (flavor, key) DO UPDATE SET value = excluded.value",
            )
            .bind(flavor.to_string())
            .bind(key)
            .bind(value)
            .execute(&mut *transaction)
            .await
            .map_err(&failed)?;
        }
        transaction.commit().await.map_err(failed)
    }

    pub async fn remove_extra_spec(&self, flavor: FlavorId, key: &str) -> Result<()> {
        let done = sqlx::query("DELETE FROM flavor_extra_specs WHERE flavor = $1 AND key = $2")
            .bind(flavor.to_string())
            .bind(key)
            .execute(&self.writes)
            .await
            .map_err(db("remove extra spec"))?;
        if done.rows_affected() == 0 { Err(not_found("extra spec", key)) } else { Ok(()) }
    }

    /// Of one, or of all that have any; projects in the order of their ids.
    pub async fn flavor_access(&self, flavor: Option<FlavorId>) -> Result<BTreeMap<FlavorId, Vec<ProjectId>>> {
        let rows = sqlx::query(
            "SELECT flavor, project FROM flavor_access WHERE $1 = '' OR flavor = $1 ORDER BY flavor, project LIMIT $2",
        )
        .bind(flavor.map(|id| id.to_string()).unwrap_or_default())
        .bind(ROWS_MAX)
        .fetch_all(&self.reads)
        .await
        .map_err(db("read flavor access"))?;
        let mut access: BTreeMap<FlavorId, Vec<ProjectId>> = BTreeMap::new();
        for row in &rows {
            let record = Record::new("flavor", row)?;
            access.entry(record.parsed("flavor")?).or_default().push(record.parsed("project")?);
        }
        Ok(access)
    }

    pub async fn allow_flavor(&self, flavor: FlavorId, project: &ProjectId) -> Result<()> {
        sqlx::query("INSERT INTO flavor_access (flavor, project) VALUES ($1, $2)")
            .bind(flavor.to_string())
            .bind(project.as_str())
            .execute(&self.writes)
            .await
            .map_err(unique("allow flavor", "project", project, "has access already"))?;
        Ok(())
    }

    pub async fn forbid_flavor(&self, flavor: FlavorId, project: &ProjectId) -> Result<()> {
        let done = sqlx::query("DELETE FROM flavor_access WHERE flavor = $1 AND project = $2")
            .bind(flavor.to_string())
            .bind(project.as_str())
            .execute(&self.writes)
            .await
            .map_err(db("forbid flavor"))?;
        if done.rows_affected() == 0 { Err(not_found("access of project", project)) } else { Ok(()) }
    }
}
