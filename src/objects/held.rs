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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::domain::alarm::Alarm;
    use crate::domain::id::VersionId;
    use crate::domain::object::ObjectNamespaceId;
    use crate::host::object::storage::Change;
    use crate::store::MemoryStore;
    use crate::store::fault::{Fault, FaultStore};

    fn memory() -> Arc<dyn Store> {
        Arc::new(MemoryStore::new())
    }

    fn address(fork: Option<VersionId>) -> Address {
        let namespace = ObjectNamespaceId::from_bytes([7; 16]);
        Address { namespace, id: namespace.id_from_name("a"), fork }
    }

    async fn take(store: &Arc<dyn Store>, fork: Option<VersionId>) -> (Held, Meta) {
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(1_000));
        Held::take(store, address(fork), Some("a"), &clock, Wake::default()).await.unwrap()
    }

    fn writes(pairs: &[(&str, Option<&str>)]) -> Batch {
        let change = |value: &Option<&str>| Change { value: value.map(|value| value.to_owned().into()), before: None };
        let writes = pairs.iter().map(|(key, value)| ((*key).to_owned(), change(value))).collect();
        Batch { writes, ..Batch::default() }
    }

    fn alarm(change: AlarmChange) -> Batch {
        Batch { alarm: Some(change), ..Batch::default() }
    }

    async fn value(held: &Held, key: &str) -> Option<String> {
        let value = held.get(vec![key.to_owned()]).await.unwrap().remove(0);
        value.map(|value| String::from_utf8(value.to_vec()).unwrap())
    }

    async fn listed(held: &Held, query: Query) -> String {
        let pairs = held.list(query).await.unwrap().into_iter();
        pairs.map(|(key, value)| format!("{key}={} ", String::from_utf8_lossy(&value))).collect()
    }

    fn all() -> Query {
        Query { limit: usize::MAX, ..Query::default() }
    }

    /// When the alarms in the index ring.
    async fn index(store: &Arc<dyn Store>) -> Vec<u64> {
        let entries = store.scan(record::alarms(), Order::Ascending, usize::MAX).await.unwrap();
        entries.iter().map(|entry| record::from_index(entry).unwrap().0).collect()
    }

    #[tokio::test]
    async fn of_two_that_hold_an_object_the_one_that_writes_first_keeps_it() {
        let store = memory();
        let (old, _) = take(&store, None).await;
        let (new, _) = take(&store, None).await;
        new.commit(writes(&[("k", Some("new"))])).await.unwrap();
        assert_eq!(old.commit(writes(&[("k", Some("old"))])).await, Err(StoreFault::Superseded));
        assert_eq!(value(&old, "k").await.as_deref(), Some("new"));

        // The same where the object has a record already, whoever wrote it; and only the first commit counts up.
        let (next, meta) = take(&store, None).await;
        assert_eq!((meta.epoch, meta.name.as_deref()), (1, Some("a")));
        next.commit(writes(&[("k", Some("next"))])).await.unwrap();
        next.commit(writes(&[("k", Some("next again"))])).await.unwrap();
        assert_eq!(new.commit(writes(&[("k", Some("new"))])).await, Err(StoreFault::Superseded));
        assert_eq!(new.commit(alarm(AlarmChange::Delete)).await, Err(StoreFault::Superseded));
        assert_eq!(value(&next, "k").await.as_deref(), Some("next again"));
        assert_eq!(take(&store, None).await.1.epoch, 2);
    }

    #[tokio::test]
    async fn one_that_only_reads_takes_nothing_from_the_other() {
        let store = memory();
        let (writer, _) = take(&store, None).await;
        writer.commit(writes(&[("k", Some("1"))])).await.unwrap();
        let (reader, _) = take(&store, None).await;
        assert_eq!(value(&reader, "k").await.as_deref(), Some("1"));
        writer.commit(writes(&[("k", Some("2"))])).await.unwrap();
        assert_eq!(value(&reader, "k").await.as_deref(), Some("2"));
    }

    #[tokio::test]
    async fn the_size_is_that_of_keys_and_values() {
        let store = memory();
        let (held, _) = take(&store, None).await;
        for (batch, bytes) in [
            (writes(&[("key", Some("value")), ("empty", Some(""))]), 13),
            (writes(&[("key", Some("v")), ("nothing", None)]), 9),
            (writes(&[("empty", None)]), 4),
            (Batch { clear: true, ..writes(&[("new", Some("1"))]) }, 4),
            (Batch { clear: true, ..Batch::default() }, 0),
        ] {
            held.commit(batch).await.unwrap();
            assert_eq!(held.bytes(), bytes);
            assert_eq!(take(&store, None).await.0.bytes(), bytes);
        }
    }

    #[tokio::test]
    async fn the_index_has_the_alarm_that_is_set_and_no_other() {
        let store = memory();
        let (held, _) = take(&store, None).await;
        held.commit(alarm(AlarmChange::Set(Alarm::new(5)))).await.unwrap();
        held.commit(alarm(AlarmChange::Set(Alarm::new(9)))).await.unwrap();
        assert_eq!(index(&store).await, [9]);
        held.commit(writes(&[("k", Some("1"))])).await.unwrap();
        let (next, meta) = take(&store, None).await;
        assert_eq!((meta.alarm(), index(&store).await), (Some(Alarm::new(9)), vec![9]));
        // A retry at the same time is another alarm all the same.
        let retry = Alarm { due_ms: 9, retries: 1, host_failures: 0 };
        next.commit(alarm(AlarmChange::Set(retry))).await.unwrap();
        assert_eq!((take(&store, None).await.1.alarm(), index(&store).await), (Some(retry), vec![9]));
        next.commit(alarm(AlarmChange::Delete)).await.unwrap();
        assert_eq!((take(&store, None).await.1.alarm(), index(&store).await), (None, vec![]));
    }

    #[tokio::test]
    async fn a_commit_that_fails_changes_nothing_and_one_whose_answer_is_lost_is_not_built_on() {
        let inner = memory();
        let store: Arc<dyn Store> = Arc::new(FaultStore::at(Arc::clone(&inner), 2, Fault::Refuse));
        let (held, _) = take(&store, None).await;
        held.commit(writes(&[("k", Some("1"))])).await.unwrap();
        assert!(matches!(held.commit(writes(&[("k", Some("2"))])).await, Err(StoreFault::Failed(_))));
        assert_eq!((value(&held, "k").await.as_deref(), held.bytes()), (Some("1"), 2));

        let store: Arc<dyn Store> = Arc::new(FaultStore::at(inner, 1, Fault::LoseAnswer));
        let (held, _) = take(&store, None).await;
        assert!(matches!(held.commit(writes(&[("k", Some("33"))])).await, Err(StoreFault::Failed(_))));
        // It does not know whether it was done; the store does, and refuses what is built on less.
        assert_eq!(held.commit(writes(&[("k", Some("4"))])).await, Err(StoreFault::Superseded));
        let (next, _) = take(&store, None).await;
        assert_eq!((value(&next, "k").await.as_deref(), next.bytes()), (Some("33"), 3));
    }

    #[tokio::test]
    async fn a_fork_reads_what_it_was_made_from_and_writes_its_own() {
        let store = memory();
        let version = VersionId::from_random([3; 16]);
        let (base, _) = take(&store, None).await;
        base.commit(writes(&[("a", Some("base")), ("b", Some("base")), ("c", Some("base"))])).await.unwrap();

        let (fork, meta) = take(&store, Some(version)).await;
        assert_eq!((meta.epoch, value(&fork, "a").await.as_deref()), (0, Some("base")));
        fork.commit(writes(&[("a", Some("fork")), ("b", None), ("d", Some("fork"))])).await.unwrap();
        assert_eq!(listed(&fork, all()).await, "a=fork c=base d=fork ");
        assert_eq!(listed(&fork, Query { limit: 2, reverse: true, ..all() }).await, "d=fork c=base ");
        assert_eq!(listed(&fork, Query { start_after: Some("a".into()), limit: 1, ..all() }).await, "c=base ");
        assert_eq!((value(&fork, "b").await, value(&fork, "c").await.as_deref()), (None, Some("base")));
        assert_eq!(listed(&base, all()).await, "a=base b=base c=base ");

        // What is written below shows through where the fork has nothing of its own, until all is deleted there.
        base.commit(writes(&[("a", Some("later")), ("c", Some("later"))])).await.unwrap();
        assert_eq!(listed(&fork, all()).await, "a=fork c=later d=fork ");
        fork.commit(Batch { clear: true, ..writes(&[("e", Some("fork"))]) }).await.unwrap();
        for fork in [fork, take(&store, Some(version)).await.0] {
            assert_eq!((listed(&fork, all()).await.as_str(), value(&fork, "c").await), ("e=fork ", None));
        }
        assert_eq!(listed(&base, all()).await, "a=later b=base c=later ");
        let forks = store.scan(record::forks(), Order::Ascending, usize::MAX).await.unwrap();
        let forks: Vec<_> = forks.iter().map(|entry| record::from_fork(entry).unwrap()).collect();
        assert_eq!(forks, [(address(None).namespace, version, 1_000)]);
    }
}
