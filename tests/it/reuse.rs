//! Instances of 0.2 guests that serve more than one request.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{Node, Upload, test_guest};

/// A JavaScript guest whose event loop did not survive its first request returned from its second with the handle of the
/// response still in its table. The instance was kept, so nothing told the host that no answer would come, and the client waited
/// for a minute. And a guest that lets go of the handle before it ends used to make the host poll a channel once too often.
#[test]
fn a_reused_guest_that_returns_with_its_response_unset_is_answered_for_at_once() {
    let node = Node::start();
    node.deploy_module(
        "silent",
        &test_guest("silent"),
        Upload::default().with("sluice", json!({ "instance_reuse": true })),
    );
    let began = Instant::now();
    for path in ["/", "/forget", "/wait", "/"] {
        let reply = node.get("silent", path);
        assert_eq!(reply.status, 500);
        assert!(reply.text().starts_with("error 1101"), "{reply:?}");
    }
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}
