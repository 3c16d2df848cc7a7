//! What speaks for and against each host as the target of a move, with their QEMUs asked about the guest's CPU.
//!
//! Ground rules: core judges; a move asks the hosts that would be chosen, best first, until one of them will do, since there may
//! be a thousand; a plan asks all of them.

use futures_util::future::join_all;
use whimbrel_api::{
    agent::MoveFacts,
    native::{HostVerdict, Room, Weight},
};
use whimbrel_core::{
    cpu::CpuOffer,
    failure::{Failure, FailureCode},
    id::HostName,
    schedule::{self, Candidate, Verdict, Wanted},
};

use super::plan::{Offer, retained_bytes};
use crate::app::App;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asking {
    Best,
    All,
}

/// What a host's QEMU said of the CPUs that it can give.
#[derive(Debug)]
pub(super) enum CpuAnswer {
    NotAsked,
    Told(CpuOffer),
    /// Its agent is older than the question: the models of its facts are all that is known.
    Unknown,
    Failed(Failure),
}

impl CpuAnswer {
    fn is_open(&self) -> bool {
        matches!(self, CpuAnswer::NotAsked)
    }
}

/// Those that will do, best first; then the others.
pub(super) async fn judged(
    app: &App,
    wanted: &Wanted<'_>,
    facts: Option<&MoveFacts>,
    offers: &mut [Offer],
    asking: Asking,
) -> Vec<Verdict> {
    loop {
        let verdicts = judge(wanted, facts, offers);
        let will_do = verdicts.iter().filter(|verdict| verdict.reasons.is_empty());
        let chosen: Vec<&HostName> = match (wanted.cpu, asking) {
            (None, _) => Vec::new(),
            (Some(_), Asking::Best) => will_do.take(1).map(|verdict| &verdict.host).collect(),
            (Some(_), Asking::All) => verdicts.iter().map(|verdict| &verdict.host).collect(),
        };
        let open = offers.iter_mut().filter(|offer| offer.cpu.is_open() && chosen.contains(&&offer.facts.name));
        let asked = join_all(open.map(async |offer| offer.cpu = ask(app, &offer.facts.name).await)).await;
        if asked.is_empty() {
            return verdicts;
        }
    }
}

fn candidate<'a>(offer: &'a Offer, facts: Option<&MoveFacts>) -> Candidate<'a> {
    Candidate {
        host: &offer.facts,
        retained_bytes: retained_bytes(facts, offer),
        place: &offer.place,
        cpu: match &offer.cpu {
            CpuAnswer::Told(told) => Some(told),
            CpuAnswer::NotAsked | CpuAnswer::Unknown | CpuAnswer::Failed(_) => None,
        },
    }
}

fn judge(wanted: &Wanted<'_>, facts: Option<&MoveFacts>, offers: &[Offer]) -> Vec<Verdict> {
    let (failed, others): (Vec<&Offer>, Vec<&Offer>) =
        offers.iter().partition(|offer| matches!(offer.cpu, CpuAnswer::Failed(_)));
    let candidates: Vec<Candidate<'_>> = others.into_iter().map(|offer| candidate(offer, facts)).collect();
    let mut verdicts = schedule::judge(wanted, &candidates);
    let candidates: Vec<Candidate<'_>> = failed.iter().map(|offer| candidate(offer, facts)).collect();
    for mut verdict in schedule::judge(wanted, &candidates) {
        let of = failed.iter().find(|offer| offer.facts.name == verdict.host);
        if let Some(CpuAnswer::Failed(failure)) = of.map(|offer| &offer.cpu) {
            verdict.reasons.push(failure.clone());
        }
        verdicts.push(verdict);
    }
    verdicts
}

async fn ask(app: &App, name: &HostName) -> CpuAnswer {
    let asked = async {
        let host = app.store.host(name).await.map_err(crate::answer::failure_of)?;
        app.agents.of(&host)?.cpu().await
    };
    match asked.await {
        Ok(offer) => CpuAnswer::Told(offer),
        Err(failure) if failure.code == FailureCode::NotFound => {
            tracing::info!(host = %name, "its agent does not tell what CPUs guests there may have");
            CpuAnswer::Unknown
        }
        Err(failure) => CpuAnswer::Failed(failure),
    }
}

/// Also of the hosts that could not be judged.
pub fn told(verdicts: &[Verdict], others: &[(HostName, Vec<Failure>)]) -> Vec<HostVerdict> {
    let others = others.iter().map(|(host, reasons)| HostVerdict {
        host: host.clone(),
        reasons: reasons.clone(),
        weights: Vec::new(),
        room: None,
    });
    verdicts.iter().map(one).chain(others).collect()
}

fn one(verdict: &Verdict) -> HostVerdict {
    let weights = verdict.weights.iter().filter(|_| verdict.reasons.is_empty());
    HostVerdict {
        host: verdict.host.clone(),
        reasons: verdict.reasons.clone(),
        weights: weights.map(|(weigher, value)| Weight { name: weigher.name().to_owned(), value: *value }).collect(),
        room: Some(Room {
            ram_mb: verdict.room.ram_mb,
            ram_free_mb: verdict.room.ram_free_mb,
            disk_bytes: verdict.room.disk_bytes,
            disk_free_bytes: verdict.room.disk_free_bytes,
        }),
    }
}
