//! What one request costs a guest, to the instruction: wasmtime's *fuel*, which is one for nearly every instruction of the guest.
//!
//! An engine of its own, made for the purpose: code that counts is slower than code that serves, so none of this runs where
//! traffic does. Each count is taken of a fresh instance that finds the same clocks and random numbers as any other, whose one
//! task is polled by one thread, and that no tick interrupts. So a guest that talks to no one outside costs the same each
//! time. Machine code makes no difference to the count: it is compiled as fast as can be.

use std::future::poll_fn;
use std::path::Path;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::BoxFuture;
use http_body_util::BodyExt as _;
use tokio::sync::oneshot;
use wasmtime::component::{Component, Linker};
use wasmtime::{Config, Engine, OptLevel, RegallocAlgorithm, Store, Trap};
use wasmtime_wasi_http::WasiHttpView as _;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Scheme};
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;
use wasmtime_wasi_http::p3::Request;
use wasmtime_wasi_http::{p2, p3};

use crate::domain::config::RequestLimits;
use crate::domain::module::{GuestKind, ModuleDigest};
use crate::engine::artifacts::Artifacts;
use crate::engine::compile;
use crate::engine::failure;
use crate::engine::version_engine::Handler;
use crate::host::call::{Call, Lineage};
use crate::host::{self, Body, Environment, State};

/// Fuel of one count. Some tens of seconds of computing: nothing else stops a guest that spins here.
pub const FUEL_MAX: u64 = 20_000_000_000;
/// Wall time of one count, for guests that wait.
const WALL_MAX: Duration = Duration::from_secs(20);
/// Wall time that a guest may go on after its response.
const AFTER_MAX: Duration = Duration::from_millis(200);

/// What one request cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Fuel until the instance was made.
    pub start_fuel: u64,
    /// Fuel from then on, to the guest's end.
    pub request_fuel: u64,
    /// Linear memory of the instance at its end, which is its peak: it never shrinks.
    pub memory_bytes: u64,
    pub status: u16,
}

/// A version whose requests can be counted.
pub struct Counter {
    engine: Engine,
    handler: Handler,
    environment: Arc<Environment>,
    limits: RequestLimits,
    memory_bytes_max: u64,
}

/// What is counted.
pub struct Subject<'a> {
    /// The file with the module's bytes as uploaded.
    pub module: &'a Path,
    pub digest: ModuleDigest,
    pub kind: GuestKind,
    pub environment: Arc<Environment>,
    pub limits: RequestLimits,
    pub memory_bytes_max: u64,
}

impl Counter {
    /// Compiles a version for counting, or takes it from `artifacts`. Takes a core for as long as an upload does.
    ///
    /// # Errors
    /// If the module cannot be read, compiled or linked; in words.
    pub fn prepare(subject: Subject<'_>, artifacts: &Artifacts) -> Result<Self, String> {
        let Subject { module, digest, kind, environment, limits, memory_bytes_max } = subject;
        let words = |error: wasmtime::Error| format!("{error:#}");
        let engine = Engine::new(&config(kind)).map_err(words)?;
        let component = match artifacts.load(&engine, digest, kind) {
            Some(component) => component,
            None => {
                let bytes = std::fs::read(module)
                    .map_err(|error| format!("cannot read the module `{}`: {error}", module.display()))?;
                let inspected = compile::inspect(&bytes).map_err(|refusal| refusal.message)?;
                let component = Component::new(&engine, &inspected.component).map_err(words)?;
                artifacts.store(&engine, digest, kind, &component);
                component
            }
        };
        let mut linker = Linker::new(&engine);
        host::link(&mut linker, kind).map_err(words)?;
        let pre = linker.instantiate_pre(&component).map_err(words)?;
        let handler = match kind {
            GuestKind::Wasi02 => Handler::Wasi02(p2::bindings::ProxyPre::new(pre).map_err(words)?),
            GuestKind::Wasi03 => Handler::Wasi03(p3::bindings::ServicePre::new(pre).map_err(words)?),
        };
        Ok(Self { engine, handler, environment, limits, memory_bytes_max })
    }

    /// Counts one request to a fresh instance. A guest that computes holds the thread: not one that serves others.
    ///
    /// # Errors
    /// What the guest failed with, or that it did not end; in words.
    pub async fn count(&self, request: http::Request<Body>) -> Result<Cost, String> {
        let mut store =
            Store::new(&self.engine, State::reproducible(Arc::clone(&self.environment), self.memory_bytes_max));
        store.limiter(|state| &mut state.limiter);
        let call = Arc::new(Call::new(Lineage::default(), self.limits));
        store.data().current.enter(&call);
        let counting = async {
            store.set_fuel(FUEL_MAX)?;
            match &self.handler {
                Handler::Wasi02(pre) => count_02(store, pre, request).await,
                Handler::Wasi03(pre) => count_03(store, pre, request).await,
            }
        };
        match tokio::time::timeout(WALL_MAX, counting).await {
            Ok(Ok(cost)) => Ok(cost),
            Ok(Err(error)) if error.downcast_ref::<Trap>() == Some(&Trap::OutOfFuel) => {
                Err(format!("the guest ran for more than {FUEL_MAX} units of fuel"))
            }
            Ok(Err(error)) => Err(format!("the guest failed: {}", failure::one_line(&error))),
            Err(_) => Err(format!("the guest did not end within {} s", WALL_MAX.as_secs())),
        }
    }
}

fn config(kind: GuestKind) -> Config {
    let mut config = Config::new();
    config.wasm_component_model(true);
    config.consume_fuel(true);
    config.cranelift_opt_level(OptLevel::None);
    config.cranelift_regalloc_algorithm(RegallocAlgorithm::SinglePass);
    config.wasm_backtrace_max_frames(None);
    config.concurrency_support(kind == GuestKind::Wasi03);
    config.wasm_component_model_async(kind == GuestKind::Wasi03);
    config
}

fn used(store: &Store<State>) -> wasmtime::Result<u64> {
    Ok(FUEL_MAX.saturating_sub(store.get_fuel()?))
}

fn cost(store: &Store<State>, start_fuel: u64, status: u16) -> wasmtime::Result<Cost> {
    let request_fuel = used(store)?.saturating_sub(start_fuel);
    Ok(Cost { start_fuel, request_fuel, memory_bytes: store.data().limiter.memory_bytes(), status })
}

async fn count_02(
    mut store: Store<State>,
    pre: &p2::bindings::ProxyPre<State>,
    request: http::Request<Body>,
) -> wasmtime::Result<Cost> {
    let proxy = pre.instantiate_async(&mut store).await?;
    let start_fuel = used(&store)?;
    let (sender, head) = oneshot::channel();
    let mut http = store.data_mut().http();
    let request = http.new_incoming_request(Scheme::Http, request)?;
    let out = http.new_response_outparam(sender)?;
    let mut answer = Box::pin(read_02(head));
    let mut read = None;
    {
        let mut guest = Box::pin(proxy.wasi_http_incoming_handler().call_handle(&mut store, request, out));
        // The guest may wait until its body is read. What is not read when it ends is read afterwards.
        poll_fn(|cx| {
            let ended = guest.as_mut().poll(cx);
            if read.is_none()
                && let Poll::Ready(result) = answer.as_mut().poll(cx)
            {
                read = Some(result);
            }
            ended
        })
        .await?;
    }
    let mut cost = cost(&store, start_fuel, 0)?;
    // A body that the guest left unfinished ends with its store.
    drop(store);
    cost.status = match read {
        Some(status) => status?,
        None => answer.await?,
    };
    Ok(cost)
}

async fn read_02(
    head: oneshot::Receiver<Result<http::Response<HyperOutgoingBody>, ErrorCode>>,
) -> wasmtime::Result<u16> {
    let response = head.await.map_err(|_| wasmtime::format_err!("it ended without a response"))?;
    let response = response.map_err(|code| wasmtime::format_err!("it answered with the error `{code:?}`"))?;
    let status = response.status().as_u16();
    drain(response.into_body()).await?;
    Ok(status)
}

async fn count_03(
    mut store: Store<State>,
    pre: &p3::bindings::ServicePre<State>,
    request: http::Request<Body>,
) -> wasmtime::Result<Cost> {
    let service = pre.instantiate_async(&mut store).await?;
    let start_fuel = used(&store)?;
    let status = store
        .run_concurrent(async |accessor| -> wasmtime::Result<u16> {
            let (request, io) = accessor.with(|mut store| {
                let (request, io) = Request::from_http(store.data_mut().http().hooks, request);
                let io: BoxFuture<'static, _> = Box::pin(io);
                (request, io)
            });
            let response = service.handle(accessor, request).await?;
            let response = response.map_err(|code| wasmtime::format_err!("it answered with the error `{code:?}`"))?;
            let response = accessor.with(|mut store| response.into_http(&mut store, io))?;
            let status = response.status().as_u16();
            drain(response.into_body()).await?;
            let background = poll_fn(|cx| accessor.poll_no_interesting_tasks(cx));
            let _ = tokio::time::timeout(AFTER_MAX, background).await;
            Ok(status)
        })
        .await??;
    cost(&store, start_fuel, status)
}

async fn drain<B>(body: B) -> wasmtime::Result<()>
where
    B: http_body::Body,
    B::Error: std::fmt::Debug,
{
    let mut body = std::pin::pin!(body);
    while let Some(frame) = body.frame().await {
        frame.map_err(|error| wasmtime::format_err!("its body broke off: {error:?}"))?;
    }
    Ok(())
}
