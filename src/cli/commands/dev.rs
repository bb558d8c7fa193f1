//! `dev`: one project on a node of its own, rebuilt and redeployed on every change. A build that fails is told, and the version
//! before goes on answering.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use notify::{EventKind, RecursiveMode, Watcher as _};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::app;
use crate::cli::args::{Common, DevArgs};
use crate::cli::client::Api;
use crate::cli::fault::usage;
use crate::cli::project::{Project, Selection, build, module};
use crate::cli::render;
use crate::cli::secrets;
use crate::cli::settings::{self, Target};
use crate::project::config::KvNamespace;
use crate::project::metadata::Extras;

use super::{deploy, node};

/// Editors write a file in several steps; a change counts once nothing has happened for this long.
const QUIET: Duration = Duration::from_millis(150);
/// What builds write, and what nobody edits.
const IGNORED: [&str; 6] = ["target", "dist", "node_modules", ".git", ".sluice", ".wrangler"];

/// `sluice dev`.
pub async fn run(args: &DevArgs, common: &Common) -> anyhow::Result<()> {
    let selection = common.selection();
    let project = Project::load(&selection)?;
    let worker = project.name()?.to_owned();
    let settings = node_settings(args, common, &project)?;
    let vars = args.vars.iter().map(|text| deploy::parse_var(text)).collect::<Result<_, _>>()?;

    node::install_log("warn");
    let stopped = node::until_told_to_stop()?;
    tokio::pin!(stopped);
    let node = node::start(settings).await?;
    let mut session = Session { api: api_of(&node)?, selection, worker: worker.clone(), vars, live: None };
    render::note(format_args!(
        "{worker} answers at http://{} and http://{worker}.localhost:{}",
        node.data,
        node.data.port()
    ));
    // Watched from before the first build: what changes while it runs asks for another.
    let (changes, mut changed) = mpsc::unbounded_channel();
    let mut watcher = watch(&project, changes.clone())?;
    let rounds = async {
        session.round().await;
        while let Some(path) = changed.recv().await {
            let paths = settle(path, &mut changed).await;
            render::note(format_args!("changed: {}", list(&paths)));
            // Anew: the file may name other folders now, and a watch on a folder goes with it when a build deletes it. The
            // old one goes when the new one is there. A file that cannot be read is the round's to tell.
            if let Ok(project) = Project::load(&session.selection) {
                match watch(&project, changes.clone()) {
                    Ok(renewed) => watcher = renewed,
                    Err(error) => render::failure(&error),
                }
            }
            session.round().await;
        }
    };
    tokio::select! {
        () = &mut stopped => {}
        () = rounds => {}
    }
    node::stop(node).await
}

/// The settings of the node: what was typed, else `[dev]` of the file, else the defaults.
fn node_settings(args: &DevArgs, common: &Common, project: &Project) -> anyhow::Result<app::Settings> {
    let mut settings = app::Settings::dev_defaults(common.node_folder());
    let dev = &project.config.dev;
    let ip = args.ip.as_deref().or(dev.ip.as_deref()).unwrap_or("127.0.0.1");
    let ip = if ip == "localhost" { "127.0.0.1" } else { ip };
    let ip: std::net::IpAddr = ip.parse().map_err(|_| usage(format!("`{ip}` is not an address to listen on")))?;
    let port = match args.port {
        Some(port) => port,
        None => u16::try_from(dev.port.unwrap_or(8787)).map_err(|_| usage("`dev.port` is not a port"))?,
    };
    settings.listen = (ip, port).into();
    // The control API stays on this machine, wherever the worker listens.
    settings.control_listen = ([127, 0, 0, 1], args.control_port).into();
    settings.default_worker = Some(project.name()?.to_owned());
    settings.request_log = Some(app::RequestLog::Terminal);
    settings::apply(&args.node, &mut settings)?;
    Ok(settings)
}

/// A client of a node of this process.
pub fn api_of(node: &app::Running) -> anyhow::Result<Api> {
    let origin = reqwest::Url::parse(&format!("http://{}", node.control))?;
    let start_hint = "the node of this very process should answer there; please report this".to_owned();
    Api::new(Target { origin, token: node.token.clone(), data: Some(node.data), start_hint })
}

/// The project between one change and the next.
struct Session {
    api: Api,
    selection: Selection,
    worker: String,
    vars: Vec<(String, String)>,
    /// Digest of what is live, so that a change that changes nothing deploys nothing.
    live: Option<Vec<u8>>,
}

impl Session {
    /// Builds and deploys what the folder holds now. What fails is told; the next change is another chance.
    async fn round(&mut self) {
        let started = Instant::now();
        match self.try_round().await {
            Ok(Some(number)) => {
                let took = started.elapsed().as_millis();
                render::note(format_args!("version {number} of {} is live ({took} ms)", self.worker));
            }
            Ok(None) => render::note("nothing to deploy: the same module and configuration"),
            Err(error) => {
                render::failure(&error);
                render::note("waiting for the next change");
            }
        }
    }

    async fn try_round(&mut self) -> anyhow::Result<Option<u64>> {
        let mut project = Project::load(&self.selection)?;
        deploy::remark(&project);
        own_namespaces(&self.api, &self.worker, &mut project.config.kv_namespaces).await?;
        build::run(&project).await?;
        let module = module::locate(&project)?;
        let extras = Extras {
            vars: self.vars.clone(),
            secrets: dev_secrets(&project, self.selection.env.as_deref())?,
            ..Extras::default()
        };
        let mut upload = deploy::package(&project, &extras, module)?;
        let mut digest = Sha256::new();
        digest.update(serde_json::to_vec(&upload.metadata)?);
        digest.update(format!("{:?} {:?}", project.config.triggers, project.config.migrations));
        digest.update(std::fs::read(&upload.module)?);
        let digest = digest.finalize().to_vec();
        if self.live.as_ref() == Some(&digest) {
            return Ok(None);
        }
        // Objects get what was just built at once, whatever the file says of deployments.
        let plan = deploy::Plan { migrations: &project.config.migrations, ..deploy::Plan::default() };
        let shipped = deploy::ship(&self.api, &self.worker, &mut upload, &plan).await?;
        deploy::apply_triggers(&self.api, &self.worker, &project.config.triggers).await?;
        self.live = Some(digest);
        Ok(Some(shipped.version.number))
    }
}

/// The ids of the file are those of another node: here each gets a namespace of its own, with the id as its title, that is kept
/// from one `dev` to the next.
async fn own_namespaces(api: &Api, worker: &str, bound: &mut [KvNamespace]) -> anyhow::Result<()> {
    if bound.is_empty() {
        return Ok(());
    }
    let mut there = api.namespaces().await?;
    for one in bound {
        let title = one.id.clone().unwrap_or_else(|| format!("{worker}-{}", one.binding.to_lowercase()));
        let own = match there.iter().find(|other| other.id == title || other.title == title) {
            Some(own) => own.clone(),
            None => api.create_namespace(&title).await?,
        };
        one.id = Some(own.id.clone());
        there.push(own);
    }
    Ok(())
}

/// `.dev.vars.<env>` or `.dev.vars`, as wrangler reads it: secrets for this machine only.
fn dev_secrets(project: &Project, env: Option<&str>) -> anyhow::Result<Vec<(String, String)>> {
    let own = env.map(|env| project.root().join(format!(".dev.vars.{env}")));
    let file = own.into_iter().chain([project.root().join(".dev.vars")]).find(|file| file.is_file());
    file.map_or_else(|| Ok(Vec::new()), |file| secrets::read_values(&file))
}

// === Watching ===

/// Which changes count.
#[derive(Debug)]
struct Interest {
    /// The configuration file.
    file: PathBuf,
    root: PathBuf,
    /// Sources, when the project is built here; else the module's folder.
    folders: Vec<PathBuf>,
}

impl Interest {
    fn of(project: &Project) -> anyhow::Result<Self> {
        let root = std::path::absolute(project.root())?;
        let build = &project.config.build;
        let folders = match (&build.command, &project.config.main) {
            (Some(_), _) if build.watch_dir.is_empty() => {
                vec![build.cwd.as_ref().map_or_else(|| root.clone(), |cwd| root.join(cwd)).join("src")]
            }
            (Some(_), _) => build.watch_dir.iter().map(|folder| root.join(folder)).collect(),
            (None, Some(main)) => root.join(main).parent().map(Path::to_owned).into_iter().collect(),
            (None, None) => Vec::new(),
        };
        Ok(Self { file: std::path::absolute(&project.file)?, root, folders })
    }

    /// Whether a change of `path` asks for another round.
    fn counts(&self, path: &Path) -> bool {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            return false;
        };
        if path.parent() == Some(&self.root) && (name.starts_with(".dev.vars") || name == "Cargo.toml") {
            return true;
        }
        // What is watched was made, or something above it.
        if self.folders.iter().any(|folder| folder.starts_with(path)) {
            return path != self.root;
        }
        let built = |inner: &Path| inner.iter().any(|part| IGNORED.iter().any(|ignored| part == *ignored));
        let inside = |folder: &PathBuf| path.strip_prefix(folder).is_ok_and(|inner| !built(inner));
        // The project's own folder may hold a module; what else a build writes there is not a change.
        let loud =
            |folder: &PathBuf| *folder != self.root || path.extension().is_some_and(|e| e == "wasm" || e == "wat");
        path == self.file || self.folders.iter().any(|folder| inside(folder) && loud(folder))
    }
}

/// Watches what `project` is made of; the paths that count go to `changes`. It ends when the watcher is dropped.
fn watch(project: &Project, changes: mpsc::UnboundedSender<PathBuf>) -> anyhow::Result<notify::RecommendedWatcher> {
    let interest = Interest::of(project)?;
    let (root, folders) = (interest.root.clone(), interest.folders.clone());
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let Ok(event) = event else { return };
        if matches!(event.kind, EventKind::Access(_)) {
            return;
        }
        for path in event.paths.into_iter().filter(|path| interest.counts(path)) {
            // The receiver is gone when the program ends.
            let _ = changes.send(path);
        }
    })
    .context("cannot watch for changes")?;
    // The folder, not the file: editors replace files, and a watch on a file would go with the old one.
    follow(&mut watcher, &root, RecursiveMode::NonRecursive)?;
    for folder in folders.iter().filter(|folder| **folder != root) {
        follow(&mut watcher, folder, RecursiveMode::Recursive)?;
    }
    Ok(watcher)
}

/// Watches `folder`; while it is not there, the nearest folder above in which it, or what leads to it, will be made.
fn follow(watcher: &mut notify::RecommendedWatcher, folder: &Path, mode: RecursiveMode) -> anyhow::Result<()> {
    let nearest = || folder.ancestors().find(|place| place.is_dir()).unwrap_or(folder);
    loop {
        let place = nearest();
        let mode = if place == folder { mode } else { RecursiveMode::NonRecursive };
        let outcome = watcher.watch(place, mode);
        // It may have been made, or deleted, in between.
        if nearest() == place {
            return outcome.with_context(|| format!("cannot watch `{}`", place.display()));
        }
    }
}

/// All paths of one burst of changes.
async fn settle(first: PathBuf, changed: &mut mpsc::UnboundedReceiver<PathBuf>) -> BTreeSet<PathBuf> {
    let mut paths = BTreeSet::from([first]);
    while let Ok(Some(path)) = tokio::time::timeout(QUIET, changed.recv()).await {
        paths.insert(path);
    }
    paths
}

/// `lib.rs, wrangler.toml and 3 more`.
fn list(paths: &BTreeSet<PathBuf>) -> String {
    const SHOWN: usize = 3;
    let names = paths.iter().filter_map(|path| path.file_name()).map(|name| name.to_string_lossy());
    let shown: Vec<_> = names.take(SHOWN).collect();
    match paths.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_build_writes_is_no_change() {
        let interest = |folders: &[&str]| Interest {
            file: "/p/wrangler.toml".into(),
            root: "/p".into(),
            folders: folders.iter().map(PathBuf::from).collect(),
        };
        let built = interest(&["/p/src"]);
        for (path, counts) in [
            ("/p/src/lib.rs", true),
            ("/p/src/deep/mod.rs", true),
            ("/p/wrangler.toml", true),
            ("/p/.dev.vars.staging", true),
            ("/p/Cargo.toml", true),
            ("/p/Cargo.lock", false),
            ("/p/dist", false),
            ("/p/target", false),
            ("/p/src/target/x", false),
        ] {
            assert_eq!(built.counts(Path::new(path)), counts, "{path}");
        }
        assert!(interest(&["/p/dist"]).counts(Path::new("/p/dist/worker.wasm")));
        let deep = interest(&["/p/build/out"]);
        assert!(["/p/build", "/p/build/out"].iter().all(|path| deep.counts(Path::new(path))));
        assert!(!deep.counts(Path::new("/p/build/other")) && !deep.counts(Path::new("/p")));
        assert!(interest(&["/p"]).counts(Path::new("/p/worker.wasm")));
        assert!(!interest(&["/p"]).counts(Path::new("/p/notes.txt")));
    }

    #[test]
    fn a_long_list_of_changes_is_cut() {
        let paths = |names: &[&str]| names.iter().map(|name| Path::new("/p").join(name)).collect();
        assert_eq!(list(&paths(&["a", "b"])), "a, b");
        assert_eq!(list(&paths(&["a", "b", "c", "d", "e"])), "a, b, c and 2 more");
    }
}
