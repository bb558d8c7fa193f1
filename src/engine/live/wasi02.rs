//! Objects of WASI 0.2: one event after the other.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::task::Poll;

use http_body_util::BodyExt;
use tokio::sync::oneshot;
use wasmtime::Store;
use wasmtime::component::ResourceAny;
use wasmtime_wasi_http::WasiHttpView as _;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Scheme};
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use crate::domain::limits::OBJECT_OPEN_WALL_MAX;
use crate::engine::failure::Failure;
use crate::engine::live::{Event, Life, Mailbox, NotOpened, Rung, Work, instantiate_failed, too_slow};
use crate::host::bindings::worker_p2;
use crate::host::{Body, State};

impl Life<'_> {
    /// The guest of an object, from its start to its end.
    pub(super) async fn one_by_one(
        &self,
        store: &mut Store<State>,
        pre: &worker_p2::WorkerPre<State>,
        mailbox: &mut Mailbox,
    ) -> wasmtime::Result<()> {
        let object = self.object;
        // Nothing can come between what one event does: the next is not begun before it has ended. A gate would have the event
        // that runs wait behind those that wait for it.
        object.gate.open_for_good();
        let guest = pre.instantiate_async(&mut *store).await.map_err(instantiate_failed)?;
        let this = {
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
        let Event { work, call, .. } = event;
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
