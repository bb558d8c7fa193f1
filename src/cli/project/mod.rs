//! A project on disk: the folder with `wrangler.toml` (or `.json`, `.jsonc`), which file that is, and by [`build`] and [`module`] the
//! bytes of its worker. What the file says is read by [`crate::project`]; all its faults are reported at once, each with its path.

pub mod build;
pub mod file;
pub mod module;

use std::path::{Path, PathBuf};

use super::fault::{Fault, failed};
use crate::domain::deployment::CodeUpdate;
use crate::project::config::{self, Config, KvNamespace};
use crate::project::objects;
use crate::project::resolve::{self, Findings};

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
        let (mut config, findings) = crate::project::read(&file::read(&file)?, selection.env.as_deref());
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

    /// That every KV namespace has its id.
    pub fn check_namespaces(&self) -> Result<(), Fault> {
        let Some(binding) = self.config.without_namespace().next() else { return Ok(()) };
        let file = self.file.display();
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
    pub fn code_update(&self) -> anyhow::Result<Option<CodeUpdate>> {
        let Some(file) = file::locate(self.config.as_deref(), &std::env::current_dir()?)? else { return Ok(None) };
        let values = resolve::resolve(&file::read(&file)?, self.env.as_deref(), &mut Findings::default());
        let Some(located) = values.get("durable_objects") else { return Ok(None) };
        let mut findings = Findings::default();
        let strategy = objects::read_code_update(located, &mut findings);
        if findings.faults.is_empty() { Ok(strategy) } else { Err(faults(&file, &findings.faults).into()) }
    }

    /// The KV namespaces that the file binds. As for [`Self::worker`], nothing else of it is judged.
    pub fn namespaces(&self) -> anyhow::Result<Vec<KvNamespace>> {
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
mod tests {
    use super::*;

    fn load(toml: &str) -> anyhow::Result<Project> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("wrangler.toml");
        std::fs::write(&file, toml).unwrap();
        Project::load(&Selection { config: Some(file), ..Selection::default() })
    }

    #[test]
    fn one_fault_is_one_line_and_several_are_a_list() {
        let faults = |toml| {
            let message = load(toml).unwrap_err().to_string();
            message.split_once("wrangler.toml").unwrap().1.to_owned()
        };
        assert_eq!(faults("name = 3"), ": `name` must be a string, found a number");
        assert!(faults("name = ").starts_with(":1:"));
        assert_eq!(
            faults("name = 3\nvars = 1"),
            " has 2 faults:\n  - `name` must be a string, found a number\n  - `vars` must be a table, found a number"
        );
    }

    #[test]
    fn a_name_on_the_command_line_wins_and_takes_the_environment() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("wrangler.toml");
        std::fs::write(&file, "name = \"a\"\nvars = 3\n[env.x]\n").unwrap();
        let select = |env: Option<&str>, name: Option<&str>| Selection {
            config: Some(file.clone()),
            env: env.map(str::to_owned),
            name: name.map(str::to_owned),
        };
        assert_eq!(select(None, None).worker().unwrap(), "a");
        assert_eq!(select(Some("x"), None).worker().unwrap(), "a-x");
        assert_eq!(select(Some("x"), Some("b")).worker().unwrap(), "b-x");
    }
}
