//! What a server is asked to do: the one action of a body, if it may begin now.
//!
//! Ground rules: states and locks are judged by `api`'s table before anything is noted; what is noted as begun is carried out by
//! the reconciler or a migration's driver.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use whimbrel_api::openstack::{
    compute::action::{self, Action, ResetTo, answer, states::Now},
    fault::Fault,
};
use whimbrel_core::{failure::FailureCode, identity::policy::Operation, server::Lock};
use whimbrel_store::InstanceRow;

use super::{
    super::{
        answer::{Answer, Body, Refused},
        ask::Ask,
    },
    change::described,
    evacuate, find, history, live, power, record, resize, security, snapshot,
};
use crate::app::Shared;

pub(in super::super) async fn act(
    ask: Ask,
    State(app): State<Shared>,
    Path(id): Path<String>,
    Body(body): Body,
) -> Answer<Response> {
    let row = super::seen(&app, &ask, &id).await?;
    let action = action::parse(&body, ask.at)?;
    let row = match operation(&action) {
        Some(operation) => find(&app, &ask, &id, operation).await?,
        None => row,
    };
    let now = Now {
        id: &id,
        vm_state: record::vm_state(&row),
        task_state: record::task_state(&row),
        locked: row.details.lock.is_some(),
    };
    action.may_begin(&now, ask.is_admin())?;
    let status = StatusCode::from_u16(answer::status(&action)).unwrap_or(StatusCode::ACCEPTED);
    match action {
        Action::ConsoleOutput { lines } => {
            let output = console(&app, &row, lines).await?;
            return Ok((status, Json(answer::console_output(&output))).into_response());
        }
        Action::Lock { reason } => lock(&app, &ask, row, reason).await?,
        Action::Unlock => unlock(&app, &ask, row).await?,
        Action::ResetState(to) => reset(&app, &ask, row, to).await?,
        Action::Start => power::start(&app, &ask, &row).await?,
        Action::Stop => power::stop(&app, &ask, &row).await?,
        Action::Pause => power::pause(&app, &ask, &row).await?,
        Action::Unpause => power::unpause(&app, &ask, &row).await?,
        Action::Reboot(how) => power::reboot(&app, &ask, &row, how).await?,
        Action::MigrateLive(wish) => live::migrate(&app, &ask, row, wish).await?,
        Action::Resize { flavor, disk_config } => resize::resize(&app, &ask, row, &flavor, disk_config).await?,
        Action::ConfirmResize => resize::confirm(&app, &ask, row).await?,
        Action::RevertResize => resize::revert(&app, &ask, row).await?,
        Action::Migrate { host } => resize::migrate(&app, &ask, row, host).await?,
        Action::Suspend => power::suspend(&app, &ask, &row).await?,
        Action::Resume => power::resume(&app, &ask, &row).await?,
        Action::CreateImage { name, metadata } => return snapshot::create(&app, &ask, row, name, metadata).await,
        Action::Evacuate(wish) => return evacuate::evacuate(&app, &ask, row, wish).await,
        Action::AddSecurityGroup { name } => security::add(&app, &ask, row, &name).await?,
        Action::RemoveSecurityGroup { name } => security::remove(&app, &ask, row, &name).await?,
    }
    Ok(status.into_response())
}

/// What who asks must be allowed; nothing for what looks only.
fn operation(action: &Action) -> Option<Operation> {
    match action {
        Action::ConsoleOutput { .. }
        | Action::Lock { .. }
        | Action::Unlock
        | Action::Start
        | Action::Stop
        | Action::Pause
        | Action::Unpause
        | Action::Suspend
        | Action::Resume
        | Action::Reboot(_)
        | Action::CreateImage { .. }
        | Action::Resize { .. }
        | Action::ConfirmResize
        | Action::RevertResize
        | Action::AddSecurityGroup { .. }
        | Action::RemoveSecurityGroup { .. } => Some(Operation::WriteServers),
        Action::ResetState(_) => Some(Operation::ResetServer),
        Action::MigrateLive(wish) if wish.host.is_some() => Some(Operation::MigrateServerToHost),
        Action::Migrate { host: Some(_) } => Some(Operation::MigrateServerToHost),
        Action::MigrateLive(_) | Action::Migrate { host: None } => Some(Operation::MigrateServer),
        Action::Evacuate(_) => Some(Operation::EvacuateServer),
    }
}

async fn console(app: &Shared, row: &InstanceRow, lines: Option<u32>) -> Answer<String> {
    let not_ready = || Refused::from(Fault::new(409, format!("Instance {} is not ready", row.id)));
    if row.launched_us.is_none() {
        return Err(not_ready());
    }
    let host = app.store.host(&row.host).await?;
    match app.agents.of(&host)?.console(row.id, lines).await {
        Ok(output) => Ok(output.output),
        Err(failure) if failure.code == FailureCode::NotFound => Err(not_ready()),
        Err(failure) => Err(failure.into()),
    }
}

async fn lock(app: &Shared, ask: &Ask, row: InstanceRow, reason: Option<String>) -> Answer<()> {
    history::begun(app, ask, row.id, "lock").await?;
    let own = row.owner.project.as_ref() == ask.requester().project();
    let lock = Lock { by_admin: !own || ask.is_admin(), reason };
    described(app, row, |_, details| {
        // An administrator's lock is not weakened by its owner's.
        let by_admin = details.lock.as_ref().is_some_and(|lock| lock.by_admin);
        details.lock = Some(Lock { by_admin: by_admin || lock.by_admin, reason: lock.reason.clone() });
        Ok(())
    })
    .await?;
    Ok(())
}

async fn unlock(app: &Shared, ask: &Ask, row: InstanceRow) -> Answer<()> {
    if row.details.lock.as_ref().is_some_and(|lock| lock.by_admin) {
        ask.may_in(Operation::UnlockOverride, row.owner.project.as_ref())?;
    }
    history::begun(app, ask, row.id, "unlock").await?;
    described(app, row, |_, details| {
        details.lock = None;
        Ok(())
    })
    .await?;
    Ok(())
}

async fn reset(app: &Shared, ask: &Ask, row: InstanceRow, to: ResetTo) -> Answer<()> {
    let id = row.id;
    described(app, row, |_, details| {
        details.set_to_error = to == ResetTo::Error;
        Ok(())
    })
    .await?;
    if to == ResetTo::Active {
        app.store.set_instance_failure(id, None, crate::app::App::now_us()).await?;
    }
    history::begun(app, ask, id, "reset-state").await
}
