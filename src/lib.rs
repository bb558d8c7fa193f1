//! Sluice hosts WebAssembly workers and versions them.

pub mod clock;
pub mod domain;
pub mod engine;
pub mod host;
