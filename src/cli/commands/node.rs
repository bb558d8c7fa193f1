//! `serve`: a node that runs until it is told to stop. How a node works is not known here; [`app`] makes one.

use std::io::IsTerminal as _;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::app;
use crate::cli::args::{Common, ServeArgs};
use crate::cli::fault::failed;
use crate::cli::render;
use crate::cli::settings;

/// `sluice serve`.
pub async fn serve(args: &ServeArgs, common: &Common) -> anyhow::Result<()> {
    let settings = settings::serve(args, common)?;
    let folder = settings.data_dir.clone();
    install_log("warn,sluicegate=info");
    let node = start(settings).await?;
    render::line(format_args!("workers      http://{}", node.data));
    render::line(format_args!("control API  http://{}", node.control));
    render::note(format_args!("data folder  {} (its file `token` holds the API's token)", folder.display()));
    render::note("stop with Ctrl-C");
    until_told_to_stop().await?;
    stop(node).await
}

/// A running node, or why there is none.
pub async fn start(settings: app::Settings) -> anyhow::Result<app::Running> {
    Box::pin(app::start(settings)).await.map_err(|error| {
        let mut fault = failed("cannot start the node");
        if matches!(error, app::Error::Listen { .. }) {
            fault =
                fault.hint("is another node running? Take other ports (port 0 is any free one), or talk to that node");
        }
        anyhow::Error::from(error).context(fault)
    })
}

/// Sends what the node has to say to stderr: lines for people on a terminal, JSON elsewhere. `SLUICE_LOG` says how much, in the
/// form of `RUST_LOG`.
pub fn install_log(otherwise: &str) {
    let filter = EnvFilter::try_from_env("SLUICE_LOG").unwrap_or_else(|_| EnvFilter::new(otherwise));
    // A log that cannot be written is lost: saying so on the same stderr would panic, in the middle of a request.
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).log_internal_errors(false);
    // Whoever was first keeps it.
    let _ = if std::io::stderr().is_terminal() { log.try_init() } else { log.json().try_init() };
}

/// Waits for Ctrl-C, or for the signal that ends services.
pub async fn until_told_to_stop() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for signals")?;
    tokio::select! {
        outcome = tokio::signal::ctrl_c() => outcome.context("cannot listen for signals"),
        _ = terminate.recv() => Ok(()),
    }
}

/// Lets requests end; a second signal ends it at once.
pub async fn stop(node: app::Running) -> anyhow::Result<()> {
    render::note("stopping; requests in flight may end (once more Ctrl-C ends it at once)");
    tokio::select! {
        () = node.stop() => Ok(()),
        outcome = until_told_to_stop() => outcome,
    }
}
