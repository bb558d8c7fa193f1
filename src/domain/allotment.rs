//! An allotment: which version owns which of the 100,000 slots of a worker's traffic.
//!
//! Problem: a split says *how much* traffic a version gets; something has to say *which* traffic, so that a user with a key,
//! and a Durable Object with an id, stay where they are. The obvious answer, cumulative intervals in the order of the split,
//! moves keys between versions that did not change whenever a middle share does, or the order of listing. Rendezvous hashing
//! moves few, but its shares are only right on average, and it hashes once for each version.
//!
//! So the allotment is kept, and each deployment derives its own from the one before: a version that keeps or gains share
//! loses no slot, one that loses share gives up exactly the difference, from its highest slots down, and the versions that
//! gain take what was given up, lowest slot first, in the order of the split. Hence, for any number of versions and any
//! order of listing:
//!
//! - **D1** every slot has one owner, and each version owns exactly its share;
//! - **D2** the number of slots that change hands is the least possible, and a growing version's users never leave it (`SEL-4`);
//! - the answer for a slot is a search in a short list, whatever the number of versions.
//!
//! Everything that needs a version becomes a slot: a draw, [`slot_of_key`] of a version key, and [`slot_of_object`] of an object's id.

use sha2::{Digest, Sha256};

use crate::domain::id::{VersionId, WorkerName};
use crate::domain::limits::SLOTS;
use crate::domain::object::ObjectId;
use crate::domain::split::{Share, Split};

/// One of the [`SLOTS`] equal parts of a worker's traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u32);

/// Which version owns which slots under one deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allotment {
    /// The versions that own slots or are listed at 0 %, in the order of the split.
    versions: Vec<VersionId>,
    /// Ends (exclusive) of runs of slots with one owner, ascending; the last is [`SLOTS`]. Neighbours differ in owner.
    ends: Vec<u32>,
    /// The owner of each run, as an index into `versions`.
    owners: Vec<u8>,
}

/// A run of consecutive slots with one owner: the stored form of an allotment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// How many slots it covers, 1 or more.
    pub slots: u32,
    /// Whose they are.
    pub version: VersionId,
}

/// Why stored runs are no allotment of a split. Only damage or our own bug can cause it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the stored allotment does not fit its split: {0}")]
pub struct Mismatch(&'static str);

/// At which share of its present version a slot would move elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tipping {
    /// The version that owns the slot now.
    pub version: VersionId,
    /// The slot leaves when this version's share falls to this, or below.
    pub share: Share,
}

impl Slot {
    /// The slot of a number drawn evenly from all 64-bit numbers: multiplied down, so that no modulo favours low slots.
    #[must_use]
    pub fn from_uniform(number: u64) -> Self {
        let slot = (u128::from(number) * u128::from(SLOTS)) >> 64;
        Self(u32::try_from(slot).unwrap_or(SLOTS - 1))
    }

    /// Which slot it is, from 0.
    #[must_use]
    pub fn index(self) -> u32 {
        self.0
    }
}

/// The slot of a version key (`SEL-3`).
///
/// SHA-256 over three parts, each preceded by its length in bytes as a 32-bit big-endian number: the text `key`, the worker's
/// name, the key's bytes. Its first 8 bytes, big-endian, are multiplied down to [`SLOTS`]. Never salted with the deployment
/// (`SEL-4`); the worker's name is in it so that the same users are not the first of every worker.
#[must_use]
pub fn slot_of_key(worker: &WorkerName, key: &[u8]) -> Slot {
    slot_of("key", worker, key)
}

/// The slot of an object: as [`slot_of_key`], with the text `object` and the id's 32 bytes. Requests and their keys have no part
/// in it (`SEL-15`, `GDO-1`).
#[must_use]
pub fn slot_of_object(worker: &WorkerName, id: ObjectId) -> Slot {
    slot_of("object", worker, id.as_bytes())
}

fn slot_of(domain: &str, worker: &WorkerName, bytes: &[u8]) -> Slot {
    let mut hash = Sha256::new();
    for part in [domain.as_bytes(), worker.as_str().as_bytes(), bytes] {
        // Longer than 4 GiB cannot be: headers and names have limits far below.
        hash.update(u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        hash.update(part);
    }
    let digest = hash.finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    Slot::from_uniform(u64::from_be_bytes(first))
}

impl Allotment {
    /// The allotment of `split` that takes over as much as it can from `previous`, the allotment of the deployment before.
    #[must_use]
    pub fn derive(previous: Option<&Self>, split: &Split) -> Self {
        let versions: Vec<VersionId> = split.entries().iter().map(|(version, _)| *version).collect();
        let mut wanted: Vec<u32> = split.entries().iter().map(|(_, share)| share.slots()).collect();

        // Slots kept: of each version its lowest ones, up to the new share. What is left of `wanted` is what it gains.
        let mut builder = Builder::default();
        let mut freed: Vec<(u32, u32)> = Vec::new();
        match previous {
            None => freed.push((0, SLOTS)),
            Some(previous) => {
                for (start, end, version) in previous.runs() {
                    let Some(index) = versions.iter().position(|id| *id == version) else {
                        freed.push((start, end));
                        continue;
                    };
                    let kept = wanted[index].min(end - start);
                    wanted[index] -= kept;
                    builder.keep(start, start + kept, index);
                    if start + kept < end {
                        freed.push((start + kept, end));
                    }
                }
            }
        }

        // Slots gained: what was freed, lowest first, to the versions in the order of the split.
        let mut gaining = 0;
        for (mut start, end) in freed {
            while start < end {
                while wanted.get(gaining) == Some(&0) {
                    gaining += 1;
                }
                // `D1`: shares sum to all slots, so whoever wants and what is free end together.
                let Some(want) = wanted.get_mut(gaining) else { break };
                let taken = (end - start).min(*want);
                *want -= taken;
                builder.keep(start, start + taken, gaining);
                start += taken;
            }
        }
        builder.finish(versions)
    }

    /// The owner of `slot`.
    #[must_use]
    pub fn version_at(&self, slot: Slot) -> VersionId {
        let run = self.ends.partition_point(|end| *end <= slot.0).min(self.owners.len() - 1);
        self.versions[usize::from(self.owners[run])]
    }

    /// How many slots have different owners in `self` and in `other`.
    #[must_use]
    pub fn moved_from(&self, other: &Self) -> u32 {
        let (mut moved, mut at) = (0, 0);
        let (mut mine, mut theirs) = (self.runs().peekable(), other.runs().peekable());
        while let (Some((_, my_end, my_owner)), Some((_, their_end, their_owner))) = (mine.peek(), theirs.peek()) {
            let end = *my_end.min(their_end);
            if my_owner != their_owner {
                moved += end - at;
            }
            at = end;
            let (mine_done, theirs_done) = (*my_end == end, *their_end == end);
            if mine_done {
                mine.next();
            }
            if theirs_done {
                theirs.next();
            }
        }
        moved
    }

    /// At which share of its owner `slot` would move: what `sluice explain` prints.
    #[must_use]
    pub fn tipping(&self, slot: Slot) -> Tipping {
        let version = self.version_at(slot);
        // An owner gives up its highest slots first, so the slot leaves once only those below it are kept.
        let below: u32 = self
            .runs()
            .filter(|(_, _, owner)| *owner == version)
            .map(|(start, end, _)| end.min(slot.0).saturating_sub(start))
            .sum();
        Tipping { version, share: Share::from_slots(below) }
    }

    /// The stored form.
    #[must_use]
    pub fn to_runs(&self) -> Vec<Run> {
        self.runs().map(|(start, end, version)| Run { slots: end - start, version }).collect()
    }

    /// The allotment that [`Self::to_runs`] wrote for `split`.
    ///
    /// # Errors
    /// If the runs do not cover every slot once, or give a version another share than the split does.
    pub fn from_runs(split: &Split, runs: &[Run]) -> Result<Self, Mismatch> {
        let versions: Vec<VersionId> = split.entries().iter().map(|(version, _)| *version).collect();
        let mut owned = vec![0u32; versions.len()];
        let mut builder = Builder::default();
        let mut at = 0u32;
        for run in runs {
            let owner =
                versions.iter().position(|id| *id == run.version).ok_or(Mismatch("a run names a foreign version"))?;
            let end =
                at.checked_add(run.slots).filter(|end| *end <= SLOTS).ok_or(Mismatch("runs pass the last slot"))?;
            builder.keep(at, end, owner);
            owned[owner] += run.slots;
            at = end;
        }
        if at != SLOTS {
            return Err(Mismatch("runs end before the last slot"));
        }
        if split.entries().iter().zip(&owned).any(|((_, share), owned)| share.slots() != *owned) {
            return Err(Mismatch("a version owns another share than it has"));
        }
        Ok(builder.finish(versions))
    }

    /// (start, end, owner) of each run, ascending.
    fn runs(&self) -> impl Iterator<Item = (u32, u32, VersionId)> + '_ {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts
            .zip(&self.ends)
            .zip(&self.owners)
            .map(|((start, end), owner)| (start, *end, self.versions[usize::from(*owner)]))
    }
}

/// Collects owned ranges in any order and joins them into runs.
#[derive(Default)]
struct Builder {
    ranges: Vec<(u32, u32, usize)>,
}

impl Builder {
    fn keep(&mut self, start: u32, end: u32, owner: usize) {
        if start < end {
            self.ranges.push((start, end, owner));
        }
    }

    fn finish(mut self, versions: Vec<VersionId>) -> Allotment {
        self.ranges.sort_unstable();
        let (mut ends, mut owners) = (Vec::<u32>::new(), Vec::<u8>::new());
        for (start, end, owner) in self.ranges {
            debug_assert_eq!(start, ends.last().copied().unwrap_or(0), "D1: every slot has one owner");
            // At most 20 versions: see `DEPLOYMENT_VERSIONS_MAX`.
            let owner = u8::try_from(owner).unwrap_or(u8::MAX);
            if owners.last() == Some(&owner) {
                if let Some(last) = ends.last_mut() {
                    *last = end;
                }
            } else {
                ends.push(end);
                owners.push(owner);
            }
        }
        debug_assert_eq!(ends.last(), Some(&SLOTS), "D1: an allotment covers every slot");
        Allotment { versions, ends, owners }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(n: u8) -> VersionId {
        VersionId::from_random([n; 16])
    }

    fn split(entries: &[(u8, f64)]) -> Split {
        Split::from_percentages(&entries.iter().map(|(n, p)| (id(*n), *p)).collect::<Vec<_>>()).unwrap()
    }

    /// Splits over 1 to 20 of 24 versions, in any order, in exact slots.
    fn any_split() -> impl Strategy<Value = Split> {
        let versions = prop::sample::subsequence((0..24u8).collect::<Vec<_>>(), 1..=20).prop_shuffle();
        (versions, prop::collection::vec(0..=SLOTS, 19)).prop_map(|(versions, cuts)| {
            let mut cuts: Vec<u32> = cuts.into_iter().take(versions.len() - 1).collect();
            cuts.push(SLOTS);
            cuts.sort_unstable();
            let mut last = 0;
            let entries: Vec<_> = versions
                .iter()
                .zip(cuts)
                .map(|(version, cut)| {
                    let share = Share::from_slots(cut - last).percent();
                    last = cut;
                    (id(*version), share)
                })
                .collect();
            Split::from_percentages(&entries).unwrap()
        })
    }

    fn owned(allotment: &Allotment, version: VersionId) -> u32 {
        allotment.runs().filter(|(_, _, owner)| *owner == version).map(|(start, end, _)| end - start).sum()
    }

    proptest! {
        #[test]
        fn every_slot_is_owned_once_and_shares_are_exact(history in prop::collection::vec(any_split(), 1..6)) {
            let mut before: Option<Allotment> = None;
            for split in &history {
                let now = Allotment::derive(before.as_ref(), split);
                prop_assert_eq!(now.runs().map(|(start, end, _)| end - start).sum::<u32>(), SLOTS);
                prop_assert!(now.ends.is_sorted() && now.owners.windows(2).all(|pair| pair[0] != pair[1]));
                for (version, share) in split.entries() {
                    prop_assert_eq!(owned(&now, *version), share.slots());
                }
                before = Some(now);
            }
        }

        #[test]
        fn who_keeps_or_gains_loses_nothing_and_the_fewest_slots_move(a in any_split(), b in any_split(), c in any_split()) {
            let before = Allotment::derive(Some(&Allotment::derive(None, &a)), &b);
            let after = Allotment::derive(Some(&before), &c);
            let mut gained = 0;
            for (version, share) in c.entries() {
                let had = b.share_of(*version).map_or(0, Share::slots);
                gained += share.slots().saturating_sub(had);
                if share.slots() >= had {
                    for (start, end, _) in before.runs().filter(|(_, _, owner)| owner == version) {
                        for slot in [start, end - 1, u32::midpoint(start, end)] {
                            prop_assert_eq!(after.version_at(Slot(slot)), *version);
                        }
                    }
                }
            }
            // No assignment that gives each version its share can move fewer slots than the versions gain in sum.
            prop_assert_eq!(after.moved_from(&before), gained);
        }

        #[test]
        fn the_stored_form_reads_back(a in any_split(), b in any_split()) {
            let allotment = Allotment::derive(Some(&Allotment::derive(None, &a)), &b);
            prop_assert_eq!(Allotment::from_runs(&b, &allotment.to_runs()).unwrap(), allotment);
        }

        #[test]
        fn a_slot_leaves_exactly_at_its_tipping_share(a in any_split(), number in any::<u64>()) {
            let now = Allotment::derive(None, &a);
            let slot = Slot::from_uniform(number);
            let tipping = now.tipping(slot);
            let shrink = |share: u32| {
                let entries = [(tipping.version, Share::from_slots(share).percent()), (id(99), Share::from_slots(SLOTS - share).percent())];
                Allotment::derive(Some(&now), &Split::from_percentages(&entries).unwrap()).version_at(slot)
            };
            prop_assert_ne!(shrink(tipping.share.slots()), tipping.version);
            prop_assert_eq!(shrink(tipping.share.slots() + 1), tipping.version);
        }

        #[test]
        fn any_key_has_a_slot(key in prop::collection::vec(any::<u8>(), 0..300)) {
            let slot = slot_of_key(&"worker".parse().unwrap(), &key);
            prop_assert!(slot.index() < SLOTS);
        }
    }

    #[test]
    fn the_ends_of_the_numbers_are_the_ends_of_the_slots() {
        assert_eq!(Slot::from_uniform(0).index(), 0);
        assert_eq!(Slot::from_uniform(u64::MAX).index(), SLOTS - 1);
    }

    #[test]
    fn the_hash_is_the_documented_one() {
        // printf '\0\0\0\3key\0\0\0\6worker\0\0\0\3foo' | sha256sum → first 8 bytes, × 100000 / 2^64
        let mut bytes = b"\0\0\0\x03key\0\0\0\x06worker\0\0\0\x03foo".to_vec();
        let digest = Sha256::digest(&bytes);
        let expected = u64::from_be_bytes(digest[..8].try_into().unwrap());
        assert_eq!(slot_of_key(&"worker".parse().unwrap(), b"foo"), Slot::from_uniform(expected));
        bytes.push(0);
        assert_ne!(Sha256::digest(&bytes), digest);
    }

    /// The table of the original document: three keys while version B grows from 20 to 50 to 100 %. Each key moves once, from A
    /// to B, at its own share, and never back.
    #[test]
    fn keys_only_ever_move_towards_the_growing_version() {
        let (a, b) = (1, 2);
        let worker: WorkerName = "worker".parse().unwrap();
        let steps = [vec![(a, 100.0)], vec![(b, 20.0), (a, 80.0)], vec![(b, 50.0), (a, 50.0)], vec![(b, 100.0)]];
        let mut allotment: Option<Allotment> = None;
        let mut table = Vec::new();
        for step in &steps {
            let now = Allotment::derive(allotment.as_ref(), &split(step));
            let row = ["foo", "bar", "baz"].map(|key| {
                let version = now.version_at(slot_of_key(&worker, key.as_bytes()));
                if version == id(a) { 'A' } else { 'B' }
            });
            table.push(row.iter().collect::<String>());
            allotment = Some(now);
        }
        assert_eq!(table[0], "AAA");
        assert_eq!(table[3], "BBB");
        for pair in table.windows(2) {
            for (before, after) in pair[0].chars().zip(pair[1].chars()) {
                assert!(!(before == 'B' && after == 'A'), "a key moved back: {table:?}");
            }
        }
        assert_eq!(table, ["AAA", "AAA", "ABA", "BBB"]);
    }

    #[test]
    fn listing_in_another_order_moves_nothing() {
        let before = Allotment::derive(None, &split(&[(1, 20.0), (2, 30.0), (3, 50.0)]));
        let after = Allotment::derive(Some(&before), &split(&[(3, 50.0), (1, 20.0), (2, 30.0)]));
        assert_eq!(after.moved_from(&before), 0);
    }
}
