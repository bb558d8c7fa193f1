//! Service bindings: a worker calls another, whose own deployment decides the version; headers go along; loops come to an end.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::http::multipart_of;
use crate::harness::{Node, Upload, Version, example, test_guest};

const KEY: &str = "cloudflare-workers-version-key";
const OVERRIDES: &str = "cloudflare-workers-version-overrides";

/// What `fan-out` is bound to: names of bindings, and of the workers behind them. It calls all of them.
fn bound(services: &[(&str, &str)]) -> Upload {
    let targets = services.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(",");
    let mut bindings = vec![json!({ "type": "plain_text", "name": "TARGETS", "text": targets })];
    bindings
        .extend(services.iter().map(|(name, worker)| json!({ "type": "service", "name": name, "service": worker })));
    Upload::bindings(json!(bindings))
}

fn fan_out(node: &Node, worker: &str, services: &[(&str, &str)]) -> Version {
    node.deploy_module(worker, &example("fan-out"), bound(services))
}

/// Versions of `version-teller`, which say `old` and `new`. The first is deployed.
fn teller(node: &Node) -> [Version; 2] {
    let module = example("version-teller");
    let old = node.deploy_module("teller", &module, Upload::var("GREETING", "old"));
    [old, node.upload_version("teller", &module, Upload::var("GREETING", "new"))]
}

/// What comes back by both ways of calling, for the binding `API`.
fn both_ways(node: &Node, headers: &[(&str, &str)]) -> [String; 2] {
    ["/", "/via-http/API"].map(|path| {
        let reply = node.request("GET", "front", path, headers, b"");
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        reply.text()
    })
}

#[test]
fn the_callees_own_deployment_decides_from_call_to_call() {
    let node = Node::start();
    let [old, new] = teller(&node);
    let caller = fan_out(&node, "front", &[("API", "teller")]);
    let says = |expected: &str| {
        for text in both_ways(&node, &[]) {
            assert!(text.starts_with(&format!("API: 200 {expected} from version")), "{text}");
        }
    };
    says("old");
    node.split("teller", &[(&new, 100.0)]);
    says("new");
    node.split("teller", &[(&old, 100.0), (&new, 0.0)]);
    says("old");
    // A version's own host calls what is deployed, as the version would.
    let reply = node.get(&format!("{}-front", &caller.id[..8]), "/");
    assert!(reply.text().starts_with("API: 200 old"), "{}", reply.text());

    // Each call is drawn for itself (`SEL-16`).
    node.split("teller", &[(&old, 50.0), (&new, 50.0)]);
    let seen: BTreeSet<String> =
        (0..40).map(|_| node.get("front", "/").text()).map(|text| text["API: 200 ".len()..][..3].to_owned()).collect();
    assert_eq!(seen, BTreeSet::from(["new".to_owned(), "old".to_owned()]));
}

#[test]
fn an_override_of_a_version_at_zero_reaches_it_through_the_caller() {
    let node = Node::start();
    let [old, new] = teller(&node);
    fan_out(&node, "front", &[("API", "teller")]);
    node.split("teller", &[(&old, 100.0), (&new, 0.0)]);
    let to_new = format!("teller=\"{}\"", new.id);
    for text in both_ways(&node, &[(OVERRIDES, &to_new)]) {
        assert!(text.starts_with("API: 200 new"), "{text}");
    }
    // One that names the caller alone says nothing about the callee, and the other way round.
    let elsewhere = format!("front=\"{}\"", new.id);
    for text in both_ways(&node, &[(OVERRIDES, &elsewhere)]) {
        assert!(text.starts_with("API: 200 old"), "{text}");
    }
    // Two floors down as well.
    node.deploy_module("above", &example("fan-out"), bound(&[("FRONT", "front")]));
    let reply = node.request("GET", "above", "/", &[(OVERRIDES, &to_new)], b"");
    assert!(reply.text().starts_with("FRONT: 200 API: 200 new"), "{}", reply.text());
}

#[test]
fn what_the_door_does_not_trust_reaches_no_callee_either() {
    let node = Node::with(&["--overrides", "off"]);
    let [old, new] = teller(&node);
    fan_out(&node, "front", &[("API", "teller")]);
    node.split("teller", &[(&old, 100.0), (&new, 0.0)]);
    for text in both_ways(&node, &[(OVERRIDES, &format!("teller=\"{}\"", new.id))]) {
        assert!(text.starts_with("API: 200 old"), "{text}");
    }
}

#[test]
fn a_key_chooses_the_callees_version_as_if_it_had_come_by_itself() {
    let node = Node::start();
    let [old, new] = teller(&node);
    fan_out(&node, "front", &[("API", "teller")]);
    node.split("teller", &[(&old, 50.0), (&new, 50.0)]);
    let mut seen = BTreeSet::new();
    for number in 0..20 {
        let key = format!("user-{number}");
        let directly = node.request("GET", "teller", "/", &[(KEY, &key)], b"").text();
        for text in both_ways(&node, &[(KEY, &key)]) {
            assert_eq!(text, format!("API: 200 {directly}"), "{key}");
        }
        seen.insert(directly);
    }
    assert_eq!(seen.len(), 2);
}

#[test]
fn bindings_are_found_in_any_case_by_address_and_by_name() {
    let node = Node::start();
    node.deploy_module("hello", &example("hello"), Upload::default());
    fan_out(&node, "front", &[("My_Api-2", "hello")]);
    for binding in ["My_Api-2", "my_api-2", "MY_API-2"] {
        let reply = node.get("front", &format!("/via-http/{binding}"));
        assert_eq!(reply.text(), format!("{binding}: 200 Hello, World!\n"));
    }
    // By name: the variable says it in another case than the binding has.
    let bindings = json!([
        { "type": "plain_text", "name": "TARGETS", "text": "my_API-2" },
        { "type": "service", "name": "My_Api-2", "service": "hello" },
    ]);
    node.deploy_module("front", &example("fan-out"), Upload::bindings(bindings));
    assert_eq!(node.get("front", "/").text(), "my_API-2: 200 Hello, World!\n");
    // Two that are one address would be a draw.
    let two = bound(&[("API", "hello"), ("Api", "hello")]);
    let reply = node.upload("PUT", "/scripts/front", &example("fan-out"), two);
    assert_eq!((&reply["success"], &reply["errors"][0]["code"]), (&json!(false), &json!(10021)), "{reply:#}");

    // A guest of WASI 0.2 has the same addresses, whatever the policy for the world outside is.
    let outbound = test_guest("outbound");
    node.deploy_module("old-kind", &outbound, bound(&[("API", "hello")]));
    let reply = node.request("GET", "old-kind", "/", &[("x-url", "http://API.Internal/some/path?x=1")], b"");
    assert_eq!((reply.status, reply.text().as_str()), (200, "Hello, World!\n"));
    let closed = Node::with(&["--outbound", "none"]);
    closed.deploy_module("hello", &example("hello"), Upload::default());
    closed.deploy_module("old-kind", &outbound, bound(&[("API", "hello")]));
    let by = |url: &str| closed.request("GET", "old-kind", "/", &[("x-url", url)], b"");
    assert_eq!(by("http://api.internal/").text(), "Hello, World!\n");
    assert_eq!(by(&format!("http://{}/", closed.data)).status, 502);
}

#[test]
fn a_call_to_nobody_is_an_error_of_that_call_alone() {
    let node = Node::start();
    node.deploy_module("hello", &example("hello"), Upload::default());
    let (kind, body) = multipart_of(r#"{"main_module":"draft"}"#, &[("draft", "application/javascript+module", b"")]);
    node.api_request("PUT", "/scripts/draft", &[("content-type", &kind)], &body);
    node.deploy_module("broken", &test_guest("trap"), Upload::default());
    let mut upload = bound(&[("OK", "hello"), ("GONE", "nobody"), ("DRAFT", "draft"), ("BROKEN", "broken")]);
    upload.metadata["bindings"][0]["text"] = json!("OK,GONE,DRAFT,BROKEN,UNBOUND");
    node.deploy_module("front", &example("fan-out"), upload);
    let reply = node.get("front", "/");
    assert_eq!(reply.status, 200);
    let text = reply.text();
    let lines: Vec<&str> = text.lines().collect();
    for (line, expected) in lines.iter().zip([
        "OK: 200 Hello, World!",
        "GONE: error ErrorCode::DestinationNotFound",
        "DRAFT: 404 worker `draft` has no deployment",
        "BROKEN: 500 error 1101: the guest trapped",
        "UNBOUND: error ErrorCode::ConfigurationError",
    ]) {
        assert!(line.starts_with(expected), "{expected:?} is not what came: {text}");
    }
    assert_eq!(lines.len(), 5, "{text}");
    // A host that is no binding never leaves for the network.
    assert!(node.get("front", "/via-http/unbound").text().contains("DestinationNotFound"));
    // The worker comes into being, and the next call finds it.
    node.deploy_module("nobody", &example("hello"), Upload::default());
    assert!(node.get("front", "/").text().contains("GONE: 200 Hello, World!\n"));
    // One that is bound is not deleted by accident.
    let (code, message) = node.api_error("DELETE", "/scripts/nobody", &Value::Null);
    assert!(code == 95005 && message.contains("front"), "{code} {message}");
    node.api("DELETE", "/scripts/nobody?force=true", &Value::Null);
    assert!(node.get("front", "/").text().contains("GONE: error ErrorCode::DestinationNotFound"));
}

#[test]
fn a_loop_between_workers_ends_in_a_clear_error() {
    let node = Node::logging(&[]);
    node.deploy_module("hello", &example("hello"), Upload::default());
    fan_out(&node, "ping", &[("PONG", "pong")]);
    fan_out(&node, "pong", &[("PING", "ping")]);
    fan_out(&node, "self", &[("SELF", "self")]);
    let chain = |names: &[&str]| {
        let links: String = names.iter().cycle().take(16).map(|name| format!("{name}: 200 ")).collect();
        format!("{links}{}: error ErrorCode::LoopDetected\n", names[0])
    };
    assert_eq!(node.get("ping", "/").text(), chain(&["PONG", "PING"]));
    assert_eq!(node.get("self", "/").text(), chain(&["SELF"]));
    // The deepest call of all has a record as every other.
    let deepest = node.record("the deepest call", |record| record.number("depth") > 15.0);
    assert_eq!((deepest.number("depth"), deepest.end().as_str()), (16.0, "ok/"));
    // Forty loops at once are 640 requests at once, and no one else's affair.
    std::thread::scope(|scope| {
        let loops: Vec<_> = (0..40).map(|_| scope.spawn(|| node.get("self", "/"))).collect();
        for _ in 0..20 {
            assert_eq!(node.get("hello", "/").text(), "Hello, World!\n");
        }
        for reply in loops {
            let reply = reply.join().expect("an answer");
            assert!(matches!(reply.status, 200 | 503), "{reply:?}");
        }
    });
    assert_eq!(node.get("ping", "/").status, 200);
}

#[test]
fn a_loop_that_branches_leaves_the_node_as_it_was() {
    let mut node = Node::start();
    node.deploy_module("hello", &example("hello"), Upload::default());
    let mut upload = bound(&[("SELF", "self")]);
    upload.metadata["bindings"][0]["text"] = json!("SELF,SELF");
    node.deploy_module("self", &example("fan-out"), upload);
    // Each call makes two: what ends them must come before they are 65,536.
    let reply = node.get("self", "/");
    assert!(matches!(reply.status, 200 | 503), "{reply:?}");
    assert!(reply.text().lines().all(|line| line.ends_with("LoopDetected")), "{}", reply.text());
    assert!(node.is_alive());
    assert_eq!(node.get("hello", "/").text(), "Hello, World!\n");
}
