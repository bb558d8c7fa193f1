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
    let stopped = until_told_to_stop()?;
    let node = start(settings).await?;
    render::line(format_args!("workers      http://{}", node.data));
    render::line(format_args!("control API  http://{}", node.control));
    render::note(format_args!("data folder  {} (its file `token` holds the API's token)", folder.display()));
    render::note("dashboard    `sluice dashboard` opens it in the browser");
    render::note("stop with Ctrl-C");
    stopped.await;
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

/// Ends with Ctrl-C, or with the signal that ends services. From this call on, not from the first poll, neither of them kills
/// the program.
pub fn until_told_to_stop() -> anyhow::Result<impl Future<Output = ()>> {
    let listen = |kind| signal(kind).context("cannot listen for signals");
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Lets requests end; a second signal ends it at once.
pub async fn stop(node: app::Running) -> anyhow::Result<()> {
    render::note("stopping; requests in flight may end (once more Ctrl-C ends it at once)");
    let told_again = until_told_to_stop()?;
    tokio::select! {
        () = node.stop() => {}
        () = told_again => {}
    }
    Ok(())
}
