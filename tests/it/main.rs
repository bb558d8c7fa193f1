//! The product through its doors: the real binary, real guests, port 0. One integration binary, so that it links once.

mod harness;

mod guests;
mod http2;
mod limits;
mod main_job;
mod streaming;
mod tidy;
