//! What an instance owns on our side: its WASI contexts, its meters, and whose request it is serving.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use wasmtime::ResourceLimiter;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::clock;
use crate::host::environment::Environment;
use crate::host::fixed;
use crate::host::logs::{Current, Printer, Stream};
use crate::host::object::Object;
use crate::host::outbound::Hooks;

/// The data of one instance's store.
pub struct State {
    pub environment: Arc<Environment>,
    /// The account that host functions write to.
    pub current: Arc<Current>,
    pub limiter: Limiter,
    pub meter: Arc<Meter>,
    /// The object that this instance is, if it is one.
    pub object: Option<Arc<Object>>,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    table: ResourceTable,
    hooks: Hooks,
}

/// How long an instance's guest has run since its account was last settled. Wall time while it is polled, up to the first tick that
/// finds it at work: a guest that waits is not polled. From then on the thread's own clock counts, which costs more to read, and
/// from the beginning on threads that run only when nothing else does: there the rest would be the time of others.
#[derive(Debug)]
pub struct Meter {
    origin: std::time::Instant,
    /// When the present poll began, in nanoseconds since `origin`, or of the thread's clock.
    poll_began_ns: AtomicU64,
    used_ns: AtomicU64,
    budget_ns: AtomicU64,
    /// The thread's clock at the first tick of this poll; 0 before.
    first_tick_ns: AtomicU64,
    /// What it had run by then.
    before_tick_ns: AtomicU64,
    /// Whether the guest gave way because it has computed for long.
    overrun: AtomicBool,
    /// Whether it runs on the threads for those that do.
    away: AtomicBool,
}

/// Holds an instance's linear memory, all memories together, to the limit.
#[derive(Debug)]
pub struct Limiter {
    memory_bytes_max: usize,
    memory_bytes: usize,
    /// Whether the guest asked for more than it may have.
    pub refused: bool,
}

/// A guest is found at work by the tick after it began, so what is longer was no time that it ran: two ticks.
const BEFORE_A_TICK_NS_MAX: u64 = 4_000_000;

/// Elements of all tables of an instance: far above what a compiler emits.
const TABLE_ELEMENTS_MAX: usize = 1_000_000;

impl State {
    /// The state of a new instance.
    #[must_use]
    pub fn new(environment: Arc<Environment>, memory_bytes_max: u64) -> Self {
        Self::over(WasiCtx::builder(), environment, memory_bytes_max)
    }

    /// The same with clocks and random numbers that are equal in every instance.
    #[must_use]
    pub fn reproducible(environment: Arc<Environment>, memory_bytes_max: u64) -> Self {
        Self::over(fixed::wasi(), environment, memory_bytes_max)
    }

    fn over(mut wasi: WasiCtxBuilder, environment: Arc<Environment>, memory_bytes_max: u64) -> Self {
        let current = Arc::new(Current::default());
        let printer = |stream| Printer { current: Arc::clone(&current), stream };
        let wasi =
            wasi.envs(&environment.variables_list).stdout(printer(Stream::Out)).stderr(printer(Stream::Err)).build();
        let hooks = Hooks::new(Arc::clone(&environment), Arc::clone(&current));
        Self {
            environment,
            current,
            limiter: Limiter {
                memory_bytes_max: usize::try_from(memory_bytes_max).unwrap_or(usize::MAX),
                memory_bytes: 0,
                refused: false,
            },
            meter: Arc::new(Meter::default()),
            object: None,
            wasi,
            http: WasiHttpCtx::new(),
            table: ResourceTable::new(),
            hooks,
        }
    }

    /// The state of an instance that is an object.
    #[must_use]
    pub fn of_object(mut self, object: Arc<Object>) -> Self {
        self.hooks.of_object(Arc::clone(&object));
        self.object = Some(object);
        self
    }

    /// Now, by the clock that the guest sees.
    pub(super) fn monotonic_now_ns(&mut self) -> wasmtime::Result<u64> {
        use wasmtime_wasi::clocks::WasiClocksView as _;
        wasmtime_wasi::p3::bindings::clocks::monotonic_clock::Host::now(&mut self.clocks())
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.hooks, table: &mut self.table, ctx: &mut self.http }
    }
}

// === impl Meter ===

impl Default for Meter {
    fn default() -> Self {
        Self {
            origin: clock::monotonic(),
            poll_began_ns: AtomicU64::new(0),
            used_ns: AtomicU64::new(0),
            budget_ns: AtomicU64::new(u64::MAX),
            first_tick_ns: AtomicU64::new(0),
            before_tick_ns: AtomicU64::new(0),
            overrun: AtomicBool::new(false),
            away: AtomicBool::new(false),
        }
    }
}

impl Meter {
    fn now_ns(&self) -> u64 {
        if self.is_away() { clock::thread_cpu_ns() } else { nanos(clock::monotonic().duration_since(self.origin)) }
    }

    /// From now on the guest is polled on the threads for those that compute for long. Not while it is polled.
    pub fn goes_away(&self) {
        self.away.store(true, Ordering::Relaxed);
    }

    /// From now on it is polled on the threads that serve requests. Not while it is polled.
    pub fn comes_home(&self) {
        self.away.store(false, Ordering::Relaxed);
    }

    /// Whether the guest is polled on the threads for those that compute for long.
    #[must_use]
    pub fn is_away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }

    /// A tick finds the guest at work. Returns the CPU time since the first tick that did so in this poll; none if this is the first.
    #[must_use]
    pub fn computed_since_tick(&self) -> Option<Duration> {
        let now = clock::thread_cpu_ns();
        match self.first_tick_ns.load(Ordering::Relaxed) {
            0 => {
                let before = self.ran_ns().min(BEFORE_A_TICK_NS_MAX);
                self.before_tick_ns.store(before, Ordering::Relaxed);
                self.first_tick_ns.store(now, Ordering::Relaxed);
                None
            }
            first => Some(Duration::from_nanos(now.saturating_sub(first))),
        }
    }

    /// The guest gives way because it has computed for long.
    pub fn overrun(&self) {
        self.overrun.store(true, Ordering::Relaxed);
    }

    /// Whether it did so since [`Self::take_overrun`] was last asked.
    #[must_use]
    pub fn has_overrun(&self) -> bool {
        self.overrun.load(Ordering::Relaxed)
    }

    /// Whether it did so since this was last asked.
    #[must_use]
    pub fn take_overrun(&self) -> bool {
        self.overrun.load(Ordering::Relaxed) && self.overrun.swap(false, Ordering::Relaxed)
    }

    /// Starts an account with `budget` to use.
    pub fn start(&self, budget: Duration) {
        self.used_ns.store(0, Ordering::Relaxed);
        self.budget_ns.store(nanos(budget), Ordering::Relaxed);
    }

    /// Adds to what the account began with.
    pub fn extend(&self, budget: Duration) {
        let more = self.budget_ns.load(Ordering::Relaxed).saturating_add(nanos(budget));
        self.budget_ns.store(more, Ordering::Relaxed);
    }

    /// The guest begins to run.
    pub fn begin(&self) {
        self.poll_began_ns.store(self.now_ns(), Ordering::Relaxed);
        self.first_tick_ns.store(0, Ordering::Relaxed);
    }

    /// How long it has run in this poll. By the clock on the wall, which costs next to nothing, until a tick finds it at work, and by
    /// its thread's CPU time from then on: on a busy machine a guest may be on its thread for long without a core.
    fn ran_ns(&self) -> u64 {
        match self.first_tick_ns.load(Ordering::Relaxed) {
            0 => self.now_ns().saturating_sub(self.poll_began_ns.load(Ordering::Relaxed)),
            first => {
                let since = clock::thread_cpu_ns().saturating_sub(first);
                self.before_tick_ns.load(Ordering::Relaxed).saturating_add(since)
            }
        }
    }

    /// The guest has stopped running, for now. Returns how long it ran, in nanoseconds.
    pub fn end(&self) -> u64 {
        let ran = self.ran_ns();
        self.used_ns.fetch_add(ran, Ordering::Relaxed);
        ran
    }

    /// What the account began with.
    #[must_use]
    pub fn budget(&self) -> Duration {
        Duration::from_nanos(self.budget_ns.load(Ordering::Relaxed))
    }

    /// Whether the account is overdrawn; asked at each tick while the guest runs.
    #[must_use]
    pub fn exceeded(&self) -> bool {
        self.used_ns.load(Ordering::Relaxed).saturating_add(self.ran_ns()) > self.budget_ns.load(Ordering::Relaxed)
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

// === impl Limiter ===

impl Limiter {
    /// The limit.
    #[must_use]
    pub fn memory_bytes_max(&self) -> u64 {
        self.memory_bytes_max as u64
    }

    /// Linear memory of the instance now.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.memory_bytes as u64
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let after = self.memory_bytes.saturating_add(desired.saturating_sub(current));
        if after > self.memory_bytes_max {
            self.refused = true;
            return Ok(false);
        }
        self.memory_bytes = after;
        Ok(true)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ELEMENTS_MAX)
    }

    fn instances(&self) -> usize {
        usize::MAX
    }

    fn tables(&self) -> usize {
        usize::MAX
    }

    fn memories(&self) -> usize {
        usize::MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A guest on a busy machine was stopped for CPU time that others had: its thread stood in the queue for a core.
    #[test]
    fn time_without_a_core_is_not_the_guests() {
        let meter = Meter::default();
        meter.start(Duration::from_millis(20));
        meter.begin();
        // Not at work for long when the tick finds it, and not on its core afterwards.
        let off_the_core = || std::thread::sleep(Duration::from_millis(30));
        off_the_core();
        assert_eq!(meter.computed_since_tick(), None);
        off_the_core();
        assert!(!meter.exceeded());
        assert!(Duration::from_nanos(meter.end()) < Duration::from_millis(20));
        // What it does compute counts.
        meter.begin();
        assert_eq!(meter.computed_since_tick(), None);
        let began = clock::thread_cpu_ns();
        while clock::thread_cpu_ns() - began < 25_000_000 {}
        assert!(meter.exceeded());
        assert!(Duration::from_nanos(meter.end()) >= Duration::from_millis(25));
    }
}
