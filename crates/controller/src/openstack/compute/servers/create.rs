//! A new server: from what was asked for to hardware, details and a place.
//!
//! ```text
//! body -> flavor, image, networks (each 400 where it is not there) -> spec -> placement (claim and row in one transaction) -> 202
//! ```
//!
//! Ground rules: all that can be refused is refused before anything is stored; of several servers that one request asks for, those
//! that found a place stay, and the request fails only where fewer than the least found one.

use std::collections::HashSet;

use axum::{
    Json,
    extract::State,
    http::{HeaderValue, StatusCode, header::LOCATION},
    response::{IntoResponse, Response},
};
use uuid::Uuid;
use whimbrel_api::{
    native,
    openstack::{
        compute::server::{
            answer::{self, Created},
            boot::{Destination, Source},
            create::{self, NewServer},
            record::DiskConfig,
        },
        fault::Fault,
        microversion::Microversion,
    },
};
use whimbrel_core::{
    disk::DiskSpec,
    failure::Failure,
    id::{FlavorId, ImageId, InstanceId},
    identity::policy::Operation,
    image as image_policy,
    instance::InstanceSpec,
    quota::{self, Quota, UNLIMITED},
    schedule::{Group, Neighbour, Wishes},
    server::{FlavorCopy, NicAddresses, ServerDetails, ServerKey},
};
use whimbrel_daemon::pki::Secret;
use whimbrel_store::{FlavorRow, ImageEntry, ImageRow, StoreError, TaskState};

use super::{
    super::{
        answer::{Answer, Body},
        ask::Ask,
        flavors, quotas,
    },
    drive,
    groups::group_of,
    metadata::few_enough,
};
use crate::{
    app::{App, Shared},
    books::usable,
    config_drive,
    openstack::{
        image,
        network::allocate::{self, Attached},
    },
    placement, spec,
};

/// Nova's default quota of servers; a request for more is a mistake.
const SERVERS_AT_ONCE_MAX: u32 = 100;
const HOSTNAME_BYTES_MAX: usize = 63;
const DESCRIBED_SINCE: Microversion = Microversion::v2(19);
const ADMIN_PASS_CHARS: usize = 12;

pub(in super::super) async fn create(ask: Ask, State(app): State<Shared>, Body(body): Body) -> Answer<Response> {
    ask.may_in(Operation::WriteServers, ask.requester().project())?;
    let new = create::parse(&body, ask.at)?;
    if new.host.is_some() || new.hypervisor_hostname.is_some() || named_place(&new).is_some() {
        ask.may(Operation::PlaceServer)?;
    }
    if new.count_max > SERVERS_AT_ONCE_MAX {
        let why = format!(
            "Quota exceeded for instances: Requested {}, but at most {SERVERS_AT_ONCE_MAX} at once",
            new.count_max
        );
        return Err(Fault::new(403, why).into());
    }
    few_enough(&quotas::limits(&app, ask.requester().project(), None).await?, &new.metadata)?;
    let parts = parts(&app, &ask, &new).await?;
    let reservation = format!("r-{}", &Uuid::now_v7().simple().to_string()[24..]);
    let admin_pass = password(&new)?;
    let mut made = Vec::new();
    for index in 0..new.count_max {
        match one(&app, &ask, &new, &parts, &Turn { index, reservation: &reservation, admin_pass: &admin_pass }).await {
            Ok(id) => made.push(id),
            Err(refused) if index < new.count_min => {
                take_back(&app, &made).await?;
                return Err(refused);
            }
            Err(_) => break,
        }
    }
    let Some(first) = made.first() else {
        return Err(Fault::new(400, "No server was asked for.").into());
    };
    if new.return_reservation_id {
        return Ok((StatusCode::ACCEPTED, Json(answer::reserved(&reservation))).into_response());
    }
    let created = Created {
        id: first.0,
        disk_config: new.disk_config.unwrap_or(DiskConfig::Manual),
        security_groups: new.security_groups.clone(),
        admin_pass: Some(admin_pass),
    };
    let view = ask.view();
    let location = HeaderValue::from_str(&format!("{}/servers/{first}", view.base));
    let mut response = (StatusCode::ACCEPTED, Json(answer::created(&created, &view))).into_response();
    if let Ok(location) = location {
        response.headers_mut().insert(LOCATION, location);
    }
    Ok(response)
}

/// Fewer than were needed found a place: those that did are deleted again.
async fn take_back(app: &App, made: &[InstanceId]) -> Answer<()> {
    for id in made {
        let row = app.store.server(*id).await?;
        match app.store.change_task(*id, row.task, Some(TaskState::Deleting), App::now_us()).await {
            // Its build ended in this moment: it is idle now.
            Err(StoreError::Conflict { .. }) => {
                app.store.change_task(*id, None, Some(TaskState::Deleting), App::now_us()).await?;
            }
            other => other?,
        }
    }
    app.servers_changed.notify_one();
    Ok(())
}

/// What all servers of one request share.
struct Parts {
    flavor: FlavorRow,
    copy: FlavorCopy,
    image: ImageRow,
}

async fn parts(app: &App, ask: &Ask, new: &NewServer) -> Answer<Parts> {
    let (flavor_id, flavor) = match flavors::find(app, ask, &new.flavor).await {
        Ok(found) => found,
        Err(refused) if refused.status() == 404 => {
            return Err(Fault::new(400, format!("Flavor {} could not be found.", new.flavor)).into());
        }
        Err(refused) => return Err(refused),
    };
    let copy = FlavorCopy {
        id: flavor.id,
        name: flavor.name,
        vcpus: flavor.vcpus,
        ram_mb: flavor.ram_mb,
        disk_gb: flavor.disk_gb,
        ephemeral_gb: flavor.ephemeral_gb,
        swap_mb: flavor.swap_mb,
        extra_specs: flavor.extra_specs,
    };
    let image = image(app, ask, image_of(new)?).await?;
    Ok(Parts { flavor: flavor_row(app, flavor_id).await?, copy, image })
}

async fn flavor_row(app: &App, id: FlavorId) -> Answer<FlavorRow> {
    Ok(app.store.flavor(&id.to_string()).await?)
}

/// With the kernel and ramdisk that its properties name.
async fn image(app: &App, ask: &Ask, id: Uuid) -> Answer<ImageRow> {
    let missing = || Fault::new(400, format!("Image {id} could not be found."));
    let entry = match app.store.image_entry(ImageId(id)).await {
        Err(StoreError::NotFound { .. }) => return Err(missing().into()),
        other => other?,
    };
    let sees = |entry: &ImageEntry| image_policy::is_seen(entry.visibility, entry.owner.as_ref(), ask.requester());
    if !sees(&entry) {
        return Err(missing().into());
    }
    Ok(image::bootable(app, entry, sees).await?.image)
}

/// The one image that it starts from: by `imageRef`, or as the disk of boot index 0, or both if they agree.
fn image_of(new: &NewServer) -> Result<Uuid, Fault> {
    let mut image = new.image;
    for device in &new.block_devices {
        match (device.source, device.destination) {
            (Some(Source::Image), None | Some(Destination::Local)) => {
                let id = device.id.as_deref().unwrap_or_default();
                let id: Uuid = id.parse().map_err(|_| Fault::new(400, format!("Image {id} is no id.")))?;
                if image.is_some_and(|known| known != id) {
                    return Err(Fault::new(400, "Block Device Mapping is Invalid: one image boots a server."));
                }
                image = Some(id);
            }
            (Some(Source::Blank), None | Some(Destination::Local)) => {
                let why = "Block Device Mapping is Invalid: ephemeral and swap disks follow from the flavor.";
                return Err(Fault::new(400, why));
            }
            (_, Some(Destination::Volume)) | (Some(Source::Volume | Source::Snapshot) | None, _) => {
                let why = "Block Device Mapping is Invalid: there are no volumes here; disks are local.";
                return Err(Fault::new(400, why));
            }
        }
    }
    image.ok_or_else(|| Fault::new(400, "Invalid imageRef provided."))
}

/// `zone:host:node`, which is for administrators.
fn named_place(new: &NewServer) -> Option<&str> {
    let (_, place) = new.availability_zone.as_deref()?.split_once(':')?;
    place.split(':').find(|part| !part.is_empty())
}

/// Of `:host` there is none.
fn zone_of(new: &NewServer) -> Option<&str> {
    new.availability_zone.as_deref()?.split(':').next().filter(|zone| !zone.is_empty())
}

/// Which one of those that were asked for at once.
struct Turn<'a> {
    index: u32,
    reservation: &'a str,
    admin_pass: &'a str,
}

async fn one(app: &App, ask: &Ask, new: &NewServer, parts: &Parts, turn: &Turn<'_>) -> Answer<InstanceId> {
    let id = InstanceId(Uuid::now_v7());
    let name = if new.count_max > 1 { format!("{}-{}", new.name, turn.index + 1) } else { new.name.clone() };
    let mut details = details(new, parts, &name, turn);
    if ask.at < DESCRIBED_SINCE {
        // Nobody could say one then, and later versions show the name.
        details.description = Some(name.clone());
    }
    details.key = key(app, ask, new).await?;
    let host = new.host.as_deref().or(new.hypervisor_hostname.as_deref()).or(named_place(new));
    if let Some(host) = host {
        super::known_host(app, host).await?;
    }
    let mut spec = hardware(app, parts, id, &name).await?;
    let candidates = placement::candidates(app, host).await?;
    let (wishes, group_members_max) = wishes(app, ask, new, parts, &details).await?;
    let limits = quotas::limits(app, ask.requester().project(), None).await?;
    let attached = attach(app, ask, new, id).await?;
    spec.nics = attached.iter().map(Attached::nic).collect();
    details.nics = attached.iter().map(addresses).collect();
    let told = drive::Server {
        id,
        name: &name,
        flavor: &parts.copy.name,
        details: &details,
        attached: &attached,
        admin_pass: turn.admin_pass,
    };
    match drive_of(app, ask, new, &told).await {
        Ok(drive) => {
            details.config_drive = drive.is_some();
            spec.disks.extend(drive);
        }
        Err(refused) => {
            allocate::release(&app.store, id, App::now_us()).await?;
            return Err(refused);
        }
    }
    let made = spec.clone();
    let wanted = placement::NewServer {
        spec,
        flavor: parts.flavor.id,
        image: parts.image.id,
        owner: ask.ownership(),
        wishes,
        details,
        limits: Some(limits),
        group_members_max,
    };
    if let Err(refused) = placement::place(app, wanted, &candidates).await {
        allocate::release(&app.store, id, App::now_us()).await?;
        config_drive::forget(app, &made).await.map_err(Failure::from)?;
        return Err(refused.into());
    }
    super::history::begun(app, ask, id, "create").await?;
    Ok(id)
}

async fn drive_of(app: &App, ask: &Ask, new: &NewServer, told: &drive::Server<'_>) -> Answer<Option<DiskSpec>> {
    match drive::of(ask, new, told)? {
        Some(drive) => Ok(Some(config_drive::build(app, &drive).await?)),
        None => Ok(None),
    }
}

/// Without NICs and config drive, which come later.
async fn hardware(app: &App, parts: &Parts, id: InstanceId, name: &str) -> Answer<InstanceSpec> {
    let wanted = native::NewServer {
        name: name.to_owned(),
        flavor: parts.copy.id.clone(),
        image: parts.image.id.to_string(),
        host: None,
        networks: Vec::new(),
        os_command_line: None,
        iothreads: false,
        machine: None,
        config_drive: false,
        user_data: None,
    };
    let hosts = app.all_hosts().await?;
    let up: Vec<_> = hosts.iter().filter_map(|host| usable(host).ok().cloned()).collect();
    Ok(spec::build(id, &wanted, &parts.flavor, &parts.image, &up, &HashSet::new())?)
}

/// A copy, since the pair may go.
async fn key(app: &App, ask: &Ask, new: &NewServer) -> Answer<Option<ServerKey>> {
    let Some(name) = &new.key_name else { return Ok(None) };
    match app.store.key_pair(&ask.requester().user, name).await {
        Err(StoreError::NotFound { .. }) => Err(Fault::new(400, "Invalid key_name provided.").into()),
        other => {
            let pair = other?;
            Ok(Some(ServerKey { name: pair.name, kind: pair.kind.to_string(), public_key: pair.public_key }))
        }
    }
}

/// What its owner asks of the scheduler, and how many servers he may have in the group.
async fn wishes(
    app: &App,
    ask: &Ask,
    new: &NewServer,
    parts: &Parts,
    details: &ServerDetails,
) -> Answer<(Wishes, i64)> {
    let (group, group_members_max) = match new.hints.group {
        Some(id) => group(app, ask, id).await.map(|(group, most)| (Some(group), most))?,
        None => (None, UNLIMITED),
    };
    let wishes = Wishes {
        zone: details.availability_zone.clone(),
        extra_specs: parts.copy.extra_specs.clone(),
        group,
        different_from: neighbours(app, &new.hints.different_host).await?,
        same_as: neighbours(app, &new.hints.same_host).await?,
        ..Wishes::default()
    };
    Ok((wishes, group_members_max))
}

/// The group, if the requester has it and a place in it is left, and how many there are for him.
async fn group(app: &App, ask: &Ask, id: Uuid) -> Answer<(Group, i64)> {
    let missing = || Fault::new(400, format!("Instance group {id} could not be found."));
    let row = match app.store.server_group(id).await {
        Err(StoreError::NotFound { .. }) => return Err(missing().into()),
        other => other?,
    };
    let requester = ask.requester();
    if requester.project() != Some(&row.project) && !ask.is_admin() {
        return Err(missing().into());
    }
    let limits = quotas::limits(app, Some(&row.project), Some(&requester.user)).await?;
    let most = limits.of(Quota::ServerGroupMembers);
    if !quota::has_room(most, row.members.len() as u64) {
        return Err(Fault::new(403, "Quota exceeded, too many servers in group").into());
    }
    Ok((group_of(app, &row, None).await?, most))
}

/// Where these servers are; one that is not there is nowhere.
async fn neighbours(app: &App, servers: &[Uuid]) -> Answer<Vec<Neighbour>> {
    let mut found = Vec::new();
    for id in servers {
        match app.store.server(InstanceId(*id)).await {
            Ok(row) => found.push(Neighbour { server: row.id, host: row.host }),
            Err(StoreError::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}

/// Nobody without a project has networks.
async fn attach(app: &App, ask: &Ask, new: &NewServer, id: InstanceId) -> Answer<Vec<Attached>> {
    let Some(project) = ask.requester().project() else { return Ok(Vec::new()) };
    let wanted = allocate::Wanted {
        server: id,
        project,
        is_admin: ask.is_admin(),
        networks: &new.networks,
        groups: &new.security_groups,
        now_us: App::now_us(),
    };
    Ok(allocate::allocate(&app.store, &wanted).await?)
}

fn addresses(attached: &Attached) -> NicAddresses {
    NicAddresses {
        network: attached.network_name.clone(),
        mac: attached.mac.clone(),
        addresses: attached.leases.iter().map(|lease| lease.address).collect(),
        port: Some(attached.port.0),
    }
}

fn details(new: &NewServer, parts: &Parts, name: &str, turn: &Turn<'_>) -> ServerDetails {
    ServerDetails {
        description: new.description.clone(),
        hostname: new.hostname.clone().unwrap_or_else(|| hostname(name)),
        metadata: new.metadata.clone(),
        tags: new.tags.clone(),
        user_data: new.user_data.clone(),
        availability_zone: zone_of(new).map(str::to_owned),
        disk_config_manual: new.disk_config.unwrap_or(DiskConfig::Manual) == DiskConfig::Manual,
        access_ipv4: new.access_ipv4.map(|ip| ip.to_string()),
        access_ipv6: new.access_ipv6.map(|ip| ip.to_string()),
        reservation_id: Some(turn.reservation.to_owned()),
        launch_index: turn.index,
        flavor: Some(parts.copy.clone()),
        security_groups: match new.security_groups.is_empty() {
            true => vec!["default".to_owned()],
            false => new.security_groups.clone(),
        },
        trusted_image_certificates: Some(new.trusted_image_certificates.clone()).filter(|all| !all.is_empty()),
        group: new.hints.group,
        ..ServerDetails::default()
    }
}

/// A host name of the server's name, as nova, utils.py, `sanitize_hostname`.
fn hostname(name: &str) -> String {
    let plain = |c: char| match c {
        ' ' | '_' => Some('-'),
        '.' | '-' => Some('-'),
        c if c.is_ascii_alphanumeric() => Some(c.to_ascii_lowercase()),
        _ => None,
    };
    let text: String = name.chars().filter_map(plain).take(HOSTNAME_BYTES_MAX).collect();
    let text = text.trim_matches('-');
    if text.is_empty() { "server".to_owned() } else { text.to_owned() }
}

/// Told once and kept nowhere: there is nothing in a guest that would take it.
fn password(new: &NewServer) -> Result<String, Fault> {
    if let Some(password) = &new.admin_pass {
        return Ok(password.clone());
    }
    let secret = Secret::generate().map_err(|error| Fault::new(500, error.to_string()))?;
    Ok(secret.reveal().chars().take(ADMIN_PASS_CHARS).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostname_follows_from_the_name() {
        let check = |name: &str, want: &str| assert_eq!(hostname(name), want);
        check("server-01", "server-01");
        check("My Server_1", "my-server-1");
        check("a.b", "a-b");
        check("-ü-", "server");
        check(&"x".repeat(80), &"x".repeat(63));
    }
}
