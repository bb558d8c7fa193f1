//! Which object a name or an id means, and whose code it runs (`DOI-1`…`DOI-8`).

use std::collections::BTreeSet;

use crate::harness::{Node, test_guest};
use crate::objects::{Ledger, again, at_once, borrowing, classes, error_of, ledger_upload, said};

/// The id that the worker has for a name.
fn id_of(ledger: &Ledger, name: &str) -> String {
    let line = ledger.tell(&format!("/-/id?name={name}"));
    line.split(' ').next().unwrap().to_owned()
}

fn is_an_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[test]
fn a_name_always_means_the_same_object_and_another_name_another() {
    let ledger = Ledger::start();
    let (a, b) = (id_of(&ledger, "a"), id_of(&ledger, "b"));
    assert!(is_an_id(&a) && is_an_id(&b) && a != b, "{a} {b}");
    assert_eq!(ledger.tell("/-/id?name=a"), format!("{a} a"));
    // The object itself is told who it is.
    assert_eq!(ledger.tell("/a/whoami"), format!("Ledger {a} a"));
    ledger.tell("/a/put?k=n&v=mine");
    assert_eq!(ledger.value("a", "n").as_deref(), Some("mine"));
    assert_eq!(ledger.value("b", "n"), None);
    // Names are texts of any kind.
    for name in ["%20", "%C3%A9", "a%2Fb", "%00", "A"] {
        assert_eq!(ledger.value(name, "n"), None, "{name}");
    }
    let ledger = ledger.kill_and_restart();
    assert_eq!(id_of(&ledger, "a"), a);
}

#[test]
fn an_object_is_the_same_by_its_name_and_by_its_id() {
    let ledger = Ledger::start();
    let id = id_of(&ledger, "a");
    ledger.tell("/a/put?k=n&v=1");
    // One memory as well as one storage.
    assert_eq!(ledger.tell("/a/count"), "2");
    assert_eq!(ledger.tell(&format!("/id/{id}/count")), "3");
    assert_eq!(ledger.tell(&format!("/id/{id}/get?k=n")), "1");
    // An id that was read from a text has no name (`DOI-4`), but the object that it leads to keeps its own.
    assert_eq!(ledger.tell(&format!("/-/id?id={id}")), format!("{id} -"));
    assert!(ledger.reset("a"));
    assert_eq!(ledger.tell(&format!("/id/{id}/whoami")), format!("Ledger {id} a"));
}

#[test]
fn a_new_id_is_no_one_elses_and_has_no_name() {
    let ledger = Ledger::start();
    let ids: BTreeSet<String> = at_once(4, |_| {
        (0..25).map(|_| ledger.tell("/-/id").strip_suffix(" -").expect("no name").to_owned()).collect::<Vec<_>>()
    })
    .into_iter()
    .flatten()
    .collect();
    assert_eq!(ids.len(), 100);
    assert!(ids.iter().all(|id| is_an_id(id)));

    let made = ledger.ask("/new/put?k=n&v=mine");
    let id = made.header("object-id").expect("the new object's id").to_owned();
    assert_eq!(ledger.tell(&format!("/id/{id}/get?k=n")), "mine");
    assert_eq!(ledger.tell(&format!("/id/{id}/whoami")), format!("Ledger {id} -"));
    assert_eq!(ledger.ask("/new/get?k=n").status, 404);
}

#[test]
fn a_text_that_is_no_id_of_the_namespace_is_refused_in_cloudflares_words() {
    let ledger = Ledger::with(&[], classes(&["Ledger", "Other"]));
    let id = id_of(&ledger, "a");
    let refused = |id: &str| {
        let reply = ledger.ask(&format!("/id/{id}/count"));
        assert_eq!(reply.status, 400, "{id}: {reply:?}");
        reply.text()
    };
    let not_hex = "Invalid Durable Object ID: must be 64 hex digits\n";
    let other = "Durable Object ID is not valid for this namespace.\n";
    for wrong in ["", "a", "xyz", &id[1..], &format!("{id}0"), &format!("{}g", &id[..63])] {
        assert_eq!(refused(wrong), not_hex, "{wrong}");
    }
    // Made up, and one digit off.
    assert_eq!(refused(&"0".repeat(64)), other);
    let last = if id.ends_with('0') { '1' } else { '0' };
    assert_eq!(refused(&format!("{}{last}", &id[..63])), other);
    // Of the other class of the same worker.
    let reply = ledger.node.request("GET", "w", &format!("/id/{id}/count"), &[("x-binding", "OTHER")], b"");
    assert_eq!((reply.status, reply.text().as_str()), (400, other));
}

#[test]
fn two_classes_of_one_worker_have_objects_of_their_own() {
    let ledger = Ledger::with(&[], classes(&["Ledger", "Other"]));
    let other = |path: &str| {
        let reply = ledger.node.request("GET", "w", path, &[("x-binding", "OTHER")], b"");
        (reply.status, reply.text().trim_end().to_owned())
    };
    ledger.tell("/a/put?k=n&v=1");
    assert_eq!(other("/a/get?k=n").0, 404);
    assert_eq!(other("/a/put?k=n&v=2").0, 200);
    assert_eq!(ledger.value("a", "n").as_deref(), Some("1"));
    let whoami = other("/a/whoami").1;
    assert!(whoami.starts_with("Other ") && whoami.ends_with(" a"), "{whoami}");
    assert!(!whoami.contains(&id_of(&ledger, "a")), "{whoami}");
    assert!(ledger.tell("/a/whoami").starts_with("Ledger "));
    // One object calls the other.
    assert_eq!(ledger.tell("/a/call?binding=OTHER&to=a&path=get?k%3Dn"), "2");
}

#[test]
fn a_binding_that_is_not_there_is_told_with_those_that_are() {
    let ledger = Ledger::with(&[], classes(&["Ledger", "Other"]));
    let reply = ledger.node.request("GET", "w", "/a/count", &[("x-binding", "NOPE")], b"");
    let message = "no Durable Object binding is named `NOPE`; there are `LEDGER`, `OTHER`\n";
    assert_eq!((reply.status, reply.text().as_str()), (500, message));
}

#[test]
fn a_worker_itself_has_no_storage() {
    for ledger in [Ledger::start(), Ledger::of_02()] {
        let reply = ledger.ask("/-/storage");
        assert_eq!((reply.status, reply.text().as_str()), (500, "storage: StorageError::NotAnObject\n"));
    }
}

#[test]
fn objects_of_another_worker_run_that_workers_code_and_version() {
    let node = Node::start();
    let module = test_guest("ledger");
    let first = node.deploy_module("owner", &module, ledger_upload().tagged("o1"));
    let front = node.deploy_module("front", &module, borrowing("owner").tagged("f1"));
    let tell = |worker: &str, path: &str| {
        let reply = node.get(worker, path);
        assert_eq!(reply.status, 200, "{worker} {path}: {reply:?}");
        reply.text().trim_end().to_owned()
    };
    assert_eq!(tell("front", "/-/version"), format!("f1 {}", version_of(&front.json)));
    assert_eq!(tell("front", "/a/version"), format!("o1 {}", version_of(&first.json)));
    // It is the same object, by whichever worker it is called.
    assert_eq!(tell("front", "/-/id?name=a"), tell("owner", "/-/id?name=a"));
    tell("front", "/a/put?k=n&v=1");
    assert_eq!(tell("owner", "/a/get?k=n"), "1");
    assert_eq!(tell("front", "/a/count"), "4");

    // The owner's deployment moves it; the caller's does not.
    node.deploy_module("front", &module, borrowing("owner").tagged("f2"));
    assert_eq!(tell("front", "/a/count"), "5");
    node.deploy_module("owner", &module, again().tagged("o2"));
    assert!(tell("front", "/a/version").starts_with("o2 "));
    assert_eq!(tell("front", "/a/get?k=n"), "1");
}

fn version_of(upload: &serde_json::Value) -> String {
    upload["deployment_id"].as_str().expect("an id").to_owned()
}

#[test]
fn a_guest_that_only_speaks_http_reaches_objects_by_address() {
    let node = Node::start();
    // The objects of either kind; the worker in front is of WASI 0.2 and sends requests to `LEDGER.internal`.
    node.deploy_module("old", &test_guest("ledger-p2"), ledger_upload());
    node.deploy_module("new", &test_guest("ledger"), ledger_upload());
    node.deploy_module("front", &test_guest("ledger-p2"), borrowing("new"));
    for (front, own) in [("old", "old"), ("front", "new")] {
        let tell = |worker: &str, path: &str| {
            let reply = node.get(worker, path);
            assert_eq!(reply.status, 200, "{worker} {path}: {reply:?}");
            reply.text().trim_end().to_owned()
        };
        let whoami = tell(front, "/a/whoami");
        let id = whoami.split(' ').nth(1).unwrap().to_owned();
        assert_eq!(whoami, format!("Ledger {id} a"));
        assert_eq!(tell(own, "/a/whoami"), whoami);
        tell(front, "/a/put?k=n&v=1");
        assert_eq!(tell(front, &format!("/id/{id}/get?k=n")), "1");
        assert_eq!(tell(own, "/a/get?k=n"), "1");
        assert_eq!(tell(front, "/a/count"), "6");

        // What is refused is told in the guest's own terms.
        let wrong = node.get(front, "/id/xyz/count");
        assert_eq!(wrong.status, 599, "{wrong:?}");
        assert!(wrong.text().contains("Invalid Durable Object ID: must be 64 hex digits"), "{wrong:?}");
        let unbound = node.request("GET", front, "/a/count", &[("x-binding", "NOPE")], b"");
        assert_eq!((unbound.status, unbound.text().as_str()), (599, "ErrorCode::DestinationNotFound\n"));
    }
}

#[test]
fn by_address_an_error_of_the_object_is_a_response_that_says_what_a_stub_would() {
    let node = Node::start();
    node.deploy_module("new", &test_guest("ledger"), ledger_upload());
    node.deploy_module("front", &test_guest("ledger-p2"), borrowing("new"));
    for (path, status, told, text) in [
        ("/a/put-error?k=n&v=1", 500, "remote", "told to fail after a write"),
        ("/a/trap", 500, "remote, reset", "Durable Object reset because its code failed: "),
        ("/bad-open/count", 500, "remote", "the object `bad-open` does not open"),
    ] {
        let reply = node.get("front", path);
        assert_eq!((reply.status, reply.header("sluice-object-error")), (status, Some(told)), "{path}: {reply:?}");
        assert!(reply.text().contains(text), "{path}: {reply:?}");
        // The same by a stub.
        let error = error_of(&node.get("new", path));
        assert!(said(&error).contains(text) && said(&error).ends_with(&format!("({told})")), "{path}: {error}");
    }
}
