//! Answers `ok` under `?count=N` headers of 4 KiB each, `x-filler-0` and so on. 50 if not told, which is 200 KiB.
//!
//! A header that the host does not take is left out.

use test_guests_p2::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam, query, worker, write};

worker!(handle);

fn handle(request: IncomingRequest, out: ResponseOutparam) {
    let headers = Fields::new();
    for number in 0..query(&request, "count").unwrap_or(50) {
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
