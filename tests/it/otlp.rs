//! OpenTelemetry: spans and metrics as a collector gets them, and the trace that goes from a client through guests to others.

use std::time::Duration;

use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::json;

use crate::harness::collector::{Collector, Span};
use crate::harness::node::refused_in_environment;
use crate::harness::{Node, Peer, Upload, example, now, test_guest, until};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// A node that exports to `collector`, with more of its environment.
fn exporting(collector: &Collector, more: &[(&'static str, &str)]) -> Node {
    let mut environment = collector.environment();
    environment.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
    Node::in_environment(&environment, &["--request-log", "{dir}/requests.jsonl"])
}

fn traceparent(flags: &str) -> String {
    format!("00-{TRACE}-{PARENT}-{flags}")
}

/// The `traceparent` of the last request to `peer`.
fn told(peer: &Peer) -> String {
    let heads = peer.heads();
    let lines = heads.last().expect("a request").lines();
    lines.filter_map(|line| line.strip_prefix("traceparent: ")).collect::<Vec<_>>().join(" and ")
}

#[test]
fn a_span_says_which_version_ran_and_why_and_is_the_record_of_its_request() {
    let collector = Collector::start();
    let node = exporting(&collector, &[("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")]);
    let version = node.deploy_module("log-lines", &test_guest("log-lines"), Upload::default().tagged("v1"));
    let headers = [("cloudflare-workers-version-key", "somebody"), ("user-agent", "test")];
    assert_eq!(node.request("GET", "log-lines", "/a/b?c=d", &headers, b"").status, 200);
    let span = collector.named("GET log-lines");
    let record = node.record_of("log-lines", "/a/b?c=d");
    assert_eq!((span.kind, span.parent.as_str(), span.error.as_ref()), (SpanKind::Server, "", None));
    assert_eq!(span.id, record.text("id"));
    let port = node.data.port().to_string();
    for (name, value) in [
        ("sluice.worker", "log-lines"),
        ("sluice.version.id", version.id.as_str()),
        ("sluice.version.number", "1"),
        ("sluice.version.tag", "v1"),
        ("sluice.decision.reason", "key"),
        ("sluice.outcome", "ok"),
        ("sluice.blame", ""),
        ("sluice.request.id", record.text("id")),
        ("sluice.depth", "0"),
        ("sluice.subrequests", "0"),
        ("sluice.reused", "0"),
        ("http.request.method", "GET"),
        ("http.response.status_code", "200"),
        ("url.scheme", "http"),
        ("url.path", "/a/b"),
        ("url.query", "c=d"),
        ("server.address", "log-lines.localhost"),
        ("client.address", "127.0.0.1"),
        ("network.protocol.version", "1.1"),
        ("error.type", ""),
    ] {
        assert_eq!(span.text(name), value, "{name}");
    }
    assert!(["", port.as_str()].contains(&span.text("server.port").as_str()));
    assert!((span.text("sluice.cpu_ms").parse::<f64>().unwrap() - record.number("cpu_ms")).abs() < 0.001);
    assert!(span.text("sluice.memory_bytes").parse::<u64>().unwrap() >= 65_536);
    assert_eq!(span.lines, ["stdout: out 1", "stdout: out 2", "stderr: err 1"]);
    let took = Duration::from_nanos(span.ended_ns - span.began_ns).as_secs_f64() * 1e3;
    assert!((took - record.number("wall_ms")).abs() < 0.01, "{took}");
    assert_eq!(collector.resource("service.name"), "sluice");
    assert_eq!(collector.resource("deployment.environment.name"), "test");
    assert!(!collector.resource("service.instance.id").is_empty());
}

#[test]
fn failures_are_errors_and_a_client_s_own_are_not() {
    let collector = Collector::start();
    let node = exporting(&collector, &[]);
    node.deploy_module("trap", &test_guest("trap"), Upload::default());
    node.deploy_module("outbound", &test_guest("outbound"), Upload::default());
    assert_eq!(node.get("trap", "/").status, 500);
    let span = collector.named("GET trap");
    let record = node.record_of("trap", "/");
    assert_eq!(span.error.as_deref(), Some(record.text("error")));
    assert_eq!((span.text("sluice.blame"), span.text("error.type")), ("guest".to_owned(), "exception".to_owned()));
    // An answer of the guest's own that is a 5xx; why it could not connect is on the span of the subrequest.
    let url = [("x-url", "http://name:s3cret@127.0.0.1:1/?a=0123456789abcdef0123456789abcdef")];
    assert_eq!(node.request("BREW", "outbound", "/", &url, b"").status, 502);
    let span = collector.named("HTTP outbound");
    assert_eq!((span.error.as_deref(), span.text("error.type").as_str()), (Some(""), "502"));
    assert_eq!(span.text("http.request.method_original"), "BREW");
    let sent = collector.span("the subrequest", |sent| sent.parent == span.id);
    assert_eq!((sent.kind, sent.text("error.type").as_str()), (SpanKind::Client, "connection-refused"));
    assert_eq!(sent.text("url.full"), "http://127.0.0.1:1/?a=REDACTED");
    assert_eq!((sent.text("server.address"), sent.text("server.port")), ("127.0.0.1".to_owned(), "1".to_owned()));
    assert_eq!(sent.text("sluice.version.id"), span.text("sluice.version.id"));
    assert_eq!(sent.text("sluice.decision.reason"), "random");
    assert!(node.get("nobody", "/").status == 404, "no worker, no span");
    assert!(collector.spans().iter().all(|span| span.name != "GET nobody"));
}

#[test]
fn one_trace_goes_from_a_client_through_workers_to_the_network() {
    let collector = Collector::start();
    let (node, peer) = (exporting(&collector, &[]), Peer::answering("from the peer"));
    node.deploy_module("outbound", &test_guest("outbound"), Upload::default());
    let bindings = json!([
        { "type": "plain_text", "name": "TARGETS", "text": "API" },
        { "type": "service", "name": "API", "service": "outbound" },
    ]);
    node.deploy_module("front", &example("fan-out"), Upload::bindings(bindings));
    let url = format!("{}/there", peer.origin());
    // It hands on every header that it gets, the trace's among them, by the contract's function and by address.
    for (path, state) in [("/", "a=1,b=2"), ("/via-http/API", "")] {
        let (parent, url) = (traceparent("01"), url.as_str());
        let mut headers = vec![("traceparent", parent.as_str()), ("x-url", url)];
        if !state.is_empty() {
            headers.push(("tracestate", state));
        }
        assert_eq!(node.request("GET", "front", path, &headers, b"").status, 200);
        let fits = |span: &Span| span.name == "GET front" && span.text("url.path") == path;
        let front = collector.span("the client's request", fits);
        let back = collector.span("the worker that was called", |span| span.parent == front.id);
        let sent = collector.span("the request to the peer", |span| span.parent == back.id);
        assert_eq!((front.parent.as_str(), front.kind), (PARENT, SpanKind::Server));
        assert_eq!((back.name.as_str(), back.kind), ("GET outbound", SpanKind::Internal));
        assert_eq!((sent.name.as_str(), sent.kind), ("GET", SpanKind::Client));
        assert_eq!((sent.text("url.full"), sent.text("http.response.status_code")), (url.to_owned(), "200".to_owned()));
        assert_eq!((front.text("sluice.depth").as_str(), back.text("sluice.depth").as_str()), ("0", "1"));
        for span in [&front, &back, &sent] {
            assert_eq!((span.trace.as_str(), span.state.as_str()), (TRACE, state));
        }
        assert_eq!(told(&peer), format!("00-{TRACE}-{}-01", sent.id));
        assert_eq!(peer.heads().last().unwrap().contains("tracestate: a=1,b=2"), !state.is_empty());
        assert!(front.began_ns <= back.began_ns && back.began_ns <= sent.began_ns);
    }
}

#[test]
fn objects_hang_below_whoever_calls_them_and_alarms_begin_a_trace() {
    let collector = Collector::start();
    let node = exporting(&collector, &[]);
    node.deploy_module("w", &test_guest("ledger"), crate::objects::ledger_upload());
    let parent = traceparent("01");
    let reply = node.request("GET", "w", "/a/call?to=b&path=count", &[("traceparent", &parent)], b"");
    assert_eq!(reply.status, 200, "{}", reply.text());
    let worker = collector.named("GET w");
    let first = collector.span("the first object", |span| span.parent == worker.id);
    let second = collector.span("the second object", |span| span.parent == first.id);
    assert_eq!((worker.trace.as_str(), worker.parent.as_str()), (TRACE, PARENT));
    for span in [&first, &second] {
        assert_eq!((span.name.as_str(), span.kind, span.trace.as_str()), ("GET w/Ledger", SpanKind::Internal, TRACE));
        assert_eq!(
            (span.text("sluice.object.class"), span.text("sluice.decision.reason")),
            ("Ledger".into(), "object".into())
        );
    }
    assert_ne!(first.text("sluice.object.id"), second.text("sluice.object.id"));
    assert_eq!(first.text("sluice.object.id").len(), 64);
    assert_eq!(node.get("w", "/a/alarm-set?in_ms=1").status, 200);
    let alarm = collector.named("alarm w/Ledger");
    assert_eq!((alarm.parent.as_str(), alarm.kind, alarm.text("url.path").as_str()), ("", SpanKind::Internal, ""));
    assert_eq!(alarm.text("sluice.object.id"), first.text("sluice.object.id"));
}

#[test]
fn a_guest_finds_its_own_span_and_may_name_another() {
    let collector = Collector::start();
    let (node, peer) = (exporting(&collector, &[]), Peer::answering("ok"));
    node.deploy_module("name-span", &test_guest("name-span"), Upload::default());
    let (url, parent) = (peer.origin(), traceparent("01"));
    let ask = |name: &str| {
        let mut headers = vec![("x-url", url.as_str()), ("traceparent", parent.as_str())];
        headers.extend(Some(("x-name", name)).filter(|_| !name.is_empty()));
        let reply = node.request("GET", "name-span", "/", &headers, b"");
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.text()
    };
    let own = ask("");
    let span = collector.span("the request", |span| own == format!("00-{TRACE}-{}-01", span.id));
    assert_eq!(span.parent, PARENT);
    let sent =
        |own: &str| collector.span("the subrequest", |span| own.contains(&span.parent) && !span.parent.is_empty());
    assert_eq!(told(&peer), format!("00-{TRACE}-{}-01", sent(&own).id));
    let own = ask("00-nonsense");
    assert_eq!(told(&peer), format!("00-{TRACE}-{}-01", sent(&own).id));
    let theirs = "00-11111111111111111111111111111111-2222222222222222-01";
    ask(theirs);
    assert_eq!(told(&peer), theirs);
}

#[test]
fn what_is_not_sampled_stays_so_and_wrong_parents_are_passed_over() {
    let collector = Collector::start();
    let (node, peer) = (exporting(&collector, &[]), Peer::answering("ok"));
    node.deploy_module("outbound", &test_guest("outbound"), Upload::default());
    let url = peer.origin();
    let ask = |path: &str, parent: &str| {
        let headers = [("x-url", url.as_str()), ("traceparent", parent)];
        assert_eq!(node.request("GET", "outbound", path, &headers, b"").status, 200);
    };
    ask("/unsampled", &traceparent("00"));
    let passed_on = told(&peer);
    assert!(passed_on.starts_with(&format!("00-{TRACE}-")) && passed_on.ends_with("-00"), "{passed_on}");
    assert!(!passed_on.contains(PARENT), "the other side's parent is the guest: {passed_on}");
    ask("/wrong", &traceparent("01").to_ascii_uppercase());
    let span = collector.span("the second request", |span| span.text("url.path") == "/wrong");
    assert_eq!(span.parent, "");
    assert_ne!(span.trace, TRACE);
    // The second came after the first; nothing of the first did.
    assert!(collector.spans().iter().all(|span| span.trace != TRACE));

    let node =
        exporting(&collector, &[("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "0")]);
    node.deploy_module("hello", &example("hello"), Upload::default());
    assert_eq!(node.get("hello", "/unsampled").status, 200);
    assert_eq!(node.request("GET", "hello", "/sampled", &[("traceparent", &traceparent("01"))], b"").status, 200);
    collector.span("the client's choice", |span| span.text("url.path") == "/sampled");
    assert!(collector.spans().iter().all(|span| span.text("url.path") != "/unsampled"));
}

#[test]
fn metrics_are_those_of_the_metrics_page() {
    let collector = Collector::start();
    let node = exporting(&collector, &[]);
    let version = node.deploy_module("hello", &example("hello"), Upload::default());
    for _ in 0..7 {
        assert_eq!(node.get("hello", "/").status, 200);
    }
    let ours = |attributes: &[opentelemetry_proto::tonic::common::v1::KeyValue]| {
        let says = |text: &str| format!("{attributes:?}").contains(&format!("\"{text}\""));
        says("hello") && says(&version.id)
    };
    let responses = until("seven responses", || {
        let Data::Sum(sum) = collector.metric("sluice_responses_total")?.data? else { return None };
        assert!(sum.is_monotonic);
        let of_class = |class: &str| {
            let fits = |point: &&opentelemetry_proto::tonic::metrics::v1::NumberDataPoint| {
                ours(&point.attributes) && format!("{:?}", point.attributes).contains(class)
            };
            sum.data_points.iter().find(fits).cloned()
        };
        of_class("2xx").filter(|point| point.value == Some(Number::AsInt(7)))
    });
    assert!(responses.start_time_unix_nano < responses.time_unix_nano);
    let metric = collector.metric("sluice_request_seconds").unwrap();
    assert_eq!((metric.unit.as_str(), metric.description.is_empty()), ("s", false));
    let Some(Data::Histogram(histogram)) = metric.data else { panic!("no histogram") };
    let point = histogram.data_points.iter().find(|point| ours(&point.attributes)).unwrap();
    let labels = format!("{{worker=\"hello\",version=\"{}\"", version.id);
    let of_page = |name: &str| node.metric(name).unwrap_or_else(|| panic!("no {name}"));
    assert_eq!(point.count, 7);
    assert_eq!(of_page(&format!("sluice_request_seconds_count{labels}}}")), 7.0);
    assert!((point.sum.unwrap() - of_page(&format!("sluice_request_seconds_sum{labels}}}"))).abs() < 1e-9);
    let mut below = 0;
    for (bound, count) in point.explicit_bounds.iter().zip(&point.bucket_counts) {
        below += count;
        assert_eq!(
            of_page(&format!("sluice_request_seconds_bucket{labels},le=\"{bound}\"}}")),
            below as f64,
            "{bound}"
        );
    }
    // Every metric of the page is sent, and no other.
    let page = node.metrics().text();
    for name in page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()) {
        assert!(collector.metric(name).is_some(), "{name}");
    }
}

#[test]
fn a_collector_that_is_down_holds_up_nothing_and_is_told_of_once() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let environment = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{gone}")),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20s3cret".to_owned()),
        ("OTEL_BSP_SCHEDULE_DELAY", "20".to_owned()),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "10".to_owned()),
        ("OTEL_METRIC_EXPORT_INTERVAL", "50".to_owned()),
    ];
    let mut node = Node::in_environment(&environment, &[]);
    node.deploy_module("hello", &example("hello"), Upload::default());
    until("spans are lost in both ways", || {
        assert_eq!(node.get("hello", "/").status, 200);
        let dropped = |why: &str| node.metric(&format!("sluice_spans_dropped_total{{why=\"{why}\"}}")).unwrap();
        (dropped("undelivered") > 20.0 && dropped("queue_full") > 0.0).then_some(())
    });
    let log = node.log();
    for (said, times) in [("the collector does not take them", 2), ("spans come faster than", 1), ("s3cret", 0)] {
        assert_eq!(log.matches(said).count(), times, "{said}: {log}");
    }
    assert!(log.to_lowercase().contains("connection refused"), "{log}");
    let began = now();
    assert_eq!(node.terminate(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[test]
fn what_is_left_is_sent_when_the_node_stops_with_the_operator_s_headers() {
    let collector = Collector::start();
    let mut node = exporting(
        &collector,
        &[
            ("OTEL_BSP_SCHEDULE_DELAY", "600000"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "600000"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-api-key=s3cret%2C1"),
            ("SLUICE_LOG", "trace"),
        ],
    );
    node.deploy_module("hello", &example("hello"), Upload::default());
    assert_eq!(node.get("hello", "/").status, 200);
    assert!(collector.spans().is_empty());
    assert_eq!(node.terminate(), Some(0));
    assert_eq!(collector.spans().iter().map(|span: &Span| span.name.as_str()).collect::<Vec<_>>(), ["GET hello"]);
    assert!(collector.metric("sluice_requests_total").is_some());
    assert!(
        collector.heads().iter().all(|head| head.contains("\r\nx-api-key: s3cret,1\r\n")),
        "{:?}",
        collector.heads()
    );
    assert!(node.log().contains("OpenTelemetry is on") && !node.log().contains("s3cret"));
}

#[test]
fn half_of_it_can_be_left_off_and_grpc_is_refused_with_what_to_do() {
    let collector = Collector::start();
    let node = exporting(&collector, &[("OTEL_TRACES_EXPORTER", "none")]);
    node.deploy_module("name-span", &test_guest("name-span"), Upload::default());
    let parent = traceparent("01");
    // Without traces headers pass as they come.
    assert_eq!(node.request("GET", "name-span", "/", &[("traceparent", &parent)], b"").text(), parent);
    assert_eq!(node.get("name-span", "/").text(), "");
    until("metrics", || collector.metric("sluice_workers"));
    assert!(collector.spans().is_empty());

    let folder = tempfile::tempdir().unwrap();
    let mut environment = collector.environment();
    environment.push(("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc".to_owned()));
    let (code, said) = refused_in_environment(folder.path(), &[], &environment);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("`grpc`") && said.contains("OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"), "{said}");
}
