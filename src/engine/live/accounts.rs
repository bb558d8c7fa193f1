//! The accounts of the events in an object: they share the cost of its time.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use crate::engine::metered::Payers;
use crate::host::call::Call;
use crate::host::state::Meter;

/// All of them.
pub(super) struct Accounts {
    calls: Mutex<Vec<Arc<Call>>>,
    pub(super) meter: OnceLock<Arc<Meter>>,
    budget: Duration,
}

/// One of them, for as long as its event runs.
pub(super) struct Account {
    accounts: Arc<Accounts>,
    call: Arc<Call>,
}

impl Accounts {
    pub(super) fn new(budget: Duration) -> Self {
        Self { calls: Mutex::default(), meter: OnceLock::new(), budget }
    }

    /// An event begins, and brings its own limit.
    pub(super) fn enter(self: &Arc<Self>, call: &Arc<Call>) -> Account {
        let alone = {
            let mut calls = self.calls();
            calls.push(Arc::clone(call));
            calls.len() == 1
        };
        match self.meter.get() {
            Some(meter) if alone => meter.start(self.budget),
            Some(meter) => meter.extend(self.budget),
            None => {}
        }
        Account { accounts: Arc::clone(self), call: Arc::clone(call) }
    }

    pub(super) fn calls(&self) -> MutexGuard<'_, Vec<Arc<Call>>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let left = {
            let mut calls = self.accounts.calls();
            calls.retain(|call| !Arc::ptr_eq(call, &self.call));
            calls.len()
        };
        if let Some(meter) = self.accounts.meter.get() {
            meter.start(self.accounts.budget.saturating_mul(u32::try_from(left.max(1)).unwrap_or(u32::MAX)));
        }
    }
}

impl Payers for Arc<Accounts> {
    fn charge(&self, ns: u64) {
        let calls = self.calls();
        let share = ns / (calls.len().max(1) as u64);
        calls.iter().for_each(|call| call.add_cpu_ns(share));
    }
}
