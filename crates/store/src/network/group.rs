//! Security groups. Each project has one that is called `default` from the first look at its groups on.

use sqlx::{Any, Transaction, any::AnyRow};
use whimbrel_core::{id::SecurityGroupId, identity::ProjectId, network::refusal::Refusal};

use super::{Outcome, SecurityGroupRuleRow, is_foreign_key_violation, rule};
use crate::{
    Page, PageAsk, Store,
    error::{Result, conflict, db, not_found, unique},
    record::Record,
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecurityGroupRow {
    pub id: SecurityGroupId,
    pub project: ProjectId,
    /// Not unique, but for that of the default.
    pub name: String,
    pub description: String,
    pub is_default: bool,
    pub generation: i64,
    pub created_us: i64,
    pub updated_us: i64,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, project, name, description, is_default, generation, created_us, updated_us \
             FROM security_groups ",
            $rest
        )
    };
}

macro_rules! insert {
    ($rest:literal) => {
        concat!(
            "INSERT INTO security_groups (id, project, name, description, is_default, generation, created_us, \
             updated_us) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            $rest
        )
    };
}

fn read(row: &AnyRow) -> Result<SecurityGroupRow> {
    let record = Record::new("security group", row)?;
    Ok(SecurityGroupRow {
        id: record.parsed("id")?,
        project: record.parsed("project")?,
        name: record.text("name")?,
        description: record.text("description")?,
        is_default: record.flag("is_default")?,
        generation: record.number("generation")?,
        created_us: record.us("created_us")?,
        updated_us: record.us("updated_us")?,
    })
}

async fn write(
    transaction: &mut Transaction<'static, Any>,
    statement: &'static str,
    group: &SecurityGroupRow,
) -> Result<bool> {
    let done = sqlx::query(statement)
        .bind(group.id.to_string())
        .bind(group.project.as_str())
        .bind(&group.name)
        .bind(&group.description)
        .bind(i64::from(group.is_default))
        .bind(group.generation)
        .bind(group.created_us)
        .bind(group.updated_us)
        .execute(&mut **transaction)
        .await
        .map_err(unique("create security group", "security group", &group.name, "exists already"))?;
    Ok(done.rows_affected() > 0)
}

impl Store {
    /// With its first rules.
    pub async fn create_security_group(&self, group: &SecurityGroupRow, rules: &[SecurityGroupRuleRow]) -> Result<()> {
        let mut transaction = self.begin("create security group").await?;
        write(&mut transaction, insert!(""), group).await?;
        for each in rules {
            rule::insert(&mut transaction, each).await?;
        }
        transaction.commit().await.map_err(db("create security group"))
    }

    /// The project's own default group; `group` is taken where it has none yet.
    pub async fn default_security_group(
        &self,
        group: &SecurityGroupRow,
        rules: &[SecurityGroupRuleRow],
    ) -> Result<SecurityGroupRow> {
        if let Some(found) = self.find_default(&group.project).await? {
            return Ok(found);
        }
        let mut transaction = self.begin("create default security group").await?;
        if write(&mut transaction, insert!(" ON CONFLICT DO NOTHING"), group).await? {
            for each in rules {
                rule::insert(&mut transaction, each).await?;
            }
        }
        transaction.commit().await.map_err(db("create default security group"))?;
        self.find_default(&group.project).await?.ok_or_else(|| not_found("security group", "default"))
    }

    async fn find_default(&self, project: &ProjectId) -> Result<Option<SecurityGroupRow>> {
        let row = sqlx::query(select!("WHERE project = $1 AND is_default = 1"))
            .bind(project.as_str())
            .fetch_optional(&self.reads)
            .await
            .map_err(db("read security group"))?;
        row.as_ref().map(read).transpose()
    }

    pub async fn security_group(&self, id: SecurityGroupId) -> Result<SecurityGroupRow> {
        let row = sqlx::query(select!("WHERE id = $1")).bind(id.to_string()).fetch_optional(&self.reads).await;
        read(&row.map_err(db("read security group"))?.ok_or_else(|| not_found("security group", id))?)
    }

    pub async fn list_security_groups(
        &self,
        project: Option<&ProjectId>,
        ask: &PageAsk,
    ) -> Result<Page<SecurityGroupRow>> {
        let rows = sqlx::query(select!("WHERE id > $1 AND ($3 = '' OR project = $3) ORDER BY id LIMIT $2"))
            .bind(ask.after())
            .bind(ask.rows())
            .bind(project.map_or("", ProjectId::as_str))
            .fetch_all(&self.reads)
            .await
            .map_err(db("list security groups"))?;
        ask.page(&rows, read, |group| group.id.to_string())
    }

    /// Name and description; `Conflict` if it was changed since `group.generation` was read.
    pub async fn change_security_group(&self, group: &SecurityGroupRow) -> Result<()> {
        let done = sqlx::query(
            "UPDATE security_groups SET name = $3, description = $4, updated_us = $5, generation = generation + 1 \
             WHERE id = $1 AND generation = $2",
        )
        .bind(group.id.to_string())
        .bind(group.generation)
        .bind(&group.name)
        .bind(&group.description)
        .bind(group.updated_us)
        .execute(&self.writes)
        .await
        .map_err(db("change security group"))?;
        if done.rows_affected() > 0 {
            return Ok(());
        }
        self.security_group(group.id).await?;
        Err(conflict("security group", group.id, "was changed by another meanwhile"))
    }

    /// With its rules, and those of others that name it. Refused while a port has it.
    pub async fn delete_security_group(&self, id: SecurityGroupId) -> Outcome<()> {
        let done =
            sqlx::query("DELETE FROM security_groups WHERE id = $1").bind(id.to_string()).execute(&self.writes).await;
        match done {
            Ok(done) if done.rows_affected() == 0 => Err(not_found("security group", id).into()),
            Ok(_) => Ok(()),
            Err(error) if is_foreign_key_violation(&error) => Err(Refusal::GroupInUse(id).into()),
            Err(error) => Err(db("delete security group")(error).into()),
        }
    }
}
