//! From the store to a [`View`]: all of it at start, and after each change only what is new. Versions and deployments are
//! never rewritten, so whoever knows a worker up to some number only has to read what comes after.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::record::{self, Head, unreadable};
use super::seal::Sealer;
use super::view::DisabledRoutes;
use super::worker::{DEPLOYMENTS_KEPT, WorkerView};
use super::{Error, View};
use crate::domain::deployment::Deployment;
use crate::domain::id::WorkerName;
use crate::domain::module::{ModuleDigest, ModuleFacts};
use crate::domain::object::ObjectNamespaceId;
use crate::domain::version::Version;
use crate::store::{self, Entry, Order, Range, Snapshot};

/// Entries of one page of a scan: small beside a view, large beside the cost of asking.
const PAGE: usize = 1000;

/// The view of `snapshot`. What `known` has already, and what has not changed since, is taken over.
pub(super) async fn view(snapshot: &dyn Snapshot, sealer: &Sealer, known: &View) -> Result<View, Error> {
    let mut shared = Shared::default();
    let mut workers = Vec::new();
    for entry in scan(snapshot, record::heads()).await? {
        let name = record::worker_of(&entry.key).map_err(unreadable(&entry))?;
        let known = known.worker(&name);
        match known.filter(|known| known.revision == entry.revision) {
            Some(known) => workers.push(Arc::clone(known)),
            None => workers.push(worker_of(snapshot, sealer, name, &entry, known, &mut shared).await?),
        }
    }
    Ok(View::new(workers, disabled_routes(snapshot).await?, doomed(snapshot).await?))
}

/// The worker `name` in `snapshot`, if it is there.
pub(super) async fn worker(
    snapshot: &dyn Snapshot,
    sealer: &Sealer,
    name: &WorkerName,
    known: Option<&Arc<WorkerView>>,
) -> Result<Option<Arc<WorkerView>>, Error> {
    let key = record::head_key(name);
    let Some(entry) = snapshot.get(&key).await.map_err(reading)? else { return Ok(None) };
    let mut shared = Shared::default();
    worker_of(snapshot, sealer, name.clone(), &entry, known, &mut shared).await.map(Some)
}

async fn worker_of(
    snapshot: &dyn Snapshot,
    sealer: &Sealer,
    name: WorkerName,
    entry: &Entry,
    known: Option<&Arc<WorkerView>>,
    shared: &mut Shared,
) -> Result<Arc<WorkerView>, Error> {
    let head = Head::decode(&entry.value, &name, sealer).map_err(unreadable(entry))?;
    // Another worker of this name, or one that lost something, is read from the beginning.
    let known = known.filter(|known| known.tag == head.tag && known.counters.deletions == head.counters.deletions);
    let counters = known.map(|known| known.counters).unwrap_or_default();

    let mut versions = known.map(|known| known.versions().to_vec()).unwrap_or_default();
    for version in &versions {
        shared.facts.entry(version.module.digest).or_insert_with(|| Arc::clone(&version.module));
    }
    let range = record::versions(&name).after(&record::version_key(&name, counters.versions));
    for entry in scan(snapshot, range).await? {
        let version = record::version::decode(&entry.value, &name, sealer).map_err(unreadable(&entry))?;
        let version = shared.version(version, versions.last());
        versions.push(Arc::new(version));
    }

    let range = record::deployments(&name).after(&record::deployment_key(&name, counters.deployments));
    let mut deployments = Vec::new();
    for entry in snapshot.scan(range, Order::Descending, DEPLOYMENTS_KEPT).await.map_err(reading)? {
        deployments.push(deployment(&entry)?);
    }
    if let Some(known) = known {
        let before = known.deployment_numbers.iter().copied().zip(known.deployments.iter().cloned());
        deployments.extend(before);
        deployments.truncate(DEPLOYMENTS_KEPT);
    }
    Ok(Arc::new(WorkerView::new(name, head, entry.revision, versions, deployments)))
}

fn deployment(entry: &Entry) -> Result<(u64, Arc<Deployment>), Error> {
    let number = record::deployment_number_of(&entry.key).map_err(unreadable(entry))?;
    let deployment = record::deployment::decode(&entry.value).map_err(unreadable(entry))?;
    Ok((number, Arc::new(deployment)))
}

async fn disabled_routes(snapshot: &dyn Snapshot) -> Result<Arc<DisabledRoutes>, Error> {
    match snapshot.get(&record::disabled_routes_key()).await.map_err(reading)? {
        None => Ok(Arc::default()),
        Some(entry) => {
            let patterns = record::decode_disabled_routes(&entry.value).map_err(unreadable(&entry))?;
            Ok(Arc::new(DisabledRoutes { patterns, revision: Some(entry.revision) }))
        }
    }
}

/// The namespaces whose objects have to go.
pub(super) async fn doomed(snapshot: &dyn Snapshot) -> Result<BTreeSet<ObjectNamespaceId>, Error> {
    let entries = scan(snapshot, record::doomed()).await?;
    entries.iter().map(|entry| record::doomed_of(&entry.key).map_err(unreadable(entry))).collect()
}

/// All entries of a range.
async fn scan(snapshot: &dyn Snapshot, range: Range) -> Result<Vec<Entry>, Error> {
    let mut entries: Vec<Entry> = Vec::new();
    loop {
        let rest = match entries.last() {
            None => range.clone(),
            Some(last) => range.clone().after(&last.key),
        };
        let page = snapshot.scan(rest, Order::Ascending, PAGE).await.map_err(reading)?;
        let is_last = page.len() < PAGE;
        entries.extend(page);
        if is_last {
            return Ok(entries);
        }
    }
}

pub(super) fn reading(source: store::Error) -> Error {
    Error::Store { attempt: "read the catalog", source }
}

/// What versions share in memory: a module's facts among all versions that have its bytes, a configuration among versions that
/// follow one another. So one more version of a worker costs hundreds of bytes, not kilobytes.
#[derive(Default)]
struct Shared {
    facts: HashMap<ModuleDigest, Arc<ModuleFacts>>,
}

impl Shared {
    fn version(&mut self, mut version: Version, before: Option<&Arc<Version>>) -> Version {
        let facts = self.facts.entry(version.module.digest).or_insert_with(|| Arc::clone(&version.module));
        // Another Sluice may have measured the same bytes in another way.
        if *facts == version.module {
            version.module = Arc::clone(facts);
        }
        if let Some(before) = before
            && before.config == version.config
        {
            version.config = Arc::clone(&before.config);
        }
        version
    }
}
