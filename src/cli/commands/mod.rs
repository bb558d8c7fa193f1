//! One file for each family of commands. Each reads its arguments, calls the API and hands what came back to
//! [`super::render`]; what is worth a test is a pure function beside it.

pub mod bench;
pub mod dashboard;
pub mod delete;
pub mod demo;
pub mod deploy;
pub mod deployments;
pub mod dev;
pub mod explain;
pub mod init;
pub mod kv;
pub mod node;
pub mod objects;
pub mod plan;
pub mod rollback;
pub mod rollout;
pub mod secret;
pub mod split;
pub mod tail;
pub mod traffic;
pub mod versions;

use clap::CommandFactory as _;

use super::args::{Cli, Command, DeploymentsCommand, VersionsCommand};
use super::render::{self, Format};

/// Does what was typed.
pub async fn run(cli: Cli) -> anyhow::Result<()> {
    let Cli { common, command } = cli;
    match command {
        Command::Serve(args) => node::serve(&args, &common).await,
        Command::Dev(args) => Box::pin(dev::run(&args, &common)).await,
        Command::Deploy(args) => deploy::deploy(&args, &common).await,
        Command::Versions { command } => match command {
            VersionsCommand::Upload(args) => deploy::upload(&args, &common).await,
            VersionsCommand::List(args) => versions::list(&args, &common).await,
            VersionsCommand::View { version, json } => versions::view(&version, Format::from(json), &common).await,
            VersionsCommand::Deploy(args) => split::deploy(&args, &common).await,
            VersionsCommand::Delete { version, .. } => versions::delete(&version, &common).await,
            VersionsCommand::Secret { command } => secret::in_version(command, &common).await,
        },
        Command::Deployments { command } => match command {
            DeploymentsCommand::List(args) => deployments::list(&args, &common).await,
            DeploymentsCommand::Status { json } => deployments::status(Format::from(json), &common).await,
        },
        Command::Rollback(args) => rollback::run(&args, &common).await,
        Command::Rollout { command } => rollout::run(command, &common).await,
        Command::Secret { command } => secret::deployed(command, &common).await,
        Command::Kv { command } => kv::run(command, &common).await,
        Command::Objects { command } => objects::run(command, &common).await,
        Command::Tail(args) => tail::run(&args, &common).await,
        Command::Dashboard(args) => dashboard::run(&args, &common).await,
        Command::Delete(args) => delete::run(&args, &common).await,
        Command::Explain(args) => explain::run(&args, &common).await,
        Command::Bench(args) => Box::pin(bench::run(&args, &common)).await,
        Command::Init(args) => init::run(&args),
        Command::Demo(args) => Box::pin(demo::run(&args)).await,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "sluice", &mut script);
            render::bytes(&script);
            Ok(())
        }
    }
}
