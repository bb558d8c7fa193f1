//! `delete`: a worker with all its versions. Nothing is asked; what still refers to it stands in the way until `--force`.

use crate::cli::args::{Common, DeleteArgs};
use crate::cli::client::Intent;
use crate::cli::fault::failed;
use crate::cli::refused::code;
use crate::cli::render;

/// `sluice delete`.
pub async fn run(args: &DeleteArgs, common: &Common) -> anyhow::Result<()> {
    let worker = match &args.worker {
        Some(worker) => worker.clone(),
        None => common.selection().worker()?,
    };
    if args.dry_run {
        render::line(format_args!("Would delete {worker} with all its versions and secrets"));
        return Ok(());
    }
    let api = common.client()?;
    if !args.force {
        let references = match api.references(&worker).await {
            Ok(references) => references,
            // Whether the worker is there at all, the deletion says better.
            Err(error) if code(&error).is_some() => Vec::new(),
            Err(error) => return Err(error),
        };
        let others: Vec<_> = references.into_iter().filter(|name| *name != worker).collect();
        if !others.is_empty() {
            return Err(failed(format!("{worker} is bound by other workers: {}", others.join(", ")))
                .hint("their calls would fail; `--force` deletes it all the same")
                .into());
        }
    }
    let force = if args.force { Intent::Force } else { Intent::Deploy };
    api.delete_worker(&worker, force).await?;
    render::line(format_args!("Deleted {worker}"));
    Ok(())
}
