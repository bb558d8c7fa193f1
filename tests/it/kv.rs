//! KV namespaces through every door: the control API, `wasi:keyvalue` from both kinds of guest, the address, and the command
//! line. All of them see the same data.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::http::{self, Reply};
use crate::harness::{Node, Upload, example, now, test_guest};

/// A call of the control API below `…/storage/kv/namespaces`.
fn kv(node: &Node, method: &str, path: &str, body: &[u8]) -> Reply {
    let path = format!("/client/v4/accounts/local/storage/kv/namespaces{path}");
    let (host, token) = (node.control.to_string(), format!("Bearer {}", node.token));
    http::request(node.control, method, &path, &[("host", host.as_str()), ("authorization", token.as_str())], body)
}

fn result(reply: &Reply) -> Value {
    let envelope: Value = serde_json::from_str(&reply.text()).unwrap_or_else(|error| panic!("{error}: {reply:?}"));
    assert_eq!(envelope["success"], true, "{envelope:#}");
    envelope["result"].clone()
}

fn namespace(node: &Node, title: &str) -> String {
    let made = result(&kv(node, "POST", "", json!({ "title": title }).to_string().as_bytes()));
    made["id"].as_str().expect("an id").to_owned()
}

fn bound(id: &str) -> Upload {
    Upload::bindings(json!([{ "type": "kv_namespace", "name": "NOTES", "namespace_id": id }]))
}

#[test]
fn a_guest_and_the_api_see_the_same_notes_also_after_a_crash() {
    let node = Node::start();
    let id = namespace(&node, "notes");
    node.deploy_module("notes", &example("kv-notes"), bound(&id));
    let ask = |node: &Node, method: &str, path: &str, body: &[u8]| node.request(method, "notes", path, &[], body);

    assert_eq!(ask(&node, "GET", "/notes/a", b"").status, 404);
    assert_eq!(ask(&node, "PUT", "/notes/a", b"from the guest").status, 204);
    assert_eq!(kv(&node, "GET", &format!("/{id}/values/a"), b"").text(), "from the guest");
    result(&kv(&node, "PUT", &format!("/{id}/values/b%2Fc"), b"from the API"));
    assert_eq!(ask(&node, "GET", "/notes/b/c", b"").text(), "from the API");
    assert_eq!(ask(&node, "GET", "/notes", b"").text(), "a\nb/c\n");
    assert_eq!(ask(&node, "PUT", "/notes/..", b"x").status, 400);

    // Batches.
    assert_eq!(ask(&node, "POST", "/import", b"x=1\ny=2\nx=3").text(), "3\n");
    assert_eq!(ask(&node, "GET", "/many/y,nothing,x", b"").text(), "y=2\nx=3\n");
    assert_eq!(ask(&node, "DELETE", "/many/x,y", b"").status, 204);
    assert_eq!(ask(&node, "GET", "/many/y,x", b"").text(), "");

    // No visit is lost, though every request has an instance of its own.
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..5).for_each(|_| assert_eq!(ask(&node, "POST", "/visits", b"").status, 200)));
        }
    });
    assert_eq!(ask(&node, "POST", "/visits", b"").text(), "41\n");

    let node = node.kill_and_restart();
    assert_eq!(ask(&node, "GET", "/notes/a", b"").text(), "from the guest");
    assert_eq!(ask(&node, "POST", "/visits", b"").text(), "42\n");
    assert_eq!(ask(&node, "DELETE", "/notes/a", b"").status, 204);
    assert_eq!(kv(&node, "GET", &format!("/{id}/values/a"), b"").status, 404);

    // A namespace that is gone is no store any more, to the instances that run, too.
    result(&kv(&node, "DELETE", &format!("/{id}"), b""));
    let gone = ask(&node, "GET", "/notes/b/c", b"");
    assert_eq!((gone.status, gone.text().as_str()), (503, "no KV namespace is bound as `NOTES`\n"));
}

#[test]
fn a_guest_pages_through_its_keys_over_several_requests() {
    let node = Node::start();
    let id = namespace(&node, "notes");
    node.deploy_module("notes", &example("kv-notes"), bound(&id));
    let pairs: Vec<Value> = (0..2500).map(|n| json!({ "key": format!("k{n:04}"), "value": "v" })).collect();
    result(&kv(&node, "PUT", &format!("/{id}/bulk"), json!(pairs).to_string().as_bytes()));
    let (mut path, mut keys) = ("/notes".to_owned(), String::new());
    loop {
        let page = node.get("notes", &path);
        assert_eq!(page.status, 200, "{page:?}");
        keys.push_str(&page.text());
        let Some(next) = page.header("next") else { break };
        path = format!("/notes?cursor={next}");
    }
    assert_eq!(keys.lines().count(), 2500);
    assert!(keys.lines().eq((0..2500).map(|n| format!("k{n:04}"))));
    assert_eq!(node.get("notes", "/notes?cursor=7").status, 400);
}

#[test]
fn an_async_guest_counts_and_opens_only_what_it_is_bound_to() {
    let node = Node::start();
    let id = namespace(&node, "notes");
    node.deploy_module("counter", &test_guest("kv-async"), bound(&id));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..5).for_each(|_| assert_eq!(node.get("counter", "/").status, 200)));
        }
    });
    assert_eq!(node.get("counter", "/").text(), "41\n");
    assert_eq!(kv(&node, "GET", &format!("/{id}/values/n"), b"").text(), "41");
    for other in ["OTHER", id.as_str(), "default", "notes2"] {
        let opened = node.get("counter", &format!("/?open={other}")).text();
        assert!(opened.contains("NoSuchStore"), "{other}: {opened}");
    }
}

#[test]
fn by_address_a_key_has_a_value_metadata_an_end_and_a_state() {
    let node = Node::start();
    let id = namespace(&node, "notes");
    node.deploy_module("forward", &test_guest("forward"), bound(&id));
    let ask = |method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]| {
        // The case of a host means nothing.
        let all: Vec<_> = [("x-to", "nOtEs.internal")].iter().chain(headers).copied().collect();
        node.request(method, "forward", path, &all, body)
    };
    assert_eq!(ask("GET", "/a%2Fb", &[], b"").status, 404);
    let put = ask("PUT", "/a%2Fb?expiration_ttl=600", &[("kv-metadata", "{\"é\":1}")], b"value");
    assert_eq!(put.status, 204, "{put:?}");
    let got = ask("GET", "/a/b", &[], b"");
    assert_eq!((got.status, got.text().as_str()), (200, "value"));
    assert_eq!(got.header("kv-metadata"), Some("{\"\\u00e9\":1}"));
    assert!(got.header("kv-expiration").unwrap().parse::<u64>().unwrap() > 1_700_000_000);
    let head = ask("HEAD", "/a/b", &[], b"");
    assert_eq!((head.status, head.header("etag")), (200, put.header("etag")));

    // Compare and swap, in HTTP's words.
    let etag = put.header("etag").unwrap();
    assert_eq!(ask("PUT", "/a/b", &[("if-none-match", "*")], b"x").status, 412);
    assert_eq!(ask("PUT", "/a/b", &[("if-match", etag)], b"swapped").status, 204);
    assert_eq!(ask("PUT", "/a/b", &[("if-match", etag)], b"late").status, 412);
    assert_eq!(ask("DELETE", "/a/b", &[("if-match", etag)], b"").status, 412);
    assert_eq!(kv(&node, "GET", &format!("/{id}/values/a%2Fb"), b"").text(), "swapped");

    for name in ["b/1", "b/2", "b/3", "c"] {
        assert_eq!(ask("PUT", &format!("/{name}"), &[], b"v").status, 204);
    }
    let page: Value = serde_json::from_str(&ask("GET", "/?prefix=b/&limit=2", &[], b"").text()).unwrap();
    assert_eq!(page["keys"], json!([{ "name": "b/1" }, { "name": "b/2" }]));
    assert_eq!(page["list_complete"], false);
    let more = format!("/?prefix=b/&cursor={}", page["cursor"].as_str().unwrap());
    let page: Value = serde_json::from_str(&ask("GET", &more, &[], b"").text()).unwrap();
    assert_eq!(page, json!({ "keys": [{ "name": "b/3" }], "list_complete": true }));

    assert_eq!(ask("DELETE", "/c", &[], b"").status, 204);
    assert_eq!(ask("GET", "/c", &[], b"").status, 404);
    for (method, path, status) in [
        ("POST", "/c", 405),
        ("PUT", "/", 400),
        ("PUT", "/c?expiration_ttl=5", 400),
        ("PUT", "/c?expiration=soon", 400),
        ("GET", "/%FF", 400),
        ("GET", "/?limit=0", 400),
        ("GET", "/?cursor=!", 400),
    ] {
        assert_eq!(ask(method, path, &[], b"v").status, status, "{method} {path}");
    }
    let unbound = node.request("GET", "forward", "/k", &[("x-to", "other.internal")], b"");
    assert_eq!(unbound.status, 502);
}

/// In real time, of which the shortest life takes a minute: a guest's clock and the node's are the machine's.
#[test]
fn what_has_expired_is_gone_for_guests_too() {
    let node = Node::start();
    let id = namespace(&node, "notes");
    node.deploy_module("notes", &example("kv-notes"), bound(&id));
    node.deploy_module("forward", &test_guest("forward"), bound(&id));
    let ask = |method: &str, path: &str| node.request(method, "forward", path, &[("x-to", "notes.internal")], b"v");
    result(&kv(&node, "PUT", &format!("/{id}/values/api?expiration_ttl=60"), b"v"));
    assert_eq!(ask("PUT", "/address?expiration_ttl=60").status, 204);
    result(&kv(&node, "PUT", &format!("/{id}/values/stays?expiration_ttl=600"), b"v"));
    let written = now();

    let keys = ["address", "api"];
    assert_eq!(node.get("notes", "/notes").text(), "address\napi\nstays\n");
    assert!(keys.iter().all(|key| node.get("notes", &format!("/notes/{key}")).text() == "v"));
    // The node counts whole seconds.
    std::thread::sleep(Duration::from_secs(61).saturating_sub(written.elapsed()));
    assert_eq!(node.get("notes", "/notes").text(), "stays\n");
    assert_eq!(node.get("notes", "/many/address,api,stays").text(), "stays=v\n");
    let listed: Value = serde_json::from_str(&ask("GET", "/").text()).unwrap();
    assert_eq!(listed["keys"].as_array().map(Vec::len), Some(1), "{listed}");
    for key in keys {
        assert_eq!(node.get("notes", &format!("/notes/{key}")).status, 404);
        assert_eq!(ask("GET", &format!("/{key}")).status, 404);
        assert_eq!(kv(&node, "GET", &format!("/{id}/values/{key}"), b"").status, 404);
    }
    assert_eq!(result(&kv(&node, "GET", &format!("/{id}/keys"), b"")).as_array().map(Vec::len), Some(1));
}

#[test]
fn a_value_of_25_mib_goes_in_and_out_by_every_door() {
    let node = Node::start();
    let id = namespace(&node, "large");
    node.deploy_module("notes", &example("kv-notes"), bound(&id));
    node.deploy_module("forward", &test_guest("forward"), bound(&id));
    let value: Vec<u8> = (0..25 * 1024 * 1024_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let is_it = |reply: &Reply| reply.status == 200 && reply.whole && reply.body == value;
    let values = |key: &str| format!("/{id}/values/{key}");

    result(&kv(&node, "PUT", &values("api"), &value));
    let to = [("x-to", "notes.internal")];
    assert_eq!(node.request("PUT", "forward", "/address", &to, &value).status, 204);
    assert_eq!(node.request("PUT", "notes", "/notes/guest", &[], &value).status, 204);
    for key in ["api", "address", "guest"] {
        assert!(is_it(&kv(&node, "GET", &values(key), b"")), "{key}");
    }
    assert!(is_it(&node.get("notes", "/notes/api")));
    assert!(is_it(&node.request("GET", "forward", "/guest", &to, b"")));

    let more = [value.as_slice(), b"!"].concat();
    let refused: Value = serde_json::from_str(&kv(&node, "PUT", &values("api"), &more).text()).unwrap();
    assert_eq!(refused["errors"][0]["code"], 10027, "{refused}");
    assert_eq!(node.request("PUT", "forward", "/api", &to, &more).status, 413);
    assert_eq!(node.request("PUT", "notes", "/notes/api", &[], &more).status, 400);
    assert!(is_it(&kv(&node, "GET", &values("api"), b"")));
}

#[test]
fn a_version_whose_namespace_is_gone_is_not_deployed_again() {
    let node = Node::start();
    let id = namespace(&node, "notes");
    let guest = example("kv-notes");
    let first = node.deploy_module("notes", &guest, bound(&id));
    let second = node.deploy_module("notes", &guest, Upload::default());
    result(&kv(&node, "DELETE", &format!("/{id}"), b""));
    let body = crate::harness::node::split_body(&[(&first, 50.0), (&second, 50.0)]);
    let (code, message) = node.api_error("POST", "/scripts/notes/deployments", &body);
    assert!(code == 10210 && message.contains("`NOTES`") && message.contains(&id), "{code} {message}");
    let rollback = node.cli(&["rollback", "--name", "notes", "-y"]);
    assert_eq!(rollback.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&rollback.stderr).contains("which was deleted"), "{rollback:?}");
    let refused = node.upload("PUT", "/scripts/notes", &guest, bound(&id));
    assert_eq!(refused["errors"][0]["code"], 10041, "{refused}");
}

#[test]
fn the_command_line_has_wranglers_words_for_all_of_it() {
    let node = Node::start();
    let project = tempfile::tempdir().unwrap();
    let run = |args: &[&str], stdin: &[u8]| {
        let output = node.cli_in(project.path(), args, stdin);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let json = |args: &[&str]| serde_json::from_slice::<Value>(&run(args, b"")).unwrap();
    let write = |name: &str, text: String| std::fs::write(project.path().join(name), text).unwrap();

    let id = json(&["kv", "namespace", "create", "notes", "--json"])["id"].as_str().unwrap().to_owned();
    run(&["kv", "namespace", "rename", "notes", "--new-name", "my-notes"], b"");
    assert_eq!(json(&["kv", "namespace", "list", "--json"])[0]["title"], "my-notes");
    let guest = example("kv-notes").display().to_string();
    let config =
        |id: &str| format!("name = \"notes\"\nmain = '{guest}'\n[[kv_namespaces]]\nbinding = \"NOTES\"\n{id}\n");
    write("wrangler.toml", config(""));
    let refused = node.cli_in(project.path(), &["deploy"], b"");
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && text.contains("sluice kv namespace create NOTES"), "{text}");
    write("wrangler.toml", config(&format!("id = \"{id}\"")));
    run(&["deploy"], b"");

    run(&["kv", "key", "put", "a/b", "one", "--binding", "NOTES", "--remote", "--ttl", "600"], b"");
    let put = ["kv", "key", "put", "raw", "--path", "-", "--binding", "NOTES", "--metadata", "{\"m\": 1}"];
    run(&put, b"\x00\xff\n");
    assert_eq!(run(&["kv", "key", "get", "raw", "--binding", "NOTES"], b""), b"\x00\xff\n");
    assert_eq!(node.get("notes", "/notes/a/b").text(), "one");
    let list = json(&["kv", "key", "list", "--binding", "NOTES", "--json"]);
    assert_eq!((&list[0]["name"], &list[1]["metadata"]), (&json!("a/b"), &json!({ "m": 1 })));
    assert!(list[0]["expiration"].is_u64());

    write(
        "pairs.json",
        json!([{ "key": "x", "value": "1" }, { "key": "y", "value": "AA==", "base64": true }]).to_string(),
    );
    run(&["kv", "bulk", "put", "pairs.json", "--binding", "NOTES"], b"");
    write("keys.json", json!(["x", "nothing"]).to_string());
    assert_eq!(json(&["kv", "bulk", "get", "keys.json", "--namespace-id", &id]), json!({ "x": "1", "nothing": null }));
    run(&["kv", "bulk", "delete", "keys.json", "--binding", "NOTES", "--force"], b"");
    run(&["kv", "key", "delete", "a/b", "--binding", "NOTES"], b"");
    let names = json(&["kv", "key", "list", "--binding", "NOTES", "--json"]);
    assert_eq!(names.as_array().unwrap().len(), 2);

    for (args, code) in [
        (["kv", "key", "get", "a/b", "--binding", "NOTES"], 1),
        (["kv", "key", "get", "..", "--binding", "NOTES"], 2),
        (["kv", "key", "get", "a", "--binding", "OTHER"], 1),
    ] {
        assert_eq!(node.cli_in(project.path(), &args, b"").status.code(), Some(code), "{args:?}");
    }
    run(&["kv", "namespace", "delete", "--binding", "NOTES", "-y"], b"");
    assert_eq!(json(&["kv", "namespace", "list", "--json"]), json!([]));
}
