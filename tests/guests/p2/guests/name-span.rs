//! Answers with the `traceparent` that it got. With the header `x-url` it first makes a GET request there, which names the span in
//! the header `x-name` as its parent, if there is that header.

use test_guests_p2::{Fields, IncomingRequest, ResponseOutparam, answer, get_with, header, worker};

worker!(handle);

fn handle(request: IncomingRequest, out: ResponseOutparam) {
    if let Some(url) = header(&request, "x-url") {
        let fields = Fields::new();
        if let Some(span) = header(&request, "x-name") {
            fields.append("traceparent", span.as_bytes()).expect("a valid header");
        }
        if let Err(error) = get_with(&url, fields) {
            return answer(out, 502, &format!("{error}\n"));
        }
    }
    answer(out, 200, &header(&request, "traceparent").unwrap_or_default());
}
