//! Secrets (`SEC-*`): values go in and reach the guest, and come out nowhere else; every change is a version that copies all
//! the rest; nothing that nobody has released goes live by one.

use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{Folder, Node, Upload, Version, example};

/// What no reply, no log and no file may hold.
const VALUE: &str = "hunter2-no-eye-may-see-this";

fn secret(name: &str, text: &str) -> Value {
    json!({ "type": "secret_text", "name": name, "text": text })
}

/// A worker with one secret, deployed.
fn with_secret(node: &Node, worker: &str, name: &str, text: &str) -> Version {
    node.deploy_module(worker, &example("version-teller"), Upload::bindings(json!([secret(name, text)])))
}

fn put(node: &Node, worker: &str, name: &str, text: &str) -> Value {
    node.api("PUT", &format!("/scripts/{worker}/secrets"), &secret(name, text))
}

/// The environment as the guest of `host` reads it.
fn env(node: &Node, host: &str) -> Value {
    let reply = node.get(host, "/env");
    serde_json::from_str(&reply.text()).unwrap_or_else(|_| panic!("{reply:?}"))
}

/// Versions newest first.
fn versions(node: &Node, worker: &str) -> Vec<Value> {
    let list = node.api("GET", &format!("/scripts/{worker}/versions"), &Value::Null);
    list["items"].as_array().expect("items").clone()
}

fn deployments(node: &Node, worker: &str) -> Vec<Value> {
    let list = node.api("GET", &format!("/scripts/{worker}/deployments"), &Value::Null);
    list["deployments"].as_array().expect("deployments").clone()
}

/// Names of the secrets that the API lists.
fn names(node: &Node, worker: &str) -> Vec<String> {
    let list = node.api("GET", &format!("/scripts/{worker}/secrets"), &Value::Null);
    let name = |item: &Value| item["name"].as_str().expect("a name").to_owned();
    list.as_array().expect("a list").iter().map(name).collect()
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn each_change_is_a_version_that_is_live_at_once() {
    let node = Node::start();
    node.deploy_module("w", &example("version-teller"), Upload::var("GREETING", "Hello").tagged("v1"));
    let answer = put(&node, "w", "KEY", "one");
    assert_eq!(answer, json!({ "name": "KEY", "type": "secret_text" }));
    assert_eq!(env(&node, "w"), json!({ "GREETING": "Hello", "KEY": "one" }));
    put(&node, "w", "KEY", "two");
    assert_eq!(env(&node, "w")["KEY"], "two");
    node.api("DELETE", "/scripts/w/secrets/KEY", &Value::Null);
    assert_eq!(env(&node, "w"), json!({ "GREETING": "Hello" }));

    let made = versions(&node, "w");
    let facts = |version: &Value| {
        let annotations = &version["annotations"];
        (version["number"].clone(), annotations["workers/triggered_by"].clone(), annotations["workers/tag"].clone())
    };
    // The tag is of the build, and the build is the same (`VER-8`).
    let wanted = [(4, "secret"), (3, "secret"), (2, "secret"), (1, "upload")];
    assert_eq!(
        made.iter().map(facts).collect::<Vec<_>>(),
        wanted.map(|(number, by)| (json!(number), json!(by), json!("v1")))
    );
    let deployed = deployments(&node, "w");
    assert_eq!(deployed.len(), 4);
    assert_eq!(deployed[0]["annotations"]["workers/triggered_by"], "secret");
    assert_eq!(deployed[0]["versions"], json!([{ "version_id": made[0]["id"], "percentage": 100 }]));
    // Each version keeps the value that it was made with.
    let host = |version: &Value| format!("{}-w.localhost", &version["id"].as_str().expect("an id")[..8]);
    assert_eq!(env(&node, &host(&made[2]))["KEY"], "one");
    assert_eq!(env(&node, &host(&made[1]))["KEY"], "two");
}

#[test]
fn a_value_is_shown_nowhere_and_lies_nowhere_in_clear() {
    let node = Node::logging(&[]);
    let folder = Folder::project("name = \"w\"\nmain = \"worker.wasm\"\n[secrets]\nrequired = [\"UPLOADED\"]\n");
    let value = |suffix: &str| format!("{VALUE}-{suffix}");
    // By every way in.
    folder.write("secrets.json", json!({ "UPLOADED": value("upload") }).to_string());
    node.run(&folder, "deploy --secrets-file secrets.json").done();
    node.run_with(&folder, "secret put PUT", &value("put")).done();
    node.run_with(&folder, "secret bulk", &json!({ "BULK": value("bulk") }).to_string()).done();
    node.run_with(&folder, "versions secret put PATCHED", &value("patch")).done();
    node.run_with(&folder, "secret put KEPT --name draft", &value("draft")).done();
    let mut told = refusals(&node);
    let id = versions(&node, "w")[0]["id"].as_str().expect("an id").to_owned();
    node.run(&folder, &format!("versions deploy {id}@100")).done();
    let reply = env(&node, "w");
    for name in ["UPLOADED", "PUT", "BULK", "PATCHED"] {
        assert!(reply[name].as_str().is_some_and(|text| text.starts_with(VALUE)), "{name}: {reply}");
    }
    node.record_of("w", "/env");

    told.extend(everything_told(&node));
    told.push(node.metrics().text());
    for line in [
        "versions list",
        "versions list --json",
        "versions view 4",
        "versions view 4 --json",
        "deployments list",
        "deployments list --json",
        "deployments status",
        "secret list",
        "secret list --json",
        "versions secret list",
        "explain --key k --json",
        "deploy --dry-run --secrets-file secrets.json",
        "deploy --dry-run --json --secrets-file secrets.json",
    ] {
        let ran = node.run(&folder, line).done();
        told.push(format!("{line}: {} {}", ran.out, ran.err));
    }
    for text in told {
        assert!(!text.contains(VALUE), "{text}");
    }

    assert!(!node.log().contains(VALUE));
    let data = node.dir().to_owned();
    let found = look_through(&data);
    let has = |name: &str| found.iter().any(|file| file.file_name().is_some_and(|file| file == name));
    assert!(has("sluice.db") && has("sluice.db-wal") && has("requests.jsonl"), "{found:?}");
    // It looks where secrets are: their names are there to be found.
    let holds =
        |file: &std::path::PathBuf| std::fs::read(file).unwrap_or_default().windows(7).any(|part| part == b"PATCHED");
    assert!(found.iter().any(holds));
    // And nothing is lost or written out when the node is killed and comes back.
    let node = node.kill_and_restart();
    assert_eq!(env(&node, "w")["PATCHED"], value("patch"));
    look_through(&data);
}

/// What is said of calls that are refused, each with the value in it.
fn refusals(node: &Node) -> Vec<String> {
    let mut told = Vec::new();
    for wrong in [
        json!({ "name": "1x", "text": VALUE, "type": "secret_text" }),
        json!({ "name": "A", "text": VALUE, "type": "secret_key" }),
        json!({ "name": "A", "text": [VALUE], "type": "secret_text" }),
        json!({ "name": "A", "secret": VALUE }),
        json!({ "name": "A", "text": VALUE.repeat(1_000), "type": "secret_text" }),
    ] {
        let reply = node.api_raw("PUT", "/scripts/draft/secrets", &wrong);
        assert_eq!(reply["success"], false, "{wrong}");
        told.push(reply.to_string());
    }
    let both = json!([secret("TWICE", VALUE), secret("TWICE", VALUE), secret("1x", VALUE)]);
    let refused = node.upload("PUT", "/scripts/w", &example("version-teller"), Upload::bindings(both));
    assert_eq!(refused["success"], false);
    told.push(refused.to_string());
    told
}

/// The answers of everything that can be read.
fn everything_told(node: &Node) -> Vec<String> {
    let deployment = deployments(node, "w")[0]["id"].as_str().expect("an id").to_owned();
    let mut paths = vec!["/scripts".to_owned(), "/subdomain".to_owned()];
    for worker in ["w", "draft"] {
        let of_script = [
            "/versions",
            "/versions?deployable=true",
            "/deployments",
            "/settings",
            "/script-settings",
            "/secrets",
            "/secrets/KEPT",
            "/secrets/PUT",
            "/subdomain",
            "/routes",
            "/schedules",
            "/references",
            "/explain",
        ];
        paths.extend(of_script.map(|path| format!("/scripts/{worker}{path}")));
        paths.extend([format!("/services/{worker}"), format!("/workers/{worker}")]);
    }
    paths.extend(versions(node, "w").iter().map(|v| format!("/scripts/w/versions/{}", v["id"].as_str().expect("id"))));
    paths.push(format!("/scripts/w/deployments/{deployment}"));
    paths.iter().map(|path| node.api_raw("GET", path, &Value::Null).to_string()).collect()
}

/// All files below a folder, none of which holds the value.
fn look_through(folder: &Path) -> Vec<std::path::PathBuf> {
    let hex: String = VALUE.bytes().map(|byte| format!("{byte:02x}")).collect();
    let found = files(folder);
    for file in &found {
        let bytes = std::fs::read(file).unwrap_or_default();
        for needle in [VALUE.as_bytes(), hex.as_bytes()] {
            let holds = bytes.windows(needle.len()).any(|window| window == needle);
            assert!(!holds, "{} holds the value in clear", file.display());
        }
    }
    found
}

#[test]
fn only_the_owner_can_read_the_key_of_the_secrets() {
    use std::os::unix::fs::PermissionsExt as _;

    let node = Node::start();
    with_secret(&node, "w", "KEY", "value");
    for name in ["secrets.key", "token"] {
        let mode = std::fs::metadata(node.dir().join(name)).expect("the file").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{name}");
    }
}

#[test]
fn secrets_that_an_upload_does_not_mention_stay() {
    let node = Node::start();
    let teller = example("version-teller");
    with_secret(&node, "w", "KEY", "kept");
    node.deploy_module("w", &teller, Upload::var("GREETING", "Hello"));
    assert_eq!(env(&node, "w"), json!({ "GREETING": "Hello", "KEY": "kept" }));
    // As wrangler says it; what is mentioned wins.
    let keep = json!(["secret_text", "secret_key"]);
    node.deploy_module("w", &teller, Upload::var("OTHER", "x").with("keep_bindings", keep.clone()));
    assert_eq!(env(&node, "w"), json!({ "OTHER": "x", "KEY": "kept" }));
    node.deploy_module("w", &teller, Upload::bindings(json!([secret("KEY", "new")])).with("keep_bindings", keep));
    assert_eq!(env(&node, "w"), json!({ "KEY": "new" }));
    // A variable of that name takes its place.
    node.deploy_module("w", &teller, Upload::var("KEY", "no secret"));
    assert_eq!(env(&node, "w"), json!({ "KEY": "no secret" }));
    assert!(names(&node, "w").is_empty());
    // `keep_bindings` without secrets lets them go.
    with_secret(&node, "w", "KEY", "again");
    node.deploy_module("w", &teller, Upload::default().with("keep_bindings", json!(["plain_text", "json"])));
    assert_eq!(env(&node, "w"), json!({}));
}

#[test]
fn a_binding_inherits_from_the_latest_upload_or_is_named_in_the_refusal() {
    let node = Node::start();
    let teller = example("version-teller");
    with_secret(&node, "w", "KEY", "deployed");
    node.upload_version("w", &teller, Upload::bindings(json!([secret("KEY", "latest")])));
    // Renamed, and from the latest upload although it was never deployed.
    let inherit = json!([{ "type": "inherit", "name": "RENAMED", "old_name": "KEY" },
        { "type": "inherit", "name": "ALSO", "old_name": "KEY", "version_id": "latest" }]);
    node.deploy_module("w", &teller, Upload::bindings(inherit).with("keep_bindings", json!([])));
    assert_eq!(env(&node, "w"), json!({ "RENAMED": "latest", "ALSO": "latest" }));

    let missing = || Upload::bindings(json!([{ "type": "inherit", "name": "NOT_SET" }]));
    let refused = node.upload("PUT", "/scripts/w?bindings_inherit=strict", &teller, missing());
    assert_eq!(refused["errors"][0]["code"], 10057, "{refused:#}");
    assert_eq!(refused["errors"][0]["source"]["pointer"], "bindings[0]");
    let text = refused["errors"][0]["message"].as_str().expect("a message");
    // wrangler reads the name out of this beginning.
    assert!(text.starts_with("inherit binding 'NOT_SET' is invalid: "), "{text}");
    assert!(text.contains("the latest version has no binding `NOT_SET`") && text.contains("secret put"), "{text}");
    // Without the word `strict` it is dropped (`UPL-3`).
    node.deploy_module("w", &teller, missing());
    assert_eq!(env(&node, "w"), json!({ "RENAMED": "latest", "ALSO": "latest" }));
}

#[test]
fn a_required_secret_is_asked_for_by_name() {
    let node = Node::start();
    let folder =
        Folder::project("name = \"w\"\nmain = \"worker.wasm\"\n[secrets]\nrequired = [\"API_KEY\", \"TOKEN\"]\n");
    let ran = node.run(&folder, "deploy").failed();
    for part in ["'API_KEY'", "'TOKEN'", "[code: 10057]", "sluice secret put", "--secrets-file"] {
        assert!(ran.err.contains(part), "`{part}` is not in: {}", ran.err);
    }
    assert!(node.api("GET", "/scripts", &Value::Null).as_array().is_some_and(Vec::is_empty));

    // One is set on the draft, the other comes with the upload, in the same version (`SEC-5`).
    node.run_with(&folder, "secret put API_KEY", "from-the-draft\n").done();
    folder.write(".secrets", "# local\nexport TOKEN='from the file'\n");
    node.run(&folder, "deploy --secrets-file .secrets").done();
    assert_eq!(env(&node, "w"), json!({ "API_KEY": "from-the-draft", "TOKEN": "from the file" }));
    assert_eq!(versions(&node, "w").len(), 1);
    // Now that they are there, they are inherited.
    node.run(&folder, "deploy").done();
    assert_eq!(env(&node, "w"), json!({ "TOKEN": "from the file", "API_KEY": "from-the-draft" }));
}

#[test]
fn what_nobody_has_released_does_not_go_live_by_a_secret() {
    let node = Node::start();
    let teller = example("version-teller");
    let first = with_secret(&node, "w", "KEY", "one");
    let latest = node.upload_version("w", &teller, Upload::var("UNRELEASED", "yes"));
    let refused = |why: &str| {
        let before = (versions(&node, "w").len(), deployments(&node, "w").len());
        let blocked = "but the latest version of your Worker isn't currently deployed.";
        let edit = format!("Secret edit failed. You attempted to modify a secret, {blocked}");
        for (method, path, body) in
            [("PUT", "/scripts/w/secrets", secret("KEY", "x")), ("DELETE", "/scripts/w/secrets/KEY", Value::Null)]
        {
            let (code, text) = node.api_error(method, path, &body);
            assert_eq!(code, 10215, "{why}: {method}");
            assert!(text.starts_with(&edit) && text.contains(&latest.id), "{text}");
        }
        let bulk = json!({ "secrets": { "KEY": secret("KEY", "x") } });
        let (code, text) = node.api_error("PATCH", "/scripts/w/secrets-bulk", &bulk);
        assert_eq!(code, 10214, "{why}");
        let blocked = "with modified settings, but the latest version isn't currently deployed.";
        assert!(text.starts_with("Script edit failed. You attempted to deploy the latest version"), "{text}");
        assert!(text.contains(blocked), "{text}");
        assert_eq!((versions(&node, "w").len(), deployments(&node, "w").len()), before, "{why}");
    };
    refused("the latest version is only uploaded");
    node.split("w", &[(&latest, 20.0), (&first, 80.0)]);
    refused("the latest version has a part of the traffic");
    node.split("w", &[(&latest, 0.0), (&first, 100.0)]);
    refused("the latest version has 0 %");
    node.split("w", &[(&latest, 100.0)]);
    node.split("w", &[(&first, 100.0)]);
    refused("it was rolled back");
    // All the traffic is a release, whatever stands beside it at 0 %.
    node.split("w", &[(&latest, 100.0), (&first, 0.0)]);
    put(&node, "w", "KEY", "two");
    assert_eq!(env(&node, "w"), json!({ "UNRELEASED": "yes", "KEY": "two" }));

    // The command line says what to do instead.
    node.upload_version("w", &teller, Upload::default());
    let folder = Folder::new();
    let ran = node.run_with(&folder, "secret put KEY --name w", "x").failed();
    assert!(ran.err.contains("[code: 10215]") && ran.err.contains("sluice versions secret put NAME"), "{}", ran.err);
}

#[test]
fn a_version_with_other_secrets_copies_the_latest_upload_and_waits() {
    let node = Node::start();
    let teller = example("version-teller");
    let live = with_secret(&node, "w", "KEY", "one");
    node.upload_version("w", &teller, Upload::var("UNRELEASED", "yes").tagged("v2"));
    let folder = Folder::new();
    let ran = node.run_with(&folder, "versions secret put KEY --name w", "two").done();
    let copy = versions(&node, "w")[0].clone();
    assert!(ran.out.contains(copy["id"].as_str().expect("an id")), "{ran:?}");
    assert_eq!(copy["annotations"]["workers/tag"], "v2");
    assert_eq!(copy["annotations"]["workers/message"], "Updated secret \"KEY\"");
    assert_eq!(copy["annotations"]["workers/triggered_by"], "secret");
    // What is live stays as it was.
    assert_eq!(env(&node, "w"), json!({ "KEY": "one" }));
    assert_eq!(deployments(&node, "w").len(), 1);
    assert_eq!(deployments(&node, "w")[0]["versions"][0]["version_id"], live.id);
    let host = format!("{}-w.localhost", &copy["id"].as_str().expect("an id")[..8]);
    assert_eq!(env(&node, &host), json!({ "UNRELEASED": "yes", "KEY": "two" }));

    let words = "versions secret bulk --message Rotated --tag v3 --name w";
    node.run_with(&folder, words, r#"{"KEY": null, "NEW": "three"}"#).done();
    let copy = versions(&node, "w")[0].clone();
    assert_eq!(
        (&copy["annotations"]["workers/tag"], &copy["annotations"]["workers/message"]),
        (&json!("v3"), &json!("Rotated"))
    );
    assert_eq!(names(&node, "w"), ["NEW"]);
    node.run(&folder, "versions secret delete NEW --name w").done();
    assert!(names(&node, "w").is_empty());
    let list = |line: &str| node.run(&folder, line).done().json();
    assert_eq!(list("versions secret list --json --name w"), json!([{ "name": "KEY", "type": "secret_text" }]));
    assert_eq!(list("versions secret list --latest-version --json --name w"), json!([]));
}

#[test]
fn a_copy_is_total() {
    let node = Node::start();
    let everything = Upload::bindings(json!([
        { "type": "plain_text", "name": "TEXT", "text": "text" },
        { "type": "json", "name": "JSON", "json": { "deep": [1, null] } },
        { "type": "version_metadata", "name": "META" },
        { "type": "service", "name": "SELF", "service": "w" },
        secret("KEY", "one"),
        secret("OTHER", "kept"),
    ]))
    .with("compatibility_date", json!("2026-01-02"))
    .with("compatibility_flags", json!(["one_flag", "other_flag"]))
    .with("limits", json!({ "cpu_ms": 1_234, "subrequests": 7 }))
    .with("sluice", json!({ "instance_reuse": true }))
    .with("observability", json!({ "enabled": true }))
    .with("annotations", json!({ "workers/tag": "v1", "workers/message": "first", "workers/alias": "staging" }));
    node.deploy_module("w", &example("version-teller"), everything);
    let routes = json!([{ "pattern": "shop.test/*" }]);
    node.api("PUT", "/scripts/w/routes", &routes);
    // All but what names this one version, and the value that changes.
    let essence = |version: &Value| {
        let mut resources = version["resources"].clone();
        let bindings = resources["bindings"].as_array_mut().expect("bindings");
        bindings.retain(|binding| binding["name"] != "KEY");
        bindings.sort_by_key(|binding| binding["name"].as_str().unwrap_or_default().to_owned());
        let mut facts = version["sluice"].clone();
        facts["urls"] = Value::Null;
        (resources, facts, version["startup_time_ms"].clone(), version["annotations"]["workers/tag"].clone())
    };
    let original = essence(&versions(&node, "w")[0]);
    let settings = node.api("GET", "/scripts/w/script-settings", &Value::Null);

    put(&node, "w", "KEY", "two");
    let bulk = json!({ "secrets": { "KEY": secret("KEY", "three"), "NOT_THERE": null } });
    node.api("PATCH", "/scripts/w/secrets-bulk", &bulk);
    let patch = json!({ "env": { "KEY": { "type": "secret_text", "text": "four" } } });
    node.api("PATCH", "/workers/w/versions/latest", &patch);
    let made = versions(&node, "w");
    node.api(
        "POST",
        "/scripts/w/deployments",
        &json!({ "strategy": "percentage",
        "versions": [{ "version_id": made[0]["id"], "percentage": 100 }] }),
    );
    node.api("DELETE", "/scripts/w/secrets/KEY", &Value::Null);
    let made = versions(&node, "w");
    assert_eq!(made.len(), 5);
    for version in &made {
        assert_eq!(essence(version), original, "version {}", version["number"]);
    }
    assert_eq!(node.api("GET", "/scripts/w/script-settings", &Value::Null), settings);
    assert_eq!(node.api("GET", "/scripts/w/routes", &Value::Null)[0]["pattern"], "shop.test/*");
    // The guest has all of it, and its own id.
    let seen = env(&node, "w");
    assert_eq!(
        (&seen["TEXT"], &seen["JSON"], &seen["OTHER"]),
        (&json!("text"), &json!(r#"{"deep":[1,null]}"#), &json!("kept"))
    );
    assert!(seen["META"].as_str().is_some_and(|text| text.contains(made[0]["id"].as_str().expect("an id"))), "{seen}");
    assert!(seen.get("KEY").is_none());
    // The alias stays with what was uploaded (`URL-2`).
    assert_eq!(env(&node, "staging-w.localhost")["KEY"], "one");
}

#[test]
fn secrets_are_deleted_and_changed_in_bulk() {
    let node = Node::start();
    with_secret(&node, "w", "A", "1");
    let folder = Folder::new();
    folder.write("more.env", "B=2\nC=\"three\\n\"\n");
    let ran = node.run(&folder, "secret bulk more.env --name w").done();
    assert_eq!(ran.out, "Secrets of w: 2 set, 0 deleted\n");
    let ran = node.run_with(&folder, "secret bulk --name w", r#"{"A": null, "B": "22", "NEVER": null}"#).done();
    assert_eq!(ran.out, "Secrets of w: 1 set, 2 deleted\n");
    assert_eq!(env(&node, "w"), json!({ "B": "22", "C": "three\n" }));
    // One version and one deployment for each call.
    assert_eq!((versions(&node, "w").len(), deployments(&node, "w").len()), (3, 3));
    node.run(&folder, "secret delete C --name w").done();
    assert_eq!(names(&node, "w"), ["B"]);

    let before = versions(&node, "w").len();
    let ran = node.run(&folder, "secret delete NEVER --name w").failed();
    assert!(ran.err.contains("worker `w` has no secret `NEVER`") && ran.err.contains("10056"), "{}", ran.err);
    let (code, _) = node.api_error("PATCH", "/scripts/w/secrets-bulk", &json!({ "secrets": { "NEVER": null } }));
    assert_eq!(code, 10056);
    let many = |count: usize| {
        let secrets: serde_json::Map<_, _> =
            (0..count).map(|n| (format!("S{n}"), secret(&format!("S{n}"), "x"))).collect();
        node.api_raw("PATCH", "/scripts/w/secrets-bulk", &json!({ "secrets": secrets }))
    };
    let refused = many(101);
    assert_eq!(refused["errors"][0]["message"], "there are 101 secrets in one call, the limit is 100", "{refused}");
    for (body, place) in [
        (json!({ "secrets": {} }), Value::Null),
        (json!({ "secrets": { "K": secret("OTHER", "x") } }), json!("secrets.K.name")),
        (json!({ "secrets": { "K": { "name": "K", "text": "x", "type": "plain_text" } } }), json!("secrets.K.type")),
        (json!({ "secrets": { "1K": secret("1K", "x") } }), json!("secrets.1K")),
    ] {
        let reply = node.api_raw("PATCH", "/scripts/w/secrets-bulk", &body);
        assert_eq!((&reply["success"], &reply["errors"][0]["source"]["pointer"]), (&json!(false), &place), "{reply}");
    }
    assert_eq!(versions(&node, "w").len(), before);
    assert_eq!(many(100)["success"], true);
    // A variable is no secret, and no secret takes its name unasked.
    node.deploy_module("v", &example("version-teller"), Upload::var("TEXT", "x"));
    let (_, text) = node.api_error("PUT", "/scripts/v/secrets", &secret("TEXT", "y"));
    assert!(text.contains("`TEXT` is a binding of another kind"), "{text}");
    assert_eq!(node.api_error("DELETE", "/scripts/v/secrets/TEXT", &Value::Null).0, 10056);
}

#[test]
fn a_value_arrives_as_it_was_typed() {
    let node = Node::start();
    node.deploy_module("w", &example("version-teller"), Upload::default());
    let folder = Folder::new();
    let long = "x".repeat(5_000);
    for (typed, value) in [
        ("plain\n", "plain"),
        (" with spaces \r\n", " with spaces "),
        ("two\nlines", "two\nlines"),
        ("é ✓ \"quoted\" $HOME \\n", "é ✓ \"quoted\" $HOME \\n"),
        (&long, &long),
    ] {
        node.run_with(&folder, "secret put KEY --name w", typed).done();
        assert_eq!(env(&node, "w")["KEY"], value);
        folder.write("value", typed);
        node.run(&folder, "secret put FILE --value-file value --name w").done();
        assert_eq!(env(&node, "w")["FILE"], value);
    }
    let ran = node.run_with(&folder, "secret put KEY --name w", "\n").failed();
    assert!(ran.err.contains("the secret's value is empty"), "{}", ran.err);
    // A name that has to be encoded in an address.
    node.run_with(&folder, "secret put with.dots-and_more --name w", "x").done();
    node.run(&folder, "secret delete with.dots-and_more --name w").done();
    assert_eq!(names(&node, "w"), ["FILE", "KEY"]);
}

#[test]
fn a_draft_keeps_its_secrets_for_its_first_upload() {
    let node = Node::start();
    let folder = Folder::project("name = \"w\"\nmain = \"worker.wasm\"\n");
    let ran = node.run_with(&folder, "secret put KEY", "kept").done();
    assert!(ran.err.contains("w is new: made a draft that keeps the secret until `sluice deploy`"), "{}", ran.err);
    node.run_with(&folder, "secret bulk", r#"{"GONE": "x", "MORE": "y"}"#).done();
    node.run(&folder, "secret delete GONE").done();
    assert_eq!(names(&node, "w"), ["KEY", "MORE"]);
    assert!(versions(&node, "w").is_empty() && deployments(&node, "w").is_empty());
    // It has no version that could be copied, or be asked.
    let patch = json!({ "env": { "KEY": { "type": "secret_text", "text": "x" } } });
    assert_eq!(node.api_error("PATCH", "/workers/w/versions/latest", &patch).0, 10222);
    assert_eq!(node.get("w", "/").status, 404);

    let node = node.kill_and_restart();
    assert_eq!(names(&node, "w"), ["KEY", "MORE"]);
    // The first upload of a draft may also be a version without traffic.
    node.run(&folder, "versions upload").done();
    assert_eq!(names(&node, "w"), ["KEY", "MORE"]);
    assert!(deployments(&node, "w").is_empty());
    node.run(&folder, "versions deploy 1@100").done();
    assert_eq!(env(&node, "w"), json!({ "KEY": "kept", "MORE": "y" }));
}
