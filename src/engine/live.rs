//! An object in memory: one instance for as long as it lives there, and the events that come to it.
//!
//! Everything happens in one task. Inside, the guest: of WASI 0.3 in one `run_concurrent`, with many events at once; of 0.2 one
//! event after the other. Outside of it, [`drive`] polls the guest, and whenever it is at rest hands what it wrote to the store
//! and lets the next delivery in (see [`gate`](crate::host::object::gate)). What ends an object is watched for outside as well:
//! a guest that spins would never look.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, Stream as _};
use http_body_util::BodyExt;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, Sleep};
use wasmtime::component::{Accessor, ResourceAny};
use wasmtime::{AsContextMut as _, Store, UpdateDeadline};
use wasmtime_wasi_http::WasiHttpView as _;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Scheme};
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;
use wasmtime_wasi_http::p3::Request;

use crate::clock::Clock;
use crate::domain::alarm::Failed;
use crate::domain::limits::{OBJECT_BACKGROUND_IDLE, OBJECT_OPEN_WALL_MAX};
use crate::engine::failure::{self, Failure};
use crate::engine::metered::{CpuExceeded, Metered, Payers};
use crate::engine::response::{self, Ended, OnEnd, Promised};
use crate::engine::version_engine::VersionEngine;
use crate::host::bindings::{worker, worker_p2};
use crate::host::call::Call;
use crate::host::object::gate::Ticket;
use crate::host::object::{Object, Presence, Reset};
use crate::host::ports::StoreFault;
use crate::host::{Body, State};

/// What a component exports that implements object classes.
pub const INTERFACE_02: &str = "sluice:worker-p2/durable-object@0.1.0";
/// The same, for WASI 0.3.
pub const INTERFACE_03: &str = "sluice:worker/durable-object@0.1.0";

/// A component linked as the implementation of object classes.
pub enum Linked {
    Wasi02(worker_p2::WorkerPre<State>),
    Wasi03(worker::WorkerPre<State>),
}

/// Something that an object is to do, and the account that it is charged to.
pub struct Event {
    pub work: Work,
    pub call: Arc<Call>,
}

/// What there is to do. Whoever asked hears nothing if the object dies with it.
pub enum Work {
    Fetch { request: http::Request<Body>, reply: oneshot::Sender<Fetched> },
    Alarm { reply: oneshot::Sender<Rung> },
}

/// What became of a request.
pub enum Fetched {
    Answered(Result<http::Response<Body>, Failure>),
    /// The object ended before it began with it.
    NotBegun(http::Request<Body>),
}

/// What became of an alarm.
#[derive(Debug)]
pub enum Rung {
    /// The object's code ran; in words, what it returned as an error.
    Ran(Result<(), String>),
    /// There was none to ring, or not yet.
    Nothing,
    /// The object ended before it began with it.
    NotBegun,
}

/// Events on their way to one object, and their order.
pub struct Mailbox {
    events: mpsc::UnboundedReceiver<Event>,
    waiting: VecDeque<(Ticket, Event)>,
    queued: Arc<AtomicUsize>,
}

/// Where events for one object are put.
#[derive(Clone)]
pub struct Slot {
    events: mpsc::UnboundedSender<Event>,
    queued: Arc<AtomicUsize>,
}

/// Why an object could not begin its life.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NotOpened {
    /// Its own code refused; in its words.
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    Failed(Failure),
}

/// How an object is kept.
#[derive(Clone)]
pub struct Keeping {
    /// How long it stays when nothing happens.
    pub idle: Duration,
    pub clock: Arc<dyn Clock>,
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
    fn poll_turn(&mut self, object: &Object, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let closed = loop {
            match self.events.poll_recv(cx) {
                // The place among the deliveries is taken here, in the order in which events came.
                Poll::Ready(Some(event)) => self.waiting.push_back((object.gate.ticket(), event)),
                Poll::Ready(None) => break true,
                Poll::Pending => break false,
            }
        };
        match self.waiting.front_mut() {
            Some((ticket, _)) => {
                if ticket.poll_unpin(cx).is_pending() {
                    return Poll::Pending;
                }
                self.queued.fetch_sub(1, Ordering::SeqCst);
                Poll::Ready(self.waiting.pop_front().map(|(_, event)| event))
            }
            None if closed => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

impl VersionEngine {
    /// Lets `object` live in an instance of this version until something ends it; the object knows what. What of `mailbox` has
    /// not begun then is still in it.
    ///
    /// # Errors
    /// It did not come to life.
    pub async fn live(
        self: &Arc<Self>,
        linked: &Linked,
        object: &Arc<Object>,
        mailbox: &mut Mailbox,
        keeping: &Keeping,
    ) -> Result<(), NotOpened> {
        let accounts = Arc::new(Accounts::new(self.limits().cpu));
        let mut store = self.object_store(object);
        let meter = Arc::clone(&store.data().meter);
        let _ = accounts.meter.set(Arc::clone(&meter));
        let opened = AtomicBool::new(false);
        let life = Life { object, accounts: &accounts, keeping, opened: &opened };
        let queued = Arc::clone(&mailbox.queued);
        let is_quiet = || queued.load(Ordering::SeqCst) == 0;
        let ended = match linked {
            Linked::Wasi03(pre) => {
                let run = life.concurrent(&mut store, pre, mailbox);
                let run = Metered::new(run, meter, Arc::clone(&accounts));
                life.drive(run, Commit::AtRest, is_quiet).await
            }
            Linked::Wasi02(pre) => {
                let run = life.one_by_one(&mut store, pre, mailbox);
                let run = Metered::new(run, meter, Arc::clone(&accounts));
                life.drive(run, Commit::WhenWanted, is_quiet).await
            }
        };
        let failure = match ended {
            Ok(()) => None,
            Err(Death::Guest(error)) => match error.downcast::<NotOpened>() {
                Ok(refused) => {
                    object.end(Reset::Failed(refused.to_string()));
                    return Err(refused);
                }
                Err(error) => Some(failure::classify(&error, store.data(), Failure::Trap)),
            },
            Err(Death::Store(StoreFault::Superseded)) => {
                object.end(Reset::Superseded);
                None
            }
            Err(Death::Store(StoreFault::Failed(why))) => {
                object.end(Reset::StorageFailed(why));
                None
            }
        };
        if let Some(failure) = failure {
            // Requests whose heads are out end with their bodies, and say why in their records.
            accounts.calls().iter().for_each(|call| call.conclude(failure.conclusion()));
            object.end(Reset::Failed(failure.to_string()));
            if !opened.load(Ordering::SeqCst) {
                return Err(NotOpened::Failed(failure));
            }
        }
        drop(store);
        Ok(())
    }

    fn object_store(&self, object: &Arc<Object>) -> Store<State> {
        let state = State::new(Arc::clone(&self.environment), self.guest_memory_bytes).of_object(Arc::clone(object));
        let mut store = Store::new(&self.kit.engine, state);
        store.data().meter.start(self.limits().cpu);
        store.limiter(|state| &mut state.limiter);
        store.set_epoch_deadline(1);
        let object = Arc::clone(object);
        store.epoch_deadline_callback(move |store| {
            if store.data().meter.exceeded() {
                return Err(wasmtime::Error::from(CpuExceeded));
            }
            // A guest that only gives way is not at rest.
            object.set_yielding(true);
            let object = Arc::clone(&object);
            Ok(UpdateDeadline::YieldCustom(
                1,
                Box::pin(async move {
                    tokio::task::yield_now().await;
                    object.set_yielding(false);
                }),
            ))
        });
        store
    }
}

/// When what was written is handed to the store.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Commit {
    /// Whenever the guest is at rest: writes with no await between them are together.
    AtRest,
    /// When something waits for it: the writes of one event are together.
    WhenWanted,
}

/// What an object died of.
enum Death {
    Guest(wasmtime::Error),
    Store(StoreFault),
}

/// What the parts of one object's task share.
#[derive(Clone, Copy)]
struct Life<'a> {
    object: &'a Arc<Object>,
    accounts: &'a Arc<Accounts>,
    keeping: &'a Keeping,
    opened: &'a AtomicBool,
}

type Committing = BoxFuture<'static, Result<(), StoreFault>>;

impl Life<'_> {
    /// Polls `run`, the guest, and does what is due whenever it is at rest. A commit that was handed to the store is waited for
    /// in any case: whoever comes next must see what became of it.
    async fn drive(
        &self,
        run: impl Future<Output = wasmtime::Result<()>>,
        commit: Commit,
        is_quiet: impl Fn() -> bool,
    ) -> Result<(), Death> {
        let object = self.object;
        let mut committing: Option<(u64, Committing)> = None;
        let ended = {
            let mut run = pin!(run);
            let mut stopped = pin!(object.stop.cancelled());
            let mut timer = Timer::default();
            poll_fn(|cx| {
                loop {
                    object.gate.register(cx.waker());
                    if stopped.as_mut().poll(cx).is_ready() {
                        return Poll::Ready(Ok(()));
                    }
                    if let Some((number, future)) = committing.as_mut()
                        && let Poll::Ready(result) = future.as_mut().poll(cx)
                    {
                        let number = *number;
                        committing = None;
                        match result {
                            Ok(()) => object.storage.committed(number),
                            Err(fault) => return Poll::Ready(Err(Death::Store(fault))),
                        }
                    }
                    match run.as_mut().poll(cx) {
                        Poll::Ready(result) => return Poll::Ready(result.map_err(Death::Guest)),
                        Poll::Pending if object.is_yielding() => return Poll::Pending,
                        Poll::Pending => {}
                    }
                    // At rest: every task of the guest waits for the host.
                    let mut again = false;
                    if committing.is_none()
                        && let Some((number, batch)) = object.storage.take(commit == Commit::WhenWanted)
                    {
                        // On a task of its own: it is finished even if this one is dropped.
                        let task = tokio::spawn(object.storage.commit(batch));
                        let outcome = async move {
                            task.await.unwrap_or_else(|error| Err(StoreFault::Failed(error.to_string())))
                        };
                        committing = Some((number, outcome.boxed()));
                        again = true;
                    }
                    again |= object.gate.rest();
                    if again {
                        continue;
                    }
                    let quiet = self.opened.load(Ordering::SeqCst)
                        && committing.is_none()
                        && is_quiet()
                        && !object.is_present();
                    if timer.is_over(quiet.then(|| self.patience()), cx) {
                        object.end(Reset::Idle);
                        return Poll::Ready(Ok(()));
                    }
                    return Poll::Pending;
                }
            })
            .await
        };
        // Dead before anybody hears of it: their next call finds another instance.
        if let Err(Death::Store(fault)) = &ended {
            object.end(match fault {
                StoreFault::Superseded => Reset::Superseded,
                StoreFault::Failed(why) => Reset::StorageFailed(why.clone()),
            });
        }
        if let Some((number, future)) = committing
            && future.await.is_ok()
        {
            object.storage.committed(number);
        }
        ended
    }

    /// How long a quiet object stays.
    fn patience(&self) -> Duration {
        if self.object.is_unwanted() {
            Duration::ZERO
        } else if self.object.has_background() {
            self.keeping.idle.max(OBJECT_BACKGROUND_IDLE)
        } else {
            self.keeping.idle
        }
    }

    // --- guests of WASI 0.3 ---

    async fn concurrent(
        &self,
        store: &mut Store<State>,
        pre: &worker::WorkerPre<State>,
        mailbox: &mut Mailbox,
    ) -> wasmtime::Result<()> {
        let guest = pre.instantiate_async(&mut *store).await.map_err(instantiate_failed)?;
        let guest = &guest;
        store.run_concurrent(async move |accessor| self.take_events(accessor, guest, mailbox).await).await?
    }

    async fn take_events(
        &self,
        accessor: &Accessor<State>,
        guest: &worker::Worker,
        mailbox: &mut Mailbox,
    ) -> wasmtime::Result<()> {
        let object = self.object;
        let this = {
            // The start is a turn as well.
            object.gate.ticket().await;
            let (class, id) = (object.class.as_str().to_owned(), object.address.id.to_string());
            let name = object.name.as_deref().map(str::to_owned);
            let live_object = guest.sluice_worker_durable_object().live_object();
            let opening = live_object.call_open(accessor, class, id, name);
            let opened = tokio::time::timeout(OBJECT_OPEN_WALL_MAX, opening).await.map_err(|_| too_slow())??;
            opened.map_err(|message| wasmtime::Error::from(NotOpened::Refused(message)))?
        };
        self.opened.store(true, Ordering::SeqCst);
        let mut running = FuturesUnordered::new();
        poll_fn(|cx| {
            // A whole slice for each turn: else the first look at the epoch after an idle time always finds it over.
            accessor.with(|mut store| store.as_context_mut().set_epoch_deadline(1));
            loop {
                match mailbox.poll_turn(object, cx) {
                    Poll::Ready(Some(event)) => running.push(self.serve_03(accessor, guest, this, event)),
                    Poll::Ready(None) => return Poll::Ready(Ok(())),
                    Poll::Pending => break,
                }
            }
            loop {
                match Pin::new(&mut running).poll_next(cx) {
                    Poll::Ready(Some(Ok(()))) => {}
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                    Poll::Ready(None) | Poll::Pending => break,
                }
            }
            if running.is_empty() {
                object.set_background(accessor.poll_no_interesting_tasks(cx).is_pending());
            }
            Poll::Pending
        })
        .await
    }

    /// Runs one event. An error is a trap, and the end of the object.
    async fn serve_03(
        &self,
        accessor: &Accessor<State>,
        guest: &worker::Worker,
        this: ResourceAny,
        event: Event,
    ) -> wasmtime::Result<()> {
        let Event { work, call } = event;
        let object = self.object;
        let presence = object.enter();
        let seat = self.accounts.enter(&call);
        let live_object = guest.sluice_worker_durable_object().live_object();
        match work {
            Work::Fetch { request, reply } => {
                let func = live_object.func_fetch();
                let method = request.method().clone();
                let (queued, io) = accessor.with(|mut store| -> wasmtime::Result<_> {
                    let state = store.data_mut();
                    state.current.enter(&call);
                    let request = request.map(|body| object.incoming(body));
                    let view = state.http();
                    let (request, io) = Request::from_http(view.hooks, request);
                    let io: BoxFuture<'static, _> = Box::pin(io);
                    let request = view.table.push(request)?;
                    Ok((func.start_call_concurrent(&mut store, (this, request))?, io))
                })?;
                let (result,) = func.finish_call_concurrent(accessor, queued).await?;
                drop(seat);
                let answer = accessor.with(|mut store| -> wasmtime::Result<_> {
                    let state = store.data_mut();
                    call.set_memory_bytes(state.limiter.memory_bytes());
                    Ok(match result {
                        Ok(response) => {
                            let response = state.http().table.delete(response)?;
                            let response = response.into_http(&mut store, io);
                            response.map_err(|error| Failure::GuestError(failure::one_line(&error)))
                        }
                        Err(code) => Err(Failure::GuestError(format!("{code:?}"))),
                    })
                })?;
                self.answer(answer, &method, &call, presence, reply).await;
            }
            Work::Alarm { reply } => {
                let Some(alarm) = object.storage.ring(self.keeping.clock.now_ms()) else {
                    let _ = reply.send(Rung::Nothing);
                    return Ok(());
                };
                let func = live_object.func_alarm();
                let info = worker::exports::sluice::worker::durable_object::AlarmInfo {
                    retry_count: alarm.retries,
                    is_retry: alarm.retries > 0,
                };
                let queued = accessor.with(|mut store| {
                    store.data_mut().current.enter(&call);
                    func.start_call_concurrent(&mut store, (this, info))
                })?;
                let (result,) = func.finish_call_concurrent(accessor, queued).await?;
                drop(seat);
                self.rung(alarm, result, reply).await;
            }
        }
        Ok(())
    }

    // --- guests of WASI 0.2 ---

    async fn one_by_one(
        &self,
        store: &mut Store<State>,
        pre: &worker_p2::WorkerPre<State>,
        mailbox: &mut Mailbox,
    ) -> wasmtime::Result<()> {
        let object = self.object;
        let guest = pre.instantiate_async(&mut *store).await.map_err(instantiate_failed)?;
        let this = {
            object.gate.ticket().await;
            let id = object.address.id.to_string();
            let live_object = guest.sluice_worker_p2_durable_object().live_object();
            let opening = live_object.call_open(&mut *store, object.class.as_str(), &id, object.name.as_deref());
            let opened = tokio::time::timeout(OBJECT_OPEN_WALL_MAX, opening).await.map_err(|_| too_slow())??;
            opened.map_err(|message| wasmtime::Error::from(NotOpened::Refused(message)))?
        };
        self.opened.store(true, Ordering::SeqCst);
        while let Some(event) = poll_fn(|cx| mailbox.poll_turn(object, cx)).await {
            store.set_epoch_deadline(1);
            self.serve_02(store, &guest, this, event).await?;
        }
        Ok(())
    }

    async fn serve_02(
        &self,
        store: &mut Store<State>,
        guest: &worker_p2::Worker,
        this: ResourceAny,
        event: Event,
    ) -> wasmtime::Result<()> {
        let Event { work, call } = event;
        let presence = self.object.enter();
        let seat = self.accounts.enter(&call);
        store.data().current.leave_all();
        store.data().current.enter(&call);
        let live_object = guest.sluice_worker_p2_durable_object().live_object();
        match work {
            Work::Fetch { request, reply } => {
                let method = request.method().clone();
                let (head_sender, head) = oneshot::channel();
                let mut http = store.data_mut().http();
                let request = http.new_incoming_request(Scheme::Http, request)?;
                let out = http.new_response_outparam(head_sender)?;
                let running = live_object.call_fetch(&mut *store, this, request, out);
                let answering = async {
                    // Nobody holds the sender any more: there will be no head.
                    let answer = match head.await {
                        Ok(head) => head_of(head),
                        Err(_) => return Some((presence, reply)),
                    };
                    self.answer(answer, &method, &call, presence, reply).await;
                    None
                };
                if let Some(reply) = run_beside(running, answering).await? {
                    let (presence, reply) = reply;
                    self.answer(Err(Failure::NoResponse), &method, &call, presence, reply).await;
                }
                drop(seat);
                call.set_memory_bytes(store.data().limiter.memory_bytes());
                // What it wrote after its answer is part of the event as well.
                self.object.storage.confirmed().await;
            }
            Work::Alarm { reply } => {
                let Some(alarm) = self.object.storage.ring(self.keeping.clock.now_ms()) else {
                    let _ = reply.send(Rung::Nothing);
                    return Ok(());
                };
                let info = worker_p2::exports::sluice::worker_p2::durable_object::AlarmInfo {
                    retry_count: alarm.retries,
                    is_retry: alarm.retries > 0,
                };
                let result = live_object.call_alarm(&mut *store, this, info).await?;
                drop(seat);
                self.rung(alarm, result, reply).await;
            }
        }
        Ok(())
    }

    // --- both ---

    /// Lets an answer out, once what was written before it is durable.
    async fn answer(
        &self,
        answer: Result<http::Response<Body>, Failure>,
        method: &http::Method,
        call: &Arc<Call>,
        presence: Presence,
        reply: oneshot::Sender<Fetched>,
    ) {
        if !self.object.storage.confirmed().await {
            // Never seen: whoever waits hears why the object ended.
            return;
        }
        let answer = answer.and_then(|response| {
            let (head, body) = response.into_parts();
            response::check_head(&head)?;
            let promised = Promised::of(method, &head, &body);
            let body = response::watch(self.object.outgoing(body), promised, Arc::clone(call), presence);
            Ok(http::Response::from_parts(head, body))
        });
        let _ = reply.send(Fetched::Answered(answer));
    }

    /// Notes what becomes of an alarm that has rung.
    async fn rung(&self, alarm: crate::domain::alarm::Alarm, result: Result<(), String>, reply: oneshot::Sender<Rung>) {
        let next = match &result {
            Ok(()) => None,
            Err(_) => alarm.after(Failed::Guest, self.keeping.clock.now_ms(), fastrand::f64()),
        };
        self.object.storage.rung(next);
        if self.object.storage.confirmed().await {
            let _ = reply.send(Rung::Ran(result));
        }
    }
}

/// Runs both to their ends, unless the first fails. What the second is still waiting for when the first has ended cannot come.
async fn run_beside<T>(
    running: impl Future<Output = wasmtime::Result<()>>,
    answering: impl Future<Output = Option<T>>,
) -> wasmtime::Result<Option<T>> {
    let (mut running, mut answering) = (pin!(running), pin!(answering));
    let (mut ran, mut answered) = (false, None);
    poll_fn(|cx| {
        if !ran && let Poll::Ready(result) = running.as_mut().poll(cx) {
            if let Err(error) = result {
                return Poll::Ready(Err(error));
            }
            ran = true;
        }
        if answered.is_none()
            && let Poll::Ready(rest) = answering.as_mut().poll(cx)
        {
            answered = Some(rest);
        }
        match (ran, answered.take()) {
            (true, Some(rest)) => Poll::Ready(Ok(rest)),
            (_, rest) => {
                answered = rest;
                Poll::Pending
            }
        }
    })
    .await
}

fn head_of(head: Result<http::Response<HyperOutgoingBody>, ErrorCode>) -> Result<http::Response<Body>, Failure> {
    head.map(|response| response.map(BodyExt::boxed_unsync)).map_err(|code| Failure::GuestError(format!("{code:?}")))
}

fn too_slow() -> wasmtime::Error {
    let seconds = OBJECT_OPEN_WALL_MAX.as_secs();
    NotOpened::Refused(format!("the object did not start within {seconds} s")).into()
}

fn instantiate_failed(error: wasmtime::Error) -> wasmtime::Error {
    if error.downcast_ref::<CpuExceeded>().is_some() {
        return error;
    }
    NotOpened::Failed(Failure::Instantiate(failure::one_line(&error))).into()
}

impl OnEnd for Presence {
    fn on_end(&mut self, _: Ended) {}
}

/// Over when an object has been quiet for long enough.
#[derive(Default)]
struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
    armed: bool,
}

impl Timer {
    fn is_over(&mut self, patience: Option<Duration>, cx: &mut Context<'_>) -> bool {
        let Some(patience) = patience else {
            self.armed = false;
            return false;
        };
        if patience.is_zero() {
            return true;
        }
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        if !self.armed {
            sleep.as_mut().reset(Instant::now() + patience);
            self.armed = true;
        }
        sleep.as_mut().poll(cx).is_ready()
    }
}

// === accounts ===

/// The accounts of the events in an object: they share the cost of its time.
struct Accounts {
    calls: Mutex<Vec<Arc<Call>>>,
    meter: std::sync::OnceLock<Arc<crate::host::state::Meter>>,
    budget: Duration,
}

struct Account {
    accounts: Arc<Accounts>,
    call: Arc<Call>,
}

impl Accounts {
    fn new(budget: Duration) -> Self {
        Self { calls: Mutex::default(), meter: std::sync::OnceLock::new(), budget }
    }

    /// An event begins, and brings its own limit.
    fn enter(self: &Arc<Self>, call: &Arc<Call>) -> Account {
        let alone = {
            let mut calls = self.calls();
            calls.push(Arc::clone(call));
            calls.len() == 1
        };
        match self.meter.get() {
            Some(meter) if alone => meter.start(self.budget),
            Some(meter) => meter.extend(self.budget),
            None => {}
        }
        Account { accounts: Arc::clone(self), call: Arc::clone(call) }
    }

    fn calls(&self) -> MutexGuard<'_, Vec<Arc<Call>>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let left = {
            let mut calls = self.accounts.calls();
            calls.retain(|call| !Arc::ptr_eq(call, &self.call));
            calls.len()
        };
        if let Some(meter) = self.accounts.meter.get() {
            meter.start(self.accounts.budget.saturating_mul(u32::try_from(left.max(1)).unwrap_or(u32::MAX)));
        }
    }
}

impl Payers for Arc<Accounts> {
    fn charge(&self, ns: u64) {
        let calls = self.calls();
        let share = ns / (calls.len().max(1) as u64);
        calls.iter().for_each(|call| call.add_cpu_ns(share));
    }
}
