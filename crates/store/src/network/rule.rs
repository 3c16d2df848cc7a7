//! Rules of security groups.

use ipnet::IpNet;
use sqlx::{Any, Transaction, any::AnyRow};
use whimbrel_core::{
    id::{SecurityGroupId, SecurityGroupRuleId},
    identity::ProjectId,
    network::{address::IpVersion, refusal::Refusal},
};

use super::{Outcome, is_foreign_key_violation};
use crate::{
    Page, PageAsk, Store,
    error::{Result, db, not_found},
    record::{Record, stored_words},
};

stored_words!(RuleDirection {
    Ingress = "ingress",
    Egress = "egress",
});

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecurityGroupRuleRow {
    pub id: SecurityGroupRuleId,
    pub group: SecurityGroupId,
    pub project: ProjectId,
    pub direction: RuleDirection,
    pub version: IpVersion,
    /// A name or a number; `None`: any.
    pub protocol: Option<String>,
    /// Of ICMP: the type.
    pub port_min: Option<u16>,
    /// Of ICMP: the code.
    pub port_max: Option<u16>,
    pub remote_prefix: Option<IpNet>,
    pub remote_group: Option<SecurityGroupId>,
    pub description: String,
    pub created_us: i64,
}

const V4: &str = "IPv4";
const V6: &str = "IPv6";

fn ethertype(version: IpVersion) -> &'static str {
    match version {
        IpVersion::V4 => V4,
        IpVersion::V6 => V6,
    }
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, security_group, project, direction, ethertype, protocol, port_min, port_max, remote_prefix, \
             remote_group, description, created_us FROM security_group_rules ",
            $rest
        )
    };
}

fn read(row: &AnyRow) -> Result<SecurityGroupRuleRow> {
    let record = Record::new("security group rule", row)?;
    let port = |column: &'static str| {
        let number = record.us_opt(column)?;
        let port = number.map(|number| u16::try_from(number).map_err(|error| record.corrupt(column, error)));
        port.transpose()
    };
    let version = match record.text("ethertype")?.as_str() {
        V4 => IpVersion::V4,
        V6 => IpVersion::V6,
        other => return Err(record.corrupt("ethertype", format!("'{other}' is not known"))),
    };
    Ok(SecurityGroupRuleRow {
        id: record.parsed("id")?,
        group: record.parsed("security_group")?,
        project: record.parsed("project")?,
        direction: record.parsed("direction")?,
        version,
        protocol: record.text_opt("protocol")?,
        port_min: port("port_min")?,
        port_max: port("port_max")?,
        remote_prefix: record.parsed_opt("remote_prefix")?,
        remote_group: record.parsed_opt("remote_group")?,
        description: record.text("description")?,
        created_us: record.us("created_us")?,
    })
}

pub(super) async fn insert(
    transaction: &mut Transaction<'static, Any>,
    rule: &SecurityGroupRuleRow,
) -> std::result::Result<(), crate::StoreError> {
    write(transaction, rule).await.map_err(db("create security group rule"))
}

async fn write(
    transaction: &mut Transaction<'static, Any>,
    rule: &SecurityGroupRuleRow,
) -> std::result::Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO security_group_rules (id, security_group, project, direction, ethertype, protocol, port_min, \
         port_max, remote_prefix, remote_group, description, created_us) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
    )
    .bind(rule.id.to_string())
    .bind(rule.group.to_string())
    .bind(rule.project.as_str())
    .bind(rule.direction.as_str())
    .bind(ethertype(rule.version))
    .bind(&rule.protocol)
    .bind(rule.port_min.map(i64::from))
    .bind(rule.port_max.map(i64::from))
    .bind(rule.remote_prefix.map(|net| net.to_string()))
    .bind(rule.remote_group.map(|group| group.to_string()))
    .bind(&rule.description)
    .bind(rule.created_us)
    .execute(&mut **transaction)
    .await
    .map(drop)
}

impl Store {
    /// Refused where its group or the group that it names is not there, and where the group has such a rule already.
    pub async fn create_security_group_rule(&self, rule: &SecurityGroupRuleRow) -> Outcome<()> {
        let failed = db("create security group rule");
        let mut transaction = self.begin("create security group rule").await?;
        // The group's row is what two who add the same rule wait for.
        let turn = sqlx::query("UPDATE security_groups SET updated_us = $2, generation = generation + 1 WHERE id = $1")
            .bind(rule.group.to_string())
            .bind(rule.created_us)
            .execute(&mut *transaction)
            .await
            .map_err(&failed)?;
        if turn.rows_affected() == 0 {
            return Err(not_found("security group", rule.group).into());
        }
        let rows = sqlx::query(select!("WHERE security_group = $1"))
            .bind(rule.group.to_string())
            .fetch_all(&mut *transaction)
            .await
            .map_err(&failed)?;
        for row in &rows {
            let (id, description, created_us) = (rule.id, rule.description.clone(), rule.created_us);
            if (SecurityGroupRuleRow { id, description, created_us, ..read(row)? }) == *rule {
                return Err(Refusal::RuleExists.into());
            }
        }
        match write(&mut transaction, rule).await {
            Ok(()) => Ok(transaction.commit().await.map_err(failed)?),
            Err(error) if is_foreign_key_violation(&error) => {
                Err(Refusal::NoGroup(rule.remote_group.unwrap_or(rule.group)).into())
            }
            Err(error) => Err(failed(error).into()),
        }
    }

    pub async fn security_group_rule(&self, id: SecurityGroupRuleId) -> Result<SecurityGroupRuleRow> {
        let row = sqlx::query(select!("WHERE id = $1")).bind(id.to_string()).fetch_optional(&self.reads).await;
        read(&row.map_err(db("read security group rule"))?.ok_or_else(|| not_found("security group rule", id))?)
    }

    /// Of one project's groups, or of all.
    pub async fn list_security_group_rules(
        &self,
        project: Option<&ProjectId>,
        ask: &PageAsk,
    ) -> Result<Page<SecurityGroupRuleRow>> {
        let rows = sqlx::query(select!("WHERE id > $1 AND ($3 = '' OR project = $3) ORDER BY id LIMIT $2"))
            .bind(ask.after())
            .bind(ask.rows())
            .bind(project.map_or("", ProjectId::as_str))
            .fetch_all(&self.reads)
            .await
            .map_err(db("list security group rules"))?;
        ask.page(&rows, read, |rule| rule.id.to_string())
    }

    pub async fn delete_security_group_rule(&self, id: SecurityGroupRuleId) -> Result<()> {
        let done = sqlx::query("DELETE FROM security_group_rules WHERE id = $1")
            .bind(id.to_string())
            .execute(&self.writes)
            .await
            .map_err(db("delete security group rule"))?;
        if done.rows_affected() == 0 { Err(not_found("security group rule", id)) } else { Ok(()) }
    }
}
