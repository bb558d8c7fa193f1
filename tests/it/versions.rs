//! Versions: what they say of themselves, that nothing changes them, which can be deployed and which deleted.

use serde_json::{Value, json};

use crate::harness::http::multipart;
use crate::harness::{Node, Upload, example, list, text};

/// An upload with these annotations.
fn annotated(annotations: Value) -> Upload {
    Upload::default().with("annotations", annotations)
}

#[test]
fn versions_count_from_one_for_each_worker_and_no_number_comes_twice() {
    let node = Node::start();
    let versions = node.hello_versions("w", 3);
    node.hello_versions("other", 1);
    let numbers = |worker: &str| -> Vec<u64> {
        node.versions(worker).iter().map(|version| version["number"].as_u64().unwrap()).collect()
    };
    assert_eq!((numbers("w"), numbers("other")), (vec![3, 2, 1], vec![1]), "newest first");
    node.api("DELETE", &format!("/scripts/w/versions/{}", versions[1].id), &Value::Null);
    assert_eq!(numbers("w"), [3, 1]);
    assert_eq!(node.upload_version("w", &example("hello"), Upload::default()).json["number"], 4);
    let node = node.kill_and_restart();
    assert_eq!(node.upload_version("w", &example("hello"), Upload::default()).json["number"], 5);
}

#[test]
fn a_message_is_cut_at_1000_bytes_and_a_tag_of_more_than_100_is_refused() {
    let node = Node::start();
    let long = format!("a{}", "é".repeat(600));
    let version = node.deploy_module(
        "w",
        &example("hello"),
        annotated(json!({"workers/message": long, "workers/tag": "t".repeat(100)})),
    );
    let version = node.api("GET", &format!("/scripts/w/versions/{}", version.id), &Value::Null);
    assert_eq!(text(&version["annotations"]["workers/message"]), format!("a{}", "é".repeat(499)), "VER-7");
    assert_eq!(text(&version["annotations"]["workers/tag"]).len(), 100);

    let reply = node.upload("PUT", "/scripts/w", &example("hello"), annotated(json!({"workers/tag": "t".repeat(101)})));
    assert_eq!(reply["errors"][0]["code"], 10021);
    assert_eq!(reply["errors"][0]["source"]["pointer"], "annotations.workers/tag");
    assert_eq!(reply["errors"][0]["message"], "the tag has 101 bytes, the limit is 100");
    assert_eq!(node.versions("w").len(), 1);
}

#[test]
fn one_tag_may_be_on_several_versions_and_then_names_none() {
    let node = Node::start();
    node.deploy_module("w", &example("hello"), Upload::default().tagged("same"));
    node.upload_version("w", &example("hello"), Upload::default().tagged("same"));
    let output = node.cli(&["versions", "deploy", "--version-tag", "same", "--name", "w"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("Tag \"same\" matches multiple versions"),
        "VER-8: {output:?}"
    );
}

#[test]
fn a_version_says_who_made_it_how_and_when() {
    let node = Node::start();
    let module = std::fs::read(example("hello")).unwrap();
    let send = |headers: &[(&str, &str)]| {
        let (kind, body) = multipart(&json!({"main_module": "hello.wasm"}).to_string(), "hello.wasm", &module);
        let all = [&[("content-type", kind.as_str())], headers].concat();
        let reply = node.control_call("PUT", "/scripts/w", &all, &body);
        let reply: Value = serde_json::from_str(&reply.text()).unwrap();
        reply["result"]["sluice"]["version"]["metadata"].clone()
    };
    let plain = send(&[]);
    assert_eq!((&plain["source"], &plain["author_email"]), (&json!("api"), &json!("dev@localhost")));
    let by_wrangler = send(&[("user-agent", "wrangler/4.100.0"), ("sluice-author", "ada@example.com")]);
    assert_eq!((&by_wrangler["source"], &by_wrangler["author_email"]), (&json!("wrangler"), &json!("ada@example.com")));
    assert_ne!(plain["author_id"], by_wrangler["author_id"]);
    for made in [plain, by_wrangler] {
        assert_eq!(made["created_on"], made["modified_on"]);
        let created: jiff::Timestamp = text(&made["created_on"]).parse().unwrap();
        assert!((jiff::Timestamp::now().as_second() - created.as_second()).abs() < 600);
    }
}

/// `VER-1`, `V1`: whatever is done to a worker, a version is read back as it was made, and answers as it did.
#[test]
fn nothing_that_happens_to_a_worker_changes_a_version() {
    let node = Node::telling(&[]);
    let teller = example("version-teller");
    let first = node.deploy_module("w", &teller, Upload::var("GREETING", "one").tagged("t1"));
    let path = format!("/scripts/w/versions/{}", first.id);
    let (before, answer) = (node.api("GET", &path, &Value::Null), node.get("w", "/").text());

    let second = node.upload_version("w", &teller, Upload::var("GREETING", "two").tagged("t1"));
    node.split("w", &[(&second, 40.0), (&first, 60.0)]);
    node.deploy_module("w", &example("hello"), Upload::var("GREETING", "three"));
    node.put_secret("w", "KEY", "v");
    node.api("PUT", "/scripts/w/routes", &json!([{"pattern": "a.test/*"}]));
    node.api("PATCH", "/scripts/w/script-settings", &json!({"tags": ["x"]}));
    for method in ["PUT", "PATCH", "POST"] {
        let (code, message) = node.api_error(method, &path, &json!({"annotations": {"workers/tag": "t2"}}));
        assert_eq!(code, 7001, "{message}");
    }
    let node = node.kill_and_restart();
    assert_eq!(portless(&node.api("GET", &path, &Value::Null)), portless(&before));
    node.split_by_force("w", &[(&first, 100.0)]);
    assert_eq!(node.get("w", "/").text(), answer);
}

/// A version without the port in its addresses, which changes with the node.
fn portless(version: &Value) -> Value {
    let mut version = version.clone();
    let urls = list(&version["sluice"]["urls"]);
    let bare = |url: &Value| json!(text(url).rsplit_once(':').unwrap().0);
    version["sluice"]["urls"] = urls.iter().map(bare).collect();
    version
}

#[test]
fn a_version_is_read_by_its_whole_id_and_by_nothing_else() {
    let node = Node::start();
    let version = node.hello_versions("w", 1).remove(0);
    let get = |id: &str| node.api_error("GET", &format!("/scripts/w/versions/{id}"), &Value::Null);
    assert_eq!(get("dc8dcd28-271b-4367-9840-6c244f84cb40").0, 10071);
    for name in ["1", version.short(), "v1", "x", "latest"] {
        let (code, message) = get(name);
        assert_eq!(code, 10071, "{name}: {message}");
        assert!(message.contains("UUID"), "{name}: {message}");
    }
    let whole = node.api("GET", &format!("/scripts/w/versions/{}", version.id), &Value::Null);
    assert_eq!(whole["id"], version.id);
    assert_eq!(node.api_error("GET", &format!("/scripts/x/versions/{}", version.id), &Value::Null).0, 10007);
}

/// `VER-9`, `VER-10`, `RBK-5`.
#[test]
fn only_the_newest_hundred_versions_can_be_deployed() {
    let node = Node::start();
    let versions = node.hello_versions("w", 102);
    let (oldest, second, third) = (&versions[0], &versions[1], &versions[2]);
    // All are listed, page by page; those that can be deployed on one.
    let listed =
        |query: &str| list(&node.api("GET", &format!("/scripts/w/versions?{query}"), &Value::Null)["items"]).len();
    assert_eq!(
        (listed("per_page=40"), listed("per_page=40&page=3"), listed("deployable=true&per_page=3")),
        (40, 22, 100)
    );
    let (code, message) = node.split_error("w", &[(second, 100.0)]);
    assert_eq!(code, 10210);
    assert!(message.contains(&second.id) && message.contains("not among the newest 100 versions"), "{message}");
    node.split("w", &[(third, 100.0)]);
    // What was live when it fell out of the hundred cannot come back either.
    assert_eq!(node.split_error("w", &[(oldest, 50.0), (third, 50.0)]).0, 10210);
    assert_eq!(node.get("w", "/").status, 200);
}

/// `VER-11`.
#[test]
fn a_version_is_deleted_unless_it_is_deployed_or_the_latest() {
    let node = Node::telling(&[]);
    let versions = node.hello_versions("w", 4);
    let delete = |index: usize| ("DELETE", format!("/scripts/w/versions/{}", versions[index].id));
    node.split("w", &[(&versions[1], 0.0), (&versions[0], 100.0)]);
    for (index, code) in [(0, 10338), (1, 10338), (3, 10339)] {
        let (method, path) = delete(index);
        assert_eq!(node.api_error(method, &path, &Value::Null).0, code, "{index}");
    }
    let (method, path) = delete(2);
    node.api(method, &path, &Value::Null);
    assert_eq!(node.api_error(method, &path, &Value::Null).0, 10071);
    assert_eq!(node.get(&format!("{}-w", versions[2].short()), "/").status, 404);
    assert_eq!(node.split_error("w", &[(&versions[2], 100.0)]).0, 10210);
    // It is gone from history as well: a list names no version that cannot be read.
    node.split("w", &[(&versions[3], 100.0)]);
    let (method, path) = delete(1);
    node.api(method, &path, &Value::Null);
    assert_eq!(node.deployments("w").len(), 2);
    let node = node.kill_and_restart();
    assert_eq!(node.versions("w").len(), 2);
    assert_eq!(node.answered_by("w", &[]), versions[3].id);
}

#[test]
fn a_worker_that_is_deleted_is_gone_with_its_versions_and_its_name_is_free() {
    let node = Node::telling(&[]);
    let versions = node.hello_versions("w", 2);
    node.api("PUT", "/scripts/w/routes", &json!([{"pattern": "a.test/*"}]));
    node.api("DELETE", "/scripts/w", &Value::Null);
    assert_eq!(node.api_error("DELETE", "/scripts/w", &Value::Null).0, 10007);
    assert_eq!((node.get("w", "/").status, node.get("a.test", "/").status), (404, 404));
    let again = node.hello_versions("w", 1).remove(0);
    assert_eq!(again.json["sluice"]["version"]["number"], 1);
    let old = node.answered_by("w", &[("cloudflare-workers-version-overrides", &versions[0].overriding("w"))]);
    assert_eq!(old, again.id, "versions of the worker that was do not come back");
}

#[test]
fn what_a_version_upload_cannot_carry_has_its_own_code() {
    let node = Node::start();
    node.hello_versions("w", 1);
    let hello = example("hello");
    let refused = |upload: Upload| {
        let reply = node.upload("POST", "/scripts/w/versions", &hello, upload);
        (reply["errors"][0]["code"].as_i64().unwrap(), text(&reply["errors"][0]["message"]))
    };
    let (code, message) = refused(Upload::default().with("migrations", json!({"new_tag": "v1", "steps": []})));
    assert_eq!(code, 10211, "MIG-5");
    assert!(message.starts_with("Version upload failed"), "{message}");
    let (code, message) = refused(Upload::default().with("body_part", json!("script")));
    assert_eq!(code, 10216, "CRE-3: {message}");
    assert_eq!(node.versions("w").len(), 1);
}

/// `CRE-7`: of the version before only secrets stay, and variables where the upload says so.
#[test]
fn an_upload_starts_from_nothing_but_the_secrets() {
    let node = Node::start();
    let teller = example("version-teller");
    node.deploy_module(
        "w",
        &teller,
        Upload::bindings(json!([
        {"type": "plain_text", "name": "A", "text": "a"}, {"type": "secret_text", "name": "S", "text": "s"}]))
        .with("limits", json!({"cpu_ms": 50})),
    );
    let names = |version: &Value| -> Vec<String> {
        list(&version["resources"]["bindings"]).iter().map(|binding| text(&binding["name"])).collect()
    };
    let next = node.upload_version("w", &teller, Upload::var("B", "b"));
    assert_eq!(names(&next.json), ["B", "S"]);
    assert!(next.json["resources"]["script_runtime"]["limits"].get("cpu_ms").is_none());
    let kept = node.upload_version("w", &teller, Upload::var("C", "c").with("keep_vars", json!(true)));
    assert_eq!(names(&kept.json), ["C", "B", "S"]);
    let inherited = Upload::bindings(json!([{"type": "inherit", "name": "D", "old_name": "B"}]));
    assert_eq!(names(&node.upload_version("w", &teller, inherited).json), ["D", "S"], "UPL-3");
}
