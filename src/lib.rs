//! Sluice hosts WebAssembly workers and versions them.

pub mod domain;
pub mod clock;
pub mod store;
pub mod observe;
pub mod catalog;
pub mod host;
pub mod engine;
pub mod dispatch;
pub mod ingress;
