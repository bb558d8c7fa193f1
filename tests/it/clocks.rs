//! Limits that are measured in tens of seconds. They are waited for side by side, in one test, so that all of them together
//! take as long as the longest.

use std::time::Duration;

use crate::harness::{Connection, Node, Upload, example, now, test_guest};

type Claim = (&'static str, fn(&Node));

const CLAIMS: &[Claim] = &[
    ("a 0.2 guest that never answers is given 60 s", |node| never_answers(node, "hang")),
    ("a 0.3 guest that never answers is given 60 s", |node| never_answers(node, "hang-async")),
    ("a client that stops in the middle of a body is given 60 s", stalls_in_a_body),
    ("a client that stops in the middle of a head is given 15 s", |node| {
        closes_soon(node, "GET / HTTP/1.1\r\nhost: hello.local");
    }),
    // hyper's own limit begins once it knows which HTTP it is to speak.
    ("a client that sends nothing is given 15 s", |node| closes_soon(node, "")),
    ("a client that sends half of HTTP/2's preface is given 15 s", |node| closes_soon(node, "PRI * HTTP/2")),
    ("a connection that lasts but is not used is given 15 s", |node| {
        closes_soon(node, "GET / HTTP/1.1\r\nhost: hello.localhost\r\n\r\n");
    }),
];

#[test]
fn limits_of_wall_time_hold() {
    let node = Node::logging(&[]);
    for guest in ["hang", "hang-async"] {
        node.deploy_module(guest, &test_guest(guest), Upload::default());
    }
    for name in ["hello", "echo-stream"] {
        node.deploy_module(name, &example(name), Upload::default());
    }
    let broken: Vec<&str> = std::thread::scope(|scope| {
        let running: Vec<_> = CLAIMS.iter().map(|(name, claim)| (name, scope.spawn(|| claim(&node)))).collect();
        running.into_iter().filter_map(|(name, claim)| claim.join().is_err().then_some(*name)).collect()
    });
    assert!(broken.is_empty(), "{broken:#?}");
}

fn never_answers(node: &Node, worker: &str) {
    let began = now();
    let reply = node.get(worker, "/");
    assert!((59..65).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    assert_eq!(reply.status, 504);
    assert!(reply.text().starts_with("error 1102: the guest gave no response within 60 s"), "{}", reply.text());
    let record = node.record_named_by(&reply);
    assert_eq!(record.end(), "exception/guest");
    assert!(record.number("cpu_ms") < 1000.0, "{record:?}");
    // Its instance is free again, and the version goes on.
    assert_eq!(node.get("hello", "/after").status, 200);
}

fn stalls_in_a_body(node: &Node) {
    let mut connection = Connection::open(node.data);
    connection.send("POST /stalls HTTP/1.1\r\nhost: echo-stream.localhost\r\ntransfer-encoding: chunked\r\n\r\n");
    connection.send_chunk(b"half");
    assert_eq!(connection.head().status, 200);
    assert_eq!(connection.chunk().unwrap(), b"half");
    let began = now();
    // The response must not look as if it were whole.
    assert!(!connection.rest().ends_with(b"0\r\n\r\n"));
    assert!((59..65).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    assert_eq!(node.record_of("echo-stream", "/stalls").text("outcome"), "responseStreamDisconnected");
}

fn closes_soon(node: &Node, sent: &str) {
    let mut connection = Connection::open(node.data);
    connection.send(sent);
    let began = now();
    connection.rest();
    assert!(began.elapsed() > Duration::from_secs(14) && began.elapsed() < Duration::from_secs(20));
}
