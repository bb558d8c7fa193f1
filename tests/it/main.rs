//! The product through its doors: the real binary, real guests, port 0. One integration binary, so that it links once.

mod harness;

mod clocks;
mod crash;
mod damage;
mod drain;
mod guests;
mod http2;
mod limits;
mod main_job;
mod observe;
mod outbound;
mod reuse;
mod streaming;
mod tidy;
