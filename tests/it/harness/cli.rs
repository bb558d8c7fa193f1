//! Our command line as a user meets it: a folder with a project, a command, and what it said.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Node, example};

/// A folder that goes with the test.
pub struct Folder(TempDir);

/// A command that has ended.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Folder {
    /// An empty folder.
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    /// A project of the teller: this configuration, and the module as `worker.wasm`.
    pub fn project(config: &str) -> Self {
        let folder = Self::new();
        folder.write("wrangler.toml", config);
        std::fs::copy(example("version-teller"), folder.at("worker.wasm")).expect("the module");
        folder
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// A file in it.
    pub fn at(&self, file: &str) -> PathBuf {
        self.path().join(file)
    }

    /// Writes a file in it.
    pub fn write(&self, file: &str, text: impl AsRef<[u8]>) -> &Self {
        let path = self.at(file);
        std::fs::create_dir_all(path.parent().expect("a folder above")).expect("a folder");
        std::fs::write(path, text).expect("a file");
        self
    }
}

impl Node {
    /// Runs the words of a line in a folder.
    pub fn run(&self, folder: &Folder, line: &str) -> Ran {
        self.run_with(folder, line, "")
    }

    /// The same with something on standard input.
    pub fn run_with(&self, folder: &Folder, line: &str, stdin: &str) -> Ran {
        let words: Vec<&str> = line.split_whitespace().collect();
        Ran::of(&self.cli_in(folder.path(), &words, stdin.as_bytes()))
    }
}

impl Ran {
    /// What a command left.
    pub fn of(output: &std::process::Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
        Self { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// Itself, if the command did its work.
    pub fn done(self) -> Self {
        assert_eq!(self.code, 0, "{self:#?}");
        self
    }

    /// Itself, if the work failed.
    pub fn failed(self) -> Self {
        assert_eq!(self.code, 1, "{self:#?}");
        self
    }

    /// What it printed, as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("no JSON ({error}): {self:#?}"))
    }
}
