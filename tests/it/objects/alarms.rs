//! Alarms (`ALM-1`…`ALM-9`): at least once, never early, and again after a failure. That there are seven attempts, and how far
//! apart they are, is proven where no one has to wait for it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::harness::until;
use crate::objects::{Ledger, at_once, ledger_upload};

/// Milliseconds until an alarm that traps: the answer to whoever sets it has left by then, and is not broken off.
const SOON: u64 = 300;

/// One run, as the object noted it: which retry it was, whether it was one, when it ran, and which alarm was set then.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Run {
    retries: u32,
    is_retry: bool,
    at_ms: u64,
    alarm: String,
}

fn runs(ledger: &Ledger, object: &str) -> Vec<Run> {
    // A trap in the alarm is a reset for whoever asks at that moment.
    let log = until("the log", || {
        let reply = ledger.ask(&format!("/{object}/alarm-log"));
        (reply.status == 200 && reply.whole).then(|| reply.text())
    });
    log.lines()
        .map(|line| {
            let parts: Vec<&str> = line.split(' ').collect();
            Run {
                retries: parts[0].parse().unwrap(),
                is_retry: parts[1] == "true",
                at_ms: parts[2].parse().unwrap(),
                alarm: parts[3].to_owned(),
            }
        })
        .collect()
}

fn until_rung(ledger: &Ledger, object: &str, times: usize) -> Vec<Run> {
    until(&format!("{times} runs of {object}"), || {
        let runs = runs(ledger, object);
        (runs.len() >= times).then_some(runs)
    })
}

fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

fn set(ledger: &Ledger, object: &str, in_ms: u64) -> u64 {
    ledger.tell(&format!("/{object}/alarm-set?in_ms={in_ms}")).parse().unwrap()
}

#[test]
fn an_alarm_is_set_replaced_and_deleted() {
    for ledger in [Ledger::start(), Ledger::of_02()] {
        assert_eq!(ledger.tell("/a/alarm-get"), "none");
        let first = set(&ledger, "a", 600_000);
        assert_eq!(ledger.tell("/a/alarm-get"), first.to_string());
        let second = set(&ledger, "a", 900_000);
        assert_eq!(ledger.tell("/a/alarm-get"), second.to_string());
        assert!(second > first);
        // It is not a matter of memory.
        assert!(ledger.reset("a"));
        assert_eq!(ledger.tell("/a/alarm-get"), second.to_string());
        assert_eq!(ledger.tell("/a/alarm-delete"), "ok");
        assert_eq!(ledger.tell("/a/alarm-get"), "none");
        assert!(ledger.reset("a"));
        assert_eq!(ledger.tell("/a/alarm-get"), "none");
    }
}

#[test]
fn an_alarm_rings_once_and_not_before_its_time() {
    for ledger in [Ledger::start(), Ledger::of_02()] {
        let due: Vec<u64> = [1, 50, 300, 301, 700].iter().map(|ms| set(&ledger, &format!("in-{ms}"), *ms)).collect();
        for (ms, due) in [1, 50, 300, 301, 700].iter().zip(due) {
            let object = format!("in-{ms}");
            let run = until_rung(&ledger, &object, 1).remove(0);
            assert!(run.at_ms >= due, "{object}: {run:?} was to be at {due}");
            assert!(run.at_ms < due + 2_000, "{object}: {run:?} was to be at {due}");
            // During the run there is no alarm (`ALM-3`).
            assert_eq!((run.retries, run.is_retry, run.alarm.as_str()), (0, false, "none"));
            assert_eq!(ledger.tell(&format!("/{object}/alarm-get")), "none");
        }
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(runs(&ledger, "in-1").len(), 1);
    }
}

#[test]
fn an_alarm_of_the_past_rings_at_once() {
    let ledger = Ledger::start();
    let before = now_ms();
    for (object, ms) in [("long-ago", 0), ("just-now", before - 1)] {
        assert_eq!(ledger.tell(&format!("/{object}/alarm-at?ms={ms}")), ms.to_string());
        let run = until_rung(&ledger, object, 1).remove(0);
        assert!(run.at_ms < before + 2_000, "{run:?}");
    }
}

#[test]
fn an_alarm_that_is_moved_or_deleted_in_time_does_not_ring_then() {
    let ledger = Ledger::start();
    set(&ledger, "moved", 400);
    let later = set(&ledger, "moved", 1_000);
    set(&ledger, "deleted", 400);
    ledger.tell("/deleted/alarm-delete");
    set(&ledger, "all-deleted", 400);
    ledger.tell("/all-deleted/delete-all");
    let moved = until_rung(&ledger, "moved", 1);
    assert!(moved.len() == 1 && moved[0].at_ms >= later, "{moved:?}");
    assert!(runs(&ledger, "deleted").is_empty() && runs(&ledger, "all-deleted").is_empty());
    // Earlier than it was: whoever waits for it is woken.
    set(&ledger, "sooner", 600_000);
    set(&ledger, "sooner", 50);
    assert_eq!(until_rung(&ledger, "sooner", 1).len(), 1);
}

#[test]
fn an_alarm_that_fails_rings_again_later_and_later() {
    for ledger in [Ledger::start(), Ledger::of_02()] {
        ledger.tell("/a/alarm-mode?fail=2");
        set(&ledger, "a", 0);
        let first = until_rung(&ledger, "a", 1).remove(0);
        // Between the attempts the next one is what is set, and what the failed run wrote has stayed.
        let next: u64 = until("the retry", || ledger.tell("/a/alarm-get").parse().ok());
        assert!((1_900..2_700).contains(&(next - first.at_ms)), "{first:?} {next}");
        let all = until_rung(&ledger, "a", 3);
        assert_eq!(
            all.iter().map(|run| (run.retries, run.is_retry)).collect::<Vec<_>>(),
            [(0, false), (1, true), (2, true)]
        );
        assert!(all[1].at_ms - all[0].at_ms >= 2_000, "{all:?}");
        assert!(all[2].at_ms - all[1].at_ms >= 4_000, "{all:?}");
        until("no alarm is left", || (ledger.tell("/a/alarm-get") == "none").then_some(()));
        // The next one begins anew.
        set(&ledger, "a", 0);
        assert_eq!(until_rung(&ledger, "a", 4)[3].retries, 0);
    }
}

#[test]
fn a_trap_in_an_alarm_counts_as_a_failure() {
    for ledger in [Ledger::start(), Ledger::of_02()] {
        ledger.tell("/a/alarm-mode?trap=1");
        set(&ledger, "a", SOON);
        let all = until_rung(&ledger, "a", 2);
        assert_eq!((all[0].retries, all[1].retries, all[1].is_retry), (0, 1, true), "{all:?}");
        assert!(all[1].at_ms - all[0].at_ms >= 2_000, "{all:?}");
        until("no alarm is left", || (ledger.ask("/a/alarm-get").text() == "none\n").then_some(()));
    }
}

#[test]
fn what_a_run_wrote_that_trapped_before_it_was_durable_is_gone() {
    let ledger = Ledger::start();
    ledger.tell("/a/alarm-mode?trap-unsynced=1");
    let first = set(&ledger, "a", SOON);
    until("the retry", || {
        let alarm = ledger.ask("/a/alarm-get").text().trim().parse::<u64>().ok()?;
        (alarm > first).then_some(())
    });
    assert_eq!(runs(&ledger, "a"), []);
}

#[test]
fn an_alarm_set_during_a_run_rings_instead_of_the_retry() {
    let ledger = Ledger::start();
    for (object, mode) in [("well", "reset=200"), ("fails", "reset=200&fail=1"), ("traps", "reset=200&trap=1")] {
        ledger.tell(&format!("/{object}/alarm-mode?{mode}"));
        set(&ledger, object, SOON);
        let all = until_rung(&ledger, object, 2);
        // It is another alarm: no retry, and at its own time.
        assert_eq!((all[1].retries, all[1].is_retry), (0, false), "{object}: {all:?}");
        let between = all[1].at_ms - all[0].at_ms;
        assert!((200..1_900).contains(&between), "{object}: {all:?}");
        ledger.tell(&format!("/{object}/alarm-mode?"));
        ledger.tell(&format!("/{object}/alarm-delete"));
    }
}

#[test]
fn deleting_the_alarm_between_the_attempts_ends_them() {
    let ledger = Ledger::start();
    ledger.tell("/a/alarm-mode?fail=9");
    set(&ledger, "a", 0);
    until("the retry", || ledger.tell("/a/alarm-get").parse::<u64>().ok().filter(|at| *at > now_ms()));
    ledger.tell("/a/alarm-delete");
    // And while it rings: the run goes on, and is not tried again.
    ledger.tell("/b/alarm-mode?sleep=400&fail=9");
    set(&ledger, "b", 0);
    until_rung(&ledger, "b", 1);
    ledger.tell("/b/alarm-delete");
    std::thread::sleep(Duration::from_millis(3_000));
    for object in ["a", "b"] {
        assert_eq!(runs(&ledger, object).len(), 1, "{object}");
        assert_eq!(ledger.tell(&format!("/{object}/alarm-get")), "none");
    }
}

#[test]
fn events_come_to_an_object_while_its_alarm_runs_but_no_second_alarm() {
    let ledger = Ledger::start();
    ledger.tell("/a/alarm-mode?sleep=500");
    set(&ledger, "a", 0);
    until_rung(&ledger, "a", 1);
    assert_eq!(ledger.tell("/a/alarm-get"), "none");
    set(&ledger, "a", 0);
    // The second waits for the first.
    let all = until_rung(&ledger, "a", 2);
    assert!(all[1].at_ms - all[0].at_ms >= 500, "{all:?}");
}

#[test]
fn an_alarm_survives_a_kill() {
    let ledger = Ledger::start();
    let due = set(&ledger, "past", 150);
    let later = set(&ledger, "later", 2_500);
    ledger.tell("/running/alarm-mode?sleep=20000");
    set(&ledger, "running", 0);
    until_rung(&ledger, "running", 1);
    // Set after the kill: the mode of a run that was cut off.
    ledger.tell("/running/alarm-mode?");
    let ledger = ledger.kill_and_restart();
    let past = until_rung(&ledger, "past", 1);
    assert!(past[0].at_ms >= due, "{past:?}");
    // The run that was cut off is not the object's fault: it rings again, and it is no retry.
    let running = until_rung(&ledger, "running", 2);
    assert_eq!((running[1].retries, running[1].is_retry), (0, false), "{running:?}");
    let run = until_rung(&ledger, "later", 1).remove(0);
    assert!(run.at_ms >= later, "{run:?} {later}");
}

#[test]
fn an_alarm_wakes_an_object_that_sleeps() {
    let ledger = Ledger::with(&["--object-idle", "50ms"], ledger_upload());
    let due = set(&ledger, "a", 700);
    until("it sleeps", || (ledger.view("a")["live"] == false).then_some(()));
    assert!(ledger.view("a")["alarm"].is_string());
    // Nobody calls it until it has rung.
    until("it has rung", || ledger.view("a")["alarm"].is_null().then_some(()));
    let all = runs(&ledger, "a");
    assert!(all.len() == 1 && all[0].at_ms >= due, "{all:?}");
}

#[test]
fn many_alarms_at_once_all_ring_once() {
    const OBJECTS: usize = 300;
    let ledger = Ledger::start();
    let due = now_ms() + 1_500;
    at_once(6, |thread| {
        for n in (thread..OBJECTS).step_by(6) {
            ledger.tell(&format!("/object-{n}/alarm-at?ms={due}"));
        }
    });
    let all = at_once(6, |thread| {
        let mine = (thread..OBJECTS).step_by(6);
        mine.map(|n| until_rung(&ledger, &format!("object-{n}"), 1).len()).collect::<Vec<_>>()
    });
    assert!(all.into_iter().flatten().all(|runs| runs == 1));
}

#[test]
fn an_alarm_is_in_the_records_as_an_event_of_its_own() {
    let ledger = Ledger::with(&["--request-log", "{dir}/requests.jsonl"], ledger_upload());
    let id = ledger.view("a")["id"].as_str().unwrap().to_owned();
    set(&ledger, "a", 0);
    let record = ledger.node.record("the alarm", |record| record.text("method") == "ALARM");
    assert_eq!((record.text("path"), record.text("worker")), (format!("/{id}").as_str(), "w"));
    assert_eq!((record.text("outcome"), record.number("status")), ("ok", 200.0));
    ledger.tell("/a/alarm-mode?fail=1");
    set(&ledger, "a", 0);
    let failed = |record: &crate::harness::Record| record.text("method") == "ALARM" && record.text("outcome") != "ok";
    let record = ledger.node.record("the alarm that fails", failed);
    assert_eq!(record.end(), "exception/guest");
    assert!(record.text("error").contains("the alarm was told to fail"), "{record:?}");
}
