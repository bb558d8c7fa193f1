//! `durable-objects`: how a guest of WASI 0.3 names objects and calls them.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::Mutex;
use wasmtime::component::{Accessor, HasData, Linker, Resource};
use wasmtime_wasi_http::WasiHttpView as _;
use wasmtime_wasi_http::p3::{Request, Response};

use crate::domain::object::{ObjectId, ObjectNamespaceId};
use crate::host::Body;
use crate::host::bindings::worker::sluice::worker::durable_objects;
use crate::host::object::{Address, Object};
use crate::host::outbound;
use crate::host::ports::{Callers, ObjectError, ObjectTarget};
use crate::host::state::State;

/// The objects of one class.
pub struct Namespace(ObjectNamespaceId);

/// An object's id, and the namespace it is of.
#[derive(Clone)]
pub struct Id {
    namespace: ObjectNamespaceId,
    id: ObjectId,
    name: Option<Arc<str>>,
}

/// A way to reach an object. Its calls arrive in the order in which they were made.
pub struct Stub {
    id: Id,
    /// Held by the call whose turn it is until it has its place among the object's events. Fair: first come, first served.
    turn: Arc<Mutex<()>>,
}

struct Objects;

impl HasData for Objects {
    type Data<'a> = &'a mut State;
}

/// Links the interface.
pub(in crate::host) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    durable_objects::add_to_linker::<State, Objects>(linker, |state| state)
}

impl durable_objects::Host for State {}

impl durable_objects::HostNamespace for State {
    fn open(&mut self, binding: String) -> wasmtime::Result<Result<Resource<Namespace>, String>> {
        let Some(bound) = self.environment.object(&binding) else {
            let mut names: Vec<String> = self.environment.object_names().map(|name| format!("`{name}`")).collect();
            names.sort_unstable();
            let there =
                if names.is_empty() { "there is none".to_owned() } else { format!("there are {}", names.join(", ")) };
            return Ok(Err(format!("no Durable Object binding is named `{binding}`; {there}")));
        };
        match self.environment.callers.namespace(&bound.worker, &bound.class) {
            Ok(namespace) => Ok(Ok(self.http().table.push(Namespace(namespace))?)),
            Err(message) => Ok(Err(message)),
        }
    }

    fn id_from_name(&mut self, namespace: Resource<Namespace>, name: String) -> wasmtime::Result<Resource<Id>> {
        let table = self.http().table;
        let namespace = table.get(&namespace)?.0;
        let id = namespace.id_from_name(&name);
        Ok(table.push(Id { namespace, id, name: Some(name.into()) })?)
    }

    fn new_unique_id(&mut self, namespace: Resource<Namespace>) -> wasmtime::Result<Resource<Id>> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|error| wasmtime::format_err!("no randomness: {error}"))?;
        let table = self.http().table;
        let namespace = table.get(&namespace)?.0;
        let id = namespace.id_from_random(bytes);
        Ok(table.push(Id { namespace, id, name: None })?)
    }

    fn id_from_string(
        &mut self,
        namespace: Resource<Namespace>,
        text: String,
    ) -> wasmtime::Result<Result<Resource<Id>, String>> {
        let table = self.http().table;
        let namespace = table.get(&namespace)?.0;
        match namespace.parse_id(&text) {
            Ok(id) => Ok(Ok(table.push(Id { namespace, id, name: None })?)),
            Err(error) => Ok(Err(error.to_string())),
        }
    }

    fn get(&mut self, _: Resource<Namespace>, id: Resource<Id>) -> wasmtime::Result<Resource<Stub>> {
        let table = self.http().table;
        let id = table.get(&id)?.clone();
        Ok(table.push(Stub { id, turn: Arc::default() })?)
    }

    fn drop(&mut self, namespace: Resource<Namespace>) -> wasmtime::Result<()> {
        self.http().table.delete(namespace)?;
        Ok(())
    }
}

impl durable_objects::HostObjectId for State {
    fn to_string(&mut self, id: Resource<Id>) -> wasmtime::Result<String> {
        Ok(self.http().table.get(&id)?.id.to_string())
    }

    fn name(&mut self, id: Resource<Id>) -> wasmtime::Result<Option<String>> {
        Ok(self.http().table.get(&id)?.name.as_deref().map(str::to_owned))
    }

    fn drop(&mut self, id: Resource<Id>) -> wasmtime::Result<()> {
        self.http().table.delete(id)?;
        Ok(())
    }
}

impl durable_objects::HostStub for State {
    fn drop(&mut self, stub: Resource<Stub>) -> wasmtime::Result<()> {
        self.http().table.delete(stub)?;
        Ok(())
    }
}

impl durable_objects::HostStubWithStore<State> for Objects {
    async fn fetch(
        accessor: &Accessor<State, Self>,
        stub: Resource<Stub>,
        request: Resource<Request>,
    ) -> wasmtime::Result<Result<Resource<Response>, durable_objects::ObjectError>> {
        let (sending, own) = accessor.with(|mut store| -> wasmtime::Result<_> {
            let state: &mut State = store.get();
            let own = state.object.clone();
            let stub = state.http().table.get(&stub)?;
            let (id, turn) = (stub.id.clone(), Arc::clone(&stub.turn));
            let mut request = state.http().table.delete(request)?;
            // The host is irrelevant (`DOI-6`), but a URI with a scheme needs one.
            request.authority.get_or_insert_with(|| http::uri::Authority::from_static("object.internal"));
            request.scheme.get_or_insert(http::uri::Scheme::HTTP);
            request.path_with_query.get_or_insert_with(|| http::uri::PathAndQuery::from_static("/"));
            let current = Arc::clone(&state.current);
            let objects = Arc::clone(&state.environment.callers);
            let (mut request, _options) = request.into_http(&mut store, async { Ok(()) })?;
            let account = match outbound::charge(&current) {
                Ok(account) => account,
                Err(error) => return Ok((Err(refused(format!("{error:?}"))), own)),
            };
            let Some(lineage) = account.lineage.child(&mut request) else {
                return Ok((Err(refused("too many calls from one to another".to_owned())), own));
            };
            let address = Address { namespace: id.namespace, id: id.id, fork: lineage.fork };
            let target = ObjectTarget { address, name: id.name };
            Ok((Ok(call(objects, own.clone(), turn, target, request, lineage)), own))
        })?;
        let result = match sending {
            Ok(sending) => sending.await,
            Err(error) => Err(error),
        };
        if let Some(own) = &own {
            own.gate.ticket().await;
        }
        accessor.with(|mut store| -> wasmtime::Result<_> {
            let state: &mut State = store.get();
            let view = state.http();
            match result {
                Ok(response) => {
                    let response = match &own {
                        Some(own) => response.map(|body| own.incoming(body)),
                        None => response,
                    };
                    let (response, io) = Response::from_http(view.hooks, response);
                    // The guest's verdict on the body interests no one but the body, which it owns.
                    drop(io);
                    Ok(Ok(view.table.push(response)?))
                }
                Err(error) => Ok(Err(error.into())),
            }
        })
    }
}

/// Sends through the output gate of the calling object, if an object calls, in the stub's order.
fn call(
    objects: Arc<dyn Callers>,
    own: Option<Arc<Object>>,
    turn: Arc<Mutex<()>>,
    target: ObjectTarget,
    request: http::Request<Body>,
    lineage: crate::host::call::Lineage,
) -> BoxFuture<'static, Result<http::Response<Body>, ObjectError>> {
    Box::pin(async move {
        let turn = turn.lock().await;
        let request = match &own {
            Some(own) if !own.storage.confirmed().await => {
                return Err(refused("the calling object was reset before its writes were durable".to_owned()));
            }
            Some(own) => request.map(|body| own.outgoing(body)),
            None => request,
        };
        let answer = objects.send(target, request, lineage).await;
        drop(turn);
        answer.await
    })
}

fn refused(message: String) -> ObjectError {
    ObjectError { message, remote: false, retryable: false, overloaded: false, reset: false }
}

impl From<ObjectError> for durable_objects::ObjectError {
    fn from(error: ObjectError) -> Self {
        let ObjectError { message, remote, retryable, overloaded, reset } = error;
        Self { message, remote, retryable, overloaded, durable_object_reset: reset }
    }
}
