//! Rollouts: a version gets more and more of the traffic while its guards hold, by ordinary deployments that say why. Steps last a
//! second here, and requests are sent until something has happened; nothing depends on how many there are in a second.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use serde_json::{Value, json};

use crate::harness::{Folder, Node, Upload, Version, example, http, test_guest, until};

/// Requests to worker `w`, one after the other, until this is dropped.
struct Traffic {
    stop: Arc<AtomicBool>,
    sending: Option<JoinHandle<()>>,
}

impl Traffic {
    fn to(node: &Node, path: &'static str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, address) = (Arc::clone(&stop), node.data);
        let sending = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                // A node that is killed in the middle is not there for a moment.
                let _ = http::try_request(address, "GET", path, &[("host", "w.localhost")], b"");
            }
        });
        Self { stop, sending: Some(sending) }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(sending) = self.sending.take() {
            let _ = sending.join();
        }
    }
}

/// A worker `w`: `hello` is deployed, and `module` is version 2.
fn stage(node: &Node, module: &std::path::Path) -> [Version; 2] {
    let old = node.deploy_module("w", &example("hello"), Upload::default());
    [old, node.upload_version("w", module, Upload::default().tagged("next"))]
}

fn rollout(node: &Node) -> Value {
    node.api("GET", "/scripts/w/rollout", &Value::Null)
}

/// Starts one to `version` whose steps last a second.
fn start(node: &Node, version: &Version, steps: &[f64], guards: &[&str]) -> Value {
    let body = json!({ "version_id": version.id, "steps": steps, "every_seconds": 1, "guards": guards });
    node.api("POST", "/scripts/w/rollout", &body)
}

/// Waits until it is in that state.
fn becomes(node: &Node, state: &str) -> Value {
    until(state, || Some(rollout(node)).filter(|rollout| rollout["state"] == state))
}

/// The messages of the deployments, oldest first; those that have none are left out.
fn messages(node: &Node) -> Vec<String> {
    let list = node.deployments("w");
    let told = list.iter().rev().filter_map(|deployment| deployment["annotations"]["workers/message"].as_str());
    told.map(str::to_owned).collect()
}

/// What is deployed, as pairs of id and share.
fn live(node: &Node) -> Value {
    node.deployments("w")[0]["versions"].clone()
}

fn all_to(version: &Version) -> Value {
    json!([{ "version_id": version.id, "percentage": 100 }])
}

#[test]
fn a_good_version_gets_everything_and_the_deployments_say_why() {
    let node = Node::start();
    let [_, new] = stage(&node, &example("version-teller"));
    let _traffic = Traffic::to(&node, "/");
    let folder = Folder::new();
    let ran =
        node.run(&folder, "rollout start w --to next --steps 30,60,100 --every 1s --guard error_rate<20% --watch");
    let ran = ran.done();
    assert_eq!(live(&node), all_to(&new));
    let messages = messages(&node);
    assert_eq!(messages.len(), 3, "{messages:?}");
    assert_eq!(messages[0], "rollout 0 % -> 30 %: started, at least 1 s for each step while error_rate<20%");
    for (message, step) in messages[1..].iter().zip(["30 % -> 60 %", "60 % -> 100 %"]) {
        assert!(message.starts_with(&format!("rollout {step}: error_rate 0 % of ")), "{message}");
    }
    // Who watches reads the same.
    assert!(messages.iter().all(|message| ran.out.contains(message.as_str())), "{ran:?}");

    let done = rollout(&node);
    assert_eq!((&done["state"], &done["percentage"]), (&json!("done"), &json!(100)));
    let deployments = node.deployments("w");
    for (step, deployment) in done["steps"].as_array().expect("steps").iter().zip(deployments.iter().rev().skip(1)) {
        assert_eq!(step["deployment_id"], deployment["id"]);
        assert_eq!(deployment["annotations"]["workers/triggered_by"].as_str().map(str::is_empty), Some(false));
    }
    let status = node.run(&folder, "rollout status w").done();
    assert!(status.out.contains("State:    done, 100% of the traffic"), "{status:?}");
    assert!(status.out.contains("error_rate<20%  holds"), "{status:?}");
}

#[test]
fn a_version_that_fails_is_rolled_back_at_once_and_it_is_said_why() {
    let node = Node::start();
    let [old, new] = stage(&node, &test_guest("trap"));
    let body = json!({ "version_id": new.id, "steps": [20, 100], "every_seconds": 3600 });
    node.api("POST", "/scripts/w/rollout", &body);
    let _traffic = Traffic::to(&node, "/");
    let failed = becomes(&node, "failed");
    assert_eq!(live(&node), all_to(&old));
    let message = messages(&node).pop().expect("a message");
    assert!(message.starts_with("rollout 20 % -> 0 %: error_rate<+1% is broken: error_rate 100 % of "), "{message}");
    assert!(message.contains("(old 0 % of "), "{message}");
    assert_eq!(failed["reason"], message);
    assert_eq!((&failed["guards"][0]["state"], &failed["percentage"]), (&json!("broken"), &json!(0)));
    let ran = node.run(&Folder::new(), "rollout status w --watch").failed();
    assert!(ran.err.contains("failed, and the old version has everything again"), "{ran:?}");
    assert!(ran.err.contains("error_rate<+1% is broken"), "{ran:?}");
}

#[test]
fn a_version_that_is_too_slow_is_rolled_back() {
    let node = Node::start();
    let [old, new] = stage(&node, &test_guest("slow-stream"));
    // It cannot take less than 100 ms, on whatever machine.
    start(&node, &new, &[50.0, 100.0], &["p50<90ms"]);
    let _traffic = Traffic::to(&node, "/?chunks=1");
    becomes(&node, "failed");
    assert_eq!(live(&node), all_to(&old));
    let message = messages(&node).pop().expect("a message");
    assert!(message.starts_with("rollout 50 % -> 0 %: p50<90ms is broken: p50 1"), "{message}");
}

#[test]
fn without_traffic_it_waits_and_says_for_what() {
    let node = Node::start();
    let [_, new] = stage(&node, &example("version-teller"));
    start(&node, &new, &[50.0, 100.0], &["error_rate<20%", "p99<2x"]);
    let waiting = until("data", || Some(rollout(&node)).filter(|rollout| rollout["waiting_for"] == "data"));
    assert_eq!((&waiting["state"], &waiting["percentage"]), (&json!("running"), &json!(50)));
    assert!(waiting["next"]["due_on"].is_string(), "{waiting}");
    for guard in waiting["guards"].as_array().expect("guards") {
        assert_eq!(guard["state"], "not_enough_data");
        assert!(guard["missing"].as_str().is_some_and(|missing| missing.contains("more requests of the")), "{guard}");
        assert!(guard["requests_needed"].as_u64() > Some(10), "{guard}");
    }
    let status = node.run(&Folder::new(), "rollout status w").done();
    assert!(status.out.contains("100% as soon as every guard holds"), "{status:?}");
    assert!(status.out.contains("not enough data"), "{status:?}");
}

#[test]
fn it_is_paused_resumed_and_aborted() {
    let node = Node::start();
    let [old, new] = stage(&node, &test_guest("trap"));
    start(&node, &new, &[50.0, 100.0], &["error_rate<20%"]);
    let folder = Folder::new();
    let ran = node.run(&folder, "rollout pause w").done();
    assert!(ran.out.contains("w: paused by "), "{ran:?}");
    let traffic = Traffic::to(&node, "/");
    // The guard is broken, and still nothing happens.
    until("a broken guard", || (rollout(&node)["guards"][0]["state"] == "broken").then_some(()));
    assert_eq!(rollout(&node)["state"], "paused");
    assert_eq!(live(&node)[1], json!({ "version_id": new.id, "percentage": 50 }));
    drop(traffic);

    let resumed = node.run(&folder, "rollout resume w --json").done().json();
    assert_eq!((&resumed["state"], &resumed["window"]["new"]["requests"]), (&json!("running"), &json!(0)));
    let (code, message) = node.api_error("POST", "/scripts/w/rollout/resume", &Value::Null);
    assert_eq!(code, 95043);
    assert!(message.contains("is running, so it cannot be resumed"), "{message}");
    let ran = node.run(&folder, "rollout abort w").done();
    assert!(ran.out.contains("w: rollout 50 % -> 0 %: aborted by "), "{ran:?}");
    assert_eq!(live(&node), all_to(&old));
    assert_eq!(rollout(&node)["state"], "aborted");
    assert_eq!(node.api_error("POST", "/scripts/w/rollout/abort", &Value::Null).0, 95043);
}

#[test]
fn a_person_steps_it_forward_by_hand_and_the_deployment_says_so() {
    let node = Node::start();
    let [old, new] = stage(&node, &test_guest("trap"));
    let body =
        json!({ "version_id": new.id, "steps": [10, 50, 100], "every_seconds": 3600, "guards": ["error_rate<20%"] });
    node.api("POST", "/scripts/w/rollout", &body);
    let folder = Folder::new();
    let ran = node.run(&folder, "rollout step w").done();
    let told =
        "rollout 10 % -> 50 %: stepped forward by dev@localhost, before every guard held: error_rate of no request";
    assert_eq!(ran.out, format!("w: {told}\n"));
    assert_eq!(live(&node)[1], json!({ "version_id": new.id, "percentage": 50 }));
    assert_eq!(messages(&node).pop().expect("a message"), told);

    // Not past a guard that is broken: while it is paused nobody rolls back.
    node.run(&folder, "rollout pause w").done();
    let traffic = Traffic::to(&node, "/");
    until("a broken guard", || (rollout(&node)["guards"][0]["state"] == "broken").then_some(()));
    drop(traffic);
    let ran = node.run(&folder, "rollout step w").failed();
    assert!(ran.err.contains("cannot be stepped forward past a broken guard: error_rate<20% is broken"), "{ran:?}");
    assert_eq!(node.api_error("POST", "/scripts/w/rollout/step", &Value::Null).0, 95044);
    assert_eq!(live(&node)[1], json!({ "version_id": new.id, "percentage": 50 }));
    node.run(&folder, "rollout abort w").done();
    assert_eq!(live(&node), all_to(&old));
    assert_eq!(node.api_error("POST", "/scripts/w/rollout/step", &Value::Null).0, 95043);
}

#[test]
fn who_acts_on_a_state_that_is_over_is_refused() {
    let node = Node::start();
    let [old, new] = stage(&node, &example("version-teller"));
    let body = json!({ "version_id": new.id, "steps": [10, 50, 100], "every_seconds": 3600 });
    let send = |path: &str, seen: &str, body: &Value| {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        node.api_request("POST", &format!("/scripts/w/{path}"), &[("if-match", seen)], text.as_bytes())
    };
    let refused = |reply: &crate::harness::http::Reply| (reply.status, reply.json()["errors"][0]["code"].as_i64());
    let active = node.deployments("w")[0]["id"].as_str().expect("an id").to_owned();
    node.split("w", &[(&old, 100.0), (&new, 0.0)]);
    assert_eq!(refused(&send("rollout", &active, &body)), (412, Some(95009)));
    let dry = node.api_raw("POST", "/scripts/w/rollout?dry_run=true", &body);
    assert_eq!(
        (&dry["result"]["percentage"], &dry["messages"][0]),
        (&json!(10), &json!("dry run: nothing was started"))
    );
    assert_eq!(node.api_error("GET", "/scripts/w/rollout", &Value::Null).0, 95042);

    let started = send("rollout", "", &body);
    assert_eq!(started.status, 400, "an empty `If-Match` names nothing: {started:?}");
    let active = node.deployments("w")[0]["id"].as_str().expect("an id").to_owned();
    let started = send("rollout", &active, &body);
    let seen = started.header("etag").expect("a tag").to_owned();
    assert_eq!(send("rollout/pause", &seen, &Value::Null).status, 200);
    for action in ["step", "resume", "pause", "abort"] {
        let reply = send(&format!("rollout/{action}"), &seen, &Value::Null);
        assert_eq!(refused(&reply), (412, Some(95009)), "{action}: {reply:?}");
    }
    assert_eq!((&rollout(&node)["state"], &rollout(&node)["percentage"]), (&json!("paused"), &json!(10)));
    let now = node.api_request("GET", "/scripts/w/rollout", &[], b"").header("etag").expect("a tag").to_owned();
    assert_eq!(send("rollout/step", &now, &Value::Null).json()["result"]["state"], "paused");
    assert_eq!(rollout(&node)["percentage"], 50);
}

#[test]
fn what_someone_else_deploys_is_not_overwritten() {
    let node = Node::start();
    let [old, new] = stage(&node, &test_guest("trap"));
    start(&node, &new, &[50.0, 100.0], &["error_rate<20%"]);
    node.split("w", &[(&old, 70.0), (&new, 30.0)]);
    let _traffic = Traffic::to(&node, "/");
    let superseded = becomes(&node, "superseded");
    assert!(superseded["reason"].as_str().is_some_and(|why| why.contains("made the deployment")), "{superseded}");
    assert_eq!(live(&node)[1], json!({ "version_id": new.id, "percentage": 30 }));
}

#[test]
fn after_a_crash_it_goes_on() {
    let node = Node::start();
    let [_, new] = stage(&node, &example("version-teller"));
    start(&node, &new, &[30.0, 60.0, 100.0], &["error_rate<20%"]);
    let traffic = Traffic::to(&node, "/");
    until("the second step", || (rollout(&node)["steps"][1]["live_on"].is_string()).then_some(()));
    drop(traffic);
    let node = node.kill_and_restart();
    // It may have been about to end in the moment of the crash.
    let after = rollout(&node);
    let _traffic = Traffic::to(&node, "/");
    let done = becomes(&node, "done");
    assert_eq!(live(&node), all_to(&new));
    assert_eq!(messages(&node).len(), 3);
    if after["state"] == "running" {
        let events = done["events"].as_array().expect("events");
        assert!(events.iter().any(|event| event["what"].as_str().is_some_and(|what| what.contains("started again"))));
    }
    let node = node.kill_and_restart();
    assert_eq!(rollout(&node)["state"], "done");
}

#[test]
fn a_second_one_waits_for_the_end_of_the_first_and_a_worker_takes_its_own_along() {
    let node = Node::start();
    let [old, new] = stage(&node, &example("version-teller"));
    let body = |id: &str| json!({ "version_id": id });
    assert_eq!(node.api_error("GET", "/scripts/w/rollout", &Value::Null).0, 95042);
    assert_eq!(node.api_error("GET", "/scripts/nobody/rollout", &Value::Null).0, 10007);
    node.api("POST", "/scripts/w/rollout", &body(&new.id));
    let (code, message) = node.api_error("POST", "/scripts/w/rollout", &body(&new.id));
    assert_eq!(code, 95041);
    assert!(message.contains("is running at 1 %"), "{message}");
    node.api("DELETE", "/scripts/w?force=true", &Value::Null);
    assert_eq!(node.api_error("GET", "/scripts/w/rollout", &Value::Null).0, 10007);
    stage(&node, &example("version-teller"));
    assert_eq!(node.api_error("GET", "/scripts/w/rollout", &Value::Null).0, 95042);
    // A version of the worker that was.
    assert_eq!(node.api_error("POST", "/scripts/w/rollout", &body(&old.id)).0, 95040);
}

#[test]
fn what_cannot_be_followed_is_refused_with_a_sentence() {
    let node = Node::start();
    let [old, new] = stage(&node, &example("version-teller"));
    let refused = |wrong: Value| {
        let mut body = json!({ "version_id": new.id });
        body.as_object_mut().expect("an object").extend(wrong.as_object().expect("an object").clone());
        node.api_error("POST", "/scripts/w/rollout", &body)
    };
    for (wrong, sentence) in [
        (json!({ "steps": [50, 20, 100] }), "the steps of a rollout rise, and 20 comes after 50"),
        (json!({ "steps": [20, 50] }), "the last step of a rollout is 100, got 50"),
        (json!({ "steps": [] }), "a rollout has 2 to 20 steps, got 0"),
        (json!({ "every_seconds": 0.2 }), "a step stands for 1 s to 604800 s, got 0.2 s"),
        (json!({ "every_seconds": -1 }), "a step stands for 1 s"),
        (json!({ "guards": ["p99<1.2x", "p98<1s"] }), "`p98` is nothing that a guard measures"),
        (json!({ "guards": ["error_rate<1"] }), "expected a share such as `1%`"),
        (json!({ "guards": [] }), "a rollout has 1 to 10 guards, got 0"),
        (json!({ "version_id": old.id }), "has all the traffic already; name another one"),
        (json!({ "version_id": "7" }), "there is no such version"),
    ] {
        let (code, message) = refused(wrong.clone());
        assert_eq!(code, 95040, "{wrong}: {message}");
        assert!(message.contains(sentence), "{wrong}: {message}");
    }
    assert_eq!(refused(json!({ "unknown": 1 })).0, 10026);
    let folder = Folder::new();
    let ran = node.run(&folder, "rollout start w --to 2 --guard p98<1s");
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.err.contains("`p98` is nothing that a guard measures"), "{ran:?}");
    let ran = node.run(&folder, "rollout start w --to 9").failed();
    assert!(ran.err.contains("no version is named `9`"), "{ran:?}");
    node.split("w", &[(&old, 50.0), (&new, 50.0)]);
    let (code, message) = refused(json!({}));
    assert_eq!(code, 95040);
    assert!(
        message.contains("is split (#1 50 %, #2 50 %), and a rollout starts from a version that has all of it"),
        "{message}"
    );
    assert_eq!(node.deployments("w").len(), 2, "nothing else was deployed");
}
