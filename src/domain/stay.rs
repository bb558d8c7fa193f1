//! How long a Durable Object was in memory, on which version, and why it left: a *stay*. One that comes and goes without anything
//! happening to it is told as one stay with a number of starts, so that what did happen is not pushed out by it.

use std::collections::VecDeque;

use crate::domain::id::VersionId;
use crate::domain::limits::OBJECT_STAYS_MAX;

/// Why an object left memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Left {
    /// Its assignment changed: it runs another version with its next event.
    Reassigned,
    /// Its own code failed; in words.
    Failed(String),
    StorageFailed,
    /// Another instance of it has written: this one was none any more.
    Superseded,
    /// All that it had stored was deleted, or its class or worker was.
    Deleted,
    /// An operator asked for it.
    Asked,
    AlarmTooLong,
    /// The node stopped.
    Stopping,
    /// Others needed its room, and nothing happened in it.
    MadeRoom,
    /// Nothing happened in it for long enough.
    Idle,
}

/// Times in memory, without anything between them that happened to the object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stay {
    pub version: VersionId,
    /// When it came to memory first and last, in Unix milliseconds, and how often.
    pub first_ms: u64,
    pub last_ms: u64,
    pub starts: u32,
    /// None while it is in memory.
    pub ended: Option<Ended>,
}

/// When and why a stay ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    pub at_ms: u64,
    pub why: Left,
}

/// The newest stays of one object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stays {
    /// Oldest first.
    stays: VecDeque<Stay>,
    /// When the newest of those that are forgotten ended.
    forgotten_ms: Option<u64>,
}

impl Left {
    /// Every reason that is a reset, in the order of [`Self::reset_index`].
    pub const RESETS: [&'static str; 7] =
        ["reassigned", "failed", "storage_failed", "superseded", "deleted", "asked", "alarm_too_long"];

    /// The word on the wire.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Stopping => "stopping",
            Self::MadeRoom => "made_room",
            Self::Idle => "idle",
            reset => reset.reset_index().map_or("", |index| Self::RESETS[index]),
        }
    }

    /// Which of [`Self::RESETS`] it is; none if it left without being reset.
    #[must_use]
    pub fn reset_index(&self) -> Option<usize> {
        match self {
            Self::Reassigned => Some(0),
            Self::Failed(_) => Some(1),
            Self::StorageFailed => Some(2),
            Self::Superseded => Some(3),
            Self::Deleted => Some(4),
            Self::Asked => Some(5),
            Self::AlarmTooLong => Some(6),
            Self::Stopping | Self::MadeRoom | Self::Idle => None,
        }
    }

    /// Whether nothing happened to the object: it was only not needed.
    fn is_quiet(&self) -> bool {
        matches!(self, Self::Idle | Self::MadeRoom)
    }
}

impl Stays {
    /// The object came to memory.
    pub fn started(&mut self, version: VersionId, now_ms: u64) {
        if let Some(last) = self.stays.back_mut()
            && last.version == version
            && last.ended.as_ref().is_some_and(|ended| ended.why.is_quiet())
        {
            last.starts = last.starts.saturating_add(1);
            (last.last_ms, last.ended) = (now_ms, None);
            return;
        }
        if self.stays.len() >= OBJECT_STAYS_MAX
            && let Some(oldest) = self.stays.pop_front()
        {
            self.forgotten_ms = Some(oldest.ended.map_or(oldest.last_ms, |ended| ended.at_ms));
        }
        self.stays.push_back(Stay { version, first_ms: now_ms, last_ms: now_ms, starts: 1, ended: None });
    }

    /// It left. One that was never noted to have come is not noted to have left.
    pub fn left(&mut self, why: Left, now_ms: u64) {
        if let Some(last) = self.stays.back_mut().filter(|last| last.ended.is_none()) {
            last.ended = Some(Ended { at_ms: now_ms, why });
        }
    }

    /// Newest first.
    pub fn newest_first(&self) -> impl Iterator<Item = &Stay> {
        self.stays.iter().rev()
    }

    /// The time before which stays are forgotten, if any are.
    #[must_use]
    pub fn forgotten_ms(&self) -> Option<u64> {
        self.forgotten_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> VersionId {
        VersionId::from_random([n; 16])
    }

    /// Version, first start, starts, and how and when it ended.
    type Told = (VersionId, u64, u32, Option<(&'static str, u64)>);

    fn told(stays: &Stays) -> Vec<Told> {
        let ended = |stay: &Stay| stay.ended.as_ref().map(|ended| (ended.why.as_str(), ended.at_ms));
        stays.newest_first().map(|stay| (stay.version, stay.first_ms, stay.starts, ended(stay))).collect()
    }

    #[test]
    fn coming_and_going_unasked_is_one_stay_and_what_happens_begins_another() {
        let mut stays = Stays::default();
        stays.left(Left::Reassigned, 1);
        assert_eq!(told(&stays), []);
        for at in [10, 20, 30] {
            stays.started(id(1), at);
            stays.left(if at == 20 { Left::MadeRoom } else { Left::Idle }, at + 5);
        }
        assert_eq!(told(&stays), [(id(1), 10, 3, Some(("idle", 35)))]);
        // Another version, and then a reset.
        stays.started(id(2), 40);
        stays.left(Left::Reassigned, 50);
        stays.left(Left::Idle, 55);
        stays.started(id(3), 60);
        stays.left(Left::Failed("it trapped".to_owned()), 70);
        stays.started(id(3), 80);
        assert_eq!(
            told(&stays),
            [
                (id(3), 80, 1, None),
                (id(3), 60, 1, Some(("failed", 70))),
                (id(2), 40, 1, Some(("reassigned", 50))),
                (id(1), 10, 3, Some(("idle", 35))),
            ]
        );
        assert_eq!(stays.forgotten_ms(), None);
    }

    #[test]
    fn the_newest_are_kept_and_it_is_known_from_when_on() {
        let mut stays = Stays::default();
        for n in 0..=OBJECT_STAYS_MAX as u64 {
            stays.started(id(1), n * 10);
            stays.left(Left::Asked, n * 10 + 5);
        }
        assert_eq!(stays.newest_first().count(), OBJECT_STAYS_MAX);
        assert_eq!(stays.forgotten_ms(), Some(5));
    }

    #[test]
    fn every_reset_has_its_word() {
        let resets = [
            Left::Reassigned,
            Left::Failed(String::new()),
            Left::StorageFailed,
            Left::Superseded,
            Left::Deleted,
            Left::Asked,
            Left::AlarmTooLong,
        ];
        assert_eq!(resets.map(|left| left.as_str()), Left::RESETS);
        assert_eq!([Left::Stopping, Left::MadeRoom, Left::Idle].map(|left| left.reset_index()), [None; 3]);
    }
}
