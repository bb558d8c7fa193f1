//! The catalog: which workers there are, which versions each has, and which of them are deployed.
//!
//! # The problem
//!
//! Many requests a moment ask "who is this for, and which version is live?"; now and then someone uploads, deploys, rolls
//! back, edits a secret or moves a route. The first must never wait, not for the disk and not for a lock. The second must be
//! durable when it is acknowledged, must be seen by the very next request, and must hold its rules against another one that
//! happens at the same time: version numbers count without gaps or twins, a route has one owner, what "the latest version"
//! means does not slip between a question and its answer. A map behind a lock fails the first group, and a map that is
//! written through to the disk fails the second as soon as there are two writers.
//!
//! # What we do
//!
//! Truth is in the [`Store`]: a few kinds of records (their keys are listed in `record`), all but one of which are
//! never written again. The exception is a worker's *head*, and every change of a worker checks that the head is what the
//! change was decided on, and writes it. So changes of one worker happen one after the other, whoever makes them, and the
//! store is what orders them. Routes and custom domains cross workers; each has a *claim* under its own key, and a change
//! that takes one checks that nobody has.
//!
//! Readers look at a [`View`], an immutable picture that they get without waiting. A change (1) decides on the present view,
//! (2) commits, with the checks that its decision rests on, (3) reads back what is new, (4) publishes the next view, and only
//! then (5) answers: you read your own writes. If a check fails, someone else was faster: the view is read again and the rule
//! is asked again, which gives either a new commit or the refusal that the caller would have got a moment later. The mutex
//! around this spares needless retries; nothing rests on it.
//!
//! A change runs to its end though its caller goes away: a client that hangs up after (2) must not leave a view that is
//! behind the store.
//!
//! # Words of this room
//!
//! *Publish*: store a version, and perhaps deploy it. *Deploy*: make a deployment of versions that exist. *Draft*: a worker
//! that has a record and no version; its secrets wait. *Head*, *claim*: see above.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::{Mutex, watch};

use crate::clock::Clock;
use crate::domain::module::ModuleDigest;
use crate::store::{Order, Store};

mod change;
mod classes;
mod deploy;
mod doomed;
mod error;
mod load;
mod modules;
mod pages;
mod publish;
mod record;
mod remove;
mod seal;
mod secrets;
mod triggers;
mod view;
mod worker;

#[cfg(test)]
mod tests;

pub use deploy::{ApplyMode, Deployed, Force, NewDeployment};
pub use error::Error;
pub use modules::ModuleStore;
pub use publish::{AndDeploy, Basis, CreateWorker, Expected, Latest, NewVersion, Published, Resolved};
pub use record::Damaged;
pub use seal::{KEY_FILE, Unopened};
pub use secrets::{SecretEdit, SecretTarget, SecretsEdited};
pub use triggers::Subdomain;
pub use view::{BoundObjects, Routed, View};
pub use worker::{DEPLOYMENTS_KEPT, Route, Triggers, WorkerView};

use seal::{IfMissing, Sealer};

/// Bytes of a worker's settings: they are written again with every change of the worker.
pub const SETTINGS_BYTES_MAX: usize = 64 * 1024;

/// How often a change is decided anew because another one was faster, before its caller is told.
const ATTEMPTS_MAX: usize = 32;

/// The catalog of a node. Shared as `Arc<Catalog>`.
pub struct Catalog {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    sealer: Sealer,
    modules: ModuleStore,
    view: ArcSwap<View>,
    /// Told of each new view.
    changed: watch::Sender<()>,
    /// Held from a decision to its view: see the module's documentation.
    turn: Mutex<()>,
}

impl Catalog {
    /// Opens the catalog that lives in `store`, with its modules and its secret key in `data_dir`.
    ///
    /// # Errors
    /// If something cannot be read or made, or if the secret key is missing from a catalog that is not empty.
    pub async fn open(store: Arc<dyn Store>, data_dir: &Path, clock: Arc<dyn Clock>) -> Result<Arc<Self>, Error> {
        let is_empty = store.scan(record::heads(), Order::Ascending, 1).await.map_err(load::reading)?.is_empty();
        let sealer = Sealer::open(data_dir, if is_empty { IfMissing::Make } else { IfMissing::Refuse })?;
        let in_modules = |attempt| move |source| Error::Io { attempt, path: data_dir.join("modules"), source };
        let modules = ModuleStore::open(data_dir).map_err(in_modules("open the modules in"))?;
        let snapshot = store.snapshot().await.map_err(load::reading)?;
        let view = load::view(&*snapshot, &sealer, &View::default()).await?;
        drop(snapshot);

        let live: HashSet<ModuleDigest> =
            view.workers().flat_map(|worker| worker.newest_first().map(|version| version.module.digest)).collect();
        modules.sweep(&live).map_err(in_modules("tidy up"))?;
        for digest in modules.missing(&live) {
            tracing::error!(path = %modules.path(digest).display(), "a module is missing: the versions that have it cannot run");
        }
        Ok(Arc::new(Self {
            store,
            clock,
            sealer,
            modules,
            view: ArcSwap::from_pointee(view),
            changed: watch::Sender::new(()),
            turn: Mutex::new(()),
        }))
    }

    /// The present. It never waits, and never changes under whoever holds it.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// The present, for a glance that ends soon: cheaper than [`Self::view`] where many threads ask at once.
    #[must_use]
    pub fn glance(&self) -> arc_swap::Guard<Arc<View>> {
        self.view.load()
    }

    /// Told of each change of what is deployed, when the new view is there.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// The modules' files.
    #[must_use]
    pub fn modules(&self) -> &ModuleStore {
        &self.modules
    }

    /// Reads again what others have changed in the store. A node that is alone never needs it.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn refresh(&self) -> Result<(), Error> {
        let _turn = self.turn.lock().await;
        self.refresh_all().await
    }
}
