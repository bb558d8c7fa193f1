//! The rules of the catalog as claims, over the store in memory and a clock that stands still.

mod classes;
mod deploy;
mod publish;
mod remove;
mod routing;
mod secrets;
mod together;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::*;
use crate::clock::ManualClock;
use crate::domain::config::{BindingDraft, ConfigDraft, DraftValue, Inheritance, SecretText};
use crate::domain::deployment::CodeUpdate;
use crate::domain::id::{VersionId, WorkerName};
use crate::domain::migration::Migration;
use crate::domain::module::{GuestKind, ModuleDigest, ModuleFacts, Startup};
use crate::domain::version::{Annotations, Provenance, Source, Trigger, Version};
use crate::store::MemoryStore;

const NOW_MS: u64 = 1_700_000_000_000;

/// A catalog over a store that can be opened again.
struct Node {
    store: Arc<MemoryStore>,
    clock: Arc<ManualClock>,
    dir: tempfile::TempDir,
    catalog: Arc<Catalog>,
}

impl Node {
    async fn new() -> Self {
        let (store, clock) = (Arc::new(MemoryStore::new()), Arc::new(ManualClock::at(NOW_MS)));
        let dir = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(store.clone(), dir.path(), clock.clone()).await.unwrap();
        Self { store, clock, dir, catalog }
    }

    /// A second catalog over the same store: after a restart, or beside the first.
    async fn open_again(&self) -> Arc<Catalog> {
        Catalog::open(self.store.clone(), self.dir.path(), self.clock.clone()).await.unwrap()
    }
}

fn worker(name: &str) -> WorkerName {
    name.parse().unwrap()
}

fn provenance() -> Provenance {
    Provenance { author: "dev@localhost".into(), source: Source::Wrangler }
}

fn facts(n: u8) -> ModuleFacts {
    ModuleFacts {
        digest: ModuleDigest::from_bytes([n; 32]),
        size_bytes: 100,
        kind: GuestKind::Wasi02,
        imports: vec!["wasi:io/streams@0.2.6".into()],
        exports: vec!["wasi:http/incoming-handler@0.2.6".into()],
    }
}

/// An upload in the making: a draft of its configuration, and what it is annotated with.
#[derive(Clone, Default)]
struct Upload {
    bindings: Vec<(&'static str, DraftValue)>,
    tag: Option<&'static str>,
    alias: Option<&'static str>,
    module: u8,
    /// Whether the component implements classes of Durable Objects.
    implements_objects: bool,
}

impl Upload {
    fn secret(mut self, name: &'static str, value: &str) -> Self {
        self.bindings.push((name, DraftValue::Secret(SecretText::new(value.into()))));
        self
    }

    fn text(mut self, name: &'static str, value: &str) -> Self {
        self.bindings.push((name, DraftValue::Text(value.into())));
        self
    }

    fn service(mut self, name: &'static str, service: &str) -> Self {
        self.bindings.push((name, DraftValue::Service { service: service.into(), entrypoint: None }));
        self
    }

    fn object(mut self, name: &'static str, class: &str, script: Option<&str>) -> Self {
        let script_name = script.map(Into::into);
        self.bindings.push((name, DraftValue::DurableObject { class_name: class.into(), script_name }));
        self
    }

    fn alias(mut self, alias: &'static str) -> Self {
        self.alias = Some(alias);
        self
    }

    /// Secrets are kept, as by every upload of wrangler's.
    fn new_version(self, catalog: &Catalog, name: &str) -> NewVersion {
        let bindings =
            self.bindings.into_iter().map(|(name, value)| BindingDraft { name: name.into(), value }).collect();
        let mut draft = ConfigDraft { bindings, ..ConfigDraft::default() };
        draft.keep.secrets = true;
        let resolved = catalog.resolve(&worker(name), &draft, Inheritance::Strict).unwrap();
        let mut module = facts(self.module);
        if self.implements_objects {
            module.exports.push("sluice:worker-p2/durable-object@0.1.0".into());
        }
        NewVersion {
            config: resolved.config,
            previous: resolved.previous,
            module,
            startup: Startup { time_ms: 3, memory_bytes: 65536, compilation: None },
            annotations: Annotations {
                message: None,
                tag: self.tag.map(Into::into),
                alias: self.alias.map(|alias| alias.parse().unwrap()),
                triggered_by: Trigger::Upload,
            },
            provenance: provenance(),
            expected: Expected::default(),
        }
    }

    /// `wrangler deploy`.
    async fn deploy(self, catalog: &Arc<Catalog>, name: &str) -> Published {
        self.try_deploy(catalog, name, None).await.unwrap()
    }

    /// `wrangler deploy`, with a migration that is pending.
    async fn try_deploy(
        self,
        catalog: &Arc<Catalog>,
        name: &str,
        migration: Option<Migration>,
    ) -> Result<Published, Error> {
        let now = AndDeploy::Now { message: None, code_update: CodeUpdate::Immediate, migration };
        let upload = self.new_version(catalog, name);
        catalog.publish(&worker(name), upload, now, CreateWorker::Allow).await
    }

    /// `wrangler versions upload`.
    async fn try_only(self, catalog: &Arc<Catalog>, name: &str) -> Result<Published, Error> {
        let upload = self.new_version(catalog, name);
        catalog.publish(&worker(name), upload, AndDeploy::No, CreateWorker::Refuse).await
    }

    async fn only(self, catalog: &Arc<Catalog>, name: &str) -> VersionId {
        self.try_only(catalog, name).await.unwrap().version.id
    }
}

fn wish(entries: &[(VersionId, f64)]) -> NewDeployment {
    NewDeployment {
        entries: entries.to_vec(),
        message: None,
        provenance: provenance(),
        code_update: CodeUpdate::Immediate,
        if_match: None,
        force: Force::No,
        mode: ApplyMode::Commit,
    }
}

async fn deploy(catalog: &Arc<Catalog>, name: &str, entries: &[(VersionId, f64)]) -> Result<Deployed, Error> {
    catalog.deploy(&worker(name), wish(entries)).await
}

fn edit(set: &[(&str, &str)], remove: &[&str]) -> SecretEdit {
    SecretEdit {
        set: set.iter().map(|(name, value)| ((*name).into(), SecretText::new((*value).into()))).collect(),
        remove: remove.iter().map(|name| (*name).into()).collect(),
        message: None,
        tag: None,
        provenance: provenance(),
    }
}

fn seen(catalog: &Arc<Catalog>, name: &str) -> Arc<WorkerView> {
    Arc::clone(catalog.view().worker(&worker(name)).unwrap())
}

fn secrets_of(version: &Version) -> BTreeMap<String, String> {
    version.config.secrets().into_iter().map(|(name, value)| (name.to_string(), value.reveal().to_owned())).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Everything that a view says, as text: two catalogs of one store must agree on it.
fn picture(catalog: &Arc<Catalog>) -> String {
    let mut lines = String::new();
    for worker in catalog.view().workers() {
        let aliases: BTreeSet<String> = worker.aliases().map(|(alias, version)| format!("{alias}={version}")).collect();
        lines += &format!(
            "{} {} {:?} {:?} {:?} {:?} {aliases:?}\n",
            worker.name, worker.tag, worker.triggers, worker.settings, worker.draft_secrets, worker.classes
        );
        for version in worker.newest_first() {
            lines += &format!("  {version:?} {:?}\n", secrets_of(version));
        }
        for deployment in &worker.deployments {
            lines += &format!("  {deployment:?}\n");
        }
    }
    lines + &format!("{:?} {:?}\n", catalog.view().disabled_routes(), catalog.doomed_namespaces())
}
