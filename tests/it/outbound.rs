//! Where guests can reach: the policy of `--outbound`, and the control listener, which is closed to them whatever it says.

use std::net::TcpListener;

use serde_json::json;

use crate::harness::http::Reply;
use crate::harness::{Node, Peer, Upload, example, now, test_guest};

/// A node with the guest that fetches what it is told to.
fn node(policy: &str) -> Node {
    let node = Node::logging(&["--outbound", policy]);
    node.deploy_module("outbound", &test_guest("outbound"), Upload::default());
    node
}

fn fetch(node: &Node, url: &str) -> Reply {
    node.request("GET", "outbound", "/", &[("x-url", url)], b"")
}

/// That the guest got `error` instead of a response.
fn assert_refused(node: &Node, url: &str, error: &str) {
    let reply = fetch(node, url);
    assert!(reply.status == 502 && reply.text().contains(error), "{url}: {} {}", reply.status, reply.text());
}

const PROHIBITED: &str = "DestinationIpProhibited";

#[test]
fn any_reaches_private_addresses_by_number_and_by_name() {
    let (node, peer) = (node("any"), Peer::answering("from the peer"));
    let port = peer.address.port();
    for host in ["127.0.0.1", "localhost", "LOCALHOST", "some.name.localhost", "[::ffff:127.0.0.1]"] {
        let reply = fetch(&node, &format!("http://{host}:{port}/path?query"));
        assert_eq!((reply.status, reply.text().as_str()), (200, "from the peer"), "{host}");
    }
    let heads = peer.heads();
    assert!(heads.iter().all(|head| head.starts_with("GET /path?query HTTP/1.1\r\n")), "{heads:?}");
    assert!(heads[0].contains(&format!("host: 127.0.0.1:{port}\r\n")), "{heads:?}");
    assert_eq!(node.record_of("outbound", "/").number("subrequests"), 1.0);
}

#[test]
fn public_refuses_private_addresses_by_number_and_by_name() {
    let (node, peer) = (node("public"), Peer::answering("unseen"));
    let port = peer.address.port();
    for host in ["127.0.0.1", "localhost", "w.localhost", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]", "10.0.0.1"] {
        assert_refused(&node, &format!("http://{host}:{port}/"), PROHIBITED);
    }
    for address in ["169.254.169.254", "192.168.1.1", "172.16.0.1", "100.64.0.1", "[fe80::1]", "[fd00::1]"] {
        assert_refused(&node, &format!("http://{address}/latest/meta-data"), PROHIBITED);
    }
    assert!(peer.heads().is_empty());
}

#[test]
fn none_refuses_all_but_other_workers() {
    let (node, peer) = (node("none"), Peer::answering("unseen"));
    assert_refused(&node, &peer.origin(), PROHIBITED);
    assert_refused(&node, "http://1.1.1.1/", PROHIBITED);
    node.deploy_module("hello", &example("hello"), Upload::default());
    let binding = Upload::bindings(json!([{ "type": "service", "name": "GREETER", "service": "hello" }]));
    node.deploy_module("outbound", &test_guest("outbound"), binding);
    let reply = fetch(&node, "http://greeter.internal/");
    assert_eq!((reply.status, reply.text().as_str()), (200, "Hello, World!\n"));
    // What is not bound is not there, whether a worker of that name exists or not.
    assert_refused(&node, "http://hello.internal/", "DestinationNotFound");
}

#[test]
fn a_list_reaches_what_is_on_it() {
    let peer = Peer::answering("listed");
    let port = peer.address.port();
    let by_number = node("127.0.0.0/8,10.0.0.0/8");
    for host in ["127.0.0.1", "localhost"] {
        assert_eq!(fetch(&by_number, &format!("http://{host}:{port}/")).text(), "listed");
    }
    assert_refused(&by_number, "http://192.168.0.1/", PROHIBITED);
    // A name on the list stands for that name, not for the address behind it.
    let by_name = node("peer.localhost");
    assert_eq!(fetch(&by_name, &format!("http://peer.localhost:{port}/")).text(), "listed");
    assert_refused(&by_name, &format!("http://other.localhost:{port}/"), PROHIBITED);
    assert_refused(&by_name, &format!("http://127.0.0.1:{port}/"), PROHIBITED);
}

#[test]
fn a_policy_that_is_none_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let (code, text) = crate::harness::node::refused_to_start(folder.path(), &["--outbound", "privat, http://x"]);
    assert_eq!(code, Some(2));
    assert!(text.contains("`http://x` is no outbound rule"), "{text}");
}

#[test]
fn the_control_listener_is_never_reached() {
    for policy in ["any", "127.0.0.1", "localhost,127.0.0.0/8"] {
        let node = node(policy);
        let port = node.control.port();
        for host in ["127.0.0.1", "localhost", "api.localhost", "[::ffff:127.0.0.1]", "0.0.0.0", "127.0.0.2"] {
            let reply = fetch(&node, &format!("http://{host}:{port}/metrics"));
            assert!(reply.status == 502 && !reply.text().contains("sluice_"), "{policy} {host}: {}", reply.text());
        }
    }
}

#[test]
fn what_fails_on_the_way_is_told_by_its_name() {
    let node = node("any");
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert_refused(&node, &format!("http://{closed}/"), "ConnectionRefused");
    assert_refused(&node, "http://no-such-host.invalid/", "DnsError");
    // Something that is no HTTP, something that says nothing, and something that speaks no TLS.
    assert_refused(&node, &Peer::sending(b"220 smtp ready\r\n").origin(), "HttpProtocolError");
    assert_refused(&node, &Peer::sending(b"").origin(), "Error");
    assert_refused(&node, &Peer::answering("plain").origin().replace("http:", "https:"), "Tls");
    // A request that failed is no fault of the guest that asked.
    assert_eq!(node.record_of("outbound", "/").end(), "ok/");
}

#[test]
fn a_body_that_breaks_off_on_the_way_is_not_taken_for_all_of_it() {
    let node = node("any");
    let peer = Peer::sending(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf");
    let reply = fetch(&node, &peer.origin());
    assert_eq!((reply.status, reply.text().as_str()), (200, "half"));
}

#[test]
fn a_redirect_is_the_guests_to_follow() {
    let node = node("any");
    let peer = Peer::sending(b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(fetch(&node, &peer.origin()).status, 302);
    assert_eq!(peer.heads().len(), 1);
}

/// E17: whoever asks for a version here does not ask for one elsewhere.
#[test]
fn version_headers_do_not_leave_by_themselves() {
    let (node, peer) = (node("any"), Peer::answering("ok"));
    let headers = [
        ("x-url", peer.origin()),
        ("cloudflare-workers-version-key", "user-42".to_owned()),
        ("cloudflare-workers-version-overrides", "outbound=\"00000000-0000-0000-0000-000000000000\"".to_owned()),
    ];
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(node.request("GET", "outbound", "/", &headers, b"").status, 200);
    assert!(!peer.heads()[0].to_lowercase().contains("cloudflare"), "{:?}", peer.heads());
}

#[test]
fn a_guest_may_call_another_worker_by_its_host() {
    let node = node("any");
    node.deploy_module("hello", &example("hello"), Upload::default());
    let reply = fetch(&node, &format!("http://hello.localhost:{}/", node.data.port()));
    assert_eq!((reply.status, reply.text().as_str()), (200, "Hello, World!\n"));
}

#[test]
fn workers_that_call_each_other_in_a_circle_end_in_an_error() {
    let node = Node::logging(&[]);
    let fan_out = |to: &str| {
        Upload::bindings(json!([
            { "type": "plain_text", "name": "TARGETS", "text": "NEXT" },
            { "type": "service", "name": "NEXT", "service": to },
        ]))
    };
    // Each needs the other to be there: the first is uploaded again.
    node.deploy_module("hello", &example("hello"), Upload::default());
    node.deploy_module("a", &example("fan-out"), fan_out("hello"));
    node.deploy_module("b", &example("fan-out"), fan_out("a"));
    node.deploy_module("a", &example("fan-out"), fan_out("b"));
    let began = now();
    let reply = node.get("a", "/");
    assert_eq!(reply.status, 200);
    assert!(reply.text().contains("LoopDetected"), "{}", reply.text());
    assert!(began.elapsed().as_secs() < 10);
    assert!(node.record("the deepest call", |record| record.number("depth") >= 15.0).number("depth") <= 16.0);
}
