//! Promises 100 bytes of body, writes 10, and returns without finishing it.

use test_guests_p2::{IncomingRequest, ResponseOutparam, send_head, worker, write};

worker!(handle);

fn handle(_request: IncomingRequest, out: ResponseOutparam) {
    let body = send_head(out, 200, &[("content-type", "text/plain"), ("content-length", "100")]);
    let stream = body.write().expect("the stream is taken once");
    let _ = write(&stream, b"0123456789");
}
