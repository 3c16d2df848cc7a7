//! The coordinator's effects as calls of the agents. Each is idempotent; each is answered with a report.

use std::time::Duration;

use futures_util::future::join_all;
use whimbrel_api::agent::{GiveUp, MigrationReport, MoveOptions, ReceiveAsk, Relay, Role, SendAsk};
use whimbrel_core::{
    failure::{Failure, FailureCode},
    instance::InstanceSpec,
    migration::{
        coordinator::Effect,
        message::{AskSource, AskTarget},
    },
};
use whimbrel_store::MigrationRow;

use crate::{answer::failure_of, app::App};

/// An agent that hangs must not hold up what is to be told to the other one.
const LOOK_TIME_MAX: Duration = Duration::from_secs(3);
const ASK_TIME_MAX: Duration = Duration::from_secs(10);

/// What the asks of one migration need beside its row.
pub(super) struct Asks {
    pub(super) spec: InstanceSpec,
    pub(super) options: MoveOptions,
}

type Answered = (Effect, Result<MigrationReport, Failure>);

impl Asks {
    /// Whom an effect asks, and whether it is the ask with which that side begins.
    pub(super) fn of(effect: &Effect) -> Option<(Role, bool)> {
        match effect {
            Effect::TellSource(ask) => Some((Role::Source, *ask == AskSource::Send)),
            Effect::TellTarget(ask) => Some((Role::Target, *ask == AskTarget::Receive)),
            // Done in the transaction that stored the phase.
            Effect::Free(_) | Effect::Close(_) => None,
        }
    }

    /// All at once; the answers in the order of the effects.
    pub(super) async fn perform_all(&self, app: &App, row: &MigrationRow, effects: &[Effect]) -> Vec<Answered> {
        let asked = effects.iter().filter(|effect| Asks::of(effect).is_some()).map(async |effect| {
            let answer = match effect {
                Effect::TellSource(ask) => within(ASK_TIME_MAX, "source", self.tell_source(app, row, ask)).await,
                Effect::TellTarget(ask) => within(ASK_TIME_MAX, "target", self.tell_target(app, row, ask)).await,
                Effect::Free(_) | Effect::Close(_) => Err(Failure::new(FailureCode::Internal, "an end is no ask")),
            };
            (effect.clone(), answer)
        });
        join_all(asked).await
    }

    pub(super) async fn report(&self, app: &App, row: &MigrationRow, role: Role) -> Result<MigrationReport, Failure> {
        let (word, host) = match role {
            Role::Source => ("source", &row.source),
            Role::Target => ("target", &row.target),
        };
        within(LOOK_TIME_MAX, word, async {
            let host = app.store.host(host).await.map_err(failure_of)?;
            app.agents.of(&host)?.migration(row.id).await
        })
        .await
    }

    async fn tell_source(&self, app: &App, row: &MigrationRow, ask: &AskSource) -> Result<MigrationReport, Failure> {
        let agent = app.agents.of(&app.store.host(&row.source).await.map_err(failure_of)?)?;
        match ask {
            AskSource::Send => {
                let target = app.store.host(&row.target).await.map_err(failure_of)?;
                let facts = target.facts.ok_or_else(|| {
                    Failure::new(FailureCode::HostDown, format!("host '{}' has never reported", row.target))
                })?;
                let send = SendAsk {
                    migration: row.id,
                    instance: row.instance,
                    epoch: row.epoch,
                    target: row.target.clone(),
                    target_address: facts.migration_address,
                    credential: row.credential.clone(),
                    options: self.options.clone(),
                    storage: row.storage,
                };
                agent.send(&send).await
            }
            AskSource::Cancel { failure } => agent.cancel(row.id, &give_up(row, failure)).await,
            AskSource::Query => agent.migration(row.id).await,
            AskSource::Relay(word) => agent.relay(row.id, &Relay::ToSource(word.clone())).await,
        }
    }

    async fn tell_target(&self, app: &App, row: &MigrationRow, ask: &AskTarget) -> Result<MigrationReport, Failure> {
        let agent = app.agents.of(&app.store.host(&row.target).await.map_err(failure_of)?)?;
        match ask {
            AskTarget::Receive => {
                let receive = ReceiveAsk {
                    migration: row.id,
                    spec: self.spec.clone(),
                    epoch: row.epoch,
                    source: row.source.clone(),
                    credential: row.credential.clone(),
                    storage: row.storage,
                };
                agent.receive(&receive).await
            }
            AskTarget::Discard { failure } => agent.discard(row.id, &give_up(row, failure)).await,
            AskTarget::Query => agent.migration(row.id).await,
            AskTarget::Relay(word) => agent.relay(row.id, &Relay::ToTarget(*word)).await,
        }
    }
}

fn give_up(row: &MigrationRow, failure: &Failure) -> GiveUp {
    GiveUp { instance: row.instance, epoch: row.epoch, failure: failure.clone() }
}

async fn within(
    time_max: Duration,
    side: &str,
    ask: impl Future<Output = Result<MigrationReport, Failure>>,
) -> Result<MigrationReport, Failure> {
    tokio::time::timeout(time_max, ask).await.unwrap_or_else(|_| {
        let detail = format!("the agent of the {side} did not answer within {} s", time_max.as_secs());
        Err(Failure::new(FailureCode::HostDown, detail).hint("is that host overloaded or cut off?"))
    })
}
