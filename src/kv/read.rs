//! Reading values: whole, or chunk by chunk while the caller takes them.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use futures_util::future::try_join;

use super::error::reading;
use super::record::{self, Header, ValueId};
use super::{EntryKey, Error, Kv};
use crate::domain::id::NamespaceId;
use crate::domain::limits::{KV_BULK_BYTES_MAX, KV_BULK_KEYS_MAX};
use crate::store::{Entry, Revision};

/// What a key holds.
pub struct Found {
    /// Unix seconds.
    pub expiration: Option<u64>,
    /// JSON, as text.
    pub metadata: Option<String>,
    /// Names this state of the key, for a write that expects it.
    pub revision: Revision,
    pub value: Value,
}

/// A value on its way to a reader. As long as it lives, its chunks stay.
pub struct Value {
    size_bytes: u64,
    source: Source,
}

enum Source {
    /// All of it, until it was taken.
    Inline(Option<Bytes>),
    Chunks {
        namespace: NamespaceId,
        next: u32,
        count: u32,
        reading: Reading,
    },
}

/// Keeps the sweep from a value's chunks.
struct Reading {
    kv: Arc<Kv>,
    value: ValueId,
}

impl Kv {
    /// What `key` holds now, if it holds anything.
    ///
    /// # Errors
    /// If there is no such namespace.
    pub async fn get(self: &Arc<Self>, id: NamespaceId, key: &EntryKey) -> Result<Option<Found>, Error> {
        let Some((entry, header, inline)) = self.live(id, key).await? else { return Ok(None) };
        let source = match &header.chunks {
            None => Source::Inline(Some(inline)),
            Some(chunks) => {
                let value = chunks.value().ok_or_else(|| record::damaged(&entry)("its value has no id"))?;
                let reading = Reading::begin(self, value);
                Source::Chunks { namespace: id, next: 0, count: chunks.count, reading }
            }
        };
        Ok(Some(Found {
            expiration: header.expiration,
            metadata: header.metadata,
            revision: entry.revision,
            value: Value { size_bytes: header.size_bytes, source },
        }))
    }

    /// The values of several keys, in their order.
    ///
    /// # Errors
    /// If there is no such namespace, or if the keys or their values are more than one call takes.
    pub async fn get_many(
        self: &Arc<Self>,
        id: NamespaceId,
        keys: &[EntryKey],
    ) -> Result<Vec<Option<(Found, Bytes)>>, Error> {
        if keys.len() > KV_BULK_KEYS_MAX {
            return Err(Error::TooManyKeys { keys: keys.len() });
        }
        let mut values = Vec::with_capacity(keys.len());
        let mut total_bytes = 0;
        for key in keys {
            let mut found = self.get(id, key).await?;
            total_bytes += found.as_ref().map_or(0, |found| found.value.size_bytes());
            if total_bytes > KV_BULK_BYTES_MAX as u64 {
                return Err(Error::AnswerTooLarge);
            }
            let bytes = match &mut found {
                Some(found) => found.value.bytes().await?,
                None => Bytes::new(),
            };
            values.push(found.map(|found| (found, bytes)));
        }
        Ok(values)
    }

    /// Whether `key` holds anything.
    ///
    /// # Errors
    /// If there is no such namespace.
    pub async fn exists(&self, id: NamespaceId, key: &EntryKey) -> Result<bool, Error> {
        Ok(self.live(id, key).await?.is_some())
    }

    async fn live(&self, id: NamespaceId, key: &EntryKey) -> Result<Option<(Entry, Header, Bytes)>, Error> {
        let (namespace_key, entry_key) = (record::namespace_key(id), record::entry_key(id, key));
        let both = try_join(self.store.get(&namespace_key), self.store.get(&entry_key)).await;
        let (namespace, entry) = both.map_err(reading("read the key"))?;
        if namespace.is_none() {
            return Err(Error::NamespaceUnknown { id });
        }
        let Some(entry) = entry else { return Ok(None) };
        let (header, inline) = Header::decode(&entry)?;
        Ok(header.is_live(self.now_s()).then_some((entry, header, inline)))
    }
}

// === impl Value ===

impl Value {
    /// How large it is in all.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// The next piece; none at the end.
    ///
    /// # Errors
    /// [`Error::Replaced`] if the rest is gone.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        match &mut self.source {
            Source::Inline(bytes) => Ok(bytes.take()),
            Source::Chunks { next, count, .. } if *next >= *count => Ok(None),
            Source::Chunks { namespace, next, reading: Reading { kv, value }, .. } => {
                let chunk = kv.store.get(&record::chunk_key(*namespace, value, *next)).await;
                let chunk = chunk.map_err(reading("read the value"))?.ok_or(Error::Replaced)?;
                *next += 1;
                Ok(Some(chunk.value))
            }
        }
    }

    /// All that is left of it.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub async fn bytes(&mut self) -> Result<Bytes, Error> {
        let Some(first) = self.next().await? else { return Ok(Bytes::new()) };
        let Some(second) = self.next().await? else { return Ok(first) };
        let mut all = BytesMut::with_capacity(usize::try_from(self.size_bytes).unwrap_or_default());
        all.extend_from_slice(&first);
        all.extend_from_slice(&second);
        while let Some(more) = self.next().await? {
            all.extend_from_slice(&more);
        }
        Ok(all.freeze())
    }

    /// Its pieces, each read when it is asked for.
    pub fn stream(self) -> impl Stream<Item = Result<Bytes, Error>> + Send {
        futures_util::stream::try_unfold(self, |mut value| async move {
            Ok(value.next().await?.map(|piece| (piece, value)))
        })
    }
}

impl std::fmt::Debug for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Value({} bytes)", self.size_bytes)
    }
}

impl Reading {
    fn begin(kv: &Arc<Kv>, value: ValueId) -> Self {
        kv.with_reading(|reading| *reading.entry(value).or_default() += 1);
        Self { kv: Arc::clone(kv), value }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.kv.with_reading(|reading| {
            if let Some(count) = reading.get_mut(&self.value) {
                *count -= 1;
                if *count == 0 {
                    reading.remove(&self.value);
                }
            }
        });
    }
}
