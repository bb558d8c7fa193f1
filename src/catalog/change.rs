//! How every change happens: decide on the view, commit with checks, read back, publish. `mod.rs` says why.

use std::panic::resume_unwind;
use std::sync::Arc;

use tracing::Instrument;

use super::record::{self, Counters, Head};
use super::{ATTEMPTS_MAX, Catalog, Error, Triggers, View, WorkerView, load};
use crate::domain::class::Classes;
use crate::domain::id::{DeploymentId, VersionId, WorkerName};
use crate::domain::limits::WORKERS_MAX;
use crate::domain::object::ClassName;
use crate::store::{Check, CommitError, Write};

/// What a decision came to.
pub(super) enum Step<T> {
    /// Nothing has to be written.
    Answer(T),
    Commit(Changes, T),
}

/// Whose records a change is about.
#[derive(Debug, Clone)]
pub(super) enum Subject {
    Worker(WorkerName),
    DisabledRoutes,
    Doomed,
}

/// One commit in the making.
#[derive(Default)]
pub(super) struct Changes {
    pub(super) checks: Vec<Check>,
    pub(super) writes: Vec<Write>,
    /// Whether it changes other workers than its subject: then the next view has to show all of it at once.
    pub(super) changes_others: bool,
}

impl Catalog {
    /// Makes a change to `subject`. `decide` sees the present, and is asked again when someone else was faster. Runs to its end
    /// though the caller goes away.
    pub(super) async fn change<T: Send + 'static>(
        self: &Arc<Self>,
        subject: Subject,
        attempt: &'static str,
        decide: impl Fn(&Self, &View) -> Result<Step<T>, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let catalog = Arc::clone(self);
        let change =
            tokio::spawn(async move { catalog.change_undisturbed(subject, attempt, decide).await }.in_current_span());
        match change.await {
            Ok(outcome) => outcome,
            Err(stopped) => match stopped.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                // The runtime is going down, and this task with it.
                Err(_) => std::future::pending().await,
            },
        }
    }

    async fn change_undisturbed<T>(
        &self,
        subject: Subject,
        attempt: &'static str,
        decide: impl Fn(&Self, &View) -> Result<Step<T>, Error>,
    ) -> Result<T, Error> {
        let _turn = self.turn.lock().await;
        for _ in 0..ATTEMPTS_MAX {
            let (Changes { checks, writes, changes_others }, answer) = match decide(self, &self.view.load())? {
                Step::Answer(answer) => return Ok(answer),
                Step::Commit(changes, answer) => (changes, answer),
            };
            match self.store.commit(checks, writes).await {
                Ok(_) => {
                    match &subject {
                        Subject::Worker(worker) => {
                            let before = self.view.load().worker(worker).cloned();
                            if changes_others {
                                self.refresh_all().await?;
                            } else {
                                self.refresh_worker(worker).await?;
                            }
                            report(worker, before.as_ref(), self.view.load().worker(worker));
                        }
                        Subject::DisabledRoutes | Subject::Doomed => self.refresh_all().await?,
                    }
                    return Ok(answer);
                }
                // Whose key it was does not matter: all that could have changed is read, and the rules are asked again.
                Err(CommitError::Conflict { .. }) => self.refresh_all().await?,
                Err(source) => {
                    // It may have happened, and then it has to be seen. What was asked for has failed either way.
                    if let CommitError::Unknown { .. } = source
                        && let Err(error) = self.refresh_all().await
                    {
                        tracing::error!(%error, "cannot read the catalog after a commit of unknown outcome");
                    }
                    return Err(Error::Commit { attempt, source });
                }
            }
        }
        Err(Error::Busy { attempt, attempts: ATTEMPTS_MAX })
    }

    async fn refresh_worker(&self, name: &WorkerName) -> Result<(), Error> {
        let snapshot = self.store.snapshot().await.map_err(load::reading)?;
        let view = self.view.load_full();
        let worker = load::worker(&*snapshot, &self.sealer, name, view.worker(name)).await?;
        let doomed = load::doomed(&*snapshot).await?;
        self.view.store(Arc::new(view.with(name, worker, doomed)));
        self.changed.send_replace(());
        Ok(())
    }

    /// The caller holds the turn.
    pub(super) async fn refresh_all(&self) -> Result<(), Error> {
        let snapshot = self.store.snapshot().await.map_err(load::reading)?;
        let view = load::view(&*snapshot, &self.sealer, &self.view.load_full()).await?;
        self.view.store(Arc::new(view));
        self.changed.send_replace(());
        Ok(())
    }

    /// A worker that does not exist yet.
    pub(super) fn new_head(&self, view: &View) -> Result<Head, Error> {
        if view.workers().len() >= WORKERS_MAX {
            return Err(Error::TooManyWorkers);
        }
        Ok(Head {
            tag: hex::encode(random()?),
            created_ms: self.clock.now_ms(),
            counters: Counters::default(),
            triggers: Triggers::default(),
            settings: serde_json::Value::Null,
            draft_secrets: std::collections::BTreeMap::new(),
            classes: Classes::default(),
        })
    }

    /// Now, but later than `last`: clients sort by time, and must come to the order of the numbers.
    pub(super) fn now_after(&self, last: Option<u64>) -> u64 {
        self.clock.now_ms().max(last.map_or(0, |last| last + 1))
    }
}

impl Changes {
    /// Writes the head of `worker`, provided that it still is what `before` shows (or is not there).
    pub(super) fn head(
        &mut self,
        catalog: &Catalog,
        worker: &WorkerName,
        before: Option<&Arc<WorkerView>>,
        head: &Head,
    ) -> Result<(), Error> {
        self.check_head(worker, before);
        self.writes.push(Write::put(record::head_key(worker), head.encode(worker, &catalog.sealer)?));
        Ok(())
    }

    /// Provided that the head of `worker` still is what `before` shows (or is not there).
    pub(super) fn check_head(&mut self, worker: &WorkerName, before: Option<&Arc<WorkerView>>) {
        let key = record::head_key(worker);
        self.checks.push(match before {
            Some(before) => Check::version(key, before.revision),
            None => Check::absent(key),
        });
    }
}

/// The worker, or the error that says that there is none.
pub(super) fn known<'v>(view: &'v View, worker: &WorkerName) -> Result<&'v Arc<WorkerView>, Error> {
    view.worker(worker).ok_or_else(|| Error::WorkerUnknown { worker: worker.clone() })
}

fn random() -> Result<[u8; 16], Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|source| Error::Random { source })?;
    Ok(bytes)
}

/// An id for a new version of `worker`. Its first 8 digits are its host name, so they differ from those of all others there.
pub(super) fn new_version_id(worker: Option<&Arc<WorkerView>>) -> Result<VersionId, Error> {
    loop {
        let id = VersionId::from_random(random()?);
        if worker.is_none_or(|worker| worker.version_of_short(&id.short()).is_none()) {
            return Ok(id);
        }
    }
}

pub(super) fn new_deployment_id() -> Result<DeploymentId, Error> {
    random().map(DeploymentId::from_random)
}

/// Tells the operator what became of a worker: the changes that a node's log has by default.
fn report(name: &WorkerName, before: Option<&Arc<WorkerView>>, after: Option<&Arc<WorkerView>>) {
    let Some(after) = after else {
        tracing::info!(worker = %name, "the worker was deleted");
        return;
    };
    if let Some((id, number)) = latest_of(after).filter(|latest| before.and_then(latest_of) != Some(*latest)) {
        tracing::info!(worker = %name, version = %id, number, "a version was uploaded");
    }
    if let Some(tag) = after.classes.tag.as_ref().filter(|tag| before.and_then(tag_of) != Some(*tag)) {
        let classes: Vec<&str> = after.classes.by_name.keys().map(ClassName::as_str).collect();
        tracing::info!(worker = %name, tag, classes = classes.join(", "), "a migration was applied");
    }
    let active = |worker: &Arc<WorkerView>| worker.active.as_ref().map(|active| active.id);
    if let Some(deployment) = after.active.as_ref().filter(|now| before.and_then(active) != Some(now.id)) {
        let shares: Vec<String> = deployment
            .split
            .entries()
            .iter()
            .map(|(version, share)| format!("{version} {} %", share.percent()))
            .collect();
        let why = deployment.triggered_by.as_str();
        tracing::info!(worker = %name, deployment = %deployment.id, why, split = shares.join(", "), "deployed");
    }
}

fn tag_of(worker: &Arc<WorkerView>) -> Option<&String> {
    worker.classes.tag.as_ref()
}

fn latest_of(worker: &Arc<WorkerView>) -> Option<(VersionId, u64)> {
    worker.latest().map(|version| (version.id, version.number))
}
