//! What is seen of the node: one record for each request, from which come its log line and the metrics of its version.
//!
//! The record always exists; making it a line is what costs, and is done for failures, for guests that print, and for every
//! request only where the operator asks for it (`--request-log`) or somebody watches ([`tail`]). Knows the domain's words, not how a worker is hosted.

mod log_line;
pub mod metrics;
pub mod record;
pub mod tail;
pub mod writer;

use std::sync::Arc;

use crate::clock::Clock;
use crate::observe::metrics::Metrics;
use crate::observe::tail::Tails;
use crate::observe::writer::LineWriter;

/// Where records go: shared by all rooms.
pub struct Observer {
    pub metrics: Metrics,
    /// Every request as a JSON line.
    pub request_log: Option<LineWriter>,
    /// Who watches requests.
    pub tails: Arc<Tails>,
}

impl Observer {
    /// An observer that writes a line for every request to `request_log`, if there is one.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, request_log: Option<LineWriter>) -> Arc<Self> {
        Arc::new(Self { metrics: Metrics::default(), request_log, tails: Tails::new(clock) })
    }
}
