//! The engine in memory: what the promises mean, in as few lines as they can be said. Other engines are compared with
//! it, and tests above this room use it. It forgets everything with the process.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::sync::watch;

use super::{BoxFuture, Check, CommitError, Entry, Error, Key, Order, Range, Revision, Snapshot, Store, Write, commit};

/// A store for as long as the process lives.
#[derive(Debug)]
pub struct MemoryStore {
    now: Mutex<Moment>,
    revisions: watch::Sender<Revision>,
}

/// All there is, at one revision. A copy is cheap: the entries are shared until one side changes.
#[derive(Debug, Clone)]
struct Moment {
    revision: Revision,
    entries: Arc<BTreeMap<Key, (Bytes, Revision)>>,
}

impl MemoryStore {
    pub fn new() -> Self {
        let now = Moment { revision: Revision::ZERO, entries: Arc::default() };
        Self { now: Mutex::new(now), revisions: watch::Sender::new(Revision::ZERO) }
    }

    /// A panic elsewhere while the lock was held cannot have left half a commit: [`Moment::apply`] does not panic.
    fn now(&self) -> MutexGuard<'_, Moment> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn commit_now(&self, checks: &[Check], writes: Vec<Write>) -> Result<Revision, CommitError> {
        commit::admit(checks, &writes).map_err(|source| CommitError::Refused { source })?;
        let mut now = self.now();
        if let Some(failed) = checks.iter().find(|check| !check.expected.holds(now.revision_of(&check.key))) {
            return Err(CommitError::Conflict { key: failed.key.clone() });
        }
        if !writes.is_empty() {
            now.apply(writes);
            // Under the lock, so that watchers see revisions in order (P7).
            self.revisions.send_replace(now.revision);
        }
        Ok(now.revision)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl Store for MemoryStore {
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Entry>, Error>> {
        Box::pin(async { Ok(self.now().entry(key)) })
    }

    fn scan(&self, range: Range, order: Order, limit: usize) -> BoxFuture<'_, Result<Vec<Entry>, Error>> {
        Box::pin(async move { Ok(self.now().entries_in(range, order, limit)) })
    }

    fn snapshot(&self) -> BoxFuture<'_, Result<Box<dyn Snapshot>, Error>> {
        Box::pin(async { Ok(Box::new(self.now().clone()) as Box<dyn Snapshot>) })
    }

    fn commit(&self, checks: Vec<Check>, writes: Vec<Write>) -> BoxFuture<'_, Result<Revision, CommitError>> {
        Box::pin(async move { self.commit_now(&checks, writes) })
    }

    fn watch(&self) -> watch::Receiver<Revision> {
        self.revisions.subscribe()
    }
}

impl Snapshot for Moment {
    fn revision(&self) -> Revision {
        self.revision
    }

    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Entry>, Error>> {
        Box::pin(async { Ok(self.entry(key)) })
    }

    fn scan(&self, range: Range, order: Order, limit: usize) -> BoxFuture<'_, Result<Vec<Entry>, Error>> {
        Box::pin(async move { Ok(self.entries_in(range, order, limit)) })
    }
}

impl Moment {
    fn revision_of(&self, key: &Key) -> Option<Revision> {
        self.entries.get(key).map(|(_, revision)| *revision)
    }

    fn entry(&self, key: &Key) -> Option<Entry> {
        let (value, revision) = self.entries.get(key)?;
        Some(Entry { key: key.clone(), value: value.clone(), revision: *revision })
    }

    fn entries_in(&self, range: Range, order: Order, limit: usize) -> Vec<Entry> {
        if range.is_empty() {
            return Vec::new();
        }
        let found = self.entries.range(range.start..range.end).map(|(key, (value, revision))| Entry {
            key: key.clone(),
            value: value.clone(),
            revision: *revision,
        });
        match order {
            Order::Ascending => found.take(limit).collect(),
            Order::Descending => found.rev().take(limit).collect(),
        }
    }

    fn apply(&mut self, writes: Vec<Write>) {
        self.revision = self.revision.next();
        let entries = Arc::make_mut(&mut self.entries);
        for write in writes {
            match write {
                Write::Put { key, value } => {
                    entries.insert(key, (value, self.revision));
                }
                Write::Delete { key } => {
                    entries.remove(&key);
                }
                Write::DeleteRange { start, end } => {
                    let range = Range::new(start, end);
                    entries.retain(|key, _| !range.contains(key));
                }
            }
        }
    }
}
