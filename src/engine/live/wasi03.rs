//! Objects of WASI 0.3: many events at once, in one `run_concurrent` for the object's whole life.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::Poll;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, Stream as _};
use wasmtime::component::{Accessor, ResourceAny};
use wasmtime::{AsContextMut as _, Store};
use wasmtime_wasi_http::WasiHttpView as _;
use wasmtime_wasi_http::p3::Request;

use crate::domain::limits::OBJECT_OPEN_WALL_MAX;
use crate::engine::failure::{self, Failure};
use crate::engine::live::{Event, Life, Mailbox, NotOpened, Rung, Work, instantiate_failed, too_slow};
use crate::host::State;
use crate::host::bindings::worker;

impl Life<'_> {
    /// The guest of an object, from its start to its end.
    pub(super) async fn concurrent(
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
                    Poll::Ready(Some(event)) => match self.begin_03(accessor, guest, this, event) {
                        Ok(rest) => running.push(rest),
                        Err(error) => return Poll::Ready(Err(error)),
                    },
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
                object.note_background(accessor.poll_no_interesting_tasks(cx));
            }
            Poll::Pending
        })
        .await
    }

    /// Hands one event to the guest. That has happened when this returns, so that the turn which the event begins cannot end
    /// before it: what comes of it is a future. An error is a trap, and the end of the object.
    fn begin_03<'a>(
        &'a self,
        accessor: &'a Accessor<State>,
        guest: &worker::Worker,
        this: ResourceAny,
        event: Event,
    ) -> wasmtime::Result<BoxFuture<'a, wasmtime::Result<()>>> {
        let Event { work, call, .. } = event;
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
                Ok(async move {
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
                    Ok(())
                }
                .boxed())
            }
            Work::Alarm { reply } => {
                let Some(alarm) = object.storage.ring(self.keeping.clock.now_ms()) else {
                    let _ = reply.send(Rung::Nothing);
                    return Ok(std::future::ready(Ok(())).boxed());
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
                Ok(async move {
                    let (result,) = func.finish_call_concurrent(accessor, queued).await?;
                    drop((seat, presence));
                    self.rung(alarm, result, reply).await;
                    Ok(())
                }
                .boxed())
            }
        }
    }
}
