//! From the store to a [`View`]: all of it at start, and after each change only what is new. Versions and deployments are
//! never rewritten, so whoever knows a worker up to some number only has to read what comes after.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::pages::{PAGE, Pages};
use super::record::version::Facts;
use super::record::{self, Head, unreadable};
use super::seal::Sealer;
use super::view::DisabledRoutes;
use super::worker::{DEPLOYMENTS_KEPT, WorkerView};
use super::{Error, View};
use crate::domain::deployment::Deployment;
use crate::domain::id::WorkerName;
use crate::domain::object::ObjectNamespaceId;
use crate::store::{self, Entry, Order, Range, Snapshot};

/// The view of `snapshot`. What `known` has already, and what has not changed since, is taken over.
pub(super) async fn view(snapshot: &dyn Snapshot, sealer: &Sealer, known: &View) -> Result<View, Error> {
    let mut facts = Facts::default();
    let mut workers = Vec::new();
    let mut reads = if known.workers().len() == 0 { Reads::of_all(snapshot) } else { Reads::of_some(snapshot) };
    for entry in scan(snapshot, record::heads()).await? {
        let name = record::worker_of(&entry.key).map_err(unreadable(&entry))?;
        let known = known.worker(&name);
        match known.filter(|known| known.revision == entry.revision) {
            Some(known) => workers.push(Arc::clone(known)),
            None => workers.push(worker_of(&mut reads, sealer, name, &entry, known, &mut facts).await?),
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
    let mut facts = Facts::default();
    worker_of(&mut Reads::of_some(snapshot), sealer, name.clone(), &entry, known, &mut facts).await.map(Some)
}

async fn worker_of(
    reads: &mut Reads<'_>,
    sealer: &Sealer,
    name: WorkerName,
    entry: &Entry,
    known: Option<&Arc<WorkerView>>,
    facts: &mut Facts,
) -> Result<Arc<WorkerView>, Error> {
    let head = Head::decode(&entry.value, &name, sealer).map_err(unreadable(entry))?;
    // Another worker of this name, or one that lost something, is read from the beginning.
    let known = known.filter(|known| known.tag == head.tag && known.counters.deletions == head.counters.deletions);
    let counters = known.map(|known| known.counters).unwrap_or_default();

    let mut versions = known.map(|known| known.versions().to_vec()).unwrap_or_default();
    for version in &versions {
        facts.note(&version.module);
    }
    let range = record::versions(&name).after(&record::version_key(&name, counters.versions));
    for entry in reads.versions(range).await? {
        let mut version = record::version::decode(&entry.value, &name, sealer, facts).map_err(unreadable(&entry))?;
        // Versions that follow one another often differ in their code alone.
        let before = versions.last().filter(|before| before.config == version.config);
        version.config = before.map_or(version.config, |before| Arc::clone(&before.config));
        versions.push(Arc::new(version));
    }

    let range = record::deployments(&name).after(&record::deployment_key(&name, counters.deployments));
    let mut deployments = Vec::new();
    for entry in reads.newest_deployments(range, head.counters.deployments).await? {
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

/// How the workers' records are read: of some, each by itself; of all, by pages.
struct Reads<'a> {
    snapshot: &'a dyn Snapshot,
    by_pages: Option<Families<'a>>,
}

struct Families<'a> {
    versions: Pages<'a>,
    deployments: Pages<'a>,
}

impl<'a> Reads<'a> {
    fn of_some(snapshot: &'a dyn Snapshot) -> Self {
        Self { snapshot, by_pages: None }
    }

    /// Whoever reads all workers asks for them in the order of their names.
    fn of_all(snapshot: &'a dyn Snapshot) -> Self {
        let versions = Pages::of(snapshot, record::all_versions());
        let deployments = Pages::of(snapshot, record::all_deployments());
        Self { snapshot, by_pages: Some(Families { versions, deployments }) }
    }

    async fn versions(&mut self, range: Range) -> Result<Vec<Entry>, Error> {
        match &mut self.by_pages {
            Some(families) => families.versions.take(&range).await.map_err(reading),
            None => scan(self.snapshot, range).await,
        }
    }

    /// The newest that are kept in memory, newest first. `last` is the number of the last one there ever was.
    async fn newest_deployments(&mut self, range: Range, last: u64) -> Result<Vec<Entry>, Error> {
        match &mut self.by_pages {
            Some(families) if last <= DEPLOYMENTS_KEPT as u64 => {
                let mut entries = families.deployments.take(&range).await.map_err(reading)?;
                entries.reverse();
                return Ok(entries);
            }
            Some(families) => families.deployments.skip(&range),
            None => {}
        }
        self.snapshot.scan(range, Order::Descending, DEPLOYMENTS_KEPT).await.map_err(reading)
    }
}
