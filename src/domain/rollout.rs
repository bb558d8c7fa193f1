//! A rollout: a new version gets more and more of the traffic, step by step, while its guards hold.
//!
//! It is a record that makes ordinary deployments. The record says what was asked for, how far it has come and why; the rules here
//! say what is to be done next, from the time, the active deployment and the evidence on the guards. They do nothing themselves.
//!
//! ```text
//!            every guard holds, and the step has stood long enough: the next step; at 100 % done
//! running ── a guard is broken: failed, everything to the old version
//!   │ ▲      someone else deployed: superseded, nothing is touched
//! paused     abort: aborted, everything to the old version
//! ```
//!
//! A person may take the next step by hand, paused or not: before its time and before the guards have enough data, but not past
//! a guard that is broken. A step of 100 % ends it: there is nothing to compare with any more. Nothing happens by itself while it is paused, and what was
//! measured before is forgotten when it goes on: the step begins anew. The same after a restart of the node.

use std::time::Duration;

use crate::domain::deployment::Deployment;
use crate::domain::evidence::{Finding, Judged};
use crate::domain::guard::Guard;
use crate::domain::id::{DeploymentId, VersionId};
use crate::domain::limits::{
    ROLLOUT_EVENTS_MAX, ROLLOUT_EVERY_MAX, ROLLOUT_EVERY_MIN, ROLLOUT_GUARDS_MAX, ROLLOUT_STEPS_MAX, SLOTS,
};
use crate::domain::split::{Share, Split};
use crate::domain::version::Provenance;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    steps: Vec<Share>,
    every: Duration,
    guards: Vec<Guard>,
}

/// Why it cannot be asked for.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    #[error("a rollout has 2 to {ROLLOUT_STEPS_MAX} steps, got {0}")]
    StepCount(usize),
    #[error("a step is a percentage above 0 and at most 100, in thousandths at the finest, got {0}")]
    Step(f64),
    #[error("the steps of a rollout rise, and {then} comes after {before}")]
    Falling { before: f64, then: f64 },
    #[error("the last step of a rollout is 100, got {0}: pause it where it is to stay")]
    Unfinished(f64),
    #[error("a step stands for {min} s to {max} s, got {got} s", min = ROLLOUT_EVERY_MIN.as_secs(), max = ROLLOUT_EVERY_MAX.as_secs(), got = .0.as_secs_f64())]
    Every(Duration),
    #[error("a rollout has 1 to {ROLLOUT_GUARDS_MAX} guards, got {0}")]
    GuardCount(usize),
    #[error("the guard `{0}` is named twice")]
    Twice(Guard),
}

/// Where a rollout is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Running,
    Paused,
    /// The new version has everything.
    Done,
    /// A guard was broken, and the old version has everything.
    Failed,
    /// Someone ended it, and the old version has everything.
    Aborted,
    /// Someone else deployed, or deleted what it was about: it left everything as it found it.
    Superseded,
}

/// A rollout, with its past.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollout {
    pub plan: Plan,
    pub old: VersionId,
    pub new: VersionId,
    /// Who started it: also the author of its deployments.
    pub provenance: Provenance,
    pub state: State,
    /// The steps that went live, in order; one at least.
    pub live: Vec<Live>,
    /// When the step's time began, in Unix milliseconds: when it went live, or when the rollout was resumed.
    pub since_ms: u64,
    /// The number of the window in which evidence is counted, from 1 on.
    pub windows: u32,
    /// What happened, oldest first.
    pub events: Vec<Event>,
}

/// A step that went live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Live {
    pub share: Share,
    pub at_ms: u64,
    pub deployment: DeploymentId,
}

/// Something that happened to a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub at_ms: u64,
    /// One line for people.
    pub what: String,
    /// The deployment that it made, if it made one.
    pub deployment: Option<DeploymentId>,
}

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

impl Plan {
    /// The steps in percent, unless someone says otherwise.
    pub const STEPS: [f64; 5] = [1.0, 5.0, 25.0, 50.0, 100.0];
    /// How long each stands, unless someone says otherwise.
    pub const EVERY: Duration = Duration::from_secs(5 * 60);

    /// A plan that can be followed.
    ///
    /// # Errors
    /// The first rule that it breaks; see [`Error`].
    pub fn new(percentages: &[f64], every: Duration, guards: Vec<Guard>) -> Result<Self, Error> {
        if !(2..=ROLLOUT_STEPS_MAX).contains(&percentages.len()) {
            return Err(Error::StepCount(percentages.len()));
        }
        let steps: Vec<Share> =
            percentages.iter().map(|percent| step(*percent).ok_or(Error::Step(*percent))).collect::<Result<_, _>>()?;
        if let Some(at) = steps.windows(2).position(|pair| pair[1] <= pair[0]) {
            return Err(Error::Falling { before: percentages[at], then: percentages[at + 1] });
        }
        if let Some(last) = steps.last().filter(|last| **last != Share::ALL) {
            return Err(Error::Unfinished(last.percent()));
        }
        if !(ROLLOUT_EVERY_MIN..=ROLLOUT_EVERY_MAX).contains(&every) {
            return Err(Error::Every(every));
        }
        if !(1..=ROLLOUT_GUARDS_MAX).contains(&guards.len()) {
            return Err(Error::GuardCount(guards.len()));
        }
        if let Some((_, twice)) = guards.iter().enumerate().find(|(at, guard)| guards[..*at].contains(guard)) {
            return Err(Error::Twice(*twice));
        }
        Ok(Self { steps, every, guards })
    }

    /// Rising, and the last is everything.
    #[must_use]
    pub fn steps(&self) -> &[Share] {
        &self.steps
    }

    /// How long each step stands at the least.
    #[must_use]
    pub fn every(&self) -> Duration {
        self.every
    }

    #[must_use]
    pub fn guards(&self) -> &[Guard] {
        &self.guards
    }
}

fn step(percent: f64) -> Option<Share> {
    if !(percent > 0.0 && percent <= 100.0) {
        return None;
    }
    let exact = percent * f64::from(SLOTS / 100);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "above 0 and at most 100,000")]
    let slots = exact.round() as u32;
    (slots > 0 && (exact - f64::from(slots)).abs() < 1e-6).then(|| Share::from_slots(slots))
}

impl State {
    pub const ALL: [Self; 6] = [Self::Running, Self::Paused, Self::Done, Self::Failed, Self::Aborted, Self::Superseded];

    /// The word on the wire and in records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Aborted => "aborted",
            Self::Superseded => "superseded",
        }
    }

    /// Whether nothing will happen any more.
    #[must_use]
    pub fn is_over(self) -> bool {
        !matches!(self, Self::Running | Self::Paused)
    }
}

// === what is next ===

impl Rollout {
    /// The message of the first step's deployment.
    #[must_use]
    pub fn opening(plan: &Plan) -> String {
        let guards: Vec<String> = plan.guards.iter().map(ToString::to_string).collect();
        let first = plan.steps.first().map_or(0.0, |share| share.percent());
        let every = plan.every.as_secs_f64();
        format!("rollout 0 % -> {first} %: started, at least {every} s for each step while {}", guards.join(", "))
    }

    /// A rollout whose first step has gone live.
    #[must_use]
    pub fn begun(plan: Plan, old: VersionId, new: VersionId, by: &Deployment) -> Self {
        let share = plan.steps.first().copied().unwrap_or(Share::ALL);
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
        self.plan.steps.get(self.live.len()).copied()
    }

    /// When the next step may come, in Unix milliseconds.
    #[must_use]
    pub fn due_ms(&self) -> u64 {
        self.since_ms.saturating_add(ms(self.plan.every))
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
        judged.len() == self.plan.guards.len() && judged.iter().all(|judged| judged.finding == Finding::Holds)
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

// === what happened ===

impl Rollout {
    /// A step went live.
    pub fn stepped(&mut self, share: Share, by: &Deployment) {
        self.live.push(Live { share, at_ms: by.created_ms, deployment: by.id });
        self.begin(by.created_ms);
        if share == Share::ALL {
            self.state = State::Done;
        }
        self.deployed(by);
    }

    /// The old version has everything again; `state` says why.
    pub fn rolled_back(&mut self, state: State, by: &Deployment) {
        self.state = state;
        self.deployed(by);
    }

    /// It ended without a deployment.
    pub fn superseded(&mut self, now_ms: u64, why: String) {
        self.state = State::Superseded;
        self.happened(now_ms, why, None);
    }

    pub fn paused(&mut self, now_ms: u64, author: &str) {
        self.state = State::Paused;
        self.happened(now_ms, format!("paused by {author}"), None);
    }

    /// Its step begins anew.
    pub fn resumed(&mut self, now_ms: u64, author: &str) {
        self.state = State::Running;
        self.begin(now_ms);
        self.happened(
            now_ms,
            format!("resumed by {author}: the step at {} % begins anew", self.share().percent()),
            None,
        );
    }

    /// Its node was started again, and the counters with it.
    pub fn restarted(&mut self, now_ms: u64) {
        self.begin(now_ms);
        self.happened(now_ms, "the node was started again: what was measured before is not counted".to_owned(), None);
    }

    /// The step's time begins, and its evidence.
    fn begin(&mut self, now_ms: u64) {
        self.since_ms = now_ms;
        self.new_window();
    }

    /// Evidence is counted anew.
    pub fn new_window(&mut self) {
        self.windows = self.windows.saturating_add(1);
    }

    fn deployed(&mut self, by: &Deployment) {
        self.happened(by.created_ms, by.message.clone().unwrap_or_default(), Some(by.id));
    }

    fn happened(&mut self, at_ms: u64, what: String, deployment: Option<DeploymentId>) {
        if self.events.len() >= ROLLOUT_EVENTS_MAX {
            self.events.remove(0);
        }
        self.events.push(Event { at_ms, what, deployment });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::allotment::Allotment;
    use crate::domain::deployment::CodeUpdate;
    use crate::domain::evidence::{Lack, Pair, Window};
    use crate::domain::version::{Source, Trigger};

    const OLD: u8 = 1;
    const NEW: u8 = 2;

    fn id(n: u8) -> VersionId {
        VersionId::from_random([n; 16])
    }

    fn plan(steps: &[f64]) -> Result<Plan, String> {
        Plan::new(steps, Duration::from_secs(10), Guard::defaults()).map_err(|error| error.to_string())
    }

    fn deployment(n: u8, at_ms: u64, percent: f64) -> Deployment {
        let entries: Vec<_> = [(id(OLD), 100.0 - percent), (id(NEW), percent)].into();
        let split = Split::from_percentages(&entries).unwrap();
        Deployment {
            id: DeploymentId::from_random([n; 16]),
            created_ms: at_ms,
            provenance: Provenance { author: "ada".into(), source: Source::Api },
            triggered_by: Trigger::Deployment,
            message: Some(format!("message {n}")),
            allotment: Allotment::derive(None, &split),
            split,
            code_update: CodeUpdate::Immediate,
        }
    }

    fn begun() -> (Rollout, Deployment) {
        let first = deployment(1, 1_000, 25.0);
        (Rollout::begun(plan(&[25.0, 50.0, 100.0]).unwrap(), id(OLD), id(NEW), &first), first)
    }

    fn judged(findings: [Finding; 2]) -> Vec<Judged> {
        let judged = Window::open(&Guard::defaults(), 1, Pair::default()).judge();
        judged.into_iter().zip(findings).map(|(judged, finding)| Judged { finding, ..judged }).collect()
    }

    const HOLD: [Finding; 2] = [Finding::Holds; 2];

    #[test]
    fn a_plan_rises_to_everything_and_has_guards() {
        assert_eq!(plan(&Plan::STEPS).unwrap().steps().len(), 5);
        assert_eq!(plan(&[0.001, 100.0]).unwrap().steps()[0].slots(), 1);
        for (steps, expected) in [
            (&[][..], "2 to 20 steps, got 0"),
            (&[100.0], "2 to 20 steps, got 1"),
            (&[5.0, 5.0, 100.0], "the steps of a rollout rise, and 5 comes after 5"),
            (&[50.0, 25.0, 100.0], "and 25 comes after 50"),
            (&[5.0, 50.0], "the last step of a rollout is 100, got 50"),
            (&[0.0, 100.0], "a percentage above 0 and at most 100, in thousandths at the finest, got 0"),
            (&[1.0, 101.0], "got 101"),
            (&[f64::NAN, 100.0], "got NaN"),
            (&[0.0004, 100.0], "got 0.0004"),
        ] {
            let error = plan(steps).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        let error =
            |every, guards| Plan::new(&[5.0, 100.0], Duration::from_millis(every), guards).unwrap_err().to_string();
        assert_eq!(error(900, Guard::defaults()), "a step stands for 1 s to 604800 s, got 0.9 s");
        assert_eq!(error(1_000, vec![]), "a rollout has 1 to 10 guards, got 0");
        let twice = vec!["p99<1.2x".parse().unwrap(); 2];
        assert_eq!(error(1_000, twice), "the guard `p99<1.2x` is named twice");
    }

    #[test]
    fn a_step_comes_when_its_time_has_passed_and_every_guard_holds() {
        let (mut rollout, first) = begun();
        let wait = Finding::NotEnoughData(Lack::New(5));
        let next = |rollout: &Rollout, now, findings| rollout.next(now, Some(&first), &judged(findings));
        assert_eq!(next(&rollout, 10_999, HOLD), Next::Stay(Stay::Until(11_000)));
        assert_eq!(next(&rollout, 11_000, [Finding::Holds, wait]), Next::Stay(Stay::ForData));
        let Next::Step { share, message } = next(&rollout, 11_000, HOLD) else { panic!() };
        assert_eq!(share.percent(), 50.0);
        assert!(message.starts_with("rollout 25 % -> 50 %: error_rate"), "{message}");
        // No evidence is no evidence for it.
        assert_eq!(rollout.next(99_000, Some(&first), &[]), Next::Stay(Stay::ForData));

        let second = deployment(2, 12_000, 50.0);
        rollout.stepped(share, &second);
        assert_eq!(rollout.next(12_500, Some(&second), &judged(HOLD)), Next::Stay(Stay::Until(22_000)));
        let Next::Step { share, .. } = rollout.next(22_000, Some(&second), &judged(HOLD)) else { panic!() };
        let third = deployment(3, 22_000, 100.0);
        rollout.stepped(share, &third);
        assert_eq!((rollout.state, rollout.live.len(), rollout.events.len()), (State::Done, 3, 3));
        assert_eq!(rollout.next(99_000, Some(&third), &judged(HOLD)), Next::Stay(Stay::Ended));
    }

    #[test]
    fn a_broken_guard_rolls_back_before_its_time_and_says_what_was_measured() {
        let (mut rollout, first) = begun();
        let Next::RollBack { message } = rollout.next(1_001, Some(&first), &judged([Finding::Holds, Finding::Broken]))
        else {
            panic!()
        };
        assert_eq!(message, "rollout 25 % -> 0 %: p99<1.2x is broken: p99 of no request");
        rollout.rolled_back(State::Failed, &deployment(2, 2_000, 0.0));
        assert_eq!(rollout.next(2_000, None, &[]), Next::Stay(Stay::Ended));
    }

    #[test]
    fn who_deploys_meanwhile_is_not_overwritten_even_where_a_guard_is_broken() {
        let (mut rollout, _) = begun();
        let theirs = deployment(9, 2_000, 10.0);
        let broken = judged([Finding::Broken; 2]);
        for paused in [false, true] {
            if paused {
                rollout.paused(1_500, "bob");
            }
            let Next::Supersede { why } = rollout.next(2_000, Some(&theirs), &broken) else { panic!() };
            assert!(why.starts_with("ada made the deployment") && why.ends_with("meanwhile: message 9"), "{why}");
        }
        assert_eq!(rollout.next(2_000, None, &broken), Next::Supersede { why: "the worker was deleted".into() });
    }

    #[test]
    fn nothing_happens_while_it_is_paused_and_the_step_begins_anew_afterwards() {
        let (mut rollout, first) = begun();
        rollout.paused(5_000, "bob");
        for findings in [HOLD, [Finding::Broken; 2]] {
            assert_eq!(rollout.next(99_000, Some(&first), &judged(findings)), Next::Stay(Stay::Paused));
        }
        rollout.resumed(100_000, "bob");
        assert_eq!(rollout.next(100_001, Some(&first), &judged(HOLD)), Next::Stay(Stay::Until(110_000)));
    }

    #[test]
    fn a_step_by_hand_waits_for_nothing_and_does_not_pass_a_broken_guard() {
        let (mut rollout, _) = begun();
        let wait = Finding::NotEnoughData(Lack::New(5));
        let next = |rollout: &Rollout, findings| rollout.next_by_hand("bob", &judged(findings));
        let (share, message) = next(&rollout, [Finding::Holds, wait]).unwrap().unwrap();
        assert_eq!(share.percent(), 50.0);
        let told = "rollout 25 % -> 50 %: stepped forward by bob, before every guard held: error_rate of no request";
        assert!(message.starts_with(told), "{message}");
        let (_, message) = next(&rollout, HOLD).unwrap().unwrap();
        assert!(message.starts_with("rollout 25 % -> 50 %: stepped forward by bob: error_rate"), "{message}");
        let refused = next(&rollout, [Finding::Holds, Finding::Broken]).unwrap_err();
        assert_eq!(refused, "p99<1.2x is broken: p99 of no request");
        // One that is paused takes the step and stays paused, and its step's time begins anew.
        rollout.paused(1_500, "bob");
        rollout.stepped(share, &deployment(2, 2_000, 50.0));
        assert_eq!((rollout.state, rollout.since_ms, rollout.share().percent()), (State::Paused, 2_000, 50.0));
        rollout.stepped(Share::ALL, &deployment(3, 3_000, 100.0));
        assert_eq!((rollout.state, next(&rollout, HOLD)), (State::Done, Ok(None)));
        rollout.rolled_back(State::Failed, &deployment(4, 4_000, 0.0));
        assert_eq!(next(&rollout, HOLD), Ok(None));
    }

    #[test]
    fn other_versions_of_the_deployment_stay_in_it_without_traffic() {
        let active = Split::from_percentages(&[(id(OLD), 100.0), (id(3), 0.0), (id(NEW), 0.0)]).unwrap();
        let entries = |percent| Rollout::entries(id(OLD), id(NEW), &active, step(percent).unwrap());
        assert_eq!(entries(12.5), [(id(OLD), 87.5), (id(NEW), 12.5), (id(3), 0.0)]);
        assert_eq!(entries(100.0), [(id(NEW), 100.0), (id(3), 0.0)]);
        let back = Rollout::entries(id(OLD), id(NEW), &active, Share::from_slots(0));
        assert_eq!(back, [(id(OLD), 100.0), (id(3), 0.0)]);
    }

    #[test]
    fn evidence_is_counted_anew_only_where_as_much_time_is_left() {
        let first = deployment(1, 0, 25.0);
        let hour = Plan::new(&[25.0, 100.0], Duration::from_secs(3600), Guard::defaults()).unwrap();
        let rollout = Rollout::begun(hour, id(OLD), id(NEW), &first);
        let wants = |minutes: u64, opened: u64, findings| {
            rollout.wants_new_window(minutes * 60_000, opened * 60_000, &judged(findings))
        };
        assert!(!wants(4, 0, HOLD));
        assert!(wants(5, 0, HOLD));
        assert!(!wants(5, 0, [Finding::Holds, Finding::NotEnoughData(Lack::Clarity)]));
        assert!(wants(30, 0, HOLD));
        assert!(!wants(31, 0, HOLD));
        assert!(wants(55, 50, HOLD));
        assert!(!wants(56, 50, HOLD));
    }

    #[test]
    fn the_past_is_bounded() {
        let (mut rollout, _) = begun();
        for n in 0..300 {
            rollout.restarted(n);
        }
        assert_eq!(rollout.events.len(), ROLLOUT_EVENTS_MAX);
    }
}
