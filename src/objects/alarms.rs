//! Alarms: which objects are to be woken, and when (`ALM-1`…`ALM-9`).
//!
//! The store has an index of them by time. Of it, only what is due is read, and no more at once than can ring: a million
//! sleeping alarms cost what they cost on disk. An alarm is taken from the index when its run has ended well, or is given up; so
//! it rings at least once, whatever happens meanwhile, and never before its time.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{Notify, Semaphore};

use crate::domain::alarm::{Alarm, Failed};
use crate::domain::limits::ALARMS_AT_ONCE;
use crate::host::object::{Address, Reset};
use crate::host::ports::StoreFault;
use crate::objects::record::{self, Meta, Space};
use crate::objects::{Objects, held};
use crate::store::{Check, Order, Write};

/// The longest sleep: a clock may be set meanwhile.
const SLEEP_MAX: Duration = Duration::from_secs(30);
/// The shortest, where something stands in the way of what is due.
const SLEEP_MIN: Duration = Duration::from_millis(50);

/// Told of the alarms that are set, so that the earliest one is waited for.
#[derive(Clone)]
pub(super) struct Wake(Arc<Inner>);

struct Inner {
    notify: Notify,
    /// When the scheduler looks again, in Unix milliseconds.
    next_ms: AtomicU64,
}

impl Default for Wake {
    fn default() -> Self {
        Self(Arc::new(Inner { notify: Notify::new(), next_ms: AtomicU64::new(0) }))
    }
}

impl Wake {
    /// An alarm is set for then.
    pub(super) fn at(&self, due_ms: u64) {
        if due_ms < self.0.next_ms.load(Ordering::SeqCst) {
            self.0.notify.notify_one();
        }
    }
}

/// Has one alarm ring, and tells what became of it.
pub trait Ringer: Send + Sync + 'static {
    /// Brings the alarm to the object.
    fn ring(&self, address: Address) -> BoxFuture<'static, Ended>;
}

/// What became of an alarm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The object has noted it; in words, what its code returned as an error.
    Noted(Result<(), String>),
    /// There was none to ring for it: the index is behind.
    Nothing,
    /// The object could not be brought to ring; or was reset while it did, for this reason.
    Lost(Option<Reset>),
}

impl Objects {
    /// Has alarms ring when they are due, for as long as the objects are there.
    pub async fn ring_forever(objects: Weak<Self>, ringer: Arc<dyn Ringer>) {
        let ringing: Arc<Mutex<HashSet<Address>>> = Arc::default();
        let places = Arc::new(Semaphore::new(ALARMS_AT_ONCE));
        loop {
            let Some(objects) = objects.upgrade() else { return };
            let wake = objects.wake.clone();
            let mut woken = std::pin::pin!(wake.0.notify.notified());
            woken.as_mut().enable();
            // Whatever is set while the index is read wakes this anew.
            wake.0.next_ms.store(u64::MAX, Ordering::SeqCst);
            let pause = objects.ring_due(&ringer, &ringing, &places).await;
            let next_ms = objects.clock.now_ms().saturating_add(u64::try_from(pause.as_millis()).unwrap_or(u64::MAX));
            wake.0.next_ms.store(next_ms, Ordering::SeqCst);
            drop(objects);
            let _ = tokio::time::timeout(pause, woken).await;
        }
    }

    /// Begins what is due. Returns how long nothing will be.
    async fn ring_due(
        self: &Arc<Self>,
        ringer: &Arc<dyn Ringer>,
        ringing: &Arc<Mutex<HashSet<Address>>>,
        places: &Arc<Semaphore>,
    ) -> Duration {
        let now_ms = self.clock.now_ms();
        let busy = ringing.lock().unwrap_or_else(PoisonError::into_inner).len();
        let found = self.store.scan(record::alarms(), Order::Ascending, busy + ALARMS_AT_ONCE + 1).await;
        let entries = match found {
            Ok(entries) => entries,
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "alarms cannot be read");
                return SLEEP_MAX;
            }
        };
        for entry in &entries {
            let (due_ms, address) = match record::from_index(entry) {
                Ok(indexed) => indexed,
                Err(error) => {
                    // Nobody can ring it; left alone it would be read again and again.
                    tracing::error!(%error, "an alarm is unreadable, and is removed");
                    let _ = self.store.commit(Vec::new(), vec![Write::delete(entry.key.clone())]).await;
                    continue;
                }
            };
            if due_ms > now_ms {
                return Duration::from_millis(due_ms - now_ms).min(SLEEP_MAX);
            }
            let Ok(place) = Arc::clone(places).try_acquire_owned() else { return SLEEP_MIN };
            if !ringing.lock().unwrap_or_else(PoisonError::into_inner).insert(address) {
                continue;
            }
            let (objects, ringer, ringing) = (Arc::clone(self), Arc::clone(ringer), Arc::clone(ringing));
            tokio::spawn(async move {
                let ended = ringer.ring(address).await;
                objects.pasts.rang(&address, due_ms, &ended, objects.clock.now_ms());
                objects.settle(address, due_ms, ended).await;
                ringing.lock().unwrap_or_else(PoisonError::into_inner).remove(&address);
                drop(place);
                objects.wake.0.notify.notify_one();
            });
        }
        // All that was read is ringing; whichever ends first looks again.
        if entries.is_empty() { SLEEP_MAX } else { SLEEP_MIN.saturating_mul(4) }
    }

    /// Notes what the object could not note itself.
    async fn settle(&self, address: Address, due_ms: u64, ended: Ended) {
        // It is in the index still, and rings again when the node is back.
        if self.is_stopping() {
            return;
        }
        let failed = match ended {
            Ended::Noted(_) => return,
            Ended::Nothing => {
                // What it has set instead is on its way to the index.
                tokio::time::sleep(SLEEP_MIN.saturating_mul(4)).await;
                None
            }
            Ended::Lost(Some(reset)) if reset.is_guests() => Some(Failed::Guest),
            Ended::Lost(_) => Some(Failed::Host),
        };
        let next = |alarm: Alarm| match failed {
            Some(failed) => alarm.after(failed, self.clock.now_ms(), fastrand::f64()),
            None => Some(alarm),
        };
        let cell = Arc::clone(&self.cells.entry(address).or_default());
        // No home is made meanwhile: the record is its.
        let place = cell.place.lock().await;
        match cell.present().filter(|home| !home.object.is_dead()) {
            Some(home) => home.object.storage.put_off(due_ms, next),
            None => {
                if let Some(home) = place.as_ref() {
                    home.over().await;
                }
                if let Err(error) = self.put_off(address, due_ms, next).await {
                    tracing::error!(object = %address.id, %error, "what became of an alarm cannot be noted; it will ring again");
                }
            }
        }
        drop(place);
        drop(cell);
        self.forget(&address);
    }

    /// The same for an object that is not in memory.
    async fn put_off(
        &self,
        address: Address,
        due_ms: u64,
        next: impl Fn(Alarm) -> Option<Alarm>,
    ) -> Result<(), StoreFault> {
        let space = Space::of(&address);
        let key = space.meta_key(address.id);
        let index_key = space.alarm_key(due_ms, address.id);
        let entry = self.store.get(&key).await.map_err(held::failed)?;
        let meta = entry.as_ref().map(Meta::from_entry).transpose().map_err(held::unreadable)?;
        let mut writes = vec![Write::delete(index_key)];
        if let Some((mut meta, alarm)) = meta.and_then(|meta| meta.alarm().map(|alarm| (meta, alarm)))
            && alarm.due_ms == due_ms
        {
            let after = next(alarm);
            if after.is_none() {
                tracing::warn!(object = %address.id, "an alarm failed too often, and is given up");
            }
            meta.set_alarm(after);
            writes.push(Write::put(key.clone(), meta.to_bytes()));
            if let Some(after) = after {
                // Last: it may be the entry that was there.
                writes.push(Write::put(space.alarm_key(after.due_ms, address.id), record::to_index(&address)));
            }
        }
        let check = Check::unchanged(key, entry.as_ref());
        self.store.commit(vec![check], writes).await.map(drop).map_err(held::failed)
    }
}
