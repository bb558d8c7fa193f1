//! The one home of an object: the task in which its instance lives, and the way to it.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};

use crate::clock;
use crate::domain::id::DeploymentId;
use crate::domain::limits::{OBJECT_QUEUE_MAX, OBJECT_QUEUE_WALL_MAX, PERMIT_WAIT_MAX, RESPONSE_HEAD_WALL_MAX};
use crate::domain::module::GuestKind;
use crate::domain::object::ClassName;
use crate::domain::stay::Left;
use crate::domain::version::Version;
use crate::engine::engines::Kit;
use crate::engine::failure::Failure;
use crate::engine::live::{self, Claim, Event, Fetched, Keeping, Mailbox, NotOpened, Rung, Work};
use crate::engine::version_engine::VersionEngine;
use crate::host::Body;
use crate::host::call::Call;
use crate::host::object::gate::Gate;
use crate::host::object::storage::Storage;
use crate::host::object::{Address, Object, Reset};
use crate::host::ports::{ObjectError, ObjectTarget};
use crate::objects::held::Held;
use crate::objects::{Assignment, Counts, Objects, gone, overloaded, past, remote, stopping};

/// The place of one object: at most one home, and what is remembered of those before.
#[derive(Default)]
pub(super) struct Cell {
    /// Locked only while a home is found or made: whoever comes meanwhile waits in order.
    pub(super) place: tokio::sync::Mutex<Option<Arc<Home>>>,
    /// The same home, for those who only look.
    present: Mutex<Option<Arc<Home>>>,
    /// Homes in a row that failed before they had answered anything.
    failures: AtomicU32,
    failed_at: Mutex<Option<Instant>>,
    /// When the last home was reset before it had answered anything, if it was.
    lost_start_at: Mutex<Option<Instant>>,
}

/// One object in memory, or about to be.
pub struct Home {
    pub object: Arc<Object>,
    pub version: Arc<Version>,
    pub engine: Arc<VersionEngine>,
    pub class: ClassName,
    pub address: Address,
    slot: live::Slot,
    /// The deployment under which its assignment was last looked at, and when a deferred change of it falls due.
    pub(super) seen: Mutex<Seen>,
    /// Whether it has answered something.
    progressed: watch::Sender<bool>,
    /// Whether it has its room in memory.
    has_room: AtomicBool,
    over: watch::Sender<Option<Over>>,
    pub(super) counts: Arc<Counts>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub(super) deployment: DeploymentId,
    pub(super) switch_at: Option<Instant>,
}

/// Whether an object had begun with an event when it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    Yes,
    No,
}

/// How a home ended.
#[derive(Debug, Clone)]
pub enum Over {
    /// It never came to life.
    NotOpened(NotOpened),
    /// There was no room for it.
    NoRoom,
    Reset(Reset),
}

impl Cell {
    /// The home, if there is one.
    pub(super) fn present(&self) -> Option<Arc<Home>> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether nothing of its past still counts: a failure does for a while.
    pub(super) fn is_calm(&self) -> bool {
        const REMEMBERED: Duration = Duration::from_secs(30);
        let is_past = |at: &Mutex<Option<Instant>>| {
            let at = *at.lock().unwrap_or_else(PoisonError::into_inner);
            at.is_none_or(|at| clock::monotonic().duration_since(at) > REMEMBERED)
        };
        is_past(&self.failed_at) && is_past(&self.lost_start_at)
    }

    /// Notes that a home is reset before it has answered anything. True if the one before it was as well.
    pub(super) fn lose_a_start(&self) -> bool {
        let now = clock::monotonic();
        self.lost_start_at.lock().unwrap_or_else(PoisonError::into_inner).replace(now).is_some()
    }

    /// Refuses to start an object that has failed several times in a row, for a while that grows.
    pub(super) fn back_off(&self) -> Result<(), ObjectError> {
        /// So many failures may follow each other without a pause.
        const FREE: u32 = 3;
        const FIRST: Duration = Duration::from_millis(100);
        const LONGEST: Duration = Duration::from_secs(10);
        let failures = self.failures.load(Ordering::Relaxed);
        if failures < FREE {
            return Ok(());
        }
        let pause = FIRST.saturating_mul(1 << (failures - FREE).min(10)).min(LONGEST);
        let failed_at = *self.failed_at.lock().unwrap_or_else(PoisonError::into_inner);
        let left = failed_at.map_or(Duration::ZERO, |at| pause.saturating_sub(clock::monotonic().duration_since(at)));
        if left.is_zero() {
            return Ok(());
        }
        let message = format!(
            "this Durable Object failed {failures} times in a row before it answered anything; it is tried again in {} ms",
            left.as_millis().max(1)
        );
        Err(ObjectError { retryable: true, ..overloaded(&message) })
    }

    fn note_end(&self, over: &Over, home: &Home) {
        let has_answered = home.has_progressed();
        let failed = matches!(over, Over::NotOpened(_)) || matches!(over, Over::Reset(reset) if reset.is_guests());
        if has_answered || !failed {
            self.failures.store(0, Ordering::Relaxed);
        }
        if failed && !has_answered {
            self.failures.fetch_add(1, Ordering::Relaxed);
            *self.failed_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(clock::monotonic());
        }
        if has_answered {
            *self.lost_start_at.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }
}

/// A request that has its place among an object's events.
pub struct Placed {
    fetched: oneshot::Receiver<Fetched>,
    claim: Claim,
}

impl Placed {
    /// What became of it; nothing, if the object ended with it.
    ///
    /// # Errors
    /// The object has not begun with it for so long that it is not waited for any more, or has no answer to it. Two objects that
    /// take one event at a time and call each other would wait for ever.
    pub async fn outcome(mut self) -> Result<Option<Fetched>, ObjectError> {
        match tokio::time::timeout(OBJECT_QUEUE_WALL_MAX, &mut self.fetched).await {
            Ok(fetched) => Ok(fetched.ok()),
            Err(_) if self.claim.take() => {
                Err(overloaded("Durable Object is overloaded. Requests queued for too long."))
            }
            Err(_) => match tokio::time::timeout(RESPONSE_HEAD_WALL_MAX, self.fetched).await {
                Ok(fetched) => Ok(fetched.ok()),
                Err(_) => Err(remote(&Failure::WallTime)),
            },
        }
    }
}

impl Home {
    /// Brings a request to the object.
    ///
    /// # Errors
    /// The request, if the home has ended; an error, if too much waits for it.
    #[expect(clippy::result_large_err, reason = "the request goes back whole, so that it can be brought elsewhere")]
    pub fn fetch(
        &self,
        request: http::Request<Body>,
        call: &Arc<Call>,
    ) -> Result<Placed, Result<http::Request<Body>, ObjectError>> {
        if self.slot.queued() >= OBJECT_QUEUE_MAX {
            return Err(Err(overloaded("Durable Object is overloaded. Too many requests queued.")));
        }
        let (reply, fetched) = oneshot::channel();
        let claim = Claim::default();
        let event = Event { work: Work::Fetch { request, reply }, call: Arc::clone(call), claim: claim.clone() };
        match self.slot.put(event) {
            Ok(()) => Ok(Placed { fetched, claim }),
            Err(Event { work: Work::Fetch { request, .. }, .. }) => Err(Ok(request)),
            Err(Event { work: Work::Alarm { .. }, .. }) => unreachable!("a request was put"),
        }
    }

    /// Has the object's alarm ring. What is received is what became of it; nothing, if the object ended with it.
    #[must_use]
    pub fn ring(&self, call: &Arc<Call>) -> oneshot::Receiver<Rung> {
        let (reply, rung) = oneshot::channel();
        let event = Event { work: Work::Alarm { reply }, call: Arc::clone(call), claim: Claim::default() };
        if let Err(Event { work: Work::Alarm { reply }, .. }) = self.slot.put(event) {
            let _ = reply.send(Rung::NotBegun);
        }
        rung
    }

    fn has_room(&self) -> bool {
        self.has_room.load(Ordering::Relaxed)
    }

    /// Notes that the object has done something: it has had its chance.
    pub fn note_progress(&self) {
        self.progressed.send_if_modified(|progressed| !std::mem::replace(progressed, true));
    }

    /// Whether it has.
    #[must_use]
    pub fn has_progressed(&self) -> bool {
        *self.progressed.borrow()
    }

    /// Waits until it has, or has ended.
    pub(super) async fn progress(&self) {
        let mut progressed = self.progressed.subscribe();
        let _ = progressed.wait_for(|progressed| *progressed).await;
    }

    /// Whether its events wait for each other.
    #[must_use]
    pub fn takes_one_by_one(&self) -> bool {
        self.engine.kit.kind == GuestKind::Wasi02
    }

    /// How it ended, when it has; what it had handed to the store is settled then.
    pub async fn over(&self) -> Over {
        let mut over = self.over.subscribe();
        let ended = over.wait_for(Option::is_some).await.map(|over| over.clone());
        ended.ok().flatten().unwrap_or(Over::Reset(Reset::Stopping))
    }
}

impl Over {
    /// The reset that it was, if it never came to life too: whose fault it was is in it.
    #[must_use]
    pub fn reset_of_guest(&self) -> Option<Reset> {
        match self {
            Self::NotOpened(why) => Some(Reset::Failed(why.to_string())),
            Self::NoRoom => None,
            Self::Reset(reset) => Some(reset.clone()),
        }
    }

    /// What a caller is told whose event the object had begun, or had not.
    #[must_use]
    pub fn to_error(&self, begun: Begun) -> ObjectError {
        match self {
            Self::NotOpened(NotOpened::Refused(message)) => ObjectError { remote: true, ..gone(message.clone()) },
            Self::NotOpened(NotOpened::Failed(failure)) => {
                ObjectError { remote: true, reset: true, ..gone(Reset::Failed(failure.to_string()).to_string()) }
            }
            Self::NoRoom => ObjectError {
                retryable: true,
                ..overloaded("Durable Object is overloaded. Too many objects are in memory (`--live-objects`).")
            },
            Self::Reset(Reset::Stopping) => ObjectError { reset: begun == Begun::Yes, ..stopping() },
            Self::Reset(reset) => ObjectError {
                remote: reset.is_guests(),
                retryable: begun == Begun::No,
                reset: true,
                ..gone(reset.to_string())
            },
        }
    }
}

/// Tells how a home ended, even if its task panics.
struct Tell(Arc<Home>);

impl Drop for Tell {
    fn drop(&mut self) {
        self.0.object.end(Reset::Stopping);
        self.0.over.send_if_modified(|over| {
            let silent = over.is_none();
            over.get_or_insert(Over::Reset(Reset::Failed("its task ended".to_owned())));
            silent
        });
        self.0.note_progress();
    }
}

impl Objects {
    /// Starts a home under `assignment`.
    pub(super) async fn start(
        self: &Arc<Self>,
        cell: &Arc<Cell>,
        target: &ObjectTarget,
        assignment: Assignment,
    ) -> Result<Arc<Home>, ObjectError> {
        let Some(workers) = self.workers.get().and_then(std::sync::Weak::upgrade) else { return Err(stopping()) };
        let address = target.address;
        let ready = self.fleet.ready(&assignment.worker.name, &assignment.version, &workers).await;
        let engine = ready.map_err(|failure| gone(failure.to_string()))?;
        let taken = Held::take(&self.store, address, target.name.as_deref(), &self.clock, self.wake.clone()).await;
        let (held, meta) = taken.map_err(|fault| {
            tracing::error!(object = %address.id, %fault, "an object could not be started: its record cannot be read");
            ObjectError { retryable: true, ..gone("the node's store failed".to_owned()) }
        })?;
        let gate = Arc::<Gate>::default();
        let storage = Storage::new(Arc::new(held), Arc::clone(&gate), meta.alarm());
        let name = meta.name.map(Arc::from);
        let object = Arc::new(Object::new(address, assignment.class.clone(), name, storage, gate));
        let (slot, mailbox) = live::mailbox();
        let home = Arc::new(Home {
            object,
            version: assignment.version,
            engine,
            class: assignment.class,
            address,
            slot,
            seen: Mutex::new(Seen { deployment: assignment.deployment, switch_at: None }),
            progressed: watch::Sender::new(false),
            has_room: AtomicBool::new(false),
            over: watch::Sender::new(None),
            counts: self.counts(&assignment.worker.name),
        });
        *cell.present.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&home));
        // Not where it was called from: it belongs to no connection, and lives for long.
        self.runtime.spawn(Arc::clone(self).run(Arc::clone(cell), Arc::clone(&home), mailbox));
        Ok(home)
    }

    /// The task of a home.
    async fn run(self: Arc<Self>, cell: Arc<Cell>, home: Arc<Home>, mut mailbox: Mailbox) {
        let tell = Tell(Arc::clone(&home));
        let over = self.let_live(&home, &mut mailbox).await;
        cell.note_end(&over, &home);
        if let Some(left) = past::left(&over) {
            // It rested as others do, and less long: they needed its room.
            let left = if left == Left::Idle && home.object.is_unwanted() { Left::MadeRoom } else { left };
            home.engine.metrics.object_left(&left);
            self.pasts.left(&home.address, left, self.clock.now_ms());
        }
        match &over {
            Over::Reset(Reset::CodeUpdated) => {
                home.counts.reassigned.fetch_add(1, Ordering::Relaxed);
                tracing::info!(class = %home.class, object = %home.address.id, from = home.version.number, "an object was reset: its assignment changed");
            }
            Over::Reset(reset) if reset.is_guests() => {
                home.counts.failed.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(class = %home.class, object = %home.address.id, version = home.version.number, why = %reset, "an object was reset");
            }
            Over::Reset(Reset::StorageFailed(why)) => {
                tracing::error!(class = %home.class, object = %home.address.id, %why, "an object was reset: its storage failed");
            }
            _ => {}
        }
        {
            // Whoever looks finds no home any more, before anybody hears that this one ended.
            let mut present = cell.present.lock().unwrap_or_else(PoisonError::into_inner);
            if present.as_ref().is_some_and(|present| Arc::ptr_eq(present, &home)) {
                *present = None;
            }
        }
        home.over.send_replace(Some(over));
        home.note_progress();
        mailbox.return_all();
        drop(tell);
        let address = home.address;
        drop((home, cell));
        self.forget(&address);
    }

    async fn let_live(&self, home: &Arc<Home>, mailbox: &mut Mailbox) -> Over {
        let Some(linked) = &home.engine.linked.objects else {
            let refusal = format!("version {} exports no Durable Object classes", home.version.number);
            return Over::NotOpened(NotOpened::Refused(refusal));
        };
        let room = tokio::select! {
            room = self.room(&home.engine.kit) => room,
            () = home.object.stop.cancelled() => None,
        };
        let Some(_room) = room else {
            return match home.object.reset_reason() {
                Some(reset) => Over::Reset(reset.clone()),
                None => {
                    home.object.end(Reset::Idle);
                    Over::NoRoom
                }
            };
        };
        home.has_room.store(true, Ordering::Relaxed);
        home.counts.started.fetch_add(1, Ordering::Relaxed);
        home.engine.metrics.object_started();
        self.pasts.started(&home.address, home.version.id, self.clock.now_ms());
        let keeping = Keeping { idle: self.settings.idle, clock: Arc::clone(&self.clock) };
        let lived = home.engine.live(linked, &home.object, mailbox, &keeping).await;
        home.object.end(Reset::Idle);
        match lived {
            Ok(()) => Over::Reset(home.object.reset_reason().cloned().unwrap_or(Reset::Idle)),
            Err(not_opened) => Over::NotOpened(not_opened),
        }
    }

    /// Room for one more object in memory. Those in which nothing happens make room if there is none.
    async fn room(&self, kit: &Kit) -> Option<OwnedSemaphorePermit> {
        struct Waiting<'a>(&'a AtomicUsize);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }

        if let Ok(room) = Arc::clone(&kit.objects).try_acquire_owned() {
            return Some(room);
        }
        kit.objects_waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&kit.objects_waiting);
        /// So many are asked to leave at a time: more would start again at once.
        const ASKED: usize = 64;
        let homes = self.cells.iter().filter_map(|cell| cell.present());
        // Such as wait for room themselves have none to give, and such as were asked are on their way.
        let quiet = homes.filter(|home| home.has_room() && !home.object.is_present() && !home.object.is_unwanted());
        for home in quiet.take(ASKED) {
            home.object.make_room();
        }
        let waiting = tokio::time::timeout(PERMIT_WAIT_MAX, Arc::clone(&kit.objects).acquire_owned());
        waiting.await.ok()?.ok()
    }
}
