//! Instances of a 0.3 guest: each lives in a task of its own, a *lane*, and takes many requests at once.
//!
//! A request takes a *seat* in a lane before it is sent there, and keeps it until its response's body has ended. A lane that
//! is closed takes no more seats and ends with its last one; that is how a lane with a guest that hangs, or that was left
//! behind by its client, is got rid of without hurting the requests beside it. A trap ends the lane at once, and every request
//! in it: they shared its memory.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::Poll;
use std::thread::ThreadId;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use wasmtime::Store;
use wasmtime::component::Accessor;
use wasmtime_wasi_http::WasiHttpView as _;
use wasmtime_wasi_http::p3::Request;
use wasmtime_wasi_http::p3::bindings::Service;

use crate::domain::limits::{AFTER_RESPONSE_MAX, INSTANCE_CONCURRENCY, INSTANCE_REUSE_MAX, RESPONSE_HEAD_WALL_MAX};
use crate::engine::failure::{self, Failure};
use crate::engine::heavy::{Heavy, Movable};
use crate::engine::metered::{Metered, Payers};
use crate::engine::response::{self, Ended, OnEnd, Promised};
use crate::engine::version_engine::{AnswerBody, Handler, Place, Reuse, VersionEngine};
use crate::host::call::Call;
use crate::host::state::Meter;
use crate::host::stirring::Stirring;
use crate::host::{Body, State};

/// Turns in which a guest may catch up before it is given more to do.
const TURNS_BEHIND: u32 = 16;

/// The lanes of one version that take requests.
#[derive(Default)]
pub struct Lanes {
    open: Mutex<Vec<Arc<Lane>>>,
    /// Told of each seat that is given up: whoever waits for a lane may have that seat instead.
    freed: Arc<Notify>,
}

/// Whether a request may have a lane of its own to give another core something to do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spread {
    Yes,
    No,
}

struct Lane {
    jobs: mpsc::UnboundedSender<Job>,
    shared: Arc<Shared>,
    /// Where it was opened, and mostly runs.
    thread: ThreadId,
}

/// What a lane's task and its callers share.
struct Shared {
    /// How deep its requests are in calls between workers.
    depth: u8,
    /// Seats taken.
    active: AtomicU32,
    /// Seats taken so far.
    served: AtomicU32,
    closing: AtomicBool,
    /// Turns in a row in which the guest has not come to rest: see [`settled`].
    behind: AtomicU32,
    /// Woken when a seat is given up, or the lane is to close.
    wake: Notify,
    /// Woken when the lane is over; see [`Shared::abandoned`].
    left: Notify,
    /// See [`Lanes`].
    freed: Arc<Notify>,
    /// The accounts of the seats: they share the cost of the instance's time.
    calls: Mutex<Vec<Arc<Call>>>,
    /// What the lane died of; not before `over`.
    death: OnceLock<Failure>,
    /// Whether the lane's task has said what it died of. Its callers hear that their request is lost before that, on threads of
    /// their own.
    over: CancellationToken,
    meter: OnceLock<Arc<Meter>>,
    cpu_budget: Duration,
    heavy: Arc<Heavy>,
}

struct Job {
    request: http::Request<Body>,
    call: Arc<Call>,
    reply: oneshot::Sender<Result<http::Response<Body>, Failure>>,
}

/// A place in a lane, held from before the request is sent until its response has ended.
pub(super) struct Seat {
    shared: Arc<Shared>,
    call: Arc<Call>,
    _permit: OwnedSemaphorePermit,
    /// Whether the guest's head has come: a seat that is left before leaves a guest behind that may hang.
    answered: bool,
}

impl Lanes {
    /// Answers one request in one of the lanes, or in a new one.
    pub(super) async fn call(
        &self,
        engine: &Arc<VersionEngine>,
        request: http::Request<Body>,
        call: &Arc<Call>,
        permit: OwnedSemaphorePermit,
    ) -> Result<http::Response<AnswerBody>, Failure> {
        let lane = self.seat(engine, call.lineage.depth).await?;
        let mut seat = Seat::new(Arc::clone(&lane.shared), Arc::clone(call), permit);
        let (reply, answer) = oneshot::channel();
        let method = request.method().clone();
        if lane.jobs.send(Job { request, call: Arc::clone(call), reply }).is_err() {
            return Err(lane.shared.death().await);
        }
        let answer = tokio::time::timeout(RESPONSE_HEAD_WALL_MAX, answer).await.map_err(|_| Failure::WallTime)?;
        let Ok(response) = answer else { return Err(lane.shared.death().await) };
        let response = response?;
        seat.answered = true;
        let (head, body) = response.into_parts();
        response::check_head(&head)?;
        let promised = Promised::of(&method, &head, &body);
        Ok(http::Response::from_parts(head, response::watch(body, promised, Arc::clone(call), seat.into())))
    }

    /// A lane with a seat taken: one that is open, else a new one, whichever can be had first.
    async fn seat(&self, engine: &Arc<VersionEngine>, depth: u8) -> Result<Arc<Lane>, Failure> {
        if let Some(lane) = self.take_seat(engine, depth, Spread::Yes) {
            return Ok(lane);
        }
        if let Some(place) = engine.place_now() {
            return Ok(self.open(engine, depth, place));
        }
        let mut place = std::pin::pin!(engine.place(&engine.kit));
        loop {
            let mut freed = std::pin::pin!(self.freed.notified());
            // Before looking: a seat that is given up between the two must not go unnoticed.
            freed.as_mut().enable();
            if let Some(lane) = self.take_seat(engine, depth, Spread::No) {
                return Ok(lane);
            }
            tokio::select! {
                place = &mut place => return Ok(self.open(engine, depth, place?)),
                () = freed => {}
            }
        }
    }

    /// Takes a seat in a lane that has one: in one of this thread, so that no other has to be woken; else an idle one if there is,
    /// else the emptiest, unless a further lane would give another core something to do. All requests in a lane are equally deep
    /// in calls between workers: whose call an outgoing one is cannot be told apart in there, and loops are found by their depth.
    fn take_seat(&self, engine: &VersionEngine, depth: u8, spread: Spread) -> Option<Arc<Lane>> {
        if engine.reuse == Reuse::Never {
            return None;
        }
        let here = std::thread::current().id();
        let mut lanes = self.lock();
        lanes.retain(|lane| !lane.shared.closing.load(Ordering::SeqCst));
        let lanes = lanes.iter().filter(|lane| lane.shared.depth == depth);
        let active = |lane: &&Arc<Lane>| lane.shared.active.load(Ordering::SeqCst) as usize;
        // Those of a heavy version run on threads of their own.
        let mine = lanes.clone().filter(|lane| lane.thread == here && !engine.heavy.is_heavy()).min_by_key(active);
        if let Some(mine) = mine.filter(|mine| active(mine) < INSTANCE_CONCURRENCY) {
            return mine.shared.reserve().then(|| Arc::clone(mine));
        }
        let emptiest = lanes.clone().min_by_key(active)?;
        let busy = active(&emptiest);
        let spread = spread == Spread::Yes && busy > 0 && lanes.count() < parallelism() && !engine.under_pressure();
        if spread || busy >= INSTANCE_CONCURRENCY {
            return None;
        }
        emptiest.shared.reserve().then(|| Arc::clone(emptiest))
    }

    /// Opens a lane, with one seat taken.
    fn open(&self, engine: &Arc<VersionEngine>, depth: u8, place: Place) -> Arc<Lane> {
        let (jobs, queue) = mpsc::unbounded_channel();
        let store = engine.store(&engine.kit);
        let meter = Arc::clone(&store.data().meter);
        let shared = Arc::new(Shared::new(depth, engine, Arc::clone(&self.freed)));
        let thread = std::thread::current().id();
        let lane = Arc::new(Lane { jobs, shared: Arc::clone(&shared), thread });
        // Cannot fail: nobody else knows the lane yet.
        shared.reserve();
        match engine.reuse {
            Reuse::Always => {
                self.lock().push(Arc::clone(&lane));
                // Whoever saw the last place go, and no lane yet, may have a seat in it.
                self.freed.notify_waiters();
            }
            Reuse::Never => shared.closing.store(true, Ordering::SeqCst),
        }
        let run = Box::pin(run(Arc::clone(engine), store, shared, queue, place));
        tokio::spawn(Movable::new(run, meter, Arc::clone(&engine.heavy)));
        lane
    }

    /// Closes the lanes in which no seat is taken.
    pub(super) fn close_idle(&self) {
        let lanes = std::mem::take(&mut *self.lock());
        let (idle, busy): (Vec<_>, Vec<_>) =
            lanes.into_iter().partition(|lane| lane.shared.active.load(Ordering::SeqCst) == 0);
        idle.iter().for_each(|lane| lane.shared.close());
        self.lock().extend(busy);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Lane>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Cores that the process may use.
pub(super) fn parallelism() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}

// === impl Shared ===

impl Shared {
    fn new(depth: u8, engine: &VersionEngine, freed: Arc<Notify>) -> Self {
        Self {
            depth,
            active: AtomicU32::new(0),
            served: AtomicU32::new(0),
            closing: AtomicBool::new(false),
            behind: AtomicU32::new(0),
            wake: Notify::new(),
            left: Notify::new(),
            freed,
            calls: Mutex::default(),
            death: OnceLock::new(),
            over: CancellationToken::new(),
            meter: OnceLock::new(),
            cpu_budget: engine.limits().cpu,
            heavy: Arc::clone(&engine.heavy),
        }
    }

    /// Takes a seat, unless the lane is closing. The order matters: [`run`] sets `closing` before it looks at `active`, and
    /// here `active` is raised before `closing` is looked at, so that one of the two sees the other.
    fn reserve(&self) -> bool {
        self.active.fetch_add(1, Ordering::SeqCst);
        if self.closing.load(Ordering::SeqCst) {
            self.active.fetch_sub(1, Ordering::SeqCst);
            return false;
        }
        if self.served.fetch_add(1, Ordering::Relaxed) + 1 >= INSTANCE_REUSE_MAX {
            self.close();
        }
        true
    }

    fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
        self.wake.notify_one();
        self.left.notify_one();
    }

    fn is_over(&self) -> bool {
        self.closing.load(Ordering::SeqCst) && self.active.load(Ordering::SeqCst) == 0
    }

    async fn death(&self) -> Failure {
        self.over.cancelled().await;
        self.death.get().cloned().unwrap_or_else(|| Failure::Trap("the instance ended".into()))
    }

    fn calls(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Call>>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new account of the instance's time, whenever a request has ended: a guest that spins ends nothing, and so comes to the
    /// end of this one. While several run, they cannot be told apart, and each may use its own limit.
    fn ended_one(&self, seats: usize) {
        self.budget(self.cpu_budget.saturating_mul(u32::try_from(seats.max(1)).unwrap_or(u32::MAX)));
    }

    fn budget(&self, budget: Duration) {
        if let Some(meter) = self.meter.get() {
            meter.start(budget);
        }
    }

    /// A request that begins brings its own limit; what the others have used stays on the account.
    fn began_one(&self, seats: usize) {
        match self.meter.get() {
            Some(meter) if seats > 1 => meter.extend(self.cpu_budget),
            Some(meter) => meter.start(self.cpu_budget),
            // The lane has not begun; its store starts with one limit.
            None => {}
        }
    }

    /// Resolves when nobody has waited for anything of this lane for a while, and its guest goes on nevertheless: it spins, and
    /// [`work`] does not get a turn to see that it is over.
    async fn abandoned(&self) {
        loop {
            self.left.notified().await;
            tokio::time::sleep(AFTER_RESPONSE_MAX).await;
            if self.is_over() {
                return;
            }
        }
    }
}

impl Payers for Arc<Shared> {
    fn charge(&self, ns: u64) {
        let calls = self.calls();
        let share = ns / (calls.len().max(1) as u64);
        calls.iter().for_each(|call| call.add_cpu_ns(share));
    }
}

// === impl Seat ===

impl Seat {
    fn new(shared: Arc<Shared>, call: Arc<Call>, permit: OwnedSemaphorePermit) -> Self {
        call.set_reused(shared.served.load(Ordering::Relaxed).saturating_sub(1));
        let seats = {
            let mut calls = shared.calls();
            calls.push(Arc::clone(&call));
            calls.len()
        };
        shared.began_one(seats);
        Self { shared, call, _permit: permit, answered: false }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let seats = {
            let mut calls = self.shared.calls();
            calls.retain(|call| !Arc::ptr_eq(call, &self.call));
            calls.len()
        };
        if !self.answered {
            self.shared.closing.store(true, Ordering::SeqCst);
        }
        self.shared.active.fetch_sub(1, Ordering::SeqCst);
        self.shared.heavy.was_short();
        if self.shared.is_over() {
            match self.answered {
                true => self.shared.ended_one(1),
                // It computes for no one, and lets no one look at `wake` meanwhile: it gets no more time.
                false => self.shared.budget(Duration::ZERO),
            }
            self.shared.wake.notify_one();
            self.shared.left.notify_one();
        } else {
            self.shared.ended_one(seats);
        }
        self.shared.freed.notify_one();
    }
}

impl OnEnd for Seat {
    fn on_end(&mut self, _: Ended) {}
}

// === the lane's task ===

async fn run(
    engine: Arc<VersionEngine>,
    mut store: Store<State>,
    shared: Arc<Shared>,
    mut queue: mpsc::UnboundedReceiver<Job>,
    place: Place,
) {
    let over = shared.over.clone().drop_guard();
    let meter = Arc::clone(&store.data().meter);
    let _ = shared.meter.set(Arc::clone(&meter));
    let Handler::Wasi03(pre) = &engine.linked.handler else { return };

    let instantiating = Metered::new(pre.instantiate_async(&mut store), Arc::clone(&meter), Arc::clone(&shared)).await;
    let result = match instantiating {
        Ok(service) => {
            let working = store.run_concurrent(async |accessor| work(accessor, &service, &shared, &mut queue).await);
            let working = settled(working, &meter, &shared.behind);
            let working = Metered::new(working, Arc::clone(&meter), Arc::clone(&shared));
            tokio::select! {
                result = working => result.flatten().map_err(|error| (error, Failure::Trap as fn(String) -> Failure)),
                () = shared.abandoned() => Ok(()),
            }
        }
        Err(error) => Err((error, Failure::Instantiate as fn(String) -> Failure)),
    };
    if let Err((error, other)) = result {
        let failure = failure::classify(&error, store.data(), other);
        // Requests whose heads are out end with their bodies, and say why in their records.
        shared.calls().iter().for_each(|call| call.conclude(failure.conclusion()));
        let _ = shared.death.set(failure);
    }
    drop(over);
    shared.closing.store(true, Ordering::SeqCst);
    drop(store);
    drop(place);
    // Jobs that came too late are answered with what the lane died of, when their `reply` is dropped here.
    drop(queue);
}

/// Polls the guests' event loop until it rests, before connections get their turn. What a guest has yet to do after an answer (a
/// spawned task, handles to give back) comes last in that loop, one piece a turn: if each turn brought more than one request, what
/// is left behind of them would grow without end. If it does not come to rest, others have their turn nevertheless, but the
/// lane is behind: it begins with no further request until it has caught up, or has tried for [`TURNS_BEHIND`] turns, since there are
/// guests that never rest.
async fn settled<F: Future>(working: F, meter: &Meter, behind: &AtomicU32) -> F::Output {
    /// After so many polls others have their turn.
    const POLLS_MAX: u32 = 64;
    let mut working = std::pin::pin!(working);
    let stirring = Stirring::default();
    std::future::poll_fn(|cx| {
        for _ in 0..POLLS_MAX {
            let (polled, stirred) = stirring.poll(working.as_mut(), cx);
            if polled.is_ready() {
                return polled;
            }
            if !stirred {
                if behind.swap(0, Ordering::Relaxed) > 0 {
                    // Now it may look at what has come meanwhile.
                    continue;
                }
                return polled;
            }
            if meter.has_overrun() {
                break;
            }
        }
        behind.fetch_add(1, Ordering::Relaxed);
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

async fn work(
    accessor: &Accessor<State>,
    service: &Service,
    shared: &Arc<Shared>,
    queue: &mut mpsc::UnboundedReceiver<Job>,
) -> wasmtime::Result<()> {
    let mut running = FuturesUnordered::new();
    while !shared.is_over() {
        tokio::select! {
            biased;
            Some(result) = running.next(), if !running.is_empty() => {
                let done: wasmtime::Result<()> = result;
                done?;
            }
            Some(job) = next_job(queue, &shared.behind) => running.push(serve(accessor, service, job)),
            () = shared.wake.notified() => {}
        }
    }
    // Work after the last response is allowed, for a while. A request that was left without one is no such work: its guest may
    // hang, and would hold the instance.
    if running.is_empty() {
        let background = std::future::poll_fn(|cx| accessor.poll_no_interesting_tasks(cx));
        let _ = tokio::time::timeout(AFTER_RESPONSE_MAX, background).await;
    }
    Ok(())
}

/// The next request that waits for the lane; none while it is behind, after which it is polled again.
fn next_job(queue: &mut mpsc::UnboundedReceiver<Job>, behind: &AtomicU32) -> impl Future<Output = Option<Job>> {
    std::future::poll_fn(|cx| match behind.load(Ordering::Relaxed) % TURNS_BEHIND {
        0 => queue.poll_recv(cx),
        _ => Poll::Pending,
    })
}

/// Runs the guest's handler for one request. An error is a trap, and ends the lane.
async fn serve(accessor: &Accessor<State>, service: &Service, job: Job) -> wasmtime::Result<()> {
    let Job { request, call, reply } = job;
    let (request, io) = accessor.with(|mut store| {
        let state = store.data_mut();
        state.current.enter(&call);
        let (request, io) = Request::from_http(state.http().hooks, request);
        let io: BoxFuture<'static, _> = Box::pin(io);
        (request, io)
    });
    let response = match service.handle(accessor, request).await? {
        Ok(response) => response,
        Err(code) => {
            let _ = reply.send(Err(Failure::GuestError(format!("{code:?}"))));
            return Ok(());
        }
    };
    let response = accessor.with(|mut store| {
        call.set_memory_bytes(store.data_mut().limiter.memory_bytes());
        response.into_http(&mut store, io)
    });
    let _ = reply.send(response.map_err(|error| Failure::GuestError(failure::one_line(&error))));
    Ok(())
}
