//! A decision: which version of a worker a request runs on, and why.
//!
//! It depends on the deployment, the request and a draw, and on nothing else (`D3`).

use crate::domain::allotment::{Allotment, Slot, slot_of_key};
use crate::domain::id::{VersionId, WorkerName};
use crate::domain::split::Split;

/// What a request says about the version it wants, as far as it was understood.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wish<'a> {
    /// The version that a valid override header names for this worker (`SEL-10`).
    pub overriding: Option<VersionId>,
    /// The version key; empty counts as absent (HDR-6).
    pub key: Option<&'a [u8]>,
}

/// A version, and the reason that won.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    pub version: VersionId,
    pub reason: Reason,
}

/// Why a version was chosen, in order of precedence (`SEL-1`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The request came to the host of a version or of an alias (`URL-9`).
    Preview,
    /// An override header named a version of the deployment.
    Override,
    /// The version key's slot.
    Key,
    /// A draw.
    Random,
    /// The event was for a Durable Object, which runs the version it is assigned (`GDO-1`).
    Object,
}

/// Chooses the version of a request to `worker`: override, else key, else `draw` (`SEL-1`).
///
/// An override counts only if it names a version that is in the deployment, at 0 % too; any other is passed over in silence
/// (`SEL-11`, `SEL-12`). `draw` is asked only if nothing else decides.
#[must_use]
pub fn decide(
    worker: &WorkerName,
    split: &Split,
    allotment: &Allotment,
    wish: Wish<'_>,
    draw: impl FnOnce() -> u64,
) -> Decision {
    if let Some(version) = wish.overriding
        && split.share_of(version).is_some()
    {
        return Decision { version, reason: Reason::Override };
    }
    match wish.key.filter(|key| !key.is_empty()) {
        Some(key) => Decision { version: allotment.version_at(slot_of_key(worker, key)), reason: Reason::Key },
        None => Decision { version: allotment.version_at(Slot::from_uniform(draw())), reason: Reason::Random },
    }
}

impl Reason {
    /// The word in the response header, the record and the metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Preview => "preview",
            Self::Override => "override",
            Self::Key => "key",
            Self::Random => "random",
            Self::Object => "object",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> VersionId {
        VersionId::from_random([n; 16])
    }

    #[test]
    fn an_override_beats_a_key_and_a_key_beats_a_draw() {
        let worker: WorkerName = "w".parse().unwrap();
        let split = Split::from_percentages(&[(id(1), 0.0), (id(2), 100.0)]).unwrap();
        let allotment = Allotment::derive(None, &split);
        let check = |wish, draw: u64| decide(&worker, &split, &allotment, wish, || draw);
        let at_zero = Wish { overriding: Some(id(1)), key: Some(b"k") };
        assert_eq!(check(at_zero, 0), Decision { version: id(1), reason: Reason::Override });
        let foreign = Wish { overriding: Some(id(9)), key: Some(b"k") };
        assert_eq!(check(foreign, 0), Decision { version: id(2), reason: Reason::Key });
        let empty = Wish { overriding: None, key: Some(b"") };
        assert_eq!(check(empty, 7), Decision { version: id(2), reason: Reason::Random });
    }
}
