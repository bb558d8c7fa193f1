//! Answers with how many requests this instance had seen when this one came: `1` from a fresh one.
//!
//! `?wait=MS` waits before it answers. The header `x-in-flight` says how many requests were inside
//! the instance then, this one included.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use test_guests_p3::{ErrorCode, Request, Response, answer, query, sleep, worker};

static SEEN: AtomicU64 = AtomicU64::new(0);
static IN_FLIGHT: AtomicU64 = AtomicU64::new(0);

worker!(handle);

async fn handle(request: Request) -> Result<Response, ErrorCode> {
    let seen = SEEN.fetch_add(1, Relaxed) + 1;
    IN_FLIGHT.fetch_add(1, Relaxed);
    if let Some(wait) = query(&request, "wait") {
        sleep(Duration::from_millis(wait)).await;
    }
    let in_flight = IN_FLIGHT.fetch_sub(1, Relaxed).to_string();
    let headers = [("content-type", "text/plain"), ("x-in-flight", in_flight.as_str())];
    Ok(answer(200, &headers, format!("{seen}\n")))
}
