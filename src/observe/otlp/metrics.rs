//! The metrics of a node as OTLP has them: the same numbers as at `/metrics`, from the same gathering, sent every minute. They are
//! cumulative, so one that is lost is made good by the next, and nothing is tried again.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{Method, Request, header};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics,
    ScopeMetrics, Sum,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::transform::common::tonic::{Attributes, ResourceAttributesWithSchema};
use prost::Message as _;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::observe::exposition::{BOUNDS_US, Exposition, Family, Gather, Kind, Point, Spread, Value};
use crate::observe::otlp::client::{Client, End};
use crate::observe::otlp::environment::Settings;

/// Sends the metrics of a node, as long as it runs.
pub struct Metering {
    client: Arc<Client>,
    task: JoinHandle<()>,
    stop: CancellationToken,
}

/// What is said beside the numbers.
struct About {
    resource: Resource,
    started: SystemTime,
}

impl Metering {
    /// Begins to send what `gather` gives to the collector that `settings` name for metrics, if they name one.
    #[must_use]
    pub fn start(settings: &Settings, gather: Gather, clock: Arc<dyn Clock>) -> Option<Self> {
        let metrics = settings.metrics.as_ref()?;
        let client = Client::new("metrics", metrics.to.clone());
        let stop = CancellationToken::new();
        let attributes = ResourceAttributesWithSchema::from(&settings.resource).attributes.0;
        let about = About { resource: Resource { attributes, ..Resource::default() }, started: clock.now() };
        let (every, sender, stopped) = (metrics.every, Arc::clone(&client), stop.clone());
        let task = tokio::spawn(async move {
            loop {
                let is_last = tokio::time::timeout(every, stopped.cancelled()).await.is_ok();
                send(&sender, about.message(&gather(), clock.now())).await;
                if is_last {
                    return;
                }
            }
        });
        Some(Self { client, task, stop })
    }

    /// Sends the last numbers, within a bounded time.
    pub async fn stop(self) {
        self.stop.cancel();
        let within = self.client.flush_max();
        let mut task = self.task;
        if tokio::time::timeout(within, &mut task).await.is_err() {
            task.abort();
            if !self.client.is_failing() {
                tracing::warn!("the collector did not take the last metrics in time");
            }
        }
    }
}

async fn send(client: &Client, message: ExportMetricsServiceRequest) {
    let mut request = Request::new(Bytes::from(message.encode_to_vec()));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = client.to.endpoint.clone();
    request.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/x-protobuf"));
    let taken = client.send(request).await.is_ok_and(|answer| answer.status().is_success());
    client.settle(if taken { End::Taken } else { End::Lost });
}

// === impl About ===

impl About {
    fn message(&self, exposition: &Exposition, now: SystemTime) -> ExportMetricsServiceRequest {
        let times = Times { start: nanos(self.started), now: nanos(now) };
        let metrics = exposition.families().iter().map(|family| times.metric(family)).collect();
        let (name, version) = ("sluice".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
        let scope = Some(InstrumentationScope { name, version, ..InstrumentationScope::default() });
        let scope_metrics = vec![ScopeMetrics { scope, metrics, ..ScopeMetrics::default() }];
        let resource = Some(self.resource.clone());
        let resource_metrics = vec![ResourceMetrics { resource, scope_metrics, ..ResourceMetrics::default() }];
        ExportMetricsServiceRequest { resource_metrics }
    }
}

/// From when to when the numbers are, in nanoseconds of Unix time.
struct Times {
    start: u64,
    now: u64,
}

impl Times {
    fn metric(&self, Family { metric, points }: &Family) -> Metric {
        let temporality = AggregationTemporality::Cumulative.into();
        let numbers = || points.iter().filter_map(|point| self.number(point, metric.labels)).collect();
        let data = match metric.kind {
            Kind::Gauge => Data::Gauge(Gauge { data_points: numbers() }),
            Kind::Counter => {
                let is_monotonic = true;
                Data::Sum(Sum { data_points: numbers(), aggregation_temporality: temporality, is_monotonic })
            }
            Kind::Histogram => {
                let data_points = points.iter().filter_map(|point| self.spread(point, metric.labels)).collect();
                Data::Histogram(Histogram { data_points, aggregation_temporality: temporality })
            }
        };
        Metric {
            name: metric.name.to_owned(),
            description: metric.help.to_owned(),
            unit: metric.unit().to_owned(),
            data: Some(data),
            ..Metric::default()
        }
    }

    fn number(&self, point: &Point, labels: &'static [&'static str]) -> Option<NumberDataPoint> {
        let value = match &point.value {
            Value::Whole(number) => Number::AsInt(i64::try_from(*number).unwrap_or(i64::MAX)),
            Value::Real(number) => Number::AsDouble(*number),
            Value::Spread(_) => return None,
        };
        Some(NumberDataPoint {
            attributes: attributes(point, labels),
            start_time_unix_nano: self.start,
            time_unix_nano: self.now,
            value: Some(value),
            ..NumberDataPoint::default()
        })
    }

    fn spread(&self, point: &Point, labels: &'static [&'static str]) -> Option<HistogramDataPoint> {
        let Value::Spread(Spread { at_most, count, sum }) = &point.value else { return None };
        // From "at most so long" to "so long, and longer than the bound before".
        let ends = at_most.iter().chain(std::iter::once(count));
        let befores = std::iter::once(&0).chain(at_most);
        Some(HistogramDataPoint {
            attributes: attributes(point, labels),
            start_time_unix_nano: self.start,
            time_unix_nano: self.now,
            count: *count,
            sum: Some(sum.as_secs_f64()),
            bucket_counts: ends.zip(befores).map(|(end, before)| end - before).collect(),
            explicit_bounds: BOUNDS_US.iter().map(|us| Duration::from_micros(*us).as_secs_f64()).collect(),
            ..HistogramDataPoint::default()
        })
    }
}

fn attributes(point: &Point, labels: &'static [&'static str]) -> Vec<KeyValue> {
    let named = labels.iter().zip(&point.labels);
    Attributes::from(named.map(|(name, value)| opentelemetry::KeyValue::new(*name, value.clone()))).0
}

fn nanos(time: SystemTime) -> u64 {
    let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::distribution::Distribution;

    #[test]
    fn buckets_are_counted_each_for_itself_and_numbers_keep_their_kind() {
        let mut exposition = Exposition::default();
        let mut distribution = Distribution::default();
        [1, 2, 700, 60_000].iter().for_each(|ms| distribution.add(Duration::from_millis(*ms)));
        let sum = Duration::from_millis(60_703);
        exposition.family("sluice_request_seconds").distribution(&["w", "v"], &distribution, sum);
        exposition.family("sluice_responses_total").value(&["w", "v", "2xx"], 3_u64);
        exposition.family("sluice_deployment_share").value(&["w", "v"], 0.25);
        let about = About { resource: Resource::default(), started: UNIX_EPOCH + Duration::from_secs(1) };
        let message = about.message(&exposition, UNIX_EPOCH + Duration::from_secs(2));
        let metrics = &message.resource_metrics[0].scope_metrics[0].metrics;
        let Some(Data::Histogram(histogram)) = &metrics[0].data else { panic!("{metrics:?}") };
        let point = &histogram.data_points[0];
        assert_eq!((point.count, point.sum, metrics[0].unit.as_str()), (4, Some(60.703), "s"));
        assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1);
        assert_eq!(point.bucket_counts.iter().sum::<u64>(), 4);
        assert_eq!((point.explicit_bounds[4], point.bucket_counts[4], point.bucket_counts[14]), (0.001, 1, 1));
        assert_eq!((point.start_time_unix_nano, point.time_unix_nano), (1_000_000_000, 2_000_000_000));
        assert_eq!(histogram.aggregation_temporality(), AggregationTemporality::Cumulative);
        let Some(Data::Sum(counter)) = &metrics[1].data else { panic!("{metrics:?}") };
        assert!(counter.is_monotonic);
        assert_eq!(counter.data_points[0].value, Some(Number::AsInt(3)));
        let names: Vec<&str> = counter.data_points[0].attributes.iter().map(|pair| pair.key.as_str()).collect();
        assert_eq!(names, ["worker", "version", "class"]);
        let Some(Data::Gauge(gauge)) = &metrics[2].data else { panic!("{metrics:?}") };
        assert_eq!(gauge.data_points[0].value, Some(Number::AsDouble(0.25)));
    }
}
