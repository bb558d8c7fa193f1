//! The description and the route table say the same.

use std::collections::BTreeSet;

use super::*;

const DESCRIPTION: &str = include_str!("../openapi.json");
/// Route tables, and what `at` puts before their paths.
const TABLES: [(&str, &str); 2] = [
    (include_str!("../mod.rs"), "/client/v4/accounts/local/workers"),
    (include_str!("../kv/mod.rs"), "/client/v4/accounts/local/storage/kv/namespaces"),
];

/// (method, path) of every operation, from the text of the route table: axum does not tell. What is refused by name is no offer.
fn routed() -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    let routes = TABLES.iter().flat_map(|(table, at)| table.split(".route(").skip(1).map(move |route| (route, at)));
    for (route, at) in routes {
        let path = route.split('"').nth(1).unwrap();
        let below = route.trim_start().starts_with("&at(");
        let path = if below { format!("{at}{path}") } else { path.to_owned() };
        let operations = route.split("\n        .").next().unwrap().split("\n}").next().unwrap();
        for method in ["get", "post", "put", "patch", "delete"] {
            let operation = operations.split(&format!("{method}(")).nth(1);
            if operation.is_some_and(|operation| !operation.starts_with("account::not_offered")) {
                found.insert((method.to_owned(), path.clone()));
            }
        }
    }
    found
}

fn described() -> BTreeSet<(String, String)> {
    let description: Value = serde_json::from_str(DESCRIPTION).unwrap();
    let paths = description["paths"].as_object().unwrap();
    let operations = paths.iter().flat_map(|(path, operations)| {
        let methods = operations.as_object().unwrap().keys().filter(|key| *key != "parameters");
        methods.map(|method| (method.clone(), path.clone()))
    });
    operations.collect()
}

#[test]
fn every_route_is_described_and_every_path_is_routed() {
    let (routed, described) = (routed(), described());
    assert!(routed.len() > 50, "the route table is not read: {routed:?}");
    let missing: Vec<_> = routed.difference(&described).collect();
    let invented: Vec<_> = described.difference(&routed).collect();
    assert!(missing.is_empty(), "in the route table and not in openapi.json: {missing:?}");
    assert!(invented.is_empty(), "in openapi.json and not in the route table: {invented:?}");
}

#[test]
fn references_lead_somewhere_and_operations_have_names_of_their_own() {
    let description: Value = serde_json::from_str(DESCRIPTION).unwrap();
    for reference in DESCRIPTION.split("\"$ref\": \"#").skip(1) {
        let pointer = reference.split('"').next().unwrap();
        assert!(description.pointer(pointer).is_some(), "{pointer}");
    }
    let names: Vec<&str> = DESCRIPTION.split("\"operationId\": \"").skip(1).collect();
    let names: Vec<&str> = names.iter().map(|rest| rest.split('"').next().unwrap()).collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
    assert_eq!(names.len(), described().len());
}

#[tokio::test]
async fn it_is_read_without_a_token_and_each_of_its_operations_is_there() {
    let node = Node::start().await;
    let reply = node.call("GET", "/client/v4/openapi.json", &[("Authorization", "")], b"").await;
    assert_eq!((reply.status, reply.json()["openapi"].as_str()), (StatusCode::OK, Some("3.1.0")));
    for (method, path) in described() {
        let path = path.replace("{account}", "local");
        let parts: Vec<&str> = path.split('/').map(|part| if part.starts_with('{') { "x" } else { part }).collect();
        let path = parts.join("/");
        let reply = node.call(&method.to_uppercase(), &path, &[], b"").await;
        let unrouted = reply.text.contains("\"code\":7000") || reply.text.contains("\"code\":7001");
        assert!(!unrouted, "{method} {path}: {reply:?}");
        assert!(!reply.status.is_server_error(), "{method} {path}: {reply:?}");
    }
}
