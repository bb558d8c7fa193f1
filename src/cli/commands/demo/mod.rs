//! `demo`: the main job from end to end on this machine, by the same API and the same project files that everyone uses: two
//! versions of an example worker, a 20/80 split under traffic, an override, a sticky key, a rollback, and Durable Objects.

mod objects;

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::Context as _;

use crate::app;
use crate::cli::args::DemoArgs;
use crate::cli::client::{Api, Intent};
use crate::cli::fault::failed;
use crate::cli::names;
use crate::cli::project::{Project, Selection, module};
use crate::cli::render::{self, percent};
use crate::control::wire::{Deployment, Version};
use crate::project::metadata::Extras;

use super::deploy::{self, short};
use super::traffic::{Client, Tally};
use super::{dev, node, rollback, split};

const WORKER: &str = "version-teller";
const KEY: &str = "user-42";
/// What the new version gets.
const CANARY_PERCENT: f64 = 20.0;
/// Requests that prove a rollback or a key: few, since all must agree.
const PROOF_REQUESTS: u64 = 50;

/// `sluice demo`.
pub async fn run(args: &DemoArgs) -> anyhow::Result<()> {
    let examples = examples()?;
    render::heading("1. The example workers");
    build(&examples).await?;
    let folder = Scratch::make()?;
    render::heading("2. A node on free ports");
    node::install_log("warn");
    let stopped = node::until_told_to_stop()?;
    tokio::pin!(stopped);
    let node = node::start(settings(&folder.0)).await?;
    render::note(format_args!("workers      http://{}", node.data));
    render::note(format_args!("control API  http://{}", node.control));
    render::note(format_args!("data folder  {}", folder.0.display()));
    let outcome = tokio::select! {
        outcome = show(&node, &examples, args.requests) => outcome,
        () = &mut stopped => Err(failed("stopped before the end").into()),
    };
    match outcome {
        Ok(stage) if !args.exit => {
            how_to_go_on(&node, &folder.0, &stage);
            stopped.await;
            node::stop(node).await
        }
        outcome => {
            node.stop().await;
            outcome.map(drop)
        }
    }
}

/// What the show leaves behind.
struct Stage {
    old: Version,
    new: Version,
    objects: objects::Stage,
}

async fn show(node: &app::Running, examples: &Path, requests: u64) -> anyhow::Result<Stage> {
    let api = dev::api_of(node)?;
    let client = Client::new(node.data, WORKER)?;

    render::heading(format_args!("3. Two versions of {WORKER}"));
    let project = project(examples, WORKER)?;
    let old = upload(&api, &project, "v1", "Hello").await?;
    let new = upload(&api, &project, "v2", "Bonjour").await?;

    render::heading("4. A gradual deployment");
    let entries = [(new.id.clone(), Some(CANARY_PERCENT)), (old.id.clone(), None)];
    let request = split::request(names::distribute(&entries)?, Some("canary".to_owned()));
    let deployment = api.deploy(WORKER, &request, Intent::Deploy).await?;
    let tally = client.many(requests, &[], "sending").await?;
    show_split(&deployment, &tally, &[&old, &new]);

    render::heading("5. An override: one request to the new version, whatever the split says");
    let header = override_of(&new.id);
    let answer = client.one(&[("Cloudflare-Workers-Version-Overrides", &header)]).await?;
    render::line(format_args!("  {header}  ->  {}", answer.said()));
    answer.must_be(&new.id, "the override")?;

    render::heading("6. A sticky key: the same user always gets the same version");
    let tally = client.many(PROOF_REQUESTS, &[("Cloudflare-Workers-Version-Key", KEY)], "sending").await?;
    let kept = tally.only()?;
    let name = if kept == new.id { "v2" } else { "v1" };
    render::line(format_args!("  {PROOF_REQUESTS} requests with the key {KEY}  ->  {name} {kept}"));

    render::heading("7. A rollback");
    let target = rollback::default_target(&api.deployments(WORKER).await?)?;
    let request = rollback::request(&target, "Rollback".to_owned());
    rollback::roll_back(&api, WORKER, &target, &request, Intent::Deploy).await?;
    let tally = client.many(PROOF_REQUESTS, &[], "sending").await?;
    let back = tally.only()?;
    render::line(format_args!("  {PROOF_REQUESTS} requests  ->  v1 {back}"));
    if back != old.id {
        return Err(failed(format!("after the rollback version {back} answered, expected {}", old.id)).into());
    }

    render::heading("8. Durable Objects: each runs one version at a time, and is reset when its version changes");
    let objects = objects::show(&api, &Client::new(node.data, objects::WORKER)?, examples).await?;
    Ok(Stage { old, new, objects })
}

// === Steps ===

/// The folder of the examples: in the current folder, or where this program was built.
fn examples() -> anyhow::Result<PathBuf> {
    let places = [PathBuf::from("guest-examples"), Path::new(env!("CARGO_MANIFEST_DIR")).join("guest-examples")];
    places.into_iter().find(|folder| folder.join("build.sh").is_file()).ok_or_else(|| {
        failed("the demo needs Sluice's folder `guest-examples`, which is not here")
            .hint("run it in a clone of Sluice's repository: `cargo run -- demo`")
            .into()
    })
}

/// Builds what is not built yet; the script says what is missing and how to get it.
async fn build(examples: &Path) -> anyhow::Result<()> {
    let script = std::path::absolute(examples.join("build.sh"))?;
    let status = tokio::process::Command::new("bash")
        .arg(&script)
        .args(["hello", WORKER, objects::WORKER])
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .kill_on_drop(true)
        .status()
        .await
        .with_context(|| format!("cannot run `bash {}`", script.display()))?;
    if !status.success() {
        return Err(failed("the example workers could not be built")
            .hint("what was missing stands above; usually `rustup target add wasm32-wasip2` is all it takes")
            .into());
    }
    render::note(format_args!("built in {}", examples.join("dist").display()));
    Ok(())
}

fn settings(folder: &Path) -> app::Settings {
    let mut settings = app::Settings::dev_defaults(folder.to_owned());
    settings.listen = ([127, 0, 0, 1], 0).into();
    settings.control_listen = ([127, 0, 0, 1], 0).into();
    // Thousands of lines would hide the show; the header says which version answered.
    settings.request_log = None;
    settings.version_header = true;
    settings
}

fn project(examples: &Path, worker: &str) -> anyhow::Result<Project> {
    let selection = Selection { config: Some(examples.join(worker)), ..Selection::default() };
    let mut project = Project::load(&selection)?;
    // The files of the repository may be edited; the show needs the name it announces.
    project.config.name = Some(worker.to_owned());
    Ok(project)
}

async fn upload(api: &Api, project: &Project, tag: &str, greeting: &str) -> anyhow::Result<Version> {
    let extras = Extras {
        tag: Some(tag.to_owned()),
        message: Some(format!("says {greeting}")),
        vars: vec![("GREETING".to_owned(), greeting.to_owned())],
        ..Extras::default()
    };
    let mut upload = deploy::package(project, &extras, module::locate(project)?)?;
    let version = if api.worker_exists(WORKER).await? {
        let version = api.upload_version(WORKER, &upload).await;
        upload.finish();
        version?
    } else {
        deploy::ship(api, WORKER, &mut upload, &deploy::Plan::default()).await?.version
    };
    let started = version.startup_time_ms.map(|ms| format!(", starts in {ms} ms")).unwrap_or_default();
    render::line(format_args!("  {tag}  {}  GREETING={greeting}{started}", version.id));
    Ok(version)
}

fn show_split(deployment: &Deployment, tally: &Tally, versions: &[&Version]) {
    let rows = deployment.versions.iter().map(|share| {
        let version = versions.iter().find(|version| version.id == share.version_id);
        [
            version.and_then(|version| version.annotations.tag.clone()).unwrap_or_default(),
            share.version_id.clone(),
            percent(share.percentage),
            percent(tally.percent_of(&share.version_id)),
            tally.count_of(&share.version_id).to_string(),
        ]
    });
    render::table(["Tag", "Version ID", "Asked for", "Achieved", "Requests"], rows);
    render::note(format_args!("{} requests in {:.1} s, {:.0} a second", tally.total(), tally.seconds(), tally.rate()));
}

fn override_of(id: &str) -> String {
    format!("{WORKER}=\"{id}\"")
}

fn how_to_go_on(node: &app::Running, folder: &Path, stage: &Stage) {
    let port = node.data.port();
    let host = format!("http://{WORKER}.localhost:{port}/");
    let program = std::env::args().next().unwrap_or_else(|| "sluice".to_owned());
    let at = |worker: &str| format!("{program} --data-dir {} --name {worker}", folder.display());
    let (sluice, counter) = (at(WORKER), at(objects::WORKER));
    let Stage { old, new, objects } = stage;
    let half = format!("{}@50 {}@50", short(&objects.old.id), short(&objects.new.id));
    render::heading("Go on by hand");
    let lines = [
        ("# The worker, and the new version by its own address", String::new()),
        ("", format!("curl {host}")),
        ("", format!("curl http://{}-{WORKER}.localhost:{port}/", short(&new.id))),
        ("# Half of the traffic to each; then an override and a sticky key", String::new()),
        ("", format!("{sluice} versions deploy {}@50 {}@50", short(&new.id), short(&old.id))),
        ("", format!("curl -H 'Cloudflare-Workers-Version-Overrides: {}' {host}", override_of(&new.id))),
        ("", format!("curl -i -H 'Cloudflare-Workers-Version-Key: {KEY}' {host}")),
        ("# What is deployed, why a key gets its version, and back again", String::new()),
        ("", format!("{sluice} deployments status")),
        ("", format!("{sluice} explain {WORKER} --key {KEY}")),
        ("", format!("{sluice} rollback")),
        ("# The objects, one that never was, and what half of the way back would do to them", String::new()),
        ("", format!("{counter} objects list")),
        ("", format!("{counter} objects explain alice")),
        ("", format!("{counter} versions deploy {half} --dry-run")),
        ("", format!("curl -X POST http://{}.localhost:{port}/alice/increment", objects::WORKER)),
    ];
    for (comment, command) in lines {
        render::line(format_args!("  {comment}{command}"));
    }
    render::note("Ctrl-C ends it and deletes the data folder.");
}

/// A folder that goes away with the show.
struct Scratch(PathBuf);

impl Scratch {
    fn make() -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join(format!("sluice-demo-{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
        Ok(Self(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
