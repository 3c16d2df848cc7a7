//! What each command does, a file per noun.

mod bootstrap;
mod endpoints;
mod flavor;
mod host;
mod image;
mod migration;
mod relocate;
mod server;

use std::process::ExitCode;

use anyhow::Result;

use crate::{
    args::{Args, Command},
    connection::{connect, url},
};

pub async fn run(args: Args) -> Result<ExitCode> {
    match args.command {
        Command::Controller(daemon) => {
            whimbrel_controller::run(whimbrel_controller::ControllerConfig::load(&daemon.config)?).await?
        }
        Command::Agent(daemon) => {
            whimbrel_agent::run(whimbrel_agent::config::AgentConfig::load(&daemon.config)?).await?
        }
        Command::Lab(command) => whimbrel_lab::run(command).await?,
        Command::Bootstrap(command) => bootstrap::run(&connect()?, command).await?,
        Command::Endpoints(command) => endpoints::run(&url()?, &command),
        Command::Flavor(noun) => flavor::run(&connect()?, noun.verb, noun.json).await?,
        Command::Image(noun) => image::run(&connect()?, noun.verb, noun.json).await?,
        Command::Server(noun) => server::run(&connect()?, noun.verb, noun.json).await?,
        Command::Host(noun) => host::run(&connect()?, noun.verb, noun.json).await?,
        Command::Migration(noun) => return migration::run(&connect()?, noun.verb, noun.json).await,
        Command::Move(command) => return relocate::run(&connect()?, command).await,
    }
    Ok(ExitCode::SUCCESS)
}
