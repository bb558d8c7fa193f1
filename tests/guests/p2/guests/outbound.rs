//! Makes one GET request to the URL in the header `x-url`, and answers with its status and body.
//! If the request fails, the answer is 502 with the error's name.

use test_guests_p2::{IncomingRequest, OutgoingBody, ResponseOutparam, answer, get, header, send_head, worker, write};

worker!(handle);

fn handle(request: IncomingRequest, out: ResponseOutparam) {
    let response = match get(&header(&request, "x-url").unwrap_or_default()) {
        Ok(response) => response,
        Err(error) => return answer(out, 502, &format!("{error}\n")),
    };
    let from = response.consume().expect("the body is taken once");
    let from = from.stream().expect("the stream is taken once");
    let body = send_head(out, response.status(), &[("content-type", "text/plain")]);
    let to = body.write().expect("the stream is taken once");
    while let Ok(chunk) = from.blocking_read(4096) {
        if write(&to, &chunk).is_err() {
            return;
        }
    }
    drop(to);
    let _ = OutgoingBody::finish(body, None);
}
