//! The ports of a server, which stay what they were when it was made.

use axum::{
    Json,
    extract::{Path, State},
};
use serde_json::Value;
use whimbrel_api::openstack::{
    compute::interface::{self, Interface},
    fault::Fault,
};

use super::{
    super::{answer::Answer, ask::Ask},
    seen,
};
use crate::{
    app::{App, Shared},
    openstack::network::allocate::{self, Attached},
};

pub(in super::super) async fn list(ask: Ask, State(app): State<Shared>, Path(id): Path<String>) -> Answer<Json<Value>> {
    Ok(Json(interface::list(&of(&app, &ask, &id).await?, &ask.view())))
}

pub(in super::super) async fn show(
    ask: Ask,
    State(app): State<Shared>,
    Path((id, port)): Path<(String, String)>,
) -> Answer<Json<Value>> {
    let all = of(&app, &ask, &id).await?;
    let found = all.iter().find(|one| one.port_id.to_string() == port);
    let one = found.ok_or_else(|| Fault::new(404, format!("Port id {port} could not be found.")))?;
    Ok(Json(interface::show(one, &ask.view())))
}

async fn of(app: &App, ask: &Ask, id: &str) -> Answer<Vec<Interface>> {
    let row = seen(app, ask, id).await?;
    let mut ports = allocate::ports_of(&app.store, &[row.id]).await?;
    Ok(ports.remove(&row.id).unwrap_or_default().iter().map(record).collect())
}

fn record(attached: &Attached) -> Interface {
    Interface {
        port_id: attached.port.0,
        network_id: attached.network.0,
        mac: attached.mac.clone(),
        addresses: attached.leases.iter().map(|lease| (lease.subnet.0, lease.address)).collect(),
    }
}
