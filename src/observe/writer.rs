//! Lines to a file or to standard output, written by a thread of their own: a slow disk never slows a request. What does not
//! fit the queue is dropped and counted.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Lines that may wait to be written.
const QUEUE_LINES: usize = 8192;

/// Writes lines in the background.
pub struct LineWriter {
    lines: Option<SyncSender<String>>,
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
            && let Err(TrySendError::Full(_)) = lines.try_send(line)
        {
            self.dropped.fetch_add(1, Ordering::Relaxed);
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

fn write_all(queue: &Receiver<String>, mut out: impl Write) {
    while let Ok(line) = queue.recv() {
        let mut result = writeln!(out, "{line}");
        // Flush once the queue is empty: one write for many lines under load, none held back in peace.
        for line in queue.try_iter() {
            result = result.and_then(|()| writeln!(out, "{line}"));
        }
        if let Err(error) = result.and_then(|()| out.flush()) {
            tracing::warn!(%error, "the request log cannot be written; lines are lost");
        }
    }
}
