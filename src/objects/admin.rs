//! What people ask about objects, and do to them: list, view, reset, delete, and a plan before a deployment.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use crate::catalog::WorkerView;
use crate::domain::allotment::{Allotment, slot_of_object};
use crate::domain::id::VersionId;
use crate::domain::limits::FORK_LIFE;
use crate::domain::object::{ClassName, ObjectId, ObjectNamespaceId};
use crate::host::object::{Address, Reset};
use crate::host::ports::StoreFault;
use crate::objects::record::{self, Meta, Space};
use crate::objects::{Objects, census, held};
use crate::store::{Check, Order, Range, Write};

/// Records that are read at a time.
const PAGE: usize = 1_000;
/// Objects that a plan names.
const SAMPLE: usize = 20;
/// How often it is looked for copies whose time is over.
const TIDY: Duration = Duration::from_secs(60);

/// What is known of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    pub id: ObjectId,
    pub class: ClassName,
    pub namespace: ObjectNamespaceId,
    pub name: Option<String>,
    /// The version that it is assigned.
    pub assigned: Option<VersionId>,
    /// The version that it runs, if it is in memory. Another one while a deferred change waits.
    pub running: Option<VersionId>,
    /// When its alarm rings, in Unix milliseconds.
    pub alarm_ms: Option<u64>,
    /// Keys and values.
    pub bytes: u64,
    /// Instances that have written.
    pub epoch: u64,
    /// None if it never wrote.
    pub created_ms: Option<u64>,
}

/// What a deployment would do to a worker's objects. Exact up to [`OBJECTS_COUNTED_MAX`](crate::domain::limits::OBJECTS_COUNTED_MAX)
/// objects of a class; beyond, told from so many, but for those in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Objects there are: such as have written, and such as are in memory.
    pub objects: u64,
    /// Those that would run another version.
    pub moving: u64,
    /// Those of them that are in memory: they would be reset.
    pub live_moving: u64,
    /// How many would leave one version for another.
    pub moves: BTreeMap<(VersionId, VersionId), u64>,
    /// Some of those that move, such as are in memory first.
    pub sample: Vec<(Info, VersionId)>,
    /// Whether there are more objects than were counted.
    pub is_estimate: bool,
}

impl Objects {
    /// Up to `limit` objects of a class, by id, from the one after `after` on.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn list(
        &self,
        worker: &WorkerView,
        class: &ClassName,
        after: Option<ObjectId>,
        limit: usize,
    ) -> Result<Vec<Info>, StoreFault> {
        let Some(namespace) = worker.classes.namespace_of(class) else { return Ok(Vec::new()) };
        let space = Space::base(namespace);
        let mut range = space.metas();
        if let Some(after) = after {
            range = range.after(&space.meta_key(after));
        }
        let mut found: BTreeMap<ObjectId, Info> = BTreeMap::new();
        for entry in self.store.scan(range, Order::Ascending, limit).await.map_err(held::failed)? {
            let id = record::id_of_meta(&entry.key).map_err(held::unreadable)?;
            let meta = Meta::from_entry(&entry).map_err(held::unreadable)?;
            found.insert(id, self.info(worker, class, namespace, id, Some(&meta)));
        }
        // Such as have never written are in memory only.
        let live = self.cells.iter().filter(|cell| cell.present().is_some()).map(|cell| *cell.key());
        for address in live.filter(|address| address.namespace == namespace && address.fork.is_none()) {
            if after.is_none_or(|after| address.id > after) {
                found.entry(address.id).or_insert_with(|| self.info(worker, class, namespace, address.id, None));
            }
        }
        Ok(found.into_values().take(limit).collect())
    }

    /// What is known of one object. An object of which nothing is known has only an id.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn view(
        &self,
        worker: &WorkerView,
        class: &ClassName,
        namespace: ObjectNamespaceId,
        id: ObjectId,
    ) -> Result<Info, StoreFault> {
        let key = Space::base(namespace).meta_key(id);
        let entry = self.store.get(&key).await.map_err(held::failed)?;
        let meta = entry.as_ref().map(Meta::from_entry).transpose().map_err(held::unreadable)?;
        Ok(self.info(worker, class, namespace, id, meta.as_ref()))
    }

    fn info(
        &self,
        worker: &WorkerView,
        class: &ClassName,
        namespace: ObjectNamespaceId,
        id: ObjectId,
        meta: Option<&Meta>,
    ) -> Info {
        let address = Address { namespace, id, fork: None };
        let home = self.cells.get(&address).and_then(|cell| cell.present());
        let home = home.filter(|home| !home.object.is_dead());
        let live_name = || home.as_ref().and_then(|home| home.object.name.as_deref().map(str::to_owned));
        Info {
            id,
            class: class.clone(),
            namespace,
            name: meta.and_then(|meta| meta.name.clone()).or_else(live_name),
            assigned: worker
                .active
                .as_ref()
                .map(|active| active.allotment.version_at(slot_of_object(&worker.name, id))),
            running: home.as_ref().map(|home| home.version.id),
            alarm_ms: match &home {
                Some(home) => home.object.storage.alarm(),
                None => meta.and_then(Meta::alarm).map(|alarm| alarm.due_ms),
            },
            bytes: meta.map_or(0, |meta| meta.bytes),
            epoch: meta.map_or(0, |meta| meta.epoch),
            created_ms: meta.map(|meta| meta.created_ms),
        }
    }

    /// What a deployment with `next` would do to the objects of `worker` (`GDO-2`). Versions that keep or gain share lose no
    /// object (`D2`), so nothing moves backwards.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn plan(&self, worker: &WorkerView, next: &Allotment) -> Result<Plan, StoreFault> {
        let mut plan = Plan::default();
        let Some(active) = &worker.active else { return Ok(plan) };
        let moving = |id: ObjectId| {
            let slot = slot_of_object(&worker.name, id);
            let (from, to) = (active.allotment.version_at(slot), next.version_at(slot));
            (from != to).then_some((from, to))
        };
        let mut asleep = Vec::new();
        for (class, namespace) in worker.classes.by_name.iter().map(|(name, class)| (name, class.namespace)) {
            let live = self.in_memory(namespace);
            let (mut counted, mut moves) = (0, BTreeMap::new());
            let times = self.count(namespace, live.clone(), |id, _| {
                counted += 1;
                let Some((from, to)) = moving(id) else { return };
                *moves.entry((from, to)).or_insert(0) += 1;
                if asleep.len() < SAMPLE && !live.contains(&id) {
                    asleep.push((class, namespace, id, to));
                }
            });
            let times = times.await?;
            plan.is_estimate |= times.is_some();
            plan.objects += census::of_all(counted, times);
            for (versions, objects) in moves {
                *plan.moves.entry(versions).or_default() += census::of_all(objects, times);
            }
            // Those that would be reset are told exactly, however many sleep.
            for id in live {
                let Some((_, to)) = moving(id) else { continue };
                let running = self.info(worker, class, namespace, id, None).running;
                if running.is_some_and(|running| running != to) {
                    plan.live_moving += 1;
                    if plan.sample.len() < SAMPLE {
                        plan.sample.push((self.view(worker, class, namespace, id).await?, to));
                    }
                }
            }
        }
        plan.moving = plan.moves.values().sum::<u64>().max(plan.live_moving);
        for (class, namespace, id, to) in asleep.into_iter().take(SAMPLE - plan.sample.len()) {
            plan.sample.push((self.view(worker, class, namespace, id).await?, to));
        }
        Ok(plan)
    }

    /// Has an object leave memory. False if it was not there.
    #[must_use]
    pub fn reset(&self, address: &Address) -> bool {
        let home = self.cells.get(address).and_then(|cell| cell.present()).filter(|home| !home.object.is_dead());
        home.map(|home| home.object.reset(Reset::Asked)).is_some()
    }

    /// Removes all that an object has stored, and its alarm; its instance, if it is in memory, is reset. False if it had nothing.
    ///
    /// # Errors
    /// The store's failure; then it is as it was.
    pub async fn delete(&self, address: &Address) -> Result<bool, StoreFault> {
        let cell = Arc::clone(&self.cells.entry(*address).or_default());
        // No home is made meanwhile.
        let place = cell.place.lock().await;
        let live = cell.present();
        if let Some(home) = &live {
            home.object.reset(Reset::Deleted);
            home.over().await;
        }
        let removed = self.remove(&Space::of(address), address.id).await;
        drop(place);
        drop(cell);
        self.forget(address);
        Ok(removed? || live.is_some())
    }

    async fn remove(&self, space: &Space, id: ObjectId) -> Result<bool, StoreFault> {
        let key = space.meta_key(id);
        let entry = self.store.get(&key).await.map_err(held::failed)?;
        let Some(entry) = entry else { return Ok(false) };
        let meta = Meta::from_entry(&entry).map_err(held::unreadable)?;
        let values = space.values_of(id);
        let mut writes = vec![Write::DeleteRange { start: values.start, end: values.end }, Write::delete(key.clone())];
        if let Some(alarm) = meta.alarm() {
            writes.push(Write::delete(space.alarm_key(alarm.due_ms, id)));
        }
        let check = Check::unchanged(key, Some(&entry));
        self.store.commit(vec![check], writes).await.map_err(held::failed)?;
        Ok(true)
    }

    /// Removes all objects of a namespace, or of a fork of one.
    async fn empty(&self, space: &Space) -> Result<(), StoreFault> {
        loop {
            let page = self.store.scan(space.metas(), Order::Ascending, PAGE).await.map_err(held::failed)?;
            if page.is_empty() {
                // What is left without a record is of no one.
                let Range { start, end } = space.values();
                let writes = vec![Write::DeleteRange { start, end }];
                return self.store.commit(Vec::new(), writes).await.map(drop).map_err(held::failed);
            }
            for entry in page {
                let id = record::id_of_meta(&entry.key).map_err(held::unreadable)?;
                self.remove(space, id).await?;
            }
        }
    }

    /// Removes the objects of classes that are gone, and copies whose version is gone or whose time is over, for as long as the
    /// objects are there. What a crash leaves is removed after it.
    pub async fn tidy_forever(objects: Weak<Self>) {
        let Some(mut changes) = objects.upgrade().map(|objects| objects.catalog.changes()) else { return };
        loop {
            {
                let Some(objects) = objects.upgrade() else { return };
                if let Err(error) = objects.tidy().await {
                    tracing::warn!(%error, "objects of deleted classes could not be removed; it is tried again");
                }
            }
            if let Ok(Err(_)) = tokio::time::timeout(TIDY, changes.changed()).await {
                return;
            }
        }
    }

    async fn tidy(&self) -> Result<(), StoreFault> {
        self.forget_the_calm();
        for namespace in self.catalog.doomed_namespaces() {
            self.expel(|address| address.namespace == namespace).await;
            for (version, _) in self.forks_of(namespace).await? {
                self.drop_fork(namespace, version).await?;
            }
            self.empty(&Space::base(namespace)).await?;
            if let Err(error) = self.catalog.forget_doomed(namespace).await {
                return Err(held::failed(error));
            }
            tracing::info!(%namespace, "the objects of a deleted class were removed");
        }
        let now_ms = self.clock.now_ms();
        let life_ms = u64::try_from(FORK_LIFE.as_millis()).unwrap_or(u64::MAX);
        for (namespace, version, created_ms) in self.forks().await? {
            let owner = self.catalog.glance().object_class(namespace).map(|(worker, _)| Arc::clone(worker));
            let is_gone = owner.is_none_or(|worker| worker.version(version).is_none());
            if is_gone || now_ms.saturating_sub(created_ms) > life_ms {
                self.expel(|address| address.namespace == namespace && address.fork == Some(version)).await;
                self.drop_fork(namespace, version).await?;
                tracing::info!(%namespace, %version, "a version's own copy of objects was removed");
            }
        }
        Ok(())
    }

    /// Resets objects that are no more to be, and waits until they have ended.
    async fn expel(&self, gone: impl Fn(&Address) -> bool) {
        let homes: Vec<_> =
            self.cells.iter().filter(|cell| gone(cell.key())).filter_map(|cell| cell.present()).collect();
        for home in &homes {
            home.object.reset(Reset::Deleted);
        }
        for home in homes {
            home.over().await;
        }
    }

    async fn drop_fork(&self, namespace: ObjectNamespaceId, version: VersionId) -> Result<(), StoreFault> {
        self.empty(&Space::fork(namespace, version)).await?;
        let write = Write::delete(record::fork_key(namespace, version));
        self.store.commit(Vec::new(), vec![write]).await.map(drop).map_err(held::failed)
    }

    async fn forks_of(&self, namespace: ObjectNamespaceId) -> Result<Vec<(VersionId, u64)>, StoreFault> {
        let forks = self.forks().await?.into_iter();
        Ok(forks.filter(|(of, ..)| *of == namespace).map(|(_, version, created_ms)| (version, created_ms)).collect())
    }

    async fn forks(&self) -> Result<Vec<(ObjectNamespaceId, VersionId, u64)>, StoreFault> {
        let entries = self.store.scan(record::forks(), Order::Ascending, usize::MAX).await.map_err(held::failed)?;
        entries.iter().map(|entry| record::from_fork(entry).map_err(held::unreadable)).collect()
    }

    /// Objects of a worker's that are in memory, by the version that they run.
    #[must_use]
    pub fn live_of(&self, worker: &WorkerView) -> BTreeMap<VersionId, u64> {
        let mut live = BTreeMap::new();
        for home in self.cells.iter().filter_map(|cell| cell.present()) {
            if worker.version(home.version.id).is_some() && !home.object.is_dead() {
                *live.entry(home.version.id).or_default() += 1;
            }
        }
        live
    }

    /// When a deferred change of an object's version falls due, from now.
    #[must_use]
    pub fn switches_in(&self, address: &Address) -> Option<Duration> {
        let home = self.cells.get(address).and_then(|cell| cell.present())?;
        let seen = home.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.switch_at.map(|at| at.saturating_duration_since(crate::clock::monotonic()))
    }
}
