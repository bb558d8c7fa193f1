//! Our command line as a user meets it: a folder with a project, a command, and what it said.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Node, Upload, Version, example};

/// What says where a node is, and what changes how a command prints.
const ENVIRONMENT: [&str; 4] = ["SLUICE_API", "SLUICE_API_TOKEN", "SLUICE_DATA_DIR", "SLUICE_LOG"];

/// A project that is named `w`, with variables of both kinds.
pub const CONFIG: &str = r#"name = "w"
main = "worker.wasm"
compatibility_date = "2026-01-01"
[vars]
GREETING = "Hello"
TREE = { a = [1] }
"#;

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

/// A node with a worker `w` of that many versions, tagged `v1`, `v2`…, the first deployed, and its project.
pub fn stage(count: usize) -> (Node, Folder, Vec<Version>) {
    let node = Node::start();
    let teller = example("version-teller");
    let upload = |number: usize| Upload::default().tagged(&format!("v{number}"));
    let mut all = vec![node.deploy_module("w", &teller, upload(1))];
    all.extend((2..=count).map(|number| node.upload_version("w", &teller, upload(number))));
    (node, Folder::project(CONFIG), all)
}

/// The command with the words of a line in a folder, of which no node is known unless `environment` names one.
pub fn command(folder: &Path, line: &str, environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.args(line.split_whitespace()).current_dir(folder).stdin(Stdio::null());
    for name in ENVIRONMENT {
        command.env_remove(name);
    }
    command.env("NO_COLOR", "1").envs(environment.iter().copied());
    command
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
    /// What the words of a line do in a folder of which no node is known: see [`command`].
    pub fn alone(folder: &Folder, line: &str, environment: &[(&str, &str)]) -> Self {
        Self::of(&command(folder.path(), line, environment).output().expect("the binary starts"))
    }

    /// The whole of it for a snapshot, without what differs from run to run: see [`filtered`].
    pub fn told(&self, folder: &Folder) -> String {
        let part = |name: &str, text: &str| match text {
            "" => String::new(),
            text => format!("{name}:\n{text}"),
        };
        let text = format!("exit {}\n{}{}", self.code, part("stdout", &self.out), part("stderr", &self.err));
        text.replace(&folder.path().display().to_string(), "[folder]")
    }

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

/// What snapshots leave out as long as the guard lives: ids, ports, times, sizes, digests, and the padding of tables that
/// depends on them.
pub fn filtered() -> insta::internals::SettingsBindDropGuard {
    let mut settings = insta::Settings::clone_current();
    for (pattern, replacement) in [
        (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "[id]"),
        (r"\b[0-9a-f]{8}(@| at |-[a-z-]+\.localhost| ) *", "[short]$1"),
        (r"(127\.0\.0\.1|localhost):\d+", "$1:[port]"),
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", "[time]"),
        (r"just now|\d+ s ago", "[ago]"),
        (r"\d+(\.\d+)? (KiB|MiB)", "[size]"),
        (r"\b\d+ ms", "[n] ms"),
        (r"sha256 [0-9a-f]{16}", "sha256 [digest]"),
        (r" {2,}", "  "),
    ] {
        settings.add_filter(pattern, replacement);
    }
    settings.bind_to_scope()
}
