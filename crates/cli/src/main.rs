//! The `whimbrel` binary: both daemons, the lab, and the operator's commands.
//!
//! Ground rules: decisions are the controller's and the agents'; this crate turns arguments into calls and answers into
//! text. Errors go to stderr as `error:` and `hint:` lines; exit code 1 is a failure, 2 a wrong call, 3 a cancelled move.

mod args;
mod command;
mod connection;
mod failure;
#[cfg(test)]
mod hints;
mod receipt;
mod table;
mod watch;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let args = args::Args::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failure::print(&anyhow::Error::new(error).context("cannot start")),
    };
    match runtime.block_on(command::run(args)) {
        Ok(code) => code,
        Err(error) => failure::print(&error),
    }
}
