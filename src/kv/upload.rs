//! A value that comes bit by bit: cut into chunks as it comes, in commits of a bounded size, and seen only when it is whole.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::record::{self, ChunksRecord, Header, ValueId};
use super::write::{Along, Current, Step};
use super::{Attributes, Condition, EntryKey, Error, Kv, random};
use crate::domain::id::NamespaceId;
use crate::domain::limits::KV_VALUE_BYTES_MAX;
use crate::store::{Check, CommitError, Key, Revision, Write};

/// How long chunks that were written ahead wait for the rest of their value.
const UPLOAD_MS_MAX: u64 = 60 * 60 * 1000;

/// A value on its way in. If it is dropped before it is finished, nothing was written; what was written ahead is swept.
pub struct Upload {
    kv: Arc<Kv>,
    namespace: NamespaceId,
    value: Option<ValueId>,
    size_bytes: u64,
    /// What does not make a chunk yet.
    open: BytesMut,
    chunks: u32,
    /// Chunks that are not written yet.
    waiting: Vec<Write>,
    waiting_bytes: usize,
    /// The note that makes the chunks written ahead garbage, unless the value is finished.
    ahead: Option<(Key, Revision)>,
}

impl Kv {
    /// Begins a value.
    #[must_use]
    pub fn upload(self: &Arc<Self>, id: NamespaceId) -> Upload {
        Upload {
            kv: Arc::clone(self),
            namespace: id,
            value: None,
            size_bytes: 0,
            open: BytesMut::new(),
            chunks: 0,
            waiting: Vec::new(),
            waiting_bytes: 0,
            ahead: None,
        }
    }
}

impl Upload {
    /// Takes more of the value.
    ///
    /// # Errors
    /// If it is too large by now, or the namespace is gone.
    pub async fn push(&mut self, mut more: Bytes) -> Result<(), Error> {
        self.size_bytes += more.len() as u64;
        if self.size_bytes > KV_VALUE_BYTES_MAX {
            return Err(Error::ValueTooLarge);
        }
        let chunk_bytes = self.kv.sizes.chunk_bytes;
        while self.open.len() + more.len() > chunk_bytes {
            let chunk = if self.open.is_empty() {
                more.split_to(chunk_bytes)
            } else {
                let rest = more.split_to(chunk_bytes - self.open.len());
                self.open.extend_from_slice(&rest);
                self.open.split().freeze()
            };
            self.chunk(chunk)?;
            if self.waiting_bytes >= self.kv.sizes.commit_bytes {
                self.write_ahead().await?;
            }
        }
        self.open.extend_from_slice(&more);
        Ok(())
    }

    /// Gives the value to `key`, all at once.
    ///
    /// # Errors
    /// If there is no such namespace, or the condition does not hold.
    pub async fn finish(
        mut self,
        key: &EntryKey,
        attributes: Attributes,
        condition: Condition,
    ) -> Result<Revision, Error> {
        let Attributes { expiration, metadata } = attributes;
        let mut header = Header::new(self.size_bytes, expiration, metadata);
        let mut inline = Bytes::new();
        let open = self.open.split().freeze();
        if self.chunks == 0 && open.len() <= self.kv.sizes.inline_bytes_max {
            inline = open;
        } else {
            if !open.is_empty() {
                self.chunk(open)?;
            }
            header.chunks = self.value.map(|value| ChunksRecord::new(&value, self.chunks));
        }
        let mut along = Along { checks: Vec::new(), writes: std::mem::take(&mut self.waiting) };
        if let Some((note, revision)) = self.ahead.take() {
            along.checks.push(Check::version(note.clone(), revision));
            along.writes.push(Write::delete(note));
        }
        let _turn = self.kv.turn(self.namespace, key).await;
        let decide = |_: usize, current: Option<&Current<'_>>| {
            condition.check(current)?;
            Ok(Step::Put { header: header.clone(), inline: inline.clone() })
        };
        self.kv.change(self.namespace, std::slice::from_ref(key), &along, decide).await
    }

    fn chunk(&mut self, bytes: Bytes) -> Result<(), Error> {
        let value = match self.value {
            Some(value) => value,
            None => *self.value.insert(random()?),
        };
        self.waiting_bytes += bytes.len();
        self.waiting.push(Write::put(record::chunk_key(self.namespace, &value, self.chunks), bytes));
        self.chunks += 1;
        Ok(())
    }

    /// Writes the chunks that wait. They are garbage until the value is finished.
    async fn write_ahead(&mut self) -> Result<(), Error> {
        const ATTEMPT: &str = "write the value";
        let Some(value) = self.value else { return Ok(()) };
        let mut writes = std::mem::take(&mut self.waiting);
        self.waiting_bytes = 0;
        let namespace = self.kv.namespace_entry(self.namespace).await?;
        let (note, check) = match &self.ahead {
            Some((note, revision)) => (None, Check::version(note.clone(), *revision)),
            None => {
                let due_ms = self.kv.clock.now_ms() + UPLOAD_MS_MAX;
                let note = record::garbage_key(due_ms, self.namespace, &value);
                writes.push(Write::put(note.clone(), Bytes::new()));
                (Some(note), Check::version(namespace.key, namespace.revision))
            }
        };
        match self.kv.store.commit(vec![check], writes).await {
            Ok(revision) => {
                if let Some(note) = note {
                    self.ahead = Some((note, revision));
                }
                Ok(())
            }
            // The note was swept; or, at the first commit, the namespace has changed in this very moment.
            Err(CommitError::Conflict { .. }) if self.ahead.is_some() => Err(Error::UploadTooSlow),
            Err(CommitError::Conflict { .. }) => Err(Error::Busy { attempt: ATTEMPT, attempts: 1 }),
            Err(source) => Err(Error::Commit { attempt: ATTEMPT, source }),
        }
    }
}
