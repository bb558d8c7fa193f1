//! What is seen of the node: one record for each request, from which come its log line and the metrics of its version.
//!
//! The record always exists; making it a line is what costs, and is done for failures, for guests that print, and for every
//! request only where the operator asks for it (`--request-log`) or somebody watches ([`tail`]). Knows the domain's words, not how a worker is hosted.

pub mod exposition;
pub mod history;
mod log_line;
pub mod metrics;
pub mod otlp;
pub mod record;
mod short_line;
pub mod tail;
pub mod writer;

use std::sync::Arc;

use crate::clock::Clock;
use crate::observe::history::History;
use crate::observe::metrics::Metrics;
use crate::observe::otlp::Tracer;
use crate::observe::record::Record;
use crate::observe::tail::Tails;
use crate::observe::writer::LineWriter;

/// A line for each request.
pub struct RequestLog {
    pub writer: LineWriter,
    pub form: LineForm,
}

/// For whom a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineForm {
    /// For programs: a JSON object with everything.
    Json,
    /// For whoever sits before the terminal.
    Short,
}

impl RequestLog {
    /// Queues the line of `record`.
    pub fn write(&self, record: &Record<'_>) {
        self.writer.write(match self.form {
            LineForm::Json => record.to_log_line(),
            LineForm::Short => record.to_short_line(),
        });
    }
}

/// Where records go: shared by all rooms.
pub struct Observer {
    pub metrics: Metrics,
    /// The metrics of the last minutes.
    pub history: History,
    /// Where every request is told.
    pub request_log: Option<RequestLog>,
    /// Who watches requests.
    pub tails: Arc<Tails>,
    /// What makes a span of every request, if spans go anywhere.
    pub tracer: Option<Arc<Tracer>>,
}

impl Observer {
    /// An observer that writes a line for every request to `request_log`, if there is one.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, request_log: Option<RequestLog>) -> Arc<Self> {
        Self::with_tracer(clock, request_log, None)
    }

    /// One that also hands a span of every request to `tracer`, if there is one.
    #[must_use]
    pub fn with_tracer(
        clock: Arc<dyn Clock>,
        request_log: Option<RequestLog>,
        tracer: Option<Arc<Tracer>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            metrics: Metrics::default(),
            history: History::default(),
            request_log,
            tails: Tails::new(clock),
            tracer,
        })
    }
}
