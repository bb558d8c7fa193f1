//! What happens in the background: expired entries, chunks that no entry names, and what deleted namespaces held are
//! removed, a bounded commit at a time. Every step can be repeated, and a crash between two loses none of the work.

use std::sync::{Arc, Weak};
use std::time::Duration;

use super::error::reading;
use super::record::{self, ChunksRecord, Header};
use super::{Error, Kv};
use crate::domain::id::NamespaceId;
use crate::store::{Check, CommitError, Entry, Order, Range, Write};

/// How often there is a look. What has expired is absent without it.
const PAUSE: Duration = Duration::from_secs(5);
/// Entries in one commit.
const ENTRIES_MAX: usize = 100;
/// Values whose chunks go in one commit: a hundred megabytes at most.
const VALUES_MAX: usize = 4;
/// Chunks without an entry that go in one commit: they are read to be found.
const CHUNKS_MAX: usize = 8;

/// Whether a sweep did all that there was to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    Done,
    More,
}

impl Progress {
    fn and(self, other: Self) -> Self {
        if self == Self::Done { other } else { self }
    }
}

impl Kv {
    /// Sweeps now and then, for as long as the namespaces are in use.
    pub async fn sweep_forever(kv: Weak<Self>) {
        let Some(wake) = kv.upgrade().map(|kv| Arc::clone(&kv.wake)) else { return };
        let mut progress = Progress::Done;
        loop {
            if progress == Progress::Done {
                let _ = tokio::time::timeout(PAUSE, wake.notified()).await;
            }
            let Some(kv) = kv.upgrade() else { return };
            progress = kv.sweep().await.unwrap_or_else(|error| {
                tracing::warn!(error = &error as &dyn std::error::Error, "KV namespaces could not be swept");
                Progress::Done
            });
        }
    }

    /// Removes what is due, in bounded commits. Each kind of work gets its turn, however much there is of the others.
    ///
    /// # Errors
    /// If the store fails. The rest is done the next time.
    pub async fn sweep(&self) -> Result<Progress, Error> {
        let expired = self.expire().await?;
        let collected = self.collect().await?;
        let mut buried = Progress::Done;
        for tombstone in &self.scan(record::tombstones(), ENTRIES_MAX).await? {
            buried = buried.and(self.bury(record::buried(tombstone)?).await?);
        }
        Ok(expired.and(collected).and(buried))
    }

    /// Removes entries that have expired.
    async fn expire(&self) -> Result<Progress, Error> {
        let due = self.scan(record::expiries_until(self.now_s()), ENTRIES_MAX).await?;
        let (mut checks, mut writes) = (Vec::new(), Vec::new());
        for expiry in &due {
            let (second, id, key) = record::expiry_of(expiry)?;
            let entry_key = record::entry_key(id, &key);
            let entry = self.store.get(&entry_key).await.map_err(reading("sweep an expired key"))?;
            checks.push(Check::unchanged(entry_key.clone(), entry.as_ref()));
            writes.push(Write::delete(expiry.key.clone()));
            let header = entry.as_ref().map(Header::decode).transpose()?.map(|(header, _)| header);
            if let Some(header) = header.filter(|header| header.expiration == Some(second)) {
                writes.extend(self.discard(id, &key, &header));
                writes.push(Write::delete(entry_key));
            }
        }
        // A key that someone writes at this moment is left for the next time.
        if self.commit("sweep expired keys", checks, writes).await? && due.len() == ENTRIES_MAX {
            return Ok(Progress::More);
        }
        Ok(Progress::Done)
    }

    /// Removes chunks that are garbage, but for those that are being read here.
    async fn collect(&self) -> Result<Progress, Error> {
        let mut range = record::garbage_until(self.clock.now_ms());
        let mut writes = Vec::new();
        let mut values = 0;
        while values < VALUES_MAX {
            let notes = self.scan(range.clone(), VALUES_MAX).await?;
            let Some(last) = notes.last() else { break };
            range = range.after(&last.key);
            for note in &notes {
                let (id, value) = record::garbage_of(note)?;
                if self.with_reading(|reading| reading.contains_key(&value)) {
                    continue;
                }
                writes.push(Write::delete_range(record::chunks(id, &value)));
                writes.push(Write::delete(note.key.clone()));
                values += 1;
            }
        }
        self.commit("sweep replaced values", Vec::new(), writes).await?;
        Ok(if values < VALUES_MAX { Progress::Done } else { Progress::More })
    }

    /// Removes a part of what a deleted namespace held; at the end its tombstone.
    async fn bury(&self, id: NamespaceId) -> Result<Progress, Error> {
        const ATTEMPT: &str = "remove what a deleted KV namespace held";
        let entries = self.scan(record::entries(id, ""), ENTRIES_MAX).await?;
        if !entries.is_empty() {
            let mut writes = Vec::new();
            let mut values = 0;
            for entry in &entries {
                let (key, (header, _)) = (record::entry_key_of(entry)?, Header::decode(entry)?);
                writes.extend(header.expiration.map(|second| Write::delete(record::expiry_key(second, id, &key))));
                if let Some(value) = header.chunks.as_ref().and_then(ChunksRecord::value) {
                    writes.push(Write::delete_range(record::chunks(id, &value)));
                    values += 1;
                }
                writes.push(Write::delete(entry.key.clone()));
                if values == VALUES_MAX {
                    break;
                }
            }
            self.commit(ATTEMPT, Vec::new(), writes).await?;
            return Ok(Progress::More);
        }
        // What is left are chunks that were garbage, or written ahead.
        let chunks = self.scan(record::all_chunks(id), CHUNKS_MAX).await?;
        let is_end = chunks.len() < CHUNKS_MAX;
        let mut writes: Vec<Write> = chunks.into_iter().map(|chunk| Write::delete(chunk.key)).collect();
        if is_end {
            writes.push(Write::delete(record::tombstone_key(id)));
        }
        self.commit(ATTEMPT, Vec::new(), writes).await?;
        Ok(if is_end { Progress::Done } else { Progress::More })
    }

    async fn scan(&self, range: Range, limit: usize) -> Result<Vec<Entry>, Error> {
        self.store.scan(range, Order::Ascending, limit).await.map_err(reading("sweep the KV namespaces"))
    }

    /// Whether it was committed. Nothing to write is nothing to commit.
    async fn commit(&self, attempt: &'static str, checks: Vec<Check>, writes: Vec<Write>) -> Result<bool, Error> {
        if writes.is_empty() {
            return Ok(true);
        }
        match self.store.commit(checks, writes).await {
            Ok(_) => Ok(true),
            Err(CommitError::Conflict { .. }) => Ok(false),
            Err(source) => Err(Error::Commit { attempt, source }),
        }
    }
}
