//! The gates (`DOS-4`…`DOS-6`): events do not disturb each other's reading and writing, writes that belong together are
//! together, and nothing is told before it is durable.

use std::time::Duration;

use crate::harness::http::try_request;
use crate::harness::{Peer, now, until};
use crate::objects::{Ledger, at_once, said};

/// Events at once in the probes for lost updates.
const AT_ONCE: usize = 50;

/// Adds to a number from everywhere at once, again and again: each sum is given once, and none is missing.
fn check_that_nothing_is_lost(ledger: &Ledger, how: &str) {
    const RUNS: usize = 10;
    for run in 0..RUNS {
        let sums = at_once(AT_ONCE, |_| ledger.tell(&format!("/run-{run}/add?{how}")));
        let mut sums: Vec<usize> = sums.iter().map(|sum| sum.parse().expect("a number")).collect();
        sums.sort_unstable();
        assert!(sums.iter().copied().eq(1..=AT_ONCE), "{how}, run {run}: {sums:?}");
    }
}

#[test]
fn no_update_is_lost_between_reading_and_writing() {
    let ledger = Ledger::start();
    check_that_nothing_is_lost(&ledger, "k=once&mode=get-put");
    check_that_nothing_is_lost(&ledger, "k=twice&mode=get-get-put");
    check_that_nothing_is_lost(&ledger, "mode=memory");
}

#[test]
fn no_update_is_lost_when_storage_is_read_after_a_fetch() {
    let ledger = Ledger::start();
    let peer = Peer::answering("ok");
    check_that_nothing_is_lost(&ledger, &format!("mode=fetch-get-put&url={}", peer.origin()));
    assert_eq!(peer.heads().len(), 10 * AT_ONCE);
}

/// What tells the probe above from one that cannot fail: a fetch does not close the gate, so here updates are lost.
#[test]
fn others_run_during_a_fetch_so_what_was_read_before_it_may_be_old() {
    let ledger = Ledger::start();
    let peer = Peer::answering("ok");
    let how = format!("mode=get-fetch-put&url={}", peer.origin());
    at_once(AT_ONCE, |_| ledger.tell(&format!("/a/add?{how}")));
    let sum: usize = ledger.value("a", "n").unwrap().parse().unwrap();
    assert!(sum < AT_ONCE, "{sum}");
}

#[test]
fn an_object_of_02_loses_nothing_either() {
    let ledger = Ledger::of_02();
    let sums = at_once(AT_ONCE, |_| ledger.tell("/a/add"));
    let mut sums: Vec<usize> = sums.iter().map(|sum| sum.parse().expect("a number")).collect();
    sums.sort_unstable();
    assert!(sums.iter().copied().eq(1..=AT_ONCE), "{sums:?}");
}

#[test]
fn events_interleave_where_they_await() {
    let ledger = Ledger::start();
    ledger.tell("/a/count");
    let began = now();
    at_once(10, |_| assert_eq!(ledger.tell("/a/sleep?ms=300"), "slept"));
    let took = began.elapsed();
    assert!((Duration::from_millis(300)..Duration::from_millis(1500)).contains(&took), "{took:?}");
}

#[test]
fn an_object_of_02_takes_one_event_after_the_other() {
    let ledger = Ledger::of_02();
    ledger.tell("/a/count");
    let began = now();
    at_once(3, |_| assert_eq!(ledger.tell("/a/sleep?ms=100"), "slept"));
    assert!(began.elapsed() >= Duration::from_millis(300), "{:?}", began.elapsed());
}

#[test]
fn writes_without_an_await_between_them_are_there_together_or_not_at_all() {
    let ledger = Ledger::start();
    for run in 0..10 {
        let object = format!("together-{run}");
        ledger.error(&format!("/{object}/two?v=1&trap=1"));
        assert_eq!((ledger.value(&object, "a"), ledger.value(&object, "b")), (None, None));
    }
    // With an await between them the first is a write of its own.
    ledger.error("/apart/two?v=1&pause=100&trap=1");
    assert_eq!(ledger.value("apart", "a").as_deref(), Some("1"));
    assert_eq!(ledger.value("apart", "b"), None);
    assert_eq!(ledger.tell("/whole/two?v=1"), "ok");
    assert_eq!(ledger.value("whole", "a"), ledger.value("whole", "b"));
}

#[test]
fn a_write_before_an_error_stays_and_one_before_a_trap_is_gone() {
    for ledger in [Ledger::start(), Ledger::of_02()] {
        ledger.tell("/a/put?k=before&v=1");
        assert_ne!(ledger.ask("/a/put-error?k=error&v=1").status, 200);
        assert_ne!(ledger.ask("/a/put-trap?k=trap&v=1").status, 200);
        assert_eq!(ledger.value("a", "before").as_deref(), Some("1"));
        assert_eq!(ledger.value("a", "error").as_deref(), Some("1"));
        assert_eq!(ledger.value("a", "trap"), None);
        // Also for those who come after the next start.
        let ledger = ledger.kill_and_restart();
        assert_eq!(ledger.value("a", "error").as_deref(), Some("1"));
        assert_eq!(ledger.value("a", "trap"), None);
    }
}

#[test]
fn an_error_of_an_event_leaves_the_object_as_it_is() {
    let ledger = Ledger::start();
    ledger.tell("/a/add?mode=memory");
    let error = ledger.error("/a/put-error?k=n&v=1");
    assert!(said(&error).ends_with("(remote)"), "{error}");
    assert_eq!(ledger.tell("/a/add?mode=memory"), "2");
}

#[test]
fn what_was_answered_is_there_after_a_kill() {
    let mut ledger = Ledger::start();
    let mut known = [0_u64; 4];
    for round in 0..5 {
        let address = ledger.node.data;
        let pid = ledger.node.pid();
        // Clients that each have an object of their own, until the node is gone from under them.
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(40 + 30 * round));
            let status = std::process::Command::new("kill").args(["-KILL", &pid.to_string()]).status();
            assert!(status.expect("kill").success());
        });
        let reached = at_once(known.len(), |n| {
            let mut last = 0;
            loop {
                let path = format!("/object-{n}/add");
                let reply = try_request(address, "GET", &path, &[("host", "w.localhost")], b"");
                match reply.filter(|reply| reply.whole && reply.status == 200) {
                    Some(reply) => last = reply.text().trim().parse::<u64>().expect("a number"),
                    None => return last,
                }
            }
        });
        killer.join().unwrap();
        ledger = ledger.kill_and_restart();
        for (n, reached) in reached.into_iter().enumerate() {
            let known = &mut known[n];
            *known = (*known).max(reached);
            let there: u64 = ledger.value(&format!("object-{n}"), "n").map_or(0, |text| text.parse().unwrap());
            // The one that was under way may have been written, its answer lost.
            assert!(there == *known || there == *known + 1, "object {n}: {there}, answered {known}");
            *known = there;
        }
    }
    assert!(known.iter().all(|known| *known > 0), "{known:?}");
}

#[test]
fn work_goes_on_after_the_answer_and_what_it_writes_is_kept() {
    let ledger = Ledger::start();
    let began = now();
    assert_eq!(ledger.tell("/a/background?ms=300"), "later");
    assert!(began.elapsed() < Duration::from_millis(300), "{:?}", began.elapsed());
    assert_eq!(ledger.value("a", "background"), None);
    until("the work in the background", || ledger.value("a", "background"));
    assert!(ledger.reset("a"));
    assert_eq!(ledger.value("a", "background").as_deref(), Some("done"));
}

#[test]
fn work_after_the_answer_keeps_the_object_in_memory() {
    let ledger = Ledger::with(&["--object-idle", "50ms"], crate::objects::ledger_upload());
    ledger.tell("/a/background?ms=600");
    ledger.tell("/b/count");
    until("the idle neighbour leaves", || (ledger.view("b")["live"] == false).then_some(()));
    assert_eq!(ledger.view("a")["live"], true);
    // Asked at the store: a call would keep it in memory.
    until("the work in the background", || (ledger.view("a")["epoch"] == 1).then_some(()));
    assert_eq!(ledger.value("a", "background").as_deref(), Some("done"));
}

#[test]
fn calls_on_one_stub_arrive_in_their_order() {
    let ledger = Ledger::start();
    let in_order = |lines: &str, count: usize| lines.lines().map(|line| line.parse::<usize>().unwrap()).eq(0..count);
    assert_eq!(ledger.tell("/-/order?to=x&n=200"), "200 calls, 0 failed");
    assert!(in_order(&ledger.value("x", "order").unwrap(), 200));
    // From an object, and to one that takes its time to start.
    assert_eq!(ledger.tell("/a/order?to=slow-open-100&n=100"), "100 calls, 0 failed");
    assert!(in_order(&ledger.value("slow-open-100", "order").unwrap(), 100));
}
