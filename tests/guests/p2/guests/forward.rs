//! Sends the request on, with its method, target, `kv-…` and `if-…` headers and body, to the authority in the header `x-to`,
//! and answers with what came back, headers included. If the request fails, the answer is 502 with the error's name.

use test_guests_p2::wasip2::http::types::Scheme;
use test_guests_p2::{
    Fields, IncomingRequest, IncomingResponse, OutgoingRequest, ResponseOutparam, answer, header, reply, send, worker,
};

worker!(handle);

fn handle(request: IncomingRequest, out: ResponseOutparam) {
    match forward(request) {
        Ok(response) => reply(out, response),
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
    send(onward, Some(&request.consume().map_err(failed)?))
}
