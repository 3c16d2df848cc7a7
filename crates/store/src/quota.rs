//! Quotas: what was said of classes, projects and users, and what projects use.
//!
//! Ground rules: what nobody said anything of is not stored, so that a changed default counts at once; use is counted from what is
//! there and never kept beside it.

use std::collections::BTreeMap;

use sqlx::AnyConnection;
use whimbrel_core::{
    identity::{ProjectId, UserId},
    instance::InstanceSpec,
    quota::{ProjectUse, Quota, Said},
};

use crate::{
    PAGE_MAX, Store,
    error::{Result, db},
    record::Record,
};

/// Rows of one answer: more than the users of any project have quotas of their own.
const ROWS_MAX: i64 = 100_000;

/// What was said of a project and of users in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProjectQuotas {
    pub project: Said,
    pub users: BTreeMap<UserId, Said>,
}

impl ProjectQuotas {
    /// Sum of what users other than `but` were given of it; one without a limit is given nothing in particular.
    pub fn given(&self, quota: Quota, but: Option<&UserId>) -> i64 {
        let others = self.users.iter().filter(|(user, _)| but != Some(*user));
        let limits = others.filter_map(|(_, said)| said.get(&quota)).filter(|limit| **limit > 0);
        limits.fold(0, |sum: i64, limit| sum.saturating_add(*limit))
    }
}

impl Store {
    pub async fn class_quotas(&self, class: &str) -> Result<Said> {
        let rows = sqlx::query("SELECT class, resource, most FROM quota_classes WHERE class = $1 LIMIT $2")
            .bind(class)
            .bind(ROWS_MAX)
            .fetch_all(&self.reads)
            .await
            .map_err(db("read quotas of a class"))?;
        let said = |row| {
            let record = Record::new("quota class", row)?;
            Ok((record.parsed("resource")?, record.us("most")?))
        };
        rows.iter().map(said).collect()
    }

    /// Those that are named are set, others stay.
    pub async fn set_class_quotas(&self, class: &str, said: &Said) -> Result<()> {
        let failed = db("set quotas of a class");
        let mut transaction = self.begin("set quotas of a class").await?;
        for (quota, limit) in said {
            sqlx::query(
                "INSERT INTO quota_classes (class, resource, most) VALUES ($1, $2, $3) \
                 ON CONFLICT (class, resource) DO UPDATE SET most = excluded.most",
            )
            .bind(class)
            .bind(quota.name())
            .bind(limit)
            .execute(&mut *transaction)
            .await
            .map_err(&failed)?;
        }
        transaction.commit().await.map_err(failed)
    }

    pub async fn project_quotas(&self, project: &ProjectId) -> Result<ProjectQuotas> {
        let rows = sqlx::query("SELECT project, user_id, resource, most FROM quotas WHERE project = $1 LIMIT $2")
            .bind(project.as_str())
            .bind(ROWS_MAX)
            .fetch_all(&self.reads)
            .await
            .map_err(db("read quotas"))?;
        let mut quotas = ProjectQuotas::default();
        for row in &rows {
            let record = Record::new("quota of project", row)?;
            let said = match record.text("user_id")?.as_str() {
                "" => &mut quotas.project,
                _ => quotas.users.entry(record.parsed("user_id")?).or_default(),
            };
            said.insert(record.parsed("resource")?, record.us("most")?);
        }
        Ok(quotas)
    }

    /// Of the project, or of one user in it. Those that are named are set, others stay.
    pub async fn set_quotas(&self, project: &ProjectId, user: Option<&UserId>, said: &Said) -> Result<()> {
        let failed = db("set quotas");
        let mut transaction = self.begin("set quotas").await?;
        for (quota, limit) in said {
            sqlx::query(
                "INSERT INTO quotas (project, user_id, resource, most) VALUES ($1, $2, $3, $4) \
                 ON CONFLICT (project, user_id, resource) DO UPDATE SET most = excluded.most",
            )
            .bind(project.as_str())
            .bind(user.map_or("", UserId::as_str))
            .bind(quota.name())
            .bind(limit)
            .execute(&mut *transaction)
            .await
            .map_err(&failed)?;
        }
        transaction.commit().await.map_err(failed)
    }

    /// What was said of one user in it, or of the project and all its users, is forgotten.
    pub async fn forget_quotas(&self, project: &ProjectId, user: Option<&UserId>) -> Result<()> {
        sqlx::query("DELETE FROM quotas WHERE project = $1 AND ($2 = '' OR user_id = $2)")
            .bind(project.as_str())
            .bind(user.map_or("", UserId::as_str))
            .execute(&self.writes)
            .await
            .map_err(db("forget quotas"))?;
        Ok(())
    }

    /// What the project's servers take.
    pub async fn project_use(&self, project: &ProjectId) -> Result<ProjectUse> {
        let mut connection = self.reads.acquire().await.map_err(db("count servers"))?;
        servers_use(&mut connection, project, None).await
    }

    /// Of these, what those of one user take.
    pub async fn user_use(&self, project: &ProjectId, user: &UserId) -> Result<ProjectUse> {
        let mut connection = self.reads.acquire().await.map_err(db("count servers"))?;
        servers_use(&mut connection, project, Some(user)).await
    }
}

/// On one connection, so that it can be asked within a transaction.
pub(crate) async fn servers_use(
    connection: &mut AnyConnection,
    project: &ProjectId,
    user: Option<&UserId>,
) -> Result<ProjectUse> {
    let mut sum = ProjectUse::default();
    let mut after = String::new();
    loop {
        let rows = sqlx::query(
            "SELECT id, spec FROM instances WHERE project = $1 AND ($2 = '' OR user_id = $2) AND id > $3 \
             ORDER BY id LIMIT $4",
        )
        .bind(project.as_str())
        .bind(user.map_or("", UserId::as_str))
        .bind(&after)
        .bind(i64::from(PAGE_MAX))
        .fetch_all(&mut *connection)
        .await
        .map_err(db("count servers"))?;
        for row in &rows {
            let record = Record::new("server", row)?;
            let spec: InstanceSpec = record.json("spec")?;
            sum += ProjectUse { instances: 1, cores: spec.vcpus.into(), ram_mb: spec.ram_mb };
            after = record.text("id")?;
        }
        if rows.len() < PAGE_MAX as usize {
            return Ok(sum);
        }
    }
}
