//! The input gate (`DOS-4`): one delivery a turn.
//!
//! A *delivery* is anything that is handed to the guest: an event, the end of a fetch, of a call, of a timer or of a storage
//! operation, a chunk of a body. It begins a *turn*. The turn is over when the guest is at rest, every task of it waiting for
//! the host, while no storage operation is pending; then the next delivery in the queue is let in. To let in whatever comes
//! while "no operation is pending at this moment" is not enough: ten held events would start together, and an update be lost.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

// Not tokio's: its channels answer `Pending` when a task has used up its budget, which would look like rest.
use futures_channel::oneshot;
use futures_util::task::AtomicWaker;

/// The gate of one object.
#[derive(Default)]
pub struct Gate {
    state: Mutex<State>,
    /// The task of the object: woken when something outside of it began a turn that only it can end.
    task: AtomicWaker,
}

#[derive(Default)]
struct State {
    /// Storage operations that the guest waits for.
    operations: u32,
    /// Whether a turn has begun and is not over.
    busy: bool,
    /// Whether a delivery was let in that has not been picked up.
    granted: bool,
    /// Whether one was picked up since the guest was last seen at rest. It may be queued for the guest and not have reached it:
    /// an event loop that is polled may take something up at its very end.
    fresh: bool,
    waiting: VecDeque<oneshot::Sender<()>>,
    /// Whether there is nothing to guard.
    broken: bool,
}

/// A place in the queue. Ready when the delivery may be made.
pub struct Ticket {
    gate: Arc<Gate>,
    turn: Option<oneshot::Receiver<()>>,
}

/// A storage operation that the guest waits for: as long as it lives, nothing is let in. Its end is a delivery.
pub struct Operation(Arc<Gate>);

impl Gate {
    /// A place in the queue, taken now.
    #[must_use]
    pub fn ticket(self: &Arc<Self>) -> Ticket {
        let mut state = self.state();
        if state.broken {
            return Ticket { gate: Arc::clone(self), turn: None };
        }
        if !state.busy && state.operations == 0 && state.waiting.is_empty() {
            state.busy = true;
            return Ticket { gate: Arc::clone(self), turn: None };
        }
        let (grant, turn) = oneshot::channel();
        state.waiting.push_back(grant);
        drop(state);
        Ticket { gate: Arc::clone(self), turn: Some(turn) }
    }

    /// Begins a storage operation.
    #[must_use]
    pub fn operation(self: &Arc<Self>) -> Operation {
        self.state().operations += 1;
        Operation(Arc::clone(self))
    }

    /// The guest is at rest: lets the next delivery in. True if the guest is to be polled again: there was one, or the last one
    /// may not have reached it.
    pub fn rest(&self) -> bool {
        let mut state = self.state();
        if state.operations > 0 || state.granted {
            return false;
        }
        if std::mem::take(&mut state.fresh) {
            return true;
        }
        state.busy = false;
        while let Some(grant) = state.waiting.pop_front() {
            // Before it is sent: whoever waits may look at once.
            (state.granted, state.busy) = (true, true);
            if grant.send(()).is_ok() {
                return true;
            }
            (state.granted, state.busy) = (false, false);
        }
        false
    }

    /// Whose poll ends turns.
    pub fn register(&self, task: &Waker) {
        self.task.register(task);
    }

    /// Has the object's task look whether a turn is over.
    pub fn wake(&self) {
        self.task.wake();
    }

    /// Lets in whatever waits, and all that comes: the object is dead, or takes one event after the other anyway.
    pub fn open_for_good(&self) {
        let mut state = self.state();
        state.broken = true;
        for grant in state.waiting.drain(..) {
            let _ = grant.send(());
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Future for Ticket {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let waited = match self.turn.as_mut() {
            Some(turn) => {
                if Pin::new(turn).poll(cx).is_pending() {
                    return Poll::Pending;
                }
                true
            }
            None => false,
        };
        self.turn = None;
        let mut state = self.gate.state();
        state.fresh = true;
        if waited {
            state.granted = false;
        }
        drop(state);
        Poll::Ready(())
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let was_let_in = self.turn.as_mut().is_some_and(|turn| matches!(turn.try_recv(), Ok(Some(()))));
        if was_let_in {
            self.gate.state().granted = false;
            self.gate.wake();
        }
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.operations -= 1;
        state.busy = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[test]
    fn one_delivery_a_turn_in_the_order_of_the_tickets() {
        let gate = Arc::new(Gate::default());
        let first = gate.ticket();
        let (mut second, mut third) = (gate.ticket(), gate.ticket());
        assert!(first.now_or_never().is_some());
        // Picked up, and not known to have reached the guest.
        assert!(gate.rest());
        assert!((&mut second).now_or_never().is_none());
        assert!(gate.rest());
        assert!((&mut third).now_or_never().is_none());
        // Let in but not picked up: the turn has not even begun.
        assert!(!gate.rest());
        assert!((&mut second).now_or_never().is_some());
        assert!(gate.rest());
        assert!((&mut third).now_or_never().is_none());
        assert!(gate.rest());
        assert!(third.now_or_never().is_some());
        assert!(gate.rest());
        assert!(!gate.rest());
    }

    #[test]
    fn nothing_is_let_in_while_an_operation_is_pending_and_its_end_is_a_turn() {
        let gate = Arc::new(Gate::default());
        let operation = gate.operation();
        let mut event = gate.ticket();
        assert!(!gate.rest());
        assert!((&mut event).now_or_never().is_none());
        drop(operation);
        assert!((&mut event).now_or_never().is_none());
        assert!(gate.rest());
        assert!(event.now_or_never().is_some());
    }

    #[test]
    fn a_ticket_that_is_given_up_holds_up_no_one() {
        let gate = Arc::new(Gate::default());
        drop(gate.ticket());
        let (given_up, mut waits) = (gate.ticket(), gate.ticket());
        assert!(gate.rest());
        drop(given_up);
        assert!(gate.rest());
        assert!((&mut waits).now_or_never().is_some());
        let late = gate.ticket();
        gate.open_for_good();
        assert!(late.now_or_never().is_some());
        assert!(gate.ticket().now_or_never().is_some());
    }
}
