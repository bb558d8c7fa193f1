//! Failure → status, header, body: the only place where that is decided.
//!
//! Guests' failures carry Cloudflare's codes, 1101 (exception) and 1102 (limits), one line that says what happened, and the id
//! of the request's record.

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};

use crate::dispatch::Error;
use crate::engine::failure::Failure;
use crate::observe::record::RequestId;

/// Seconds after which a client that was told to come back may do so.
const RETRY_AFTER_S: u16 = 1;

/// The response for what failed while a request was run.
#[must_use]
pub fn failed(error: &Error, id: RequestId) -> http::Response<Bytes> {
    let (status, code) = match error {
        Error::NotDeployed(_) | Error::VersionUnknown { .. } => (StatusCode::NOT_FOUND, None),
        Error::Failed(failure) => match failure {
            Failure::Trap(_) | Failure::NoResponse | Failure::GuestError(_) | Failure::ResponseHeaders(_) => {
                (StatusCode::INTERNAL_SERVER_ERROR, Some(1101))
            }
            Failure::CpuTime(_) | Failure::Memory(_) => (StatusCode::SERVICE_UNAVAILABLE, Some(1102)),
            Failure::WallTime => (StatusCode::GATEWAY_TIMEOUT, Some(1102)),
            Failure::Overloaded => (StatusCode::SERVICE_UNAVAILABLE, None),
            Failure::Canceled => (StatusCode::BAD_REQUEST, None),
            Failure::Instantiate(_) => (StatusCode::INTERNAL_SERVER_ERROR, Some(1101)),
            Failure::NotReady(_) => (StatusCode::INTERNAL_SERVER_ERROR, None),
        },
    };
    let text = match code {
        Some(code) => format!("error {code}: {error} (request {id})\n"),
        None => format!("{error} (request {id})\n"),
    };
    let mut response = plain(status, text);
    if matches!(error, Error::Failed(Failure::Overloaded)) {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_S));
    }
    response
}

/// A host that selects no worker: what would.
#[must_use]
pub fn no_worker(host: &str, would_match: &[String]) -> http::Response<Bytes> {
    let shown: String = host.chars().take(100).filter(|c| !c.is_control()).collect();
    let mut text = format!("no worker answers to the host `{shown}`\n");
    if would_match.is_empty() {
        text.push_str("nothing is deployed on this node yet: `sluice deploy` uploads a worker\n");
    } else {
        text.push_str("these hosts are answered:\n");
        for host in would_match {
            text.push_str("  ");
            text.push_str(host);
            text.push('\n');
        }
    }
    plain(StatusCode::NOT_FOUND, text)
}

/// A request that names no host, or one that is none.
#[must_use]
pub fn bad_host() -> http::Response<Bytes> {
    plain(StatusCode::BAD_REQUEST, "the request has no valid `Host`: it selects the worker\n".into())
}

/// A route that is switched off for its pattern (`RTE-6`).
#[must_use]
pub fn disabled(host: &str) -> http::Response<Bytes> {
    plain(StatusCode::NOT_FOUND, format!("the route for `{host}` has no worker\n"))
}

fn plain(status: StatusCode, text: String) -> http::Response<Bytes> {
    let mut response = http::Response::new(Bytes::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
