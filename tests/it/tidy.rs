//! House rules that rustc cannot see. They run under `cargo test`, so a laptop and CI agree.

use std::fs;
use std::path::{Path, PathBuf};

/// Ground floor first. A room may import the floors below it: never its own floor, never up.
const FLOORS: &[&[&str]] = &[
    &["domain"],
    &["clock", "project"],
    &["observe", "store"],
    &["kv"],
    &["catalog", "host"],
    &["engine", "rollouts"],
    &["objects"],
    &["dispatch"],
    &["control", "ingress"],
    &["dashboard"],
    &["app"],
    &["cli"],
    &["lib", "main"],
];
/// What `cli` may know of the floors between: the words of the domain, what a project says, and the shapes of the control API.
const CLI_MAY: &[&str] = &["domain", "project", "control::wire", "app"];
const FILE_LINES_MAX: usize = 600;

#[test]
fn rooms_import_downward_only() {
    let mut faults = Vec::new();
    for path in rust_files(Path::new("src")) {
        let text = fs::read_to_string(&path).unwrap();
        let here = path.iter().nth(1).unwrap().to_str().unwrap().trim_end_matches(".rs");
        let mut fault = |what: String| faults.push(format!("{}: {what}", path.display()));
        if !text.starts_with("//!") {
            fault("does not say what it is for".into());
        }
        if text.lines().take_while(|line| *line != "#[cfg(test)]").count() > FILE_LINES_MAX {
            fault(format!("is longer than {FILE_LINES_MAX} lines"));
        }
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        // `crate::{a, b}` and names re-exported at the root yield no room, so they are faults too.
        for import in code.flat_map(|line| line.split("crate::").skip(1)) {
            let end = import.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(import.len());
            let there = &import[..end];
            if there != here && floor(there) >= floor(here) {
                fault(format!("{here} may not import {there:?}"));
            }
            if here == "cli" && there != "cli" && !CLI_MAY.iter().any(|door| import.starts_with(door)) {
                fault(format!("cli may not import {import:?}"));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// A guest that no test names proves nothing.
#[test]
fn every_guest_is_named_by_a_test() {
    let tests: String =
        rust_files(Path::new("tests/it")).iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let manifests = ["tests/guests/p2/Cargo.toml", "tests/guests/p3/Cargo.toml"];
    let names = manifests.iter().flat_map(|path| {
        let text = fs::read_to_string(path).unwrap();
        let named: Vec<String> = text
            .lines()
            .filter_map(|line| line.strip_prefix("name = \""))
            .map(|rest| rest.trim_end_matches('"').to_owned())
            .collect();
        named.into_iter().skip(1).collect::<Vec<_>>()
    });
    let unnamed: Vec<String> = names.filter(|name| !tests.contains(&format!("\"{name}\""))).collect();
    assert!(unnamed.is_empty(), "no test names these guests: {unnamed:?}");
}

fn floor(room: &str) -> usize {
    FLOORS.iter().position(|rooms| rooms.contains(&room)).unwrap_or(usize::MAX)
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    paths
        .flat_map(|path| if path.is_dir() { rust_files(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}
