//! Spans on their way out: a bounded queue, and the library's thread that sends them in batches and tries again. Whoever ends a
//! request never waits here: what finds no place is dropped and counted, and so is what the collector does not take.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanExporter as Export, SpanProcessor as _,
};

use crate::observe::otlp::client::{Client, End, FromAnyThread};
use crate::observe::otlp::environment::Traces;

/// Spans that wait, and who sends them.
pub(super) struct Queue {
    processor: BatchSpanProcessor,
    tally: Arc<Tally>,
    waiting_max: usize,
    client: Arc<Client>,
}

/// Spans that were dropped, since the node started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dropped {
    pub queue_full: u64,
    /// The collector was down, too slow, or refused them.
    pub undelivered: u64,
}

#[derive(Debug, Default)]
struct Tally {
    /// Spans in the queue. The library has the same number and tells it to nobody, nor what it drops: so it is never given more
    /// than it has room for.
    waiting: AtomicUsize,
    queue_full: AtomicU64,
    undelivered: AtomicU64,
    /// Whether it was said that the queue is full, since the collector took spans last.
    is_full: AtomicBool,
}

impl Queue {
    /// A queue to the collector of `traces`, for the spans of `resource`.
    pub(super) fn start(traces: &Traces, resource: &Resource) -> Result<Self, ExporterBuildError> {
        let client = Client::new("traces", traces.to.clone());
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(FromAnyThread(Arc::clone(&client)))
            .with_endpoint(traces.to.endpoint.to_string())
            .with_protocol(opentelemetry_otlp::Protocol::HttpBinary)
            .with_timeout(traces.to.timeout)
            .build()?;
        let tally = Arc::<Tally>::default();
        let exporter = Counting { exporter, tally: Arc::clone(&tally), client: Arc::clone(&client) };
        let config = BatchConfigBuilder::default()
            .with_max_queue_size(traces.waiting_max)
            .with_max_export_batch_size(traces.batch)
            .with_scheduled_delay(traces.every)
            .build();
        let mut processor = BatchSpanProcessor::new(exporter, config);
        processor.set_resource(resource);
        Ok(Self { processor, tally, waiting_max: traces.waiting_max, client })
    }

    /// Hands a span over. Never waits.
    pub(super) fn push(&self, span: SpanData) {
        if self.tally.waiting.fetch_add(1, Ordering::Relaxed) < self.waiting_max {
            self.processor.on_end(span);
            return;
        }
        self.tally.waiting.fetch_sub(1, Ordering::Relaxed);
        self.tally.queue_full.fetch_add(1, Ordering::Relaxed);
        if !self.tally.is_full.swap(true, Ordering::Relaxed) {
            let waiting_max = self.waiting_max;
            tracing::warn!(waiting_max, "spans come faster than the collector takes them; some are dropped");
        }
    }

    pub(super) fn dropped(&self) -> Dropped {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Dropped { queue_full: load(&self.tally.queue_full), undelivered: load(&self.tally.undelivered) }
    }

    /// How long [`Self::stop`] may take.
    pub(super) fn flush_max(&self) -> Duration {
        self.client.flush_max()
    }

    /// Sends what waits, within this time. Blocks.
    pub(super) fn stop(&self, within: Duration) {
        // Of one that takes nothing it was told.
        if self.processor.shutdown_with_timeout(within).is_err() && !self.client.is_failing() {
            tracing::warn!("the collector did not take the last spans in time");
        }
    }
}

/// The library's exporter, and how it fares.
#[derive(Debug)]
struct Counting {
    exporter: SpanExporter,
    tally: Arc<Tally>,
    client: Arc<Client>,
}

impl Export for Counting {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        // They have left the queue.
        self.tally.waiting.fetch_sub(count, Ordering::Relaxed);
        let result = self.exporter.export(batch).await;
        if result.is_ok() {
            self.tally.is_full.store(false, Ordering::Relaxed);
            self.client.settle(End::Taken);
        } else {
            self.tally.undelivered.fetch_add(count as u64, Ordering::Relaxed);
            self.client.settle(End::Lost);
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
