//! An object's storage as its guest sees it: writes are buffered and seen at once, reads are served from memory where they can
//! be, and nothing leaves before what was written is durable (`DOS-4`…`DOS-6`).
//!
//! A *batch* is what was written since the last one was taken; it becomes durable all or nothing. One batch at a time is with
//! the store; the next gathers meanwhile.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::watch;

use crate::domain::alarm::Alarm;
use crate::domain::limits::{
    OBJECT_BATCH_BYTES_MAX, OBJECT_BYTES_MAX, OBJECT_CACHE_BYTES, OBJECT_KEY_BYTES_MAX, OBJECT_KEYS_PER_CALL_MAX,
    OBJECT_LIST_BYTES_MAX, OBJECT_VALUE_BYTES_MAX,
};
use crate::host::object::gate::Gate;
use crate::host::ports::{ObjectStore, StoreFault};

/// Storage of one object in memory.
pub struct Storage {
    store: Arc<dyn ObjectStore>,
    gate: Arc<Gate>,
    inner: Mutex<Inner>,
    progress: watch::Sender<Progress>,
}

/// What of the writes is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Progress {
    /// The last batch that is.
    durable: u64,
    /// Whether no further one will be.
    dead: bool,
}

/// Why a call of the guest's failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// A limit was passed; in words.
    TooLarge(String),
    /// The instance no longer owns the object.
    Superseded,
    /// The store failed.
    Unavailable(String),
}

/// Writes that become durable together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// Whether everything that was there is removed first.
    pub clear: bool,
    /// Each key once.
    pub writes: BTreeMap<String, Change>,
    pub alarm: Option<AlarmChange>,
}

/// What becomes of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// None removes it.
    pub value: Option<Bytes>,
    /// Bytes of key and value that were there before, if that is known: 0 if there were none.
    pub before: Option<u64>,
}

/// When what was written is handed to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Whenever the guest is at rest: writes with no await between them are together.
    AtRest,
    /// When something waits for it: the writes of one event are together.
    WhenWanted,
}

/// What becomes of the alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlarmChange {
    Set(Alarm),
    Delete,
}

/// Which keys a list is about. Bounds are compared by their UTF-8 bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    pub prefix: String,
    /// Inclusive.
    pub start: Option<String>,
    /// Exclusive; wins over `start`.
    pub start_after: Option<String>,
    /// Exclusive.
    pub end: Option<String>,
    pub reverse: bool,
    pub limit: usize,
}

#[derive(Default)]
struct Inner {
    /// What is known of keys: what was written, and what was read not long ago.
    known: BTreeMap<String, Known>,
    known_bytes: usize,
    pending: Batch,
    pending_bytes: usize,
    /// The last batch that was taken.
    taken: u64,
    /// The batch that removed everything: what is not known was not there before it is durable.
    cleared: Option<u64>,
    /// Whether somebody waits for what is pending.
    wanted: bool,
    /// Deletions whose keys are being counted: what is pending is not complete.
    counting: u32,
    /// How often something was written: who reads the store meanwhile may have read what was there before.
    written: u64,
    alarm: AlarmState,
}

struct Known {
    value: Option<Bytes>,
    /// The batch that writes it; 0 if it is what the store has.
    batch: u64,
}

/// The alarm as the guest sees it.
#[derive(Debug, Default)]
struct AlarmState {
    set: Option<Alarm>,
    /// The alarm that rings now.
    ringing: Option<Alarm>,
}

impl Storage {
    /// Over what `store` has of the object, with the alarm that is set there.
    #[must_use]
    pub fn new(store: Arc<dyn ObjectStore>, gate: Arc<Gate>, alarm: Option<Alarm>) -> Self {
        let inner = Inner { alarm: AlarmState { set: alarm, ringing: None }, ..Inner::default() };
        let progress = watch::Sender::new(Progress { durable: 0, dead: false });
        Self { store, gate, inner: Mutex::new(inner), progress }
    }

    // --- what the guest asks for ---

    /// The value of a key.
    ///
    /// # Errors
    /// A limit, or the store's failure.
    pub async fn get(&self, key: &str) -> Result<Option<Bytes>, Fault> {
        let mut values = self.get_many(vec![key.to_owned()]).await?;
        Ok(values.pop().flatten())
    }

    /// The values of some keys, in their order.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn get_many(&self, keys: Vec<String>) -> Result<Vec<Option<Bytes>>, Fault> {
        check_count(keys.len())?;
        keys.iter().try_for_each(|key| check_key(key))?;
        let (mut values, unknown, written) = {
            let inner = self.inner();
            let values: Vec<Option<Option<Bytes>>> = keys.iter().map(|key| inner.known(key)).collect();
            let unknown: Vec<usize> = (0..keys.len()).filter(|index| values[*index].is_none()).collect();
            (values, unknown, inner.written)
        };
        if !unknown.is_empty() {
            let operation = self.gate.operation();
            let asked: Vec<String> = unknown.iter().map(|index| keys[*index].clone()).collect();
            let found = self.store.get(asked).await?;
            let mut inner = self.inner();
            for (index, value) in unknown.into_iter().zip(found) {
                // Another task of the guest may have written it meanwhile.
                values[index] = Some(inner.learn(&keys[index], value, written));
            }
            drop(inner);
            drop(operation);
        }
        Ok(values.into_iter().map(Option::flatten).collect())
    }

    /// Pairs in the order of their keys.
    ///
    /// # Errors
    /// As [`Self::get`]; and if the pairs are too much for one answer.
    pub async fn list(&self, query: Query) -> Result<Vec<(String, Bytes)>, Fault> {
        for key in [&query.start, &query.start_after, &query.end].into_iter().flatten() {
            check_key(key)?;
        }
        // What is not durable yet wins over what the store will say, whenever it becomes durable.
        let (unsaved, cleared) = {
            let inner = self.inner();
            let within = inner.known.iter().filter(|(key, known)| known.batch > 0 && query.admits(key));
            let unsaved: BTreeMap<String, Option<Bytes>> =
                within.map(|(key, known)| (key.clone(), known.value.clone())).collect();
            (unsaved, inner.cleared.is_some())
        };
        let mut pairs: BTreeMap<String, Bytes> = BTreeMap::new();
        if !cleared {
            let operation = self.gate.operation();
            let removed = unsaved.values().filter(|value| value.is_none()).count();
            let mut wider = query.clone();
            wider.limit = query.limit.saturating_add(removed);
            pairs = self.store.list(wider).await?.into_iter().collect();
            drop(operation);
        }
        for (key, value) in unsaved {
            match value {
                Some(value) => drop(pairs.insert(key, value)),
                None => drop(pairs.remove(&key)),
            }
        }
        let pairs = pairs.into_iter();
        let pairs: Vec<_> =
            if query.reverse { pairs.rev().take(query.limit).collect() } else { pairs.take(query.limit).collect() };
        let bytes: usize = pairs.iter().map(|(key, value)| key.len() + value.len()).sum();
        if bytes > OBJECT_LIST_BYTES_MAX {
            let message =
                format!("the list has {bytes} bytes, the limit is {OBJECT_LIST_BYTES_MAX}; set a limit on it");
            return Err(Fault::TooLarge(message));
        }
        Ok(pairs)
    }

    /// Writes pairs.
    ///
    /// # Errors
    /// A limit; then nothing is written.
    pub fn put(&self, entries: Vec<(String, Vec<u8>)>) -> Result<(), Fault> {
        check_count(entries.len())?;
        for (key, value) in &entries {
            check_key(key)?;
            if value.len() > OBJECT_VALUE_BYTES_MAX {
                let message =
                    format!("the value of `{key}` has {} bytes, the limit is {OBJECT_VALUE_BYTES_MAX}", value.len());
                return Err(Fault::TooLarge(message));
            }
        }
        let stored = self.store.bytes();
        let mut inner = self.inner();
        let bytes: usize = entries.iter().map(|(key, value)| key.len() + value.len()).sum();
        inner.check_room(bytes, stored)?;
        for (key, value) in entries {
            inner.write(key, Some(Bytes::from(value)));
        }
        Ok(())
    }

    /// Removes keys. Returns how many of them there were. They are removed at once, together with what was written before: only
    /// their number is waited for.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn delete(&self, keys: Vec<String>) -> Result<u32, Fault> {
        check_count(keys.len())?;
        keys.iter().try_for_each(|key| check_key(key))?;
        let (mut removed, unknown) = {
            let mut inner = self.inner();
            let (mut removed, mut unknown) = (0, Vec::new());
            for key in keys {
                match inner.known(&key) {
                    Some(None) => continue,
                    Some(Some(_)) => removed += 1,
                    None => unknown.push(key.clone()),
                }
                inner.write(key, None);
            }
            inner.counting += u32::from(!unknown.is_empty());
            (removed, unknown)
        };
        if unknown.is_empty() {
            return Ok(removed);
        }
        let operation = self.gate.operation();
        let counting = Counting(self);
        let found = self.store.get(unknown.clone()).await?;
        {
            let mut inner = self.inner();
            for (key, value) in unknown.into_iter().zip(found) {
                removed += u32::from(value.is_some());
                inner.count(key, value);
            }
        }
        drop(counting);
        drop(operation);
        Ok(removed)
    }

    /// Removes every key, and the alarm, as [`Self::delete_alarm`] does.
    pub fn delete_all(&self) {
        let mut inner = self.inner();
        inner.written += 1;
        inner.known.clear();
        (inner.known_bytes, inner.pending_bytes) = (0, 0);
        inner.pending = Batch { clear: true, writes: BTreeMap::new(), alarm: Some(AlarmChange::Delete) };
        inner.cleared = Some(inner.taken + 1);
        (inner.alarm.set, inner.alarm.ringing) = (None, None);
    }

    /// Waits until everything written so far is durable.
    ///
    /// # Errors
    /// [`Fault::Superseded`] if it will never be.
    pub async fn sync(&self) -> Result<(), Fault> {
        let Some(durable) = self.confirmation() else { return Ok(()) };
        let operation = self.gate.operation();
        let confirmed = durable.await;
        drop(operation);
        if confirmed { Ok(()) } else { Err(Fault::Superseded) }
    }

    /// When the alarm rings, in Unix milliseconds. None while it does, unless another was set (`ALM-3`).
    #[must_use]
    pub fn alarm(&self) -> Option<u64> {
        self.inner().alarm.set.map(|alarm| alarm.due_ms)
    }

    /// Sets the alarm, or replaces it.
    pub fn set_alarm(&self, due_ms: u64) {
        let mut inner = self.inner();
        let alarm = Alarm::new(due_ms);
        inner.alarm.set = Some(alarm);
        inner.pending.alarm = Some(AlarmChange::Set(alarm));
    }

    /// Removes the alarm. One that rings now goes on, and is not tried again (`ALM-8`).
    pub fn delete_alarm(&self) {
        let mut inner = self.inner();
        (inner.alarm.set, inner.alarm.ringing) = (None, None);
        inner.pending.alarm = Some(AlarmChange::Delete);
    }

    // --- the output gate ---

    /// Ready when everything written until now is durable: true; or will never be: false. None if it is already.
    #[must_use]
    pub fn confirmation(&self) -> Option<BoxFuture<'static, bool>> {
        let needed = {
            let mut inner = self.inner();
            let needed = inner.taken + u64::from(!inner.pending.is_empty());
            if self.progress.borrow().durable >= needed {
                return None;
            }
            inner.wanted = true;
            needed
        };
        self.gate.wake();
        let mut progress = self.progress.subscribe();
        Some(
            async move {
                let reached = progress.wait_for(|progress| progress.durable >= needed || progress.dead).await;
                reached.is_ok_and(|progress| progress.durable >= needed)
            }
            .boxed(),
        )
    }

    /// Waits for [`Self::confirmation`].
    pub async fn confirmed(&self) -> bool {
        match self.confirmation() {
            Some(durable) => durable.await,
            None => true,
        }
    }

    // --- what the object's task does ---

    /// The next batch for the store, if one is due.
    #[must_use]
    pub fn take(&self, due: Due) -> Option<(u64, Batch)> {
        let mut inner = self.inner();
        if inner.pending.is_empty() || inner.counting > 0 || (due == Due::WhenWanted && !inner.wanted) {
            return None;
        }
        inner.taken += 1;
        inner.wanted = false;
        inner.pending_bytes = 0;
        Some((inner.taken, std::mem::take(&mut inner.pending)))
    }

    /// Hands a batch to the store.
    pub fn commit(&self, batch: Batch) -> BoxFuture<'static, Result<(), StoreFault>> {
        self.store.commit(batch)
    }

    /// The batch of this number is durable.
    pub fn committed(&self, number: u64) {
        let mut inner = self.inner();
        for known in inner.known.values_mut().filter(|known| known.batch > 0 && known.batch <= number) {
            known.batch = 0;
        }
        if inner.cleared.is_some_and(|cleared| cleared <= number) {
            inner.cleared = None;
        }
        inner.forget_if_large();
        drop(inner);
        self.progress.send_modify(|progress| progress.durable = number);
    }

    /// The alarm begins to ring: the guest sees none meanwhile. None if there is none any more, or it is not due at `now_ms`.
    #[must_use]
    pub fn ring(&self, now_ms: u64) -> Option<Alarm> {
        let mut inner = self.inner();
        let is_due = inner.alarm.set.is_some_and(|alarm| alarm.due_ms <= now_ms);
        if !is_due || inner.alarm.ringing.is_some() {
            return None;
        }
        inner.alarm.ringing = inner.alarm.set.take();
        inner.alarm.ringing
    }

    /// The alarm has rung. `next` is when it is to be tried again, if it is; another that was set meanwhile counts instead
    /// (`ALM-7`).
    pub fn rung(&self, next: Option<Alarm>) {
        let mut inner = self.inner();
        let was_deleted = inner.alarm.ringing.take().is_none();
        if inner.alarm.set.is_some() || was_deleted {
            return;
        }
        inner.alarm.set = next;
        inner.pending.alarm = Some(next.map_or(AlarmChange::Delete, AlarmChange::Set));
    }

    /// Puts an alarm off that could not ring, if it is still the one that is set.
    pub fn put_off(&self, due_ms: u64, next: impl FnOnce(Alarm) -> Option<Alarm>) {
        let mut inner = self.inner();
        let Some(alarm) = inner.alarm.set.filter(|alarm| alarm.due_ms == due_ms) else { return };
        let after = next(alarm);
        if after != Some(alarm) {
            inner.alarm.set = after;
            inner.pending.alarm = Some(after.map_or(AlarmChange::Delete, AlarmChange::Set));
            inner.wanted = true;
            drop(inner);
            self.gate.wake();
        }
    }

    /// Nothing more will be durable.
    pub(super) fn die(&self) {
        self.progress.send_modify(|progress| progress.dead = true);
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A deletion counts its keys, until this is dropped: also where the guest gives up waiting.
struct Counting<'a>(&'a Storage);

impl Drop for Counting<'_> {
    fn drop(&mut self) {
        self.0.inner().counting -= 1;
        self.0.gate.wake();
    }
}

impl Inner {
    /// What is known of `key`: its value, or that it has none.
    fn known(&self, key: &str) -> Option<Option<Bytes>> {
        match self.known.get(key) {
            Some(known) => Some(known.value.clone()),
            None => self.cleared.map(|_| None),
        }
    }

    /// Takes in what the store said of `key`, which was asked when so much had been `written`. Returns what holds now.
    fn learn(&mut self, key: &str, value: Option<Bytes>, written: u64) -> Option<Bytes> {
        if let Some(known) = self.known(key) {
            return known;
        }
        // What was written since may have become durable and been forgotten: this would be remembered in its place.
        if self.written != written {
            return value;
        }
        self.known_bytes += cost(key, value.as_ref());
        self.known.insert(key.to_owned(), Known { value: value.clone(), batch: 0 });
        self.forget_if_large();
        value
    }

    fn write(&mut self, key: String, value: Option<Bytes>) {
        let batch = self.taken + 1;
        self.written += 1;
        let before = self.known(&key).map(|before| before.map_or(0, |before| (key.len() + before.len()) as u64));
        self.known_bytes += cost(&key, value.as_ref());
        self.pending_bytes += key.len() + value.as_ref().map_or(0, Bytes::len);
        if let Some(before) = self.known.insert(key.clone(), Known { value: value.clone(), batch }) {
            self.known_bytes = self.known_bytes.saturating_sub(cost(&key, before.value.as_ref()));
        }
        // What was there before the batch is what counts, however often it is written in it.
        let change = self.pending.writes.entry(key).or_insert(Change { value: None, before });
        change.value = value;
    }

    /// Takes in what was there before `key` was written, if it still waits: the store need not be asked again.
    fn count(&mut self, key: String, value: Option<Bytes>) {
        let Some(change) = self.pending.writes.get_mut(&key) else { return };
        change.before = Some(value.as_ref().map_or(0, |value| (key.len() + value.len()) as u64));
        if value.is_none() && change.value.is_none() {
            // There is nothing to remove: an object that only looked leaves no trace.
            self.pending.writes.remove(&key);
            self.known.insert(key, Known { value: None, batch: 0 });
        }
    }

    fn check_room(&self, bytes: usize, stored: u64) -> Result<(), Fault> {
        if self.pending_bytes + bytes > OBJECT_BATCH_BYTES_MAX {
            return Err(Fault::TooLarge(format!(
                "the writes made with no await between them have more than {OBJECT_BATCH_BYTES_MAX} bytes; await `sync` now and then"
            )));
        }
        if stored + (self.pending_bytes + bytes) as u64 > OBJECT_BYTES_MAX {
            return Err(Fault::TooLarge(format!("the object has {stored} bytes, the limit is {OBJECT_BYTES_MAX}")));
        }
        Ok(())
    }

    /// Forgets what the store has as well, when there is much of it.
    fn forget_if_large(&mut self) {
        if self.known_bytes <= OBJECT_CACHE_BYTES {
            return;
        }
        self.known.retain(|_, known| known.batch > 0);
        self.known_bytes = self.known.iter().map(|(key, known)| cost(key, known.value.as_ref())).sum();
    }
}

fn cost(key: &str, value: Option<&Bytes>) -> usize {
    /// What an entry costs beside its bytes.
    const ENTRY_BYTES: usize = 96;
    key.len() + value.map_or(0, Bytes::len) + ENTRY_BYTES
}

fn check_key(key: &str) -> Result<(), Fault> {
    if key.len() <= OBJECT_KEY_BYTES_MAX {
        return Ok(());
    }
    Err(Fault::TooLarge(format!("a key has {} bytes, the limit is {OBJECT_KEY_BYTES_MAX}", key.len())))
}

fn check_count(keys: usize) -> Result<(), Fault> {
    if keys <= OBJECT_KEYS_PER_CALL_MAX {
        return Ok(());
    }
    Err(Fault::TooLarge(format!("there are {keys} keys in one call, the limit is {OBJECT_KEYS_PER_CALL_MAX}")))
}

impl Batch {
    fn is_empty(&self) -> bool {
        !self.clear && self.writes.is_empty() && self.alarm.is_none()
    }
}

impl Query {
    /// Whether a key is within the bounds.
    #[must_use]
    pub fn admits(&self, key: &str) -> bool {
        let from = match (&self.start_after, &self.start) {
            (Some(after), _) => key > after.as_str(),
            (None, Some(start)) => key >= start.as_str(),
            (None, None) => true,
        };
        from && key.starts_with(&self.prefix) && self.end.as_deref().is_none_or(|end| key < end)
    }
}

impl From<StoreFault> for Fault {
    fn from(fault: StoreFault) -> Self {
        match fault {
            StoreFault::Superseded => Self::Superseded,
            // Why is for the operator: it names files of the node.
            StoreFault::Failed(_) => Self::Unavailable("the node's store failed".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::FutureExt as _;
    use tokio::sync::Semaphore;

    use super::*;

    /// What is durable of one object, in memory. It answers no read while `open` has no permit.
    struct Memory {
        pairs: Mutex<BTreeMap<String, Bytes>>,
        reads: AtomicUsize,
        open: Semaphore,
    }

    impl Memory {
        async fn read<T>(&self, read: impl FnOnce(&BTreeMap<String, Bytes>) -> T) -> T {
            self.reads.fetch_add(1, Ordering::SeqCst);
            // As it is now, whenever it is answered.
            let read = read(&self.pairs.lock().unwrap());
            let _ = self.open.acquire().await.unwrap();
            read
        }

        fn text(&self) -> String {
            self.pairs.lock().unwrap().iter().map(|(key, value)| format!("{key}={} ", text(value))).collect()
        }
    }

    struct Port(Arc<Memory>);

    impl ObjectStore for Port {
        fn get(&self, keys: Vec<String>) -> BoxFuture<'static, Result<Vec<Option<Bytes>>, StoreFault>> {
            let memory = Arc::clone(&self.0);
            async move { Ok(memory.read(|pairs| keys.iter().map(|key| pairs.get(key).cloned()).collect()).await) }
                .boxed()
        }

        fn list(&self, query: Query) -> BoxFuture<'static, Result<Vec<(String, Bytes)>, StoreFault>> {
            let memory = Arc::clone(&self.0);
            async move {
                let all = memory.read(Clone::clone).await.into_iter().filter(|(key, _)| query.admits(key));
                Ok(if query.reverse { all.rev().take(query.limit).collect() } else { all.take(query.limit).collect() })
            }
            .boxed()
        }

        fn commit(&self, batch: Batch) -> BoxFuture<'static, Result<(), StoreFault>> {
            let mut pairs = self.0.pairs.lock().unwrap();
            if batch.clear {
                pairs.clear();
            }
            for (key, Change { value, before }) in batch.writes {
                let there = pairs.get(&key).map_or(0, |value| (key.len() + value.len()) as u64);
                assert!(before.is_none_or(|before| before == there), "{key}: {before:?} where there are {there}");
                match value {
                    Some(value) => drop(pairs.insert(key, value)),
                    None => assert!(pairs.remove(&key).is_some(), "{key} is removed, and was not there"),
                }
            }
            async { Ok(()) }.boxed()
        }

        fn bytes(&self) -> u64 {
            self.0.pairs.lock().unwrap().iter().map(|(key, value)| (key.len() + value.len()) as u64).sum()
        }
    }

    /// Storage over what is durable, which is `pairs` at first.
    fn over(pairs: &[(&str, &str)]) -> (Arc<Memory>, Storage) {
        let pairs = pairs.iter().map(|(key, value)| ((*key).to_owned(), Bytes::from((*value).to_owned()))).collect();
        let memory = Memory { pairs: Mutex::new(pairs), reads: AtomicUsize::new(0), open: Semaphore::new(1) };
        let memory = Arc::new(memory);
        let storage = Storage::new(Arc::new(Port(Arc::clone(&memory))), Arc::default(), None);
        (memory, storage)
    }

    fn put(storage: &Storage, key: &str, value: &str) {
        storage.put(vec![(key.to_owned(), value.as_bytes().to_vec())]).unwrap();
    }

    fn get(storage: &Storage, key: &str) -> Option<String> {
        storage.get(key).now_or_never().expect("nothing to wait for").unwrap().map(|value| text(&value))
    }

    fn list(storage: &Storage, query: Query) -> String {
        let pairs = storage.list(query).now_or_never().expect("nothing to wait for").unwrap();
        pairs.iter().map(|(key, value)| format!("{key}={} ", text(value))).collect()
    }

    fn text(bytes: &[u8]) -> String {
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    fn all() -> Query {
        Query { limit: usize::MAX, ..Query::default() }
    }

    fn keys(keys: &[&str]) -> Vec<String> {
        keys.iter().map(|key| (*key).to_owned()).collect()
    }

    /// Makes what is pending durable, as an object's task does.
    fn save(storage: &Storage) -> Option<Batch> {
        let (number, batch) = storage.take(Due::AtRest)?;
        storage.commit(batch.clone()).now_or_never().expect("nothing to wait for").unwrap();
        storage.committed(number);
        Some(batch)
    }

    #[test]
    fn what_is_written_is_seen_at_once_and_is_one_batch() {
        let (memory, storage) = over(&[("a", "old"), ("b", "old")]);
        put(&storage, "a", "new");
        put(&storage, "c", "new");
        assert_eq!((get(&storage, "a").as_deref(), get(&storage, "b").as_deref()), (Some("new"), Some("old")));
        assert_eq!(memory.text(), "a=old b=old ");
        let mut confirmed = storage.confirmation().expect("something is not durable");
        assert!((&mut confirmed).now_or_never().is_none());
        assert_eq!(save(&storage).unwrap().writes.len(), 2);
        assert_eq!(confirmed.now_or_never(), Some(true));
        assert_eq!(memory.text(), "a=new b=old c=new ");
        assert!(storage.confirmation().is_none() && storage.take(Due::AtRest).is_none());
    }

    #[test]
    fn the_next_batch_gathers_while_one_is_with_the_store() {
        let (memory, storage) = over(&[]);
        put(&storage, "a", "1");
        let (number, first) = storage.take(Due::AtRest).unwrap();
        put(&storage, "a", "2");
        let mut second = storage.confirmation().unwrap();
        storage.commit(first).now_or_never().unwrap().unwrap();
        storage.committed(number);
        // The first is durable, the second is not, and still wins.
        assert!((&mut second).now_or_never().is_none());
        assert_eq!((get(&storage, "a").as_deref(), memory.text().as_str()), (Some("2"), "a=1 "));
        save(&storage).unwrap();
        assert_eq!((second.now_or_never(), memory.text().as_str()), (Some(true), "a=2 "));
    }

    #[test]
    fn whoever_waits_for_what_will_never_be_durable_is_told() {
        let (_, storage) = over(&[]);
        put(&storage, "a", "1");
        let confirmed = storage.confirmation().unwrap();
        storage.die();
        assert_eq!(confirmed.now_or_never(), Some(false));
        assert_eq!(storage.sync().now_or_never(), Some(Err(Fault::Superseded)));
    }

    #[test]
    fn a_list_sees_what_is_not_durable_over_what_is() {
        let (_, storage) = over(&[("a", "1"), ("b", "1"), ("c", "1"), ("d", "1")]);
        put(&storage, "b", "2");
        put(&storage, "bb", "2");
        assert_eq!(storage.delete(keys(&["a", "c", "nothing"])).now_or_never(), Some(Ok(2)));
        assert_eq!(list(&storage, all()), "b=2 bb=2 d=1 ");
        assert_eq!(list(&storage, Query { limit: 2, ..all() }), "b=2 bb=2 ");
        assert_eq!(list(&storage, Query { limit: 2, reverse: true, ..all() }), "d=1 bb=2 ");
        assert_eq!(list(&storage, Query { prefix: "b".into(), ..all() }), "b=2 bb=2 ");
        assert_eq!(list(&storage, Query { start_after: Some("b".into()), end: Some("d".into()), ..all() }), "bb=2 ");
        // The same while the batch is with the store, and after.
        let (number, batch) = storage.take(Due::AtRest).unwrap();
        assert_eq!(list(&storage, Query { limit: 1, ..all() }), "b=2 ");
        storage.commit(batch).now_or_never().unwrap().unwrap();
        assert_eq!(list(&storage, all()), "b=2 bb=2 d=1 ");
        storage.committed(number);
        assert_eq!(list(&storage, all()), "b=2 bb=2 d=1 ");
    }

    #[test]
    fn after_all_is_deleted_nothing_of_before_is_seen_or_counted() {
        let (memory, storage) = over(&[("a", "1"), ("b", "1")]);
        storage.set_alarm(5);
        put(&storage, "c", "1");
        storage.delete_all();
        put(&storage, "b", "2");
        let reads = memory.reads.load(Ordering::SeqCst);
        assert_eq!((get(&storage, "a"), list(&storage, all()), storage.alarm()), (None, "b=2 ".to_owned(), None));
        assert_eq!(storage.delete(keys(&["a", "c"])).now_or_never(), Some(Ok(0)));
        assert_eq!(memory.reads.load(Ordering::SeqCst), reads, "the store has nothing to say");
        let (number, batch) = storage.take(Due::AtRest).unwrap();
        assert!(batch.clear && batch.alarm == Some(AlarmChange::Delete) && batch.writes.len() == 1, "{batch:?}");
        // While it is with the store.
        put(&storage, "a", "3");
        assert_eq!(list(&storage, all()), "a=3 b=2 ");
        storage.commit(batch).now_or_never().unwrap().unwrap();
        storage.committed(number);
        save(&storage).unwrap();
        assert_eq!(memory.text(), "a=3 b=2 ");
    }

    #[test]
    fn a_deletion_is_together_with_the_writes_around_it() {
        let (memory, storage) = over(&[("old", "1")]);
        put(&storage, "new", "1");
        memory.open.forget_permits(1);
        let mut deleting = Box::pin(storage.delete(keys(&["old", "nothing"])));
        assert!((&mut deleting).now_or_never().is_none());
        put(&storage, "last", "1");
        // It is seen at once, and nothing is durable without it.
        assert_eq!(get(&storage, "old"), None);
        assert!(storage.take(Due::AtRest).is_none());
        memory.open.add_permits(1);
        assert_eq!(deleting.now_or_never(), Some(Ok(1)));
        assert_eq!(save(&storage).unwrap().writes.len(), 3);
        assert_eq!(memory.text(), "last=1 new=1 ");
    }

    #[test]
    fn a_deletion_that_nobody_waits_for_holds_up_no_one() {
        let (memory, storage) = over(&[("old", "1")]);
        memory.open.forget_permits(1);
        let mut deleting = Box::pin(storage.delete(keys(&["old", "nothing"])));
        assert!((&mut deleting).now_or_never().is_none());
        drop(deleting);
        let (_, batch) = storage.take(Due::AtRest).expect("the batch goes on");
        assert!(batch.writes.values().all(|change| change.value.is_none() && change.before.is_none()), "{batch:?}");
    }

    #[test]
    fn a_deletion_of_nothing_writes_nothing() {
        let (memory, storage) = over(&[]);
        assert_eq!(storage.delete(keys(&["a"])).now_or_never(), Some(Ok(0)));
        assert!(storage.take(Due::AtRest).is_none());
        assert_eq!((get(&storage, "a"), memory.reads.load(Ordering::SeqCst)), (None, 1));
    }

    #[test]
    fn an_old_value_that_arrives_late_is_not_remembered() {
        let (memory, storage) = over(&[("a", "old")]);
        memory.open.forget_permits(1);
        let mut reading = Box::pin(storage.get("a"));
        assert!((&mut reading).now_or_never().is_none());
        // Another task of the guest writes the key, and so much else that nothing of it is kept in memory.
        put(&storage, "a", "new");
        put(&storage, "large", &"x".repeat(OBJECT_CACHE_BYTES));
        save(&storage).unwrap();
        memory.open.add_permits(1);
        assert_eq!(reading.now_or_never(), Some(Ok(Some(Bytes::from("old")))));
        assert_eq!(get(&storage, "a").as_deref(), Some("new"));
    }

    #[test]
    fn what_was_read_is_remembered_up_to_a_limit() {
        let (memory, storage) = over(&[("a", "1")]);
        let reads = || memory.reads.load(Ordering::SeqCst);
        for _ in 0..3 {
            assert_eq!((get(&storage, "a").as_deref(), get(&storage, "nothing")), (Some("1"), None));
        }
        assert_eq!(reads(), 2);
        put(&storage, "large", &"x".repeat(OBJECT_CACHE_BYTES));
        // What waits is kept whatever its size.
        assert_eq!(get(&storage, "large").map(|value| value.len()), Some(OBJECT_CACHE_BYTES));
        assert_eq!(reads(), 2);
        save(&storage).unwrap();
        assert_eq!(storage.inner().known_bytes, 0);
        assert_eq!((get(&storage, "a").as_deref(), reads()), (Some("1"), 3));
    }

    #[test]
    fn a_limit_that_is_passed_changes_nothing() {
        let (_, storage) = over(&[]);
        let pairs = |n: usize| (0..n).map(|n| (n.to_string(), Vec::new())).collect::<Vec<_>>();
        assert!(matches!(storage.put(pairs(OBJECT_KEYS_PER_CALL_MAX + 1)), Err(Fault::TooLarge(_))));
        let key = "k".repeat(OBJECT_KEY_BYTES_MAX + 1);
        assert!(matches!(storage.put(vec![("a".into(), vec![]), (key, vec![])]), Err(Fault::TooLarge(_))));
        let value = vec![0; OBJECT_VALUE_BYTES_MAX + 1];
        assert!(matches!(storage.put(vec![("a".into(), vec![]), ("b".into(), value)]), Err(Fault::TooLarge(_))));
        assert!(storage.take(Due::AtRest).is_none());
        // Writes that are handed over now and then may have any size.
        for _ in 0..3 {
            for n in 0..15 {
                storage.put(vec![(n.to_string(), vec![0; OBJECT_VALUE_BYTES_MAX])]).unwrap();
            }
            assert!(matches!(
                storage.put(vec![("x".into(), vec![0; OBJECT_VALUE_BYTES_MAX])]),
                Err(Fault::TooLarge(_))
            ));
            save(&storage).unwrap();
        }
    }

    #[test]
    fn an_alarm_is_not_seen_while_it_rings_and_another_one_counts_instead() {
        let (_, storage) = over(&[]);
        storage.set_alarm(5);
        assert_eq!(storage.ring(4), None, "never early");
        assert_eq!(storage.ring(5), Some(Alarm::new(5)));
        assert_eq!((storage.alarm(), storage.ring(5)), (None, None));
        storage.set_alarm(9);
        storage.rung(Some(Alarm { due_ms: 7, retries: 1, host_failures: 0 }));
        assert_eq!(storage.alarm(), Some(9));

        // One that has rung well is gone, one that failed is set anew.
        storage.ring(9).unwrap();
        storage.rung(None);
        assert_eq!((storage.alarm(), save(&storage).unwrap().alarm), (None, Some(AlarmChange::Delete)));
        storage.set_alarm(10);
        storage.ring(10).unwrap();
        storage.rung(Some(Alarm { due_ms: 12, retries: 1, host_failures: 0 }));
        assert_eq!(storage.ring(12).map(|alarm| alarm.retries), Some(1));
    }

    #[test]
    fn an_alarm_that_is_deleted_while_it_rings_is_not_tried_again() {
        for all in [false, true] {
            let (_, storage) = over(&[]);
            storage.set_alarm(5);
            storage.ring(5).unwrap();
            if all {
                storage.delete_all()
            } else {
                storage.delete_alarm()
            }
            storage.rung(Some(Alarm { due_ms: 7, retries: 1, host_failures: 0 }));
            assert_eq!((storage.alarm(), save(&storage).unwrap().alarm), (None, Some(AlarmChange::Delete)));
        }
    }
}
