//! Sends the request on, with its method, target, `kv-…` and `if-…` headers and body, to the authority in the header `x-to`,
//! and answers with what came back, headers included. If the request fails, the answer is 502 with the error's name.

use test_guests_p2::wasip2::http::outgoing_handler;
use test_guests_p2::wasip2::http::types::{IncomingBody, IncomingResponse, OutgoingRequest, Scheme};
use test_guests_p2::{
    Fields, IncomingRequest, OutgoingBody, OutgoingResponse, OutputStream, ResponseOutparam, answer, header, worker,
    write,
};

worker!(handle);

fn handle(request: IncomingRequest, out: ResponseOutparam) {
    match forward(request) {
        Ok(response) => reply(response, out),
        Err(error) => answer(out, 502, &format!("{error}\n")),
    }
}

fn forward(request: IncomingRequest) -> Result<IncomingResponse, String> {
    let fields = Fields::new();
    for (name, value) in request.headers().entries() {
        if name.starts_with("kv-") || name.starts_with("if-") {
            fields.append(&name, &value).map_err(|error| format!("{error:?}"))?;
        }
    }
    let onward = OutgoingRequest::new(fields);
    let failed = |()| "invalid request".to_owned();
    onward.set_method(&request.method()).map_err(failed)?;
    onward.set_scheme(Some(&Scheme::Http)).map_err(failed)?;
    onward.set_authority(Some(&header(&request, "x-to").unwrap_or_default())).map_err(failed)?;
    onward.set_path_with_query(request.path_with_query().as_deref()).map_err(failed)?;
    let body = onward.body().map_err(failed)?;
    let sent = outgoing_handler::handle(onward, None).map_err(|error| format!("{error:?}"))?;
    copy(&request.consume().map_err(failed)?, &body.write().map_err(failed)?);
    OutgoingBody::finish(body, None).map_err(|error| format!("{error:?}"))?;
    sent.subscribe().block();
    sent.get().expect("it is ready").expect("it is taken once").map_err(|error| format!("{error:?}"))
}

fn reply(response: IncomingResponse, out: ResponseOutparam) {
    let fields = Fields::new();
    for (name, value) in response.headers().entries() {
        let _ = fields.append(&name, &value);
    }
    let status = response.status();
    let outgoing = OutgoingResponse::new(fields);
    outgoing.set_status_code(status).expect("a valid status");
    let body = outgoing.body().expect("the body is taken once");
    ResponseOutparam::set(out, Ok(outgoing));
    let from = response.consume().expect("the body is taken once");
    let to = body.write().expect("the stream is taken once");
    copy(&from, &to);
    drop(to);
    let _ = OutgoingBody::finish(body, None);
}

fn copy(from: &IncomingBody, to: &OutputStream) {
    let from = from.stream().expect("the stream is taken once");
    while let Ok(chunk) = from.blocking_read(64 * 1024) {
        if write(to, &chunk).is_err() {
            return;
        }
    }
}
