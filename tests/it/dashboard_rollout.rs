//! A rollout on the dashboard: it is started with faults at their fields, watched, stepped forward, paused, resumed and aborted; each action
//! shows its effect first, and overwrites nobody.

use serde_json::{Value, json};

use crate::harness::browser::{Browser, borrowed, fields_of};
use crate::harness::{Connection, Node, Upload, Version, example, http, test_guest, text, until};

const START: &str = "/workers/w/rollout/start";
const ROLLOUT: &str = "/workers/w/rollout";

/// A worker `w`: `hello` is deployed, and `module` is version 2.
fn stage(module: &std::path::Path) -> (Node, [Version; 2]) {
    let node = Node::start();
    let old = node.deploy_module("w", &example("hello"), Upload::default());
    let new = node.upload_version("w", module, Upload::default().tagged("next"));
    (node, [old, new])
}

fn rollout(node: &Node) -> Value {
    node.api("GET", "/scripts/w/rollout", &Value::Null)
}

/// A form of the start with these fields.
fn plan<'a>(version: &'a str, steps: &'a str, every: &'a str, guards: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![("version", version), ("steps", steps), ("every", every), ("guards", guards), ("do", "preview")]
}

/// Starts one whose steps last an hour.
fn start(node: &Node, version: &Version, guards: &[&str]) {
    let body = json!({ "version_id": version.id, "steps": [10, 50, 100], "every_seconds": 3600, "guards": guards });
    node.api("POST", "/scripts/w/rollout", &body);
}

/// Confirms what a page of an action shows; the page that came of it.
fn confirm(browser: &Browser<'_>, action: &str) -> http::Reply {
    let path = format!("{ROLLOUT}/{action}");
    let page = browser.page(&path);
    browser.submit(&path, &borrowed(&fields_of(&page, &path, "act")))
}

#[test]
fn what_is_wrong_with_a_start_is_said_at_its_field_and_nothing_is_started() {
    let (node, [old, new]) = stage(&example("version-teller"));
    let browser = Browser::signed_in(&node);
    let blank = browser.page(START);
    for part in ["value=\"1, 5, 25, 50, 100\"", "value=\"5m\"", "error_rate&lt;+1%\np99&lt;1.2x", "#2 next"] {
        assert!(blank.contains(part), "{part}: {blank}");
    }
    assert!(!blank.contains(&format!("value=\"{}\"", old.id)), "what has everything is no target: {blank}");
    let guards = "error_rate<1%\np98<1s";
    for (fields, field, part) in [
        (plan(&new.id, "1, ten, 100", "5m", "p99<1s"), "steps", "`ten` is no number"),
        (plan(&new.id, "50, 20, 100", "5m", "p99<1s"), "steps", "the steps of a rollout rise, and 20 comes after 50"),
        (plan(&new.id, "20, 50", "5m", "p99<1s"), "steps", "the last step of a rollout is 100"),
        (plan(&new.id, "20, 100", "soon", "p99<1s"), "every", "`soon` is no time"),
        (plan(&new.id, "20, 100", "200ms", "p99<1s"), "every", "a step stands for 1 s"),
        (plan(&new.id, "20, 100", "5m", guards), "guards", "Line 2: `p98` is nothing that a guard measures"),
        (plan(&new.id, "20, 100", "5m", ""), "guards", "a rollout has 1 to 10 guards, got 0"),
        (plan(&old.id, "20, 100", "5m", "p99<1s"), "version", "has all the traffic already"),
        (plan("7", "20, 100", "5m", "p99<1s"), "version", "there is no such version"),
    ] {
        let page = browser.submit(START, &fields).text();
        let said =
            page.split(&format!("<div id=\"{field}-fault\">")).nth(1).and_then(|rest| rest.split("</div>").next());
        assert!(said.is_some_and(|said| said.contains(part)), "{field}, {part}: {page}");
        assert_eq!(page.matches("aria-invalid=\"true\"").count(), 1, "{page}");
        // What was typed is still there, and nothing can be confirmed.
        assert!(!page.contains("Start the rollout</button>"), "{page}");
    }
    let hostile = browser.submit(START, &plan(&new.id, "<b>", "<i>", "<script>alert(1)</script>")).text();
    assert!(!hostile.contains("<b>") && !hostile.contains("<i>") && !hostile.contains("<script>alert"), "{hostile}");
    assert_eq!(browser.post(START, &plan(&new.id, "20, 100", "5m", "p99<1s")).status, 403);
    assert_eq!(node.api_error("GET", "/scripts/w/rollout", &Value::Null).0, 95042);
    assert_eq!(node.deployments("w").len(), 1);
}

#[test]
fn an_upload_says_that_deploying_it_would_end_the_rollout() {
    let (node, [_, new]) = stage(&example("version-teller"));
    let browser = Browser::signed_in(&node);
    let preview = || {
        let module = std::fs::read(example("hello")).expect("a module");
        let files = [("configuration", "", &b""[..]), ("module", "worker.wasm", &module)];
        let reply = browser.submit_files("/workers/w/upload", &[("kept", "")], &files);
        browser.page(reply.header("location").expect("a place"))
    };
    assert!(!preview().contains("Any other deployment ends it"));
    start(&node, &new, &["p99<10s"]);
    assert!(preview().contains("Any other deployment ends it"));
}

#[test]
fn a_rollout_is_previewed_started_stepped_paused_resumed_and_aborted() {
    let (node, [old, new]) = stage(&example("version-teller"));
    let browser = Browser::signed_in(&node);
    assert!(browser.page("/workers/w").contains(&format!("href=\"{START}\"")));
    assert!(browser.page(ROLLOUT).contains("No rollout yet"));

    let preview = browser.submit(START, &plan(&new.id, "10 50,100%", "1h", "error_rate<20%\n\np99<2x")).text();
    for part in [
        "in 3 steps: 10, 50, 100 %",
        "Each stands for 60 min at the least, so it is done in 2 h at the earliest",
        "10,000 of 100,000 slots",
        "Then: #1 90 %, #2 10 %",
        "sluice rollout start w --to 2 --steps 10,50,100 --every 1h --guard 'error_rate&lt;20%' --guard 'p99&lt;2x'",
    ] {
        assert!(preview.contains(part), "{part}: {preview}");
    }
    assert_eq!(node.deployments("w").len(), 1, "a preview starts nothing");
    let to = browser.submit_and_follow(START, &borrowed(&fields_of(&preview, START, "start")));
    assert_eq!(to, ROLLOUT);
    assert_eq!(
        (rollout(&node)["state"].as_str(), rollout(&node)["percentage"].as_f64()),
        (Some("running"), Some(10.0))
    );
    assert_eq!(text(&node.deployments("w")[0]["source"]), "dash");

    // The page says all that the command line does.
    let page = browser.page(ROLLOUT);
    let first = text(&node.deployments("w")[0]["id"]);
    for part in [
        "Next: 50 % in ",
        " min at the earliest, if every guard holds.",
        "error_rate&lt;20%",
        "not enough data",
        "more requests of the new version",
        "aria-current=\"step\"",
        "Started by dev@localhost",
        &format!("/workers/w/deployments#d-{first}"),
        "href=\"/workers/w/rollout/step\"",
        "href=\"/workers/w/rollout/pause\"",
        "href=\"/workers/w/rollout/abort\"",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(!page.contains("/workers/w/rollout/resume"), "{page}");
    // A second one is not offered, and the other pages know of it.
    assert!(browser.page(START).contains("A worker has one at a time"));
    let overview = browser.page("/workers/w");
    assert!(overview.contains("Rollout running") && overview.contains("See the rollout"), "{overview}");
    for path in ["/workers/w/deploy", "/workers/w/rollback"] {
        assert!(browser.page(path).contains("Any other deployment ends it"), "{path}");
    }

    let page = browser.page(&format!("{ROLLOUT}/step"));
    for part in
        ["40,000 of 100,000 slots", "Not enough data yet for error_rate&lt;20%, p99&lt;2x", "sluice rollout step w"]
    {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert_eq!(confirm(&browser, "step").header("location"), Some(ROLLOUT));
    assert_eq!(rollout(&node)["percentage"], 50);
    assert!(browser.page(ROLLOUT).contains("stepped forward by dev@localhost, before every guard held"));
    assert_eq!(confirm(&browser, "pause").status, 303);
    let paused = browser.page(ROLLOUT);
    assert!(paused.contains("Nothing happens by itself") && paused.contains("/workers/w/rollout/resume"), "{paused}");
    assert!(browser.page(&format!("{ROLLOUT}/pause")).contains("So there is nothing to pause"));
    assert_eq!(confirm(&browser, "resume").status, 303);
    let page = browser.page(&format!("{ROLLOUT}/abort"));
    assert!(page.contains("50,000 of 100,000 slots") && page.contains("sluice rollout abort w"), "{page}");
    assert_eq!(browser.post(&format!("{ROLLOUT}/abort"), &[("do", "act")]).status, 403);
    assert_eq!(confirm(&browser, "abort").status, 303);
    assert_eq!(node.deployments("w")[0]["versions"], json!([{ "version_id": old.id, "percentage": 100 }]));
    let over = browser.page(ROLLOUT);
    assert!(
        over.contains("Somebody ended it") && over.contains("not reached") && over.contains("Start another"),
        "{over}"
    );
    assert!(!browser.page("/workers/w").contains("See the rollout"));
    assert_eq!(browser.get(&format!("{ROLLOUT}/explode")).status, 404);
    assert_eq!(browser.get("/workers/none/rollout").status, 404);
}

#[test]
fn who_acted_meanwhile_is_not_overwritten() {
    let (node, [old, new]) = stage(&example("version-teller"));
    let browser = Browser::signed_in(&node);
    // Somebody deploys between the preview of a start and its confirmation.
    let preview = browser.submit(START, &plan(&new.id, "10, 50, 100", "1h", "error_rate<20%")).text();
    node.split("w", &[(&old, 100.0), (&new, 0.0)]);
    let late = browser.submit(START, &borrowed(&fields_of(&preview, START, "start"))).text();
    assert!(late.contains("Someone deployed meanwhile. Nothing was overwritten."), "{late}");
    assert_eq!(node.api_error("GET", "/scripts/w/rollout", &Value::Null).0, 95042);
    browser.submit_and_follow(START, &borrowed(&fields_of(&late, START, "start")));

    // Somebody pauses it between the preview of a step and its confirmation.
    let path = format!("{ROLLOUT}/step");
    let page = browser.page(&path);
    node.api("POST", "/scripts/w/rollout/pause", &Value::Null);
    let late = browser.submit(&path, &borrowed(&fields_of(&page, &path, "act"))).text();
    assert!(late.contains("The rollout has moved on meanwhile. Nothing was done."), "{late}");
    assert_eq!(rollout(&node)["percentage"], 10);
    // What it would do now is shown, and may be confirmed.
    assert!(late.contains("it stays paused"), "{late}");
    assert_eq!(browser.submit(&path, &borrowed(&fields_of(&late, &path, "act"))).status, 303);
    assert_eq!((rollout(&node)["state"].as_str(), rollout(&node)["percentage"].as_f64()), (Some("paused"), Some(50.0)));

    // Somebody else ends it.
    let path = format!("{ROLLOUT}/abort");
    let page = browser.page(&path);
    node.split("w", &[(&old, 60.0), (&new, 40.0)]);
    let late = browser.submit(&path, &borrowed(&fields_of(&page, &path, "act"))).text();
    assert!(late.contains("has moved on meanwhile") && late.contains("So there is nothing to abort"), "{late}");
    assert_eq!(node.deployments("w")[0]["versions"][1], json!({ "version_id": new.id, "percentage": 40 }));
    // From a split nothing is started.
    assert!(browser.page(START).contains("A rollout starts from one version that has all the traffic, and none has."));
}

#[test]
fn a_guard_that_breaks_is_told_by_the_stream_and_nobody_steps_past_it() {
    let (node, [_, new]) = stage(&test_guest("trap"));
    let browser = Browser::signed_in(&node);
    start(&node, &new, &["error_rate<20%"]);
    node.api("POST", "/scripts/w/rollout/pause", &Value::Null);
    let mut stream = Connection::open(node.control);
    stream.send(format!(
        "GET /live{ROLLOUT} HTTP/1.1\r\nhost: {}\r\ncookie: {}\r\nsec-fetch-site: same-origin\r\n\r\n",
        node.control,
        browser.cookie()
    ));
    assert_eq!(stream.head().status, 200);
    let mut event = || String::from_utf8(stream.chunk().expect("an event")).expect("text");
    let first = event();
    for part in ["rollout", "compared", "guards", "events"] {
        assert!(first.contains(&format!("id=\\\"{part}\\\"")), "{part}: {first}");
    }
    until("a broken guard", || {
        let reply = node.get("w", "/");
        assert!([200, 500].contains(&reply.status), "{reply:?}");
        (rollout(&node)["guards"][0]["state"] == "broken").then_some(())
    });
    until("the news", || event().contains("✗ broken").then_some(()));
    let page = browser.page(&format!("{ROLLOUT}/step"));
    assert!(page.contains("Nobody steps past a guard that is broken: error_rate&lt;20%"), "{page}");
    assert!(!page.contains("value=\"act\""), "{page}");
}
