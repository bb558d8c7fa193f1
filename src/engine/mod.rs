//! Compiling, linking, instances, metering: from a module's bytes to an answer.
//!
//! Four words, from the largest to the smallest:
//!
//! - [`Engines`](engines::Engines): the process-wide wasmtime engines, one for each kind of guest, since component concurrency costs a
//!   0.2 guest a quarter of its speed and a 0.3 guest cannot be without it; and one more for fresh 0.2 guests that compute little
//!   ([`bounds`]). One ticker moves the epoch of all.
//! - [`Fleet`](fleet::Fleet): which versions are ready to run. A version engine is made once, on first need, however many requests wait
//!   for it, and retired when nobody has asked for it for a while.
//! - [`VersionEngine`](version_engine::VersionEngine): one version, linked and bound, with its limits, its permits and its instances.
//! - an *instance*: one instantiated guest with its store. A 0.2 guest is called directly, one request at a time
//!   ([`single`]); a 0.3 guest lives in a task that takes many requests at once ([`lanes`]). A Durable Object is an instance too,
//!   for as long as it is in memory ([`live`]).
//!
//! What the guest does with its time is metered: every poll of its future is timed, and at each tick of the epoch the running
//! guest is asked whether its account is overdrawn (`R1`, `R2`). One that computes for long is moved to other threads ([`heavy`]).
//! For benchmarks, [`exact`] counts a guest's instructions, in an engine of its own. This room knows no routes, deployments or HTTP
//! statuses.

pub mod artifacts;
pub mod bounds;
pub mod compile;
pub mod engines;
pub mod exact;
pub mod failure;
pub mod fleet;
pub mod heavy;
pub mod lanes;
pub mod live;
pub mod metered;
pub mod prove;
pub mod response;
pub mod single;
pub mod version_engine;
