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
mod tests;
