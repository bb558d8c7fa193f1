//! The embedded engine: one SQLite file, one node. Who wants to look may open `sluice.db` with any SQLite shell.
//!
//! ```text
//! commit ──► queue ──► writer thread: BEGIN  [checks, writes] [checks, writes] …  COMMIT = one fsync ──► answers
//! get, scan, snapshot ──► a connection of their own, on tokio's blocking threads; they never wait for the writer
//! ```
//!
//! How the promises come about. WAL gives readers one moment (P3) and makes a commit visible only after the log was
//! synced (`synchronous=FULL`: S2, P2). One thread writes, so commits have an order (P1, P5). Those that arrive while
//! the last fsync runs share the next one; each has a savepoint, so that one that fails leaves its neighbours alone
//! (S1, S3). A lock file held for life keeps a second node out (P9), and [`fate`] decides what an error means (P8).

mod fate;
mod file;
mod readers;
mod rows;
mod syncs;
#[cfg(test)]
mod tests;
mod writer;

use std::{path::Path, sync::Arc};

use tokio::sync::watch;

pub use self::syncs::Syncs;
use self::{
    file::Folder,
    readers::{Readers, View},
    syncs::Counting,
    writer::{Seal, Writer},
};
use super::{BoxFuture, Check, CommitError, Entry, Error, Key, Order, Range, Revision, Snapshot, Store, Write};

/// A store in a folder. Dropping it waits for the commit under way; [`SqliteStore::close`] also tidies up.
#[derive(Debug)]
pub struct SqliteStore {
    readers: Arc<Readers>,
    writer: Writer,
    revisions: watch::Receiver<Revision>,
    syncs: Arc<Counting>,
}

impl SqliteStore {
    /// Opens the store in `dir`, and creates both where there is none. Reads and writes the disk, so call it before
    /// there is anybody to keep waiting. Reads need a tokio runtime later.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        Self::open_with(dir, Box::new(writer::seal))
    }

    fn open_with(dir: &Path, seal: Seal) -> Result<Self, Error> {
        let folder = Arc::new(Folder::acquire(dir)?);
        let connection = file::open_writer(&folder)?;
        let revision = rows::revision(&connection)
            .map_err(|cause| fate::explain("read the revision", folder.database(), cause))?;
        let (sender, revisions) = watch::channel(revision);
        let readers = Arc::new(Readers::new(Arc::clone(&folder)));
        let syncs = Arc::<Counting>::default();
        let writer = Writer::spawn(folder, connection, sender, seal, Arc::clone(&syncs))?;
        Ok(Self { readers, writer, revisions, syncs })
    }

    /// What commits have cost since the store was opened.
    #[must_use]
    pub fn syncs(&self) -> Syncs {
        self.syncs.so_far()
    }

    /// Finishes the commits that wait, moves the log into the database, and gives the folder back. What comes later is
    /// answered with [`Error::Closed`]. The folder stays taken while a snapshot lives.
    pub async fn close(&self) -> Result<(), Error> {
        self.readers.close().await;
        self.writer.close().await
    }
}

impl Store for SqliteStore {
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Entry>, Error>> {
        let key = key.clone();
        Box::pin(self.readers.once("read a key", move |connection| rows::get(connection, &key)))
    }

    fn scan(&self, range: Range, order: Order, limit: usize) -> BoxFuture<'_, Result<Vec<Entry>, Error>> {
        Box::pin(self.readers.once("scan", move |connection| rows::scan(connection, &range, order, limit)))
    }

    fn snapshot(&self) -> BoxFuture<'_, Result<Box<dyn Snapshot>, Error>> {
        Box::pin(async { Ok(Box::new(self.readers.view().await?) as Box<dyn Snapshot>) })
    }

    fn commit(&self, checks: Vec<Check>, writes: Vec<Write>) -> BoxFuture<'_, Result<Revision, CommitError>> {
        Box::pin(self.writer.commit(checks, writes))
    }

    fn watch(&self) -> watch::Receiver<Revision> {
        let mut receiver = self.revisions.clone();
        receiver.mark_unchanged();
        receiver
    }
}

impl Snapshot for View {
    fn revision(&self) -> Revision {
        self.revision
    }

    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Entry>, Error>> {
        let key = key.clone();
        Box::pin(self.read("read a key", move |connection| rows::get(connection, &key)))
    }

    fn scan(&self, range: Range, order: Order, limit: usize) -> BoxFuture<'_, Result<Vec<Entry>, Error>> {
        Box::pin(self.read("scan", move |connection| rows::scan(connection, &range, order, limit)))
    }
}
