//! The composition root: the only room that knows every other. Settings → parts → running → drained. [`lab`] lends the inside of a
//! node to whoever measures it from within its process.

pub mod lab;
mod metrics;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::catalog::{self, Catalog};
use crate::clock::{Clock, SystemClock};
use crate::control;
use crate::dashboard::{self, Dashboard};
use crate::dispatch::Dispatcher;
use crate::domain::id::WorkerName;
use crate::domain::limits;
use crate::domain::module::ModuleDigest;
use crate::engine::artifacts::{Artifacts, Claim};
use crate::engine::bounds;
use crate::engine::engines::{self, Engines};
use crate::engine::fleet::{Fleet, ModuleSource};
use crate::engine::prove::Prover;
use crate::host::outbound::{Outbound, Policy};
use crate::ingress::crew::Crew;
use crate::ingress::listener;
use crate::ingress::respond;
use crate::ingress::serve::{Door, Overrides, VersionHeader};
use crate::kv::Kv;
use crate::objects::{self, Objects};
use crate::observe::exposition::Gather;
use crate::observe::history::History;
use crate::observe::otlp::{self, Metering, Tracer};
use crate::observe::writer::LineWriter;
use crate::observe::{self, LineForm, Observer};
use crate::rollouts::{self, Rollouts};
use crate::store::{self, SqliteStore, Store};

/// Which addresses guests may reach.
pub type OutboundPolicy = Policy;
/// Which versions' instances have guard pages around their memory.
pub type GuardPages = bounds::GuardPages;
/// Who may override the version of a request.
pub type OverridePolicy = Overrides;
/// Which traces and metrics go to which collector.
pub type OtlpSettings = otlp::Settings;

/// How long calls of the control API may go on after the data listener has drained.
const CONTROL_DRAIN: Duration = Duration::from_secs(5);

/// What an operator chooses.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The data listener's address; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The control listener's address.
    pub control_listen: SocketAddr,
    pub data_dir: PathBuf,
    /// Where compiled code is kept; `artifacts` in the data folder if nothing is said.
    pub artifacts: Option<PathBuf>,
    /// The API's token; made and kept in the data folder if none is given.
    pub token: Option<String>,
    pub default_worker: Option<String>,
    pub outbound: OutboundPolicy,
    /// None: `any` on a loopback listener, `token` otherwise (E18).
    pub overrides: Option<OverridePolicy>,
    /// Whether answers carry `sluice-version`.
    pub version_header: bool,
    pub request_log: Option<RequestLog>,
    /// A request log that has grown to this is put aside.
    pub request_log_bytes_max: u64,
    pub guest_memory_bytes: u64,
    /// Compiled code on disk.
    pub artifact_cache_bytes: u64,
    pub objects: objects::Settings,
    /// How long requests may go on after the node was told to stop.
    pub drain: Duration,
    pub instance_slots: Option<u32>,
    pub guard_pages: GuardPages,
    pub otlp: Option<OtlpSettings>,
}

/// Where a line for every request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestLog {
    /// JSON on standard output.
    Stdout,
    /// Short lines for a person, on standard output.
    Terminal,
    /// JSON in a file.
    File(PathBuf),
}

/// Why a node did not start, or did not stop well.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot make the data folder `{path}`")]
    DataDir { path: PathBuf, source: io::Error },
    #[error("cannot listen on {address} for {what}")]
    Listen { what: &'static str, address: SocketAddr, source: io::Error },
    #[error("cannot write `{path}`")]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot read the token in `{path}`")]
    Token { path: PathBuf, source: io::Error },
    #[error("`{0}` cannot be the default worker")]
    DefaultWorker(String, #[source] crate::domain::id::Error),
    #[error("cannot open the store")]
    Store(#[source] store::Error),
    #[error("cannot open the catalog")]
    Catalog(#[source] catalog::Error),
    #[error("cannot open the rollouts")]
    Rollouts(#[source] rollouts::Error),
    #[error("cannot make the engines: {0}")]
    Engines(String),
    #[error("cannot start the threads that serve clients")]
    Threads(#[source] io::Error),
    #[error("cannot send traces")]
    Traces(#[source] otlp::Error),
}

/// A node that serves.
pub struct Running {
    /// Where clients are answered.
    pub data: SocketAddr,
    /// Where the control API is.
    pub control: SocketAddr,
    /// The API's token.
    pub token: String,
    /// The token that vouches for overrides (`Sluice-Override-Token`); it is also in the data folder, in `override-token`.
    pub override_token: String,
    /// Who may override the version of a request.
    pub overrides: OverridePolicy,
    observer: Arc<Observer>,
    inside: lab::Inside,
    tasks: Tasks,
    store: Arc<SqliteStore>,
    addresses_file: PathBuf,
}

/// What runs, and how it is told to end.
struct Tasks {
    stop_data: CancellationToken,
    stop_control: CancellationToken,
    serving: JoinHandle<()>,
    controlling: JoinHandle<()>,
    sweeping: JoinHandle<io::Result<()>>,
    sweeping_kv: JoinHandle<()>,
    objects: Arc<Objects>,
    background: Vec<JoinHandle<()>>,
    metering: Option<Metering>,
}

impl Settings {
    /// What `sluice serve` starts from.
    #[must_use]
    pub fn serve_defaults(data_dir: PathBuf) -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8787)),
            control_listen: SocketAddr::from(([127, 0, 0, 1], 8788)),
            data_dir,
            artifacts: None,
            token: None,
            default_worker: None,
            outbound: Policy::public(),
            overrides: None,
            version_header: false,
            request_log: None,
            request_log_bytes_max: limits::REQUEST_LOG_BYTES_MAX,
            guest_memory_bytes: limits::GUEST_MEMORY_BYTES,
            artifact_cache_bytes: limits::ARTIFACT_CACHE_BYTES,
            objects: objects::Settings::default(),
            drain: Duration::from_secs(30),
            instance_slots: None,
            guard_pages: GuardPages::Auto,
            otlp: None,
        }
    }

    /// What `sluice dev` and `sluice demo` start from: guests reach local addresses, and answers say which version gave them.
    #[must_use]
    pub fn dev_defaults(data_dir: PathBuf) -> Self {
        Self {
            outbound: Policy::any(),
            version_header: true,
            drain: Duration::from_secs(2),
            ..Self::serve_defaults(data_dir)
        }
    }

    /// Who may override the version of a request to this address.
    fn overrides_at(&self, data: SocketAddr) -> OverridePolicy {
        let otherwise = if data.ip().is_loopback() { Overrides::Any } else { Overrides::Token };
        self.overrides.unwrap_or(otherwise)
    }
}

/// A word that is no override policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no override policy: expected `any`, `loopback`, `token` or `off`")]
pub struct OverridesError(String);

impl FromStr for Overrides {
    type Err = OverridesError;

    fn from_str(text: &str) -> Result<Self, OverridesError> {
        match text {
            "any" => Ok(Self::Any),
            "loopback" => Ok(Self::Loopback),
            "token" => Ok(Self::Token),
            "off" => Ok(Self::Off),
            _ => Err(OverridesError(text.to_owned())),
        }
    }
}

/// Starts a node: both listeners accept when this returns.
///
/// # Errors
/// What could not be opened, made or bound; nothing is left running then.
pub async fn start(settings: Settings) -> Result<Running, Error> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let dir = &settings.data_dir;
    std::fs::create_dir_all(dir).map_err(|source| Error::DataDir { path: dir.clone(), source })?;
    let default_worker = default_worker(&settings)?;
    // The store first: it keeps a second node out of this folder, before anything else in it is touched.
    let store = Arc::new(SqliteStore::open(dir).map_err(Error::Store)?);
    let token = token(&settings)?;
    let port: Arc<dyn Store> = Arc::<SqliteStore>::clone(&store);
    let kv = Kv::new(Arc::clone(&port), Arc::clone(&clock));
    let (objects_port, rollouts_port) = (Arc::clone(&port), Arc::clone(&port));
    // While the catalog is read: the kernel takes as long to map the engines' pools as it takes to read some thousand records.
    let engines = engines(&settings);
    let catalog = Catalog::open(port, dir, Arc::clone(&clock)).await.map_err(Error::Catalog)?;
    let observer = observer(&settings, &clock)?;
    let outbound = Arc::new(Outbound::new(settings.outbound.clone()));
    let fleet = fleet(&settings, engines, &catalog, &outbound, &kv, &observer).await?;
    let objects =
        Objects::new(Arc::clone(&catalog), Arc::clone(&fleet), objects_port, Arc::clone(&clock), settings.objects);
    let rollouts = Rollouts::open(&catalog, rollouts_port, &observer, &clock).await.map_err(Error::Rollouts)?;
    let dispatcher = Dispatcher::new(
        Arc::clone(&catalog),
        Arc::clone(&fleet),
        Arc::clone(&observer),
        Arc::clone(&objects),
        Arc::clone(&clock),
        respond::failed,
    );

    let (data_listener, data) = bind("requests", settings.listen).await?;
    let (control_listener, control) = bind("the control API", settings.control_listen).await?;
    outbound.protect(control);
    let override_token = override_token(&token, dir)?;
    let overrides = settings.overrides_at(data);
    let door = Door {
        catalog: Arc::clone(&catalog),
        dispatcher: Arc::clone(&dispatcher),
        observer: Arc::clone(&observer),
        default_worker,
        version_header: if settings.version_header { VersionHeader::Send } else { VersionHeader::Omit },
        overrides,
        override_token: override_token.clone(),
    };
    let gather = metrics::of_node(&observer, &fleet, &catalog, &objects, &store);
    let api = Arc::new(control::Api {
        catalog: Arc::clone(&catalog),
        kv: Arc::clone(&kv),
        objects: Arc::clone(&objects),
        rollouts: Arc::clone(&rollouts),
        prover: Arc::new(Prover::new(Arc::clone(&fleet))),
        token: control::Token::new(&token),
        repeats: control::Repeats::default(),
        trials: control::Trials::default(),
        data_addr: data,
        control_addr: control,
        tails: Arc::clone(&observer.tails),
        metrics: as_text(&gather),
    });
    let addresses_file = write_addresses(dir, data, control)?;

    let (stop_data, stop_control) = (CancellationToken::new(), CancellationToken::new());
    let crew = Arc::new(Crew::start().map_err(Error::Threads)?);
    let serving = tokio::spawn(listener::run(data_listener, Arc::new(door), crew, stop_data.clone(), settings.drain));
    let background = tend(&objects, &dispatcher, &rollouts, &observer, &clock);
    let metering = settings.otlp.as_ref().and_then(|otlp| Metering::start(otlp, gather, Arc::clone(&clock)));
    let dashboard = Dashboard::new(api, Arc::clone(&observer), clock, token.clone(), stop_control.clone());
    let controlling = tokio::spawn(serve_control(control_listener, dashboard, stop_control.clone()));
    let sweeping = tokio::spawn(Fleet::sweep_forever(Arc::downgrade(&fleet)));
    let sweeping_kv = tokio::spawn(Kv::sweep_forever(Arc::downgrade(&kv)));
    let tasks =
        Tasks { stop_data, stop_control, serving, controlling, sweeping, sweeping_kv, objects, background, metering };
    let inside = lab::Inside { catalog, fleet, dispatcher };
    Ok(Running { data, control, token, override_token, overrides, observer, inside, tasks, store, addresses_file })
}

/// What is done while nobody asks for it.
fn tend(
    objects: &Arc<Objects>,
    dispatcher: &Arc<Dispatcher>,
    rollouts: &Arc<Rollouts>,
    observer: &Arc<Observer>,
    clock: &Arc<dyn Clock>,
) -> Vec<JoinHandle<()>> {
    vec![
        tokio::spawn(History::sample_forever(Arc::downgrade(observer), Arc::clone(clock))),
        tokio::spawn(Objects::review_forever(Arc::downgrade(objects))),
        tokio::spawn(Rollouts::run_forever(Arc::downgrade(rollouts))),
        tokio::spawn(Objects::tidy_forever(Arc::downgrade(objects))),
        tokio::spawn(Objects::ring_forever(Arc::downgrade(objects), Arc::<Dispatcher>::clone(dispatcher))),
    ]
}

/// Begins to make the engines.
fn engines(settings: &Settings) -> JoinHandle<Result<Engines, Error>> {
    let settings = engines::Settings {
        guest_memory_bytes: settings.guest_memory_bytes,
        instances: settings.instance_slots.unwrap_or(limits::INSTANCES),
        objects: settings.objects.live,
        guard_pages: settings.guard_pages,
    };
    tokio::task::spawn_blocking(move || Engines::new(settings).map_err(|error| Error::Engines(format!("{error:#}"))))
}

async fn fleet(
    settings: &Settings,
    engines: JoinHandle<Result<Engines, Error>>,
    catalog: &Arc<Catalog>,
    outbound: &Arc<Outbound>,
    kv: &Arc<Kv>,
    observer: &Arc<Observer>,
) -> Result<Arc<Fleet>, Error> {
    let engines = Arc::new(engines.await.map_err(|error| Error::Engines(error.to_string()))??);
    let folder = settings.artifacts.clone().unwrap_or_else(|| settings.data_dir.join("artifacts"));
    let artifacts = Artifacts::open(folder.clone(), settings.artifact_cache_bytes)
        .map_err(|source| Error::Write { path: folder, source })?;
    let modules = Arc::new(Modules(Arc::clone(catalog)));
    Ok(Fleet::new(engines, artifacts, modules, Arc::clone(outbound), Arc::clone(kv), Arc::clone(observer)))
}

async fn serve_control(listener: TcpListener, dashboard: Arc<Dashboard>, stop: CancellationToken) {
    let router = dashboard::router(&dashboard).into_make_service_with_connect_info::<SocketAddr>();
    let serving = axum::serve(listener, router).with_graceful_shutdown(async move { stop.cancelled().await });
    if let Err(error) = serving.await {
        tracing::error!(%error, "the control listener failed");
    }
}

impl Running {
    /// Stops: no new connection, requests in flight may end within the drain time, then the store is closed.
    pub async fn stop(self) {
        let _ = std::fs::remove_file(&self.addresses_file);
        let Tasks {
            stop_data,
            stop_control,
            serving,
            mut controlling,
            sweeping,
            sweeping_kv,
            objects,
            background,
            metering,
        } = self.tasks;
        stop_data.cancel();
        let _ = serving.await;
        objects.stop().await;
        // After the last request's record, which those who watch are to see.
        self.observer.tails.end_all();
        stop_control.cancel();
        // A client that has stopped in the middle of a call must not keep the node. A change that was begun is not cut off with
        // its caller: the store finishes it when it is closed.
        if tokio::time::timeout(CONTROL_DRAIN, &mut controlling).await.is_err() {
            tracing::warn!("calls of the control API were still running; they are cut off");
            controlling.abort();
        }
        sweeping.abort();
        sweeping_kv.abort();
        background.iter().for_each(JoinHandle::abort);
        let spans = async {
            if let Some(tracer) = &self.observer.tracer {
                tracer.stop().await;
            }
        };
        let numbers = async {
            if let Some(metering) = metering {
                metering.stop().await;
            }
        };
        tokio::join!(spans, numbers);
        let observer = Arc::clone(&self.observer);
        let flush = move || observer.request_log.iter().for_each(|log| log.writer.flush());
        let _ = tokio::task::spawn_blocking(flush).await;
        if let Err(error) = self.store.close().await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the store did not close well; it is recovered at the next start"
            );
        }
    }
}

async fn bind(what: &'static str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), Error> {
    let listen = |source| Error::Listen { what, address, source };
    let listener = TcpListener::bind(address).await.map_err(listen)?;
    let bound = listener.local_addr().map_err(listen)?;
    Ok((listener, bound))
}

fn default_worker(settings: &Settings) -> Result<Option<WorkerName>, Error> {
    let parse = |name: &String| name.parse().map_err(|error| Error::DefaultWorker(name.clone(), error));
    settings.default_worker.as_ref().map(parse).transpose()
}

fn observer(settings: &Settings, clock: &Arc<dyn Clock>) -> Result<Arc<Observer>, Error> {
    let tracer = match &settings.otlp {
        Some(otlp) => {
            otlp.announce();
            Tracer::start(otlp, Arc::clone(clock)).map_err(Error::Traces)?
        }
        None => None,
    };
    let observer = Observer::with_tracer(Arc::clone(clock), request_log(settings)?, tracer);
    reopen_at_hangup(settings, &observer);
    Ok(observer)
}

fn as_text(gather: &Gather) -> Arc<dyn Fn() -> String + Send + Sync> {
    let gather = Arc::clone(gather);
    Arc::new(move || gather().to_text())
}

fn request_log(settings: &Settings) -> Result<Option<observe::RequestLog>, Error> {
    let Some(log) = &settings.request_log else { return Ok(None) };
    let form = if *log == RequestLog::Terminal { LineForm::Short } else { LineForm::Json };
    let (writer, path) = match log {
        RequestLog::Stdout | RequestLog::Terminal => (LineWriter::to_stdout(), Path::new("-")),
        RequestLog::File(path) => (LineWriter::to_file(path, settings.request_log_bytes_max), path.as_path()),
    };
    let writer = writer.map_err(|source| Error::Write { path: path.to_owned(), source })?;
    Ok(Some(observe::RequestLog { writer, form }))
}

/// Opens the request log anew at each SIGHUP, so that other programs can put it aside. Without one, SIGHUP ends the node as
/// it ends any program.
fn reopen_at_hangup(settings: &Settings, observer: &Arc<Observer>) {
    use tokio::signal::unix::{SignalKind, signal};

    if !matches!(settings.request_log, Some(RequestLog::File(_))) {
        return;
    }
    let observer = Arc::downgrade(observer);
    match signal(SignalKind::hangup()) {
        Ok(mut hangups) => drop(tokio::spawn(async move {
            while hangups.recv().await.is_some() {
                let Some(observer) = observer.upgrade() else { return };
                if let Some(log) = &observer.request_log {
                    log.writer.reopen();
                }
            }
        })),
        Err(error) => tracing::warn!(%error, "SIGHUP will end this node instead of opening the request log anew"),
    }
}

/// The API's token: given, else kept in the data folder since the first start.
fn token(settings: &Settings) -> Result<String, Error> {
    if let Some(token) = &settings.token {
        return Ok(token.clone());
    }
    let path = settings.data_dir.join("token");
    match std::fs::read_to_string(&path) {
        Ok(text) if !text.trim().is_empty() => Ok(text.trim().to_owned()),
        Ok(_) => make_token(&path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => make_token(&path),
        Err(source) => Err(Error::Token { path, source }),
    }
}

fn make_token(path: &Path) -> Result<String, Error> {
    let write = |source| Error::Write { path: path.to_owned(), source };
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| write(io::Error::other(error)))?;
    let token = hex::encode(bytes);
    write_private(path, &token).map_err(write)?;
    Ok(token)
}

/// What a client sends to vouch for an override: made from the API's token, which guests must never see, and kept beside it.
fn override_token(token: &str, dir: &Path) -> Result<String, Error> {
    let made = hex::encode(Sha256::digest(format!("sluice override token\n{token}")));
    let path = dir.join("override-token");
    write_private(&path, &made).map_err(|source| Error::Write { path, source })?;
    Ok(made)
}

/// Writes down in `dir` where the node listens; gives the file.
fn write_addresses(dir: &Path, data: SocketAddr, control: SocketAddr) -> Result<PathBuf, Error> {
    let path = dir.join("addresses.json");
    let json = serde_json::json!({ "data": data.to_string(), "control": control.to_string() });
    write_private(&path, &format!("{json}\n")).map_err(|source| Error::Write { path: path.clone(), source })?;
    Ok(path)
}

/// Writes a file that only its owner may read, whole or not at all.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;

    let temporary = path.with_extension("new");
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)
}

/// The catalog's modules, as the fleet asks for them.
struct Modules(Arc<Catalog>);

impl ModuleSource for Modules {
    fn path(&self, digest: ModuleDigest) -> PathBuf {
        self.0.modules().path(digest)
    }

    fn claims(&self) -> HashMap<ModuleDigest, Claim> {
        let (view, mut claims) = (self.0.view(), HashMap::new());
        for worker in view.workers() {
            claims.extend(worker.newest_first().map(|version| (version.module.digest, Claim::Version)));
        }
        // Versions of several workers may share a module.
        let live = view.workers().flat_map(|worker| worker.live());
        claims.extend(live.map(|version| (version.module.digest, Claim::Traffic)));
        claims
    }
}
