//! `versions deploy`: splits the traffic between versions.

use crate::cli::args::{CodeUpdateArgs, Common, VersionsDeployArgs};
use crate::cli::client::{Api, Intent, Listing};
use crate::cli::fault::{Fault, usage};
use crate::cli::names::{self, Name, Spec};
use crate::cli::render::{self, or_dash, percent};
use crate::control::wire::{Annotations, Deployment, DeploymentRequest, Share, Version};
use crate::domain::deployment::CodeUpdate;
use crate::domain::limits::SLOTS;

use super::plan;

/// `sluice versions deploy`.
pub async fn deploy(args: &VersionsDeployArgs, common: &Common) -> anyhow::Result<()> {
    let specs = specs(args)?;
    let worker = common.selection().worker()?;
    let api = common.client()?;
    let (entries, known) = resolve(&api, &worker, specs).await?;
    let shares = names::distribute(&entries)?;
    let mut request = request(shares, args.message.clone());
    request.code_update_strategy = code_update(&args.code_update, common)?.map(Into::into);
    let intent = match (args.dry_run, args.force) {
        (false, false) => Intent::Deploy,
        (false, true) => Intent::Force,
        (true, false) => Intent::DryRun,
        (true, true) => Intent::ForcedDryRun,
    };
    let deployment = api.deploy(&worker, &request, intent).await?;
    if args.json {
        render::json(&deployment);
    } else {
        show(&worker, &deployment, &known, intent);
        plan::show(&api, &worker, &deployment, &known).await?;
        remark(intent);
    }
    Ok(())
}

/// The body of a deployment.
pub fn request(versions: Vec<Share>, message: Option<String>) -> DeploymentRequest {
    DeploymentRequest {
        strategy: "percentage".to_owned(),
        versions,
        annotations: Annotations { message, ..Annotations::default() },
        code_update_strategy: None,
    }
}

/// When running objects get the new code: as typed, else as the file says (`DOU-3`).
pub fn code_update(args: &CodeUpdateArgs, common: &Common) -> anyhow::Result<Option<CodeUpdate>> {
    match args.code_update {
        Some(strategy) => Ok(Some(strategy)),
        None => common.selection().code_update(),
    }
}

/// Tells what is live now, or would be.
pub fn show(worker: &str, deployment: &Deployment, known: &[Version], intent: Intent) {
    let did = if intent.is_dry() { "Would deploy" } else { "Deployed" };
    let count = deployment.versions.len();
    render::line(format_args!("{did} {worker}: {count} version{}", if count == 1 { "" } else { "s" }));
    let rows = deployment.versions.iter().map(|share| {
        let version = known.iter().find(|version| version.id == share.version_id);
        [
            percent(share.percentage),
            share.version_id.clone(),
            or_dash(version.map(|version| version.number.to_string()).as_deref()),
            or_dash(version.and_then(|version| version.annotations.tag.as_deref())),
        ]
    });
    render::table(["Traffic", "Version ID", "#", "Tag"], rows);
    if let Some(facts) = &deployment.sluice {
        let moved = f64::from(facts.moved_slots) * 100.0 / f64::from(SLOTS);
        let moves = if intent.is_dry() { "would move" } else { "moved" };
        render::note(format_args!("{} of the traffic {moves} to another version", percent(moved)));
    }
    if !intent.is_dry() {
        render::line(format_args!("Deployment ID: {}", deployment.id));
    }
}

/// What is said last of a dry run.
pub fn remark(intent: Intent) {
    if intent.is_dry() {
        render::note("dry run: nothing was deployed");
    }
}

/// All specs in their order: `--version-id`, `--version-tag`, and positional ones, which win over them.
fn specs(args: &VersionsDeployArgs) -> Result<Vec<Spec>, Fault> {
    if args.percentage.len() > args.version_id.len() {
        return Err(usage("there are more --percentage than --version-id")
            .hint("give each --version-id its --percentage, or write `<version>@20 <version>@80`"));
    }
    let mut specs = Vec::new();
    for text in &args.specs {
        specs.push(names::parse_spec(text, Name::Any)?);
    }
    for (index, id) in args.version_id.iter().enumerate() {
        let percentage = args.percentage.get(index).copied();
        if let Some(percentage) = percentage {
            names::check_percentage(percentage, &format!("--percentage {percentage}"))?;
        }
        specs.push(Spec { name: Name::Any(id.clone()), percentage });
    }
    for text in &args.version_tag {
        specs.push(names::parse_spec(text, Name::Tag)?);
    }
    Ok(specs)
}

/// Ids for names. The list of versions is only read when a name is not a whole id; a version that is named twice counts once,
/// with the share of its first spec (positional ones come first).
async fn resolve(
    api: &Api,
    worker: &str,
    specs: Vec<Spec>,
) -> anyhow::Result<(Vec<(String, Option<f64>)>, Vec<Version>)> {
    let whole = |spec: &Spec| matches!(&spec.name, Name::Any(text) if names::is_id(text));
    let known = match specs.iter().all(whole) {
        true => Vec::new(),
        false => api.versions(worker, Listing::Deployable).await?,
    };
    Ok((merge(specs, &known)?, known))
}

fn merge(specs: Vec<Spec>, known: &[Version]) -> Result<Vec<(String, Option<f64>)>, Fault> {
    let mut entries: Vec<(String, Option<f64>)> = Vec::new();
    for Spec { name, percentage } in specs {
        let id = match &name {
            Name::Any(text) if names::is_id(text) => text.to_ascii_lowercase(),
            _ => names::find(known, &name)?.id.clone(),
        };
        match entries.iter_mut().find(|(other, _)| *other == id) {
            Some((_, share)) => *share = share.or(percentage),
            None => entries.push((id, percentage)),
        }
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{Cli, Command, VersionsCommand};
    use clap::Parser as _;

    fn check(line: &str) -> Result<Vec<(String, Option<f64>)>, String> {
        let words = "sluice versions deploy".split(' ').chain(line.split_whitespace());
        let cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
        let Command::Versions { command: VersionsCommand::Deploy(args) } = cli.command else {
            panic!("another command")
        };
        let specs = specs(&args).map_err(|fault| fault.to_string())?;
        merge(specs, &[]).map_err(|fault| fault.to_string())
    }

    const A: &str = "aaaaaaaa-1111-4111-8111-111111111111";
    const B: &str = "bbbbbbbb-1111-4111-8111-111111111111";

    #[test]
    fn positional_specs_win_over_flags() {
        let entries =
            |list: &[(&str, Option<f64>)]| list.iter().map(|(id, p)| ((*id).to_owned(), *p)).collect::<Vec<_>>();
        assert_eq!(check(&format!("{A}@20 {B} -y")).unwrap(), entries(&[(A, Some(20.0)), (B, None)]));
        assert_eq!(
            check(&format!("--version-id {A} {B} --percentage 12.5")).unwrap(),
            entries(&[(A, Some(12.5)), (B, None)])
        );
        assert_eq!(check(&format!("{A}@20 --version-id {A} --percentage 90")).unwrap(), entries(&[(A, Some(20.0))]));
        assert!(check(&format!("--version-id {A} --percentage 1 2")).unwrap_err().contains("more --percentage"));
        assert!(check(&format!("--version-id {A} --percentage 101")).unwrap_err().contains("between 0 and 100"));
        assert!(check("--version-tag v1@25").unwrap_err().contains("No deployable version found with tag"));
    }
}
