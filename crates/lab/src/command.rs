//! The subcommands of `whimbrel lab`, as the binary mounts them.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};

use crate::{
    bench, demo,
    guest::{self, GuestCommand},
    lab::{self, LabOptions, Place, QemuOf},
    net::{LinkChange, LinkRate, Network},
    peer,
};

#[derive(Clone, Debug, Subcommand)]
pub enum LabCommand {
    /// Makes a controller and hosts on this machine
    Up(UpArgs),
    /// Says what is up
    Status(StatusArgs),
    /// Takes down all that `up` made, also after a crash
    Down(PlaceArgs),
    /// Prints the shell exports that point every command at the lab
    Env(PlaceArgs),
    /// Shapes, cuts or heals the network of the hosts
    Link(LinkArgs),
    /// Boots the lab's guest, asks what it does, changes it, or lets it prove that nothing was lost
    Guest(GuestArgs),
    /// Moves a working guest there and back in a lab of its own and verifies it
    Demo(DemoArgs),
    /// Measures Whimbrel and its peer side by side
    Bench(BenchArgs),
    /// Runs the witness that the guest talks to; started by `up`
    #[command(hide = true)]
    Peer(PeerArgs),
}

#[derive(Clone, Debug, Args)]
pub struct PlaceArgs {
    /// Where labs keep their files and the guest image
    #[arg(long, env = "WHIMBREL_LAB_DIR", default_value = lab::BASE_DEFAULT)]
    pub dir: PathBuf,
    /// Name of the lab, for more than one at a time
    #[arg(long, default_value = lab::NAME_DEFAULT)]
    pub name: String,
}

#[derive(Clone, Debug, Args)]
pub struct UpArgs {
    #[command(flatten)]
    pub place: PlaceArgs,
    /// Number of hosts
    #[arg(long, default_value_t = lab::HOSTS_DEFAULT)]
    pub hosts: u8,
    /// Rate of every host's migration link: `none`, `1gbit`, `500mbit`
    #[arg(long, default_value = "none")]
    pub link: LinkRate,
    /// Folder of a host's QEMU programs: `h1=/opt/qemu/bin`, or only the folder for all hosts
    #[arg(long, value_name = "[HOST=]FOLDER")]
    pub qemu: Vec<QemuOf>,
}

#[derive(Clone, Debug, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    pub place: PlaceArgs,
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Debug, Args)]
pub struct LinkArgs {
    #[command(flatten)]
    pub place: PlaceArgs,
    /// Only this host's link; all of them otherwise
    #[arg(long)]
    pub host: Option<String>,
    #[arg(long, value_enum, default_value = "migration")]
    pub network: Network,
    /// `cut`, `heal`, `none` or a rate such as `1gbit`
    pub change: LinkChange,
}

#[derive(Clone, Debug, Args)]
pub struct GuestArgs {
    #[command(flatten)]
    pub place: PlaceArgs,
    #[command(subcommand)]
    pub command: GuestCommand,
}

#[derive(Clone, Debug, Args)]
pub struct DemoArgs {
    #[arg(long, env = "WHIMBREL_LAB_DIR", default_value = lab::BASE_DEFAULT)]
    pub dir: PathBuf,
    /// Prints receipts and the guest's verdict as the last line
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BenchPeer {
    Libvirt,
    None,
}

#[derive(Clone, Debug, Args)]
pub struct BenchArgs {
    #[arg(long, env = "WHIMBREL_LAB_DIR", default_value = lab::BASE_DEFAULT)]
    pub dir: PathBuf,
    /// Only these scenarios; all otherwise
    #[arg(long, value_enum)]
    pub scenario: Vec<bench::Scenario>,
    #[arg(long, value_enum, default_value = "libvirt")]
    pub peer: BenchPeer,
    #[arg(long, default_value_t = bench::REPETITIONS_DEFAULT)]
    pub repetitions: u32,
    /// Only these link rates; `none` and `1gbit` otherwise
    #[arg(long)]
    pub link: Vec<LinkRate>,
    /// Prints rows as JSON lines
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Debug, Args)]
pub struct PeerArgs {
    #[arg(long)]
    pub listen: SocketAddr,
    #[arg(long)]
    pub control: PathBuf,
}

/// Runs one subcommand. An error means that something was not as it should be; it was said in words by then or is in the error.
pub async fn run(command: LabCommand) -> Result<()> {
    match command {
        LabCommand::Up(args) => {
            let place = Place::new(&args.place.dir, &args.place.name)?;
            lab::commands::up(LabOptions::of(place, args.hosts, args.link, &args.qemu)?).await
        }
        LabCommand::Status(args) => lab::commands::status(&place(&args.place)?, args.json).await,
        LabCommand::Down(args) => lab::commands::down(&place(&args)?),
        LabCommand::Env(args) => lab::commands::env(&place(&args)?),
        LabCommand::Link(args) => {
            lab::commands::link(&place(&args.place)?, args.host.as_deref(), args.network, args.change)
        }
        LabCommand::Guest(args) => guest::run(&place(&args.place)?, args.command).await,
        LabCommand::Demo(args) => demo::run(&args.dir, args.json).await,
        LabCommand::Bench(args) => bench::run(args).await,
        LabCommand::Peer(args) => Ok(peer::run(args.listen, &args.control).await?),
    }
}

fn place(args: &PlaceArgs) -> Result<Place> {
    Place::new(&args.dir, &args.name)
}
