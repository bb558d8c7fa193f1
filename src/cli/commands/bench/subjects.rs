//! What is measured: names become versions, and versions become uploads for a node of this process. What such a node cannot
//! have, and the version asks for, is told.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::{Map, Value, json};

use crate::cli::args::{BenchArgs, Common};
use crate::cli::client::{Api, Listing};
use crate::cli::commands::deploy::{self, short};
use crate::cli::fault::{failed, usage};
use crate::cli::names::{self, Name};
use crate::cli::project::{Project, build, module};
use crate::cli::render;
use crate::cli::secrets;
use crate::cli::upload::{Upload, part_name};
use crate::control::wire::Version;
use crate::domain::limits::DEPLOYMENT_VERSIONS_MAX;
use crate::project::metadata::Extras;

/// The name of a worker of which only the files are known.
const NAMELESS: &str = "bench";
/// What stands for the project of this folder.
const PROJECT: &str = ".";

/// The versions of one worker that are to be measured, the baseline first.
pub struct Subjects {
    pub worker: String,
    pub all: Vec<Subject>,
}

/// One of them.
pub struct Subject {
    /// `#3 dc8dcd28`, `new.wasm`, or that it is this folder's.
    pub name: String,
    pub source: Source,
}

/// Where it comes from.
pub enum Source {
    Node(Box<Version>),
    File(PathBuf),
    Project,
}

/// What one entry of `--versions` is.
enum Entry<'a> {
    Version(&'a str),
    File(&'a Path),
    Project,
}

impl<'a> Entry<'a> {
    fn of(text: &'a str) -> Self {
        let path = Path::new(text);
        match path.extension().and_then(|extension| extension.to_str()) {
            _ if text == PROJECT => Self::Project,
            Some("wasm" | "wat") => Self::File(path),
            _ => Self::Version(text),
        }
    }
}

impl Subjects {
    /// Finds what was typed.
    pub async fn find(args: &BenchArgs, common: &Common) -> anyhow::Result<Self> {
        let entries: Vec<Entry<'_>> = args.versions.iter().map(|text| Entry::of(text.trim())).collect();
        if args.versions.iter().any(|text| text.trim().is_empty()) {
            return Err(usage("`--versions`: an entry between the commas is empty").into());
        }
        if entries.len() > DEPLOYMENT_VERSIONS_MAX {
            let max = DEPLOYMENT_VERSIONS_MAX;
            return Err(usage(format!("`--versions`: at most {max} can be measured beside each other")).into());
        }
        let needs_node = entries.is_empty() || entries.iter().any(|entry| matches!(entry, Entry::Version(_)));
        let worker = match &args.worker {
            Some(worker) => worker.clone(),
            None if needs_node || entries.iter().any(|entry| matches!(entry, Entry::Project)) => {
                common.selection().worker()?
            }
            None => NAMELESS.to_owned(),
        };
        let known = if needs_node { known(&worker, common).await? } else { Vec::new() };
        let all = if entries.is_empty() {
            deployed(&worker, &known, common).await?
        } else {
            entries.iter().map(|entry| Subject::of(entry, &known)).collect::<anyhow::Result<_>>()?
        };
        Ok(Self { worker, all })
    }
}

/// All versions of the worker, from the node.
async fn known(worker: &str, common: &Common) -> anyhow::Result<Vec<Version>> {
    let versions = async { common.client()?.versions(worker, Listing::All).await }.await;
    versions.inspect_err(|_| {
        render::note("note: files need no node: `sluice bench --versions old.wasm,new.wasm`");
    })
}

/// The versions of the active deployment, the oldest first: what is new is compared with what was there.
async fn deployed(worker: &str, known: &[Version], common: &Common) -> anyhow::Result<Vec<Subject>> {
    let deployments = common.client()?.deployments(worker).await?;
    let active = deployments.first().ok_or_else(|| {
        failed(format!("`{worker}` has no deployment")).hint("name what to measure: `--versions 1,2`")
    })?;
    let mut versions: Vec<&Version> =
        known.iter().filter(|version| active.versions.iter().any(|share| share.version_id == version.id)).collect();
    versions.sort_by_key(|version| version.number);
    if let [one] = versions.as_slice() {
        let number = one.number;
        // The one before it, or else the newest after it.
        let others = || known.iter().map(|version| version.number);
        let other =
            others().filter(|other| *other < number).max().or_else(|| others().filter(|other| *other > number).max());
        let with = match other {
            Some(other) => format!("{},{}", number.min(other), number.max(other)),
            None => format!("{number},new.wasm"),
        };
        render::note(format_args!(
            "note: one version is deployed, #{number}; `--versions {with}` compares it with another"
        ));
    }
    Ok(versions.into_iter().map(Subject::of_version).collect())
}

impl Subject {
    fn of(entry: &Entry<'_>, known: &[Version]) -> anyhow::Result<Self> {
        Ok(match entry {
            Entry::Project => Self { name: "this folder".to_owned(), source: Source::Project },
            Entry::File(path) => {
                if !path.is_file() {
                    return Err(failed(format!("there is no file `{}`", path.display())).into());
                }
                Self { name: path.display().to_string(), source: Source::File(path.to_path_buf()) }
            }
            Entry::Version(text) => Self::of_version(names::find(known, &Name::Any((*text).to_owned()))?),
        })
    }

    fn of_version(version: &Version) -> Self {
        let tag = version.annotations.tag.as_deref().filter(|tag| !tag.is_empty());
        let tag = tag.map(|tag| format!(" {tag}")).unwrap_or_default();
        let name = format!("#{} {}{tag}", version.number, short(&version.id));
        Self { name, source: Source::Node(Box::new(version.clone())) }
    }

    /// The id of the version on the node.
    pub fn id(&self) -> Option<&str> {
        match &self.source {
            Source::Node(version) => Some(&version.id),
            Source::File(_) | Source::Project => None,
        }
    }
}

// === uploads ===

/// What each of them is for a node of this process: the module as a file, and metadata in which what belongs to the other node
/// has been replaced. Modules are written to `folder`.
pub async fn uploads(
    subjects: &Subjects,
    args: &BenchArgs,
    common: &Common,
    own: &Api,
    folder: &Path,
) -> anyhow::Result<Vec<Upload>> {
    let secrets = args.secrets_file.as_deref().map(secrets::read_values).transpose()?.unwrap_or_default();
    let mut local = Localizer {
        own,
        worker: &subjects.worker,
        secrets: secrets.into_iter().collect(),
        namespaces: BTreeMap::new(),
        classes: BTreeSet::new(),
        remarks: BTreeSet::new(),
    };
    // A file is measured with the settings of the version that it is to replace.
    let settings = subjects.all.iter().find_map(|subject| match &subject.source {
        Source::Node(version) => Some(metadata_of(version)),
        Source::File(_) | Source::Project => None,
    });
    let mut uploads = Vec::new();
    for (index, subject) in subjects.all.iter().enumerate() {
        let (mut metadata, module) = match &subject.source {
            Source::Node(version) => {
                let module = folder.join(format!("{index}.wasm"));
                let bytes = common
                    .client()?
                    .content(&subjects.worker, &version.id)
                    .await
                    .with_context(|| format!("cannot fetch the module of version {}", subject.name))?;
                std::fs::write(&module, bytes).with_context(|| format!("cannot write `{}`", module.display()))?;
                (metadata_of(version), module)
            }
            Source::File(path) => (settings.clone().unwrap_or_default(), path.clone()),
            Source::Project => project(common).await?,
        };
        metadata.insert("main_module".to_owned(), json!(part_name(&module)));
        local.localize(&mut metadata).await?;
        uploads.push(Upload::prepare(metadata, module)?);
    }
    if let Some(first) = uploads.first_mut().filter(|_| !local.classes.is_empty()) {
        let migration = json!({"new_tag": "bench", "new_sqlite_classes": local.classes});
        first.metadata.insert("migrations".to_owned(), migration);
    }
    local.remarks.iter().for_each(render::warn);
    Ok(uploads)
}

/// The project of this folder, built.
async fn project(common: &Common) -> anyhow::Result<(Map<String, Value>, PathBuf)> {
    let project = Project::load(&common.selection())?;
    deploy::remark(&project);
    build::run(&project).await?;
    let module = module::locate(&project)?;
    let upload = deploy::package(&project, &Extras::default(), module)?;
    Ok((upload.metadata, upload.module))
}

/// The metadata of an upload that makes a version like this one.
fn metadata_of(version: &Version) -> Map<String, Value> {
    let runtime = &version.resources.script_runtime;
    let mut metadata = Map::new();
    let mut put = |key: &str, value: Value| drop(metadata.insert(key.to_owned(), value));
    put("bindings", json!(version.resources.bindings));
    if let Some(date) = &runtime.compatibility_date {
        put("compatibility_date", json!(date));
    }
    put("compatibility_flags", json!(runtime.compatibility_flags));
    put("limits", json!(runtime.limits));
    if let Some(facts) = &version.sluice {
        put("sluice", json!({"instance_reuse": facts.instance_reuse}));
    }
    // Guests may read it.
    if let Some(tag) = &version.annotations.tag {
        put("annotations", json!({"workers/tag": tag}));
    }
    metadata
}

/// Replaces what belongs to the other node.
struct Localizer<'a> {
    own: &'a Api,
    worker: &'a str,
    secrets: BTreeMap<String, String>,
    /// Ids of namespaces there, and here.
    namespaces: BTreeMap<String, String>,
    /// Classes of objects that are bound.
    classes: BTreeSet<String>,
    /// What is not as on the node.
    remarks: BTreeSet<String>,
}

impl Localizer<'_> {
    async fn localize(&mut self, metadata: &mut Map<String, Value>) -> anyhow::Result<()> {
        metadata.remove("keep_bindings");
        let Some(Value::Array(bindings)) = metadata.get_mut("bindings") else { return Ok(()) };
        for binding in bindings {
            let text = |key: &str| binding.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
            let name = text("name");
            match text("type").as_str() {
                "secret_text" | "inherit" => {
                    let secret = self.secrets.get(&name).cloned().unwrap_or_else(|| {
                        self.remarks
                            .insert(format!("the secret `{name}` is empty here; `--secrets-file` gives its value"));
                        String::new()
                    });
                    *binding = json!({"name": name, "type": "secret_text", "text": secret});
                }
                "kv_namespace" => {
                    let id = self.namespace(text("namespace_id")).await?;
                    self.remarks.insert(format!(
                        "the KV namespace `{name}` is empty here; `--over-http` measures with its data"
                    ));
                    binding["namespace_id"] = json!(id);
                }
                "service" => {
                    let service = text("service");
                    self.remarks.insert(format!(
                        "the worker `{service}`, bound as `{name}`, is not there: calls to it fail; `--over-http` measures with it"
                    ));
                }
                "durable_object_namespace" => {
                    let owner = binding.get("script_name").and_then(Value::as_str);
                    if owner.is_some_and(|owner| owner != self.worker) {
                        let message =
                            format!("`{name}` binds objects of another worker, which are not in this process");
                        return Err(failed(message).hint("`--over-http` measures on the node that has them").into());
                    }
                    self.classes.insert(text("class_name"));
                    self.remarks.insert(format!("the objects bound as `{name}` are new here, and have stored nothing"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The namespace here that stands for the one of that id.
    async fn namespace(&mut self, there: String) -> anyhow::Result<String> {
        if let Some(here) = self.namespaces.get(&there) {
            return Ok(here.clone());
        }
        let title = if there.is_empty() { "namespace".to_owned() } else { there.clone() };
        let here = self.own.create_namespace(&title).await?.id;
        self.namespaces.insert(there, here.clone());
        Ok(here)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_a_version_unless_it_looks_like_a_file() {
        let kind = |text: &str| match Entry::of(text) {
            Entry::Version(_) => "version",
            Entry::File(_) => "file",
            Entry::Project => "project",
        };
        for (text, expected) in [
            ("3", "version"),
            ("v1.2", "version"),
            ("dc8dcd28-271b-4367-9840-6c244f84cb40", "version"),
            ("old.wasm", "file"),
            ("dist/a.wat", "file"),
            (".", "project"),
        ] {
            assert_eq!(kind(text), expected, "{text}");
        }
    }
}
