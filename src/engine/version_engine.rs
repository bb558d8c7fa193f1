//! One version, ready to run: linked and bound, with its limits, its permits and its instances.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::Store;
use wasmtime_wasi_http::{p2, p3};

use crate::domain::config::{Isolation, RequestLimits};
use crate::domain::limits::{self, PERMIT_WAIT_MAX, VERSION_PERMITS, VERSION_QUEUE_MAX};
use crate::domain::module::GuestKind;
use crate::domain::version::Version;
use crate::engine::bounds::{Checked, Choice};
use crate::engine::engines::{Engines, Kit};
use crate::engine::failure::Failure;
use crate::engine::heavy::Heavy;
use crate::engine::lanes::{self, Lanes};
use crate::engine::live;
use crate::engine::metered;
use crate::engine::response::{Ended, OnEnd, Watched};
use crate::engine::single::{self, Idle};
use crate::host::call::Call;
use crate::host::{Body, Environment, State};
use crate::observe::metrics::VersionMetrics;

/// A component linked against its engine's capabilities. Versions with the same bytes share one.
pub struct Linked {
    pub handler: Handler,
    /// As the implementation of object classes, if it is one.
    pub objects: Option<live::Linked>,
    /// The same component for fresh instances that compute little, once it was worth compiling.
    pub checked: OnceLock<Checked>,
}

/// The same as what answers requests.
pub enum Handler {
    Wasi02(p2::bindings::ProxyPre<State>),
    Wasi03(p3::bindings::ServicePre<State>),
}

/// Whether an instance serves one request or many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    Never,
    Always,
}

/// Room for one instance: in the version's share, and in the engine's pool.
pub(super) struct Place {
    _share: OwnedSemaphorePermit,
    _slot: OwnedSemaphorePermit,
}

/// The body of a version's answer.
pub type AnswerBody = Watched<Keeper>;

/// Keeps what an answer comes from until its body has ended.
pub struct Keeper(Kept);

enum Kept {
    Guest(single::Rest),
    Seat(lanes::Seat),
}

/// One version, ready to run.
pub struct VersionEngine {
    pub version: Arc<Version>,
    pub linked: Arc<Linked>,
    pub environment: Arc<Environment>,
    pub kit: Arc<Kit>,
    pub reuse: Reuse,
    /// What its fresh instances are held to their memory by.
    pub bounds: Choice,
    pub guest_memory_bytes: u64,
    /// The counters of the version, found once so that no request looks for them.
    pub metrics: Arc<VersionMetrics>,
    /// Whether its guests compute for long, and where they do.
    pub(super) heavy: Arc<Heavy>,
    permits: Arc<Semaphore>,
    /// Instances that this version may have, and may still have.
    share_max: usize,
    share: Arc<Semaphore>,
    /// Requests that wait for one of the two.
    waiting: AtomicUsize,
    /// Instances of a 0.2 guest that wait for their next request.
    pub(super) idle: Mutex<Vec<Idle>>,
    /// Instances of a 0.3 guest.
    pub(super) lanes: Lanes,
    /// The fleet's sweep at which a request was last seen.
    pub(super) last_used: AtomicU64,
}

impl VersionEngine {
    pub(super) fn new(
        version: Arc<Version>,
        linked: Arc<Linked>,
        environment: Arc<Environment>,
        engines: &Engines,
        metrics: Arc<VersionMetrics>,
    ) -> Self {
        let kind = linked.kind();
        let reuse = match (version.config.isolation, kind) {
            (Isolation::Reuse, _) | (Isolation::ByGuest, GuestKind::Wasi03) => Reuse::Always,
            (Isolation::Fresh, _) | (Isolation::ByGuest, GuestKind::Wasi02) => Reuse::Never,
        };
        let share_max = limits::version_instances_max(engines.settings.instances);
        Self {
            version,
            linked,
            environment,
            kit: Arc::clone(engines.kit(kind)),
            reuse,
            bounds: Choice::default(),
            guest_memory_bytes: engines.settings.guest_memory_bytes,
            metrics,
            heavy: engines.heavy.version(),
            permits: Arc::new(Semaphore::new(VERSION_PERMITS)),
            share_max,
            share: Arc::new(Semaphore::new(share_max)),
            waiting: AtomicUsize::new(0),
            idle: Mutex::default(),
            lanes: Lanes::default(),
            last_used: AtomicU64::new(0),
        }
    }

    /// What one request of the version may use.
    #[must_use]
    pub fn limits(&self) -> RequestLimits {
        self.version.config.limits
    }

    /// Answers `request` with an instance of the version. The response's body may still be on its way when this returns;
    /// the instance lives until it has ended.
    ///
    /// # Errors
    /// Why there is no response, and whose fault that is.
    pub async fn call(
        self: &Arc<Self>,
        request: http::Request<Body>,
        call: &Arc<Call>,
    ) -> Result<http::Response<AnswerBody>, Failure> {
        let permit = self.admit().await?;
        match &self.linked.handler {
            Handler::Wasi02(pre) => single::call(self, pre, request, call, permit).await,
            Handler::Wasi03(_) => self.lanes.call(self, request, call, permit).await,
        }
    }

    /// A permit to run one request of this version: there are as many as one version may hold of the node's instances.
    /// Waiting is bounded in number and in time (`R2`).
    async fn admit(&self) -> Result<OwnedSemaphorePermit, Failure> {
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            return Ok(permit);
        }
        self.metrics.waits();
        wait_for(&self.permits, &self.waiting).await
    }

    /// A place for one more instance: first in the share of this version, so that those who wait for that are in no one's way.
    pub(super) async fn place(&self, kit: &Kit) -> Result<Place, Failure> {
        let share = match Arc::clone(&self.share).try_acquire_owned() {
            Ok(share) => share,
            Err(_) => {
                self.metrics.waits();
                wait_for(&self.share, &self.waiting).await?
            }
        };
        let slot = match Arc::clone(&kit.slots).try_acquire_owned() {
            Ok(slot) => slot,
            Err(_) => {
                self.metrics.waits();
                wait_for(&kit.slots, &kit.waiting).await?
            }
        };
        Ok(Place { _share: share, _slot: slot })
    }

    /// The same, if there is one now.
    pub(super) fn place_now(&self) -> Option<Place> {
        let share = Arc::clone(&self.share).try_acquire_owned().ok()?;
        let slot = Arc::clone(&self.kit.slots).try_acquire_owned().ok()?;
        Some(Place { _share: share, _slot: slot })
    }

    /// A new store in `kit` for an instance of this version.
    pub(super) fn store(&self, kit: &Kit) -> Store<State> {
        let state = State::new(Arc::clone(&self.environment), self.guest_memory_bytes);
        let mut store = Store::new(&kit.engine, state);
        metered::arm(&mut store, self.limits().cpu);
        store
    }

    /// Instances that live now, whether they are busy or not. Those of objects are not among them.
    #[must_use]
    pub fn instances(&self) -> usize {
        self.share_max.saturating_sub(self.share.available_permits())
    }

    /// Requests that wait for a permit, or for this version's share of the instances.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Whether idle instances should make room for others.
    pub(super) fn under_pressure(&self) -> bool {
        self.kit.waiting.load(Ordering::Relaxed) > 0
    }

    /// Gives up the instances that wait for work.
    pub(super) fn drop_idle(&self) {
        let idle = std::mem::take(&mut *self.idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        drop(idle);
        self.lanes.close_idle();
    }
}

// === impl Keeper ===

impl From<single::Rest> for Keeper {
    fn from(rest: single::Rest) -> Self {
        Self(Kept::Guest(rest))
    }
}

impl From<lanes::Seat> for Keeper {
    fn from(seat: lanes::Seat) -> Self {
        Self(Kept::Seat(seat))
    }
}

impl OnEnd for Keeper {
    fn on_end(&mut self, ended: Ended) {
        match &mut self.0 {
            Kept::Guest(rest) => rest.on_end(ended),
            Kept::Seat(seat) => seat.on_end(ended),
        }
    }
}

/// Waits for a permit among at most [`VERSION_QUEUE_MAX`] others, and no longer than [`PERMIT_WAIT_MAX`].
pub(super) async fn wait_for(permits: &Arc<Semaphore>, waiting: &AtomicUsize) -> Result<OwnedSemaphorePermit, Failure> {
    struct Leave<'a>(&'a AtomicUsize);
    impl Drop for Leave<'_> {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
    }

    let before = waiting.fetch_add(1, Ordering::Relaxed);
    let _leave = Leave(waiting);
    if before >= VERSION_QUEUE_MAX {
        return Err(Failure::Overloaded);
    }
    let acquired = tokio::time::timeout(PERMIT_WAIT_MAX, Arc::clone(permits).acquire_owned()).await;
    acquired.map_err(|_| Failure::Overloaded)?.map_err(|_| Failure::Overloaded)
}

impl Linked {
    /// Which kind of guest it is.
    #[must_use]
    pub fn kind(&self) -> GuestKind {
        match self.handler {
            Handler::Wasi02(_) => GuestKind::Wasi02,
            Handler::Wasi03(_) => GuestKind::Wasi03,
        }
    }
}
