//! Traces and metrics for an OpenTelemetry collector, over HTTP, where the environment names one (`OTEL_EXPORTER_OTLP_ENDPOINT`).
//!
//! **Off**, nothing of this runs: headers pass as they come, and a request pays for one look at an empty option.
//!
//! **Spans.** Each request to a worker and each event for an object has one, made from its [record](super::record) when that is
//! written; its id is the record's. So has each request that a guest sends to the network, until its answer begins. A request's parent
//! is whom its `traceparent` names, and whoever makes a call inside the node is named there too, so that one rule holds for all.
//!
//! **Context.** A client's `traceparent` and `tracestate` are followed, its choice whether to sample among them (unless
//! `OTEL_TRACES_SAMPLER` says otherwise); wrong ones are as if they were not there. The guest finds its own span named in
//! their place. What it sends carries on from there: to a worker or an object as a child of its span, to the network as a child of that
//! request's own span. Only where it names another valid span, its choice stands ([`context`]).
//!
//! **Metrics** are those of `/metrics`, from the same table, by the same names ([`metrics`]).
//!
//! Nobody waits for a collector: spans are queued, those that find no place are dropped and counted ([`queue`]), and a node that
//! stops gives it a few seconds at most.

mod client;
mod context;
mod environment;
mod metrics;
mod queue;
mod span;
mod tracer;

pub use environment::{Error as EnvironmentError, Settings};
pub use metrics::Metering;
pub use queue::Dropped;
pub use span::ATTRIBUTES;
pub use tracer::{Asked, Sending, Trace, Tracer};

use environment::Destination;

/// No exporter could be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make an exporter of spans")]
pub struct Error(#[source] opentelemetry_otlp::ExporterBuildError);

impl Settings {
    /// Says what the environment asks for and is not followed, and where things go.
    pub fn announce(&self) {
        for warning in &self.warnings {
            tracing::warn!("{warning}");
        }
        let shown = |to: Option<&Destination>| to.map_or_else(|| "nowhere".to_owned(), Destination::shown);
        let traces = shown(self.traces.as_ref().map(|traces| &traces.to));
        let metrics = shown(self.metrics.as_ref().map(|metrics| &metrics.to));
        tracing::info!(traces, metrics, "OpenTelemetry is on");
    }
}
