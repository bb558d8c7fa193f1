//! What the instance of a Durable Object shares with its host: who it is, its gates and its storage.
//!
//! An object is one instance with one store. Events come to it through the *input gate* ([`gate`]), one delivery at a time, so
//! that its code is interrupted only where it awaits something; what it says leaves through the *output gate*: not before the
//! writes made until then are durable ([`storage`], [`body`]). The guest asks for all this by [`guest`] (storage), [`stub`]
//! or [`address`] (other objects) and [`timer`]. Which object runs where, and when, is decided upstairs.

pub(super) mod address;
pub mod body;
pub mod gate;
pub mod guest;
pub mod storage;
pub mod stub;
pub mod timer;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Poll;

use tokio_util::sync::CancellationToken;

use crate::domain::id::VersionId;
use crate::domain::object::{ClassName, ObjectId, ObjectNamespaceId};
use crate::host::Body;
use crate::host::object::gate::Gate;
use crate::host::object::storage::Storage;

/// One object among all of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    pub namespace: ObjectNamespaceId,
    pub id: ObjectId,
    /// The version whose own copy of the namespace this is about, if it is not the namespace itself (E19).
    pub fork: Option<VersionId>,
}

/// Why an object left memory: what callers in flight are told. The first reason counts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reset {
    /// The text of `DOL-8`.
    #[error("Durable Object reset because its code was updated.")]
    CodeUpdated,
    /// Why is for the operator, and in the log: it names files of the node.
    #[error("Durable Object storage operation failed, which caused the object to be reset.")]
    StorageFailed(String),
    #[error("Connection closed: this Durable Object instance is no longer active. Reconnect or retry the request.")]
    Superseded,
    #[error("Durable Object reset because its code failed: {0}")]
    Failed(String),
    #[error("Durable Object reset because it was deleted.")]
    Deleted,
    #[error("Durable Object reset on request of an operator.")]
    Asked,
    #[error("Durable Object reset because its alarm ran for too long.")]
    AlarmTooLong,
    #[error("Durable Object reset because the node is stopping.")]
    Stopping,
    /// Nobody was waiting for anything of it.
    #[error("Durable Object left memory.")]
    Idle,
}

/// One object in memory, as its instance and its host share it.
pub struct Object {
    pub address: Address,
    pub class: ClassName,
    pub name: Option<Arc<str>>,
    pub gate: Arc<Gate>,
    pub storage: Storage,
    /// Told when the object is to leave memory at once.
    pub stop: CancellationToken,
    reset: OnceLock<Reset>,
    dead: AtomicBool,
    /// Events in it, and bodies of theirs that are on their way.
    present: AtomicU32,
    /// Whether the guest goes on with something although no event is in it.
    background: AtomicBool,
    /// Whether its poll is pending only because its time slice is over.
    yielding: AtomicBool,
    /// Whether it is to leave as soon as nothing happens: others need its room.
    unwanted: AtomicBool,
}

/// Counts as something going on in the object, until it is dropped.
pub struct Presence(Arc<Object>);

impl Object {
    /// An object that no event has come to yet.
    #[must_use]
    pub fn new(address: Address, class: ClassName, name: Option<Arc<str>>, storage: Storage, gate: Arc<Gate>) -> Self {
        Self {
            address,
            class,
            name,
            gate,
            storage,
            stop: CancellationToken::new(),
            reset: OnceLock::new(),
            dead: AtomicBool::new(false),
            present: AtomicU32::new(0),
            background: AtomicBool::new(false),
            yielding: AtomicBool::new(false),
            unwanted: AtomicBool::new(false),
        }
    }

    /// Makes the object leave memory. Whoever comes after this finds it dead.
    pub fn reset(&self, why: Reset) {
        let _ = self.reset.set(why);
        self.die();
        self.stop.cancel();
    }

    /// Notes why it ends, if nothing was noted before, and lets nothing wait for it any more.
    pub fn end(&self, why: Reset) {
        let _ = self.reset.set(why);
        self.die();
    }

    fn die(&self) {
        self.dead.store(true, Ordering::SeqCst);
        self.storage.die();
        self.gate.open_for_good();
    }

    /// Why it ended.
    #[must_use]
    pub fn reset_reason(&self) -> Option<&Reset> {
        self.reset.get()
    }

    /// Whether it has ended, or is about to.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    /// Something begins in the object.
    #[must_use]
    pub fn enter(self: &Arc<Self>) -> Presence {
        self.present.fetch_add(1, Ordering::SeqCst);
        Presence(Arc::clone(self))
    }

    /// Whether anything goes on that an event began: an event itself, or a body.
    #[must_use]
    pub fn is_present(&self) -> bool {
        self.present.load(Ordering::SeqCst) > 0
    }

    /// Notes whether the guest goes on by itself: ready means that it does not.
    pub fn note_background(&self, done: Poll<()>) {
        self.background.store(done.is_pending(), Ordering::Relaxed);
    }

    /// Whether the guest goes on by itself.
    #[must_use]
    pub fn has_background(&self) -> bool {
        self.background.load(Ordering::Relaxed)
    }

    /// The guest gives way at a tick.
    pub fn gives_way(&self) {
        self.yielding.store(true, Ordering::SeqCst);
    }

    /// The guest goes on after it gave way.
    pub fn goes_on(&self) {
        self.yielding.store(false, Ordering::SeqCst);
    }

    /// Whether it has given way at a tick.
    #[must_use]
    pub fn is_yielding(&self) -> bool {
        self.yielding.load(Ordering::SeqCst)
    }

    /// Has the object leave as soon as nothing happens.
    pub fn make_room(&self) {
        self.unwanted.store(true, Ordering::Relaxed);
        self.gate.wake();
    }

    /// Whether it was asked to leave.
    #[must_use]
    pub fn is_unwanted(&self) -> bool {
        self.unwanted.load(Ordering::Relaxed)
    }

    /// A body that comes to the object: its chunks are deliveries.
    #[must_use]
    pub fn incoming(self: &Arc<Self>, body: Body) -> Body {
        use http_body_util::BodyExt as _;
        if http_body::Body::is_end_stream(&body) {
            return body;
        }
        body::Incoming::new(body, Arc::clone(self)).boxed_unsync()
    }

    /// A body that leaves the object: its chunks wait for the writes made before them.
    #[must_use]
    pub fn outgoing(self: &Arc<Self>, body: Body) -> Body {
        use http_body_util::BodyExt as _;
        if http_body::Body::is_end_stream(&body) {
            return body;
        }
        body::Outgoing::new(body, Arc::clone(self)).boxed_unsync()
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        if self.0.present.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.gate.wake();
        }
    }
}

impl Reset {
    /// Whether the object's own code is to blame.
    #[must_use]
    pub fn is_guests(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::AlarmTooLong)
    }
}
