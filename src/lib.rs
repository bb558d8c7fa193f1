//! Sluice hosts WebAssembly workers and versions them.

pub mod app;
pub mod catalog;
pub mod cli;
pub mod clock;
pub mod control;
pub mod dispatch;
pub mod domain;
pub mod engine;
pub mod host;
pub mod ingress;
pub mod observe;
pub mod store;
