//! Computes for ever instead of answering, and never lets another request of its instance run.

use test_guests_p3::{ErrorCode, Request, Response, worker};

worker!(handle);

async fn handle(_request: Request) -> Result<Response, ErrorCode> {
    loop {
        std::hint::black_box(());
    }
}
