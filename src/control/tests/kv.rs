//! KV namespaces and what they hold, as wrangler asks for them (`WRANGLER_API` 3.15).

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Node, Reply, wasm};
use crate::clock::ManualClock;

const NAMESPACES: &str = "/client/v4/accounts/local/storage/kv/namespaces";

impl Node {
    async fn namespace(&self, title: &str) -> String {
        let made = self.send("POST", NAMESPACES, &json!({ "title": title })).await.result();
        made["id"].as_str().unwrap().to_owned()
    }

    /// A call below a namespace.
    async fn kv(&self, method: &str, id: &str, path: &str, body: &[u8]) -> Reply {
        self.call(method, &format!("{NAMESPACES}/{id}{path}"), &[], body).await
    }

    async fn put(&self, id: &str, key: &str, value: &str) {
        self.kv("PUT", id, &format!("/values/{key}"), value.as_bytes()).await.result();
    }
}

#[tokio::test]
async fn namespaces_are_made_listed_renamed_and_deleted() {
    let node = Node::start().await;
    let id = node.namespace("first").await;
    assert_eq!(id.len(), 32);
    assert_eq!(node.send("POST", NAMESPACES, &json!({ "title": "first" })).await.code(), 10014);
    assert_eq!(node.send("POST", NAMESPACES, &json!({ "title": "" })).await.code(), 10004);
    assert_eq!(node.send("POST", NAMESPACES, &json!({})).await.code(), 10026);
    let other = node.namespace("second").await;
    assert_eq!(node.kv("PUT", &other, "", br#"{"title":"first"}"#).await.code(), 10014);
    assert_eq!(node.kv("PUT", &other, "", br#"{"title":"a"}"#).await.result()["title"], "a");
    assert_eq!(node.kv("GET", &other, "", b"").await.result()["title"], "a");

    let titles = |query: &str| {
        let path = format!("{NAMESPACES}{query}");
        let node = &node;
        async move {
            let list = node.get(&path).await.result();
            list.as_array().unwrap().iter().map(|one| one["title"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        }
    };
    assert_eq!(titles("?per_page=1000&order=title&direction=asc").await, ["a", "first"]);
    assert_eq!(titles("?order=title&direction=desc").await, ["first", "a"]);
    assert_eq!(titles("?per_page=1&page=2").await, ["first"]);
    // wrangler asks on until a page is empty.
    for page in ["2", "18446744073709551615"] {
        assert_eq!(titles(&format!("?per_page=1000&page={page}")).await, [""; 0]);
    }
    assert_eq!(node.get(&format!("{NAMESPACES}?page=0")).await.code(), 10004);

    node.kv("DELETE", &id, "", b"").await.result();
    assert_eq!(node.kv("DELETE", &id, "", b"").await.code(), 10041);
    assert_eq!(node.kv("PUT", &id, "/values/k", b"v").await.code(), 10041);
    assert_eq!(node.kv("GET", &id, "/keys", b"").await.code(), 10041);
    assert_eq!(node.kv("GET", "not-an-id", "", b"").await.code(), 10041);
}

#[tokio::test]
async fn values_are_bare_bytes_under_any_key() {
    let node = Node::start().await;
    let id = node.namespace("n").await;
    for (path, name) in [("a%2Fb", "a/b"), ("%C3%A9%20%3F", "é ?"), ("..%2F..", "../.."), ("%25", "%")] {
        node.put(&id, path, name).await;
        let reply = node.kv("GET", &id, &format!("/values/{path}"), b"").await;
        assert_eq!((reply.status.as_u16(), reply.text.as_str()), (200, name));
        assert_eq!(reply.header("content-type"), Some("application/octet-stream"));
    }
    let names = node.kv("GET", &id, "/keys", b"").await.result();
    let names: Vec<&str> = names.as_array().unwrap().iter().map(|key| key["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["%", "../..", "a/b", "é ?"]);
    let gone = node.kv("GET", &id, "/values/nothing", b"").await;
    assert_eq!((gone.status.as_u16(), gone.code()), (404, 10009));
    node.kv("DELETE", &id, "/values/a%2Fb", b"").await.result();
    assert_eq!(node.kv("GET", &id, "/values/a%2Fb", b"").await.code(), 10009);
    node.kv("DELETE", &id, "/values/a%2Fb", b"").await.result();

    // What a client makes of the keys `..` and `.`: no rename, and no value.
    for trap in ["/", "/values/"] {
        assert_eq!(node.kv("PUT", &id, trap, b"{\"title\":\"x\"}").await.code(), 10004);
    }
    assert_eq!(node.kv("PUT", &id, "/values/%2E%2E", b"v").await.code(), 10004);
    assert_eq!(node.kv("PUT", &id, &format!("/values/{}", "k".repeat(513)), b"v").await.code(), 10004);
    assert_eq!(node.kv("GET", &id, "/values/%FF", b"").await.code(), 10004);
    assert_eq!(node.kv("GET", &id, "", b"").await.result()["title"], "n");
}

#[tokio::test]
async fn a_form_brings_metadata_and_a_query_the_end() {
    let node = Node::start().await;
    let id = node.namespace("n").await;
    let form = |parts: &[(&str, &str)]| {
        let mut body = String::new();
        for (name, text) in parts {
            body.push_str(&format!("--XX\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{text}\r\n"));
        }
        body + "--XX--\r\n"
    };
    let put = |query: &str, parts: &[(&str, &str)]| {
        let (path, body) = (format!("{NAMESPACES}/{id}/values/k{query}"), form(parts));
        let node = &node;
        async move {
            node.call("PUT", &path, &[("Content-Type", "multipart/form-data; boundary=XX")], body.as_bytes()).await
        }
    };
    put("?expiration_ttl=120", &[("value", "v"), ("metadata", "{\"a\": [1]}")]).await.result();
    let reply = node.kv("GET", &id, "/values/k", b"").await;
    assert_eq!(reply.text, "v");
    assert!(reply.header("expiration").unwrap().parse::<u64>().unwrap() > 1_700_000_000);
    let listed = node.kv("GET", &id, "/keys?prefix=k&limit=10", b"").await.json();
    assert_eq!(listed["result"][0]["metadata"], json!({ "a": [1] }));
    assert!(listed["result"][0]["expiration"].is_u64());
    assert_eq!(listed["result_info"]["cursor"], "");
    assert_eq!(node.kv("GET", &id, "/metadata/k", b"").await.result(), json!({ "a": [1] }));

    assert_eq!(put("?expiration_ttl=59", &[("value", "w")]).await.code(), 10004);
    assert_eq!(put("?expiration=1", &[("value", "w")]).await.code(), 10004);
    assert_eq!(put("?expiration=soon", &[("value", "w")]).await.code(), 10004);
    assert_eq!(put("", &[("value", "w"), ("metadata", "{")]).await.code(), 10026);
    assert_eq!(put("", &[("metadata", "{}")]).await.code(), 10026);
    assert_eq!(put("", &[("value", "w"), ("metadata", &format!("\"{}\"", "m".repeat(1023)))]).await.code(), 10027);
    assert_eq!(node.kv("GET", &id, "/values/k", b"").await.text, "v");
    // Written anew without them, it has neither.
    node.put(&id, "k", "x").await;
    let listed = node.kv("GET", &id, "/keys", b"").await.result();
    assert_eq!(listed, json!([{ "name": "k" }]));
}

#[tokio::test]
async fn bulk_calls_are_all_or_nothing_in_what_they_refuse() {
    let node = Node::start().await;
    let id = node.namespace("n").await;
    let pairs = json!([
        { "key": "a", "value": "1" }, { "key": "b", "value": "AP8=", "base64": true, "metadata": { "m": 1 } },
        { "key": "c", "value": "{\"x\":1}", "expiration_ttl": 60 }]);
    let put = node.kv("PUT", &id, "/bulk", pairs.to_string().as_bytes()).await.result();
    assert_eq!(put["successful_key_count"], 3);
    let get = |body: Value| {
        let (node, id) = (&node, &id);
        async move { node.kv("POST", id, "/bulk/get", body.to_string().as_bytes()).await }
    };
    let got = get(json!({ "keys": ["c", "a", "nothing"] })).await.result();
    assert_eq!(got, json!({ "values": { "c": "{\"x\":1}", "a": "1", "nothing": null } }));
    let got = get(json!({ "keys": ["c"], "type": "json", "withMetadata": true })).await.result();
    assert_eq!(got["values"]["c"]["value"], json!({ "x": 1 }));
    assert_eq!(get(json!({ "keys": ["b"], "type": "json" })).await.code(), 10004);

    let bad = json!([{ "key": "new", "value": "1" }, { "key": "", "value": super::HUSH }]);
    let refused = node.kv("PUT", &id, "/bulk", bad.to_string().as_bytes()).await;
    assert_eq!(refused.code(), 10004);
    assert_eq!(refused.json()["errors"][0]["source"]["pointer"], "[1]");
    assert_eq!(node.kv("PUT", &id, "/bulk", br#"[{"key":"a","value":"!","base64":true}]"#).await.code(), 10004);
    assert_eq!(node.kv("GET", &id, "/values/new", b"").await.code(), 10009);

    // A deletion has a body, whatever the method.
    node.kv("DELETE", &id, "/bulk", br#"["a","nothing"]"#).await.result();
    node.kv("POST", &id, "/bulk/delete", br#"["b"]"#).await.result();
    assert_eq!(node.kv("GET", &id, "/keys", b"").await.result()[0]["name"], "c");
    let many = serde_json::to_vec(&vec!["k"; 10_001]).unwrap();
    assert_eq!(node.kv("DELETE", &id, "/bulk", &many).await.code(), 10027);
}

#[tokio::test]
async fn lists_are_paged_by_cursor() {
    let node = Node::start().await;
    let id = node.namespace("n").await;
    let pairs: Vec<Value> = (0..25).map(|n| json!({ "key": format!("k{n:02}"), "value": "v" })).collect();
    node.kv("PUT", &id, "/bulk", json!(pairs).to_string().as_bytes()).await.result();
    let (mut cursor, mut names) = (String::new(), Vec::new());
    loop {
        let page = node.kv("GET", &id, &format!("/keys?limit=10&cursor={cursor}"), b"").await.json();
        names.extend(page["result"].as_array().unwrap().iter().map(|key| key["name"].as_str().unwrap().to_owned()));
        cursor = page["result_info"]["cursor"].as_str().unwrap().to_owned();
        if cursor.is_empty() {
            break;
        }
    }
    assert_eq!(names, (0..25).map(|n| format!("k{n:02}")).collect::<Vec<_>>());
    assert_eq!(node.kv("GET", &id, "/keys?cursor=!", b"").await.code(), 10004);
}

#[tokio::test]
async fn a_binding_names_a_namespace_that_is_there() {
    let node = Node::start().await;
    let id = node.namespace("n").await;
    let binding = json!([{ "name": "NOTES", "type": "kv_namespace", "namespace_id": id }]);
    let first = node.deploy("w", "1", binding.clone()).await;
    // Resolved ids in the settings, though the next upload says `inherit`.
    let inherit = json!([{ "name": "NOTES", "type": "inherit" }]);
    let second = node.deploy("w", "2", inherit.clone()).await;
    assert_eq!(node.get("/w/settings").await.result()["bindings"], binding);

    let upload = |bindings: Value| {
        let metadata = json!({ "main_module": "worker.wasm", "bindings": bindings });
        let node = &node;
        async move { node.upload("PUT", "/w", &metadata, &[wasm("worker.wasm", "3")]).await }
    };
    let unknown = json!([{ "name": "NOTES", "type": "kv_namespace", "namespace_id": "0".repeat(32) }]);
    let (code, message) = upload(unknown).await.fault();
    assert!(code == 10041 && message.contains("`NOTES`"), "{code} {message}");
    let malformed = json!([{ "name": "NOTES", "type": "kv_namespace", "namespace_id": "my-notes" }]);
    assert_eq!(upload(malformed).await.code(), 10021);

    // Gone: nothing that is bound to it can be deployed again (`RBK-7`), and an upload cannot inherit it.
    let third = node.deploy("w", "4", json!([])).await;
    node.kv("DELETE", &id, "", b"").await.result();
    for version in [&first, &second] {
        let wish = json!({ "strategy": "percentage", "versions": [{ "version_id": version, "percentage": 100 }] });
        let (code, message) = node.send("POST", "/w/deployments", &wish).await.fault();
        assert!(code == 10210 && message.contains("`NOTES`") && message.contains(&id), "{code} {message}");
        let forced = node.send("POST", "/w/deployments?force=true", &wish).await;
        assert_eq!(forced.code(), 10210);
    }
    let active = node.get("/w/deployments").await.result();
    assert_eq!(active["deployments"][0]["versions"][0]["version_id"], json!(third));
}

#[tokio::test]
async fn what_has_expired_is_gone_from_every_answer_in_that_second() {
    let clock = Arc::new(ManualClock::at(1_800_000_000_000));
    let node = Node::at(Arc::<ManualClock>::clone(&clock)).await;
    let id = node.namespace("notes").await;
    node.kv("PUT", &id, "/values/ttl?expiration_ttl=60", b"a").await.result();
    node.kv("PUT", &id, "/values/end?expiration=1800000061", b"b").await.result();
    let pairs = json!([{ "key": "bulk", "value": "c", "expiration_ttl": 62 }, { "key": "for-ever", "value": "d" }]);
    node.kv("PUT", &id, "/bulk", pairs.to_string().as_bytes()).await.result();
    assert_eq!(node.kv("GET", &id, "/values/end", b"").await.header("expiration"), Some("1800000061"));

    let present = async |key: &str| {
        let listed = node.kv("GET", &id, "/keys", b"").await.result();
        let listed = listed.as_array().unwrap().iter().any(|one| one["name"] == key);
        let got = node.kv("GET", &id, &format!("/values/{key}"), b"").await.status == 200;
        let told = node.kv("GET", &id, &format!("/metadata/{key}"), b"").await.status == 200;
        let asked = json!({ "keys": [key] }).to_string();
        let many = node.kv("POST", &id, "/bulk/get", asked.as_bytes()).await.result();
        let in_bulk = !many["values"][key].is_null();
        assert!([got, told, in_bulk].iter().all(|door| *door == listed), "{key}: {listed} {got} {told} {in_bulk}");
        listed
    };
    let keys = ["ttl", "end", "bulk", "for-ever"];
    for (advance, expected) in [
        (59, [true, true, true, true]),
        (1, [false, true, true, true]),
        (1, [false, false, true, true]),
        (1, [false, false, false, true]),
        (1_000_000_000, [false, false, false, true]),
    ] {
        clock.advance(Duration::from_secs(advance));
        for (key, expected) in keys.into_iter().zip(expected) {
            assert_eq!(present(key).await, expected, "{key}, {advance} s on");
        }
    }
    // It can be written again, for ever this time.
    node.put(&id, "ttl", "again").await;
    clock.advance(Duration::from_secs(1000));
    assert!(present("ttl").await);
}
