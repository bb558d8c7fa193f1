//! Event → decision → version engine → instance → outcome. Used alike by clients and by guests that call other workers.
//!
//! 1. The worker's active deployment decides the version, unless the event names one ([`Wanted`]).
//! 2. The fleet has that version ready, or makes it so.
//! 3. An instance answers; the version is kept to the end of the response, whatever is deployed meanwhile (`R3`).
//! 4. When the last byte has left, or whoever asked has gone, the request's record is written ([`Open`]).

use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Either};
use http_body::{Body as _, Frame, SizeHint};
use tokio::sync::oneshot;

use crate::catalog::{Catalog, WorkerView};
use crate::clock::{self, Clock};
use crate::domain::decision::{Decision, Reason, Wish, decide};
use crate::domain::id::{VersionId, WorkerName};
use crate::domain::limits::{ALARM_WALL_MAX, OBJECT_DELIVERIES_MAX};
use crate::domain::object::{ClassName, ObjectNamespaceId};
use crate::domain::outcome::{Blame, Conclusion, Outcome};
use crate::domain::version::Version;
use crate::engine::failure::Failure;
use crate::engine::fleet::Fleet;
use crate::engine::live::{Fetched, Rung};
use crate::engine::response::Promised;
use crate::host::Body;
use crate::host::call::{Call, Lineage};
use crate::host::logs::{self, Stream};
use crate::host::object::{Address, Reset};
use crate::host::ports::{CallError, Callers, ObjectCaller, ObjectError, ObjectTarget, WorkerCaller};
use crate::objects::alarms::{Ended, Ringer};
use crate::objects::home::{Home, Over};
use crate::objects::{self, Objects};
use crate::observe::Observer;
use crate::observe::metrics::{Sample, VersionMetrics};
use crate::observe::record::{Heard, Line, Record, RequestId, VersionRef};

/// The header with a version key (`SEL-3`).
pub const KEY_HEADER: &str = "cloudflare-workers-version-key";
/// The header with overrides (`SEL-10`).
pub const OVERRIDES_HEADER: &str = "cloudflare-workers-version-overrides";

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
    Guest(Body),
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
                (head, Content::Guest(body))
            }
            Err(error) => {
                open.fail(&error);
                let (head, body) = (self.render)(&error, open.id).into_parts();
                (head, Content::Ours(http_body_util::Full::new(body)))
            }
        };
        open.status = Some(head.status.as_u16());
        let promised = match &body {
            Content::Guest(body) => Promised::of(&open.method, &head, body),
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
    ) -> Result<http::Response<Body>, Error> {
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
                key: headers.get(KEY_HEADER).map(http::HeaderValue::as_bytes),
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
    let mut lines = headers.get_all(OVERRIDES_HEADER).iter();
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

// === objects ===

/// What an event for an object is, to whoever reads its record.
const ALARM: &str = "ALARM";

impl ObjectCaller for Dispatcher {
    fn namespace(&self, worker: &WorkerName, class: &ClassName) -> Result<ObjectNamespaceId, String> {
        self.objects.namespace(worker, class)
    }

    fn send(
        &self,
        target: ObjectTarget,
        request: http::Request<Body>,
        lineage: Lineage,
    ) -> BoxFuture<'static, BoxFuture<'static, Result<http::Response<Body>, ObjectError>>> {
        let Some(this) = self.this.upgrade() else {
            return async { async { Err(objects::stopping()) }.boxed() }.boxed();
        };
        async move {
            let (placed, has_place) = oneshot::channel();
            let mut answer = async move { this.call_object(target, request, lineage, placed).await }.boxed();
            // Until the object has the request in its queue, or it is known that it never will.
            match futures_util::future::select(answer.as_mut(), has_place).await {
                Either::Left((result, _)) => std::future::ready(result).boxed(),
                Either::Right(_) => answer,
            }
        }
        .boxed()
    }
}

impl Dispatcher {
    /// Brings `request` to an object, and to the next instance of it if one ended before it had begun with it (`DOU-6`).
    async fn call_object(
        self: Arc<Self>,
        target: ObjectTarget,
        request: http::Request<Body>,
        lineage: Lineage,
        placed: oneshot::Sender<()>,
    ) -> Result<http::Response<Body>, ObjectError> {
        let worker = self.objects.assignment(&target.address)?.worker;
        let mut open = Open::new(&self, &worker, &request, &lineage);
        let result = self.fetch_of_object(&target, request, lineage, placed, &mut open).await;
        match result {
            Ok(response) => {
                open.status = Some(response.status().as_u16());
                let (head, body) = response.into_parts();
                let promised = Promised::of(&open.method, &head, &body);
                let body = Answered { body: Content::Guest(body), promised, open };
                Ok(http::Response::from_parts(head, http_body_util::BodyExt::boxed_unsync(body)))
            }
            Err(error) => {
                open.failure = Some(conclusion_of(&error));
                Err(error)
            }
        }
    }

    async fn fetch_of_object(
        &self,
        target: &ObjectTarget,
        mut request: http::Request<Body>,
        lineage: Lineage,
        placed: oneshot::Sender<()>,
        open: &mut Open,
    ) -> Result<http::Response<Body>, ObjectError> {
        if lineage.waiting_objects.contains(&target.address) {
            return Err(objects::waits_for_itself());
        }
        let mut placed = Some(placed);
        let mut last = objects::overloaded("Durable Object could not be reached: it is reset again and again.");
        for _ in 0..OBJECT_DELIVERIES_MAX {
            let home = self.objects.home(target).await?;
            let call = open.account_at(&home, &lineage);
            let fetched = match home.fetch(request, &call) {
                Ok(fetched) => fetched,
                Err(Ok(back)) => {
                    request = back;
                    continue;
                }
                Err(Err(error)) => return Err(error),
            };
            if let Some(placed) = placed.take() {
                let _ = placed.send(());
            }
            match fetched.await {
                Ok(Fetched::Answered(answer)) => {
                    home.note_progress();
                    return answer.map_err(|failure| {
                        call.conclude(failure.conclusion());
                        objects::remote(&failure)
                    });
                }
                Ok(Fetched::NotBegun(back)) => {
                    let over = home.over().await;
                    last = over.to_error(false);
                    if !last.retryable {
                        return Err(last);
                    }
                    request = back;
                }
                Err(_) => return Err(home.over().await.to_error(true)),
            }
        }
        Err(last)
    }

    async fn ring_object(self: Arc<Self>, address: Address) -> Ended {
        let Ok(assignment) = self.objects.assignment(&address) else { return Ended::Lost(None) };
        let mut uri = http::uri::Parts::default();
        uri.path_and_query = http::uri::PathAndQuery::try_from(format!("/{}", address.id)).ok();
        let mut event = http::Request::new(empty());
        *event.uri_mut() = http::Uri::from_parts(uri).unwrap_or_default();
        if let Ok(method) = http::Method::from_bytes(ALARM.as_bytes()) {
            *event.method_mut() = method;
        }
        let lineage = Lineage::of_itself(address.fork);
        let mut open = Open::new(&self, &assignment.worker, &event, &lineage);
        let target = ObjectTarget { address, name: None };
        let home = match self.objects.home(&target).await {
            Ok(home) => home,
            Err(error) => {
                open.failure = Some(conclusion_of(&error));
                return Ended::Lost(None);
            }
        };
        let call = open.account_at(&home, &lineage);
        let Ok(rung) = tokio::time::timeout(ALARM_WALL_MAX, home.ring(&call)).await else {
            home.object.reset(Reset::AlarmTooLong);
            home.over().await;
            open.failure = Some(conclusion_of(&Over::Reset(Reset::AlarmTooLong).to_error(true)));
            return Ended::Lost(Some(Reset::AlarmTooLong));
        };
        open.whole = true;
        match rung {
            Ok(Rung::Ran(Ok(()))) => {
                home.note_progress();
                (open.status, open.whole) = (Some(200), true);
                Ended::Noted
            }
            Ok(Rung::Ran(Err(message))) => {
                home.note_progress();
                open.failure = Some(Conclusion {
                    outcome: Outcome::Exception,
                    blame: Some(Blame::Guest),
                    message: format!("the alarm failed: {message}"),
                });
                Ended::Noted
            }
            Ok(Rung::Nothing) => {
                open.status = Some(200);
                Ended::Nothing
            }
            Ok(Rung::NotBegun) | Err(_) => {
                let begun = rung.is_err();
                let over = home.over().await;
                open.failure = Some(conclusion_of(&over.to_error(begun)));
                Ended::Lost(over.reset_of_guest())
            }
        }
    }
}

impl Ringer for Dispatcher {
    fn ring(&self, address: Address) -> BoxFuture<'static, Ended> {
        match self.this.upgrade() {
            Some(this) => this.ring_object(address).boxed(),
            None => async { Ended::Lost(None) }.boxed(),
        }
    }
}

fn empty() -> Body {
    use http_body_util::BodyExt as _;
    http_body_util::Empty::new().map_err(|never: std::convert::Infallible| match never {}).boxed_unsync()
}

/// What the record of an object's event says of an error.
fn conclusion_of(error: &ObjectError) -> Conclusion {
    let (outcome, blame) = match (error.remote, error.overloaded) {
        (true, _) => (Outcome::Exception, Blame::Guest),
        (false, true) => (Outcome::Unknown, Blame::Host),
        (false, false) if error.reset => (Outcome::Canceled, Blame::Host),
        (false, false) => (Outcome::Exception, Blame::Caller),
    };
    Conclusion { outcome, blame: Some(blame), message: error.message.clone() }
}

// === impl Answered ===

impl http_body::Body for Answered {
    type Data = Bytes;
    type Error = wasmtime_wasi_http::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        let frame = match &mut this.body {
            Content::Guest(body) => Pin::new(body).poll_frame(cx),
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
            Content::Guest(body) => body.is_end_stream(),
            Content::Ours(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Content::Guest(body) => body.size_hint(),
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
}

impl Drop for Answered {
    fn drop(&mut self) {
        self.open.whole |= self.is_end_stream() || self.promised.is_kept();
    }
}

// === the record ===

/// The record of a request that has not ended. It is written when this is dropped, which is also what happens to the request
/// of a client that goes away.
struct Open {
    id: RequestId,
    observer: Arc<Observer>,
    began: Instant,
    began_ms: u64,
    worker: WorkerName,
    version: Option<Arc<Version>>,
    decision: Option<Decision>,
    metrics: Option<Arc<VersionMetrics>>,
    call: Option<Arc<Call>>,
    method: http::Method,
    uri: http::Uri,
    depth: u8,
    /// Kept if somebody watches the worker.
    heard: Option<Box<Heard>>,
    status: Option<u16>,
    failure: Option<Conclusion>,
    /// Whether the body was sent to its end.
    whole: bool,
}

impl Open {
    fn new(dispatcher: &Dispatcher, worker: &WorkerView, request: &http::Request<Body>, lineage: &Lineage) -> Self {
        let listened = dispatcher.observer.tails.listen_to(&worker.name);
        let heard = listened.then(|| {
            Box::new(Heard { headers: request.headers().clone(), client: lineage.client, protocol: request.version() })
        });
        Self {
            id: RequestId(fastrand::u64(..)),
            observer: Arc::clone(&dispatcher.observer),
            began: clock::monotonic(),
            began_ms: dispatcher.clock.now_ms(),
            worker: worker.name.clone(),
            version: None,
            decision: None,
            metrics: None,
            call: None,
            method: request.method().clone(),
            uri: request.uri().clone(),
            depth: lineage.depth,
            heard,
            status: None,
            failure: None,
            whole: false,
        }
    }

    /// The account of an object's event at `home`.
    fn account_at(&mut self, home: &Home, lineage: &Lineage) -> Arc<Call> {
        self.decision = Some(Decision { version: home.version.id, reason: Reason::Object });
        self.version = Some(Arc::clone(&home.version));
        self.metrics = Some(Arc::clone(&home.engine.metrics));
        let mut lineage = lineage.clone();
        if home.takes_one_by_one() {
            lineage.waiting_objects.push(home.address);
        }
        let call = Arc::new(Call::new(lineage, home.engine.limits()));
        self.call = Some(Arc::clone(&call));
        call
    }

    fn fail(&mut self, error: &Error) {
        self.failure = Some(match error {
            Error::Failed(failure) => failure.conclusion(),
            Error::NotDeployed(_) | Error::VersionUnknown { .. } => {
                self.observer.metrics.undeployed.fetch_add(1, Ordering::Relaxed);
                Conclusion { outcome: Outcome::ScriptNotFound, blame: Some(Blame::Caller), message: error.to_string() }
            }
        });
    }

    /// How the request ended: what failed first, else whether all was sent.
    fn conclusion(&self) -> Option<Conclusion> {
        let noted = self.failure.as_ref().or_else(|| self.call.as_ref().and_then(|call| call.conclusion()));
        if let Some(conclusion) = noted {
            return Some(conclusion.clone());
        }
        let gone = |outcome, message: &str| {
            Some(Conclusion { outcome, blame: Some(Blame::Caller), message: message.to_owned() })
        };
        match (self.status, self.whole) {
            (Some(_), true) => None,
            (Some(_), false) => {
                gone(Outcome::ResponseStreamDisconnected, "the client went away before the end of the response")
            }
            (None, _) => gone(Outcome::Canceled, "the client went away before the response"),
        }
    }

    fn write_line(&self, conclusion: Option<&Conclusion>, sample: Sample) {
        let finished = self.call.as_ref().map(|call| {
            call.with_lines(|lines| {
                lines.finish();
                (std::mem::take(&mut lines.ended), lines.truncated)
            })
        });
        let (lines, lines_truncated) = finished.unwrap_or_default();
        let failed = conclusion.is_some_and(|conclusion| conclusion.blame != Some(Blame::Caller));
        let is_worth_a_word = failed || !lines.is_empty();
        if !is_worth_a_word && self.observer.request_log.is_none() && self.heard.is_none() {
            return;
        }
        let lines: Vec<Line<'_>> = lines.iter().map(|line| self.line(line)).collect();
        let record = Record {
            id: self.id,
            began_ms: self.began_ms,
            worker: self.worker.as_str(),
            version: self.version.as_ref().map(|version| VersionRef {
                id: version.id,
                number: version.number,
                tag: version.tag(),
                message: version.annotations.message.as_deref().unwrap_or(""),
            }),
            reason: self.decision.map(|decision| decision.reason),
            method: self.method.as_str(),
            scheme: self.uri.scheme_str().unwrap_or("http"),
            host: self.uri.authority().map_or("", http::uri::Authority::as_str),
            path: self.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str),
            depth: self.depth,
            status: self.status,
            outcome: sample.outcome,
            blame: conclusion.and_then(|conclusion| conclusion.blame),
            error: conclusion.map_or("", |conclusion| &conclusion.message),
            cpu: sample.cpu,
            wall: sample.wall,
            memory_bytes: self.call.as_ref().map_or(0, |call| call.memory_bytes()),
            subrequests: sample.subrequests,
            reused: self.call.as_ref().map_or(0, |call| call.reused()),
            lines: &lines,
            lines_truncated,
            heard: self.heard.as_deref(),
        };
        self.observer.tails.tell(&self.worker, &record);
        match &self.observer.request_log {
            Some(log) => log.write(&record),
            None if !is_worth_a_word => {}
            None if failed => tracing::warn!(target: "sluicegate::request", "{}", record.to_json()),
            None => tracing::info!(target: "sluicegate::request", "{}", record.to_json()),
        }
    }

    fn line<'a>(&self, line: &'a logs::Line) -> Line<'a> {
        let since = line.at.saturating_duration_since(self.began).as_millis();
        Line {
            stream: if line.stream == Stream::Out { "stdout" } else { "stderr" },
            text: &line.text,
            at_ms: self.began_ms.saturating_add(u64::try_from(since).unwrap_or(u64::MAX)),
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let conclusion = self.conclusion();
        let call = self.call.as_ref();
        let sample = Sample {
            outcome: conclusion.as_ref().map_or(Outcome::Ok, |conclusion| conclusion.outcome),
            status: self.status,
            wall: self.began.elapsed(),
            cpu: std::time::Duration::from_nanos(call.map_or(0, |call| call.cpu_ns())),
            subrequests: call.map_or(0, |call| call.subrequests()),
            reused: call.is_some_and(|call| call.reused() > 0),
        };
        if let Some(metrics) = &self.metrics {
            metrics.add(sample);
        }
        self.write_line(conclusion.as_ref(), sample);
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
