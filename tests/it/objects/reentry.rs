//! Calls that come back to an object that waits for them.

use std::time::Duration;

use crate::objects::{Ledger, at_once};

/// The path by which an object calls the next, and so on; the last does `op`.
fn chain(objects: &[&str], op: &str) -> String {
    let (first, rest) = objects.split_first().expect("an object");
    let escape = |text: &str| text.replace('%', "%25").replace('&', "%26").replace('=', "%3D").replace('?', "%3F");
    let path = rest.iter().rev().fold(op.to_owned(), |path, next| format!("call?to={next}&path={}", escape(&path)));
    format!("/{first}/{path}")
}

#[test]
fn a_call_comes_back_to_an_object_of_03_and_is_answered() {
    let ledger = Ledger::start();
    assert_eq!(ledger.tell(&chain(&["a", "a"], "add?k=n")), "1");
    assert_eq!(ledger.tell(&chain(&["a", "b", "a"], "add?k=n")), "2");
    assert_eq!(ledger.tell(&chain(&["a", "b", "c", "b", "a"], "add?k=n")), "3");
    assert_eq!(ledger.value("a", "n").as_deref(), Some("3"));
    // The events of one chain are events like others.
    assert_eq!(ledger.tell("/b/count"), "4");
}

#[test]
fn many_that_come_back_at_once_are_all_answered() {
    let ledger = Ledger::start();
    for (count, path) in [(20, chain(&["a", "b", "a"], "add?k=n")), (40, chain(&["c", "d", "c", "d"], "add?k=n"))] {
        let mut sums: Vec<usize> = at_once(count, |_| ledger.tell(&path).parse().unwrap());
        sums.sort_unstable();
        assert!(sums.iter().copied().eq(1..=count), "{path}: {sums:?}");
    }
}

#[test]
fn an_object_that_waits_for_many_others_is_not_taken_for_one_that_goes_round_in_circles() {
    let ledger = Ledger::start();
    // Each call is one deep, however many are under way and whatever else goes on in the object.
    let path = chain(&["a", "b", "a"], "sleep?ms=30");
    at_once(10, |_| (0..20).for_each(|_| assert_eq!(ledger.tell(&path), "slept")));
}

#[test]
fn a_chain_that_never_ends_is_cut_off() {
    let ledger = Ledger::start();
    let reply = ledger.ask(&chain(&["a"; 20], "count"));
    assert_eq!(reply.status, 599, "{reply:?}");
    assert_eq!(reply.json()["message"], "too many calls from one to another");
    assert_eq!(ledger.tell("/a/add?mode=memory"), "1");
}

#[test]
fn a_call_that_comes_back_to_an_object_of_02_is_refused_and_harms_no_one() {
    let ledger = Ledger::of_02();
    for path in [chain(&["a", "a"], "count"), chain(&["a", "b", "a"], "count")] {
        let reply = ledger.ask(&path);
        assert_eq!(reply.status, 503, "{path}: {reply:?}");
        assert!(reply.text().contains("it would wait for itself"), "{reply:?}");
    }
    assert_eq!(ledger.tell(&chain(&["a", "b"], "add?k=n")), "1");
}

#[test]
fn an_object_of_02_calls_others_while_events_wait_for_it() {
    let ledger = Ledger::of_02();
    let mut sums: Vec<usize> = at_once(20, |_| ledger.tell(&chain(&["a", "b"], "add?k=n")).parse().unwrap());
    sums.sort_unstable();
    assert!(sums.iter().copied().eq(1..=20), "{sums:?}");
}

#[test]
fn two_objects_of_02_that_wait_for_each_other_do_not_wait_for_ever() {
    let ledger = Ledger::of_02();
    at_once(2, |n| ledger.tell(["/a/count", "/b/count"][n]));
    // Each is busy when it is called, and calls the other as soon as it is not.
    let replies = at_once(4, |n| {
        if n >= 2 {
            std::thread::sleep(Duration::from_millis(300));
        }
        let paths = ["/a/sleep?ms=1000", "/b/sleep?ms=1000", "/a/call?to=b&path=count", "/b/call?to=a&path=count"];
        ledger.ask(paths[n])
    });
    let told = "Durable Object is overloaded. Requests queued for too long.\n";
    for reply in &replies[2..] {
        assert!(reply.status == 200 || reply.text() == told, "{reply:?}");
    }
    let refused = replies[2..].iter().find(|reply| reply.status == 503).expect("one of them gave up");
    assert_eq!(refused.header("sluice-object-error"), Some("overloaded"));
    assert_eq!(ledger.ask("/a/count").status, 200);
}
