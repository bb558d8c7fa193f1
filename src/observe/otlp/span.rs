//! Spans: what is said of a request that has ended, from its record, and of a request that a guest has sent to the network.
//! [`ATTRIBUTES`] has every name that they use: OpenTelemetry's where it has one, else those of the request log.

use std::net::IpAddr;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::uri::Authority;
use opentelemetry::trace::{Event, SpanKind, Status};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use crate::domain::limits::{SPAN_LINES_BYTES_MAX, SPAN_LINES_MAX, SPAN_TEXT_BYTES_MAX};
use crate::domain::outcome::{Blame, Outcome};
use crate::observe::otlp::tracer::{Place, Sending, Trace};
use crate::observe::record::{Line, Record};
use crate::observe::tail::redact;

/// Declares each attribute once: its name, and what it says.
macro_rules! attributes {
    ($($constant:ident: $name:literal, $meaning:literal;)*) => {
        $(const $constant: &str = $name;)*
        /// Every attribute of a span or of its events, and what it says.
        pub const ATTRIBUTES: &[(&str, &str)] = &[$(($name, $meaning)),*];
    };
}

attributes! {
    WORKER: "sluice.worker", "The worker.";
    VERSION_ID: "sluice.version.id", "The version that ran.";
    VERSION_NUMBER: "sluice.version.number", "Its number.";
    VERSION_TAG: "sluice.version.tag", "Its tag, if it has one.";
    REASON: "sluice.decision.reason", "Why this version: `preview`, `override`, `key`, `random` or `object`.";
    OUTCOME: "sluice.outcome", "How it ended: `ok`, `exception`, `exceededCpu`…";
    BLAME: "sluice.blame", "Whose fault a failure was: `guest`, `caller` or `host`.";
    REQUEST_ID: "sluice.request.id", "The id of the request's record, which error responses name. The span has the same.";
    DEPTH: "sluice.depth", "Calls from worker to worker that lie around this one.";
    OBJECT_CLASS: "sluice.object.class", "The class of the object that the event was for.";
    OBJECT_ID: "sluice.object.id", "Its id.";
    CPU: "sluice.cpu_ms", "CPU time that the guest used, in milliseconds.";
    MEMORY: "sluice.memory_bytes", "Linear memory of the instance at the end.";
    SUBREQUESTS: "sluice.subrequests", "Outgoing requests.";
    REUSED: "sluice.reused", "Requests that the instance had served before.";
    METHOD: "http.request.method", "The method; `_OTHER` if HTTP does not know it.";
    METHOD_ORIGINAL: "http.request.method_original", "The method that HTTP does not know.";
    STATUS: "http.response.status_code", "The status.";
    ERROR_TYPE: "error.type", "On failures: the outcome, the status, or what went wrong on the network.";
    SCHEME: "url.scheme", "`http`, or what a guest called with.";
    PATH: "url.path", "The path.";
    QUERY: "url.query", "The query, without what looks like an id or a key.";
    FULL: "url.full", "The address of a subrequest, its query likewise.";
    SERVER_ADDRESS: "server.address", "The host that was asked for.";
    SERVER_PORT: "server.port", "Its port, if one was named.";
    CLIENT_ADDRESS: "client.address", "Where the client is.";
    PROTOCOL: "network.protocol.version", "`1.1` or `2`: of the client's connection.";
    STREAM: "log.iostream", "Of the event `log`, a line that the guest printed: `stdout` or `stderr`.";
    TEXT: "log.text", "The line.";
}

static SCOPE: LazyLock<InstrumentationScope> =
    LazyLock::new(|| InstrumentationScope::builder("sluice").with_version(env!("CARGO_PKG_VERSION")).build());

/// The span of a request, or of an object's alarm, that has ended.
pub(super) fn of_request(trace: &Trace, record: &Record<'_>) -> SpanData {
    let mut attributes = Attributes(Vec::with_capacity(24));
    attributes.put(WORKER, text(record.worker));
    if let Some(version) = record.version {
        attributes.put(VERSION_ID, version.id.to_string());
        attributes.put(VERSION_NUMBER, whole(version.number));
        attributes.put_unless_empty(VERSION_TAG, version.tag);
    }
    attributes.put_some(REASON, record.reason.map(|reason| reason.as_str()));
    attributes.put(OUTCOME, record.outcome.as_str());
    attributes.put_some(BLAME, record.blame.map(Blame::as_str));
    attributes.put(REQUEST_ID, record.id.to_string());
    attributes.put(DEPTH, i64::from(record.depth));
    if let Some(object) = record.object {
        attributes.put(OBJECT_CLASS, text(object.class));
        attributes.put(OBJECT_ID, object.id.to_string());
    }
    attributes.put(CPU, record.cpu.as_secs_f64() * 1e3);
    attributes.put(MEMORY, whole(record.memory_bytes));
    attributes.put(SUBREQUESTS, i64::from(record.subrequests));
    attributes.put(REUSED, i64::from(record.reused));
    let whose = match record.object {
        Some(object) => format!("{}/{}", record.worker, object.class),
        None => record.worker.to_owned(),
    };
    let name = if record.is_alarm() {
        format!("alarm {whose}")
    } else {
        attributes.put_request(trace, record);
        format!("{} {whose}", known_method(record.method).unwrap_or("HTTP"))
    };
    let (status, error_type) = status_of(record);
    attributes.put_some(ERROR_TYPE, error_type);
    let kind = if trace.asked.depth == 0 && !record.is_alarm() { SpanKind::Server } else { SpanKind::Internal };
    SpanData { status, events: events(record), ..span(&trace.place, kind, name, attributes, trace.began, record.wall) }
}

/// The span of a request to the network: until the head of its answer is there, or it is known that none will be.
pub(super) fn of_sending(sending: &Sending, took: Duration, answer: Result<u16, &'static str>) -> SpanData {
    let mut attributes = Attributes(Vec::with_capacity(10));
    let (name, uri) = (attributes.put_method(sending.method.as_str()), &sending.uri);
    if let Some((worker, decision)) = sending.trace.decided.get() {
        attributes.put(WORKER, text(worker.as_str()));
        attributes.put(VERSION_ID, decision.version.to_string());
        attributes.put(REASON, decision.reason.as_str());
    }
    attributes.put_server(uri.authority());
    let host = uri.authority().map_or("", |authority| authority.as_str().rsplit('@').next().unwrap_or_default());
    let query = uri.query().map_or_else(String::new, |query| format!("?{}", redact::url(query)));
    let full = format!("{}://{host}{}{query}", uri.scheme_str().unwrap_or("http"), uri.path());
    attributes.put(FULL, text(&full));
    let status = match answer {
        Ok(code) => {
            attributes.put(STATUS, i64::from(code));
            if code >= 400 {
                attributes.put(ERROR_TYPE, code.to_string());
                Status::error("")
            } else {
                Status::Unset
            }
        }
        Err(what) => {
            attributes.put(ERROR_TYPE, what);
            Status::error(what)
        }
    };
    SpanData { status, ..span(&sending.place, SpanKind::Client, name, attributes, sending.began, took) }
}

fn span(
    place: &Place,
    span_kind: SpanKind,
    name: String,
    attributes: Attributes,
    start_time: SystemTime,
    took: Duration,
) -> SpanData {
    SpanData {
        span_context: place.span.clone(),
        parent_span_id: place.parent,
        parent_span_is_remote: place.parent_is_remote,
        span_kind,
        name: name.into(),
        start_time,
        end_time: start_time + took,
        attributes: attributes.0,
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: SCOPE.clone(),
    }
}

/// Whether it failed, and by what: a 5xx, or an outcome other than ok that is not the caller's fault.
fn status_of(record: &Record<'_>) -> (Status, Option<String>) {
    let failed = record.outcome != Outcome::Ok && record.blame != Some(Blame::Caller);
    match record.status {
        _ if failed => (Status::error(text(record.error)), Some(record.outcome.as_str().to_owned())),
        Some(code) if code >= 500 => (Status::error(text(record.error)), Some(code.to_string())),
        _ => (Status::Unset, None),
    }
}

/// What the guest printed, as far as it fits.
fn events(record: &Record<'_>) -> SpanEvents {
    let mut bytes_left = SPAN_LINES_BYTES_MAX;
    let fits = |line: &&Line<'_>| {
        let rest = bytes_left.checked_sub(line.text.len());
        bytes_left = rest.unwrap_or(bytes_left);
        rest.is_some()
    };
    let event = |line: &Line<'_>| {
        let at = UNIX_EPOCH + Duration::from_millis(line.at_ms);
        let attributes = vec![KeyValue::new(STREAM, line.stream), KeyValue::new(TEXT, line.text.to_owned())];
        Event::new("log", at, attributes, 0)
    };
    let mut events = SpanEvents::default();
    events.events = record.lines.iter().take(SPAN_LINES_MAX).take_while(fits).map(event).collect();
    events.dropped_count = u32::try_from(record.lines.len() - events.events.len()).unwrap_or(u32::MAX);
    events
}

struct Attributes(Vec<KeyValue>);

impl Attributes {
    fn put(&mut self, name: &'static str, value: impl Into<Value>) {
        self.0.push(KeyValue::new(name, value));
    }

    fn put_some(&mut self, name: &'static str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.put(name, value);
        }
    }

    fn put_unless_empty(&mut self, name: &'static str, value: &str) {
        self.put_some(name, Some(value).filter(|value| !value.is_empty()).map(text));
    }

    /// Puts the method, and gives the word for it that may be in a span's name.
    fn put_method(&mut self, method: &str) -> String {
        match known_method(method) {
            Some(known) => {
                self.put(METHOD, known);
                known.to_owned()
            }
            None => {
                self.put(METHOD, "_OTHER");
                self.put(METHOD_ORIGINAL, text(method));
                "HTTP".to_owned()
            }
        }
    }

    fn put_server(&mut self, authority: Option<&Authority>) {
        let Some(authority) = authority else { return };
        self.put(SERVER_ADDRESS, text(authority.host()));
        self.put_some(SERVER_PORT, authority.port_u16().map(i64::from));
    }

    fn put_request(&mut self, trace: &Trace, record: &Record<'_>) {
        self.put_method(record.method);
        self.put(SCHEME, text(record.scheme));
        let (path, query) = record.path.split_once('?').unwrap_or((record.path, ""));
        self.put(PATH, text(path));
        self.put_unless_empty(QUERY, &redact::url(query));
        self.put_server(record.host.parse().ok().as_ref());
        self.put_some(CLIENT_ADDRESS, trace.asked.client.as_ref().map(IpAddr::to_string));
        self.put_some(PROTOCOL, protocol(trace.asked.protocol));
        self.put_some(STATUS, record.status.map(i64::from));
    }
}

/// Texts of guests and clients have no end of their own.
fn text(text: &str) -> String {
    let mut end = text.len().min(SPAN_TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn protocol(version: http::Version) -> Option<&'static str> {
    match version {
        http::Version::HTTP_10 => Some("1.0"),
        http::Version::HTTP_11 => Some("1.1"),
        http::Version::HTTP_2 => Some("2"),
        _ => None,
    }
}

/// The methods that OpenTelemetry's conventions know.
fn known_method(method: &str) -> Option<&'static str> {
    const KNOWN: [&str; 9] = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "CONNECT", "TRACE"];
    KNOWN.into_iter().find(|known| *known == method)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    #[test]
    fn the_readme_has_the_attributes() {
        let mut table = "| attribute | |\n|---|---|\n".to_owned();
        for (name, meaning) in ATTRIBUTES {
            let _ = writeln!(table, "| `{name}` | {meaning} |");
        }
        assert!(include_str!("../../../README.md").contains(&table), "README.md needs this table:\n{table}");
    }

    #[test]
    fn texts_end_where_a_character_does() {
        let long = format!("a{}", "é".repeat(SPAN_TEXT_BYTES_MAX));
        assert_eq!(text(&long).len(), SPAN_TEXT_BYTES_MAX - 1);
        assert_eq!(text("é"), "é");
    }

    #[test]
    fn a_flood_of_lines_is_cut_and_said_to_be() {
        let line = "x".repeat(SPAN_LINES_BYTES_MAX / 4);
        let lines: Vec<Line<'_>> = (0..9).map(|_| Line { stream: "stdout", text: &line, at_ms: 0 }).collect();
        let cut = events(&Record { lines: &lines, ..crate::observe::record::sample() });
        assert_eq!((cut.events.len(), cut.dropped_count), (4, 5));
        let lines: Vec<Line<'_>> = (0..200).map(|_| Line { stream: "stdout", text: "x", at_ms: 0 }).collect();
        let cut = events(&Record { lines: &lines, ..crate::observe::record::sample() });
        assert_eq!((cut.events.len(), cut.dropped_count), (SPAN_LINES_MAX, 72));
    }
}
