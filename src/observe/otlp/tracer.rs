//! Where requests stand in their traces. A request's span is chosen when the request begins, since others are to name it; it is made
//! when the request's record is, from that. So nothing is kept meanwhile but its ids, and a trace that is not sampled costs no more.

use std::fmt::{self, Debug};
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime};

use http::{HeaderMap, Method, Request, Uri};
use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, TraceContextExt as _, TraceFlags};
use opentelemetry_sdk::trace::{IdGenerator as _, RandomIdGenerator, SamplingDecision, ShouldSample};

use crate::clock::{self, Clock};
use crate::domain::decision::Decision;
use crate::domain::id::WorkerName;
use crate::observe::otlp::environment::{Settings, Traces};
use crate::observe::otlp::queue::{Dropped, Queue};
use crate::observe::otlp::{Error, context, span};
use crate::observe::record::{Record, RequestId};

/// Makes spans, and hands them to whoever sends them.
pub struct Tracer {
    clock: Arc<dyn Clock>,
    sampler: Box<dyn ShouldSample>,
    ids: RandomIdGenerator,
    queue: Queue,
}

/// How a request came.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// Where the client is whose request led to this one.
    pub client: Option<IpAddr>,
    pub protocol: http::Version,
    /// Calls that lie around it; 0 for a client's request.
    pub depth: u8,
}

/// A span that has begun, and what lies around it.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub span: SpanContext,
    /// The invalid id if it begins a trace.
    pub parent: SpanId,
    pub parent_is_remote: bool,
}

/// The span of a request that has not ended.
pub struct Trace {
    tracer: Arc<Tracer>,
    pub(super) place: Place,
    pub(super) began: SystemTime,
    pub(super) asked: Asked,
    /// What runs, once it is decided.
    pub(super) decided: OnceLock<(WorkerName, Decision)>,
}

/// The span of a request to the network that has no answer yet. Dropped without one, it was given up.
pub struct Sending {
    pub(super) trace: Arc<Trace>,
    pub(super) place: Place,
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) began: SystemTime,
    started: Instant,
    is_over: bool,
}

impl Tracer {
    /// A tracer to the collector that `settings` name for traces, if they name one. Its connections live on the runtime that this is
    /// called on.
    ///
    /// # Errors
    /// No exporter can be made of them.
    pub fn start(settings: &Settings, clock: Arc<dyn Clock>) -> Result<Option<Arc<Self>>, Error> {
        settings.traces.as_ref().map(|traces| Self::to(traces, settings, clock)).transpose()
    }

    fn to(traces: &Traces, settings: &Settings, clock: Arc<dyn Clock>) -> Result<Arc<Self>, Error> {
        let queue = Queue::start(traces, &settings.resource).map_err(Error)?;
        let sampler = Box::new(traces.sampler.clone());
        Ok(Arc::new(Self { clock, sampler, ids: RandomIdGenerator::default(), queue }))
    }

    /// Begins the span of the request `id`: in the trace that its headers name, else in one of its own. From here on they name this
    /// span, so that a guest can hang spans of its own below it.
    pub fn begin(self: &Arc<Self>, id: RequestId, headers: &mut HeaderMap, asked: Asked) -> Arc<Trace> {
        let parent = context::read(headers);
        let trace_id = parent.as_ref().map_or_else(|| self.ids.new_trace_id(), SpanContext::trace_id);
        let parent_id = parent.as_ref().map_or(SpanId::INVALID, SpanContext::span_id);
        let around = parent.map(|parent| Context::new().with_remote_span_context(parent));
        let sampling = self.sampler.should_sample(around.as_ref(), trace_id, "", &SpanKind::Server, &[], &[]);
        let flags = match sampling.decision {
            SamplingDecision::RecordAndSample => TraceFlags::SAMPLED,
            SamplingDecision::RecordOnly | SamplingDecision::Drop => TraceFlags::default(),
        };
        let span = SpanContext::new(trace_id, SpanId::from(id.0), flags, false, sampling.trace_state);
        context::write(headers, &span);
        Arc::new(Trace {
            tracer: Arc::clone(self),
            place: Place { span, parent: parent_id, parent_is_remote: asked.depth == 0 },
            began: self.clock.now(),
            asked,
            decided: OnceLock::new(),
        })
    }

    /// Spans that were dropped, since the node started.
    #[must_use]
    pub fn dropped(&self) -> Dropped {
        self.queue.dropped()
    }

    /// Sends what is left, within a bounded time.
    pub async fn stop(self: &Arc<Self>) {
        let (this, within) = (Arc::clone(self), self.queue.flush_max());
        let _ = tokio::task::spawn_blocking(move || this.queue.stop(within)).await;
    }
}

impl Trace {
    /// Whether its spans are sent.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        self.place.span.is_sampled()
    }

    /// Notes what runs.
    pub fn decide(&self, worker: &WorkerName, decision: Decision) {
        // An object that is tried again keeps its class' worker, and nearly always its version.
        let _ = self.decided.set((worker.clone(), decision));
    }

    /// Ends the span with what the request's record says.
    pub fn end(&self, record: &Record<'_>) {
        if self.is_sampled() {
            self.tracer.queue.push(span::of_request(self, record));
        }
    }

    /// Tells whoever this request calls, a worker or an object, whose call it is.
    pub fn call(&self, headers: &mut HeaderMap) {
        context::pass_on(headers, &self.place.span, &self.place.span);
    }

    /// Begins the span of a request to the network, and tells the other side of it. None if this trace is not sampled: then the other
    /// side is told that.
    pub fn send<B>(self: &Arc<Self>, request: &mut Request<B>) -> Option<Sending> {
        let own = &self.place.span;
        if !self.is_sampled() {
            self.call(request.headers_mut());
            return None;
        }
        let id = self.tracer.ids.new_span_id();
        let span = SpanContext::new(own.trace_id(), id, own.trace_flags(), false, own.trace_state().clone());
        context::pass_on(request.headers_mut(), own, &span);
        Some(Sending {
            place: Place { span, parent: own.span_id(), parent_is_remote: false },
            method: request.method().clone(),
            uri: request.uri().clone(),
            began: self.tracer.clock.now(),
            started: clock::monotonic(),
            trace: Arc::clone(self),
            is_over: false,
        })
    }
}

impl Sending {
    /// Ends the span: there was an answer with this status, or in a word what went wrong.
    pub fn end(mut self, answer: Result<u16, &'static str>) {
        self.push(answer);
    }

    fn push(&mut self, answer: Result<u16, &'static str>) {
        self.is_over = true;
        self.trace.tracer.queue.push(span::of_sending(self, self.started.elapsed(), answer));
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        if !self.is_over {
            self.push(Err("canceled"));
        }
    }
}

impl Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trace").field("place", &self.place).finish_non_exhaustive()
    }
}
