//! The agent's HTTP API; see the table in `whimbrel_api::agent`. Only a certificate with the controller's role is let in.

use std::sync::Arc;

use axum::{
    Extension, Json, Router,
    extract::{DefaultBodyLimit, FromRequest, FromRequestParts, Query, Request, State, rejection::QueryRejection},
    http::{HeaderValue, StatusCode, header::CONTENT_TYPE, request::Parts},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use serde::de::DeserializeOwned;
use whimbrel_api::{
    agent::{
        ConsoleOutput, GiveUp, InstanceAsk, InstanceReport, MigrationReport, MoveFacts, ReceiveAsk, Relay,
        RetainedReport, SendAsk,
    },
    problem::Problem,
};
use whimbrel_core::{
    failure::{Failure, FailureCode},
    host::HostFacts,
    id::{InstanceId, MigrationId},
};
use whimbrel_daemon::{
    pki::{PeerIdentity, Role},
    serve::Peer,
};

use crate::{
    context::Context,
    facts::Facts,
    fences::{Fences, only_the_latest},
    instances::console_tail,
    migrate::Migrations,
};

/// A spec with the most disks and the longest command line stays far below.
const BODY_BYTES_MAX: usize = 1 << 20;

#[derive(Clone)]
pub struct Served {
    pub context: Arc<Context>,
    pub facts: Arc<Facts>,
    pub migrations: Arc<Migrations>,
}

pub fn router(served: Served) -> Router {
    let instance = put(put_instance).get(get_instance).delete(delete_instance);
    let routes = Router::new()
        .route("/v1/facts", get(get_facts))
        .route("/v1/instances", get(get_instances))
        .route("/v1/instances/{id}", instance)
        .route("/v1/instances/{id}/console", get(get_console))
        .route("/v1/instances/{id}/move-facts", get(get_move_facts))
        .route("/v1/retained/{id}", get(get_retained))
        .route("/v1/migrations/{id}", get(get_migration))
        .route("/v1/migrations/{id}/receive", put(receive))
        .route("/v1/migrations/{id}/send", put(send))
        .route("/v1/migrations/{id}/cancel", post(cancel))
        .route("/v1/migrations/{id}/discard", post(discard))
        .route("/v1/migrations/{id}/force", post(force))
        .route("/v1/migrations/{id}/relay", post(relay))
        .layer(middleware::from_fn_with_state(Arc::new(Fences::default()), only_the_latest))
        .with_state(served);
    guarded(routes)
}

/// What is around every route: who may ask, how much, and what is answered where there is nothing.
fn guarded(routes: Router) -> Router {
    routes
        .fallback(nothing_there)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn(only_the_controller))
}

async fn only_the_controller(peer: Option<Extension<Peer>>, request: Request, next: Next) -> Response {
    let identity = peer.and_then(|Extension(peer)| peer.identity);
    if identity.as_ref().map(|identity| identity.role) == Some(Role::Controller) {
        return next.run(request).await;
    }
    let who = identity.as_ref().map_or("no certificate".to_owned(), PeerIdentity::to_string);
    let detail = format!("only a controller may ask an agent, and this is {who}");
    Refused(Failure::new(FailureCode::Forbidden, detail).hint("ask the controller instead")).into_response()
}

async fn nothing_there(request: Request) -> Refused {
    let detail = format!("there is no {} {} in the agent's API", request.method(), request.uri().path());
    Refused(Failure::new(FailureCode::NotFound, detail).hint("are controller and agent of the same version?"))
}

type Answer<T> = Result<Json<T>, Refused>;

async fn get_facts(State(served): State<Served>) -> Answer<HostFacts> {
    Ok(Json(served.facts.of(&served.context).await?))
}

async fn put_instance(
    State(served): State<Served>,
    At(id): At<InstanceId>,
    Body(ask): Body<InstanceAsk>,
) -> Answer<InstanceReport> {
    same(id, ask.spec.id)?;
    Ok(Json(served.context.instances.ensure(ask).await?))
}

async fn get_instances(State(served): State<Served>) -> Json<Vec<InstanceReport>> {
    Json(served.context.instances.reports().await)
}

async fn get_instance(State(served): State<Served>, At(id): At<InstanceId>) -> Answer<InstanceReport> {
    let instances = &served.context.instances;
    let instance = instances.get(id).ok_or_else(|| not_here(&served, id))?;
    Ok(Json(instances.report(&instance).await))
}

#[derive(serde::Deserialize)]
struct ConsoleQuery {
    lines: Option<u32>,
}

async fn get_console(
    State(served): State<Served>,
    At(id): At<InstanceId>,
    query: Result<Query<ConsoleQuery>, QueryRejection>,
) -> Answer<ConsoleOutput> {
    let Query(query) = query.map_err(|rejection| Failure::new(FailureCode::BadRequest, rejection.body_text()))?;
    let instance = served.context.instances.get(id).ok_or_else(|| not_here(&served, id))?;
    Ok(Json(ConsoleOutput { output: console_tail(instance.dir(), query.lines)? }))
}

fn not_here(served: &Served, id: InstanceId) -> Failure {
    Failure::new(FailureCode::NotFound, format!("server {id} is not on host {}", served.context.host()))
}

async fn delete_instance(State(served): State<Served>, At(id): At<InstanceId>) -> Result<StatusCode, Refused> {
    served.context.instances.delete(id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn get_move_facts(State(served): State<Served>, At(id): At<InstanceId>) -> Answer<MoveFacts> {
    Ok(Json(served.migrations.move_facts(id).await?))
}

async fn get_retained(State(served): State<Served>, At(id): At<InstanceId>) -> Json<RetainedReport> {
    let retained = served.context.instances.retained(id).await;
    let disks = |retained: &crate::instances::Retained| retained.disks.iter().map(|disk| disk.name.clone()).collect();
    Json(RetainedReport {
        id,
        handed_over_epoch: retained.as_ref().map(|retained| retained.epoch),
        disks: retained.as_ref().map(disks).unwrap_or_default(),
    })
}

async fn receive(
    State(served): State<Served>,
    At(id): At<MigrationId>,
    Body(ask): Body<ReceiveAsk>,
) -> Answer<MigrationReport> {
    same(id, ask.migration)?;
    Ok(Json(served.migrations.receive(ask).await?))
}

async fn send(
    State(served): State<Served>,
    At(id): At<MigrationId>,
    Body(ask): Body<SendAsk>,
) -> Answer<MigrationReport> {
    same(id, ask.migration)?;
    Ok(Json(served.migrations.send(ask).await?))
}

async fn cancel(
    State(served): State<Served>,
    At(id): At<MigrationId>,
    Body(ask): Body<GiveUp>,
) -> Answer<MigrationReport> {
    Ok(Json(served.migrations.cancel(id, ask).await?))
}

async fn discard(
    State(served): State<Served>,
    At(id): At<MigrationId>,
    Body(ask): Body<GiveUp>,
) -> Answer<MigrationReport> {
    Ok(Json(served.migrations.discard(id, ask).await?))
}

async fn force(State(served): State<Served>, At(id): At<MigrationId>) -> Answer<MigrationReport> {
    Ok(Json(served.migrations.force(id)?))
}

async fn relay(
    State(served): State<Served>,
    At(id): At<MigrationId>,
    Body(word): Body<Relay>,
) -> Answer<MigrationReport> {
    Ok(Json(served.migrations.relay(id, word).await?))
}

async fn get_migration(State(served): State<Served>, At(id): At<MigrationId>) -> Answer<MigrationReport> {
    let report = served.migrations.report(id).ok_or_else(|| {
        Failure::new(FailureCode::NotFound, format!("host {} never heard of migration {id}", served.context.host()))
    })?;
    Ok(Json(report))
}

fn same<Id: PartialEq + std::fmt::Display>(path: Id, body: Id) -> Result<(), Failure> {
    if path == body {
        return Ok(());
    }
    Err(Failure::new(FailureCode::BadRequest, format!("the path names {path}, the body {body}")))
}

/// A JSON body; what is none is refused as a problem.
struct Body<T>(T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Refused;
    async fn from_request(request: Request, state: &S) -> Result<Self, Refused> {
        let parsed = Json::<T>::from_request(request, state).await;
        let Json(body) = parsed.map_err(|rejection| {
            Failure::new(FailureCode::BadRequest, rejection.body_text())
                .hint("are controller and agent of the same version?")
        })?;
        Ok(Body(body))
    }
}

/// The id in the path.
struct At<T>(T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for At<T> {
    type Rejection = Refused;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        let parsed = axum::extract::Path::<T>::from_request_parts(parts, state).await;
        let axum::extract::Path(id) = parsed.map_err(|rejection| {
            Failure::new(FailureCode::BadRequest, format!("{}: {}", parts.uri.path(), rejection.body_text()))
        })?;
        Ok(At(id))
    }
}

/// A failure as an answer.
#[derive(Debug)]
pub struct Refused(pub Failure);

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Refused(failure)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let problem = Problem::of(self.0);
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(problem)).into_response();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        response
    }
}

#[cfg(test)]
mod tests {
    use axum::body::{Body as HttpBody, to_bytes};
    use tower::ServiceExt;

    use super::*;

    async fn ask(identity: Option<PeerIdentity>, path: &str, body: &str) -> (u16, serde_json::Value) {
        async fn take(At(id): At<MigrationId>, Body(_): Body<GiveUp>) -> Result<String, Refused> {
            same(id, id)?;
            Ok("\"taken\"".to_owned())
        }
        let routes = guarded(Router::new().route("/v1/migrations/{id}/cancel", post(take)));
        let mut request =
            Request::post(path).header(CONTENT_TYPE, "application/json").body(HttpBody::from(body.to_owned())).unwrap();
        request.extensions_mut().insert(Peer { identity, address: ([127, 0, 0, 1], 1).into() });
        let response = routes.oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let bytes = to_bytes(response.into_body(), BODY_BYTES_MAX).await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap())
    }

    #[tokio::test]
    async fn only_a_controller_is_let_in_and_every_refusal_is_a_problem() {
        let controller = || Some(PeerIdentity::controller("c".parse().unwrap()));
        let agent = || Some(PeerIdentity::agent("h2".parse().unwrap()));
        let id = uuid::Uuid::from_u128(1);
        let path = format!("/v1/migrations/{id}/cancel");
        let good =
            format!(r#"{{"instance":"{id}","epoch":2,"failure":{{"code":"cancelled","detail":"by the operator"}}}}"#);
        assert_eq!(ask(controller(), &path, &good).await, (200, "taken".into()));
        let check = async |identity, path: &str, body: &str, status: u16, code: &str| {
            let (got, problem) = ask(identity, path, body).await;
            assert_eq!(
                (got, problem["code"].as_str(), problem["status"].as_u64()),
                (status, Some(code), Some(status.into())),
                "{problem}"
            );
            assert!(!problem["detail"].as_str().unwrap_or_default().is_empty());
        };
        check(agent(), &path, &good, 403, "forbidden").await;
        check(None, &path, &good, 403, "forbidden").await;
        check(agent(), "/v1/nothing", "", 403, "forbidden").await;
        check(controller(), "/v1/nothing", "", 404, "not_found").await;
        check(controller(), "/v1/migrations/7/cancel", &good, 400, "bad_request").await;
        check(controller(), &path, "{", 400, "bad_request").await;
        check(controller(), &path, "{}", 400, "bad_request").await;
    }
}
