//! A guest's future, timed: each poll is charged to the instance's meter and to the accounts of the requests in it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use wasmtime::{Store, UpdateDeadline};

use crate::host::State;
use crate::host::call::Call;
use crate::host::state::Meter;

/// Whom a guest's running time is charged to.
pub trait Payers: Unpin {
    /// The guest ran for `ns` nanoseconds.
    fn charge(&self, ns: u64);
}

impl Payers for Arc<Call> {
    fn charge(&self, ns: u64) {
        self.add_cpu_ns(ns);
    }
}

/// No one: the guest is being proven.
impl Payers for () {
    fn charge(&self, _: u64) {}
}

pin_project_lite::pin_project! {
    /// Times the polls of `inner`.
    pub struct Metered<F, P> {
        #[pin]
        inner: F,
        meter: Arc<Meter>,
        payers: P,
    }
}

impl<F: Future, P: Payers> Metered<F, P> {
    /// Charges `inner` to `meter` and to `payers`.
    pub fn new(inner: F, meter: Arc<Meter>, payers: P) -> Self {
        Self { inner, meter, payers }
    }
}

impl<F: Future, P: Payers> Future for Metered<F, P> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        this.meter.begin();
        let poll = this.inner.poll(cx);
        let ran = this.meter.end();
        this.payers.charge(ran);
        poll
    }
}

/// Marks the error with which a guest is stopped at a tick.
#[derive(Debug, thiserror::Error)]
#[error("CPU time exceeded")]
pub struct CpuExceeded;

/// CPU time that a guest computes after the first tick that finds it at work, before it gives way: less than a tick, so that the
/// next one finds it over.
pub const SLICE: Duration = Duration::from_millis(1);

/// Arms a new store: its memory is limited, and a tick stops its guest if it is overdrawn, or makes it give way if it has
/// computed for a while. One that a tick finds by chance goes on: it would have to queue again.
pub fn arm(store: &mut Store<State>, budget: Duration) {
    store.data().meter.start(budget);
    store.limiter(|state| &mut state.limiter);
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|store| {
        let meter = &store.data().meter;
        // First, since from then on it is CPU time that counts.
        let computed = meter.computed_since_tick();
        if meter.exceeded() {
            return Err(wasmtime::Error::from(CpuExceeded));
        }
        Ok(match computed {
            Some(computed) if computed >= SLICE => {
                meter.overrun();
                UpdateDeadline::Yield(1)
            }
            _ => UpdateDeadline::Continue(1),
        })
    });
}
