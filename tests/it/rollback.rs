//! Rollback (`RBK-*`): one old version has all the traffic again, by an ordinary deployment; which one, when none is named;
//! what it does not touch; and when it is refused.

use serde_json::{Value, json};

use crate::harness::{Folder, Node, Ran, Upload, Version, example};

const NO_TARGET: &str =
    "Could not find stable Worker Version to rollback to. Please try again with an explicit Version ID.";

/// A worker `w` with that many versions, tagged `v1`, `v2`…; the first is deployed.
fn versions(node: &Node, count: usize) -> Vec<Version> {
    let upload = |number: usize| Upload::var("GREETING", &format!("v{number}")).tagged(&format!("v{number}"));
    let teller = example("version-teller");
    let mut all = vec![node.deploy_module("w", &teller, upload(1))];
    all.extend((2..=count).map(|number| node.upload_version("w", &teller, upload(number))));
    all
}

fn rollback(node: &Node, args: &str) -> Ran {
    node.run(&Folder::new(), &format!("rollback --name w {args}"))
}

fn deployments(node: &Node) -> Vec<Value> {
    let list = node.api("GET", "/scripts/w/deployments", &Value::Null);
    list["deployments"].as_array().expect("deployments").clone()
}

/// What is deployed, as pairs of id and share.
fn live(node: &Node) -> Vec<(String, f64)> {
    let shares = deployments(node)[0]["versions"].as_array().expect("versions").clone();
    let pair = |share: &Value| {
        (share["version_id"].as_str().expect("an id").to_owned(), share["percentage"].as_f64().expect("a share"))
    };
    shares.iter().map(pair).collect()
}

/// All the traffic is this version's: the record says so, and so do the answers.
fn assert_live(node: &Node, version: &Version) {
    assert_eq!(live(node), [(version.id.clone(), 100.0)]);
    assert!((0..20).all(|_| node.get("w", "/config/GREETING").text() == greeting(node, version)));
}

fn greeting(node: &Node, version: &Version) -> String {
    node.get(&format!("{}-w.localhost", &version.id[..8]), "/config/GREETING").text()
}

#[test]
fn it_is_a_deployment_of_one_old_version_and_no_new_version() {
    let node = Node::start();
    let all = versions(&node, 2);
    node.split("w", &[(&all[1], 100.0)]);
    assert_live(&node, &all[1]);
    let ran = rollback(&node, "").done();
    assert_live(&node, &all[0]);

    let list = deployments(&node);
    assert_eq!(list.len(), 3);
    let annotations = &list[0]["annotations"];
    assert_eq!(annotations, &json!({ "workers/message": "Rollback", "workers/triggered_by": "rollback" }));
    assert!(ran.out.contains(&format!("Deployment ID: {}", list[0]["id"].as_str().expect("an id"))), "{ran:?}");
    assert!(ran.err.contains("data, routes and domains stay as they are"), "{ran:?}");
    let count = node.api("GET", "/scripts/w/versions", &Value::Null)["items"].as_array().map(Vec::len);
    assert_eq!(count, Some(2));

    let ran = rollback(&node, &format!("{} --message forward-again --json", all[1].id)).done();
    assert_eq!(ran.json()["annotations"]["workers/message"], "forward-again");
    assert_eq!(ran.json()["versions"], json!([{ "version_id": all[1].id, "percentage": 100 }]));
    assert_live(&node, &all[1]);
    // It outlives the node.
    let node = node.kill_and_restart();
    assert_live(&node, &all[1]);
}

#[test]
fn from_a_split_both_entries_are_replaced() {
    let node = Node::start();
    let all = versions(&node, 3);
    node.split("w", &[(&all[2], 20.0), (&all[0], 80.0)]);
    rollback(&node, "").done();
    assert_live(&node, &all[0]);
    // Also by a version that is in the split, and by one that is not.
    node.split("w", &[(&all[2], 20.0), (&all[0], 80.0)]);
    rollback(&node, &all[2].id).done();
    assert_live(&node, &all[2]);
    node.split("w", &[(&all[2], 20.0), (&all[0], 80.0)]);
    rollback(&node, &all[1].id).done();
    assert_live(&node, &all[1]);
}

#[test]
fn the_default_is_the_last_version_that_had_everything() {
    let node = Node::start();
    let all = versions(&node, 4);
    // Splits are passed over; a version beside one at 0 % counts.
    node.split("w", &[(&all[1], 100.0), (&all[2], 0.0)]);
    node.split("w", &[(&all[2], 50.0), (&all[1], 50.0)]);
    node.split("w", &[(&all[2], 99.999), (&all[1], 0.001)]);
    node.split("w", &[(&all[3], 100.0)]);
    rollback(&node, "").done();
    assert_live(&node, &all[1]);
    // The rollback itself is a deployment like others: the way back leads to where it came from.
    rollback(&node, "").done();
    assert_live(&node, &all[3]);
}

/// E12: hosted, the very version that serves already may be chosen, and nothing happens.
#[test]
fn the_default_is_never_what_is_live_already() {
    let node = Node::start();
    let all = versions(&node, 3);
    node.split("w", &[(&all[1], 100.0)]);
    node.split("w", &[(&all[2], 0.0), (&all[1], 100.0)]);
    rollback(&node, "").done();
    assert_live(&node, &all[0]);

    let node = Node::start();
    let all = versions(&node, 2);
    node.split("w", &[(&all[1], 0.0), (&all[0], 100.0)]);
    let ran = rollback(&node, "").failed();
    assert!(ran.err.contains(NO_TARGET), "{ran:?}");
}

#[test]
fn without_a_version_to_return_to_it_says_so_and_does_nothing() {
    let node = Node::start();
    let all = versions(&node, 2);
    let ran = rollback(&node, "").failed();
    assert_eq!(ran.out, "");
    assert_eq!(ran.err, format!("error: {NO_TARGET}\nhint: `sluice versions list` shows the versions\n"));
    assert_eq!(deployments(&node).len(), 1);
    // Named, it is found.
    rollback(&node, &all[1].id).done();
    assert_live(&node, &all[1]);
}

#[test]
fn a_version_is_named_by_id_beginning_number_or_tag() {
    let node = Node::start();
    let all = versions(&node, 4);
    for (name, version) in [
        (&all[1].id[..8], &all[1]),
        ("#3", &all[2]),
        ("4", &all[3]),
        ("v1", &all[0]),
        (&all[2].id.to_uppercase(), &all[2]),
    ] {
        rollback(&node, name).done();
        assert_live(&node, version);
    }
    let before = deployments(&node).len();
    let ran = rollback(&node, "nothing").failed();
    assert!(ran.err.starts_with("error: no version is named `nothing`\nhint: `sluice versions list`"), "{ran:?}");
    let stranger = "11111111-1111-4111-8111-111111111111";
    let ran = rollback(&node, stranger).failed();
    assert!(ran.err.contains(&format!("worker `w` has no version `{stranger}`")), "{ran:?}");
    assert!(ran.err.contains("[code: 10071]"), "{ran:?}");
    assert_eq!((ran.out.as_str(), deployments(&node).len()), ("", before));
}

/// `RBK-5`, `VER-9`.
#[test]
fn only_the_newest_100_versions_can_be_returned_to() {
    let node = Node::start();
    let all = versions(&node, 2);
    for number in 3..=101 {
        let patch = json!({ "env": { "KEY": { "type": "secret_text", "text": number.to_string() } } });
        node.api("PATCH", "/workers/w/versions/latest", &patch);
    }
    // The second is the hundredth from the top, the first has fallen out.
    rollback(&node, &format!("{} --force", all[1].id)).done();
    assert_live(&node, &all[1]);
    for name in [&all[0].id[..], ""] {
        let ran = rollback(&node, &format!("{name} --force")).failed();
        assert!(ran.err.contains("it is not among the newest 100 versions [code: 10210]"), "`{name}`: {ran:?}");
        assert_eq!(ran.out, "", "`{name}`");
    }
    let ran = rollback(&node, "#1").failed();
    assert!(ran.err.contains("no version is named `#1`"), "{ran:?}");
    assert_live(&node, &all[1]);
}

#[test]
fn old_values_of_secrets_come_back_only_by_force() {
    let node = Node::start();
    let secret = |name: &str, text: &str| json!({ "type": "secret_text", "name": name, "text": text });
    let bindings = json!([secret("CHANGED", "old"), secret("GONE", "old"), secret("SAME", "same")]);
    let first = node.deploy_module("w", &example("version-teller"), Upload::bindings(bindings));
    let bulk = json!({ "secrets": { "CHANGED": secret("CHANGED", "new"), "GONE": null, "ADDED": secret("ADDED", "new"),
        "SAME": secret("SAME", "same") } });
    node.api("PATCH", "/scripts/w/secrets-bulk", &bulk);
    let latest = live(&node)[0].0.clone();
    let changed = |path: &str| node.get("w", &format!("/config/{path}")).text();

    // The API names them in the words that wrangler reads.
    let body = json!({ "strategy": "percentage", "versions": [{ "version_id": first.id, "percentage": 100 }] });
    let (code, text) = node.api_error("POST", "/scripts/w/deployments", &body);
    assert_eq!(code, 10220);
    assert!(text.ends_with("The following secrets have changed: ADDED, CHANGED, GONE"), "{text}");
    // A share of the traffic is enough to ask.
    let part = json!({ "strategy": "percentage", "versions": [
        { "version_id": first.id, "percentage": 1 }, { "version_id": latest, "percentage": 99 }] });
    assert_eq!(node.api_error("POST", "/scripts/w/deployments", &part).0, 10220);

    let ran = rollback(&node, "").failed();
    // `RBK-9b`: nothing that reads like success.
    assert_eq!(ran.out, "");
    for part in [
        "nothing was rolled back:\n  - ADDED\n  - CHANGED\n  - GONE\n",
        "hint: their old values would become live again; if that is meant, repeat it with `--force`",
    ] {
        assert!(ran.err.contains(part), "`{part}` is not in: {}", ran.err);
    }
    assert_eq!((changed("CHANGED").as_str(), deployments(&node).len()), ("new", 2));

    let ran = rollback(&node, "--force").done();
    assert!(ran.err.contains("the old values of these secrets become live again: ADDED, CHANGED, GONE"), "{ran:?}");
    assert_eq!(live(&node), [(first.id.clone(), 100.0)]);
    assert_eq!((changed("CHANGED").as_str(), changed("GONE").as_str()), ("old", "old"));
    assert_eq!(node.get("w", "/config/ADDED").status, 404);

    // Forward is no way back, and needs no force. wrangler's `-y` is the same as ours.
    rollback(&node, &latest).done();
    assert_eq!(changed("CHANGED"), "new");
    rollback(&node, "-y").done();
    assert_eq!(changed("CHANGED"), "old");
}

#[test]
fn secrets_that_are_the_same_stand_in_no_way() {
    let node = Node::start();
    let secret = json!([{ "type": "secret_text", "name": "KEY", "text": "same" }]);
    let first = node.deploy_module("w", &example("version-teller"), Upload::bindings(secret));
    node.deploy_module("w", &example("version-teller"), Upload::var("GREETING", "second"));
    rollback(&node, "").done();
    assert_eq!(live(&node), [(first.id, 100.0)]);
}

/// `RBK-11`: what is no part of a version stays, and follows the version that is live.
#[test]
fn routes_domains_and_settings_stay() {
    let node = Node::start();
    let all = versions(&node, 2);
    node.split("w", &[(&all[1], 100.0)]);
    node.api("PUT", "/scripts/w/routes", &json!([{ "pattern": "shop.test/api/*" }]));
    let records = json!({ "override_scope": true, "override_existing_origin": true, "override_existing_dns_record": true,
        "origins": [{ "hostname": "www.shop.test" }] });
    node.api("PUT", "/scripts/w/domains/records", &records);
    node.api("PATCH", "/scripts/w/script-settings", &json!({ "tags": ["team"], "observability": { "enabled": true } }));
    let paths = ["/scripts/w/routes", "/scripts/w/subdomain", "/scripts/w/script-settings", "/workers/w"];
    let all_settings = || paths.map(|path| node.api("GET", path, &Value::Null));
    let before = all_settings();
    let hosts = [("shop.test", "/api/x"), ("www.shop.test", "/"), ("w.localhost", "/")];
    let told = || hosts.map(|(host, path)| node.get(host, path).text());
    assert!(told()[1..].iter().all(|text| text.starts_with("v2 from version")), "{:?}", told());

    rollback(&node, "").done();
    assert_eq!(all_settings(), before);
    assert!(told()[1..].iter().all(|text| text.starts_with("v1 from version")), "{:?}", told());
    assert_eq!(node.get("shop.test", "/api/x").text(), "not found\n", "the route leads to the worker");
    assert_ne!(node.get("shop.test", "/other").text(), "not found\n");
}

#[test]
fn a_file_that_is_ahead_or_broken_is_no_obstacle() {
    let node = Node::start();
    let folder = Folder::project("name = \"w\"\nmain = \"worker.wasm\"\n[vars]\nGREETING = \"v1\"\n");
    node.run(&folder, "deploy").done();
    folder.write("wrangler.toml", "name = \"w\"\nmain = \"worker.wasm\"\n[vars]\nGREETING = \"v2\"\n");
    node.run(&folder, "deploy").done();
    // Whoever needs a rollback may have broken the file as well.
    folder.write("wrangler.toml", "name = \"w\"\nmain = 3\nr2_buckets = [{}]\n");
    node.run(&folder, "rollback").done();
    assert!(node.get("w", "/").text().starts_with("v1"));
}
