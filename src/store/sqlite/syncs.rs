//! What it costs to make commits durable, for whoever watches the disk.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::domain::distribution::Distribution;

/// Counts since the store was opened.
#[derive(Debug, Clone, Default)]
pub struct Syncs {
    /// Commits that have written something. Those that come together share a sync.
    pub commits: u64,
    /// How long the disk took for each group of them.
    pub took: Distribution,
    /// All of that together.
    pub total: Duration,
}

/// The same while they grow. Locked once for each sync, which takes a thousand times as long.
#[derive(Debug, Default)]
pub(super) struct Counting(Mutex<Syncs>);

impl Counting {
    pub(super) fn add(&self, commits: u64, took: Duration) {
        let mut syncs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        syncs.commits += commits;
        syncs.took.add(took);
        syncs.total += took;
    }

    pub(super) fn so_far(&self) -> Syncs {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
