//! What a commit is made of, and how large it may be. Both engines take and refuse the same commits because both ask
//! [`admit`] first.

use bytes::Bytes;

use super::{Error, Key, Range};

/// Room for the longest key a guest may name (2 KiB) with every byte escaped, and what stands before it.
pub const KEY_BYTES_MAX: usize = 8 * 1024;
/// The largest values are records and objects' values (2 MB); modules are files. SQLite would take a gigabyte, and
/// hold it in memory several times.
pub const VALUE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// All keys and values of one commit. It is held in memory while it waits, and written twice (log and table).
pub const COMMIT_BYTES_MAX: usize = 64 * 1024 * 1024;

const _: () = assert!(KEY_BYTES_MAX < VALUE_BYTES_MAX && VALUE_BYTES_MAX < COMMIT_BYTES_MAX);

/// The number of a commit, counted from 1 over the life of the store. It orders commits; it says nothing of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(u64);

/// What a writer believes about a key. A commit happens only if it is true at that moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    pub key: Key,
    pub expected: Expect,
}

/// What a key should hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Nothing.
    Absent,
    /// What the commit of this number wrote there, and nobody has touched since.
    Version(Revision),
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    Put {
        key: Key,
        value: Bytes,
    },
    /// Deleting what is not there is no error.
    Delete {
        key: Key,
    },
    /// Deletes from `start` up to, but not including, `end`.
    DeleteRange {
        start: Key,
        end: Key,
    },
}

// === impl Revision ===

impl Revision {
    /// The revision of a store in which nothing was ever committed.
    pub const ZERO: Self = Self(0);

    /// The revision of that number. For records that remember one; numbers are otherwise handed out by the store.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    pub const fn get(self) -> u64 {
        self.0
    }

    pub(super) const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl std::fmt::Display for Revision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

// === impl Check ===

impl Check {
    pub fn absent(key: Key) -> Self {
        Self { key, expected: Expect::Absent }
    }

    pub fn version(key: Key, revision: Revision) -> Self {
        Self { key, expected: Expect::Version(revision) }
    }

    /// That nothing has changed since `entry` was read from `key`.
    pub fn unchanged(key: Key, entry: Option<&super::Entry>) -> Self {
        let expected = entry.map_or(Expect::Absent, |entry| Expect::Version(entry.revision));
        Self { key, expected }
    }
}

impl Expect {
    /// Whether this is true of a key that `found` is the revision of.
    pub(super) fn holds(self, found: Option<Revision>) -> bool {
        match self {
            Self::Absent => found.is_none(),
            Self::Version(revision) => found == Some(revision),
        }
    }
}

// === impl Write ===

impl Write {
    pub fn put(key: Key, value: impl Into<Bytes>) -> Self {
        Self::Put { key, value: value.into() }
    }

    pub fn delete(key: Key) -> Self {
        Self::Delete { key }
    }

    pub fn delete_range(range: Range) -> Self {
        let Range { start, end } = range;
        Self::DeleteRange { start, end }
    }

    pub(super) fn size_bytes(&self) -> usize {
        match self {
            Self::Put { key, value } => key.as_bytes().len() + value.len(),
            Self::Delete { key } => key.as_bytes().len(),
            Self::DeleteRange { start, end } => start.as_bytes().len() + end.as_bytes().len(),
        }
    }
}

/// How many bytes a commit brings along. What it does to the disk is some multiple of this.
pub(super) fn size_bytes(checks: &[Check], writes: &[Write]) -> usize {
    let checked: usize = checks.iter().map(|check| check.key.as_bytes().len()).sum();
    let written: usize = writes.iter().map(Write::size_bytes).sum();
    checked + written
}

/// Refuses what is larger than a store takes.
pub(super) fn admit(checks: &[Check], writes: &[Write]) -> Result<(), Error> {
    let bound = |what: &'static str, bytes: usize, bytes_max: usize| match bytes <= bytes_max {
        true => Ok(()),
        false => Err(Error::TooLarge { what, bytes, bytes_max }),
    };
    for check in checks {
        bound("a key", check.key.as_bytes().len(), KEY_BYTES_MAX)?;
    }
    for write in writes {
        match write {
            Write::Put { key, value } => {
                bound("a key", key.as_bytes().len(), KEY_BYTES_MAX)?;
                bound("a value", value.len(), VALUE_BYTES_MAX)?;
            }
            Write::Delete { key } => bound("a key", key.as_bytes().len(), KEY_BYTES_MAX)?,
            Write::DeleteRange { start, end } => {
                bound("a key", start.as_bytes().len(), KEY_BYTES_MAX)?;
                bound("a key", end.as_bytes().len(), KEY_BYTES_MAX)?;
            }
        }
    }
    bound("a commit", size_bytes(checks, writes), COMMIT_BYTES_MAX)
}
