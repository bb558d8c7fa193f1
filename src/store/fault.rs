//! A store that fails as told, for the tests of this room and of those above: a commit that is refused, one whose
//! acknowledgement is lost, one that takes its time. Reads are never harmed.

use std::{
    fmt,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{sync::watch, task};

use super::{BoxFuture, Check, CommitError, Entry, Error, Key, Order, Range, Revision, Snapshot, Store, Write};

/// What happens to one commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It never reaches the store, and the caller is told that nothing changed.
    Refuse,
    /// The store makes it durable, and the caller is told that the outcome is unknown.
    LoseAnswer,
    /// It reaches the store after that many turns of the scheduler, so that others overtake it.
    Delay { turns: u32 },
}

/// Another store, with faults.
pub(crate) struct FaultStore {
    inner: Arc<dyn Store>,
    plan: Plan,
    commits: AtomicU64,
}

/// Which fault meets the n-th commit, counted from 1.
type Plan = Box<dyn Fn(u64) -> Option<Fault> + Send + Sync>;

impl FaultStore {
    pub(crate) fn new(inner: Arc<dyn Store>, plan: impl Fn(u64) -> Option<Fault> + Send + Sync + 'static) -> Self {
        Self { inner, plan: Box::new(plan), commits: AtomicU64::new(0) }
    }

    /// One fault, at the n-th commit.
    pub(crate) fn at(inner: Arc<dyn Store>, nth: u64, fault: Fault) -> Self {
        Self::new(inner, move |commit| (commit == nth).then_some(fault))
    }
}

impl fmt::Debug for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultStore").field("commits", &self.commits).finish_non_exhaustive()
    }
}

impl Store for FaultStore {
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Entry>, Error>> {
        self.inner.get(key)
    }

    fn scan(&self, range: Range, order: Order, limit: usize) -> BoxFuture<'_, Result<Vec<Entry>, Error>> {
        self.inner.scan(range, order, limit)
    }

    fn snapshot(&self) -> BoxFuture<'_, Result<Box<dyn Snapshot>, Error>> {
        self.inner.snapshot()
    }

    fn commit(&self, checks: Vec<Check>, writes: Vec<Write>) -> BoxFuture<'_, Result<Revision, CommitError>> {
        Box::pin(async move {
            let nth = self.commits.fetch_add(1, Ordering::Relaxed) + 1;
            match (self.plan)(nth) {
                None => self.inner.commit(checks, writes).await,
                Some(Fault::Refuse) => Err(CommitError::Refused { source: injected() }),
                Some(Fault::LoseAnswer) => {
                    self.inner.commit(checks, writes).await?;
                    Err(CommitError::Unknown { source: injected() })
                }
                Some(Fault::Delay { turns }) => {
                    for _ in 0..turns {
                        task::yield_now().await;
                    }
                    self.inner.commit(checks, writes).await
                }
            }
        })
    }

    fn watch(&self) -> watch::Receiver<Revision> {
        self.inner.watch()
    }
}

fn injected() -> Error {
    Error::Io {
        attempt: "commit",
        path: PathBuf::from("injected"),
        source: Arc::new(std::io::Error::other("injected fault")),
    }
}
