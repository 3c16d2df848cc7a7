//! What every call of the Image API brings along: who asks, and may they.

use axum::{
    extract::FromRequestParts,
    http::request::Parts,
    response::{IntoResponse, Response},
};
use uuid::Uuid;
use whimbrel_api::openstack::image::fault::Fault;
use whimbrel_core::{
    id::ImageId,
    identity::{
        ProjectId, Requester,
        policy::{self, Operation, Target},
    },
    image,
};
use whimbrel_store::{ImageEntry, StoreError};

use super::answer::Answer;
use crate::{
    app::{App, Shared},
    openstack::identity::Caller,
};

pub(super) struct Ask {
    caller: Caller,
    pub query: Option<String>,
}

impl FromRequestParts<Shared> for Ask {
    type Rejection = Response;
    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Response> {
        let caller = Caller::from_request_parts(parts, app).await.map_err(IntoResponse::into_response)?;
        Ok(Ask { caller, query: parts.uri.query().map(str::to_owned) })
    }
}

impl Ask {
    pub(super) fn requester(&self) -> &Requester {
        self.caller.requester()
    }

    pub(super) fn own_project(&self) -> Option<&ProjectId> {
        self.requester().project()
    }

    /// What is no matter of one image.
    pub(super) fn may(&self, operation: Operation) -> Result<(), Fault> {
        self.may_on(operation, self.own_project())
    }

    /// `project` is the image's owner.
    pub(super) fn may_on(&self, operation: Operation, project: Option<&ProjectId>) -> Result<(), Fault> {
        if policy::permits(operation, self.requester(), Target { project, ..Target::default() }) {
            return Ok(());
        }
        let enough = policy::enough(operation);
        Err(Fault::new(403, format!("You are not authorized to complete this action: it needs {enough}.")))
    }

    /// One that the caller sees.
    pub(super) async fn image(&self, app: &App, id: &str) -> Answer<ImageEntry> {
        self.may(Operation::ReadImages)?;
        Ok(find(app, self.requester(), id).await?.ok_or_else(|| Fault::no_image(id))?)
    }

    /// One that the caller may change.
    pub(super) async fn writable(&self, app: &App, id: &str) -> Answer<ImageEntry> {
        let entry = self.image(app, id).await?;
        self.may_on(Operation::WriteImages, entry.owner.as_ref())?;
        Ok(entry)
    }
}

/// `None` for what is not there and for what the requester does not see. A name is no id.
pub(super) async fn find(app: &App, requester: &Requester, id: &str) -> Result<Option<ImageEntry>, StoreError> {
    let Ok(id) = Uuid::parse_str(id) else { return Ok(None) };
    match app.store.image_entry(ImageId(id)).await {
        Ok(entry) => Ok(Some(entry).filter(|entry| image::is_seen(entry.visibility, entry.owner.as_ref(), requester))),
        Err(StoreError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
