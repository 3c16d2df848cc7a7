//! The yardstick: the same guest, disks, load and link, moved by Whimbrel and by libvirt in turn, in one run.
//!
//! ```text
//!   one lab:   h1 -> h2   agents, `whimbrel move`
//!              pa -> pb   libvirt daemons, `virsh migrate --copy-storage-all`
//!
//!   one measurement:  boot | steady | window before | COMMAND | window after, verdict | clear
//!                                     rate, idle CPU  time, wire, CPU, stalls
//! ```
//!
//! Ground rules: both subjects are timed as a user would see them (wall time of the command), counted on the same counters,
//! and their guests witnessed by the same peer; the target never has the base image before; a run that does not finish in
//! its time, or whose guest is not sound after it, is told as such, with no number made up for it.

mod meter;
mod row;
mod scenario;
mod subject;
mod summary;
mod table;

use anyhow::Result;

pub use row::Row;
pub use scenario::{Scenario, Setting};

use crate::{
    command::{BenchArgs, BenchPeer},
    image::{self, Ingredients},
    lab::{HostOptions, Lab, LabOptions},
    net::LinkRate,
};
use subject::Subject;

pub const REPETITIONS_DEFAULT: u32 = 3;
/// Hosts of the peer.
const PEER_HOSTS: [&str; 2] = ["pa", "pb"];

pub(crate) async fn run(args: BenchArgs) -> Result<()> {
    tokio::select! {
        done = measure_all(&args) => done,
        _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted; the lab was taken down"),
    }
}

async fn measure_all(args: &BenchArgs) -> Result<()> {
    let mut options = LabOptions::transient(&args.dir, "bench", 2)?;
    if args.peer == BenchPeer::Libvirt {
        let qemu = options.hosts[0].qemu.clone();
        let host =
            |name: &str| HostOptions { name: name.to_owned(), qemu: qemu.clone(), agent: false, shared_dir: None };
        options.hosts.extend(PEER_HOSTS.map(host));
    }
    let mut lab = Lab::up(options).await?;
    let subjects = subjects(&mut lab, args.peer).await?;
    let mut rows = Vec::new();
    for setting in scenario::settings(&args.scenario, &args.link)? {
        lab.shape(setting.link)?;
        for repetition in 1..=args.repetitions {
            for subject in &subjects {
                if !args.json {
                    eprintln!("{setting}, {} ({repetition} of {})", subject.name(), args.repetitions);
                }
                let row = subject::measure(&mut lab, subject, setting, repetition).await?;
                if args.json {
                    println!("{}", serde_json::to_string(&row)?);
                }
                rows.push(row);
            }
        }
    }
    lab.down()?;
    let ratios = summary::ratios(&rows);
    if args.json {
        println!("{}", serde_json::to_string(&ratios)?);
    } else {
        print!("{}", table::render(&rows, &ratios));
    }
    Ok(())
}

async fn subjects(lab: &mut Lab, peer: BenchPeer) -> Result<Vec<Subject>> {
    let mut subjects = vec![Subject::Whimbrel];
    match peer {
        BenchPeer::Libvirt => {
            let image = image::prepare(&lab.place().cache(), &Ingredients::from_env()?)?;
            subjects.push(Subject::libvirt(lab, PEER_HOSTS, image).await?);
        }
        BenchPeer::None => {}
    }
    Ok(subjects)
}

/// Links that are measured unless told otherwise.
fn links_default() -> Result<Vec<LinkRate>> {
    Ok(vec![LinkRate::UNSHAPED, "1gbit".parse()?])
}
