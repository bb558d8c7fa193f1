//! How objects come to memory and leave it, and what their callers are told (`DOL-1`…`DOL-11`).

use std::time::Duration;

use serde_json::json;

use crate::harness::{now, until};
use crate::objects::{Ledger, at_once, ledger_upload, said};

#[test]
fn an_object_that_does_not_open_says_why_to_whoever_woke_it() {
    let ledger = Ledger::start();
    for _ in 0..2 {
        let error = ledger.error("/bad-open-1/count");
        assert_eq!(said(&error), "the object `bad-open-1` does not open (remote)");
    }
    let ledger = Ledger::of_02();
    let reply = ledger.ask("/bad-open/count");
    assert_eq!((reply.status, reply.text().as_str()), (500, "this object does not open\n"));
}

/// The object may have failed before its caller's event is in its queue: it is not started again for that.
#[test]
fn an_object_that_fails_faster_than_it_is_called_is_told_why() {
    let ledger = Ledger::start();
    for n in 0..300 {
        let error = ledger.error(&format!("/bad-open-of-{n}/count"));
        assert_eq!(said(&error), format!("the object `bad-open-of-{n}` does not open (remote)"));
    }
}

#[test]
fn all_who_wait_for_an_object_that_does_not_open_are_told() {
    let ledger = Ledger::start();
    let errors = at_once(20, |_| ledger.error("/bad-open/count"));
    for error in errors {
        let message = error["message"].as_str().unwrap();
        assert!(message == "the object `bad-open` does not open" || message.contains("times in a row"), "{error}");
    }
}

#[test]
fn a_trap_in_open_is_the_objects_own_fault() {
    let ledger = Ledger::start();
    let error = said(&ledger.error("/trap-open/count"));
    assert!(error.starts_with("Durable Object reset because its code failed: "), "{error}");
    assert!(error.ends_with("(remote, reset)"), "{error}");
    assert_eq!(ledger.tell("/fine/count"), "1");
}

#[test]
fn callers_wait_until_the_object_is_open() {
    let ledger = Ledger::start();
    let began = now();
    let mut counts: Vec<u32> = at_once(5, |_| ledger.tell("/slow-open-300/count").parse().unwrap());
    counts.sort_unstable();
    assert_eq!(counts, [1, 2, 3, 4, 5]);
    assert!(began.elapsed() >= Duration::from_millis(300));
    // Nobody else waits with them.
    let began = now();
    let slow = std::thread::scope(|scope| {
        let slow = scope.spawn(|| ledger.tell("/slow-open-2000/count"));
        assert_eq!(ledger.tell("/other/count"), "1");
        assert!(began.elapsed() < Duration::from_millis(1500));
        slow.join().unwrap()
    });
    assert_eq!(slow, "1");
}

#[test]
fn what_open_writes_is_kept() {
    for ledger in [Ledger::start(), Ledger::of_02()] {
        assert_eq!(ledger.value("open-writes", "opens").as_deref(), Some("1"));
        assert!(ledger.reset("open-writes"));
        assert_eq!(ledger.value("open-writes", "opens").as_deref(), Some("2"));
        let ledger = ledger.kill_and_restart();
        assert_eq!(ledger.value("open-writes", "opens").as_deref(), Some("3"));
    }
}

#[test]
fn a_trap_resets_its_object_alone() {
    let ledger = Ledger::start();
    for object in ["a", "b"] {
        ledger.tell(&format!("/{object}/add?mode=memory&n=7"));
        ledger.tell(&format!("/{object}/put?k=n&v=stored"));
    }
    let error = said(&ledger.error("/a/trap"));
    assert!(error.starts_with("Durable Object reset because its code failed: "), "{error}");
    assert!(error.ends_with("(remote, reset)"), "{error}");
    assert_eq!(ledger.tell("/a/add?mode=memory"), "1");
    assert_eq!(ledger.value("a", "n").as_deref(), Some("stored"));
    assert_eq!(ledger.tell("/b/add?mode=memory"), "8");
}

#[test]
fn whoever_is_in_an_object_that_traps_is_told() {
    let ledger = Ledger::start();
    ledger.tell("/a/count");
    std::thread::scope(|scope| {
        let waiting: Vec<_> = (0..5).map(|_| scope.spawn(|| ledger.error("/a/sleep?ms=20000"))).collect();
        until("five wait", || (ledger.tell("/a/count").parse::<u32>().unwrap() >= 6).then_some(()));
        // The count of those who ask grows by itself; what matters is that the sleepers have begun.
        std::thread::sleep(Duration::from_millis(200));
        ledger.error("/a/trap");
        for waiting in waiting {
            let error = said(&waiting.join().unwrap());
            assert!(error.starts_with("Durable Object reset because its code failed: "), "{error}");
            assert!(error.ends_with("(remote, reset)"), "{error}");
        }
    });
}

#[test]
fn whoever_is_in_an_object_that_is_reset_is_told_and_those_who_wait_go_on() {
    let ledger = Ledger::of_02();
    ledger.tell("/a/count");
    std::thread::scope(|scope| {
        let inside = scope.spawn(|| ledger.ask("/a/sleep?ms=20000"));
        std::thread::sleep(Duration::from_millis(300));
        // It has not begun: the next instance takes it.
        let waiting = scope.spawn(|| ledger.tell("/a/count"));
        std::thread::sleep(Duration::from_millis(300));
        assert!(ledger.reset("a"));
        let inside = inside.join().unwrap();
        let text = inside.text();
        assert_eq!((inside.status, text.as_str()), (503, "Durable Object reset on request of an operator.\n"));
        assert_eq!(inside.header("sluice-object-error"), Some("reset"));
        assert_eq!(waiting.join().unwrap(), "1");
    });
    assert!(!Ledger::start().reset("never-seen"));
}

#[test]
fn an_object_that_fails_again_and_again_is_left_alone_for_a_while() {
    let ledger = Ledger::start();
    let mut told = None;
    for _ in 0..10 {
        let error = ledger.error("/trap-open/count");
        if error["overloaded"] == true {
            told = Some(error);
            break;
        }
    }
    let told = said(&told.expect("it is left alone in the end"));
    assert!(told.starts_with("this Durable Object failed 3 times in a row before it answered anything; "), "{told}");
    assert!(told.ends_with(" ms (retryable, overloaded)"), "{told}");
    // It is tried again after the pause; and others are not held up by it.
    assert_eq!(ledger.tell("/fine/count"), "1");
    until("another start", || {
        let error = ledger.error("/trap-open/count");
        (error["overloaded"] == false).then_some(())
    });
}

#[test]
fn an_object_that_traps_after_it_has_answered_starts_again_at_once() {
    let ledger = Ledger::start();
    for _ in 0..8 {
        assert_eq!(ledger.tell("/a/count"), "1");
        assert_eq!(ledger.error("/a/trap")["remote"], true);
    }
}

#[test]
fn an_object_that_computes_for_ever_is_stopped_by_its_limit() {
    let upload = ledger_upload().with("limits", json!({ "cpu_ms": 200 }));
    let ledger = Ledger::with(&[], upload);
    ledger.tell("/b/add?mode=memory");
    ledger.tell("/a/put?k=n&v=stored");
    std::thread::scope(|scope| {
        let spinning = scope.spawn(|| ledger.error("/a/spin"));
        // Its neighbours run meanwhile, and who comes to it waits, and is served by the next instance.
        assert_eq!(ledger.tell("/b/add?mode=memory"), "2");
        let error = said(&spinning.join().unwrap());
        assert!(error.contains("CPU") && error.ends_with("(remote, reset)"), "{error}");
    });
    assert_eq!(ledger.value("a", "n").as_deref(), Some("stored"));
    let error = said(&ledger.error("/spin-open/count"));
    assert!(error.contains("CPU") && error.ends_with("(remote, reset)"), "{error}");
    // The limit is each event's: many short ones do not add up.
    (0..300).for_each(|_| drop(ledger.tell("/b/add")));
}

#[test]
fn an_object_that_spins_can_be_reset() {
    let ledger = Ledger::start();
    ledger.tell("/a/count");
    std::thread::scope(|scope| {
        let spinning = scope.spawn(|| ledger.error("/a/spin"));
        std::thread::sleep(Duration::from_millis(200));
        let began = now();
        assert!(ledger.reset("a"));
        let error = said(&spinning.join().unwrap());
        assert!(error.starts_with("Durable Object reset on request of an operator."), "{error}");
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    });
    assert_eq!(ledger.tell("/a/count"), "1");
}

#[test]
fn an_object_that_takes_too_much_memory_is_reset() {
    let ledger = Ledger::start();
    ledger.tell("/b/add?mode=memory");
    assert_eq!(ledger.tell("/a/hog?mb=16"), "16 MiB");
    let error = said(&ledger.error("/a/hog"));
    assert!(error.to_lowercase().contains("memory") && error.ends_with("(remote, reset)"), "{error}");
    // All that it took is given back.
    assert_eq!(ledger.tell("/a/hog?mb=16"), "16 MiB");
    assert_eq!(ledger.tell("/b/add?mode=memory"), "2");
}

#[test]
fn the_thousand_and_first_who_waits_is_told_that_the_object_is_overloaded() {
    let ledger = Ledger::start();
    // While it opens nothing begins. One client's request may make so many calls, and they are of four here.
    let answers = at_once(4, |_| ledger.tell("/-/order?to=slow-open-3000&n=300"));
    let failed: u32 = answers.iter().map(|answer| answer.split(' ').nth(2).unwrap().parse::<u32>().unwrap()).sum();
    assert_eq!(failed, 200, "{answers:?}");
    let lines = ledger.value("slow-open-3000", "order").unwrap();
    assert_eq!(lines.lines().count(), 1000);

    // In words, to those who come while it is full: they come again and again, and each waits if there is room.
    std::thread::scope(|scope| {
        let waiting: Vec<_> = (0..4).map(|_| scope.spawn(|| ledger.tell("/-/order?to=slow-open-4000&n=300"))).collect();
        let asking = (0..12).map(|n| {
            let ledger = &ledger;
            scope.spawn(move || {
                std::thread::sleep(Duration::from_millis(300 * n));
                ledger.ask("/slow-open-4000/count")
            })
        });
        let asking: Vec<_> = asking.collect();
        let replies: Vec<_> = asking.into_iter().map(|asking| asking.join().unwrap()).collect();
        let refused = replies.iter().find(|reply| reply.status == 599).expect("one of them finds it full");
        let error = said(&refused.json());
        assert_eq!(error, "Durable Object is overloaded. Too many requests queued. (overloaded)");
        waiting.into_iter().for_each(|waiting| drop(waiting.join().unwrap()));
    });
}

#[test]
fn an_idle_object_leaves_memory_and_one_in_which_something_happens_stays() {
    let ledger = Ledger::with(&["--object-idle", "100ms"], ledger_upload());
    ledger.tell("/b/count");
    assert_eq!(ledger.view("b")["live"], true);
    assert_eq!(ledger.tell("/a/sleep?ms=1000"), "slept");
    assert_eq!(ledger.tell("/a/count"), "2");
    assert_eq!(ledger.tell("/b/count"), "1");
}

#[test]
fn objects_make_room_for_others() {
    let ledger = Ledger::with(&["--live-objects", "4"], ledger_upload());
    // Far more than there is room for, one after the other and at once.
    for n in 0..20 {
        assert_eq!(ledger.tell(&format!("/one-{n}/add")), "1");
    }
    // So many that those who wait for room are more than those who are asked to make some.
    at_once(100, |n| assert_eq!(ledger.tell(&format!("/many-{n}/add")), "1"));
    for n in 0..20 {
        assert_eq!(ledger.tell(&format!("/one-{n}/add")), "2");
    }
}

#[test]
fn who_waits_for_his_turn_for_too_long_is_told_that_the_object_is_overloaded() {
    let ledger = Ledger::of_02();
    std::thread::scope(|scope| {
        let busy = scope.spawn(|| ledger.ask("/a/sleep?ms=33000").status);
        until("the object is busy", || {
            let records = ledger.view("a");
            (records["live"] == true).then_some(())
        });
        std::thread::sleep(Duration::from_millis(300));
        let began = now();
        let reply = ledger.ask("/a/count");
        assert!(began.elapsed() >= Duration::from_secs(29), "{:?}", began.elapsed());
        let text = reply.text();
        assert!(text.contains("Durable Object is overloaded. Requests queued for too long."), "{reply:?}");
        assert_eq!(busy.join().expect("no panic"), 200);
    });
    // It was not begun after all.
    assert_eq!(ledger.tell("/a/count"), "2");
}
