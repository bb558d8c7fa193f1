//! Events on their way to an object: in the order in which they came, each in a turn of its own.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use futures_util::FutureExt as _;
use tokio::sync::mpsc;

use crate::engine::live::{Event, Fetched, Rung, Work};
use crate::host::object::Object;
use crate::host::object::gate::Ticket;

/// Events on their way to one object, and their order.
pub struct Mailbox {
    events: mpsc::UnboundedReceiver<Event>,
    waiting: VecDeque<(Ticket, Event)>,
    pub(super) queued: Arc<AtomicUsize>,
}

/// Where events for one object are put.
#[derive(Clone)]
pub struct Slot {
    events: mpsc::UnboundedSender<Event>,
    pub(super) queued: Arc<AtomicUsize>,
}

/// Whose an event is: the object's that begins with it, or its caller's who has waited for too long. Whoever is first.
#[derive(Debug, Clone, Default)]
pub struct Claim(Arc<AtomicBool>);

impl Claim {
    /// True for the first who asks.
    #[must_use]
    pub fn take(&self) -> bool {
        !self.0.swap(true, Ordering::SeqCst)
    }
}

/// A mailbox, and where events for it are put.
#[must_use]
pub fn mailbox() -> (Slot, Mailbox) {
    let (sender, events) = mpsc::unbounded_channel();
    let queued = Arc::new(AtomicUsize::new(0));
    let slot = Slot { events: sender, queued: Arc::clone(&queued) };
    (slot, Mailbox { events, waiting: VecDeque::new(), queued })
}

impl Slot {
    /// Takes a place among the events.
    ///
    /// # Errors
    /// The event, if the object takes no more.
    #[expect(clippy::result_large_err, reason = "the event goes back whole, so that it can be put elsewhere")]
    pub fn put(&self, event: Event) -> Result<(), Event> {
        self.queued.fetch_add(1, Ordering::SeqCst);
        self.events.send(event).map_err(|mpsc::error::SendError(event)| {
            self.queued.fetch_sub(1, Ordering::SeqCst);
            event
        })
    }

    /// Events that have not begun.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queued.load(Ordering::SeqCst)
    }
}

impl Mailbox {
    /// Gives back what has not begun, and takes nothing more.
    pub fn return_all(&mut self) {
        self.events.close();
        let mut events: Vec<Event> = self.waiting.drain(..).map(|(_, event)| event).collect();
        while let Ok(event) = self.events.try_recv() {
            events.push(event);
        }
        for event in events {
            self.queued.fetch_sub(1, Ordering::SeqCst);
            match event.work {
                Work::Fetch { request, reply } => drop(reply.send(Fetched::NotBegun(request))),
                Work::Alarm { reply } => drop(reply.send(Rung::NotBegun)),
            }
        }
    }

    /// The next event whose turn it is.
    pub(super) fn poll_turn(&mut self, object: &Object, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let closed = loop {
            match self.events.poll_recv(cx) {
                // The place among the deliveries is taken here, in the order in which events came.
                Poll::Ready(Some(event)) => self.waiting.push_back((object.gate.ticket(), event)),
                Poll::Ready(None) => break true,
                Poll::Pending => break false,
            }
        };
        while let Some((ticket, _)) = self.waiting.front_mut() {
            if ticket.poll_unpin(cx).is_pending() {
                return Poll::Pending;
            }
            self.queued.fetch_sub(1, Ordering::SeqCst);
            let event = self.waiting.pop_front().map(|(_, event)| event);
            // One whose caller waits no more is passed over: he was told that it never began.
            if event.as_ref().is_some_and(|event| event.claim.take()) {
                return Poll::Ready(event);
            }
        }
        if closed { Poll::Ready(None) } else { Poll::Pending }
    }
}
