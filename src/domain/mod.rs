//! The rules, as values: what a version, a split, a deployment and a decision are.
//!
//! *Pure* here means: no I/O, no time of day, no randomness, no async, no wasmtime, no HTTP, no serde. Every function takes
//! values and returns values, so each rule of behaviour can be read, tested and benchmarked without a server.
//!
//! Reading order follows the flow of an upload: [`config`] and [`module`] make a [`version`]; a [`split`] over versions becomes
//! an [`allotment`] of slots, kept in a [`deployment`]; a [`decision`] reads it for each request. [`route`] says which worker a
//! request is for. [`object`] names Durable Objects, [`class`] says which
//! classes of them a worker has, and a [`migration`] changes that; a [`stay`] is a time in memory of one. A [`verdict`] compares what two versions
//! cost; [`measures`] are what one has done, its durations a [`distribution`]. A [`rollout`] gives a version more and more of
//! the traffic while its [`guard`]s hold, by the [`evidence`]. [`limits`] holds every bound.

pub mod alarm;
pub mod allotment;
pub mod class;
pub mod config;
pub mod decision;
pub mod deployment;
pub mod distribution;
pub mod evidence;
pub mod guard;
pub mod id;
pub mod limits;
pub mod measures;
pub mod migration;
pub mod module;
pub mod object;
pub mod outcome;
pub mod rollout;
pub mod route;
pub mod size;
pub mod split;
pub mod stay;
pub mod verdict;
pub mod version;
