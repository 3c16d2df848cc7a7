//! The command line, and nothing else.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use whimbrel_lab::LabCommand;

/// Moves running virtual machines between hosts that share nothing.
#[derive(Debug, Parser)]
#[command(version, about, after_help = "Exit codes: 0 done, 1 failed, 2 wrong call, 3 the move was cancelled.")]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

/// A noun with its verbs.
#[derive(Debug, clap::Args)]
pub struct Noun<V: Subcommand> {
    /// Prints JSON: one object or array
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub verb: V,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs the controller
    Controller(Daemon),
    /// Runs the agent of this host
    Agent(Daemon),
    /// A whole cloud on one machine, to try and to measure
    #[command(subcommand)]
    Lab(LabCommand),
    /// Makes the first administrator of OpenStack's front door, and tells its clients how to log in
    Bootstrap(Bootstrap),
    /// Prints what to register in a site's own Keystone, as lines for OpenStack's client
    Endpoints(Endpoints),
    /// Size templates
    Flavor(Noun<Flavor>),
    /// Disk and kernel images
    Image(Noun<Image>),
    /// Servers, the guests of this cloud
    Server(Noun<Server>),
    /// Hosts and their agents
    Host(Noun<Host>),
    /// Moves, running and past
    Migration(Noun<Migration>),
    /// Moves a running server to another host, with its memory and all its disks
    Move(Move),
}

#[derive(Debug, clap::Args)]
pub struct Daemon {
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

#[derive(Debug, clap::Args)]
pub struct Bootstrap {
    /// Of user `admin`: the first line of this file; a random one if there is none
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// Only this one
    #[arg(long, value_enum)]
    pub print: Option<Credentials>,
}

#[derive(Debug, clap::Args)]
pub struct Endpoints {
    /// Of the catalog's entries; one of its own where the region has another Nova already
    #[arg(long, default_value = "RegionOne")]
    pub region: String,
    /// The user as whom the controller asks Keystone, as `identity.keystone.username` names it
    #[arg(long, default_value = "whimbrel")]
    pub user: String,
}

/// How clients take their credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Credentials {
    /// Shell exports
    Openrc,
    /// `clouds.yaml`
    Clouds,
}

#[derive(Debug, Subcommand)]
pub enum Flavor {
    List,
    Show {
        flavor: String,
    },
    Delete {
        flavor: String,
    },
    Create {
        name: String,
        /// As OpenStack's clients know it, such as 13; a UUID if none is given
        #[arg(long)]
        id: Option<String>,
        #[arg(long, default_value_t = 1)]
        vcpus: u32,
        #[arg(long, value_name = "MB")]
        ram: u64,
        /// Root disk; 0 takes the image's virtual size
        #[arg(long, value_name = "GB", default_value_t = 0)]
        disk: u64,
        #[arg(long, value_name = "GB", default_value_t = 0)]
        ephemeral: u64,
        #[arg(long, value_name = "MB", default_value_t = 0)]
        swap: u64,
    },
}

#[derive(Debug, Subcommand)]
pub enum Image {
    List,
    Show {
        image: String,
    },
    Delete {
        image: String,
    },
    Create {
        name: String,
        /// qcow2 or raw, told by its content
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
        #[arg(long, value_name = "FILE")]
        kernel: Option<PathBuf>,
        #[arg(long, value_name = "FILE", requires = "kernel")]
        ramdisk: Option<PathBuf>,
        /// Command line of the kernel
        #[arg(long, value_name = "TEXT", requires = "kernel")]
        command_line: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub enum Server {
    List,
    Show {
        server: String,
    },
    Create {
        name: String,
        #[arg(long)]
        flavor: String,
        #[arg(long)]
        image: String,
        /// Where; the scheduler chooses otherwise
        #[arg(long)]
        host: Option<String>,
        /// A bridge of the hosts; may be given several times, a NIC each
        #[arg(long = "network", value_name = "BRIDGE")]
        networks: Vec<String>,
        /// Takes the place of the image's kernel command line
        #[arg(long, value_name = "TEXT")]
        command_line: Option<String>,
        /// One iothread per disk; needs QEMU 9.0 or later on every host it shall run on
        #[arg(long)]
        iothreads: bool,
        /// Versioned machine type
        #[arg(long)]
        machine: Option<String>,
    },
    Start {
        server: String,
    },
    Stop {
        server: String,
    },
    Delete {
        server: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum Host {
    List,
    Show {
        host: String,
    },
    /// Makes the one-time token that the agent of a new host joins with
    Token {
        host: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum Migration {
    List,
    Show {
        migration: String,
    },
    /// Shows a running move until it ends
    Watch {
        migration: String,
    },
    Cancel {
        migration: String,
    },
}

#[derive(Debug, clap::Args)]
pub struct Move {
    pub server: String,
    /// The target; the scheduler chooses otherwise
    pub host: Option<String>,
    /// Prints JSON: a line for each look, the receipt last
    #[arg(long)]
    pub json: bool,
    /// Says what would be done and what it would take, and touches nothing
    #[arg(long)]
    pub plan: bool,
    /// Returns at once; see `migration watch`
    #[arg(long)]
    pub detach: bool,
    /// Does not compare the moved disks with the source's afterwards
    #[arg(long)]
    pub no_verify: bool,
    /// Data streams
    #[arg(long, value_name = "N")]
    pub streams: Option<u16>,
    /// Bytes per second on the wire
    #[arg(long, value_name = "BYTES")]
    pub bandwidth: Option<u64>,
    /// The longest pause of the guest that is accepted
    #[arg(long, value_name = "MS")]
    pub downtime_ms_max: Option<u64>,
    /// Gives up when the guest has not switched over by then
    #[arg(long, value_name = "SECONDS")]
    pub deadline: Option<u64>,
    /// Never slows the guest's disk writes or CPUs down
    #[arg(long)]
    pub no_throttle: bool,
}
