//! Deployments, secrets, triggers, deletions and explanations.

use super::*;

const WORKERS: &str = "/client/v4/accounts/local/workers";

fn split(entries: &[(&str, f64)]) -> Value {
    let versions: Vec<Value> = entries.iter().map(|(id, p)| json!({ "version_id": id, "percentage": p })).collect();
    json!({ "strategy": "percentage", "versions": versions, "annotations": { "workers/message": "canary" },
        "code_update_strategy": { "mode": "deferred", "max_delay": 300 } })
}

#[tokio::test]
async fn a_deployment_is_checked_and_says_what_is_wrong() {
    let node = Node::start().await;
    let (a, b) = (node.deploy("hello", "one", json!([])).await, node.version("hello", "two").await);
    let stranger = node.deploy("other", "one", json!([])).await;
    let check = async |body: Value| node.send("POST", "/hello/deployments", &body).await.fault();
    for (body, words) in [
        (split(&[(&a, 20.0), (&b, 70.0)]), "the percentages sum to 90 %, expected 100 %"),
        (split(&[(&a, -1.0), (&b, 101.0)]), "expected a number from 0 to 100"),
        (split(&[(&a, 50.0), (&a, 50.0)]), "is named twice"),
        (split(&[]), "at least 1 version"),
        (split(&vec![(a.as_str(), 1.0); 21]), "at most 20 versions, got 21"),
        (split(&[(&stranger, 100.0)]), "has no version"),
        (split(&[("latest", 100.0)]), "is not an id"),
        (json!({ "strategy": "canary", "versions": [] }), "`strategy`"),
        (json!({ "versions": [], "code_update_strategy": { "mode": "deferred", "max_delay": 90_000 } }), "`max_delay`"),
    ] {
        let (code, message) = check(body).await;
        assert!(code == 10210 && message.contains(words), "{code} {message}");
    }
    assert_eq!(check(json!({ "versions": [{ "version_id": a, "percentage": "100" }] })).await.0, 10026);
    assert_eq!(node.get("/hello/deployments").await.result()["deployments"].as_array().unwrap().len(), 1);

    let dry = node.send("POST", "/hello/deployments?dry_run=true", &split(&[(&b, 20.0), (&a, 80.0)])).await;
    assert_eq!(dry.result()["sluice"]["moved_slots"], 20_000);
    assert_eq!(dry.json()["messages"], json!(["dry run: nothing was deployed"]));
    assert_eq!(node.get("/hello/deployments").await.result()["deployments"].as_array().unwrap().len(), 1);
    let made = node.send("POST", "/hello/deployments", &split(&[(&b, 33.333), (&a, 66.666)])).await.result();
    assert_eq!(made["versions"][1]["percentage"], 66.667);
    assert_eq!(made["annotations"], json!({ "workers/message": "canary", "workers/triggered_by": "deployment" }));
    assert_eq!(made["code_update_strategy"], json!({ "mode": "deferred", "max_delay": 300 }));
    let listed = node.get("/hello/deployments").await;
    assert_eq!(listed.result()["deployments"][0], made);
    assert_eq!(listed.header("etag").unwrap(), format!("\"{}\"", made["id"].as_str().unwrap()));
    let one = node.get(&format!("/hello/deployments/{}", made["id"].as_str().unwrap())).await.result();
    assert_eq!(one["sluice"]["versions"][0]["number"], 2);
}

#[tokio::test]
async fn if_match_lets_only_who_knows_the_present_deploy() {
    let node = Node::start().await;
    let id = node.deploy("hello", "one", json!([])).await;
    let etag = node.get("/hello/deployments").await.header("etag").unwrap().to_owned();
    let post = async |tag: &str| {
        let body = split(&[(&id, 100.0)]).to_string();
        node.call("POST", &under("/hello/deployments"), &[("If-Match", tag)], body.as_bytes()).await
    };
    post(&etag).await.result();
    let stale = post(&etag).await;
    assert_eq!((stale.code(), stale.status.as_u16()), (95009, 412));
    assert_eq!(post("nonsense").await.code(), 10004);
}

#[tokio::test]
async fn a_rollback_over_changed_secrets_has_to_be_meant() {
    let node = Node::start().await;
    let old = node.deploy("hello", "one", json!([{ "name": "A", "type": "secret_text", "text": "1" }])).await;
    let secret = json!({ "name": "B.C", "text": HUSH, "type": "secret_text" });
    node.send("PUT", "/hello/secrets", &secret).await.result();
    let back = split(&[(&old, 100.0)]);
    let (code, message) = node.send("POST", "/hello/deployments", &back).await.fault();
    assert!(code == 10220 && message.ends_with("The following secrets have changed: B.C"), "{message}");
    let forced = node.send("POST", "/hello/deployments?force=true", &back).await.result();
    assert_eq!(forced["annotations"]["workers/triggered_by"], "rollback");
    // Now the latest version is not deployed (`SEC-2`).
    assert_eq!(node.send("PUT", "/hello/secrets", &secret).await.code(), 10215);
    let bulk = json!({ "secrets": { "B.C": null } });
    assert_eq!(node.send("PATCH", "/hello/secrets-bulk", &bulk).await.code(), 10214);
    assert_eq!(node.call("DELETE", &under("/hello/secrets/B.C?url_encoded=true"), &[], b"").await.code(), 10215);
}

#[tokio::test]
async fn secrets_go_in_by_any_content_type_and_never_out() {
    let node = Node::start().await;
    node.deploy("hello", "one", json!([{ "name": "V", "type": "plain_text", "text": "v" }])).await;
    let send = async |method: &str, path: &str, kind: &str, body: Value| {
        node.call(method, &under(path), &[("Content-Type", kind)], body.to_string().as_bytes()).await
    };
    let secret = |name: &str| json!({ "name": name, "text": HUSH, "type": "secret_text" });
    send("PUT", "/hello/secrets", "text/plain;charset=UTF-8", secret("A.B")).await.result();
    let bulk = json!({ "secrets": { "X": secret("X"), "Y": secret("Y"), "Z": null } });
    send("PATCH", "/hello/secrets-bulk", "application/merge-patch+json", bulk).await.result();
    let names = async || {
        let items = node.get("/hello/secrets").await.result();
        items.as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names().await, ["A.B", "X", "Y"]);
    // Percent-encoded in the path, decoded after routing.
    node.call("DELETE", &under("/hello/secrets/A%2EB?url_encoded=true"), &[], b"").await.result();
    assert_eq!(names().await, ["X", "Y"]);
    for gone in ["A.B", "A.B%2F%C3%A9", "..%2F..", "V"] {
        let reply = node.call("DELETE", &under(&format!("/hello/secrets/{gone}")), &[], b"").await;
        assert_eq!(reply.code(), 10056, "{gone}");
    }
    assert_eq!(node.get("/hello/secrets/X").await.result(), json!({ "name": "X", "type": "secret_text" }));

    let patch = json!({ "env": { "K": { "type": "secret_text", "text": HUSH }, "X": null },
        "annotations": { "workers/message": "Updated secret \"K\"", "workers/tag": "t1" } });
    let latest = "/client/v4/accounts/local/workers/workers/hello/versions/latest";
    let version = send("PATCH", latest, "application/merge-patch+json", patch).await.result();
    assert_eq!(version["annotations"]["workers/tag"], "t1");
    let list = node.get("/hello/versions").await.result();
    assert_eq!(list["items"][0]["id"], version["id"]);
    let bindings = json!([{ "name": "V", "type": "plain_text", "text": "v" }, { "name": "Y", "type": "secret_text" },
        { "name": "K", "type": "secret_text" }]);
    assert_eq!(list["items"][0]["resources"]["bindings"], bindings);
    assert_eq!(node.get("/hello/settings").await.result()["bindings"], bindings);

    for (body, code) in [
        (secret("1 bad name"), 10021),
        (secret("V"), 10021),
        (json!({ "name": "A", "text": HUSH, "type": "plain_text" }), 10021),
    ] {
        // The latest version is not deployed since the patch above, which is the first thing to say.
        let reply = send(
            "PATCH",
            latest,
            "text/plain",
            json!({ "env": { body["name"].as_str().unwrap(): { "type": body["type"], "text": HUSH } } }),
        )
        .await;
        assert_eq!(reply.code(), code, "{body}");
    }
    assert_eq!(send("PATCH", latest, "", json!({ "env": {} })).await.code(), 10021);
    let crowd: serde_json::Map<String, Value> = (0..101).map(|n| (format!("S{n}"), Value::Null)).collect();
    assert!(send("PATCH", "/hello/secrets-bulk", "", json!({ "secrets": crowd })).await.code() > 10000);
}

#[tokio::test]
async fn triggers_are_read_back_as_they_were_set() {
    let node = Node::start().await;
    node.deploy("hello", "one", json!([])).await;
    node.deploy("other", "one", json!([])).await;
    let set = node.send("POST", "/hello/subdomain", &json!({ "enabled": false })).await.result();
    assert_eq!(set, json!({ "enabled": false, "previews_enabled": false }));
    let set =
        node.send("POST", "/hello/subdomain", &json!({ "enabled": true, "previews_enabled": false })).await.result();
    assert_eq!(node.get("/hello/subdomain").await.result(), set);
    let worker = node.get(&format!("{WORKERS}/workers/hello")).await.result();
    assert_eq!(
        worker["subdomain"],
        json!({ "enabled": true, "previews_enabled": false, "url": "http://hello.localhost:8787",
            "preview_url_suffix": "-hello.localhost:8787" })
    );
    assert_eq!(node.get(&format!("{WORKERS}/subdomain")).await.result()["subdomain"], "local");

    let routes = json!([{ "pattern": "a.test/*", "zone_name": "a.test" }, { "pattern": "*.b.test/x*" }]);
    node.send("PUT", "/hello/routes", &routes).await.result();
    assert_eq!(node.get("/client/v4/zones?name=a.test&account.id=local").await.result()[0]["name"], "a.test");
    let all = node.get("/client/v4/zones/whatever/workers/routes").await.result();
    assert_eq!((&all[0]["pattern"], &all[0]["script"]), (&json!("a.test/*"), &json!("hello")));
    let (code, message) = node.send("PUT", "/other/routes", &json!([{ "pattern": "a.test/*" }])).await.fault();
    assert!(code == 10020 && message.contains("`hello`"), "{message}");
    let bad = node.send("PUT", "/other/routes", &json!([{ "pattern": "a*b" }, { "pattern": "" }])).await;
    assert_eq!(bad.json()["errors"].as_array().unwrap().len(), 2);

    let hosts = json!([{ "hostname": "c.test" }]);
    let changes = node.send("POST", "/hello/domains/changeset?replace_state=true", &hosts).await.result();
    assert_eq!((&changes["added"][0]["hostname"], &changes["conflicting"]), (&json!("c.test"), &json!([])));
    let records = json!({ "override_scope": true, "override_existing_origin": true, "override_existing_dns_record": true, "origins": hosts });
    node.send("PUT", "/hello/domains/records", &records).await.result();
    let changes = node.send("POST", "/other/domains/changeset", &hosts).await.result();
    assert_eq!(changes["conflicting"][0]["existing"]["service"], "hello");
    assert_eq!(node.send("PUT", "/other/domains/records", &records).await.code(), 100_116);

    node.send("PUT", "/hello/schedules", &json!([])).await.result();
    assert_eq!(node.send("PUT", "/hello/schedules", &json!([{ "cron": "* * * * *" }])).await.code(), 95004);
    let patch = json!({ "observability": { "enabled": true }, "tags": ["a"], "logpush": null, "odd": 1 });
    let patched = node.send("PATCH", "/hello/script-settings", &patch).await;
    assert_eq!(patched.json()["messages"].as_array().unwrap().len(), 1);
    assert_eq!(node.get("/hello/script-settings").await.result(), patched.result());
    assert_eq!(patched.result()["observability"]["enabled"], true);
    assert_eq!(node.send("PATCH", "/hello/script-settings", &json!({ "tags": 7 })).await.code(), 10021);
    let service = node.get(&format!("{WORKERS}/services/hello")).await.result();
    assert_eq!(service["default_environment"]["script"]["tags"], json!(["a"]));
}

#[tokio::test]
async fn what_is_live_or_needed_is_not_deleted_by_accident() {
    let node = Node::start().await;
    let a = node.deploy("hello", "one", json!([])).await;
    let b = node.deploy("hello", "two", json!([])).await;
    let c = node.version("hello", "three").await;
    let delete = async |path: String| node.call("DELETE", &under(&path), &[], b"").await;
    assert_eq!(delete(format!("/hello/versions/{b}")).await.code(), 10338);
    assert_eq!(delete(format!("/hello/versions/{c}")).await.code(), 10339);
    delete(format!("/hello/versions/{a}")).await.result();
    assert_eq!(delete(format!("/hello/versions/{a}")).await.code(), 10071);
    // The deployment of a deleted version is not listed: wrangler would fail on it.
    let list = node.get("/hello/deployments").await.result();
    assert_eq!(list["deployments"].as_array().unwrap().len(), 1);
    let active = list["deployments"][0]["id"].as_str().unwrap();
    assert_eq!(delete(format!("/hello/deployments/{active}")).await.code(), 10338);
    assert_eq!(delete(format!("/hello/deployments/{a}")).await.code(), 10336);

    node.deploy("front", "one", json!([{ "name": "BACK", "type": "service", "service": "hello" }])).await;
    let references = node.get("/hello/references").await.result();
    assert_eq!(references["services"]["incoming"], json!([{ "service": "front", "environment": "production" }]));
    let delete = async |query: &str| node.call("DELETE", &format!("{WORKERS}/services/hello{query}"), &[], b"").await;
    assert_eq!(delete("?force=false").await.code(), 95005);
    assert_eq!(delete("?force=maybe").await.code(), 10004);
    delete("?force=true").await.result();
    assert_eq!(delete("").await.code(), 10007);
    let listed = node.get("").await.result();
    assert_eq!((&listed[0]["id"], listed.as_array().unwrap().len()), (&json!("front"), 1));
    for none in [
        "/client/v4/accounts/local/storage/kv/namespaces?per_page=100&page=1",
        "/client/v4/accounts/local/workers/durable_objects/namespaces",
        "/client/v4/accounts/local/workers/tails/by-consumer/hello",
    ] {
        assert_eq!(node.get(none).await.result(), json!([]));
    }
}

#[tokio::test]
async fn explain_tells_version_reason_and_where_it_would_change() {
    let node = Node::start().await;
    let a = node.deploy("hello", "one", json!([])).await;
    let certain = node.get("/hello/explain").await.result();
    assert_eq!((&certain["answers"][0]["version_id"], &certain["answers"][0]["reason"]), (&json!(a), &json!("random")));
    let b = node.version("hello", "two").await;
    node.send("POST", "/hello/deployments", &split(&[(&b, 20.0), (&a, 80.0)])).await.result();
    assert_eq!(node.get("/hello/explain").await.result()["answers"][0]["version_id"], Value::Null);

    let one = node.get("/hello/explain?key=foo").await.result()["answers"][0].clone();
    assert_eq!(one["reason"], "key");
    assert!(one["slot"].as_u64().unwrap() < 100_000);
    assert_eq!(one["changes_at"]["version_id"], one["version_id"]);
    let keys: Vec<String> = (0..2000).map(|n| format!("user-{n}")).collect();
    let many = node.send("POST", "/hello/explain", &json!({ "keys": keys })).await.result();
    assert_eq!(many["answers"].as_array().unwrap().len(), 2000);
    let share = many["achieved"][0]["achieved"].as_f64().unwrap();
    assert!((share - 20.0).abs() < 3.0, "{share}");
    assert_eq!((&many["achieved"][0]["version_id"], &many["achieved"][0]["configured"]), (&json!(b), &json!(20.0)));

    let ask = async |headers: Value| {
        let reply = node.send("POST", "/hello/explain", &json!({ "keys": ["foo"], "headers": headers })).await;
        reply.result()["answers"][0].clone()
    };
    let overriding = ask(json!([["Cloudflare-Workers-Version-Overrides", format!("hello=\"{b}\"")]])).await;
    assert_eq!((&overriding["version_id"], &overriding["reason"]), (&json!(b), &json!("override")));
    for silent in ["nonsense(", "hello=token", "other=\"x\""] {
        assert_eq!(ask(json!([["cloudflare-workers-version-overrides", silent]])).await["reason"], "key");
    }
    let preview = ask(json!([["Host", format!("{}-hello.localhost:8787", &b[..8])]])).await;
    assert_eq!((&preview["version_number"], &preview["reason"]), (&json!(2), &json!("preview")));
    assert_eq!(node.get("/nobody/explain").await.code(), 10007);
}
