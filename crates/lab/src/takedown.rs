//! Takes down what a record names, in any state of completeness, as often as one likes.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use crate::{
    lab::vast,
    net,
    process::{self, ProcessId},
    record::{Made, Record},
    tool, wait,
};

const END_TIME_MAX: Duration = Duration::from_secs(20);

/// Ends and removes all that is in the record, then the record.
pub(crate) fn take_down(mut record: Record) -> Result<()> {
    if record.of_this_boot() {
        end_processes(&record)?;
        remove_network(&mut record)?;
        unmount(&mut record)?;
    }
    // Inner folders come last in the record.
    for dir in record.dirs().iter().rev() {
        remove_dir(dir)?;
        record.forget(&Made::Dir(dir.clone()))?;
    }
    record.remove()
}

/// The processes of this lab that run now: those that were noted, and those in its namespaces that carry its mark.
pub(crate) fn processes(record: &Record) -> Result<Vec<ProcessId>> {
    let dirs = record.dirs();
    let mut found = Vec::new();
    for made in &record.made {
        match made {
            Made::Process { id, .. } if id.alive() => found.push(*id),
            Made::Namespace(name) => {
                found.extend(process::within(name)?.into_iter().filter(|id| id.marked(&record.id, &dirs)));
            }
            Made::Process { .. } | Made::Dir(_) | Made::Mount(_) | Made::Link(_) => {}
        }
    }
    found.sort_by_key(|id| id.pid);
    found.dedup();
    Ok(found)
}

fn end_processes(record: &Record) -> Result<()> {
    // A process that starts another while it is being ended is met by the next look.
    wait::until("the end of the lab's processes", END_TIME_MAX, || {
        let running = processes(record)?;
        for id in &running {
            id.signal(Signal::SIGKILL)?;
        }
        Ok(running.is_empty().then_some(()))
    })
}

fn remove_network(record: &mut Record) -> Result<()> {
    for made in record.made.clone() {
        match &made {
            Made::Link(name) => {
                if Path::new("/sys/class/net").join(name).exists() {
                    tool::run("ip", &["link", "del", name])?;
                }
            }
            Made::Namespace(name) => {
                if net::namespace_path(name).exists() {
                    tool::run("ip", &["netns", "del", name])?;
                }
            }
            Made::Dir(_) | Made::Mount(_) => continue,
            Made::Process { .. } => {}
        }
        record.forget(&made)?;
    }
    Ok(())
}

fn unmount(record: &mut Record) -> Result<()> {
    for made in record.made.clone() {
        match &made {
            Made::Mount(dir) => vast::unmount(dir)?,
            Made::Process { .. } | Made::Dir(_) | Made::Namespace(_) | Made::Link(_) => continue,
        }
        record.forget(&made)?;
    }
    Ok(())
}

fn remove_dir(dir: &Path) -> Result<()> {
    match std::fs::remove_dir_all(dir) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot remove {}", dir.display())),
    }
}
