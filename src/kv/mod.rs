//! Key-value namespaces: what a worker keeps outside itself, the same for all of its versions (`VER-2`).
//!
//! # The problem
//!
//! A value has up to 25 MiB, metadata and a time to end; a page of a list has a thousand keys; a namespace may hold millions
//! of both and be deleted in one call. The [`Store`] below takes values of 16 MiB, and makes everybody wait while it writes a
//! large commit. So a value cannot be one record, and no operation here may be one commit whatever its size. Yet whoever
//! reads must see a value whole, old or new, and a namespace that was deleted must be gone at once and stay gone, though a
//! writer was half-way.
//!
//! # What we do
//!
//! A key has one *entry*: its expiration, its metadata, and its value if that is small. A larger value is a row of *chunks*
//! under an id of its own, which is never used again: writing a key makes new chunks, and then one commit that turns the entry
//! to them. The chunks of a value that does not fit one commit are written ahead, noted as *garbage* with a distant date; the
//! commit of the entry removes the note. Chunks that an entry no longer names become garbage that is due soon, but not while
//! somebody here reads them: a reader needs no snapshot, and keeps one chunk in memory, not the value.
//!
//! Every write checks that the record of its namespace is what it was, and that the entry is (`S3`): so two writers of a key
//! come one after the other, an increment is never lost, and nothing is written into a namespace that is gone. Deleting a
//! namespace removes its record and leaves a *tombstone*; [`Kv::sweep`] removes what it held, a bounded commit at a time, and
//! the tombstone last, so that a crash between them loses nothing of the work that is left.
//!
//! What has expired is absent from that second on, whoever asks; the sweep only gives its room back.
//!
//! # Words of this room
//!
//! *Title*: what people call a namespace; it can change, the id cannot. *Life*: how long an entry has. *Garbage*, *tombstone*:
//! see above. Who may reach which namespace is not known here: [`host`](crate::host) and [`control`](crate::control) ask.

mod entry;
mod error;
mod list;
mod namespace;
mod read;
mod record;
mod sweep;
mod upload;
mod write;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::hash::BuildHasher as _;
use std::sync::{Arc, Mutex, PoisonError};

use crate::clock::Clock;
use crate::domain::id::NamespaceId;
use crate::store::Store;

pub use entry::{Attributes, EntryKey, Life};
pub use error::Error;
pub use list::{Listed, Page};
pub use namespace::{Namespace, exists};
pub use read::{Found, Value};
pub use sweep::Progress;
pub use upload::Upload;
pub use write::{Condition, Pair};

use record::ValueId;

/// Turns for writers of the same key. More only spare needless waiting of keys that share one.
const TURNS: usize = 256;

/// The namespaces of a node. Shared as `Arc<Kv>`.
pub struct Kv {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    sizes: Sizes,
    /// Writers of one key on this node take turns, which spares them needless retries; nothing rests on it.
    turns: Vec<tokio::sync::Mutex<()>>,
    turn_of: std::hash::RandomState,
    /// Values that are being read here, chunk by chunk, and how often.
    reading: Mutex<HashMap<ValueId, usize>>,
    /// Rung when there is something to sweep that should not wait.
    wake: Arc<tokio::sync::Notify>,
}

/// How a value is cut. Tests cut smaller.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    /// A value of this size is kept in its entry: a list of a thousand keys reads a thousand entries. Not above a chunk's.
    inline_bytes_max: usize,
    /// One chunk: what a reader keeps in memory.
    chunk_bytes: usize,
    /// What a writer keeps in memory and puts in one commit: others wait for that long.
    commit_bytes: usize,
}

impl Kv {
    /// The namespaces that live in `store`.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Arc<Self> {
        let sizes = Sizes { inline_bytes_max: 4 * 1024, chunk_bytes: 1024 * 1024, commit_bytes: 4 * 1024 * 1024 };
        Self::with_sizes(store, clock, sizes)
    }

    fn with_sizes(store: Arc<dyn Store>, clock: Arc<dyn Clock>, sizes: Sizes) -> Arc<Self> {
        Arc::new(Self {
            store,
            clock,
            sizes,
            turns: (0..TURNS).map(|_| tokio::sync::Mutex::new(())).collect(),
            turn_of: std::hash::RandomState::new(),
            reading: Mutex::default(),
            wake: Arc::default(),
        })
    }

    fn now_s(&self) -> u64 {
        self.clock.now_ms() / 1000
    }

    /// Waits until no other writer of `key` on this node is at it.
    async fn turn(&self, namespace: NamespaceId, key: &EntryKey) -> tokio::sync::MutexGuard<'_, ()> {
        let hash = usize::try_from(self.turn_of.hash_one((namespace, key)) % TURNS as u64).unwrap_or_default();
        self.turns[hash].lock().await
    }

    fn with_reading<T>(&self, act: impl FnOnce(&mut HashMap<ValueId, usize>) -> T) -> T {
        act(&mut self.reading.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// 16 bytes that nobody else has.
fn random() -> Result<[u8; 16], Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|source| Error::Random { source })?;
    Ok(bytes)
}
