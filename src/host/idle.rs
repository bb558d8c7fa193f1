//! A body that gives up when nothing moves: a peer that stops in the middle must not hold an instance for ever.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Sleep;

/// Passes a body on; after `limit` without a frame it fails with the error that `give_up` makes. The timer is only set when
/// the inner body is first found empty: short bodies never touch it.
pub struct Idle<B: Body> {
    inner: B,
    limit: Duration,
    give_up: fn() -> B::Error,
    timer: Option<Pin<Box<Sleep>>>,
    armed: bool,
}

impl<B: Body> Idle<B> {
    /// Wraps `inner`.
    pub fn new(inner: B, limit: Duration, give_up: fn() -> B::Error) -> Self {
        Self { inner, limit, give_up, timer: None, armed: false }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Idle<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = &mut *self;
        match Pin::new(&mut this.inner).poll_frame(cx) {
            Poll::Ready(frame) => {
                this.armed = false;
                Poll::Ready(frame)
            }
            Poll::Pending => {
                let limit = this.limit;
                let timer = this.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
                if !this.armed {
                    timer.as_mut().reset(tokio::time::Instant::now() + limit);
                    this.armed = true;
                }
                match timer.as_mut().poll(cx) {
                    Poll::Ready(()) => Poll::Ready(Some(Err((this.give_up)()))),
                    Poll::Pending => Poll::Pending,
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt as _, Channel};

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stops_is_given_up_and_one_that_moves_is_not() {
        let (mut sender, body) = Channel::<Bytes, &'static str>::new(1);
        let mut body = Idle::new(body, Duration::from_secs(60), || "gave up");
        let feeder = tokio::spawn(async move {
            for _ in 0..5 {
                tokio::time::sleep(Duration::from_secs(50)).await;
                sender.send_data(Bytes::from_static(b"x")).await.unwrap();
            }
            tokio::time::sleep(Duration::from_secs(1000)).await;
        });
        for _ in 0..5 {
            assert!(body.frame().await.unwrap().is_ok());
        }
        assert_eq!(body.frame().await.unwrap().unwrap_err(), "gave up");
        feeder.abort();
    }
}
