//! An object in memory: one instance for as long as it lives there, and the events that come to it.
//!
//! Everything happens in one task. Inside, the guest: of WASI 0.3 in one `run_concurrent`, with many events at once; of 0.2 one
//! event after the other. Outside of it, [`Life::drive`] polls the guest, and whenever it is at rest hands what it wrote to the store
//! and lets the next delivery in (see [`gate`](crate::host::object::gate)). What ends an object is watched for outside as well:
//! a guest that spins would never look.

mod accounts;
mod mailbox;
mod wasi02;
mod wasi03;

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http_body_util::BodyExt as _;
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep};
use wasmtime::{Store, UpdateDeadline};

use crate::clock::Clock;
use crate::domain::alarm::Failed;
use crate::domain::limits::{OBJECT_BACKGROUND_IDLE, OBJECT_OPEN_WALL_MAX};
use crate::engine::engines::Kit;
use crate::engine::failure::{self, Failure};
use crate::engine::live::accounts::Accounts;
use crate::engine::metered::{CpuExceeded, Metered};
use crate::engine::response::{self, Ended, OnEnd, Promised};
use crate::engine::version_engine::VersionEngine;
use crate::host::bindings::{worker, worker_p2};
use crate::host::call::Call;
use crate::host::object::storage::Due;
use crate::host::object::{Object, Presence, Reset};
use crate::host::ports::StoreFault;
use crate::host::stirring::Stirring;
use crate::host::{Body, State};

pub use mailbox::{Claim, Mailbox, Slot, mailbox};

/// A component linked as the implementation of object classes.
pub enum Linked {
    Wasi02(worker_p2::WorkerPre<State>),
    Wasi03(worker::WorkerPre<State>),
}

/// Something that an object is to do, and the account that it is charged to.
pub struct Event {
    pub work: Work,
    pub call: Arc<Call>,
    pub claim: Claim,
}

/// What there is to do. Whoever asked hears nothing if the object dies with it.
#[expect(clippy::large_enum_variant, reason = "nearly every event is a request; boxing it would cost each of them")]
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
        let life = Life { object, kit: &self.kit, accounts: &accounts, keeping, opened: &opened };
        let queued = Arc::clone(&mailbox.queued);
        let is_quiet = || queued.load(Ordering::SeqCst) == 0;
        let ended = match linked {
            Linked::Wasi03(pre) => {
                let run = life.concurrent(&mut store, pre, mailbox);
                let run = Metered::new(run, meter, Arc::clone(&accounts));
                life.drive(run, Due::AtRest, is_quiet).await
            }
            Linked::Wasi02(pre) => {
                let run = life.one_by_one(&mut store, pre, mailbox);
                let run = Metered::new(run, meter, Arc::clone(&accounts));
                life.drive(run, Due::WhenWanted, is_quiet).await
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
            object.gives_way();
            let object = Arc::clone(&object);
            Ok(UpdateDeadline::YieldCustom(
                1,
                Box::pin(async move {
                    tokio::task::yield_now().await;
                    object.goes_on();
                }),
            ))
        });
        store
    }
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
    kit: &'a Kit,
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
        due: Due,
        is_quiet: impl Fn() -> bool,
    ) -> Result<(), Death> {
        /// A guest that gives way is polled again at once so many times.
        const POLLS_MAX: u32 = 32;
        let object = self.object;
        let mut committing: Option<(u64, Committing)> = None;
        let ended = {
            let mut run = pin!(run);
            let mut stopped = pin!(object.stop.cancelled());
            let mut timer = Timer::default();
            let stirring = Stirring::default();
            poll_fn(|cx| {
                let mut polls = 0;
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
                    let (polled, stirred) = stirring.poll(run.as_mut(), cx);
                    if let Poll::Ready(result) = polled {
                        return Poll::Ready(result.map_err(Death::Guest));
                    }
                    // It has more to do. Others are let run now and then.
                    if stirred || object.is_yielding() {
                        polls += 1;
                        if stirred && polls < POLLS_MAX && !object.is_yielding() {
                            continue;
                        }
                        if stirred {
                            cx.waker().wake_by_ref();
                        }
                        return Poll::Pending;
                    }
                    // At rest: every task of the guest waits for the host.
                    let mut again = false;
                    if committing.is_none() {
                        committing = self.begin_commit(due);
                        again = committing.is_some();
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
        if let Some((number, future)) = committing
            && future.await.is_ok()
        {
            object.storage.committed(number);
        }
        ended
    }

    /// Hands what was written to the store, if that is due.
    fn begin_commit(&self, due: Due) -> Option<(u64, Committing)> {
        let (number, batch) = self.object.storage.take(due)?;
        // On a task of its own: it is finished even if this one is dropped.
        let task = tokio::spawn(self.object.storage.commit(batch));
        let outcome = async move { task.await.unwrap_or_else(|error| Err(StoreFault::Failed(error.to_string()))) };
        Some((number, outcome.boxed()))
    }

    /// How long a quiet object stays.
    fn patience(&self) -> Duration {
        if self.object.is_unwanted() || self.kit.objects_waiting.load(Ordering::Relaxed) > 0 {
            Duration::ZERO
        } else if self.object.has_background() {
            self.keeping.idle.max(OBJECT_BACKGROUND_IDLE)
        } else {
            self.keeping.idle
        }
    }

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
            Ok(http::Response::from_parts(head, body.boxed_unsync()))
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
    /// The patience that it runs with. It begins anew when that changes: what went on in the background has ended, say.
    armed: Option<Duration>,
}

impl Timer {
    fn is_over(&mut self, patience: Option<Duration>, cx: &mut Context<'_>) -> bool {
        let before = std::mem::replace(&mut self.armed, patience);
        let Some(patience) = patience else { return false };
        if patience.is_zero() {
            return true;
        }
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        if before != Some(patience) {
            sleep.as_mut().reset(Instant::now() + patience);
        }
        sleep.as_mut().poll(cx).is_ready()
    }
}
