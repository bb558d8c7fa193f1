//! What the benches share: the inside of a node, made as `app` makes it, over a store in memory and a folder that goes with it.

#![allow(dead_code, reason = "each bench uses the part that it needs")]

pub mod choices;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use sha2::{Digest as _, Sha256};
use sluicegate::catalog::{
    AndDeploy, ApplyMode, Catalog, CreateWorker, Expected, Force, NewDeployment, NewVersion, Published,
};
use sluicegate::clock::{Clock, SystemClock};
use sluicegate::dispatch::Dispatcher;
use sluicegate::domain::config::{ConfigDraft, Inheritance};
use sluicegate::domain::deployment::CodeUpdate;
use sluicegate::domain::id::WorkerName;
use sluicegate::domain::limits::ARTIFACT_CACHE_BYTES;
use sluicegate::domain::migration::{Migration, Step};
use sluicegate::domain::module::{GuestKind, ModuleDigest, ModuleFacts, Startup};
use sluicegate::domain::version::{Annotations, Provenance, Source, Trigger, Version};
use sluicegate::engine::artifacts::{Artifacts, Claim};
use sluicegate::engine::engines::{Engines, Settings};
use sluicegate::engine::fleet::{Fleet, ModuleSource};
use sluicegate::engine::prove::Prover;
use sluicegate::host::Body;
use sluicegate::host::outbound::{Outbound, Policy};
use sluicegate::host::ports::Callers;
use sluicegate::ingress::crew::Crew;
use sluicegate::ingress::serve::{Door, Overrides, VersionHeader};
use sluicegate::ingress::{listener, respond};
use sluicegate::kv::Kv;
use sluicegate::objects::{self, Objects};
use sluicegate::observe::Observer;
use sluicegate::store::{MemoryStore, Store};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Whether instances of a version are used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    ByGuest,
    Always,
}

/// The inside of a node.
pub struct Node {
    pub catalog: Arc<Catalog>,
    pub fleet: Arc<Fleet>,
    pub dispatcher: Arc<Dispatcher>,
    pub objects: Arc<Objects>,
    pub observer: Arc<Observer>,
    prover: Prover,
    folder: TempDir,
}

/// The catalog's modules, as a fleet asks for them.
pub struct Modules(pub Arc<Catalog>);

impl ModuleSource for Modules {
    fn path(&self, digest: ModuleDigest) -> PathBuf {
        self.0.modules().path(digest)
    }

    fn claims(&self) -> HashMap<ModuleDigest, Claim> {
        HashMap::new()
    }
}

/// The module of an example, built if need be; without it there is nothing to measure.
pub fn guest(name: &str) -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("guest-examples");
    BUILT.get_or_init(|| {
        let script = examples.join("build.sh");
        let built = Command::new(&script).status();
        assert!(
            built.as_ref().is_ok_and(std::process::ExitStatus::success),
            "the guests are not built: `{}` failed ({built:?}); what it printed above says what is missing",
            script.display(),
        );
    });
    let module = examples.join("dist").join(format!("{name}.wasm"));
    assert!(module.is_file(), "there is no `{}` after guest-examples/build.sh", module.display());
    module
}

/// Facts of a module that does not exist: enough for whoever only routes and decides.
pub fn imaginary_module() -> (ModuleFacts, Startup) {
    let facts = ModuleFacts {
        digest: ModuleDigest::from_bytes([7; 32]),
        size_bytes: 1,
        kind: GuestKind::Wasi02,
        imports: Vec::new(),
        exports: Vec::new(),
    };
    (facts, Startup { time_ms: 0, memory_bytes: 0, compilation: None })
}

/// Stores a version of a proven module, deployed to all of its worker's traffic.
pub async fn publish(
    catalog: &Arc<Catalog>,
    worker: &WorkerName,
    reuse: Reuse,
    proven: (ModuleFacts, Startup),
) -> Published {
    publish_with(catalog, worker, reuse, proven, None).await
}

async fn publish_with(
    catalog: &Arc<Catalog>,
    worker: &WorkerName,
    reuse: Reuse,
    (module, startup): (ModuleFacts, Startup),
    migration: Option<Migration>,
) -> Published {
    let resolved =
        catalog.resolve(worker, &draft(reuse), Inheritance::Strict).expect("nothing is wrong with the draft");
    let version = NewVersion {
        config: resolved.config,
        previous: resolved.previous,
        module,
        startup,
        annotations: Annotations { message: None, tag: None, alias: None, triggered_by: Trigger::Upload },
        provenance: provenance(),
        expected: Expected::default(),
    };
    let deploy = AndDeploy::Now { message: None, code_update: CodeUpdate::Immediate, migration };
    catalog.publish(worker, version, deploy, CreateWorker::Allow).await.expect("a version can be stored")
}

/// Deploys a split.
pub async fn split(catalog: &Arc<Catalog>, worker: &WorkerName, shares: &[(&Version, f64)]) {
    let wish = NewDeployment {
        entries: shares.iter().map(|(version, share)| (version.id, *share)).collect(),
        message: None,
        provenance: provenance(),
        code_update: CodeUpdate::Immediate,
        if_match: None,
        force: Force::Yes,
        mode: ApplyMode::Commit,
    };
    catalog.deploy(worker, wish).await.expect("the split can be deployed");
}

fn draft(reuse: Reuse) -> ConfigDraft {
    ConfigDraft { instance_reuse: (reuse == Reuse::Always).then_some(true), ..ConfigDraft::default() }
}

fn provenance() -> Provenance {
    Provenance { author: "bench".into(), source: Source::Api }
}

impl Node {
    /// Serves requests on loopback with `crew`, for as long as the runtime lives. Returns where.
    pub async fn serve(&self, crew: Crew) -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let data = listener.local_addr().expect("its address");
        let door = Door {
            catalog: Arc::clone(&self.catalog),
            dispatcher: Arc::clone(&self.dispatcher),
            observer: Arc::clone(&self.observer),
            default_worker: None,
            version_header: VersionHeader::Omit,
            overrides: Overrides::Any,
            override_token: String::new(),
        };
        let stop = CancellationToken::new();
        tokio::spawn(listener::run(listener, Arc::new(door), Arc::new(crew), stop, Duration::ZERO));
        data
    }

    /// A node with nothing in it, over a store in memory. Needs a runtime.
    pub async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self::over(Arc::new(MemoryStore::new()), folder, objects::Settings::default()).await
    }

    /// The same over any store.
    pub async fn over(store: Arc<dyn Store>, folder: TempDir, wish: objects::Settings) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let catalog = Catalog::open(Arc::clone(&store), folder.path(), Arc::clone(&clock)).await;
        let catalog = catalog.expect("an empty catalog opens");
        let observer = Observer::new(Arc::clone(&clock), None);
        let settings = Settings { objects: wish.live, ..Settings::default() };
        let engines = Arc::new(Engines::new(settings).expect("engines"));
        let fleet = fleet(&engines, &catalog, &observer, &folder.path().join("artifacts"));
        let objects = Objects::new(Arc::clone(&catalog), Arc::clone(&fleet), store, Arc::clone(&clock), wish);
        let dispatcher = Dispatcher::new(
            Arc::clone(&catalog),
            Arc::clone(&fleet),
            Arc::clone(&observer),
            Arc::clone(&objects),
            clock,
            respond::failed,
        );
        let prover = Prover::new(Arc::clone(&fleet));
        Self { catalog, fleet, dispatcher, objects, observer, prover, folder }
    }

    /// Uploads a module: proves it, keeps it, and deploys it to all traffic.
    pub async fn upload(&self, worker: &str, module: &Path, reuse: Reuse) -> Arc<Version> {
        self.upload_with(worker, module, reuse, None).await
    }

    /// The same, with a class of objects that it makes.
    pub async fn upload_with(&self, worker: &str, module: &Path, reuse: Reuse, class: Option<&str>) -> Arc<Version> {
        let worker: WorkerName = worker.parse().expect("a name");
        let digest = digest(module);
        let config = self.catalog.resolve(&worker, &draft(reuse), Inheritance::Strict).expect("a draft").config;
        let proof = self.prover.prove(&worker, module, digest, &config).await.expect("an example starts");
        let modules = self.catalog.modules();
        let temporary = modules.temp_dir().join(worker.as_str());
        std::fs::copy(module, &temporary).expect("a copy of the module");
        modules.adopt(&temporary, digest).await.expect("the module is kept");
        let migration = class.map(|class| Migration {
            old_tag: None,
            new_tag: "v1".into(),
            steps: vec![Step { new_sqlite_classes: vec![class.to_owned()], ..Step::default() }],
        });
        publish_with(&self.catalog, &worker, reuse, (proof.facts, proof.startup), migration).await.version
    }

    /// A fleet that shares this node's engines and modules and has made nothing ready, with its artifacts in `folder`.
    pub fn sibling(&self, folder: &Path) -> Arc<Fleet> {
        fleet(&self.fleet.engines, &self.catalog, &self.observer, folder)
    }

    /// Where this node keeps compiled code.
    pub fn artifacts(&self) -> PathBuf {
        self.folder.path().join("artifacts")
    }

    /// The node's way from guest to guest.
    pub fn workers(&self) -> Arc<dyn Callers> {
        Arc::<Dispatcher>::clone(&self.dispatcher)
    }
}

fn fleet(engines: &Arc<Engines>, catalog: &Arc<Catalog>, observer: &Arc<Observer>, artifacts: &Path) -> Arc<Fleet> {
    Fleet::new(
        Arc::clone(engines),
        Artifacts::open(artifacts.to_owned(), ARTIFACT_CACHE_BYTES).expect("a folder for artifacts"),
        Arc::new(Modules(Arc::clone(catalog))),
        Arc::new(Outbound::new(Policy::public())),
        Kv::new(Arc::new(MemoryStore::new()), Arc::new(SystemClock)),
        Arc::clone(observer),
    )
}

/// The digest of a file's bytes, as an upload computes it.
pub fn digest(module: &Path) -> ModuleDigest {
    ModuleDigest::from_bytes(Sha256::digest(std::fs::read(module).expect("the module can be read")).into())
}

/// A request without a body, as the front door hands it to the dispatcher.
pub fn request(host: &str) -> http::Request<Body> {
    let body = Full::new(bytes::Bytes::new()).map_err(|never| match never {}).boxed_unsync();
    http::Request::get(format!("http://{host}/")).header("host", host).body(body).expect("a request")
}
