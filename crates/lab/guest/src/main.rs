//! The lab's guest: a program that works on disks, RAM and network in a way that can be proven right afterwards.
//!
//! It is the main process of a guest that has nothing else. On every disk it keeps a hash-chained journal, on the root disk a
//! write load, in RAM pages that it rewrites, and to a peer outside the guest one TCP connection that tells what is durable.
//! Moving the guest must not be visible to any of them. See `wire` for the conversation, `work` for the threads.
//!
//! Ground rules: never end (the kernel would panic); never claim what was not read back; be cheap, since the CPU is emulated.

mod area;
mod journal;
mod link;
mod load;
mod memory;
mod pace;
mod parameters;
mod random;
mod read_only;
mod record;
mod wire;
mod work;

use std::{fs, io, path::Path, sync::Arc, thread};

use crate::{
    area::{Access, Area},
    journal::Journal,
    load::Load,
    memory::Memory,
    parameters::Parameters,
    work::Work,
};

const JOURNAL_BYTES: u64 = 16 << 20;
/// Made with the root disk's file system: the journal, then the region of the write load.
const WORK_FILE: &str = "/root/whimbrel/work";
/// The journal's place on a disk without a file system: behind where a partition table or a swap header would be.
const RAW_FROM_BYTES: u64 = 1 << 20;
const OTHER_DISKS: [(&str, &str); 2] = [("vdb", "ephemeral0"), ("vdc", "swap")];

fn main() {
    match begin() {
        Ok((work, parameters)) => {
            work.start();
            // What a lab waits for.
            println!("BOOTED");
            match parameters.peer {
                Some(peer) => link::keep(&work, &parameters.name, peer),
                None => rest(),
            }
        }
        Err(why) => {
            println!("FAILED {why}");
            rest()
        }
    }
}

/// The first process of a guest must not end.
fn rest() -> ! {
    loop {
        thread::park();
    }
}

fn begin() -> Result<(Arc<Work>, Parameters), String> {
    let command_line = fs::read_to_string("/proc/cmdline").map_err(|error| format!("/proc/cmdline: {error}"))?;
    let parameters = parameters::parse(&command_line)?;
    let region_bytes = u64::from(parameters.region_mb) << 20;
    let load = Area::open(Path::new(WORK_FILE), Access::Direct, JOURNAL_BYTES, region_bytes);
    let load = Load::new(load.map_err(|error| format!("{WORK_FILE}: {error}"))?);
    let memory = Memory::new(parameters.ram_mb);
    let journals = journals().map_err(|error| format!("journal: {error}"))?;
    Ok((Arc::new(Work::new(parameters.rates, journals, load, memory)), parameters))
}

fn journals() -> io::Result<Vec<Journal>> {
    let root = Area::open(Path::new(WORK_FILE), Access::Direct, 0, JOURNAL_BYTES)?;
    let mut journals = vec![Journal::open("root", root)?];
    for (device, name) in OTHER_DISKS {
        let path = Path::new("/dev").join(device);
        // A server with fewer disks has its config drive in their place.
        if fs::exists(&path)? && !read_only::is_read_only(device) {
            let area = Area::open(&path, Access::Direct, RAW_FROM_BYTES, JOURNAL_BYTES)?;
            journals.push(Journal::open(name, area)?);
        }
    }
    Ok(journals)
}
