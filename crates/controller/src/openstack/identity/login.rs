//! From what a log-in says to a token: proofs, then the scope with a role on it.

use std::time::Duration;

use uuid::Uuid;
use whimbrel_api::openstack::identity::{
    auth::{AuthRequest, DomainRef, NamedRef, PasswordProof, Proof, ScopeAsk},
    fault::Fault,
};
use whimbrel_core::identity::{DomainId, UserId};
use whimbrel_daemon::pki::Secret;
use whimbrel_store::{DomainRow, GrantScope, IdentityToken, StoreError, UserRow};

use super::{
    answer::Answer,
    caller::{self, Known, there},
};
use crate::app::App;

const TOKEN_TIME_MAX: Duration = Duration::from_secs(3600);

/// The token's text, shown this once, and what it stands for.
pub(super) async fn log_in(app: &App, request: &AuthRequest) -> Answer<(Secret, Known)> {
    let mut proven: Option<Proven> = None;
    for proof in &request.proofs {
        let next = prove(app, proof).await?;
        proven = Some(match proven {
            None => next,
            Some(before) if before.user == next.user => before.and(next),
            Some(_) => return Err(Fault::unauthorized().into()),
        });
    }
    let Some(proven) = proven else { return Err(Fault::unauthorized().into()) };
    let user = there(app.store.user(&proven.user).await)?.ok_or_else(Fault::unauthorized)?;
    let scope = scope(app, &user, &request.scope).await?;
    let now_us = App::now_us();
    let issued = Secret::generate().map_err(|_| Fault::new(500, "There is no randomness to make a token of."))?;
    let life_us = i64::try_from(TOKEN_TIME_MAX.as_micros()).unwrap_or(i64::MAX);
    let mut audit_ids = vec![Uuid::now_v7().simple().to_string()];
    audit_ids.extend(proven.audit_id);
    let token = IdentityToken {
        hash: issued.hash().to_string(),
        user: user.id,
        scope,
        methods: proven.methods,
        audit_ids,
        issued_us: now_us,
        // A token that was got with a token lives no longer than that one.
        expires_us: proven.expires_us.unwrap_or(i64::MAX).min(now_us.saturating_add(life_us)),
    };
    let known = caller::stands_for(app, token).await?.ok_or_else(Fault::unauthorized)?;
    app.store.create_identity_token(&known.token).await?;
    Ok((issued, known))
}

struct Proven {
    user: UserId,
    methods: Vec<String>,
    /// The first in the chain of tokens.
    audit_id: Option<String>,
    expires_us: Option<i64>,
}

impl Proven {
    fn and(mut self, other: Proven) -> Proven {
        self.methods.extend(other.methods);
        self.methods.sort();
        self.methods.dedup();
        let sooner = [self.expires_us, other.expires_us].into_iter().flatten().min();
        Proven { audit_id: self.audit_id.or(other.audit_id), expires_us: sooner, ..self }
    }
}

async fn prove(app: &App, proof: &Proof) -> Answer<Proven> {
    let method = proof.method().to_owned();
    match proof {
        Proof::Password(proof) => {
            let user = by_password(app, proof).await?;
            Ok(Proven { user: user.id, methods: vec![method], audit_id: None, expires_us: None })
        }
        Proof::Token(shown) => {
            let known = caller::known(app, shown).await?.ok_or_else(Fault::unauthorized)?;
            let mut methods = known.token.methods;
            methods.push(method);
            methods.sort();
            methods.dedup();
            let audit_id = known.token.audit_ids.last().cloned();
            Ok(Proven { user: known.user.id, methods, audit_id, expires_us: Some(known.token.expires_us) })
        }
    }
}

async fn by_password(app: &App, proof: &PasswordProof) -> Answer<UserRow> {
    let user = find_user(app, &proof.user).await?;
    let hash = user.as_ref().filter(|user| user.enabled).and_then(|user| user.password_hash.clone());
    let matches = app.passwords.verify(proof.password.clone(), hash).await?;
    match user {
        Some(user) if matches => Ok(user),
        Some(_) | None => Err(Fault::unauthorized().into()),
    }
}

async fn find_user(app: &App, user: &NamedRef) -> Result<Option<UserRow>, StoreError> {
    match user {
        NamedRef::Id(id) => match id.parse() {
            Ok(id) => there(app.store.user(&id).await),
            Err(_) => Ok(None),
        },
        NamedRef::Name { name, domain } => match find_domain(app, domain).await? {
            Some(domain) => there(app.store.user_named(&domain.id, name).await),
            None => Ok(None),
        },
    }
}

pub(super) async fn find_domain(app: &App, domain: &DomainRef) -> Result<Option<DomainRow>, StoreError> {
    match domain {
        DomainRef::Id(id) => match id.parse::<DomainId>() {
            Ok(id) => there(app.store.domain(&id).await),
            Err(_) => Ok(None),
        },
        DomainRef::Name(name) => there(app.store.domain_named(name).await),
    }
}

/// What is asked for, or the user's default project if there is a role on it.
async fn scope(app: &App, user: &UserRow, ask: &ScopeAsk) -> Answer<Option<GrantScope>> {
    Ok(match ask {
        ScopeAsk::Unscoped => None,
        ScopeAsk::System => Some(GrantScope::System),
        ScopeAsk::Domain(domain) => {
            let domain = find_domain(app, domain).await?.ok_or_else(Fault::unauthorized)?;
            Some(GrantScope::Domain(domain.id))
        }
        ScopeAsk::Project(project) => {
            let found = match project {
                NamedRef::Id(id) => match id.parse() {
                    Ok(id) => there(app.store.project(&id).await)?,
                    Err(_) => None,
                },
                NamedRef::Name { name, domain } => match find_domain(app, domain).await? {
                    Some(domain) => there(app.store.project_named(&domain.id, name).await)?,
                    None => None,
                },
            };
            Some(GrantScope::Project(found.ok_or_else(Fault::unauthorized)?.id))
        }
        ScopeAsk::Unsaid => match &user.default_project {
            None => None,
            Some(project) => {
                let scope = GrantScope::Project(project.clone());
                let there = there(app.store.project(project).await)?.is_some_and(|project| project.enabled);
                let usable = there && !caller::roles_on(app, &user.id, &scope).await?.is_empty();
                usable.then_some(scope)
            }
        },
    })
}
