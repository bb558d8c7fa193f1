//! Panics instead of answering.

use test_guests_p3::{ErrorCode, Request, Response, worker};

worker!(handle);

async fn handle(_request: Request) -> Result<Response, ErrorCode> {
    panic!("this guest always panics");
}
