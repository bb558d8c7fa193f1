//! How a node ends: what runs may end, nothing new begins, and no one waits for ever.

use std::net::TcpStream;
use std::time::Duration;

use crate::harness::{Connection, Node, Upload, example, now, test_guest, until};

fn node(drain: &str) -> Node {
    let node = Node::logging(&["--drain", drain]);
    for guest in ["slow-stream", "hang", "hang-async"] {
        node.deploy_module(guest, &test_guest(guest), Upload::default());
    }
    node.deploy_module("hello", &example("hello"), Upload::default());
    node
}

#[test]
fn a_node_without_requests_ends_at_once() {
    let mut node = node("30s");
    // Connections that only last are no requests.
    let mut idle = Connection::open(node.data);
    assert_eq!(idle.get("hello", "/").reply().status, 200);
    let silent = Connection::open(node.data);
    let began = now();
    assert_eq!(node.terminate(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(idle.rest().is_empty() && silent.rest().is_empty());
    // Where it listened is not told any more.
    assert!(!node.dir().join("addresses.json").exists());
}

#[test]
fn requests_in_flight_end_well_while_new_connections_are_refused() {
    let mut node = node("30s");
    let mut streaming = Connection::open(node.data);
    assert_eq!(streaming.get("slow-stream", "/?chunks=20").head().status, 200);
    assert!(streaming.chunk().is_some());
    node.ask_to_stop();
    let address = node.data;
    until("new connections are refused", || TcpStream::connect(address).is_err().then_some(()));
    let rest: Vec<Vec<u8>> = std::iter::from_fn(|| streaming.chunk()).collect();
    assert_eq!(rest.len(), 19);
    assert_eq!(node.wait(), Some(0));
    let record = node.records().into_iter().find(|record| record.text("worker") == "slow-stream");
    assert_eq!(record.expect("a record").end(), "ok/");
}

#[test]
fn what_hangs_is_cut_off_after_the_drain_time() {
    let mut node = node("1s");
    let mut hanging: Vec<Connection> = ["hang", "hang-async", "slow-stream"]
        .map(|guest| {
            let mut connection = Connection::open(node.data);
            connection.get(guest, "/?chunks=100000");
            connection
        })
        .into();
    // The stream has begun, and so have those before it.
    assert_eq!(hanging[2].head().status, 200);
    let began = now();
    assert_eq!(node.terminate(), Some(0));
    assert!((1..6).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    hanging.into_iter().for_each(|connection| drop(connection.rest()));
    assert!(node.log().contains("they are cut off"), "{}", node.log());
    // Each has its record all the same.
    for guest in ["hang", "hang-async", "slow-stream"] {
        assert!(node.records().iter().any(|record| record.text("worker") == guest), "no record of {guest}");
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut node = node("60s");
    let mut hanging = Connection::open(node.data);
    hanging.get("hang", "/");
    node.until_quiet();
    node.ask_to_stop();
    let address = node.data;
    until("it has begun to stop", || TcpStream::connect(address).is_err().then_some(()));
    let began = now();
    node.terminate();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

/// A client of the control API that stops in the middle of an upload would otherwise keep the node for as long as it likes.
#[test]
fn an_upload_that_stalls_does_not_keep_the_node() {
    let mut node = node("1s");
    let head = format!(
        "PUT /client/v4/accounts/local/workers/scripts/w HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\n",
        node.control, node.token
    );
    let mut upload = Connection::open(node.control);
    upload.send(head).send("content-type: multipart/form-data; boundary=x\r\ncontent-length: 1000\r\n\r\n--x\r\n");
    let mut silent = Connection::open(node.control);
    silent.send("GET /client");
    node.until_quiet();
    let began = now();
    assert_eq!(node.terminate(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}

#[test]
fn what_was_stored_is_there_after_a_stop() {
    let folder = tempfile::tempdir().unwrap();
    let mut node = Node::over(folder.path(), &[]);
    node.deploy_module("hello", &example("hello"), Upload::default());
    assert_eq!(node.terminate(), Some(0));
    // The log was moved into the database: nothing is left to recover.
    assert!(!folder.path().join("sluice.db-wal").exists());
    let node = Node::over(folder.path(), &[]);
    assert_eq!(node.get("hello", "/").status, 200);
}
