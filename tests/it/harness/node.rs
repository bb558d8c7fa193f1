//! A node of the real binary: port 0, a folder of its own, killed when dropped, its log shown when a test fails.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::Receiver;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::http::{self, Reply};
use crate::harness::until;

/// A running node.
pub struct Node {
    child: Child,
    pub data: SocketAddr,
    pub control: SocketAddr,
    pub token: String,
    /// What it prints on standard output after its addresses, line by line.
    pub output: Mutex<Receiver<String>>,
    folder: Folder,
    extra_args: Vec<String>,
    environment: Vec<(String, String)>,
}

enum Folder {
    Own(TempDir),
    Given(PathBuf),
}

/// An upload, described by what matters to a test.
#[derive(Default, Clone)]
pub struct Upload {
    /// More keys of the metadata: `bindings`, `annotations`, `limits`, `sluice`…
    pub metadata: Value,
}

/// A version that the API answered with.
#[derive(Debug, Clone)]
pub struct Version {
    pub id: String,
    pub json: Value,
}

impl Node {
    /// A node with a fresh folder.
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// A node with a fresh folder and more arguments for `serve`, in which `{dir}` is that folder.
    pub fn with(extra_args: &[&str]) -> Self {
        let own = tempfile::tempdir().expect("a temporary folder");
        Self::launch(Folder::Own(own), to_owned(extra_args), Vec::new())
    }

    /// A node with a fresh folder, and these variables in its environment.
    pub fn in_environment(environment: &[(&str, String)], extra_args: &[&str]) -> Self {
        let own = tempfile::tempdir().expect("a temporary folder");
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        Self::launch(Folder::Own(own), to_owned(extra_args), environment)
    }

    /// A node with a fresh folder that writes a record for every request: see [`Node::records`].
    pub fn logging(extra_args: &[&str]) -> Self {
        Self::with(&[&["--request-log", "{dir}/requests.jsonl"], extra_args].concat())
    }

    /// The same, with compiled code in a folder that outlives the test run: for a guest of 10 MiB, which the compiler of a test
    /// build needs half a minute for.
    pub fn with_artifacts_kept(extra_args: &[&str]) -> Self {
        let own = tempfile::tempdir().expect("a temporary folder");
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled");
        std::fs::create_dir_all(&kept).expect("a folder");
        std::os::unix::fs::symlink(&kept, own.path().join("artifacts")).expect("a link");
        let args = [&["--request-log", "{dir}/requests.jsonl"], extra_args].concat();
        Self::launch(Folder::Own(own), to_owned(&args), Vec::new())
    }

    /// A node over an existing folder, which stays.
    pub fn over(folder: &Path, extra_args: &[&str]) -> Self {
        Self::launch(Folder::Given(folder.to_owned()), to_owned(extra_args), Vec::new())
    }

    fn launch(folder: Folder, extra_args: Vec<String>, environment: Vec<(String, String)>) -> Self {
        let path = folder.path().to_owned();
        std::fs::create_dir_all(&path).expect("a folder");
        let log =
            std::fs::OpenOptions::new().create(true).append(true).open(path.join("test.log")).expect("a log file");
        let defaults = [("--listen", "127.0.0.1:0"), ("--control-listen", "127.0.0.1:0"), ("--outbound", "any")];
        let unsaid = defaults.iter().filter(|(name, _)| !extra_args.iter().any(|arg| arg == name));
        let mut child = Command::new(env!("CARGO_BIN_EXE_sluice"))
            .arg("serve")
            .args(unsaid.flat_map(|(name, value)| [name, value]))
            .arg("--data-dir")
            .arg(&path)
            .args(extra_args.iter().map(|arg| arg.replace("{dir}", &path.display().to_string())))
            .env_remove("SLUICE_API")
            .env_remove("SLUICE_API_TOKEN")
            .env_remove("OTEL_EXPORTER_OTLP_ENDPOINT")
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the binary starts");
        // The node prints one line for each listener, once it accepts.
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut address = || -> SocketAddr {
            let line = lines
                .next()
                .and_then(Result::ok)
                .unwrap_or_else(|| panic!("the node did not start:\n{}", read_log(&path)));
            line.rsplit("http://")
                .next()
                .and_then(|text| text.trim().parse().ok())
                .unwrap_or_else(|| panic!("no address in `{line}`"))
        };
        let (data, control) = (address(), address());
        // Whatever comes after (a request log) must not fill the pipe.
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| drop(sender.send(line))));
        let token = std::fs::read_to_string(path.join("token")).expect("the token").trim().to_owned();
        Self { child, data, control, token, folder, extra_args, environment, output: Mutex::new(receiver) }
    }

    /// The data folder.
    pub fn dir(&self) -> &Path {
        self.folder.path()
    }

    /// What the node has logged so far.
    pub fn log(&self) -> String {
        read_log(self.dir())
    }

    /// The node's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills the node without a warning, and starts it again over the same folder.
    pub fn kill_and_restart(mut self) -> Self {
        self.kill();
        let folder = std::mem::replace(&mut self.folder, Folder::Given(PathBuf::new()));
        let extra_args = std::mem::take(&mut self.extra_args);
        let environment = std::mem::take(&mut self.environment);
        Self::launch(folder, extra_args, environment)
    }

    /// Kills the process, now.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends SIGTERM and waits for the end; returns the exit code.
    pub fn terminate(&mut self) -> Option<i32> {
        self.ask_to_stop();
        self.wait()
    }

    /// Sends SIGTERM.
    pub fn ask_to_stop(&self) {
        let status = Command::new("kill").args(["-TERM", &self.pid().to_string()]).status().expect("kill");
        assert!(status.success());
    }

    /// Waits for the end; returns the exit code.
    pub fn wait(&mut self) -> Option<i32> {
        until("the end of the node", || self.child.try_wait().expect("the node's state")).code()
    }

    /// Whether the process is still there.
    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().expect("the node's state").is_none()
    }

    /// `GET path` of a host of the data listener, `worker.localhost` where only a worker is given.
    pub fn get(&self, host: &str, path: &str) -> Reply {
        self.request("GET", host, path, &[], b"")
    }

    /// A request to the data listener.
    pub fn request(&self, method: &str, host: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let host = if host.contains('.') { host.to_owned() } else { format!("{host}.localhost") };
        let mut all = vec![("host", host.as_str())];
        all.extend_from_slice(headers);
        http::request(self.data, method, path, &all, body)
    }

    /// A call of the control API below `/client/v4/accounts/local/workers`, with the token; panics unless it succeeds.
    pub fn api(&self, method: &str, path: &str, body: &Value) -> Value {
        let reply = self.api_raw(method, path, body);
        assert_eq!(reply["success"], true, "{method} {path}: {reply:#}");
        reply["result"].clone()
    }

    /// The same; returns the whole envelope, whatever it says.
    pub fn api_raw(&self, method: &str, path: &str, body: &Value) -> Value {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        self.api_request(method, path, &[("content-type", "application/json")], text.as_bytes()).json()
    }

    /// The same, with headers and a body of the test's own; returns the reply as it came.
    pub fn api_request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        self.control_request(method, &format!("/client/v4/accounts/local/workers{path}"), headers, body)
    }

    /// A call of the part of the API that is about zones.
    pub fn zones(&self, method: &str, path: &str, body: &Value) -> Reply {
        let headers = [("content-type", "application/json")];
        self.control_request(method, &format!("/client/v4/zones{path}"), &headers, body.to_string().as_bytes())
    }

    fn control_request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let (host, token) = (self.control.to_string(), format!("Bearer {}", self.token));
        let ours = [("host", host.as_str()), ("authorization", token.as_str())];
        http::request(self.control, method, path, &[&ours, headers].concat(), body)
    }

    /// The code and the message of a refused call.
    pub fn api_error(&self, method: &str, path: &str, body: &Value) -> (i64, String) {
        let reply = self.api_raw(method, path, body);
        assert_eq!(reply["success"], false, "{method} {path} was to be refused: {reply:#}");
        let error = &reply["errors"][0];
        (error["code"].as_i64().unwrap_or_default(), error["message"].as_str().unwrap_or_default().to_owned())
    }

    /// Uploads a module and deploys it at 100 % (`PUT`).
    pub fn deploy_module(&self, worker: &str, module: &Path, upload: Upload) -> Version {
        let reply = self.upload("PUT", &format!("/scripts/{worker}"), module, upload);
        assert_eq!(reply["success"], true, "{reply:#}");
        let id = reply["result"]["deployment_id"].as_str().expect("an id").to_owned();
        Version { id, json: reply["result"].clone() }
    }

    /// Uploads a module as a version that is not deployed (`POST …/versions`).
    pub fn upload_version(&self, worker: &str, module: &Path, upload: Upload) -> Version {
        let reply = self.upload("POST", &format!("/scripts/{worker}/versions"), module, upload);
        assert_eq!(reply["success"], true, "{reply:#}");
        let id = reply["result"]["id"].as_str().expect("an id").to_owned();
        Version { id, json: reply["result"].clone() }
    }

    /// An upload; returns the whole envelope.
    pub fn upload(&self, method: &str, path: &str, module: &Path, upload: Upload) -> Value {
        let name = module.file_name().and_then(|name| name.to_str()).expect("a name");
        let bytes = std::fs::read(module).unwrap_or_else(|error| panic!("{}: {error}", module.display()));
        self.upload_bytes(method, path, name, &bytes, upload)
    }

    /// An upload of bytes under a module's name; returns the whole envelope.
    pub fn upload_bytes(&self, method: &str, path: &str, name: &str, bytes: &[u8], upload: Upload) -> Value {
        let mut metadata = json!({ "main_module": name });
        if let Value::Object(more) = upload.metadata {
            metadata.as_object_mut().expect("an object").extend(more);
        }
        let (content_type, body) = http::multipart(&metadata.to_string(), name, bytes);
        self.api_request(method, path, &[("content-type", &content_type)], &body).json()
    }

    /// Deploys a split of versions.
    pub fn split(&self, worker: &str, shares: &[(&Version, f64)]) -> Value {
        self.api("POST", &format!("/scripts/{worker}/deployments"), &split_body(shares))
    }

    /// Runs our command line against this node.
    pub fn cli(&self, args: &[&str]) -> Output {
        self.cli_in(self.dir(), args, b"")
    }

    /// Runs our command line in a folder, with something on standard input.
    pub fn cli_in(&self, folder: &Path, args: &[&str], stdin: &[u8]) -> Output {
        use std::io::Write as _;

        let mut child = Command::new(env!("CARGO_BIN_EXE_sluice"))
            .args(args)
            .current_dir(folder)
            .env("SLUICE_API", format!("http://{}", self.control))
            .env("SLUICE_API_TOKEN", &self.token)
            .env("NO_COLOR", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        child.stdin.take().expect("piped").write_all(stdin).expect("standard input");
        child.wait_with_output().expect("the command ends")
    }
}

/// A node that is to refuse to start over `folder`: its exit code, and what it said.
pub fn refused_to_start(folder: &Path, args: &[&str]) -> (Option<i32>, String) {
    refused_in_environment(folder, args, &[])
}

/// The same, with these variables in its environment.
pub fn refused_in_environment(folder: &Path, args: &[&str], environment: &[(&str, String)]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_sluice"))
        .args(["serve", "--listen", "127.0.0.1:0", "--control-listen", "127.0.0.1:0", "--data-dir"])
        .arg(folder)
        .args(args)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .output()
        .expect("the binary starts");
    assert!(output.stdout.is_empty(), "it started: {}", String::from_utf8_lossy(&output.stdout));
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn to_owned(args: &[&str]) -> Vec<String> {
    args.iter().map(ToString::to_string).collect()
}

/// The body of a deployments call.
pub fn split_body(shares: &[(&Version, f64)]) -> Value {
    let versions: Vec<Value> =
        shares.iter().map(|(version, share)| json!({ "version_id": version.id, "percentage": share })).collect();
    json!({ "strategy": "percentage", "versions": versions })
}

impl Upload {
    /// An upload with these bindings.
    pub fn bindings(bindings: Value) -> Self {
        Self { metadata: json!({ "bindings": bindings }) }
    }

    /// An upload with one text variable.
    pub fn var(name: &str, text: &str) -> Self {
        Self::bindings(json!([{ "type": "plain_text", "name": name, "text": text }]))
    }

    /// The same upload with one more key of the metadata.
    pub fn with(mut self, key: &str, value: Value) -> Self {
        if self.metadata.is_null() {
            self.metadata = json!({});
        }
        self.metadata[key] = value;
        self
    }

    /// The same upload with a tag.
    pub fn tagged(self, tag: &str) -> Self {
        self.with("annotations", json!({ "workers/tag": tag }))
    }
}

impl Folder {
    fn path(&self) -> &Path {
        match self {
            Self::Own(own) => own.path(),
            Self::Given(path) => path,
        }
    }
}

fn read_log(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("test.log")).unwrap_or_default()
}

impl Drop for Node {
    fn drop(&mut self) {
        let ended = self.child.try_wait();
        self.kill();
        if std::thread::panicking() {
            const LINES_MAX: usize = 40;
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("--- the node ended by itself: {:?} ---", ended);
            eprintln!("--- the node's log ---\n{}", lines[lines.len().saturating_sub(LINES_MAX)..].join("\n"));
        }
    }
}
