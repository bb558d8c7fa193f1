//! `explain`: which version a request would get and why, and at which share that would change; and that it comes true.

use serde_json::{Value, json};

use crate::harness::{KEY, Node, OVERRIDES, Version, list, text};

const PATH: &str = "/scripts/w/explain";

/// Two versions of `w`, the second at this share.
fn split_at(share: f64) -> (Node, Version, Version) {
    let node = Node::telling(&[]);
    let mut versions = node.hello_versions("w", 2);
    let (new, old) = (versions.remove(1), versions.remove(0));
    node.split("w", &[(&new, share), (&old, 100.0 - share)]);
    (node, old, new)
}

fn explain(node: &Node, key: &str) -> Value {
    node.api("POST", PATH, &json!({ "keys": [key] }))["answers"][0].clone()
}

#[test]
fn what_is_explained_is_what_happens() {
    let (node, old, new) = split_at(40.0);
    let keys: Vec<String> = (0..50).map(|number| format!("user-{number}")).collect();
    let explained = node.api("POST", PATH, &json!({ "keys": keys }));
    assert_eq!(explained["deployment_id"], node.deployments("w")[0]["id"]);
    for (key, answer) in keys.iter().zip(list(&explained["answers"])) {
        assert_eq!((&answer["key"], &answer["reason"]), (&json!(key), &json!("key")));
        assert_eq!(node.keyed("w", key), text(&answer["version_id"]), "{key}");
        let number = if answer["version_id"] == new.id { 2 } else { 1 };
        assert_eq!(answer["version_number"], number);
        assert!(answer["slot"].as_u64().unwrap() < 100_000);
    }
    let achieved = list(&explained["achieved"]);
    let configured: Vec<(&Value, &Value)> =
        achieved.iter().map(|share| (&share["version_id"], &share["configured"])).collect();
    assert_eq!(configured, [(&json!(new.id), &json!(40.0)), (&json!(old.id), &json!(60.0))]);
    let counts: Vec<u64> = achieved.iter().map(|share| share["count"].as_u64().unwrap()).collect();
    assert_eq!(counts.iter().sum::<u64>(), 50);
    let percent = achieved[0]["achieved"].as_f64().unwrap();
    assert!((percent - 2.0 * f64::from(u32::try_from(counts[0]).unwrap())).abs() < 1e-9, "{achieved:?}");
}

/// Deployed at the share that was told, the key moves; a thousandth of a percent before, it does not.
#[test]
fn a_key_tips_at_exactly_the_share_that_is_told() {
    let (node, old, new) = split_at(40.0);
    let key_of = |version: &Version| {
        let fits = |key: &String| {
            let answer = explain(&node, key);
            // Not so near the edge that there is no share between.
            let tipping = answer["changes_at"]["percentage"].as_f64().unwrap();
            answer["version_id"] == version.id
                && tipping > 1.0
                && (tipping - 40.0).abs() > 1.0
                && (tipping - 60.0).abs() > 1.0
        };
        (0..).map(|number| format!("key-{number}")).find(fits).unwrap()
    };
    for (loser, winner) in [(&old, &new), (&new, &old)] {
        let key = key_of(loser);
        let answer = explain(&node, &key);
        assert_eq!(answer["changes_at"]["version_id"], loser.id);
        let tipping = answer["changes_at"]["percentage"].as_f64().unwrap();
        let before = (tipping * 1000.0 + 1.0).round() / 1000.0;
        let at = |share: f64| node.split("w", &[(loser, share), (winner, ((100.0 - share) * 1000.0).round() / 1000.0)]);
        at(before);
        assert_eq!(node.keyed("w", &key), loser.id, "{key} at {before}");
        at(tipping);
        assert_eq!(node.keyed("w", &key), winner.id, "{key} at {tipping}");
        // It says so beforehand, of the key's new owner as well.
        assert_eq!(explain(&node, &key)["version_id"], winner.id);
        node.split("w", &[(&new, 40.0), (&old, 60.0)]);
    }
}

#[test]
fn the_reason_that_wins_is_told() {
    let (node, old, new) = split_at(0.0);
    let ask = |headers: Value, keys: Value| {
        let answer = node.api("POST", PATH, &json!({ "headers": headers, "keys": keys }))["answers"][0].clone();
        (text(&answer["reason"]), answer["version_id"].clone())
    };
    let overriding = json!([["cloudflare-workers-version-overrides", new.overriding("w")]]);
    assert_eq!(ask(overriding, json!(["k"])), ("override".into(), json!(new.id)));
    assert_eq!(ask(json!([[KEY, "k"]]), json!([])), ("key".into(), json!(old.id)));
    assert_eq!(
        ask(json!([[KEY, ""]]), json!([])),
        ("random".into(), json!(old.id)),
        "HDR-6; and all is drawn from one"
    );
    assert_eq!(ask(json!([[OVERRIDES, "nonsense="]]), json!([])), ("random".into(), json!(old.id)));
    assert_eq!(
        ask(json!([["Host", format!("{}-w.localhost:1", new.short())]]), json!(["k"])),
        ("preview".into(), json!(new.id))
    );
    // Where only the draw would tell, nothing is made up.
    node.split("w", &[(&new, 50.0), (&old, 50.0)]);
    assert_eq!(ask(json!([]), json!([])), ("random".into(), Value::Null));
    let one = node.api("GET", &format!("{PATH}?key=k"), &Value::Null);
    assert_eq!(one["answers"][0], explain(&node, "k"));
}

#[test]
fn explaining_changes_nothing_and_is_refused_in_plain_words() {
    let (node, ..) = split_at(50.0);
    let before = node.deployments("w");
    assert_eq!(node.api_error("POST", "/scripts/nobody/explain", &json!({})).0, 10007);
    assert_eq!(node.api_error("POST", PATH, &json!({"keys": "k"})).0, 10026);
    let many: Vec<String> = (0..50_001).map(|number| number.to_string()).collect();
    let (code, message) = node.api_error("POST", PATH, &json!({ "keys": many }));
    assert_eq!((code, message.as_str()), (10027, "there are 50001 keys, the limit is 50000; make several calls"));
    assert_eq!(node.deployments("w"), before);
}

#[test]
fn the_command_line_explains_keys_headers_and_files() {
    let (node, old, new) = split_at(25.0);
    let run = |args: &[&str], stdin: &str| {
        let output = node.cli_in(node.dir(), &[&["explain", "w"], args].concat(), stdin.as_bytes());
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let answer = explain(&node, "user-42");
    let table = run(&["--key", "user-42"], "");
    let version = if answer["version_id"] == new.id { &new } else { &old };
    for part in [
        "user-42",
        &answer["slot"].to_string(),
        version.short(),
        "key",
        &format!("at {}%", answer["changes_at"]["percentage"]),
    ] {
        assert!(table.contains(part), "{part}: {table}");
    }
    assert!(run(&[], "").contains("by the draw"));
    let header = format!("{OVERRIDES}: {}", new.overriding("w"));
    assert!(run(&["--header", &header], "").contains(&format!("#2 {}", new.short())));

    // More keys than fit one call, from a file and from stdin.
    let file = node.dir().join("keys.txt");
    let lines: String = (0..45_000).map(|number| format!("user-{number}\n")).collect();
    std::fs::write(&file, format!("\n{lines}\n")).unwrap();
    let told: Value = serde_json::from_str(&run(&["--keys-file", file.to_str().unwrap(), "--json"], "")).unwrap();
    assert_eq!(list(&told["answers"]).len(), 45_000);
    let achieved = told["achieved"][0]["achieved"].as_f64().unwrap();
    // 25 % of 45,000, with a deviation of 0.2 %.
    assert!((24.0..=26.0).contains(&achieved), "{achieved}");
    let summary = run(&["--keys-file", "-"], "a\r\nb\n\nc");
    assert!(
        summary.contains("Configured")
            && summary.contains("25%")
            && summary.lines().any(|line| line.starts_with(" b ")),
        "{summary}"
    );
}
