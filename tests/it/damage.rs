//! Folders that are not as they should be: in use, not writable, full, damaged. Each is said plainly, and nothing that was
//! acknowledged is lost by it.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::harness::node::refused_to_start;
use crate::harness::{Node, Upload, example, test_guest, until};

/// A file system in memory, gone when this is dropped.
struct Mount(tempfile::TempDir);

impl Mount {
    /// None where one may not mount.
    fn new(options: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(folder.path()).output();
        if mount.is_ok_and(|output| output.status.success()) {
            return Some(Self(folder));
        }
        println!("skipped: only root can mount a file system for this test");
        None
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: a node that a failing test left behind may still be there.
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

/// The files of a node's artifact folder that end so.
fn artifacts(folder: &Path, suffix: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder.join("artifacts")).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.to_string_lossy().ends_with(suffix)).collect()
}

#[test]
fn a_second_node_on_the_same_folder_is_refused_and_the_first_goes_on() {
    let node = Node::start();
    node.deploy_module("hello", &example("hello"), Upload::default());
    let token = std::fs::read_to_string(node.dir().join("token")).unwrap();
    let (code, text) = refused_to_start(node.dir(), &[]);
    assert_eq!(code, Some(1));
    assert!(text.contains("in use") && text.contains(&node.dir().display().to_string()), "{text}");
    assert_eq!(std::fs::read_to_string(node.dir().join("token")).unwrap(), token);
    assert_eq!(node.get("hello", "/").status, 200);
}

#[test]
fn a_port_that_is_taken_is_said_to_be() {
    let node = Node::start();
    let folder = tempfile::tempdir().unwrap();
    let taken = node.data.to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_sluice"))
        .args(["serve", "--control-listen", "127.0.0.1:0", "--listen", &taken, "--data-dir"])
        .arg(folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains(&format!("cannot listen on {taken}")), "{text}");
}

#[test]
fn a_folder_that_cannot_be_written_is_said_to_be() {
    let parent = tempfile::tempdir().unwrap();
    let file = parent.path().join("file");
    std::fs::write(&file, "not a folder").unwrap();
    let (code, text) = refused_to_start(&file, &[]);
    assert_eq!(code, Some(1));
    assert!(text.contains("cannot make the data folder") && text.contains("file"), "{text}");

    let Some(mount) = Mount::new("ro,size=1m") else { return };
    let (code, text) = refused_to_start(mount.path(), &[]);
    assert_eq!(code, Some(1));
    assert!(text.contains("Read-only file system"), "{text}");
}

#[test]
fn a_disk_that_is_full_is_said_to_be_and_loses_nothing() {
    let Some(mount) = Mount::new("size=4m") else { return };
    let mut node = Node::over(mount.path(), &[]);
    let module = example("version-teller");
    let mut stored = vec![node.deploy_module("w", &module, Upload::var("GREETING", "first"))];
    let filler = mount.path().join("filler");
    let fill = || {
        // To the last byte: what is left after a page that does not fit is too little for anything.
        let _ = Command::new("dd").args(["if=/dev/zero", "bs=4096", &format!("of={}", filler.display())]).output();
    };
    fill();
    let path = "/scripts/w/versions";
    let refused = until("an upload is refused", || {
        let reply = node.upload("POST", path, &module, Upload::var("GREETING", "x"));
        if reply["success"] == true {
            stored.push(crate::harness::Version { id: reply["result"]["id"].as_str()?.to_owned(), json: Value::Null });
            return None;
        }
        Some(reply)
    });
    assert_eq!(refused["errors"][0]["code"], 95008, "{refused:#}");
    assert!(refused["errors"][0]["message"].as_str().unwrap().contains("the disk is full"), "{refused:#}");
    let secret = serde_json::json!({ "name": "S", "text": "x".repeat(4000), "type": "secret_text" });
    let secrets = (0..200).map(|_| node.api_raw("PUT", "/scripts/w/secrets", &secret));
    let codes: Vec<Value> =
        secrets.filter(|reply| reply["success"] == false).map(|reply| reply["errors"][0]["code"].clone()).collect();
    assert!(codes.iter().all(|code| [10215, 95008].contains(&code.as_i64().unwrap())), "{codes:?}");
    // Requests are answered all the same, and so they are after a start on the full disk.
    assert_eq!(node.get("w", "/").text().split(' ').next(), Some("first"));
    let present = |node: &Node| {
        let list = node.api("GET", "/scripts/w/versions?per_page=1000", &Value::Null);
        let ids: Vec<&str> = list["items"].as_array().unwrap().iter().filter_map(|item| item["id"].as_str()).collect();
        stored.iter().all(|version| ids.contains(&version.id.as_str()))
    };
    assert!(present(&node));
    std::fs::remove_file(&filler).unwrap();
    node = node.kill_and_restart();
    assert!(present(&node));
    // With room again it takes changes again.
    let version = node.upload_version("w", &module, Upload::var("GREETING", "later"));
    assert_eq!(node.get(&format!("{}-w.localhost", &version.id[..8]), "/").text().split(' ').next(), Some("later"));
}

#[test]
fn a_disk_that_had_no_room_for_a_while_takes_changes_again_without_a_restart() {
    let Some(mount) = Mount::new("size=4m") else { return };
    let node = Node::over(mount.path(), &[]);
    let module = example("version-teller");
    node.deploy_module("w", &module, Upload::var("GREETING", "first"));
    let filler = mount.path().join("filler");
    let _ = Command::new("dd").args(["if=/dev/zero", "bs=4096", &format!("of={}", filler.display())]).output();
    until("an upload is refused", || {
        (node.upload("POST", "/scripts/w/versions", &module, Upload::default())["success"] == false).then_some(())
    });
    std::fs::remove_file(&filler).unwrap();
    let version = node.upload_version("w", &module, Upload::var("GREETING", "later"));
    node.split("w", &[(&version, 100.0)]);
    assert_eq!(node.get("w", "/").text().split(' ').next(), Some("later"));
}

#[test]
fn an_object_whose_write_found_no_room_is_reset_and_its_answer_is_never_seen() {
    let Some(mount) = Mount::new("size=8m") else { return };
    let node = Node::over(mount.path(), &[]);
    node.deploy_module("w", &test_guest("ledger"), crate::objects::ledger_upload());
    assert_eq!(node.get("w", "/a/put?k=n&v=kept").status, 200);
    let filler = mount.path().join("filler");
    let _ = Command::new("dd").args(["if=/dev/zero", "bs=4096", &format!("of={}", filler.display())]).output();
    let refused = until("a write is refused", || {
        let reply = node.get("w", "/a/put?k=n&size=4000");
        (reply.status != 200).then_some(reply)
    });
    let error = crate::objects::error_of(&refused);
    // Callers are not told the names of the node's files; its log has them.
    let message = "Durable Object storage operation failed, which caused the object to be reset.";
    assert_eq!(error["message"], message);
    assert!(node.log().contains("is full"), "{}", node.log());
    assert_eq!((&error["reset"], &error["remote"]), (&serde_json::json!(true), &serde_json::json!(false)));
    // Reading goes on, in an instance that knows only what is stored.
    assert_eq!(node.get("w", "/a/count").text().trim(), "1");
    std::fs::remove_file(&filler).unwrap();
    assert_eq!(node.get("w", "/a/put?k=n&v=later").status, 200);
    assert_eq!(node.get("w", "/a/get?k=n").text().trim(), "later");
}

#[test]
fn damaged_artefacts_are_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut node = Node::over(folder.path(), &[]);
    node.deploy_module("hello", &example("hello"), Upload::default());
    type Damage = fn(&Path, &Path);
    let damages: [(&str, Damage); 5] = [
        ("a flipped byte", |code, _| {
            let mut bytes = std::fs::read(code).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(code, bytes).unwrap();
        }),
        ("half of it", |code, _| {
            let bytes = std::fs::read(code).unwrap();
            std::fs::write(code, &bytes[..bytes.len() / 2]).unwrap();
        }),
        ("nothing", |code, _| std::fs::write(code, b"").unwrap()),
        ("no seal", |_, seal| std::fs::remove_file(seal).unwrap()),
        // Sealed, but no code of this wasmtime.
        ("something else", |code, seal| {
            std::fs::write(code, b"not code").unwrap();
            std::fs::write(seal, format!("8 {:08x}\n", crc32(b"not code"))).unwrap();
        }),
    ];
    for (what, damage) in damages {
        node.kill();
        let (codes, seals) = (artifacts(folder.path(), ".cwasm"), artifacts(folder.path(), ".seal"));
        assert_eq!((codes.len(), seals.len()), (1, 1), "{what}");
        damage(&codes[0], &seals[0]);
        node = Node::over(folder.path(), &[]);
        assert_eq!(node.get("hello", "/").text(), "Hello, World!\n", "{what}");
        assert!(std::fs::metadata(&codes[0]).unwrap().len() > 1000 && seals[0].exists(), "{what} was not made again");
    }
}

/// CRC-32 as of IEEE 802.3, bit by bit: what a seal holds.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg()))
    })
}

#[test]
fn artefacts_that_are_gone_are_made_again_also_while_the_node_runs() {
    let folder = tempfile::tempdir().unwrap();
    let mut node = Node::over(folder.path(), &[]);
    node.deploy_module("hello", &example("hello"), Upload::default());
    std::fs::remove_dir_all(folder.path().join("artifacts")).unwrap();
    // A cache that cannot be written costs time, and nothing else.
    node.deploy_module("w", &example("hello-async"), Upload::default());
    assert_eq!((node.get("hello", "/").status, node.get("w", "/").status), (200, 200));
    node.kill();
    let node = Node::over(folder.path(), &[]);
    assert_eq!((node.get("hello", "/").status, node.get("w", "/").status), (200, 200));
    assert_eq!(artifacts(folder.path(), ".cwasm").len(), 2);
}

#[test]
fn a_module_that_is_gone_is_missed_by_its_own_versions_only() {
    let folder = tempfile::tempdir().unwrap();
    let mut node = Node::over(folder.path(), &[]);
    node.deploy_module("hello", &example("hello"), Upload::default());
    let version = node.deploy_module("gone", &example("hello-async"), Upload::default());
    let path = format!("/scripts/gone/versions/{}", version.id);
    let digest = node.api("GET", &path, &Value::Null)["resources"]["script"]["etag"].as_str().unwrap().to_owned();
    node.kill();
    std::fs::remove_file(folder.path().join(format!("modules/{digest}.wasm"))).unwrap();
    std::fs::remove_dir_all(folder.path().join("artifacts")).unwrap();
    let node = Node::over(folder.path(), &[]);
    assert!(node.log().contains("a module is missing"), "{}", node.log());
    assert_eq!(node.get("hello", "/").status, 200);
    let reply = node.get("gone", "/");
    assert_eq!(reply.status, 500);
    assert!(reply.text().contains("the version could not be made ready: cannot read the module"), "{}", reply.text());
    // Uploaded once more, it is there for the older version as well: they share their bytes.
    node.deploy_module("gone", &example("hello-async"), Upload::default());
    assert_eq!(node.get("gone", "/").status, 200);
    assert_eq!(node.get(&format!("{}-gone.localhost", &version.id[..8]), "/").status, 200);
}

#[test]
fn a_store_that_is_none_and_a_key_that_is_gone_are_said_to_be() {
    let folder = tempfile::tempdir().unwrap();
    let mut node = Node::over(folder.path(), &[]);
    node.deploy_module("hello", &example("hello"), Upload::default());
    assert_eq!(node.terminate(), Some(0));
    let key = folder.path().join("secrets.key");
    let bytes = std::fs::read(&key).unwrap();
    std::fs::remove_file(&key).unwrap();
    let (code, text) = refused_to_start(folder.path(), &[]);
    assert!(code == Some(1) && text.contains("secrets.key") && text.contains("is missing"), "{text}");
    // Nothing was made up in its place.
    assert!(!key.exists());
    std::fs::write(&key, bytes).unwrap();
    drop(Node::over(folder.path(), &[]));

    std::fs::write(folder.path().join("sluice.db"), "this is no database".repeat(100)).unwrap();
    let (code, text) = refused_to_start(folder.path(), &[]);
    assert!(code == Some(1) && text.contains("sluice.db"), "{text}");
    assert_eq!(std::fs::read(folder.path().join("sluice.db")).unwrap(), "this is no database".repeat(100).as_bytes());
}
