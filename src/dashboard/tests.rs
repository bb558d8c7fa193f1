//! How much work a page is, with as much stored as a busy worker has: 100 versions and 10,000 objects, in the store of a real node. What
//! is read is counted, since that does not depend on the machine; how long it took is printed, for people (`--nocapture`).

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Body;
use futures_util::future::BoxFuture;
use http::{Request, StatusCode, header};
use http_body_util::BodyExt as _;
use tokio::sync::watch;
use tower_service::Service as _;

use super::*;
use crate::catalog::{AndDeploy, ApplyMode, Catalog, CreateWorker, Expected, Force, NewDeployment, NewVersion};
use crate::clock::SystemClock;
use crate::control::{Api, Prover, Repeats, Token, Trials};
use crate::domain::allotment::Allotment;
use crate::domain::config::{Config, ConfigDraft, Inheritance};
use crate::domain::deployment::CodeUpdate;
use crate::domain::id::{VersionId, WorkerName};
use crate::domain::limits::OBJECTS_COUNTED_MAX;
use crate::domain::migration::{Migration, Step};
use crate::domain::module::{GuestKind, ModuleDigest, ModuleFacts, Startup};
use crate::domain::object::ObjectNamespaceId;
use crate::domain::split::Split;
use crate::domain::version::{Annotations, Provenance, Source, Trigger};
use crate::engine::compile::{Refusal, RefusalKind};
use crate::engine::prove::Proven;
use crate::kv::Kv;
use crate::objects::Objects;
use crate::observe::tail::Tails;
use crate::rollouts::Rollouts;
use crate::store::{
    Check, CommitError, Entry, Error, Key, Order, Range, Revision, Snapshot, SqliteStore, Store, Write,
};

/// Objects on one page of the list.
const PER_PAGE: usize = 100;

/// A store that counts what is read from it.
struct Counting {
    inner: SqliteStore,
    gets: AtomicUsize,
    /// Entries that scans answered with.
    scanned: AtomicUsize,
}

impl Store for Counting {
    fn get<'a>(&'a self, key: &'a Key) -> crate::store::BoxFuture<'a, Result<Option<Entry>, Error>> {
        self.gets.fetch_add(1, Ordering::Relaxed);
        self.inner.get(key)
    }

    fn scan(&self, range: Range, order: Order, limit: usize) -> crate::store::BoxFuture<'_, Result<Vec<Entry>, Error>> {
        Box::pin(async move {
            let found = self.inner.scan(range, order, limit).await?;
            self.scanned.fetch_add(found.len(), Ordering::Relaxed);
            Ok(found)
        })
    }

    fn snapshot(&self) -> crate::store::BoxFuture<'_, Result<Box<dyn Snapshot>, Error>> {
        self.inner.snapshot()
    }

    fn commit(
        &self,
        checks: Vec<Check>,
        writes: Vec<Write>,
    ) -> crate::store::BoxFuture<'_, Result<Revision, CommitError>> {
        self.inner.commit(checks, writes)
    }

    fn watch(&self) -> watch::Receiver<Revision> {
        self.inner.watch()
    }
}

/// Nothing is uploaded here.
struct Nothing;

impl Prover for Nothing {
    fn prove<'a>(
        &'a self,
        _: &'a WorkerName,
        _: &'a Path,
        _: ModuleDigest,
        _: &'a Config,
    ) -> BoxFuture<'a, Result<Proven, Refusal>> {
        Box::pin(std::future::ready(Err(Refusal { kind: RefusalKind::Invalid, message: "no uploads".to_owned() })))
    }
}

/// A dashboard with a worker `w` that has objects of class `C`.
struct Stage {
    router: Router,
    api: Arc<Api>,
    store: Arc<Counting>,
    cookie: String,
    namespace: ObjectNamespaceId,
    dir: tempfile::TempDir,
}

fn worker() -> WorkerName {
    "w".parse().unwrap()
}

fn provenance() -> Provenance {
    Provenance { author: "ada".into(), source: Source::Api }
}

async fn publish(catalog: &Arc<Catalog>, migration: Option<Migration>) -> VersionId {
    let resolved = catalog.resolve(&worker(), &ConfigDraft::default(), Inheritance::Strict).unwrap();
    let version = NewVersion {
        config: resolved.config,
        previous: resolved.previous,
        module: ModuleFacts {
            digest: ModuleDigest::from_bytes([1; 32]),
            size_bytes: 1,
            kind: GuestKind::Wasi02,
            imports: vec![],
            exports: vec!["wasi:http/incoming-handler@0.2.6".into(), "sluice:worker-p2/durable-object@0.1.0".into()],
        },
        startup: Startup { time_ms: 1, memory_bytes: 1, compilation: None },
        annotations: Annotations { message: None, tag: None, alias: None, triggered_by: Trigger::Upload },
        provenance: provenance(),
        expected: Expected::default(),
    };
    let deploy = match migration {
        None => AndDeploy::No,
        migration => AndDeploy::Now { message: None, code_update: CodeUpdate::Immediate, migration },
    };
    catalog.publish(&worker(), version, deploy, CreateWorker::Allow).await.unwrap().version.id
}

impl Stage {
    async fn new(versions: usize, objects: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let inner = SqliteStore::open(dir.path()).unwrap();
        let store = Arc::new(Counting { inner, gets: AtomicUsize::new(0), scanned: AtomicUsize::new(0) });
        let (port, clock): (Arc<dyn Store>, Arc<dyn Clock>) = (Arc::<Counting>::clone(&store), Arc::new(SystemClock));
        let catalog = Catalog::open(Arc::clone(&port), dir.path(), Arc::clone(&clock)).await.unwrap();
        let step = Step { new_sqlite_classes: vec!["C".into()], ..Step::default() };
        let first = publish(&catalog, Some(Migration { old_tag: None, new_tag: "v1".into(), steps: vec![step] })).await;
        let mut last = first;
        for _ in 1..versions {
            last = publish(&catalog, None).await;
        }
        let wish = NewDeployment {
            entries: vec![(last, 20.0), (first, 80.0)],
            message: None,
            provenance: provenance(),
            code_update: CodeUpdate::Immediate,
            if_match: None,
            force: Force::No,
            mode: ApplyMode::Commit,
        };
        catalog.deploy(&worker(), wish).await.unwrap();
        let namespace = catalog.view().object_namespace(&worker(), &"C".parse().unwrap()).unwrap();
        let observer = Observer::new(Arc::clone(&clock), None);
        let address = "127.0.0.1:8788".parse().unwrap();
        let api = Api {
            kv: Kv::new(Arc::clone(&port), Arc::clone(&clock)),
            objects: Objects::for_tests(&catalog, &port, &clock, dir.path()),
            rollouts: Rollouts::open(&catalog, Arc::clone(&port), &observer, &clock).await.unwrap(),
            catalog,
            prover: Arc::new(Nothing),
            token: Token::new("t0ken"),
            repeats: Repeats::default(),
            trials: Trials::default(),
            data_addr: address,
            control_addr: address,
            tails: Tails::new(Arc::clone(&clock)),
            metrics: Arc::new(String::new),
        };
        let stop = CancellationToken::new();
        let api = Arc::new(api);
        let dashboard = Dashboard::new(Arc::clone(&api), observer, clock, "t0ken".to_owned(), stop);
        let cookie = format!("{}={}", guard::COOKIE, dashboard.sessions.open().unwrap());
        let stage = Self { router: router(&dashboard), api, store, cookie, namespace, dir };
        stage.fill(objects).await;
        stage
    }

    /// Stores so many objects, as if each had written something.
    async fn fill(&self, objects: usize) {
        let names: Vec<String> = (0..objects).map(|n| format!("visitor-{n}")).collect();
        for some in names.chunks(1_000) {
            let writes = some.iter().map(|name| crate::objects::stored_for_tests(self.namespace, name));
            self.store.commit(Vec::new(), writes.collect()).await.unwrap();
        }
    }

    /// A page, and how many entries were read for it.
    async fn page(&self, path: &str) -> (String, usize) {
        let began = crate::clock::monotonic();
        let before = self.store.scanned.load(Ordering::Relaxed);
        let (status, text) = self.ask(path).await;
        let read = self.store.scanned.load(Ordering::Relaxed) - before;
        assert_eq!(status, StatusCode::OK, "{path}: {text}");
        #[expect(clippy::print_stderr, reason = "for whoever runs the test to read")]
        {
            eprintln!("{path:.60}: {} bytes, {read} entries read, {:?}", text.len(), began.elapsed());
        }
        (text, read)
    }

    async fn ask(&self, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).header(header::HOST, "127.0.0.1:8788").header(header::ACCEPT, "text/html");
        let request = request.header(header::COOKIE, &self.cookie).body(Body::empty()).unwrap();
        let response = self.router.clone().call(request).await.unwrap();
        let status = response.status();
        if let Some(to) = response.headers().get(header::LOCATION) {
            return (status, to.to_str().unwrap().to_owned());
        }
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    }
}

#[tokio::test]
async fn a_page_reads_a_bounded_part_of_ten_thousand_objects() {
    let stage = Stage::new(100, OBJECTS_COUNTED_MAX).await;
    // Twice: the second time nothing is new to the store's cache.
    for _ in 0..2 {
        assert_eq!(stage.page("/workers/w").await.1, 0, "the overview does not look at objects");
        assert_eq!(stage.page("/workers/w/versions").await.1, 0);
        assert_eq!(stage.page("/workers/w/rollout").await.1, 0);

        // The first page counts them, exactly.
        let (first, read) = stage.page("/workers/w/objects").await;
        assert!(first.contains("10,000 objects, 0 in memory") && !first.contains("about"), "{first}");
        assert_eq!(read, PER_PAGE + OBJECTS_COUNTED_MAX);
        let next = first.split("rel=\"next\" href=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
        let (rest, read) = stage.page(&next.replace("&amp;", "&")).await;
        assert_eq!((rest.matches("/workers/w/objects/C/").count(), read), (PER_PAGE, PER_PAGE));

        let gets = stage.store.gets.load(Ordering::Relaxed);
        let (status, to) = stage.ask("/workers/w/objects/find?class=C&name=visitor-77").await;
        assert_eq!(status, StatusCode::SEE_OTHER);
        let (found, read) = stage.page(&to).await;
        assert!(found.contains("visitor-77") && found.contains("Assigned"), "{found}");
        assert_eq!((read, stage.store.gets.load(Ordering::Relaxed) - gets), (0, 2));
    }
    drop(stage.dir);
}

#[tokio::test]
async fn beyond_what_is_counted_the_numbers_are_told_from_it() {
    let stage = Stage::new(2, OBJECTS_COUNTED_MAX + OBJECTS_COUNTED_MAX / 2).await;
    let (first, read) = stage.page("/workers/w/objects").await;
    assert_eq!(read, PER_PAGE + OBJECTS_COUNTED_MAX + 1);
    let told = first.split("about ").filter_map(|rest| rest.split_once(" objects,")).map(|(number, _)| number);
    let told: Vec<usize> = told.filter_map(|number| number.replace(',', "").parse().ok()).collect();
    assert!(matches!(told[..], [about] if (14_250..15_750).contains(&about)), "{told:?}: {first}");
    assert!(first.contains("Told from 10,000 of them"), "{first}");
}

#[tokio::test]
async fn what_a_deployment_would_move_is_told_from_a_bounded_part_of_the_objects() {
    let all_to_last = |stage: &Stage| {
        let worker = Arc::clone(stage.api.catalog.view().worker(&worker()).unwrap());
        let active = &worker.active.as_ref().unwrap().allotment;
        let next = Allotment::derive(Some(active), &Split::all_to(worker.latest().unwrap().id));
        (worker, next)
    };
    let stage = Stage::new(2, OBJECTS_COUNTED_MAX).await;
    let (w, next) = all_to_last(&stage);
    let exact = stage.api.objects.plan(&w, &next).await.unwrap();
    assert_eq!((exact.objects, exact.is_estimate, exact.live_moving), (OBJECTS_COUNTED_MAX as u64, false, 0));
    assert!((7_500..8_500).contains(&exact.moving), "four fifths leave the first version: {exact:?}");

    let stage = Stage::new(2, 2 * OBJECTS_COUNTED_MAX).await;
    let (w, next) = all_to_last(&stage);
    let before = stage.store.scanned.load(Ordering::Relaxed);
    let told = stage.api.objects.plan(&w, &next).await.unwrap();
    assert_eq!(stage.store.scanned.load(Ordering::Relaxed) - before, OBJECTS_COUNTED_MAX + 1);
    assert!(told.is_estimate && (19_000..21_000).contains(&told.objects), "{told:?}");
    assert!((15_000..17_000).contains(&told.moving) && told.sample.len() == 20, "{told:?}");
}
