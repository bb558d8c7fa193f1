//! Who watches sees: every request of a worker as it ended, whole, filtered at the node, and at no cost to those who are watched.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::harness::tail::path_of;
use crate::harness::wrangler::Project;
use crate::harness::{Node, Upload, example, now, test_guest, until};

fn lines(node: &Node, tag: &str) -> crate::harness::Version {
    let annotations = json!({ "workers/tag": tag, "workers/message": "for the tail" });
    node.deploy_module("lines", &test_guest("log-lines"), Upload::default().with("annotations", annotations))
}

#[test]
fn an_event_tells_all_of_a_request_but_its_secrets() {
    let node = Node::start();
    let version = lines(&node, "v1");
    let mut tail = node.tail("lines", json!([]));
    let headers = [("x-plain", "seen"), ("authorization", "Bearer hush"), ("cookie", "a=hush"), ("x-api-key", "hush")];
    let reply = node.request("GET", "lines", &format!("/a?user={}", version.id), &headers, b"");
    assert_eq!(reply.status, 200);
    let event = tail.event();
    assert!(!event.to_string().contains("hush"), "{event}");
    assert_eq!((&event["outcome"], &event["scriptName"]), (&json!("ok"), &json!("lines")));
    assert_eq!(event["scriptVersion"], json!({ "id": version.id, "tag": "v1", "message": "for the tail" }));
    let request = &event["event"]["request"];
    assert_eq!(
        (&request["url"], &request["method"]),
        (&json!("http://lines.localhost/a?user=REDACTED"), &json!("GET"))
    );
    assert_eq!(request["headers"]["x-plain"], "seen");
    assert_eq!(request["headers"]["authorization"], "REDACTED");
    assert_eq!(request["cf"], json!({ "httpProtocol": "HTTP/1.1", "clientIp": "127.0.0.1" }));
    assert_eq!(event["event"]["response"]["status"], 200);
    let logs = event["logs"].as_array().unwrap();
    let told: Vec<(&Value, &Value)> = logs.iter().map(|log| (&log["level"], &log["message"][0])).collect();
    let expected = [("log", "out 1"), ("log", "out 2"), ("error", "err 1")];
    assert!(told.iter().zip(expected).all(|((level, text), (l, t))| *level == l && *text == t), "{told:?}");
    assert!(logs.iter().all(|log| log["timestamp"].as_u64() >= event["eventTimestamp"].as_u64()));
    assert_eq!(event["exceptions"], json!([]));
}

#[test]
fn what_fails_is_told_with_its_exception() {
    let node = Node::start();
    node.deploy_module("trap", &test_guest("trap"), Upload::default());
    let mut tail = node.tail("trap", json!([{ "outcome": ["exception"] }]));
    node.get("trap", "/");
    let event = tail.event();
    assert_eq!((&event["outcome"], &event["sluice"]["blame"]), (&json!("exception"), &json!("guest")));
    assert_eq!(event["event"]["response"]["status"], 500);
    let exception = &event["exceptions"][0];
    assert_eq!(exception["name"], "Error");
    assert!(exception["message"].as_str().unwrap().contains("trap"), "{exception}");
}

#[test]
fn a_tail_sees_only_what_its_filters_admit() {
    let node = Node::start();
    let first = lines(&node, "v1");
    let second = node.upload_version("lines", &test_guest("log-lines"), Upload::default().tagged("v2"));
    let mut tails = [
        (node.tail("lines", json!([{ "method": ["post"] }])), "/post"),
        (node.tail("lines", json!([{ "header": { "key": "X-Mark" } }])), "/mark"),
        (node.tail("lines", json!([{ "header": { "key": "x-mark", "query": "7" } }])), "/mark"),
        (node.tail("lines", json!([{ "scriptVersion": second.id }])), "/preview"),
        (node.tail("lines", json!([{ "client_ip": ["10.0.0.1", "self"] }, { "method": ["DELETE"] }])), "/delete"),
        (node.tail("lines", json!([{ "query": "err 1" }, { "outcome": ["ok"] }, { "method": ["DELETE"] }])), "/delete"),
        (node.tail("lines", json!([{ "sampling_rate": 1 }, { "method": ["DELETE"] }])), "/delete"),
    ];
    let mut nothing = [
        node.tail("lines", json!([{ "client_ip": ["10.0.0.1"] }])),
        node.tail("lines", json!([{ "query": "nobody prints this" }])),
        node.tail("lines", json!([{ "sampling_rate": 0 }])),
        node.tail("lines", json!([{ "outcome": ["exception", "canceled"] }])),
        node.tail("lines", json!([{ "header": { "key": "x-mark", "query": "8" } }])),
    ];
    node.get("lines", "/plain");
    node.request("POST", "lines", "/post", &[], b"x");
    node.request("GET", "lines", "/mark", &[("x-mark", "17")], b"");
    assert_eq!(node.get(&format!("{}-lines.localhost", second.short()), "/preview").status, 200);
    node.request("DELETE", "lines", "/delete", &[], b"");
    for (tail, path) in &mut tails {
        assert_eq!(path_of(&tail.event()), *path);
    }
    for tail in &mut nothing {
        node.delete_tail(tail);
        assert_eq!(tail.next(), Err(Some(CloseCode::Normal)));
    }
    assert_ne!(first.id, second.id);
}

#[test]
fn a_call_by_a_service_binding_is_an_event_of_the_worker_that_is_called() {
    let node = Node::start();
    lines(&node, "v1");
    let bindings = json!([{"type": "plain_text", "name": "TARGETS", "text": "B"}, {"type": "service", "name": "B", "service": "lines"}]);
    node.deploy_module("front", &example("fan-out"), Upload::bindings(bindings));
    let (mut front, mut back) = (node.tail("front", json!([])), node.tail("lines", json!([{ "client_ip": ["self"] }])));
    assert_eq!(node.get("front", "/x").text(), "B: 200 ok\n");
    let (called, caller) = (back.event(), front.event());
    assert_eq!((&caller["sluice"]["depth"], path_of(&caller).as_str()), (&json!(0), "/x"));
    assert_eq!((&called["sluice"]["depth"], &called["scriptVersion"]["tag"]), (&json!(1), &json!("v1")));
    // What the worker was called by, and whose request it was in the end.
    assert_eq!(called["event"]["request"]["url"].as_str().unwrap().to_ascii_lowercase(), "http://b.internal/");
    assert_eq!(called["event"]["request"]["cf"]["clientIp"], "127.0.0.1");
    assert_eq!(called["logs"].as_array().unwrap().len(), 3);
}

#[test]
fn a_reader_that_does_not_read_slows_no_request_and_is_told_what_it_missed() {
    let node = Node::start();
    node.deploy_module("hello", &example("hello"), Upload::default());
    let mut tail = node.tail("hello", json!([]));
    // Large events, so that what the system buffers between the two ends is full soon.
    let large = "x".repeat(100_000);
    let before = node.memory_mib("VmRSS");
    let requests: usize = 600;
    let began = now();
    for n in 0..requests {
        let reply = node.request("GET", "hello", &format!("/{n}"), &[("x-large", &large)], b"");
        assert_eq!(reply.status, 200);
    }
    assert!(began.elapsed() < Duration::from_secs(60), "requests waited for the reader");
    // 60 MB of events, of which the node keeps some.
    let grown = node.memory_mib("VmRSS").saturating_sub(before);
    assert!(grown < 60, "the node keeps {grown} MiB for a reader that does not read");

    let (mut seen, mut missed, mut recovered) = (Vec::new(), 0, false);
    while !recovered {
        let event = tail.event();
        match event["event"]["type"].as_str() {
            Some("overload") => missed += event["event"]["dropped"].as_u64().unwrap(),
            Some("overload-stop") => recovered = true,
            _ => seen.push(path_of(&event)),
        }
    }
    assert!(missed > 0);
    node.get("hello", "/after");
    while seen.last().is_none_or(|path| path != "/after") {
        seen.push(path_of(&tail.event()));
    }
    assert_eq!(seen.len() - 1 + usize::try_from(missed).unwrap(), requests, "each is seen or counted");
    assert_eq!(seen[0], "/0");
}

#[test]
fn a_tail_ends_in_order_when_it_is_deleted_and_when_the_node_stops() {
    let mut node = Node::start();
    lines(&node, "v1");
    let mut deleted = node.tail("lines", json!([]));
    let mut left = node.tail("lines", json!([]));
    node.delete_tail(&deleted);
    assert_eq!(deleted.next(), Err(Some(CloseCode::Normal)), "after which wrangler ends, too");
    // The last request before the end is told, and then the end.
    node.get("lines", "/last");
    node.ask_to_stop();
    assert_eq!(left.paths(1), ["/last"]);
    assert_eq!(left.next(), Err(Some(CloseCode::Away)), "after which wrangler comes back");
    assert_eq!(node.wait(), Some(0));
}

#[test]
fn sluice_tail_prints_the_same_stream() {
    let node = Node::start();
    lines(&node, "v1");
    let follow = |args: &[&str]| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_sluice"))
            .args([&["tail", "lines"], args].concat())
            .env("SLUICE_API", format!("http://{}", node.control))
            .env("SLUICE_API_TOKEN", &node.token)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        // It says so when it is connected.
        let mut said = String::new();
        BufReader::new(child.stderr.take().expect("piped")).read_line(&mut said).expect("a line");
        assert!(said.starts_with("Connected to lines"), "{said}");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        (child, lines.map(|line| line.expect("a line")))
    };
    let (mut json, mut json_lines) = follow(&["--version-id", "v1", "--header", "x-mark: 1"]);
    let (mut pretty, mut pretty_lines) = follow(&["--format", "pretty", "--status", "ok", "--method", "GET"]);
    node.request("POST", "lines", "/unmarked", &[], b"");
    node.request("GET", "lines", "/marked", &[("x-mark", "1")], b"");
    let event: Value = serde_json::from_str(&json_lines.next().expect("an event")).expect("one line of JSON");
    assert_eq!(path_of(&event), "/marked");
    let headline = pretty_lines.next().expect("an event");
    assert!(headline.starts_with("GET http://lines.localhost/marked - Ok @ 20"), "{headline}");
    assert!(headline.ends_with("Z [#1 v1]"), "{headline}");
    let logs: Vec<String> = pretty_lines.by_ref().take(3).collect();
    assert_eq!(logs, ["  (log) out 1", "  (log) out 2", "  (error) err 1"]);

    for child in [&mut json, &mut pretty] {
        assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill").success());
        assert_eq!(child.wait().expect("it ends").code(), Some(0));
    }
    // It tidied up.
    assert_eq!(node.api("GET", "/scripts/lines/tails", &Value::Null), json!([]));
    let unknown = node.cli(&["tail", "nobody"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("10007"), "{unknown:?}");
}

#[test]
fn wrangler_tails_in_both_formats() {
    let node = Node::start();
    let config = "name = \"lines\"\nmain = \"dist/shim.js\"\ncompatibility_date = \"2026-01-01\"\n";
    let Some(project) = Project::new(&node, config) else { return };
    lines(&node, "v1");
    let tail = |args: &[&str]| {
        std::thread::scope(|scope| {
            let wrangler = scope.spawn(|| project.try_wrangler(&[&["tail", "lines"], args].concat(), ""));
            let id = until("wrangler has made a tail", || {
                let tails = node.api("GET", "/scripts/lines/tails", &Value::Null);
                tails[0]["id"].as_str().map(str::to_owned)
            });
            // It connects a moment later, which only its output tells; so it is given a while of requests.
            let began = now();
            while began.elapsed() < Duration::from_secs(3) {
                node.get("lines", "/plain");
                node.request("POST", "lines", "/post", &[("x-mark", "7")], b"");
                std::thread::sleep(Duration::from_millis(100));
            }
            node.api("DELETE", &format!("/scripts/lines/tails/{id}"), &Value::Null);
            let ran = wrangler.join().expect("wrangler ends");
            assert!(ran.ok, "{}", ran.text);
            ran.text
        })
    };
    let pretty = tail(&["--format", "pretty", "--status", "ok", "--method", "GET", "--ip", "self"]);
    for part in ["waiting for logs", "GET http://lines.localhost/plain - Ok @ ", "  (log) out 1", "  (error) err 1"] {
        assert!(pretty.contains(part), "`{part}` is not in:\n{pretty}");
    }
    assert!(!pretty.contains("POST"), "{pretty}");
    let json = tail(&["--format", "json", "--header", "x-mark:7", "--search", "err 1"]);
    for part in ["\"url\": \"http://lines.localhost/post\"", "\"tag\": \"v1\"", "\"outcome\": \"ok\""] {
        assert!(json.contains(part), "`{part}` is not in:\n{json}");
    }
    assert!(!json.contains("/plain"), "{json}");
}
