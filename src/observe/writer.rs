//! Lines to a file or to standard output, written by a thread of their own: a slow disk never slows a request. What does not
//! fit the queue is dropped and counted.
//!
//! A file that has grown to its limit is put aside as `FILE.1`, the one before as `FILE.2`, and so on; the oldest goes. Whoever
//! rotates files by other means renames them and asks to [`LineWriter::reopen`].

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Lines that may wait to be written.
const QUEUE_LINES: usize = 8192;
/// How long the last lines may take.
const FLUSH_MAX: Duration = Duration::from_secs(2);
/// Old files that are kept.
pub const OLD_FILES: u32 = 5;

/// Writes lines in the background.
pub struct LineWriter {
    jobs: Option<SyncSender<Job>>,
    dropped: Arc<AtomicU64>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

enum Job {
    Line(String),
    Reopen,
    /// Answered when all before it is written.
    Flush(SyncSender<()>),
}

/// Where lines end up.
trait Sink: Write + Send + 'static {
    /// Between two lines: the next has so many bytes.
    fn make_room(&mut self, _bytes: u64) -> io::Result<()> {
        Ok(())
    }

    /// Opens the file again that is at its path now.
    fn reopen(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for io::Stdout {}

impl LineWriter {
    /// Appends to the file at `path`, which is put aside before it has more than `bytes_max`.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn to_file(path: &Path, bytes_max: u64) -> io::Result<Self> {
        Self::spawn(Rotating::open(path.to_owned(), bytes_max)?)
    }

    /// Writes to standard output.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn to_stdout() -> io::Result<Self> {
        Self::spawn(io::stdout())
    }

    fn spawn(sink: impl Sink) -> io::Result<Self> {
        let (jobs, queue) = sync_channel(QUEUE_LINES);
        let thread = std::thread::Builder::new().name("request-log".into()).spawn(move || write_all(&queue, sink))?;
        Ok(Self { jobs: Some(jobs), dropped: Arc::default(), thread: Mutex::new(Some(thread)) })
    }

    /// Hands a line over, without its line end. Never waits.
    pub fn write(&self, line: String) {
        if let Some(jobs) = &self.jobs
            && let Err(TrySendError::Full(_)) = jobs.try_send(Job::Line(line))
        {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Opens the file anew after what is queued was written. Waits for a place in the queue.
    pub fn reopen(&self) {
        if let Some(jobs) = &self.jobs {
            let _ = jobs.send(Job::Reopen);
        }
    }

    /// Waits until what was handed over is written, but not for a disk that hangs.
    pub fn flush(&self) {
        let (done, written) = sync_channel(1);
        if let Some(jobs) = &self.jobs
            && jobs.send(Job::Flush(done)).is_ok()
        {
            let _ = written.recv_timeout(FLUSH_MAX);
        }
    }

    /// Lines that were dropped because the queue was full.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl Drop for LineWriter {
    fn drop(&mut self) {
        // Closing the queue ends the thread once it has written what waits.
        self.jobs = None;
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = thread.join();
        }
    }
}

fn write_all(queue: &Receiver<Job>, mut sink: impl Sink) {
    let mut failing = false;
    while let Ok(job) = queue.recv() {
        let mut result = Ok(());
        let mut flushes = Vec::new();
        // Flush once the queue is empty: one write for many lines under load, none held back in peace.
        for job in std::iter::once(job).chain(queue.try_iter()) {
            let done = match job {
                Job::Line(line) => write(&mut sink, &line),
                Job::Reopen => sink.reopen(),
                Job::Flush(done) => {
                    flushes.push(done);
                    Ok(())
                }
            };
            result = result.and(done);
        }
        match result.and_then(|()| sink.flush()) {
            // Once, not for each line: the log of the node may be on the same disk.
            Err(error) if !failing => {
                failing = true;
                tracing::warn!(%error, "the request log cannot be written; lines are lost");
            }
            Err(_) => {}
            Ok(()) => failing = false,
        }
        for done in flushes {
            // Whoever waited may have given up.
            let _ = done.send(());
        }
    }
}

fn write(sink: &mut impl Sink, line: &str) -> io::Result<()> {
    sink.make_room(line.len() as u64 + 1)?;
    writeln!(sink, "{line}")
}

// === impl Rotating ===

/// A file that is put aside when it is full.
struct Rotating {
    path: PathBuf,
    file: io::BufWriter<File>,
    bytes: u64,
    bytes_max: u64,
}

impl Rotating {
    fn open(path: PathBuf, bytes_max: u64) -> io::Result<Self> {
        let (file, bytes) = open(&path)?;
        Ok(Self { path, file, bytes, bytes_max })
    }

    /// `FILE.1` … `FILE.5` each take the next number, the last is overwritten.
    fn rotate(&mut self) -> io::Result<()> {
        self.file.flush()?;
        let old = |number: u32| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        for number in (1..OLD_FILES).rev() {
            match std::fs::rename(old(number), old(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        match std::fs::rename(&self.path, old(1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => self.reopen(),
        }
    }
}

impl Sink for Rotating {
    fn make_room(&mut self, bytes: u64) -> io::Result<()> {
        // What cannot be put aside (a pipe, a folder without rights) is still written to: a long log is better than none.
        let full = self.bytes > 0 && self.bytes.saturating_add(bytes) > self.bytes_max;
        let outcome = if full { self.rotate() } else { Ok(()) };
        self.bytes = if outcome.is_err() { bytes } else { self.bytes.saturating_add(bytes) };
        if let Err(error) = outcome {
            tracing::warn!(%error, "the request log is full and cannot be put aside; it grows on");
        }
        Ok(())
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.file.flush()?;
        let (file, bytes) = open(&self.path)?;
        (self.file, self.bytes) = (file, bytes);
        Ok(())
    }
}

impl Write for Rotating {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn open(path: &Path) -> io::Result<(io::BufWriter<File>, u64)> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    let bytes = file.metadata()?.len();
    Ok((io::BufWriter::new(file), bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(folder: &Path, name: &str) -> Option<String> {
        std::fs::read_to_string(folder.join(name)).ok()
    }

    #[test]
    fn a_full_file_is_put_aside_and_the_oldest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let writer = LineWriter::to_file(&folder.path().join("log"), 10).unwrap();
        for number in 0..16 {
            writer.write(format!("{number:04}"));
        }
        drop(writer);
        let lines = |name: &str| read(folder.path(), name);
        assert_eq!(lines("log").as_deref(), Some("0014\n0015\n"));
        assert_eq!(lines("log.1").as_deref(), Some("0012\n0013\n"));
        assert_eq!(lines("log.5").as_deref(), Some("0004\n0005\n"));
        assert_eq!(lines("log.6"), None);
    }

    #[test]
    fn what_was_there_counts_and_a_line_is_never_split() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("log"), "before\n").unwrap();
        let writer = LineWriter::to_file(&folder.path().join("log"), 10).unwrap();
        writer.write("longer than the limit".into());
        writer.write("next".into());
        drop(writer);
        assert_eq!(read(folder.path(), "log.2").as_deref(), Some("before\n"));
        assert_eq!(read(folder.path(), "log.1").as_deref(), Some("longer than the limit\n"));
        assert_eq!(read(folder.path(), "log").as_deref(), Some("next\n"));
    }

    #[test]
    fn a_file_that_others_renamed_is_opened_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let writer = LineWriter::to_file(&path, 1000).unwrap();
        writer.write("one".into());
        // The renaming must come after the opening, which `to_file` has done.
        std::fs::rename(&path, folder.path().join("aside")).unwrap();
        writer.reopen();
        writer.write("two".into());
        drop(writer);
        assert_eq!(read(folder.path(), "aside").as_deref(), Some("one\n"));
        assert_eq!(read(folder.path(), "log").as_deref(), Some("two\n"));
    }
}
