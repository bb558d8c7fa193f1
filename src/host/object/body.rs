//! Bodies that cross an object's border.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http_body::{Frame, SizeHint};
use wasmtime_wasi_http::Error;

use crate::host::Body;
use crate::host::object::Object;
use crate::host::object::gate::Ticket;

/// Chunks on their way in wait for the input gate.
pub(super) struct Incoming {
    inner: Body,
    object: Arc<Object>,
    held: Option<(Frame<Bytes>, Ticket)>,
}

/// Chunks on their way out wait for the output gate.
pub(super) struct Outgoing {
    inner: Body,
    object: Arc<Object>,
    held: Option<(Frame<Bytes>, BoxFuture<'static, bool>)>,
}

impl Incoming {
    pub(super) fn new(inner: Body, object: Arc<Object>) -> Self {
        Self { inner, object, held: None }
    }
}

impl Outgoing {
    pub(super) fn new(inner: Body, object: Arc<Object>) -> Self {
        Self { inner, object, held: None }
    }
}

impl http_body::Body for Incoming {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        let (frame, mut ticket) = match this.held.take() {
            Some(held) => held,
            None => match Pin::new(&mut this.inner).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => (frame, this.object.gate.ticket()),
                other => return other,
            },
        };
        match ticket.poll_unpin(cx) {
            Poll::Ready(()) => {
                // A body that the guest passes on untouched is read outside of its store: nobody else would end the turn that
                // this chunk began, and the gate would stay shut.
                this.object.gate.wake();
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Pending => {
                this.held = Some((frame, ticket));
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        let (frame, mut durable) = match this.held.take() {
            Some(held) => held,
            None => match Pin::new(&mut this.inner).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => match this.object.storage.confirmation() {
                    None => return Poll::Ready(Some(Ok(frame))),
                    Some(durable) => (frame, durable),
                },
                // The instance that is dropped closes the body's channel, which reads as a clean end.
                Poll::Ready(None) if this.object.is_dead() => {
                    return Poll::Ready(Some(Err(Error::ConnectionTerminated)));
                }
                other => return other,
            },
        };
        match durable.poll_unpin(cx) {
            Poll::Ready(true) => Poll::Ready(Some(Ok(frame))),
            Poll::Ready(false) => Poll::Ready(Some(Err(Error::ConnectionTerminated))),
            Poll::Pending => {
                this.held = Some((frame, durable));
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
