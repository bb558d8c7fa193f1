//! An object runs one version at a time: the one that owns its slot. It is reset when that changes, once, and for nothing else
//! (O2, O3, `GDO-1`…`GDO-8`, `DOU-1`…`DOU-5`).

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::http;
use crate::harness::{Node, Upload, Version, at_once, test_guest, until};

const RESET: &str = "Durable Object reset because its code was updated.";

fn upload(tag: &str) -> Upload {
    Upload::bindings(json!([
        { "name": "LEDGER", "type": "durable_object_namespace", "class_name": "Ledger" },
        { "name": "CF_VERSION_METADATA", "type": "version_metadata" },
    ]))
    .tagged(tag)
}

/// The first version, with the class, at 100 %.
fn first(node: &Node) -> Version {
    let migrations = json!({ "new_tag": "v1", "steps": [{ "new_sqlite_classes": ["Ledger"] }] });
    node.deploy_module("ledger", &test_guest("ledger"), upload("one").with("migrations", migrations))
}

fn next(node: &Node, tag: &str) -> Version {
    node.upload_version("ledger", &test_guest("ledger"), upload(tag))
}

fn ask(node: &Node, path: &str) -> String {
    let reply = node.get("ledger", path);
    assert_eq!(reply.status, 200, "{path}: {reply:?}");
    reply.text().trim().to_owned()
}

/// The tag of the version that an object runs.
fn runs(node: &Node, object: &str) -> String {
    ask(node, &format!("/{object}/version")).split(' ').next().unwrap_or_default().to_owned()
}

/// How many requests the object's instance has had, this one included.
fn count(node: &Node, object: &str) -> u32 {
    ask(node, &format!("/{object}/count")).parse().expect("a number")
}

fn objects(node: &Node) -> Value {
    node.api("GET", "/scripts/ledger/objects?per_page=1000", &json!(null))
}

/// What the API says an object is assigned, by the number of the version.
fn assigned(node: &Node, name: &str) -> u64 {
    let view = node.api("GET", &format!("/scripts/ledger/objects/Ledger/{name}?by=name"), &json!(null));
    view["version_number"].as_u64().expect("a number")
}

fn deploy(node: &Node, shares: &[(&Version, f64)], strategy: Value) -> Value {
    let versions: Vec<Value> =
        shares.iter().map(|(version, share)| json!({ "version_id": version.id, "percentage": share })).collect();
    let mut body = json!({ "strategy": "percentage", "versions": versions });
    if !strategy.is_null() {
        body["code_update_strategy"] = strategy;
    }
    node.api("POST", "/scripts/ledger/deployments", &body)
}

#[test]
fn objects_move_with_their_share_and_each_is_reset_exactly_once() {
    const OBJECTS: usize = 60;
    let node = Node::start();
    let one = first(&node);
    let two = next(&node, "two");
    let names: Vec<String> = (0..OBJECTS).map(|n| format!("object-{n}")).collect();
    // Each has been asked so often since it last came to memory.
    let mut asked: BTreeMap<&str, u32> = names.iter().map(|name| (name.as_str(), 0)).collect();
    let mut resets = 0;
    for name in &names {
        assert_eq!(count(&node, name), 1);
        asked.insert(name, 1);
    }
    let mut before: Vec<u64> = vec![1; OBJECTS];
    for share in [0.0, 20.0, 50.0, 100.0] {
        let shares: Vec<_> =
            [(&two, share), (&one, 100.0 - share)].into_iter().filter(|(_, p)| share < 100.0 || *p > 0.0).collect();
        node.split("ledger", &shares);
        let now: Vec<u64> = names.iter().map(|name| assigned(&node, name)).collect();
        for (index, name) in names.iter().enumerate() {
            // Nothing moves backwards (`GDO-4`).
            assert!(now[index] >= before[index], "{name}");
            let counted = count(&node, name);
            if now[index] == before[index] {
                // It was not touched at all (`DOU-5`).
                assert_eq!(counted, asked[name.as_str()] + 1, "{name} at {share} %");
            } else {
                assert_eq!(counted, 1, "{name} at {share} %");
                resets += 1;
            }
            asked.insert(name, counted);
            assert_eq!(runs(&node, name), if now[index] == 1 { "one" } else { "two" });
            *asked.get_mut(name.as_str()).unwrap() += 1;
        }
        let moved = now.iter().filter(|number| **number == 2).count();
        match share {
            0.0 => assert_eq!(moved, 0),
            100.0 => assert_eq!(moved, OBJECTS),
            // A fair share of them; the slots are fixed by the names and the namespace's id, which is drawn.
            share => {
                let expected = OBJECTS as f64 * share / 100.0;
                assert!((moved as f64 - expected).abs() < 18.0, "{moved} of {expected}");
            }
        }
        before = now;
    }
    assert_eq!(resets, OBJECTS);
    assert_eq!(objects(&node)["since_start"]["reassigned"], OBJECTS);
    let metrics = http::request(node.control, "GET", "/metrics", &[("host", &node.control.to_string())], b"").text();
    for line in [
        format!(
            "sluice_object_resets_total{{worker=\"ledger\",version=\"{}\",why=\"reassigned\"}} {OBJECTS}\n",
            one.id
        ),
        format!("sluice_object_starts_total{{worker=\"ledger\",version=\"{}\"}} {OBJECTS}\n", two.id),
        format!("sluice_objects_live {OBJECTS}\n"),
    ] {
        assert!(metrics.contains(&line), "{line} is not in {metrics}");
    }
    // A rollback takes them back, once more (`RBK-10`).
    node.split("ledger", &[(&one, 100.0)]);
    assert_eq!(runs(&node, "object-0"), "one");
}

#[test]
fn what_is_not_reassigned_sees_nothing_of_a_deployment() {
    let node = Node::start();
    let one = first(&node);
    let two = next(&node, "two");
    thread::scope(|scope| {
        let mut streams = Vec::new();
        for n in 0..8 {
            let node = &node;
            streams.push(scope.spawn(move || {
                let reply = node.get("ledger", &format!("/s{n}/stream?n=20&ms=50&k=n"));
                (n, reply)
            }));
        }
        thread::sleep(Duration::from_millis(200));
        // The same version again, another one at 0 %, and the same split again: no assignment changes (`DOU-5`).
        node.split("ledger", &[(&one, 100.0)]);
        node.split("ledger", &[(&two, 0.0), (&one, 100.0)]);
        node.split("ledger", &[(&one, 100.0), (&two, 0.0)]);
        for stream in streams {
            let (n, reply) = stream.join().unwrap();
            assert_eq!(reply.text().lines().count(), 20, "{n}: {reply:?}");
        }
    });
    assert_eq!(objects(&node)["since_start"], json!({ "started": 8, "reassigned": 0, "failed": 0 }));
}

#[test]
fn callers_in_flight_are_told_and_what_was_written_stays() {
    let node = Node::start();
    let one = first(&node);
    let two = next(&node, "two");
    ask(&node, "/a/put?k=n&v=7");
    thread::scope(|scope| {
        let waiting = scope.spawn(|| node.get("ledger", "/a/two?v=1&pause=20000"));
        until("the object is in between", || (node.get("ledger", "/a/get?k=a").status == 200).then_some(()));
        let began = Instant::now();
        node.split("ledger", &[(&two, 100.0)]);
        let reply = waiting.join().unwrap();
        assert!(began.elapsed() < Duration::from_secs(5));
        assert_eq!(reply.status, 599, "{reply:?}");
        let error = reply.json();
        assert_eq!(
            error,
            json!({ "message": RESET, "remote": false, "retryable": false, "overloaded": false, "reset": true })
        );
    });
    assert_eq!(runs(&node, "a"), "two");
    assert_eq!(count(&node, "a"), 2);
    assert_eq!(ask(&node, "/a/get?k=n"), "7");
    drop(one);
}

#[test]
fn what_the_old_instance_had_not_written_is_never_written() {
    let node = Node::start();
    let one = first(&node);
    let two = next(&node, "two");
    ask(&node, "/a/background?ms=400&k=late");
    node.split("ledger", &[(&two, 100.0)]);
    assert_eq!(node.get("ledger", "/a/get?k=late").status, 404);
    thread::sleep(Duration::from_millis(600));
    assert_eq!(node.get("ledger", "/a/get?k=late").status, 404);
    drop(one);
}

#[test]
fn requests_keys_and_overrides_never_move_an_object() {
    let node = Node::start();
    let one = first(&node);
    let two = next(&node, "two");
    node.split("ledger", &[(&one, 100.0), (&two, 0.0)]);
    assert_eq!(count(&node, "a"), 1);
    let overrides = format!("ledger=\"{}\"", two.id);
    let headers =
        [("Cloudflare-Workers-Version-Overrides", overrides.as_str()), ("Cloudflare-Workers-Version-Key", "k")];
    let itself = node.request("GET", "ledger", "/-/version", &headers, b"");
    assert!(itself.text().starts_with("two "), "{itself:?}");
    let object = node.request("GET", "ledger", "/a/version", &headers, b"");
    assert!(object.text().starts_with("one "), "{object:?}");
    assert_eq!(count(&node, "a"), 3);
}

#[test]
fn a_version_of_its_own_host_has_a_copy_of_the_objects() {
    let node = Node::start();
    let one = first(&node);
    let two = next(&node, "two");
    ask(&node, "/a/put?k=n&v=base");
    ask(&node, "/a/put?k=kept&v=base");
    let host = format!("{}-ledger", &two.id[..8]);
    let copy = |path: &str| node.get(&host, path);
    assert!(copy("/a/version").text().starts_with("two "), "{:?}", copy("/a/version"));
    // What is there is read through, and what is written stays in the copy.
    assert_eq!(copy("/a/get?k=n").text().trim(), "base");
    assert_eq!(copy("/a/put?k=n&v=copy").status, 200);
    assert_eq!(copy("/a/put?k=new&v=copy").status, 200);
    assert_eq!(copy("/a/delete?k=kept").text().trim(), "1");
    assert_eq!(copy("/a/list").text(), "n=copy\nnew=copy\n");
    assert_eq!(ask(&node, "/a/list"), "kept=base\nn=base");
    assert_eq!(runs(&node, "a"), "one");
    // It outlives the process, as the objects do.
    let node = node.kill_and_restart();
    assert_eq!(node.get(&host, "/a/list").text(), "n=copy\nnew=copy\n");
    assert_eq!(node.get(&host, "/a/delete-all").status, 200);
    assert_eq!(node.get(&host, "/a/list").text(), "");
    assert_eq!(ask(&node, "/a/list"), "kept=base\nn=base");
    // With the version goes its copy.
    next(&node, "three");
    node.api("DELETE", &format!("/scripts/ledger/versions/{}", two.id), &json!(null));
    assert_eq!(node.get(&host, "/a/list").status, 404);
    assert_eq!(ask(&node, "/a/get?k=n"), "base");
    drop(one);
}

#[test]
fn a_deferred_update_waits_until_the_object_leaves_memory_or_the_delay_is_over() {
    let node = Node::with(&["--object-idle", "700ms"]);
    let one = first(&node);
    let (two, three) = (next(&node, "two"), next(&node, "three"));
    assert_eq!(count(&node, "busy"), 1);
    assert_eq!(count(&node, "idle"), 1);
    let deferred = |seconds: u32| json!({ "mode": "deferred", "max_delay": seconds });
    deploy(&node, &[(&two, 100.0)], deferred(300));
    // Both are assigned the new one and go on with the old one.
    assert_eq!((assigned(&node, "busy"), runs(&node, "busy")), (2, "one".to_owned()));
    let view = node.api("GET", "/scripts/ledger/objects/Ledger/busy?by=name", &json!(null));
    assert_eq!((&view["live"], &view["running_version_number"]), (&json!(true), &json!(1)));
    assert!(view["switches_in_s"].as_u64().is_some_and(|left| left > 250), "{view}");
    // An object that was not in memory starts with the new one.
    assert_eq!(runs(&node, "fresh"), "two");
    // What comes in between is skipped: it takes the newest when it leaves memory by itself.
    deploy(&node, &[(&three, 100.0)], deferred(300));
    thread::scope(|scope| {
        let long = scope.spawn(|| node.get("ledger", "/busy/sleep?ms=2500"));
        thread::sleep(Duration::from_millis(1_500));
        assert_eq!(runs(&node, "idle"), "three");
        assert_eq!(runs(&node, "busy"), "one");
        assert_eq!(long.join().unwrap().status, 200);
    });
    // When the delay is over it is reset, whatever it does.
    deploy(&node, &[(&two, 100.0)], deferred(1));
    thread::scope(|scope| {
        let reply = scope.spawn(|| node.get("ledger", "/busy/sleep?ms=20000")).join().unwrap();
        assert_eq!((reply.status, &reply.json()["message"]), (599, &json!(RESET)));
    });
    assert_eq!(runs(&node, "busy"), "two");
    drop(one);
}

#[test]
fn rapid_deployments_do_not_keep_an_object_from_answering() {
    let node = Node::start();
    let one = first(&node);
    let two = next(&node, "two");
    let deadline = Instant::now() + Duration::from_secs(8);
    thread::scope(|scope| {
        let deploying = scope.spawn(|| {
            let mut deployments = 0;
            while Instant::now() < deadline {
                node.split("ledger", &[(if deployments % 2 == 0 { &two } else { &one }, 100.0)]);
                deployments += 1;
                thread::sleep(Duration::from_millis(150));
            }
            deployments
        });
        // Its start takes longer than a deployment lasts.
        let mut answers = 0;
        while Instant::now() < deadline {
            let reply = node.get("ledger", "/slow-open-400/whoami");
            answers += u32::from(reply.status == 200);
        }
        let deployments = deploying.join().unwrap();
        assert!(deployments > 20, "{deployments}");
        assert!(answers >= 3, "{answers} answers during {deployments} deployments");
    });
}

#[test]
fn a_dry_run_tells_what_would_move_and_moves_nothing() {
    let node = Node::start();
    let one = first(&node);
    let two = next(&node, "two");
    at_once(40, |n| ask(&node, &format!("/o{n}/put?k=n&v=1")));
    let body = json!({ "strategy": "percentage", "versions": [
        { "version_id": two.id, "percentage": 50 }, { "version_id": one.id, "percentage": 50 } ] });
    let dry = node.api("POST", "/scripts/ledger/deployments?dry_run=true", &body);
    let plan = &dry["sluice"]["objects"];
    let moving = plan["moving"].as_u64().unwrap();
    assert_eq!(plan["objects"], 40);
    assert!((5..=35).contains(&moving), "{plan}");
    assert_eq!(plan["live_moving"], moving);
    assert_eq!(plan["moves"], json!([{ "from": one.id, "to": two.id, "objects": moving }]));
    assert_eq!(objects(&node)["since_start"]["reassigned"], 0);
    node.split("ledger", &[(&two, 50.0), (&one, 50.0)]);
    until("the objects are reset", || (objects(&node)["since_start"]["reassigned"] == moving).then_some(()));
    let page = objects(&node);
    let on_two = page["objects"].as_array().unwrap().iter().filter(|object| object["version_number"] == 2).count();
    assert_eq!(on_two as u64, moving);
}
