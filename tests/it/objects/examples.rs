//! The examples that use objects, as their readers run them.

use serde_json::json;

use crate::harness::{Connection, Node, Upload, example, until};

fn upload(objects: &[(&str, &str)]) -> Upload {
    let bound =
        |(name, class): &(&str, &str)| json!({ "name": name, "type": "durable_object_namespace", "class_name": class });
    let mut bindings: Vec<_> = objects.iter().map(bound).collect();
    bindings.push(json!({ "name": "CF_VERSION_METADATA", "type": "version_metadata" }));
    let classes: Vec<&str> = objects.iter().map(|(_, class)| *class).collect();
    Upload::bindings(json!(bindings))
        .with("migrations", json!({ "new_tag": "v1", "steps": [{ "new_sqlite_classes": classes }] }))
}

#[test]
fn the_counter_counts_and_says_which_versions_did_it() {
    let node = Node::start();
    node.deploy_module("counter", &example("counter"), upload(&[("COUNTER", "Counter")]).tagged("v1"));
    let add = |name: &str| node.request("POST", "counter", &format!("/{name}/increment"), &[], b"").text();
    assert_eq!(add("a"), "counter a = 1 (object on v1, worker on v1) (up: 1 calls)\n");
    assert_eq!(add("a"), "counter a = 2 (object on v1, worker on v1) (up: 2 calls)\n");
    assert_eq!(add("b"), "counter b = 1 (object on v1, worker on v1) (up: 1 calls)\n");
    assert_eq!(node.get("counter", "/a").text(), "counter a = 2 (object on v1, worker on v1) (up: 3 calls)\n");
    let node = node.kill_and_restart();
    assert_eq!(node.get("counter", "/a").text(), "counter a = 2 (object on v1, worker on v1) (up: 1 calls)\n");
}

#[test]
fn an_object_in_javascript_counts_as_well() {
    let artefact = example("counter-js");
    if !artefact.exists() {
        println!("skipped: counter-js is not built; `guest-examples/build.sh counter-js` does it where npm is");
        return;
    }
    let node = Node::with_artifacts_kept(&[]);
    node.deploy_module("counter", &artefact, upload(&[("COUNTER", "Counter")]).tagged("v1"));
    let add = |name: &str| node.request("POST", "counter", &format!("/{name}/increment"), &[], b"").text();
    assert_eq!(add("a"), "counter a = 1 (object on v1, worker on v1) (up: 1 calls)\n");
    assert_eq!(add("a"), "counter a = 2 (object on v1, worker on v1) (up: 2 calls)\n");
    assert_eq!(add("b"), "counter b = 1 (object on v1, worker on v1) (up: 1 calls)\n");
    let path = "/scripts/counter/objects/Counter/a/reset?by=name";
    assert_eq!(node.api("POST", path, &json!(null))["was_live"], true);
    assert_eq!(node.get("counter", "/a").text(), "counter a = 2 (object on v1, worker on v1) (up: 1 calls)\n");
}

#[test]
fn those_who_listen_to_a_room_hear_what_is_said_in_it_and_the_lobby_counts() {
    let node = Node::start();
    node.deploy_module("chat", &example("chat-room"), upload(&[("ROOM", "Room"), ("LOBBY", "Lobby")]));
    let say = |room: &str, text: &str| {
        let reply = node.request("POST", "chat", &format!("/{room}/say"), &[], text.as_bytes());
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.text()
    };
    assert_eq!(say("red", "before"), "1\n");
    let listen = |room: &str| {
        let mut connection = Connection::open(node.data);
        assert_eq!(connection.get("chat", &format!("/{room}/listen")).head().status, 200);
        connection
    };
    let hear = |connection: &mut Connection| String::from_utf8(connection.chunk().expect("a line")).unwrap();
    let (mut first, mut second, mut other) = (listen("red"), listen("red"), listen("blue"));
    assert_eq!((hear(&mut first), hear(&mut second)), ("1 before\n".to_owned(), "1 before\n".to_owned()));
    for (number, text) in [(2, "hello"), (3, "again")] {
        assert_eq!(say("red", text), format!("{number}\n"));
        assert_eq!(hear(&mut first), format!("{number} {text}\n"));
        assert_eq!(hear(&mut second), format!("{number} {text}\n"));
    }
    assert_eq!(say("blue", "elsewhere"), "1\n");
    assert_eq!(hear(&mut other), "1 elsewhere\n");
    // One who goes is not missed.
    drop(first);
    assert_eq!(say("red", "more"), "4\n");
    assert_eq!(hear(&mut second), "4 more\n");
    assert_eq!(node.get("chat", "/red").text(), "1 before\n2 hello\n3 again\n4 more\n");
    let lobby = "blue: 1\nred: 4\n5 messages in 2 rooms\n";
    until("the lobby has heard of it", || (node.get("chat", "/lobby").text() == lobby).then_some(()));
    let node = node.kill_and_restart();
    assert_eq!(node.get("chat", "/red").text(), "1 before\n2 hello\n3 again\n4 more\n");
    assert_eq!(node.get("chat", "/lobby").text(), lobby);
}

#[test]
fn the_alarm_clock_rings_and_snoozes() {
    let node = Node::start();
    node.deploy_module("clock", &example("alarm-clock"), upload(&[("CLOCK", "Clock")]));
    let ask = |method: &str, path: &str| node.request(method, "clock", path, &[], b"").text();
    assert_eq!(ask("GET", "/a"), "clock a is off\n");
    let set = ask("POST", "/a/at?in_ms=100&say=tea&snooze=1");
    assert!(set.starts_with("clock a rings in ") && set.ends_with(" ms: tea\n"), "{set}");
    let rung = until("it has rung twice", || {
        let text = ask("GET", "/a");
        (text.matches("ms late: tea").count() == 2).then_some(text)
    });
    assert!(rung.starts_with("clock a is off\n"), "{rung}");
    assert!(ask("POST", "/a/at?in_ms=600000").contains("clock a rings in "));
    assert_eq!(ask("POST", "/a/off"), "off\n");
    assert!(ask("GET", "/a").starts_with("clock a is off\n"));
}
