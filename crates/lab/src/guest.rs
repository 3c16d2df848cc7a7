//! `whimbrel lab guest`: the guest that tells the truth, by hand.

use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use serde::Serialize;

use crate::{
    image::BootLine,
    lab::{Lab, Place},
    peer::{PeerControl, Rates},
};

/// Reading back a journal, a load region and RAM under emulation takes seconds.
pub(crate) const TASK_TIME_MAX: Duration = Duration::from_secs(120);
const MB: u64 = 1_000_000;
const MIB: u64 = 1 << 20;
const BOOT_NAME: &str = "guest";

#[derive(Clone, Debug, Subcommand)]
pub enum GuestCommand {
    /// Creates a server that boots the lab's guest, and waits until it works
    Boot(BootArgs),
    /// Says what the guest's peer knows of it
    Status(WhichArgs),
    /// Lets the guest read everything back and compares that with what it had acknowledged
    Verify(VerifyArgs),
    /// Changes how much the guest works
    Set(SetArgs),
    /// Lets the guest rewrite some of its data, each block once
    WriteChanges(ChangesArgs),
}

#[derive(Clone, Debug, Args)]
pub struct WhichArgs {
    /// The guest's name, where there is more than one
    pub guest: Option<String>,
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Debug, Args)]
pub struct BootArgs {
    #[arg(default_value = BOOT_NAME)]
    pub guest: String,
    /// The host to boot it on; the scheduler chooses otherwise
    #[arg(long)]
    pub host: Option<String>,
    #[command(flatten)]
    pub rates: RateArgs,
}

#[derive(Clone, Debug, Args)]
pub struct RateArgs {
    /// Random 64 KiB writes to the root disk, in MB/s
    #[arg(long, default_value_t = 0)]
    pub write_rate: u64,
    /// Journal records per second and disk, each with an fsync
    #[arg(long, default_value_t = 10)]
    pub fsync_rate: u32,
    /// Checked RAM that is rewritten, in MB/s
    #[arg(long, default_value_t = 1)]
    pub ram_rate: u64,
}

impl RateArgs {
    fn rates(&self) -> Rates {
        Rates { write_bps: self.write_rate * MB, fsync_hz: self.fsync_rate, ram_bps: self.ram_rate * MB }
    }
}

#[derive(Clone, Debug, Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    pub which: WhichArgs,
    /// Leaves the guest at rest afterwards
    #[arg(long)]
    pub rest: bool,
}

#[derive(Clone, Debug, Args)]
pub struct SetArgs {
    pub guest: Option<String>,
    #[command(flatten)]
    pub rates: RateArgs,
}

#[derive(Clone, Debug, Args)]
pub struct ChangesArgs {
    pub guest: Option<String>,
    #[arg(long, default_value_t = 64)]
    pub mib: u64,
}

pub(crate) async fn run(place: &Place, command: GuestCommand) -> Result<()> {
    let mut lab = Lab::open(place)?;
    match command {
        GuestCommand::Boot(args) => {
            let line = BootLine { name: args.guest, rates: args.rates.rates(), ..BootLine::default() };
            let guest = lab.boot_guest(args.host.as_deref(), line).await?;
            println!("guest '{}' works at {}", guest.name, guest.address);
        }
        GuestCommand::Status(args) => {
            let status = peer(&lab, args.guest.as_deref()).await?.status().await?;
            show(&status, args.json)?;
        }
        GuestCommand::Verify(args) => {
            let mut peer = peer(&lab, args.which.guest.as_deref()).await?;
            let verdict = peer.verify(TASK_TIME_MAX, !args.rest).await?;
            show(&verdict, args.which.json)?;
            if !verdict.sound() {
                bail!("the guest is not sound: {}", verdict.faults.join("; "));
            }
        }
        GuestCommand::Set(args) => {
            peer(&lab, args.guest.as_deref()).await?.set(args.rates.rates()).await?;
            println!("done");
        }
        GuestCommand::WriteChanges(args) => {
            peer(&lab, args.guest.as_deref()).await?.write_changes(args.mib * MIB, TASK_TIME_MAX).await?;
            println!("{} MiB changed", args.mib);
        }
    }
    Ok(())
}

async fn peer(lab: &Lab, guest: Option<&str>) -> Result<PeerControl> {
    Ok(PeerControl::connect(&lab.site().guest(guest)?.control).await?)
}

/// One line of JSON, or a line for each fact.
fn show(value: &impl Serialize, as_json: bool) -> Result<()> {
    let value = serde_json::to_value(value)?;
    match value.as_object() {
        Some(facts) if !as_json => {
            for (name, fact) in facts {
                println!("{:<22}{fact}", name.replace('_', " "));
            }
        }
        Some(_) | None => println!("{value}"),
    }
    Ok(())
}
