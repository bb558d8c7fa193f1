//! The one thread that writes. It takes the commits that wait, makes them one transaction (one fsync), and answers each
//! after `COMMIT`. Nothing is awaited or shared here: a commit's life is straight-line code.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use rusqlite::{Connection, config::DbConfig};
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    fate::{Fate, Phase, Rollback, explain, fate, is_broken_disk},
    file::Folder,
    rows,
    syncs::Counting,
};
use crate::clock;
use crate::store::{Cause, Check, CommitError, Error, Key, Revision, Write, commit};

/// Commits that may wait. Who comes later waits to be let in, which is how a slow disk is felt upstairs.
const QUEUE_MAX: usize = 1024;
/// One transaction holds no more than this. Its waiters wait for all of it, and a rollback redoes all of it.
const GROUP_COMMITS_MAX: usize = 256;
const GROUP_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Frames of 4 KiB that the log grows by between checkpoints: SQLite's own habit.
const CHECKPOINT_FRAMES: i64 = 1000;
/// With a log of this length (64 MiB), readers that overlap without a gap have kept it from being reused; then a
/// checkpoint waits for them for a moment, and the file shrinks.
const LOG_FRAMES_MAX: i64 = 16 * CHECKPOINT_FRAMES;
const LOG_READERS_TIMEOUT: Duration = Duration::from_millis(100);
/// As the length of the log at the last checkpoint: makes the next one due, whatever the length is now.
const CHECKPOINT_NOW: i64 = -CHECKPOINT_FRAMES;

/// The step that makes a group durable. A parameter, so that tests can make it fail: everything in P8 hangs on it.
pub(super) type Seal = Box<dyn FnMut(&Connection) -> rusqlite::Result<()> + Send>;

/// The handle of the thread. Dropping it waits for the thread to finish what is queued.
#[derive(Debug)]
pub(super) struct Writer {
    queue: Option<mpsc::Sender<Message>>,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
    closing: AtomicBool,
}

#[derive(Debug)]
enum Message {
    Commit(Job),
    Close(oneshot::Sender<Result<(), Error>>),
}

#[derive(Debug)]
struct Job {
    checks: Vec<Check>,
    writes: Vec<Write>,
    answer: oneshot::Sender<Answer>,
}

type Answer = Result<Revision, CommitError>;

/// What the thread owns.
struct Desk {
    folder: Arc<Folder>,
    connection: Connection,
    revisions: watch::Sender<Revision>,
    /// Of the last group that was sealed.
    revision: Revision,
    seal: Seal,
    syncs: Arc<Counting>,
    /// Why no commit is taken any more.
    poison: Option<Cause>,
    /// The length of the log, in frames, when a checkpoint was last tried.
    log_frames: i64,
}

/// A group that is applied but not sealed.
struct Applied {
    revision: Revision,
    answers: Vec<Answer>,
}

/// A group that failed as a whole.
struct Failed {
    fate: Fate,
    error: Error,
}

/// Makes a group durable.
pub(super) fn seal(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch("COMMIT")
}

// === impl Writer ===

impl Writer {
    pub(super) fn spawn(
        folder: Arc<Folder>,
        connection: Connection,
        revisions: watch::Sender<Revision>,
        seal: Seal,
        syncs: Arc<Counting>,
    ) -> Result<Self, Error> {
        let path = folder.database().to_owned();
        let revision = *revisions.borrow();
        let desk = Desk { folder, connection, revisions, revision, seal, syncs, poison: None, log_frames: 0 };
        let (queue, messages) = mpsc::channel(QUEUE_MAX);
        let thread = thread::Builder::new()
            .name("sluice-store".into())
            .spawn(move || desk.work(messages))
            .map_err(|cause| Error::from_io("start the writer's thread", &path, cause))?;
        Ok(Self { queue: Some(queue), thread: Mutex::new(Some(thread)), closing: AtomicBool::new(false) })
    }

    pub(super) async fn commit(&self, checks: Vec<Check>, writes: Vec<Write>) -> Answer {
        commit::admit(&checks, &writes).map_err(|source| CommitError::Refused { source })?;
        let (answer, answered) = oneshot::channel();
        let message = Message::Commit(Job { checks, writes, answer });
        self.queue().send(message).await.map_err(|_| CommitError::Refused { source: self.gone() })?;
        // The thread answers everybody unless it has panicked.
        answered.await.unwrap_or_else(|_| Err(CommitError::Unknown { source: self.gone() }))
    }

    /// Finishes what is queued, then closes the file.
    pub(super) async fn close(&self) -> Result<(), Error> {
        self.closing.store(true, Ordering::Release);
        let (answer, answered) = oneshot::channel();
        match self.queue().send(Message::Close(answer)).await {
            Ok(()) => answered.await.unwrap_or_else(|_| Err(self.gone())),
            // Closed before.
            Err(_) => Ok(()),
        }
    }

    fn queue(&self) -> &mpsc::Sender<Message> {
        self.queue.as_ref().expect("the queue is there until the writer is dropped")
    }

    /// Why the thread is no longer there.
    fn gone(&self) -> Error {
        match self.closing.load(Ordering::Acquire) {
            true => Error::Closed,
            false => Error::Poisoned { source: Arc::from(Box::from("the writer's thread panicked")) },
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Without a queue the thread comes to its end, which at worst is a fsync and a checkpoint away.
        drop(self.queue.take());
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the store's writer panicked");
        }
    }
}

// === impl Desk ===

impl Desk {
    fn work(mut self, mut messages: mpsc::Receiver<Message>) {
        let mut closing = None;
        while closing.is_none() {
            let Some(first) = messages.blocking_recv() else { break };
            let mut group = Vec::new();
            closing = gather(first, &mut messages, &mut group);
            self.settle(group);
            self.checkpoint_if_due();
        }
        messages.close();
        let closed = self.finish();
        while let Some(late) = messages.blocking_recv() {
            match late {
                Message::Commit(job) => job.answer(Err(CommitError::Refused { source: Error::Closed })),
                Message::Close(answer) => drop(answer.send(Ok(()))),
            }
        }
        if let Some(answer) = closing {
            drop(answer.send(closed));
        }
    }

    /// Makes one transaction of `group`, and answers everyone in it.
    fn settle(&mut self, group: Vec<Job>) {
        if group.is_empty() {
            return;
        }
        if let Some(poison) = &self.poison {
            let source = Error::Poisoned { source: Arc::clone(poison) };
            return group.into_iter().for_each(|job| job.answer(Err(CommitError::Refused { source: source.clone() })));
        }
        match self.commit(&group) {
            Ok(applied) => self.acknowledge(applied, group),
            // Perhaps one of them was too much for the disk: without the others it fails alone.
            Err(Failed { fate: Fate::Undone, .. }) if group.len() > 1 => {
                group.into_iter().for_each(|job| self.settle(vec![job]));
            }
            Err(Failed { fate, error }) => {
                match fate {
                    Fate::Undone => self.make_room(&error),
                    Fate::Stopped | Fate::Unknown => self.poison(error.clone()),
                }
                for job in group {
                    // A commit without writes has no outcome that could be unknown.
                    let refusal = match fate == Fate::Unknown && !job.writes.is_empty() {
                        true => CommitError::Unknown { source: error.clone() },
                        false => CommitError::Refused { source: error.clone() },
                    };
                    job.answer(Err(refusal));
                }
            }
        }
    }

    fn acknowledge(&mut self, applied: Applied, group: Vec<Job>) {
        assert!(applied.revision >= self.revision, "P5: revisions only grow");
        assert!(applied.answers.len() == group.len(), "every commit of a group has an answer");
        if applied.revision > self.revision {
            self.revision = applied.revision;
            // Before the answers: who is answered finds the watch there already (P7).
            self.revisions.send_replace(applied.revision);
        }
        for (job, answer) in group.into_iter().zip(applied.answers) {
            if let Err(CommitError::Refused { source }) = &answer {
                self.make_room(source);
            }
            job.answer(answer);
        }
    }

    fn commit(&mut self, group: &[Job]) -> Result<Applied, Failed> {
        let applied = self.apply(group).map_err(|cause| self.undo(Phase::Statement, cause))?;
        let began = clock::monotonic();
        (self.seal)(&self.connection).map_err(|cause| self.undo(Phase::Seal, cause))?;
        if applied.revision > self.revision {
            let commits = applied.revision.get() - self.revision.get();
            self.syncs.add(commits, clock::monotonic().duration_since(began));
        }
        Ok(applied)
    }

    /// Begins a transaction and applies each commit of `group` whose checks hold, seeing those before it (P1).
    fn apply(&self, group: &[Job]) -> rusqlite::Result<Applied> {
        // Immediate: waiting for another program's lock is possible only before anything was read.
        self.connection.execute_batch("BEGIN IMMEDIATE")?;
        let mut revision = self.revision;
        let mut answers = Vec::with_capacity(group.len());
        for job in group {
            answers.push(match self.broken_check(&job.checks)? {
                Some(key) => Err(CommitError::Conflict { key }),
                None if job.writes.is_empty() => Ok(revision),
                None => match self.write_or_undo(&job.writes, revision.next())? {
                    Ok(()) => {
                        revision = revision.next();
                        Ok(revision)
                    }
                    Err(source) => Err(CommitError::Refused { source }),
                },
            });
        }
        if revision > self.revision {
            rows::set_revision(&self.connection, revision)?;
        }
        Ok(Applied { revision, answers })
    }

    fn broken_check(&self, checks: &[Check]) -> rusqlite::Result<Option<Key>> {
        for check in checks {
            if !check.expected.holds(rows::revision_of(&self.connection, &check.key)?) {
                return Ok(Some(check.key.clone()));
            }
        }
        Ok(None)
    }

    /// All of `writes`, or the inner error and none of them. The outer error ends the whole group.
    fn write_or_undo(&self, writes: &[Write], revision: Revision) -> rusqlite::Result<Result<(), Error>> {
        self.connection.execute_batch("SAVEPOINT one")?;
        match writes.iter().try_for_each(|write| rows::apply(&self.connection, write, revision)) {
            Ok(()) => self.connection.execute_batch("RELEASE one").map(Ok),
            // SQLite answers some errors by undoing the whole transaction; then there is no savepoint to return to.
            Err(cause) if self.connection.is_autocommit() || is_broken_disk(cause.sqlite_error_code()) => Err(cause),
            Err(cause) => {
                self.connection.execute_batch("ROLLBACK TO one; RELEASE one")?;
                Ok(Err(explain("write", self.folder.database(), cause)))
            }
        }
    }

    fn undo(&self, phase: Phase, cause: rusqlite::Error) -> Failed {
        let undone = self.connection.is_autocommit() || self.connection.execute_batch("ROLLBACK").is_ok();
        let rollback = if undone { Rollback::Clean } else { Rollback::Failed };
        let fate = fate(phase, &cause, rollback);
        Failed { fate, error: explain("commit", self.folder.database(), cause) }
    }

    /// On a full disk, the room to delete something may be in the log: what is in the database by now can leave it.
    fn make_room(&mut self, error: &Error) {
        if matches!(error, Error::DiskFull { .. }) {
            self.log_frames = CHECKPOINT_NOW;
        }
    }

    fn poison(&mut self, error: Error) {
        tracing::error!(error = &error as &dyn std::error::Error, "the store takes no commits until it is reopened");
        self.poison = Some(Arc::new(error));
        // Closing must not move a log into the database that nobody can vouch for. Recovery reads it afresh.
        if let Err(error) = self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true) {
            tracing::warn!(%error, "the store may checkpoint when it closes");
        }
    }

    /// Moves the log into the database now and then, so that it can be reused. Nobody waits for this but the next
    /// group. A full disk is no harm, the log has it all; but a failed sync is one like any other.
    fn checkpoint_if_due(&mut self) {
        if self.poison.is_some() {
            return;
        }
        if let Err(cause) = self.checkpoint() {
            let broken = is_broken_disk(cause.sqlite_error_code());
            let error = explain("move the log into the database", self.folder.database(), cause);
            match broken {
                true => self.poison(error),
                false => tracing::warn!(error = &error as &dyn std::error::Error, "the store's log keeps growing"),
            }
        }
    }

    fn checkpoint(&mut self) -> rusqlite::Result<()> {
        let frames = self.run_checkpoint("NOOP")?;
        if frames < self.log_frames {
            // It was reused from its beginning.
            self.log_frames = 0;
        }
        if frames - self.log_frames < CHECKPOINT_FRAMES {
            return Ok(());
        }
        self.log_frames = frames;
        if frames < LOG_FRAMES_MAX {
            self.run_checkpoint("PASSIVE")?;
            return Ok(());
        }
        let timeout: i64 = self.connection.pragma_query_value(None, "busy_timeout", |row| row.get(0))?;
        self.connection.busy_timeout(LOG_READERS_TIMEOUT)?;
        let truncated = self.run_checkpoint("TRUNCATE");
        self.connection.pragma_update(None, "busy_timeout", timeout)?;
        truncated.map(drop)
    }

    /// Answers the frames in the log. Readers in the way are no error.
    fn run_checkpoint(&self, mode: &str) -> rusqlite::Result<i64> {
        self.connection.prepare_cached(&format!("PRAGMA wal_checkpoint({mode})"))?.query_row([], |row| row.get("log"))
    }

    fn finish(self) -> Result<(), Error> {
        let Self { folder, connection, poison, .. } = self;
        if let Some(source) = poison {
            return Err(Error::Poisoned { source });
        }
        // The last connection to close moves the log into the database and removes it.
        connection.close().map_err(|(_, cause)| explain("close the store", folder.database(), cause))
    }
}

impl Job {
    /// Whoever asked may have gone; the commit stands all the same.
    fn answer(self, answer: Answer) {
        drop(self.answer.send(answer));
    }
}

/// Takes what waits behind `first`, up to a group. Answers whoever wants the store closed after it.
fn gather(
    first: Message,
    messages: &mut mpsc::Receiver<Message>,
    group: &mut Vec<Job>,
) -> Option<oneshot::Sender<Result<(), Error>>> {
    let mut next = Some(first);
    let mut bytes = 0;
    while let Some(message) = next {
        match message {
            Message::Close(answer) => return Some(answer),
            Message::Commit(job) => {
                bytes += commit::size_bytes(&job.checks, &job.writes);
                group.push(job);
            }
        }
        let is_full = group.len() >= GROUP_COMMITS_MAX || bytes >= GROUP_BYTES_MAX;
        next = if is_full { None } else { messages.try_recv().ok() };
    }
    None
}
