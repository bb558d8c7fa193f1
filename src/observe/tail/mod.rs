//! Tails: people who watch a worker's requests as they end.
//!
//! A tail is made by a call of the control API and read over a connection that names its id: the id is a capability, so it
//! cannot be guessed, takes one reader, and ends by itself. A tail that nobody reads costs a request nothing but the reading
//! of a counter; one that is read costs what it takes to make its events, which the requests pay and the reader's speed does
//! not change: what does not fit the reader's queue is counted and left out ([`queue`]).
//!
//! Whether a request is listened to is decided when it begins, since its headers must be kept until it ends
//! ([`Heard`](crate::observe::record::Heard)).

pub mod event;
pub mod filter;
pub mod queue;
pub(super) mod redact;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::clock::Clock;
use crate::domain::id::WorkerName;
use crate::observe::record::Record;
use crate::observe::tail::filter::Filter;
use crate::observe::tail::queue::{Next, Queue};

/// Tails of the node, read or not: each is some memory, and work for each request that it is told of.
pub const TAILS_MAX: usize = 64;
/// How long a tail lives, read or not: as long as a terminal that was forgotten may stay open.
pub const TAIL_LIFE: Duration = Duration::from_secs(6 * 60 * 60);
/// How long one waits for a reader.
pub const TAIL_UNUSED_MAX: Duration = Duration::from_secs(60);

/// The name and the capability of a tail: 128 random bits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TailId(String);

/// All tails of the node.
pub struct Tails {
    clock: Arc<dyn Clock>,
    /// Tails that are read: what a request looks at first.
    read: AtomicUsize,
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    all: HashMap<TailId, Entry>,
    /// Those that are read, by worker.
    read: HashMap<WorkerName, Vec<Arc<Session>>>,
}

struct Entry {
    session: Arc<Session>,
    /// Since when nobody reads it; none while somebody does.
    idle_since: Option<Instant>,
}

struct Session {
    id: TailId,
    worker: WorkerName,
    filters: Vec<Filter>,
    ends_at: Instant,
    ends_ms: u64,
    queue: Mutex<Queue>,
    wake: Notify,
    end: OnceLock<End>,
}

/// A tail as its maker sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tail {
    pub id: TailId,
    /// Unix time of its end in milliseconds.
    pub ends_ms: u64,
}

/// Why a tail is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Its maker deleted it.
    Deleted,
    /// It has lived long enough.
    Expired,
    /// The node stops.
    Stopped,
}

/// There are [`TAILS_MAX`] tails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this node has {TAILS_MAX} tails, and takes no more")]
pub struct Full;

/// Why a tail cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    #[error("there is no such tail; it may have expired")]
    Unknown,
    #[error("this tail has a reader")]
    Taken,
}

/// The one reader of a tail. When it is dropped, another may come, for a while.
pub struct Reader {
    tails: Arc<Tails>,
    session: Arc<Session>,
}

impl TailId {
    /// An id of random bytes.
    #[must_use]
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(hex::encode(bytes))
    }

    /// An id as somebody wrote it. What is none names no tail.
    #[must_use]
    pub fn named(text: &str) -> Self {
        Self(text.to_owned())
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Tails {
    /// No tails yet.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { clock, read: AtomicUsize::new(0), state: RwLock::default() })
    }

    // --- For requests ---

    /// Whether somebody watches this worker now. Costs a load where nobody watches any.
    #[inline]
    #[must_use]
    pub fn listen_to(&self, worker: &WorkerName) -> bool {
        self.read.load(Ordering::Relaxed) > 0 && self.look(|state| state.read.contains_key(worker))
    }

    /// Tells whoever watches that a request has ended. It was listened to when it began, so the record has what was heard.
    pub fn tell(&self, worker: &WorkerName, record: &Record<'_>) {
        let Some(heard) = record.heard else { return };
        self.look(|state| {
            let mut made: Option<Bytes> = None;
            for session in state.read.get(worker).into_iter().flatten() {
                if !session.filters.iter().all(|filter| filter.admits(record, fastrand::f64)) {
                    continue;
                }
                if session.with_queue(|queue| queue.is_full().then(|| queue.drop_one())).is_some() {
                    continue;
                }
                let event = made.get_or_insert_with(|| Bytes::from(event::of_request(record, heard)));
                session.with_queue(|queue| queue.push(event.clone()));
                session.wake.notify_one();
            }
        });
    }

    // --- For those who watch ---

    /// Makes a tail of `worker`, to be read within [`TAIL_UNUSED_MAX`].
    ///
    /// # Errors
    /// If there are too many.
    pub fn create(&self, id: TailId, worker: WorkerName, filters: Vec<Filter>) -> Result<Tail, Full> {
        let now = self.clock.instant();
        let life_ms = u64::try_from(TAIL_LIFE.as_millis()).unwrap_or(u64::MAX);
        let session = Session {
            id: id.clone(),
            worker,
            filters,
            ends_at: now + TAIL_LIFE,
            ends_ms: self.clock.now_ms().saturating_add(life_ms),
            queue: Mutex::default(),
            wake: Notify::new(),
            end: OnceLock::new(),
        };
        let tail = session.tail();
        self.change(|state| {
            state.sweep(now);
            if state.all.len() >= TAILS_MAX {
                return Err(Full);
            }
            state.all.insert(id, Entry { session: Arc::new(session), idle_since: Some(now) });
            Ok(tail)
        })
    }

    /// The tails of `worker`.
    #[must_use]
    pub fn of(&self, worker: &WorkerName) -> Vec<Tail> {
        let now = self.clock.instant();
        self.change(|state| {
            state.sweep(now);
            let mut tails: Vec<Tail> = state
                .all
                .values()
                .filter(|entry| entry.session.worker == *worker)
                .map(|entry| entry.session.tail())
                .collect();
            tails.sort_unstable_by(|a, b| a.id.0.cmp(&b.id.0));
            tails
        })
    }

    /// Ends a tail of `worker`. False if there is none of that id.
    pub fn delete(&self, worker: &WorkerName, id: &TailId) -> bool {
        let now = self.clock.instant();
        self.change(|state| {
            state.sweep(now);
            if state.all.get(id).is_none_or(|entry| entry.session.worker != *worker) {
                return false;
            }
            state.all.remove(id).inspect(|entry| entry.session.end(End::Deleted)).is_some()
        })
    }

    /// Begins to read a tail: requests that begin from now on are heard.
    ///
    /// # Errors
    /// If there is none, or somebody reads it.
    pub fn open(self: &Arc<Self>, id: &TailId) -> Result<Reader, OpenError> {
        let now = self.clock.instant();
        self.change(|state| {
            state.sweep(now);
            let entry = state.all.get_mut(id).ok_or(OpenError::Unknown)?;
            entry.idle_since.take().ok_or(OpenError::Taken)?;
            let session = Arc::clone(&entry.session);
            state.read.entry(session.worker.clone()).or_default().push(Arc::clone(&session));
            self.read.fetch_add(1, Ordering::Relaxed);
            Ok(Reader { tails: Arc::clone(self), session })
        })
    }

    /// Ends all tails: the node stops.
    pub fn end_all(&self) {
        self.change(|state| state.all.drain().for_each(|(_, entry)| entry.session.end(End::Stopped)));
    }

    fn look<T>(&self, act: impl FnOnce(&State) -> T) -> T {
        act(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.write().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    /// Forgets what nobody reads any more, and ends what is too old.
    fn sweep(&mut self, now: Instant) {
        self.all.retain(|_, entry| {
            if now >= entry.session.ends_at {
                entry.session.end(End::Expired);
                return false;
            }
            entry.idle_since.is_none_or(|since| now.duration_since(since) < TAIL_UNUSED_MAX)
        });
    }
}

impl Session {
    fn tail(&self) -> Tail {
        Tail { id: self.id.clone(), ends_ms: self.ends_ms }
    }

    fn end(&self, end: End) {
        let _ = self.end.set(end);
        self.wake.notify_one();
    }

    fn with_queue<T>(&self, act: impl FnOnce(&mut Queue) -> T) -> T {
        act(&mut self.queue.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

// === impl Reader ===

impl Reader {
    /// The next event as JSON, once there is one; or why there is none any more. Only who deleted the tail wants nothing of
    /// what came before its end.
    ///
    /// # Errors
    /// The end of the tail.
    pub async fn next(&self) -> Result<Bytes, End> {
        loop {
            let end = self.session.end.get().copied();
            if end != Some(End::Deleted)
                && let Some(next) = self.session.with_queue(Queue::pop)
            {
                return Ok(self.show(next));
            }
            if let Some(end) = end {
                return Err(end);
            }
            // What happened since we looked has left its permit, so nothing is missed.
            self.session.wake.notified().await;
        }
    }

    /// Resolves when the tail is deleted: for a reader that cannot take events now.
    pub async fn deleted(&self) -> End {
        while self.session.end.get() != Some(&End::Deleted) {
            self.session.wake.notified().await;
        }
        End::Deleted
    }

    /// When the tail ends by itself.
    #[must_use]
    pub fn ends_at(&self) -> Instant {
        self.session.ends_at
    }

    fn show(&self, next: Next) -> Bytes {
        let (worker, now_ms) = (self.session.worker.as_str(), self.tails.clock.now_ms());
        let notice =
            |kind, message: &str, dropped| Bytes::from(event::of_tail_itself(worker, now_ms, kind, message, dropped));
        match next {
            Next::Event(event) => event,
            Next::Dropped(count) => {
                let message = format!(
                    "Tail is overloaded: {count} events were left out here. Read faster, or filter (a sampling rate, a status)."
                );
                notice("overload", &message, count)
            }
            Next::Recovered => notice("overload-stop", "Tail has caught up: no events are left out any more.", 0),
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let now = self.tails.clock.instant();
        self.tails.change(|state| {
            if let Some(readers) = state.read.get_mut(&self.session.worker) {
                readers.retain(|other| !Arc::ptr_eq(other, &self.session));
                if readers.is_empty() {
                    state.read.remove(&self.session.worker);
                }
            }
            if let Some(entry) = state.all.get_mut(&self.session.id) {
                entry.idle_since = Some(now);
            }
            self.tails.read.fetch_sub(1, Ordering::Relaxed);
        });
        // What it left unread is no news for the next one.
        self.session.with_queue(|queue| *queue = Queue::default());
    }
}
