//! What only this engine can be asked: its folder, its format, its disk, and the sync that commits share.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
};

use rusqlite::{Connection, ffi};
use tempfile::{TempDir, tempdir};
use tokio::task::JoinSet;

use super::{SqliteStore, file, file::Folder, writer};
use crate::store::{CommitError, Error, Family, Key, Range, Revision, Store, Write};

const FAMILY: Family = Family::new(b'T');

fn key(number: u64) -> Key {
    Key::family(FAMILY).number(number)
}

fn open(dir: &TempDir) -> SqliteStore {
    SqliteStore::open(dir.path()).unwrap()
}

/// A store whose n-th seal (from 1) is `faulty`. All others are the real one.
fn open_failing(
    dir: &TempDir,
    nth: usize,
    mut faulty: impl FnMut(&Connection) -> rusqlite::Result<()> + Send + 'static,
) -> SqliteStore {
    let mut seals = 0;
    let seal = move |connection: &Connection| {
        seals += 1;
        if seals == nth { faulty(connection) } else { writer::seal(connection) }
    };
    SqliteStore::open_with(dir.path(), Box::new(seal)).unwrap()
}

async fn put(store: &SqliteStore, number: u64) -> Result<Revision, CommitError> {
    store.commit(vec![], vec![Write::put(key(number), "x")]).await
}

async fn has(store: &SqliteStore, number: u64) -> bool {
    store.get(&key(number)).await.unwrap().is_some()
}

fn failed_sync() -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_IOERR_FSYNC), None)
}

// === The folder and the file ===

#[tokio::test]
async fn s2_reopening_keeps_everything() {
    let dir = tempdir().unwrap();
    let store = open(&dir);
    for number in 0..50 {
        put(&store, number).await.unwrap();
    }
    let last = store.commit(vec![], vec![Write::delete_range(Range::new(key(10), key(99)))]).await.unwrap();
    store.close().await.unwrap();
    assert!(!dir.path().join("sluice.db-wal").exists(), "closing moves the log into the database");

    let store = open(&dir);
    assert_eq!(*store.watch().borrow(), last);
    assert!(has(&store, 9).await && !has(&store, 10).await);
    // P5: not even the numbers of what was deleted come back.
    assert_eq!(put(&store, 10).await.unwrap(), last.next());
    drop(store);
    assert!(has(&open(&dir), 10).await, "dropping is as good as closing");
}

#[test]
fn s2_the_log_is_synced_at_every_commit() {
    let dir = tempdir().unwrap();
    let connection = file::open_writer(&Folder::acquire(dir.path()).unwrap()).unwrap();
    let pragma = |name| {
        connection.pragma_query_value::<String, _>(None, name, |row| {
            Ok(row.get::<_, rusqlite::types::Value>(0).map(|value| format!("{value:?}")).unwrap())
        })
    };
    assert_eq!(pragma("journal_mode").unwrap(), r#"Text("wal")"#);
    assert_eq!(pragma("synchronous").unwrap(), "Integer(2)");
    assert_eq!(pragma("fullfsync").unwrap(), "Integer(1)");
}

#[tokio::test]
async fn p9_a_second_node_is_told_the_folder() {
    let dir = tempdir().unwrap();
    let store = open(&dir);
    let error = SqliteStore::open(dir.path()).unwrap_err();
    let folder = dir.path().canonicalize().unwrap();
    assert_eq!(error.to_string(), format!("the folder `{}` is in use by another node", folder.display()));
    store.close().await.unwrap();
    let second = open(&dir);
    // Closed is not dropped: the first still answers, if only that.
    assert!(matches!(store.get(&key(1)).await, Err(Error::Closed)));
    assert!(matches!(store.snapshot().await, Err(Error::Closed)));
    assert!(matches!(put(&store, 1).await, Err(CommitError::Refused { source: Error::Closed })));
    store.close().await.unwrap();
    put(&second, 1).await.unwrap();
}

#[tokio::test]
async fn p9_a_snapshot_outlives_closing_and_keeps_the_folder() {
    let dir = tempdir().unwrap();
    let store = open(&dir);
    put(&store, 1).await.unwrap();
    let snapshot = store.snapshot().await.unwrap();
    store.close().await.unwrap();
    assert!(snapshot.get(&key(1)).await.unwrap().is_some());
    assert!(matches!(SqliteStore::open(dir.path()), Err(Error::InUse { .. })));
    drop(snapshot);
    assert!(has(&open(&dir), 1).await);
}

#[test]
fn a_file_that_is_not_ours_is_refused_and_left_alone() {
    let check = |write: fn(&Path)| {
        let dir = tempdir().unwrap();
        let path = dir.path().join("sluice.db");
        write(&path);
        let before = fs::read(&path).unwrap();
        let error = SqliteStore::open(dir.path()).unwrap_err();
        assert!(matches!(error, Error::Foreign { .. }), "{error}");
        assert_eq!(fs::read(&path).unwrap(), before);
    };
    check(|path| fs::write(path, "A letter to my aunt. ".repeat(500)).unwrap());
    check(|path| Connection::open(path).unwrap().execute_batch("CREATE TABLE kv (key, value)").unwrap());
    check(|path| Connection::open(path).unwrap().pragma_update(None, "application_id", 7).unwrap());
}

#[tokio::test]
async fn a_newer_format_is_refused_with_both_numbers() {
    let dir = tempdir().unwrap();
    open(&dir).close().await.unwrap();
    Connection::open(dir.path().join("sluice.db")).unwrap().pragma_update(None, "user_version", 9).unwrap();
    let error = SqliteStore::open(dir.path()).unwrap_err();
    assert!(matches!(error, Error::NewerFormat { found: 9, supported: 1, .. }), "{error}");
    assert!(error.to_string().ends_with("has format 9, and this Sluice knows formats up to 1; start a newer Sluice"));
}

#[test]
fn a_crash_while_creating_leaves_a_folder_that_can_be_opened() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("sluice.db");
    fs::write(&path, "").unwrap();
    drop(open(&dir));
    fs::remove_file(&path).unwrap();
    // The file's header is there, and the transaction that makes it ours is not.
    Connection::open(&path).unwrap().pragma_update(None, "journal_mode", "WAL").unwrap();
    assert!(fs::metadata(&path).unwrap().len() > 0);
    drop(open(&dir));
}

#[test]
fn a_folder_that_cannot_be_made_is_an_error_with_its_name() {
    let dir = tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let error = SqliteStore::open(&file.join("data")).unwrap_err();
    assert!(matches!(error, Error::Io { .. }) && error.to_string().contains("file/data"), "{error}");
}

// === The disk ===

#[tokio::test]
async fn p8_a_full_disk_refuses_what_does_not_fit_and_goes_on() {
    let dir = tempdir().unwrap();
    let store = open_failing(&dir, 1, |connection| {
        writer::seal(connection)?;
        connection.pragma_update(None, "max_page_count", 64)
    });
    put(&store, 1).await.unwrap();
    let writes = vec![Write::put(key(2), "x"), Write::put(key(3), vec![0; 1_000_000]), Write::delete(key(1))];
    let refused = store.commit(vec![], writes).await;
    assert!(matches!(&refused, Err(CommitError::Refused { source: Error::DiskFull { .. } })), "{refused:?}");
    assert!(has(&store, 1).await && !has(&store, 2).await);
    assert_eq!(put(&store, 4).await.unwrap(), Revision::new(2));
}

#[tokio::test]
async fn p8_one_commit_that_does_not_fit_leaves_its_neighbours_alone() {
    let dir = tempdir().unwrap();
    let (store, gate) = open_gated(&dir, |connection| connection.pragma_update(None, "max_page_count", 64));
    let mut tasks = gate.hold_first_and_queue(&store, 20).await;
    let large = {
        let store = store.clone();
        tokio::spawn(async move { store.commit(vec![], vec![Write::put(key(99), vec![0; 1_000_000])]).await })
    };
    tokio::task::yield_now().await;
    gate.open.send(()).unwrap();
    while let Some(done) = tasks.join_next().await {
        done.unwrap().unwrap();
    }
    let refused = large.await.unwrap();
    assert!(matches!(refused, Err(CommitError::Refused { source: Error::DiskFull { .. } })), "{refused:?}");
    assert_eq!(*store.watch().borrow(), Revision::new(21));
}

#[tokio::test]
async fn s1_a_commit_that_fails_at_its_last_write_leaves_nothing_of_the_first() {
    // An error that ends one statement only, as few of SQLite's do: the rest is ours to undo.
    const NEVER_99: &str = "CREATE TRIGGER never BEFORE INSERT ON kv WHEN new.key = x'540000000000000063'
        BEGIN SELECT RAISE(ABORT, 'never'); END";
    let dir = tempdir().unwrap();
    let (store, gate) = open_gated(&dir, |connection| connection.execute_batch(NEVER_99));
    let tasks = gate.hold_first_and_queue(&store, 5).await;
    let broken = store.commit(vec![], vec![Write::put(key(98), "x"), Write::delete(key(1)), Write::put(key(99), "x")]);
    let behind = store.commit(vec![], vec![Write::put(key(97), "x")]);
    let (broken, behind, ()) = tokio::join!(broken, behind, async { gate.open.send(()).unwrap() });
    assert!(tasks.join_all().await.iter().all(Result::is_ok));
    assert!(matches!(&broken, Err(CommitError::Refused { source: Error::Io { .. } })), "{broken:?}");
    assert!(has(&store, 1).await && !has(&store, 98).await);
    // P5: it took no number either, and all shared one sync.
    assert_eq!((behind.unwrap(), gate.seals.load(Ordering::SeqCst)), (Revision::new(7), 2));
}

#[tokio::test]
async fn p8_a_disk_that_became_read_only_refuses_and_recovers() {
    let dir = tempdir().unwrap();
    let store = open_failing(&dir, 2, |connection| {
        connection.execute_batch("ROLLBACK")?;
        Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_READONLY), None))
    });
    put(&store, 1).await.unwrap();
    let refused = put(&store, 2).await;
    assert!(matches!(refused, Err(CommitError::Refused { source: Error::ReadOnly { .. } })), "{refused:?}");
    assert_eq!(put(&store, 3).await.unwrap(), Revision::new(2));
    assert!(!has(&store, 2).await);
}

#[tokio::test]
async fn p8_a_failed_sync_poisons_and_reopening_tells_what_happened() {
    type Faulty = fn(&Connection) -> rusqlite::Result<()>;
    let before: Faulty = |_| Err(failed_sync());
    let after: Faulty = |connection| writer::seal(connection).and_then(|()| Err(failed_sync()));
    for (faulty, happened) in [(before, false), (after, true)] {
        let dir = tempdir().unwrap();
        let store = open_failing(&dir, 2, faulty);
        put(&store, 1).await.unwrap();
        let unknown = put(&store, 2).await;
        assert!(matches!(unknown, Err(CommitError::Unknown { source: Error::Io { .. } })), "{unknown:?}");
        for _ in 0..2 {
            let later = put(&store, 3).await;
            assert!(matches!(later, Err(CommitError::Refused { source: Error::Poisoned { .. } })), "{later:?}");
        }
        assert!(has(&store, 1).await, "reading goes on");
        assert!(matches!(store.close().await, Err(Error::Poisoned { .. })));
        let store = open(&dir);
        assert_eq!((has(&store, 1).await, has(&store, 2).await), (true, happened));
        assert_eq!(put(&store, 3).await.unwrap(), Revision::new(if happened { 3 } else { 2 }));
    }
}

#[tokio::test]
async fn p8_another_program_that_writes_is_waited_for_and_then_named() {
    let dir = tempdir().unwrap();
    let store = open_failing(&dir, 1, |connection| {
        writer::seal(connection)?;
        connection.busy_timeout(std::time::Duration::ZERO)
    });
    put(&store, 1).await.unwrap();
    let shell = Connection::open(dir.path().join("sluice.db")).unwrap();
    shell.execute_batch("BEGIN IMMEDIATE").unwrap();
    let refused = put(&store, 2).await;
    assert!(matches!(refused, Err(CommitError::Refused { source: Error::Busy { .. } })), "{refused:?}");
    shell.execute_batch("COMMIT").unwrap();
    put(&store, 2).await.unwrap();
}

#[tokio::test]
async fn the_log_is_reused_instead_of_growing_with_what_is_written() {
    let dir = tempdir().unwrap();
    let store = open(&dir);
    let log_bytes = || fs::metadata(dir.path().join("sluice.db-wal")).unwrap().len();
    for number in 0..60 {
        store.commit(vec![], vec![Write::put(key(number % 4), vec![number as u8; 500_000])]).await.unwrap();
    }
    assert!(log_bytes() < 12_000_000, "{} bytes after 30 MB", log_bytes());
    // A snapshot keeps the log; when it is gone, the log comes back to its size.
    let snapshot = store.snapshot().await.unwrap();
    for number in 0..180 {
        store.commit(vec![], vec![Write::put(key(number % 4), vec![number as u8; 500_000])]).await.unwrap();
    }
    assert!(log_bytes() > 70_000_000);
    assert_eq!(snapshot.get(&key(0)).await.unwrap().unwrap().value[0], 56);
    drop(snapshot);
    for number in 0..20 {
        store.commit(vec![], vec![Write::put(key(number % 4), vec![number as u8; 500_000])]).await.unwrap();
    }
    assert!(log_bytes() < 12_000_000, "{} bytes after the snapshot", log_bytes());
}

// === Sharing a sync ===

#[tokio::test]
async fn commits_that_wait_share_one_sync() {
    let dir = tempdir().unwrap();
    let (store, gate) = open_gated(&dir, |_| Ok(()));
    let tasks = gate.hold_first_and_queue(&store, 200).await;
    gate.open.send(()).unwrap();
    assert!(tasks.join_all().await.iter().all(Result::is_ok));
    assert_eq!(gate.seals.load(Ordering::SeqCst), 2, "one for the first, one for all that came meanwhile");
    assert_eq!(*store.watch().borrow(), Revision::new(201));
}

/// Holds the first seal until it is opened.
struct Gate {
    reached: tokio::sync::Semaphore,
    open: mpsc::Sender<()>,
    seals: AtomicUsize,
}

/// A store whose first seal waits at the gate, then runs `after`.
fn open_gated(dir: &TempDir, after: fn(&Connection) -> rusqlite::Result<()>) -> (Arc<SqliteStore>, Arc<Gate>) {
    let (open, opened) = mpsc::channel();
    let gate = Arc::new(Gate { reached: tokio::sync::Semaphore::new(0), open, seals: AtomicUsize::new(0) });
    let seal = {
        let gate = gate.clone();
        move |connection: &Connection| {
            let is_first = gate.seals.fetch_add(1, Ordering::SeqCst) == 0;
            if is_first {
                gate.reached.add_permits(1);
                opened.recv().unwrap();
            }
            writer::seal(connection)?;
            if is_first { after(connection) } else { Ok(()) }
        }
    };
    (Arc::new(SqliteStore::open_with(dir.path(), Box::new(seal)).unwrap()), gate)
}

impl Gate {
    /// Starts one commit, and `waiting` more when it is at the gate. On a runtime of one thread, all of them are queued
    /// when this returns.
    async fn hold_first_and_queue(
        &self,
        store: &Arc<SqliteStore>,
        waiting: u64,
    ) -> JoinSet<Result<Revision, CommitError>> {
        let mut tasks = JoinSet::new();
        for number in 0..=waiting {
            let store = store.clone();
            tasks.spawn(async move { put(&store, number).await });
            tokio::task::yield_now().await;
            if number == 0 {
                drop(self.reached.acquire().await.unwrap());
            }
        }
        tasks
    }
}
