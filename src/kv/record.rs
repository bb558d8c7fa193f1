//! What this room stores, and where.
//!
//! | Key (family, components) | Record |
//! |---|---|
//! | `30` namespace | its title: the record that every write into the namespace checks |
//! | `31` title | the namespace that has it: what keeps two from the same one |
//! | `32` namespace, key | an entry: how long its header is, the header as JSON, and the value if that is small |
//! | `33` namespace, value, number | a chunk of a value, bare |
//! | `34` second, namespace, key | nothing: an entry that ends then |
//! | `35` millisecond, namespace, value | nothing: chunks that no entry names, and when they may go |
//! | `36` namespace | nothing: a tombstone |
//!
//! A new field is optional and has a default; whatever would change the meaning of what is there takes a new format number.

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::{EntryKey, Error};
use crate::domain::id::NamespaceId;
use crate::store::{Entry, Family, Key, Range};

const NAMESPACES: Family = Family::new(0x30);
const TITLES: Family = Family::new(0x31);
const ENTRIES: Family = Family::new(0x32);
const CHUNKS: Family = Family::new(0x33);
const EXPIRIES: Family = Family::new(0x34);
const GARBAGE: Family = Family::new(0x35);
const TOMBSTONES: Family = Family::new(0x36);

/// The format that is written, and the newest that is read.
const FORMAT: u32 = 1;

/// The id of a value that is kept in chunks.
pub(super) type ValueId = [u8; 16];

// === Keys ===

pub(super) fn namespace_key(id: NamespaceId) -> Key {
    Key::family(NAMESPACES).fixed(id.as_bytes())
}

pub(super) fn namespaces() -> Range {
    Range::under(&Key::family(NAMESPACES))
}

pub(super) fn title_key(title: &str) -> Key {
    Key::family(TITLES).text(title)
}

pub(super) fn entry_key(id: NamespaceId, key: &EntryKey) -> Key {
    Key::family(ENTRIES).fixed(id.as_bytes()).text(key.as_str())
}

/// The entries whose keys begin with `prefix`, in the order of their bytes.
pub(super) fn entries(id: NamespaceId, prefix: &str) -> Range {
    Range::starting_with(&Key::family(ENTRIES).fixed(id.as_bytes()), prefix.as_bytes())
}

pub(super) fn chunk_key(id: NamespaceId, value: &ValueId, number: u32) -> Key {
    Key::family(CHUNKS).fixed(id.as_bytes()).fixed(value).number(u64::from(number))
}

pub(super) fn chunks(id: NamespaceId, value: &ValueId) -> Range {
    Range::under(&Key::family(CHUNKS).fixed(id.as_bytes()).fixed(value))
}

pub(super) fn all_chunks(id: NamespaceId) -> Range {
    Range::under(&Key::family(CHUNKS).fixed(id.as_bytes()))
}

pub(super) fn expiry_key(second: u64, id: NamespaceId, key: &EntryKey) -> Key {
    Key::family(EXPIRIES).number(second).fixed(id.as_bytes()).text(key.as_str())
}

/// What has ended by `second`.
pub(super) fn expiries_until(second: u64) -> Range {
    let family = Key::family(EXPIRIES);
    Range::new(family.clone(), family.number(second.saturating_add(1)))
}

pub(super) fn garbage_key(due_ms: u64, id: NamespaceId, value: &ValueId) -> Key {
    Key::family(GARBAGE).number(due_ms).fixed(id.as_bytes()).fixed(value)
}

pub(super) fn garbage_until(now_ms: u64) -> Range {
    let family = Key::family(GARBAGE);
    Range::new(family.clone(), family.number(now_ms.saturating_add(1)))
}

pub(super) fn tombstone_key(id: NamespaceId) -> Key {
    Key::family(TOMBSTONES).fixed(id.as_bytes())
}

pub(super) fn tombstones() -> Range {
    Range::under(&Key::family(TOMBSTONES))
}

pub(super) fn namespace_of(entry: &Entry) -> Result<NamespaceId, Error> {
    let bytes = entry.key.parts(NAMESPACES).and_then(|mut parts| parts.fixed());
    bytes.map(NamespaceId::from_bytes).map_err(damaged(entry))
}

pub(super) fn buried(entry: &Entry) -> Result<NamespaceId, Error> {
    let bytes = entry.key.parts(TOMBSTONES).and_then(|mut parts| parts.fixed());
    bytes.map(NamespaceId::from_bytes).map_err(damaged(entry))
}

pub(super) fn entry_key_of(entry: &Entry) -> Result<EntryKey, Error> {
    let text = entry.key.parts(ENTRIES).and_then(|mut parts| {
        parts.fixed::<16>()?;
        parts.text()
    });
    text.map(EntryKey::stored).map_err(damaged(entry))
}

/// What an expiry says: when, where and what.
pub(super) fn expiry_of(entry: &Entry) -> Result<(u64, NamespaceId, EntryKey), Error> {
    let parts = entry.key.parts(EXPIRIES).and_then(|mut parts| {
        let (second, id) = (parts.number()?, parts.fixed()?);
        Ok((second, NamespaceId::from_bytes(id), EntryKey::stored(parts.text()?)))
    });
    parts.map_err(damaged(entry))
}

pub(super) fn garbage_of(entry: &Entry) -> Result<(NamespaceId, ValueId), Error> {
    let parts = entry.key.parts(GARBAGE).and_then(|mut parts| {
        parts.number()?;
        Ok((NamespaceId::from_bytes(parts.fixed()?), parts.fixed()?))
    });
    parts.map_err(damaged(entry))
}

// === Records ===

#[derive(Serialize, Deserialize)]
struct NamespaceRecord {
    format: u32,
    title: String,
    created_ms: u64,
}

#[derive(Serialize, Deserialize)]
struct TitleRecord {
    format: u32,
    namespace: String,
}

/// What an entry says before its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    format: u32,
    pub(super) size_bytes: u64,
    /// Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) expiration: Option<u64>,
    /// JSON, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) metadata: Option<String>,
    /// Absent: the value follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) chunks: Option<ChunksRecord>,
}

/// Where a value is that does not follow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ChunksRecord {
    value: String,
    pub(super) count: u32,
}

impl ChunksRecord {
    pub(super) fn new(value: &ValueId, count: u32) -> Self {
        Self { value: hex::encode(value), count }
    }

    pub(super) fn value(&self) -> Option<ValueId> {
        let mut id = ValueId::default();
        hex::decode_to_slice(&self.value, &mut id).ok()?;
        Some(id)
    }
}

impl Header {
    pub(super) fn new(size_bytes: u64, expiration: Option<u64>, metadata: Option<String>) -> Self {
        Self { format: FORMAT, size_bytes, expiration, metadata, chunks: None }
    }

    pub(super) fn is_live(&self, now_s: u64) -> bool {
        self.expiration.is_none_or(|expiration| now_s < expiration)
    }

    pub(super) fn encode(&self, value: &[u8]) -> Bytes {
        let json = serde_json::to_vec(self).expect("a header is plain data");
        let mut bytes = BytesMut::with_capacity(4 + json.len() + value.len());
        bytes.put_u32(u32::try_from(json.len()).expect("a header is short"));
        bytes.extend_from_slice(&json);
        bytes.extend_from_slice(value);
        bytes.freeze()
    }

    /// The header of an entry, and the value that follows it.
    pub(super) fn decode(entry: &Entry) -> Result<(Self, Bytes), Error> {
        let bytes = &entry.value;
        let cut = bytes.split_first_chunk::<4>().and_then(|(length, rest)| {
            let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
            rest.get(..length).map(|json| (json, 4 + length))
        });
        let Some((json, at)) = cut else { return Err(damaged(entry)("it is cut off")) };
        let header: Self = from_json(entry, json)?;
        Ok((header, bytes.slice(at..)))
    }
}

pub(super) fn namespace(title: &str, created_ms: u64) -> Vec<u8> {
    let record = NamespaceRecord { format: FORMAT, title: title.to_owned(), created_ms };
    serde_json::to_vec(&record).expect("records are plain data")
}

pub(super) fn title(id: NamespaceId) -> Vec<u8> {
    let record = TitleRecord { format: FORMAT, namespace: id.to_string() };
    serde_json::to_vec(&record).expect("records are plain data")
}

/// The title of a namespace's record, and when it was made.
pub(super) fn decode_namespace(entry: &Entry) -> Result<(String, u64), Error> {
    let record: NamespaceRecord = from_json(entry, &entry.value)?;
    Ok((record.title, record.created_ms))
}

#[derive(Deserialize)]
struct Format {
    format: u32,
}

fn from_json<T: serde::de::DeserializeOwned>(entry: &Entry, json: &[u8]) -> Result<T, Error> {
    // The format first: of a newer one nothing else may be taken for granted.
    let Format { format } = serde_json::from_slice(json).map_err(damaged(entry))?;
    if format > FORMAT {
        let reason = format!("it has format {format}, and this Sluice knows formats up to {FORMAT}");
        return Err(damaged(entry)(reason));
    }
    serde_json::from_slice(json).map_err(damaged(entry))
}

/// Names the record that cannot be read.
pub(super) fn damaged<E: ToString>(entry: &Entry) -> impl Fn(E) -> Error {
    move |reason| Error::Record { key: entry.key.to_string(), reason: reason.to_string() }
}
