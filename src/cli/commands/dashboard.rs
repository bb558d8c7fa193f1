//! `dashboard`: a browser at the node's pages, signed in by a code that works once, since the token must not stand in an address.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::cli::args::{Common, DashboardArgs};
use crate::cli::fault::usage;
use crate::cli::render;
use crate::domain::id::WorkerName;

/// What opens an address, where `BROWSER` names nothing.
const OPENER: &str = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };

/// A program that cannot open the address says so within this.
const FAILS_WITHIN: Duration = Duration::from_secs(3);

/// `sluice dashboard`.
pub async fn run(args: &DashboardArgs, common: &Common) -> anyhow::Result<()> {
    let page = match &args.worker {
        None => "/".to_owned(),
        Some(worker) => {
            let name: WorkerName = worker.parse().map_err(|error| usage(format!("{error}")))?;
            format!("/workers/{name}")
        }
    };
    let url = common.client()?.sign_in_url(&page).await?;
    if !args.print && open(url.as_str()).await {
        render::note(format_args!("opened {} in the browser", url.origin().ascii_serialization()));
        return Ok(());
    }
    if !args.print {
        render::hint("no browser could be started here; open this address, once and within a minute");
    }
    render::line(url);
    Ok(())
}

/// Whether a browser took the address. Some programs hand it to a browser that runs and end, others are the browser.
async fn open(url: &str) -> bool {
    let browser = std::env::var("BROWSER").ok().filter(|browser| !browser.is_empty());
    let opener = browser.as_deref().unwrap_or(OPENER);
    let opened = Command::new(opener).arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let Ok(mut opening) = opened else { return false };
    match tokio::time::timeout(FAILS_WITHIN, opening.wait()).await {
        Ok(ended) => ended.is_ok_and(|status| status.success()),
        Err(_) => true,
    }
}
