//! The smallest worker for WASI 0.3: it answers every request with `Hello, World!`.
//!
//! One instance of it serves many requests at once.

use wasip3::exports::http::handler::Guest;
use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::{spawn_local, wit_future, wit_stream};

const HELLO: &[u8] = b"Hello, World!\n";

struct Hello;
wasip3::http::service::export!(Hello);

impl Guest for Hello {
    async fn handle(_request: Request) -> Result<Response, ErrorCode> {
        let headers = Fields::new();
        let _ = headers.append("content-type", b"text/plain");
        let _ = headers.append("content-length", b"14");

        let (mut writer, body) = wit_stream::new();
        // No trailers follow: dropping the writing end sends the default, `None`.
        let (_, trailers) = wit_future::new(|| Ok(None));
        let (response, _sent) = Response::new(headers, Some(body), trailers);

        // A stream's write ends when its reader has taken the bytes, and the reader gets the
        // stream with the response. So the write goes on beside the answer.
        spawn_local(async move {
            writer.write_all(HELLO.to_vec()).await;
        });
        Ok(response)
    }
}
