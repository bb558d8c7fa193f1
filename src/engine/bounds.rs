//! How a guest is held to its memory: by guard pages, or by checks in its code; and which of the two is cheaper for a version.
//!
//! With guard pages an access costs nothing, but each fresh instance costs the kernel work: its memory cannot grow without a change of
//! protection, which takes the lock of the address space and interrupts the other cores. With checks an instance costs some
//! microseconds less, and what the guest computes costs 20 to 40 % more. So checks pay for fresh instances that compute little.
//! A version begins with guard pages; the fleet looks at what its requests take, and compiles a light one a second time.

use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use wasmtime_wasi_http::p2::bindings::ProxyPre;

use crate::engine::engines::Kit;
use crate::host::State;

/// How memory is guarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bounds {
    /// Address space around each memory that faults.
    Guarded,
    /// Code compares each address.
    Checked,
}

/// Which versions have guard pages (`--guard-pages`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GuardPages {
    /// Those for which they are cheaper.
    #[default]
    Auto,
    /// All.
    Always,
    /// All but those that cannot do without: where instances serve again, checks only cost.
    Never,
}

/// A word that is no such wish.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected `auto`, `always` or `never`")]
pub struct GuardPagesError;

impl FromStr for GuardPages {
    type Err = GuardPagesError;

    fn from_str(text: &str) -> Result<Self, GuardPagesError> {
        match text {
            "auto" => Ok(Self::Auto),
            "always" => Ok(Self::Always),
            "never" => Ok(Self::Never),
            _ => Err(GuardPagesError),
        }
    }
}

/// A component, compiled with checks.
pub struct Checked {
    pub pre: ProxyPre<State>,
    pub kit: Arc<Kit>,
}

/// Requests that are looked at before a version is called light.
const LOOKED_AT_MIN: u64 = 500;
/// A version whose requests take less CPU time than this is light. A fresh instance that computes nothing takes about 15 µs where it
/// has guard pages; from 25 µs of computing on, checks cost more than they save.
const LIGHT_NS: u64 = 35_000;
/// One that takes more than this with checks is not light any more. Well apart from the other, so that none goes to and fro.
const HEAVY_NS: u64 = 70_000;
/// How much one request moves the mean: one part in this.
const INERTIA: u64 = 64;

/// What the requests of a version take, as a mean that forgets. Requests that end at once may overwrite one another's word: no one
/// is charged by it.
#[derive(Debug, Default)]
pub struct Pace {
    mean_ns: AtomicU64,
    requests: AtomicU64,
}

impl Pace {
    /// Adds what one request took.
    pub fn note(&self, cpu_ns: u64) {
        let requests = self.requests.load(Ordering::Relaxed);
        let mean = self.mean_ns.load(Ordering::Relaxed);
        // The first ones count in full, or the mean would take long to come up from nothing.
        let inertia = INERTIA.min(requests + 1);
        let moved = mean.saturating_mul(inertia - 1).saturating_add(cpu_ns) / inertia;
        self.mean_ns.store(moved, Ordering::Relaxed);
        self.requests.store(requests.saturating_add(1), Ordering::Relaxed);
    }

    /// Whether checks pay.
    #[must_use]
    pub fn is_light(&self) -> bool {
        self.requests.load(Ordering::Relaxed) >= LOOKED_AT_MIN && self.mean_ns.load(Ordering::Relaxed) < LIGHT_NS
    }

    /// Whether guard pages pay.
    #[must_use]
    pub fn is_heavy(&self) -> bool {
        self.mean_ns.load(Ordering::Relaxed) > HEAVY_NS
    }
}

/// What a version's next fresh instance is held by.
#[derive(Debug, Default)]
pub struct Choice {
    pub pace: Pace,
    checked: AtomicBool,
}

impl Choice {
    /// The component with checks, if its next instance is to have them.
    #[inline]
    pub fn checked<'a>(&self, code: &'a OnceLock<Checked>) -> Option<&'a Checked> {
        if self.checked.load(Ordering::Relaxed) { code.get() } else { None }
    }

    /// Decides for the next while. True if the version is to have checks.
    pub fn review(&self, wish: GuardPages) -> bool {
        let checked = self.checked.load(Ordering::Relaxed);
        let next = match wish {
            GuardPages::Auto if checked => !self.pace.is_heavy(),
            GuardPages::Auto => self.pace.is_light(),
            GuardPages::Always => false,
            GuardPages::Never => true,
        };
        if next != checked {
            self.checked.store(next, Ordering::Relaxed);
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(choice: &Choice, requests: u64, cpu_ns: u64) -> bool {
        (0..requests).for_each(|_| choice.pace.note(cpu_ns));
        choice.review(GuardPages::Auto)
    }

    #[test]
    fn a_version_is_light_once_enough_of_its_requests_were() {
        let choice = Choice::default();
        assert!(!after(&choice, LOOKED_AT_MIN - 1, 20_000));
        assert!(after(&choice, 1, 20_000));
        // Between the two marks it stays what it is.
        assert!(after(&choice, 1_000, 50_000));
        assert!(!after(&choice, 1_000, 100_000));
        assert!(!after(&choice, 1_000, 50_000));
        assert!(after(&choice, 1_000, 30_000));
    }

    #[test]
    fn one_slow_request_makes_no_version_heavy() {
        let choice = Choice::default();
        assert!(after(&choice, LOOKED_AT_MIN, 20_000));
        assert!(after(&choice, 1, 3_000_000));
        assert!(!after(&choice, 3, 3_000_000));
    }

    #[test]
    fn the_mean_is_of_all_at_first() {
        let pace = Pace::default();
        for ns in [10, 20, 30] {
            pace.note(ns);
        }
        assert_eq!(pace.mean_ns.load(Ordering::Relaxed), 20);
    }
}
