//! `deploy` and `versions upload`: from the project's folder to a version on the node, with or without traffic. `deploy` makes a
//! version and then a deployment, like wrangler (`CRE-5`); a worker that is not there yet, and a migration, take one call that does both.

use std::path::PathBuf;

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::cli::args::{Common, DeployArgs, UploadArgs};
use crate::cli::client::{Api, Intent};
use crate::cli::fault::{Fault, failed, usage};
use crate::cli::project::{Project, build, module};
use crate::cli::refused::is_missing_worker;
use crate::cli::render::{self, percent};
use crate::cli::secrets;
use crate::cli::upload::{Upload, part_name};
use crate::control::wire::{
    Annotations, CodeUpdateStrategy, Deployment, DeploymentRequest, Route, Service, Share, Subdomain, Version,
};
use crate::domain::deployment::CodeUpdate;
use crate::project::metadata::{self, Extras, KeepVars};
use crate::project::objects::{self, Migration, Pending};
use crate::project::triggers::Triggers;

/// A version that was uploaded, and its deployment if it got one.
pub struct Shipped {
    pub version: Version,
    pub deployment: Option<Deployment>,
}

/// `sluice deploy`.
pub async fn deploy(DeployArgs { upload: args, code_update }: &DeployArgs, common: &Common) -> anyhow::Result<()> {
    let (project, mut upload) = prepare(args, common).await?;
    let worker = project.name()?;
    if args.dry_run {
        return show_dry_run(worker, &upload, args);
    }
    let api = common.client()?;
    warn_of_split(&api, worker).await?;
    let plan = Plan {
        message: args.message.as_deref(),
        migrations: &project.config.migrations,
        code_update: code_update.code_update.or(project.config.code_update),
    };
    let shipped = ship(&api, worker, &mut upload, &plan).await?;
    let triggers = apply_triggers(&api, worker, &project.config.triggers).await;
    show(&api, &project, &upload, &shipped, &triggers, args).await?;
    triggers
}

/// `sluice versions upload`.
pub async fn upload(args: &UploadArgs, common: &Common) -> anyhow::Result<()> {
    let (project, upload) = prepare(args, common).await?;
    let worker = project.name()?;
    if args.dry_run {
        return show_dry_run(worker, &upload, args);
    }
    let api = common.client()?;
    refuse_migrations(&api, worker, &project).await?;
    let version = api.upload_version(worker, &upload).await;
    upload.finish();
    let version = version.map_err(|error| match is_missing_worker(&error) {
        // CRE-2: the first upload of a worker must be an immediate deployment.
        true => failed(format!("there is no worker `{worker}` yet, and its first upload must be deployed"))
            .hint("run `sluice deploy`")
            .into(),
        false => error,
    })?;
    show(&api, &project, &upload, &Shipped { version, deployment: None }, &Ok(()), args).await
}

/// Reads and builds the project, and makes the upload.
pub async fn prepare(args: &UploadArgs, common: &Common) -> anyhow::Result<(Project, Upload)> {
    let mut project = Project::load(&common.selection())?;
    remark(&project);
    if let Some(main) = &args.main {
        // A path on the command line is relative to where it was typed, one in the file to the file.
        project.config.main = Some(std::env::current_dir()?.join(main));
    }
    project.name()?;
    project.check_namespaces()?;
    let extras = extras(args)?;
    build::run(&project).await?;
    let module = module::locate(&project)?;
    let upload = package(&project, &extras, module)?;
    Ok((project, upload))
}

/// The upload of a project whose module is at `module`.
pub fn package(project: &Project, extras: &Extras, module: PathBuf) -> anyhow::Result<Upload> {
    Upload::prepare(metadata::build(&project.config, extras, &part_name(&module)), module)
}

/// Says what the file's reader noticed.
pub fn remark(project: &Project) {
    for warning in &project.findings.warnings {
        render::warn(warning);
    }
    let idle = &project.findings.without_effect;
    if !idle.is_empty() {
        let list: Vec<_> = idle.iter().map(|path| format!("`{path}`")).collect();
        render::note(format_args!("note: without effect here: {}", list.join(", ")));
    }
}

fn extras(args: &UploadArgs) -> anyhow::Result<Extras> {
    Ok(Extras {
        tag: args.tag.clone(),
        message: args.message.clone(),
        preview_alias: args.preview_alias.clone(),
        vars: args.vars.iter().map(|text| parse_var(text)).collect::<Result<_, _>>()?,
        secrets: args.secrets_file.as_deref().map(secrets::read_values).transpose()?.unwrap_or_default(),
        keep_vars: if args.keep_vars { KeepVars::Always } else { KeepVars::AsConfigured },
        compatibility_date: args.compatibility_date.clone(),
    })
}

/// `KEY:VALUE`; the value may hold colons.
pub fn parse_var(text: &str) -> Result<(String, String), Fault> {
    match text.split_once(':') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(usage(format!("`--var {text}`: expected KEY:VALUE"))),
    }
}

/// `CRE-6`: nothing is asked, but the split that ends here is named.
async fn warn_of_split(api: &Api, worker: &str) -> anyhow::Result<()> {
    let deployments = match api.deployments(worker).await {
        Ok(deployments) => deployments,
        Err(error) if is_missing_worker(&error) => return Ok(()),
        Err(error) => return Err(error),
    };
    if let Some(active) = deployments.first().filter(|active| active.versions.len() > 1) {
        let split: Vec<_> = active
            .versions
            .iter()
            .map(|share| format!("{} {}", short(&share.version_id), percent(share.percentage)))
            .collect();
        render::warn(format_args!("your last deployment has multiple versions ({}); this ends it", split.join(", ")));
        render::hint("to progress that deployment use `sluice versions deploy` instead");
    }
    Ok(())
}

/// How a version goes out.
#[derive(Default)]
pub struct Plan<'a> {
    pub message: Option<&'a str>,
    /// Those of the file; the ones that the worker has not had go along.
    pub migrations: &'a [Migration],
    pub code_update: Option<CodeUpdate>,
}

/// Makes the version and gives it all the traffic. Migrations take one call that does both, and so does a worker that is not
/// there yet.
pub async fn ship(api: &Api, worker: &str, upload: &mut Upload, plan: &Plan<'_>) -> anyhow::Result<Shipped> {
    let there = api.service(worker).await?;
    let pending = pending_of(worker, plan.migrations, there.as_ref());
    if there.is_none() || pending.is_some() {
        if let Some(Pending { metadata, new_tag, warning }) = pending {
            warning.into_iter().for_each(render::warn);
            render::note(format_args!("migrating {worker} to the tag `{new_tag}`"));
            upload.metadata.entry("migrations").or_insert(metadata);
        }
        if let Some(update) = plan.code_update {
            upload.metadata.entry("code_update_strategy").or_insert(json!(CodeUpdateStrategy::from(update)));
        }
        let uploaded = api.put_script(worker, upload).await;
        upload.finish();
        let uploaded = uploaded?;
        if let Some(facts) = uploaded.sluice {
            return Ok(Shipped { version: facts.version, deployment: facts.deployment });
        }
        let version = api.version(worker, &hyphenated(&uploaded.deployment_id)).await?;
        let deployment = api.deployments(worker).await?.into_iter().next();
        return Ok(Shipped { version, deployment });
    }
    let version = api.upload_version(worker, upload).await;
    upload.finish();
    let version = version?;
    let request = DeploymentRequest {
        strategy: "percentage".to_owned(),
        versions: vec![Share { version_id: version.id.clone(), percentage: 100.0 }],
        annotations: Annotations { message: plan.message.map(str::to_owned), ..Annotations::default() },
        code_update_strategy: plan.code_update.map(Into::into),
    };
    let deployment = api.deploy(worker, &request, Intent::Deploy).await;
    let deployment = deployment.with_context(|| {
        format!("version {} ({}) was uploaded, but could not be deployed", version.number, version.id)
    })?;
    Ok(Shipped { version, deployment: Some(deployment) })
}

fn pending_of(worker: &str, migrations: &[Migration], there: Option<&Service>) -> Option<Pending> {
    let tag = there.and_then(|service| service.default_environment.script.migration_tag.as_deref());
    objects::pending(worker, migrations, tag)
}

/// `MIG-5`, in wrangler's words: what it would refuse after the upload is refused before it.
async fn refuse_migrations(api: &Api, worker: &str, project: &Project) -> anyhow::Result<()> {
    if project.config.migrations.is_empty() {
        return Ok(());
    }
    let there = api.service(worker).await?;
    // The first upload of a worker is refused for that (CRE-2), whatever it holds.
    if there.is_none() || pending_of(worker, &project.config.migrations, there.as_ref()).is_none() {
        return Ok(());
    }
    Err(failed("This Worker has a pending Durable Object migration, which cannot be applied by `sluice versions upload`")
        .hint("Durable Object migrations must be applied with `sluice deploy`. Run `sluice deploy` to apply the migration, then retry `sluice versions upload`.")
        .into())
}

fn hyphenated(id: &str) -> String {
    uuid::Uuid::try_parse(id).map_or_else(|_| id.to_owned(), |id| id.to_string())
}

/// Sends routes, domains and switches. All are tried; what failed is told together, since the version is live already.
pub async fn apply_triggers(api: &Api, worker: &str, triggers: &Triggers) -> anyhow::Result<()> {
    let mut failures = Vec::new();
    let mut tried = |what: &str, outcome: anyhow::Result<()>| {
        if let Err(error) = outcome {
            failures.push(format!("\n  - {what}: {error:#}"));
        }
    };
    if let Some(routes) = &triggers.routes {
        let patterns: Vec<Route> = routes.patterns.iter().map(Route::from).collect();
        tried("routes", api.put_routes(worker, &patterns).await);
        tried("custom domains", api.put_domains(worker, &routes.into()).await);
    }
    tried("host names", api.put_subdomain(worker, triggers.into()).await);
    if failures.is_empty() {
        return Ok(());
    }
    Err(failed(format!("the version is live, but its triggers were only partially updated:{}", failures.concat()))
        .hint("put it right and run `sluice deploy` again")
        .into())
}

/// Tells what there is now. Routes are told if they are set: of several, one that is refused keeps out the others.
async fn show(
    api: &Api,
    project: &Project,
    upload: &Upload,
    shipped: &Shipped,
    triggers: &anyhow::Result<()>,
    args: &UploadArgs,
) -> anyhow::Result<()> {
    let Shipped { version, deployment } = shipped;
    let worker = project.name()?;
    let host = api.host(worker).await;
    let subdomain = Subdomain::from(&project.config.triggers);
    let previews = subdomain.previews_enabled.unwrap_or(subdomain.enabled);
    let url = (deployment.is_some() && subdomain.enabled).then(|| format!("http://{host}"));
    let version_url = previews.then(|| format!("http://{}-{host}", short(&version.id)));
    let alias_url = args.preview_alias.as_ref().filter(|_| previews).map(|alias| format!("http://{alias}-{host}"));
    if args.json {
        render::json(&json!({"worker": worker, "version": version, "deployment": deployment,
            "url": url, "version_url": version_url, "alias_url": alias_url}));
        return Ok(());
    }
    let started = version.startup_time_ms.map(|ms| format!(", starts in {ms} ms")).unwrap_or_default();
    render::line(format_args!(
        "Uploaded {worker}: version {}, {}{started}",
        version.number,
        render::size(upload.size_bytes)
    ));
    if let Some(deployment) = deployment {
        let shares: Vec<_> = deployment.versions.iter().map(|share| percent(share.percentage)).collect();
        render::line(format_args!("Deployed {worker}: {} to version {}", shares.join(" / "), version.number));
    }
    let routes = project.config.triggers.routes.iter().filter(|_| deployment.is_some() && triggers.is_ok());
    let patterns = routes.flat_map(|routes| {
        routes.patterns.iter().map(|route| route.pattern.clone()).chain(routes.domains.iter().cloned())
    });
    for place in url.into_iter().chain(patterns) {
        render::line(format_args!("  {place}"));
    }
    if let Some(url) = version_url {
        render::line(format_args!("Version URL: {url}"));
    }
    if let Some(url) = alias_url {
        render::line(format_args!("Version Alias URL: {url}"));
    }
    // The very words of wrangler, which scripts look for.
    let label = if deployment.is_some() { "Current Version ID" } else { "Worker Version ID" };
    render::line(format_args!("{label}: {}", version.id));
    if deployment.is_none() {
        render::hint(format_args!("`sluice versions deploy {}@100` gives it traffic", short(&version.id)));
    }
    Ok(())
}

fn show_dry_run(worker: &str, upload: &Upload, args: &UploadArgs) -> anyhow::Result<()> {
    let metadata = Value::Object(upload.metadata.clone());
    let bindings = metadata["bindings"].as_array().cloned().unwrap_or_default();
    let shown: Vec<Value> = bindings.iter().map(without_secret).collect();
    if args.json {
        let mut metadata = metadata;
        metadata["bindings"] = Value::Array(shown);
        render::json(
            &json!({"worker": worker, "module": upload.module, "size_bytes": upload.size_bytes, "metadata": metadata}),
        );
        return Ok(());
    }
    render::line(format_args!("Worker:  {worker}"));
    render::line(format_args!("Module:  {} ({})", upload.module.display(), render::size(upload.size_bytes)));
    if !shown.is_empty() {
        super::versions::show_bindings(&serde_json::from_value::<Vec<_>>(Value::Array(shown))?);
    }
    render::note("dry run: nothing was uploaded");
    Ok(())
}

fn without_secret(binding: &Value) -> Value {
    let mut binding = binding.clone();
    if binding["type"] == "secret_text"
        && let Some(map) = binding.as_object_mut()
    {
        map.remove("text");
    }
    binding
}

/// The first 8 digits of an id: enough to name it, and what its host begins with.
pub fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_split_at_its_first_colon() {
        assert_eq!(parse_var("URL:http://x:1").unwrap(), ("URL".to_owned(), "http://x:1".to_owned()));
        assert_eq!(parse_var("EMPTY:").unwrap().1, "");
        assert!(parse_var("novalue").is_err() && parse_var(":x").is_err());
    }

    #[test]
    fn ids_of_wranglers_shape_get_their_hyphens() {
        assert_eq!(hyphenated("11111111111141118111111111111111"), "11111111-1111-4111-8111-111111111111");
        assert_eq!(hyphenated("not-an-id"), "not-an-id");
    }
}
