//! The product through its doors: the real binary, real guests, port 0. One integration binary, so that it links once.

#![allow(unreachable_pub, reason = "one binary: nothing in it is reachable from elsewhere")]
#![allow(clippy::print_stderr, clippy::disallowed_methods, reason = "tests talk to people and wait for processes")]

mod harness;

mod cli;
mod cli_config;
mod cli_faults;
mod corpus;
mod guests;
mod http2;
mod main_job;
mod metadata;
mod rollback;
mod secrets;
mod streaming;
mod tidy;
mod wrangler;
