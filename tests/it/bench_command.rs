//! `bench`: what it finds of versions that differ, and of such that do not; in its own process, over HTTP, and when it cannot.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::cli::command;
use crate::harness::{Folder, Node, Ran, Upload, Version, example, list, test_guest};

/// Compiled code that outlives the test run, as a user's cache does.
fn cache() -> String {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache").display().to_string()
}

/// `bench` with these words, where no node is known.
fn alone(folder: &Folder, line: &str) -> Ran {
    Ran::alone(folder, &format!("bench {line}"), &[("XDG_CACHE_HOME", &cache())])
}

/// The same beside a node.
fn beside(node: &Node, folder: &Folder, line: &str) -> Ran {
    let dir = node.dir().display().to_string();
    Ran::alone(folder, &format!("bench {line}"), &[("XDG_CACHE_HOME", &cache()), ("SLUICE_DATA_DIR", &dir)])
}

/// A folder with modules under these names.
fn modules(named: &[(&str, &Path)]) -> Folder {
    let folder = Folder::new();
    for (name, module) in named {
        folder.write(name, std::fs::read(module).expect("a module"));
    }
    folder
}

/// A worker `w` that tells its environment: version 1 has little to tell, version 2 much, and does the work of it.
fn small_and_large(node: &Node) -> [Version; 2] {
    let bindings = |count: usize| -> Value {
        let text = "x".repeat(2_000);
        (0..count).map(|n| json!({ "type": "plain_text", "name": format!("VAR_{n}"), "text": text })).collect()
    };
    let teller = example("version-teller");
    let small = node.deploy_module("w", &teller, Upload::bindings(bindings(1)).tagged("small"));
    let large = node.upload_version("w", &teller, Upload::bindings(bindings(120)).tagged("large"));
    [small, large]
}

fn measure<'a>(report: &'a Value, what: &str) -> &'a Value {
    let measures = report["comparisons"][0]["measures"].as_array().expect("measures");
    measures.iter().find(|measure| measure["what"] == what).unwrap_or_else(|| panic!("no {what}: {report:#}"))
}

/// The fuel of each version, which is one number.
fn fuel(report: &Value) -> Vec<u64> {
    let versions = list(&report["versions"]);
    versions
        .iter()
        .map(|version| {
            assert_eq!(version["fuel"]["repeatable"], true, "{version:#}");
            assert_eq!(version["errors"], 0, "{version:#}");
            version["fuel"]["min"].as_u64().expect("fuel")
        })
        .collect()
}

#[test]
fn the_same_bytes_cost_the_same_to_the_instruction_and_in_every_run() {
    for guest in ["hello", "hello-async", "version-teller"] {
        let module = example(guest);
        let folder = modules(&[("a.wasm", &module), ("b.wasm", &module)]);
        let line = "--versions a.wasm,b.wasm --duration 400ms --warmup 40ms --json";
        let runs = [0; 2].map(|_| alone(&folder, line).done().json());
        let [first, second] = [fuel(&runs[0]), fuel(&runs[1])];
        assert_eq!((first[0], &first), (first[1], &second), "{guest}");
        assert!(first[0] > 0, "{guest}");
        let fuel = measure(&runs[0], "guest fuel");
        assert_eq!((&fuel["finding"], &fuel["ratio"]), (&json!("no difference that matters"), &json!(1.0)));
        let a = &runs[0]["versions"][0];
        assert!(a["peak_memory_bytes"].as_u64().unwrap() >= 65_536, "{a:#}");
        assert_eq!(a["peak_memory_bytes"], runs[1]["versions"][1]["peak_memory_bytes"]);
        assert!(a["guest_us"]["p50"].as_f64().unwrap() > 0.0 && a["dispatch_us"]["p50"].as_f64().unwrap() > 0.0);
        assert_eq!(runs[0]["load"]["way"], "in process");
        let host = &runs[0]["host"];
        assert!(host["cores"].as_u64().unwrap() > 0 && host["wasmtime"].as_str().unwrap().starts_with("48."));
    }
}

#[test]
fn a_version_that_does_more_is_worse_and_the_reverse_is_better() {
    let (node, folder) = (Node::start(), Folder::new());
    let [small, large] = small_and_large(&node);
    let line = "w --path /env --duration 3s --warmup 200ms --json";
    let report = beside(&node, &folder, &format!("{line} --versions 1,large")).done().json();
    let ids: Vec<&Value> = [0, 1].map(|n| &report["versions"][n]["id"]).into();
    assert_eq!(ids, [&json!(small.id), &json!(large.id)]);
    assert_eq!(report["comparisons"][0]["verdict"], "worse", "{report:#}");
    assert_eq!(measure(&report, "latency p50")["finding"], "worse", "{report:#}");
    assert_eq!(measure(&report, "guest fuel")["finding"], "worse", "{report:#}");
    let costs = fuel(&report);
    assert!(costs[1] > costs[0] * 3, "{costs:?}");
    let evidence = report["comparisons"][0]["evidence"].as_str().unwrap();
    assert!(evidence.starts_with("B is worse than A: latency p50 is ") && evidence.contains("pairs of rounds"));
    // The other way round; told to people.
    let ran = beside(&node, &folder, "w --path /env --duration 3s --warmup 200ms --versions #2,#1").done();
    for part in [
        "A  #2 ",
        "B  #1 ",
        " small",
        "latency p99.9",
        "dispatch p50",
        "peak memory",
        "╵p50",
        "└─",
        "B is better than A: ",
    ] {
        assert!(ran.out.contains(part), "{part}: {ran:#?}");
    }
    assert!(ran.out.lines().filter(|line| line.contains('█')).all(|line| line.chars().count() <= 80), "{}", ran.out);
    // Nothing of it reached the node.
    assert_eq!(node.versions("w").len(), 2);
}

#[test]
fn what_is_deployed_is_measured_if_nothing_is_named() {
    let (node, folder) = (Node::start(), Folder::new());
    let [small, large] = small_and_large(&node);
    let line = "w --duration 400ms --warmup 40ms --json";
    let report = beside(&node, &folder, line).done();
    assert!(report.err.contains("one version is deployed, #1; `--versions 1,2` compares it"), "{report:?}");
    assert_eq!((list(&report.json()["versions"]).len(), &report.json()["comparisons"]), (1, &json!([])));
    node.split("w", &[(&large, 20.0), (&small, 80.0)]);
    let report = beside(&node, &folder, line).done().json();
    let ids: Vec<&Value> = [0, 1].map(|n| &report["versions"][n]["id"]).into();
    assert_eq!(ids, [&json!(small.id), &json!(large.id)]);
    let rounds = report["load"]["rounds"].as_u64().unwrap();
    assert!(rounds >= 8, "{report:#}");
}

#[test]
fn a_node_is_measured_over_http_by_overrides() {
    let (node, folder) = (Node::telling(&[]), Folder::new());
    let [small, large] = small_and_large(&node);
    let line = "w --over-http --path /env --duration 3s --warmup 200ms --connections 2 --json";
    let refused = beside(&node, &folder, &format!("{line} --versions 1,2")).failed();
    assert!(refused.err.contains("is not in the active deployment"), "{refused:?}");
    node.split("w", &[(&large, 0.0), (&small, 100.0)]);
    let report = beside(&node, &folder, &format!("{line} --versions 1,2")).done().json();
    for version in list(&report["versions"]) {
        assert_eq!(version["errors"], 0, "{report:#}");
        assert!(version["requests"].as_u64().unwrap() > 8, "{report:#}");
        assert!(version.get("fuel").is_none() && version.get("guest_us").is_none());
    }
    assert_eq!(report["comparisons"][0]["verdict"], "worse", "{report:#}");
    assert_eq!(
        list(&report["load"]["remarks"])
            .iter()
            .filter(|remark| remark.as_str().unwrap().contains("version-header"))
            .count(),
        0
    );
    // An address needs no node that is known, if whole ids are given.
    let url = format!("http://w.localhost:{}/env", node.data.port());
    let line = format!("w --url {url} --versions {},{} --duration 400ms --warmup 40ms --json", small.id, large.id);
    let report = alone(&folder, &line).done().json();
    assert_eq!((&report["load"]["way"], &report["load"]["request"]), (&json!(url), &json!("GET /env")));
    let report = alone(&folder, &format!("--url {url} --duration 400ms --warmup 40ms --json")).done().json();
    assert_eq!(list(&report["versions"]).len(), 1);
}

#[test]
fn an_answer_of_another_version_is_no_measurement() {
    let (node, folder) = (Node::telling(&["--overrides", "off"]), Folder::new());
    let [small, large] = small_and_large(&node);
    node.split("w", &[(&large, 0.0), (&small, 100.0)]);
    let refused = beside(&node, &folder, "w --over-http --versions 1,2").failed();
    let expected = format!("version {} was asked for, and {} answered", large.id, small.id);
    assert!(refused.err.contains(&expected) && refused.err.contains("--overrides any"), "{refused:?}");
}

#[test]
fn with_a_rate_requests_come_as_they_are_due() {
    let module = example("hello");
    let folder = modules(&[("a.wasm", &module)]);
    let report = alone(&folder, "--versions a.wasm --rate 50 --duration 4s --warmup 100ms --json").done().json();
    let version = &report["versions"][0];
    // 4 s in rounds of even length; each begins with a request.
    let requests = version["requests"].as_u64().unwrap();
    assert!((200..=210).contains(&requests), "{report:#}");
    assert_eq!((&version["errors"], &report["load"]["rate"]), (&json!(0), &json!(50)));
}

#[test]
fn failures_are_told_apart_and_make_a_version_worse() {
    let folder = modules(&[("good.wasm", &example("hello")), ("bad.wasm", &test_guest("trap"))]);
    let line = "--versions good.wasm,bad.wasm --duration 800ms --warmup 40ms";
    let report = alone(&folder, &format!("{line} --json")).done().json();
    let bad = &report["versions"][1];
    assert!(bad["errors"].as_u64().unwrap() > 0 && bad["errors"] == bad["requests"], "{report:#}");
    assert_eq!(bad["errors_by_outcome"]["exception"], bad["errors"]);
    assert_eq!(bad["fuel_missing"], "its first request failed", "{report:#}");
    assert_eq!(bad["responses_by_status"], json!({ "500": bad["requests"] }), "{report:#}");
    let comparison = &report["comparisons"][0];
    assert_eq!((&comparison["verdict"], &comparison["failures"]), (&json!("worse"), &json!("worse")), "{report:#}");
    let told = alone(&folder, line).done();
    assert!(
        told.err.contains("bad.wasm fails: the guest trapped") && told.out.contains("B is worse than A."),
        "{told:#?}"
    );
    // Of two that always fail there is nothing to tell.
    folder.write("worse.wasm", std::fs::read(test_guest("trap")).unwrap());
    let both = alone(&folder, "--versions bad.wasm,worse.wasm --duration 800ms --warmup 40ms").done();
    assert!(both.out.contains("Nothing to compare: all requests to B failed, and all to A."), "{both:#?}");
}

/// A page of a node that knows no such worker was measured, and nothing said so.
#[test]
fn answers_that_refuse_are_told() {
    let (node, folder) = (Node::start(), Folder::new());
    let line = format!("--url http://nobody.localhost:{}/ --duration 400ms --warmup 40ms --json", node.data.port());
    let report = alone(&folder, &line).done().json();
    let version = &report["versions"][0];
    assert_eq!(
        (&version["errors"], &version["responses_by_status"]),
        (&json!(0), &json!({ "404": version["requests"] }))
    );
    let remarks = report["load"]["remarks"].to_string();
    assert!(remarks.contains("A answered ") && remarks.contains(" with 404, which is no failure"), "{remarks}");
    // The other numbers are there for programs: each round, and the whole distribution.
    let rounds = list(&version["rounds"]);
    assert_eq!(Some(rounds.len() as u64), report["load"]["rounds"].as_u64());
    assert!(rounds.iter().all(|round| round["p50_us"].as_f64().unwrap() > 0.0), "{rounds:?}");
    let counted: u64 = list(&version["latency_histogram"]).iter().map(|bucket| bucket[1].as_u64().unwrap()).sum();
    assert_eq!(Some(counted), version["requests"].as_u64());
}

#[test]
fn requests_that_take_long_do_not_make_a_run_endless() {
    let folder = modules(&[("slow.wasm", &test_guest("slow-stream"))]);
    let line = "--versions slow.wasm --path /?chunks=7 --duration 100ms --warmup 10ms";
    let report = alone(&folder, &format!("{line} --json")).done().json();
    let rounds = report["load"]["rounds"].as_u64().unwrap();
    assert!((1..8).contains(&rounds) && report["load"]["interrupted"] == true, "{report:#}");
    assert!(report["load"]["remarks"].to_string().contains("rounds: the requests take longer"), "{report:#}");
}

#[test]
fn a_project_is_measured_beside_what_is_deployed_with_its_bindings() {
    let (node, folder) = (Node::start(), Folder::project(crate::harness::cli::CONFIG));
    let bindings = json!([
        { "type": "plain_text", "name": "GREETING", "text": "Hi" },
        { "type": "secret_text", "name": "KEY", "text": "hush" },
        { "type": "service", "name": "OTHER", "service": "elsewhere" },
    ]);
    node.deploy_module("w", &example("version-teller"), Upload::bindings(bindings));
    folder.write("secrets.json", r#"{"KEY":"known"}"#);
    let line = "--versions 1,. --duration 400ms --warmup 40ms --json";
    let ran = beside(&node, &folder, line).done();
    let report = ran.json();
    assert_eq!((&report["worker"], &report["versions"][1]["name"]), (&json!("w"), &json!("this folder")));
    assert_eq!((&report["versions"][0]["errors"], &report["versions"][1]["errors"]), (&json!(0), &json!(0)));
    assert!(ran.err.contains("the secret `KEY` is empty here") && ran.err.contains("`elsewhere`"), "{ran:?}");
    let given = beside(&node, &folder, &format!("{line} --secrets-file secrets.json")).done();
    assert!(!given.err.contains("KEY") && !given.out.contains("hush"), "{given:?}");
}

#[test]
fn ctrl_c_ends_it_with_what_there_is() {
    let module = example("hello");
    let folder = modules(&[("a.wasm", &module), ("b.wasm", &module)]);
    // On a slow machine the first rounds may take a while.
    for patience in [2, 10, 60] {
        let line = "bench --versions a.wasm,b.wasm --duration 10m --warmup 100ms --json";
        let mut child = command(folder.path(), line, &[("XDG_CACHE_HOME", &cache())])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        assert!(lines.any(|line| line.is_ok_and(|line| line.starts_with("measuring A, B"))));
        std::thread::sleep(Duration::from_secs(patience));
        let told = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill");
        assert!(told.success());
        let output = child.wait_with_output().expect("it ends");
        if output.status.success() {
            let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
            assert_eq!(report["load"]["interrupted"], true, "{report:#}");
            assert!(report["versions"][1]["requests"].as_u64().unwrap() > 0, "{report:#}");
            return;
        }
    }
    panic!("not one round in a minute");
}

#[test]
fn what_cannot_be_measured_is_said_clearly() {
    let (node, folder) = (Node::start(), Folder::new());
    node.hello_versions("w", 2);
    folder.write("nothing.wasm", "nothing");
    for (line, code, part) in [
        ("w --versions 7", 1, "no version is named `7`"),
        ("nobody --versions 1", 1, "10007"),
        ("--versions missing.wasm", 1, "there is no file `missing.wasm`"),
        ("--versions nothing.wasm", 1, "nothing.wasm cannot be run: this is not WebAssembly"),
        ("w --versions 1,,2", 2, "an entry between the commas is empty"),
        ("w --duration soon", 2, "expected a time such as 10s"),
        ("w --duration 0s", 2, "in no time nothing can be measured"),
        ("w --duration 18446744073709551615s", 2, "at most a day can be asked for"),
        ("w --path x", 2, "a path begins with `/`"),
        ("w --header x", 2, "expected 'Name: value'"),
        ("w --url https://host/", 2, "only http is spoken here"),
        ("w --url http://127.0.0.1:9/", 1, "`http://127.0.0.1:9` gives no answer"),
        ("w --over-http --versions nothing.wasm", 2, "is on no node"),
    ] {
        let ran = beside(&node, &folder, line);
        assert_eq!(ran.code, code, "{line}: {ran:#?}");
        assert!(ran.err.contains(part), "{line}: {ran:#?}");
    }
    let ran = alone(&folder, "w");
    assert!(ran.code == 1 && ran.err.contains("no node runs") && ran.err.contains("files need no node"), "{ran:#?}");
}

#[test]
fn a_versions_module_is_read_back_as_it_was_uploaded() {
    let node = Node::start();
    let first = node.deploy_module("w", &example("hello"), Upload::default());
    node.upload_version("w", &example("version-teller"), Upload::default());
    let read = |query: &str| node.api_request("GET", &format!("/scripts/w/content/v2{query}"), &[], b"");
    for (query, guest) in [(format!("?version={}", first.id), "hello"), (String::new(), "version-teller")] {
        let reply = read(&query);
        assert_eq!((reply.status, reply.header("cf-entrypoint")), (200, Some("worker.wasm")), "{query}");
        let module = std::fs::read(example(guest)).unwrap();
        let boundary = reply.header("content-type").unwrap().split("boundary=").nth(1).unwrap();
        let begin = reply.body.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        let end = reply.body.len() - format!("\r\n--{boundary}--\r\n").len();
        assert!(reply.body[begin..end] == module, "{guest}");
    }
    let unknown = read("?version=00000000-0000-4000-8000-000000000000");
    assert_eq!((unknown.status, read("?version=x").status), (404, 404), "{unknown:?}");
    assert_eq!(node.api_request("GET", "/scripts/nobody/content/v2", &[], b"").status, 404);
}
