//! Quotas of projects, of users in them and of classes, and the limits that every user may look at.
//!
//! Ground rules: what is not said of a user is said by the project, what not of the project by the class `default`; use is counted
//! at each question. A limit below what is in use is set only by force.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use serde_json::Value;
use whimbrel_api::openstack::{
    compute::{
        query::Query,
        quota::{self, QuotaUpdate, Quotas},
    },
    fault::Fault,
};
use whimbrel_core::{
    identity::{
        ProjectId, UserId,
        policy::{Operation, Target},
    },
    quota::{DEFAULT_CLASS, Limits, Settable},
};
use whimbrel_store::{ProjectQuotas, StoreError};

use super::{
    answer::{Answer, Body},
    ask::Ask,
};
use crate::{
    app::{App, Shared},
    openstack::identity::has_project,
};

const CLASS_CHARS_MAX: usize = 255;

/// What counts for a project, or for one user in it.
pub(super) async fn limits(
    app: &App,
    project: Option<&ProjectId>,
    user: Option<&UserId>,
) -> Result<Limits, StoreError> {
    let class = app.store.class_quotas(DEFAULT_CLASS).await?;
    let said = match project {
        Some(project) => app.store.project_quotas(project).await?,
        None => ProjectQuotas::default(),
    };
    let own = user.and_then(|user| said.users.get(user));
    Ok(Limits::of_layers([&class, &said.project].into_iter().chain(own)))
}

async fn quotas(app: &App, project: &ProjectId, user: Option<&UserId>) -> Result<Quotas, StoreError> {
    Ok(Quotas {
        limits: limits(app, Some(project), user).await?,
        servers: match user {
            Some(user) => app.store.user_use(project, user).await?,
            None => app.store.project_use(project).await?,
        },
        server_groups: app.store.count_server_groups(project, user).await?,
    })
}

fn no_project(id: &str) -> Fault {
    Fault::new(400, format!("Project ID {id} is not a valid project."))
}

/// One that is there, if the caller may do that with its quotas.
async fn project(ask: &Ask, app: &App, id: &str, operation: Operation) -> Answer<ProjectId> {
    let project = id.parse::<ProjectId>().ok();
    ask.may_on(operation, Target { project: project.as_ref(), ..Target::default() })?;
    let project = project.ok_or_else(|| no_project(id))?;
    let own = ask.requester().project() == Some(&project);
    if own || has_project(app, &project).await? { Ok(project) } else { Err(no_project(id).into()) }
}

fn user(query: &Query) -> Result<Option<UserId>, Fault> {
    let refused = |id: &str| Fault::new(400, format!("User ID {id} is not a valid user."));
    let named = query.get("user_id").filter(|id| !id.is_empty());
    named.map(|id| id.parse().map_err(|_| refused(id))).transpose()
}

pub(super) async fn show(ask: Ask, State(app): State<Shared>, Path(id): Path<String>) -> Answer<Json<Value>> {
    let query = ask.query(quota::QUERY)?;
    let project = project(&ask, &app, &id, Operation::ReadQuotas).await?;
    let limits = limits(&app, Some(&project), user(&query)?.as_ref()).await?;
    Ok(Json(quota::show(&id, &limits, &ask.view())))
}

pub(super) async fn detail(ask: Ask, State(app): State<Shared>, Path(id): Path<String>) -> Answer<Json<Value>> {
    let query = ask.query(quota::QUERY)?;
    let project = project(&ask, &app, &id, Operation::ReadQuotas).await?;
    let quotas = quotas(&app, &project, user(&query)?.as_ref()).await?;
    Ok(Json(quota::detail(&id, &quotas, &ask.view())))
}

pub(super) async fn defaults(ask: Ask, State(app): State<Shared>, Path(id): Path<String>) -> Answer<Json<Value>> {
    project(&ask, &app, &id, Operation::ReadDefaultQuotas).await?;
    let limits = limits(&app, None, None).await?;
    Ok(Json(quota::show(&id, &limits, &ask.view())))
}

pub(super) async fn update(
    ask: Ask,
    State(app): State<Shared>,
    Path(id): Path<String>,
    Body(body): Body,
) -> Answer<Json<Value>> {
    let change = quota::parse_update(&body, ask.at)?;
    let query = ask.query(quota::QUERY)?;
    let project = project(&ask, &app, &id, Operation::WriteQuotas).await?;
    let user = user(&query)?;
    if !change.force {
        check(&app, &project, user.as_ref(), &change).await?;
    }
    app.store.set_quotas(&project, user.as_ref(), &change.limits).await?;
    let limits = limits(&app, Some(&project), user.as_ref()).await?;
    Ok(Json(quota::updated(&limits, &ask.view())))
}

/// Neither below what is in use nor above what there is.
async fn check(app: &App, project: &ProjectId, user: Option<&UserId>, change: &QuotaUpdate) -> Answer<()> {
    let of_project = limits(app, Some(project), None).await?;
    let said = app.store.project_quotas(project).await?;
    let now = quotas(app, project, user).await?;
    for (quota, limit) in &change.limits {
        let (given, in_use) = (said.given(*quota, user), now.in_use(*quota));
        let settable = match user {
            None => Settable::of_project(of_project.of(*quota), given, in_use),
            Some(_) => Settable::of_user(of_project.of(*quota), given, in_use),
        };
        settable.check(*quota, *limit).map_err(|unsettable| Fault::new(400, unsettable.to_string()))?;
    }
    Ok(())
}

/// Of a project that is gone too.
pub(super) async fn delete(ask: Ask, State(app): State<Shared>, Path(id): Path<String>) -> Answer<StatusCode> {
    let query = ask.query(quota::QUERY)?;
    ask.may(Operation::WriteQuotas)?;
    let user = user(&query)?;
    if let Ok(project) = id.parse() {
        app.store.forget_quotas(&project, user.as_ref()).await?;
    }
    Ok(StatusCode::ACCEPTED)
}

pub(super) async fn show_class(ask: Ask, State(app): State<Shared>, Path(class): Path<String>) -> Answer<Json<Value>> {
    ask.may(Operation::ReadQuotaClasses)?;
    let limits = Limits::of_layers([&app.store.class_quotas(&class).await?]);
    Ok(Json(quota::show_class(&class, &limits, &ask.view())))
}

pub(super) async fn update_class(
    ask: Ask,
    State(app): State<Shared>,
    Path(class): Path<String>,
    Body(body): Body,
) -> Answer<Json<Value>> {
    let change = quota::parse_update_class(&body, ask.at)?;
    ask.may(Operation::WriteQuotas)?;
    let characters = class.chars().count();
    if characters > CLASS_CHARS_MAX {
        let told = format!("quota_class_name has {characters} characters, more than {CLASS_CHARS_MAX}.");
        return Err(Fault::new(400, told).into());
    }
    app.store.set_class_quotas(&class, &change.limits).await?;
    let limits = Limits::of_layers([&app.store.class_quotas(&class).await?]);
    Ok(Json(quota::updated_class(&limits, &ask.view())))
}

/// Of the own project, or for administrators of any, there or not.
pub(super) async fn show_limits(ask: Ask, State(app): State<Shared>) -> Answer<Json<Value>> {
    ask.may(Operation::ReadLimits)?;
    let query = ask.query(quota::LIMITS_QUERY)?;
    let named = query.get("tenant_id");
    let project = match named {
        None => ask.requester().project().cloned(),
        Some(id) => {
            ask.may(Operation::ReadLimitsOfAny)?;
            Some(id.parse::<ProjectId>().map_err(|_| no_project(id))?)
        }
    };
    let quotas = match &project {
        Some(project) => quotas(&app, project, None).await?,
        None => Quotas { limits: limits(&app, None, None).await?, servers: Default::default(), server_groups: 0 },
    };
    Ok(Json(quota::limits(&quotas, &ask.view())))
}
