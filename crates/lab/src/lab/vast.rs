//! File systems for hosts that are far larger than this machine's disk, so that a guest's disks may be of any size as long
//! as little is in them. What is in them is in this machine's memory.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::HostSite;
use crate::{
    record::{Made, Record},
    tool,
};

const SIZE: &str = "size=16t";

pub(super) fn mount(record: &mut Record, host: &HostSite) -> Result<()> {
    let dir = host.dir.join("state");
    fs_err::create_dir(&dir)?;
    record.add(Made::Mount(dir.clone()))?;
    tool::run("mount", &["-t", "tmpfs", "-o", SIZE, "whimbrel-lab", &dir.display().to_string()])?;
    Ok(())
}

/// Nothing to do where nothing is mounted.
pub(crate) fn unmount(dir: &Path) -> Result<()> {
    if mounts()?.iter().any(|mounted| mounted == dir) {
        tool::run("umount", &[&dir.display().to_string()])?;
    }
    Ok(())
}

/// Places of all mounts of this namespace.
pub fn mounts() -> Result<Vec<PathBuf>> {
    let text = fs_err::read_to_string("/proc/self/mounts")?;
    Ok(text.lines().filter_map(|line| line.split(' ').nth(1)).map(PathBuf::from).collect())
}
