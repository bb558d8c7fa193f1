//! A guest's response on its way out: the head is checked, and the body is watched until it ends.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Method, StatusCode, header};
use http_body::{Body as _, Frame, SizeHint};
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

/// What of a body has still to be sent, as its head has it. Whoever sends a body stops when the head is satisfied, and drops it
/// without asking for its end; that is no sign of a client that went away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promised {
    /// The answer has no body, whatever the guest writes: it answers `HEAD`, or its status has none.
    Nothing,
    /// So many bytes.
    Bytes(u64),
    /// The head does not say.
    Open,
}

impl Promised {
    /// What `head` promises in answer to a request with `method`.
    #[must_use]
    pub fn of(method: &Method, head: &http::response::Parts, body: &impl http_body::Body) -> Self {
        let bodiless = method == Method::HEAD
            || head.status.is_informational()
            || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if bodiless {
            return Self::Nothing;
        }
        let length = head.headers.get(header::CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
        length.or_else(|| body.size_hint().exact()).map_or(Self::Open, Self::Bytes)
    }

    /// A frame was sent. Nothing comes after trailers.
    pub fn sent(&mut self, frame: &Frame<Bytes>) {
        match (&mut *self, frame.data_ref()) {
            (Self::Bytes(left), Some(data)) => *left = left.saturating_sub(data.len() as u64),
            (_, None) => *self = Self::Nothing,
            _ => {}
        }
    }

    /// Whether all that was promised has been sent.
    #[must_use]
    pub fn is_kept(self) -> bool {
        matches!(self, Self::Nothing | Self::Bytes(0))
    }

    /// What of `frame` was promised, if it is more than that.
    fn cut(self, frame: &Frame<Bytes>) -> Option<Bytes> {
        let (Self::Bytes(left), Some(data)) = (self, frame.data_ref()) else { return None };
        (data.len() as u64 > left).then(|| data.slice(..usize::try_from(left).unwrap_or(data.len())))
    }
}

/// Watches `body`: it may not stand still, what breaks it is noted in the account, and `end` is told of its end.
pub fn watch<E: OnEnd>(body: Body, promised: Promised, call: Arc<Call>, end: E) -> Watched<E> {
    let idle = Idle::new(body, BODY_IDLE_MAX, || Error::HttpResponseTimeout);
    Watched { inner: idle, promised, cut: false, call, end, ended: false }
}

/// A body that is watched. Not boxed by itself: nearly every answer goes out as it is.
pub struct Watched<E: OnEnd> {
    inner: Idle<Body>,
    promised: Promised,
    /// Whether the guest sent more than it promised, which ends the body.
    cut: bool,
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
        if self.cut {
            return Poll::Ready(None);
        }
        let mut frame = Pin::new(&mut self.inner).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &mut frame {
            if let Some(promised) = self.promised.cut(frame) {
                // HTTP/2 would send all of it, and the client would see a broken protocol.
                *frame = Frame::data(promised);
                self.cut = true;
                let message = "the guest sent more of a body than the response's head promises".to_owned();
                self.call.conclude(Conclusion { outcome: Outcome::Exception, blame: Some(Blame::Guest), message });
            }
            self.promised.sent(frame);
        }
        match &frame {
            Poll::Ready(None) => self.finish(Ended::Whole),
            Poll::Ready(Some(Err(error))) => {
                let message = format!("the response's body broke off: {error:?}");
                let outcome = Outcome::ResponseStreamDisconnected;
                self.call.conclude(Conclusion { outcome, blame: Some(Blame::Guest), message });
                self.finish(Ended::Early);
            }
            Poll::Ready(Some(Ok(_))) if self.is_end_stream() => self.finish(Ended::Whole),
            _ => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.cut || self.promised == Promised::Nothing || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<E: OnEnd> Drop for Watched<E> {
    fn drop(&mut self) {
        // A body that is known to be empty is never polled.
        let whole = self.is_end_stream() || self.promised.is_kept();
        let ended = if whole { Ended::Whole } else { Ended::Early };
        self.finish(ended);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::Full;

    fn check(method: Method, status: u16, length: Option<&str>, body: &'static str) -> Promised {
        let response = http::Response::builder().status(status);
        let response = length.into_iter().fold(response, |response, length| response.header("content-length", length));
        let (head, body) = response.body(Full::new(Bytes::from_static(body.as_bytes()))).unwrap().into_parts();
        Promised::of(&method, &head, &body)
    }

    #[test]
    fn a_promise_is_kept_by_the_bytes_that_the_head_names() {
        let mut promised = check(Method::GET, 200, Some("5"), "");
        promised.sent(&Frame::data(Bytes::from_static(b"1234")));
        assert!(!promised.is_kept());
        assert_eq!(promised.cut(&Frame::data(Bytes::from_static(b"56"))).unwrap(), "5");
        assert!(promised.cut(&Frame::data(Bytes::from_static(b"5"))).is_none());
        promised.sent(&Frame::data(Bytes::from_static(b"5")));
        assert!(promised.is_kept());
        // Without the header the body's own length counts, as it does for whoever sends it.
        assert_eq!(check(Method::GET, 200, None, "abc"), Promised::Bytes(3));
        // An answer without a body has nothing left to send, whatever its head says.
        for (method, status) in [(Method::HEAD, 200), (Method::GET, 204), (Method::GET, 304)] {
            assert_eq!(check(method, status, Some("5"), "abcde"), Promised::Nothing);
        }
    }
}
