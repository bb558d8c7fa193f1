//! Calls of a 0.2 guest: one request at a time, straight through, with no task of its own unless the response outlives it.

use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::Poll;

use tokio::sync::OwnedSemaphorePermit;
use tokio::task::AbortHandle;
use wasmtime::Store;
use wasmtime_wasi_http::WasiHttpView as _;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::p2::bindings::{Proxy, ProxyPre};
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use crate::domain::limits::{AFTER_RESPONSE_MAX, INSTANCE_REUSE_MAX, RESPONSE_HEAD_WALL_MAX};
use crate::engine::failure::{self, Failure};
use crate::engine::heavy::Movable;
use crate::engine::metered::Metered;
use crate::engine::response::{self, Ended, OnEnd, Promised};
use crate::engine::version_engine::{AnswerBody, Place, Reuse, VersionEngine};
use crate::host::call::{Call, Head};
use crate::host::{Body, State};

/// An instance that waits for its next request, with its place in the pool.
pub struct Idle {
    instance: Instance,
}

/// Dropped in this order: the pool must have room for whoever gets the permit.
struct Instance {
    store: Store<State>,
    proxy: Proxy,
    served: u32,
    /// Given back after the store: the pool must have room for whoever gets it.
    _place: Place,
}

/// Runs to the guest's end, and gives its instance back if it can serve again.
type Guest = Movable<Running>;
type Running = Pin<Box<dyn Future<Output = Result<Option<Idle>, Failure>> + Send>>;

/// Answers one request with an instance of its own for that time.
pub(super) async fn call(
    engine: &Arc<VersionEngine>,
    pre: &ProxyPre<State>,
    request: http::Request<Body>,
    call: &Arc<Call>,
    permit: OwnedSemaphorePermit,
) -> Result<http::Response<AnswerBody>, Failure> {
    let method = request.method().clone();
    let idle = match engine.reuse {
        Reuse::Always => engine.idle.lock().unwrap_or_else(PoisonError::into_inner).pop(),
        Reuse::Never => None,
    };
    let (guest, meter): (Running, _) = match idle {
        Some(Idle { instance }) => {
            instance.store.data().meter.start(engine.limits().cpu);
            let meter = Arc::clone(&instance.store.data().meter);
            let run = serve(Arc::clone(engine), instance, request, Arc::clone(call), permit);
            (Box::pin(Metered::new(run, Arc::clone(&meter), Arc::clone(call))), meter)
        }
        None => {
            let (kit, pre) = match engine.bounds.checked(&engine.linked.checked) {
                Some(checked) => (&checked.kit, &checked.pre),
                None => (&engine.kit, pre),
            };
            let place = engine.place(kit).await?;
            let store = engine.store(kit);
            let meter = Arc::clone(&store.data().meter);
            let (engine, pre, payer) = (Arc::clone(engine), pre.clone(), Arc::clone(call));
            let call = Arc::clone(call);
            let run = async move {
                let instance = instantiate(store, &pre, &call, place).await?;
                serve(engine, instance, request, call, permit).await
            };
            (Box::pin(Metered::new(run, Arc::clone(&meter), payer)), meter)
        }
    };
    let guest = Movable::new(guest, meter, Arc::clone(&engine.heavy));
    let (head, guest) = in_time(until_head(engine, guest, call)).await??;
    if guest.is_none() && engine.reuse == Reuse::Never {
        engine.bounds.pace.note(call.cpu_ns());
    }
    let (head, body) = head.into_parts();
    response::check_head(&head)?;
    // The guest goes on by itself only if its response is still under way.
    let rest = Rest(guest.map(|guest| {
        let (engine, account) = (Arc::clone(engine), Arc::clone(call));
        let task = tokio::spawn(async move {
            match guest.await {
                Ok(idle) => keep(&engine, idle),
                Err(failure) => account.conclude(failure.conclusion()),
            }
        });
        task.abort_handle()
    }));
    let promised = Promised::of(&method, &head, &body);
    Ok(http::Response::from_parts(head, response::watch(body, promised, Arc::clone(call), rest.into())))
}

/// Holds an answer to its time. Most are there at once, and never look at a clock.
async fn in_time<T>(answer: impl Future<Output = T>) -> Result<T, Failure> {
    let mut answer = std::pin::pin!(answer);
    match std::future::poll_fn(|cx| Poll::Ready(answer.as_mut().poll(cx))).await {
        Poll::Ready(answer) => Ok(answer),
        Poll::Pending => tokio::time::timeout(RESPONSE_HEAD_WALL_MAX, answer).await.map_err(|_| Failure::WallTime),
    }
}

/// Drives the guest until its response has a head. The guest comes back with it, unless it has ended.
async fn until_head(
    engine: &VersionEngine,
    mut guest: Guest,
    call: &Call,
) -> Result<(http::Response<HyperOutgoingBody>, Option<Guest>), Failure> {
    let (head, ended) = head_or_end(&mut guest, call).await?;
    // An instance that did not answer is not kept: it went with `ended`.
    match (head, ended) {
        (Ok(head), None) => Ok((head, Some(guest))),
        (Ok(head), Some(Ok(idle))) => {
            keep(engine, idle);
            Ok((head, None))
        }
        // It answered, and failed before anything could leave: half of an answer is worse than none.
        (Ok(_), Some(Err(failure))) => Err(failure),
        (Err(code), ended) => {
            keep(engine, ended.and_then(Result::ok).flatten());
            Err(Failure::GuestError(format!("{code:?}")))
        }
    }
}

/// The head, and what the guest ended with if it has.
async fn head_or_end<T>(
    guest: &mut (impl Future<Output = Result<T, Failure>> + Unpin),
    call: &Call,
) -> Result<(Head, Option<Result<T, Failure>>), Failure> {
    std::future::poll_fn(|cx| {
        let ended = match Pin::new(&mut *guest).poll(cx) {
            Poll::Ready(result) => Some(result),
            Poll::Pending => None,
        };
        if ended.is_none() {
            // It answers while it runs, but that may be on another thread.
            call.wait_for_head(cx);
        }
        match (call.take_head(), ended) {
            (Some(head), ended) => Poll::Ready(Ok((head, ended))),
            (None, Some(Err(failure))) => Poll::Ready(Err(failure)),
            // One that lets go of its response may go on for a while: what it ends with is the better story.
            (None, Some(Ok(_))) => Poll::Ready(Err(Failure::NoResponse)),
            (None, None) => Poll::Pending,
        }
    })
    .await
}

/// Lets an instance wait for its next request.
fn keep(engine: &VersionEngine, idle: Option<Idle>) {
    if let Some(idle) = idle {
        engine.idle.lock().unwrap_or_else(PoisonError::into_inner).push(idle);
    }
}

async fn instantiate(
    mut store: Store<State>,
    pre: &ProxyPre<State>,
    call: &Arc<Call>,
    place: Place,
) -> Result<Instance, Failure> {
    store.data().current.enter(call);
    match pre.instantiate_async(&mut store).await {
        Ok(proxy) => Ok(Instance { store, proxy, served: 0, _place: place }),
        Err(error) => Err(failure::classify(&error, store.data(), Failure::Instantiate)),
    }
}

/// Runs the guest's handler to its end; afterwards the instance can wait for another request, or is gone.
async fn serve(
    engine: Arc<VersionEngine>,
    mut instance: Instance,
    request: http::Request<Body>,
    call: Arc<Call>,
    permit: OwnedSemaphorePermit,
) -> Result<Option<Idle>, Failure> {
    let Instance { store, proxy, served, .. } = &mut instance;
    call.set_reused(*served);
    *served += 1;
    // The account of an instance made for this request is in there already.
    store.data().current.leave_all();
    store.data().current.enter(&call);
    let result = async {
        let mut http = store.data_mut().http();
        let request = http.new_incoming_request(Scheme::Http, request)?;
        let answering = Arc::clone(&call);
        let out = http.new_response_outparam_from_callback(move |head| answering.answer(head))?;
        proxy.wasi_http_incoming_handler().call_handle(&mut *store, request, out).await
    }
    .await;
    call.set_memory_bytes(store.data().limiter.memory_bytes());
    result.map_err(|error| failure::classify(&error, store.data(), Failure::Trap))?;
    drop(permit);
    let again = engine.reuse == Reuse::Always
        && instance.served < INSTANCE_REUSE_MAX
        && !instance.store.data().limiter.refused
        && !engine.under_pressure();
    Ok(again.then(|| {
        instance.store.data().current.leave_all();
        Idle { instance }
    }))
}

/// The part of a guest that outlives the head of its response.
pub(super) struct Rest(Option<AbortHandle>);

impl OnEnd for Rest {
    fn on_end(&mut self, ended: Ended) {
        let Some(task) = self.0.take().filter(|task| !task.is_finished()) else { return };
        match ended {
            // Whoever it worked for has gone.
            Ended::Early => task.abort(),
            // Work after the response is allowed, for a while.
            Ended::Whole => drop(tokio::spawn(async move {
                tokio::time::sleep(AFTER_RESPONSE_MAX).await;
                task.abort();
            })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::config::RequestLimits;
    use crate::host::call::Lineage;

    /// As a connection does that answers many requests in one turn.
    async fn use_up_the_turn() {
        std::future::poll_fn(|cx| {
            while let Poll::Ready(progress) = tokio::task::coop::poll_proceed(cx) {
                progress.made_progress();
            }
            Poll::Ready(())
        })
        .await;
    }

    fn account() -> Arc<Call> {
        Arc::new(Call::new(Lineage::default(), RequestLimits::default()))
    }

    fn hello() -> Head {
        Ok(http::Response::new(HyperOutgoingBody::default()))
    }

    #[tokio::test]
    async fn a_guest_that_answers_and_ends_has_answered_however_much_its_task_has_done() {
        let call = account();
        let mut guest = Box::pin(async {
            call.answer(hello());
            Ok(())
        });
        use_up_the_turn().await;
        let (head, ended) = head_or_end(&mut guest, &call).await.unwrap();
        assert_eq!(head.unwrap().status(), 200);
        assert!(matches!(ended, Some(Ok(()))));
    }

    #[tokio::test]
    async fn a_guest_that_ends_without_an_answer_has_not_answered() {
        let mut guest = std::future::ready(Ok(()));
        assert!(matches!(head_or_end(&mut guest, &account()).await, Err(Failure::NoResponse)));
    }

    #[tokio::test]
    async fn an_answer_from_another_thread_is_heard_of() {
        let call = account();
        let elsewhere = Arc::clone(&call);
        let mut guest = std::future::pending::<Result<(), Failure>>();
        let asking = head_or_end(&mut guest, &call);
        let answering = async move {
            // The other has waited once by now.
            tokio::task::spawn_blocking(move || elsewhere.answer(hello())).await.unwrap();
        };
        let (asked, ()) = tokio::join!(asking, answering);
        assert_eq!(asked.unwrap().0.unwrap().status(), 200);
    }
}
