//! Calls of a 0.2 guest: one request at a time, straight through, with no task of its own unless the response outlives it.

use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::Poll;

use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::task::AbortHandle;
use wasmtime::Store;
use wasmtime_wasi_http::WasiHttpView as _;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Scheme};
use wasmtime_wasi_http::p2::bindings::{Proxy, ProxyPre};
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use crate::domain::limits::{AFTER_RESPONSE_MAX, INSTANCE_REUSE_MAX, RESPONSE_HEAD_WALL_MAX};
use crate::engine::failure::{self, Failure};
use crate::engine::metered::Metered;
use crate::engine::response::{self, Ended, OnEnd, Promised};
use crate::engine::version_engine::{Place, Reuse, VersionEngine};
use crate::host::call::Call;
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

type Head = Result<http::Response<HyperOutgoingBody>, ErrorCode>;
/// Runs to the guest's end, and gives its instance back if it can serve again.
type Guest = Pin<Box<dyn Future<Output = Result<Option<Idle>, Failure>> + Send>>;

/// Answers one request with an instance of its own for that time.
pub(super) async fn call(
    engine: &Arc<VersionEngine>,
    pre: &ProxyPre<State>,
    request: http::Request<Body>,
    call: &Arc<Call>,
    permit: OwnedSemaphorePermit,
) -> Result<http::Response<Body>, Failure> {
    let (head_sender, head) = oneshot::channel();
    let method = request.method().clone();
    let idle = match engine.reuse {
        Reuse::Always => engine.idle.lock().unwrap_or_else(PoisonError::into_inner).pop(),
        Reuse::Never => None,
    };
    let guest: Guest = match idle {
        Some(Idle { instance }) => {
            instance.store.data().meter.start(engine.limits().cpu);
            let meter = Arc::clone(&instance.store.data().meter);
            let run = serve(Arc::clone(engine), instance, request, head_sender, Arc::clone(call), permit);
            Box::pin(Metered::new(run, meter, Arc::clone(call)))
        }
        None => {
            let place = engine.place().await?;
            let store = engine.store();
            let meter = Arc::clone(&store.data().meter);
            let (engine, pre, payer) = (Arc::clone(engine), pre.clone(), Arc::clone(call));
            let call = Arc::clone(call);
            let run = async move {
                let instance = instantiate(store, &pre, &call, place).await?;
                serve(engine, instance, request, head_sender, call, permit).await
            };
            Box::pin(Metered::new(run, meter, payer))
        }
    };
    let answer = tokio::time::timeout(RESPONSE_HEAD_WALL_MAX, until_head(engine, guest, head));
    let (head, guest) = answer.await.map_err(|_| Failure::WallTime)??;
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
    Ok(http::Response::from_parts(head, response::watch(body.boxed_unsync(), promised, Arc::clone(call), rest)))
}

/// Drives the guest until its response has a head. The guest comes back with it, unless it has ended.
async fn until_head(
    engine: &VersionEngine,
    mut guest: Guest,
    mut head: oneshot::Receiver<Head>,
) -> Result<(http::Response<HyperOutgoingBody>, Option<Guest>), Failure> {
    let (head, ended) = head_or_end(&mut guest, &mut head).await?;
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
async fn head_or_end(
    guest: &mut Guest,
    head: &mut oneshot::Receiver<Head>,
) -> Result<(Head, Option<Result<Option<Idle>, Failure>>), Failure> {
    let (mut ended, mut let_go) = (None, false);
    let head = std::future::poll_fn(|cx| {
        if ended.is_none()
            && let Poll::Ready(result) = guest.as_mut().poll(cx)
        {
            ended = Some(result);
        }
        if !let_go && let Poll::Ready(head) = Pin::new(&mut *head).poll(cx) {
            match head {
                Ok(head) => return Poll::Ready(Ok(head)),
                Err(_) => let_go = true,
            }
        }
        // A task that has done much in one turn is told that nothing is there, so that it lets others run. What an ended guest
        // left is there or not.
        if ended.is_some()
            && let Ok(head) = head.try_recv()
        {
            return Poll::Ready(Ok(head));
        }
        // A guest that lets go of its response may go on for a while: what it ends with is the better story. One that ends may
        // still hold on to it, if its instance is to be used again.
        match &ended {
            Some(Err(failure)) => Poll::Ready(Err(failure.clone())),
            Some(Ok(_)) => Poll::Ready(Err(Failure::NoResponse)),
            None => Poll::Pending,
        }
    })
    .await?;
    Ok((head, ended))
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
    head: oneshot::Sender<Head>,
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
        let out = http.new_response_outparam(head)?;
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
struct Rest(Option<AbortHandle>);

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

    #[tokio::test]
    async fn a_guest_that_answers_and_ends_has_answered_however_much_its_task_has_done() {
        let (sender, mut head) = oneshot::channel::<Head>();
        let mut guest: Guest = Box::pin(async move {
            let _ = sender.send(Ok(http::Response::new(HyperOutgoingBody::default())));
            Ok(None)
        });
        use_up_the_turn().await;
        let (head, ended) = head_or_end(&mut guest, &mut head).await.unwrap();
        assert_eq!(head.unwrap().status(), 200);
        assert!(matches!(ended, Some(Ok(None))));
    }

    #[tokio::test]
    async fn a_guest_that_ends_without_an_answer_has_not_answered() {
        let (sender, mut head) = oneshot::channel::<Head>();
        let mut guest: Guest = Box::pin(async move {
            drop(sender);
            Ok(None)
        });
        assert!(matches!(head_or_end(&mut guest, &mut head).await, Err(Failure::NoResponse)));
    }
}
