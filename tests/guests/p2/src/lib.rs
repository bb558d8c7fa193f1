//! What the test guests for WASI 0.2 share.

use std::str::FromStr;

pub use wasip2;
use wasip2::http::types::Scheme;
pub use wasip2::http::types::{
    Fields, IncomingBody, IncomingRequest, IncomingResponse, OutgoingBody, OutgoingRequest, OutgoingResponse,
    ResponseOutparam,
};
pub use wasip2::io::streams::{OutputStream, StreamError};

/// Makes a function of a request and a response's way out the guest's handler.
#[macro_export]
macro_rules! worker {
    ($handle:path) => {
        struct Worker;
        $crate::wasip2::http::proxy::export!(Worker with_types_in $crate::wasip2);

        impl $crate::wasip2::exports::http::incoming_handler::Guest for Worker {
            fn handle(request: $crate::IncomingRequest, out: $crate::ResponseOutparam) {
                $handle(request, out)
            }
        }
    };
}

/// Sends a head, and returns its body for writing.
pub fn send_head(out: ResponseOutparam, status: u16, headers: &[(&str, &str)]) -> OutgoingBody {
    let fields = Fields::new();
    for (name, value) in headers {
        fields.append(name, value.as_bytes()).expect("a valid header");
    }
    let response = OutgoingResponse::new(fields);
    response.set_status_code(status).expect("a valid status");
    let body = response.body().expect("the body is taken once");
    ResponseOutparam::set(out, Ok(response));
    body
}

/// Sends a whole answer of text.
pub fn answer(out: ResponseOutparam, status: u16, text: &str) {
    let body = send_head(out, status, &[("content-type", "text/plain")]);
    let stream = body.write().expect("the stream is taken once");
    if write(&stream, text.as_bytes()).is_ok() {
        drop(stream);
        let _ = OutgoingBody::finish(body, None);
    }
}

/// Writes all of `bytes`, and waits until they have left.
pub fn write(stream: &OutputStream, bytes: &[u8]) -> Result<(), StreamError> {
    // 4,096 bytes are as many as one such write may carry.
    bytes.chunks(4096).try_for_each(|chunk| stream.blocking_write_and_flush(chunk))
}

/// A header of the request.
pub fn header(request: &IncomingRequest, name: &str) -> Option<String> {
    let value = request.headers().get(name).into_iter().next()?;
    String::from_utf8(value).ok()
}

/// A parameter of the request's query, `?name=value`.
pub fn query<T: FromStr>(request: &IncomingRequest, name: &str) -> Option<T> {
    parameter(&request.path_with_query()?, name)
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

/// Sleeps in the way of WASI 0.2: the whole guest waits.
pub fn sleep(duration: std::time::Duration) {
    let nanoseconds = duration.as_nanos() as u64;
    wasip2::clocks::monotonic_clock::subscribe_duration(nanoseconds).block();
}

/// Makes a GET request to an absolute URL. An error is its name in the bindings.
pub fn get(url: &str) -> Result<IncomingResponse, String> {
    get_with(url, Fields::new())
}

/// The same, with headers.
pub fn get_with(url: &str, fields: Fields) -> Result<IncomingResponse, String> {
    let (scheme, rest) = url.split_once("://").ok_or("the header x-url needs an absolute URL")?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };

    let request = OutgoingRequest::new(fields);
    request.set_scheme(Some(&scheme)).map_err(|()| "invalid scheme")?;
    request.set_authority(Some(authority)).map_err(|()| "invalid authority")?;
    let path = if path.is_empty() { "/" } else { path };
    request.set_path_with_query(Some(path)).map_err(|()| "invalid path")?;
    send(request, None)
}

/// Sends a request, with the body of another if there is one, and waits for the answer. An error is its name in the bindings.
pub fn send(request: OutgoingRequest, from: Option<&IncomingBody>) -> Result<IncomingResponse, String> {
    let failed = |error| format!("{error:?}");
    let bodies = from.map(|from| (from, request.body().expect("the body is taken once")));
    let response = wasip2::http::outgoing_handler::handle(request, None).map_err(failed)?;
    if let Some((from, to)) = bodies {
        copy(from, &to);
        OutgoingBody::finish(to, None).map_err(failed)?;
    }
    response.subscribe().block();
    response.get().expect("it is ready").expect("it is taken once").map_err(failed)
}

/// Answers with a response that came from elsewhere, headers included.
pub fn reply(out: ResponseOutparam, response: IncomingResponse) {
    let fields = Fields::new();
    for (name, value) in response.headers().entries() {
        let _ = fields.append(&name, &value);
    }
    let status = response.status();
    let outgoing = OutgoingResponse::new(fields);
    outgoing.set_status_code(status).expect("a valid status");
    let body = outgoing.body().expect("the body is taken once");
    ResponseOutparam::set(out, Ok(outgoing));
    copy(&response.consume().expect("the body is taken once"), &body);
    let _ = OutgoingBody::finish(body, None);
}

/// Carries a body over as it arrives, until it ends or the reader has gone.
fn copy(from: &IncomingBody, to: &OutgoingBody) {
    let from = from.stream().expect("the stream is taken once");
    let to = to.write().expect("the stream is taken once");
    while let Ok(chunk) = from.blocking_read(64 * 1024) {
        if write(&to, &chunk).is_err() {
            return;
        }
    }
}

/// Runs a function when the guest is instantiated, before any of its exports is called.
///
/// A module that is made into a component is started by its export `_initialize`. Targets with a
/// system library have that function already, and it runs what is listed in `.init_array`.
#[macro_export]
macro_rules! at_start {
    ($start:path) => {
        #[cfg(not(target_os = "wasi"))]
        #[unsafe(no_mangle)]
        extern "C" fn _initialize() {
            $start()
        }

        #[cfg(target_os = "wasi")]
        #[used]
        #[unsafe(link_section = ".init_array")]
        static START: extern "C" fn() = {
            extern "C" fn constructor() {
                $start()
            }
            constructor
        };
    };
}
