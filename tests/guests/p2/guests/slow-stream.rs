//! Sends its head at once, then `?chunks=N` chunks of 10 bytes, one each 100 ms. 10 chunks if not told.
//!
//! They read `chunk 000`, `chunk 001` and so on, each with its line end.

use std::time::Duration;
use test_guests_p2::{IncomingRequest, OutgoingBody, ResponseOutparam, query, send_head, sleep, worker, write};

worker!(handle);

fn handle(request: IncomingRequest, out: ResponseOutparam) {
    let chunks: u32 = query(&request, "chunks").unwrap_or(10);
    let body = send_head(out, 200, &[("content-type", "text/plain")]);
    let stream = body.write().expect("the stream is taken once");
    for number in 0..chunks {
        sleep(Duration::from_millis(100));
        if write(&stream, format!("chunk {:03}\n", number % 1000).as_bytes()).is_err() {
            return; // The caller has gone.
        }
    }
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
}
