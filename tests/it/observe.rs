//! What an operator sees: metrics that add up, a record for each request, and what guests print, bounded.

use std::collections::BTreeMap;

use crate::harness::{Node, Record, Upload, example, http, test_guest, until};

/// Every series with its value; panics if a line is not Prometheus text.
fn series(text: &str) -> BTreeMap<String, f64> {
    let (mut all, mut kinds) = (BTreeMap::new(), BTreeMap::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(kinds.insert(name.to_owned(), kind.to_owned()).is_none(), "declared twice: {line}");
            continue;
        }
        if line.starts_with("# HELP ") {
            continue;
        }
        let (id, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
        let name = id.split('{').next().unwrap();
        let family = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|end| name.strip_suffix(end))
            .filter(|f| kinds.contains_key(*f));
        assert!(kinds.contains_key(family.unwrap_or(name)), "not declared: {line}");
        if let Some(labels) = id.strip_prefix(name).and_then(|rest| rest.strip_prefix('{')) {
            let labels = labels.strip_suffix('}').unwrap();
            assert!(labels.split(',').all(|label| label.contains("=\"") && label.ends_with('"')), "{line}");
        }
        assert!(all.insert(id.to_owned(), value.parse().unwrap()).is_none(), "twice: {line}");
    }
    all
}

#[test]
fn metrics_count_what_was_asked_of_each_version() {
    let node = Node::start();
    let hello = node.deploy_module("hello", &example("hello"), Upload::default());
    let trap = node.deploy_module("trap", &test_guest("trap"), Upload::default());
    for _ in 0..7 {
        assert_eq!(node.get("hello", "/").status, 200);
    }
    for _ in 0..3 {
        assert_eq!(node.get("trap", "/").status, 500);
    }
    assert_eq!(node.get("nobody", "/").status, 404);
    let label = |worker: &str, id: &str| format!("worker=\"{worker}\",version=\"{id}\"");
    let (hello, trap) = (label("hello", &hello.id), label("trap", &trap.id));
    // A request is counted when its connection has got the last byte, a moment after its client has.
    let metrics = until("all requests are counted", || {
        let metrics = series(&node.metrics().text());
        (metrics[&format!("sluice_requests_total{{{trap},outcome=\"exception\"}}")] >= 3.0
            && metrics[&format!("sluice_requests_total{{{hello},outcome=\"ok\"}}")] >= 7.0)
            .then_some(metrics)
    });
    for (name, value) in [
        (format!("sluice_requests_total{{{hello},outcome=\"ok\"}}"), 7.0),
        (format!("sluice_requests_total{{{hello},outcome=\"exception\"}}"), 0.0),
        (format!("sluice_requests_total{{{trap},outcome=\"exception\"}}"), 3.0),
        (format!("sluice_responses_total{{{hello},class=\"2xx\"}}"), 7.0),
        (format!("sluice_responses_total{{{trap},class=\"5xx\"}}"), 3.0),
        (format!("sluice_request_seconds_count{{{hello}}}"), 7.0),
        (format!("sluice_request_seconds_bucket{{{hello},le=\"+Inf\"}}"), 7.0),
        (format!("sluice_request_cpu_seconds_count{{{trap}}}"), 3.0),
        ("sluice_unrouted_total".to_owned(), 1.0),
        ("sluice_connections_total".to_owned(), 11.0),
        ("sluice_workers".to_owned(), 2.0),
        ("sluice_versions_ready".to_owned(), 2.0),
    ] {
        assert_eq!(metrics.get(&name), Some(&value), "{name}");
    }
}

#[test]
fn metrics_are_text_for_a_scraper_on_the_control_listener_only() {
    let node = Node::start();
    let reply = node.metrics();
    assert_eq!(reply.status, 200);
    assert!(reply.header("content-type").is_some_and(|kind| kind.starts_with("text/plain")), "{reply:?}");
    assert!(!series(&reply.text()).is_empty());
    assert_eq!(node.get("nobody", "/metrics").status, 404);
}

#[test]
fn every_request_has_one_record_with_what_it_cost() {
    let node = Node::logging(&[]);
    let version = node.deploy_module("w", &example("version-teller"), Upload::var("GREETING", "Hi").tagged("v1"));
    for n in 0..20 {
        assert_eq!(node.get("w", &format!("/config/GREETING?{n}")).status, 200);
    }
    node.get("nobody", "/");
    let records = until("twenty records", || Some(node.records()).filter(|records| records.len() >= 20));
    assert_eq!(records.len(), 20);
    for (n, record) in records.iter().enumerate() {
        assert_eq!(record.text("path"), format!("/config/GREETING?{n}"));
        assert_eq!((record.text("worker"), record.text("version")), ("w", version.id.as_str()));
        assert_eq!((record.number("version_number"), record.text("tag")), (1.0, "v1"));
        assert_eq!((record.text("reason"), record.number("status")), ("random", 200.0));
        assert!(record.number("time_ms") > 1.7e12 && record.number("wall_ms") > 0.0, "{record:?}");
    }
    let ids: std::collections::BTreeSet<&str> = records.iter().map(|record| record.text("id")).collect();
    assert_eq!(ids.len(), 20);
}

#[test]
fn the_reason_that_won_is_on_the_record() {
    let node = Node::logging(&[]);
    let first = node.deploy_module("w", &example("hello"), Upload::default());
    node.request("GET", "w", "/key", &[("cloudflare-workers-version-key", "k")], b"");
    let to = format!("w=\"{}\"", first.id);
    node.request("GET", "w", "/override", &[("cloudflare-workers-version-overrides", &to)], b"");
    node.get(&format!("{}-w.localhost", &first.id[..8]), "/preview");
    for reason in ["key", "override", "preview"] {
        assert_eq!(node.record_of("w", &format!("/{reason}")).text("reason"), reason);
    }
}

#[test]
fn without_a_request_log_only_failures_and_what_guests_print_are_told() {
    let node = Node::start();
    node.deploy_module("hello", &example("hello"), Upload::default());
    node.deploy_module("log-lines", &test_guest("log-lines"), Upload::default());
    node.deploy_module("trap", &test_guest("trap"), Upload::default());
    for worker in ["hello", "log-lines", "trap"] {
        node.get(worker, "/said");
    }
    let told = |worker: &str| -> Vec<(String, Record)> {
        let lines =
            node.log().lines().filter_map(|line| serde_json::from_str(line).ok()).collect::<Vec<serde_json::Value>>();
        let requests = lines.iter().filter(|line| line["target"] == "sluicegate::request").map(|line| {
            let record = serde_json::from_str(line["fields"]["message"].as_str().unwrap()).unwrap();
            (line["level"].as_str().unwrap().to_owned(), Record(record))
        });
        requests.filter(|(_, record)| record.text("worker") == worker).collect()
    };
    until("the last is told", || (!told("trap").is_empty()).then_some(()));
    assert!(told("hello").is_empty());
    let (level, record) = &told("log-lines")[0];
    assert_eq!((level.as_str(), record.lines().len()), ("INFO", 3));
    let (level, record) = &told("trap")[0];
    assert_eq!((level.as_str(), record.end().as_str()), ("WARN", "exception/guest"));
}

#[test]
fn floods_of_output_at_once_stay_bounded() {
    let node = Node::logging(&[]);
    node.deploy_module("flood", &test_guest("flood-log"), Upload::default());
    node.get("flood", "/first");
    let before = node.memory_mib("VmHWM");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..4).for_each(|n| assert_eq!(node.get("flood", &format!("/{n}")).status, 200)));
        }
    });
    // 16 requests of 10 MiB each; a mebibyte of each is kept until it is written.
    let grown = node.memory_mib("VmHWM") - before;
    assert!(grown < 80, "the node grew by {grown} MiB");
    let records = until("all records", || Some(node.records()).filter(|records| records.len() == 17));
    assert!(records.iter().all(|record| record.0["lines_truncated"] == true));
    assert_eq!(node.metric("sluice_request_log_dropped_total "), Some(0.0));
}

#[test]
fn output_of_requests_in_one_instance_is_not_mixed_up() {
    let node = Node::logging(&[]);
    let reused = Upload::default().with("sluice", serde_json::json!({ "instance_reuse": true }));
    node.deploy_module("w", &test_guest("log-lines"), reused);
    for n in 0..5 {
        node.get("w", &format!("/{n}"));
    }
    let records = until("five records", || Some(node.records()).filter(|records| records.len() == 5));
    assert!(records.iter().all(|record| record.lines() == ["stdout: out 1", "stdout: out 2", "stderr: err 1"]));
}

#[test]
fn the_request_log_goes_to_standard_output_if_asked() {
    let node = Node::with(&["--request-log", "-"]);
    node.deploy_module("hello", &example("hello"), Upload::default());
    node.get("hello", "/there");
    let line = until("a line", || node.output.lock().unwrap().try_recv().ok());
    let record = Record(serde_json::from_str(&line).unwrap());
    assert_eq!((record.text("worker"), record.text("path"), record.end().as_str()), ("hello", "/there", "ok/"));
}

/// What Prometheus reads: every metric of the table, once, with numbers that follow what happened.
#[test]
fn every_metric_of_the_table_is_exposed() {
    let node = Node::start();
    node.deploy_module("hello", &example("hello"), Upload::default());
    let reuse = Upload::default().with("sluice", serde_json::json!({ "instance_reuse": true }));
    node.deploy_module("reused", &example("hello"), reuse);
    assert_eq!(node.get("hello", "/").status, 200);
    assert_eq!(node.get("reused", "/").status, 200);
    assert_eq!(node.get("nobody", "/").status, 404);
    let text = until("both are counted", || {
        let text = node.metrics().text();
        (text.contains("sluice_unrouted_total 1\n") && text.matches("outcome=\"ok\"} 1\n").count() == 2).then_some(text)
    });
    for metric in sluicegate::observe::exposition::TABLE {
        let head = format!("# HELP {0} {1}\n# TYPE {0} {2}\n", metric.name, metric.help, metric.kind);
        assert_eq!(text.matches(&head).count(), 1, "{head} in {text}");
    }
    let all = series(&text);
    let value = |start: &str| {
        let found = all.iter().find(|(id, _)| id.starts_with(start));
        *found.unwrap_or_else(|| panic!("{start} in {text}")).1
    };
    assert_eq!(value("sluice_deployment_share{worker=\"hello\""), 1.0);
    assert_eq!(value("sluice_version_info{worker=\"hello\""), 1.0);
    assert!(value("sluice_store_commits_total") >= 1.0);
    assert!(value("sluice_store_sync_seconds_count") >= 1.0 && value("sluice_store_sync_seconds_sum") > 0.0);
    assert!(value("sluice_request_memory_bytes_max") > 0.0);
    // A fresh instance is gone after its request; a reused one waits for the next.
    assert_eq!(value("sluice_instances{worker=\"hello\""), 0.0);
    assert_eq!(value("sluice_instances{worker=\"reused\""), 1.0);
    assert!(value("sluice_start_time_seconds") > 1e9);
    let host = node.control.to_string();
    let grafana = http::request(node.control, "GET", "/grafana.json", &[("host", &host)], b"");
    assert!(grafana.status == 200 && grafana.text().contains("sluice_deployment_share"));
}
