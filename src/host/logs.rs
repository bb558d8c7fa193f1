//! What a guest prints: standard output and error, cut into lines and kept with the request's account, bounded.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use crate::clock;
use crate::domain::limits::{LOG_BYTES_MAX, LOG_LINE_BYTES_MAX};
use crate::host::call::Call;

/// Which stream a line came by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Out,
    Err,
}

/// A line, without its end.
#[derive(Debug)]
pub struct Line {
    pub stream: Stream,
    pub text: String,
    /// When it was ended.
    pub at: Instant,
}

/// Lines of one request, in the order in which they were ended.
#[derive(Debug, Default)]
pub struct Lines {
    pub ended: Vec<Line>,
    open: [Vec<u8>; 2],
    bytes: usize,
    /// Whether something was left out, because the limit was reached.
    pub truncated: bool,
}

impl Lines {
    /// Takes what was written; keeps it up to [`LOG_BYTES_MAX`] in all.
    pub fn write(&mut self, stream: Stream, mut bytes: &[u8]) {
        let room = LOG_BYTES_MAX - self.bytes;
        if bytes.len() > room {
            self.truncated = true;
            bytes = &bytes[..room];
        }
        self.bytes += bytes.len();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.open[stream as usize].extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.open[stream as usize].len() >= LOG_LINE_BYTES_MAX {
                self.end(stream);
            }
        }
    }

    /// Ends the lines that are still open.
    pub fn finish(&mut self) {
        self.end(Stream::Out);
        self.end(Stream::Err);
    }

    fn end(&mut self, stream: Stream) {
        let mut line = std::mem::take(&mut self.open[stream as usize]);
        while line.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
            line.pop();
        }
        if !line.is_empty() {
            let text = String::from_utf8_lossy(&line).into_owned();
            self.ended.push(Line { stream, text, at: clock::monotonic() });
        }
    }
}

/// The accounts of the requests that an instance serves now. Where it serves several at once, what its guest asks for cannot be
/// told apart: lines go to the newest request, and an outgoing request is paid by the newest that has one left.
#[derive(Debug, Default)]
pub struct Current(Mutex<Vec<Weak<Call>>>);

impl Current {
    /// A request begins beside those that run.
    pub fn enter(&self, call: &Arc<Call>) {
        let mut calls = self.calls();
        // Whoever answers the client holds an account until its end.
        calls.retain(|call| call.strong_count() > 0);
        calls.push(Arc::downgrade(call));
    }

    /// No request runs any more.
    pub fn leave_all(&self) {
        self.calls().clear();
    }

    /// Takes one outgoing request from an account that has one left.
    ///
    /// # Errors
    /// The newest account, if none has; nothing, if no request runs.
    pub fn take_subrequest(&self) -> Result<Arc<Call>, Option<Arc<Call>>> {
        let calls = self.calls();
        let mut running = calls.iter().rev().filter_map(Weak::upgrade);
        running.find(|call| call.take_subrequest()).ok_or_else(|| calls.last().and_then(Weak::upgrade))
    }

    fn calls(&self) -> MutexGuard<'_, Vec<Weak<Call>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn newest(&self) -> Option<Arc<Call>> {
        self.calls().iter().rev().find_map(Weak::upgrade)
    }

    fn write(&self, stream: Stream, bytes: &[u8]) {
        if let Some(call) = self.newest() {
            call.with_lines(|lines| lines.write(stream, bytes));
        }
    }
}

/// One output stream of an instance. Writing never waits and never fails: what passes the limit is dropped.
#[derive(Clone)]
pub struct Printer {
    pub current: Arc<Current>,
    pub stream: Stream,
}

impl IsTerminal for Printer {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Printer {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for Printer {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.current.write(self.stream, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(LOG_BYTES_MAX)
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Printer {
    async fn ready(&mut self) {}
}

impl AsyncWrite for Printer {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.current.write(self.stream, bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_joined_up_to_their_line_ends() {
        let mut lines = Lines::default();
        lines.write(Stream::Out, b"one ");
        lines.write(Stream::Err, b"err 1\n");
        lines.write(Stream::Out, b"line\r\ntwo");
        lines.finish();
        let text: Vec<&str> = lines.ended.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(text, ["err 1", "one line", "two"]);
    }

    #[test]
    fn a_flood_is_cut_and_said_to_be() {
        let mut lines = Lines::default();
        for _ in 0..300 {
            lines.write(Stream::Out, &[b'x'; 8192]);
        }
        lines.finish();
        assert!(lines.truncated);
        assert_eq!(lines.ended.iter().map(|line| line.text.len()).sum::<usize>(), LOG_BYTES_MAX);
    }
}
