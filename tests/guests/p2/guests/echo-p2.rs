//! Sends the request back: its method, path and number of headers as the headers `x-method`, `x-path`
//! and `x-header-count`, its content type, its body as the body, its trailers as the trailers, and
//! `trailer`, which announces them. With `?whole=1` it sends nothing before all of the body has come.

use test_guests_p2::wasip2::http::types::{IncomingBody, Method};
use test_guests_p2::{IncomingRequest, OutgoingBody, ResponseOutparam, header, query, send_head, worker, write};

worker!(handle);

fn handle(request: IncomingRequest, out: ResponseOutparam) {
    let path = request.path_with_query().unwrap_or_default();
    let count = request.headers().entries().len().to_string();
    let content_type = header(&request, "content-type").unwrap_or("application/octet-stream".into());
    let method = name(request.method());
    let announced = header(&request, "trailer");
    let mut head = vec![
        ("content-type", content_type.as_str()),
        ("x-method", &method),
        ("x-path", &path),
        ("x-header-count", &count),
    ];
    head.extend(announced.as_deref().map(|names| ("trailer", names)));

    let from_body = request.consume().expect("the body is taken once");
    let from = from_body.stream().expect("the stream is taken once");
    let mut whole = Vec::new();
    if query(&request, "whole") == Some(1) {
        while let Ok(chunk) = from.blocking_read(4096) {
            whole.extend(chunk);
        }
    }
    let to_body = send_head(out, 200, &head);
    let to = to_body.write().expect("the stream is taken once");
    if write(&to, &whole).is_err() {
        return; // The caller has gone.
    }
    while let Ok(chunk) = from.blocking_read(4096) {
        if write(&to, &chunk).is_err() {
            return; // The caller has gone.
        }
    }
    drop(from);
    drop(to);

    let trailers = IncomingBody::finish(from_body);
    trailers.subscribe().block();
    let trailers = trailers.get().expect("they are ready").expect("they are taken once");
    // A body that failed has no trailers, and this guest does not tell.
    let _ = OutgoingBody::finish(to_body, trailers.ok().flatten());
}

fn name(method: Method) -> String {
    let name = match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
        Method::Connect => "CONNECT",
        Method::Options => "OPTIONS",
        Method::Trace => "TRACE",
        Method::Patch => "PATCH",
        Method::Other(name) => return name,
    };
    name.to_string()
}
