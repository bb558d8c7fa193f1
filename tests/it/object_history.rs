//! The history of one object: which versions it was assigned, by which deployments, and what really happened to it on this node.

use serde_json::{Value, json};

use crate::harness::browser::Browser;
use crate::harness::{Folder, Node, Upload, Version, example, list, test_guest, text, until};

fn upload(tag: &str) -> Upload {
    Upload::bindings(json!([
        { "type": "durable_object_namespace", "name": "COUNTER", "class_name": "Counter" },
        { "type": "version_metadata", "name": "CF_VERSION_METADATA" },
    ]))
    .tagged(tag)
}

/// Two versions of a worker `w` whose objects are counters, the first of them deployed.
fn stage(args: &[&str]) -> (Node, [Version; 2]) {
    let node = Node::with(args);
    let migrations = json!({ "new_tag": "v1", "steps": [{ "new_sqlite_classes": ["Counter"] }] });
    let first = node.deploy_module("w", &example("counter"), upload("v1").with("migrations", migrations));
    let second = node.upload_version("w", &example("counter"), upload("v2"));
    (node, [first, second])
}

fn count(node: &Node, name: &str) -> String {
    // An object that was reset at this moment is asked again.
    until("an answer", || {
        let reply = node.request("POST", "w", &format!("/{name}/increment"), &[], b"");
        (reply.status == 200).then(|| reply.text())
    })
}

fn history(node: &Node, name: &str) -> Value {
    node.api("GET", &format!("/scripts/w/objects/Counter/{name}/history?by=name"), &Value::Null)
}

fn deploy(node: &Node, shares: &[(&Version, f64)], message: &str, more: &Value) -> Value {
    let versions: Vec<Value> =
        shares.iter().map(|(version, share)| json!({ "version_id": version.id, "percentage": share })).collect();
    let mut body =
        json!({ "strategy": "percentage", "versions": versions, "annotations": { "workers/message": message } });
    if !more.is_null() {
        body["code_update_strategy"] = more.clone();
    }
    node.api("POST", "/scripts/w/deployments", &body)
}

/// The numbers of the versions that it was assigned, oldest first, and the messages of the deployments.
fn assigned(history: &Value) -> Vec<(u64, String)> {
    let told = |one: &Value| {
        (one["version_number"].as_u64().expect("a number"), one["message"].as_str().unwrap_or_default().to_owned())
    };
    list(&history["assignments"]).iter().rev().map(told).collect()
}

/// The numbers of the versions that it ran, oldest first, and why each stay ended.
fn ran(history: &Value) -> Vec<(u64, String)> {
    let told = |one: &Value| {
        (one["version_number"].as_u64().expect("a number"), one["ended_by"].as_str().unwrap_or("-").to_owned())
    };
    list(&history["stays"]).iter().rev().map(told).collect()
}

fn pairs(pairs: &[(u64, &str)]) -> Vec<(u64, String)> {
    pairs.iter().map(|(number, text)| (*number, (*text).to_owned())).collect()
}

#[test]
fn an_object_has_the_history_that_its_resets_show() {
    let (node, [one, two]) = stage(&["--object-idle", "10m"]);
    let folder = Folder::new();
    // At which share of the first version each would move; two that do not move at the same step.
    let leaves_at = |name: &str| {
        let told = node.run(&folder, &format!("objects explain {name} --name w --json")).done().json();
        told["changes_at"]["percentage"].as_f64().expect("a share")
    };
    let names: Vec<String> = (1..200).map(|n| format!("o{n}")).collect();
    let of = |shares: std::ops::Range<f64>| names.iter().find(|name| shares.contains(&leaves_at(name))).expect("one");
    let (early, late) = (of(80.0..100.0), of(0.0..50.0));
    [early, late].into_iter().for_each(|name| drop(count(&node, name)));
    let steps: [(&[(&Version, f64)], &str); 4] = [
        (&[(&two, 0.0), (&one, 100.0)], "nothing yet"),
        (&[(&two, 20.0), (&one, 80.0)], "a fifth"),
        (&[(&two, 50.0), (&one, 50.0)], "half"),
        (&[(&two, 100.0)], "all"),
    ];
    for (shares, message) in steps {
        deploy(&node, shares, message, &Value::Null);
        for name in [early, late] {
            let line = count(&node, name);
            let view = node.api("GET", &format!("/scripts/w/objects/Counter/{name}?by=name"), &Value::Null);
            assert!(line.contains(&format!("object on v{}", view["version_number"])), "{line} {view}");
        }
    }
    assert_eq!(assigned(&history(&node, early)), pairs(&[(1, ""), (2, "a fifth")]));
    assert_eq!(assigned(&history(&node, late)), pairs(&[(1, ""), (2, "all")]));
    for name in [early, late] {
        assert_eq!(ran(&history(&node, name)), pairs(&[(1, "reassigned"), (2, "-")]), "{name}");
    }

    // A rollback adds an entry, with who made it and why.
    node.cli(&["rollback", "1", "--name", "w", "--message", "it was slow", "--yes"]);
    count(&node, early);
    let back = history(&node, early);
    assert_eq!(assigned(&back), pairs(&[(1, ""), (2, "a fifth"), (1, "it was slow")]));
    assert_eq!(ran(&back), pairs(&[(1, "reassigned"), (2, "reassigned"), (1, "-")]));
    let newest = &back["assignments"][0];
    assert_eq!((&newest["triggered_by"], &newest["author_email"]), (&json!("rollback"), &json!("dev@localhost")));
    assert_eq!(newest["deployment_id"], node.deployments("w")[0]["id"]);
    // What happened lies where the deployments put it.
    let (assigned_on, left_on) = (text(&newest["on"]), text(&back["stays"][1]["ended_on"]));
    assert!(assigned_on <= left_on && left_on <= text(&back["stays"][0]["started_on"]), "{back}");

    // The same for people: the command line and the page.
    let told = node.run(&folder, &format!("objects history {early} --name w")).done();
    for part in ["it was slow", "a fifth", "reset: its version changed", "it is in memory", "dev@localhost"] {
        assert!(told.out.contains(part), "{part}: {told:?}");
    }
    assert_eq!(node.run(&folder, &format!("objects history {early} --name w --json")).done().json(), back);
    let ran = node.run(&folder, "objects history nobody --name w").failed();
    assert!(ran.err.contains("never was"), "{ran:?}");
    let browser = Browser::signed_in(&node);
    let place = browser.get(&format!("/workers/w/objects/find?class=Counter&name={early}"));
    let page = browser.page(place.header("location").expect("a place"));
    for part in
        ["Assigned", "it was slow", "rolled back", "its version changed", "Came to memory", "sluice objects history"]
    {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(page.contains(&format!("/workers/w/deployments#d-{}", text(&newest["deployment_id"]))), "{page}");
}

#[test]
fn an_object_that_never_moved_has_one_entry_and_what_befell_it_is_told_with_its_reason() {
    let (node, [one, two]) = stage(&["--object-idle", "400ms"]);
    let folder = Folder::new();
    count(&node, "a");
    deploy(&node, &[(&one, 100.0), (&two, 0.0)], "the same", &Value::Null);
    until("it leaves by itself", || (history(&node, "a")["stays"][0]["ended_by"] == "idle").then_some(()));
    count(&node, "a");
    node.run(&folder, "objects reset a --name w").done();
    until("it was reset", || (history(&node, "a")["stays"][0]["ended_by"] == "asked").then_some(()));
    count(&node, "a");
    node.run(&folder, "objects delete a --name w").done();
    let history = history(&node, "a");
    assert_eq!(assigned(&history), pairs(&[(1, "")]));
    // That it rested in between is not told as something that happened.
    assert_eq!(ran(&history), pairs(&[(1, "asked"), (1, "deleted")]));
    assert_eq!((&history["stays"][1]["starts"], &history["created_on"]), (&json!(2), &Value::Null));
    // A node that was started anew says since when it knows.
    let node = node.kill_and_restart();
    let after = node.api("GET", "/scripts/w/objects/Counter/a/history?by=name", &Value::Null);
    assert_eq!((assigned(&after), ran(&after)), (pairs(&[(1, "")]), Vec::new()));
    assert!(text(&after["stays_since"]) > text(&history["stays_since"]), "{after}");
    let (code, _) = node.api_error("GET", "/scripts/w/objects/Nothing/a/history?by=name", &Value::Null);
    assert_eq!(code, 95025);
}

#[test]
fn under_a_deferred_update_the_assignment_comes_before_the_reset_and_both_are_shown() {
    let (node, [_, two]) = stage(&["--object-idle", "10m"]);
    count(&node, "a");
    deploy(&node, &[(&two, 100.0)], "later", &json!({ "mode": "deferred", "max_delay": 2 }));
    let waiting = history(&node, "a");
    assert_eq!(assigned(&waiting), pairs(&[(1, ""), (2, "later")]));
    assert_eq!(ran(&waiting), pairs(&[(1, "-")]), "it goes on as it is");
    let after =
        until("the reset", || Some(history(&node, "a")).filter(|now| now["stays"][0]["ended_by"] == "reassigned"));
    let ms = |time: &Value| text(time).parse::<jiff::Timestamp>().expect("a time").as_millisecond();
    let apart = ms(&after["stays"][0]["ended_on"]) - ms(&after["assignments"][0]["on"]);
    assert!((1_000..60_000).contains(&apart), "{apart} ms: {after}");
}

#[test]
fn the_last_alarm_and_a_failure_are_told() {
    let node = Node::with(&["--object-idle", "10m"]);
    let migrations = json!({ "new_tag": "v1", "steps": [{ "new_sqlite_classes": ["Ledger"] }] });
    let binding = json!([{ "name": "LEDGER", "type": "durable_object_namespace", "class_name": "Ledger" }]);
    let upload = Upload::bindings(binding).with("migrations", migrations);
    node.deploy_module("ledger", &test_guest("ledger"), upload);
    let history =
        |name: &str| node.api("GET", &format!("/scripts/ledger/objects/Ledger/{name}/history?by=name"), &Value::Null);
    let ask = |path: &str| node.get("ledger", path);
    assert_eq!(ask("/a/alarm-set?in_ms=600000").status, 200);
    let set = history("a");
    assert!(set["alarm"].is_string() && set["last_alarm"].is_null(), "{set}");
    assert_eq!(ask("/a/alarm-set?in_ms=50").status, 200);
    let rang = until("the alarm", || Some(history("a")).filter(|now| now["last_alarm"]["outcome"] == "ok"));
    assert!(rang["alarm"].is_null() && rang["last_alarm"]["due_on"].is_string(), "{rang}");
    ask("/a/trap");
    let failed = until("the failure", || Some(history("a")).filter(|now| now["stays"][0]["ended_by"] == "failed"));
    assert!(text(&failed["stays"][0]["why"]).contains("trap"), "{failed}");
}
