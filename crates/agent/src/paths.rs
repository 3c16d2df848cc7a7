//! Where everything lies on a host.
//!
//! ```text
//! state_dir/  agent.pem  ca.pem
//!   instances/<uuid>/      owner.json  spec.json  <disk>.<format>  console.log  qemu.log
//!   images/<digest>        immutable bases and kernels
//!   incoming/<migration>/  an instance's files while they arrive (new-…: being made, gone-…: being removed)
//!   retired/<uuid>.<epoch>/  what was left behind by a hand-over of that epoch
//!   journal/
//! shared_dir/            only where other hosts have it too: then what lies below it does not lie in state_dir
//!   storage.json           which storage this is
//!   instances/  images/    of all those hosts
//!   hosts/<host>/          incoming/ and retired/ of one of them; images -> ../../images
//! run_dir/
//!   <uuid>/    sockets of an instance's QEMU       <uuid>.vm.json    which process it is
//!   m<uuid>/   of a migration's storage daemon     m<uuid>.sd.json
//! ```
//!
//! Ground rules: directories belong to the agent, mode 0700; where QEMU is another user, those above its files may be
//! passed (0711) but not listed, and only single files and the directory of its sockets are its own: it can write to its
//! disks and to no record of the agent. A socket's path has at most 107 bytes in Linux: a run directory that is too long
//! is refused at the start and not with the first guest.

use std::{
    fs::Permissions,
    io,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
};

use fs_err::os::unix::fs::OpenOptionsExt;
use whimbrel_core::{
    disk::{DiskFormat, DiskName},
    failure::{Failure, FailureCode},
    id::{Epoch, HostName, ImageDigest, InstanceId, MigrationId, StorageId},
};

use crate::{config::QemuUser, fault};

/// `sun_path` less its end mark.
const SOCKET_PATH_BYTES_MAX: usize = 107;
/// Longest name of a socket in a run directory.
pub const SOCKET_NAME_BYTES_MAX: usize = 16;
/// `/m` and 32 hex digits, then a slash.
const RUN_NAME_BYTES: usize = 35;
pub const RUN_DIR_BYTES_MAX: usize = SOCKET_PATH_BYTES_MAX - RUN_NAME_BYTES - SOCKET_NAME_BYTES_MAX;

const PRIVATE: u32 = 0o700;
const PASSABLE: u32 = 0o711;
const FILE: u32 = 0o600;
/// Equal for `instances/<uuid>/` and for what lies below `hosts/<host>/`.
const IMAGES_FROM_DISK: &str = "../../images";
const NEW: &str = "new-";
const GONE: &str = "gone-";

#[derive(Clone, Debug)]
pub struct Paths {
    state_dir: PathBuf,
    run_dir: PathBuf,
    user: Option<QemuUser>,
    shared: Option<SharedDir>,
}

/// Where the instances lie that other hosts see too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedDir {
    pub id: StorageId,
    pub dir: PathBuf,
    /// This host: signs what is its own there.
    pub host: HostName,
}

impl Paths {
    /// Touches nothing; see [`Paths::make`].
    pub fn new(state_dir: &Path, run_dir: &Path, user: Option<QemuUser>) -> Result<Self, Failure> {
        let bytes = run_dir.as_os_str().len();
        if bytes > RUN_DIR_BYTES_MAX {
            let detail = format!(
                "run_dir {} has {bytes} bytes; at most {RUN_DIR_BYTES_MAX} leave room for the sockets in it",
                run_dir.display()
            );
            return Err(Failure::new(FailureCode::BadRequest, detail).hint("use a shorter one, such as /run/whimbrel"));
        }
        for dir in [state_dir, run_dir] {
            if !dir.is_absolute() {
                let detail = format!("{} is not an absolute path", dir.display());
                return Err(Failure::new(FailureCode::BadRequest, detail).hint("begin state_dir and run_dir with '/'"));
            }
        }
        Ok(Paths { state_dir: state_dir.to_owned(), run_dir: run_dir.to_owned(), user, shared: None })
    }

    /// The instances and images lie there and not in the state directory.
    pub fn on_shared(self, shared: SharedDir) -> Self {
        Paths { shared: Some(shared), ..self }
    }

    /// Makes the directories that are always there.
    pub fn make(&self) -> Result<(), Failure> {
        let passed =
            [&self.state_dir, &self.run_dir, &self.instances(), &self.images(), &self.incoming(), &self.retired_all()];
        let above = self.shared.iter().flat_map(|shared| [shared.dir.join("hosts"), self.own_root()]);
        for dir in above.collect::<Vec<_>>().iter().chain(passed) {
            self.make_dir(dir)?;
        }
        if self.shared.is_some() {
            self.link_images()?;
        }
        make_dir(&self.journal(), PRIVATE)
    }

    /// What a disk's file says of the image below it. On shared storage each host has its own path to both: from every
    /// directory in which a disk may lie, this leads to the images.
    pub fn backing_name(&self, image: &Path) -> PathBuf {
        match (&self.shared, image.file_name()) {
            (Some(_), Some(name)) => Path::new(IMAGES_FROM_DISK).join(name),
            (Some(_), None) | (None, _) => image.to_owned(),
        }
    }

    fn link_images(&self) -> Result<(), Failure> {
        let link = self.own_root().join("images");
        match fs_err::os::unix::fs::symlink(IMAGES_FROM_DISK, &link) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(fault::of_file("make", &link, &error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// A directory of the agent with files of QEMU in it.
    pub fn make_dir(&self, dir: &Path) -> Result<(), Failure> {
        make_dir(dir, if self.user.is_some() { PASSABLE } else { PRIVATE })
    }

    /// Hands a file or directory to the user as which QEMU runs.
    pub fn give_to_qemu(&self, path: &Path) -> io::Result<()> {
        give(path, self.user)
    }

    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    pub fn run_root(&self) -> &Path {
        &self.run_dir
    }

    pub fn identity(&self) -> PathBuf {
        self.state_dir.join("agent.pem")
    }

    pub fn ca(&self) -> PathBuf {
        self.state_dir.join("ca.pem")
    }

    pub fn shared(&self) -> Option<&SharedDir> {
        self.shared.as_ref()
    }

    /// Of the instances and the images.
    fn disks_root(&self) -> &Path {
        self.shared.as_ref().map_or(&self.state_dir, |shared| &shared.dir)
    }

    /// Of what this host alone makes and puts away, on one file system with the instances.
    fn own_root(&self) -> PathBuf {
        match &self.shared {
            Some(shared) => shared.dir.join("hosts").join(shared.host.as_str()),
            None => self.state_dir.clone(),
        }
    }

    pub fn instances(&self) -> PathBuf {
        self.disks_root().join("instances")
    }

    pub fn instance(&self, id: InstanceId) -> PathBuf {
        self.instances().join(id.to_string())
    }

    pub fn owner(&self, id: InstanceId) -> PathBuf {
        self.instance(id).join(OWNER_FILE)
    }

    pub fn images(&self) -> PathBuf {
        self.disks_root().join("images")
    }

    pub fn image(&self, digest: &ImageDigest) -> PathBuf {
        self.images().join(digest.as_str())
    }

    fn incoming(&self) -> PathBuf {
        self.own_root().join("incoming")
    }

    pub fn incoming_of(&self, migration: MigrationId) -> PathBuf {
        self.incoming().join(migration.to_string())
    }

    /// Where a new instance is made before it gets its place by one rename.
    pub fn being_made(&self, id: InstanceId) -> PathBuf {
        self.incoming().join(format!("{NEW}{id}"))
    }

    /// Where a directory goes by one rename before it is removed.
    pub fn being_removed(&self, dir: &Path) -> PathBuf {
        let name = dir.file_name().unwrap_or_default().to_string_lossy();
        self.incoming().join(format!("{GONE}{name}"))
    }

    /// What an agent's death left of the two above.
    pub fn half_done(&self) -> io::Result<Vec<PathBuf>> {
        let ours = |name: &str| name.starts_with(NEW) || name.starts_with(GONE);
        let entries = fs_err::read_dir(self.incoming())?.collect::<io::Result<Vec<_>>>()?;
        Ok(entries
            .iter()
            .filter(|entry| entry.file_name().to_str().is_some_and(ours))
            .map(fs_err::DirEntry::path)
            .collect())
    }

    pub fn retired_all(&self) -> PathBuf {
        self.own_root().join("retired")
    }

    pub fn retired(&self, id: InstanceId, epoch: Epoch) -> PathBuf {
        self.retired_all().join(format!("{id}.{epoch}"))
    }

    pub fn journal(&self) -> PathBuf {
        self.state_dir.join("journal")
    }

    /// Sockets and pid files of an instance.
    pub fn run_dir(&self, id: InstanceId) -> PathBuf {
        self.run_dir.join(id.0.simple().to_string())
    }

    /// Sockets and pid files of a migration that arrives here.
    pub fn run_dir_of(&self, migration: MigrationId) -> PathBuf {
        self.run_dir.join(format!("m{}", migration.0.simple()))
    }

    /// For a short-lived QEMU of the agent itself.
    pub fn probe_dir(&self) -> PathBuf {
        self.run_dir.join("probe")
    }
}

pub const OWNER_FILE: &str = "owner.json";
pub const SPEC_FILE: &str = "spec.json";

/// Name of a disk's file in any of the directories above.
pub fn disk_file(name: &DiskName, format: DiskFormat) -> String {
    format!("{name}.{}", format.driver())
}

/// A directory for the sockets of QEMU's programs: their user's, and nobody else's.
pub fn make_run_dir(dir: &Path, user: Option<QemuUser>) -> Result<(), Failure> {
    make_dir(dir, PRIVATE)?;
    give(dir, user).map_err(|error| fault::of_file("give to QEMU's user", dir, &error))
}

/// A file that QEMU's user may write, empty if it is new.
pub fn make_file(path: &Path, user: Option<QemuUser>) -> Result<(), Failure> {
    let made = fs_err::OpenOptions::new().append(true).create(true).mode(FILE).open(path).map(drop);
    made.and_then(|()| give(path, user)).map_err(|error| fault::of_file("make", path, &error))
}

pub fn give(path: &Path, user: Option<QemuUser>) -> io::Result<()> {
    match user {
        Some(user) => chown(path, Some(user.uid), Some(user.gid)),
        None => Ok(()),
    }
}

fn make_dir(dir: &Path, mode: u32) -> Result<(), Failure> {
    let made = fs_err::create_dir_all(dir).and_then(|()| fs_err::set_permissions(dir, Permissions::from_mode(mode)));
    made.map_err(|error| fault::of_file("make directory", dir, &error))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn every_socket_path_fits_or_the_run_dir_is_refused() {
        let check = |bytes: usize, good: bool| {
            let run_dir = PathBuf::from(format!("/{}", "r".repeat(bytes - 1)));
            match Paths::new(Path::new("/s"), &run_dir, None) {
                Ok(paths) => {
                    assert!(good, "{bytes} bytes were taken");
                    let name = "s".repeat(SOCKET_NAME_BYTES_MAX);
                    let longest = paths.run_dir_of(MigrationId(Uuid::max())).join(&name);
                    assert!(longest.as_os_str().len() <= SOCKET_PATH_BYTES_MAX, "{}", longest.display());
                    assert!(paths.run_dir(InstanceId(Uuid::max())).join(name) < longest);
                }
                Err(failure) => {
                    assert!(!good, "{failure}");
                    assert!(failure.detail.contains(&bytes.to_string()) && failure.hint.is_some(), "{failure:?}");
                }
            }
        };
        check(13, true);
        check(RUN_DIR_BYTES_MAX, true);
        check(RUN_DIR_BYTES_MAX + 1, false);
        assert!(Paths::new(Path::new("s"), Path::new("/r"), None).is_err(), "a relative path was taken");
    }

    #[test]
    fn directories_are_private() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::new(&dir.path().join("s"), &dir.path().join("r"), None).unwrap();
        paths.make().unwrap();
        paths.make().unwrap();
        for dir in [paths.instances(), paths.journal(), paths.run_root().to_owned()] {
            assert_eq!(fs_err::metadata(&dir).unwrap().permissions().mode() & 0o777, PRIVATE, "{}", dir.display());
        }
    }
}
