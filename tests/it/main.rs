//! The product through its doors: the real binary, real guests, port 0. One integration binary, so that it links once.

#![allow(unreachable_pub, reason = "one binary: nothing in it is reachable from elsewhere")]
#![allow(clippy::print_stderr, clippy::disallowed_methods, reason = "tests talk to people and wait for processes")]

mod harness;

mod kv;
mod main_job;
mod tidy;
