//! Bodies and connections: what is sent when, in both directions, over HTTP/1.1.

use crate::harness::{Connection, Node, Upload, example, now, test_guest};

/// A node with one worker, named `w`.
fn node_with(module: &std::path::Path) -> Node {
    let node = Node::logging(&[]);
    node.deploy_module("w", module, Upload::default());
    node
}

const POST_CHUNKED: &str = "POST / HTTP/1.1\r\nhost: w.localhost\r\ntransfer-encoding: chunked\r\n";

#[test]
fn a_response_arrives_while_the_guest_still_writes_it() {
    let node = node_with(&test_guest("slow-stream"));
    let mut connection = Connection::open(node.data);
    assert_eq!(connection.get("w", "/?chunks=5").head().status, 200);
    assert_eq!(connection.chunk().unwrap(), b"chunk 000\n");
    // The request has not ended: it has no record yet.
    assert!(node.records().is_empty());
    let rest: Vec<Vec<u8>> = std::iter::from_fn(|| connection.chunk()).collect();
    assert_eq!(rest.concat(), b"chunk 001\nchunk 002\nchunk 003\nchunk 004\n");
}

#[test]
fn a_response_arrives_though_the_guest_leaves_the_request_unread() {
    let node = node_with(&test_guest("slow-stream"));
    let mut connection = Connection::open(node.data);
    connection.send("POST /?chunks=30 HTTP/1.1\r\nhost: w.localhost\r\ncontent-length: 5\r\n\r\nhello");
    assert_eq!(connection.head().status, 200);
    assert_eq!(connection.chunk().unwrap(), b"chunk 000\n");
    assert!(node.records().is_empty(), "all of the response came at once");
}

/// hyper's `pipeline_flush` held back what was written for as long as there was something left to read.
#[test]
fn a_response_arrives_though_the_next_request_waits_behind_it() {
    let node = node_with(&test_guest("slow-stream"));
    let mut connection = Connection::open(node.data);
    let request = "GET /?chunks=20 HTTP/1.1\r\nhost: w.localhost\r\n\r\n";
    connection.send(request.repeat(2));
    assert_eq!(connection.head().status, 200);
    assert_eq!(connection.chunk().unwrap(), b"chunk 000\n");
    assert!(node.records().is_empty(), "all of the response came at once");
}

#[test]
fn a_request_is_echoed_while_the_client_still_sends_it() {
    let echo_p2 = test_guest("echo-p2");
    for (module, path) in [(example("echo-stream"), "/"), (example("echo-stream"), "/copy"), (echo_p2, "/")] {
        let node = node_with(&module);
        let mut connection = Connection::open(node.data);
        connection.send(POST_CHUNKED.replace("POST /", &format!("POST {path}"))).send("\r\n");
        connection.send_chunk(b"one");
        assert_eq!(connection.head().status, 200);
        assert_eq!(connection.chunk().unwrap(), b"one");
        connection.send_chunk(b"two");
        assert_eq!(connection.chunk().unwrap(), b"two");
        connection.send("0\r\n\r\n");
        assert_eq!(connection.chunk(), None);
        assert_eq!(node.record_of("w", path).end(), "ok/");
    }
}

#[test]
fn trailers_pass_both_ways() {
    for module in [example("echo-stream"), test_guest("echo-p2")] {
        let node = node_with(&module);
        let mut connection = Connection::open(node.data);
        connection.send(POST_CHUNKED).send("te: trailers\r\ntrailer: x-sum\r\n\r\n");
        // HTTP/1.1 sends only trailers that the head announces, which these guests hand on.
        connection.send_chunk(b"body").send("0\r\nx-sum: 42\r\n\r\n");
        let head = connection.head();
        assert_eq!(head.status, 200);
        assert_eq!(connection.chunk().unwrap(), b"body");
        assert_eq!(connection.chunk(), None);
        assert_eq!(connection.trailers, ["x-sum: 42"], "{module:?} {head:?}");
    }
}

#[test]
fn a_hundred_megabytes_pass_without_staying() {
    const MIB: usize = 1024 * 1024;
    let node = node_with(&example("echo-stream"));
    // What the first megabytes cost is the price of a connection and an instance.
    for (path, mib) in [("/", 4), ("/copy", 4), ("/", 100), ("/copy", 50)] {
        let before = node.memory_mib("VmHWM");
        let mut receiving = Connection::open(node.data);
        receiving.send(POST_CHUNKED.replace("POST /", &format!("POST {path}"))).send("\r\n");
        let mut sending = receiving.other_half();
        let sender = std::thread::spawn(move || {
            let chunk = vec![b'x'; MIB];
            for _ in 0..mib {
                sending.send_chunk(&chunk);
            }
            sending.send("0\r\n\r\n");
        });
        assert_eq!(receiving.head().status, 200);
        let received: usize = std::iter::from_fn(|| receiving.chunk()).map(|chunk| chunk.len()).sum();
        sender.join().unwrap();
        assert_eq!(received, mib * MIB);
        let grown = node.memory_mib("VmHWM") - before;
        assert!(mib < 10 || grown < 20, "{path}: {mib} MiB made the node {grown} MiB larger");
    }
}

/// hyper's `pipeline_flush` also lifts the bound on what waits to be written.
#[test]
fn a_client_that_reads_slowly_makes_the_guest_wait() {
    let node = node_with(&test_guest("bulk"));
    assert_eq!(node.get("w", "/?bytes=1000").body.len(), 1000);
    let before = node.memory_mib("VmRSS");
    let mut connection = Connection::open(node.data);
    assert_eq!(connection.get("w", "/?bytes=300000000").head().status, 200);
    // The guest would be done with it in a second.
    node.until_quiet();
    let grown = node.memory_mib("VmRSS").saturating_sub(before);
    assert!(grown < 20, "the node keeps {grown} MiB for a client that does not read");
    assert!(node.records().iter().all(|record| !record.text("path").contains("300000000")));
    drop(connection);
    let record = node.record_of("w", "/?bytes=300000000");
    assert_eq!(record.end(), "responseStreamDisconnected/caller");
}

#[test]
fn head_is_answered_without_a_body_and_is_no_disconnect() {
    for name in ["hello", "hello-async"] {
        let node = node_with(&example(name));
        let mut connection = Connection::open(node.data);
        connection.send("HEAD / HTTP/1.1\r\nhost: w.localhost\r\n\r\n");
        let head = connection.head();
        assert_eq!((head.status, head.header("content-length")), (200, Some("14")));
        // The connection goes on after it, and nothing of a body lies in between.
        assert_eq!(connection.get("w", "/next").reply().text(), "Hello, World!\n");
        let record = node.record_of("w", "/");
        assert_eq!((record.text("method"), record.end().as_str()), ("HEAD", "ok/"));
    }
}

#[test]
fn a_client_that_expects_100_is_told_to_go_on_once_the_guest_wants_the_body() {
    let node = node_with(&test_guest("echo-p2"));
    node.deploy_module("hello", &example("hello"), Upload::default());
    let expecting = |worker: &str, path: &str| {
        let mut connection = Connection::open(node.data);
        connection.send(format!("POST {path} HTTP/1.1\r\nhost: {worker}.localhost\r\n"));
        connection.send("expect: 100-continue\r\ncontent-length: 4\r\n\r\n");
        connection
    };
    let mut patient = expecting("w", "/?whole=1");
    assert_eq!(patient.head().status, 100);
    patient.send("body");
    assert_eq!(patient.head().status, 200);
    assert_eq!(patient.chunk().unwrap(), b"body");
    // A guest that never asks for the body never makes its client send it.
    assert_eq!(expecting("hello", "/").head().status, 200);
}

#[test]
fn a_connection_serves_many_requests_also_such_as_are_sent_ahead() {
    let node = node_with(&example("hello"));
    node.deploy_module("echo", &test_guest("echo-p2"), Upload::default());
    let mut connection = Connection::open(node.data);
    for _ in 0..5 {
        assert_eq!(connection.get("w", "/").reply().text(), "Hello, World!\n");
    }
    for n in 0..20 {
        connection.get("echo", &format!("/{n}"));
    }
    for n in 0..20 {
        assert_eq!(connection.reply().header("x-path"), Some(format!("/{n}").as_str()));
    }
    // HTTP/1.0 has no connections that last.
    let mut old = Connection::open(node.data);
    old.send("GET / HTTP/1.0\r\nhost: w.localhost\r\n\r\n");
    assert!(String::from_utf8_lossy(&old.rest()).ends_with("Hello, World!\n"));
    assert_eq!(node.metric("sluice_connections_total "), Some(2.0));
}

#[test]
fn a_client_that_goes_away_before_the_response_frees_the_instance() {
    // The one instance there is has to come back, or the second request would wait in vain.
    let node = Node::logging(&["--instance-slots", "1"]);
    for guest in ["hang", "hang-async"] {
        node.deploy_module(guest, &test_guest(guest), Upload::default());
        let mut connection = Connection::open(node.data);
        connection.get(guest, "/gone");
        node.until_quiet();
        drop(connection);
        let record = node.record_of(guest, "/gone");
        assert_eq!((record.end().as_str(), &record.0["status"]), ("canceled/caller", &serde_json::Value::Null));
    }
    let began = now();
    for (name, worker) in [("hello", "a"), ("hello-async", "b")] {
        node.deploy_module(worker, &example(name), Upload::default());
        assert_eq!(node.get(worker, "/").status, 200);
    }
    assert!(began.elapsed().as_secs() < 10, "the instances came back after {:?}", began.elapsed());
}

#[test]
fn a_client_that_goes_away_during_the_response_ends_it() {
    let node = Node::logging(&["--instance-slots", "1"]);
    node.deploy_module("w", &test_guest("slow-stream"), Upload::default());
    let mut connection = Connection::open(node.data);
    assert_eq!(connection.get("w", "/?chunks=100000").head().status, 200);
    assert!(connection.chunk().is_some());
    drop(connection);
    let record = node.record_of("w", "/?chunks=100000");
    assert_eq!((record.end().as_str(), record.number("status")), ("responseStreamDisconnected/caller", 200.0));
    assert!(node.get("w", "/?chunks=1").whole);
}

#[test]
fn a_request_body_that_breaks_off_ends_the_request() {
    let node = node_with(&test_guest("echo-p2"));
    let mut connection = Connection::open(node.data);
    connection.send(POST_CHUNKED).send("\r\n").send_chunk(b"half");
    assert_eq!(connection.head().status, 200);
    assert_eq!(connection.chunk().unwrap(), b"half");
    drop(connection);
    // The guest is told, and may end as it likes.
    assert_eq!(node.record_of("w", "/").number("status"), 200.0);
}

#[test]
fn what_is_no_request_is_refused_and_the_node_goes_on() {
    let node = node_with(&test_guest("echo-p2"));
    let field = format!("x: {}\r\n", "y".repeat(1000));
    let many = (0..300).map(|n| format!("x-{n}: y\r\n")).collect::<String>();
    for (sent, status) in [
        ("GET / HTTP/7\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\nhost: a b\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\nhost w.localhost\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\nhost: w.localhost\r\ncontent-length: x\r\n\r\n".to_owned(), 400),
        ("POST / HTTP/1.1\r\nhost: w.localhost\r\ntransfer-encoding: gzip\r\n\r\n".to_owned(), 400),
        (format!("GET / HTTP/1.1\r\nhost: w.localhost\r\n{}\r\n", field.repeat(200)), 431),
        (format!("GET / HTTP/1.1\r\nhost: w.localhost\r\n{many}\r\n"), 431),
        (format!("GET /{} HTTP/1.1\r\nhost: w.localhost\r\n\r\n", "p".repeat(100_000)), 414),
    ] {
        let mut connection = Connection::open(node.data);
        let reply = connection.send(&sent).head();
        let shown: String = sent.chars().take(60).collect();
        assert_eq!(reply.status, status, "{shown}");
    }
    // What fits is not refused.
    let fits = format!("GET / HTTP/1.1\r\nhost: w.localhost\r\n{}\r\n", field.repeat(99));
    assert_eq!(Connection::open(node.data).send(&fits).head().header("x-header-count"), Some("99"));
}

#[test]
fn a_target_with_an_authority_counts_before_the_host_header() {
    let node = node_with(&test_guest("echo-p2"));
    let mut connection = Connection::open(node.data);
    connection.send("GET http://w.localhost/there HTTP/1.1\r\nhost: elsewhere.test\r\n\r\n");
    let reply = connection.reply();
    assert_eq!((reply.status, reply.header("x-path")), (200, Some("/there")));
    // The server's own: a request for no worker is answered by no worker.
    assert_eq!(connection.send("OPTIONS * HTTP/1.1\r\nhost: w.localhost\r\n\r\n").reply().status, 200);
    assert_eq!(connection.get("nobody", "/").reply().status, 404);
}
