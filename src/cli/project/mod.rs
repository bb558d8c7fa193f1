//! A project: the folder with `wrangler.toml` (or `.json`, `.jsonc`) and what it says about one worker in one environment.
//!
//! The file becomes a [`Config`] in three steps, each in its own room: [`mod@file`] reads it into a tree, [`resolve`] picks the
//! values of the environment by the table in [`keys`], [`config`] gives them types. All faults of the file are reported at
//! once, each with its path. From the `Config` come the upload's [`metadata`], the [`triggers`] and, by [`build`] and
//! [`module`], the bytes.

pub mod build;
pub mod config;
pub mod file;
pub mod keys;
pub mod metadata;
pub mod module;
pub mod objects;
pub mod reader;
pub mod resolve;
pub mod triggers;

use std::path::{Path, PathBuf};

use config::Config;
use resolve::Findings;

use super::fault::{Fault, failed};
use crate::control::wire::CodeUpdateStrategy;

/// One worker of one file.
#[derive(Debug)]
pub struct Project {
    /// The configuration file.
    pub file: PathBuf,
    pub config: Config,
    /// Warnings and remarks; the faults were returned.
    pub findings: Findings,
}

/// Which file, and which part of it.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// `--config`; else the nearest file in the current folder or above.
    pub config: Option<PathBuf>,
    /// `--env`.
    pub env: Option<String>,
    /// `--name`, which wins over the file's.
    pub name: Option<String>,
}

impl Project {
    /// The project that `selection` names.
    pub fn load(selection: &Selection) -> anyhow::Result<Self> {
        let Some(file) = file::locate(selection.config.as_deref(), &std::env::current_dir()?)? else {
            return Err(failed("there is no wrangler.toml, wrangler.json or wrangler.jsonc here or in a folder above")
                .hint("make a project with `sluice init my-worker`, or name its file with `--config`")
                .into());
        };
        let tree = file::read(&file)?;
        let mut findings = Findings::default();
        let values = resolve::resolve(&tree, selection.env.as_deref(), &mut findings);
        let mut config = config::read(&values, &mut findings);
        if let Some(name) = selection.worker_name() {
            config.name = Some(name);
        }
        if !findings.faults.is_empty() {
            return Err(faults(&file, &findings.faults).into());
        }
        Ok(Self { file, config, findings })
    }

    /// The folder that paths in the file are relative to.
    pub fn root(&self) -> &Path {
        self.file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
    }

    /// That every KV namespace has its id: on a node of one's own nobody else gives it.
    pub fn check_namespaces(&self) -> Result<(), Fault> {
        let Some(one) = self.config.kv_namespaces.iter().find(|one| one.id.is_none()) else { return Ok(()) };
        let (file, binding) = (self.file.display(), &one.binding);
        Err(failed(format!("`{file}`: the KV namespace `{binding}` has no `id`"))
            .hint(format!("`sluice kv namespace create {binding}` makes a namespace, and shows the `id` to put there")))
    }

    /// The worker's name, which the file or `--name` must give.
    pub fn name(&self) -> Result<&str, Fault> {
        self.config.name.as_deref().ok_or_else(|| {
            failed(format!("`{}` gives the worker no `name`", self.file.display()))
                .hint("add `name = \"my-worker\"` to the file, or give `--name my-worker`")
        })
    }
}

impl Selection {
    /// The name typed on the command line; with `--env`, wrangler adds the environment to it.
    pub fn worker_name(&self) -> Option<String> {
        let name = self.name.as_ref()?;
        Some(self.env.as_ref().map_or_else(|| name.clone(), |env| format!("{name}-{env}")))
    }

    /// The worker's name alone, for commands that need no project. Nothing else of the file is judged, so that a mistake in
    /// a binding does not stand in the way of a rollback.
    pub fn worker(&self) -> anyhow::Result<String> {
        if let Some(name) = self.worker_name() {
            return Ok(name);
        }
        let missing = || {
            super::fault::usage("which worker? No configuration file names one")
                .hint("run this in the project's folder, or give `--name my-worker`")
        };
        let file = file::locate(self.config.as_deref(), &std::env::current_dir()?)?.ok_or_else(missing)?;
        let values = resolve::resolve(&file::read(&file)?, self.env.as_deref(), &mut Findings::default());
        Ok(values.get("name").and_then(|located| located.value.as_str()).ok_or_else(missing)?.to_owned())
    }
}

impl Selection {
    /// What the file says of when running objects get new code (`DOU-3`). As for [`Self::worker`], nothing else of it is judged;
    /// this is, since who wants it deferred does not want it at once because of a slip.
    pub fn code_update(&self) -> anyhow::Result<Option<CodeUpdateStrategy>> {
        let Some(file) = file::locate(self.config.as_deref(), &std::env::current_dir()?)? else { return Ok(None) };
        let values = resolve::resolve(&file::read(&file)?, self.env.as_deref(), &mut Findings::default());
        let Some(located) = values.get("durable_objects") else { return Ok(None) };
        let mut findings = Findings::default();
        let strategy = objects::read_code_update(located, &mut findings);
        if findings.faults.is_empty() { Ok(strategy) } else { Err(faults(&file, &findings.faults).into()) }
    }

    /// The KV namespaces that the file binds. As for [`Self::worker`], nothing else of it is judged.
    pub fn namespaces(&self) -> anyhow::Result<Vec<config::KvNamespace>> {
        let Some(file) = file::locate(self.config.as_deref(), &std::env::current_dir()?)? else {
            return Ok(Vec::new());
        };
        let mut findings = Findings::default();
        let values = resolve::resolve(&file::read(&file)?, self.env.as_deref(), &mut findings);
        let located = values.get("kv_namespaces");
        Ok(located.map(|located| config::read_namespaces(located, &mut findings)).unwrap_or_default())
    }
}

fn faults(file: &Path, faults: &[String]) -> Fault {
    match faults {
        [one] => failed(format!("{}: {one}", file.display())),
        many => {
            let list: String = many.iter().map(|fault| format!("\n  - {fault}")).collect();
            failed(format!("{} has {} faults:{list}", file.display(), many.len()))
        }
    }
}

#[cfg(test)]
mod tests;
