//! Writing keys: each change is decided on what the key holds, and committed only if it still does.

use std::collections::HashMap;

use bytes::Bytes;
use futures_util::future::{try_join, try_join_all};

use super::error::reading;
use super::record::{self, ChunksRecord, Header, ValueId};
use super::{Attributes, EntryKey, Error, Kv, random};
use crate::domain::id::NamespaceId;
use crate::domain::limits::{KV_BULK_KEYS_MAX, KV_VALUE_BYTES_MAX};
use crate::store::{Check, CommitError, Entry, Revision, Write};

/// How often a change is decided anew because another one was faster.
const ATTEMPTS_MAX: usize = 64;
/// Keys of a bulk call in one commit.
const GROUP_KEYS_MAX: usize = 128;
/// How long chunks stay that no entry names any more: a reader on another node may have begun with them.
const GARBAGE_GRACE_MS: u64 = 5_000;

/// What a writer expects a key to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    Any,
    /// Nothing.
    Absent,
    /// Something.
    Present,
    /// What [`Found::revision`](super::Found::revision) named.
    Revision(Revision),
}

/// One of many keys to write.
#[derive(Debug, Clone)]
pub struct Pair {
    pub key: EntryKey,
    pub value: Bytes,
    pub attributes: Attributes,
}

/// What becomes of a key.
pub(super) enum Step {
    Put { header: Header, inline: Bytes },
    Delete,
}

/// What goes into the same commit.
#[derive(Default, Clone)]
pub(super) struct Along {
    pub(super) checks: Vec<Check>,
    pub(super) writes: Vec<Write>,
}

/// What a key holds, as far as a decision needs it.
pub(super) struct Current<'a> {
    pub(super) header: &'a Header,
    pub(super) inline: &'a Bytes,
    revision: Revision,
}

impl Kv {
    /// Writes one value that is at hand. See [`Kv::upload`] for one that comes bit by bit.
    ///
    /// # Errors
    /// If there is no such namespace, the value is too large, or the condition does not hold.
    pub async fn put(
        self: &std::sync::Arc<Self>,
        id: NamespaceId,
        key: &EntryKey,
        value: Bytes,
        attributes: Attributes,
        condition: Condition,
    ) -> Result<Revision, Error> {
        let mut upload = self.upload(id);
        upload.push(value).await?;
        upload.finish(key, attributes, condition).await
    }

    /// Deletes a key. One that is not there is no error, unless the condition says so.
    ///
    /// # Errors
    /// If there is no such namespace, or the condition does not hold.
    pub async fn delete(&self, id: NamespaceId, key: &EntryKey, condition: Condition) -> Result<(), Error> {
        let _turn = self.turn(id, key).await;
        let decide = |_: usize, current: Option<&Current<'_>>| {
            condition.check(current)?;
            Ok(Step::Delete)
        };
        self.change(id, std::slice::from_ref(key), &Along::default(), decide).await.map(drop)
    }

    /// Adds to the number that a key holds in decimal digits; nothing counts as 0. Its metadata and its end stay.
    ///
    /// # Errors
    /// If there is no such namespace, the value is no number, or the sum is too large.
    pub async fn increment(&self, id: NamespaceId, key: &EntryKey, delta: u64) -> Result<u64, Error> {
        let _turn = self.turn(id, key).await;
        let sum = std::sync::atomic::AtomicU64::new(0);
        let decide = |_: usize, current: Option<&Current<'_>>| {
            let before = match current {
                None => 0,
                Some(Current { header, inline, .. }) => {
                    let digits = (header.chunks.is_none() && inline.iter().all(u8::is_ascii_digit)).then_some(inline);
                    let text = digits.and_then(|digits| std::str::from_utf8(digits).ok());
                    text.and_then(|text| text.parse::<u64>().ok()).ok_or(Error::NotANumber)?
                }
            };
            let after = before.checked_add(delta).ok_or(Error::Overflow)?;
            sum.store(after, std::sync::atomic::Ordering::Relaxed);
            let inline = Bytes::from(after.to_string());
            let (expiration, metadata) =
                current.map_or((None, None), |current| (current.header.expiration, current.header.metadata.clone()));
            Ok(Step::Put { header: Header::new(inline.len() as u64, expiration, metadata), inline })
        };
        self.change(id, std::slice::from_ref(key), &Along::default(), decide).await?;
        Ok(sum.into_inner())
    }

    /// Writes many values, each whole; not all at once: a failure leaves those before it. Of a key that is named twice the
    /// last value counts.
    ///
    /// # Errors
    /// If there is no such namespace, or one of the values is too large: then nothing was written.
    pub async fn put_many(&self, id: NamespaceId, pairs: Vec<Pair>) -> Result<(), Error> {
        if pairs.len() > KV_BULK_KEYS_MAX {
            return Err(Error::TooManyKeys { keys: pairs.len() });
        }
        if pairs.iter().any(|pair| pair.value.len() as u64 > KV_VALUE_BYTES_MAX) {
            return Err(Error::ValueTooLarge);
        }
        self.namespace_entry(id).await?;
        let last: HashMap<EntryKey, usize> =
            pairs.iter().enumerate().map(|(index, pair)| (pair.key.clone(), index)).collect();
        let mut group = Group::default();
        for (index, pair) in pairs.into_iter().enumerate() {
            if last.get(&pair.key) != Some(&index) {
                continue;
            }
            group.add(self, id, pair)?;
            if group.keys.len() >= GROUP_KEYS_MAX || group.bytes >= self.sizes.commit_bytes {
                std::mem::take(&mut group).commit(self, id).await?;
            }
        }
        group.commit(self, id).await
    }

    /// Deletes many keys; not all at once.
    ///
    /// # Errors
    /// If there is no such namespace, or there are too many keys.
    pub async fn delete_many(&self, id: NamespaceId, mut keys: Vec<EntryKey>) -> Result<(), Error> {
        if keys.len() > KV_BULK_KEYS_MAX {
            return Err(Error::TooManyKeys { keys: keys.len() });
        }
        self.namespace_entry(id).await?;
        // Twice in one commit would check the same entry twice, and note its chunks twice.
        keys.sort_unstable();
        keys.dedup();
        for group in keys.chunks(GROUP_KEYS_MAX) {
            self.change(id, group, &Along::default(), |_, _| Ok(Step::Delete)).await?;
        }
        Ok(())
    }

    /// The one way to write: reads the keys, asks `decide` for each, and commits all of it if nothing has changed since;
    /// else asks again.
    pub(super) async fn change(
        &self,
        id: NamespaceId,
        keys: &[EntryKey],
        along: &Along,
        decide: impl Fn(usize, Option<&Current<'_>>) -> Result<Step, Error>,
    ) -> Result<Revision, Error> {
        const ATTEMPT: &str = "write the key";
        let namespace_key = record::namespace_key(id);
        let entry_keys: Vec<_> = keys.iter().map(|key| record::entry_key(id, key)).collect();
        for _ in 0..ATTEMPTS_MAX {
            let entries = try_join_all(entry_keys.iter().map(|key| self.store.get(key)));
            let read = try_join(self.store.get(&namespace_key), entries).await;
            let (namespace, entries) = read.map_err(reading("read the key"))?;
            let Some(namespace) = namespace else { return Err(Error::NamespaceUnknown { id }) };
            let Along { mut checks, mut writes } = along.clone();
            checks.push(Check::version(namespace.key, namespace.revision));
            for (index, (key, before)) in keys.iter().zip(&entries).enumerate() {
                checks.push(Check::unchanged(entry_keys[index].clone(), before.as_ref()));
                self.plan(id, key, before.as_ref(), &mut writes, |current| decide(index, current))?;
            }
            match self.store.commit(checks, writes).await {
                Ok(revision) => return Ok(revision),
                Err(CommitError::Conflict { key }) if along.checks.iter().any(|check| check.key == key) => {
                    return Err(Error::UploadTooSlow);
                }
                Err(CommitError::Conflict { .. }) => {}
                Err(source) => return Err(Error::Commit { attempt: ATTEMPT, source }),
            }
        }
        Err(Error::Busy { attempt: ATTEMPT, attempts: ATTEMPTS_MAX })
    }

    /// The writes for one key: its entry, its end, and what is garbage now.
    fn plan(
        &self,
        id: NamespaceId,
        key: &EntryKey,
        before: Option<&Entry>,
        writes: &mut Vec<Write>,
        decide: impl FnOnce(Option<&Current<'_>>) -> Result<Step, Error>,
    ) -> Result<(), Error> {
        let old = before.map(|entry| Ok::<_, Error>((entry, Header::decode(entry)?))).transpose()?;
        let current = old
            .as_ref()
            .filter(|(_, (header, _))| header.is_live(self.now_s()))
            .map(|(entry, (header, inline))| Current { header, inline, revision: entry.revision });
        let step = decide(current.as_ref())?;
        if let Some((_, (header, _))) = &old {
            writes.extend(self.discard(id, key, header));
        }
        match step {
            Step::Put { header, inline } => {
                if let Some(second) = header.expiration {
                    writes.push(Write::put(record::expiry_key(second, id, key), Bytes::new()));
                }
                writes.push(Write::put(record::entry_key(id, key), header.encode(&inline)));
            }
            Step::Delete if old.is_some() => writes.push(Write::delete(record::entry_key(id, key))),
            Step::Delete => {}
        }
        Ok(())
    }

    /// What has to go with an entry that goes, or is written anew.
    pub(super) fn discard(&self, id: NamespaceId, key: &EntryKey, header: &Header) -> Vec<Write> {
        let end = header.expiration.map(|second| Write::delete(record::expiry_key(second, id, key)));
        let value = header.chunks.as_ref().and_then(ChunksRecord::value);
        let due_ms = self.clock.now_ms() + GARBAGE_GRACE_MS;
        let chunks = value.map(|value| Write::put(record::garbage_key(due_ms, id, &value), Bytes::new()));
        end.into_iter().chain(chunks).collect()
    }

    /// The chunks of a value that does not fit its entry.
    fn cut(&self, id: NamespaceId, value: &ValueId, bytes: &Bytes) -> Vec<Write> {
        let size = self.sizes.chunk_bytes;
        let piece = |start: usize| bytes.slice(start..bytes.len().min(start + size));
        let numbered = (0..bytes.len()).step_by(size).zip(0..);
        numbered.map(|(start, number)| Write::put(record::chunk_key(id, value, number), piece(start))).collect()
    }
}

impl Condition {
    pub(super) fn check(self, current: Option<&Current<'_>>) -> Result<(), Error> {
        let holds = match self {
            Self::Any => true,
            Self::Absent => current.is_none(),
            Self::Present => current.is_some(),
            Self::Revision(revision) => current.is_some_and(|current| current.revision == revision),
        };
        if holds { Ok(()) } else { Err(Error::ConditionFailed) }
    }
}

/// Pairs of a bulk call that share a commit.
#[derive(Default)]
struct Group {
    keys: Vec<EntryKey>,
    entries: Vec<(Header, Bytes)>,
    along: Along,
    bytes: usize,
}

impl Group {
    fn add(&mut self, kv: &Kv, id: NamespaceId, pair: Pair) -> Result<(), Error> {
        let Pair { key, value, attributes: Attributes { expiration, metadata } } = pair;
        let mut header = Header::new(value.len() as u64, expiration, metadata);
        self.bytes += value.len();
        self.keys.push(key);
        if value.len() <= kv.sizes.inline_bytes_max {
            self.entries.push((header, value));
            return Ok(());
        }
        let value_id = random()?;
        let chunks = kv.cut(id, &value_id, &value);
        header.chunks = Some(ChunksRecord::new(&value_id, u32::try_from(chunks.len()).unwrap_or(u32::MAX)));
        self.along.writes.extend(chunks);
        self.entries.push((header, Bytes::new()));
        Ok(())
    }

    async fn commit(self, kv: &Kv, id: NamespaceId) -> Result<(), Error> {
        let Self { keys, entries, along, .. } = self;
        if keys.is_empty() {
            return Ok(());
        }
        let decide = |index: usize, _: Option<&Current<'_>>| {
            let (header, inline) = entries[index].clone();
            Ok(Step::Put { header, inline })
        };
        kv.change(id, &keys, &along, decide).await.map(drop)
    }
}
