//! Event → decision → version engine → instance → outcome. Used alike by clients and by guests that call other workers.
//!
//! 1. The worker's active deployment decides the version, unless the event names one ([`Wanted`]).
//! 2. The fleet has that version ready, or makes it so.
//! 3. An instance answers; the version is kept to the end of the response, whatever is deployed meanwhile (`R3`).
//! 4. When the last byte has left, or whoever asked has gone, the request's record is written ([`Open`]).
//!
//! Events for objects take another way ([`objects`]): their version is decided by what the object is assigned.

mod objects;
mod open;

use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::HeaderName;
use http_body::{Body as _, Frame, SizeHint};

use crate::catalog::{Catalog, WorkerView};
use crate::clock::Clock;
use crate::dispatch::open::Open;
use crate::domain::decision::{Decision, Reason, Wish, decide};
use crate::domain::id::{VersionId, WorkerName};
use crate::domain::outcome::Conclusion;
use crate::domain::version::Version;
use crate::engine::failure::Failure;
use crate::engine::fleet::Fleet;
use crate::engine::response::Promised;
use crate::engine::version_engine::AnswerBody;
use crate::host::Body;
use crate::host::call::{Call, Lineage};
use crate::host::ports::{CallError, Callers, WorkerCaller};
use crate::objects::Objects;
use crate::observe::Observer;
use crate::observe::record::RequestId;

/// The header with a version key (`SEL-3`).
pub const KEY_HEADER: HeaderName = HeaderName::from_static("cloudflare-workers-version-key");
/// The header with overrides (`SEL-10`).
pub const OVERRIDES_HEADER: HeaderName = HeaderName::from_static("cloudflare-workers-version-overrides");

/// Which version an event wants.
#[derive(Debug, Clone, Copy)]
pub enum Wanted {
    /// What the deployment decides by the event's headers.
    Deployed,
    /// This one, deployed or not: the event came to a version's own host (`URL-9`).
    Preview(VersionId),
}

/// Why there was nothing to run.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    #[error("worker `{0}` has no deployment: deploy one of its versions")]
    NotDeployed(WorkerName),
    #[error("worker `{worker}` has no version `{version}`")]
    VersionUnknown { worker: WorkerName, version: VersionId },
    #[error("{0}")]
    Failed(#[from] Failure),
}

/// Turns a failure into the response that whoever asked will see. Statuses are the front door's business.
pub type Render = fn(&Error, RequestId) -> http::Response<Bytes>;

/// Runs events.
pub struct Dispatcher {
    catalog: Arc<Catalog>,
    fleet: Arc<Fleet>,
    observer: Arc<Observer>,
    objects: Arc<Objects>,
    clock: Arc<dyn Clock>,
    render: Render,
    /// Itself: calls between workers outlive the borrow that they are made by.
    this: Weak<Self>,
}

/// An answer, and what chose the version that gave it.
pub struct Answer {
    pub response: http::Response<Answered>,
    pub decision: Option<Decision>,
}

/// A response's body; when it ends, its request's record is written.
pub struct Answered {
    body: Content,
    promised: Promised,
    open: Open,
}

enum Content {
    Worker(AnswerBody),
    Object(Body),
    Ours(http_body_util::Full<Bytes>),
}

impl Dispatcher {
    /// A dispatcher over what is deployed and what can run.
    #[must_use]
    pub fn new(
        catalog: Arc<Catalog>,
        fleet: Arc<Fleet>,
        observer: Arc<Observer>,
        objects: Arc<Objects>,
        clock: Arc<dyn Clock>,
        render: Render,
    ) -> Arc<Self> {
        let dispatcher = Arc::new_cyclic(|this| {
            let this = Weak::clone(this);
            Self { catalog, fleet, observer, objects, clock, render, this }
        });
        let callers: Arc<dyn Callers> = Arc::<Self>::clone(&dispatcher);
        dispatcher.objects.introduce(Arc::downgrade(&callers));
        dispatcher
    }

    /// Answers `request` with a version of `worker`. There is always an answer (`R2`): what fails becomes one.
    pub async fn dispatch(
        self: &Arc<Self>,
        worker: &Arc<WorkerView>,
        wanted: Wanted,
        request: http::Request<Body>,
        lineage: Lineage,
    ) -> Answer {
        let mut open = Open::new(self, worker, &request, &lineage);
        let result = self.run(worker, wanted, request, lineage, &mut open).await;
        let (head, body) = match result {
            Ok(response) => {
                let (head, body) = response.into_parts();
                (head, Content::Worker(body))
            }
            Err(error) => {
                open.fail(&error);
                let (head, body) = (self.render)(&error, open.id).into_parts();
                (head, Content::Ours(http_body_util::Full::new(body)))
            }
        };
        open.status = Some(head.status.as_u16());
        let promised = match &body {
            Content::Worker(body) => Promised::of(&open.method, &head, body),
            Content::Object(body) => Promised::of(&open.method, &head, body),
            Content::Ours(body) => Promised::of(&open.method, &head, body),
        };
        let decision = open.decision;
        Answer { response: http::Response::from_parts(head, Answered { body, promised, open }), decision }
    }

    async fn run(
        self: &Arc<Self>,
        worker: &Arc<WorkerView>,
        wanted: Wanted,
        request: http::Request<Body>,
        mut lineage: Lineage,
        open: &mut Open,
    ) -> Result<http::Response<AnswerBody>, Error> {
        let (version, reason) = choose(worker, wanted, request.headers())?;
        if let Wanted::Preview(version) = wanted {
            // What it calls of this worker's objects are copies of its own (E19).
            lineage.fork = Some(version);
        }
        open.decision = Some(Decision { version: version.id, reason });
        open.version = Some(Arc::clone(&version));
        let callers: Arc<dyn Callers> = Arc::<Self>::clone(self);
        let engine = self.fleet.ready(&worker.name, &version, &callers).await?;
        open.metrics = Some(Arc::clone(&engine.metrics));
        let call = Arc::new(Call::new(lineage, engine.limits()));
        open.call = Some(Arc::clone(&call));
        Ok(engine.call(request, &call).await?)
    }
}

/// The version that an event runs on, and why (`SEL-1`).
fn choose(worker: &WorkerView, wanted: Wanted, headers: &http::HeaderMap) -> Result<(Arc<Version>, Reason), Error> {
    let decision = match wanted {
        Wanted::Preview(version) => Decision { version, reason: Reason::Preview },
        Wanted::Deployed => {
            let deployment = worker.active.as_ref().ok_or_else(|| Error::NotDeployed(worker.name.clone()))?;
            let wish = Wish {
                overriding: overriding(headers, &worker.name),
                key: headers.get(&KEY_HEADER).map(http::HeaderValue::as_bytes),
            };
            decide(&worker.name, &deployment.split, &deployment.allotment, wish, || fastrand::u64(..))
        }
    };
    match worker.version(decision.version) {
        Some(version) => Ok((Arc::clone(version), decision.reason)),
        None => Err(Error::VersionUnknown { worker: worker.name.clone(), version: decision.version }),
    }
}

/// The version that the override header names for this worker: a dictionary of strings (RFC 8941), several lines being one.
/// Whatever is wrong with it, the request is routed as if it were not there (`SEL-11`).
#[must_use]
pub fn overriding(headers: &http::HeaderMap, worker: &WorkerName) -> Option<VersionId> {
    let mut lines = headers.get_all(&OVERRIDES_HEADER).iter();
    let first = lines.next()?;
    let mut joined = first.as_bytes().to_vec();
    for line in lines {
        joined.extend_from_slice(b", ");
        joined.extend_from_slice(line.as_bytes());
    }
    let dictionary: sfv::Dictionary = sfv::Parser::new(&joined).parse().ok()?;
    match dictionary.get(worker.as_str())? {
        sfv::ListEntry::Item(item) => item.bare_item.as_string()?.as_str().parse().ok(),
        sfv::ListEntry::InnerList(_) => None,
    }
}

impl WorkerCaller for Dispatcher {
    fn call(
        &self,
        worker: &WorkerName,
        request: http::Request<Body>,
        lineage: Lineage,
    ) -> BoxFuture<'static, Result<http::Response<Body>, CallError>> {
        let Some(view) = self.catalog.view().worker(worker).cloned() else {
            let worker = worker.clone();
            return async move { Err(CallError::WorkerUnknown(worker)) }.boxed();
        };
        // None only while the node is being taken down.
        let Some(this) = self.this.upgrade() else {
            let worker = worker.clone();
            return async move { Err(CallError::NotDeployed(worker)) }.boxed();
        };
        async move {
            let answer = this.dispatch(&view, Wanted::Deployed, request, lineage).await;
            Ok(answer.response.map(http_body_util::BodyExt::boxed_unsync))
        }
        .boxed()
    }
}

// === impl Answered ===

impl http_body::Body for Answered {
    type Data = Bytes;
    type Error = wasmtime_wasi_http::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        let frame = match &mut this.body {
            Content::Worker(body) => Pin::new(body).poll_frame(cx),
            Content::Object(body) => Pin::new(body).poll_frame(cx),
            Content::Ours(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
        };
        match &frame {
            Poll::Ready(Some(Ok(frame))) => this.promised.sent(frame),
            Poll::Ready(None) => this.open.whole = true,
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            Content::Worker(body) => body.is_end_stream(),
            Content::Object(body) => body.is_end_stream(),
            Content::Ours(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Content::Worker(body) => body.size_hint(),
            Content::Object(body) => body.size_hint(),
            Content::Ours(body) => body.size_hint(),
        }
    }
}

impl Answered {
    /// The id of the request's record.
    #[must_use]
    pub fn request_id(&self) -> RequestId {
        self.open.id
    }

    /// What the request has cost so far, if it came to a guest.
    #[must_use]
    pub fn account(&self) -> Option<&Arc<Call>> {
        self.open.call.as_ref()
    }

    /// What the request failed with, if it did: as its record will say.
    #[must_use]
    pub fn failure(&self) -> Option<&Conclusion> {
        self.open.failure.as_ref().or_else(|| self.open.call.as_ref()?.conclusion())
    }
}

impl Drop for Answered {
    fn drop(&mut self) {
        self.open.whole |= self.is_end_stream() || self.promised.is_kept();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(lines: &[&str], worker: &str) -> Option<String> {
        let mut headers = http::HeaderMap::new();
        for line in lines {
            headers.append(OVERRIDES_HEADER, line.parse().unwrap());
        }
        overriding(&headers, &worker.parse().unwrap()).map(|id| id.to_string())
    }

    #[test]
    fn an_override_is_a_string_in_a_dictionary() {
        let id = "dc8dcd28-271b-4367-9840-6c244f84cb40";
        let quoted = format!("my-worker=\"{id}\"");
        assert_eq!(check(&[&quoted], "my-worker").as_deref(), Some(id));
        assert_eq!(check(&[&format!("a=1, {quoted};p=2")], "my-worker").as_deref(), Some(id));
        // Several lines are one; of two members with one key the last wins (SEL-17).
        let other = "my-worker=\"aaaaaaaa-271b-4367-9840-6c244f84cb40\"";
        assert_eq!(check(&[other, &quoted], "my-worker").as_deref(), Some(id));
    }

    #[test]
    fn a_wrong_override_is_passed_over_in_silence() {
        let id = "dc8dcd28-271b-4367-9840-6c244f84cb40";
        for wrong in [
            &format!("my-worker={id}"),
            "my-worker=\"nope\"",
            "my-worker=(\"a\")",
            "\"",
            "",
            "other=\"x\"",
            "my-worker=?1",
        ] {
            assert_eq!(check(&[wrong], "my-worker"), None, "{wrong}");
        }
        assert_eq!(check(&[], "my-worker"), None);
    }
}
