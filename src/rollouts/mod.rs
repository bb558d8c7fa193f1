//! Rollouts: who looks at the numbers each second, and deploys.
//!
//! [`domain::rollout`](crate::domain::rollout) says what is to be done, [`domain::evidence`](crate::domain::evidence) what the numbers
//! mean. This room does it: it reads the counters of both versions, and makes ordinary deployments through the catalog, each in
//! one commit with the rollout's record. So after a crash the record says what is deployed, and the rollout goes on; only the
//! counters are gone, and its step begins anew.
//!
//! A deployment of a rollout is made only if the one before is still the active one: what someone else deployed is never overwritten.
//! While no rollout is under way nothing runs here, and nothing of this is ever on the path of a request.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{Mutex, Notify};

use crate::catalog::{self, ApplyMode, Catalog, Force, NewDeployment};
use crate::clock::Clock;
use crate::domain::deployment::{CodeUpdate, Deployment};
use crate::domain::evidence::{Judged, Pair, Window};
use crate::domain::id::{DeploymentId, VersionId, WorkerName};
use crate::domain::rollout::{Next, Plan, Rollout, State, Stay};
use crate::domain::split::Share;
use crate::domain::version::{self, Provenance};
use crate::observe::Observer;
use crate::store::{self, Order, Store, Write};

mod by_hand;
mod record;
#[cfg(test)]
mod tests;

pub use record::Damaged;

use record::Stored;

/// How often the numbers are looked at.
const TICK: Duration = Duration::from_millis(500);
/// Records read at once at the start.
const PAGE: usize = 256;

/// Why a rollout was not started, changed or found.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The catalog refused its deployment, or failed.
    #[error(transparent)]
    Catalog(catalog::Error),
    #[error("worker `{0}` has no deployment, and a rollout starts from a version that has all the traffic")]
    NotDeployed(WorkerName),
    #[error(
        "the traffic of worker `{worker}` is split ({split}), and a rollout starts from a version that has all of it"
    )]
    Split { worker: WorkerName, split: String },
    #[error("version `{0}` has all the traffic already")]
    HasEverything(VersionId),
    #[error("a rollout of worker `{worker}` to version `{to}` is {} at {percent} %", .state.as_str())]
    UnderWay { worker: WorkerName, to: VersionId, state: State, percent: f64 },
    #[error("worker `{0}` has had no rollout")]
    Unknown(WorkerName),
    #[error("the rollout of worker `{worker}` is {}, so it cannot be {wanted}", .state.as_str())]
    WrongState { worker: WorkerName, state: State, wanted: &'static str },
    #[error("the rollout of worker `{worker}` cannot be stepped forward past a broken guard: {broken}")]
    Broken { worker: WorkerName, broken: String },
    /// What the caller had looked at is not so any more.
    #[error("the rollout of worker `{worker}` has moved on: it is {} at {percent} %", .state.as_str())]
    MovedOn { worker: WorkerName, state: State, percent: f64 },
    #[error("cannot {attempt}")]
    Store { attempt: &'static str, source: store::Error },
    #[error("cannot {attempt}")]
    Commit { attempt: &'static str, source: store::CommitError },
    #[error("the record `{key}` cannot be read")]
    Record { key: String, source: Damaged },
}

/// What is asked for.
#[derive(Debug, Clone)]
pub struct NewRollout {
    pub to: VersionId,
    pub plan: Plan,
    pub provenance: Provenance,
    /// Whether older values of secrets may come back with the version (`DEP-10`).
    pub force: Force,
    /// Only if this deployment is the active one (E11).
    pub if_match: Option<DeploymentId>,
    pub mode: ApplyMode,
}

/// A change of a rollout that somebody asks for.
#[derive(Debug, Clone)]
pub struct Asked {
    pub by: Provenance,
    /// Only if the rollout is as it was when it had this tag ([`Status::tag`]).
    pub if_match: Option<String>,
}

/// A rollout as it stands.
#[derive(Debug, Clone)]
pub struct Status {
    pub rollout: Rollout,
    /// Why nothing is done at this moment; none while something is about to be.
    pub stay: Option<Stay>,
    /// What is to be said of each guard: empty after a restart of the node, if the rollout was over then.
    pub judged: Vec<Judged>,
    /// Since when both are counted, in Unix milliseconds, and what they did.
    pub window: Option<(u64, Pair)>,
    /// Why its last attempt to deploy failed. It is tried again each second.
    pub trouble: Option<String>,
}

impl Status {
    /// Another one after each step, pause, resumption and end: who decides by what was seen names it.
    #[must_use]
    pub fn tag(&self) -> String {
        tag(&self.rollout)
    }
}

/// All rollouts of a node.
pub struct Rollouts {
    catalog: Arc<Catalog>,
    store: Arc<dyn Store>,
    observer: Arc<Observer>,
    clock: Arc<dyn Clock>,
    /// Held while one of them is looked at or changed: so a tick and a call never decide at once.
    all: Mutex<BTreeMap<WorkerName, Tracked>>,
    /// Told when there is something to look at.
    wake: Notify,
}

struct Tracked {
    stored: Stored,
    open: Option<Open>,
    trouble: Option<String>,
}

/// The evidence of the step that is live.
struct Open {
    window: Window,
    since_ms: u64,
}

impl Rollouts {
    /// Reads what is stored. Those that were under way go on as soon as [`Self::run_forever`] runs.
    ///
    /// # Errors
    /// If a record cannot be read.
    pub async fn open(
        catalog: &Arc<Catalog>,
        store: Arc<dyn Store>,
        observer: &Arc<Observer>,
        clock: &Arc<dyn Clock>,
    ) -> Result<Arc<Self>, Error> {
        let mut all = BTreeMap::new();
        let mut range = record::all();
        loop {
            let reading = |source| Error::Store { attempt: "read the rollouts", source };
            let entries = store.scan(range.clone(), Order::Ascending, PAGE).await.map_err(reading)?;
            for entry in &entries {
                let damaged = |source| Error::Record { key: entry.key.to_string(), source };
                let worker = record::worker_of(&entry.key).map_err(damaged)?;
                let mut stored = record::decode(entry).map_err(damaged)?;
                if stored.rollout.state == State::Running {
                    stored.rollout.restarted(clock.now_ms());
                }
                all.insert(worker, Tracked { stored, open: None, trouble: None });
            }
            match entries.last() {
                Some(last) if entries.len() == PAGE => range = range.after(&last.key),
                _ => break,
            }
        }
        let (catalog, observer, clock) = (Arc::clone(catalog), Arc::clone(observer), Arc::clone(clock));
        Ok(Arc::new(Self { catalog, store, observer, clock, all: Mutex::new(all), wake: Notify::new() }))
    }

    /// Looks at all that are under way, each half second, for as long as there are any; until the node stops.
    pub async fn run_forever(rollouts: Weak<Self>) {
        while let Some(present) = rollouts.upgrade() {
            let under_way = present.tick().await;
            if under_way {
                drop(present);
                tokio::time::sleep(TICK).await;
            } else {
                // Kept until something is started, or the task is ended with its node.
                present.wake.notified().await;
            }
        }
    }

    /// Looks once. Whether any is under way.
    async fn tick(&self) -> bool {
        let mut all = self.all.lock().await;
        let under_way = |tracked: &Tracked| !tracked.stored.rollout.state.is_over();
        let workers: Vec<WorkerName> =
            all.iter().filter(|(_, tracked)| under_way(tracked)).map(|(worker, _)| worker.clone()).collect();
        for worker in workers {
            self.tend(&worker, &mut all).await;
        }
        all.values().any(under_way)
    }
}

// === one of them ===

impl Rollouts {
    /// Looks at the rollout of `worker`, and does what it needs. What fails is tried again at the next look.
    async fn tend(&self, worker: &WorkerName, all: &mut BTreeMap<WorkerName, Tracked>) {
        self.forget_if_gone(worker, all).await;
        let Some(tracked) = all.get_mut(worker).filter(|tracked| !tracked.stored.rollout.state.is_over()) else {
            return;
        };
        self.look(worker, tracked);
        let now = self.clock.now_ms();
        let judged = tracked.judged();
        let author = tracked.stored.rollout.provenance.clone();
        let outcome = match tracked.stored.rollout.next(now, self.active(worker).as_deref(), &judged) {
            Next::Stay(_) => {
                let opened_ms = tracked.open.as_ref().map_or(now, |open| open.since_ms);
                if !tracked.stored.rollout.wants_new_window(now, opened_ms, &judged) {
                    return;
                }
                tracked.stored.rollout.new_window();
                tracked.open = None;
                self.look(worker, tracked);
                self.save(worker, &tracked.stored).await
            }
            Next::Step { share, message } => {
                let stepped = move |rollout: &mut Rollout, by: &Deployment| rollout.stepped(share, by);
                self.deploy(worker, tracked, share, message, author, stepped).await.map_err(Error::Catalog)
            }
            Next::RollBack { message } => {
                let failed = |rollout: &mut Rollout, by: &Deployment| rollout.rolled_back(State::Failed, by);
                let nothing = Share::from_slots(0);
                self.deploy(worker, tracked, nothing, message, author, failed).await.map_err(Error::Catalog)
            }
            Next::Supersede { why } => {
                tracked.stored.rollout.superseded(now, why);
                self.save(worker, &tracked.stored).await
            }
        };
        match outcome {
            Ok(()) => tracked.trouble = None,
            // Someone else deployed in this very moment: the next look sees it.
            Err(Error::Catalog(catalog::Error::NotActive { .. })) => {}
            Err(error) => {
                let trouble = chain(&error);
                if tracked.trouble.as_ref() != Some(&trouble) {
                    tracing::error!(worker = %worker, error = trouble, "a rollout cannot go on; it is tried again");
                }
                tracked.trouble = Some(trouble);
                self.reread(worker, all).await;
            }
        }
    }

    /// Makes a deployment of the rollout that gives its new version `share`, in one commit with what becomes of the record.
    async fn deploy(
        &self,
        worker: &WorkerName,
        tracked: &mut Tracked,
        share: Share,
        message: String,
        provenance: Provenance,
        then: impl Fn(&mut Rollout, &Deployment) + Clone + Send + 'static,
    ) -> Result<(), catalog::Error> {
        let Stored { tag, rollout } = tracked.stored.clone();
        let active = self.active(worker);
        let split = active.as_ref().map(|active| &active.split);
        let wish = NewDeployment {
            entries: split.map(|split| Rollout::entries(rollout.old, rollout.new, split, share)).unwrap_or_default(),
            message: version::message(&message),
            provenance,
            code_update: CodeUpdate::Immediate,
            if_match: rollout.live.last().map(|live| live.deployment),
            force: Force::No,
            mode: ApplyMode::Commit,
        };
        let (key, stored, made) = (record::key(worker), tracked.stored.clone(), then.clone());
        let beside = move |deployment: &Deployment| {
            let mut stored = stored.clone();
            made(&mut stored.rollout, deployment);
            vec![Write::put(key.clone(), record::encode(&stored))]
        };
        let deployed = self.catalog.deploy_beside(worker, wish, beside).await?;
        let mut rollout = rollout;
        then(&mut rollout, &deployed.deployment);
        let (state, percent) = (rollout.state.as_str(), share.percent());
        tracing::info!(worker = %worker, version = %rollout.new, state, percent, why = message, "a rollout deployed");
        // What was measured stays to be seen when it is over.
        if !rollout.state.is_over() {
            tracked.open = None;
        }
        tracked.stored = Stored { tag, rollout };
        self.look(worker, tracked);
        Ok(())
    }

    /// Reads the counters, if it is under way.
    fn look(&self, worker: &WorkerName, tracked: &mut Tracked) {
        let rollout = &tracked.stored.rollout;
        if rollout.state.is_over() {
            return;
        }
        let measures = |version| self.observer.metrics.measures(worker, version).unwrap_or_default();
        let counts = Pair { new: measures(rollout.new), old: measures(rollout.old) };
        match &mut tracked.open {
            Some(open) => open.window.look(counts),
            None => {
                let window = Window::open(rollout.plan.guards(), rollout.windows, counts);
                tracked.open = Some(Open { window, since_ms: self.clock.now_ms() });
            }
        }
    }

    async fn existing<'a>(
        &self,
        worker: &WorkerName,
        all: &'a mut BTreeMap<WorkerName, Tracked>,
    ) -> Result<&'a mut Tracked, Error> {
        self.forget_if_gone(worker, all).await;
        if self.catalog.view().worker(worker).is_none() {
            return Err(unknown(worker));
        }
        all.get_mut(worker).ok_or_else(|| Error::Unknown(worker.clone()))
    }

    /// Forgets the rollout of a worker that was deleted, even if there is another one of its name since.
    async fn forget_if_gone(&self, worker: &WorkerName, all: &mut BTreeMap<WorkerName, Tracked>) {
        let Some(tracked) = all.get(worker) else { return };
        if self.catalog.view().worker(worker).is_some_and(|present| present.tag == tracked.stored.tag) {
            return;
        }
        all.remove(worker);
        if let Err(source) = self.store.commit(Vec::new(), vec![Write::delete(record::key(worker))]).await {
            // It is forgotten at the next start, by the same rule.
            tracing::warn!(worker = %worker, error = &source as &dyn std::error::Error, "cannot delete the record of a rollout");
        }
    }

    async fn save(&self, worker: &WorkerName, stored: &Stored) -> Result<(), Error> {
        let write = Write::put(record::key(worker), record::encode(stored));
        let saved = self.store.commit(Vec::new(), vec![write]).await;
        saved.map(drop).map_err(|source| Error::Commit { attempt: "store the rollout", source })
    }

    /// After a commit that failed and may have happened all the same: what is stored is what counts.
    async fn reread(&self, worker: &WorkerName, all: &mut BTreeMap<WorkerName, Tracked>) {
        let Ok(Some(entry)) = self.store.get(&record::key(worker)).await else { return };
        let Ok(stored) = record::decode(&entry) else { return };
        let known = all.get_mut(worker);
        match known {
            Some(tracked) if tracked.stored.rollout.last_deployment() == stored.rollout.last_deployment() => {}
            Some(tracked) => {
                tracked.stored = stored;
                tracked.open = None;
            }
            None => drop(all.insert(worker.clone(), Tracked { stored, open: None, trouble: None })),
        }
        self.wake.notify_one();
    }

    fn active(&self, worker: &WorkerName) -> Option<Arc<Deployment>> {
        self.catalog.view().worker(worker)?.active.clone()
    }

    fn status_of(&self, worker: &WorkerName, tracked: &Tracked) -> Status {
        let judged = tracked.judged();
        let rollout = tracked.stored.rollout.clone();
        let stay = match rollout.next(self.clock.now_ms(), self.active(worker).as_deref(), &judged) {
            Next::Stay(stay) => Some(stay),
            _ => None,
        };
        let window = tracked.open.as_ref().map(|open| (open.since_ms, open.window.counted()));
        Status { rollout, stay, judged, window, trouble: tracked.trouble.clone() }
    }
}

impl Tracked {
    fn judged(&self) -> Vec<Judged> {
        self.open.as_ref().map(|open| open.window.judge()).unwrap_or_default()
    }
}

fn unknown(worker: &WorkerName) -> Error {
    Error::Catalog(catalog::Error::WorkerUnknown { worker: worker.clone() })
}

fn tag(rollout: &Rollout) -> String {
    let deployment = rollout.last_deployment().map(|id| id.to_string()).unwrap_or_default();
    format!("{deployment}-{}-{}", rollout.state.as_str(), rollout.since_ms)
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
