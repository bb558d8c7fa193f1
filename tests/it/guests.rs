//! Every guest there is, and what becomes of its requests: the answer, the code, the line that says what happened, and the
//! record. Guests of `guest-examples/` do what their first line says; those of `tests/guests/` harm no one but themselves.

use serde_json::{Value, json};

use crate::harness::http::Reply;
use crate::harness::{Node, Record, Upload, example, test_guest, until};

/// The answer to one request, and the record of it.
fn ask(node: &Node, worker: &str, path: &str) -> (Reply, Record) {
    let reply = node.get(worker, path);
    (reply, node.record_of(worker, path))
}

/// The answer and the record of one request to a test guest that fails. The answer names the record.
fn ask_failing(node: &Node, guest: &str, upload: Upload) -> (Reply, Record) {
    node.deploy_module(guest, &test_guest(guest), upload);
    let reply = node.get(guest, "/");
    let record = node.record_named_by(&reply);
    assert_eq!(record.text("worker"), guest);
    assert_eq!(record.number("status"), f64::from(reply.status));
    assert_eq!(reply.text().lines().count(), 1, "{}", reply.text());
    assert!(reply.text().contains(record.text("error")), "{} tells another story than {record:?}", reply.text());
    (reply, record)
}

fn cpu_limit(ms: u64) -> Upload {
    Upload::default().with("limits", json!({ "cpu_ms": ms }))
}

#[test]
fn examples_say_hello_on_either_wasi() {
    let node = Node::logging(&[]);
    for name in ["hello", "hello-async"] {
        node.deploy_module(name, &example(name), Upload::default());
        let (reply, record) = ask(&node, name, "/some/path?with=query");
        assert_eq!((reply.status, reply.text().as_str()), (200, "Hello, World!\n"));
        assert_eq!((reply.header("content-type"), reply.header("content-length")), (Some("text/plain"), Some("14")));
        assert_eq!(record.end(), "ok/");
        assert_eq!((record.text("method"), record.text("host")), ("GET", format!("{name}.localhost").as_str()));
        assert!(record.number("memory_bytes") >= 65_536.0 && record.number("cpu_ms") > 0.0, "{record:?}");
        assert!(record.number("wall_ms") >= record.number("cpu_ms"), "{record:?}");
        assert!(record.lines().is_empty());
    }
}

/// Deploys an example in JavaScript; says so and returns none where it is not built.
fn javascript(name: &str, upload: Upload) -> Option<Node> {
    let artefact = example(name);
    if !artefact.exists() {
        println!("skipped: {name} is not built; `guest-examples/build.sh {name}` does it where npm is");
        return None;
    }
    let node = Node::with_artifacts_kept(&[]);
    node.deploy_module(name, &artefact, upload);
    Some(node)
}

#[test]
fn hello_js_says_hello() {
    let Some(node) = javascript("hello-js", Upload::default()) else { return };
    let (reply, record) = ask(&node, "hello-js", "/");
    assert_eq!((reply.status, reply.text().as_str()), (200, "Hello, World!\n"));
    assert_eq!(record.end(), "ok/");
}

#[test]
fn a_handler_in_javascript_serves_many_requests_with_one_instance() {
    let reuse = Upload::default().with("sluice", json!({ "instance_reuse": true }));
    let Some(node) = javascript("hello-js-handler", reuse) else { return };
    for n in 0..3 {
        let (reply, record) = ask(&node, "hello-js-handler", &format!("/{n}"));
        assert_eq!((reply.status, reply.text().as_str()), (200, "Hello, World!\n"));
        assert_eq!((record.end().as_str(), record.number("reused")), ("ok/", f64::from(n)));
    }
}

#[test]
fn version_teller_tells_what_its_version_is_bound_to() {
    let node = Node::start();
    let bindings = json!([
        { "type": "plain_text", "name": "GREETING", "text": "Salut" },
        { "type": "version_metadata", "name": "CF_VERSION_METADATA" },
    ]);
    let version =
        node.deploy_module("version-teller", &example("version-teller"), Upload::bindings(bindings).tagged("v7"));
    assert_eq!(node.get("version-teller", "/").text(), format!("Salut from version v7 {}\n", version.id));
    let metadata: Value = serde_json::from_str(&node.get("version-teller", "/metadata").text()).unwrap();
    assert_eq!((metadata["id"].as_str(), metadata["tag"].as_str()), (Some(version.id.as_str()), Some("v7")));
    assert_eq!(node.get("version-teller", "/config/GREETING").text(), "Salut");
    assert_eq!(node.get("version-teller", "/config/NOTHING").status, 404);
}

#[test]
fn echo_stream_sends_the_body_back() {
    let node = Node::logging(&[]);
    node.deploy_module("echo-stream", &example("echo-stream"), Upload::default());
    let body: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    for path in ["/", "/copy"] {
        let reply = node.request("POST", "echo-stream", path, &[("content-type", "x/y")], &body);
        assert_eq!((reply.status, reply.header("content-type")), (200, Some("x/y")));
        assert!(reply.whole && reply.body == body, "{path}: {} bytes came back", reply.body.len());
        assert_eq!(node.record_of("echo-stream", path).end(), "ok/");
    }
}

#[test]
fn fan_out_calls_the_workers_that_it_is_bound_to() {
    let node = Node::logging(&[]);
    node.deploy_module("hello", &example("hello"), Upload::default());
    node.deploy_module("version-teller", &example("version-teller"), Upload::var("GREETING", "Salut"));
    let bindings = json!([
        { "type": "plain_text", "name": "TARGETS", "text": "A,B" },
        { "type": "service", "name": "A", "service": "hello" },
        { "type": "service", "name": "B", "service": "version-teller" },
    ]);
    node.deploy_module("fan-out", &example("fan-out"), Upload::bindings(bindings));
    let (reply, record) = ask(&node, "fan-out", "/");
    assert!(reply.text().starts_with("A: 200 Hello, World!\nB: 200 Salut from version"), "{}", reply.text());
    assert_eq!(record.number("subrequests"), 2.0);
    // The calls have records of their own, one floor down.
    assert_eq!(node.record_of("hello", "/").number("depth"), 1.0);

    let (reply, record) = ask(&node, "fan-out", "/via-http/A");
    assert_eq!(reply.text(), "A: 200 Hello, World!\n");
    assert_eq!(record.number("subrequests"), 1.0);
}

#[test]
fn a_trap_is_error_1101_and_the_guests_fault() {
    let node = Node::logging(&[]);
    for (guest, cause) in [
        ("trap", "the guest trapped: wasm trap: wasm `unreachable` instruction executed"),
        ("trap-async", "the guest trapped: wasm trap: wasm `unreachable` instruction executed"),
        ("recurse", "the guest trapped: wasm trap: call stack exhausted"),
        ("silent", "the guest ended without a response"),
        ("silent-drop-async", "the guest"),
        ("big-headers", "the guest trapped: total size of fields exceeds limit"),
    ] {
        let (reply, record) = ask_failing(&node, guest, Upload::default());
        assert_eq!(reply.status, 500, "{guest}: {}", reply.text());
        assert!(reply.text().starts_with(&format!("error 1101: {cause}")), "{guest}: {}", reply.text());
        assert_eq!(record.end(), "exception/guest", "{guest}");
        // The next request meets a guest that is as good as new.
        assert_eq!(node.get(guest, "/again").status, 500);
    }
}

#[test]
fn a_guest_that_computes_for_ever_is_error_1102() {
    let node = Node::logging(&[]);
    for guest in ["spin", "spin-async"] {
        let (reply, record) = ask_failing(&node, guest, cpu_limit(50));
        assert_eq!(reply.status, 503);
        let cause = "error 1102: the guest used more than 50 ms of CPU time (`limits.cpu_ms`)";
        assert!(reply.text().starts_with(cause), "{}", reply.text());
        assert_eq!(record.end(), "exceededCpu/guest");
        // Some milliseconds late at most, on a machine that has time for it.
        assert!((50.0..500.0).contains(&record.number("cpu_ms")), "{record:?}");
    }
}

#[test]
fn a_guest_that_takes_memory_without_end_is_error_1102() {
    let node = Node::logging(&["--guest-memory", "32MiB"]);
    let (reply, record) = ask_failing(&node, "hog", Upload::default());
    assert_eq!(reply.status, 503);
    assert!(reply.text().starts_with("error 1102: the guest used more than 32 MiB of memory"), "{}", reply.text());
    assert_eq!(record.end(), "exceededMemory/guest");
    let mib = record.number("memory_bytes") / 1024.0 / 1024.0;
    assert!((16.0..=32.0).contains(&mib), "{mib} MiB");
}

/// What holds a guest to its memory is no affair of the guest's, nor of who asks.
#[test]
fn without_guard_pages_a_guest_that_fails_is_told_the_same() {
    let node = Node::logging(&["--guard-pages", "never", "--guest-memory", "32MiB"]);
    let failing = [
        ("trap", 500, "error 1101: the guest trapped: wasm trap: wasm `unreachable` instruction executed"),
        ("recurse", 500, "error 1101: the guest trapped: wasm trap: call stack exhausted"),
        ("hog", 503, "error 1102: the guest used more than 32 MiB of memory"),
        ("spin", 503, "error 1102: the guest used more than 50 ms of CPU time"),
    ];
    for (guest, status, text) in failing {
        // Only for the one that spins: half of 50 ms is what the hog needs for its memory, and all of it on a busy machine.
        let upload = if guest == "spin" { cpu_limit(50) } else { Upload::default() };
        let version = node.deploy_module(guest, &test_guest(guest), upload);
        node.get(guest, "/");
        until("code without guard pages", || {
            let told = |line: &str| line.contains("do without guard pages") && line.contains(&version.id);
            node.log().lines().any(told).then_some(())
        });
        for _ in 0..2 {
            let reply = node.get(guest, "/");
            assert!(reply.status == status && reply.text().starts_with(text), "{guest}: {}", reply.text());
        }
    }
    // And one that does well: with what it writes in its memory, a fresh one each time.
    node.deploy_module("echo-p2", &test_guest("echo-p2"), Upload::default());
    node.get("echo-p2", "/");
    until("code without guard pages", || {
        (node.log().matches("do without guard pages").count() == failing.len() + 1).then_some(())
    });
    let body = vec![b'x'; 3_000_000];
    let reply = node.request("POST", "echo-p2", "/", &[], &body);
    assert!(reply.status == 200 && reply.body == body, "{} bytes came back", reply.body.len());
}

/// The guest traps after its answer is complete. Whether that had left by then is up to the scheduler: if not, half of an
/// answer is worse than none.
#[test]
fn a_second_answer_does_not_spoil_the_first() {
    let node = Node::logging(&[]);
    node.deploy_module("answer-twice", &test_guest("answer-twice"), Upload::default());
    for n in 0..10 {
        let (reply, record) = ask(&node, "answer-twice", &format!("/{n}"));
        if reply.status == 200 {
            assert_eq!((reply.text().as_str(), reply.whole), ("first\n", true));
        } else {
            assert!(reply.status == 500 && reply.text().starts_with("error 1101: the guest trapped"), "{reply:?}");
            assert_eq!(record.end(), "exception/guest");
        }
    }
}

#[test]
fn half_of_a_body_is_never_taken_for_all_of_it() {
    let node = Node::logging(&[]);
    // This one traps before anything could leave, and half of an answer is worse than none.
    let (reply, record) = ask_failing(&node, "drop-body", Upload::default());
    assert!(reply.status == 500 && reply.text().starts_with("error 1101: the guest trapped"), "{}", reply.text());
    assert_eq!(record.end(), "exception/guest");

    node.deploy_module("drop-body-quietly", &test_guest("drop-body-quietly"), Upload::default());
    let (reply, record) = ask(&node, "drop-body-quietly", "/");
    assert_eq!((reply.status, reply.text().as_str(), reply.whole), (200, "0123456789", false));
    assert_eq!(record.end(), "responseStreamDisconnected/guest");
    assert!(record.text("error").starts_with("the response's body broke off"), "{record:?}");
}

#[test]
fn a_guest_cannot_send_more_than_it_promised() {
    let node = Node::logging(&[]);
    node.deploy_module("lie-about-length", &test_guest("lie-about-length"), Upload::default());
    let (reply, record) = ask(&node, "lie-about-length", "/");
    assert_eq!((reply.status, reply.text().as_str(), reply.whole), (200, "xxxxx", true));
    assert_eq!(record.end(), "exception/guest");
    assert_eq!(record.text("error"), "the guest sent more of a body than the response's head promises");
}

#[test]
fn what_a_guest_prints_is_in_the_record_of_its_request() {
    let node = Node::logging(&[]);
    node.deploy_module("log-lines", &test_guest("log-lines"), Upload::default());
    let (reply, record) = ask(&node, "log-lines", "/");
    assert_eq!((reply.status, reply.text().as_str()), (200, "ok\n"));
    // Pieces are joined up to their line ends.
    assert_eq!(record.lines(), ["stdout: out 1", "stdout: out 2", "stderr: err 1"]);
}

#[test]
fn a_guest_of_preview_1_has_its_output_and_its_environment() {
    let node = Node::logging(&[]);
    node.deploy_module("preview1", &test_guest("preview1"), Upload::var("GREETING", "Servus"));
    let (reply, record) = ask(&node, "preview1", "/x?y");
    assert_eq!((reply.status, reply.text().as_str()), (200, "Servus\n"));
    assert_eq!(record.lines(), ["stdout: preview1 was asked for /x?y"]);
}

#[test]
fn a_flood_of_output_is_cut_at_a_mebibyte_and_said_to_be() {
    let node = Node::logging(&[]);
    node.deploy_module("flood-log", &test_guest("flood-log"), Upload::default());
    let (reply, record) = ask(&node, "flood-log", "/");
    assert_eq!((reply.status, reply.text().as_str()), (200, "flooded\n"));
    assert_eq!(record.0["lines_truncated"], true);
    let bytes: usize = record.lines().iter().map(|line| line.len() - "stdout: ".len()).sum();
    assert!((1_000_000..=1024 * 1024).contains(&bytes), "{bytes}");
}

#[test]
fn what_cannot_run_is_refused_at_upload_with_the_reason() {
    let node = Node::with(&["--guest-memory", "32MiB"]);
    for (guest, parts) in [
        ("spin-at-start", ["more than 1000 ms of CPU time while starting", ""]),
        ("hog-at-start", ["more than 32 MiB of memory while starting", ""]),
        ("trap-at-start", ["trapped while starting", "unreachable"]),
        ("missing-imports", ["acme:db/queries@1.0.0", "acme:cache/lru@0.1.0"]),
        ("no-handler", ["no HTTP handler", "wasi:http/incoming-handler@0.2"]),
    ] {
        let reply = node.upload("PUT", &format!("/scripts/{guest}"), &test_guest(guest), Upload::default());
        assert_eq!(reply["success"], false, "{guest}: {reply:#}");
        assert_eq!(reply["errors"][0]["code"], 10021, "{guest}: {reply:#}");
        let message = reply["errors"][0]["message"].as_str().unwrap();
        assert!(parts.iter().all(|part| message.contains(part)), "{guest}: {message}");
        assert!(message.lines().count() == 1, "{guest}: {message}");
        // Nothing of it was stored (V2).
        assert_eq!(node.get(guest, "/").status, 404);
        assert_eq!(node.api_error("GET", &format!("/scripts/{guest}/versions"), &Value::Null).0, 10007);
    }
}

#[test]
fn a_guest_reads_the_request_as_it_was_sent() {
    let node = Node::logging(&[]);
    node.deploy_module("echo-p2", &test_guest("echo-p2"), Upload::default());
    for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PURGE"] {
        let body: &[u8] = if method == "GET" { b"" } else { b"some bytes" };
        let reply = node.request(method, "echo-p2", "/a%20b/../c?d=e&f", &[("x-one", "1")], body);
        assert_eq!((reply.status, reply.body.as_slice()), (200, body), "{method}");
        assert_eq!((reply.header("x-method"), reply.header("x-path")), (Some(method), Some("/a%20b/../c?d=e&f")));
    }
}

#[test]
fn bulk_sends_as_many_bytes_as_it_is_asked_for() {
    let node = Node::logging(&[]);
    node.deploy_module("bulk", &test_guest("bulk"), Upload::default());
    let (reply, record) = ask(&node, "bulk", "/?bytes=3000000");
    assert!(reply.whole && reply.body.len() == 3_000_000 && reply.body.iter().all(|byte| *byte == b'x'));
    assert_eq!(record.end(), "ok/");
}
