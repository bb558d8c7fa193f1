//! Answers `ok` under 200 KiB of headers: 50 of them, `x-filler-0` to `x-filler-49`, of 4 KiB each.
//!
//! A header that the host does not take is left out.

use test_guests_p2::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam, worker, write};

worker!(handle);

fn handle(_request: IncomingRequest, out: ResponseOutparam) {
    let headers = Fields::new();
    for number in 0..50 {
        let _ = headers.append(&format!("x-filler-{number}"), &[b'x'; 4096]);
    }
    let response = OutgoingResponse::new(headers);
    let body = response.body().expect("the body is taken once");
    ResponseOutparam::set(out, Ok(response));
    let stream = body.write().expect("the stream is taken once");
    let _ = write(&stream, b"ok\n");
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
}
