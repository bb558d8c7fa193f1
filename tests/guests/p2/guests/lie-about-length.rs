//! Promises 5 bytes of body and writes 50. It does not look at the errors that this earns it.

use test_guests_p2::{IncomingRequest, OutgoingBody, ResponseOutparam, send_head, worker, write};

worker!(handle);

fn handle(_request: IncomingRequest, out: ResponseOutparam) {
    let body = send_head(out, 200, &[("content-type", "text/plain"), ("content-length", "5")]);
    let stream = body.write().expect("the stream is taken once");
    let _ = write(&stream, &[b'x'; 50]);
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
}
