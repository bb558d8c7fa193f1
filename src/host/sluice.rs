//! Our own capabilities: the version's metadata, and calls to other workers.

use std::sync::Arc;

use wasmtime::component::{Accessor, HasData, Linker, Resource};
use wasmtime_wasi_http::p3::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::p3::{Request, Response};
use wasmtime_wasi_http::{WasiHttp, WasiHttpView as _};

use crate::host::bindings::{worker, worker_p2};
use crate::host::environment::{Environment, Metadata};
use crate::host::outbound::{self, Target};
use crate::host::state::State;

struct Sluice;

impl HasData for Sluice {
    type Data<'a> = &'a mut State;
}

/// Links what 0.2 guests may import of ours.
pub(super) fn link_02(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    worker_p2::sluice::worker_p2::version_metadata::add_to_linker::<State, Sluice>(linker, |state| state)
}

/// Links what 0.3 guests may import of ours.
pub(super) fn link_03(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    worker::sluice::worker::version_metadata::add_to_linker::<State, Sluice>(linker, |state| state)?;
    worker::sluice::worker::services::add_to_linker::<State, Sluice>(linker, |state| state)
}

// === impl version-metadata ===

impl worker_p2::sluice::worker_p2::version_metadata::Host for State {
    fn get(&mut self) -> wasmtime::Result<Option<worker_p2::sluice::worker_p2::version_metadata::Metadata>> {
        let about = self.environment.metadata.clone();
        Ok(about.map(|Metadata { id, tag, timestamp }| worker_p2::sluice::worker_p2::version_metadata::Metadata {
            id,
            tag,
            timestamp,
        }))
    }
}

impl worker::sluice::worker::version_metadata::Host for State {
    fn get(&mut self) -> wasmtime::Result<Option<worker::sluice::worker::version_metadata::Metadata>> {
        let about = self.environment.metadata.clone();
        Ok(about.map(|Metadata { id, tag, timestamp }| worker::sluice::worker::version_metadata::Metadata {
            id,
            tag,
            timestamp,
        }))
    }
}

// === impl services ===

impl worker::sluice::worker::services::Host for State {}

impl worker::sluice::worker::services::HostWithStore<State> for Sluice {
    async fn fetch(
        accessor: &Accessor<State, Self>,
        binding: String,
        request: Resource<Request>,
    ) -> wasmtime::Result<Result<Resource<Response>, ErrorCode>> {
        let call = accessor.with(|mut store| -> wasmtime::Result<_> {
            let state: &mut State = store.get();
            let environment = Arc::clone(&state.environment);
            let current = Arc::clone(&state.current);
            let object = state.object.clone();
            let request = state.http().table.delete(request)?;
            // What became of the body is the callee's affair: it sees an aborted one as such.
            let (request, _options) = request.into_http(&mut store, async { Ok(()) })?;
            let request = match &object {
                Some(object) => request.map(|body| object.outgoing(body)),
                None => request,
            };
            Ok((fetch_service(&environment, &binding, &current, request), object))
        })?;
        let result = match call {
            (Ok(call), Some(object)) => outbound::gated(&object, call).await,
            (Ok(call), None) => call.await,
            (Err(error), _) => Err(error),
        };
        accessor.with(|mut store| -> wasmtime::Result<_> {
            let state: &mut State = store.get();
            let view = state.http();
            match result {
                Ok(response) => {
                    let (response, io) = Response::from_http(view.hooks, response);
                    // The guest's verdict on the body interests no one but the body, which it owns.
                    drop(io);
                    Ok(Ok(view.table.push(response)?))
                }
                Err(error) => Ok(Err(outbound::error_code_03(error))),
            }
        })
    }
}

type Fetched = futures_util::future::BoxFuture<'static, Result<http::Response<super::Body>, wasmtime_wasi_http::Error>>;

fn fetch_service(
    environment: &Environment,
    binding: &str,
    current: &super::logs::Current,
    request: http::Request<super::Body>,
) -> Result<Fetched, wasmtime_wasi_http::Error> {
    let Some(worker) = environment.service(binding) else {
        return Err(wasmtime_wasi_http::Error::ConfigurationError);
    };
    let account = outbound::charge(current)?;
    Ok(outbound::send(environment, Target::Worker(worker.clone()), request, None, &account))
}

const _: fn() = || {
    // The types of `wasi:http` that a guest hands us are the ones that the other linker calls know.
    fn same<T: HasData>() {}
    same::<WasiHttp>();
};
