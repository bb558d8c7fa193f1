//! The folder and its file: who may use it, whether it is ours, and how SQLite is told to keep it.
//!
//! Nobody in this process may open `sluice.db` but through SQLite, not even to copy it: on Unix, closing any handle of
//! a file drops the locks that SQLite holds on it through another.

use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::fate::explain;
use crate::store::Error;

/// `Slui`: tells our files from other SQLite databases (also to `file(1)`).
const APPLICATION_ID: i64 = 0x536C_7569;
/// Counts up whenever the tables change. Format 1 is `kv` and `store` as they are below.
const FORMAT: i64 = 1;
/// How long a commit waits for an operator who has the file open in a shell and writes there.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// `application_id` and `user_version` are part of the transaction, so that a crash leaves an empty file or a store.
const CREATE: &str = "
    BEGIN IMMEDIATE;
    CREATE TABLE kv (
        key BLOB NOT NULL PRIMARY KEY, value BLOB NOT NULL, revision INTEGER NOT NULL
    ) WITHOUT ROWID, STRICT;
    CREATE TABLE store (only_row INTEGER PRIMARY KEY CHECK (only_row = 1), revision INTEGER NOT NULL) STRICT;
    INSERT INTO store VALUES (1, 0);
";

/// A folder that this process alone may use, for as long as this value lives (P9).
#[derive(Debug)]
pub(super) struct Folder {
    database: PathBuf,
    /// Locked. The operating system unlocks it when the process ends, however it ends; the file itself stays.
    lock: File,
}

/// What is in a file that was there before us.
enum Found {
    Nothing,
    Store,
}

impl Folder {
    /// Creates `dir` if need be, and takes it.
    pub(super) fn acquire(dir: &Path) -> Result<Self, Error> {
        fs::create_dir_all(dir).map_err(|cause| Error::from_io("create the folder", dir, cause))?;
        // A relative folder has no parent to sync, and would move with the working directory.
        let dir = dir.canonicalize().map_err(|cause| Error::from_io("find the folder", dir, cause))?;
        let path = dir.join("sluice.lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|cause| Error::from_io("open the lock file", &path, cause))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { database: dir.join("sluice.db"), lock }),
            Err(TryLockError::WouldBlock) => Err(Error::InUse { dir }),
            Err(TryLockError::Error(cause)) => Err(Error::from_io("lock the folder", &path, cause)),
        }
    }

    pub(super) fn database(&self) -> &Path {
        &self.database
    }

    /// Makes the names of new files durable: syncing a file says nothing about its entry in the folder.
    fn sync(&self) -> Result<(), Error> {
        // Windows does not open folders, and syncs their entries by itself.
        if cfg!(unix) {
            for dir in self.database.ancestors().skip(1).take(2) {
                File::open(dir)
                    .and_then(|dir| dir.sync_all())
                    .map_err(|cause| Error::from_io("sync the folder", dir, cause))?;
            }
        }
        Ok(())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Closing the file would not do: a child that was just forked holds a copy of it until it executes its program.
        if let Err(error) = self.lock.unlock() {
            tracing::warn!(%error, "the store's folder stays locked until the process ends");
        }
    }
}

/// The one connection that writes. Creates the tables in an empty file; refuses a file that is not ours *before*
/// changing anything in it.
pub(super) fn open_writer(folder: &Folder) -> Result<Connection, Error> {
    let path = folder.database();
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection =
        Connection::open_with_flags(path, flags).map_err(|cause| explain("open the store", path, cause))?;
    let found = identify(&connection, path)?;
    configure(&connection).map_err(|cause| explain("configure the store", path, cause))?;
    match found {
        Found::Nothing => create(&connection).map_err(|cause| explain("create the store", path, cause))?,
        Found::Store => {}
    }
    folder.sync()?;
    Ok(connection)
}

/// A connection that reads, beside the writer and at its own pace.
pub(super) fn open_reader(folder: &Folder) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(folder.database(), flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(connection)
}

fn identify(connection: &Connection, path: &Path) -> Result<Found, Error> {
    let read = || -> rusqlite::Result<(i64, i64, i64)> {
        let pragma = |name| connection.pragma_query_value(None, name, |row| row.get(0));
        let tables = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        Ok((pragma("application_id")?, pragma("user_version")?, tables))
    };
    connection.busy_timeout(BUSY_TIMEOUT).map_err(|cause| explain("open the store", path, cause))?;
    match read() {
        Ok((APPLICATION_ID, FORMAT, _)) => Ok(Found::Store),
        Ok((APPLICATION_ID, found, _)) if found > FORMAT => {
            Err(Error::NewerFormat { path: path.to_owned(), found, supported: FORMAT })
        }
        Ok((0, 0, 0)) => Ok(Found::Nothing),
        Ok(_) => Err(Error::Foreign { path: path.to_owned() }),
        Err(cause) if cause.sqlite_error_code() == Some(ErrorCode::NotADatabase) => {
            Err(Error::Foreign { path: path.to_owned() })
        }
        Err(cause) => Err(explain("open the store", path, cause)),
    }
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    let set = |name: &str, value: &str| connection.pragma_update(None, name, value);
    set("journal_mode", "WAL")?;
    // S2: sync the log at every commit, on macOS down to the platter.
    set("synchronous", "FULL")?;
    set("fullfsync", "ON")?;
    // The writer checkpoints, after it has answered: SQLite would do it before, and swallow the errors.
    set("wal_autocheckpoint", "0")?;
    // Savepoints spill to memory, not to a temporary folder that may be missing or full.
    set("temp_store", "MEMORY")?;
    set("trusted_schema", "OFF")?;
    // Each statement is prepared once; there are fewer than this.
    connection.set_prepared_statement_cache_capacity(32);
    Ok(())
}

fn create(connection: &Connection) -> rusqlite::Result<()> {
    let created = connection
        .execute_batch(CREATE)
        .and_then(|()| connection.pragma_update(None, "application_id", APPLICATION_ID))
        .and_then(|()| connection.pragma_update(None, "user_version", FORMAT))
        .and_then(|()| connection.execute_batch("COMMIT"));
    if created.is_err() && !connection.is_autocommit() {
        // The first error is the one to tell.
        let _ = connection.execute_batch("ROLLBACK");
    }
    created
}
