//! The store: ordered keys, commits that hold or never happened, and views of one moment.
//!
//! # The problem
//!
//! A deployment names versions, an object's reply speaks of writes, a fence speaks of an epoch. Each of them is a
//! statement about *several* records, made by one of many tasks (one day: of many nodes), on a machine that may lose
//! its power between any two instructions. The obvious answers fail. A file per record cannot change two records at
//! once. A lock around "read, decide, write" protects only against neighbours in the same process, and is forgotten
//! by the crash that it was meant for. A clock that orders writes runs backwards. And a writer who hears "error"
//! without hearing *whether it happened* can neither retry nor give up.
//!
//! So this room offers one narrow port, [`Store`], with one way to write: [`Store::commit`] takes what the writer
//! believes ([`Check`]) and what it wants ([`Write`]). If all beliefs hold, all writes happen; else none. Whoever
//! decides on something read earlier names the [`Revision`] it read, and lets the store refuse if that has moved on.
//! There is nothing to hold, nothing to time out, and nothing to clean up after a crash.
//!
//! Two engines keep the same promises: [`MemoryStore`], which is the specification in executable form, and
//! [`SqliteStore`], one file for one node. An engine for many nodes will be a third, behind the same port.
//!
//! # Promises
//!
//! Every engine keeps them all; `conformance` tests each by its number, also under injected faults.
//!
//! - **S1** A commit is all or nothing: no reader, no crash and no error leaves a part of it.
//! - **S2** What was acknowledged survives a crash at any instant. (Memory: for as long as the process lives.)
//! - **S3** A commit whose checks fail changes nothing, and names the first key that did not hold.
//! - **P1** Commits happen one at a time, in the order of their revisions: between the checks and the writes of one
//!   there is no other.
//! - **P2** Nothing is seen before it is durable, and a read that begins after an acknowledgement sees what was
//!   acknowledged.
//! - **P3** A [`Snapshot`] is one moment, named by its revision. Later commits do not change it. A single `get` or
//!   `scan` is a snapshot of its own.
//! - **P4** A scan answers in the order of the keys' bytes, from the end that was asked for, each key once, no more
//!   than the limit, and nothing from outside its [`Range`].
//! - **P5** A commit that writes takes the number after the last; an entry carries the number of the commit that wrote
//!   it. A number is never given twice, not even to a key that was deleted, nor after reopening. A commit that writes
//!   nothing takes no number.
//! - **P6** The writes of a commit apply in the order they are listed; the last word on a key counts. A range delete
//!   touches its range and nothing else.
//! - **P7** [`Store::watch`] never runs ahead of what can be read, never goes back, and has reached a commit's number
//!   when that commit is acknowledged.
//! - **P8** A failure says what became of the commit: [`CommitError::Conflict`] and [`CommitError::Refused`] changed
//!   nothing and never will; only [`CommitError::Unknown`] may have. An engine whose disk failed it half-way is
//!   poisoned: it refuses every later commit with [`Error::Poisoned`], for it may not build on what it does not know.
//! - **P9** A folder has at most one node. The second is told so, by the folder's name.
//!
//! A future that is dropped before it answers is an unknown outcome too, but only for whoever dropped it.
//!
//! # What must not be known here
//!
//! Workers, versions, objects, JSON: a value is bytes, and a key is a [`Family`] with components. No clock: order
//! comes from revisions. Above this room nobody may know SQL, files or which engine runs, nor assume that all writers
//! live in one process: correctness rests on checks, never on a lock held above the port.

mod commit;
mod error;
mod key;
mod memory;
mod sqlite;

#[cfg(test)]
mod conformance;
#[cfg(test)]
pub(crate) mod fault;

use std::{future::Future, pin::Pin};

use bytes::Bytes;
use tokio::sync::watch;

pub use commit::{COMMIT_BYTES_MAX, Check, Expect, KEY_BYTES_MAX, Revision, VALUE_BYTES_MAX, Write};
pub use error::{Cause, CommitError, Error};
pub use key::{Family, Key, Malformed, Parts, Range};
pub use memory::MemoryStore;
pub use sqlite::{SqliteStore, Syncs};

/// A boxed future, which is what lets [`Store`] and [`Snapshot`] be used as trait objects.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What is stored under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub key: Key,
    pub value: Bytes,
    /// The number of the commit that wrote this value: what [`Expect::Version`] compares with.
    pub revision: Revision,
}

/// From which end a scan answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Ascending,
    Descending,
}

/// The port. The module's documentation lists what every implementation promises.
pub trait Store: Send + Sync + 'static {
    /// The entry under `key`, if there is one.
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Entry>, Error>>;

    /// At most `limit` entries of `range`, from the end that `order` names. Resume with [`Range::after`] or
    /// [`Range::before`] the last key; pages read so are not one moment, those of a [`Snapshot`] are.
    fn scan(&self, range: Range, order: Order, limit: usize) -> BoxFuture<'_, Result<Vec<Entry>, Error>>;

    /// A view of this moment. Engines pay for it as long as it lives, so drop it soon; when many are alive, this waits
    /// for one of them to be dropped.
    fn snapshot(&self) -> BoxFuture<'_, Result<Box<dyn Snapshot>, Error>>;

    /// All of `writes`, if all of `checks` hold. When it returns `Ok`, the commit is durable and visible.
    fn commit(&self, checks: Vec<Check>, writes: Vec<Write>) -> BoxFuture<'_, Result<Revision, CommitError>>;

    /// The number of the last commit, now and whenever it changes. Says *that* something changed, not what.
    fn watch(&self) -> watch::Receiver<Revision>;
}

/// One moment of a store.
pub trait Snapshot: Send + Sync + 'static {
    /// The number of the last commit that this view contains.
    fn revision(&self) -> Revision;

    /// As [`Store::get`], at this moment.
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Entry>, Error>>;

    /// As [`Store::scan`], at this moment.
    fn scan(&self, range: Range, order: Order, limit: usize) -> BoxFuture<'_, Result<Vec<Entry>, Error>>;
}
