//! Unmodified wrangler 4.164 drives a node: its commands succeed, print what they print against the hosted service, and have
//! the effect that they claim; where something is wrong, its user reads the message that wrangler means them to.

use serde_json::{Value, json};

use crate::harness::wrangler::Project;
use crate::harness::{Node, example, test_guest};

const CONFIG: &str = r#"
name = "teller"
main = "dist/shim.js"
no_bundle = true
compatibility_date = "2026-01-01"
[vars]
GREETING = "Hello"
[version_metadata]
binding = "CF_VERSION_METADATA"
[env.staging.vars]
GREETING = "Staged"
[env.staging.version_metadata]
binding = "CF_VERSION_METADATA"
"#;

fn says(text: &str, expected: &[&str]) {
    for part in expected {
        assert!(text.contains(part), "`{part}` is not in:\n{text}");
    }
}

#[test]
fn deploy_uploads_and_serves_with_every_flag() {
    let node = Node::start();
    let Some(project) = Project::new(&node, CONFIG) else { return };
    let first = project.wrangler(&["deploy", "--tag", "v1", "--message", "the first"]);
    says(&first, &["Uploaded teller", "Current Version ID:"]);
    assert!(node.get("teller", "/").text().starts_with("Hello from version v1"));

    project.wrangler(&["deploy", "--var", "GREETING:Hi", "--tag", "v2"]);
    assert!(node.get("teller", "/").text().starts_with("Hi from version v2"));

    // --keep-vars: what the file does not name stays.
    project.wrangler(&["deploy", "--var", "EXTRA:1"]);
    assert!(node.get("teller", "/env").text().contains("EXTRA"));
    project.wrangler(&["deploy", "--keep-vars"]);
    assert!(node.get("teller", "/env").text().contains("EXTRA"));
    project.wrangler(&["deploy"]);
    assert!(!node.get("teller", "/env").text().contains("EXTRA"));

    project.write("secrets.json", r#"{"TOKEN":"from-a-file"}"#);
    project.wrangler(&["deploy", "--secrets-file", "secrets.json"]);
    assert!(node.get("teller", "/env").text().contains("from-a-file"));

    project.wrangler(&["deploy", "--env", "staging"]);
    assert!(node.get("teller-staging", "/").text().starts_with("Staged"));
    project.wrangler(&["deploy", "--name", "other"]);
    assert!(node.get("other", "/").text().starts_with("Hello"));
}

#[test]
fn versions_are_uploaded_listed_split_and_rolled_back() {
    let node = Node::start();
    let Some(project) = Project::new(&node, CONFIG) else { return };
    says(&project.wrangler_fails(&["versions", "upload"]), &["does not yet exist"]);
    project.wrangler(&["deploy", "--tag", "one"]);
    let upload = [
        "versions",
        "upload",
        "--tag",
        "two",
        "--message",
        "next",
        "--preview-alias",
        "staging",
        "--var",
        "GREETING:Next",
    ];
    says(&project.wrangler(&upload), &["Worker Version ID:", "staging-teller.localhost"]);
    assert!(node.get("staging-teller", "/").text().starts_with("Next from version two"));
    project.wrangler(&["versions", "upload", "--tag", "three"]);

    let ids = project.versions();
    let [one, two, three] = ids.as_slice() else { panic!("{ids:?}") };
    says(&project.wrangler(&["versions", "list"]), &[one, two, "next"]);
    says(&project.wrangler(&["versions", "view", two]), &[two, "GREETING", "Next"]);
    says(&project.wrangler_fails(&["versions", "view", "11111111-1111-4111-8111-111111111111"]), &["10071"]);

    says(
        &project.wrangler(&["versions", "deploy", &format!("{one}@80"), &format!("{two}@20"), "-y", "--dry-run"]),
        &["--dry-run"],
    );
    says(
        &project.wrangler(&[
            "versions",
            "deploy",
            &format!("{one}@79.5%"),
            &format!("{two}@20.5"),
            "-y",
            "--message",
            "canary",
        ]),
        &["79.5%", "20.5%"],
    );
    says(&project.wrangler(&["deployments", "status"]), &["(79.5%)", "(20.5%)", "canary"]);
    says(&project.wrangler(&["versions", "deploy", "--version-tag", "one@50", "two@50", "-y"]), &["SUCCESS"]);
    says(&project.wrangler_fails(&["versions", "deploy", &format!("{one}@60"), &format!("{two}@60"), "-y"]), &["100"]);
    let thirds = [format!("{one}@33.333"), format!("{two}@33.334"), format!("{three}@33.333")];
    let mut args = vec!["versions", "deploy"];
    args.extend(thirds.iter().map(String::as_str));
    says(&project.wrangler_fails(&[args.as_slice(), &["-y"]].concat()), &["at most 2"]);
    says(&project.wrangler(&[args.as_slice(), &["-y", "--max-versions", "3"]].concat()), &["SUCCESS"]);
    says(&project.wrangler(&["deployments", "list"]), &["canary", "(33.334%)"]);

    // A deploy over a split ends it; CI says yes by itself.
    says(&project.wrangler(&["deploy"]), &["multiple versions", "Current Version ID"]);
    says(&project.wrangler(&["rollback", one, "--message", "back", "-y"]), &["has been deployed to 100% of traffic"]);
    assert!(node.get("teller", "/").text().contains("version one"));
    says(&project.wrangler(&["rollback", "-y"]), &["has been deployed to 100% of traffic"]);
    says(
        &project.wrangler_fails(&["versions", "deploy", "11111111-1111-4111-8111-111111111111@100", "-y"]),
        &["10071"],
    );
}

#[test]
fn secrets_are_versions_and_a_rollback_past_one_is_asked_about() {
    let node = Node::start();
    let Some(project) = Project::new(&node, CONFIG) else { return };
    // A worker that is not there: wrangler makes a draft, whose secret waits for the first upload.
    assert!(project.try_wrangler(&["secret", "put", "EARLY", "--name", "drafted"], "waits\n").ok);
    project.wrangler(&["deploy", "--name", "drafted"]);
    assert!(node.get("drafted", "/env").text().contains("waits"));

    project.wrangler(&["deploy"]);
    assert!(project.try_wrangler(&["secret", "put", "TOKEN"], "value-1\n").ok);
    assert!(node.get("teller", "/env").text().contains("value-1"));
    says(&project.wrangler(&["secret", "list"]), &["TOKEN", "secret_text"]);
    project.write("bulk.json", r#"{"TOKEN":"value-2","MORE":"m"}"#);
    project.wrangler(&["secret", "bulk", "bulk.json"]);
    assert!(node.get("teller", "/env").text().contains("value-2"));
    project.wrangler(&["secret", "delete", "MORE"]);
    assert!(!node.get("teller", "/env").text().contains("MORE"));
    // The path through 10220: wrangler lists the names, says yes by itself, and repeats the call.
    says(&project.wrangler(&["rollback", "-y"]), &["MORE", "has been deployed"]);

    // The newest version is not the deployed one now.
    let refused = project.try_wrangler(&["secret", "put", "TOKEN"], "x\n");
    assert!(!refused.ok);
    says(&refused.text, &["wrangler versions secret put"]);
    assert!(project.try_wrangler(&["versions", "secret", "put", "TOKEN", "--tag", "t"], "value-3\n").ok);
    project.write("bulk.json", r#"{"A":"1","B":"2"}"#);
    project.wrangler(&["versions", "secret", "bulk", "bulk.json"]);
    project.wrangler(&["versions", "secret", "delete", "B"]);
    says(&project.wrangler(&["versions", "secret", "list", "--latest-version"]), &["TOKEN", "A"]);
    assert!(!node.get("teller", "/env").text().contains("value-3"));
}

#[test]
fn triggers_are_applied_and_a_worker_is_deleted() {
    let node = Node::start();
    let config = format!(
        "routes = [\"app.example.test/*\", {{ pattern = \"own.example.test\", custom_domain = true }}]\nworkers_dev = true\n{CONFIG}"
    );
    let Some(project) = Project::new(&node, &config) else { return };
    project.wrangler(&["deploy"]);
    for host in ["app.example.test", "own.example.test", "teller.localhost"] {
        assert!(node.get(host, "/").text().starts_with("Hello"), "{host}");
    }
    project.write("wrangler.toml", &config.replace("app.example.test", "new.example.test"));
    project.wrangler(&["triggers", "deploy"]);
    assert_eq!(node.get("app.example.test", "/").status, 404);
    assert_eq!(node.get("new.example.test", "/").status, 200);
    says(&project.wrangler(&["delete", "--force"]), &["Successfully deleted teller"]);
    assert_eq!(node.get("teller", "/").status, 404);
    assert!(!project.try_wrangler(&["deployments", "list"], "").ok);
}

#[test]
fn what_is_wrong_is_said_as_wrangler_means_it() {
    let node = Node::start();
    let Some(project) = Project::new(&node, CONFIG) else { return };
    says(&project.wrangler(&["whoami"]), &["local"]);
    let wrong = project.run_as(&["deployments", "list"], "", "not-the-token");
    assert!(!wrong.ok);
    says(&wrong.text, &["10000"]);
    says(&project.wrangler_fails(&["versions", "list"]), &["10007"]);

    // A required secret that nobody has set.
    project.wrangler(&["deploy"]);
    project.write("wrangler.toml", &format!("{CONFIG}[secrets]\nrequired = [\"NEEDED\"]\n"));
    says(&project.wrangler_fails(&["deploy"]), &["NEEDED"]);

    // A module that cannot run, and a project without one.
    project.write("wrangler.toml", CONFIG);
    project.write("dist/worker.wasm", "\0asm\x01\0\0\0");
    says(&project.wrangler_fails(&["deploy"]), &["component-type information"]);
    std::fs::remove_file(project.path("dist/worker.wasm")).expect("it is there");
    says(&project.wrangler_fails(&["deploy"]), &["10021", "Wasm"]);
}

/// Makes a namespace; its id is what wrangler says to put into the configuration.
fn namespace(project: &Project, title: &str) -> String {
    let said = project.wrangler(&["kv", "namespace", "create", title]);
    let id = said.split('"').find(|word| word.len() == 32 && word.bytes().all(|byte| byte.is_ascii_hexdigit()));
    id.unwrap_or_else(|| panic!("no id in:\n{said}")).to_owned()
}

/// The JSON that a command printed, after whatever it said before.
fn json_of(text: &str) -> Value {
    let from = text.find(['[', '{']).unwrap_or_else(|| panic!("no JSON in:\n{text}"));
    let mut values = serde_json::Deserializer::from_str(&text[from..]).into_iter::<Value>();
    values.next().and_then(Result::ok).unwrap_or_else(|| panic!("no JSON in:\n{text}"))
}

#[test]
fn kv_namespaces_are_created_listed_renamed_and_deleted() {
    let node = Node::start();
    let Some(project) = Project::new(&node, CONFIG) else { return };
    let (notes, other) = (namespace(&project, "notes"), namespace(&project, "other"));
    says(&project.wrangler_fails(&["kv", "namespace", "create", "notes"]), &["already exists"]);
    let list = || json_of(&project.wrangler(&["kv", "namespace", "list"]));
    let titles = |list: &Value| -> Vec<(String, String)> {
        let all = list.as_array().expect("a list").iter();
        all.map(|one| (crate::harness::text(&one["title"]), crate::harness::text(&one["id"]))).collect()
    };
    assert_eq!(titles(&list()), [("notes".into(), notes.clone()), ("other".into(), other.clone())]);
    project.wrangler(&["kv", "namespace", "rename", "notes", "--new-name", "my notes"]);
    project.wrangler(&["kv", "namespace", "rename", "--namespace-id", &other, "--new-name", "2nd"]);
    assert_eq!(titles(&list()), [("2nd".into(), other.clone()), ("my notes".into(), notes.clone())]);
    project.wrangler(&["kv", "namespace", "delete", "2nd", "-y"]);
    project.wrangler(&["kv", "namespace", "delete", "--namespace-id", &notes, "-y"]);
    assert_eq!(titles(&list()), []);
    says(&project.wrangler_fails(&["kv", "namespace", "delete", "--namespace-id", &notes, "-y"]), &["10041"]);
}

#[test]
fn kv_keys_are_those_that_a_guest_sees() {
    let node = Node::start();
    let Some(project) = Project::new(&node, CONFIG) else { return };
    std::fs::copy(example("kv-notes"), project.path("dist/worker.wasm")).expect("the module");
    let id = namespace(&project, "notes");
    let bound = format!("{CONFIG}[[kv_namespaces]]\nbinding = \"NOTES\"\nid = \"{id}\"\n");
    project.write("wrangler.toml", &bound);
    project.wrangler(&["deploy"]);
    let note = |key: &str| node.get("teller", &format!("/notes/{key}"));
    let key = |args: &[&str]| project.wrangler(&[&["kv", "key"], args, &["--binding", "NOTES", "--remote"]].concat());

    key(&["put", "greeting", "hello"]);
    assert_eq!(note("greeting").text(), "hello");
    assert_eq!(node.request("PUT", "teller", "/notes/reply", &[], b"from the guest").status, 204);
    says(&key(&["get", "reply"]), &["from the guest"]);
    key(&["put", "a/b", "below", "--metadata", r#"{"é": [1, "x"]}"#, "--ttl", "3600"]);
    assert_eq!(note("a/b").text(), "below");
    let bytes: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    std::fs::write(project.path("raw.bin"), &bytes).expect("a file");
    key(&["put", "raw", "--path", "raw.bin", "--expiration", "4000000000"]);
    assert_eq!(note("raw").body, bytes);

    let listed = json_of(&key(&["list"]));
    let names: Vec<&str> = listed.as_array().expect("a list").iter().filter_map(|one| one["name"].as_str()).collect();
    assert_eq!(names, ["a/b", "greeting", "raw", "reply"]);
    assert_eq!(listed[0]["metadata"], json!({ "é": [1, "x"] }));
    let ends = listed[0]["expiration"].as_u64().expect("a time");
    assert!((1_700_000_000..4_000_000_000).contains(&ends), "{listed}");
    assert_eq!(listed[2], json!({ "name": "raw", "expiration": 4_000_000_000_u64 }));
    assert_eq!(json_of(&key(&["list", "--prefix", "gr"])), json!([{ "name": "greeting" }]));

    key(&["delete", "greeting"]);
    assert_eq!(note("greeting").status, 404);
    for refused in
        [["get", "greeting", "", ""], ["put", "short", "x", "--ttl=59"], ["put", "late", "x", "--expiration=1"]]
    {
        let args: Vec<&str> = refused.into_iter().filter(|arg| !arg.is_empty()).collect();
        let args = [&["kv", "key"], args.as_slice(), &["--binding", "NOTES", "--remote"]].concat();
        assert!(!project.try_wrangler(&args, "").ok, "{args:?}");
    }
}

#[test]
fn kv_bulk_commands_do_many_keys_and_a_namespace_that_is_gone_stops_a_rollback() {
    let node = Node::start();
    let Some(project) = Project::new(&node, CONFIG) else { return };
    std::fs::copy(example("kv-notes"), project.path("dist/worker.wasm")).expect("the module");
    let id = namespace(&project, "notes");
    project.write("wrangler.toml", &format!("{CONFIG}[[kv_namespaces]]\nbinding = \"NOTES\"\nid = \"{id}\"\n"));
    project.wrangler(&["deploy", "--tag", "bound"]);
    let bulk =
        |args: &[&str]| project.wrangler(&[&["kv", "bulk"], args, &["--namespace-id", &id, "--remote"]].concat());

    // More than wrangler sends in one call.
    let mut pairs: Vec<Value> =
        (0..1500).map(|n| json!({ "key": format!("k{n:04}"), "value": n.to_string() })).collect();
    pairs.push(json!({ "key": "raw", "value": "/wA=", "base64": true, "metadata": { "m": 1 }, "expiration_ttl": 600 }));
    project.write("pairs.json", &json!(pairs).to_string());
    bulk(&["put", "pairs.json"]);
    assert_eq!(node.get("teller", "/notes/raw").body, b"\xff\0");
    assert_eq!(node.get("teller", "/many/k0000,k1499").text(), "k0000=0\nk1499=1499\n");
    // A list in two pages.
    let listed = json_of(&project.wrangler(&["kv", "key", "list", "--namespace-id", &id, "--remote"]));
    assert_eq!(listed.as_array().map(Vec::len), Some(1501));
    project.write("keys.json", r#"["k0007", "nothing"]"#);
    let got = json_of(&bulk(&["get", "keys.json"]));
    assert!(got.to_string().contains("\"7\"") && got["nothing"].is_null(), "{got}");
    let keys: Vec<String> = (0..1500).map(|n| format!("k{n:04}")).collect();
    project.write("keys.json", &json!(keys).to_string());
    bulk(&["delete", "keys.json", "--force"]);
    assert_eq!(node.get("teller", "/notes").text(), "raw\n");

    project.write("wrangler.toml", CONFIG);
    project.wrangler(&["deploy"]);
    project.wrangler(&["kv", "namespace", "delete", "--namespace-id", &id, "-y"]);
    let refused = project.wrangler_fails(&["rollback", "-y"]);
    says(&refused, &["10210", "`NOTES`", &id, "deleted"]);
    project.write("wrangler.toml", &format!("{CONFIG}[[kv_namespaces]]\nbinding = \"NOTES\"\nid = \"{id}\"\n"));
    says(&project.wrangler_fails(&["deploy"]), &["10041", &id]);
    // A binding without an id is a namespace that wrangler makes.
    project.write("wrangler.toml", &format!("{CONFIG}[[kv_namespaces]]\nbinding = \"NOTES\"\n"));
    project.wrangler(&["deploy"]);
    assert_eq!(node.request("PUT", "teller", "/notes/new", &[], b"1").status, 204);
    says(&project.wrangler(&["kv", "namespace", "list"]), &["teller-notes"]);
}

#[test]
fn what_is_not_offered_is_refused_with_what_to_do_instead() {
    let node = Node::start();
    let Some(project) = Project::new(&node, CONFIG) else { return };
    // Drafts: a worker with secrets and without a version.
    project.write("bulk.json", r#"{"TOKEN":"1"}"#);
    assert!(project.try_wrangler(&["secret", "bulk", "bulk.json"], "").ok);
    says(&project.try_wrangler(&["versions", "secret", "put", "MORE"], "x\n").refused(), &["no uploaded versions"]);

    project.wrangler(&["deploy"]);
    says(&project.wrangler_fails(&["rollback", "-y"]), &["Could not find"]);
    project.wrangler(&["versions", "upload"]);
    says(&project.wrangler_fails(&["secret", "bulk", "bulk.json"]), &["wrangler versions secret"]);

    // wrangler looks at migrations by itself before a version upload; a deploy sends them.
    let objects = "[[durable_objects.bindings]]\nname = \"COUNTER\"\nclass_name = \"Counter\"\n[[migrations]]\ntag = \"v1\"\nnew_sqlite_classes = [\"Counter\"]\n";
    project.write("wrangler.toml", &format!("{CONFIG}{objects}"));
    says(&project.wrangler_fails(&["versions", "upload"]), &["migration"]);
    says(&project.wrangler_fails(&["deploy"]), &["10070", "the component exports neither"]);

    // What is no Wasm worker.
    let config = |main: &str, more: &str| {
        format!("name = \"teller\"\nmain = \"src/{main}\"\ncompatibility_date = \"2026-01-01\"\n{more}")
    };
    std::fs::create_dir(project.path("src")).expect("a folder");
    project.write("src/worker.js", "export default { fetch() { return new Response('hi') } };\n");
    project.write("wrangler.toml", &config("worker.js", ""));
    says(&project.wrangler_fails(&["deploy"]), &["10021", "no Wasm", "componentize-js", "export default {};"]);
    project.write("src/worker.py", "from workers import WorkerEntrypoint\n");
    project.write("wrangler.toml", &config("worker.py", "compatibility_flags = [\"python_workers\"]\n"));
    says(&project.wrangler_fails(&["deploy"]), &["10021", "no Wasm", "componentize-py"]);
    std::fs::copy(example("hello"), project.path("src/hello.wasm")).expect("the module");
    project.write("src/service.js", "addEventListener('fetch', (event) => event.respondWith(new Response(WORKER)));\n");
    project.write("wrangler.toml", &config("service.js", "[wasm_modules]\nWORKER = \"src/hello.wasm\"\n"));
    says(&project.wrangler_fails(&["deploy"]), &["service-worker format", "no_bundle = true"]);
    // It is what it was.
    assert_eq!(node.versions("teller").len(), 2);
    assert!(node.get("teller", "/").text().starts_with("Hello"));
}

#[test]
fn a_component_and_a_core_module_come_through_by_every_recipe() {
    let node = Node::start();
    let Some(project) = Project::new(&node, CONFIG) else { return };
    let core = std::fs::read(example("version-teller")).expect("a guest");
    let encoder = wit_component::ComponentEncoder::default().module(&core).expect("component types");
    let component = encoder.validate(true).encode().expect("a component");
    for (kind, module) in [("core", &core), ("component", &component)] {
        std::fs::write(project.path("dist/worker.wasm"), module).expect("a file");
        let deploy = |recipe: &str, config: &str, flags: &[&str]| {
            let name = format!("{kind}-{recipe}");
            project.write("wrangler.toml", config);
            project.wrangler(&[&["deploy", "--name", &name, "--var", "GREETING:Through"], flags].concat());
            assert!(node.get(&name, "/").text().starts_with("Through"), "{name}");
        };
        let bare = CONFIG.replace("no_bundle = true\n", "");
        deploy("r1", &bare, &["--no-bundle"]);
        let named = "[unsafe.metadata]\nmain_module = \"worker.wasm\"\n";
        std::fs::copy(example("hello"), project.path("dist/another.wasm")).expect("a module");
        deploy("r2", &format!("{CONFIG}{named}"), &[]);
        std::fs::remove_file(project.path("dist/another.wasm")).expect("it is there");
        project.write("dist/shim.js", "import mod from './worker.wasm';\nexport default { mod };\n");
        deploy("r3", &bare, &[]);
        project.write("dist/shim.js", "export default {};\n");
        deploy("r4", &format!("find_additional_modules = true\n{bare}"), &[]);
        let built = "[build]\ncommand = \"mkdir -p made && cp dist/worker.wasm made/ && echo 'export default {};' > made/shim.js\"\n";
        deploy("r5", &format!("{}{built}", CONFIG.replace("dist/", "made/")), &[]);
    }
    // A rehearsal sends nothing.
    project.write("wrangler.toml", CONFIG);
    says(&project.wrangler(&["deploy", "--dry-run", "--name", "unsent"]), &["--dry-run"]);
    assert_eq!(node.api_error("GET", "/scripts/unsent/versions", &Value::Null).0, 10007);
}

#[test]
fn classes_of_objects_are_migrated_once_and_running_objects_get_new_code_when_wrangler_says() {
    let node = Node::start();
    let objects = "\n[[durable_objects.bindings]]\nname = \"LEDGER\"\nclass_name = \"Ledger\"\n\n[[migrations]]\ntag = \"v1\"\nnew_sqlite_classes = [\"Ledger\"]\n";
    let config = format!("{CONFIG}{objects}");
    let Some(project) = Project::new(&node, &config) else { return };
    std::fs::copy(test_guest("ledger"), project.path("dist/worker.wasm")).expect("a copy of the guest");
    says(&project.wrangler(&["deploy", "--tag", "one"]), &["LEDGER", "Ledger", "Current Version ID:"]);
    assert_eq!(node.get("teller", "/a/put?k=n&v=7").status, 200);
    let runs = || node.get("teller", "/a/version").text().split(' ').next().unwrap_or_default().to_owned();
    assert_eq!(runs(), "one");

    // wrangler defers by itself: an object that is in memory goes on as it is.
    project.wrangler(&["deploy", "--tag", "two"]);
    assert_eq!(runs(), "one");
    project.wrangler(&["deploy", "--tag", "three", "--durable-objects-code-update-mode", "immediate"]);
    assert_eq!((runs(), node.get("teller", "/a/get?k=n").text()), ("three".to_owned(), "7".to_owned()));

    // A migration that is not applied: only by a deployment to all traffic, and no way back past it.
    let more = format!(
        "{config}\n[[migrations]]\ntag = \"v2\"\nrenamed_classes = [{{ from = \"Ledger\", to = \"Other\" }}]\n"
    );
    let more = more.replace("class_name = \"Ledger\"", "class_name = \"Other\"");
    project.write("wrangler.toml", &more);
    says(&project.wrangler_fails(&["versions", "upload"]), &["migration"]);
    project.wrangler(&["deploy", "--tag", "four", "--durable-objects-code-update-mode", "immediate"]);
    assert_eq!(node.get("teller", "/a/get?k=n").text(), "7");
    says(&project.wrangler_fails(&["rollback", "-y"]), &["migration"]);
    says(&project.wrangler(&["delete", "--force"]), &["Successfully deleted teller"]);
}
