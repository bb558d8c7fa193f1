//! An OpenTelemetry collector: takes what nodes export over HTTP and keeps it, decoded.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message as _;

use crate::harness::until;

/// A collector on this machine, on a port of its own. It lives as long as the test process.
pub struct Collector {
    pub address: SocketAddr,
    kept: Arc<Mutex<Kept>>,
}

#[derive(Default)]
struct Kept {
    spans: Vec<Span>,
    /// The newest of each name.
    metrics: Vec<Metric>,
    resource: Vec<KeyValue>,
    heads: Vec<String>,
}

/// A span, in words.
#[derive(Debug, Clone)]
pub struct Span {
    pub name: String,
    pub kind: SpanKind,
    pub trace: String,
    pub id: String,
    /// Empty if it begins a trace.
    pub parent: String,
    pub attributes: Vec<KeyValue>,
    /// Whether its status is an error, and the message.
    pub error: Option<String>,
    pub state: String,
    pub began_ns: u64,
    pub ended_ns: u64,
    /// What the guest printed: `stdout: line`.
    pub lines: Vec<String>,
}

impl Collector {
    /// A collector that takes everything.
    pub fn start() -> Self {
        Self::answering("200 OK")
    }

    /// A collector that answers everything with this status, and keeps what it was sent all the same.
    pub fn answering(status: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let kept = Arc::new(Mutex::new(Kept::default()));
        let keeping = Arc::clone(&kept);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let kept = Arc::clone(&keeping);
                std::thread::spawn(move || while take(&stream, status, &kept).is_some() {});
            }
        });
        Self { address, kept }
    }

    /// What a node is told of it.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{}", self.address)),
            ("OTEL_BSP_SCHEDULE_DELAY", "50".to_owned()),
            ("OTEL_METRIC_EXPORT_INTERVAL", "100".to_owned()),
        ]
    }

    /// All spans so far.
    pub fn spans(&self) -> Vec<Span> {
        self.kept.lock().expect("no panic").spans.clone()
    }

    /// The first span that `fits`, once it is there.
    pub fn span(&self, what: &str, fits: impl Fn(&Span) -> bool) -> Span {
        until(&format!("the span of {what}"), || self.spans().into_iter().find(|span| fits(span)))
    }

    /// The span of that name, once it is there.
    pub fn named(&self, name: &str) -> Span {
        self.span(name, |span| span.name == name)
    }

    /// The newest values of a metric.
    pub fn metric(&self, name: &str) -> Option<Metric> {
        self.kept.lock().expect("no panic").metrics.iter().find(|metric| metric.name == name).cloned()
    }

    /// What whoever sent the last spans or metrics says of itself.
    pub fn resource(&self, name: &str) -> String {
        value(&self.kept.lock().expect("no panic").resource, name)
    }

    /// The heads of the requests so far, in lower case.
    pub fn heads(&self) -> Vec<String> {
        self.kept.lock().expect("no panic").heads.clone()
    }
}

impl Span {
    /// An attribute as text; empty if there is none.
    pub fn text(&self, name: &str) -> String {
        value(&self.attributes, name)
    }
}

/// Takes one request of a connection; nothing once it has ended.
fn take(stream: &TcpStream, status: &str, kept: &Mutex<Kept>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let head = head.to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
    let mut body = vec![0; length.parse().expect("a number")];
    reader.read_exact(&mut body).ok()?;
    let mut kept = kept.lock().expect("no panic");
    if head.starts_with("post /v1/traces ") {
        for sent in ExportTraceServiceRequest::decode(&*body).expect("spans").resource_spans {
            kept.resource = sent.resource.unwrap_or_default().attributes;
            kept.spans.extend(sent.scope_spans.into_iter().flat_map(|scope| scope.spans).map(Span::from));
        }
    } else if head.starts_with("post /v1/metrics ") {
        for sent in ExportMetricsServiceRequest::decode(&*body).expect("metrics").resource_metrics {
            kept.resource = sent.resource.unwrap_or_default().attributes;
            kept.metrics = sent.scope_metrics.into_iter().flat_map(|scope| scope.metrics).collect();
        }
    }
    kept.heads.push(head);
    drop(kept);
    let mut writer = stream;
    write!(writer, "HTTP/1.1 {status}\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n").ok()
}

fn value(attributes: &[KeyValue], name: &str) -> String {
    let found = attributes.iter().find(|attribute| attribute.key == name);
    match found.and_then(|attribute| attribute.value.as_ref()) {
        Some(AnyValue { value: Some(Any::StringValue(text)) }) => text.clone(),
        Some(AnyValue { value: Some(Any::IntValue(number)) }) => number.to_string(),
        Some(AnyValue { value: Some(Any::DoubleValue(number)) }) => number.to_string(),
        _ => String::new(),
    }
}

impl From<opentelemetry_proto::tonic::trace::v1::Span> for Span {
    fn from(span: opentelemetry_proto::tonic::trace::v1::Span) -> Self {
        use opentelemetry_proto::tonic::trace::v1::status::StatusCode;

        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let line = |event: &opentelemetry_proto::tonic::trace::v1::span::Event| {
            format!("{}: {}", value(&event.attributes, "log.iostream"), value(&event.attributes, "log.text"))
        };
        Self {
            kind: span.kind(),
            error: span.status.filter(|status| status.code() == StatusCode::Error).map(|status| status.message),
            trace: hex(&span.trace_id),
            id: hex(&span.span_id),
            parent: hex(&span.parent_span_id),
            lines: span.events.iter().map(line).collect(),
            name: span.name,
            attributes: span.attributes,
            state: span.trace_state,
            began_ns: span.start_time_unix_nano,
            ended_ns: span.end_time_unix_nano,
        }
    }
}
