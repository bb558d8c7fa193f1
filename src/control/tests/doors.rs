//! Who comes in, and in which form everyone is turned away.

use super::*;

#[tokio::test]
async fn every_refusal_is_the_same_json_envelope() {
    let node = Node::start().await;
    let long = format!("{SCRIPTS}/{}", "a".repeat(64));
    for (method, path, code) in [
        ("GET", "/", 7000),
        ("GET", "/client/v4/nothing", 7000),
        ("GET", "/client/v4/accounts/local/workers/scripts/hello/nothing", 7000),
        ("GET", "/client/v4/accounts/local/workers/scripts/", 7000),
        ("PATCH", "/client/v4/accounts/local/workers/scripts", 7001),
        ("DELETE", "/client/v4/user", 7001),
        ("GET", "/client/v4/accounts/other/workers/scripts", 7003),
        ("GET", "/client/v4/accounts/other", 7003),
        ("GET", "/client/v4/accounts//workers/scripts", 7003),
        ("GET", "/client/v4/accounts/local/workers/scripts/hello/versions", 10007),
        ("GET", "/client/v4/accounts/local/workers/services/hello", 10007),
        ("DELETE", "/client/v4/accounts/local/workers/services/hello?force=false", 10007),
        ("GET", "/client/v4/accounts/local/workers/services/UPPER", 10016),
        ("GET", "/client/v4/accounts/local/workers/scripts/../versions", 10016),
        ("GET", "/client/v4/accounts/local/workers/scripts/..%2F..%2Fetc%2Fpasswd/versions", 10016),
        ("PUT", "/client/v4/accounts/local/workers/scripts/a%00b", 10016),
        ("GET", "/client/v4/accounts/local/workers/scripts/a%ff/versions", 10004),
        ("GET", &long, 7001),
        ("PUT", &long, 10016),
        ("POST", "/client/v4/accounts/local/logpush/jobs", 95004),
        ("POST", "/client/v4/accounts/local/storage/kv/namespaces", 10026),
        ("POST", "/client/v4/accounts/local/workers/scripts/hello/assets-upload-session", 95004),
    ] {
        let reply = node.call(method, path, &[], b"").await;
        assert_eq!(reply.code(), code, "{method} {path}");
        assert!(!reply.status.is_server_error());
    }
    let refused = node.call("PATCH", SCRIPTS, &[], b"").await;
    assert_eq!((refused.status.as_u16(), refused.header("allow")), (405, Some("get,head")));
}

#[tokio::test]
async fn only_the_token_opens() {
    let node = Node::start().await;
    for token in ["", "Bearer wrong", "Bearer ", "Basic dDBrZW4=", "t0ken"] {
        let reply = node.call("GET", SCRIPTS, &[("Authorization", token)], b"").await;
        assert_eq!((reply.code(), reply.status.as_u16()), (10000, 401), "{token}");
        let unknown = node.call("GET", "/client/v4/accounts/other/x", &[("Authorization", token)], b"").await;
        assert_eq!(unknown.code(), 10000);
        // What wrangler asks to explain the refusal (`WRANGLER_API` 3.17).
        let ask = async |path: &str| node.call("GET", path, &[("Authorization", token)], b"").await;
        assert_eq!(ask("/client/v4/user/tokens/verify").await.code(), 1000);
        assert_eq!(ask("/client/v4/user").await.code(), 9109);
        assert_eq!(ask("/client/v4/memberships?page=1").await.code(), 10000);
        assert_eq!(ask("/client/v4/accounts?page=1").await.result()[0]["id"], "local");
    }
    assert_eq!(node.get("/client/v4/user/tokens/verify").await.result()["status"], "active");
    assert_eq!(node.get("/client/v4/user").await.result()["email"], "dev@localhost");
    assert_eq!(node.get("/client/v4/memberships").await.result()[0]["account"]["id"], "local");
    assert_eq!(node.get("/client/v4/accounts/local").await.result()["id"], "local");
}

#[tokio::test]
async fn a_web_page_cannot_call() {
    let node = Node::start().await;
    let port = node.addr.port();
    let call = async |headers: &[(&str, &str)]| node.call("GET", SCRIPTS, headers, b"").await;
    for host in ["evil.test", "hello.localhost", "evil.test:80", "localhost.evil.test", "10.0.0.1"] {
        assert_eq!(call(&[("Host", host)]).await.code(), 95001, "{host}");
    }
    for host in [format!("127.0.0.1:{port}"), "localhost:1".into(), "[::1]".into()] {
        call(&[("Host", &host)]).await.result();
    }
    for origin in ["http://evil.test", "null", "http://hello.localhost:8787"] {
        assert_eq!(call(&[("Origin", origin)]).await.code(), 95002, "{origin}");
    }
    assert_eq!(call(&[("Sec-Fetch-Site", "cross-site")]).await.code(), 95002);
    call(&[("Host", "localhost:8788"), ("Origin", "http://localhost:8788"), ("Sec-Fetch-Site", "same-origin")])
        .await
        .result();
    // An absolute request target names a host too.
    let request = format!("GET http://evil.test{SCRIPTS} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert_eq!(node.raw(request.as_bytes()).await.code(), 95001);
}

#[tokio::test]
async fn a_panic_is_answered_and_harms_no_one() {
    let node = Node::start().await;
    let metadata = json!({ "main_module": "worker.wasm" });
    let reply = node.upload("PUT", "/hello", &metadata, &[wasm("worker.wasm", "panic")]).await;
    assert_eq!((reply.code(), reply.status.as_u16()), (10013, 500));
    assert_eq!((node.leftovers(), node.modules()), (0, 0));
    assert_eq!(node.get("").await.result(), json!([]));
}

#[tokio::test]
async fn whoever_is_refused_while_sending_reads_the_answer() {
    let node = Node::start().await;
    let junk = vec![b'x'; 30_000_000];
    let wrong = [("Authorization", "Bearer wrong"), ("Content-Type", FORM)];
    assert_eq!(node.call("PUT", &under("/hello"), &wrong, &junk).await.code(), 10000);
    assert_eq!(node.call("PUT", &under("/hello"), &[("Content-Type", FORM)], &junk).await.code(), 10026);
    assert_eq!(node.call("PATCH", &under("/hello/script-settings"), &[], &junk).await.code(), 10007);
    let announced = format!(
        "PUT {SCRIPTS}/hello HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: {FORM}\r\nContent-Length: 100000000\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    );
    // Refused by its announced size, without asking for the first byte.
    assert_eq!(node.raw(announced.as_bytes()).await.code(), 10027);
    assert_eq!(node.leftovers(), 0);
}

#[tokio::test]
async fn deep_and_wrong_json_is_refused_without_repeating_it() {
    let node = Node::start().await;
    node.deploy("hello", "a", json!([])).await;
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    for (method, path) in [
        ("POST", "/hello/deployments"),
        ("PUT", "/hello/secrets"),
        ("PATCH", "/hello/secrets-bulk"),
        ("PATCH", "/hello/script-settings"),
        ("PUT", "/hello/routes"),
        ("POST", "/hello/subdomain"),
        ("POST", "/hello/explain"),
        ("PATCH", "/client/v4/accounts/local/workers/workers/hello/versions/latest"),
    ] {
        for body in [deep.as_str(), "", "{", "nonsense", "\u{0}", "7"] {
            let reply = node.call(method, &under(path), &[], body.as_bytes()).await;
            assert_eq!(reply.code(), 10026, "{method} {path} {body:.20}");
        }
    }
    let wrong = node.send("PUT", "/hello/secrets", &json!({ "name": ["x", HUSH], "text": HUSH, "type": HUSH })).await;
    assert_eq!(wrong.code(), 10026);
    let wrong = node.send("PATCH", "/hello/secrets-bulk", &json!({ "secrets": { "A": HUSH } })).await;
    assert_eq!(wrong.code(), 10026);
}

#[tokio::test]
async fn metrics_need_the_token_only_from_afar() {
    let node = Node::start().await;
    let reply = node.call("GET", "/metrics", &[("Authorization", "")], b"").await;
    assert_eq!((reply.status.as_u16(), reply.text.as_str()), (200, "sluice_up 1\n"));
    assert_eq!(node.call("GET", "/metrics", &[("Host", "evil.test")], b"").await.code(), 95001);
}
