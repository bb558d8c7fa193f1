//! What people do with rollouts: start, look, step forward, pause, resume, abort. Each first does what the numbers want at that moment, so
//! that nobody acts on a state that is over; and who says which state was looked at is refused if it has changed.

use std::collections::BTreeMap;

use tokio::sync::MutexGuard;

use super::record::{self, Stored};
use super::{Asked, Error, NewRollout, Rollouts, Status, Tracked, tag, unknown};
use crate::catalog::{self, ApplyMode, NewDeployment, WorkerView};
use crate::domain::deployment::{CodeUpdate, Deployment};
use crate::domain::id::{VersionId, WorkerName};
use crate::domain::rollout::{Rollout, State};
use crate::domain::split::Share;
use crate::domain::version;
use crate::store::Write;

impl Rollouts {
    /// Starts a rollout of `worker`; its first step is live when this returns. In a dry run nothing is changed, and what is told is how
    /// it would begin.
    ///
    /// # Errors
    /// If one is under way, if the active deployment is none to start from, or what the catalog refuses.
    pub async fn start(&self, worker: &WorkerName, wish: NewRollout) -> Result<Status, Error> {
        let mut all = self.all.lock().await;
        self.tend(worker, &mut all).await;
        let view = self.catalog.view();
        let present = view.worker(worker).ok_or_else(|| unknown(worker))?;
        if let Some(Tracked { stored: Stored { rollout, .. }, .. }) = all.get(worker)
            && !rollout.state.is_over()
        {
            let (to, state, percent) = (rollout.new, rollout.state, rollout.share().percent());
            return Err(Error::UnderWay { worker: worker.clone(), to, state, percent });
        }
        let active = present.active.clone().ok_or_else(|| Error::NotDeployed(worker.clone()))?;
        if let Some(expected) = wish.if_match.filter(|expected| *expected != active.id) {
            let (worker, active) = (worker.clone(), Some(active.id));
            return Err(Error::Catalog(catalog::Error::NotActive { worker, expected, active }));
        }
        let Some(old) = active.split.stable() else {
            return Err(Error::Split { worker: worker.clone(), split: shares_of(present, &active) });
        };
        let NewRollout { to: new, plan, provenance, force, mode, .. } = wish;
        if new == old {
            return Err(Error::HasEverything(new));
        }
        let first = plan.steps().first().copied().unwrap_or(Share::ALL);
        let wish = NewDeployment {
            entries: Rollout::entries(old, new, &active.split, first),
            message: version::message(&Rollout::opening(&plan)),
            provenance,
            code_update: CodeUpdate::Immediate,
            if_match: Some(active.id),
            force,
            mode,
        };
        let tag = present.tag.clone();
        let (key, stored_tag, stored_plan) = (record::key(worker), tag.clone(), plan.clone());
        let beside = move |deployment: &Deployment| {
            let rollout = Rollout::begun(stored_plan.clone(), old, new, deployment);
            vec![Write::put(key.clone(), record::encode(&Stored { tag: stored_tag.clone(), rollout }))]
        };
        let deployed = match self.catalog.deploy_beside(worker, wish, beside).await {
            Ok(deployed) => deployed,
            Err(error) => {
                self.reread(worker, &mut all).await;
                return Err(Error::Catalog(error));
            }
        };
        let rollout = Rollout::begun(plan, old, new, &deployed.deployment);
        let mut tracked = Tracked { stored: Stored { tag, rollout }, open: None, trouble: None };
        self.look(worker, &mut tracked);
        let status = self.status_of(worker, &tracked);
        if mode == ApplyMode::DryRun {
            return Ok(status);
        }
        tracing::info!(worker = %worker, version = %new, "a rollout was started");
        all.insert(worker.clone(), tracked);
        self.wake.notify_one();
        Ok(status)
    }

    /// The newest rollout of `worker`, under way or over.
    ///
    /// # Errors
    /// If there is no such worker, or it has had no rollout.
    pub async fn status(&self, worker: &WorkerName) -> Result<Status, Error> {
        let mut all = self.all.lock().await;
        let tracked = self.existing(worker, &mut all).await?;
        self.look(worker, tracked);
        Ok(self.status_of(worker, tracked))
    }

    /// Keeps it where it is, whatever the guards say.
    ///
    /// # Errors
    /// If it does not run, or cannot be stored.
    pub async fn pause(&self, worker: &WorkerName, asked: &Asked) -> Result<Status, Error> {
        self.turn(worker, asked, State::Running, "paused", |rollout, now| rollout.paused(now, &asked.by.author)).await
    }

    /// Lets it go on: its step begins anew.
    ///
    /// # Errors
    /// If it is not paused, or cannot be stored.
    pub async fn resume(&self, worker: &WorkerName, asked: &Asked) -> Result<Status, Error> {
        self.turn(worker, asked, State::Paused, "resumed", |rollout, now| rollout.resumed(now, &asked.by.author)).await
    }

    /// Takes its next step now: before its time, and though guards lack data. One that is paused stays so.
    ///
    /// # Errors
    /// If it is over, if a guard is broken, or what the catalog refuses.
    pub async fn step(&self, worker: &WorkerName, asked: &Asked) -> Result<Status, Error> {
        let mut all = self.all.lock().await;
        self.tend(worker, &mut all).await;
        let tracked = self.existing(worker, &mut all).await?;
        check(worker, &tracked.stored.rollout, asked)?;
        self.look(worker, tracked);
        let rollout = &tracked.stored.rollout;
        let next = rollout.next_by_hand(&asked.by.author, &tracked.judged());
        let next = next.map_err(|broken| Error::Broken { worker: worker.clone(), broken })?;
        let (share, message) = next.ok_or_else(|| wrong_state(worker, rollout, "stepped forward"))?;
        let stepped = move |rollout: &mut Rollout, by: &Deployment| rollout.stepped(share, by);
        let deployed = self.deploy(worker, tracked, share, message, asked.by.clone(), stepped).await;
        self.told(worker, deployed, all).await
    }

    /// Gives everything back to the old version.
    ///
    /// # Errors
    /// If it is over, or what the catalog refuses.
    pub async fn abort(&self, worker: &WorkerName, asked: &Asked) -> Result<Status, Error> {
        let mut all = self.all.lock().await;
        self.tend(worker, &mut all).await;
        let tracked = self.existing(worker, &mut all).await?;
        check(worker, &tracked.stored.rollout, asked)?;
        let rollout = &tracked.stored.rollout;
        if rollout.state.is_over() {
            return Err(wrong_state(worker, rollout, "aborted"));
        }
        let message = rollout.abort_message(&asked.by.author);
        let nothing = Share::from_slots(0);
        let ended = |rollout: &mut Rollout, by: &Deployment| rollout.rolled_back(State::Aborted, by);
        let deployed = self.deploy(worker, tracked, nothing, message, asked.by.clone(), ended).await;
        self.told(worker, deployed, all).await
    }

    /// What became of a deployment that somebody asked for.
    async fn told(
        &self,
        worker: &WorkerName,
        deployed: Result<(), catalog::Error>,
        mut all: MutexGuard<'_, BTreeMap<WorkerName, Tracked>>,
    ) -> Result<Status, Error> {
        match deployed {
            Ok(()) => {
                let tracked = all.get_mut(worker).ok_or_else(|| Error::Unknown(worker.clone()))?;
                tracked.trouble = None;
                Ok(self.status_of(worker, tracked))
            }
            Err(error) => {
                self.reread(worker, &mut all).await;
                Err(Error::Catalog(error))
            }
        }
    }

    /// Changes its state from `from`, without a deployment.
    async fn turn(
        &self,
        worker: &WorkerName,
        asked: &Asked,
        from: State,
        wanted: &'static str,
        change: impl Fn(&mut Rollout, u64),
    ) -> Result<Status, Error> {
        let mut all = self.all.lock().await;
        self.tend(worker, &mut all).await;
        let tracked = self.existing(worker, &mut all).await?;
        check(worker, &tracked.stored.rollout, asked)?;
        if tracked.stored.rollout.state != from {
            return Err(wrong_state(worker, &tracked.stored.rollout, wanted));
        }
        let mut stored = tracked.stored.clone();
        change(&mut stored.rollout, self.clock.now_ms());
        self.save(worker, &stored).await?;
        if stored.rollout.windows != tracked.stored.rollout.windows {
            tracked.open = None;
        }
        tracked.stored = stored;
        self.look(worker, tracked);
        tracing::info!(worker = %worker, "a rollout was {wanted}");
        self.wake.notify_one();
        Ok(self.status_of(worker, tracked))
    }
}

/// That the rollout is as whoever asks has seen it.
fn check(worker: &WorkerName, rollout: &Rollout, asked: &Asked) -> Result<(), Error> {
    match &asked.if_match {
        Some(seen) if *seen != tag(rollout) => {
            let (state, percent) = (rollout.state, rollout.share().percent());
            Err(Error::MovedOn { worker: worker.clone(), state, percent })
        }
        _ => Ok(()),
    }
}

fn wrong_state(worker: &WorkerName, rollout: &Rollout, wanted: &'static str) -> Error {
    Error::WrongState { worker: worker.clone(), state: rollout.state, wanted }
}

/// `#3 90 %, #4 10 %`.
fn shares_of(worker: &WorkerView, deployment: &Deployment) -> String {
    let share = |(id, share): &(VersionId, Share)| {
        let number = worker.version(*id).map_or(0, |version| version.number);
        format!("#{number} {} %", share.percent())
    };
    deployment.split.entries().iter().map(share).collect::<Vec<_>>().join(", ")
}
