//! Grants: roles of users on projects, domains and the system.

use axum::{
    Extension, Json, Router,
    extract::{Path, Query, State},
    http::StatusCode,
    routing::{get, put},
};
use serde::Deserialize;
use serde_json::{Value, json};
use whimbrel_api::openstack::identity::{
    fault::Fault,
    records::{self, GrantPlace, GrantRecord},
    token::Named,
};
use whimbrel_core::identity::{
    DomainId, Role, UserId,
    policy::{Operation, Target},
};
use whimbrel_store::{GrantFilter, GrantRow, GrantScope, Grantee, UserRow};

use super::{
    answer::Answer,
    caller::{self, Caller, there},
    domains, projects, roles,
};
use crate::{
    app::{App, Shared},
    openstack::BaseUrl,
};

/// On what the routes below are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Project,
    Domain,
    System,
}

/// To be nested below the place.
pub(super) fn router(place: Place) -> Router<Shared> {
    Router::new()
        .route("/users/{user}/roles", get(roles_on))
        .route("/users/{user}/roles/{role}", put(grant).get(check).delete(revoke))
        .layer(Extension(place))
}

#[derive(Deserialize)]
pub(super) struct At {
    /// Of the project or domain; the system has none.
    id: Option<String>,
    user: String,
    role: Option<String>,
}

struct Found {
    user: UserRow,
    scope: GrantScope,
    /// Of the project or domain.
    domain: Option<DomainId>,
}

async fn find(app: &App, place: Place, at: &At) -> Answer<Found> {
    let user: UserId = at.user.parse().map_err(|_| Fault::not_found("user", &at.user))?;
    let user = app.store.user(&user).await?;
    let id = at.id.as_deref().unwrap_or_default();
    let (scope, domain) = match place {
        Place::Project => {
            let project = projects::find(app, id).await?;
            (GrantScope::Project(project.id), Some(project.domain))
        }
        Place::Domain => {
            let domain = domains::find(app, id).await?;
            (GrantScope::Domain(domain.id.clone()), Some(domain.id))
        }
        Place::System => (GrantScope::System, None),
    };
    Ok(Found { user, scope, domain })
}

async fn allowed(caller: &Caller, app: &App, place: Place, at: &At, operation: Operation) -> Answer<Found> {
    let found = find(app, place, at).await;
    // A domain's own people may grant within it: both the user and the place must be of it.
    let domain = match &found {
        Ok(found) => found.domain.as_ref().filter(|domain| **domain == found.user.domain),
        Err(_) => None,
    };
    caller.may(operation, Target { domain, ..Target::default() })?;
    found
}

async fn roles_on(
    caller: Caller,
    State(app): State<Shared>,
    BaseUrl(base): BaseUrl,
    Extension(place): Extension<Place>,
    Path(at): Path<At>,
) -> Answer<Json<Value>> {
    let found = allowed(&caller, &app, place, &at, Operation::ListGrants).await?;
    let filter = GrantFilter { user: Some(found.user.id), role: None, scope: Some(found.scope) };
    let mut items = Vec::new();
    for granted in app.store.list_grants(&filter).await? {
        items.push(json!({ "id": granted.grant.role.to_string(), "name": granted.role_name }));
    }
    Ok(Json(records::list(&base, "roles", items)))
}

async fn grantee(caller: &Caller, app: &App, place: Place, at: &At, operation: Operation) -> Answer<Grantee> {
    let found = allowed(caller, app, place, at, operation).await?;
    let role = roles::find(app, at.role.as_deref().unwrap_or_default()).await?;
    if operation == Operation::WriteGrant && Role::of_name(&role.name) == Some(Role::Admin) {
        caller.may(Operation::GrantAdmin, Target::default())?;
    }
    Ok(Grantee { user: found.user.id, role: role.id, scope: found.scope })
}

async fn grant(
    caller: Caller,
    State(app): State<Shared>,
    Extension(place): Extension<Place>,
    Path(at): Path<At>,
) -> Answer<StatusCode> {
    let grantee = grantee(&caller, &app, place, &at, Operation::WriteGrant).await?;
    app.store.grant(&grantee, App::now_us()).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn check(
    caller: Caller,
    State(app): State<Shared>,
    Extension(place): Extension<Place>,
    Path(at): Path<At>,
) -> Answer<StatusCode> {
    let Grantee { user, role, scope } = grantee(&caller, &app, place, &at, Operation::ListGrants).await?;
    let filter = GrantFilter { user: Some(user), role: Some(role.clone()), scope: Some(scope) };
    if app.store.list_grants(&filter).await?.is_empty() {
        return Err(Fault::not_found("role assignment with role", role.as_str()).into());
    }
    Ok(StatusCode::NO_CONTENT)
}

async fn revoke(
    caller: Caller,
    State(app): State<Shared>,
    Extension(place): Extension<Place>,
    Path(at): Path<At>,
) -> Answer<StatusCode> {
    let grantee = grantee(&caller, &app, place, &at, Operation::WriteGrant).await?;
    app.store.revoke_grant(&grantee).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `?user.id=&role.id=&scope.project.id=&scope.domain.id=&scope.system&include_names&effective`; the dots keep this from
/// being a struct.
#[derive(Default)]
struct Asked {
    filter: GrantFilter,
    include_names: bool,
    /// An id that nobody can have: nothing matches.
    matches_none: bool,
}

fn asked(pairs: &[(String, String)]) -> Asked {
    let mut asked = Asked::default();
    for (key, value) in pairs {
        let switched_on = !matches!(value.to_ascii_lowercase().as_str(), "0" | "false");
        let mut bad = false;
        match key.as_str() {
            "user.id" => asked.filter.user = value.parse().map_err(|_| bad = true).ok(),
            "role.id" => asked.filter.role = value.parse().map_err(|_| bad = true).ok(),
            "scope.project.id" => {
                asked.filter.scope = value.parse().map(GrantScope::Project).map_err(|_| bad = true).ok();
            }
            "scope.domain.id" => {
                asked.filter.scope = value.parse().map(GrantScope::Domain).map_err(|_| bad = true).ok()
            }
            "scope.system" => asked.filter.scope = Some(GrantScope::System),
            "include_names" => asked.include_names = switched_on,
            // There are no groups here.
            "group.id" => asked.matches_none = true,
            // `effective` too: what is implied is granted with what implies it.
            _ => {}
        }
        asked.matches_none |= bad;
    }
    asked
}

pub(super) async fn list(
    caller: Caller,
    State(app): State<Shared>,
    BaseUrl(base): BaseUrl,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Answer<Json<Value>> {
    let Asked { filter, include_names, matches_none } = asked(&pairs);
    let (domain, oneself) = (caller.own_domain(), filter.user.as_ref() == Some(&caller.requester().user));
    if !oneself {
        caller.may(Operation::ListGrants, Target { domain: domain.as_ref(), ..Target::default() })?;
    }
    let rows = if matches_none { Vec::new() } else { app.store.list_grants(&filter).await? };
    let mut items = Vec::new();
    for row in rows {
        if let Some(record) = record(&app, row, include_names, domain.as_ref().filter(|_| !oneself)).await? {
            items.push(record.body(&base));
        }
    }
    Ok(Json(records::list(&base, "role_assignments", items)))
}

/// `None` for one outside of `within`.
async fn record(
    app: &App,
    row: GrantRow,
    include_names: bool,
    within: Option<&DomainId>,
) -> Answer<Option<GrantRecord>> {
    let GrantRow { grant: Grantee { user, role, scope }, role_name } = row;
    let (place, domain) = match scope {
        GrantScope::Project(id) => match there(app.store.project(&id).await)? {
            Some(project) => {
                let domain = domain_of(app, &project.domain).await?;
                let names = include_names.then_some((project.name, domain));
                (GrantPlace::Project { id: id.into(), names }, Some(project.domain))
            }
            None => (GrantPlace::Project { id: id.into(), names: None }, None),
        },
        GrantScope::Domain(id) => {
            let name = domain_of(app, &id).await?.name;
            (GrantPlace::Domain { id: id.to_string(), name: include_names.then_some(name) }, Some(id))
        }
        GrantScope::System => (GrantPlace::System, None),
    };
    if within.is_some() && within != domain.as_ref() {
        return Ok(None);
    }
    let user_names = match there(app.store.user(&user).await)?.filter(|_| include_names) {
        Some(row) => Some((row.name, domain_of(app, &row.domain).await?)),
        None => None,
    };
    let role = Named { id: role.into(), name: role_name };
    Ok(Some(GrantRecord { role, user_id: user.into(), user_names, place }))
}

async fn domain_of(app: &App, id: &DomainId) -> Answer<Named> {
    let name = there(app.store.domain(id).await)?.map(|domain| domain.name).unwrap_or_default();
    Ok(Named { id: id.to_string(), name })
}

/// `GET /auth/system`: whether the caller may get a token for the system.
pub(super) async fn own_system(
    caller: Caller,
    State(app): State<Shared>,
    BaseUrl(base): BaseUrl,
) -> Answer<Json<Value>> {
    let roles = caller::roles_on(&app, &caller.requester().user, &GrantScope::System).await?;
    let system = if roles.is_empty() { json!([]) } else { json!([{ "all": true }]) };
    Ok(Json(records::list_of(&base, "auth/system", "system", system)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(query: &str) -> Asked {
        let uri = format!("/?{query}").parse().unwrap();
        asked(&Query::<Vec<(String, String)>>::try_from_uri(&uri).unwrap().0)
    }

    #[test]
    fn a_query_says_what_must_match() {
        let asked_for = of("user.id=u&scope.project.id=p&include_names&effective=True");
        assert_eq!(asked_for.filter.user.unwrap().as_str(), "u");
        assert_eq!(asked_for.filter.scope, Some(GrantScope::Project("p".parse().unwrap())));
        assert!(asked_for.include_names && !asked_for.matches_none && asked_for.filter.role.is_none());
        assert!(!of("include_names=0").include_names);
        for none in ["user.id=a%20b", "group.id=g", "scope.domain.id="] {
            assert!(of(none).matches_none, "{none}");
        }
        assert_eq!(of("scope.system=all").filter.scope, Some(GrantScope::System));
    }
}
