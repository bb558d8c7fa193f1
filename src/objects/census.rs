//! Counting the objects of a class from their records, with a bound of work that does not grow with their number; and how many of
//! them each version has.
//!
//! Ids are spread evenly, so those that come first in their order are a fair sample of all: from how far they reach follows how many
//! there are. Up to [`OBJECTS_COUNTED_MAX`] objects the numbers are exact; beyond, they are told from so many.

use std::collections::{HashMap, HashSet};

use crate::catalog::WorkerView;
use crate::domain::allotment::slot_of_object;
use crate::domain::id::VersionId;
use crate::domain::limits::OBJECTS_COUNTED_MAX;
use crate::domain::object::{ClassName, ObjectId, ObjectNamespaceId};
use crate::host::ports::StoreFault;
use crate::objects::record::{self, Space};
use crate::objects::{Objects, held};
use crate::store::Order;

/// Keys that are read at a time.
const PAGE: usize = 1_000;

/// What the objects of a class run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Census {
    /// By the version that they are assigned; none without a deployment. Of those that were counted.
    pub by_version: HashMap<Option<VersionId>, u64>,
    /// Keys and values of those that were counted, in bytes.
    pub bytes: u64,
    /// Objects that were counted.
    pub counted: u64,
    /// All that are in memory.
    pub in_memory: u64,
    /// By how much there are more than were counted; none if that were all.
    pub times: Option<f64>,
}

impl Census {
    /// A number of those that were counted, for all.
    #[must_use]
    pub fn of_all(&self, counted: u64) -> u64 {
        of_all(counted, self.times)
    }

    fn count(&mut self, assigned: Option<VersionId>, bytes: u64) {
        *self.by_version.entry(assigned).or_default() += 1;
        self.bytes += bytes;
        self.counted += 1;
    }
}

impl Objects {
    /// Counts the objects of a class by the version that they are assigned.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn census(&self, worker: &WorkerView, class: &ClassName) -> Result<Census, StoreFault> {
        let mut census = Census::default();
        let Some(namespace) = worker.classes.namespace_of(class) else { return Ok(census) };
        let assigned = |id: ObjectId| {
            let active = worker.active.as_ref()?;
            Some(active.allotment.version_at(slot_of_object(&worker.name, id)))
        };
        let live = self.in_memory(namespace);
        census.in_memory = live.len() as u64;
        census.times = self.count(namespace, live, |id, bytes| census.count(assigned(id), bytes)).await?;
        Ok(census)
    }

    /// Shows `seen` objects of a namespace with what they keep in bytes: all, or those whose ids come first if there are more than
    /// [`OBJECTS_COUNTED_MAX`]. `live` are those in memory, of which some may never have written. Returns by how much there are
    /// more than it has shown; none if those were all.
    ///
    /// # Errors
    /// The store's failure.
    pub(super) async fn count(
        &self,
        namespace: ObjectNamespaceId,
        mut live: HashSet<ObjectId>,
        mut seen: impl FnMut(ObjectId, u64),
    ) -> Result<Option<f64>, StoreFault> {
        let (mut range, mut stored) = (Space::base(namespace).metas(), 0);
        let last = loop {
            let entries = self.store.scan(range.clone(), Order::Ascending, PAGE).await.map_err(held::failed)?;
            for entry in &entries {
                let id = record::id_of_meta(&entry.key).map_err(held::unreadable)?;
                live.remove(&id);
                seen(id, record::bytes_of(entry).map_err(held::unreadable)?);
            }
            stored += entries.len();
            let Some(last) = entries.last().filter(|_| entries.len() == PAGE) else { break None };
            range = range.after(&last.key);
            if stored >= OBJECTS_COUNTED_MAX {
                let is_more = !self.store.scan(range, Order::Ascending, 1).await.map_err(held::failed)?.is_empty();
                break if is_more { Some(record::id_of_meta(&last.key).map_err(held::unreadable)?) } else { None };
            }
        };
        live.into_iter().filter(|id| last.is_none_or(|last| *id <= last)).for_each(|id| seen(id, 0));
        Ok(last.map(times))
    }

    /// The objects of a namespace that are in memory.
    pub(super) fn in_memory(&self, namespace: ObjectNamespaceId) -> HashSet<ObjectId> {
        let live = self.cells.iter().filter(|cell| cell.present().is_some_and(|home| !home.object.is_dead()));
        let live = live.map(|cell| *cell.key()).filter(|at| at.namespace == namespace && at.fork.is_none());
        live.map(|address| address.id).collect()
    }
}

/// By how much there are more objects than those up to this one: by which part of all ids that is.
#[expect(clippy::cast_precision_loss, reason = "a share")]
fn times(last: ObjectId) -> f64 {
    let mut first = [0; 8];
    first.copy_from_slice(&last.as_bytes()[..8]);
    2.0_f64.powi(64) / (u64::from_be_bytes(first) as f64 + 1.0)
}

/// A number of those that were counted, for all.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an estimate")]
pub(super) fn of_all(counted: u64, times: Option<f64>) -> u64 {
    times.map_or(counted, |times| (counted as f64 * times).round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_far_a_sample_reaches_tells_how_many_there_are() {
        let namespace = ObjectNamespaceId::from_bytes([7; 16]);
        let mut ids: Vec<ObjectId> = (0..4_000).map(|n| namespace.id_from_name(&n.to_string())).collect();
        ids.sort_unstable();
        let census = Census { times: Some(times(ids[999])), counted: 1_000, ..Census::default() };
        let told = census.of_all(1_000);
        assert!((3_600..4_400).contains(&told), "{told}");
        assert_eq!(Census::default().of_all(7), 7);
    }
}
