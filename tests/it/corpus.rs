//! Uploads as wrangler made them, recorded: read without Node, to the same effect.

use std::path::Path;

use serde_json::Value;

use crate::harness::{Node, http};

/// Sends a recorded upload as it is.
fn replay(node: &Node, name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(format!("{name}.multipart"));
    let body = std::fs::read(path).expect("the recording");
    let end = body.windows(2).position(|window| window == b"\r\n").expect("a first line");
    let boundary = String::from_utf8_lossy(&body[2..end]).into_owned();
    let (host, token) = (node.control.to_string(), format!("Bearer {}", node.token));
    let kind = format!("multipart/form-data; boundary={boundary}");
    let headers = [("host", host.as_str()), ("authorization", token.as_str()), ("content-type", kind.as_str())];
    let path =
        format!("/client/v4/accounts/local/workers/scripts/recorded-{name}?excludeScript=true&bindings_inherit=strict");
    let reply = http::request(node.control, "PUT", &path, &headers, &body);
    serde_json::from_str(&reply.text()).unwrap_or_else(|error| panic!("{name}: no JSON ({error}): {reply:?}"))
}

#[test]
fn every_recipe_for_wasm_is_read_to_the_same_version() {
    let node = Node::start();
    let mut modules = Vec::new();
    for recipe in ["r1", "r2", "r3", "r4", "r5"] {
        let reply = replay(&node, recipe);
        assert_eq!(reply["success"], true, "{recipe}: {reply:#}");
        let id = reply["result"]["deployment_id"].as_str().expect("an id");
        let version = node.api("GET", &format!("/scripts/recorded-{recipe}/versions/{id}"), &Value::Null);
        let bindings = version["resources"]["bindings"].as_array().expect("bindings");
        let names: Vec<&str> = bindings.iter().filter_map(|binding| binding["name"].as_str()).collect();
        assert_eq!(names, ["GREETING", "COUNT", "CF_VERSION"], "{recipe}");
        modules.push(version["resources"]["script"]["etag"].clone());
    }
    assert!(modules.windows(2).all(|pair| pair[0] == pair[1] && pair[0].is_string()), "{modules:?}");
}

#[test]
fn what_holds_no_wasm_worker_is_refused_with_what_to_upload_instead() {
    let node = Node::start();
    for (name, expected) in [("service-worker", "module"), ("javascript", "Wasm"), ("python", "Wasm")] {
        let reply = replay(&node, name);
        assert_eq!(reply["success"], false, "{name}: {reply:#}");
        let message = reply["errors"][0]["message"].as_str().expect("a message");
        assert!(message.contains(expected) && !message.to_lowercase().contains("startup"), "{name}: {message}");
        println!("{name}: {message}");
    }
    assert_eq!(node.api("GET", "/scripts", &Value::Null).as_array().map(Vec::len), Some(0));
}
