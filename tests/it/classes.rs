//! Classes of Durable Objects over their life: made, renamed, handed over and deleted by migrations, with the objects' data in
//! them, from the command line and through the API (`MIG-*`, `RBK-6`, `DOI-8`, `DOU-2`, `DOU-3`).

use serde_json::{Value, json};

use crate::harness::{Folder, Node, Upload, example, test_guest};

const NAMESPACES: &str = "/durable_objects/namespaces";

/// A binding of the class that the guest `ledger` talks to.
fn binding(class: &str, script: Option<&str>) -> Value {
    let mut binding = json!({ "name": "LEDGER", "type": "durable_object_namespace", "class_name": class });
    if let Some(script) = script {
        binding["script_name"] = json!(script);
    }
    binding
}

fn bound(class: &str, script: Option<&str>) -> Upload {
    Upload::bindings(json!([binding(class, script)]))
}

/// A migration of one step.
fn migration(old: Option<&str>, new: &str, step: &Value) -> Value {
    let mut migration = json!({ "new_tag": new, "steps": [step] });
    if let Some(old) = old {
        migration["old_tag"] = json!(old);
    }
    migration
}

/// Uploads and deploys the guest with a migration that is taken.
fn migrate(node: &Node, worker: &str, upload: Upload, migration: Value) {
    node.deploy_module(worker, &test_guest("ledger"), upload.with("migrations", migration));
}

/// The code and the message of an upload that is refused.
fn refused(node: &Node, worker: &str, guest: &str, upload: Upload) -> (i64, String) {
    let module = if guest == "hello" { example(guest) } else { test_guest(guest) };
    let reply = node.upload("PUT", &format!("/scripts/{worker}"), &module, upload);
    let error = &reply["errors"][0];
    (error["code"].as_i64().unwrap_or_default(), error["message"].as_str().unwrap_or_default().to_owned())
}

/// What a worker says of an object, with the status if it is not 200.
fn ask(node: &Node, worker: &str, path: &str) -> String {
    let reply = node.get(worker, path);
    let text = reply.text().trim().to_owned();
    if reply.status == 200 { text } else { format!("{} {text}", reply.status) }
}

fn classes(node: &Node) -> Vec<String> {
    let list = node.api("GET", NAMESPACES, &Value::Null);
    let list = list.as_array().expect("a list").clone();
    list.iter().map(|one| format!("{}.{}", one["script"].as_str().unwrap(), one["class"].as_str().unwrap())).collect()
}

#[test]
fn objects_keep_their_data_through_renames_and_transfers() {
    let node = Node::start();
    migrate(&node, "old", bound("Room", None), migration(None, "v1", &json!({ "new_sqlite_classes": ["Room"] })));
    assert_eq!(ask(&node, "old", "/lobby/add?k=n&n=5"), "5");
    let whoami = ask(&node, "old", "/lobby/whoami");
    assert!(whoami.starts_with("Room "), "{whoami}");

    // Another worker is bound to the class by the name that it has now, and goes on while that changes.
    node.deploy_module("front", &test_guest("ledger"), bound("Room", Some("old")));
    assert_eq!(ask(&node, "front", "/lobby/add?k=n&n=1"), "6");
    let step = json!({ "renamed_classes": [{ "from": "Room", "to": "Chat" }] });
    migrate(&node, "old", bound("Chat", None), migration(Some("v1"), "v2", &step));
    assert_eq!(ask(&node, "old", "/lobby/add?k=n&n=1"), "7");
    assert_eq!(ask(&node, "front", "/lobby/add?k=n&n=1"), "8", "forwarded (`MIG-8`)");
    // The object is the same one, and is told the name of its class.
    assert_eq!(ask(&node, "old", "/lobby/whoami"), whoami.replace("Room", "Chat"));

    let step = json!({ "transferred_classes": [{ "from": "Chat", "from_script": "old", "to": "Talk" }] });
    migrate(&node, "new", bound("Talk", None).tagged("of new"), migration(None, "a", &step));
    assert_eq!(classes(&node), ["new.Talk"]);
    for (worker, sum) in [("new", "9"), ("old", "10"), ("front", "11")] {
        assert_eq!(ask(&node, worker, "/lobby/add?k=n&n=1"), sum, "{worker} (`MIG-9`)");
    }
    // What binds it by a name that is past is told the present one at its next upload.
    let (code, message) = refused(&node, "front", "ledger", bound("Room", Some("old")));
    assert!(code == 10061 && message.contains("`Talk` of worker `new` now"), "{code} {message}");
    let node = node.kill_and_restart();
    assert_eq!(ask(&node, "front", "/lobby/add?k=n&n=1"), "12");
    assert_eq!(classes(&node), ["new.Talk"]);
}

#[test]
fn a_deleted_class_takes_its_data_along_and_is_empty_when_it_is_made_again() {
    let node = Node::start();
    let made = |old: Option<&str>, new: &str| migration(old, new, &json!({ "new_sqlite_classes": ["Room"] }));
    migrate(&node, "w", bound("Room", None), made(None, "v1"));
    assert_eq!(ask(&node, "w", "/lobby/add?k=n&n=5"), "5");
    node.deploy_module("front", &test_guest("ledger"), bound("Room", Some("w")));

    let gone = migration(Some("v1"), "v2", &json!({ "deleted_classes": ["Room"] }));
    let (code, message) = refused(&node, "w", "ledger", bound("Room", None).with("migrations", gone.clone()));
    assert!(code == 10086 && message.contains("worker `front`"), "{code} {message}");
    node.deploy_module("front", &example("hello"), Upload::default());
    let (code, message) = refused(&node, "w", "ledger", bound("Room", None).with("migrations", gone.clone()));
    assert!(code == 10086 && message.contains("of this very upload"), "{code} {message}");
    assert_eq!(ask(&node, "w", "/lobby/get?k=n"), "5", "what was refused took nothing away");
    node.deploy_module("w", &example("hello"), Upload::default().with("migrations", gone));
    assert_eq!(classes(&node), Vec::<String>::new());

    let node = node.kill_and_restart();
    migrate(&node, "w", bound("Room", None), made(Some("v2"), "v3"));
    assert!(ask(&node, "w", "/lobby/get?k=n").starts_with("404"));
    assert_eq!(ask(&node, "w", "/lobby/add?k=n&n=1"), "1");
}

#[test]
fn a_component_that_implements_no_objects_cannot_have_classes() {
    let node = Node::start();
    let upload = Upload::default().with("migrations", migration(None, "v1", &json!({ "new_classes": ["Room"] })));
    let (code, message) = refused(&node, "w", "hello", upload);
    assert!(code == 10070 && message.contains("`sluice:worker/durable-object@0.1.0`"), "{code} {message}");
    assert_eq!(node.api_error("GET", "/services/w", &Value::Null).0, 10007, "nothing was made");
    // Either contract will do.
    for guest in ["ledger", "ledger-p2"] {
        let made = migration(None, "v1", &json!({ "new_classes": ["Ledger"] }));
        node.deploy_module(guest, &test_guest(guest), Upload::default().with("migrations", made));
        let (code, _) = refused(&node, guest, "hello", Upload::default());
        assert_eq!(code, 10070, "a version without them, while the class is there");
    }
}

/// A project whose module is the guest `ledger`.
fn project(rest: &str) -> Folder {
    let module = test_guest("ledger");
    Folder::project(&format!(
        "name = \"w\"\nmain = {:?}\ncompatibility_date = \"2026-01-01\"\n{rest}",
        module.display().to_string()
    ))
}

const ROOM: &str = r#"
[[durable_objects.bindings]]
name = "LEDGER"
class_name = "Room"
[[migrations]]
tag = "v1"
new_sqlite_classes = ["Room"]
"#;

fn tag(node: &Node) -> Value {
    node.api("GET", "/services/w", &Value::Null)["default_environment"]["script"]["migration_tag"].clone()
}

#[test]
fn the_command_line_sends_the_migrations_that_the_worker_has_not_had() {
    let node = Node::start();
    let folder = project(ROOM);
    let ran = node.run(&folder, "deploy").done();
    assert!(ran.err.contains("migrating w to the tag `v1`"), "{ran:?}");
    assert_eq!(tag(&node), "v1");
    assert_eq!(ask(&node, "w", "/lobby/add?k=n&n=5"), "5");
    let again = node.run(&folder, "deploy").done();
    assert!(!again.err.contains("migrating"), "{again:?}");
    node.run(&folder, "versions upload").done();

    let renamed = ROOM.replace("class_name = \"Room\"", "class_name = \"Chat\"")
        + "[[migrations]]\ntag = \"v2\"\nrenamed_classes = [{ from = \"Room\", to = \"Chat\" }]\n";
    let folder = project(&renamed);
    let versions = node.versions("w").len();
    let ran = node.run(&folder, "versions upload").failed();
    assert!(
        ran.err.contains(
            "This Worker has a pending Durable Object migration, which cannot be applied by `sluice versions upload`"
        ),
        "{ran:?}"
    );
    assert!(ran.err.contains("Run `sluice deploy` to apply the migration"), "{ran:?}");
    assert_eq!(node.versions("w").len(), versions, "nothing was uploaded (`MIG-5`)");
    node.run(&folder, "deploy").done();
    assert_eq!((tag(&node), ask(&node, "w", "/lobby/get?k=n").as_str()), (json!("v2"), "5"));

    // What is past the migration stays there (`RBK-6`); a migration that is not in the file is warned of (`MIG-3`).
    let ran = node.run(&folder, "rollback").failed();
    assert!(ran.err.contains("older than the migration `v2`") && ran.err.contains("[code: 10210]"), "{ran:?}");
    let other = project(&ROOM.replace("\"v1\"", "\"w1\"").replace("\"Room\"", "\"Chat\""));
    let ran = node.run(&other, "deploy").failed();
    assert!(ran.err.contains("`w` has the migration tag `v2`, which is not in the file"), "{ran:?}");
    assert!(ran.err.contains("the class `Chat` exists already") && ran.err.contains("[code: 10074]"), "{ran:?}");
}

#[test]
fn a_worker_that_does_not_exist_is_migrated_by_its_first_deploy_in_its_environment() {
    let node = Node::start();
    let folder = project(&format!(
        "{ROOM}[env.staging]\n[env.staging.durable_objects]\nbindings = [{{ name = \"LEDGER\", class_name = \"Room\" }}]\n"
    ));
    node.run(&folder, "deploy --env staging").done();
    assert_eq!(classes(&node), ["w-staging.Room"]);
    node.run(&folder, "deploy").done();
    assert_eq!(classes(&node), ["w.Room", "w-staging.Room"]);
    assert_eq!(ask(&node, "w", "/lobby/add?k=n&n=5"), "5");
    assert_eq!(ask(&node, "w-staging", "/lobby/add?k=n&n=1"), "1", "an environment has objects of its own (`DOI-1`)");
    let ran = node.run(&folder, "delete w").done();
    assert!(ran.out.contains("Deleted w"), "{ran:?}");
    assert_eq!(classes(&node), ["w-staging.Room"]);
}

#[test]
fn when_running_objects_get_new_code_is_typed_or_stands_in_the_file() {
    let node = Node::start();
    let folder = project(ROOM);
    let strategy = || node.deployments("w")[0]["code_update_strategy"].clone();
    // With a migration, and without one: two ways to the same record.
    for _ in 0..2 {
        node.run(&folder, "deploy --durable-objects-code-update-mode deferred 30s").done();
        assert_eq!(strategy(), json!({ "mode": "deferred", "max_delay": 30 }));
    }
    node.run(&folder, "deploy").done();
    assert_eq!(strategy(), json!({ "mode": "immediate" }));
    node.run(&folder, "versions deploy --durable-objects-code-update-mode deferred 3@100").done();
    assert_eq!(strategy(), json!({ "mode": "deferred", "max_delay": 300 }));

    let folder =
        project(&format!("{ROOM}[durable_objects.code_update_strategy]\nmode = \"deferred\"\nmax_delay = 60\n"));
    for line in ["deploy", "versions deploy 4@100", "rollback 3"] {
        node.run(&folder, line).done();
        assert_eq!(strategy(), json!({ "mode": "deferred", "max_delay": 60 }), "{line}");
    }
    node.run(&folder, "rollback 4 --durable-objects-code-update-mode immediate").done();
    assert_eq!(strategy(), json!({ "mode": "immediate" }));

    let ran = node.run(&folder, "deploy --durable-objects-code-update-mode deferred 2d");
    assert!(ran.code == 2 && ran.err.contains("`2d` is no delay from 0 seconds to 24 hours"), "{ran:?}");
    let wrong =
        project(&format!("{ROOM}[durable_objects.code_update_strategy]\nmode = \"immediate\"\nmax_delay = 60\n"));
    for line in ["deploy", "rollback 3"] {
        let ran = node.run(&wrong, line).failed();
        assert!(ran.err.contains("`durable_objects.code_update_strategy.max_delay` is for `deferred`"), "{ran:?}");
    }
}
