//! Whether an instance serves one request or many: by the kind of guest, unless the configuration says otherwise.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{Connection, Node, Upload, at_once, example, now, test_guest};

fn reuse(wish: &str) -> Upload {
    Upload::default().with("sluice", json!({ "instance_reuse": wish == "reuse" }))
}

/// What the guest has counted in a few requests, one after another.
fn counts(node: &Node, worker: &str) -> Vec<String> {
    (0..4).map(|_| node.get(worker, "/").text().trim().to_owned()).collect()
}

#[test]
fn guests_of_wasi_0_2_are_fresh_unless_told_otherwise() {
    let node = Node::logging(&[]);
    let guest = test_guest("reuse-counter");
    node.deploy_module("default", &guest, Upload::default());
    node.deploy_module("fresh", &guest, reuse("fresh"));
    node.deploy_module("reused", &guest, reuse("reuse"));
    assert_eq!(counts(&node, "default"), ["1", "1", "1", "1"]);
    assert_eq!(counts(&node, "fresh"), ["1", "1", "1", "1"]);
    assert_eq!(counts(&node, "reused"), ["1", "2", "3", "4"]);
    let reused = |worker: &str| -> Vec<f64> {
        let records = node.records();
        records.iter().filter(|record| record.text("worker") == worker).map(|record| record.number("reused")).collect()
    };
    node.record("the last", |record| record.text("worker") == "reused" && record.number("reused") == 3.0);
    assert_eq!(reused("reused"), [0.0, 1.0, 2.0, 3.0]);
    assert_eq!(reused("default"), [0.0; 4]);
}

#[test]
fn guests_of_wasi_0_3_are_reused_unless_told_otherwise() {
    let node = Node::logging(&[]);
    let guest = test_guest("reuse-counter-async");
    node.deploy_module("default", &guest, Upload::default());
    node.deploy_module("fresh", &guest, reuse("fresh"));
    node.deploy_module("reused", &guest, reuse("reuse"));
    assert_eq!(counts(&node, "default"), ["1", "2", "3", "4"]);
    assert_eq!(counts(&node, "reused"), ["1", "2", "3", "4"]);
    assert_eq!(counts(&node, "fresh"), ["1", "1", "1", "1"]);
    let last = node.record("the last", |record| record.text("worker") == "default" && record.number("reused") == 3.0);
    assert_eq!(last.end(), "ok/");
}

#[test]
fn one_instance_of_wasi_0_3_serves_many_requests_at_once() {
    // One place: there can be no second instance.
    let node = Node::with(&["--instance-slots", "1"]);
    let guest = test_guest("reuse-counter-async");
    node.deploy_module("many", &guest, Upload::default());
    let replies: Vec<_> = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..10).map(|_| scope.spawn(|| node.get("many", "/?wait=2000"))).collect();
        asking.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut seen: Vec<u32> = replies.iter().map(|reply| reply.text().trim().parse().unwrap()).collect();
    seen.sort_unstable();
    assert_eq!(seen, (1..=10).collect::<Vec<u32>>(), "not one instance");
    let most = replies.iter().map(|reply| reply.header("x-in-flight").unwrap().parse::<u32>().unwrap()).max();
    assert!(most > Some(5), "{most:?} at once");
}

/// A seat that is given up is taken by whoever waits, though no place for another instance is ever free.
#[test]
fn more_requests_than_an_instance_takes_at_once_wait_for_their_turn_in_it() {
    let node = Node::with(&["--instance-slots", "1"]);
    node.deploy_module("many", &test_guest("reuse-counter-async"), Upload::default());
    let replies: Vec<_> = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..60).map(|_| scope.spawn(|| node.get("many", "/?wait=300"))).collect();
        asking.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut seen: Vec<u32> = replies.iter().filter_map(|reply| reply.text().trim().parse().ok()).collect();
    seen.sort_unstable();
    assert_eq!(
        seen,
        (1..=60).collect::<Vec<u32>>(),
        "some were told to come back, or were answered by another instance"
    );
}

#[test]
fn a_fresh_instance_of_wasi_0_3_is_alone_with_its_request() {
    let node = Node::start();
    node.deploy_module("alone", &test_guest("reuse-counter-async"), reuse("fresh"));
    let replies: Vec<_> = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..10).map(|_| scope.spawn(|| node.get("alone", "/?wait=200"))).collect();
        asking.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(replies.iter().all(|reply| reply.text() == "1\n" && reply.header("x-in-flight") == Some("1")));
}

#[test]
fn an_instance_that_trapped_is_never_used_again() {
    let node = Node::start();
    node.deploy_module("async", &test_guest("trap-async"), reuse("reuse"));
    node.deploy_module("sync", &test_guest("trap"), reuse("reuse"));
    for _ in 0..5 {
        for worker in ["async", "sync"] {
            let text = node.get(worker, "/").text();
            assert!(text.contains("`unreachable` instruction executed"), "{text}");
        }
    }
}

#[test]
fn instances_of_one_version_never_serve_another() {
    let node = Node::start();
    let guest = test_guest("reuse-counter");
    let first = node.deploy_module("w", &guest, reuse("reuse"));
    // One request after the other mostly meets the same instance; on a busy machine it may not be back yet.
    let highest = || counts(&node, "w").iter().map(|text| text.parse::<u32>().unwrap()).max();
    assert!(highest() > Some(1));
    // The same bytes, another version: none of its requests is the fifth of an instance.
    node.deploy_module("w", &guest, reuse("reuse"));
    assert!(highest() <= Some(4));
    // And back: the first version's instances may have waited for it, or be gone.
    node.split("w", &[(&first, 100.0)]);
    assert!(highest() <= Some(8));
}

#[test]
fn instances_that_wait_make_room_for_those_who_need_it() {
    let node = Node::with(&["--instance-slots", "2"]);
    let guest = test_guest("reuse-counter");
    for n in 0..4 {
        node.deploy_module(&format!("w{n}"), &guest, reuse("reuse"));
    }
    for round in 0..3 {
        for n in 0..4 {
            assert_eq!(node.get(&format!("w{n}"), "/").status, 200, "round {round}");
        }
    }
}

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

/// An upload needs a place for a moment, and is no request: it waited until the instance was given up for its idleness.
#[test]
fn instances_that_wait_make_room_for_an_upload() {
    let node = Node::with(&["--instance-slots", "1"]);
    for (worker, guest) in [("sync", "reuse-counter"), ("async", "reuse-counter-async")] {
        node.deploy_module(worker, &test_guest(guest), reuse("reuse"));
        assert_eq!(node.get(worker, "/").text(), "1\n");
        let began = now();
        node.deploy_module(worker, &test_guest(guest), reuse("reuse"));
        assert!(began.elapsed().as_secs() < 10, "{worker}: {:?}", began.elapsed());
    }
}

/// What a guest has yet to do after an answer must get its turn, however many requests come: an instance that was never idle kept
/// the handles and the memory of requests that had ended, and trapped after 30,000 of them for want of more.
#[test]
fn an_instance_of_wasi_0_3_that_is_never_idle_keeps_nothing_of_what_has_ended() {
    let node = Node::logging(&["--instance-slots", "1"]);
    node.deploy_module("w", &example("hello-async"), Upload::default());
    assert_eq!(node.get("w", "/").status, 200);
    at_once(64, |_| {
        let mut connection = Connection::open(node.data);
        for _ in 0..15 {
            // Sent ahead, so that the instance always has more to do.
            for _ in 0..10 {
                connection.get("w", "/");
            }
            (0..10).for_each(|_| assert_eq!(connection.reply().status, 200));
        }
    });
    assert_eq!(node.get("w", "/").status, 200);
    let memory: Vec<f64> = node.records().iter().map(|record| record.number("memory_bytes")).collect();
    assert!(memory.len() > 9_000, "{} records", memory.len());
    let most = memory.iter().copied().fold(0.0, f64::max);
    assert!(most <= memory[0] + 1_048_576.0, "{} at first, {most} at most", memory[0]);
}
