//! What a version's configuration gives its guest, as the guest reads it: variables, `wasi:config`, and which version it is
//! (`META-*`), on either WASI, and by whatever host it is reached.

use serde_json::{Value, json};

use crate::harness::http::Reply;
use crate::harness::{Folder, Node, Upload, Version, example, test_guest};

fn metadata_binding(name: &str) -> Value {
    json!({ "type": "version_metadata", "name": name })
}

fn read(node: &Node, host: &str, path: &str) -> Value {
    let reply = node.get(host, path);
    serde_json::from_str(&reply.text()).unwrap_or_else(|_| panic!("{path}: {reply:?}"))
}

/// The host of one version.
fn host_of(version: &Version, worker: &str) -> String {
    format!("{}-{worker}.localhost", &version.id[..8])
}

/// When the API says that a version was made.
fn created(node: &Node, worker: &str, version: &Version) -> Value {
    node.api("GET", &format!("/scripts/{worker}/versions/{}", version.id), &Value::Null)["metadata"]["created_on"]
        .clone()
}

#[test]
fn a_guest_reads_what_its_version_is_given() {
    let node = Node::start();
    let bindings = json!([
        { "type": "plain_text", "name": "TEXT", "text": "two words, é ✓\nand a line" },
        { "type": "plain_text", "name": "EMPTY", "text": "" },
        { "type": "plain_text", "name": "dotted.name-1", "text": "dots" },
        { "type": "json", "name": "TREE", "json": { "b": [1, 2.5, null], "a": { "yes": true } } },
        { "type": "json", "name": "NUMBER", "json": 42 },
        { "type": "json", "name": "QUOTED", "json": "text" },
        { "type": "secret_text", "name": "KEY", "text": "hidden" },
        { "type": "service", "name": "OTHER", "service": "w" },
    ]);
    node.deploy_module("w", &example("version-teller"), Upload::bindings(bindings));
    // Text is given as it is, all else as compact JSON; a service is no variable.
    let wanted = json!({
        "TEXT": "two words, é ✓\nand a line", "EMPTY": "", "dotted.name-1": "dots",
        "TREE": r#"{"b":[1,2.5,null],"a":{"yes":true}}"#, "NUMBER": "42", "QUOTED": r#""text""#, "KEY": "hidden",
    });
    assert_eq!(read(&node, "w", "/env"), wanted);
    assert_eq!(read(&node, "w", "/config"), wanted);
    for (name, value) in [("TEXT", "two words, é ✓\nand a line"), ("EMPTY", ""), ("KEY", "hidden"), ("NUMBER", "42")]
    {
        let reply = node.get("w", &format!("/config/{name}"));
        assert_eq!((reply.status, reply.text().as_str()), (200, value), "{name}");
    }
    for name in ["NEVER", "text", "OTHER", ""] {
        assert_eq!(node.get("w", &format!("/config/{name}")).status, 404, "{name}");
    }
    assert_eq!(read(&node, "w", "/metadata"), Value::Null);
}

#[test]
fn nothing_of_the_host_leaks_into_a_guest() {
    let node = Node::start();
    node.deploy_module("w", &example("version-teller"), Upload::default());
    assert_eq!(read(&node, "w", "/env"), json!({}));
    assert_eq!(read(&node, "w", "/config"), json!({}));
}

#[test]
fn a_version_knows_its_id_its_tag_and_its_time() {
    let node = Node::start();
    let upload = || Upload::bindings(json!([metadata_binding("CF_VERSION")]));
    let tagged = node.deploy_module("w", &example("version-teller"), upload().tagged("v1.2 é"));
    let seen = read(&node, "w", "/metadata");
    let wanted = json!({ "id": tagged.id, "tag": "v1.2 é", "timestamp": created(&node, "w", &tagged) });
    assert_eq!(seen, wanted);
    let time = seen["timestamp"].as_str().expect("a time");
    assert!(time.len() == "2026-01-02T03:04:05.678Z".len() && time.ends_with('Z') && &time[10..11] == "T", "{time}");
    let id = seen["id"].as_str().expect("an id");
    assert!(id.len() == 36 && *id == id.to_lowercase() && id.matches('-').count() == 4, "{id}");
    // Exactly these three keys, as JSON, under the binding's name.
    for path in ["/env", "/config"] {
        let text = read(&node, "w", path)["CF_VERSION"].as_str().expect("text").to_owned();
        assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON"), wanted, "{path}");
    }

    // No tag is the empty string, not null and not absent (`META-2`).
    let untagged = node.deploy_module("w", &example("version-teller"), upload());
    assert_eq!(read(&node, "w", "/metadata")["tag"], "");
    assert_ne!(untagged.id, tagged.id);
    assert!(node.get("w", "/").text().contains(&format!("untagged {}", untagged.id)));
}

#[test]
fn an_identical_upload_is_a_version_of_its_own() {
    let node = Node::start();
    let upload = || Upload::bindings(json!([metadata_binding("V")])).tagged("same");
    let first = node.deploy_module("w", &example("version-teller"), upload());
    let second = node.deploy_module("w", &example("version-teller"), upload());
    let times = [&first, &second].map(|version| {
        let seen = read(&node, &host_of(version, "w"), "/metadata");
        assert_eq!(seen["id"], version.id);
        seen["timestamp"].as_str().expect("a time").to_owned()
    });
    assert!(times[0] < times[1], "{times:?}");
}

#[test]
fn each_version_of_a_split_says_its_own_and_so_does_its_host() {
    let node = Node::start();
    let upload = |tag: &str| Upload::bindings(json!([metadata_binding("V")])).tagged(tag);
    let old = node.deploy_module("w", &example("version-teller"), upload("old"));
    let new = node.upload_version("w", &example("version-teller"), upload("new"));
    let aliased =
        upload("aliased").with("annotations", json!({ "workers/tag": "aliased", "workers/alias": "staging" }));
    let preview = node.upload_version("w", &example("version-teller"), aliased);
    node.split("w", &[(&new, 50.0), (&old, 50.0)]);

    let told = |reply: &Reply| {
        let seen: Value = serde_json::from_str(&reply.text()).unwrap_or_else(|_| panic!("{reply:?}"));
        (seen["id"].as_str().expect("an id").to_owned(), seen["tag"].as_str().expect("a tag").to_owned())
    };
    let own = |version: &Version, tag: &str| (version.id.clone(), tag.to_owned());
    for (version, tag) in [(&old, "old"), (&new, "new")] {
        let header = format!("w=\"{}\"", version.id);
        let headers = [("cloudflare-workers-version-overrides", header.as_str())];
        assert_eq!(told(&node.request("GET", "w", "/metadata", &headers, b"")), own(version, tag));
    }
    for (version, tag) in [(&old, "old"), (&new, "new"), (&preview, "aliased")] {
        assert_eq!(told(&node.get(&host_of(version, "w"), "/metadata")), own(version, tag));
    }
    assert_eq!(told(&node.get("staging-w.localhost", "/metadata")), own(&preview, "aliased"));
    // And what a version says does not change with where it is deployed, or with the node's life.
    let before = node.get(&host_of(&old, "w"), "/metadata").text();
    node.split("w", &[(&preview, 100.0)]);
    let node = node.kill_and_restart();
    assert_eq!(told(&node.get("w", "/metadata")), own(&preview, "aliased"));
    assert_eq!(node.get(&host_of(&old, "w"), "/metadata").text(), before);
}

#[test]
fn a_copy_with_other_secrets_says_its_own_id_and_the_tag_of_its_build() {
    let node = Node::start();
    let upload = Upload::bindings(json!([metadata_binding("V")])).tagged("build-7");
    let first = node.deploy_module("w", &example("version-teller"), upload);
    node.api("PUT", "/scripts/w/secrets", &json!({ "name": "KEY", "text": "x", "type": "secret_text" }));
    let seen = read(&node, "w", "/metadata");
    let latest = &node.api("GET", "/scripts/w/versions", &Value::Null)["items"][0];
    assert_eq!((&seen["id"], &seen["tag"]), (&latest["id"], &json!("build-7")));
    assert_eq!(seen["timestamp"], latest["metadata"]["created_on"]);
    assert_ne!(seen["id"], first.id);
}

#[test]
fn guests_of_wasi_0_3_read_the_same() {
    let node = Node::start();
    let bindings = json!([
        { "type": "plain_text", "name": "TEXT", "text": "hello" },
        { "type": "json", "name": "TREE", "json": { "a": [1] } },
        { "type": "secret_text", "name": "KEY", "text": "hidden" },
        metadata_binding("V"),
    ]);
    let version = node.deploy_module("w", &test_guest("tell-async"), Upload::bindings(bindings).tagged("v3"));
    let time = created(&node, "w", &version);
    let time = time.as_str().expect("a time");
    let text = node.get("w", "/").text();
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    let about = json!({ "id": version.id, "tag": "v3", "timestamp": time });
    let mut wanted = vec![format!("metadata {}|v3|{time}", version.id)];
    for kind in ["env", "config"] {
        let variables =
            ["TEXT=hello".to_owned(), "TREE={\"a\":[1]}".to_owned(), "KEY=hidden".to_owned(), format!("V={about}")];
        wanted.extend(variables.map(|variable| format!("{kind} {variable}")));
    }
    wanted.sort_unstable();
    assert_eq!(lines, wanted);

    let plain = node.deploy_module("plain", &test_guest("tell-async"), Upload::default());
    assert_eq!(node.get(&host_of(&plain, "plain"), "/").text(), "metadata none\n");
}

#[test]
fn an_environment_of_the_file_has_only_what_is_repeated_in_it() {
    let node = Node::start();
    let folder = Folder::project(
        r#"
        name = "w"
        main = "worker.wasm"
        [vars]
        GREETING = "Hello"
        [version_metadata]
        binding = "V"
        [env.bare]
        [env.full]
        vars = { GREETING = "Hi" }
        version_metadata = { binding = "V" }
        "#,
    );
    node.run(&folder, "deploy --tag top").done();
    assert_eq!(read(&node, "w", "/metadata")["tag"], "top");

    // `META-3`: a binding that is missing there is missing, and the one word about it is a warning.
    let ran = node.run(&folder, "deploy --env bare --tag bare").done();
    assert!(
        ran.err.contains("warning: `version_metadata` is set at the top of the file but not in `env.bare`"),
        "{}",
        ran.err
    );
    assert!(ran.err.contains("repeat it as `env.bare.version_metadata`"), "{}", ran.err);
    assert_eq!(read(&node, "w-bare", "/metadata"), Value::Null);
    assert_eq!(read(&node, "w-bare", "/env"), json!({}));

    let ran = node.run(&folder, "deploy --env full --tag full").done();
    assert!(!ran.err.contains("warning"), "{}", ran.err);
    assert_eq!(read(&node, "w-full", "/metadata")["tag"], "full");
    assert_eq!(read(&node, "w-full", "/env")["GREETING"], "Hi");
}
