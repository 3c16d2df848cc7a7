//! Storage that several hosts have mounted: which one it is, and whether it is the one that this host had before.
//!
//! ```text
//! shared_dir/storage.json   {id}: made by the first agent that comes, read by all: equal ids, the same files
//! state_dir/storage.json    {id}: where this host's instances lie
//! ```
//!
//! Ground rules: nobody is believed who says that a directory is shared, only its mark, and before each move the other host
//! reads what this one wrote there a moment ago; a directory that is not mounted looks like an empty one, so a host that had
//! a storage takes no other and makes none.

use std::{
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use whimbrel_core::{
    failure::{Failure, FailureCode},
    id::{HostName, InstanceId, StorageId},
};
use whimbrel_daemon::durable;

use crate::{
    config::DiskCache,
    fault,
    hypervisor::Hypervisor,
    paths::{Paths, SharedDir},
};

const MARK: &str = "storage.json";
const MARK_BYTES_MAX: u64 = 4 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mark {
    id: StorageId,
}

/// The paths of a host whose instances lie in `dir`, if that is as it was before. `None` is the state directory.
pub fn place(paths: Paths, dir: Option<&Path>, host: &HostName) -> Result<Paths, Failure> {
    let known = load(&paths.state_dir().join(MARK))?;
    let Some(dir) = dir else {
        return match known {
            None => Ok(paths),
            Some(known) => Err(left_out(paths.state_dir(), known.id)),
        };
    };
    if !dir.is_absolute() {
        let detail = format!("shared_dir {} is not an absolute path", dir.display());
        return Err(Failure::new(FailureCode::BadRequest, detail).hint("begin shared_dir with '/'"));
    }
    if known.is_none() {
        refuse_local_instances(&paths)?;
    }
    let found = match (load(&dir.join(MARK))?, known) {
        (None, None) => make(dir, host)?,
        (Some(found), None) => found,
        (Some(found), Some(known)) if found == known => found,
        (found, Some(known)) => return Err(another(dir, known.id, found)),
    };
    if known.is_none() {
        store(&paths.state_dir().join(MARK), found)?;
    }
    Ok(paths.on_shared(SharedDir { id: found.id, dir: dir.to_owned(), host: host.clone() }))
}

/// Two hosts see the same bytes at once only past their page caches.
pub fn check_direct(paths: &Paths, hypervisor: &Hypervisor) -> Result<(), Failure> {
    let Some(shared) = paths.shared() else { return Ok(()) };
    let (dir, why) = (shared.dir.display(), "another host would read old data there");
    if hypervisor.disk_cache != DiskCache::Direct {
        let detail = format!("disk_cache must be 'direct' with shared_dir {dir}: {why}");
        return Err(Failure::new(FailureCode::BadRequest, detail).hint("leave disk_cache out"));
    }
    if hypervisor.disk_io(&shared.dir).direct {
        return Ok(());
    }
    let detail = format!("shared_dir {dir} takes no O_DIRECT: {why}");
    Err(Failure::new(FailureCode::Incompatible, detail)
        .hint("of GlusterFS: `gluster volume set VOLUME group virt`, and mount it again"))
}

/// The first one wins, whoever looks sees a whole mark: it is written beside and linked to its name.
fn make(dir: &Path, host: &HostName) -> Result<Mark, Failure> {
    if !dir.is_dir() {
        let detail = format!("shared_dir {} is no directory", dir.display());
        return Err(Failure::new(FailureCode::BadRequest, detail).hint("mount the storage there first"));
    }
    let (mark, path) = (Mark { id: StorageId(Uuid::now_v7()) }, dir.join(MARK));
    let own = dir.join(format!("{MARK}.{host}"));
    store(&own, mark)?;
    let linked = fs_err::hard_link(&own, &path);
    durable::remove(&own).map_err(|error| fault::of_file("remove", &own, &error))?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(fault::of_file("make", &path, &error)),
        Ok(()) | Err(_) => {
            durable::sync_dir(dir).map_err(|error| fault::of_file("make durable", &path, &error))?;
            load(&path)?.ok_or_else(|| fault::of_file("read", &path, &io::ErrorKind::NotFound.into()))
        }
    }
}

fn store(path: &Path, mark: Mark) -> Result<(), Failure> {
    let bytes = serde_json::to_vec(&mark).map_err(|error| fault::internal("cannot write storage.json", &error))?;
    durable::write(path, &bytes).map_err(|error| fault::of_file("write", path, &error))
}

fn load(path: &Path) -> Result<Option<Mark>, Failure> {
    let bytes = durable::read(path, MARK_BYTES_MAX).map_err(|error| fault::of_file("read", path, &error))?;
    let Some(bytes) = bytes else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| fault::of_file("read", path, &error.into()))
}

/// Nobody would look after them any more.
fn refuse_local_instances(paths: &Paths) -> Result<(), Failure> {
    let dir = paths.instances();
    let here: Vec<PathBuf> = match fs_err::read_dir(&dir) {
        Ok(entries) => entries.filter_map(Result::ok).map(|entry| entry.path()).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(fault::of_file("read", &dir, &error)),
    };
    let is_instance = |path: &&PathBuf| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.parse::<InstanceId>().is_ok())
    };
    match here.iter().filter(is_instance).count() {
        0 => Ok(()),
        count => {
            let detail = format!("{count} instances lie in {}, and shared_dir is set", dir.display());
            Err(Failure::new(FailureCode::Conflict, detail)
                .hint("take shared_dir out, move or delete those servers, remove what is left there, then set it"))
        }
    }
}

fn left_out(state_dir: &Path, id: StorageId) -> Failure {
    let detail = format!("the instances of this host lie on shared storage {id}, and shared_dir is not set");
    let record = state_dir.join(MARK);
    Failure::new(FailureCode::Conflict, detail)
        .hint(format!("set it; or, once no server of this host lies there, remove {}", record.display()))
}

fn another(dir: &Path, known: StorageId, found: Option<Mark>) -> Failure {
    let found = found.map_or("no storage of Whimbrel".to_owned(), |mark| format!("storage {}", mark.id));
    let detail = format!("shared_dir {} is {found}, the instances of this host lie on storage {known}", dir.display());
    Failure::new(FailureCode::Conflict, detail).hint("is it mounted?")
}
