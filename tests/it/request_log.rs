//! The request log as a file that lives for years: what a line says, and how the file is put aside.

use serde_json::json;

use crate::harness::{Node, Upload, test_guest, until};

#[test]
fn a_line_has_the_fields_of_logpush_beside_ours() {
    let node = Node::logging(&[]);
    let annotations = json!({ "workers/tag": "v1", "workers/message": "the first" });
    let version =
        node.deploy_module("lines", &test_guest("log-lines"), Upload::default().with("annotations", annotations));
    node.request("POST", "lines", "/a?b=c", &[], b"x");
    let line = node.record_of("lines", "/a?b=c").0;
    assert_eq!(line["ScriptVersion"], json!({ "id": version.id, "tag": "v1", "message": "the first" }));
    assert_eq!(line["Event"]["Request"], json!({ "URL": "http://lines.localhost/a?b=c", "Method": "POST" }));
    assert_eq!(line["Event"]["Response"], json!({ "Status": 200 }));
    assert_eq!((&line["ScriptName"], &line["EventType"]), (&json!("lines"), &json!("fetch")));
    assert_eq!((&line["Outcome"], &line["Exceptions"], &line["ScriptTags"]), (&json!("ok"), &json!([]), &json!([])));
    assert_eq!(line["Logs"][2]["Level"], "error");
    assert_eq!(line["Logs"][2]["Message"], json!(["err 1"]));
    assert_eq!((&line["DispatchNamespace"], &line["Entrypoint"]), (&json!(""), &json!("")));
    for number in ["CPUTimeMs", "WallTimeMs", "EventTimestampMs"] {
        assert!(line[number].is_u64(), "{number}");
    }
    assert_eq!(line["EventTimestampMs"], line["time_ms"]);
    assert_eq!(line["version_number"], 1);
}

#[test]
fn a_full_log_is_put_aside_and_one_that_was_renamed_is_opened_anew() {
    let node = Node::logging(&["--request-log-max-size", "4KiB"]);
    node.deploy_module("lines", &test_guest("log-lines"), Upload::default());
    let file = |name: &str| std::fs::read_to_string(node.dir().join(name)).unwrap_or_default();
    for n in 0..40 {
        node.get("lines", &format!("/{n}"));
    }
    until("all are written", || file("requests.jsonl").contains("\"path\":\"/39\"").then_some(()));
    for name in ["requests.jsonl", "requests.jsonl.1", "requests.jsonl.5"] {
        let text = file(name);
        assert!((1..=4096).contains(&text.len()), "{name} has {} bytes", text.len());
        assert!(text.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "{name}");
    }
    assert!(!node.dir().join("requests.jsonl.6").exists());

    std::fs::rename(node.dir().join("requests.jsonl"), node.dir().join("aside")).expect("a name of ours");
    let hangup = std::process::Command::new("kill").args(["-HUP", &node.pid().to_string()]).status();
    assert!(hangup.expect("kill").success());
    until("it is opened anew", || node.dir().join("requests.jsonl").exists().then_some(()));
    node.get("lines", "/after");
    until("it is written to", || file("requests.jsonl").contains("\"path\":\"/after\"").then_some(()));
    assert!(!file("aside").contains("/after"));
}
