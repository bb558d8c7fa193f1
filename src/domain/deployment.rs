//! A deployment: an immutable record of a split over versions, with who, why and when. The newest of a worker is active.

use std::borrow::Borrow;

use crate::domain::allotment::{Allotment, Slot};
use crate::domain::id::{DeploymentId, VersionId};
use crate::domain::split::Split;
use crate::domain::version::{Provenance, Trigger, Version};

/// One deployment. A change of shares is a new one (`DEP-1`).
#[derive(Debug, Clone)]
pub struct Deployment {
    pub id: DeploymentId,
    /// Unix time in milliseconds.
    pub created_ms: u64,
    pub provenance: Provenance,
    pub triggered_by: Trigger,
    pub message: Option<String>,
    pub split: Split,
    /// Which version owns which slots, derived from the deployment before (`D2`).
    pub allotment: Allotment,
    pub code_update: CodeUpdate,
}

/// When a running Durable Object takes a new assignment (`DOU-2`, `DOU-3`). Recorded with the deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodeUpdate {
    /// At once: where the caller says nothing.
    Immediate,
    /// When it leaves memory, or after this many seconds.
    Deferred { max_delay_s: u32 },
}

impl CodeUpdate {
    /// Deferred where nobody says for how long: what wrangler sends by itself.
    pub const DEFERRED: Self = Self::Deferred { max_delay_s: 300 };
    /// The longest delay in seconds: a day.
    const DELAY_S_MAX: f64 = 86_400.0;

    /// Deferred for so many seconds at the most, a part of one counting as a whole one. None if that is less than nothing or more than
    /// a day.
    #[must_use]
    pub fn deferred(seconds: f64) -> Option<Self> {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 86400")]
        let deferred = || Self::Deferred { max_delay_s: seconds.ceil() as u32 };
        (0.0..=Self::DELAY_S_MAX).contains(&seconds).then(deferred)
    }

    /// What becomes of objects in memory whose version a deployment would change, in a sentence.
    #[must_use]
    pub fn resets_in_words(self, in_memory: u64) -> String {
        let (are, they) = if in_memory == 1 { ("is", "it leaves") } else { ("are", "they leave") };
        let when = match self {
            Self::Immediate => "at once".to_owned(),
            Self::Deferred { max_delay_s } => format!("when {they} memory, or after {max_delay_s} s"),
        };
        match in_memory {
            0 => "None of them is in memory, so none would be reset.".to_owned(),
            _ => format!("{in_memory} of them {are} in memory and would be reset {when}."),
        }
    }
}

/// The default target of a rollback (`RBK-3`, E12): the version at 100 % in the newest deployment before the active one whose
/// version at 100 % is not the one that is at 100 % now. `newest_first[0]` is the active deployment.
#[must_use]
pub fn rollback_target<'a>(newest_first: impl IntoIterator<Item = &'a Split>) -> Option<VersionId> {
    let mut splits = newest_first.into_iter();
    let live = splits.next()?.stable();
    splits.filter_map(Split::stable).find(|version| Some(*version) != live)
}

/// The deployments that gave `slot` another version than the one before had, each with that version; newest first, as they are given. The
/// oldest that is known is one of them.
#[must_use]
pub fn assignments<D: Borrow<Deployment>>(newest_first: &[D], slot: Slot) -> Vec<(&D, VersionId)> {
    let owner = |deployment: &D| deployment.borrow().allotment.version_at(slot);
    let pairs = newest_first.iter().enumerate().map(|(index, deployment)| (deployment, newest_first.get(index + 1)));
    pairs
        .filter(|(deployment, before)| before.is_none_or(|before| owner(before) != owner(deployment)))
        .map(|(deployment, _)| (deployment, owner(deployment)))
        .collect()
}

/// What a deployments call is, since callers never say (`WRANGLER_API` 2.4): a rollback puts all traffic on a version that is
/// older than the newest that carries some now.
#[must_use]
pub fn trigger_of(split: &Split, active: Option<&Split>, number_of: impl Fn(VersionId) -> u64) -> Trigger {
    let (Some(target), Some(active)) = (split.stable(), active) else { return Trigger::Deployment };
    let carrying = active.entries().iter().filter(|(_, share)| share.slots() > 0);
    let newest = carrying.map(|(version, _)| number_of(*version)).max().unwrap_or(0);
    if number_of(target) < newest { Trigger::Rollback } else { Trigger::Deployment }
}

/// The newest of the versions that are live: what a target's secrets are compared with (`DEP-10`).
#[must_use]
pub fn newest_live<'a>(split: &Split, versions: impl Iterator<Item = &'a Version>) -> Option<&'a Version> {
    versions.filter(|version| split.share_of(version.id).is_some()).max_by_key(|version| version.number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::version::Source;

    fn id(n: u8) -> VersionId {
        VersionId::from_random([n; 16])
    }

    fn split(entries: &[(u8, f64)]) -> Split {
        Split::from_percentages(&entries.iter().map(|(n, p)| (id(*n), *p)).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn who_is_reset_and_when() {
        let told = |in_memory, update: CodeUpdate| update.resets_in_words(in_memory);
        assert_eq!(told(0, CodeUpdate::Immediate), "None of them is in memory, so none would be reset.");
        let two = told(2, CodeUpdate::Immediate);
        assert_eq!(two, "2 of them are in memory and would be reset at once.");
        let one = told(1, CodeUpdate::DEFERRED);
        assert_eq!(one, "1 of them is in memory and would be reset when it leaves memory, or after 300 s.");
    }

    #[test]
    fn a_delay_is_at_most_a_day_and_counts_in_whole_seconds() {
        let seconds = |seconds| match CodeUpdate::deferred(seconds) {
            Some(CodeUpdate::Deferred { max_delay_s }) => Some(max_delay_s),
            _ => None,
        };
        assert_eq!([0.0, 0.5, 30.0, 86_400.0].map(seconds), [Some(0), Some(1), Some(30), Some(86_400)]);
        assert_eq!([-0.5, 86_400.5, f64::NAN, f64::INFINITY].map(seconds), [None; 4]);
    }

    #[test]
    fn a_rollback_skips_what_is_already_live() {
        let history = [
            split(&[(3, 0.0), (2, 100.0)]),
            split(&[(2, 100.0)]),
            split(&[(1, 50.0), (2, 50.0)]),
            split(&[(1, 100.0)]),
        ];
        assert_eq!(rollback_target(&history), Some(id(1)));
        assert_eq!(rollback_target(&history[3..]), None);
        assert_eq!(rollback_target(&[]), None);
        // From a split, the newest stable version before it.
        assert_eq!(rollback_target(&[split(&[(1, 50.0), (2, 50.0)]), split(&[(2, 100.0)])]), Some(id(2)));
    }

    #[test]
    fn a_slot_is_assigned_by_the_deployments_that_gave_it_another_version_and_by_no_other() {
        let shares: [&[(u8, f64)]; 6] = [
            &[(1, 100.0)],
            &[(2, 0.0), (1, 100.0)],
            &[(2, 20.0), (1, 80.0)],
            &[(2, 50.0), (1, 50.0)],
            &[(2, 100.0)],
            &[(1, 100.0)],
        ];
        let mut deployments: Vec<Deployment> = Vec::new();
        for (n, entries) in (0..).zip(shares) {
            let split = split(entries);
            let before = deployments.first().map(|before| &before.allotment);
            let made = Deployment {
                id: DeploymentId::from_random([n; 16]),
                created_ms: n.into(),
                provenance: Provenance { author: "ada".into(), source: Source::Api },
                triggered_by: Trigger::Deployment,
                message: None,
                allotment: Allotment::derive(before, &split),
                split,
                code_update: CodeUpdate::Immediate,
            };
            deployments.insert(0, made);
        }
        let of = |deployments: &[Deployment], slot: u64| {
            let slot = Slot::from_uniform(u64::MAX / 100_000 * slot + u64::MAX / 200_000);
            let found = assignments(deployments, slot).into_iter();
            found.map(|(deployment, version)| (deployment.created_ms, version)).collect::<Vec<_>>()
        };
        // Versions give up their highest slots first.
        for (slot, moved_at) in [(99_999, 2), (70_000, 3), (0, 4)] {
            assert_eq!(of(&deployments, slot), [(5, id(1)), (moved_at, id(2)), (0, id(1))], "{slot}");
        }
        assert_eq!(of(&deployments[5..], 99_999), [(0, id(1))]);
        assert!(assignments::<Deployment>(&[], Slot::from_uniform(0)).is_empty());
    }

    #[test]
    fn a_call_that_returns_to_an_older_version_is_a_rollback() {
        let number = |version: VersionId| (0..9).find(|n| id(*n) == version).map_or(0, u64::from);
        let active = split(&[(3, 100.0)]);
        assert_eq!(trigger_of(&split(&[(2, 100.0)]), Some(&active), number), Trigger::Rollback);
        assert_eq!(trigger_of(&split(&[(4, 100.0)]), Some(&active), number), Trigger::Deployment);
        assert_eq!(trigger_of(&split(&[(2, 50.0), (3, 50.0)]), Some(&active), number), Trigger::Deployment);
        assert_eq!(trigger_of(&split(&[(2, 100.0)]), None, number), Trigger::Deployment);
        // From a canary back to what was there before; a version at 0 % carries nothing to roll back from.
        assert_eq!(trigger_of(&split(&[(2, 100.0)]), Some(&split(&[(3, 20.0), (2, 80.0)])), number), Trigger::Rollback);
        assert_eq!(
            trigger_of(&split(&[(2, 100.0)]), Some(&split(&[(3, 0.0), (2, 100.0)])), number),
            Trigger::Deployment
        );
    }
}
