//! An object's storage (`DOS-1`, `DOS-10`): each function of the contract, by both kinds of guest.

use crate::harness::until;
use crate::objects::{Ledger, ledger_upload};

/// Text as it stands in a query.
fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// The keys that a list gives, by spaces.
fn listed(ledger: &Ledger, options: &str) -> String {
    let lines = ledger.tell(&format!("/a/list?{options}"));
    let keys: Vec<&str> = lines.lines().map(|line| line.split('=').next().unwrap()).collect();
    keys.join(" ")
}

/// What storage says to a request that it refuses.
fn refused(ledger: &Ledger, path: &str) -> String {
    let reply = ledger.ask(path);
    assert_eq!(reply.status, 500, "{path}: {reply:?}");
    reply.text().trim_end().to_owned()
}

fn too_large(message: &str) -> String {
    format!("storage: StorageError::TooLarge({message:?})")
}

#[test]
fn what_is_put_is_there_until_it_is_deleted() {
    for ledger in [Ledger::start(), Ledger::of_02()] {
        assert_eq!(ledger.value("a", "k"), None);
        ledger.tell("/a/put?k=k&v=one");
        assert_eq!(ledger.value("a", "k").as_deref(), Some("one"));
        ledger.tell("/a/put?k=k&v=two");
        ledger.tell("/a/put?k=empty&v=");
        assert_eq!(ledger.value("a", "k").as_deref(), Some("two"));
        assert_eq!(ledger.value("a", "empty").as_deref(), Some(""));
        assert_eq!(ledger.tell("/a/sync"), "ok");
        // How many of them existed, each counted once.
        assert_eq!(ledger.tell("/a/delete?k=k,nothing,k"), "1");
        assert_eq!(ledger.tell("/a/delete?k=k"), "0");
        assert_eq!(ledger.value("a", "k"), None);
        assert_eq!(listed(&ledger, ""), "empty");
    }
}

#[test]
fn many_values_are_read_and_written_in_one_call() {
    let ledger = Ledger::start();
    ledger.tell("/a/put-many?n=128&size=3");
    assert_eq!(listed(&ledger, "").split(' ').count(), 128);
    // Those that exist, in the order of their keys, each once.
    let many = ledger.tell("/a/get-many?k=many-00002,nothing,many-00001,many-00002");
    assert_eq!(many, "many-00001=xxx\nmany-00002=xxx");
    assert_eq!(ledger.tell("/a/delete?k=many-00001,many-00002,nothing"), "2");
    assert_eq!(ledger.tell("/a/get-many?k=many-00000,many-00001"), "many-00000=xxx");
}

#[test]
fn a_list_is_of_the_keys_between_its_bounds() {
    for ledger in [Ledger::start(), Ledger::of_02()] {
        for key in ["b1", "a", "c", "b", "b2"] {
            ledger.tell(&format!("/a/put?k={key}&v={key}"));
        }
        for (options, keys) in [
            ("", "a b b1 b2 c"),
            ("prefix=b", "b b1 b2"),
            ("prefix=", "a b b1 b2 c"),
            ("prefix=nothing", ""),
            ("start=b1", "b1 b2 c"),
            ("start_after=b1", "b2 c"),
            ("end=b1", "a b"),
            ("start=b&end=b2", "b b1"),
            ("start=c&end=b", ""),
            ("prefix=b&start=a&end=b2", "b b1"),
            ("prefix=b&start_after=b", "b1 b2"),
            ("reverse=true", "c b2 b1 b a"),
            ("reverse=true&start=b&end=c", "b2 b1 b"),
            ("limit=2", "a b"),
            ("limit=0", ""),
            ("reverse=true&limit=2", "c b2"),
            ("prefix=b&limit=100", "b b1 b2"),
            ("prefix=b&reverse=true&limit=1", "b2"),
        ] {
            assert_eq!(listed(&ledger, options), keys, "{options}");
        }
        assert_eq!(ledger.tell("/a/list?prefix=b1"), "b1=b1");
    }
}

#[test]
fn keys_are_any_text_in_the_order_of_their_bytes() {
    let ledger = Ledger::start();
    let keys = ["", "\0", "\0\0", "\0a", "\u{1}", "A", "a", "a\0", "a\0b", "ab", "a\u{ff}", "z", "é", "\u{ffff}", "😀"];
    for key in keys.iter().rev() {
        ledger.tell(&format!("/a/put?k={0}&v={0}", escaped(key)));
    }
    let all: String = keys.iter().map(|key| format!("{key}={key}\n")).collect();
    let check = |ledger: &Ledger| {
        assert_eq!(ledger.ask("/a/list").text(), all);
        for key in keys {
            assert_eq!(ledger.value("a", &escaped(key)).as_deref(), Some(key), "{key:?}");
        }
        let after = ledger.ask(&format!("/a/list?start_after={}&end={}", escaped("a"), escaped("ab"))).text();
        assert_eq!(after, "a\0=a\0\na\0b=a\0b\n");
        let starting = ledger.ask(&format!("/a/list?prefix={}", escaped("\0"))).text();
        assert_eq!(starting, "\0=\0\n\0\0=\0\0\n\0a=\0a\n");
    };
    check(&ledger);
    // From the store as well as from memory.
    assert!(ledger.reset("a"));
    check(&ledger);
}

#[test]
fn a_limit_that_is_passed_is_told_and_nothing_is_written() {
    let ledger = Ledger::start();
    let (key, long) = ("k".repeat(2048), "k".repeat(2049));
    ledger.tell(&format!("/a/put?k={key}&v=1"));
    assert_eq!(ledger.value("a", &key).as_deref(), Some("1"));
    assert!(ledger.reset("a"));
    assert_eq!(ledger.value("a", &key).as_deref(), Some("1"));
    let message = too_large("a key has 2049 bytes, the limit is 2048");
    for op in ["put?v=1&", "get?", "delete?"] {
        assert_eq!(refused(&ledger, &format!("/a/{op}k={long}")), message, "{op}");
    }
    for bound in ["start", "start_after", "end"] {
        assert_eq!(refused(&ledger, &format!("/a/list?{bound}={long}")), message, "{bound}");
    }

    let most = 2 << 20;
    ledger.tell(&format!("/a/put?k=large&size={most}"));
    assert_eq!(ledger.value("a", "large").map(|value| value.len()), Some(most));
    let message = too_large("the value of `large` has 2097153 bytes, the limit is 2097152");
    assert_eq!(refused(&ledger, &format!("/a/put?k=large&size={}", most + 1)), message);
    assert!(ledger.reset("a"));
    assert_eq!(ledger.value("a", "large").map(|value| value.len()), Some(most));

    let message = too_large("there are 129 keys in one call, the limit is 128");
    assert_eq!(refused(&ledger, "/b/put-many?n=129"), message);
    let keys = vec!["k"; 129].join(",");
    assert_eq!(refused(&ledger, &format!("/b/get-many?k={keys}")), message);
    assert_eq!(refused(&ledger, &format!("/b/delete?k={keys}")), message);
    assert_eq!(ledger.tell("/b/list"), "");

    // What is written at once, and what is listed at once.
    let message = refused(&ledger, "/c/put-many?n=17&size=2097152");
    assert!(message.contains("have more than 33554432 bytes; await `sync` now and then"), "{message}");
    assert_eq!(ledger.tell("/c/list"), "");
    for n in 0..17 {
        ledger.tell(&format!("/c/put?k={n}&size=2097152"));
    }
    let message = refused(&ledger, "/c/list");
    assert!(message.contains("the limit is 33554432; set a limit on it"), "{message}");
    assert_eq!(ledger.ask("/c/list?limit=2").body.len(), 2 * (most + 3));
}

#[test]
fn deleting_all_takes_every_key_and_the_alarm() {
    for ledger in [Ledger::start(), Ledger::of_02()] {
        ledger.tell("/a/put?k=one&v=1");
        ledger.tell("/a/put?k=two&v=2");
        ledger.tell("/a/alarm-set?in_ms=600000");
        ledger.tell("/b/put?k=one&v=1");
        assert_eq!(ledger.tell("/a/delete-all"), "ok");
        let check = |ledger: &Ledger| {
            assert_eq!(ledger.tell("/a/list"), "");
            assert_eq!(ledger.value("a", "one"), None);
            assert_eq!(ledger.tell("/a/alarm-get"), "none");
            assert_eq!(ledger.value("b", "one").as_deref(), Some("1"));
            let view = ledger.view("a");
            assert!(view["bytes"] == 0 && view["alarm"].is_null(), "{view}");
        };
        check(&ledger);
        ledger.reset("a");
        check(&ledger);
        // It can be written anew.
        ledger.tell("/a/put?k=one&v=3");
        let ledger = ledger.kill_and_restart();
        assert_eq!(ledger.tell("/a/list"), "one=3");
    }
}

#[test]
fn what_is_stored_is_there_after_a_restart_and_after_an_eviction() {
    let ledger = Ledger::with(&["--object-idle", "50ms"], ledger_upload());
    ledger.tell("/a/put?k=k&v=kept");
    assert_eq!(ledger.tell("/a/add?mode=memory&n=5"), "5");
    until("the object leaves memory", || (ledger.view("a")["live"] == false).then_some(()));
    assert_eq!(ledger.value("a", "k").as_deref(), Some("kept"));
    // Memory is not storage.
    assert_eq!(ledger.tell("/a/add?mode=memory&n=1"), "1");
    let ledger = ledger.kill_and_restart();
    assert_eq!(ledger.value("a", "k").as_deref(), Some("kept"));
}

#[test]
fn the_size_of_what_is_stored_is_known() {
    let ledger = Ledger::start();
    let bytes = |ledger: &Ledger| ledger.view("a")["bytes"].as_u64().unwrap();
    ledger.tell("/a/put?k=key&v=value");
    assert_eq!(bytes(&ledger), 8);
    ledger.tell("/a/put?k=key&v=longer-value");
    ledger.tell("/a/put?k=k2&v=");
    assert_eq!(bytes(&ledger), 15 + 2);
    // Also where the instance does not know what was there before.
    ledger.reset("a");
    ledger.tell("/a/put?k=key&v=v");
    assert_eq!(bytes(&ledger), 4 + 2);
    ledger.reset("a");
    ledger.tell("/a/delete?k=key,nothing");
    assert_eq!(bytes(&ledger), 2);
}
