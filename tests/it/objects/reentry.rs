//! Calls that come back to an object that waits for them.

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
    // Two of them that call each other at once would wait for ever, if they were let.
    let replies =
        at_once(2, |n| ledger.ask(&if n == 0 { chain(&["a", "b"], "count") } else { chain(&["b", "a"], "count") }));
    assert!(replies.iter().all(|reply| reply.status != 0), "{replies:?}");
}
