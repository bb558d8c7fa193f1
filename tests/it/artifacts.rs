//! Compiled code on disk: taken from a component that differs in its script only, and never more of it than the limit.

use std::path::{Path, PathBuf};

use crate::harness::{Node, Upload, example, until};

/// The files of a node's artifact folder.
fn files(node: &Node) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(node.dir().join("artifacts")).unwrap();
    // One that is being renamed is there under another name.
    entries.filter_map(Result::ok).map(|entry| entry.path()).collect()
}

fn bytes(node: &Node) -> u64 {
    files(node).iter().filter_map(|file| std::fs::metadata(file).ok()).map(|metadata| metadata.len()).sum()
}

/// The same guest with bytes of its own: a custom section tells them apart.
fn distinct(name: &str, number: u8) -> Vec<u8> {
    let mut module = std::fs::read(example(name)).unwrap();
    module.extend([0x00, 0x03, 0x01, b'n', number]);
    module
}

#[test]
fn a_script_that_changed_is_deployed_without_compiling() {
    let artefact = example("hello-js");
    if !artefact.exists() {
        println!("skipped: hello-js is not built; `guest-examples/build.sh hello-js` does it where npm is");
        return;
    }
    let kept = Node::with_artifacts_kept(&[]);
    kept.deploy_module("hello", &artefact, Upload::default());
    // A node that has compiled the one script and has never seen the other, also where an earlier run of this test has.
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("artifacts")).unwrap();
    let digest = digest_of(&kept, "hello");
    for file in files(&kept).iter().filter(|file| is_of(file, &digest)) {
        std::fs::copy(file, folder.path().join("artifacts").join(file.file_name().unwrap())).unwrap();
    }
    drop(kept);

    let mut module = std::fs::read(&artefact).unwrap();
    let (old, new) = (b"Hello, World!", b"Hello, Moon!!");
    let places: Vec<usize> = module.windows(old.len()).enumerate().filter(|(_, at)| at == old).map(|it| it.0).collect();
    assert!(!places.is_empty(), "the script's text is in the component");
    for at in places {
        module[at..at + new.len()].copy_from_slice(new);
    }
    let mut node = Node::over(folder.path(), &[]);
    let reply = node.upload_bytes("PUT", "/scripts/hello", "worker.wasm", &module, Upload::default());
    assert_eq!(reply["success"], true, "{reply:#}");
    assert!(node.log().contains("took the code of a component that differs in its data only"), "{}", node.log());
    assert_eq!(node.get("hello", "/").text(), "Hello, Moon!!\n");
    // What was made of the other stands by itself.
    node.kill();
    for file in files(&node).iter().filter(|file| is_of(file, &digest)) {
        std::fs::remove_file(file).unwrap();
    }
    let node = Node::over(folder.path(), &[]);
    assert_eq!(node.get("hello", "/").text(), "Hello, Moon!!\n");
}

fn digest_of(node: &Node, worker: &str) -> String {
    let versions = node.api("GET", &format!("/scripts/{worker}/versions"), &serde_json::Value::Null);
    let id = versions["items"][0]["id"].as_str().unwrap();
    let version = node.api("GET", &format!("/scripts/{worker}/versions/{id}"), &serde_json::Value::Null);
    version["resources"]["script"]["etag"].as_str().unwrap().to_owned()
}

/// Whether a file is the code of a module, or a note of it.
fn is_of(file: &Path, digest: &str) -> bool {
    let named = file.file_name().unwrap().to_string_lossy().starts_with(digest);
    let is_note = file.extension().is_some_and(|it| it == "note");
    named || is_note && std::fs::read_to_string(file).unwrap().contains(digest)
}

#[test]
fn compiled_code_keeps_within_its_limit_and_comes_back_when_it_is_needed() {
    const LIMIT: u64 = 1024 * 1024;
    let folder = tempfile::tempdir().unwrap();
    let mut node = Node::over(folder.path(), &["--artifact-cache", "1MiB"]);
    node.deploy_module("deployed", &example("hello"), Upload::default());
    let digest = digest_of(&node, "deployed");
    let one = bytes(&node);
    let count = u8::try_from(LIMIT / one + 3).unwrap();
    let versions: Vec<String> = (0..count)
        .map(|number| {
            let module = distinct("hello", number);
            let method = if number == 0 { ("PUT", "/scripts/w") } else { ("POST", "/scripts/w/versions") };
            let reply = node.upload_bytes(method.0, method.1, "worker.wasm", &module, Upload::default());
            assert_eq!(reply["success"], true, "{reply:#}");
            let id = if number == 0 { &reply["result"]["deployment_id"] } else { &reply["result"]["id"] };
            id.as_str().unwrap().to_owned()
        })
        .collect();
    until("room is made", || (bytes(&node) <= LIMIT).then_some(()));
    assert!(bytes(&node) > LIMIT / 2, "no more goes than has to");
    assert!(files(&node).iter().any(|file| is_of(file, &digest)), "what is deployed goes last, however old it is");
    // What is gone is compiled again (V2), now and after a restart.
    let all_answer = |node: &Node| {
        for id in &versions {
            assert_eq!(node.get(&format!("{}-w.localhost", &id[..8]), "/").text(), "Hello, World!\n");
        }
        assert_eq!(node.get("deployed", "/").text(), "Hello, World!\n");
    };
    all_answer(&node);
    until("room is made again", || (bytes(&node) <= LIMIT).then_some(()));
    node.kill();
    let node = Node::over(folder.path(), &["--artifact-cache", "1MiB"]);
    all_answer(&node);
    until("room is made once more", || (bytes(&node) <= LIMIT).then_some(()));
    // More is deployed than fits: the limit holds all the same, and the log says what to do.
    let node = Node::with(&["--artifact-cache", "300KiB"]);
    for number in 0..8 {
        let module = distinct("hello", number);
        let path = format!("/scripts/w{number}");
        assert_eq!(node.upload_bytes("PUT", &path, "worker.wasm", &module, Upload::default())["success"], true);
    }
    until("room is made", || (bytes(&node) <= 300 * 1024).then_some(()));
    until("a warning", || node.log().contains("raise `--artifact-cache`").then_some(()));
    for number in 0..8 {
        assert_eq!(node.get(&format!("w{number}"), "/").status, 200);
    }
}
