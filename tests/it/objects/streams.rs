//! Bodies through objects: chunk by chunk, through both gates, and broken off where the object ends.

use std::time::Duration;

use crate::harness::{Connection, now, test_guest, until};
use crate::objects::{Ledger, again, at_once};

fn noise(bytes: usize) -> Vec<u8> {
    (0..u32::try_from(bytes).unwrap()).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// A connection on which the object is streaming: its first line has come.
fn streaming(ledger: &Ledger, path: &str) -> Connection {
    let mut connection = Connection::open(ledger.node.data);
    let head = connection.get("w", path).head();
    assert_eq!(head.status, 200, "{head:?}");
    assert_eq!(connection.chunk().as_deref(), Some(&b"0\n"[..]));
    connection
}

#[test]
fn chunks_flow_while_the_response_is_open() {
    let ledger = Ledger::start();
    ledger.tell("/a/count");
    let began = now();
    let mut connection = streaming(&ledger, "/a/stream?n=3&ms=400");
    assert!(began.elapsed() < Duration::from_millis(400), "{:?}", began.elapsed());
    // Others are served meanwhile.
    assert_eq!(ledger.tell("/a/count"), "3");
    assert!(began.elapsed() < Duration::from_millis(400), "{:?}", began.elapsed());
    assert_eq!(connection.chunk().as_deref(), Some(&b"1\n"[..]));
    assert_eq!(connection.chunk().as_deref(), Some(&b"2\n"[..]));
    assert!(connection.chunk().is_none());
    assert!(began.elapsed() >= Duration::from_millis(800));
}

#[test]
fn what_was_written_before_a_chunk_is_durable_when_the_chunk_comes() {
    let ledger = Ledger::start();
    let mut connection = streaming(&ledger, "/a/stream?n=1000&ms=1&k=said");
    let mut last = 0;
    for _ in 0..20 {
        let chunk = connection.chunk().expect("more");
        last = String::from_utf8(chunk).unwrap().lines().last().unwrap().parse::<u64>().unwrap();
    }
    let ledger = ledger.kill_and_restart();
    let written: u64 = ledger.value("a", "said").expect("it was written").parse().unwrap();
    assert!(written >= last, "{written} {last}");
}

#[test]
fn eight_mib_go_through_an_object_and_back() {
    let ledger = Ledger::start();
    let body = noise(8 << 20);
    for op in ["echo", "pass"] {
        let reply = ledger.node.request("POST", "w", &format!("/a/{op}"), &[], &body);
        assert!(reply.status == 200 && reply.whole && reply.body == body, "{op}: {} bytes", reply.body.len());
    }
    // Several at once, in one object.
    let replies = at_once(4, |_| ledger.node.request("POST", "w", "/a/echo", &[], &body[..1 << 20]));
    assert!(replies.iter().all(|reply| reply.whole && reply.body == body[..1 << 20]));
}

#[test]
fn both_directions_are_open_at_once() {
    let ledger = Ledger::start();
    for op in ["echo", "pass"] {
        let mut connection = Connection::open(ledger.node.data);
        let head = format!("POST /a/{op} HTTP/1.1\r\nhost: w.localhost\r\ntransfer-encoding: chunked\r\n\r\n");
        connection.send(head);
        connection.send_chunk(b"one");
        assert_eq!(connection.head().status, 200, "{op}");
        assert_eq!(connection.chunk().as_deref(), Some(&b"one"[..]), "{op}");
        for _ in 0..10 {
            connection.send_chunk(b"more");
            assert_eq!(connection.chunk().as_deref(), Some(&b"more"[..]), "{op}");
            // The gate is not left shut by a chunk that the guest never sees.
            ledger.tell("/a/add");
        }
        connection.send("0\r\n\r\n");
        assert!(connection.chunk().is_none(), "{op}");
    }
}

#[test]
fn an_upload_arrives_whole() {
    let ledger = Ledger::start();
    let body = noise(3 << 20);
    let reply = ledger.node.request("POST", "w", "/a/upload", &[], &body);
    assert!(reply.text().starts_with(&format!("{} bytes in ", body.len())), "{reply:?}");
    let stored = noise(300_000).into_iter().map(|byte| b'a' + byte % 26).collect::<Vec<u8>>();
    assert_eq!(ledger.node.request("POST", "w", "/a/put?k=body", &[], &stored).status, 200);
    assert_eq!(ledger.value("a", "body").map(String::into_bytes), Some(stored));
}

/// Whether what came until the connection ended says that the body is whole.
fn is_whole(rest: &[u8]) -> bool {
    rest.ends_with(b"0\r\n\r\n")
}

#[test]
fn a_stream_that_a_trap_ends_breaks_off() {
    let ledger = Ledger::start();
    for run in 0..25 {
        let object = format!("object-{}", run % 2);
        let connection = streaming(&ledger, &format!("/{object}/stream?n=1000&ms=5"));
        ledger.error(&format!("/{object}/trap"));
        let rest = connection.rest();
        assert!(!is_whole(&rest), "run {run}: the client takes half a stream for the whole");
    }
}

#[test]
fn a_stream_breaks_off_when_the_object_is_reset_deleted_or_updated() {
    let ledger = Ledger::start();
    for end in ["reset", "delete", "deploy"] {
        let connection = streaming(&ledger, "/a/stream?n=1000&ms=20");
        match end {
            "reset" => assert!(ledger.reset("a")),
            "delete" => {
                let path = "/scripts/w/objects/Ledger/a?by=name";
                ledger.node.api("DELETE", path, &serde_json::Value::Null);
            }
            _ => drop(ledger.node.deploy_module("w", &test_guest("ledger"), again())),
        }
        assert!(!is_whole(&connection.rest()), "{end}");
        assert_eq!(ledger.tell("/a/count"), "1", "{end}");
    }
}

#[test]
fn a_client_that_goes_away_leaves_the_object_as_it_is() {
    let ledger = Ledger::start();
    let connection = streaming(&ledger, "/a/stream?n=100000&ms=1");
    drop(connection);
    // The guest notices at its next chunk; the object goes on, and is not kept in memory for ever by one who has gone.
    assert_eq!(ledger.tell("/a/count"), "2");
    let ledger = Ledger::with(&["--object-idle", "50ms"], crate::objects::ledger_upload());
    drop(streaming(&ledger, "/a/stream?n=100000&ms=1"));
    until("the object leaves", || (ledger.view("a")["live"] == false).then_some(()));
}
