//! A worker for WASI 0.2: it greets, and tells which version of it does.

use wasip2::cli::environment::get_environment;
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

struct Worker;
wasip2::http::proxy::export!(Worker);

impl Guest for Worker {
    fn handle(request: IncomingRequest, response_out: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        let greeting = variable("GREETING").unwrap_or_else(|| "Hello".into());
        let version = variable("CF_VERSION").unwrap_or_else(|| "unknown".into());
        respond(response_out, &format!("{greeting} from with-wrangler, {path}\nversion: {version}\n"));
    }
}

/// A variable of `wrangler.toml`, or a secret.
fn variable(name: &str) -> Option<String> {
    get_environment().into_iter().find(|(key, _)| key == name).map(|(_, value)| value)
}

fn respond(response_out: ResponseOutparam, text: &str) {
    let headers = Fields::new();
    let _ = headers.append("content-type", b"text/plain; charset=utf-8");
    let response = OutgoingResponse::new(headers);
    let Ok(body) = response.body() else { return };

    // The head may leave while the body is still being written.
    ResponseOutparam::set(response_out, Ok(response));
    if let Ok(stream) = body.write() {
        // 4,096 bytes are as many as one such write may carry.
        for chunk in text.as_bytes().chunks(4096) {
            if stream.blocking_write_and_flush(chunk).is_err() {
                return; // The caller has gone.
            }
        }
    }
    let _ = OutgoingBody::finish(body, None);
}
