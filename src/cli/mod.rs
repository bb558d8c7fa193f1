//! The command line: a client of the control API with wrangler's grammar, and the ways to start a node.
//!
//! Reading order: [`args`] is what was typed, [`settings`] what it means, [`commands`] what is done about it. [`project`] reads
//! `wrangler.toml`, [`client`] talks to a node, [`render`] is the only place that prints. Nothing here knows how a node works
//! inside: only [`crate::app`], the domain's words and the API's wire types.

pub mod args;
pub mod client;
pub mod commands;
pub mod fault;
pub mod kv;
pub mod names;
pub mod objects;
pub mod project;
pub mod refused;
pub mod render;
pub mod secrets;
pub mod settings;
pub mod tail;
pub mod upload;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;

/// How long work that nobody waits for any more may go on when the program ends.
const SHUTDOWN_MAX: Duration = Duration::from_secs(1);

/// Parses, runs, says what went wrong, and chooses the exit code: 0 done, 1 failed, 2 typed wrongly.
pub fn main() -> ExitCode {
    let cli = match args::Cli::try_parse_from(args::joined(std::env::args_os())) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and the version come this way too, with code 0 and on stdout.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            render::failure(&anyhow::Error::from(error).context("cannot start the async runtime"));
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(commands::run(cli));
    runtime.shutdown_timeout(SHUTDOWN_MAX);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            render::failure(&error);
            fault::exit_code(&error)
        }
    }
}
