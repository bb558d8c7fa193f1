//! The dashboard in a real browser: Chromium, driven by Playwright, where both are installed (`.ci/run` does it). Screenshots are kept
//! in `target/screenshots`.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::harness::{Node, Upload, example};

/// Where `npm install --prefix target/playwright playwright-core` has put it.
fn playwright() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/playwright");
    folder.join("node_modules/playwright-core/index.mjs").is_file().then_some(folder)
}

fn chromium() -> Option<PathBuf> {
    let paths = std::env::var_os("PATH")?;
    std::env::split_paths(&paths).map(|folder| folder.join("chromium")).find(|path| path.is_file())
}

#[test]
fn a_person_signs_in_uploads_splits_watches_rolls_out_and_back_and_tails() {
    let (Some(playwright), Some(chromium)) = (playwright(), chromium()) else {
        eprintln!("skipped: there is no Chromium, or no Playwright in target/playwright");
        return;
    };
    let node = Node::start();
    node.deploy_module("teller", &example("version-teller"), Upload::default().tagged("first"));
    node.upload_version("teller", &example("version-teller"), Upload::default().tagged("second"));
    let counter = json!([{ "name": "COUNTER", "type": "durable_object_namespace", "class_name": "Counter" }]);
    let migrations = json!({ "new_tag": "v1", "steps": [{ "new_sqlite_classes": ["Counter"] }] });
    node.deploy_module("counter", &example("counter"), Upload::bindings(counter).with("migrations", migrations));
    let shots = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/screenshots");
    std::fs::create_dir_all(&shots).expect("a folder");
    let given = json!({
        "control": format!("http://{}", node.control),
        "data": node.data.to_string(),
        "token": node.token,
        "module": example("hello"),
        "shots": shots,
    });
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/flows.mjs");
    let ran = Command::new("node").arg(script).arg(playwright).arg(chromium).arg(given.to_string()).output();
    let ran = ran.expect("node runs");
    let (told, why) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{why}\nafter:\n{told}");
    let steps: Vec<&str> = told.lines().collect();
    assert_eq!(
        steps,
        [
            "sign in",
            "upload",
            "a new worker",
            "split",
            "live shares",
            "roll back",
            "start a rollout",
            "watch it step",
            "step it forward by hand",
            "abort it",
            "an object",
            "the history of an object",
            "tail",
            "sign out"
        ],
        "{why}"
    );
}
