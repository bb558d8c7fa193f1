//! Uploads: what is accepted and runs, what is refused with its one sentence and leaves nothing, and what a version is told as.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use crate::harness::http::multipart_of;
use crate::harness::node::split_body;
use crate::harness::{Connection, Node, Upload, example, test_guest, until};

const MODULE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The smallest guest there is: it is proven in a few milliseconds.
const SMALL: &str = "silent-drop-async";

/// The files of the module store: those that are kept, and those of uploads under way.
fn files(node: &Node) -> (Vec<String>, Vec<String>) {
    let list = |folder: &Path| {
        let entries = std::fs::read_dir(folder).expect("a folder").flatten();
        let files = entries.filter(|entry| entry.path().is_file());
        let mut names: Vec<String> = files.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    };
    let modules = node.dir().join("modules");
    (list(&modules), list(&modules.join("temp")))
}

/// The versions of a worker as the list has them, newest first.
fn versions(node: &Node, worker: &str) -> Vec<Value> {
    let list = node.api("GET", &format!("/scripts/{worker}/versions?per_page=1000"), &Value::Null);
    list["items"].as_array().expect("a list").clone()
}

fn numbers(node: &Node, worker: &str) -> Vec<u64> {
    versions(node, worker).iter().map(|version| version["number"].as_u64().expect("a number")).collect()
}

/// The code and the message of a refusal that has exactly one.
fn only_error(envelope: &Value) -> (i64, String) {
    assert_eq!(envelope["success"], false, "{envelope:#}");
    let errors = envelope["errors"].as_array().expect("a list");
    assert_eq!(errors.len(), 1, "{envelope:#}");
    let message = errors[0]["message"].as_str().expect("a message").to_owned();
    assert!(!message.contains('\n'), "{message:?} is more than one line");
    // wrangler begins a CPU profile of its own when it reads this word.
    assert!(!message.to_lowercase().contains("startup"), "{message}");
    (errors[0]["code"].as_i64().expect("a code"), message)
}

/// A module with a custom section behind it that makes it `size` bytes long.
fn padded(module: &[u8], size: usize) -> Vec<u8> {
    // Id, a length of five bytes, and a name of one character.
    let length = size - module.len() - 6;
    let mut section = vec![0];
    section.extend((0..5).map(|group| {
        let bits = u8::try_from(length >> (7 * group) & 0x7f).expect("seven bits");
        if group < 4 { bits | 0x80 } else { bits }
    }));
    section.extend([1, b'x']);
    let mut bytes = module.to_vec();
    bytes.extend(section);
    bytes.resize(size, 0);
    bytes
}

#[test]
fn every_kind_of_guest_is_accepted_and_answers() {
    let node = Node::start();
    let read = |name: &str| std::fs::read(example(name)).expect("a guest");
    let core = read("hello");
    assert_eq!(core[4..8], [1, 0, 0, 0], "the example is no core module any more");
    let encoder = wit_component::ComponentEncoder::default().module(&core).expect("component types");
    let component = encoder.validate(true).encode().expect("a component");
    assert_eq!(component[4..8], [0x0d, 0, 1, 0]);
    let preview1 = std::fs::read(test_guest("preview1")).expect("a guest");
    for (worker, name, bytes, guest) in [
        ("core-p2", "worker.wasm", core.as_slice(), "0.2"),
        ("core-p3", "worker.wasm", &read("hello-async"), "0.3"),
        ("component", "worker.wasm", &component, "0.2"),
        ("preview1", "worker.wasm", &preview1, "0.2"),
        // Known by its first bytes.
        ("unnamed", "program", &core, "0.2"),
    ] {
        let upload = Upload::var("GREETING", "Hello, World!");
        let reply = node.upload_bytes("PUT", &format!("/scripts/{worker}"), name, bytes, upload);
        assert_eq!(reply["success"], true, "{worker}: {reply:#}");
        assert_eq!(reply["result"]["sluice"]["version"]["sluice"]["guest"], guest, "{worker}: {reply:#}");
        let answer = node.get(worker, "/");
        assert_eq!((answer.status, answer.text().as_str()), (200, "Hello, World!\n"), "{worker}");
    }
}

#[test]
fn the_text_format_is_accepted_by_its_name_or_its_first_bytes() {
    let node = Node::start();
    let text = std::fs::read(test_guest(SMALL)).expect("a guest");
    let bare = text.iter().position(|byte| *byte == b'(').map(|at| &text[at..]).expect("a component");
    for (worker, name, bytes) in [("named", "worker.wat", text.as_slice()), ("bare", "worker", bare)] {
        let reply = node.upload_bytes("PUT", &format!("/scripts/{worker}"), name, bytes, Upload::default());
        assert_eq!(reply["success"], true, "{worker}: {reply:#}");
        // It runs, and does what it does: nothing.
        assert!(node.get(worker, "/").text().starts_with("error 1101"), "{worker}");
    }
    // It is kept as it came: what is stored is what was uploaded.
    let (modules, _) = files(&node);
    let sizes: BTreeSet<u64> =
        modules.iter().map(|name| std::fs::metadata(node.dir().join("modules").join(name)).unwrap().len()).collect();
    assert_eq!(sizes, BTreeSet::from([text.len() as u64, bare.len() as u64]));
}

/// What was uploaded, its code, and what its message has to hold.
type Refused<'a> = (&'a str, Vec<u8>, i64, &'a [&'a str]);

#[test]
fn what_cannot_run_is_refused_in_one_sentence_and_nothing_of_it_stays() {
    let node = Node::start();
    let hello = std::fs::read(example("hello")).expect("a guest");
    let guest = |name: &str| std::fs::read(test_guest(name)).expect("a guest");
    let cases: Vec<Refused<'_>> = vec![
        ("empty", vec![], 10021, &["not WebAssembly", "nothing", "wasi:http/handler@0.3"]),
        ("script", b"export default {}".to_vec(), 10021, &["not WebAssembly", "`export d`", "component that exports"]),
        ("noise", vec![0xff; 5000], 10021, &["not WebAssembly", "\\xff"]),
        ("truncated", hello[..hello.len() / 2].to_vec(), 10021, &["cut off", "at byte"]),
        ("header alone", hello[..8].to_vec(), 10021, &["core module without component-type information"]),
        ("plain core", b"(module (func (export \"main\")))".to_vec(), 10021, &["without component-type information"]),
        ("bad text", b"(component (import))".to_vec(), 10021, &["text does not parse", "(at line 1, column 19)"]),
        (
            "no-handler",
            guest("no-handler"),
            10021,
            &["exports `answer`, no HTTP handler", "wasi:http/incoming-handler"],
        ),
        (
            "missing-imports",
            guest("missing-imports"),
            10021,
            &["`acme:db/queries@1.0.0`", "`acme:cache/lru@0.1.0`", "not offered here"],
        ),
        ("spin-at-start", guest("spin-at-start"), 10021, &["1000 ms of CPU time while starting"]),
        ("trap-at-start", guest("trap-at-start"), 10021, &["trapped while starting"]),
        ("hog-at-start", guest("hog-at-start"), 10021, &["more than 128 MiB of memory while starting"]),
        ("too large", padded(&hello, MODULE_BYTES_MAX + 1), 10027, &["`worker.wasm`", "67108864 bytes"]),
    ];
    node.deploy_module("here", &test_guest(SMALL), Upload::default());
    let before = (files(&node), versions(&node, "here"), node.api("GET", "/scripts", &Value::Null));
    for (what, bytes, code, fragments) in cases {
        for (method, path) in [("POST", "/scripts/here/versions"), ("PUT", "/scripts/here"), ("PUT", "/scripts/new")] {
            if bytes.len() > MODULE_BYTES_MAX && method == "PUT" {
                continue;
            }
            let (got, message) = only_error(&node.upload_bytes(method, path, "worker.wasm", &bytes, Upload::default()));
            assert_eq!(got, code, "{what}: {message}");
            for fragment in fragments {
                assert!(message.contains(fragment), "{what}: `{fragment}` is not in: {message}");
            }
        }
        let after = (files(&node), versions(&node, "here"), node.api("GET", "/scripts", &Value::Null));
        assert_eq!(after, before, "{what}");
    }
    // No number was used up, and the node is well.
    node.upload_version("here", &test_guest(SMALL), Upload::default());
    assert_eq!(numbers(&node, "here"), [2, 1]);
}

#[test]
fn a_module_of_64_mib_is_accepted_and_a_body_that_announces_more_is_not_even_read() {
    let node = Node::start();
    let module = padded(&std::fs::read(example("hello")).expect("a guest"), MODULE_BYTES_MAX);
    let reply = node.upload_bytes("PUT", "/scripts/large", "worker.wasm", &module, Upload::default());
    assert_eq!(reply["success"], true, "{reply:#}");
    assert_eq!(node.get("large", "/").text(), "Hello, World!\n");

    let mut connection = Connection::open(node.control);
    connection.send(format!(
        "PUT /client/v4/accounts/local/workers/scripts/large HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\ncontent-type: multipart/form-data; boundary=b\r\ncontent-length: 900000000\r\nexpect: 100-continue\r\n\r\n",
        node.control, node.token
    ));
    let reply = connection.reply();
    assert_eq!(reply.status, 413, "{reply:?}");
    let (code, message) = only_error(&reply.json());
    assert!(code == 10027 && message.contains("83886080 bytes"), "{message}");
}

#[test]
fn an_upload_whose_body_is_cut_off_leaves_nothing() {
    let node = Node::start();
    node.deploy_module("here", &test_guest(SMALL), Upload::default());
    let before = (files(&node), versions(&node, "here"));
    let module = std::fs::read(example("hello")).expect("a guest");
    let (kind, body) = multipart_of(r#"{"main_module":"w.wasm"}"#, &[("w.wasm", "application/wasm", &module)]);
    let head = |framing: &str| {
        format!(
            "POST /client/v4/accounts/local/workers/scripts/here/versions HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\ncontent-type: {kind}\r\n{framing}\r\n\r\n",
            node.control, node.token
        )
    };
    let length = format!("content-length: {}", body.len());

    // The client stops, and waits for what the node has to say.
    let mut stops = Connection::open(node.control);
    stops.send(head(&length)).send(&body[..body.len() / 2]).finish_sending();
    let reply = stops.reply();
    assert_eq!((reply.status, only_error(&reply.json()).0), (400, 95003), "{reply:?}");
    // The framing is whole, what it frames is not: without the last boundary nobody knows that the module is.
    let mut short = Connection::open(node.control);
    let cut = &body[..body.len() - 20];
    short.send(head("transfer-encoding: chunked")).send_chunk(cut).send("0\r\n\r\n");
    assert_eq!(only_error(&short.reply().json()).0, 95003);
    // The client is gone while the node writes the module to its disk.
    let mut gone = Connection::open(node.control);
    gone.send(head("transfer-encoding: chunked")).send_chunk(&body[..body.len() / 2]);
    until("the upload is on its way to the disk", || (!files(&node).1.is_empty()).then_some(()));
    drop(gone);
    until("the upload is gone from the disk", || files(&node).1.is_empty().then_some(()));
    assert_eq!((files(&node), versions(&node, "here")), before);
}

#[test]
fn identical_bytes_are_kept_once_and_are_versions_of_their_own() {
    let node = Node::start();
    let small = test_guest(SMALL);
    let first = node.deploy_module("one", &small, Upload::default());
    node.deploy_module("two", &small, Upload::default());
    // Eight at once, to two workers.
    let ids: Vec<String> = std::thread::scope(|scope| {
        let uploads: Vec<_> = (0..8)
            .map(|index| if index % 2 == 0 { "one" } else { "two" })
            .map(|worker| scope.spawn(|| node.upload_version(worker, &small, Upload::default()).id))
            .collect();
        uploads.into_iter().map(|upload| upload.join().expect("an upload")).collect()
    });
    assert_eq!(ids.iter().chain([&first.id]).collect::<BTreeSet<_>>().len(), 9, "an id was given twice");
    for worker in ["one", "two"] {
        assert_eq!(numbers(&node, worker), [5, 4, 3, 2, 1]);
    }
    let (modules, temporary) = files(&node);
    let digest = versions(&node, "one")[0]["sluice"]["module_sha256"].as_str().expect("a digest").to_owned();
    assert_eq!((modules, temporary), (vec![format!("{digest}.wasm")], vec![]));

    // Numbers are not given again, and what another worker still has stays.
    let second = versions(&node, "one")[3]["id"].as_str().expect("an id").to_owned();
    node.api("DELETE", &format!("/scripts/one/versions/{second}"), &Value::Null);
    node.upload_version("one", &small, Upload::default());
    assert_eq!(numbers(&node, "one"), [6, 5, 4, 3, 1]);
    node.api("DELETE", "/scripts/one?force=true", &Value::Null);
    assert!(node.get("two", "/").text().starts_with("error 1101"));
}

#[test]
fn a_first_upload_has_to_be_a_deploy_and_only_a_deploy_changes_what_is_live() {
    let node = Node::start();
    let (teller, path) = (example("version-teller"), "/scripts/teller/versions");
    let (code, message) = only_error(&node.upload("POST", path, &teller, Upload::default()));
    assert_eq!(code, 10007, "{message}");
    assert!(message.contains("`teller`") && message.contains("deploy"), "{message}");
    assert_eq!(node.api("GET", "/scripts", &Value::Null), json!([]));

    let deployments = || node.api("GET", "/scripts/teller/deployments", &Value::Null)["deployments"].clone();
    let first = node.deploy_module("teller", &teller, Upload::var("GREETING", "one"));
    let after_first = deployments();
    assert_eq!(after_first[0]["versions"], json!([{ "version_id": first.id, "percentage": 100 }]));
    let second = node.upload_version("teller", &teller, Upload::var("GREETING", "two"));
    assert_eq!(deployments(), after_first, "an upload is no deployment");
    assert!(node.get("teller", "/").text().starts_with("one"));
    assert_eq!(second.json["annotations"]["workers/triggered_by"], "version_upload");

    // A deploy over a split replaces it (`CRE-6`).
    node.split("teller", &[(&first, 50.0), (&second, 50.0)]);
    let third = node.deploy_module("teller", &teller, Upload::var("GREETING", "three"));
    assert_eq!(deployments()[0]["versions"], json!([{ "version_id": third.id, "percentage": 100 }]));
    assert!((0..10).all(|_| node.get("teller", "/").text().starts_with("three")));
    assert_eq!(numbers(&node, "teller"), [3, 2, 1]);
}

#[test]
fn a_version_tells_who_made_it_when_from_what_and_why() {
    let node = Node::start();
    // The 1000th byte is the first of two: the character is left out, not broken.
    let message = format!("{}é and more", "m".repeat(999));
    let tag = "é".repeat(50);
    let upload = Upload::var("A", "1")
        .with("annotations", json!({ "workers/message": message, "workers/tag": tag, "workers/alias": "next" }))
        .with("compatibility_date", json!("2026-01-01"));
    let version = node.deploy_module("told", &test_guest(SMALL), upload).id;
    let told = node.api("GET", &format!("/scripts/told/versions/{version}"), &Value::Null);
    assert_eq!(told["annotations"]["workers/message"], "m".repeat(999));
    assert_eq!(
        (&told["annotations"]["workers/tag"], &told["annotations"]["workers/alias"]),
        (&json!(tag), &json!("next"))
    );
    assert_eq!((&told["id"], &told["number"]), (&json!(version), &json!(1)));
    let created: jiff::Timestamp =
        told["metadata"]["created_on"].as_str().and_then(|t| t.parse().ok()).expect("a time");
    assert!(created.as_second() > 1_700_000_000, "{created}");
    assert_eq!((&told["metadata"]["source"], &told["metadata"]["has_preview"]), (&json!("api"), &json!(true)));
    assert!(told["metadata"]["author_email"].is_string() && told["startup_time_ms"].is_u64(), "{told:#}");
    assert_eq!(told["resources"]["script_runtime"]["compatibility_date"], "2026-01-01");
    assert_eq!(told["resources"]["bindings"], json!([{ "name": "A", "type": "plain_text", "text": "1" }]));
    let facts = &told["sluice"];
    assert_eq!((&facts["guest"], &facts["imports"][0]), (&json!("0.3"), &json!("wasi:http/types@0.3.2")));
    assert_eq!(facts["size_bytes"], std::fs::metadata(test_guest(SMALL)).unwrap().len());
    assert_eq!(versions(&node, "told")[0], told, "the list tells another story");

    let long = Upload::default().tagged(&format!("{tag}x"));
    let (code, message) = only_error(&node.upload("POST", "/scripts/told/versions", &test_guest(SMALL), long));
    assert_eq!(code, 10021, "{message}");
    assert!(message.contains("101 bytes") && message.contains("100"), "{message}");
    assert_eq!(numbers(&node, "told"), [1]);
}

#[test]
fn a_version_never_changes() {
    let node = Node::start();
    let small = test_guest(SMALL);
    let secret = json!([{ "type": "secret_text", "name": "KEY", "text": "hush-1" }]);
    let first = node.deploy_module("still", &small, Upload::bindings(secret).tagged("v1")).id;
    let second = node.upload_version("still", &small, Upload::var("A", "1").tagged("v2"));
    let read = |id: &str| node.api("GET", &format!("/scripts/still/versions/{id}"), &Value::Null);
    let (first_before, second_before) = (read(&first), read(&second.id));
    assert!(!first_before.to_string().contains("hush"), "{first_before:#}");

    node.deploy_module("still", &small, Upload::var("A", "2").tagged("v2"));
    let secret = json!({ "name": "KEY", "text": "hush-2", "type": "secret_text" });
    node.api("PUT", "/scripts/still/secrets", &secret);
    node.api("DELETE", "/scripts/still/secrets/KEY", &Value::Null);
    // `force`, since the secret has changed meanwhile (`DEP-10`).
    let back = split_body(&[(&second, 100.0)]);
    assert_eq!(node.api_error("POST", "/scripts/still/deployments", &back).0, 10220);
    node.api("POST", "/scripts/still/deployments?force=true", &back);
    node.api("PUT", "/scripts/still/routes", &json!([{ "pattern": "still.test/*" }]));
    node.api("PATCH", "/scripts/still/script-settings", &json!({ "tags": ["a"] }));
    assert!(numbers(&node, "still").len() >= 5);
    assert_eq!((read(&first), read(&second.id)), (first_before.clone(), second_before.clone()));
    for method in ["PUT", "PATCH", "POST"] {
        let path = format!("/scripts/still/versions/{}", second.id);
        assert_eq!(node.api_error(method, &path, &json!({ "annotations": { "workers/tag": "x" } })).0, 7001);
    }
    let node = node.kill_and_restart();
    let read = |id: &str| node.api("GET", &format!("/scripts/still/versions/{id}"), &Value::Null);
    let without_port = |mut version: Value| {
        version["sluice"].as_object_mut().expect("facts").remove("urls");
        version
    };
    assert_eq!(without_port(read(&first)), without_port(first_before));
    assert_eq!(without_port(read(&second.id)), without_port(second_before));
}

#[test]
fn the_newest_hundred_versions_can_be_deployed() {
    let node = Node::start();
    let small = test_guest(SMALL);
    let first = node.deploy_module("many", &small, Upload::default());
    let second = node.upload_version("many", &small, Upload::default());
    for _ in 3..=101 {
        node.upload_version("many", &small, Upload::default());
    }
    // The oldest goes on being live, and is not to be deployed again.
    let share = |id: &str| json!({ "strategy": "percentage", "versions": [{ "version_id": id, "percentage": 100 }] });
    let (code, message) = node.api_error("POST", "/scripts/many/deployments", &share(&first.id));
    assert_eq!(code, 10210, "{message}");
    assert!(message.contains(&first.id) && message.contains("newest 100"), "{message}");
    node.split("many", &[(&second, 100.0)]);
    let list = |query: &str| node.api_raw("GET", &format!("/scripts/many/versions?{query}"), &Value::Null);
    let numbers = |list: &Value| -> Vec<u64> {
        let items = list["result"]["items"].as_array().expect("a list");
        items.iter().map(|version| version["number"].as_u64().expect("a number")).collect()
    };
    // `VER-10`: paging does not apply.
    assert_eq!(numbers(&list("deployable=true&per_page=5&page=2")), (2..=101).rev().collect::<Vec<_>>());
    assert_eq!(numbers(&list("per_page=40&page=3")), (1..=21).rev().collect::<Vec<_>>());
    assert_eq!(list("per_page=40&page=3")["result_info"]["total_count"], 101);
    assert_eq!(files(&node).0.len(), 1);
}

/// Uploads several parts; returns the envelope.
fn upload_parts(node: &Node, worker: &str, main: &str, parts: &[(&str, &str, &[u8])]) -> Value {
    let (kind, body) = multipart_of(&json!({ "main_module": main }).to_string(), parts);
    node.api_request("PUT", &format!("/scripts/{worker}"), &[("content-type", &kind)], &body).json()
}

#[test]
fn of_several_modules_the_program_is_found_or_asked_for() {
    let node = Node::start();
    let hello = std::fs::read(example("hello")).expect("a guest");
    let small = std::fs::read(test_guest(SMALL)).expect("a guest");
    let (wasm, script) = ("application/wasm", "application/javascript+module");
    let shim = b"export default {};".as_slice();
    let importing = b"import worker from './dist/b.wasm';\nexport default {};".as_slice();
    let (a, b) = (("dist/a.wasm", wasm, small.as_slice()), ("dist/b.wasm", wasm, hello.as_slice()));
    for (worker, main, parts) in [
        ("named", "dist/b.wasm", vec![a, b]),
        ("named-with-dot", "./dist/b.wasm", vec![a, b]),
        ("only", "shim.js", vec![("shim.js", script, shim), b, ("notes.txt", "text/plain", b"hello")]),
        ("imported", "shim.js", vec![("shim.js", script, importing), a, b]),
        ("same-stem", "b.js", vec![("b.js", script, shim), a, b]),
    ] {
        let reply = upload_parts(&node, worker, main, &parts);
        assert_eq!(reply["success"], true, "{worker}: {reply:#}");
        assert_eq!(node.get(worker, "/").text(), "Hello, World!\n", "{worker}");
    }
    // The module that is not the program is not kept.
    assert_eq!(files(&node), (vec![files(&node).0[0].clone()], vec![]));

    let (code, message) = only_error(&upload_parts(&node, "which", "shim.js", &[("shim.js", script, shim), a, b]));
    assert_eq!(code, 10021, "{message}");
    for fragment in ["2 Wasm parts", "`dist/a.wasm`, `dist/b.wasm`", "main_module"] {
        assert!(message.contains(fragment), "{message}");
    }
    let (_, message) = only_error(&upload_parts(&node, "which", "dist/a.wasm", &[a, a]));
    assert!(message.contains("two parts named `dist/a.wasm`"), "{message}");
    let (_, message) = only_error(&upload_parts(&node, "which", "gone.js", &[("shim.js", script, shim)]));
    assert!(message.contains("no Wasm"), "{message}");
    assert_eq!(files(&node).1, Vec::<String>::new());
    assert_eq!(node.api_error("GET", "/scripts/which/versions", &Value::Null).0, 10007);
}
