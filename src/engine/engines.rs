//! The wasmtime engines of the process and their settings; each choice was measured, and says its reason.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::Semaphore;
use wasmtime::component::Linker;
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig};

use crate::domain::limits;
use crate::domain::module::GuestKind;
use crate::engine::bounds::{Bounds, GuardPages};
use crate::engine::heavy::Threads;
use crate::host::{self, State};

/// How often running guests are looked at: the grain of CPU limits. A guest holds a thread for two of them at the longest.
pub const TICK: Duration = Duration::from_millis(2);

/// What an operator may choose of the engines.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Linear memory of an instance (`--guest-memory`). One value for the node: it is compiled into the code.
    pub guest_memory_bytes: u64,
    /// Instances of each kind of guest at once (`--instances`).
    pub instances: u32,
    /// Objects in memory at once (`--live-objects`): instances beside those.
    pub objects: u32,
    pub guard_pages: GuardPages,
}

/// Everything that is made once for each kind of guest.
pub struct Kit {
    pub kind: GuestKind,
    pub engine: Engine,
    pub linker: Linker<State>,
    /// One permit for each instance that the pool can hold: instantiation itself never fails for want of room.
    pub slots: Arc<Semaphore>,
    /// One permit for each object that the pool can hold beside those.
    pub objects: Arc<Semaphore>,
    /// Objects that wait for one of them; while there are any, objects in which nothing happens leave.
    pub objects_waiting: AtomicUsize,
    /// Requests that wait for a slot; while there are any, idle instances are given up.
    pub waiting: AtomicUsize,
}

/// The engines of the process.
pub struct Engines {
    pub settings: Settings,
    pub wasi02: Arc<Kit>,
    pub wasi03: Arc<Kit>,
    /// For light 0.2 guests; made when the first is found.
    checked: Arc<OnceLock<Arc<Kit>>>,
    /// Where guests go that compute for long.
    pub heavy: Threads,
    ticking: Arc<AtomicBool>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            guest_memory_bytes: limits::GUEST_MEMORY_BYTES,
            instances: limits::INSTANCES,
            objects: limits::LIVE_OBJECTS,
            guard_pages: GuardPages::Auto,
        }
    }
}

impl Engines {
    /// Makes both engines and starts their ticker.
    ///
    /// # Errors
    /// If the machine cannot give the address space that the pools reserve, or a thread.
    pub fn new(settings: Settings) -> wasmtime::Result<Self> {
        let wasi02 = Arc::new(Kit::new(GuestKind::Wasi02, settings, Bounds::Guarded)?);
        let wasi03 = Arc::new(Kit::new(GuestKind::Wasi03, settings, Bounds::Guarded)?);
        let checked = Arc::new(OnceLock::<Arc<Kit>>::new());
        let ticking = Arc::new(AtomicBool::new(true));
        let (engines, go_on) = ([wasi02.engine.clone(), wasi03.engine.clone()], Arc::clone(&ticking));
        let late = Arc::clone(&checked);
        let heavy = Threads::start()?;
        let crowd_ticks = heavy.ticks();
        std::thread::Builder::new().name("epoch".into()).spawn(move || {
            while go_on.load(Ordering::Relaxed) {
                std::thread::sleep(TICK);
                engines.iter().chain(late.get().map(|kit| &kit.engine)).for_each(Engine::increment_epoch);
                crowd_ticks();
            }
        })?;
        Ok(Self { settings, wasi02, wasi03, checked, heavy, ticking })
    }

    /// The engine's kit for one kind of guest.
    #[must_use]
    pub fn kit(&self, kind: GuestKind) -> &Arc<Kit> {
        match kind {
            GuestKind::Wasi02 => &self.wasi02,
            GuestKind::Wasi03 => &self.wasi03,
        }
    }

    /// The engines that have been made.
    #[must_use]
    pub fn all(&self) -> Vec<&Engine> {
        let kits = [&self.wasi02, &self.wasi03].into_iter().chain(self.checked.get());
        kits.map(|kit| &kit.engine).collect()
    }

    /// The kit for light 0.2 guests, made with the first of them: its pool takes address space and some milliseconds.
    ///
    /// # Errors
    /// If the machine cannot give the address space.
    pub fn checked(&self) -> wasmtime::Result<&Arc<Kit>> {
        if let Some(kit) = self.checked.get() {
            return Ok(kit);
        }
        let kit = Kit::new(GuestKind::Wasi02, Settings { objects: 0, ..self.settings }, Bounds::Checked)?;
        Ok(self.checked.get_or_init(|| Arc::new(kit)))
    }
}

impl Drop for Engines {
    fn drop(&mut self) {
        self.ticking.store(false, Ordering::Relaxed);
    }
}

impl Kit {
    fn new(kind: GuestKind, settings: Settings, bounds: Bounds) -> wasmtime::Result<Self> {
        let engine = Engine::new(&config(kind, settings, bounds))?;
        let mut linker = Linker::new(&engine);
        host::link(&mut linker, kind)?;
        let slots = Arc::new(Semaphore::new(settings.instances as usize));
        let objects = Arc::new(Semaphore::new(objects_of(kind, settings) as usize));
        Ok(Self {
            kind,
            engine,
            linker,
            slots,
            objects,
            objects_waiting: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
        })
    }
}

/// Core instances, memories and tables that one component may be made of. A JavaScript component has about ten.
const CORE_INSTANCES_PER_COMPONENT: u32 = 40;
const MEMORIES_PER_COMPONENT: u32 = 4;
const TABLES_PER_COMPONENT: u32 = 20;
/// Elements of a table: ten times what a JavaScript engine has.
const TABLE_ELEMENTS: usize = 100_000;
/// Objects are many, and address space has an end: what most components have, and one to spare.
const MEMORIES_PER_OBJECT: u32 = 2;

/// Objects that the pool of one kind has room for. The stacks of both are mapped from the start, and a process has only so many
/// mappings: where there are many, they are of the kind that lives on few.
fn objects_of(kind: GuestKind, settings: Settings) -> u32 {
    match kind {
        GuestKind::Wasi02 => settings.objects.min(limits::LIVE_OBJECTS),
        GuestKind::Wasi03 => settings.objects,
    }
}

fn config(kind: GuestKind, settings: Settings, bounds: Bounds) -> Config {
    let mut config = Config::new();
    config.wasm_component_model(true);
    config.epoch_interruption(true);
    config.cranelift_opt_level(OptLevel::Speed);
    // A backtrace is a tenth of the cost of a fresh instance, and no one sees it.
    config.wasm_backtrace_max_frames(None);
    // Costs a 0.2 guest about 10 µs a request; a 0.3 guest cannot be without it.
    config.concurrency_support(kind == GuestKind::Wasi03);
    config.wasm_component_model_async(kind == GuestKind::Wasi03);
    let is_packed = settings.objects > limits::LIVE_OBJECTS_PACKED;
    config.memory_init_cow(!is_packed);
    if is_packed {
        config.memory_reservation(settings.guest_memory_bytes);
        config.memory_guard_size(64 * 1024);
    }
    if bounds == Bounds::Checked {
        config.signals_based_traps(false);
        config.memory_reservation(settings.guest_memory_bytes);
        config.memory_guard_size(0);
    }

    let (instances, objects) = (settings.instances, objects_of(kind, settings));
    let mut pool = PoolingAllocationConfig::new();
    // Room for as many as there can be of each, so that a place in the pool is room for any component: these are counters and
    // address space, not memory.
    let room = |for_one: u32, for_an_object: u32| {
        instances.saturating_mul(for_one).saturating_add(objects.saturating_mul(for_an_object))
    };
    pool.total_component_instances(room(1, 1))
        .total_core_instances(room(CORE_INSTANCES_PER_COMPONENT, CORE_INSTANCES_PER_COMPONENT))
        .total_memories(room(MEMORIES_PER_COMPONENT, MEMORIES_PER_OBJECT))
        .total_tables(room(TABLES_PER_COMPONENT, TABLES_PER_COMPONENT))
        .total_stacks(room(1, 1))
        .max_core_instances_per_component(CORE_INSTANCES_PER_COMPONENT)
        .max_memories_per_component(MEMORIES_PER_COMPONENT)
        .max_tables_per_component(TABLES_PER_COMPONENT)
        .max_component_instance_size(4 * 1024 * 1024)
        .max_core_instance_size(4 * 1024 * 1024)
        .table_elements(TABLE_ELEMENTS)
        .max_memory_size(usize::try_from(settings.guest_memory_bytes).unwrap_or(usize::MAX))
        // Fresh instances are kernel work: pages that stay resident are zeroed by us instead of unmapped and faulted in again.
        .linear_memory_keep_resident(1024 * 1024)
        // A JavaScript engine's table fills a good part of this.
        .table_keep_resident(TABLE_ELEMENTS * size_of::<usize>())
        .pagemap_scan(Enabled::Auto)
        // Versions in use whose memory images stay mapped to a slot.
        .max_unused_warm_slots(256);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    config
}
