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

mod next;
mod past;
mod plan;
#[cfg(test)]
mod tests;

use crate::domain::id::VersionId;
use crate::domain::version::Provenance;

pub use next::{Next, Stay, WINDOW_MIN};
pub use past::{Event, Live};
pub use plan::{Error, Plan};

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
