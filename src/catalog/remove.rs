//! Deleting a worker, a version or a deployment. None of them comes back, and their numbers are not given again.

use std::sync::Arc;

use super::change::{Changes, Step, Subject, known};
use super::{Catalog, Error, Force, View, WorkerView, record};
use crate::domain::class::Class;
use crate::domain::id::{DeploymentId, VersionId, WorkerName};
use crate::store::Write;

impl Catalog {
    /// Deletes a worker with everything that belongs to it. Its routes, domains and aliases are free; its modules go at the
    /// next start, unless another version has the same bytes; its objects are doomed (see [`Catalog::doomed_namespaces`]).
    ///
    /// # Errors
    /// [`Error::WorkerInUse`] if a live version of another worker binds it, unless forced; or what failed.
    pub async fn delete_worker(self: &Arc<Self>, worker: &WorkerName, force: Force) -> Result<(), Error> {
        let name = worker.clone();
        self.change(Subject::Worker(worker.clone()), "delete the worker", move |catalog, view| {
            let worker = known(view, &name)?;
            let others = view.workers().filter(|other| other.name != name);
            let by: Vec<WorkerName> = others
                .filter(|other| other.binds(&name) || binds_objects_of(view, other, worker))
                .map(|other| other.name.clone())
                .collect();
            if force == Force::No && !by.is_empty() {
                return Err(Error::WorkerInUse { worker: name.clone(), by });
            }
            let mut changes = Changes::default();
            changes.check_head(&name, Some(worker));
            let routes = worker.triggers.routes.iter().map(|route| record::route_claim_key(&route.pattern));
            let domains = worker.triggers.domains.iter().map(record::domain_claim_key);
            changes.writes.extend(routes.chain(domains).map(Write::delete));
            changes.writes.push(Write::delete_range(record::versions(&name)));
            changes.writes.push(Write::delete_range(record::deployments(&name)));
            changes.writes.push(Write::delete(record::head_key(&name)));
            for (class, Class { namespace, .. }) in &worker.classes.by_name {
                changes.doom(&name, class, *namespace, catalog.clock.now_ms());
            }
            Ok(Step::Commit(changes, ()))
        })
        .await
    }

    /// Deletes a version (`VER-11`).
    ///
    /// # Errors
    /// [`Error::ActiveDeployment`] or [`Error::LatestVersion`] if it is needed; or what failed.
    pub async fn delete_version(self: &Arc<Self>, worker: &WorkerName, version: VersionId) -> Result<(), Error> {
        let name = worker.clone();
        self.change(Subject::Worker(worker.clone()), "delete the version", move |catalog, view| {
            let worker = known(view, &name)?;
            let Some(found) = worker.version(version) else {
                return Err(Error::VersionUnknown { worker: name.clone(), version });
            };
            if worker.active.as_ref().is_some_and(|active| active.split.share_of(version).is_some()) {
                return Err(Error::ActiveDeployment);
            }
            if worker.latest().is_some_and(|latest| latest.id == version) {
                return Err(Error::LatestVersion);
            }
            catalog.deletion(worker, Write::delete(record::version_key(&name, found.number)))
        })
        .await
    }

    /// Deletes a deployment that is not active (`DEP-9`). Only those that the view holds can be named.
    ///
    /// # Errors
    /// [`Error::ActiveDeployment`] if it is active; or what failed.
    pub async fn delete_deployment(
        self: &Arc<Self>,
        worker: &WorkerName,
        deployment: DeploymentId,
    ) -> Result<(), Error> {
        let name = worker.clone();
        self.change(Subject::Worker(worker.clone()), "delete the deployment", move |catalog, view| {
            let worker = known(view, &name)?;
            match worker.deployments.iter().position(|known| known.id == deployment) {
                None => Err(Error::DeploymentUnknown { worker: name.clone(), deployment }),
                Some(0) => Err(Error::ActiveDeployment),
                Some(index) => {
                    let key = record::deployment_key(&name, worker.deployment_numbers[index]);
                    catalog.deletion(worker, Write::delete(key))
                }
            }
        })
        .await
    }

    fn deletion(&self, worker: &Arc<WorkerView>, write: Write) -> Result<Step<()>, Error> {
        let mut head = worker.head();
        head.counters.deletions += 1;
        let mut changes = Changes::default();
        changes.head(self, &worker.name, Some(worker), &head)?;
        changes.writes.push(write);
        Ok(Step::Commit(changes, ()))
    }
}

/// Whether a live version of `other` is bound to objects of `worker`, by whatever name.
fn binds_objects_of(view: &View, other: &WorkerView, worker: &WorkerView) -> bool {
    let mut found =
        other.live().flat_map(|version| view.bound_objects(other, version)).filter_map(|bound| bound.namespace);
    found.any(|namespace| worker.classes.by_name.values().any(|class| class.namespace == namespace))
}
