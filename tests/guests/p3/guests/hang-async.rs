//! Waits for a year instead of answering. Other requests of its instance run meanwhile.

use std::time::Duration;
use test_guests_p3::{ErrorCode, Request, Response, answer, sleep, worker};

worker!(handle);

async fn handle(_request: Request) -> Result<Response, ErrorCode> {
    sleep(Duration::from_secs(365 * 24 * 60 * 60)).await;
    Ok(answer(200, &[], "a year later\n".into()))
}
