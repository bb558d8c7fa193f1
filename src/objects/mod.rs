//! Durable Objects: identity, single home, gates, storage order.
//!
//! # The problem
//!
//! An object is a name behind which there is one thing: one memory, one storage, one version of its code. Requests for it come
//! from everywhere at once, a deployment may move it to another version at any moment, and its process may die between any two
//! instructions. Each obvious answer fails. A lock around "find it or start it" holds up whoever asks for others. "Reset all when
//! something is deployed" disturbs those whose version did not change. And an instance that was replaced does not know it: it
//! goes on writing.
//!
//! # The answer
//!
//! - **Identity** is in [`domain::object`](crate::domain::object): an id is derived from its namespace's, and says so.
//! - An object is **assigned** the version that owns its slot under the active deployment of its class's worker
//!   ([`Objects::home`]). Requests, keys and overrides have no part in that (`SEL-15`, `GDO-8`).
//! - Its **home** ([`home`]) is one task with one instance and a mailbox. Each object has a place of its own to wait at while it
//!   starts; whoever wants another object does not wait there.
//! - What it wrote is **held** by its instance ([`held`]): a commit checks the record that the instance found or wrote last, so
//!   that one which was superseded can write nothing more (`O1`).
//! - It is **reset** when, and only when, its assignment changes ([`reset`]): at once, or deferred to when it leaves memory by
//!   itself (`DOU-2`). Events that it had not begun go to the next instance; callers in flight are told (`DOL-8`).
//! - What **happened** to it on this node is remembered for a while, for people ([`past`]).
//! - **Alarms** ([`alarms`]) are in an index by time, of which only the next part is in memory.
//!
//! An object that never writes leaves no trace: it is an id and a program.

pub mod admin;
pub mod alarms;
pub mod census;
mod held;
pub mod home;
pub mod past;
mod record;
pub mod reset;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use dashmap::DashMap;
use tokio::runtime::Handle;

use crate::catalog::{Catalog, WorkerView};
use crate::clock::Clock;
use crate::domain::allotment::slot_of_object;
use crate::domain::deployment::CodeUpdate;
use crate::domain::id::{DeploymentId, WorkerName};
use crate::domain::limits::{LIVE_OBJECTS, OBJECT_IDLE};
use crate::domain::object::{ClassName, ObjectNamespaceId};
use crate::domain::version::Version;
use crate::engine::fleet::Fleet;
use crate::host::object::{Address, Reset};
use crate::host::ports::{Callers, ObjectError, ObjectTarget};
use crate::objects::alarms::Wake;
use crate::objects::home::{Cell, Home};
use crate::objects::past::Pasts;
use crate::observe::exposition::Exposition;
use crate::store::Store;

/// What an operator may choose.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// How long an object without events stays in memory (`--object-idle`).
    pub idle: Duration,
    /// Objects in memory at once (`--live-objects`).
    pub live: u32,
}

/// The objects of a node.
pub struct Objects {
    catalog: Arc<Catalog>,
    fleet: Arc<Fleet>,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    settings: Settings,
    /// The objects in memory, and those that somebody waits for.
    cells: DashMap<Address, Arc<Cell>>,
    wake: Wake,
    /// Who runs what an object's worker calls; known once the dispatcher is made.
    workers: OnceLock<Weak<dyn Callers>>,
    stopping: AtomicBool,
    counts: Mutex<HashMap<WorkerName, Arc<Counts>>>,
    pasts: Pasts,
    /// Where objects live: the runtime that this was made in.
    runtime: Handle,
}

/// What happened to the objects of a worker since the node started.
#[derive(Debug, Default)]
pub struct Counts {
    /// Objects that came to memory.
    pub started: AtomicU64,
    /// Objects that were reset because their assignment changed.
    pub reassigned: AtomicU64,
    /// Objects that were reset because their code failed.
    pub failed: AtomicU64,
}

/// Which version an object runs under the active deployment, and why.
pub struct Assignment {
    pub worker: Arc<WorkerView>,
    pub class: ClassName,
    pub version: Arc<Version>,
    pub deployment: DeploymentId,
    pub code_update: CodeUpdate,
}

impl Default for Settings {
    fn default() -> Self {
        Self { idle: OBJECT_IDLE, live: LIVE_OBJECTS }
    }
}

impl Objects {
    /// None in memory yet. They will live in the present runtime.
    ///
    /// # Panics
    /// Outside of a runtime.
    #[must_use]
    pub fn new(
        catalog: Arc<Catalog>,
        fleet: Arc<Fleet>,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        settings: Settings,
    ) -> Arc<Self> {
        let pasts = Pasts::new(clock.now_ms());
        Arc::new(Self {
            catalog,
            fleet,
            store,
            clock,
            pasts,
            settings,
            cells: DashMap::new(),
            wake: Wake::default(),
            workers: OnceLock::new(),
            stopping: AtomicBool::new(false),
            counts: Mutex::default(),
            runtime: Handle::current(),
        })
    }

    /// None, over engines as small as they come, for rooms above that only ask.
    #[cfg(test)]
    pub(crate) fn for_tests(
        catalog: &Arc<Catalog>,
        store: &Arc<dyn Store>,
        clock: &Arc<dyn Clock>,
        folder: &std::path::Path,
    ) -> Arc<Self> {
        use crate::engine::{artifacts, engines, fleet::ModuleSource};
        use crate::host::outbound::{Outbound, Policy};

        struct NoModules;
        impl ModuleSource for NoModules {
            fn path(&self, digest: crate::domain::module::ModuleDigest) -> std::path::PathBuf {
                digest.to_string().into()
            }

            fn claims(&self) -> std::collections::HashMap<crate::domain::module::ModuleDigest, artifacts::Claim> {
                std::collections::HashMap::new()
            }
        }
        let small = engines::Settings { instances: 1, objects: 1, ..engines::Settings::default() };
        let engines = Arc::new(engines::Engines::new(small).expect("room for one instance"));
        let artifacts = artifacts::Artifacts::open(folder.join("artifacts"), 0).expect("a folder");
        let outbound = Arc::new(Outbound::new(Policy::any()));
        let kv = crate::kv::Kv::new(Arc::clone(store), Arc::clone(clock));
        let observer = crate::observe::Observer::new(Arc::clone(clock), None);
        let fleet = Fleet::new(engines, artifacts, Arc::new(NoModules), outbound, kv, observer);
        Self::new(Arc::clone(catalog), fleet, Arc::clone(store), Arc::clone(clock), Settings::default())
    }

    /// Says who runs what the objects' workers call. Once, before the first event.
    pub fn introduce(&self, workers: Weak<dyn Callers>) {
        let _ = self.workers.set(workers);
    }

    /// The namespace of the objects of `class` of `worker`.
    ///
    /// # Errors
    /// There is none; in words.
    pub fn namespace(&self, worker: &WorkerName, class: &ClassName) -> Result<ObjectNamespaceId, String> {
        let view = self.catalog.glance();
        view.object_namespace(worker, class).ok_or_else(|| match view.worker(worker) {
            Some(_) => format!("worker `{worker}` has no Durable Object class `{class}`"),
            None => format!("there is no worker `{worker}`, whose Durable Object class `{class}` is bound"),
        })
    }

    /// The worker whose class an object is of.
    ///
    /// # Errors
    /// The class is gone.
    pub fn owner(&self, address: &Address) -> Result<Arc<WorkerView>, ObjectError> {
        let view = self.catalog.glance();
        view.object_class(address.namespace).map(|(worker, _)| Arc::clone(worker)).ok_or_else(class_is_gone)
    }

    /// Whether the assignment of `home` was looked at under the present deployment, and nothing waits to be changed.
    fn is_up_to_date(&self, home: &Home) -> bool {
        let view = self.catalog.glance();
        let active = view.object_class(home.address.namespace).and_then(|(worker, _)| worker.active.as_ref());
        let seen = home.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.switch_at.is_none() && active.is_some_and(|active| active.id == seen.deployment)
    }

    /// Which version an object is assigned now (`GDO-1`).
    ///
    /// # Errors
    /// Its class is gone, or its worker has no deployment.
    pub fn assignment(&self, address: &Address) -> Result<Assignment, ObjectError> {
        let view = self.catalog.glance();
        let Some((worker, class)) = view.object_class(address.namespace) else {
            return Err(class_is_gone());
        };
        let Some(active) = &worker.active else {
            return Err(gone(format!(
                "worker `{}`, which this Durable Object belongs to, has no deployment",
                worker.name
            )));
        };
        let id = match address.fork {
            Some(version) => version,
            None => active.allotment.version_at(slot_of_object(&worker.name, address.id)),
        };
        let Some(version) = worker.version(id) else {
            return Err(gone(format!("worker `{}` has no version `{id}`", worker.name)));
        };
        Ok(Assignment {
            worker: Arc::clone(worker),
            class: class.clone(),
            version: Arc::clone(version),
            deployment: active.id,
            code_update: active.code_update,
        })
    }

    /// The one home of an object under its present assignment; made if there is none.
    ///
    /// # Errors
    /// Why there can be none now.
    pub async fn home(self: &Arc<Self>, target: &ObjectTarget) -> Result<Arc<Home>, ObjectError> {
        if self.is_stopping() {
            return Err(stopping());
        }
        let cell = Arc::clone(&self.cells.entry(target.address).or_default());
        let mut place = cell.place.lock().await;
        if let Some(home) = place.as_ref().filter(|home| !home.object.is_dead() && self.is_up_to_date(home)) {
            return Ok(Arc::clone(home));
        }
        let assignment = self.assignment(&target.address)?;
        if let Some(home) = place.as_ref() {
            if !home.object.is_dead() && self.fits(&cell, home, &assignment) {
                return Ok(Arc::clone(home));
            }
            // What it has handed to the store must be known before another reads it.
            home.over().await;
        }
        *place = None;
        cell.back_off()?;
        let home = self.start(&cell, target, assignment).await?;
        *place = Some(Arc::clone(&home));
        Ok(home)
    }

    /// The counts of a worker's objects.
    #[must_use]
    pub fn counts(&self, worker: &WorkerName) -> Arc<Counts> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(counts) = counts.get(worker) {
            return Arc::clone(counts);
        }
        Arc::clone(counts.entry(worker.clone()).or_default())
    }

    /// Writes how many there are; what happened to them is counted by version ([`crate::observe::metrics`]).
    pub fn expose(&self, text: &mut Exposition) {
        text.single("sluice_objects_live", self.live());
    }

    /// Objects in memory, or about to be.
    #[must_use]
    pub fn live(&self) -> usize {
        self.cells.iter().filter(|cell| cell.present().is_some()).count()
    }

    /// Ends all objects; none comes to memory any more. What they have handed to the store is waited for.
    pub async fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        let cells: Vec<Arc<Cell>> = self.cells.iter().map(|cell| Arc::clone(&cell)).collect();
        for cell in &cells {
            if let Some(home) = cell.present() {
                home.object.reset(Reset::Stopping);
            }
        }
        for cell in cells {
            if let Some(home) = cell.present() {
                home.over().await;
            }
        }
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Forgets the place of an object that is not in memory, unless somebody waits there.
    fn forget(&self, address: &Address) {
        self.cells.remove_if(address, |_, cell| {
            Arc::strong_count(cell) == 1 && cell.present().is_none_or(|home| home.object.is_dead()) && cell.is_calm()
        });
    }
}

/// The record of an object of this name that has written nothing but its record.
#[cfg(test)]
pub(crate) fn stored_for_tests(namespace: ObjectNamespaceId, name: &str) -> crate::store::Write {
    let mut meta = record::Meta::new(1_700_000_000_000);
    meta.name = Some(name.to_owned());
    crate::store::Write::put(record::Space::base(namespace).meta_key(namespace.id_from_name(name)), meta.to_bytes())
}

fn class_is_gone() -> ObjectError {
    gone("this Durable Object's class was deleted".to_owned())
}

fn gone(message: String) -> ObjectError {
    ObjectError { message, remote: false, retryable: false, overloaded: false, reset: false }
}

pub(crate) fn stopping() -> ObjectError {
    ObjectError { retryable: true, ..gone("the node is stopping".to_owned()) }
}

pub(crate) fn overloaded(message: &str) -> ObjectError {
    ObjectError { overloaded: true, ..gone(message.to_owned()) }
}

/// The object's own code failed, or answered with an error; it goes on.
pub(crate) fn remote(failure: &crate::engine::failure::Failure) -> ObjectError {
    ObjectError { remote: true, ..gone(failure.to_string()) }
}

/// A chain of calls came back to an object that takes one event at a time and waits for it.
pub(crate) fn waits_for_itself() -> ObjectError {
    gone("this call comes back to a Durable Object that waits for it and takes one event at a time: it would wait for itself".to_owned())
}
