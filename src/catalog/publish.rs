//! Publishing: a proven module and a valid configuration become a version, and perhaps the whole of a new deployment, in one
//! commit.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::change::{Changes, Step, Subject, known, new_version_id};
use super::classes::{self, ClassPlan};
use super::deploy::Plan;
use super::{Catalog, Error, View, WorkerView, record};
use crate::domain::class::Classes;
use crate::domain::config::{Config, ConfigDraft, Fault, Inheritance};
use crate::domain::deployment::{CodeUpdate, Deployment};
use crate::domain::id::{Alias, DeploymentId, VersionId, WorkerName};
use crate::domain::limits::DNS_LABEL_CHARS_MAX;
use crate::domain::migration::Migration;
use crate::domain::module::{ModuleFacts, Startup};
use crate::domain::split::Split;
use crate::domain::version::{Annotations, Provenance, Trigger, Version};
use crate::store::{Check, Write};

/// A version that is not stored yet: its module is adopted, and it was proven to start with this configuration (`V2`).
#[derive(Debug, Clone)]
pub struct NewVersion {
    pub config: Config,
    /// What the configuration was resolved against, from [`Catalog::resolve`].
    pub previous: Basis,
    pub module: ModuleFacts,
    pub startup: Startup,
    pub annotations: Annotations,
    pub provenance: Provenance,
    pub expected: Expected,
}

/// What has to be so still when an upload is stored, since its maker decided on it; by itself nothing (E11).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Expected {
    pub latest: Option<Latest>,
    pub active: Option<DeploymentId>,
}

/// The latest version of a worker, as someone saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Latest {
    /// There was none: no worker, or a draft.
    None,
    Version(VersionId),
}

/// What a configuration inherited from. If it is not the latest any more when the version is published, the upload has to be
/// resolved again: it would lose what came between (`UPL-6`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Basis {
    /// The latest version, if there was one.
    pub version: Option<VersionId>,
    /// The state of the draft's secrets.
    draft_edits: u64,
}

/// A valid configuration, and what it rests on.
#[derive(Debug, Clone)]
pub struct Resolved {
    pub config: Config,
    pub previous: Basis,
}

/// Whether a version gets all traffic at once.
#[derive(Debug, Clone)]
pub enum AndDeploy {
    No,
    /// In the same commit.
    Now {
        message: Option<String>,
        code_update: CodeUpdate,
        /// What becomes of the worker's classes, in that commit too (`MIG-4`). A version that is only uploaded can have none
        /// (`MIG-5`).
        migration: Option<Migration>,
    },
}

/// Whether an upload may be a worker's first (`CRE-2`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreateWorker {
    Allow,
    /// A worker without a record is refused with [`Error::WorkerUnknown`]. A draft has one.
    Refuse,
}

/// A version that is stored, and its deployment if one was asked for.
#[derive(Debug, Clone)]
pub struct Published {
    pub version: Arc<Version>,
    pub deployment: Option<Arc<Deployment>>,
    /// Slots that changed hands by the deployment.
    pub moved_slots: u32,
}

impl Catalog {
    /// The configuration of `draft`, with what it inherits from the latest uploaded version of `worker`, or from the secrets
    /// of its draft. Asked before the module is proven, since a guest may read its environment as it starts.
    ///
    /// # Errors
    /// Every fault of the draft.
    pub fn resolve(
        &self,
        worker: &WorkerName,
        draft: &ConfigDraft,
        inheritance: Inheritance,
    ) -> Result<Resolved, Vec<Fault>> {
        let view = self.view.load();
        let worker = view.worker(worker);
        let inherited = worker.and_then(|worker| worker.inherited());
        let config = Config::resolve(draft, inherited.as_deref(), inheritance)?;
        Ok(Resolved { config, previous: Basis::of(worker) })
    }

    /// That a worker is as the maker of an upload saw it. The upload asks again when it is stored.
    ///
    /// # Errors
    /// [`Error::NotLatest`] or [`Error::NotActive`].
    pub fn check_expected(&self, worker: &WorkerName, expected: Expected) -> Result<(), Error> {
        expected.check(worker, self.view.load().worker(worker))
    }

    /// Stores a version, numbered after the latest, and deploys it if `deploy` says so. Durable when it returns.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the configuration rests on something that is past; [`Error::Faults`] if a migration cannot be
    /// applied, or the version does not fit the classes there are; else what is refused, or what failed.
    pub async fn publish(
        self: &Arc<Self>,
        worker: &WorkerName,
        upload: NewVersion,
        deploy: AndDeploy,
        create: CreateWorker,
    ) -> Result<Published, Error> {
        let NewVersion { config, previous, module, startup, annotations, provenance, expected } = upload;
        let (config, module, name) = (Arc::new(config), Arc::new(module), worker.clone());
        self.change(Subject::Worker(worker.clone()), "store the version", move |catalog, view| {
            let worker = match create {
                CreateWorker::Refuse => Some(known(view, &name)?),
                CreateWorker::Allow => view.worker(&name),
            };
            expected.check(&name, worker)?;
            if Basis::of(worker) != previous {
                return Err(Error::Conflict { worker: name.clone() });
            }
            if let Some(alias) = &annotations.alias {
                check_alias(view, &name, alias)?;
            }
            let migration = match &deploy {
                AndDeploy::Now { migration, .. } => migration.as_ref(),
                AndDeploy::No => None,
            };
            let classes = classes::plan(view, &name, &config, migration)?;
            classes::check_exports(view, &name, &classes, &module)?;
            catalog.plan_publish(
                view,
                &name,
                Some(&classes),
                VersionParts {
                    config: Arc::clone(&config),
                    module: Arc::clone(&module),
                    startup,
                    annotations: annotations.clone(),
                    provenance: provenance.clone(),
                },
                &deploy,
                Trigger::Upload,
            )
        })
        .await
    }

    /// Makes a worker that has no version yet, if there is none of that name.
    ///
    /// # Errors
    /// If there are too many workers, or if it cannot be stored.
    pub async fn create_draft(self: &Arc<Self>, worker: &WorkerName) -> Result<(), Error> {
        let name = worker.clone();
        self.change(Subject::Worker(worker.clone()), "store the draft", move |catalog, view| {
            if view.worker(&name).is_some() {
                return Ok(Step::Answer(()));
            }
            let mut changes = Changes::default();
            changes.head(catalog, &name, None, &catalog.new_head(view)?)?;
            Ok(Step::Commit(changes, ()))
        })
        .await
    }

    /// The commit that stores a version and perhaps deploys it; `trigger` says what made the deployment. `classes` is what an
    /// upload does to them; a copy of a version does nothing.
    pub(super) fn plan_publish(
        &self,
        view: &View,
        name: &WorkerName,
        classes: Option<&ClassPlan>,
        parts: VersionParts,
        deploy: &AndDeploy,
        trigger: Trigger,
    ) -> Result<Step<Published>, Error> {
        let worker = view.worker(name);
        let mut head = match worker {
            Some(worker) => worker.head(),
            None => self.new_head(view)?,
        };
        // They are in the version now, or were left out of it.
        head.draft_secrets = BTreeMap::new();
        head.counters.versions += 1;
        let version = Version {
            id: new_version_id(worker)?,
            number: head.counters.versions,
            created_ms: self.now_after(worker.and_then(|worker| worker.latest()).map(|latest| latest.created_ms)),
            provenance: parts.provenance.clone(),
            annotations: parts.annotations,
            config: parts.config,
            module: parts.module,
            startup: parts.startup,
        };

        let mut changes = Changes::default();
        let key = record::version_key(name, version.number);
        changes.checks.push(Check::absent(key.clone()));
        changes.writes.push(Write::put(key, record::version::encode(&version, name, &self.sealer)?));
        let (mut deployment, mut moved_slots) = (None, 0);
        if let Some(plan) = classes {
            plan.commit(self, view, &mut changes)?;
            if let Some(applied) = &plan.applied {
                head.classes = Classes { fence: Some(version.number), ..applied.classes.clone() };
                for (class, namespace) in &applied.deleted {
                    changes.doom(name, class, *namespace, version.created_ms);
                }
            }
        }
        if let AndDeploy::Now { message, code_update, .. } = deploy {
            let plan = Plan {
                split: Split::all_to(version.id),
                trigger,
                message: message.clone(),
                provenance: parts.provenance,
                code_update: *code_update,
            };
            let deployed = self.plan_deployment(name, worker, &mut head, &mut changes, plan)?;
            moved_slots = deployed.moved_slots;
            deployment = Some(deployed.deployment);
        }
        changes.head(self, name, worker, &head)?;
        Ok(Step::Commit(changes, Published { version: Arc::new(version), deployment, moved_slots }))
    }
}

/// What a version is made of, but for what the catalog gives it.
pub(super) struct VersionParts {
    pub(super) config: Arc<Config>,
    pub(super) module: Arc<ModuleFacts>,
    pub(super) startup: Startup,
    pub(super) annotations: Annotations,
    pub(super) provenance: Provenance,
}

impl Expected {
    fn check(self, name: &WorkerName, worker: Option<&Arc<WorkerView>>) -> Result<(), Error> {
        let latest = worker.and_then(|worker| worker.latest()).map(|latest| latest.id);
        let expected = match self.latest {
            None => latest,
            Some(Latest::None) => None,
            Some(Latest::Version(version)) => Some(version),
        };
        if expected != latest {
            return Err(Error::NotLatest { worker: name.clone(), expected, latest });
        }
        let active = worker.and_then(|worker| worker.active.as_ref()).map(|active| active.id);
        match self.active {
            Some(expected) if active != Some(expected) => {
                Err(Error::NotActive { worker: name.clone(), expected, active })
            }
            _ => Ok(()),
        }
    }
}

impl Basis {
    fn of(worker: Option<&Arc<WorkerView>>) -> Self {
        Self {
            version: worker.and_then(|worker| worker.latest()).map(|latest| latest.id),
            draft_edits: worker.map_or(0, |worker| worker.counters.draft_edits),
        }
    }
}

/// An alias has to fit a label together with its worker's name, and may not read as another worker (`URL-3`).
fn check_alias(view: &View, worker: &WorkerName, alias: &Alias) -> Result<(), Error> {
    let label = format!("{alias}-{worker}");
    if label.len() > DNS_LABEL_CHARS_MAX {
        return Err(Error::AliasTooLong { alias: alias.clone(), worker: worker.clone() });
    }
    if label.parse().is_ok_and(|name: WorkerName| view.worker(&name).is_some()) {
        return Err(Error::AliasTaken { alias: alias.clone(), worker: worker.clone() });
    }
    Ok(())
}
