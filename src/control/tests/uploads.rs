//! Uploads: what becomes a version, and what leaves nothing behind.

use super::*;

fn r1() -> Value {
    json!({ "main_module": "shim.js", "compatibility_date": "2026-01-01", "compatibility_flags": [],
        "bindings": [{ "name": "GREETING", "type": "plain_text", "text": "hello" },
            { "name": "API_KEY", "type": "secret_text", "text": HUSH }, { "name": "N", "type": "json", "json": { "x": [1] } }],
        "annotations": { "workers/message": "first", "workers/tag": "v1", "workers/alias": "staging" },
        "keep_bindings": ["secret_text", "secret_key"], "tags": ["cf:service=hello"], "unknown_key": 1 })
}

#[tokio::test]
async fn a_put_makes_a_version_and_deploys_it() {
    let node = Node::start().await;
    let parts = [script("shim.js", "export default {};"), wasm("worker.wasm", "one")];
    let reply = node.upload("PUT", "/hello?excludeScript=true&bindings_inherit=strict", &r1(), &parts).await;
    assert_eq!(reply.json()["messages"], json!(["the metadata key `unknown_key` is unknown and was ignored"]));
    let put = reply.result();
    let id = put["deployment_id"].as_str().unwrap();
    assert_eq!((&put["id"], &put["startup_time_ms"]), (&json!("hello"), &json!(3)));

    let version = node.get(&format!("/hello/versions/{id}")).await.result();
    assert_eq!(version, put["sluice"]["version"]);
    assert_eq!(version["number"], 1);
    assert_eq!(version["metadata"]["source"], "api");
    assert_eq!(version["metadata"]["has_preview"], true);
    assert_eq!(
        version["annotations"],
        json!({ "workers/message": "first", "workers/tag": "v1", "workers/alias": "staging", "workers/triggered_by": "upload" })
    );
    assert_eq!(
        version["resources"]["bindings"],
        json!([{ "name": "GREETING", "type": "plain_text", "text": "hello" }, { "name": "API_KEY", "type": "secret_text" },
            { "name": "N", "type": "json", "json": { "x": [1] } }])
    );
    let short = &id[..8];
    assert_eq!(
        version["sluice"]["urls"],
        json!([format!("http://{short}-hello.localhost:8787"), "http://staging-hello.localhost:8787"])
    );
    let deployments = node.get("/hello/deployments").await.result();
    assert_eq!(deployments["deployments"][0]["versions"], json!([{ "version_id": id, "percentage": 100 }]));
    assert_eq!(node.get("/hello/script-settings").await.result()["tags"], json!(["cf:service=hello"]));
    assert_eq!((node.leftovers(), node.modules()), (0, 1));
    // The same bytes again: another version, the same file (E13).
    let again = node.upload("PUT", "/hello", &r1(), &parts).await.result();
    assert_ne!(again["deployment_id"], put["deployment_id"]);
    assert_eq!((node.leftovers(), node.modules()), (0, 1));
}

#[tokio::test]
async fn versions_need_a_worker_and_are_listed_newest_first() {
    let node = Node::start().await;
    let reply = node.upload("POST", "/hello/versions", &r1(), &[wasm("worker.wasm", "x")]).await;
    assert_eq!((reply.code(), reply.status.as_u16()), (10007, 404));
    node.deploy("hello", "one", json!([])).await;
    for name in ["two", "three"] {
        node.version("hello", name).await;
    }
    let list = node.get("/hello/versions?deployable=true").await;
    let numbers: Vec<u64> =
        list.result()["items"].as_array().unwrap().iter().map(|v| v["number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [3, 2, 1]);
    assert_eq!(list.json()["result_info"]["total_count"], 3);
    let page = node.get("/hello/versions?page=2&per_page=2").await.result();
    assert_eq!(page["items"].as_array().unwrap().len(), 1);
    let latest = &list.result()["items"][0];
    assert_eq!(latest["annotations"]["workers/triggered_by"], "version_upload");
    assert_eq!(node.get("/hello/versions/nonsense").await.code(), 10071);
    assert_eq!(node.get("/hello/versions/dc8dcd28-271b-4367-9840-6c244f84cb40").await.code(), 10071);
    assert_eq!(node.get("/hello/versions?page=0").await.code(), 10004);
}

#[tokio::test]
async fn an_upload_that_rests_on_what_is_past_is_refused_before_it_is_proven() {
    let node = Node::start().await;
    let upload = async |method: &str, path: &str, seen: (&str, &str)| {
        let metadata = json!({ "main_module": "worker.wasm", "annotations": {} });
        let body = multipart(Some(&metadata.to_string()), &[wasm("worker.wasm", "x")]);
        node.call(method, &under(path), &[("Content-Type", FORM), seen], &body).await
    };
    let header = "Sluice-If-Latest";
    // A worker that is not there yet.
    let first = upload("PUT", "/hello", (header, "none")).await.result();
    let (proofs, versions) = (node.proofs(), node.version_count());
    let late = upload("PUT", "/hello", (header, "none")).await;
    assert_eq!((late.code(), late.status.as_u16()), (95009, 412));
    assert!(late.text.contains("the latest version of `hello` is `"), "{late:?}");

    let id = first["deployment_id"].as_str().unwrap();
    let other = "dc8dcd28-271b-4367-9840-6c244f84cb40";
    let active = first["sluice"]["deployment"]["id"].as_str().unwrap();
    for (method, path) in [("PUT", "/hello"), ("POST", "/hello/versions")] {
        assert_eq!(upload(method, path, (header, other)).await.code(), 95009);
        assert_eq!(upload(method, path, (header, "newest")).await.code(), 10004);
        assert_eq!(upload(method, path, ("If-Match", other)).await.code(), 95009);
    }
    assert_eq!((node.proofs(), node.version_count(), node.leftovers()), (proofs, versions, 0));
    let second = upload("POST", "/hello/versions", (header, id)).await.result();
    assert_eq!(second["number"], 2);
    // Only a deployment changes what is active.
    assert_eq!(upload("PUT", "/hello", ("If-Match", active)).await.result()["sluice"]["version"]["number"], 3);
    assert_eq!(upload("PUT", "/hello", ("If-Match", active)).await.code(), 95009);
}

#[tokio::test]
async fn the_program_is_found_among_the_parts() {
    let node = Node::start().await;
    let check = async |main: &str, parts: &[Part<'_>]| {
        node.upload("PUT", "/hello", &json!({ "main_module": main }), parts).await
    };
    let etag_of = |bytes: &[u8]| {
        use sha2::Digest;
        hex::encode(sha2::Sha256::digest(bytes))
    };
    let (a, b) = (wasm("a.wasm", "a"), wasm("./lib/b.wasm", "b"));
    let other = [script("shim.js", ""), a.clone(), b.clone()];
    let both = check("shim.js", &other).await;
    assert_eq!(both.code(), 10021);
    assert!(both.fault().1.contains("2 Wasm parts") && both.fault().1.contains("`lib/b.wasm`"), "{both:?}");
    // Named as main, with and without the bundler's `./`; imported by main; alone; by convention.
    assert_eq!(check("lib/b.wasm", &other).await.result()["etag"], etag_of(&b.2));
    let imported = [script("shim.js", "import mod from './lib/b.wasm'; export default { mod };"), a.clone(), b.clone()];
    assert_eq!(check("shim.js", &imported).await.result()["etag"], etag_of(&b.2));
    assert_eq!(check("shim.js", &[b.clone(), script("shim.js", "")]).await.result()["etag"], etag_of(&b.2));
    let conventional = [a.clone(), wasm("dist/shim.wasm", "s"), script("shim.js", "")];
    assert_eq!(check("shim.js", &conventional).await.result()["etag"], etag_of(&conventional[1].2));
    // One that says it is Wasm beats one that only looks like it.
    let looks = ("data.bin", "application/octet-stream", b"\0asm....".to_vec());
    assert_eq!(check("shim.js", &[looks, a.clone()]).await.result()["etag"], etag_of(&a.2));
    let text = ("app.wat", "text/plain", b"(component)".to_vec());
    check("app.wat", &[text]).await.result();
    // A name is never a path.
    check("shim.js", &[wasm("../../../etc/passwd.wasm", "x")]).await.result();
    assert_eq!(check("a.wasm", &[a.clone(), a]).await.code(), 10021);
}

#[tokio::test]
async fn what_cannot_be_run_is_refused_with_what_to_upload_instead() {
    let node = Node::start().await;
    let check = async |metadata: Value, parts: &[Part<'_>]| {
        let reply = node.upload("PUT", "/hello", &metadata, parts).await;
        assert!(!reply.text.to_lowercase().contains("startup"));
        reply.fault()
    };
    let (code, message) = check(json!({ "main_module": "index.js" }), &[script("index.js", "export default {}")]).await;
    assert!(code == 10021 && message.contains("componentize-js"), "{message}");
    let (code, message) = check(json!({ "main_module": "main.py" }), &[("main.py", "text/x-python", vec![])]).await;
    assert!(code == 10021 && message.contains("componentize-py"), "{message}");
    let (code, message) = check(json!({ "body_part": "script" }), &[wasm("WORKER", "x")]).await;
    assert!(code == 10021 && message.contains("no_bundle"), "{message}");
    let (code, message) =
        check(json!({ "main_module": "w.wasm" }), &[("w.wasm", "application/wasm", b"ELF".to_vec())]).await;
    assert_eq!((code, message.as_str()), (10021, "this is not Wasm"));
    node.deploy("hello", "one", json!([])).await;
    let reply = node.upload("POST", "/hello/versions", &json!({ "body_part": "script" }), &[wasm("W", "x")]).await;
    assert_eq!(reply.code(), 10216);
    let migration = json!({ "main_module": "w.wasm", "migrations": { "new_tag": "v1" } });
    assert_eq!(node.upload("POST", "/hello/versions", &migration, &[wasm("w.wasm", "x")]).await.code(), 10211);
    let (code, message) =
        check(json!({ "main_module": "w.wasm", "exports": { "A": {} } }), &[wasm("w.wasm", "x")]).await;
    assert!(code == 10021 && message.contains("`migrations`"), "{message}");
    assert_eq!((node.leftovers(), node.modules()), (0, 1));
}

#[tokio::test]
async fn all_faults_of_a_configuration_come_at_once_and_nothing_is_proven() {
    let node = Node::start().await;
    let bad = json!({ "main_module": "w.wasm", "assets": { "jwt": "x" }, "limits": { "cpu_ms": 0 }, "bindings": [
        { "name": "B", "type": "r2_bucket", "bucket_name": "b" }, { "name": "startup", "type": "queue" },
        { "name": "GONE", "type": "inherit" }, { "name": "S", "type": "secret_text", "text": HUSH.repeat(1000) }] });
    let reply = node.upload("PUT", "/hello?bindings_inherit=strict", &bad, &[wasm("w.wasm", "x")]).await;
    let errors = reply.json()["errors"].as_array().unwrap().clone();
    let places: Vec<&str> = errors.iter().map(|error| error["source"]["pointer"].as_str().unwrap()).collect();
    assert_eq!(
        places,
        ["assets", "bindings[0].type", "bindings[1].type", "bindings[2]", "bindings[3]", "limits.cpu_ms"]
    );
    assert_eq!(reply.code(), 10021);
    assert_eq!((node.prover.proofs.load(Ordering::SeqCst), node.modules()), (0, 0));
    // A user's word must not make wrangler profile the upload.
    let word = json!({ "main_module": "w.wasm", "bindings": [{ "name": "startup", "type": "ai" }] });
    let reply = node.upload("PUT", "/hello", &word, &[wasm("w.wasm", "x")]).await;
    assert_eq!(reply.fault().1, "the upload was refused");
    assert_eq!(reply.json()["errors"].as_array().unwrap().len(), 2);

    let missing = json!({ "main_module": "w.wasm", "bindings": [{ "name": "A", "type": "inherit" }, { "name": "B", "type": "inherit" }] });
    let reply = node.upload("PUT", "/hello?bindings_inherit=strict", &missing, &[wasm("w.wasm", "x")]).await;
    assert_eq!(reply.code(), 10057);
    for (error, name) in reply.json()["errors"].as_array().unwrap().iter().zip(["A", "B"]) {
        let begins = format!("inherit binding '{name}' is invalid");
        assert!(error["message"].as_str().unwrap().starts_with(&begins), "{error}");
    }
    // Not strict: dropped in silence (`UPL-3`).
    node.upload("PUT", "/hello", &missing, &[wasm("w.wasm", "x")]).await.result();
    let cpu = json!({ "main_module": "w.wasm", "limits": { "cpu_ms": 30_001 } });
    assert_eq!(node.upload("PUT", "/hello", &cpu, &[wasm("w.wasm", "x")]).await.code(), 10205);
}

#[tokio::test]
async fn a_body_that_is_cut_off_leaves_nothing() {
    let node = Node::start().await;
    let body = multipart(Some(&r1().to_string()), &[wasm("worker.wasm", &"x".repeat(300_000))]);
    let head = format!(
        "PUT {SCRIPTS}/hello HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: {FORM}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    for sent in [0, 10, 700, 200_000] {
        let mut socket = TcpStream::connect(node.addr).await.unwrap();
        socket.write_all(&[head.as_bytes(), &body[..sent]].concat()).await.unwrap();
        socket.shutdown().await.unwrap();
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.contains("95003"), "{sent}: {answer}");
    }
    // Whole by length, without the closing boundary.
    for short in
        [&body[..body.len() - 8], &body[..200_000], b"--XX\r\nContent-Disposition: form-data; na".as_slice(), b""]
    {
        let reply = node.call("PUT", &under("/hello"), &[("Content-Type", FORM)], short).await;
        assert_eq!(reply.code(), 95003);
    }
    assert_eq!((node.leftovers(), node.modules(), node.catalog.view().workers().count()), (0, 0, 0));
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_the_hosts_fault() {
    let node = Node::start().await;
    std::fs::remove_dir(node.catalog.modules().temp_dir()).unwrap();
    let reply = node.upload("PUT", "/hello", &r1(), &[wasm("worker.wasm", "x")]).await;
    assert_eq!((reply.code(), reply.status.as_u16()), (10013, 500));
    assert!(!reply.text.contains("modules"), "a path of the host was told: {reply:?}");
    assert_eq!(node.catalog.view().workers().count(), 0);
}

#[tokio::test]
async fn what_is_no_upload_is_told_so() {
    let node = Node::start().await;
    let put = async |kind: &str, body: &[u8]| node.call("PUT", &under("/hello"), &[("Content-Type", kind)], body).await;
    for kind in ["", "application/json", "multipart/form-data", "application/wasm", "multipart/mixed; boundary=XX"] {
        assert_eq!(put(kind, b"{}").await.code(), 10001, "{kind}");
    }
    let without = put(FORM, &multipart(None, &[wasm("w.wasm", "x")])).await;
    assert!(without.code() == 10021 && without.fault().1.contains("`metadata`"));
    assert_eq!(put(FORM, &multipart(Some("{"), &[])).await.code(), 10026);
    assert_eq!(put(FORM, &multipart(Some("[]"), &[])).await.code(), 10026);
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
    assert_eq!(put(FORM, &multipart(Some(&deep), &[wasm("w.wasm", "x")])).await.code(), 10026);
    // A header section without an end, and parts without end.
    let headers = [b"--XX\r\nX: ".as_slice(), &vec![b'y'; 2_000_000]].concat();
    assert_eq!(put(FORM, &headers).await.code(), 10026);
    let many: Vec<Part<'_>> = (0..1001).map(|_| ("x.txt", "text/plain", vec![])).collect();
    assert_eq!(put(FORM, &multipart(Some("{}"), &many)).await.code(), 10027);
    let large = "m".repeat(2 * 1024 * 1024 + 1);
    assert_eq!(put(FORM, &multipart(Some(&large), &[])).await.code(), 10027);
    let nameless = b"--XX\r\nContent-Type: text/plain\r\n\r\nx\r\n--XX--\r\n";
    assert_eq!(put(FORM, nameless).await.code(), 10026);
    assert_eq!(node.leftovers(), 0);
}

#[tokio::test]
async fn a_module_is_stored_as_it_came_up_to_the_limit() {
    let node = Node::start().await;
    let mut bytes: Vec<u8> = (0..40_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    bytes[..4].copy_from_slice(b"\0asm");
    let put = async |bytes: Vec<u8>| {
        node.upload("PUT", "/hello", &json!({ "main_module": "w.wasm" }), &[("w.wasm", "application/wasm", bytes)])
            .await
    };
    let etag = put(bytes.clone()).await.result()["etag"].as_str().unwrap().to_owned();
    let stored = node.catalog.modules().read(etag.parse().unwrap()).await.unwrap();
    assert!(stored == bytes);
    bytes.resize(64 * 1024 * 1024 + 1, 0);
    let reply = put(bytes).await;
    assert_eq!((reply.code(), reply.status.as_u16()), (10027, 413));
    assert_eq!((node.leftovers(), node.modules()), (0, 1));
}

#[tokio::test]
async fn a_draft_keeps_its_secrets_for_its_first_version() {
    let node = Node::start().await;
    let put = json!({ "name": "API_KEY", "text": HUSH, "type": "secret_text" });
    assert_eq!(node.send("PUT", "/hello/secrets", &put).await.code(), 10007);
    // wrangler's placeholder (3.10).
    let metadata = json!({ "main_module": "hello", "bindings": [], "logpush": false });
    let placeholder = [script("hello", "export default { fetch() {} };")];
    node.upload("PUT", "/hello", &metadata, &placeholder).await.result();
    node.upload("PUT", "/hello", &metadata, &placeholder).await.result();
    assert_eq!(
        node.send("PUT", "/hello/secrets", &put).await.result(),
        json!({ "name": "API_KEY", "type": "secret_text" })
    );
    assert_eq!(node.get("/hello/secrets").await.result(), json!([{ "name": "API_KEY", "type": "secret_text" }]));
    assert_eq!(node.get("/hello/versions").await.result()["items"], json!([]));
    assert_eq!(node.get("/hello/deployments").await.result()["deployments"], json!([]));
    assert_eq!(node.get("/hello/settings").await.result()["bindings"], json!([]));
    node.get("/client/v4/accounts/local/workers/services/hello").await.result();
    let latest = "/client/v4/accounts/local/workers/workers/hello/versions/latest";
    assert_eq!(node.send("PATCH", latest, &json!({ "env": { "A": null } })).await.code(), 10222);

    let strict = json!({ "main_module": "w.wasm", "bindings": [{ "name": "API_KEY", "type": "inherit" }] });
    let version = node.upload("POST", "/hello/versions?bindings_inherit=strict", &strict, &[wasm("w.wasm", "x")]).await;
    assert_eq!(version.result()["resources"]["bindings"], json!([{ "name": "API_KEY", "type": "secret_text" }]));
    // It is a worker with a version now, and a placeholder is a script without Wasm.
    assert_eq!(node.upload("PUT", "/hello", &metadata, &placeholder).await.code(), 10021);
}

#[tokio::test]
async fn reads_deployments_and_other_uploads_go_on_while_one_is_proven() {
    let node = Arc::new(Node::start().await);
    let first = node.deploy("hello", "one", json!([{ "name": "S", "type": "secret_text", "text": "s" }])).await;
    let slow = tokio::spawn({
        let node = Arc::clone(&node);
        async move { node.version("hello", "slow").await }
    });
    while node.prover.proofs.load(Ordering::SeqCst) < 2 {
        tokio::task::yield_now().await;
    }
    let second = node.version("hello", "two").await;
    node.get("/hello/versions").await.result();
    let split =
        json!({ "versions": [{ "version_id": first, "percentage": 90 }, { "version_id": second, "percentage": 10 }] });
    node.send("POST", "/hello/deployments", &split).await.result();
    let latest = "/client/v4/accounts/local/workers/workers/hello/versions/latest";
    let env = json!({ "env": { "NEW": { "type": "secret_text", "text": HUSH } } });
    node.send("PATCH", latest, &env).await.result();
    node.prover.slow.add_permits(2);
    // What came between is inherited, so it was resolved and proven again.
    let id = slow.await.unwrap();
    let version = node.get(&format!("/hello/versions/{id}")).await.result();
    assert_eq!(version["number"], 4);
    let names: Vec<&str> =
        version["resources"]["bindings"].as_array().unwrap().iter().map(|b| b["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["S", "NEW"]);
    assert_eq!(node.leftovers(), 0);
}

/// Waits for what another task does.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), waiting)
        .await
        .unwrap_or_else(|_| panic!("not so: {what}"));
}

impl Node {
    /// Sends an upload of a version whole, and does not wait for the answer.
    async fn send_upload(&self, module: &str, key: &str) -> TcpStream {
        let body = multipart(Some(r#"{"main_module":"w.wasm"}"#), &[wasm("w.wasm", module)]);
        let head = format!(
            "POST {SCRIPTS}/hello/versions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: {FORM}\r\n{key}Content-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        let mut socket = TcpStream::connect(self.addr).await.unwrap();
        socket.write_all(&[head.as_bytes(), &body].concat()).await.unwrap();
        socket
    }

    fn proofs(&self) -> usize {
        self.prover.proofs.load(Ordering::SeqCst)
    }

    fn version_count(&self) -> usize {
        self.catalog.view().worker(&"hello".parse().unwrap()).map_or(0, |worker| worker.newest_first().len())
    }
}

#[tokio::test]
async fn an_upload_whose_client_goes_away_before_it_is_proven_makes_no_version() {
    let node = Node::start().await;
    node.deploy("hello", "one", json!([])).await;
    for key in ["", "Idempotency-Key: k\r\n"] {
        let before = node.proofs();
        let client = node.send_upload("slow", key).await;
        until("the proof has begun", || node.proofs() > before).await;
        assert_eq!(node.leftovers(), 1);
        drop(client);
        until("the upload is given up", || node.leftovers() == 0).await;
    }
    node.prover.slow.add_permits(2);
    // What is sent again is one version, and has lost no number.
    let again = answer_of(node.send_upload("slow", "Idempotency-Key: k\r\n").await).await.result();
    assert_eq!((again["number"].as_u64(), node.version_count(), node.modules()), (Some(2), 2, 2));
}

#[tokio::test]
async fn an_upload_that_comes_again_under_its_key_is_the_version_that_it_was() {
    let node = Node::start().await;
    node.deploy("hello", "one", json!([])).await;
    let key = "Idempotency-Key: 7f\r\n";
    // The answer is never read, and the connection ends when the version is there.
    let client = node.send_upload("two", key).await;
    until("the version is there", || node.version_count() == 2).await;
    drop(client);
    let again = answer_of(node.send_upload("two", key).await).await;
    assert_eq!((again.result()["number"].as_u64(), node.proofs()), (Some(2), 2));
    assert!(again.json()["messages"][0].as_str().unwrap().contains("Idempotency-Key"), "{again:?}");
    // Two at once: the second waits for the first.
    let first = node.send_upload("slow", key).await;
    until("the proof has begun", || node.proofs() == 3).await;
    let second = node.send_upload("slow", key).await;
    node.prover.slow.add_permits(2);
    let (first, second) = (answer_of(first).await.result(), answer_of(second).await.result());
    assert_eq!((first["number"].as_u64(), &first["id"]), (Some(3), &second["id"]));
    // Another key, no key, or another module is another upload.
    for (module, key) in [("two", "Idempotency-Key: 8\r\n"), ("two", ""), ("two", ""), ("three", key)] {
        answer_of(node.send_upload(module, key).await).await.result();
    }
    assert_eq!(node.version_count(), 7);
    let long = format!("Idempotency-Key: {}\r\n", "x".repeat(256));
    assert_eq!(answer_of(node.send_upload("two", &long).await).await.code(), 10004);
}

#[tokio::test]
async fn a_deploy_that_comes_again_under_its_key_is_what_is_live_or_another_deploy() {
    let node = Node::start().await;
    let put = async || {
        let body = multipart(Some(r#"{"main_module":"w.wasm","tags":["t"]}"#), &[wasm("w.wasm", "one")]);
        let headers = [("Content-Type", FORM), ("Idempotency-Key", "k")];
        node.call("PUT", &under("/hello"), &headers, &body).await.result()["deployment_id"].as_str().unwrap().to_owned()
    };
    let first = put().await;
    assert_eq!((put().await, node.version_count()), (first.clone(), 1));
    // Something else went live since, so that "deployed" would be untrue.
    node.deploy("hello", "two", json!([])).await;
    let third = put().await;
    assert_ne!(third, first);
    assert_eq!(node.version_count(), 3);
    let active = node.get("/hello/deployments").await.result()["deployments"][0]["versions"][0]["version_id"].clone();
    assert_eq!(active, third.as_str());
}
