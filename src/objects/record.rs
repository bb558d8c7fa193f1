//! What is stored of objects, and where.
//!
//! | Key (family, components) | Record |
//! |---|---|
//! | `40` space, id | what is known of an object: its epoch, name, alarm and size, as JSON |
//! | `41` space, id, key | a value; in a fork behind one byte, which says whether it is one or takes one away |
//! | `42` millisecond, space, id | the address of an object whose alarm rings then |
//! | `43` namespace, version | when a fork was last given a new object, as JSON |
//!
//! A *space* is a namespace, or a version's own copy of one (a fork).

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::domain::alarm::Alarm;
use crate::domain::id::VersionId;
use crate::domain::object::{ObjectId, ObjectNamespaceId};
use crate::host::object::Address;
use crate::host::object::storage::Query;
use crate::store::{Entry, Family, Key, Range};

const OBJECTS: Family = Family::new(0x40);
const VALUES: Family = Family::new(0x41);
const ALARMS: Family = Family::new(0x42);
const FORKS: Family = Family::new(0x43);

/// The format that is written, and the newest that is read.
const FORMAT: u32 = 1;

/// Where the objects of a namespace are, or those of a fork of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Space([u8; 16]);

/// What is known of an object that has written something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Meta {
    format: u32,
    /// Instances that have written; each carries its own number.
    pub epoch: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    alarm: Option<StoredAlarm>,
    /// Keys and values together.
    pub bytes: u64,
    pub created_ms: u64,
    /// In a fork: whether everything of the namespace it was made from is gone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cleared: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct StoredAlarm {
    due_ms: u64,
    #[serde(default)]
    retries: u32,
    #[serde(default)]
    host_failures: u32,
}

/// What a stored record is wrong with: damage, or a newer program's.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the stored record `{key}` cannot be read: {why}")]
pub(super) struct Unreadable {
    key: String,
    why: String,
}

impl Space {
    pub(super) fn of(address: &Address) -> Self {
        match address.fork {
            None => Self(*address.namespace.as_bytes()),
            Some(version) => Self::fork(address.namespace, version),
        }
    }

    pub(super) fn fork(namespace: ObjectNamespaceId, version: VersionId) -> Self {
        let mut hash = Sha256::new();
        hash.update(namespace.as_bytes());
        hash.update(version.to_string().as_bytes());
        let mut space = [0; 16];
        space.copy_from_slice(&hash.finalize()[..16]);
        Self(space)
    }

    pub(super) fn base(namespace: ObjectNamespaceId) -> Self {
        Self(*namespace.as_bytes())
    }

    pub(super) fn meta_key(&self, id: ObjectId) -> Key {
        Key::family(OBJECTS).fixed(&self.0).fixed(id.as_bytes())
    }

    pub(super) fn metas(&self) -> Range {
        Range::under(&Key::family(OBJECTS).fixed(&self.0))
    }

    pub(super) fn value_key(&self, id: ObjectId, key: &str) -> Key {
        Key::family(VALUES).fixed(&self.0).fixed(id.as_bytes()).text(key)
    }

    /// All values of an object.
    pub(super) fn values_of(&self, id: ObjectId) -> Range {
        Range::under(&Key::family(VALUES).fixed(&self.0).fixed(id.as_bytes()))
    }

    /// The values of all objects.
    pub(super) fn values(&self) -> Range {
        Range::under(&Key::family(VALUES).fixed(&self.0))
    }

    /// The values that a query is about.
    pub(super) fn values_within(&self, id: ObjectId, query: &Query) -> Range {
        let object = Key::family(VALUES).fixed(&self.0).fixed(id.as_bytes());
        let mut range = Range::starting_with(&object, query.prefix.as_bytes());
        let start = match (&query.start_after, &query.start) {
            (Some(after), _) => Some(Range::under(&object).after(&object.clone().text(after)).start),
            (None, Some(start)) => Some(object.clone().text(start)),
            (None, None) => None,
        };
        if let Some(start) = start {
            range.start = range.start.max(start);
        }
        if let Some(end) = &query.end {
            range.end = range.end.min(object.text(end));
        }
        range
    }

    pub(super) fn alarm_key(&self, due_ms: u64, id: ObjectId) -> Key {
        Key::family(ALARMS).number(due_ms).fixed(&self.0).fixed(id.as_bytes())
    }
}

/// The guest's key in a value's key.
pub(super) fn name_of_value(key: &Key) -> Result<String, Unreadable> {
    let read = || -> Result<String, crate::store::Malformed> {
        let mut parts = key.parts(VALUES)?;
        parts.fixed::<16>()?;
        parts.fixed::<32>()?;
        parts.text()
    };
    read().map_err(|error| Unreadable { key: key.to_string(), why: error.to_string() })
}

/// The object in a record's key.
pub(super) fn id_of_meta(key: &Key) -> Result<ObjectId, Unreadable> {
    let read = || -> Result<ObjectId, crate::store::Malformed> {
        let mut parts = key.parts(OBJECTS)?;
        parts.fixed::<16>()?;
        Ok(ObjectId::from_stored(parts.fixed::<32>()?))
    };
    read().map_err(|error| Unreadable { key: key.to_string(), why: error.to_string() })
}

/// The keys and values of an object together, in bytes: all of its record that a count needs.
pub(super) fn bytes_of(entry: &Entry) -> Result<u64, Unreadable> {
    #[derive(Deserialize)]
    struct Size {
        bytes: u64,
    }
    let size: Size = serde_json::from_slice(&entry.value)
        .map_err(|error| Unreadable { key: entry.key.to_string(), why: error.to_string() })?;
    Ok(size.bytes)
}

// === alarms ===

/// All alarms, the earliest first.
pub(super) fn alarms() -> Range {
    Range::under(&Key::family(ALARMS))
}

/// An entry of the index of alarms.
#[derive(Debug, Serialize, Deserialize)]
struct Indexed {
    namespace: String,
    id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fork: Option<String>,
}

pub(super) fn to_index(address: &Address) -> Bytes {
    let indexed = Indexed {
        namespace: address.namespace.to_string(),
        id: address.id.to_string(),
        fork: address.fork.map(|version| version.to_string()),
    };
    serde_json::to_vec(&indexed).unwrap_or_default().into()
}

/// Whose alarm it is, and when it rings.
pub(super) fn from_index(entry: &Entry) -> Result<(u64, Address), Unreadable> {
    let unreadable = |why: String| Unreadable { key: entry.key.to_string(), why };
    let due = entry.key.parts(ALARMS).and_then(|mut parts| parts.number());
    let due = due.map_err(|error| unreadable(error.to_string()))?;
    let indexed: Indexed = serde_json::from_slice(&entry.value).map_err(|error| unreadable(error.to_string()))?;
    let namespace: ObjectNamespaceId =
        indexed.namespace.parse().map_err(|error: crate::domain::object::Error| unreadable(error.to_string()))?;
    let id = namespace.parse_id(&indexed.id).map_err(|error| unreadable(error.to_string()))?;
    let fork = indexed.fork.map(|fork| fork.parse::<VersionId>()).transpose();
    let fork = fork.map_err(|error| unreadable(error.to_string()))?;
    Ok((due, Address { namespace, id, fork }))
}

// === forks ===

/// All forks.
pub(super) fn forks() -> Range {
    Range::under(&Key::family(FORKS))
}

pub(super) fn fork_key(namespace: ObjectNamespaceId, version: VersionId) -> Key {
    Key::family(FORKS).fixed(namespace.as_bytes()).text(&version.to_string())
}

pub(super) fn to_fork(now_ms: u64) -> Bytes {
    now_ms.to_string().into()
}

pub(super) fn from_fork(entry: &Entry) -> Result<(ObjectNamespaceId, VersionId, u64), Unreadable> {
    let unreadable = |why: String| Unreadable { key: entry.key.to_string(), why };
    let read = || -> Result<([u8; 16], String), crate::store::Malformed> {
        let mut parts = entry.key.parts(FORKS)?;
        Ok((parts.fixed::<16>()?, parts.text()?))
    };
    let (namespace, version) = read().map_err(|error| unreadable(error.to_string()))?;
    let version = version.parse().map_err(|error: crate::domain::id::Error| unreadable(error.to_string()))?;
    let time = std::str::from_utf8(&entry.value).ok().and_then(|text| text.parse().ok());
    let time = time.ok_or_else(|| unreadable("it holds no time".to_owned()))?;
    Ok((ObjectNamespaceId::from_bytes(namespace), version, time))
}

// === Meta ===

impl Meta {
    pub(super) fn new(now_ms: u64) -> Self {
        Self { format: FORMAT, epoch: 0, name: None, alarm: None, bytes: 0, created_ms: now_ms, cleared: false }
    }

    pub(super) fn alarm(&self) -> Option<Alarm> {
        self.alarm.map(|StoredAlarm { due_ms, retries, host_failures }| Alarm { due_ms, retries, host_failures })
    }

    pub(super) fn set_alarm(&mut self, alarm: Option<Alarm>) {
        self.alarm =
            alarm.map(|Alarm { due_ms, retries, host_failures }| StoredAlarm { due_ms, retries, host_failures });
    }

    pub(super) fn to_bytes(&self) -> Bytes {
        serde_json::to_vec(self).unwrap_or_default().into()
    }

    pub(super) fn from_entry(entry: &Entry) -> Result<Self, Unreadable> {
        let unreadable = |why: String| Unreadable { key: entry.key.to_string(), why };
        let meta: Self = serde_json::from_slice(&entry.value).map_err(|error| unreadable(error.to_string()))?;
        if meta.format > FORMAT {
            return Err(unreadable(format!("it has format {}, this program reads up to {FORMAT}", meta.format)));
        }
        Ok(meta)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object() -> (Space, ObjectId) {
        let namespace = ObjectNamespaceId::from_bytes([7; 16]);
        (Space::base(namespace), namespace.id_from_name("a"))
    }

    #[test]
    fn a_query_is_a_range_of_keys() {
        let (space, id) = object();
        let check = |query: Query| {
            let range = space.values_within(id, &query);
            ["a", "b", "b1", "b2", "c"]
                .into_iter()
                .filter(|key| {
                    let key = space.value_key(id, key);
                    range.start <= key && key < range.end
                })
                .inspect(|key| assert!(query.admits(key), "{key}"))
                .collect::<String>()
        };
        assert_eq!(check(Query::default()), "abb1b2c");
        assert_eq!(check(Query { prefix: "b".into(), ..Query::default() }), "bb1b2");
        assert_eq!(check(Query { start: Some("b1".into()), ..Query::default() }), "b1b2c");
        assert_eq!(check(Query { start_after: Some("b1".into()), ..Query::default() }), "b2c");
        assert_eq!(check(Query { end: Some("b1".into()), ..Query::default() }), "ab");
        assert_eq!(
            check(Query { prefix: "b".into(), start: Some("a".into()), end: Some("b2".into()), ..Query::default() }),
            "bb1"
        );
        assert_eq!(check(Query { prefix: "b".into(), start_after: Some("b".into()), ..Query::default() }), "b1b2");
    }

    #[test]
    fn an_index_entry_reads_back() {
        let namespace = ObjectNamespaceId::from_bytes([7; 16]);
        for fork in [None, Some(VersionId::from_random([3; 16]))] {
            let address = Address { namespace, id: namespace.id_from_name("a"), fork };
            let key = Space::of(&address).alarm_key(42, address.id);
            let entry = Entry { key, value: to_index(&address), revision: crate::store::Revision::new(1) };
            assert_eq!(from_index(&entry).unwrap(), (42, address));
        }
    }
}
