//! Is a guest at rest, or has it only given way? Whoever wakes himself while he is polled has more to do: so does the engine
//! between two tasks of a guest, and a set of futures of which some were not looked at.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// Tells a guest that is at rest from one that has only given way. Keep one for each guest.
pub struct Stirring {
    inner: Arc<Stir>,
    waker: Waker,
}

#[derive(Default)]
struct Stir {
    state: AtomicU8,
    task: AtomicWaker,
}

/// Nobody polls: a wake is the task's.
const ASLEEP: u8 = 0;
/// The guest is polled.
const POLLED: u8 = 1;
/// The guest was woken while it was polled.
const STIRRED: u8 = 2;

impl Default for Stirring {
    fn default() -> Self {
        let inner = Arc::<Stir>::default();
        Self { waker: Waker::from(Arc::clone(&inner)), inner }
    }
}

impl Stirring {
    /// Polls a guest. Tells also whether it was woken meanwhile; if it was, it has to be polled again.
    pub fn poll<F: Future>(&self, guest: Pin<&mut F>, cx: &Context<'_>) -> (Poll<F::Output>, bool) {
        self.inner.task.register(cx.waker());
        self.inner.state.store(POLLED, Ordering::SeqCst);
        let poll = guest.poll(&mut Context::from_waker(&self.waker));
        (poll, self.inner.state.swap(ASLEEP, Ordering::SeqCst) == STIRRED)
    }
}

impl Wake for Stir {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let noted = self.state.compare_exchange(POLLED, STIRRED, Ordering::SeqCst, Ordering::SeqCst);
        if noted == Err(ASLEEP) {
            self.task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_wakes_himself_is_not_at_rest_and_who_is_woken_later_wakes_the_task() {
        struct Count(AtomicU8);
        impl Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        let task = Arc::new(Count(AtomicU8::new(0)));
        let waker = Waker::from(Arc::clone(&task));
        let cx = Context::from_waker(&waker);
        let stirring = Stirring::default();
        let mut polls = 0;
        let mut kept = None;
        let mut guest = Box::pin(std::future::poll_fn(|cx| {
            polls += 1;
            kept = Some(cx.waker().clone());
            if polls == 1 {
                cx.waker().wake_by_ref();
            }
            Poll::<()>::Pending
        }));
        assert_eq!(stirring.poll(guest.as_mut(), &cx), (Poll::Pending, true));
        assert_eq!(stirring.poll(guest.as_mut(), &cx), (Poll::Pending, false));
        drop(guest);
        assert_eq!(task.0.load(Ordering::SeqCst), 0);
        kept.expect("a waker").wake();
        assert_eq!(task.0.load(Ordering::SeqCst), 1);
    }
}
