//! Which versions are ready to run. Made once on first need, shared by all who ask, retired when no one does.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::OnceCell;
use wasmtime::component::Component;
use wasmtime_wasi_http::{p2, p3};

use crate::domain::id::{VersionId, WorkerName};
use crate::domain::module::{DURABLE_OBJECT_EXPORTS, GuestKind, ModuleDigest};
use crate::domain::version::Version;
use crate::engine::artifacts::{Artifacts, Claim};
use crate::engine::bounds::Checked;
use crate::engine::compile;
use crate::engine::engines::{Engines, Kit};
use crate::engine::exact::{self, Counter};
use crate::engine::failure::Failure;
use crate::engine::live;
use crate::engine::version_engine::{Handler, Linked, Reuse, VersionEngine};
use crate::host::Environment;
use crate::host::bindings;
use crate::host::environment::{Metadata, rfc3339};
use crate::host::outbound::Outbound;
use crate::host::ports::Callers;
use crate::kv::Kv;
use crate::observe::Observer;

/// How often idle instances and versions are looked for.
const SWEEP: Duration = Duration::from_secs(1);
/// A version that no one asked for in this many sweeps is retired, and mapped again when it is next needed.
const RETIRED_AFTER_SWEEPS: u64 = 600;
/// How often compiled code is looked through, also while there is room for it.
const TIDY_EVERY_SWEEPS: u64 = 3600;
/// Not while a node starts.
const TIDY_FIRST_SWEEP: u64 = 5;
/// Instances that no one asked for in this many sweeps are given up.
const IDLE_AFTER_SWEEPS: u64 = 30;

/// Where a fleet finds the bytes of a module, if its artifact is gone.
pub trait ModuleSource: Send + Sync + 'static {
    /// The file with the bytes as uploaded.
    fn path(&self, digest: ModuleDigest) -> PathBuf;

    /// Which modules have versions, and which of those get traffic.
    fn claims(&self) -> HashMap<ModuleDigest, Claim>;
}

/// The versions that are ready, or being made so.
pub struct Fleet {
    pub engines: Arc<Engines>,
    pub(super) artifacts: Artifacts,
    modules: Arc<dyn ModuleSource>,
    pub(super) outbound: Arc<Outbound>,
    kv: Arc<Kv>,
    observer: Arc<Observer>,
    /// Read by every request without waiting; replaced as a whole when a version comes or goes.
    ready: ArcSwap<HashMap<VersionId, Arc<Slot>>>,
    changing: Mutex<()>,
    /// Linked components by digest: versions that share their bytes share their code.
    linked: Mutex<HashMap<ModuleDigest, Weak<Linked>>>,
    sweeps: std::sync::atomic::AtomicU64,
    /// Whether a light version is being compiled a second time: one after the other, beside what is served.
    checking: AtomicBool,
}

type Slot = OnceCell<Arc<VersionEngine>>;

impl Fleet {
    /// A fleet with nothing ready.
    #[must_use]
    pub fn new(
        engines: Arc<Engines>,
        artifacts: Artifacts,
        modules: Arc<dyn ModuleSource>,
        outbound: Arc<Outbound>,
        kv: Arc<Kv>,
        observer: Arc<Observer>,
    ) -> Arc<Self> {
        let fleet = Self {
            engines,
            artifacts,
            modules,
            outbound,
            kv,
            observer,
            ready: ArcSwap::default(),
            changing: Mutex::default(),
            linked: Mutex::default(),
            sweeps: std::sync::atomic::AtomicU64::new(0),
            checking: AtomicBool::new(false),
        };
        Arc::new(fleet)
    }

    /// The engine of `version`, made ready if it is not.
    ///
    /// # Errors
    /// [`Failure::NotReady`] if the module's bytes are gone or no longer compile: damage to the node's folder.
    pub async fn ready(
        &self,
        worker: &WorkerName,
        version: &Arc<Version>,
        workers: &Arc<dyn Callers>,
    ) -> Result<Arc<VersionEngine>, Failure> {
        let sweep = self.sweeps.load(Ordering::Relaxed);
        if let Some(engine) = self.ready.load().get(&version.id).and_then(|slot| slot.get()) {
            if engine.last_used.load(Ordering::Relaxed) != sweep {
                engine.last_used.store(sweep, Ordering::Relaxed);
            }
            return Ok(Arc::clone(engine));
        }
        let slot = self.slot(version.id);
        let made = slot.get_or_try_init(|| async {
            let linked = self.link(version.module.digest, version.module.kind).await?;
            let about = Metadata::of(version);
            let (outbound, kv) = (Arc::clone(&self.outbound), Some(Arc::clone(&self.kv)));
            let environment = Environment::bind(worker, &about, &version.config, Arc::clone(workers), outbound, kv);
            let metrics = self.observer.metrics.of(worker, version.id);
            let engine = VersionEngine::new(Arc::clone(version), linked, Arc::new(environment), &self.engines, metrics);
            engine.last_used.store(sweep, Ordering::Relaxed);
            Ok(Arc::new(engine))
        });
        made.await.map(Arc::clone)
    }

    fn slot(&self, id: VersionId) -> Arc<Slot> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = self.ready.load().get(&id) {
            return Arc::clone(slot);
        }
        let slot = Arc::new(Slot::new());
        let mut ready = HashMap::clone(&self.ready.load());
        ready.insert(id, Arc::clone(&slot));
        self.ready.store(Arc::new(ready));
        slot
    }

    /// The linked component of a module: shared, else mapped, else compiled.
    async fn link(&self, digest: ModuleDigest, kind: GuestKind) -> Result<Arc<Linked>, Failure> {
        let shared = |linked: &HashMap<ModuleDigest, Weak<Linked>>| linked.get(&digest).and_then(Weak::upgrade);
        if let Some(linked) = shared(&self.linked.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(linked);
        }
        let kit = Arc::clone(self.engines.kit(kind));
        let component = self.load(move || Ok(kit), digest).await.map_err(Failure::NotReady)?.0;
        let linked = self.pre_instantiate(&component, kind).map_err(|error| Failure::NotReady(format!("{error:#}")))?;
        let mut all = self.linked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(earlier) = shared(&all) {
            return Ok(earlier);
        }
        all.retain(|_, linked| linked.strong_count() > 0);
        all.insert(digest, Arc::downgrade(&linked));
        Ok(linked)
    }

    /// A module's component in the engine of a kit, mapped, else compiled. Either takes a core for a while or reads a file:
    /// neither belongs on a thread that serves others, nor does making an engine.
    async fn load(
        &self,
        kit: impl FnOnce() -> Result<Arc<Kit>, String> + Send + 'static,
        digest: ModuleDigest,
    ) -> Result<(Component, Arc<Kit>), String> {
        let (artifacts, path) = (self.artifacts.clone(), self.modules.path(digest));
        let loading = tokio::task::spawn_blocking(move || {
            let kit = kit()?;
            if let Some(component) = artifacts.load(&kit.engine, digest, kit.kind) {
                return Ok((component, kit));
            }
            let bytes = std::fs::read(&path)
                .map_err(|error| format!("cannot read the module `{}`: {error}", path.display()))?;
            let inspected = compile::inspect(&bytes).map_err(|refusal| refusal.message)?;
            let made = artifacts.make(&kit.engine, digest, kit.kind, &inspected.component);
            let (component, _) = made.map_err(|error| format!("{error:#}"))?;
            Ok((component, kit))
        });
        loading.await.map_err(|error| error.to_string())?
    }

    /// Makes that code, unless other code is being made: one after the other, beside what is served.
    fn check_in_background(self: Arc<Self>, light: Arc<VersionEngine>) {
        if self.checking.swap(true, Ordering::Relaxed) {
            return;
        }
        tokio::spawn(async move {
            match self.compile_checked(light).await {
                Ok(()) => self.checking.store(false, Ordering::Relaxed),
                // Nothing is lost but speed; what failed once is not tried again and again.
                Err(error) => tracing::warn!(error, "light versions keep their guard pages"),
            }
        });
    }

    /// Compiles a light version a second time, with checks, and lets its next instances have that code.
    async fn compile_checked(&self, engine: Arc<VersionEngine>) -> Result<(), String> {
        let (engines, digest) = (Arc::clone(&self.engines), engine.version.module.digest);
        let kit = move || engines.checked().cloned().map_err(|error| format!("{error:#}"));
        let (component, kit) = self.load(kit, digest).await?;
        let pre = kit.linker.instantiate_pre(&component).and_then(p2::bindings::ProxyPre::new);
        let pre = pre.map_err(|error| format!("{error:#}"))?;
        let _ = engine.linked.checked.set(Checked { pre, kit });
        tracing::info!(version = %engine.version.id, "fresh instances of the version do without guard pages from now on");
        Ok(())
    }

    /// Links a component of a known kind.
    pub(super) fn pre_instantiate(&self, component: &Component, kind: GuestKind) -> wasmtime::Result<Arc<Linked>> {
        let kit = self.engines.kit(kind);
        let pre = kit.linker.instantiate_pre(component)?;
        let exports = |interface: &str| component.component_type().get_export(&kit.engine, interface).is_some();
        let [for_03, for_02] = DURABLE_OBJECT_EXPORTS;
        let objects = match kind {
            GuestKind::Wasi02 if exports(for_02) => {
                Some(live::Linked::Wasi02(bindings::worker_p2::WorkerPre::new(pre.clone())?))
            }
            GuestKind::Wasi03 if exports(for_03) => {
                Some(live::Linked::Wasi03(bindings::worker::WorkerPre::new(pre.clone())?))
            }
            GuestKind::Wasi02 | GuestKind::Wasi03 => None,
        };
        let handler = match kind {
            GuestKind::Wasi02 => Handler::Wasi02(p2::bindings::ProxyPre::new(pre)?),
            GuestKind::Wasi03 => Handler::Wasi03(p3::bindings::ServicePre::new(pre)?),
        };
        Ok(Arc::new(Linked { handler, objects, checked: OnceLock::new() }))
    }

    /// Makes a version of `worker` countable: see [`Counter`]. What it says of itself, its id and its time, is the same for all,
    /// since guests do more or less by what they read. Takes a core for as long as an upload does: not on a thread that serves.
    ///
    /// # Errors
    /// As [`Counter::prepare`].
    pub fn counter(
        &self,
        worker: &WorkerName,
        version: &Version,
        workers: &Arc<dyn Callers>,
    ) -> Result<Counter, String> {
        let about = Metadata { id: uuid::Uuid::nil().to_string(), timestamp: rfc3339(0), ..Metadata::of(version) };
        let (outbound, kv) = (Arc::clone(&self.outbound), Some(Arc::clone(&self.kv)));
        let environment = Environment::bind(worker, &about, &version.config, Arc::clone(workers), outbound, kv);
        let subject = exact::Subject {
            module: &self.modules.path(version.module.digest),
            digest: version.module.digest,
            kind: version.module.kind,
            environment: Arc::new(environment),
            limits: version.config.limits,
            memory_bytes_max: self.engines.settings.guest_memory_bytes,
        };
        Counter::prepare(subject, &self.artifacts)
    }

    /// Forgets a version: it is made ready again when it is next needed.
    pub fn retire(&self, id: VersionId) {
        self.retire_all(|candidate, _| candidate == id);
    }

    /// Forgets versions; what runs of them runs to its end.
    fn retire_all(&self, gone: impl Fn(VersionId, &Slot) -> bool) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let ready = self.ready.load();
        if ready.iter().any(|(id, slot)| gone(*id, slot)) {
            let rest =
                ready.iter().filter(|(id, slot)| !gone(**id, slot)).map(|(id, slot)| (*id, Arc::clone(slot))).collect();
            self.ready.store(Arc::new(rest));
        }
    }

    /// The version, if it is ready.
    #[must_use]
    pub fn if_ready(&self, version: VersionId) -> Option<Arc<VersionEngine>> {
        self.ready.load().get(&version).and_then(|slot| slot.get()).cloned()
    }

    /// How many versions are ready.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ready.load().len()
    }

    /// Whether no version is ready.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Gives up what no one has asked for, for as long as the fleet lives.
    ///
    /// # Errors
    /// Never; the type lets it be spawned beside other servers.
    pub async fn sweep_forever(fleet: Weak<Self>) -> io::Result<()> {
        loop {
            tokio::time::sleep(SWEEP).await;
            let Some(fleet) = fleet.upgrade() else { return Ok(()) };
            let (now, light) = fleet.sweep();
            if let Some(light) = light {
                Arc::clone(&fleet).check_in_background(light);
            }
            if fleet.artifacts.is_over_full() || now % TIDY_EVERY_SWEEPS == TIDY_FIRST_SWEEP {
                // One at a time: the next sweep waits for it.
                let _ = tokio::task::spawn_blocking(move || fleet.tidy_artifacts()).await;
            }
        }
    }

    fn tidy_artifacts(&self) {
        let mut claims = self.modules.claims();
        let linked = self.linked.lock().unwrap_or_else(PoisonError::into_inner);
        let running = linked.iter().filter(|(_, linked)| linked.strong_count() > 0);
        claims.extend(running.map(|(digest, _)| (*digest, Claim::Traffic)));
        drop(linked);
        self.artifacts.tidy(&self.engines.all(), &claims);
    }

    /// Returns how many sweeps there have been, and a light version whose code with checks has still to be made, if there is one.
    fn sweep(&self) -> (u64, Option<Arc<VersionEngine>>) {
        let now = self.sweeps.fetch_add(1, Ordering::Relaxed) + 1;
        let unused = |engine: &VersionEngine| now.saturating_sub(engine.last_used.load(Ordering::Relaxed));
        let mut light = None;
        for engine in self.ready.load().values().filter_map(|slot| slot.get()) {
            if engine.under_pressure() || unused(engine) >= IDLE_AFTER_SWEEPS {
                engine.drop_idle();
            }
            let may = engine.linked.kind() == GuestKind::Wasi02 && engine.reuse == Reuse::Never;
            if may && engine.bounds.review(self.engines.settings.guard_pages) && engine.linked.checked.get().is_none() {
                light = Some(Arc::clone(engine));
            }
        }
        // A version that only its engine still holds was deleted.
        let gone =
            |engine: &VersionEngine| Arc::strong_count(&engine.version) == 1 || unused(engine) >= RETIRED_AFTER_SWEEPS;
        self.retire_all(|_, slot| slot.get().is_some_and(|engine| gone(engine)));
        (now, light)
    }
}
