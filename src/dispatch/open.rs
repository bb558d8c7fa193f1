//! The record of a request that has not ended.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::catalog::WorkerView;
use crate::clock;
use crate::dispatch::{Dispatcher, Error};
use crate::domain::decision::{Decision, Reason};
use crate::domain::id::WorkerName;
use crate::domain::object::{ClassName, ObjectId};
use crate::domain::outcome::{Blame, Conclusion, Outcome};
use crate::domain::version::Version;
use crate::host::Body;
use crate::host::call::{Call, Lineage};
use crate::host::logs::{self, Stream};
use crate::objects::home::Home;
use crate::observe::Observer;
use crate::observe::metrics::{Sample, VersionMetrics};
use crate::observe::otlp::{Asked, Trace};
use crate::observe::record::{Heard, Line, ObjectEvent, ObjectRef, Record, RequestId, VersionRef};

/// The record of a request that has not ended. It is written when this is dropped, which is also what happens to the request
/// of a client that goes away.
pub(super) struct Open {
    pub(super) id: RequestId,
    pub(super) observer: Arc<Observer>,
    pub(super) began: Instant,
    pub(super) began_ms: u64,
    pub(super) worker: WorkerName,
    pub(super) version: Option<Arc<Version>>,
    pub(super) decision: Option<Decision>,
    /// The object that it is for, if it is for one.
    pub(super) object: Option<(ClassName, ObjectId, ObjectEvent)>,
    pub(super) metrics: Option<Arc<VersionMetrics>>,
    pub(super) call: Option<Arc<Call>>,
    pub(super) method: http::Method,
    pub(super) uri: http::Uri,
    pub(super) depth: u8,
    /// Kept if somebody watches the worker.
    pub(super) heard: Option<Box<Heard>>,
    /// Its span, if requests have spans.
    trace: Option<Arc<Trace>>,
    pub(super) status: Option<u16>,
    pub(super) failure: Option<Conclusion>,
    /// Whether the body was sent to its end.
    pub(super) whole: bool,
}

impl Open {
    /// Begins the record of `request`, and its span if requests have spans: `lineage` and the request's headers name it then.
    pub(super) fn new(
        dispatcher: &Dispatcher,
        worker: &WorkerView,
        request: &mut http::Request<Body>,
        lineage: &mut Lineage,
    ) -> Self {
        let listened = dispatcher.observer.tails.listen_to(&worker.name);
        let heard = listened.then(|| {
            Box::new(Heard { headers: request.headers().clone(), client: lineage.client, protocol: request.version() })
        });
        // It is the span's id too, which is never 0.
        let id = RequestId(fastrand::u64(1..));
        if let Some(tracer) = &dispatcher.observer.tracer {
            let asked = Asked { client: lineage.client, protocol: request.version(), depth: lineage.depth };
            lineage.trace = Some(tracer.begin(id, request.headers_mut(), asked));
        }
        Self {
            id,
            observer: Arc::clone(&dispatcher.observer),
            began: clock::monotonic(),
            began_ms: dispatcher.clock.now_ms(),
            worker: worker.name.clone(),
            version: None,
            decision: None,
            object: None,
            metrics: None,
            call: None,
            method: request.method().clone(),
            uri: request.uri().clone(),
            depth: lineage.depth,
            heard,
            trace: lineage.trace.clone(),
            status: None,
            failure: None,
            whole: false,
        }
    }

    /// Notes which version runs, and why.
    pub(super) fn decide(&mut self, decision: Decision) {
        self.decision = Some(decision);
        if let Some(trace) = &self.trace {
            trace.decide(&self.worker, decision);
        }
    }

    /// The account of an object's event at `home`.
    pub(super) fn account_at(&mut self, home: &Home, event: ObjectEvent, lineage: &Lineage) -> Arc<Call> {
        self.decide(Decision { version: home.version.id, reason: Reason::Object });
        self.object = Some((home.class.clone(), home.address.id, event));
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

    pub(super) fn fail(&mut self, error: &Error) {
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
        let trace = self.trace.as_ref().filter(|trace| trace.is_sampled());
        if !is_worth_a_word && self.observer.request_log.is_none() && self.heard.is_none() && trace.is_none() {
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
            object: self.object.as_ref().map(|(class, id, event)| ObjectRef {
                class: class.as_str(),
                id: *id,
                event: *event,
            }),
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
            memory_bytes: sample.memory_bytes,
            subrequests: sample.subrequests,
            reused: self.call.as_ref().map_or(0, |call| call.reused()),
            lines: &lines,
            lines_truncated,
            heard: self.heard.as_deref(),
        };
        self.observer.tails.tell(&self.worker, &record);
        if let Some(trace) = trace {
            trace.end(&record);
        }
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
            memory_bytes: call.map_or(0, |call| call.memory_bytes()),
            subrequests: call.map_or(0, |call| call.subrequests()),
            reused: call.is_some_and(|call| call.reused() > 0),
        };
        if let Some(metrics) = &self.metrics {
            metrics.add(sample);
        }
        self.write_line(conclusion.as_ref(), sample);
    }
}
