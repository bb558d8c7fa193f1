//! What a project's configuration file (`wrangler.toml`, `.json` or `.jsonc`) says about one worker in one environment, and the upload's
//! metadata that comes of it. Used by the command line and by the dashboard; knows no folder, no node and no terminal.
//!
//! A text becomes a [`Config`] in three steps: [`syntax`] reads it into a tree, [`resolve`] picks the values of the environment by
//! the table in [`keys`], [`config`] gives them types. All faults are collected, each with its path. From the `Config` come the
//! upload's [`metadata`], the migrations that are pending ([`objects`]) and the [`triggers`].

pub mod config;
pub mod keys;
pub mod metadata;
pub mod objects;
pub mod reader;
pub mod resolve;
pub mod syntax;
pub mod triggers;

use config::Config;
use resolve::Findings;
use syntax::Tree;

/// What the file says of the worker in `env`, or at its top; what is wrong with it is among the findings.
#[must_use]
pub fn read(tree: &Tree, env: Option<&str>) -> (Config, Findings) {
    let mut findings = Findings::default();
    let values = resolve::resolve(tree, env, &mut findings);
    let config = config::read(&values, &mut findings);
    (config, findings)
}

#[cfg(test)]
mod tests;
