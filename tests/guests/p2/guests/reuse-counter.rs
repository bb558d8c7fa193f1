//! Answers with how many requests this instance has seen: `1` from a fresh one.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use test_guests_p2::{IncomingRequest, ResponseOutparam, answer, worker};

static SEEN: AtomicU64 = AtomicU64::new(0);

worker!(handle);

fn handle(_request: IncomingRequest, out: ResponseOutparam) {
    let seen = SEEN.fetch_add(1, Relaxed) + 1;
    answer(out, 200, &format!("{seen}\n"));
}
