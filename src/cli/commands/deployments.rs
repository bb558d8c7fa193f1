//! `deployments list` and `status`: what is deployed, and what was, in wrangler's words (`CLI-4`).

use std::collections::BTreeMap;

use crate::cli::args::{Common, ListArgs};
use crate::cli::client::Api;
use crate::cli::fault::failed;
use crate::cli::refused;
use crate::cli::render::{self, Format, ago, or_dash, percent};
use crate::control::wire::{Deployment, Version};

use super::versions::source;

/// `sluice deployments list`: oldest first, so that the active one is next to the prompt.
pub async fn list(args: &ListArgs, common: &Common) -> anyhow::Result<()> {
    let (api, worker) = (common.client()?, common.selection().worker()?);
    let mut deployments = api.deployments(&worker).await?;
    deployments.truncate(args.limit);
    deployments.reverse();
    if args.json {
        render::json(&deployments);
        return Ok(());
    }
    let versions = details(&api, &worker, &deployments).await?;
    for (index, deployment) in deployments.iter().enumerate() {
        if index > 0 {
            render::line("");
        }
        show(deployment, &versions);
    }
    if deployments.is_empty() {
        render::note(format_args!("The Worker {worker} has no deployments."));
    }
    Ok(())
}

/// `sluice deployments status`.
pub async fn status(format: Format, common: &Common) -> anyhow::Result<()> {
    let (api, worker) = (common.client()?, common.selection().worker()?);
    let active = api.deployments(&worker).await?.into_iter().next();
    let active = active.ok_or_else(|| {
        failed(format!("The Worker {worker} has no deployments."))
            .hint("`sluice versions deploy <version>@100` gives a version traffic")
    })?;
    if format == Format::Json {
        render::json(&active);
        return Ok(());
    }
    let active = [active];
    let versions = details(&api, &worker, &active).await?;
    show(&active[0], &versions);
    Ok(())
}

/// The versions that the deployments name, each read once. One that was deleted since is left out.
async fn details(api: &Api, worker: &str, deployments: &[Deployment]) -> anyhow::Result<BTreeMap<String, Version>> {
    let mut versions = BTreeMap::new();
    for share in deployments.iter().flat_map(|deployment| &deployment.versions) {
        if versions.contains_key(&share.version_id) {
            continue;
        }
        match api.version(worker, &share.version_id).await {
            Ok(version) => drop(versions.insert(share.version_id.clone(), version)),
            Err(error) if refused::code(&error).is_some() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(versions)
}

fn show(deployment: &Deployment, versions: &BTreeMap<String, Version>) {
    let fact = |label: &str, value: String| render::line(format_args!("{label:<13}{value}"));
    fact("Created:", format!("{} ({})", deployment.created_on, ago(&deployment.created_on)));
    fact("Author:", or_dash(Some(&deployment.author_email)));
    fact("Source:", source(&deployment.annotations, &deployment.source));
    fact("Message:", or_dash(deployment.annotations.message.as_deref()));
    for (index, share) in deployment.versions.iter().enumerate() {
        let label = if index == 0 { "Version(s):" } else { "" };
        fact(label, format!("({}) {}", percent(share.percentage), share.version_id));
        if let Some(version) = versions.get(&share.version_id) {
            let detail = |label: &str, value: String| fact("", format!("      {label:<10}{value}"));
            detail("Created:", version.metadata.created_on.clone());
            detail("Tag:", or_dash(version.annotations.tag.as_deref()));
            detail("Message:", or_dash(version.annotations.message.as_deref()));
        }
    }
}
