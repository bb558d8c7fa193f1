//! Calls that go up the stairs, as traits: declared here, implemented above, handed down by `app`.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::domain::id::WorkerName;
use crate::domain::object::{ClassName, ObjectNamespaceId};
use crate::host::Body;
use crate::host::call::Lineage;
use crate::host::object::Address;
use crate::host::object::storage::{Batch, Query};

/// Calls from a guest to another worker, by a service binding.
pub trait WorkerCaller: Send + Sync + 'static {
    /// Sends `request` to `worker`, whose own deployment chooses the version (`SEL-16`) by the headers of this request
    /// (`SEL-13`, `SEL-14`). `lineage` is the place of this call among others.
    fn call(
        &self,
        worker: &WorkerName,
        request: http::Request<Body>,
        lineage: Lineage,
    ) -> BoxFuture<'static, Result<http::Response<Body>, CallError>>;
}

/// Why a call to a worker gave no response at all. A guest that fails gives one: a 5xx.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    #[error("there is no worker `{0}`")]
    WorkerUnknown(WorkerName),
    #[error("worker `{0}` has no deployment")]
    NotDeployed(WorkerName),
}

/// Calls from a guest to Durable Objects.
pub trait ObjectCaller: Send + Sync + 'static {
    /// The namespace of the objects of `class` of `worker`; the caller is told what there is not.
    ///
    /// # Errors
    /// There is no such worker or class; in words.
    fn namespace(&self, worker: &WorkerName, class: &ClassName) -> Result<ObjectNamespaceId, String>;

    /// Brings `request` to an object, waking it if it sleeps. Ready when the object has taken its place among its events: who
    /// waits for that before the next call keeps the order (`DOI-7`). What it gives is the answer.
    fn send(
        &self,
        target: ObjectTarget,
        request: http::Request<Body>,
        lineage: Lineage,
    ) -> BoxFuture<'static, BoxFuture<'static, Result<http::Response<Body>, ObjectError>>>;
}

/// All calls that go up from a guest.
pub trait Callers: WorkerCaller + ObjectCaller {}

impl<T: WorkerCaller + ObjectCaller> Callers for T {}

/// An object that somebody wants to reach.
#[derive(Debug, Clone)]
pub struct ObjectTarget {
    pub address: Address,
    /// The name that the id was made from, if it was (`DOI-4`).
    pub name: Option<Arc<str>>,
}

/// Why a call to an object gave no response (`DOL-10`).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ObjectError {
    pub message: String,
    /// The object's own code failed, rather than the way to it.
    pub remote: bool,
    /// Safe to try again on a new stub: the object had not begun.
    pub retryable: bool,
    /// Too much is queued for the object.
    pub overloaded: bool,
    /// The instance was discarded.
    pub reset: bool,
}

/// What an object's storage lies on. One for each object in memory; a commit carries its epoch.
pub trait ObjectStore: Send + Sync + 'static {
    /// The values of some keys, in their order.
    fn get(&self, keys: Vec<String>) -> BoxFuture<'static, Result<Vec<Option<Bytes>>, StoreFault>>;

    /// Pairs in the order of their keys, from the end that the query names.
    fn list(&self, query: Query) -> BoxFuture<'static, Result<Vec<(String, Bytes)>, StoreFault>>;

    /// Makes a batch durable, all of it or nothing. One at a time.
    fn commit(&self, batch: Batch) -> BoxFuture<'static, Result<(), StoreFault>>;

    /// Keys and values of the object, in bytes, when last committed.
    fn bytes(&self) -> u64;
}

/// Why an object's storage failed. Either way the instance is done with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreFault {
    #[error("another instance has taken the object over")]
    Superseded,
    #[error("{0}")]
    Failed(String),
}

// === nobody ===

/// No worker can be called by a guest that does not serve yet.
pub struct Nobody;

impl WorkerCaller for Nobody {
    fn call(
        &self,
        worker: &WorkerName,
        _: http::Request<Body>,
        _: Lineage,
    ) -> BoxFuture<'static, Result<http::Response<Body>, CallError>> {
        let worker = worker.clone();
        Box::pin(async move { Err(CallError::WorkerUnknown(worker)) })
    }
}

/// Nor can an object.
impl ObjectCaller for Nobody {
    fn namespace(&self, _: &WorkerName, class: &ClassName) -> Result<ObjectNamespaceId, String> {
        Err(format!("objects of class `{class}` cannot be called by a guest that does not serve yet"))
    }

    #[expect(clippy::async_yields_async, reason = "as the port has it")]
    fn send(
        &self,
        _: ObjectTarget,
        _: http::Request<Body>,
        _: Lineage,
    ) -> BoxFuture<'static, BoxFuture<'static, Result<http::Response<Body>, ObjectError>>> {
        let error = ObjectError {
            message: "a guest that does not serve yet can call no object".to_owned(),
            remote: false,
            retryable: false,
            overloaded: false,
            reset: false,
        };
        Box::pin(async move { Box::pin(async move { Err(error) }) as BoxFuture<'static, _> })
    }
}
