//! Waits for a year instead of answering. It uses no CPU time meanwhile.

use std::time::Duration;
use test_guests_p2::{IncomingRequest, ResponseOutparam, answer, sleep, worker};

worker!(handle);

fn handle(_request: IncomingRequest, out: ResponseOutparam) {
    sleep(Duration::from_secs(365 * 24 * 60 * 60));
    answer(out, 200, "a year later\n");
}
