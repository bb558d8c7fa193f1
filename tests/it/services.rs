//! Service bindings: workers that call workers, by name and by address, and which version of the other one answers.

use serde_json::{Value, json};

use crate::harness::{KEY, Node, OVERRIDES, Upload, Version, example, http, test_guest};

/// A `fan-out` that calls these bindings, each bound to a worker.
fn caller(node: &Node, worker: &str, services: &[(&str, &str)]) -> Version {
    let targets: Vec<&str> = services.iter().map(|(binding, _)| *binding).collect();
    let mut bindings = vec![json!({"type": "plain_text", "name": "TARGETS", "text": targets.join(",")})];
    let service = |(binding, worker): &(&str, &str)| json!({"type": "service", "name": binding, "service": worker});
    bindings.extend(services.iter().map(service));
    node.deploy_module(worker, &example("fan-out"), Upload::bindings(json!(bindings)))
}

/// A `version-teller` of two versions, the new one at this share.
fn callee(node: &Node, worker: &str, share: f64) -> (Version, Version) {
    let teller = example("version-teller");
    let metadata = |greeting: &str| {
        Upload::bindings(
            json!([{"type": "plain_text", "name": "GREETING", "text": greeting}, {"type": "version_metadata", "name": "V"}]),
        )
    };
    let old = node.deploy_module(worker, &teller, metadata("old"));
    let new = node.upload_version(worker, &teller, metadata("new"));
    node.split(worker, &[(&new, share), (&old, 100.0 - share)]);
    (old, new)
}

/// Both ways to call the binding `API` of the worker `front`: by the contract's function, and by its address.
const BOTH_WAYS: [&str; 2] = ["/", "/via-http/API"];

#[test]
fn a_binding_is_called_by_its_name_and_by_its_address() {
    let node = Node::start();
    let (old, _) = callee(&node, "back", 0.0);
    caller(&node, "front", &[("API", "back"), ("MY_other-1", "hello")]);
    node.hello_versions("hello", 1);
    assert_eq!(
        node.get("front", "/").text(),
        format!("API: 200 old from version untagged {}\nMY_other-1: 200 Hello, World!\n", old.id)
    );
    for binding in ["API", "api", "Api"] {
        let line = format!("{binding}: 200 old from version untagged {}\n", old.id);
        assert_eq!(node.get("front", &format!("/via-http/{binding}")).text(), line);
    }
    // Names of bindings are letters in any case, digits, `_` and `-`; as an address they have none.
    for binding in ["MY_other-1", "my_other-1", "MY_OTHER-1"] {
        assert_eq!(
            node.get("front", &format!("/via-http/{binding}")).text(),
            format!("{binding}: 200 Hello, World!\n")
        );
    }
}

/// `SEL-16`, `VER-12`: each worker has its own deployment, and a change of one makes no version of the other.
#[test]
fn the_callees_own_deployment_decides() {
    let node = Node::telling(&[]);
    let (old, new) = callee(&node, "back", 0.0);
    let front = caller(&node, "front", &[("API", "back")]);
    for path in BOTH_WAYS {
        assert!((0..10).all(|_| node.get("front", path).text().contains(&old.id)));
    }
    node.split("back", &[(&new, 100.0)]);
    for path in BOTH_WAYS {
        assert!((0..10).all(|_| node.get("front", path).text().contains(&new.id)));
    }
    assert_eq!((node.versions("front").len(), node.deployments("front").len()), (1, 1));
    assert_eq!(node.get("front", "/").version(), front.id);
    node.split("back", &[(&new, 50.0), (&old, 50.0)]);
    let of_new = (0..200).filter(|_| node.get("front", "/").text().contains(&new.id)).count();
    // 100 of 200, with a deviation of 7.
    assert!((60..=140).contains(&of_new), "{of_new}");
}

/// `SEL-6`: a key that goes along decides at the callee, by the callee's own table.
#[test]
fn a_key_that_is_passed_on_decides_at_the_callee() {
    let node = Node::telling(&[]);
    let (_, new) = callee(&node, "back", 50.0);
    caller(&node, "front", &[("API", "back")]);
    let mut reached = [0, 0];
    for number in 0..40 {
        let key = format!("user-{number}");
        let direct = node.keyed("back", &key);
        for path in BOTH_WAYS {
            let reply = node.request("GET", "front", path, &[(KEY, &key)], b"");
            assert!(reply.text().contains(&direct), "{key}: {reply:?}");
        }
        reached[usize::from(direct == new.id)] += 1;
    }
    assert!(reached.iter().all(|count| *count > 0), "{reached:?}");
}

/// `SEL-13`, `SEL-14`: the reported defect of Cloudflare's is not ours.
#[test]
fn an_override_reaches_a_version_at_0_percent_through_a_binding() {
    let node = Node::telling(&[]);
    let (old, new) = callee(&node, "back", 0.0);
    let front = caller(&node, "front", &[("API", "back")]);
    for path in BOTH_WAYS {
        let reply = node.request("GET", "front", path, &[(OVERRIDES, &new.overriding("back"))], b"");
        assert!(reply.text().contains(&new.id), "{reply:?}");
        assert_eq!((reply.version(), reply.reason()), (front.id.as_str(), "random"), "the caller is not meant");
        // One header may name versions of both.
        let both = format!("{}, {}", front.overriding("front"), new.overriding("back"));
        let reply = node.request("GET", "front", path, &[(OVERRIDES, &both)], b"");
        assert!(reply.text().contains(&new.id) && reply.reason() == "override", "{reply:?}");
        // SEL-11 holds here, too.
        let unknown = format!("back=\"{}\"", front.id);
        let reply = node.request("GET", "front", path, &[(OVERRIDES, &unknown)], b"");
        assert!(reply.text().contains(&old.id), "{reply:?}");
    }
}

#[test]
fn an_override_that_its_sender_may_not_send_does_not_come_in_by_a_binding() {
    let node = Node::telling(&["--overrides", "off"]);
    let (old, new) = callee(&node, "back", 0.0);
    caller(&node, "front", &[("API", "back")]);
    for path in BOTH_WAYS {
        let reply = node.request("GET", "front", path, &[(OVERRIDES, &new.overriding("back"))], b"");
        assert!(reply.text().contains(&old.id), "{reply:?}");
    }
}

#[test]
fn headers_go_along_and_the_address_is_the_callees() {
    let node = Node::logging(&[]);
    node.deploy_module("back", &test_guest("echo-p2"), Upload::default());
    caller(&node, "front", &[("API", "back")]);
    let reply = node.request("GET", "front", "/", &[("x-mark", "seen"), ("cookie", "a=b")], b"");
    assert_eq!(reply.status, 200, "{reply:?}");
    let record = node.record_of("back", "/");
    assert_eq!((record.text("host"), record.number("depth")), ("API.internal", 1.0));
    assert_eq!(record.text("reason"), "random");
}

#[test]
fn what_is_not_there_is_a_clear_error_for_the_caller_alone() {
    let node = Node::start();
    node.deploy_module("traps", &test_guest("trap"), Upload::default());
    caller(&node, "front", &[("GONE", "nobody"), ("TRAPS", "traps")]);
    let answer = node.get("front", "/").text();
    let lines: Vec<&str> = answer.lines().collect();
    assert_eq!(lines[0], "GONE: error ErrorCode::DestinationNotFound");
    assert!(lines[1].starts_with("TRAPS: 500 error 1101: "), "{answer}");
    assert_eq!(node.get("front", "/via-http/GONE").text(), "GONE: error ErrorCode::DestinationNotFound\n");
    // No address under `.internal` leaves the node, bound or not.
    assert_eq!(node.get("front", "/via-http/unbound").text(), "unbound: error ErrorCode::DestinationNotFound\n");
    assert_eq!(node.get("front", "/via-http/a.b").text(), "a.b: error ErrorCode::DestinationNotFound\n");
    // Deployed later, it is found, without a new version of the caller.
    node.hello_versions("nobody", 1);
    assert_eq!(node.get("front", "/").text().lines().next(), Some("GONE: 200 Hello, World!"));
}

#[test]
fn a_loop_between_workers_ends_in_a_clear_error() {
    let node = Node::logging(&[]);
    caller(&node, "a", &[("NEXT", "b")]);
    caller(&node, "b", &[("NEXT", "a")]);
    caller(&node, "self", &[("NEXT", "self")]);
    for worker in ["a", "self"] {
        for path in ["/", "/via-http/NEXT"] {
            let reply = node.get(worker, path);
            assert_eq!(reply.status, 200);
            let text = reply.text();
            assert!(text.ends_with("NEXT: error ErrorCode::LoopDetected\n"), "{text}");
            assert_eq!(text.matches("NEXT: 200").count(), 16, "{text}");
        }
    }
    node.record("the deepest call", |record| record.number("depth") == 16.0);
}

#[test]
fn a_worker_that_others_call_is_deleted_only_by_force() {
    let node = Node::start();
    node.hello_versions("back", 1);
    caller(&node, "front", &[("API", "back")]);
    let references = node.api("GET", "/scripts/back/references", &Value::Null);
    assert_eq!(references["services"]["incoming"], json!([{"service": "front", "environment": "production"}]));
    let (code, message) = node.api_error("DELETE", "/scripts/back", &Value::Null);
    assert_eq!((code, message.contains("bound by front")), (95005, true), "{message}");
    node.api("DELETE", "/scripts/back?force=true", &Value::Null);
    assert_eq!(node.get("front", "/").text(), "API: error ErrorCode::DestinationNotFound\n");
}

#[test]
fn a_service_binding_that_asks_for_what_we_have_not_is_refused() {
    let node = Node::start();
    let refused = |binding: Value| {
        let reply = node.upload("PUT", "/scripts/w", &example("fan-out"), Upload::bindings(json!([binding])));
        (reply["errors"][0]["source"]["pointer"].clone(), reply["errors"][0]["message"].clone())
    };
    let (place, message) = refused(json!({"type": "service", "name": "A", "service": "b", "entrypoint": "Admin"}));
    assert_eq!(place, "bindings[0].entrypoint", "{message}");
    let (place, message) = refused(json!({"type": "service", "name": "A", "service": "No Name"}));
    assert_eq!(place, "bindings[0].service", "{message}");
    // Two names that differ only in case are one address.
    let two =
        json!([{"type": "service", "name": "API", "service": "a"}, {"type": "service", "name": "api", "service": "b"}]);
    let reply = node.upload("PUT", "/scripts/w", &example("fan-out"), Upload::bindings(two));
    assert_eq!(reply["success"], false, "{reply:#}");
}

#[test]
fn an_override_goes_through_two_floors_and_a_version_host_calls_what_is_deployed() {
    let node = Node::telling(&[]);
    let (old, new) = callee(&node, "back", 0.0);
    let front = caller(&node, "front", &[("API", "back")]);
    caller(&node, "above", &[("FRONT", "front")]);
    let reply = node.request("GET", "above", "/", &[(OVERRIDES, &new.overriding("back"))], b"");
    assert!(reply.text().starts_with("FRONT: 200 API: 200 new") && reply.text().contains(&new.id), "{reply:?}");
    assert!(node.get(&format!("{}-front", &front.id[..8]), "/").text().contains(&old.id));
}

#[test]
fn a_guest_of_wasi_0_2_has_the_same_addresses_whatever_the_policy_outside() {
    let node = Node::with(&["--outbound", "none"]);
    node.hello_versions("hello", 1);
    let bindings = json!([{"type": "service", "name": "Api", "service": "hello"}]);
    node.deploy_module("front", &test_guest("outbound"), Upload::bindings(bindings));
    let by = |url: &str| node.request("GET", "front", "/", &[("x-url", url)], b"");
    for url in ["http://api.internal/", "http://API.Internal/some/path?x=1"] {
        let reply = by(url);
        assert_eq!((reply.status, reply.text().as_str()), (200, "Hello, World!\n"), "{url}");
    }
    assert_eq!(by(&format!("http://{}/", node.data)).status, 502);
    assert_eq!(by("http://unbound.internal/").status, 502);
}

#[test]
fn a_callee_without_a_deployment_and_an_unbound_name_are_errors_of_those_calls() {
    let node = Node::start();
    node.hello_versions("hello", 1);
    let (kind, body) =
        http::multipart_of(r#"{"main_module":"draft"}"#, &[("draft", "application/javascript+module", b"")]);
    let made = node.api_request("PUT", "/scripts/draft", &[("content-type", &kind)], &body);
    assert_eq!(made.status, 200, "{made:?}");
    let bindings = json!([
        {"type": "plain_text", "name": "TARGETS", "text": "DRAFT,UNBOUND,ok"},
        {"type": "service", "name": "DRAFT", "service": "draft"},
        // A name is found in any case, too.
        {"type": "service", "name": "OK", "service": "hello"},
    ]);
    node.deploy_module("front", &example("fan-out"), Upload::bindings(bindings));
    let answer = node.get("front", "/").text();
    let lines: Vec<&str> = answer.lines().collect();
    assert!(lines[0].starts_with("DRAFT: 404 worker `draft` has no deployment"), "{answer}");
    assert_eq!(lines[1..], ["UNBOUND: error ErrorCode::ConfigurationError", "ok: 200 Hello, World!"]);
}

#[test]
fn many_loops_at_once_and_one_that_branches_are_no_one_elses_affair() {
    let mut node = Node::start();
    node.hello_versions("hello", 1);
    caller(&node, "loop", &[("NEXT", "loop")]);
    std::thread::scope(|scope| {
        let loops: Vec<_> = (0..40).map(|_| scope.spawn(|| node.get("loop", "/"))).collect();
        for _ in 0..20 {
            assert_eq!(node.get("hello", "/").text(), "Hello, World!\n");
        }
        for reply in loops {
            // 640 calls of one version at once are more than it may run: at any depth one may be told to come back.
            let reply = reply.join().expect("an answer");
            let text = reply.text();
            let ended =
                text.ends_with("NEXT: error ErrorCode::LoopDetected\n") || text.contains("NEXT: 503 too many requests");
            assert!(reply.status == 503 || ended, "{reply:?}");
        }
    });
    // Each call makes two: what ends them must come long before they are 65,536.
    let bindings = json!([
        {"type": "plain_text", "name": "TARGETS", "text": "NEXT,NEXT"},
        {"type": "service", "name": "NEXT", "service": "tree"},
    ]);
    node.deploy_module("tree", &example("fan-out"), Upload::bindings(bindings));
    let reply = node.get("tree", "/");
    assert!(matches!(reply.status, 200 | 503), "{reply:?}");
    assert!(node.is_alive());
    assert_eq!(node.get("hello", "/").text(), "Hello, World!\n");
}

/// Requests that ran at once in one instance used to be charged to the newest of them: eight clients whose calls each stay within
/// their limit were told that it was passed.
#[test]
fn requests_in_one_instance_do_not_use_up_each_others_calls() {
    let node = Node::start();
    node.deploy_module("hello", &example("hello"), Upload::default());
    let bindings = json!([
        { "type": "service", "name": "A", "service": "hello" },
        { "type": "service", "name": "B", "service": "hello" },
        { "type": "service", "name": "C", "service": "hello" },
        { "type": "plain_text", "name": "TARGETS", "text": "A,B,C" },
    ]);
    let upload = Upload::bindings(bindings).with("limits", json!({ "subrequests": 3 }));
    node.deploy_module("fan", &example("fan-out"), upload);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..40 {
                    let text = node.get("fan", "/").text();
                    assert_eq!(text.matches(": 200").count(), 3, "{text}");
                }
            });
        }
    });
}

/// Depth alone would let a worker that calls itself twice make 2^16 calls for one request.
#[test]
fn a_loop_that_branches_ends_after_a_bounded_number_of_calls() {
    let node = Node::start();
    let bindings = json!([
        { "type": "service", "name": "A", "service": "twice" },
        { "type": "service", "name": "B", "service": "twice" },
        { "type": "plain_text", "name": "TARGETS", "text": "A,B" },
    ]);
    node.deploy_module("twice", &example("fan-out"), Upload::bindings(bindings));
    let text = node.get("twice", "/").text();
    assert!(text.contains("LoopDetected"), "{text}");
    let calls = text.matches(": 200").count();
    assert!((16..=1000).contains(&calls), "{calls} calls");
    assert_eq!(node.get("twice", "/").status, 200);
}
