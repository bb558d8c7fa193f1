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

/// Arms a new store: its memory is limited, and at each tick its guest lets others run, or is stopped if it is overdrawn.
pub fn arm(store: &mut Store<State>, budget: Duration) {
    store.data().meter.start(budget);
    store.limiter(|state| &mut state.limiter);
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|store| {
        if store.data().meter.exceeded() {
            return Err(wasmtime::Error::from(CpuExceeded));
        }
        Ok(UpdateDeadline::Yield(1))
    });
}
