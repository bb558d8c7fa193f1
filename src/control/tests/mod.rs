//! The API through its door: a real socket, the real catalog on the memory engine, and a prover that believes magic numbers.

mod changes;
mod classes;
mod description;
mod doors;
mod kv;
mod tails;
mod uploads;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::BoxFuture;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::catalog::Catalog;
use crate::clock::{Clock, SystemClock};
use crate::control::{Api, Prover, Repeats, Token, Trials, router};
use crate::domain::config::Config;
use crate::domain::id::WorkerName;
use crate::domain::module::{GuestKind, ModuleDigest, ModuleFacts, Startup};
use crate::engine::compile::{Refusal, RefusalKind};
use crate::engine::prove::Proven;
use crate::kv::Kv;
use crate::objects::Objects;
use crate::observe::Observer;
use crate::observe::tail::Tails;
use crate::rollouts::Rollouts;
use crate::store::{MemoryStore, Store};

const TOKEN: &str = "t0ken";
const SCRIPTS: &str = "/client/v4/accounts/local/workers/scripts";
/// A value that no answer may hold.
const HUSH: &str = "hunter2-hush";

/// A node's control API, alone.
struct Node {
    addr: std::net::SocketAddr,
    dir: tempfile::TempDir,
    catalog: Arc<Catalog>,
    prover: Arc<Believer>,
    tails: Arc<Tails>,
}

/// Believes what begins like Wasm. `slow` in the module waits for a permit, `panic` panics, `objects` exports them.
struct Believer {
    proofs: AtomicUsize,
    slow: Semaphore,
}

impl Prover for Believer {
    fn prove<'a>(
        &'a self,
        _worker: &'a WorkerName,
        file: &'a Path,
        digest: ModuleDigest,
        _config: &'a Config,
    ) -> BoxFuture<'a, Result<Proven, Refusal>> {
        Box::pin(async move {
            self.proofs.fetch_add(1, Ordering::SeqCst);
            let bytes = tokio::fs::read(file).await.unwrap();
            let head = &bytes[..bytes.len().min(64)];
            let holds = |word: &[u8]| head.windows(word.len()).any(|window| window == word);
            assert!(!holds(b"panic"), "the module asked for it");
            if holds(b"slow") {
                self.slow.acquire().await.unwrap().forget();
            }
            if !bytes.starts_with(b"\0asm") && !bytes.starts_with(b"(component") {
                return Err(Refusal { kind: RefusalKind::Invalid, message: "this is not Wasm".into() });
            }
            let mut exports = vec!["wasi:http/incoming-handler@0.2.3".to_owned()];
            if holds(b"objects") {
                exports.push("sluice:worker-p2/durable-object@0.1.0".to_owned());
            }
            let facts = ModuleFacts {
                digest,
                size_bytes: bytes.len() as u64,
                kind: GuestKind::Wasi02,
                imports: vec![],
                exports,
            };
            Ok(Proven { facts, startup: Startup { time_ms: 3, memory_bytes: 65_536, compilation: None } })
        })
    }
}

/// An answer, decoded.
#[derive(Debug)]
struct Reply {
    status: StatusCode,
    head: String,
    text: String,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("no JSON: {error}: {self:?}"))
    }

    /// The result of a call that succeeded.
    fn result(&self) -> Value {
        let mut json = self.json();
        assert_eq!(json["success"], true, "{self:?}");
        assert_eq!(self.status, StatusCode::OK);
        json["result"].take()
    }

    /// The first code and message of a call that failed, in a whole envelope.
    fn fault(&self) -> (u64, String) {
        let json = self.json();
        assert_eq!(json["success"], false, "{self:?}");
        assert_eq!((&json["messages"], &json["result"]), (&json!([]), &Value::Null));
        assert!(!self.status.is_success());
        assert!(self.head.contains("application/json"), "{self:?}");
        let first = &json["errors"][0];
        (first["code"].as_u64().unwrap(), first["message"].as_str().unwrap().to_owned())
    }

    fn code(&self) -> u64 {
        self.fault().0
    }

    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }
}

impl Node {
    async fn start() -> Self {
        Self::at(Arc::new(SystemClock)).await
    }

    /// One whose KV namespaces go by this clock.
    async fn at(kv_clock: Arc<dyn Clock>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let store = Arc::new(MemoryStore::default());
        let kv = Kv::new(Arc::<MemoryStore>::clone(&store), kv_clock);
        let (store, clock): (Arc<dyn Store>, Arc<dyn Clock>) = (store, Arc::new(SystemClock));
        let catalog = Catalog::open(Arc::clone(&store), dir.path(), Arc::clone(&clock)).await.unwrap();
        let objects = Objects::for_tests(&catalog, &store, &clock, dir.path());
        let prover = Arc::new(Believer { proofs: AtomicUsize::new(0), slow: Semaphore::new(0) });
        let observer = Observer::new(Arc::clone(&clock), None);
        let rollouts = Rollouts::open(&catalog, Arc::clone(&store), &observer, &clock).await.unwrap();
        let tails = Tails::new(Arc::new(SystemClock));
        let api = Api {
            catalog: Arc::clone(&catalog),
            kv,
            objects,
            rollouts,
            prover: Arc::<Believer>::clone(&prover),
            token: Token::new(TOKEN),
            repeats: Repeats::default(),
            trials: Trials::default(),
            data_addr: "127.0.0.1:8787".parse().unwrap(),
            control_addr: addr,
            tails: Arc::clone(&tails),
            metrics: Arc::new(|| "sluice_up 1\n".to_owned()),
        };
        let app = router(Arc::new(api)).into_make_service_with_connect_info::<std::net::SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { addr, dir, catalog, prover, tails }
    }

    /// A request as it is written, answered and closed.
    async fn raw(&self, request: &[u8]) -> Reply {
        let mut socket = TcpStream::connect(self.addr).await.unwrap();
        socket.write_all(request).await.unwrap();
        answer_of(socket).await
    }

    async fn call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let mut request = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        let defaults = [("Host", "localhost"), ("Authorization", "Bearer t0ken")];
        let given = |name: &str| headers.iter().any(|(key, _)| key.eq_ignore_ascii_case(name));
        let kept = defaults.iter().filter(|(name, _)| !given(name));
        for (name, value) in kept.chain(headers).filter(|(_, value)| !value.is_empty()) {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
        let reply = self.raw(&[request.as_bytes(), body].concat()).await;
        assert!(!reply.text.contains(HUSH), "a secret's value was told: {reply:?}");
        reply
    }

    async fn get(&self, path: &str) -> Reply {
        self.call("GET", &under(path), &[], b"").await
    }

    async fn send(&self, method: &str, path: &str, body: &Value) -> Reply {
        self.call(method, &under(path), &[("Content-Type", "application/json")], body.to_string().as_bytes()).await
    }

    async fn upload(&self, method: &str, path: &str, metadata: &Value, modules: &[Part<'_>]) -> Reply {
        let body = multipart(Some(&metadata.to_string()), modules);
        self.call(method, &under(path), &[("Content-Type", FORM)], &body).await
    }

    /// A version of `worker`, deployed, with these bindings. Its id.
    async fn deploy(&self, worker: &str, module: &str, bindings: Value) -> String {
        let metadata = json!({ "main_module": "worker.wasm", "bindings": bindings });
        let reply = self.upload("PUT", &format!("/{worker}"), &metadata, &[wasm("worker.wasm", module)]).await;
        reply.result()["deployment_id"].as_str().unwrap().to_owned()
    }

    /// Another version of `worker`, not deployed. Its id.
    async fn version(&self, worker: &str, module: &str) -> String {
        let metadata = json!({ "main_module": "worker.wasm", "annotations": {} });
        let path = format!("/{worker}/versions");
        self.upload("POST", &path, &metadata, &[wasm("worker.wasm", module)]).await.result()["id"]
            .as_str()
            .unwrap()
            .into()
    }

    /// Files that no one refers to.
    fn leftovers(&self) -> usize {
        std::fs::read_dir(self.catalog.modules().temp_dir()).unwrap().count()
    }

    fn modules(&self) -> usize {
        let files = std::fs::read_dir(self.dir.path().join("modules")).unwrap();
        files.filter(|file| file.as_ref().unwrap().path().is_file()).count()
    }
}

const FORM: &str = "multipart/form-data; boundary=XX";

/// Name, type and bytes.
type Part<'a> = (&'a str, &'a str, Vec<u8>);

fn wasm<'a>(name: &'a str, text: &str) -> Part<'a> {
    (name, "application/wasm", format!("\0asm\x0d\0\x01\0{text}").into_bytes())
}

fn script<'a>(name: &'a str, text: &str) -> Part<'a> {
    (name, "application/javascript+module", text.as_bytes().to_vec())
}

fn multipart(metadata: Option<&str>, modules: &[Part<'_>]) -> Vec<u8> {
    let mut body = Vec::new();
    if let Some(metadata) = metadata {
        body.extend(b"--XX\r\nContent-Disposition: form-data; name=\"metadata\"\r\n\r\n");
        body.extend(metadata.as_bytes());
        body.extend(b"\r\n");
    }
    for (name, kind, bytes) in modules {
        let head = format!(
            "--XX\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{name}\"\r\nContent-Type: {kind}\r\n\r\n"
        );
        body.extend(head.as_bytes());
        body.extend(bytes);
        body.extend(b"\r\n");
    }
    body.extend(b"--XX--\r\n");
    body
}

/// A path of the API in full, or one of a worker's.
fn under(path: &str) -> String {
    if path.starts_with("/client") { path.to_owned() } else { format!("{SCRIPTS}{path}") }
}

async fn answer_of(mut socket: TcpStream) -> Reply {
    let mut bytes = Vec::new();
    socket.read_to_end(&mut bytes).await.unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Reply { status, head: head.to_ascii_lowercase(), text: body.to_owned() }
}
