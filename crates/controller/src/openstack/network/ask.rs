//! What every call of the Network API brings along: who asks, for what, by which address.

use axum::{
    extract::FromRequestParts,
    http::request::Parts,
    response::{IntoResponse, Response},
};
use whimbrel_api::openstack::network::{
    fault::Fault,
    list::Query,
    resource::{Resource, seen_by},
};
use whimbrel_core::identity::{
    ProjectId, Requester, Role,
    policy::{self, Operation, Target},
};

use super::VERSIONED;
use crate::{
    app::Shared,
    openstack::{BaseUrl, identity::Caller},
};

pub(super) struct Ask {
    caller: Caller,
    base: String,
    query: Option<String>,
}

impl FromRequestParts<Shared> for Ask {
    type Rejection = Response;
    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Response> {
        let caller = Caller::from_request_parts(parts, app).await.map_err(IntoResponse::into_response)?;
        let Ok(BaseUrl(base)) = BaseUrl::from_request_parts(parts, app).await;
        Ok(Ask { caller, base: format!("{base}{VERSIONED}"), query: parts.uri.query().map(str::to_owned) })
    }
}

impl Ask {
    fn requester(&self) -> &Requester {
        self.caller.requester()
    }

    pub(super) fn is_admin(&self) -> bool {
        self.requester().has(Role::Admin)
    }

    pub(super) fn own_project(&self) -> Option<&ProjectId> {
        self.requester().project()
    }

    /// `project`: whose it is.
    pub(super) fn may(&self, operation: Operation, project: Option<&ProjectId>) -> Result<(), Fault> {
        if policy::permits(operation, self.requester(), Target { project, ..Target::default() }) {
            return Ok(());
        }
        let enough = policy::enough(operation);
        let told = format!("{operation:?} is disallowed by policy: it needs {enough}.");
        Err(Fault::new(403, "PolicyNotAuthorized", told))
    }

    /// Whose things are listed: an administrator sees all.
    pub(super) fn viewer(&self, operation: Operation) -> Result<Option<&ProjectId>, Fault> {
        let own = self.requester().project();
        self.may(operation, own)?;
        Ok(own.filter(|_| !self.is_admin()))
    }

    /// Whose becomes what is made: the caller's own project, if none is named.
    pub(super) fn owner(&self, operation: Operation, named: Option<ProjectId>) -> Result<ProjectId, Fault> {
        let owner = named.as_ref().or(self.requester().project());
        self.may(operation, owner)?;
        let nobody = || Fault::bad_request("Running without keystone project requires that project_id is specified.");
        owner.cloned().ok_or_else(nobody)
    }

    /// Asked before anything is changed, also where only [`Ask::one`] needs it.
    pub(super) fn query(&self, resource: &Resource) -> Result<Query, Fault> {
        Query::parse(self.query.as_deref(), resource)
    }

    /// One object as the caller may see it, with the fields that were asked for.
    pub(super) fn one(&self, resource: &Resource, body: serde_json::Value) -> Result<serde_json::Value, Fault> {
        let body = self.query(resource)?.narrowed(seen_by(resource, body, self.is_admin()));
        Ok(serde_json::json!({ resource.name: body }))
    }

    /// As [`Ask::one`], of many; `query` chooses among them.
    pub(super) fn list(
        &self,
        resource: &Resource,
        query: &Query,
        bodies: impl Iterator<Item = serde_json::Value>,
    ) -> Result<serde_json::Value, Fault> {
        let seen = bodies.map(|body| seen_by(resource, body, self.is_admin())).collect();
        query.answer(seen, resource, &self.base)
    }
}

/// What is no id is the id of nothing: clients try names first.
pub(super) fn id<T: std::str::FromStr>(resource: &Resource, text: &str) -> Result<T, Fault> {
    text.parse().map_err(|_| resource.no_such(text))
}
