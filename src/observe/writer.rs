//! Lines to a file or to standard output, written by a thread of their own: a slow disk never slows a request. What does not
//! fit the queue is dropped and counted.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long the last lines may take.
const FLUSH_MAX: Duration = Duration::from_secs(2);
/// Lines that may wait to be written.
const QUEUE_LINES: usize = 8192;

enum Message {
    Line(String),
    /// Answered when all before it is written.
    Flush(SyncSender<()>),
}

/// Writes lines in the background.
pub struct LineWriter {
    lines: Option<SyncSender<Message>>,
    dropped: Arc<AtomicU64>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl LineWriter {
    /// Appends to the file at `path`.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn to_file(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Self::spawn(io::BufWriter::new(file))
    }

    /// Writes to standard output.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn to_stdout() -> io::Result<Self> {
        Self::spawn(io::stdout())
    }

    fn spawn(out: impl Write + Send + 'static) -> io::Result<Self> {
        let (lines, queue) = sync_channel(QUEUE_LINES);
        let thread = std::thread::Builder::new().name("request-log".into()).spawn(move || write_all(&queue, out))?;
        Ok(Self { lines: Some(lines), dropped: Arc::default(), thread: Mutex::new(Some(thread)) })
    }

    /// Hands a line over, without its line end. Never waits.
    pub fn write(&self, line: String) {
        if let Some(lines) = &self.lines
            && let Err(TrySendError::Full(_)) = lines.try_send(Message::Line(line))
        {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until what was handed over is written, but not for a disk that hangs.
    pub fn flush(&self) {
        let (done, written) = sync_channel(1);
        if let Some(lines) = &self.lines
            && lines.send(Message::Flush(done)).is_ok()
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
        self.lines = None;
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = thread.join();
        }
    }
}

fn write_all(queue: &Receiver<Message>, mut out: impl Write) {
    while let Ok(message) = queue.recv() {
        let mut result = Ok(());
        let mut flushes = Vec::new();
        // Flush once the queue is empty: one write for many lines under load, none held back in peace.
        for message in std::iter::once(message).chain(queue.try_iter()) {
            match message {
                Message::Line(line) => result = result.and_then(|()| writeln!(out, "{line}")),
                Message::Flush(done) => flushes.push(done),
            }
        }
        if let Err(error) = result.and_then(|()| out.flush()) {
            tracing::warn!(%error, "the request log cannot be written; lines are lost");
        }
        for done in flushes {
            // Whoever waited may have given up.
            let _ = done.send(());
        }
    }
}
