//! Deploying: versions that exist get new shares. The allotment of the deployment before is what the new one starts from.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::change::{Changes, Step, Subject, known, new_deployment_id};
use super::record::Head;
use super::{BoundObjects, Catalog, Error, View, WorkerView, record};
use crate::domain::allotment::Allotment;
use crate::domain::class::Classes;
use crate::domain::deployment::{CodeUpdate, Deployment, newest_live, trigger_of};
use crate::domain::id::{BindingName, DeploymentId, VersionId, WorkerName};
use crate::domain::split::Split;
use crate::domain::version::{Provenance, Trigger, Version, secrets_changed};
use crate::kv;
use crate::store::{Check, Write};

/// What a caller asks for.
#[derive(Debug, Clone)]
pub struct NewDeployment {
    /// Versions with their percentages, in the caller's order.
    pub entries: Vec<(VersionId, f64)>,
    pub message: Option<String>,
    pub provenance: Provenance,
    pub code_update: CodeUpdate,
    /// Only if this deployment is the active one (E11).
    pub if_match: Option<DeploymentId>,
    pub force: Force,
    pub mode: ApplyMode,
}

/// Whether to go on where the catalog would ask first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Force {
    Yes,
    No,
}

/// Whether the change is made, or only worked out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApplyMode {
    Commit,
    DryRun,
}

/// A deployment that was made, or in a dry run would have been.
#[derive(Debug, Clone)]
pub struct Deployed {
    pub deployment: Arc<Deployment>,
    /// Slots that changed hands against the deployment before; none if there was none.
    pub moved_slots: u32,
}

/// A deployment that is allowed, before it has an id and an allotment.
pub(super) struct Plan {
    pub(super) split: Split,
    pub(super) trigger: Trigger,
    pub(super) message: Option<String>,
    pub(super) provenance: Provenance,
    pub(super) code_update: CodeUpdate,
}

impl Catalog {
    /// Makes a deployment of existing versions. It is active when this returns. Two at once are ordered by the store, and the
    /// last one stays, unless `if_match` says otherwise.
    ///
    /// # Errors
    /// What is refused, by the rules `DEP-4`, `DEP-5`, `DEP-10`, `VER-9`, `RBK-6` and `RBK-7`; or what failed.
    pub async fn deploy(self: &Arc<Self>, worker: &WorkerName, wish: NewDeployment) -> Result<Deployed, Error> {
        self.deploy_beside(worker, wish, |_| Vec::new()).await
    }

    /// The same, with what `beside` makes of the deployment in one commit with it (`S1`): for records that are true exactly if it
    /// was made.
    ///
    /// # Errors
    /// As [`Self::deploy`].
    pub async fn deploy_beside(
        self: &Arc<Self>,
        worker: &WorkerName,
        wish: NewDeployment,
        beside: impl Fn(&Deployment) -> Vec<Write> + Send + 'static,
    ) -> Result<Deployed, Error> {
        let split = Split::from_percentages(&wish.entries).map_err(Error::Split)?;
        let name = worker.clone();
        self.check_namespaces(&name, &split).await?;
        self.change(Subject::Worker(worker.clone()), "store the deployment", move |catalog, view| {
            let worker = admit(view, &name, &split, &wish)?;
            let number_of = |id| worker.version(id).map_or(0, |version| version.number);
            let plan = Plan {
                split: split.clone(),
                trigger: trigger_of(&split, worker.active.as_ref().map(|active| &active.split), number_of),
                message: wish.message.clone(),
                provenance: wish.provenance.clone(),
                code_update: wish.code_update,
            };
            let mut changes = Changes::default();
            let mut head = worker.head();
            let deployed = catalog.plan_deployment(&name, Some(worker), &mut head, &mut changes, plan)?;
            if wish.mode == ApplyMode::DryRun {
                return Ok(Step::Answer(deployed));
            }
            changes.head(catalog, &name, Some(worker), &head)?;
            changes.writes.extend(beside(&deployed.deployment));
            Ok(Step::Commit(changes, deployed))
        })
        .await
    }

    /// That no version of the split has lost a KV namespace (`RBK-7`). One that is deleted a moment later is lost to a version
    /// that is live already, so this needs no part in the commit.
    async fn check_namespaces(&self, name: &WorkerName, split: &Split) -> Result<(), Error> {
        let view = self.view.load_full();
        let versions = split.entries().iter().filter_map(|(version, _)| view.worker(name)?.version(*version));
        for version in versions {
            for (binding, namespace) in version.config.namespaces() {
                if !kv::exists(&*self.store, namespace).await.map_err(Error::Kv)? {
                    let (version, binding) = (version.id, binding.clone());
                    return Err(Error::NamespaceGone { version, binding, namespace });
                }
            }
        }
        Ok(())
    }

    /// Adds a deployment to `changes` and counts it in `head`.
    pub(super) fn plan_deployment(
        &self,
        name: &WorkerName,
        worker: Option<&Arc<WorkerView>>,
        head: &mut Head,
        changes: &mut Changes,
        plan: Plan,
    ) -> Result<Deployed, Error> {
        let active = worker.and_then(|worker| worker.active.as_ref());
        let before = active.map(|active| &active.allotment);
        let allotment = Allotment::derive(before, &plan.split);
        let moved_slots = before.map_or(0, |before| allotment.moved_from(before));
        let deployment = Deployment {
            id: new_deployment_id()?,
            created_ms: self.now_after(active.map(|active| active.created_ms)),
            provenance: plan.provenance,
            triggered_by: plan.trigger,
            message: plan.message,
            split: plan.split,
            allotment,
            code_update: plan.code_update,
        };
        head.counters.deployments += 1;
        let key = record::deployment_key(name, head.counters.deployments);
        changes.checks.push(Check::absent(key.clone()));
        changes.writes.push(Write::put(key, record::deployment::encode(&deployment)));
        Ok(Deployed { deployment: Arc::new(deployment), moved_slots })
    }
}

/// Whether the worker may be deployed so.
fn admit<'v>(
    view: &'v View,
    name: &WorkerName,
    split: &Split,
    wish: &NewDeployment,
) -> Result<&'v Arc<WorkerView>, Error> {
    let worker = known(view, name)?;
    let active = worker.active.as_ref();
    if let Some(expected) = wish.if_match
        && active.map(|active| active.id) != Some(expected)
    {
        return Err(Error::NotActive { worker: name.clone(), expected, active: active.map(|active| active.id) });
    }
    for (version, _) in split.entries() {
        let Some(found) = worker.version(*version) else {
            return Err(Error::VersionUnknown { worker: name.clone(), version: *version });
        };
        if !worker.is_deployable(*version) {
            return Err(Error::NotDeployable { version: *version });
        }
        check_classes(view, worker, found)?;
    }
    let names = restored_secrets(worker, split);
    if wish.force == Force::No && !names.is_empty() {
        return Err(Error::SecretsChanged { names });
    }
    Ok(worker)
}

/// That a version is not older than the last migration (`RBK-6`, `MIG-13`), and that the objects it binds are there.
fn check_classes(view: &View, worker: &WorkerView, version: &Version) -> Result<(), Error> {
    let Version { id, number, .. } = *version;
    if let Classes { fence: Some(fence), tag, .. } = &worker.classes
        && worker.classes.fences_off(number)
    {
        return Err(Error::Fenced { version: id, number, tag: tag.clone().unwrap_or_default(), fence: *fence });
    }
    match view.bound_objects(worker, version).find(|bound| bound.namespace.is_none()) {
        None => Ok(()),
        Some(BoundObjects { binding, class, owner, .. }) => Err(Error::ObjectsGone {
            version: id,
            binding: binding.clone(),
            class: class.clone(),
            owner: owner.clone(),
        }),
    }
}

/// The secrets of which the split would bring back older values: of each version that is not live, is older than the newest
/// that is, and differs from it (`DEP-10`).
fn restored_secrets(worker: &WorkerView, split: &Split) -> Vec<BindingName> {
    let Some(active) = &worker.active else { return Vec::new() };
    let Some(newest) = newest_live(&active.split, worker.live().map(|version| &**version)) else { return Vec::new() };
    let targets = split.entries().iter().filter(|(version, _)| active.split.share_of(*version).is_none());
    let older =
        targets.filter_map(|(version, _)| worker.version(*version)).filter(|target| target.number < newest.number);
    let names: BTreeSet<BindingName> = older.flat_map(|target| secrets_changed(target, newest)).collect();
    names.into_iter().collect()
}
