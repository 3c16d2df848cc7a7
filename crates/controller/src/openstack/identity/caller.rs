//! Who shows a token, and what it opens now.

use std::collections::BTreeMap;

use axum::{extract::FromRequestParts, http::request::Parts};
use whimbrel_api::openstack::identity::{
    AUTH_TOKEN,
    fault::Fault,
    token::{Named, ScopeRecord, TokenRecord},
};
use whimbrel_core::identity::{
    DomainId, ProjectId, Requester, Scope, UserId, effective,
    policy::{self, Operation, Target},
};
use whimbrel_daemon::{clock::Timestamp, pki::Secret};
use whimbrel_store::{DomainRow, GrantFilter, GrantScope, IdentityToken, PageAsk, ProjectRow, StoreError, UserRow};

use super::answer::{Refused, TurnedAway};
use crate::app::{App, Shared};

/// Whoever made the call, with a token that is good now.
pub(crate) struct Caller(Requester);

/// A token and all that it stands for.
pub(super) struct Known {
    pub token: IdentityToken,
    pub user: UserRow,
    pub user_domain: DomainRow,
    pub scope: KnownScope,
    /// With those that are implied.
    pub roles: Vec<Named>,
    pub requester: Requester,
}

pub(super) enum KnownScope {
    Unscoped,
    Project(ProjectRow, DomainRow),
    Domain(DomainRow),
    System,
}

impl FromRequestParts<Shared> for Caller {
    type Rejection = TurnedAway;
    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, TurnedAway> {
        let shown = parts.headers.get(AUTH_TOKEN).and_then(|value| value.to_str().ok());
        let found = match (shown, &app.keystone) {
            (None, _) => Ok(None),
            (Some(shown), Some(keystone)) => keystone.vouch(shown).await.map_err(Refused::from),
            (Some(shown), None) => {
                let known = known(app, shown).await.map_err(Refused::from);
                known.map(|known| known.map(|known| known.requester))
            }
        };
        let turned_away = |refused| TurnedAway::new(refused, app.keystone.as_ref());
        match found {
            Ok(Some(requester)) => Ok(Caller(requester)),
            Ok(None) => Err(turned_away(Fault::unauthorized().into())),
            Err(refused) => Err(turned_away(refused)),
        }
    }
}

impl Caller {
    pub(crate) fn requester(&self) -> &Requester {
        &self.0
    }

    /// Of a token for a domain: its holder sees that domain and no other.
    pub(super) fn own_domain(&self) -> Option<DomainId> {
        match &self.requester().scope {
            Scope::Domain(domain) => Some(domain.clone()),
            Scope::Unscoped | Scope::Project { .. } | Scope::System => None,
        }
    }

    /// Where what is made goes if the call does not say.
    pub(super) fn usual_domain(&self) -> DomainId {
        match &self.requester().scope {
            Scope::Domain(domain) | Scope::Project { id: _, domain } => domain.clone(),
            Scope::Unscoped | Scope::System => DomainId::default_domain(),
        }
    }

    pub(super) fn may(&self, operation: Operation, target: Target<'_>) -> Result<(), Fault> {
        if policy::permits(operation, self.requester(), target) {
            return Ok(());
        }
        let enough = policy::enough(operation);
        Err(Fault::new(403, format!("You are not authorized to perform the requested action: it needs {enough}.")))
    }
}

/// Whether there is such a project, as far as can be told.
pub(crate) async fn has_project(app: &App, id: &ProjectId) -> Result<bool, StoreError> {
    match &app.keystone {
        Some(keystone) => Ok(keystone.has_project(id).await),
        None => Ok(there(app.store.project(id).await)?.is_some()),
    }
}

/// `None` for a token that is unknown, expired, or opens nothing any more.
pub(super) async fn known(app: &App, shown: &str) -> Result<Option<Known>, StoreError> {
    let Ok(secret) = shown.parse::<Secret>() else { return Ok(None) };
    match app.store.identity_token(&secret.hash().to_string(), App::now_us()).await? {
        Some(token) => stands_for(app, token).await,
        None => Ok(None),
    }
}

pub(super) async fn stands_for(app: &App, token: IdentityToken) -> Result<Option<Known>, StoreError> {
    let Some(user) = there(app.store.user(&token.user).await)?.filter(|user| user.enabled) else { return Ok(None) };
    let Some(user_domain) = enabled_domain(app, &user.domain).await? else { return Ok(None) };
    let Some(scope) = scope_of(app, token.scope.as_ref()).await? else { return Ok(None) };
    let roles = match &token.scope {
        None => Vec::new(),
        Some(granted) => roles_on(app, &user.id, granted).await?,
    };
    if token.scope.is_some() && roles.is_empty() {
        return Ok(None);
    }
    let requester_scope = match &scope {
        KnownScope::Unscoped => Scope::Unscoped,
        KnownScope::Project(project, _) => Scope::Project { id: project.id.clone(), domain: project.domain.clone() },
        KnownScope::Domain(domain) => Scope::Domain(domain.id.clone()),
        KnownScope::System => Scope::System,
    };
    let requester = Requester::new(user.id.clone(), requester_scope, roles.iter().map(|role| role.name.as_str()));
    Ok(Some(Known { token, user, user_domain, scope, roles, requester }))
}

/// The scope with what it names, if all of that is there and enabled.
async fn scope_of(app: &App, scope: Option<&GrantScope>) -> Result<Option<KnownScope>, StoreError> {
    Ok(match scope {
        None => Some(KnownScope::Unscoped),
        Some(GrantScope::System) => Some(KnownScope::System),
        Some(GrantScope::Domain(id)) => enabled_domain(app, id).await?.map(KnownScope::Domain),
        Some(GrantScope::Project(id)) => {
            let project = there(app.store.project(id).await)?.filter(|project| project.enabled);
            let Some(project) = project else { return Ok(None) };
            enabled_domain(app, &project.domain).await?.map(|domain| KnownScope::Project(project, domain))
        }
    })
}

async fn enabled_domain(app: &App, id: &DomainId) -> Result<Option<DomainRow>, StoreError> {
    Ok(there(app.store.domain(id).await)?.filter(|domain| domain.enabled))
}

/// What is granted there, and what that implies; in the order of names.
pub(super) async fn roles_on(app: &App, user: &UserId, scope: &GrantScope) -> Result<Vec<Named>, StoreError> {
    let filter = GrantFilter { user: Some(user.clone()), role: None, scope: Some(scope.clone()) };
    let granted = app.store.list_grants(&filter).await?;
    if granted.is_empty() {
        return Ok(Vec::new());
    }
    let all = app.store.list_roles(None, &PageAsk::default()).await?;
    let ids: BTreeMap<String, String> = all.items.into_iter().map(|role| (role.name, role.id.to_string())).collect();
    let names = effective(granted.iter().map(|grant| grant.role_name.as_str()));
    Ok(names.into_iter().filter_map(|name| ids.get(&name).map(|id| Named { id: id.clone(), name })).collect())
}

pub(super) fn there<T>(found: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match found {
        Ok(row) => Ok(Some(row)),
        Err(StoreError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

impl Known {
    pub(super) fn record(&self) -> TokenRecord {
        let domain = |row: &DomainRow| Named { id: row.id.to_string(), name: row.name.clone() };
        TokenRecord {
            methods: self.token.methods.clone(),
            user: Named { id: self.user.id.to_string(), name: self.user.name.clone() },
            user_domain: domain(&self.user_domain),
            scope: match &self.scope {
                KnownScope::Unscoped => ScopeRecord::Unscoped,
                KnownScope::Project(project, of) => ScopeRecord::Project {
                    project: Named { id: project.id.to_string(), name: project.name.clone() },
                    domain: domain(of),
                },
                KnownScope::Domain(of) => ScopeRecord::Domain(domain(of)),
                KnownScope::System => ScopeRecord::System,
            },
            roles: self.roles.clone(),
            audit_ids: self.token.audit_ids.clone(),
            issued_at: Timestamp(self.token.issued_us).to_string(),
            expires_at: Timestamp(self.token.expires_us).to_string(),
        }
    }
}
