//! A guest's response on its way out: the head is checked, and the body is watched until it ends.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use wasmtime_wasi_http::Error;

use crate::domain::limits::{BODY_IDLE_MAX, RESPONSE_HEADER_BYTES_MAX};
use crate::domain::outcome::{Blame, Conclusion, Outcome};
use crate::engine::failure::Failure;
use crate::host::Body;
use crate::host::call::Call;
use crate::host::idle::Idle;

/// What is to happen when a body has ended, or has been dropped before its end.
pub trait OnEnd: Send + Unpin + 'static {
    /// Called once.
    fn on_end(&mut self, ended: Ended);
}

/// How a body came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// All of it was sent.
    Whole,
    /// It broke off, or whoever read it went away.
    Early,
}

/// Checks a head (64 KiB of headers at most).
///
/// # Errors
/// [`Failure::ResponseHeaders`].
pub fn check_head(head: &http::response::Parts) -> Result<(), Failure> {
    let bytes: usize = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if bytes > RESPONSE_HEADER_BYTES_MAX { Err(Failure::ResponseHeaders(bytes)) } else { Ok(()) }
}

/// Watches `body`: it may not stand still, what breaks it is noted in the account, and `end` is told of its end.
pub fn watch<E: OnEnd>(body: Body, call: Arc<Call>, end: E) -> Body {
    let idle = Idle::new(body, BODY_IDLE_MAX, || Error::HttpResponseTimeout);
    Watched { inner: idle, call, end, ended: false }.boxed_unsync()
}

struct Watched<E: OnEnd> {
    inner: Idle<Body>,
    call: Arc<Call>,
    end: E,
    ended: bool,
}

impl<E: OnEnd> Watched<E> {
    fn finish(&mut self, ended: Ended) {
        if !std::mem::replace(&mut self.ended, true) {
            self.end.on_end(ended);
        }
    }
}

impl<E: OnEnd> http_body::Body for Watched<E> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = Pin::new(&mut self.inner).poll_frame(cx);
        match &frame {
            Poll::Ready(None) => self.finish(Ended::Whole),
            Poll::Ready(Some(Err(error))) => {
                let message = format!("the response's body broke off: {error:?}");
                let outcome = Outcome::ResponseStreamDisconnected;
                self.call.conclude(Conclusion { outcome, blame: Some(Blame::Guest), message });
                self.finish(Ended::Early);
            }
            Poll::Ready(Some(Ok(_))) if self.inner.is_end_stream() => self.finish(Ended::Whole),
            _ => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<E: OnEnd> Drop for Watched<E> {
    fn drop(&mut self) {
        // A body that is known to be empty is never polled.
        let ended = if self.inner.is_end_stream() { Ended::Whole } else { Ended::Early };
        self.finish(ended);
    }
}
