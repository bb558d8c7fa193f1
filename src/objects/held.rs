//! An object's storage on the store: what its one instance holds while it is in memory.
//!
//! The instance remembers the revision of the object's record. Every commit checks it; the first one also raises the epoch in
//! it. So an instance that was superseded, in this process or in another, can write nothing more (`O1`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::Mutex;

use crate::clock::Clock;
use crate::domain::object::ObjectId;
use crate::host::object::Address;
use crate::host::object::storage::{AlarmChange, Batch, Query};
use crate::host::ports::{ObjectStore, StoreFault};
use crate::objects::alarms::Wake;
use crate::objects::record::{self, Meta, Space, Unreadable};
use crate::store::{Check, CommitError, Expect, Order, Revision, Store, Write};

/// The hold of one instance on one object.
pub(super) struct Held {
    part: Arc<Part>,
}

struct Part {
    store: Arc<dyn Store>,
    address: Address,
    space: Space,
    /// What a fork was made from.
    base: Option<Space>,
    state: Mutex<State>,
    bytes: AtomicU64,
    cleared: std::sync::atomic::AtomicBool,
    wake: Wake,
    clock: Arc<dyn Clock>,
}

struct State {
    meta: Meta,
    /// Of the record, if there is one.
    revision: Option<Revision>,
    /// Whether the epoch in it is this instance's.
    claimed: bool,
}

/// Marks what a fork has of a key.
const GONE: u8 = 0;
const THERE: u8 = 1;

impl Held {
    /// Takes hold of an object. Returns also what is known of it.
    ///
    /// # Errors
    /// The store's failure.
    pub(super) async fn take(
        store: &Arc<dyn Store>,
        address: Address,
        name: Option<&str>,
        clock: &Arc<dyn Clock>,
        wake: Wake,
    ) -> Result<(Self, Meta), StoreFault> {
        let space = Space::of(&address);
        let key = space.meta_key(address.id);
        let entry = store.get(&key).await.map_err(failed)?;
        let revision = entry.as_ref().map(|entry| entry.revision);
        let mut meta = match &entry {
            Some(entry) => Meta::from_entry(entry).map_err(unreadable)?,
            None => Meta::new(clock.now_ms()),
        };
        if let (None, Some(name)) = (&meta.name, name) {
            meta.name = Some(name.to_owned());
        }
        let part = Part {
            store: Arc::clone(store),
            address,
            space,
            base: address.fork.map(|_| Space::base(address.namespace)),
            bytes: AtomicU64::new(meta.bytes),
            cleared: std::sync::atomic::AtomicBool::new(meta.cleared),
            state: Mutex::new(State { meta: meta.clone(), revision, claimed: false }),
            wake,
            clock: Arc::clone(clock),
        };
        Ok((Self { part: Arc::new(part) }, meta))
    }
}

impl ObjectStore for Held {
    fn get(&self, keys: Vec<String>) -> BoxFuture<'static, Result<Vec<Option<Bytes>>, StoreFault>> {
        let part = Arc::clone(&self.part);
        async move {
            let mut values = Vec::with_capacity(keys.len());
            for key in keys {
                values.push(part.get(&key).await?);
            }
            Ok(values)
        }
        .boxed()
    }

    fn list(&self, query: Query) -> BoxFuture<'static, Result<Vec<(String, Bytes)>, StoreFault>> {
        let part = Arc::clone(&self.part);
        async move { part.list(&query).await }.boxed()
    }

    fn commit(&self, batch: Batch) -> BoxFuture<'static, Result<(), StoreFault>> {
        let part = Arc::clone(&self.part);
        async move { part.commit(batch).await }.boxed()
    }

    fn bytes(&self) -> u64 {
        self.part.bytes.load(Ordering::Relaxed)
    }
}

impl Part {
    fn id(&self) -> ObjectId {
        self.address.id
    }

    /// What lies below this fork, if anything of it still counts.
    fn base(&self) -> Option<Space> {
        self.base.filter(|_| !self.cleared.load(Ordering::Relaxed))
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreFault> {
        let own = self.store.get(&self.space.value_key(self.id(), key)).await.map_err(failed)?;
        if self.base.is_none() {
            return Ok(own.map(|entry| entry.value));
        }
        if let Some(entry) = own {
            return Ok(unmarked(&entry.value));
        }
        let Some(base) = self.base() else { return Ok(None) };
        let below = self.store.get(&base.value_key(self.id(), key)).await.map_err(failed)?;
        Ok(below.map(|entry| entry.value))
    }

    async fn list(&self, query: &Query) -> Result<Vec<(String, Bytes)>, StoreFault> {
        let order = if query.reverse { Order::Descending } else { Order::Ascending };
        let scan = |space: Space, limit: usize| {
            let range = space.values_within(self.id(), query);
            async move {
                let entries = self.store.scan(range, order, limit).await.map_err(failed)?;
                let pairs = entries.into_iter().map(|entry| Ok((record::name_of_value(&entry.key)?, entry.value)));
                pairs.collect::<Result<Vec<_>, Unreadable>>().map_err(unreadable)
            }
        };
        if self.base.is_none() {
            return scan(self.space, query.limit).await;
        }
        // Both whole: what the fork takes away is not known before. A fork is for trying something out.
        let mut pairs: std::collections::BTreeMap<String, Bytes> = match self.base() {
            Some(base) => scan(base, usize::MAX).await?.into_iter().collect(),
            None => std::collections::BTreeMap::new(),
        };
        for (key, marked) in scan(self.space, usize::MAX).await? {
            match unmarked(&marked) {
                Some(value) => drop(pairs.insert(key, value)),
                None => drop(pairs.remove(&key)),
            }
        }
        let pairs = pairs.into_iter();
        Ok(if query.reverse { pairs.rev().take(query.limit).collect() } else { pairs.take(query.limit).collect() })
    }

    async fn commit(&self, batch: Batch) -> Result<(), StoreFault> {
        let mut state = self.state.lock().await;
        let mut meta = state.meta.clone();
        let id = self.id();
        let mut writes = Vec::with_capacity(batch.writes.len() + 4);
        if batch.clear {
            let values = self.space.values_of(id);
            writes.push(Write::DeleteRange { start: values.start, end: values.end });
            meta.bytes = 0;
            meta.cleared = self.base.is_some();
        }
        for (key, change) in batch.writes {
            let stored = self.space.value_key(id, &key);
            let before = match change.before {
                _ if batch.clear => 0,
                Some(before) => before,
                None => self.get(&key).await?.map_or(0, |value| (key.len() + value.len()) as u64),
            };
            let after = change.value.as_ref().map_or(0, |value| (key.len() + value.len()) as u64);
            meta.bytes = meta.bytes.saturating_sub(before).saturating_add(after);
            writes.push(match (change.value, self.base.is_some()) {
                (Some(value), false) => Write::put(stored, value),
                (None, false) => Write::delete(stored),
                (value, true) => Write::put(stored, marked(value)),
            });
        }
        self.change_alarm(batch.alarm, &mut meta, &mut writes);
        if !state.claimed {
            meta.epoch += 1;
            if let Some(version) = self.address.fork {
                let key = record::fork_key(self.address.namespace, version);
                writes.push(Write::put(key, record::to_fork(self.clock.now_ms())));
            }
        }
        let key = self.space.meta_key(id);
        let check = Check { key: key.clone(), expected: state.revision.map_or(Expect::Absent, Expect::Version) };
        let rewritten = meta != state.meta || state.revision.is_none();
        if rewritten {
            writes.push(Write::put(key, meta.to_bytes()));
        }
        let revision = self.store.commit(vec![check], writes).await.map_err(|error| match error {
            CommitError::Conflict { .. } => StoreFault::Superseded,
            other => failed(other),
        })?;
        if rewritten {
            state.revision = Some(revision);
        }
        self.bytes.store(meta.bytes, Ordering::Relaxed);
        self.cleared.store(meta.cleared, Ordering::Relaxed);
        state.claimed = true;
        state.meta = meta;
        drop(state);
        if let Some(AlarmChange::Set(alarm)) = batch.alarm {
            self.wake.at(alarm.due_ms);
        }
        Ok(())
    }

    /// Puts the alarm into the record, and moves its entry in the index.
    fn change_alarm(&self, change: Option<AlarmChange>, meta: &mut Meta, writes: &mut Vec<Write>) {
        let had = meta.alarm();
        match change {
            Some(AlarmChange::Set(alarm)) => meta.set_alarm(Some(alarm)),
            Some(AlarmChange::Delete) => meta.set_alarm(None),
            None => return,
        }
        let has = meta.alarm();
        if had.map(|alarm| alarm.due_ms) == has.map(|alarm| alarm.due_ms) {
            return;
        }
        if let Some(had) = had {
            writes.push(Write::delete(self.space.alarm_key(had.due_ms, self.id())));
        }
        if let Some(has) = has {
            writes.push(Write::put(self.space.alarm_key(has.due_ms, self.id()), record::to_index(&self.address)));
        }
    }
}

fn marked(value: Option<Bytes>) -> Bytes {
    let Some(value) = value else { return Bytes::from_static(&[GONE]) };
    let mut marked = BytesMut::with_capacity(value.len() + 1);
    marked.put_u8(THERE);
    marked.extend_from_slice(&value);
    marked.freeze()
}

fn unmarked(marked: &Bytes) -> Option<Bytes> {
    marked.first().is_some_and(|mark| *mark == THERE).then(|| marked.slice(1..))
}

/// The store's failure, with its causes.
pub(super) fn failed(error: impl std::error::Error) -> StoreFault {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    StoreFault::Failed(text)
}

#[expect(clippy::needless_pass_by_value, reason = "the shape of `map_err`")]
pub(super) fn unreadable(error: Unreadable) -> StoreFault {
    StoreFault::Failed(error.to_string())
}
