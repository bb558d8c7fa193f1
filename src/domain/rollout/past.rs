//! What happened.

use super::{Rollout, State};
use crate::domain::deployment::Deployment;
use crate::domain::id::DeploymentId;
use crate::domain::limits::ROLLOUT_EVENTS_MAX;
use crate::domain::split::Share;

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
