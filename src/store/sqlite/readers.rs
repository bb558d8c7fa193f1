//! Connections that read. Each read borrows one on a blocking thread, since any of them may touch the disk; a snapshot
//! keeps one for its life, with a transaction open on it. The two have separate allowances, so that snapshots can never
//! keep a plain `get` waiting.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task,
};

use super::{fate::explain, file, file::Folder, rows};
use crate::store::{Error, Revision};

/// Reads that run at once. They are mostly memory and system calls; more of them would only queue for the disk.
const READS_MAX: u32 = 8;
/// Snapshots alive at once. Each costs a connection (some 100 KB of cache and two file handles), and the oldest keeps
/// the log from being reused.
const SNAPSHOTS_MAX: usize = 64;
/// Connections kept for the next reader. Opening one takes about as long as a few dozen reads.
const IDLE_MAX: usize = 16;

/// Where connections are borrowed.
#[derive(Debug)]
pub(super) struct Readers {
    reads: Arc<Semaphore>,
    snapshots: Arc<Semaphore>,
    shelf: Mutex<Shelf>,
}

#[derive(Debug)]
enum Shelf {
    Open { folder: Arc<Folder>, idle: Vec<Connection> },
    Closed,
}

/// One moment of the store: a connection in a transaction that began at `revision`.
#[derive(Debug)]
pub(super) struct View {
    pub(super) revision: Revision,
    lease: Arc<Lease>,
}

/// A borrowed connection; goes back when dropped. Shared with the blocking thread, so that a read whose future was
/// dropped still ends before its connection is lent again.
#[derive(Debug)]
struct Lease {
    connection: Mutex<Option<Connection>>,
    readers: Arc<Readers>,
    /// Dropped after the connection, which [`Drop`] takes out first: the folder is ours while anybody reads.
    folder: Arc<Folder>,
    _permit: OwnedSemaphorePermit,
}

impl Readers {
    pub(super) fn new(folder: Arc<Folder>) -> Self {
        Self {
            reads: Arc::new(Semaphore::new(READS_MAX as usize)),
            snapshots: Arc::new(Semaphore::new(SNAPSHOTS_MAX)),
            shelf: Mutex::new(Shelf::Open { folder, idle: Vec::new() }),
        }
    }

    /// One read.
    pub(super) fn once<T: Send + 'static>(
        self: &Arc<Self>,
        attempt: &'static str,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> impl Future<Output = Result<T, Error>> + Send + 'static {
        let readers = Arc::clone(self);
        async move {
            let permit = Arc::clone(&readers.reads).acquire_owned().await.map_err(|_| Error::Closed)?;
            blocking(move || readers.lend(permit)?.read(attempt, read)).await
        }
    }

    /// A view of this moment.
    pub(super) async fn view(self: &Arc<Self>) -> Result<View, Error> {
        let readers = Arc::clone(self);
        let permit = Arc::clone(&readers.snapshots).acquire_owned().await.map_err(|_| Error::Closed)?;
        blocking(move || {
            let lease = readers.lend(permit)?;
            // `BEGIN` alone fixes nothing: the moment is that of the first read.
            let revision = lease.read("take a snapshot", |connection| {
                connection.execute_batch("BEGIN")?;
                rows::revision(connection)
            })?;
            Ok(View { revision, lease: Arc::new(lease) })
        })
        .await
    }

    /// Waits for the reads under way and refuses those to come. Snapshots that live on stay readable.
    pub(super) async fn close(&self) {
        // An error means that another call has closed it already.
        let reads = self.reads.acquire_many(READS_MAX).await;
        self.reads.close();
        self.snapshots.close();
        *self.shelf() = Shelf::Closed;
        drop(reads);
    }

    /// Takes a connection from the shelf, or opens one. Blocks.
    fn lend(self: Arc<Self>, permit: OwnedSemaphorePermit) -> Result<Lease, Error> {
        let (folder, idle) = match &mut *self.shelf() {
            Shelf::Open { folder, idle } => (Arc::clone(folder), idle.pop()),
            Shelf::Closed => return Err(Error::Closed),
        };
        let connection = match idle {
            Some(connection) => connection,
            None => file::open_reader(&folder)
                .map_err(|cause| explain("open the store for reading", folder.database(), cause))?,
        };
        Ok(Lease { connection: Mutex::new(Some(connection)), readers: self, folder, _permit: permit })
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl View {
    pub(super) fn read<T: Send + 'static>(
        &self,
        attempt: &'static str,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> impl Future<Output = Result<T, Error>> + Send + 'static {
        let lease = Arc::clone(&self.lease);
        async move { blocking(move || lease.read(attempt, read)).await }
    }
}

impl Lease {
    fn read<T>(
        &self,
        attempt: &'static str,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, Error> {
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let connection = connection.as_ref().expect("a lease has its connection until it is dropped");
        read(connection).map_err(|cause| explain(attempt, self.folder.database(), cause))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let connection = self.connection.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let Some(connection) = connection else { return };
        // Ends a snapshot's transaction. It has written nothing, so this is memory only and may run anywhere.
        if !connection.is_autocommit() && connection.execute_batch("ROLLBACK").is_err() {
            return;
        }
        match &mut *self.readers.shelf() {
            Shelf::Open { idle, .. } if idle.len() < IDLE_MAX => idle.push(connection),
            Shelf::Open { .. } | Shelf::Closed => {}
        }
    }
}

/// Runs what touches the disk where waiting harms nobody.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    match task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down, and the store with it.
            Err(_) => Err(Error::Closed),
        },
    }
}
