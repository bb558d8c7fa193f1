//! Deployments: which are taken and which are refused, what they keep, and that requests go on while they are made.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::harness::node::split_body;
use crate::harness::{Connection, Node, Upload, Version, example, test_guest, until};

const KEY: &str = "cloudflare-workers-version-key";
const SMALL: &str = "silent-drop-async";

/// A worker whose versions answer with letters: `A from version …`, `B from …`. `A` is deployed.
fn letters(node: &Node, worker: &str, count: u8) -> Vec<Version> {
    let upload = |letter: u8| Upload::var("GREETING", char::from(letter).to_string().as_str());
    let mut versions = vec![node.deploy_module(worker, &example("version-teller"), upload(b'A'))];
    for letter in (b'B'..).take(usize::from(count) - 1) {
        versions.push(node.upload_version(worker, &example("version-teller"), upload(letter)));
    }
    versions
}

/// The letter that answers a request with these headers.
fn letter(connection: &mut Connection, worker: &str, headers: &str) -> char {
    let reply = connection.send(format!("GET / HTTP/1.1\r\nhost: {worker}.localhost\r\n{headers}\r\n")).reply();
    assert_eq!(reply.status, 200, "{reply:?}");
    char::from(reply.body[0])
}

/// The letters that answer these keys.
fn served(node: &Node, worker: &str, keys: &[String]) -> String {
    let mut connection = Connection::open(node.data);
    keys.iter().map(|key| letter(&mut connection, worker, &format!("{KEY}: {key}\r\n"))).collect()
}

fn deployments(node: &Node, worker: &str) -> Vec<Value> {
    let list = node.api("GET", &format!("/scripts/{worker}/deployments?per_page=100"), &Value::Null);
    list["deployments"].as_array().expect("a list").clone()
}

fn user_keys(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("user-{number}")).collect()
}

fn refused(node: &Node, body: &Value) -> (i64, String) {
    node.api_error("POST", "/scripts/letters/deployments", body)
}

#[test]
fn one_to_twenty_versions_share_the_traffic_in_the_order_given() {
    let node = Node::start();
    let mut versions = vec![node.deploy_module("letters", &test_guest(SMALL), Upload::default())];
    versions.extend((1..21).map(|_| node.upload_version("letters", &test_guest(SMALL), Upload::default())));
    let thousandths: Vec<f64> = (0..20).map(|index| if index == 7 { 99.981 } else { 0.001 }).collect();
    let twenty: Vec<f64> = vec![5.0; 20];
    for shares in [&[100.0][..], &[0.0, 100.0], &[33.333, 33.334, 33.333], &twenty, &thousandths] {
        // Newest first: the order is the caller's, not ours (`DEP-8`).
        let wish: Vec<(&Version, f64)> = versions.iter().rev().zip(shares.iter().copied()).collect();
        let made = node.split("letters", &wish);
        let expected: Vec<Value> =
            wish.iter().map(|(version, share)| json!({ "version_id": version.id, "percentage": share })).collect();
        let told: Vec<Value> = made["versions"].as_array().expect("versions").clone();
        let same = |a: &Value, b: &Value| {
            a["version_id"] == b["version_id"] && a["percentage"].as_f64() == b["percentage"].as_f64()
        };
        assert!(told.len() == expected.len() && told.iter().zip(&expected).all(|(a, b)| same(a, b)), "{made:#}");
        assert_eq!(deployments(&node, "letters")[0]["versions"], made["versions"]);
        let one =
            node.api("GET", &format!("/scripts/letters/deployments/{}", made["id"].as_str().unwrap()), &json!(null));
        assert_eq!(one["versions"], made["versions"]);
    }
    let too_many: Vec<(&Version, f64)> = versions.iter().map(|version| (version, 100.0 / 21.0)).collect();
    let (code, message) = refused(&node, &split_body(&too_many));
    assert_eq!((code, message.as_str()), (10210, "a deployment takes at most 20 versions, got 21"));
    // What is a thousandth off is taken, and put right.
    let made = node.split("letters", &[(&versions[0], 33.333), (&versions[1], 66.666)]);
    assert_eq!(made["versions"][1]["percentage"], 66.667);
}

#[test]
fn a_wrong_deployment_is_refused_with_what_is_wrong_and_changes_nothing() {
    let node = Node::start();
    let versions = letters(&node, "letters", 2);
    let other = node.deploy_module("other", &test_guest(SMALL), Upload::default());
    let (a, b) = (&versions[0], &versions[1]);
    let before = deployments(&node, "letters");
    let unknown = "11111111-1111-4111-8111-111111111111";
    let one = |id: &str| json!({ "strategy": "percentage", "versions": [{ "version_id": id, "percentage": 100 }] });
    let cases: Vec<(&str, Value, i64, Vec<&str>)> = vec![
        ("sum", split_body(&[(a, 20.0), (b, 70.0)]), 10210, vec!["sum to 90 %", "100 %"]),
        ("sum of one", split_body(&[(a, 99.998)]), 10210, vec!["sum to 99.998 %"]),
        ("over", split_body(&[(a, 50.001), (b, 50.001)]), 10210, vec!["sum to 100.002 %"]),
        ("below", split_body(&[(a, -1.0), (b, 101.0)]), 10210, vec![&a.id, "is -1,", "from 0 to 100"]),
        ("above", split_body(&[(a, 1e300)]), 10210, vec![&a.id, "from 0 to 100"]),
        ("twice", split_body(&[(a, 50.0), (a, 50.0)]), 10210, vec![&a.id, "twice"]),
        ("none", split_body(&[]), 10210, vec!["at least 1 version"]),
        ("unknown", one(unknown), 10210, vec![unknown, "`letters`"]),
        ("another worker's", one(&other.id), 10210, vec![&other.id, "`letters`"]),
        ("no id", one("latest"), 10210, vec!["`latest` is not an id"]),
        ("strategy", json!({ "strategy": "canary", "versions": [] }), 10210, vec!["`percentage`"]),
        ("text", json!({ "versions": [{ "version_id": a.id, "percentage": "100" }] }), 10026, vec!["line 1"]),
        ("no versions", json!({ "strategy": "percentage" }), 10026, vec!["version_id"]),
        ("a list", json!([]), 10026, vec!["version_id"]),
    ];
    for (what, body, code, fragments) in cases {
        let (got, message) = refused(&node, &body);
        assert_eq!(got, code, "{what}: {message}");
        for fragment in fragments {
            assert!(message.contains(fragment), "{what}: `{fragment}` is not in: {message}");
        }
        assert!(!message.contains('\n'), "{what}: {message}");
        assert_eq!(deployments(&node, "letters"), before, "{what}");
    }
    let nobody = node.api_error("POST", "/scripts/nobody/deployments", &split_body(&[(a, 100.0)]));
    assert_eq!(nobody.0, 10007, "{nobody:?}");
    let reply = node.api_request("POST", "/scripts/letters/deployments", &[], br#"{"versions": ["#);
    assert_eq!((reply.status, &reply.json()["errors"][0]["code"]), (400, &json!(10026)));
}

#[test]
fn if_match_lets_through_only_who_knows_the_present() {
    let node = Node::start();
    let versions = letters(&node, "letters", 2);
    let path = "/scripts/letters/deployments";
    let post = |tag: &str, version: &Version| {
        let body = split_body(&[(version, 100.0)]).to_string();
        node.api_request("POST", path, &[("if-match", tag)], body.as_bytes())
    };
    let read = node.api_request("GET", path, &[], b"");
    let tag = read.header("etag").expect("a tag").to_owned();
    let first = post(&tag, &versions[1]);
    assert_eq!(first.status, 200, "{first:?}");
    let newer = first.header("etag").expect("a tag").to_owned();
    assert_ne!(newer, tag);
    // The second of two who read the same is told so.
    let second = post(&tag, &versions[0]);
    assert_eq!((second.status, &second.json()["errors"][0]["code"]), (412, &json!(95009)));
    let message = second.json()["errors"][0]["message"].to_string();
    assert!(message.contains(newer.trim_matches('"')) && message.contains(tag.trim_matches('"')), "{message}");
    assert_eq!(deployments(&node, "letters").len(), 2);
    let wrong = post("yesterday", &versions[0]);
    assert_eq!((wrong.status, &wrong.json()["errors"][0]["code"]), (400, &json!(10004)));
    assert_eq!(post(&newer, &versions[0]).status, 200);
}

#[test]
fn a_dry_run_tells_what_would_happen_and_does_not_do_it() {
    let node = Node::start();
    let versions = letters(&node, "letters", 2);
    let before = deployments(&node, "letters");
    let half = split_body(&[(&versions[1], 20.0), (&versions[0], 80.0)]);
    let reply = node.api_raw("POST", "/scripts/letters/deployments?dry_run=true", &half);
    assert_eq!(reply["success"], true, "{reply:#}");
    assert_eq!(reply["result"]["sluice"]["moved_slots"], 20_000);
    assert!(reply["messages"].to_string().contains("dry run"), "{reply:#}");
    assert_eq!(deployments(&node, "letters"), before);
    assert_eq!(served(&node, "letters", &user_keys(20)), "A".repeat(20));
    // It is as strict as the call itself, and the call moves what it said.
    let wrong = split_body(&[(&versions[1], 20.0)]);
    assert_eq!(node.api_error("POST", "/scripts/letters/deployments?dry_run=true", &wrong).0, 10210);
    assert_eq!(node.api("POST", "/scripts/letters/deployments", &half)["sluice"]["moved_slots"], 20_000);
}

#[test]
fn what_is_live_is_not_deleted_and_what_is_deleted_is_gone() {
    let node = Node::start();
    let versions = letters(&node, "letters", 4);
    let [a, b, c, d] = versions.as_slice() else { panic!("four versions") };
    let version = |id: &str| format!("/scripts/letters/versions/{id}");
    node.split("letters", &[(b, 100.0)]);
    node.split("letters", &[(a, 0.0), (c, 100.0)]);
    let list = deployments(&node, "letters");
    let deployment = |index: usize| format!("/scripts/letters/deployments/{}", list[index]["id"].as_str().unwrap());
    // At 0 % it is in the deployment still (`DEP-6`).
    for (path, code) in
        [(version(&a.id), 10338), (version(&c.id), 10338), (version(&d.id), 10339), (deployment(0), 10338)]
    {
        assert_eq!(node.api_error("DELETE", &path, &json!(null)).0, code, "{path}");
    }
    let short = format!("{}-letters", &b.id[..8]);
    assert_eq!(node.get(&short, "/").status, 200);
    node.api("DELETE", &version(&b.id), &json!(null));
    assert_eq!(node.get(&short, "/").status, 404);
    assert_eq!(node.api_error("GET", &version(&b.id), &json!(null)).0, 10071);
    assert_eq!(node.api_error("DELETE", &version(&b.id), &json!(null)).0, 10071);
    assert_eq!(refused(&node, &split_body(&[(b, 100.0)])).0, 10210);
    // Clients read every version of every deployment that is listed.
    assert_eq!(deployments(&node, "letters").len(), 2);
    node.api("DELETE", &deployment(2), &json!(null));
    assert_eq!(node.api_error("DELETE", &deployment(2), &json!(null)).0, 10336);
    let node = node.kill_and_restart();
    assert_eq!(deployments(&node, "letters").len(), 1);
    assert_eq!(node.api_error("GET", &version(&b.id), &json!(null)).0, 10071);
    assert!(node.get("letters", "/").text().starts_with('C'));
}

#[test]
fn a_deployment_survives_a_kill_to_the_last_key() {
    let node = Node::start();
    let versions = letters(&node, "letters", 3);
    let keys = user_keys(200);
    // A history, so that no allotment could be worked out from the active split alone.
    for shares in [[20.0, 80.0, 0.0], [10.0, 30.0, 60.0], [45.5, 22.25, 32.25]] {
        node.split("letters", &versions.iter().rev().zip(shares).collect::<Vec<_>>());
    }
    let before = (deployments(&node, "letters"), served(&node, "letters", &keys));
    let node = node.kill_and_restart();
    assert_eq!((deployments(&node, "letters"), served(&node, "letters", &keys)), before);
    node.split("letters", &[(&versions[0], 100.0)]);
    let node = node.kill_and_restart();
    assert_eq!(served(&node, "letters", &keys), "A".repeat(200));
}

#[test]
fn no_request_is_dropped_while_fifty_deployments_are_made() {
    let node = Node::start();
    let versions = letters(&node, "letters", 3);
    let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|client| {
                let (node, stop, answered) = (&node, &stop, &answered);
                scope.spawn(move || {
                    let mut seen = BTreeMap::<char, usize>::new();
                    let mut connection = Connection::open(node.data);
                    while !stop.load(Ordering::Relaxed) {
                        // Two on one connection, two with a connection for each request.
                        if client % 2 == 0 {
                            connection = Connection::open(node.data);
                        }
                        *seen.entry(letter(&mut connection, "letters", "")).or_default() += 1;
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                    seen
                })
            })
            .collect();
        let mut own = Connection::open(node.data);
        for round in 0..50 {
            let (one, next) = (&versions[round % 3], &versions[(round + 1) % 3]);
            if round % 2 == 0 {
                node.split("letters", &[(one, 100.0)]);
                // In force at once: whoever asks after the answer is served by it.
                assert_eq!(letter(&mut own, "letters", ""), char::from(b"ABC"[round % 3]));
            } else {
                node.split("letters", &[(one, 30.0), (next, 70.0)]);
            }
            let so_far = answered.load(Ordering::Relaxed);
            until("requests go on", || (answered.load(Ordering::Relaxed) >= so_far + 8).then_some(()));
        }
        stop.store(true, Ordering::Relaxed);
        let seen: Vec<_> = clients.into_iter().map(|client| client.join().expect("every answer is a 200")).collect();
        assert!(seen.iter().flat_map(BTreeMap::values).sum::<usize>() >= 400, "{seen:?}");
        assert!(seen.iter().all(|seen| seen.keys().eq(['A', 'B', 'C'].iter())), "{seen:?}");
    });
    assert_eq!(deployments(&node, "letters").len(), 51);
}

#[test]
fn a_request_keeps_its_version_to_the_end() {
    let node = Node::with(&["--version-header"]);
    let first = node.deploy_module("echo", &example("echo-stream"), Upload::default());
    let mut open = Connection::open(node.data);
    open.send("POST / HTTP/1.1\r\nhost: echo.localhost\r\ntransfer-encoding: chunked\r\n\r\n").send_chunk(b"before, ");
    let head = open.head();
    assert_eq!(head.header("sluice-version"), Some(format!("{}; reason=random", first.id).as_str()));
    assert_eq!(open.chunk().as_deref(), Some(b"before, ".as_slice()));
    // Two deployments, and the first version deleted from under the request.
    let second = node.deploy_module("echo", &example("hello"), Upload::default());
    node.deploy_module("echo", &example("hello"), Upload::default());
    node.api("DELETE", &format!("/scripts/echo/versions/{}", first.id), &Value::Null);
    node.api("DELETE", &format!("/scripts/echo/versions/{}", second.id), &Value::Null);
    assert_eq!(node.get("echo", "/").text(), "Hello, World!\n");
    open.send_chunk(b"between, ");
    assert_eq!(open.chunk().as_deref(), Some(b"between, ".as_slice()));
    open.send_chunk(b"after").send("0\r\n\r\n");
    assert_eq!((open.chunk().as_deref(), open.chunk()), (Some(b"after".as_slice()), None));
}

/// Deploys `B` at these shares, one after the other, and returns which letters the keys got at each.
fn grow(node: &Node, worker: &str, versions: &[Version], shares: &[f64], keys: &[String]) -> Vec<String> {
    let step = |(index, share): (usize, &f64)| {
        let mut split = vec![(&versions[1], *share), (&versions[0], 100.0 - share)];
        // Neither the order nor a version at 0 % makes a difference (`SEL-5`).
        if index % 2 == 1 {
            split.reverse();
        }
        node.split(worker, &split);
        served(node, worker, keys)
    };
    shares.iter().enumerate().map(step).collect()
}

#[test]
fn keys_only_move_towards_the_version_that_grows() {
    let node = Node::start();
    let versions = letters(&node, "letters", 3);
    let keys = user_keys(400);
    let steps = grow(&node, "letters", &versions, &[0.0, 20.0, 50.0, 100.0], &keys);
    for pair in steps.windows(2) {
        let back = pair[0].chars().zip(pair[1].chars()).filter(|pair| *pair == ('B', 'A')).count();
        assert_eq!(back, 0, "{back} keys moved back");
    }
    let on_b: Vec<usize> = steps.iter().map(|step| step.matches('B').count()).collect();
    assert_eq!((on_b[0], on_b[3]), (0, 400));
    // Five deviations (of 8 and of 10) either way.
    assert!((40..=120).contains(&on_b[1]) && (150..=250).contains(&on_b[2]), "{on_b:?}");

    // Another restart, and the way back: the keys return in the order in which they went.
    let node = node.kill_and_restart();
    let back = grow(&node, "letters", &versions, &[50.0, 20.0, 0.0], &keys);
    assert_eq!(back[2], "A".repeat(400));
    for pair in [&steps[3], &back[0], &back[1], &back[2]].windows(2) {
        assert!(pair[0].chars().zip(pair[1].chars()).all(|pair| pair != ('A', 'B')));
    }
    // A third version takes from both, and moves no key between them.
    node.split("letters", &[(&versions[0], 50.0), (&versions[1], 50.0)]);
    let two = served(&node, "letters", &keys);
    node.split("letters", &[(&versions[2], 30.0), (&versions[1], 35.0), (&versions[0], 35.0)]);
    let three = served(&node, "letters", &keys);
    assert!(two.chars().zip(three.chars()).all(|(before, after)| before == after || after == 'C'));
}

/// The table of the seed. Which key moves when is decided by the worker's name; for this one it is as printed there.
#[test]
fn foo_bar_and_baz_move_as_the_documents_table_says() {
    let node = Node::start();
    let versions = letters(&node, "orchard", 2);
    let keys = ["foo", "bar", "baz"].map(str::to_owned);
    assert_eq!(grow(&node, "orchard", &versions, &[0.0, 20.0, 50.0, 100.0], &keys), ["AAA", "BAA", "BBA", "BBB"]);
}

#[test]
fn three_versions_get_the_shares_they_were_given() {
    let node = Node::start();
    let versions = letters(&node, "letters", 3);
    let shares = [10.0, 30.0, 60.0];
    node.split("letters", &versions.iter().zip(shares).collect::<Vec<_>>());
    let mut connection = Connection::open(node.data);
    let answers = 2000;
    let mut counts = BTreeMap::<char, f64>::new();
    for _ in 0..answers {
        *counts.entry(letter(&mut connection, "letters", "")).or_default() += 1.0;
    }
    let keys: Vec<String> = user_keys(5000);
    let explained = node.api("POST", "/scripts/letters/explain", &json!({ "keys": keys }));
    for (index, (letter, share)) in ['A', 'B', 'C'].into_iter().zip(shares).enumerate() {
        let deviation = |count: f64| (count * share / 100.0 * (1.0 - share / 100.0)).sqrt();
        let off = (counts[&letter] - f64::from(answers) * share / 100.0).abs();
        assert!(off <= 5.0 * deviation(f64::from(answers)), "{letter} got {} of {answers}", counts[&letter]);
        let achieved = &explained["achieved"][index];
        assert_eq!(
            (&achieved["version_id"], achieved["configured"].as_f64()),
            (&json!(versions[index].id), Some(share))
        );
        let off = achieved["count"].as_f64().expect("a count") - 5000.0 * share / 100.0;
        assert!(off.abs() <= 5.0 * deviation(5000.0), "{achieved:#}");
        assert_eq!(achieved["achieved"].as_f64(), achieved["count"].as_f64().map(|count| count / 50.0));
    }
}

#[test]
fn explain_says_what_is_served_and_at_which_share_that_would_change() {
    let node = Node::start();
    let versions = letters(&node, "letters", 3);
    let [a, b, c] = versions.as_slice() else { panic!("three versions") };
    node.split("letters", &[(b, 40.0), (a, 60.0)]);
    node.split("letters", &[(c, 0.0), (b, 50.0), (a, 50.0)]);
    let keys = user_keys(100);
    let explain = |body: Value| node.api("POST", "/scripts/letters/explain", &body)["answers"].clone();
    let answers = explain(json!({ "keys": keys }));
    let told: String = (0..keys.len())
        .map(|index| versions.iter().position(|version| answers[index]["version_id"] == version.id.as_str()))
        .map(|index| char::from(b"ABC"[index.expect("a version of the deployment")]))
        .collect();
    assert_eq!(told, served(&node, "letters", &keys));
    assert_eq!(node.api("GET", "/scripts/letters/explain?key=user-7", &json!(null))["answers"][0], answers[7]);

    // An override and a version's host win over the key; a draw is not foretold.
    let overriding = json!(["Cloudflare-Workers-Version-Overrides", format!("letters=\"{}\"", c.id)]);
    let host = json!(["Host", format!("{}-letters.localhost", &c.id[..8])]);
    for (headers, reason) in [(json!([overriding]), "override"), (json!([host]), "preview")] {
        let answer = &explain(json!({ "keys": ["user-7"], "headers": headers }))[0];
        assert_eq!((&answer["version_id"], &answer["reason"]), (&json!(c.id), &json!(reason)));
    }
    let drawn = &explain(json!({}))[0];
    assert_eq!((&drawn["version_id"], &drawn["reason"]), (&Value::Null, &json!("random")));

    // One thousandth above the share it names a key stays, at that share it leaves.
    let mut by_share: Vec<(f64, &str)> = (0..keys.len())
        .filter(|index| answers[*index]["version_id"] == b.id.as_str())
        .map(|index| (answers[index]["changes_at"]["percentage"].as_f64().expect("a share"), keys[index].as_str()))
        .collect();
    by_share.sort_by(|a, b| b.0.total_cmp(&a.0));
    assert!(by_share.len() > 10 && by_share[0].0 < 50.0);
    for (share, key) in [by_share[0], by_share[by_share.len() / 2], by_share[by_share.len() - 1]] {
        for (share, expected) in [(share + 0.001, "B"), (share, "A")] {
            node.split("letters", &[(b, share), (a, 100.0 - share)]);
            assert_eq!(served(&node, "letters", &[key.to_owned()]), expected, "{key} at {share} %");
        }
    }
}

#[test]
fn a_deployment_tells_who_why_and_what_it_was() {
    let node = Node::start();
    let versions = letters(&node, "letters", 2);
    let mut body = split_body(&[(&versions[1], 100.0)]);
    body["annotations"] = json!({ "workers/message": "é".repeat(600) });
    node.api("POST", "/scripts/letters/deployments", &body);
    node.split("letters", &[(&versions[0], 100.0)]);
    let list = deployments(&node, "letters");
    let triggers: Vec<&str> =
        list.iter().map(|made| made["annotations"]["workers/triggered_by"].as_str().unwrap_or("none")).collect();
    assert_eq!(triggers, ["rollback", "deployment", "upload"]);
    assert_eq!(list[1]["annotations"]["workers/message"], "é".repeat(500));
    assert!(list.windows(2).all(|pair| pair[0]["created_on"].as_str() >= pair[1]["created_on"].as_str()));
    assert!(list.iter().all(|made| made["strategy"] == "percentage" && made["source"] == "api"), "{list:#?}");
    // Our command line shows the same.
    let shown = node.cli(&["deployments", "list", "--name", "letters"]);
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.status.success(), "{shown:?}");
    for told in [&versions[0].id, &versions[1].id, "Rollback", &"é".repeat(500)] {
        assert!(text.contains(told), "{told} is not in: {text}");
    }
}
