//! The door: what every request passes before an operation sees it, and every answer on its way out.
//!
//! A web page must not be able to deploy. So a request must name this listener in `Host` (a page whose name was rebound to
//! 127.0.0.1 names itself), must not come from another origin, and must carry the bearer token. What is refused here, and what
//! panics behind here, is answered in the same JSON envelope as everything else.

use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, HeaderValue, Method, Uri, header};
use http_body_util::BodyExt;
use sha2::{Digest, Sha256};

use crate::control::Api;
use crate::control::fault::{Code, Fault, Outcome};
use crate::control::wire::ACCOUNT;

/// How much of a body that nobody wanted is read before the answer goes out, and for how long: a client that is still sending
/// would see a broken connection instead of the answer.
const LEFTOVER_BYTES_MAX: usize = 128 * 1024 * 1024;
const LEFTOVER_WALL_MAX: Duration = Duration::from_secs(10);
const LEFTOVER_IDLE_MAX: Duration = Duration::from_secs(1);

/// The bearer token that the API asks for. Only its digest is kept, so comparing tells nothing by its time.
#[derive(Clone)]
pub struct Token([u8; 32]);

impl Token {
    /// Takes the token's text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(Sha256::digest(text.as_bytes()).into())
    }

    /// Whether this is the token.
    #[must_use]
    pub fn is(&self, text: &[u8]) -> bool {
        let digest: [u8; 32] = Sha256::digest(text).into();
        !text.is_empty() && digest.iter().zip(&self.0).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
    }

    /// Whether these headers carry the token.
    #[must_use]
    pub fn admits(&self, headers: &HeaderMap) -> bool {
        let Some(value) = headers.get(header::AUTHORIZATION) else { return false };
        let Some((scheme, token)) = value.as_bytes().split_at_checked(7) else { return false };
        scheme.eq_ignore_ascii_case(b"bearer ") && self.is(token)
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[token]")
    }
}

/// Outermost: host, origin, panics, and bodies that were left unread.
pub(super) async fn door(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let waits = parts.headers.contains_key(header::EXPECT);
    let (lent, leftover) = lend(body);
    let refused = check_host(&parts.headers, &parts.uri, api.control_addr)
        .and_then(|()| check_origin(&parts.headers, &parts.uri));
    let mut response = match refused {
        Err(fault) => fault.into_response(),
        Ok(()) => {
            let what = format!("{} {}", parts.method, parts.uri.path());
            let call = next.run(Request::from_parts(parts, Body::new(lent)));
            match AssertUnwindSafe(call).catch_unwind().await {
                Ok(response) => response,
                Err(_) => {
                    // The panic hook has written where and why.
                    tracing::error!("a control call panicked: {what}");
                    let message = "the node met a bug of its own; its log says where. Nothing else was affected.";
                    Fault::new(Code::Host, message).into_response()
                }
            }
        }
    };
    // A client that waits for `100 Continue` has sent nothing yet, and asking for the body would make it.
    if !(waits && leftover.is_untouched()) {
        leftover.drain().await;
    }
    let headers = response.headers_mut();
    // Only what the dashboard's pages are made with may be kept, and says so.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Inside: the token, then the account. Only the few calls of `account.rs` stand outside of it.
pub(super) async fn guard(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    if !api.token.admits(request.headers()) {
        return unauthenticated().into_response();
    }
    let path = request.uri().path();
    let account = path.strip_prefix("/client/v4/accounts/").map(|rest| rest.split('/').next().unwrap_or_default());
    match account {
        Some(other) if other != ACCOUNT => {
            let message = format!(
                "Could not route to {path}, perhaps your object identifier is invalid? The only account here is `{ACCOUNT}`: set CLOUDFLARE_ACCOUNT_ID={ACCOUNT}."
            );
            Fault::new(Code::AccountUnknown, message).into_response()
        }
        _ => next.run(request).await,
    }
}

/// The answer to a call without the right token.
pub(super) fn unauthenticated() -> Fault {
    let message = "Authentication error: send `Authorization: Bearer <token>` with the token in `<data-dir>/token` of the node (CLOUDFLARE_API_TOKEN for wrangler, SLUICE_API_TOKEN for sluice)";
    Fault::new(Code::Unauthenticated, message)
}

/// No operation has this path.
pub(super) async fn unknown_path(method: Method, uri: Uri) -> Fault {
    Fault::new(Code::PathUnknown, format!("No route for that URI: {method} {}", uri.path()))
}

/// The path is known, but not with this method. The `Allow` header says which.
pub(super) async fn unknown_method(method: Method, uri: Uri) -> Fault {
    Fault::new(Code::MethodUnknown, format!("Method {method} not available for that URI: {}", uri.path()))
}

fn check_host(headers: &HeaderMap, uri: &Uri, bound: SocketAddr) -> Outcome<()> {
    let mut named = headers.get_all(header::HOST).iter().map(|value| value.to_str().unwrap_or("?"));
    let hosts: Vec<&str> = uri.authority().map(|authority| authority.as_str()).into_iter().chain(&mut named).collect();
    match hosts.iter().find(|host| !is_ours(host, bound)) {
        None if !hosts.is_empty() => Ok(()),
        None => Err(Fault::new(Code::ForeignHost, "the request names no host; send `Host: localhost`")),
        Some(host) => {
            let host: String = host.chars().take(80).collect();
            let message = format!(
                "the host `{host}` is not this node's: the control API answers to `localhost`, loopback addresses and {}",
                bound.ip()
            );
            Err(Fault::new(Code::ForeignHost, message))
        }
    }
}

/// Whether a `Host` value, with or without a port, names this listener. Ports are free: the API is reached through tunnels too.
///
/// A listener on all addresses cannot know them, so it takes any address, but still no foreign name: rebinding needs a name.
fn is_ours(host: &str, bound: SocketAddr) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _port)) => address,
        None => host.rsplit_once(':').map_or(host, |(name, _port)| name),
    };
    if name.eq_ignore_ascii_case("localhost") {
        return true;
    }
    name.parse::<IpAddr>().is_ok_and(|address| {
        let address = address.to_canonical();
        address.is_loopback() || address == bound.ip() || bound.ip().is_unspecified()
    })
}

/// A page of the same origin (the dashboard) may call; any other may not, a guest at `<worker>.localhost` least of all.
fn check_origin(headers: &HeaderMap, uri: &Uri) -> Outcome<()> {
    // HTTP/2 names the host in the request's target alone.
    let target = uri.authority().map(|authority| authority.as_str().as_bytes());
    let host = headers.get(header::HOST).map(HeaderValue::as_bytes).or(target).unwrap_or_default();
    let same = |origin: &HeaderValue| {
        let origin = origin.as_bytes();
        let rest = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
        rest.is_some_and(|rest| rest.eq_ignore_ascii_case(host))
    };
    let foreign_origin = headers.get_all(header::ORIGIN).iter().any(|origin| !same(origin));
    let foreign_site =
        headers.get("sec-fetch-site").is_some_and(|site| !matches!(site.as_bytes(), b"same-origin" | b"none"));
    if foreign_origin || foreign_site {
        let message = "the request comes from a web page of another origin; the control API is not for pages";
        return Err(Fault::new(Code::ForeignOrigin, message));
    }
    Ok(())
}

// === impl Lent and Leftover ===

/// A request's body as an operation sees it; what it leaves unread stays with [`Leftover`].
struct Lent(Arc<Loan>);

/// The door's hold on a body that it lent out.
struct Leftover(Arc<Loan>);

struct Loan {
    body: Mutex<Body>,
    touched: AtomicBool,
}

fn lend(body: Body) -> (Lent, Leftover) {
    let loan = Arc::new(Loan { body: Mutex::new(body), touched: AtomicBool::new(false) });
    (Lent(Arc::clone(&loan)), Leftover(loan))
}

impl Loan {
    fn with<T>(&self, act: impl FnOnce(Pin<&mut Body>) -> T) -> T {
        act(Pin::new(&mut *self.body.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl http_body::Body for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, axum::Error>>> {
        self.0.touched.store(true, Ordering::Relaxed);
        self.0.with(|body| body.poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        self.0.with(|body| body.is_end_stream())
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.0.with(|body| body.size_hint())
    }
}

impl Leftover {
    fn is_untouched(&self) -> bool {
        !self.0.touched.load(Ordering::Relaxed)
    }

    /// Reads and forgets what is left, within bounds. An error ends it: there is nobody to tell.
    async fn drain(self) {
        let mut rest = Lent(self.0);
        let reading = async {
            let mut bytes = 0;
            while bytes <= LEFTOVER_BYTES_MAX && !http_body::Body::is_end_stream(&rest) {
                match tokio::time::timeout(LEFTOVER_IDLE_MAX, rest.frame()).await {
                    Ok(Some(Ok(frame))) => bytes += frame.data_ref().map_or(0, Bytes::len),
                    _ => break,
                }
            }
        };
        // Past the bound the connection is closed by the listener: the body was not read to its end.
        let _ = tokio::time::timeout(LEFTOVER_WALL_MAX, reading).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (header::HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap()))
            .collect()
    }

    #[test]
    fn only_names_of_this_listener_are_hosts() {
        let check = |host: &str, bound: &str| is_ours(host, bound.parse().unwrap());
        for ours in ["localhost", "LOCALHOST:1", "127.0.0.1:8788", "127.9.9.9", "[::1]:8788", "[::1]"] {
            assert!(check(ours, "127.0.0.1:8788"), "{ours}");
        }
        for foreign in
            ["", "evil.test", "evil.test:8788", "hello.localhost", "10.0.0.1:8788", "[fe80::1]", "127.0.0.1.evil.test"]
        {
            assert!(!check(foreign, "127.0.0.1:8788"), "{foreign}");
        }
        assert!(check("10.0.0.1:8788", "10.0.0.1:8788"));
        assert!(check("10.0.0.7:8788", "0.0.0.0:8788"));
        assert!(!check("evil.test:8788", "0.0.0.0:8788"));
    }

    #[test]
    fn only_a_page_of_the_same_origin_may_call() {
        let check = |pairs: &[(&str, &str)]| check_origin(&headers(pairs), &Uri::from_static("/")).is_ok();
        let host = ("host", "localhost:8788");
        assert!(check(&[host]));
        assert!(check(&[host, ("origin", "http://localhost:8788"), ("sec-fetch-site", "same-origin")]));
        for origin in
            ["null", "http://localhost:8787", "http://hello.localhost:8788", "https://evil.test", "localhost:8788"]
        {
            assert!(!check(&[host, ("origin", origin)]), "{origin}");
        }
        assert!(!check(&[host, ("sec-fetch-site", "cross-site")]));
        assert!(!check(&[host, ("sec-fetch-site", "same-site")]));
    }

    #[test]
    fn a_token_is_taken_whole_or_not_at_all() {
        let token = Token::new("s3cret");
        let check = |value: &str| token.admits(&headers(&[("authorization", value)]));
        assert!(check("Bearer s3cret"));
        assert!(check("bearer s3cret"));
        for wrong in ["Bearer ", "Bearer s3cre", "Bearer s3cret2", "s3cret", "Basic s3cret", "Bearer", ""] {
            assert!(!check(wrong), "{wrong}");
        }
        assert!(!token.admits(&HeaderMap::new()));
        assert!(!Token::new("").admits(&headers(&[("authorization", "Bearer ")])));
    }
}
