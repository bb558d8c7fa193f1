//! Classes of Durable Objects over the wire: migrations, bindings, fences, and when code is updated.

use super::*;

const NAMESPACES: &str = "/client/v4/accounts/local/workers/durable_objects/namespaces";

/// `PUT` of a component that implements objects.
async fn put(node: &Node, worker: &str, metadata: Value) -> Reply {
    let mut whole = json!({ "main_module": "w.wasm" });
    whole.as_object_mut().unwrap().extend(metadata.as_object().unwrap().clone());
    node.upload("PUT", &format!("/{worker}"), &whole, &[wasm("w.wasm", "objects")]).await
}

fn object(name: &str, class: &str, script: Option<&str>) -> Value {
    let mut binding = json!({ "name": name, "type": "durable_object_namespace", "class_name": class });
    if let Some(script) = script {
        binding["script_name"] = json!(script);
    }
    binding
}

fn first(classes: &[&str]) -> Value {
    json!({ "new_tag": "v1", "steps": [{ "new_sqlite_classes": classes }] })
}

fn next(step: Value) -> Value {
    json!({ "old_tag": "v1", "new_tag": "v2", "steps": [step] })
}

async fn tag(node: &Node, worker: &str) -> Value {
    let path = format!("/client/v4/accounts/local/workers/services/{worker}");
    node.get(&path).await.result()["default_environment"]["script"]["migration_tag"].clone()
}

#[tokio::test]
async fn a_migration_comes_with_a_deploy_and_its_tag_is_told() {
    let node = Node::start().await;
    node.deploy("hello", "one", json!([])).await;
    assert_eq!(tag(&node, "hello").await, Value::Null);
    let bindings = json!([object("ROOMS", "Room", None), object("SAME", "Room", Some("hello"))]);
    let id = put(&node, "hello", json!({ "bindings": bindings, "migrations": first(&["Room"]) })).await.result();
    assert_eq!(tag(&node, "hello").await, "v1");
    let version = node.get(&format!("/hello/versions/{}", id["deployment_id"].as_str().unwrap())).await.result();
    // Its own name is as good as none.
    let shown = json!([object("ROOMS", "Room", None), object("SAME", "Room", None)]);
    assert_eq!(version["resources"]["bindings"], shown);
    assert_eq!(node.get("/hello/settings").await.result()["bindings"], shown);

    let step = json!({ "old_tag": "v1", "new_tag": "v2", "new_classes": ["Log"] });
    put(&node, "hello", json!({ "bindings": bindings, "migrations": step })).await.result();
    put(&node, "other", json!({ "migrations": first(&["Room"]) })).await.result();
    let list = node.get(NAMESPACES).await;
    let told: Vec<Value> = list.result().as_array().unwrap().clone();
    let told: Vec<_> = told
        .iter()
        .map(|one| {
            json!([one["name"], one["script"], one["class"], one["use_sqlite"], one["id"].as_str().map(str::len)])
        })
        .collect();
    assert_eq!(
        told,
        [
            json!(["hello_Log", "hello", "Log", false, 32]),
            json!(["hello_Room", "hello", "Room", true, 32]),
            json!(["other_Room", "other", "Room", true, 32]),
        ]
    );
    let page = node.get(&format!("{NAMESPACES}?page=2&per_page=2")).await;
    assert_eq!(page.result()[0]["name"], "other_Room");
    assert_eq!(page.json()["result_info"]["total_count"], 3);
}

#[tokio::test]
async fn what_cannot_be_is_refused_by_code_before_the_module_is_proven() {
    let node = Node::start().await;
    put(&node, "hello", json!({ "migrations": first(&["Room"]) })).await.result();
    let proofs = node.prover.proofs.load(Ordering::SeqCst);
    let refused = async |metadata: Value| put(&node, "hello", metadata).await;
    let place = |reply: &Reply| reply.json()["errors"][0]["source"]["pointer"].clone();

    let reply = refused(json!({ "bindings": [object("L", "Log", None)] })).await;
    assert_eq!((reply.code(), place(&reply)), (10061, json!("bindings.L.class_name")));
    let reply = refused(json!({ "bindings": [object("L", "Log", Some("nobody"))] })).await;
    assert_eq!((reply.code(), place(&reply)), (10061, json!("bindings.L.script_name")));
    let mut elsewhere = object("L", "Log", Some("other"));
    elsewhere["environment"] = json!("staging");
    let reply = refused(json!({ "bindings": [elsewhere] })).await;
    assert!(reply.code() == 10021 && reply.fault().1.contains("`other-staging`"), "{reply:?}");
    let reply = refused(json!({ "bindings": [{ "name": "L", "type": "durable_object_namespace" }] })).await;
    assert_eq!((reply.code(), place(&reply)), (10021, json!("bindings[0].class_name")));

    let reply = refused(json!({ "migrations": first(&["Log"]) })).await;
    assert_eq!((reply.code(), reply.status.as_u16(), place(&reply)), (10074, 400, json!("migrations.old_tag")));
    assert!(reply.fault().1.contains("`hello` has the migration tag `v1`"), "{reply:?}");
    let step = json!({ "new_classes": ["Room"], "deleted_classes": ["Gone"] });
    let reply = refused(json!({ "migrations": next(step) })).await;
    let errors = reply.json()["errors"].as_array().unwrap().clone();
    let places: Vec<_> = errors.iter().map(|error| (&error["code"], &error["source"]["pointer"])).collect();
    assert_eq!(
        places,
        [
            (&json!(10074), &json!("migrations.steps[0].deleted_classes[0]")),
            (&json!(10074), &json!("migrations.steps[0].new_classes[0]"))
        ]
    );
    let reply = refused(json!({ "migrations": [{ "tag": "v2", "new_classes": ["Log"] }] })).await;
    assert_eq!((reply.code(), place(&reply)), (10074, json!("migrations")));
    assert_eq!(node.prover.proofs.load(Ordering::SeqCst), proofs);

    // Whether it implements them is known of its exports.
    let reply = node.upload("PUT", "/hello", &json!({ "main_module": "w.wasm" }), &[wasm("w.wasm", "plain")]).await;
    assert_eq!((reply.code(), reply.status.as_u16()), (10070, 400));
    assert_eq!(node.get("/hello/versions").await.result()["items"].as_array().unwrap().len(), 1);
    assert_eq!(tag(&node, "hello").await, "v1");
}

#[tokio::test]
async fn a_version_that_is_only_uploaded_carries_no_migration() {
    let node = Node::start().await;
    put(&node, "hello", json!({ "migrations": first(&["Room"]) })).await.result();
    let metadata = json!({ "main_module": "w.wasm", "migrations": next(json!({ "new_classes": ["Log"] })) });
    let reply = node.upload("POST", "/hello/versions", &metadata, &[wasm("w.wasm", "objects")]).await;
    assert_eq!((reply.code(), reply.status.as_u16()), (10211, 400));
    assert!(reply.fault().1.starts_with("Version upload failed. You attempted to upload a version of a Worker that includes a Durable Object migration, but migrations must be fully applied via a non-versioned deployment."));
    // Bindings to the classes there are do go with one.
    let metadata = json!({ "main_module": "w.wasm", "bindings": [object("R", "Room", None)], "migrations": null });
    node.upload("POST", "/hello/versions", &metadata, &[wasm("w.wasm", "objects")]).await.result();
}

#[tokio::test]
async fn others_that_bind_a_class_are_told_and_keep_it_from_going() {
    let node = Node::start().await;
    put(&node, "chat", json!({ "migrations": first(&["Room", "Log"]) })).await.result();
    let front = node.deploy("front", "one", json!([object("R", "Room", Some("chat"))])).await;
    let references = node.get("/chat/references").await.result();
    assert_eq!(references["services"]["incoming"], json!([]));
    let told = &references["durable_objects"];
    assert_eq!(told.as_array().unwrap().len(), 1);
    assert_eq!(
        (&told[0]["service"], &told[0]["durable_object_namespace_name"]),
        (&json!("front"), &json!("chat_Room"))
    );
    let namespaces = node.get(NAMESPACES).await.result();
    assert_eq!(told[0]["durable_object_namespace_id"], namespaces[1]["id"]);

    let reply = put(&node, "chat", json!({ "migrations": next(json!({ "deleted_classes": ["Room"] })) })).await;
    assert!(reply.code() == 10086 && reply.fault().1.contains("worker `front`"), "{reply:?}");
    let service = "/client/v4/accounts/local/workers/services/chat";
    let reply = node.call("DELETE", service, &[], b"").await;
    assert!(reply.code() == 95005 && reply.fault().1.contains("bound by front"), "{reply:?}");
    assert!(node.catalog.doomed_namespaces().is_empty());
    node.call("DELETE", &format!("{service}?force=true"), &[], b"").await.result();
    assert_eq!(node.catalog.doomed_namespaces().len(), 2);
    assert_eq!(node.get(NAMESPACES).await.result(), json!([]));
    let reply = node
        .send("POST", "/front/deployments", &json!({ "versions": [{ "version_id": front, "percentage": 100 }] }))
        .await;
    assert!(
        reply.code() == 10210 && reply.fault().1.contains("class `Room` of worker `chat`, which is gone"),
        "{reply:?}"
    );
}

#[tokio::test]
async fn a_rollback_past_a_migration_is_refused() {
    let node = Node::start().await;
    let old = node.deploy("hello", "one", json!([])).await;
    put(&node, "hello", json!({ "migrations": first(&["Room"]) })).await.result();
    let back = json!({ "versions": [{ "version_id": old, "percentage": 100 }] });
    for query in ["", "?force=true", "?dry_run=true"] {
        let reply = node.send("POST", &format!("/hello/deployments{query}"), &back).await;
        assert!(reply.code() == 10210 && reply.fault().1.contains("the migration `v1`"), "{reply:?}");
    }
    let secret = json!({ "name": "S", "text": HUSH, "type": "secret_text" });
    node.send("PUT", "/hello/secrets", &secret).await.result();
}

#[tokio::test]
async fn when_code_is_updated_is_said_with_a_deployment_and_shown() {
    let node = Node::start().await;
    let strategy = async |node: &Node| {
        node.get("/hello/deployments").await.result()["deployments"][0]["code_update_strategy"].clone()
    };
    let deferred = json!({ "mode": "deferred", "max_delay": 30 });
    let id = put(&node, "hello", json!({ "code_update_strategy": deferred })).await.result()["deployment_id"].clone();
    assert_eq!(strategy(&node).await, deferred);
    put(&node, "hello", json!({})).await.result();
    assert_eq!(strategy(&node).await, json!({ "mode": "immediate" }));
    let deploy = async |strategy: Value| {
        let versions = json!([{ "version_id": id, "percentage": 100 }]);
        node.send("POST", "/hello/deployments", &json!({ "versions": versions, "code_update_strategy": strategy }))
            .await
    };
    assert_eq!(deploy(deferred.clone()).await.result()["code_update_strategy"], deferred);
    let reply = deploy(json!({ "mode": "deferred" })).await;
    assert_eq!(reply.result()["code_update_strategy"], json!({ "mode": "deferred", "max_delay": 300 }));
    for wrong in [json!({ "mode": "immediate", "max_delay": 1 }), json!({ "mode": "deferred", "max_delay": 86_401 })] {
        assert_eq!(deploy(wrong.clone()).await.code(), 10210);
        assert_eq!(put(&node, "hello", json!({ "code_update_strategy": wrong })).await.code(), 10021);
    }
    for wrong in [json!({ "mode": "later" }), json!({ "max_delay": 1 }), json!({ "mode": "deferred", "max_delay": -1 })]
    {
        assert!(!deploy(wrong.clone()).await.status.is_success(), "{wrong}");
        assert_eq!(put(&node, "hello", json!({ "code_update_strategy": wrong })).await.code(), 10021);
    }
}
