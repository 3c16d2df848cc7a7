//! Key pairs: listed, shown, made or imported, deleted.
//!
//! Ground rules: a key pair is its user's, in whatever project; administrators may name another user. How many a user may have is
//! said by the project from which they are made.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use serde_json::Value;
use whimbrel_api::openstack::{
    compute::keypair::{self, KeyKind, Keypair, NewKeypair},
    fault::Fault,
};
use whimbrel_core::{
    identity::{
        UserId,
        policy::{Operation, Target},
    },
    quota::Quota,
};
use whimbrel_store::{KeyPairRow, NewKeyPair, StoreError, every};

use super::{
    answer::{Answer, Body},
    ask::Ask,
    made_key::{self, Unmade},
    public_key, quotas,
};
use crate::app::{App, Shared};

fn record(row: KeyPairRow) -> Keypair {
    Keypair {
        id: row.number,
        name: row.name,
        kind: match row.kind {
            whimbrel_store::KeyKind::Ssh => KeyKind::Ssh,
            whimbrel_store::KeyKind::X509 => KeyKind::X509,
        },
        public_key: row.public_key,
        fingerprint: row.fingerprint,
        user_id: row.user.into(),
        created: row.created_us,
    }
}

/// The user who is meant, if the caller may do that with his key pairs.
fn owner(ask: &Ask, named: Option<&str>, operation: Operation) -> Result<UserId, Fault> {
    let user = match named.filter(|id| !id.is_empty()) {
        None => ask.requester().user.clone(),
        Some(id) => id.parse().map_err(|_| Fault::new(400, format!("User ID {id} is not a valid user.")))?,
    };
    ask.may_on(operation, Target { user: Some(&user), ..Target::default() })?;
    Ok(user)
}

pub(super) async fn list(ask: Ask, State(app): State<Shared>) -> Answer<Json<Value>> {
    let query = ask.query(keypair::LIST_QUERY)?;
    let user = &owner(&ask, keypair::owner(&query, ask.at), Operation::ReadKeyPairs)?;
    let store = &app.store;
    let rows = every(|page| async move { store.list_key_pairs(user, &page).await }).await?;
    let (page, next) = keypair::page(rows.into_iter().map(record).collect(), &query, ask.at)?;
    Ok(Json(keypair::list(&page, next.as_deref(), &ask.view())))
}

pub(super) async fn show(ask: Ask, State(app): State<Shared>, Path(name): Path<String>) -> Answer<Json<Value>> {
    let query = ask.query(keypair::QUERY)?;
    let user = owner(&ask, keypair::owner(&query, ask.at), Operation::ReadKeyPairs)?;
    Ok(Json(keypair::show(&find(&app, &user, &name).await?, &ask.view())))
}

async fn find(app: &App, user: &UserId, name: &str) -> Answer<Keypair> {
    match app.store.key_pair(user, name).await {
        Err(StoreError::NotFound { .. }) => Err(missing(user, name).into()),
        other => Ok(record(other?)),
    }
}

fn missing(user: &UserId, name: &str) -> Fault {
    Fault::new(404, format!("Keypair {name} not found for user {user}"))
}

pub(super) async fn create(ask: Ask, State(app): State<Shared>, Body(body): Body) -> Answer<(StatusCode, Json<Value>)> {
    let new = keypair::parse_create(&body, ask.at)?;
    let user = owner(&ask, new.user_id.as_deref(), Operation::WriteKeyPairs)?;
    let (row, private_pem) = halves(new, user).await?;
    let requester = ask.requester();
    let limit = quotas::limits(&app, requester.project(), Some(&requester.user)).await?.of(Quota::KeyPairs);
    match app.store.create_key_pair(&row, limit).await {
        Ok(true) => (),
        Ok(false) => return Err(Fault::new(403, "Quota exceeded, too many key pairs.").into()),
        Err(StoreError::Conflict { .. }) => {
            return Err(Fault::new(409, format!("Key pair '{}' already exists.", row.name)).into());
        }
        Err(error) => return Err(error.into()),
    }
    let made = find(&app, &row.user, &row.name).await?;
    let (created, _) = keypair::statuses(ask.at);
    let body = keypair::created(&made, private_pem.as_deref(), &ask.view());
    Ok((StatusCode::from_u16(created).unwrap_or(StatusCode::OK), Json(body)))
}

/// With its private half, where it is made here.
async fn halves(new: NewKeypair, user: UserId) -> Result<(NewKeyPair, Option<String>), Fault> {
    let kind = match new.kind {
        KeyKind::Ssh => whimbrel_store::KeyKind::Ssh,
        KeyKind::X509 => whimbrel_store::KeyKind::X509,
    };
    let invalid = |why: String| Fault::new(400, format!("Keypair data is invalid: {why}"));
    let (public_key, private_pem) = match (new.public_key, new.kind) {
        (Some(public_key), KeyKind::Ssh | KeyKind::X509) => (public_key, None),
        (None, KeyKind::Ssh) => {
            let made = made_key::make().await.map_err(unmade)?;
            (made.public_key, Some(made.private_pem))
        }
        (None, KeyKind::X509) => {
            return Err(invalid("no certificate is made here: give yours as public_key".to_owned()));
        }
    };
    let fingerprint = public_key::fingerprint(kind, &public_key).map_err(|bad| invalid(bad.to_string()))?;
    let row = NewKeyPair { user, name: new.name, kind, public_key, fingerprint, created_us: App::now_us() };
    Ok((row, private_pem))
}

fn unmade(unmade: Unmade) -> Fault {
    match unmade {
        Unmade::Busy => {
            Fault::new(503, "Too many keys are made at once: try again in a moment, or import a public key.")
        }
        Unmade::Failed(reason) => {
            tracing::error!(reason, "no key could be made");
            Fault::new(500, "No key could be made: see the controller's log for the request's id.")
        }
    }
}

pub(super) async fn delete(ask: Ask, State(app): State<Shared>, Path(name): Path<String>) -> Answer<StatusCode> {
    let query = ask.query(keypair::QUERY)?;
    let user = owner(&ask, keypair::owner(&query, ask.at), Operation::WriteKeyPairs)?;
    match app.store.delete_key_pair(&user, &name).await {
        Err(StoreError::NotFound { .. }) => return Err(missing(&user, &name).into()),
        other => other?,
    }
    let (_, deleted) = keypair::statuses(ask.at);
    Ok(StatusCode::from_u16(deleted).unwrap_or(StatusCode::NO_CONTENT))
}
