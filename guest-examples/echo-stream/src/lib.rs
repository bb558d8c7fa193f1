//! Sends each request's body back while it still arrives, with its content type and trailers.
//!
//! The body and its trailers are handed on as they are: not a byte of them enters this worker's
//! memory. Below `/copy` the worker reads and writes every chunk itself, as one that changes the
//! body would.

use wasip3::exports::http::handler::Guest;
use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::wit_bindgen::{StreamReader, StreamResult};
use wasip3::{spawn_local, wit_future, wit_stream};

struct EchoStream;
wasip3::http::service::export!(EchoStream);

impl Guest for EchoStream {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let headers = Fields::new();
        // HTTP/1.1 sends only trailers that the head has announced.
        for name in ["content-type", "trailer"] {
            for value in request.get_headers().get(name) {
                let _ = headers.append(name, &value);
            }
        }
        let path = request.get_path_with_query().unwrap_or_default();

        // Dropping the writing end tells the sender that nothing went wrong.
        let (_, received) = wit_future::new(|| Ok(()));
        let (body, trailers) = Request::consume_body(request, received);
        let body = if path.starts_with("/copy") { copy(body) } else { body };

        let (response, _sent) = Response::new(headers, Some(body), trailers);
        Ok(response)
    }
}

/// A stream of the same bytes, carried over by this worker one chunk at a time.
fn copy(mut from: StreamReader<u8>) -> StreamReader<u8> {
    let (mut to, copied) = wit_stream::new();
    spawn_local(async move {
        let mut chunk = Vec::with_capacity(16 * 1024);
        loop {
            let (result, bytes) = from.read(chunk).await;
            if !matches!(result, StreamResult::Complete(_)) {
                break; // The body has ended.
            }
            chunk = to.write_all(bytes).await;
            if !chunk.is_empty() {
                break; // The caller has gone, and these bytes were left over.
            }
            chunk.reserve(16 * 1024);
        }
    });
    copied
}
