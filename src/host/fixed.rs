//! The world of a guest whose instructions are counted: random numbers and clocks that are the same in every run. What a guest
//! does depends on them (a hash map on its seed), so without this no count would come out twice.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use wasmtime_wasi::clocks::{HostMonotonicClock, HostWallClock};
use wasmtime_wasi::random::Deterministic;
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder};

/// What every seed is made of. Nothing secret is ever made of it: guests are counted with requests of a benchmark.
const SEED: u128 = 0x736c_7569_6365_2062_656e_6368_2073_6565;
/// Bytes until the random numbers come again: more than a guest reads in one request.
const RANDOM_BYTES: usize = 64 * 1024;
/// Where both clocks begin: 2026-01-01.
const EPOCH: Duration = Duration::from_secs(1_767_225_600);
/// How far a clock moves each time that it is looked at. A guest that waits for a moment by looking comes to it, soon.
const STEP: Duration = Duration::from_micros(100);

/// A clock that is moved by whoever looks at it.
#[derive(Debug, Default)]
struct Stepping(AtomicU64);

impl Stepping {
    fn look(&self) -> Duration {
        let looks = self.0.fetch_add(1, Ordering::Relaxed);
        STEP.saturating_mul(u32::try_from(looks).unwrap_or(u32::MAX))
    }
}

impl HostWallClock for Stepping {
    fn resolution(&self) -> Duration {
        STEP
    }

    fn now(&self) -> Duration {
        EPOCH + self.look()
    }
}

impl HostMonotonicClock for Stepping {
    fn resolution(&self) -> u64 {
        u64::try_from(STEP.as_nanos()).unwrap_or(u64::MAX)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.look().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// A WASI context in such a world.
pub(super) fn wasi() -> WasiCtxBuilder {
    let random = || {
        let mut bytes = vec![0; RANDOM_BYTES];
        #[expect(clippy::cast_possible_truncation, reason = "half of the seed is seed enough")]
        fastrand::Rng::with_seed(SEED as u64).fill(&mut bytes);
        Deterministic::new(bytes)
    };
    let mut wasi = WasiCtx::builder();
    wasi.secure_random(random())
        .insecure_random(random())
        .insecure_random_seed(SEED)
        .wall_clock(Stepping::default())
        .monotonic_clock(Stepping::default());
    wasi
}
