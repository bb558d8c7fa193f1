//! What is seen of the node: one record for each request, from which come its log line and the metrics of its version.
//!
//! The record always exists; making it a line is what costs, and is done for failures, for guests that print, and for every
//! request only where the operator asks for it (`--request-log`). Knows the domain's words, not how a worker is hosted.

pub mod metrics;
pub mod record;
pub mod writer;

use std::sync::Arc;

use crate::observe::metrics::Metrics;
use crate::observe::writer::LineWriter;

/// Where records go: shared by all rooms.
pub struct Observer {
    pub metrics: Metrics,
    /// Every request as a JSON line.
    pub request_log: Option<LineWriter>,
}

impl Observer {
    /// An observer that writes a line for every request to `request_log`, if there is one.
    #[must_use]
    pub fn new(request_log: Option<LineWriter>) -> Arc<Self> {
        Arc::new(Self { metrics: Metrics::default(), request_log })
    }
}
