//! Calls that go up the stairs, as traits: declared here, implemented above, handed down by `app`.

use futures_util::future::BoxFuture;

use crate::domain::id::WorkerName;
use crate::host::Body;
use crate::host::call::Lineage;

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
