//! What the test guests for WASI 0.3 share.

use std::str::FromStr;

pub use wasip3;
pub use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::{spawn_local, wit_future, wit_stream};

/// Makes an async function of a request the guest's handler.
#[macro_export]
macro_rules! worker {
    ($handle:path) => {
        struct Worker;
        $crate::wasip3::http::service::export!(Worker with_types_in $crate::wasip3);

        impl $crate::wasip3::exports::http::handler::Guest for Worker {
            async fn handle(request: $crate::Request) -> Result<$crate::Response, $crate::ErrorCode> {
                $handle(request).await
            }
        }
    };
}

/// An answer of text.
pub fn answer(status: u16, headers: &[(&str, &str)], text: String) -> Response {
    let fields = Fields::new();
    for (name, value) in headers {
        fields.append(name, value.as_bytes()).expect("a valid header");
    }
    let (mut writer, body) = wit_stream::new();
    let (_, trailers) = wit_future::new(|| Ok(None));
    let (response, _sent) = Response::new(fields, Some(body), trailers);
    response.set_status_code(status).expect("a valid status");
    spawn_local(async move {
        writer.write_all(text.into_bytes()).await;
    });
    response
}

/// A parameter of the request's query, `?name=value`.
pub fn query<T: FromStr>(request: &Request, name: &str) -> Option<T> {
    parameter(&request.get_path_with_query()?, name)
}

/// A parameter of a target, `/path?name=value`. What is written as `%26` in it is a `&`.
pub fn parameter<T: FromStr>(target: &str, name: &str) -> Option<T> {
    let (_, query) = target.split_once('?')?;
    let mut parameters = query.split('&').filter_map(|parameter| parameter.split_once('='));
    decode(parameters.find(|(key, _)| *key == name)?.1).parse().ok()
}

/// The text that a part of a URL stands for. A `%` without two digits after it stands for itself.
pub fn decode(part: &str) -> String {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let [first, after @ ..] = rest {
        let digits = after.first_chunk::<2>().and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        (rest, _) = match (first, escaped) {
            (b'%', Some(byte)) => (&after[2..], bytes.push(byte)),
            _ => (after, bytes.push(*first)),
        };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Sleeps while the instance may serve other requests.
pub async fn sleep(duration: std::time::Duration) {
    wasip3::clocks::monotonic_clock::wait_for(duration.as_nanos() as u64).await;
}
