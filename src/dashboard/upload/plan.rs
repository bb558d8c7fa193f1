//! What files that were dropped ask for: which worker, the upload's metadata, whose module, and what has to be said of it. Everything that
//! is wrong with them is found at once. It reads and asks; the API decides.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::catalog::{View, WorkerView};
use crate::control::wire::CodeUpdateStrategy;
use crate::dashboard::Dashboard;
use crate::dashboard::upload::dropped::{Configuration, Dropped};
use crate::dashboard::worker::variables;
use crate::domain::deployment::CodeUpdate;
use crate::domain::id::WorkerName;
use crate::domain::module::ModuleDigest;
use crate::project;
use crate::project::config::Config;
use crate::project::metadata::{self, Extras};
use crate::project::objects::{self, Pending};
use crate::project::resolve::{Findings, environments};
use crate::project::syntax::{self, Tree};

/// The name of the program's part in the upload.
const MAIN_MODULE: &str = "module.wasm";

/// An upload that can be tried.
pub(super) struct Plan {
    pub(super) worker: WorkerName,
    /// The worker as it is; none if it would be made.
    pub(super) present: Option<Arc<WorkerView>>,
    /// The environment of the file.
    pub(super) env: Option<String>,
    /// Without annotations, and without migrations.
    metadata: Value,
    pub(super) program: Program,
    /// What the file says, if there is one.
    pub(super) config: Option<Config>,
    /// Migrations that the worker has not had.
    pub(super) pending: Option<Pending>,
    pub(super) remarks: Remarks,
}

/// The bytes of the new version.
pub(super) struct Program {
    pub(super) path: PathBuf,
    pub(super) digest: ModuleDigest,
    /// Keeps the file there while this is.
    _dropped: Option<Arc<crate::control::ModuleFile>>,
}

/// What is to be said of the files, though nothing is wrong with it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Remarks {
    pub(super) warnings: Vec<String>,
    pub(super) notes: Vec<String>,
}

/// Files that cannot be uploaded so.
#[derive(Debug, Default)]
pub(super) struct Faulty {
    /// The worker that they seem to be for.
    pub(super) worker: Option<WorkerName>,
    /// Each with its place.
    pub(super) faults: Vec<String>,
    pub(super) remarks: Remarks,
    /// The environment of the file that was looked at.
    pub(super) env: Option<String>,
}

/// The environments that the file has; none if it cannot be read.
pub(super) fn environments_of(dropped: &Dropped) -> Vec<String> {
    let tree = dropped.configuration.as_ref().and_then(|file| tree(file).ok());
    tree.iter().flat_map(environments).map(str::to_owned).collect()
}

fn tree(file: &Configuration) -> Result<Tree, String> {
    syntax::parse(&file.text, file.language)
        .map_err(|error| format!("line {}, column {}: {}", error.line, error.column, error.what))
}

/// What `dropped` asks for. `env` names an environment of the file, or with the empty text its top; by itself it is the one whose worker
/// the files were dropped on.
pub(super) fn plan(dashboard: &Dashboard, dropped: &Dropped, env: Option<&str>) -> Result<Plan, Faulty> {
    let view = dashboard.api.catalog.view();
    match &dropped.configuration {
        Some(file) => of_file(dashboard, &view, dropped, file, env),
        None => of_module(&view, dropped),
    }
}

fn of_file(
    dashboard: &Dashboard,
    view: &View,
    dropped: &Dropped,
    file: &Configuration,
    env: Option<&str>,
) -> Result<Plan, Faulty> {
    let tree =
        tree(file).map_err(|fault| Faulty { worker: dropped.on.clone(), faults: vec![fault], ..Faulty::default() })?;
    let env = match env {
        Some(env) => Some(env.to_owned()).filter(|env| !env.is_empty()),
        None => environment_of(&tree, dropped.on.as_ref()),
    };
    let (config, Findings { mut faults, warnings, without_effect }) = project::read(&tree, env.as_deref());
    let worker = config.name.as_ref().map_or_else(|| Ok(dropped.on.clone()), |name| name.parse().map(Some));
    let worker: Option<WorkerName> = worker.unwrap_or_default();
    if worker.is_none() && config.name.is_none() {
        faults.push("`name` is missing: it says which worker it is".to_owned());
    }
    faults.extend(config.without_namespace().map(|binding| {
        format!("the KV namespace `{binding}` has no `id`: `sluice kv namespace create {binding}` makes one, and shows the `id` to put there")
    }));
    let present = worker.as_ref().and_then(|worker| view.worker(worker)).cloned();
    let mut remarks = Remarks { warnings, notes: notes(dropped, &config, present.as_deref(), &without_effect) };
    if let (Some(on), Some(worker)) = (&dropped.on, &worker)
        && on != worker
    {
        remarks
            .warnings
            .insert(0, format!("the file is of the worker `{worker}`, and was dropped on the page of `{on}`"));
    }
    let program = program(dashboard, dropped, worker.as_ref(), present.as_deref());
    let (worker, program) = match (worker, program) {
        (Some(worker), Ok(program)) if faults.is_empty() => (worker, program),
        (worker, program) => {
            faults.extend(program.err());
            return Err(Faulty { worker, faults, remarks, env });
        }
    };
    let tag = present.as_ref().and_then(|present| present.classes.tag.as_deref());
    let pending = objects::pending(worker.as_str(), &config.migrations, tag);
    remarks.warnings.extend(pending.iter().filter_map(|pending| pending.warning.clone()));
    let metadata = Value::Object(metadata::build(&config, &Extras::default(), MAIN_MODULE));
    Ok(Plan { worker, present, env, metadata, program, config: Some(config), pending, remarks })
}

/// A module alone makes a version like the latest one.
fn of_module(view: &View, dropped: &Dropped) -> Result<Plan, Faulty> {
    let faulty =
        |fault: &str| Faulty { worker: dropped.on.clone(), faults: vec![fault.to_owned()], ..Faulty::default() };
    let Some(module) = &dropped.module else { return Err(faulty("no file was chosen")) };
    let Some(present) = dropped.on.as_ref().and_then(|on| view.worker(on)).cloned() else {
        return Err(faulty("a new worker needs a configuration beside its module: drop its wrangler.toml as well"));
    };
    let Some(latest) = present.latest() else {
        return Err(faulty("there is no version yet that it could be like: drop the project’s wrangler.toml as well"));
    };
    let note = format!(
        "There is no configuration, so the version is like the latest one, #{}, in all but its module.",
        latest.number
    );
    Ok(Plan {
        worker: present.name.clone(),
        env: None,
        metadata: variables::metadata(&latest.config, "", None, ""),
        program: Program::of_file(&module.file),
        config: None,
        pending: None,
        remarks: Remarks { warnings: Vec::new(), notes: vec![note] },
        present: Some(present),
    })
}

/// The environment whose worker is `on`, if it is not the file's own.
fn environment_of(tree: &Tree, on: Option<&WorkerName>) -> Option<String> {
    let is_of = |env: Option<&str>| project::read(tree, env).0.name.as_deref() == on.map(WorkerName::as_str);
    if on.is_none() || is_of(None) {
        return None;
    }
    environments(tree).find(|env| is_of(Some(env))).map(str::to_owned)
}

fn program(
    dashboard: &Dashboard,
    dropped: &Dropped,
    worker: Option<&WorkerName>,
    present: Option<&WorkerView>,
) -> Result<Program, String> {
    if let Some(module) = &dropped.module {
        return Ok(Program::of_file(&module.file));
    }
    let latest = present.and_then(WorkerView::latest).map(|latest| latest.module.digest);
    let latest =
        latest.map(|digest| Program { path: dashboard.api.catalog.modules().path(digest), digest, _dropped: None });
    latest.ok_or_else(|| match worker {
        Some(worker) => format!("`{worker}` has no version yet, so it needs a module: drop its .wasm as well"),
        None => "there is no module: drop its .wasm as well".to_owned(),
    })
}

/// What has another meaning here than on the command line, or none.
fn notes(dropped: &Dropped, config: &Config, present: Option<&WorkerView>, without_effect: &[String]) -> Vec<String> {
    let mut notes = Vec::new();
    let latest = present.and_then(WorkerView::latest).map(|latest| latest.number);
    match (&dropped.module, latest) {
        (Some(module), _) => {
            if let Some(main) = &config.main {
                notes.push(format!(
                    "`main` is a path on your machine (`{}`): `{}` takes its place.",
                    main.display(),
                    module.file_name
                ));
            }
        }
        (None, Some(latest)) => {
            notes.push(format!("There is no module, so that of the latest version, #{latest}, is taken."))
        }
        (None, None) => {}
    }
    if let Some(command) = &config.build.command {
        notes.push(format!("`build.command` (`{command}`) is not run: build the module before you drop it."));
    }
    if !without_effect.is_empty() {
        let list: Vec<_> = without_effect.iter().map(|path| format!("`{path}`")).collect();
        notes.push(format!("Without effect here: {}.", list.join(", ")));
    }
    notes
}

impl Program {
    fn of_file(file: &Arc<crate::control::ModuleFile>) -> Self {
        Self { path: file.path().to_owned(), digest: file.digest, _dropped: Some(Arc::clone(file)) }
    }
}

impl Plan {
    /// Why it can only be deployed, if so.
    pub(super) fn must_deploy(&self) -> Option<&'static str> {
        match (&self.present, &self.pending) {
            (None, _) => Some("The first upload of a worker is deployed."),
            (_, Some(_)) => Some("Migrations are applied by deploying only."),
            _ => None,
        }
    }

    /// The metadata of an upload that is not deployed.
    pub(super) fn for_version(&self, tag: &str, message: &str) -> Value {
        let mut metadata = self.metadata.clone();
        metadata["annotations"] = json!({ "workers/tag": tag, "workers/message": message });
        metadata
    }

    /// The metadata of one that is deployed in the same call, with its migrations.
    pub(super) fn for_deploy(&self, tag: &str, message: &str) -> Value {
        let mut metadata = self.for_version(tag, message);
        if let Some(pending) = &self.pending {
            metadata["migrations"] = pending.metadata.clone();
        }
        if let Some(update) = self.code_update() {
            metadata["code_update_strategy"] = json!(CodeUpdateStrategy::from(update));
        }
        metadata
    }

    /// When objects in memory get the new code, if the file says it.
    pub(super) fn code_update(&self) -> Option<CodeUpdate> {
        self.config.as_ref().and_then(|config| config.code_update)
    }
}
