//! What is to be done next, and why.

use std::time::Duration;

use super::{Plan, Rollout, State};
use crate::domain::deployment::Deployment;
use crate::domain::evidence::{Finding, Judged};
use crate::domain::id::{DeploymentId, VersionId};
use crate::domain::limits::SLOTS;
use crate::domain::split::{Share, Split};

/// What a rollout needs done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Nothing, and why.
    Stay(Stay),
    /// Its next step, with the message of its deployment.
    Step { share: Share, message: String },
    /// Everything to the old version, with the message of its deployment.
    RollBack { message: String },
    /// To end without a deployment.
    Supersede { why: String },
}

/// Why there is nothing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stay {
    /// It is over.
    Ended,
    Paused,
    /// The step has to stand until then, in Unix milliseconds.
    Until(u64),
    /// The step has stood long enough, and not every guard holds yet.
    ForData,
}

/// Evidence is counted anew after so long, if the step goes on for as long again: what is wrong only now must not be outvoted by
/// hours in which all was well.
pub const WINDOW_MIN: Duration = Duration::from_secs(5 * 60);

impl Rollout {
    /// The message of the first step's deployment.
    #[must_use]
    pub fn opening(plan: &Plan) -> String {
        let guards: Vec<String> = plan.guards().iter().map(ToString::to_string).collect();
        let first = plan.steps().first().map_or(0.0, |share| share.percent());
        let every = plan.every().as_secs_f64();
        format!("rollout 0 % -> {first} %: started, at least {every} s for each step while {}", guards.join(", "))
    }

    /// A rollout whose first step has gone live.
    #[must_use]
    pub fn begun(plan: Plan, old: VersionId, new: VersionId, by: &Deployment) -> Self {
        let share = plan.steps().first().copied().unwrap_or(Share::ALL);
        let mut rollout = Self {
            plan,
            old,
            new,
            provenance: by.provenance.clone(),
            state: State::Running,
            live: Vec::new(),
            since_ms: by.created_ms,
            windows: 0,
            events: Vec::new(),
        };
        rollout.stepped(share, by);
        rollout
    }

    /// The share of the newest step that went live.
    #[must_use]
    pub fn share(&self) -> Share {
        self.live.last().map_or(Share::from_slots(0), |live| live.share)
    }

    /// The newest deployment that it made.
    #[must_use]
    pub fn last_deployment(&self) -> Option<DeploymentId> {
        self.events.iter().rev().find_map(|event| event.deployment)
    }

    /// The step after the live one.
    #[must_use]
    pub fn next_share(&self) -> Option<Share> {
        self.plan.steps().get(self.live.len()).copied()
    }

    /// When the next step may come, in Unix milliseconds.
    #[must_use]
    pub fn due_ms(&self) -> u64 {
        self.since_ms.saturating_add(ms(self.plan.every()))
    }

    /// What is to be done, at `now_ms` and with `active` as the worker's deployment.
    #[must_use]
    pub fn next(&self, now_ms: u64, active: Option<&Deployment>, judged: &[Judged]) -> Next {
        if self.state.is_over() {
            return Next::Stay(Stay::Ended);
        }
        if let Some(why) = self.superseded_by(active) {
            return Next::Supersede { why };
        }
        if self.state == State::Paused {
            return Next::Stay(Stay::Paused);
        }
        let here = self.share().percent();
        if let Some(broken) = broken(judged) {
            return Next::RollBack { message: format!("rollout {here} % -> 0 %: {broken}") };
        }
        if now_ms < self.due_ms() {
            return Next::Stay(Stay::Until(self.due_ms()));
        }
        match self.next_share().filter(|_| self.hold(judged)) {
            None => Next::Stay(Stay::ForData),
            Some(share) => {
                let message = format!("rollout {here} % -> {} %: {}", share.percent(), measured(judged));
                Next::Step { share, message }
            }
        }
    }

    /// The next step on someone's wish, with the message of its deployment; none if it is over.
    ///
    /// # Errors
    /// Which guards are broken, in words: nobody steps past them.
    pub fn next_by_hand(&self, author: &str, judged: &[Judged]) -> Result<Option<(Share, String)>, String> {
        let Some(share) = self.next_share().filter(|_| !self.state.is_over()) else { return Ok(None) };
        if let Some(broken) = broken(judged) {
            return Err(broken);
        }
        let (here, there) = (self.share().percent(), share.percent());
        let early = if self.hold(judged) { "" } else { ", before every guard held" };
        let message =
            format!("rollout {here} % -> {there} %: stepped forward by {author}{early}: {}", measured(judged));
        Ok(Some((share, message)))
    }

    /// Whether every guard holds.
    fn hold(&self, judged: &[Judged]) -> bool {
        judged.len() == self.plan.guards().len() && judged.iter().all(|judged| judged.finding == Finding::Holds)
    }

    /// The message of the deployment that ends it on someone's wish.
    #[must_use]
    pub fn abort_message(&self, author: &str) -> String {
        format!("rollout {} % -> 0 %: aborted by {author}", self.share().percent())
    }

    /// Whether the evidence is to be counted anew, in a window that was opened at `opened_ms`: it is complete and long enough, and the
    /// step goes on for as long again.
    #[must_use]
    pub fn wants_new_window(&self, now_ms: u64, opened_ms: u64, judged: &[Judged]) -> bool {
        let age = now_ms.saturating_sub(opened_ms);
        age >= ms(WINDOW_MIN)
            && self.due_ms().saturating_sub(now_ms) >= age
            && judged.iter().all(|judged| judged.finding == Finding::Holds)
    }

    /// The shares of a deployment that gives the new version `share`. What else is in the `active` one, at 0 %, stays in it.
    #[must_use]
    pub fn entries(old: VersionId, new: VersionId, active: &Split, share: Share) -> Vec<(VersionId, f64)> {
        let rest = Share::from_slots(SLOTS - share.slots());
        let both = [(old, rest), (new, share)].into_iter().filter(|(_, share)| share.slots() > 0);
        let others = active.entries().iter().map(|(version, _)| *version).filter(|id| *id != old && *id != new);
        both.map(|(id, share)| (id, share.percent())).chain(others.map(|id| (id, 0.0))).collect()
    }

    fn superseded_by(&self, active: Option<&Deployment>) -> Option<String> {
        let Some(active) = active else { return Some("the worker was deleted".to_owned()) };
        if self.live.last().is_some_and(|live| live.deployment == active.id) {
            return None;
        }
        let by = &active.provenance.author;
        let message = active.message.as_deref().map(|message| format!(": {message}")).unwrap_or_default();
        Some(format!("{by} made the deployment {} meanwhile{message}", active.id))
    }
}

/// The guards that are broken, in words.
fn broken(judged: &[Judged]) -> Option<String> {
    let broken = judged.iter().filter(|judged| judged.finding == Finding::Broken);
    let broken: Vec<String> = broken.map(|judged| format!("{} is broken: {judged}", judged.guard)).collect();
    (!broken.is_empty()).then(|| broken.join("; "))
}

fn measured(judged: &[Judged]) -> String {
    judged.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
