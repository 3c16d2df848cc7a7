//! `evacuate`: a server of a host that is lost, made anew on another one from its image.
//!
//! Ground rules: only from a host that is down, by its silence or by an operator's word; that the lost host is fenced is the
//! operator's to see to, as with Nova; what was on the server's disks beside its image is lost with the host.
//! Source: nova, api/openstack/compute/evacuate.py and compute/api.py, `evacuate`.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use whimbrel_api::openstack::{
    compute::{
        action::{Evacuation, answer},
        server::state::VmState,
    },
    fault::Fault,
};
use whimbrel_core::failure::FailureCode;
use whimbrel_store::{Desired, InstanceRow, StoreError};

use super::{
    super::{
        answer::{Answer, Refused},
        ask::Ask,
        hosts,
    },
    history, power, record,
};
use crate::{
    app::{App, Shared},
    evacuate::{self, Wish},
    snapshot,
};

const ACTION: &str = "evacuate";
const EVENT: &str = "compute_rebuild_instance";

pub(super) async fn evacuate(app: &Shared, ask: &Ask, row: InstanceRow, wish: Evacuation) -> Answer<Response> {
    check(app, &row, &wish).await?;
    let stays_off = wish.leave_stopped || record::vm_state(&row) == VmState::Stopped;
    let begin = Wish {
        host: wish.host.clone(),
        forced: wish.forced,
        desired: if stays_off { Desired::Stopped } else { Desired::Running },
        asked_by: ask.ownership(),
        errand: power::new_errand(ask, EVENT),
    };
    // Before the rebuild begins, or its end could come first.
    history::begun(app, ask, row.id, ACTION).await?;
    history::started(app, ask, row.id, EVENT, &row.host).await?;
    if let Err(error) = evacuate::begin(app, &row, &begin).await {
        let failure = error.failure();
        history::ended(app, ask, row.id, EVENT, Some(&failure.detail)).await?;
        let refused = Refused::from(failure.clone());
        return match failure.code {
            FailureCode::Conflict => Err(refused),
            _ if refused.status() == 500 => Err(refused),
            _ => Err(Fault::new(400, refused.message()).into()),
        };
    }
    ended(app, &row).await?;
    power::looked_at(app, &row).await?;
    // Told once and kept nowhere, as at creation: nothing in the guest would take it.
    let body = answer::evacuated(wish.admin_pass.as_deref(), &ask.view());
    Ok(match body {
        Some(body) => Json(body).into_response(),
        None => StatusCode::OK.into_response(),
    })
}

/// What was being done waited for the lost host, and is over.
async fn ended(app: &App, row: &InstanceRow) -> Answer<()> {
    snapshot::forget_image(app, row).await?;
    if let Some(errand) = &row.errand {
        let why = Some("The server's host was lost; the server was evacuated.");
        app.store.end_event(row.id, &errand.request_id, &errand.event, why, App::now_us()).await?;
    }
    Ok(())
}

async fn check(app: &App, row: &InstanceRow, wish: &Evacuation) -> Answer<()> {
    if let Some(host) = &wish.host {
        let missing = || Fault::new(404, format!("Compute host {host} could not be found."));
        match app.store.host(&host.parse().map_err(|_| missing())?).await {
            Err(StoreError::NotFound { .. }) => return Err(missing().into()),
            other => other.map(drop)?,
        }
        if *host == row.host.as_str() {
            return Err(Fault::new(400, "The target host can't be the same one.").into());
        }
    }
    let is_up = match hosts::one(app, &row.host).await {
        // An operator deleted it: it is not coming back.
        Err(StoreError::NotFound { .. }) => false,
        other => other?.is_up(),
    };
    if is_up {
        return Err(Fault::new(400, format!("Compute service of {} is still in use.", row.host)).into());
    }
    if wish.on_shared_storage == Some(true) {
        let why = format!("Invalid state of instance files on shared storage: disks of {} are not shared.", row.host);
        return Err(Fault::new(400, why).into());
    }
    Ok(())
}
