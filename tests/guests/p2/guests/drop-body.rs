//! Sends a head and the first 10 bytes of a body, then panics.

use test_guests_p2::{IncomingRequest, ResponseOutparam, send_head, worker, write};

worker!(handle);

fn handle(_request: IncomingRequest, out: ResponseOutparam) {
    let body = send_head(out, 200, &[("content-type", "text/plain")]);
    let stream = body.write().expect("the stream is taken once");
    let _ = write(&stream, b"0123456789");
    panic!("in the middle of a body");
}
