//! Sluice hosts WebAssembly workers and versions them.

pub mod domain;
