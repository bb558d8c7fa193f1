//! What happened to objects on this node since it started: when each was in memory, on which version, why it left, and what became of its
//! last alarm. In memory only, for people who look at one object; nothing is decided by it.
//!
//! Bounded by [`OBJECT_PASTS_MAX`] objects. They are in two generations: what happens to an object brings it into the young one, and
//! when that is full it becomes the old one, and what was old is forgotten. So it is those that were quiet for longest, without any order
//! to be kept; a start costs one look-up.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::domain::id::VersionId;
use crate::domain::limits::OBJECT_PASTS_MAX;
use crate::domain::stay::{Left, Stay, Stays};
use crate::host::object::{Address, Reset};
use crate::objects::Objects;
use crate::objects::alarms::Ended;
use crate::objects::home::Over;

/// The pasts of the objects of a node.
pub(super) struct Pasts(Mutex<Generations>);

struct Generations {
    young: HashMap<Address, Life>,
    old: HashMap<Address, Life>,
    /// Since when nothing was forgotten, in Unix milliseconds.
    since_ms: u64,
}

struct Life {
    since_ms: u64,
    stays: Stays,
    rang: Option<Rang>,
}

/// What is known of an object's past.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Past {
    /// What was before is not known, in Unix milliseconds.
    pub since_ms: u64,
    /// Newest first.
    pub stays: Vec<Stay>,
    pub rang: Option<Rang>,
}

/// How an object's last alarm ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rang {
    pub due_ms: u64,
    pub ended_ms: u64,
    pub outcome: Outcome,
}

/// What became of an alarm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Well,
    /// The object's code failed; in words.
    Failed(String),
    /// It could not be brought to the object, or the object ended with it.
    Lost(String),
}

impl Pasts {
    /// Of a node that starts now.
    pub(super) fn new(now_ms: u64) -> Self {
        Self(Mutex::new(Generations { young: HashMap::new(), old: HashMap::new(), since_ms: now_ms }))
    }

    pub(super) fn started(&self, address: &Address, version: VersionId, now_ms: u64) {
        self.note(address, now_ms, |life| life.stays.started(version, now_ms));
    }

    pub(super) fn left(&self, address: &Address, why: Left, now_ms: u64) {
        self.note(address, now_ms, |life| life.stays.left(why, now_ms));
    }

    pub(super) fn rang(&self, address: &Address, due_ms: u64, ended: &Ended, now_ms: u64) {
        let outcome = match ended {
            Ended::Nothing => return,
            Ended::Noted(Ok(())) => Outcome::Well,
            Ended::Noted(Err(message)) => Outcome::Failed(message.clone()),
            Ended::Lost(Some(reset)) if reset.is_guests() => Outcome::Failed(reset.to_string()),
            Ended::Lost(Some(reset)) => Outcome::Lost(reset.to_string()),
            Ended::Lost(None) => Outcome::Lost("it could not be brought to the object".to_owned()),
        };
        self.note(address, now_ms, |life| life.rang = Some(Rang { due_ms, ended_ms: now_ms, outcome }));
    }

    fn note(&self, address: &Address, now_ms: u64, what: impl FnOnce(&mut Life)) {
        // Nobody can ask for a copy.
        if address.fork.is_some() {
            return;
        }
        let mut pasts = self.generations();
        if let Some(life) = pasts.young.get_mut(address) {
            return what(life);
        }
        if pasts.young.len() >= OBJECT_PASTS_MAX / 2 {
            let young = std::mem::take(&mut pasts.young);
            if !std::mem::replace(&mut pasts.old, young).is_empty() {
                pasts.since_ms = now_ms;
            }
        }
        let since_ms = pasts.since_ms;
        let known = pasts.old.remove(address);
        let mut life = known.unwrap_or_else(|| Life { since_ms, stays: Stays::default(), rang: None });
        what(&mut life);
        pasts.young.insert(*address, life);
    }

    fn of(&self, address: &Address) -> Past {
        let pasts = self.generations();
        match pasts.young.get(address).or_else(|| pasts.old.get(address)) {
            None => Past { since_ms: pasts.since_ms, stays: Vec::new(), rang: None },
            Some(life) => Past {
                since_ms: life.stays.forgotten_ms().unwrap_or(life.since_ms),
                stays: life.stays.newest_first().cloned().collect(),
                rang: life.rang.clone(),
            },
        }
    }

    fn generations(&self) -> MutexGuard<'_, Generations> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Objects {
    /// What happened to an object since the node started, as far as it is remembered.
    #[must_use]
    pub fn past(&self, address: &Address) -> Past {
        self.pasts.of(address)
    }
}

/// Why an object left memory, in the domain's words; none if it had not come there.
pub(super) fn left(over: &Over) -> Option<Left> {
    Some(match over {
        Over::NoRoom => return None,
        Over::NotOpened(why) => Left::Failed(why.to_string()),
        Over::Reset(reset) => match reset {
            Reset::CodeUpdated => Left::Reassigned,
            Reset::StorageFailed(_) => Left::StorageFailed,
            Reset::Superseded => Left::Superseded,
            Reset::Failed(why) => Left::Failed(why.clone()),
            Reset::Deleted => Left::Deleted,
            Reset::Asked => Left::Asked,
            Reset::AlarmTooLong => Left::AlarmTooLong,
            Reset::Stopping => Left::Stopping,
            Reset::Idle => Left::Idle,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::object::ObjectNamespaceId;

    fn address(n: usize) -> Address {
        let namespace = ObjectNamespaceId::from_bytes([7; 16]);
        Address { namespace, id: namespace.id_from_name(&n.to_string()), fork: None }
    }

    fn version(n: u8) -> VersionId {
        VersionId::from_random([n; 16])
    }

    #[test]
    fn the_quietest_are_forgotten_and_it_is_told_from_when_on_all_is_known() {
        let pasts = Pasts::new(1);
        assert_eq!(pasts.of(&address(0)), Past { since_ms: 1, stays: Vec::new(), rang: None });
        for n in 0..OBJECT_PASTS_MAX * 2 {
            let now = 10 + n as u64;
            pasts.started(&address(n), version(1), now);
            // One of them is busy.
            pasts.left(&address(0), Left::Asked, now);
            pasts.started(&address(0), version(1), now);
        }
        let kept = (0..OBJECT_PASTS_MAX * 2).filter(|n| !pasts.of(&address(*n)).stays.is_empty()).count();
        assert!((OBJECT_PASTS_MAX / 2..=OBJECT_PASTS_MAX).contains(&kept), "{kept}");
        assert!(
            !pasts.of(&address(0)).stays.is_empty() && !pasts.of(&address(OBJECT_PASTS_MAX * 2 - 1)).stays.is_empty()
        );
        let forgotten = pasts.of(&address(1));
        assert!(forgotten.stays.is_empty() && forgotten.since_ms > 10, "{forgotten:?}");
    }

    #[test]
    fn an_alarm_that_found_nothing_to_ring_leaves_the_last_one_and_a_copy_leaves_nothing() {
        let pasts = Pasts::new(1);
        pasts.rang(&address(1), 5, &Ended::Noted(Err("no".to_owned())), 6);
        pasts.rang(&address(1), 8, &Ended::Nothing, 9);
        let failed = Rang { due_ms: 5, ended_ms: 6, outcome: Outcome::Failed("no".to_owned()) };
        assert_eq!(pasts.of(&address(1)).rang, Some(failed));
        pasts.rang(&address(1), 9, &Ended::Lost(Some(Reset::CodeUpdated)), 10);
        assert!(matches!(pasts.of(&address(1)).rang.unwrap().outcome, Outcome::Lost(_)));
        let copy = Address { fork: Some(version(3)), ..address(1) };
        pasts.started(&copy, version(3), 11);
        assert!(pasts.of(&copy).stays.is_empty());
    }

    #[test]
    fn leaving_has_a_reason() {
        assert_eq!(left(&Over::Reset(Reset::Idle)), Some(Left::Idle));
        assert_eq!(left(&Over::Reset(Reset::CodeUpdated)), Some(Left::Reassigned));
        assert_eq!(left(&Over::NoRoom), None);
    }
}
