//! Whole projects, from nothing to an answer: `init`, its own `build.sh`, `deploy`; `dev` with its changes and its end; `demo`;
//! and the files that may describe a project.

use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::json;

use crate::harness::cli::{CONFIG, command};
use crate::harness::http::{self, Reply};
use crate::harness::{Folder, Node, Ran, example, until};

/// A running `sluice dev`.
struct Dev {
    child: Child,
    told: Arc<Mutex<String>>,
    data: SocketAddr,
}

impl Dev {
    /// Starts it in a folder, on free ports, and waits until its first round is over.
    fn start(folder: &Folder) -> Self {
        let mut child = command(folder.path(), "dev --port 0 --control-port 0", &[])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let told = Arc::new(Mutex::new(String::new()));
        let (mut stderr, kept) = (child.stderr.take().expect("piped"), Arc::clone(&told));
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = stderr.read(&mut buffer) {
                kept.lock().expect("no panic").push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        });
        let data = until("the address of `dev`", || {
            let told = told.lock().expect("no panic");
            let (_, rest) = told.split_once("answers at http://")?;
            rest.split_once(' ').map(|(address, _)| address.parse().expect("an address"))
        });
        let dev = Self { child, told, data };
        until("the first round of `dev`", || {
            let told = dev.told();
            (told.contains(" is live (") || told.contains("waiting for the next change")).then_some(())
        });
        dev
    }

    fn told(&self) -> String {
        self.told.lock().expect("no panic").clone()
    }

    /// Waits until it has said something that often.
    fn until_told(&self, text: &str, times: usize) {
        until(&format!("`{text}`, {times} times"), || (self.told().matches(text).count() >= times).then_some(()));
    }

    fn get(&self, path: &str) -> Reply {
        http::request(self.data, "GET", path, &[("host", &self.data.to_string())], b"")
    }

    /// Waits for this beginning of an answer.
    fn until_answers(&self, beginning: &str) {
        until(&format!("the answer `{beginning}`"), || self.get("/").text().starts_with(beginning).then_some(()));
    }

    /// As Ctrl-C does; the exit code.
    fn interrupt(mut self) -> Option<i32> {
        let status = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status().expect("kill");
        assert!(status.success());
        self.child.wait().expect("it ends").code()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- what `dev` said ---\n{}", self.told());
        }
    }
}

/// Puts a module where another may be, as builds do: whole or not at all.
fn replace(from: &Path, to: &Path) {
    let beside = to.with_extension("new");
    std::fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
    std::fs::copy(from, &beside).expect("the module");
    std::fs::rename(beside, to).expect("the module");
}

#[test]
fn what_init_makes_builds_by_itself_and_serves() {
    let parent = Path::new(env!("CARGO_TARGET_TMPDIR")).join("init");
    let _ = std::fs::remove_dir_all(parent.join("projects"));
    let node = Node::start();
    // One after the other: both builds write the same artefact of one target folder, so that what they share is built once.
    for wasi in ["0.2", "0.3"] {
        let name = format!("made-{}", wasi.replace('.', "-"));
        let projects = parent.join("projects");
        std::fs::create_dir_all(&projects).expect("a folder");
        let output =
            command(&projects, &format!("init {name} --wasi {wasi}"), &[]).output().expect("the binary starts");
        Ran::of(&output).done();
        let project = projects.join(&name);
        let output = Command::new(project.join("build.sh"))
            .env("CARGO_TARGET_DIR", parent.join("target"))
            .output()
            .expect("the script is executable");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if said.contains("no compiler for WebAssembly") {
            eprintln!("skipped: {said}");
            return;
        }
        assert!(output.status.success(), "{said}");
        assert!(project.join("dist/worker.wasm").is_file());

        let origin = format!("http://{}", node.control);
        let target = parent.join("target").display().to_string();
        let environment =
            [("SLUICE_API", origin.as_str()), ("SLUICE_API_TOKEN", &node.token), ("CARGO_TARGET_DIR", &target)];
        let output = command(&project, "deploy --tag v1", &environment).output().expect("the binary starts");
        let ran = Ran::of(&output).done();
        assert!(!ran.err.contains("warning: `"), "{ran:?}");
        let text = node.get(&name, "/some/path?q").text();
        assert!(text.starts_with(&format!("Hello from {name}, /some/path?q\nversion: {{\"id\":\"")), "{text}");
        assert!(text.contains("\"tag\":\"v1\""), "{text}");
        let version = node.api("GET", &format!("/scripts/{name}/versions"), &json!(null))["items"][0].clone();
        assert_eq!(version["sluice"]["guest"], wasi);
    }
}

#[test]
fn dev_serves_what_the_module_is_now_until_it_is_interrupted() {
    let folder = Folder::new();
    folder.write("wrangler.toml", "name = \"w\"\nmain = \"dist/worker.wasm\"\n[vars]\nGREETING = \"Hello\"\n");
    replace(&example("version-teller"), &folder.at("dist/worker.wasm"));
    let dev = Dev::start(&folder);
    assert!(dev.told().contains("version 1 of w is live"), "{}", dev.told());
    assert!(dev.get("/").text().starts_with("Hello from version"));

    replace(&example("hello"), &folder.at("dist/worker.wasm"));
    dev.until_answers("Hello, World!");
    dev.until_told("version 2 of w is live", 1);
    // The same bytes again are no version.
    replace(&example("hello"), &folder.at("dist/worker.wasm"));
    dev.until_told("nothing to deploy: the same module and configuration", 1);
    // What is no module is refused, and what was live stays.
    folder.write("dist/worker.wasm", "no module");
    dev.until_told("this is not WebAssembly", 1);
    dev.until_told("waiting for the next change", 1);
    assert_eq!(dev.get("/").text(), "Hello, World!\n");
    replace(&example("version-teller"), &folder.at("dist/worker.wasm"));
    dev.until_answers("Hello from version");
    assert_eq!(dev.interrupt(), Some(0));
    // A node ends with its work done: the next one goes on from there.
    let dev = Dev::start(&folder);
    dev.until_told("version 4 of w is live", 1);
    assert_eq!(dev.interrupt(), Some(0));
}

#[test]
fn dev_still_sees_a_folder_that_was_made_anew_and_one_that_the_file_names_later() {
    let folder = Folder::new();
    folder.write("wrangler.toml", "name = \"w\"\nmain = \"build/out/worker.wasm\"\n");
    replace(&example("version-teller"), &folder.at("build/out/worker.wasm"));
    let dev = Dev::start(&folder);
    dev.until_answers("Hello from version");
    for (round, guest, answer) in [(1, "hello", "Hello, World!"), (2, "version-teller", "Hello from version")] {
        std::fs::remove_dir_all(folder.at("build")).expect("the folder");
        dev.until_told("there is no file", round);
        replace(&example(guest), &folder.at("build/out/worker.wasm"));
        dev.until_answers(answer);
    }
    replace(&example("hello"), &folder.at("other/worker.wasm"));
    folder.write("wrangler.toml", "name = \"w\"\nmain = \"other/worker.wasm\"\n");
    dev.until_answers("Hello, World!");
    replace(&example("version-teller"), &folder.at("other/worker.wasm"));
    dev.until_answers("Hello from version");
    assert_eq!(dev.interrupt(), Some(0));
}

#[test]
fn dev_follows_the_file_and_the_local_secrets() {
    let folder = Folder::project(CONFIG);
    let dev = Dev::start(&folder);
    dev.until_answers("Hello from");
    folder.write("wrangler.toml", CONFIG.replace("Hello", "Bonjour"));
    dev.until_answers("Bonjour from");
    folder.write("wrangler.toml", format!("{CONFIG}\n[broken"));
    dev.until_told("waiting for the next change", 1);
    folder.write("wrangler.toml", CONFIG.replace("\"Hello\"", "3").replace("name = \"w\"", "name = 3"));
    dev.until_told("`name` must be a string, found a number", 1);
    dev.until_told("waiting for the next change", 2);
    assert!(dev.get("/").text().starts_with("Bonjour from"));
    folder.write("wrangler.toml", CONFIG);
    dev.until_answers("Hello from");
    folder.write(".dev.vars", "KEY=local\n");
    until("the secret", || dev.get("/env").text().contains("\"KEY\":\"local\"").then_some(()));
    assert!(!dev.told().contains("KEY=local"));
    assert_eq!(dev.interrupt(), Some(0));
}

#[test]
fn dev_builds_on_every_change_and_keeps_the_old_version_when_a_build_fails() {
    let folder = Folder::new();
    let module = |name: &str| example(name).display().to_string();
    // The source names the module that the build makes of it.
    let script = "set -e; read -r from < src/from; mkdir -p dist; cp \"$from\" dist/worker.wasm.new; \
                  mv dist/worker.wasm.new dist/worker.wasm; echo built $from";
    folder.write("build.sh", script);
    folder.write("wrangler.toml", "name = \"w\"\nmain = \"dist/worker.wasm\"\n[build]\ncommand = \"sh build.sh\"\n");
    let source = |file: &str, text: &str| {
        folder.write("source", text);
        std::fs::rename(folder.at("source"), folder.at("src").join(file)).expect("the source");
    };
    std::fs::create_dir(folder.at("src")).expect("a folder");
    source("from", "/nowhere\n");
    let dev = Dev::start(&folder);
    // Even the first build may fail: nothing is live yet, and it goes on.
    assert!(dev.told().contains("the `[build]` command failed"), "{}", dev.told());
    assert_eq!(dev.get("/").status, 404);

    source("from", &(module("version-teller") + "\n"));
    dev.until_answers("Hello from version");
    source("from", "/nowhere/else\n");
    dev.until_told("the `[build]` command failed: exit status: 1", 2);
    dev.until_told("waiting for the next change", 2);
    assert!(dev.get("/").text().starts_with("Hello from version"));
    source("other", "x");
    dev.until_told("the `[build]` command failed: exit status: 1", 3);
    source("from", &(module("hello") + "\n"));
    dev.until_answers("Hello, World!");
    // What the build writes is no change: every round had its reason.
    assert_eq!(dev.told().matches("changed: ").count(), 4, "{}", dev.told());
    assert_eq!(dev.interrupt(), Some(0));
}

#[test]
fn dev_says_why_it_cannot_start() {
    let folder = Folder::project(CONFIG);
    let node = Node::start();
    let taken = format!("dev --port {} --control-port 0", node.data.port());
    let ran = Ran::alone(&folder, &taken, &[]).failed();
    assert!(ran.err.contains("cannot start the node") && ran.err.contains("is another node running?"), "{ran:?}");
    folder.write("wrangler.toml", "name = 3");
    let ran = Ran::alone(&folder, "dev --port 0 --control-port 0", &[]).failed();
    assert!(ran.err.contains("`name` must be a string"), "{ran:?}");
    folder.write("wrangler.toml", CONFIG);
    assert_eq!(Ran::alone(&folder, "dev --port 0 --control-port 0 --ip nowhere", &[]).code, 2);
}

#[test]
fn the_demo_shows_each_step_and_leaves_nothing_behind() {
    // What it needs is built, by whoever is first.
    example("version-teller");
    let folder = Folder::new();
    let scratch = folder.path().display().to_string();
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let output =
        command(&root, "demo --exit --requests 300", &[("TMPDIR", &scratch)]).output().expect("the binary starts");
    let ran = Ran::of(&output).done();
    let mut rest = ran.err.as_str();
    for heading in [
        "1. The example workers",
        "2. A node on free ports",
        "3. Two versions of version-teller",
        "4. A gradual deployment",
        "5. An override: one request to the new version, whatever the split says",
        "6. A sticky key: the same user always gets the same version",
        "7. A rollback",
        "8. Durable Objects: each runs one version at a time, and is reset when its version changes",
    ] {
        let found = rest.split_once(heading);
        rest = found.unwrap_or_else(|| panic!("`{heading}` is not in its place: {ran:#?}")).1;
    }
    for part in ["GREETING=Hello", "GREETING=Bonjour", "Asked for", "20%", "80%", "reason: override", "50 requests"] {
        assert!(ran.out.contains(part), "`{part}` is not in: {}", ran.out);
    }
    // The table of Cloudflare's documentation, from what the objects said: each moves at its own step and is reset there.
    let table: Vec<Vec<&str>> = ran
        .out
        .lines()
        .filter(|line| line.trim_start().starts_with("Version "))
        .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
        .collect();
    assert_eq!(
        table,
        [
            vec!["Version A: 100%", "A", "A", "A"],
            vec!["Version B: 20%", "Version A: 80%", "B, reset", "A", "A"],
            vec!["Version B: 50%", "Version A: 50%", "B", "B, reset", "A"],
            vec!["Version B: 100%", "B", "B", "B, reset"],
        ],
        "{}",
        ran.out
    );
    for part in ["as the node counted them: 3", "Each was asked 8 times to count, and stored 8, 8, 8"] {
        assert!(ran.out.contains(part), "`{part}` is not in: {}", ran.out);
    }
    assert!(std::fs::read_dir(folder.path()).expect("the folder").next().is_none());
}

#[test]
fn a_project_is_described_in_any_of_three_languages() {
    let node = Node::start();
    let json = r#"{ "name": "by-json", "main": "worker.wasm", "vars": { "GREETING": "JSON", "N": 1 } }"#;
    let jsonc = "{\n  // Which worker\n  \"name\": \"by-jsonc\", /* and */ \"main\": \"worker.wasm\",\n  \"vars\": { \"GREETING\": \"JSONC\", \"N\": 1, },\n}\n";
    let toml = "name = \"by-toml\"\nmain = \"worker.wasm\"\nvars = { GREETING = \"TOML\", N = 1 }\n";
    for (file, text, worker, greeting) in [
        ("wrangler.json", json, "by-json", "JSON from"),
        ("wrangler.jsonc", jsonc, "by-jsonc", "JSONC from"),
        ("wrangler.toml", toml, "by-toml", "TOML from"),
    ] {
        let folder = Folder::new();
        folder.write(file, text);
        replace(&example("version-teller"), &folder.at("worker.wasm"));
        node.run(&folder, "deploy").done();
        assert!(node.get(worker, "/").text().starts_with(greeting), "{file}");
        assert_eq!(node.get(worker, "/config/N").text(), "1", "{file}");
        node.run(&folder, "versions upload").done();
        node.run(&folder, "versions deploy 2@50 1").done();
        node.run(&folder, "rollback").done();
    }
}
