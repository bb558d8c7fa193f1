//! What one guest may take, and what its neighbours notice of it: nothing.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::harness::{Node, Peer, Upload, example, now, test_guest, until};

fn cpu_limit(ms: u64) -> Upload {
    Upload::default().with("limits", json!({ "cpu_ms": ms }))
}

/// Runs `work` in so many threads at once.
fn in_threads<T: Send>(count: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..count)
            .map(|n| {
                scope.spawn({
                    let work = &work;
                    move || work(n)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn subrequests_are_counted_and_the_next_one_is_refused() {
    let node = Node::logging(&[]);
    let peer = Peer::answering("ok");
    let upload = Upload::var("COUNT", "8").with("limits", json!({ "subrequests": 5 }));
    node.deploy_module("w", &test_guest("flood-subrequests"), upload);
    let reply = node.request("GET", "w", "/", &[("x-url", &peer.origin())], b"");
    assert!(reply.text().starts_with("5 of 8 succeeded, first error: "), "{}", reply.text());
    assert!(reply.text().contains("subrequest limit of 5 passed (`limits.subrequests`)"), "{}", reply.text());
    assert_eq!(peer.heads().len(), 5);
    assert_eq!(node.record_of("w", "/").number("subrequests"), 5.0);
}

#[test]
fn subrequests_end_at_a_thousand_if_nothing_less_is_said() {
    let node = Node::start();
    let peer = Peer::answering("ok");
    node.deploy_module("w", &test_guest("flood-subrequests"), Upload::var("COUNT", "1010"));
    let reply = node.request("GET", "w", "/", &[("x-url", &peer.origin())], b"");
    assert!(reply.text().starts_with("1000 of 1010 succeeded, first error: "), "{}", reply.text());
}

#[test]
fn a_response_may_have_64_kib_of_headers() {
    let node = Node::logging(&[]);
    node.deploy_module("w", &test_guest("big-headers"), Upload::default());
    assert_eq!(node.get("w", "/?count=15").header("x-filler-14").map(str::len), Some(4096));
    let reply = node.get("w", "/?count=17");
    assert_eq!(reply.status, 500);
    let cause = "error 1101: the response's headers have 69";
    assert!(reply.text().starts_with(cause) && reply.text().contains("the limit is 65536"), "{}", reply.text());
    assert_eq!(node.record_named_by(&reply).end(), "exception/guest");
}

/// The harness sends a few fields of its own.
#[test]
fn a_request_may_have_100_header_fields() {
    let node = Node::start();
    node.deploy_module("w", &example("hello"), Upload::default());
    let names: Vec<String> = (0..101).map(|n| format!("x-{n}")).collect();
    for (count, status) in [(90, 200), (101, 431)] {
        let fields: Vec<(&str, &str)> = names[..count].iter().map(|name| (name.as_str(), "y")).collect();
        assert_eq!(node.request("GET", "w", "/", &fields, b"").status, status, "{count} fields");
    }
}

#[test]
fn the_nodes_guest_memory_is_what_a_guest_can_have() {
    for (size, mib) in [("16MiB", 16.0), ("64MiB", 64.0)] {
        let node = Node::logging(&["--guest-memory", size]);
        node.deploy_module("hog", &test_guest("hog"), Upload::default());
        let reply = node.get("hog", "/");
        assert!(reply.text().contains(&format!("more than {mib} MiB of memory")), "{}", reply.text());
        let used = node.record_named_by(&reply).number("memory_bytes") / 1024.0 / 1024.0;
        assert!((mib / 2.0..=mib).contains(&used), "{used} of {mib} MiB");
    }
}

/// What a guest took is given back: not the node's memory but the guest's is what a flood of them uses up.
#[test]
fn memory_of_guests_that_ended_does_not_add_up() {
    let node = Node::with(&["--guest-memory", "32MiB"]);
    node.deploy_module("hog", &test_guest("hog"), Upload::default());
    in_threads(2, |_| (0..5).for_each(|_| assert_eq!(node.get("hog", "/").status, 503)));
    let before = node.memory_mib("VmHWM");
    in_threads(2, |_| (0..20).for_each(|_| assert_eq!(node.get("hog", "/").status, 503)));
    let grown = node.memory_mib("VmHWM") - before;
    assert!(grown < 32, "40 requests more made the node {grown} MiB larger");
}

#[test]
fn neighbours_of_guests_that_misbehave_are_answered_as_ever() {
    let mut node = Node::with(&["--guest-memory", "32MiB"]);
    for guest in ["spin", "spin-async", "hog", "trap", "trap-async", "recurse"] {
        node.deploy_module(guest, &test_guest(guest), cpu_limit(50));
    }
    node.deploy_module("hello", &example("hello"), Upload::default());
    node.deploy_module("hello-async", &example("hello-async"), Upload::default());
    let (stop, failed) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut slowest = Duration::ZERO;
    std::thread::scope(|scope| {
        for guest in ["spin", "spin-async", "spin", "spin-async", "hog", "trap", "trap-async", "recurse"] {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    assert!(node.get(guest, "/").status >= 500);
                    failed.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for n in 0..60 {
            let began = now();
            let reply = node.get(if n % 2 == 0 { "hello" } else { "hello-async" }, "/");
            slowest = slowest.max(began.elapsed());
            assert_eq!((reply.status, reply.text().as_str()), (200, "Hello, World!\n"));
        }
        until("every kind of failure", || (failed.load(Ordering::Relaxed) > 20).then_some(()));
        stop.store(true, Ordering::Relaxed);
    });
    // Not a measure of speed: four guests that compute on the two cores of a test machine take turns with it.
    assert!(slowest < Duration::from_secs(4), "a neighbour waited for {slowest:?}");
    assert!(node.is_alive());
}

/// Other requests were inside of the instance that trapped or span; they are told, and the next ones find a new instance.
#[test]
fn requests_in_one_instance_share_its_end_and_no_one_elses() {
    let node = Node::logging(&[]);
    node.deploy_module("spin", &test_guest("spin-async"), cpu_limit(50));
    for status in in_threads(8, |_| node.get("spin", "/").status) {
        assert_eq!(status, 503);
    }
    assert_eq!(node.get("spin", "/").status, 503);
    // Nothing goes on computing for clients that have their answer.
    node.until_quiet();
}

#[test]
fn a_guest_that_computes_for_a_client_that_left_is_stopped() {
    let node = Node::logging(&[]);
    for guest in ["spin", "spin-async"] {
        node.deploy_module(guest, &test_guest(guest), Upload::default());
        let mut connection = crate::harness::Connection::open(node.data);
        connection.get(guest, "/left");
        let before = node.cpu_seconds();
        until("the guest computes", || (node.cpu_seconds() > before + 0.1).then_some(()));
        drop(connection);
        assert_eq!(node.record_of(guest, "/left").end(), "canceled/caller");
        // Its limit would be 30 s of CPU time.
        node.until_quiet();
    }
}

#[test]
fn a_full_pool_makes_requests_wait_and_then_come_back_later() {
    let node = Node::logging(&["--instance-slots", "4"]);
    node.deploy_module("slow", &test_guest("slow-stream"), Upload::default());
    // Sixteen requests of a fifth of a second take their turns in the four instances at most.
    assert!(in_threads(16, |_| node.get("slow", "/?chunks=2")).iter().all(|reply| reply.status == 200 && reply.whole));

    // All places are taken for longer than anyone waits: told to come back, by a 503 and never a 500.
    node.deploy_module("hang", &test_guest("hang"), Upload::default());
    node.deploy_module("hang-async", &test_guest("hang-async"), Upload::default());
    let mut held = Vec::new();
    for n in 0..400 {
        let mut connection = crate::harness::Connection::open(node.data);
        connection.get("hang", &format!("/{n}"));
        held.push(connection);
    }
    let before = node.memory_mib("VmRSS");
    let replies = in_threads(24, |n| node.get("hang", &format!("/late/{n}")));
    for reply in replies {
        assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")), "{}", reply.text());
        assert!(reply.text().contains("too many requests are waiting"), "{}", reply.text());
        assert_eq!(node.record_named_by(&reply).end(), "unknown/host");
    }
    let grown = node.memory_mib("VmRSS").saturating_sub(before);
    assert!(grown < 50, "requests that wait made the node {grown} MiB larger");
    // Whoever holds the places gives them back by leaving.
    drop(held);
    assert!(node.get("slow", "/?chunks=1").whole);
}

#[test]
fn a_version_at_its_limit_starves_no_other() {
    let node = Node::with(&["--instance-slots", "4"]);
    node.deploy_module("hello", &example("hello"), Upload::default());
    node.deploy_module("hello-async", &example("hello-async"), Upload::default());
    let mut held = Vec::new();
    for guest in ["hang", "hang-async"] {
        node.deploy_module(guest, &test_guest(guest), Upload::default());
        for n in 0..100 {
            let mut connection = crate::harness::Connection::open(node.data);
            connection.get(guest, &format!("/{n}"));
            held.push(connection);
        }
    }
    node.until_quiet();
    for worker in ["hello", "hello-async"] {
        let began = now();
        assert_eq!(node.get(worker, "/").status, 200);
        assert!(began.elapsed() < Duration::from_secs(2), "{worker} waited for a neighbour that hangs");
    }
}

/// A place in the pool is room for any component, also for one of twenty core instances: requests never meet a full pool.
#[test]
fn a_place_in_the_pool_is_room_for_a_guest_of_many_parts() {
    let node = Node::with(&["--instance-slots", "1"]);
    let text = std::fs::read_to_string(test_guest("silent-drop-async")).unwrap();
    let parts = "(core module $part (memory 1)) ".to_owned() + &"(core instance (instantiate $part)) ".repeat(3);
    let parts = parts + "(core module $bare) " + &"(core instance (instantiate $bare)) ".repeat(16);
    let text = format!("{}{parts})", text.trim_end().strip_suffix(')').unwrap());
    let reply = node.upload_bytes("PUT", "/scripts/w", "many.wat", text.as_bytes(), Upload::default());
    assert_eq!(reply["success"], true, "{reply:#}");
    for reply in in_threads(4, |_| node.get("w", "/")) {
        assert!(reply.text().starts_with("error 1101: the guest"), "{}", reply.text());
    }
}

#[test]
fn javascript_runs_where_there_is_one_place() {
    let artefact = example("hello-js");
    if !artefact.exists() {
        println!("skipped: hello-js is not built; `guest-examples/build.sh hello-js` does it where npm is");
        return;
    }
    let node = Node::with_artifacts_kept(&["--instance-slots", "1"]);
    node.deploy_module("w", &artefact, Upload::default());
    for reply in in_threads(4, |_| node.get("w", "/")) {
        assert_eq!((reply.status, reply.text().as_str()), (200, "Hello, World!\n"));
    }
}
