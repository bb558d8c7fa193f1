//! The smallest worker: it answers every request with `Hello, World!`.
//!
//! It is written for WASI 0.2 and allocates nothing, so a fresh instance of it is ready at once.

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

const HELLO: &[u8] = b"Hello, World!\n";

struct Hello;
wasip2::http::proxy::export!(Hello);

impl Guest for Hello {
    fn handle(_request: IncomingRequest, response_out: ResponseOutparam) {
        let headers = Fields::new();
        let _ = headers.append("content-type", b"text/plain");
        let _ = headers.append("content-length", b"14");
        let response = OutgoingResponse::new(headers);
        let Ok(body) = response.body() else { return };

        // The head may leave while the body is still being written.
        ResponseOutparam::set(response_out, Ok(response));

        // `check_write` says how many bytes may be written without waiting: far more than these.
        if let Ok(stream) = body.write() {
            if stream.check_write().is_ok_and(|room| room >= HELLO.len() as u64) {
                let _ = stream.write(HELLO);
            }
        }
        let _ = OutgoingBody::finish(body, None);
    }
}
