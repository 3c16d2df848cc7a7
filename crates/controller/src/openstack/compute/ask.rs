//! What every call of the Compute API brings along: who asks, at which version, by which address.

use axum::{
    extract::FromRequestParts,
    http::request::Parts,
    response::{IntoResponse, Response},
};
use whimbrel_api::openstack::{
    compute::{
        query::Query,
        shape::{View, Viewer},
    },
    fault::Fault,
    microversion::Microversion,
};
use whimbrel_core::{
    identity::{
        ProjectId, Requester, Role,
        policy::{self, Operation, Target},
    },
    server::Ownership,
};

use super::{VERSIONED, version::At};
use crate::{
    app::Shared,
    openstack::{BaseUrl, RequestId, identity::Caller},
};

pub(super) struct Ask {
    caller: Caller,
    pub at: Microversion,
    /// Of the log line, the answer and the instance's action.
    pub request_id: String,
    base: String,
    query: Option<String>,
}

impl FromRequestParts<Shared> for Ask {
    type Rejection = Response;
    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Response> {
        let caller = Caller::from_request_parts(parts, app).await.map_err(IntoResponse::into_response)?;
        let Ok(BaseUrl(base)) = BaseUrl::from_request_parts(parts, app).await;
        let at = parts.extensions.get::<At>().map_or(Microversion::FIRST, |At(at)| *at);
        let query = parts.uri.query().map(str::to_owned);
        let request_id = parts.extensions.get::<RequestId>().map_or_else(String::new, |RequestId(id)| id.clone());
        Ok(Ask { caller, at, request_id, base: format!("{base}{VERSIONED}"), query })
    }
}

impl Ask {
    pub(super) fn requester(&self) -> &Requester {
        self.caller.requester()
    }

    pub(super) fn is_admin(&self) -> bool {
        self.requester().has(Role::Admin)
    }

    pub(super) fn view(&self) -> View<'_> {
        let viewer = if self.is_admin() { Viewer::Admin } else { Viewer::Member };
        View { at: self.at, viewer, base: &self.base }
    }

    pub(super) fn query(&self, known: &[&str]) -> Result<Query, Fault> {
        Query::parse(self.query.as_deref(), known, self.at)
    }

    /// Who asks, as records keep it.
    pub(super) fn ownership(&self) -> Ownership {
        let requester = self.requester();
        Ownership { project: requester.project().cloned(), user: Some(requester.user.clone()) }
    }

    /// For lists with rules of their own.
    pub(super) fn raw_query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    pub(super) fn may(&self, operation: Operation) -> Result<(), Fault> {
        self.may_in(operation, None)
    }

    /// About what is that project's.
    pub(super) fn may_in(&self, operation: Operation, project: Option<&ProjectId>) -> Result<(), Fault> {
        self.may_on(operation, Target { project, ..Target::default() })
    }

    pub(super) fn may_on(&self, operation: Operation, target: Target<'_>) -> Result<(), Fault> {
        if policy::permits(operation, self.requester(), target) {
            return Ok(());
        }
        let enough = policy::enough(operation);
        Err(Fault::new(403, format!("Policy doesn't allow this to be performed: it needs {enough}.")))
    }
}
