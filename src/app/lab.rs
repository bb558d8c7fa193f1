//! A node measured from within its own process: requests go to the dispatcher as those of the front door do, without sockets,
//! and a version's instructions are counted. For benchmarks; nothing that serves goes through here.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Uri};
use http_body_util::{BodyExt as _, Full};

use super::Running;
use crate::catalog::{Catalog, WorkerView};
use crate::clock;
use crate::dispatch::{Dispatcher, OVERRIDES_HEADER, Wanted};
use crate::domain::id::VersionId;
use crate::domain::outcome::Outcome;
use crate::domain::version::Version;
use crate::engine::exact::Counter;
use crate::engine::fleet::Fleet;
use crate::host::Body;
use crate::host::call::Lineage;
use crate::host::ports::Callers;

pub use crate::engine::exact::Cost;

/// The version of wasmtime in this program. wasmtime does not tell it, and what was locked was built.
#[must_use]
pub fn engine_version() -> &'static str {
    const LOCKED: &str = include_str!("../../Cargo.lock");
    let version = LOCKED.split("name = \"wasmtime\"\nversion = \"").nth(1).and_then(|rest| rest.split('"').next());
    version.unwrap_or("unknown")
}

/// The rooms of a node that a benchmark needs.
pub(super) struct Inside {
    pub(super) catalog: Arc<Catalog>,
    pub(super) fleet: Arc<Fleet>,
    pub(super) dispatcher: Arc<Dispatcher>,
}

/// One version of one worker, ready to be asked.
#[derive(Clone)]
pub struct Subject {
    worker: Arc<WorkerView>,
    version: Arc<Version>,
    dispatcher: Arc<Dispatcher>,
    /// What chooses the version among those of the deployment.
    overriding: HeaderValue,
}

/// What is sent, as often as wanted.
#[derive(Debug, Clone)]
pub struct Template {
    pub method: Method,
    /// Absolute.
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// One request and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shot {
    pub status: u16,
    pub outcome: Outcome,
    /// Empty if all went well.
    pub message: String,
    /// From before the decision until the last byte.
    pub wall: Duration,
    /// Of it, how long the guest ran: its instance being made, its code, and what it asked of the host while it ran.
    pub guest: Duration,
    /// Which version answered, if one did.
    pub version: Option<VersionId>,
}

/// Why a version cannot be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("the node has no worker `{0}`")]
    Worker(String),
    #[error("worker `{0}` has no version `{1}`")]
    Version(String, String),
    #[error("{0}")]
    Count(String),
}

impl Running {
    /// A version of one of the node's workers. Its deployment must hold the version, be it at 0 %.
    ///
    /// # Errors
    /// If there is no such worker or version.
    pub fn subject(&self, worker: &str, version: &str) -> Result<Subject, Error> {
        let name = worker.parse().map_err(|_| Error::Worker(worker.to_owned()))?;
        let view = self.inside.catalog.view().worker(&name).cloned().ok_or_else(|| Error::Worker(worker.to_owned()))?;
        let unknown = || Error::Version(worker.to_owned(), version.to_owned());
        let id: VersionId = version.parse().map_err(|_| unknown())?;
        let found = Arc::clone(view.version(id).ok_or_else(unknown)?);
        let overriding = HeaderValue::try_from(format!("{name}=\"{id}\"")).map_err(|_| unknown())?;
        Ok(Subject { worker: view, version: found, dispatcher: Arc::clone(&self.inside.dispatcher), overriding })
    }

    /// Counts the instructions of `times` requests, each to a fresh instance.
    ///
    /// # Errors
    /// Why there is no count: the guest failed, or does not come to an end.
    pub async fn count(&self, subject: &Subject, template: &Template, times: usize) -> Result<Vec<Cost>, Error> {
        let (fleet, subject, template) = (Arc::clone(&self.inside.fleet), subject.clone(), template.clone());
        // A guest that computes holds its thread, and so does the compiler.
        let counting = tokio::task::spawn_blocking(move || -> Result<Vec<Cost>, String> {
            let callers: Arc<dyn Callers> = Arc::<Dispatcher>::clone(&subject.dispatcher);
            let counter: Counter = fleet.counter(&subject.worker.name, &subject.version, &callers)?;
            let runtime = tokio::runtime::Handle::current();
            (0..times).map(|_| runtime.block_on(counter.count(template.request()))).collect()
        });
        counting.await.map_err(|error| Error::Count(error.to_string()))?.map_err(Error::Count)
    }
}

impl Template {
    fn request(&self) -> http::Request<Body> {
        let body = Full::new(self.body.clone()).map_err(|never| match never {}).boxed_unsync();
        let mut request = http::Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        request.headers_mut().clone_from(&self.headers);
        request
    }
}

impl Subject {
    /// The version's id.
    #[must_use]
    pub fn id(&self) -> VersionId {
        self.version.id
    }

    /// Sends one request and reads the answer to its end.
    pub async fn ask(&self, template: &Template) -> Shot {
        let mut request = template.request();
        request.headers_mut().insert(OVERRIDES_HEADER, self.overriding.clone());
        let began = clock::monotonic();
        let answer = self.dispatcher.dispatch(&self.worker, Wanted::Deployed, request, Lineage::default()).await;
        let version = answer.decision.map(|decision| decision.version);
        let (head, mut body) = answer.response.into_parts();
        let mut broken = None;
        while let Some(frame) = body.frame().await {
            if let Err(error) = frame {
                broken = Some(error.to_string());
                break;
            }
        }
        let wall = began.elapsed();
        let guest = Duration::from_nanos(body.account().map_or(0, |call| call.cpu_ns())).min(wall);
        let (outcome, message) = match (body.failure(), broken) {
            (Some(conclusion), _) => (conclusion.outcome, conclusion.message.clone()),
            (None, Some(error)) => (Outcome::ResponseStreamDisconnected, error),
            (None, None) => (Outcome::Ok, String::new()),
        };
        Shot { status: head.status.as_u16(), outcome, message, wall, guest, version }
    }
}
