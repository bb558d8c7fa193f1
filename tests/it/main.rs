//! The product through its doors: the real binary, real guests, port 0. One integration binary, so that it links once.

#![allow(unreachable_pub, reason = "one binary: nothing in it is reachable from elsewhere")]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "tests talk to people and wait for processes"
)]
#![allow(clippy::too_many_lines, reason = "a test that tells a story is one function")]

mod harness;

mod api_robustness;
mod artifacts;
mod assignment;
mod bench_command;
mod browser;
mod classes;
mod cli;
mod cli_config;
mod cli_faults;
mod cli_objects;
mod clocks;
mod corpus;
mod crash;
mod damage;
mod dashboard;
mod dashboard_actions;
mod dashboard_rollout;
mod dashboard_uploads;
mod deployments;
mod drain;
mod explain;
mod guests;
mod http2;
mod kv;
mod limits;
mod main_job;
mod metadata;
mod object_history;
mod objects;
mod observe;
mod otlp;
mod outbound;
mod projects;
mod request_log;
mod reuse;
mod rollback;
mod rollout;
mod routing;
mod secrets;
mod services;
mod slow_upload;
mod storm;
mod streaming;
mod tail;
mod tidy;
mod under_load;
mod upload;
mod versions;
mod wrangler;
