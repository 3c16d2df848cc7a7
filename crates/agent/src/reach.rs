//! Whether QEMU's own user gets at what it needs.
//!
//! A directory above QEMU's programs or above its files that is closed to others (`/root`, say) would be found by the first
//! guest, in words that do not name it. So it is looked for at the agent's start.
//!
//! Ground rule: the kernel answers, asked as that user, since modes alone do not tell (ACLs, mounts, security modules).

use std::{
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, Stdio},
};

use whimbrel_core::failure::{Failure, FailureCode};

use crate::{config::QemuUser, fault};

/// Refuses a program that the user may not run or a directory that it may not pass, and names the outermost path that is
/// closed to it. `setting` is what the operator may change instead of its mode.
pub fn check(user: QemuUser, path: &Path, setting: &str) -> Result<(), Failure> {
    if may_run_or_pass(user, path)? {
        return Ok(());
    }
    let mut closed = path;
    for above in path.ancestors().skip(1) {
        if !may_run_or_pass(user, above)? {
            closed = above;
        }
    }
    let (uid, gid) = (user.uid, user.gid);
    let detail =
        format!("qemu_user {uid}:{gid} cannot get at {}: {} is closed to it", path.display(), closed.display());
    let hint = format!("open it with `chmod o+x {}`, or put {setting} elsewhere", closed.display());
    Err(Failure::new(FailureCode::BadRequest, detail).hint(hint))
}

fn may_run_or_pass(user: QemuUser, path: &Path) -> Result<bool, Failure> {
    let asked = Command::new("test")
        .arg("-x")
        .arg(path)
        .uid(user.uid)
        .gid(user.gid)
        .current_dir("/")
        .stdin(Stdio::null())
        .status()
        .map_err(|error| {
            fault::internal(format!("cannot become qemu_user {}:{}", user.uid, user.gid), &error)
                .hint("run the agent as root, or leave qemu_user out")
        })?;
    Ok(asked.success())
}

#[cfg(test)]
mod tests {
    use std::{fs::Permissions, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn the_outermost_closed_directory_is_named() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let user = QemuUser { uid: 65534, gid: 65534 };
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("a/b");
        let program = inner.join("program");
        fs_err::create_dir_all(&inner).unwrap();
        fs_err::write(&program, "").unwrap();
        let check = |modes: [u32; 4], closed: Option<&Path>| {
            for (path, mode) in [dir.path(), &dir.path().join("a"), &inner, &program].into_iter().zip(modes) {
                fs_err::set_permissions(path, Permissions::from_mode(mode)).unwrap();
            }
            let told = check(user, &program, "qemu_dir");
            match closed {
                None => told.unwrap(),
                Some(closed) => {
                    let said = told.unwrap_err().to_string();
                    assert!(said.contains(&format!("{} is closed", closed.display())), "{modes:?}: {said}");
                }
            }
        };
        check([0o755, 0o755, 0o711, 0o755], None);
        check([0o755, 0o755, 0o755, 0o700], Some(&program));
        check([0o755, 0o700, 0o700, 0o755], Some(&dir.path().join("a")));
        check([0o700, 0o755, 0o755, 0o755], Some(dir.path()));
    }
}
