//! Editing secrets: a total copy of the latest uploaded version with other secrets (`SEC-1`, `SEC-9`), deployed or not; on a
//! draft, a change of what waits for its first version.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::change::{Changes, Step, Subject, known};
use super::publish::VersionParts;
use super::worker::config_of_draft;
use super::{AndDeploy, Catalog, Error, View, WorkerView};
use crate::domain::config::{Fault, FaultKind, SecretText};
use crate::domain::deployment::{CodeUpdate, Deployment};
use crate::domain::id::WorkerName;
use crate::domain::limits::SECRETS_BULK_MAX;
use crate::domain::version::{Annotations, Provenance, Trigger, Version};

/// Which secrets get which values, and which go.
#[derive(Debug, Clone)]
pub struct SecretEdit {
    pub set: BTreeMap<String, SecretText>,
    pub remove: BTreeSet<String>,
    pub message: Option<String>,
    /// Without one the copy keeps the tag of the version that it copies: it is the same build (`VER-8`).
    pub tag: Option<String>,
    pub provenance: Provenance,
}

/// What becomes of the copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretTarget {
    /// It is only uploaded (`versions secret …`). A draft is refused with [`Error::NoVersions`].
    LatestNotDeployed,
    /// It is deployed at 100 % (`secret put`, `secret delete`). Refused with [`Error::SecretEditBlocked`] unless the latest
    /// version is deployed at 100 % (`SEC-2`): the edit would release what nobody has.
    LatestDeployed,
    /// As [`Self::LatestDeployed`], but refused with [`Error::SettingsEditBlocked`], as clients of `secret bulk` expect.
    LatestDeployedInBulk,
}

/// What an edit made: on a draft neither.
#[derive(Debug, Clone)]
pub struct SecretsEdited {
    pub version: Option<Arc<Version>>,
    pub deployment: Option<Arc<Deployment>>,
}

impl Catalog {
    /// Edits secrets of `worker`, as `target` says.
    ///
    /// # Errors
    /// What is refused, or what failed. Removing nothing but secrets that are not there is [`Error::SecretUnknown`].
    pub async fn edit_secrets(
        self: &Arc<Self>,
        worker: &WorkerName,
        edit: SecretEdit,
        target: SecretTarget,
    ) -> Result<SecretsEdited, Error> {
        check_count(&edit)?;
        let name = worker.clone();
        self.change(Subject::Worker(worker.clone()), "store the secrets", move |catalog, view| {
            let worker = known(view, &name)?;
            match worker.latest() {
                None if target == SecretTarget::LatestNotDeployed => Err(Error::NoVersions { worker: name.clone() }),
                None => catalog.edit_draft(worker, &edit),
                Some(latest) => catalog.edit_copy(view, worker, latest, &edit, target),
            }
        })
        .await
    }

    fn edit_draft(&self, worker: &Arc<WorkerView>, edit: &SecretEdit) -> Result<Step<SecretsEdited>, Error> {
        let before = config_of_draft(&worker.draft_secrets);
        check_known(worker, &before.secrets().keys().map(|name| name.as_str()).collect(), edit)?;
        let after = before.with_secrets(&edit.set, &edit.remove).map_err(Error::Faults)?;
        let mut head = worker.head();
        head.draft_secrets = after.secrets().into_iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        head.counters.draft_edits += 1;
        let mut changes = Changes::default();
        changes.head(self, &worker.name, Some(worker), &head)?;
        Ok(Step::Commit(changes, SecretsEdited { version: None, deployment: None }))
    }

    fn edit_copy(
        &self,
        view: &View,
        worker: &Arc<WorkerView>,
        latest: &Arc<Version>,
        edit: &SecretEdit,
        target: SecretTarget,
    ) -> Result<Step<SecretsEdited>, Error> {
        let is_live = worker.active.as_ref().is_some_and(|active| active.split.stable() == Some(latest.id));
        let deploy = match target {
            SecretTarget::LatestNotDeployed => AndDeploy::No,
            SecretTarget::LatestDeployed if !is_live => return Err(Error::SecretEditBlocked { latest: latest.id }),
            SecretTarget::LatestDeployedInBulk if !is_live => {
                return Err(Error::SettingsEditBlocked { latest: latest.id });
            }
            SecretTarget::LatestDeployed | SecretTarget::LatestDeployedInBulk => {
                AndDeploy::Now { message: edit.message.clone(), code_update: CodeUpdate::Immediate, migration: None }
            }
        };
        check_known(worker, &latest.config.secrets().keys().map(|name| name.as_str()).collect(), edit)?;
        let config = latest.config.with_secrets(&edit.set, &edit.remove).map_err(Error::Faults)?;
        let parts = VersionParts {
            config: Arc::new(config),
            module: Arc::clone(&latest.module),
            startup: latest.startup,
            annotations: Annotations {
                message: edit.message.clone(),
                tag: edit.tag.clone().or_else(|| latest.annotations.tag.clone()),
                // An alias names an upload (`URL-2`), and this is none.
                alias: None,
                triggered_by: Trigger::Secret,
            },
            provenance: edit.provenance.clone(),
        };
        Ok(match self.plan_publish(view, &worker.name, None, parts, &deploy, Trigger::Secret)? {
            Step::Answer(made) => Step::Answer(made.into()),
            Step::Commit(changes, made) => Step::Commit(changes, made.into()),
        })
    }
}

impl From<super::Published> for SecretsEdited {
    fn from(made: super::Published) -> Self {
        Self { version: Some(made.version), deployment: made.deployment }
    }
}

/// `SEC-6`.
fn check_count(edit: &SecretEdit) -> Result<(), Error> {
    let count = edit.set.len() + edit.remove.len();
    if count <= SECRETS_BULK_MAX {
        return Ok(());
    }
    let message = format!("there are {count} secrets in one call, the limit is {SECRETS_BULK_MAX}");
    Err(Error::Faults(vec![Fault { kind: FaultKind::Invalid, path: "secrets".into(), message }]))
}

/// An edit that removes only what is not there would make a version for nothing.
fn check_known(worker: &WorkerView, secrets: &BTreeSet<&str>, edit: &SecretEdit) -> Result<(), Error> {
    let is_other_kind = |name: &str| {
        let bindings = worker.latest().into_iter().flat_map(|latest| &latest.config.bindings);
        bindings.into_iter().any(|binding| binding.name.as_str() == name)
    };
    let removes_something = edit.remove.iter().any(|name| secrets.contains(name.as_str()) || is_other_kind(name));
    match edit.remove.first() {
        Some(name) if edit.set.is_empty() && !removes_something => {
            Err(Error::SecretUnknown { worker: worker.name.clone(), name: name.clone() })
        }
        _ => Ok(()),
    }
}
