//! Server groups: servers that shall share a host, or shall not.
//!
//! Ground rules: a member is told only while its server is there; a place is taken in so that a group never has more members
//! than it may.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sqlx::{Any, Row, Transaction, any::AnyRow};
use uuid::Uuid;
use whimbrel_core::{
    id::InstanceId,
    identity::{ProjectId, UserId},
    quota,
};

use crate::{
    Page, PageAsk, Store, counter,
    error::{Result, db, not_found, unique},
    record::{Record, json, stored_words},
};

stored_words!(
    GroupPolicy {
        Affinity = "affinity",
        AntiAffinity = "anti-affinity",
        SoftAffinity = "soft-affinity",
        SoftAntiAffinity = "soft-anti-affinity",
    }
);

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GroupRules {
    /// Of anti-affinity: so many may share a host after all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_server_per_host: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerGroupRow {
    pub id: Uuid,
    pub project: ProjectId,
    pub user: UserId,
    pub name: String,
    pub policy: GroupPolicy,
    pub rules: GroupRules,
    /// Those that are there, in the order of ids. None of a group that is being made.
    pub members: Vec<InstanceId>,
    pub created_us: i64,
}

/// How many groups there may be, all that are there and the new one.
#[derive(Clone, Copy, Debug)]
pub struct GroupLimits {
    pub of_project: i64,
    /// Of one user in it.
    pub of_user: i64,
}

const OBJECT: &str = "server group";

macro_rules! select {
    ($rest:literal) => {
        concat!("SELECT id, project, user_id, name, policy, rules, created_us FROM server_groups ", $rest)
    };
}

fn read(row: &AnyRow) -> Result<ServerGroupRow> {
    let record = Record::new(OBJECT, row)?;
    Ok(ServerGroupRow {
        id: record.parsed("id")?,
        project: record.parsed("project")?,
        user: record.parsed("user_id")?,
        name: record.text("name")?,
        policy: record.parsed("policy")?,
        rules: record.json("rules")?,
        members: Vec::new(),
        created_us: record.us("created_us")?,
    })
}

impl Store {
    /// False where there are as many as there may be: then nothing was written.
    pub async fn create_server_group(&self, group: &ServerGroupRow, limits: GroupLimits) -> Result<bool> {
        let failed = db("create server group");
        let mut transaction = self.begin("create server group").await?;
        counter::next(&mut transaction, &format!("server groups of {}", group.project)).await?;
        for (user, limit) in [("", limits.of_project), (group.user.as_str(), limits.of_user)] {
            let row = sqlx::query(COUNT)
                .bind(group.project.as_str())
                .bind(user)
                .fetch_one(&mut *transaction)
                .await
                .map_err(&failed)?;
            if !quota::has_room(limit, counted(&row)?) {
                transaction.rollback().await.map_err(failed)?;
                return Ok(false);
            }
        }
        sqlx::query(
            "INSERT INTO server_groups (id, project, user_id, name, policy, rules, created_us) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(group.id.to_string())
        .bind(group.project.as_str())
        .bind(group.user.as_str())
        .bind(&group.name)
        .bind(group.policy.as_str())
        .bind(json(OBJECT, group.id, "rules", &group.rules)?)
        .bind(group.created_us)
        .execute(&mut *transaction)
        .await
        .map_err(unique("create server group", OBJECT, group.id, "exists already"))?;
        transaction.commit().await.map_err(failed)?;
        Ok(true)
    }

    /// Of the project, or of one user in it.
    pub async fn count_server_groups(&self, project: &ProjectId, user: Option<&UserId>) -> Result<u64> {
        let row = sqlx::query(COUNT)
            .bind(project.as_str())
            .bind(user.map_or("", UserId::as_str))
            .fetch_one(&self.reads)
            .await
            .map_err(db("count server groups"))?;
        counted(&row)
    }

    pub async fn server_group(&self, id: Uuid) -> Result<ServerGroupRow> {
        let row = sqlx::query(select!("WHERE id = $1"))
            .bind(id.to_string())
            .fetch_optional(&self.reads)
            .await
            .map_err(db("read server group"))?;
        let mut group = read(&row.ok_or_else(|| not_found(OBJECT, id))?)?;
        group.members = self.members(id, id, None).await?.remove(&id).unwrap_or_default();
        Ok(group)
    }

    /// All, or those of one project.
    pub async fn list_server_groups(&self, project: Option<&ProjectId>, ask: &PageAsk) -> Result<Page<ServerGroupRow>> {
        let rows = sqlx::query(select!("WHERE id > $1 AND ($3 = '' OR project = $3) ORDER BY id LIMIT $2"))
            .bind(ask.after())
            .bind(ask.rows())
            .bind(project.map_or("", ProjectId::as_str))
            .fetch_all(&self.reads)
            .await
            .map_err(db("list server groups"))?;
        let mut page = ask.page(&rows, read, |group| group.id.to_string())?;
        if let (Some(first), Some(last)) = (page.items.first(), page.items.last()) {
            let mut members = self.members(first.id, last.id, project).await?;
            for group in &mut page.items {
                group.members = members.remove(&group.id).unwrap_or_default();
            }
        }
        Ok(page)
    }

    /// With the places of its members, which stay where they are.
    pub async fn delete_server_group(&self, id: Uuid) -> Result<()> {
        let done = sqlx::query("DELETE FROM server_groups WHERE id = $1")
            .bind(id.to_string())
            .execute(&self.writes)
            .await
            .map_err(db("delete server group"))?;
        if done.rows_affected() == 0 { Err(not_found(OBJECT, id)) } else { Ok(()) }
    }

    /// False where the user has `limit` servers in the group already: then nothing was written.
    pub async fn join_server_group(
        &self,
        group: Uuid,
        instance: InstanceId,
        user: &UserId,
        limit: i64,
    ) -> Result<bool> {
        let mut transaction = self.begin("join server group").await?;
        let joined = join(&mut transaction, group, instance, user, limit).await?;
        transaction.commit().await.map_err(db("join server group"))?;
        Ok(joined)
    }

    /// Of the groups between two ids.
    async fn members(
        &self,
        first: Uuid,
        last: Uuid,
        project: Option<&ProjectId>,
    ) -> Result<BTreeMap<Uuid, Vec<InstanceId>>> {
        let rows = sqlx::query(
            "SELECT members.server_group, members.instance FROM server_group_members AS members \
             JOIN server_groups ON server_groups.id = members.server_group \
             JOIN instances ON instances.id = members.instance \
             WHERE members.server_group >= $1 AND members.server_group <= $2 \
             AND ($3 = '' OR server_groups.project = $3) ORDER BY members.server_group, members.instance LIMIT $4",
        )
        .bind(first.to_string())
        .bind(last.to_string())
        .bind(project.map_or("", ProjectId::as_str))
        .bind(MEMBERS_MAX)
        .fetch_all(&self.reads)
        .await
        .map_err(db("read members of server groups"))?;
        let mut members: BTreeMap<Uuid, Vec<InstanceId>> = BTreeMap::new();
        for row in &rows {
            let record = Record::new(OBJECT, row)?;
            members.entry(record.parsed("server_group")?).or_default().push(record.parsed("instance")?);
        }
        Ok(members)
    }
}

const COUNT: &str = "SELECT COUNT(*) AS used FROM server_groups WHERE project = $1 AND ($2 = '' OR user_id = $2)";
/// Rows of one answer: more than all servers of a cloud.
const MEMBERS_MAX: i64 = 100_000;

fn counted(row: &AnyRow) -> Result<u64> {
    let used: i64 = row.try_get("used").map_err(db("count"))?;
    Ok(used.unsigned_abs())
}

/// As [`Store::join_server_group`], within the transaction that makes the server.
pub(crate) async fn join(
    transaction: &mut Transaction<'static, Any>,
    group: Uuid,
    instance: InstanceId,
    user: &UserId,
    limit: i64,
) -> Result<bool> {
    let failed = db("join server group");
    counter::next(transaction, &format!("members of {group}")).await?;
    let row = sqlx::query(
        "SELECT COUNT(*) AS used FROM server_group_members AS members \
         JOIN instances ON instances.id = members.instance WHERE members.server_group = $1 AND instances.user_id = $2",
    )
    .bind(group.to_string())
    .bind(user.as_str())
    .fetch_one(&mut **transaction)
    .await
    .map_err(&failed)?;
    if !quota::has_room(limit, counted(&row)?) {
        return Ok(false);
    }
    let done = sqlx::query(
        "INSERT INTO server_group_members (server_group, instance) SELECT id, $2 FROM server_groups WHERE id = $1",
    )
    .bind(group.to_string())
    .bind(instance.to_string())
    .execute(&mut **transaction)
    .await
    .map_err(unique("join server group", "server", instance, "is in the group already"))?;
    if done.rows_affected() == 0 { Err(not_found(OBJECT, group)) } else { Ok(true) }
}

/// Its server goes.
pub(crate) async fn leave(transaction: &mut Transaction<'static, Any>, instance: InstanceId) -> Result<()> {
    sqlx::query("DELETE FROM server_group_members WHERE instance = $1")
        .bind(instance.to_string())
        .execute(&mut **transaction)
        .await
        .map_err(db("leave server group"))?;
    Ok(())
}
