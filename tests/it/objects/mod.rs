//! Durable Objects through the doors: probes that do as they are told (`ledger` of WASI 0.3, `ledger-p2` of 0.2), and the
//! examples that use them.

mod alarms;
mod examples;
mod gates;
mod identity;
mod life;
mod reentry;
mod storage;
mod streams;

use serde_json::{Value, json};

pub use crate::harness::at_once;
use crate::harness::http::Reply;
use crate::harness::{Node, Upload, test_guest};

/// A node with a worker `w`, the probe, and its objects of the class `Ledger`.
pub struct Ledger {
    pub node: Node,
}

/// The upload of a probe: the class `Ledger`, bound by the name that the probe looks for.
pub fn ledger_upload() -> Upload {
    classes(&["Ledger"])
}

/// The upload of a worker with these classes, the first bound as `LEDGER`, each of the others by its name in capitals.
pub fn classes(names: &[&str]) -> Upload {
    let mut bindings = vec![json!({ "name": "CF_VERSION_METADATA", "type": "version_metadata" })];
    for (index, class) in names.iter().enumerate() {
        let binding = if index == 0 { "LEDGER".to_owned() } else { class.to_uppercase() };
        bindings.push(json!({ "name": binding, "type": "durable_object_namespace", "class_name": class }));
    }
    let migrations = json!({ "new_tag": "v1", "steps": [{ "new_sqlite_classes": names }] });
    Upload::bindings(json!(bindings)).with("migrations", migrations)
}

/// The same of a version after the first: the classes are there.
pub fn again() -> Upload {
    let binding = json!({ "name": "LEDGER", "type": "durable_object_namespace", "class_name": "Ledger" });
    Upload::bindings(json!([{ "name": "CF_VERSION_METADATA", "type": "version_metadata" }, binding]))
}

/// The upload of a worker whose `LEDGER` is the class of another.
pub fn borrowing(owner: &str) -> Upload {
    Upload::bindings(json!([
        { "name": "CF_VERSION_METADATA", "type": "version_metadata" },
        { "name": "LEDGER", "type": "durable_object_namespace", "class_name": "Ledger", "script_name": owner },
    ]))
}

impl Ledger {
    /// The probe of WASI 0.3.
    pub fn start() -> Self {
        Self::with(&[], ledger_upload())
    }

    /// The same with arguments for `serve`, and an upload of the test's own.
    pub fn with(args: &[&str], upload: Upload) -> Self {
        let node = Node::with(args);
        node.deploy_module("w", &test_guest("ledger"), upload);
        Self { node }
    }

    /// The probe of WASI 0.2.
    pub fn of_02() -> Self {
        let node = Node::start();
        node.deploy_module("w", &test_guest("ledger-p2"), ledger_upload());
        Self { node }
    }

    /// What the probe answers to `GET path`.
    pub fn ask(&self, path: &str) -> Reply {
        self.node.get("w", path)
    }

    /// The text of an answer that says that all is well, without the end of its last line.
    pub fn tell(&self, path: &str) -> String {
        let reply = self.ask(path);
        assert!(reply.status == 200 && reply.whole, "{path}: {reply:?}");
        reply.text().trim_end().to_owned()
    }

    /// What is under a key of an object, if something is.
    pub fn value(&self, object: &str, key: &str) -> Option<String> {
        let reply = self.ask(&format!("/{object}/get?k={key}"));
        match reply.status {
            200 => Some(reply.text()),
            404 => None,
            _ => panic!("{object} {key}: {reply:?}"),
        }
    }

    /// The error of a call that has no answer: see [`error_of`].
    pub fn error(&self, path: &str) -> Value {
        error_of(&self.ask(path))
    }

    /// Has an object leave memory; false if it was not there.
    pub fn reset(&self, object: &str) -> bool {
        let path = format!("/scripts/w/objects/Ledger/{object}/reset?by=name");
        self.node.api("POST", &path, &Value::Null)["was_live"].as_bool().expect("a boolean")
    }

    /// What the API knows of an object.
    pub fn view(&self, object: &str) -> Value {
        self.node.api("GET", &format!("/scripts/w/objects/Ledger/{object}?by=name"), &Value::Null)
    }

    /// The same probe after `kill -9` and a restart.
    pub fn kill_and_restart(self) -> Self {
        Self { node: self.node.kill_and_restart() }
    }
}

/// The error that the probe's worker was given in place of an answer: `message`, and the properties of `DOL-10`.
pub fn error_of(reply: &Reply) -> Value {
    assert_eq!(reply.status, 599, "{reply:?}");
    reply.json()
}

/// `message (property, …)` of an error.
pub fn said(error: &Value) -> String {
    let has: Vec<&str> = ["remote", "retryable", "overloaded", "reset"]
        .into_iter()
        .filter(|property| error[property].as_bool().expect("a boolean"))
        .collect();
    format!("{} ({})", error["message"].as_str().expect("a text"), has.join(", "))
}
