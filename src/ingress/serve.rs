//! One HTTP request: find the worker, hand it to the dispatcher, send the answer.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::uri::Authority;
use http::{HeaderName, HeaderValue, Request, Response, header};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use wasmtime_wasi_http::Error;

use crate::catalog::{Catalog, Routed, View, WorkerView};
use crate::dispatch::{Answered, Dispatcher, OVERRIDES_HEADER, Wanted};
use crate::domain::decision::Decision;
use crate::domain::id::WorkerName;
use crate::domain::limits::BODY_IDLE_MAX;
use crate::host::Body;
use crate::host::call::Lineage;
use crate::host::idle::Idle;
use crate::ingress::{cookies, respond};
use crate::observe::Observer;

/// The response header that says which version answered, and why.
const VERSION_HEADER: HeaderName = HeaderName::from_static("sluice-version");
/// The header that vouches for an override where not everyone may send one.
const OVERRIDE_TOKEN_HEADER: HeaderName = HeaderName::from_static("sluice-override-token");

/// Who may override the version of a request (`--overrides`, E18).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overrides {
    /// Whoever knows the id of a version.
    Any,
    /// Clients on this machine.
    Loopback,
    /// Clients that send the override token.
    Token,
    /// No one.
    Off,
}

/// Whether answers say which version gave them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionHeader {
    Send,
    Omit,
}

/// What the front door knows.
pub struct Door {
    pub catalog: Arc<Catalog>,
    pub dispatcher: Arc<Dispatcher>,
    pub observer: Arc<Observer>,
    /// Takes what matches nothing. It may be uploaded later.
    pub default_worker: Option<WorkerName>,
    pub version_header: VersionHeader,
    pub overrides: Overrides,
    pub override_token: String,
}

/// Who is at the other end of a connection.
pub struct Client {
    peer: SocketAddr,
    /// The host that was asked for last: who keeps a connection mostly asks for the same one again.
    host: Mutex<Option<Authority>>,
}

/// The body of every answer of the data listener.
#[expect(clippy::large_enum_variant, reason = "nearly every answer is a worker's; boxing it would cost each of them")]
pub enum Outgoing {
    Worker {
        body: Answered,
        /// What broke the body, for the next time it is asked: hyper throws away what it has not sent yet when a body breaks,
        /// the head included, and a client is to see what came before.
        broken: Option<Error>,
    },
    Ours(Full<Bytes>),
}

impl Door {
    /// Answers one request of `client`.
    pub async fn answer(&self, request: Request<Incoming>, client: &Client) -> Response<Outgoing> {
        let Some(authority) = client.authority(&request) else { return ours(respond::bad_host()) };
        let view = self.catalog.glance();
        let path = request.uri().path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let (worker, wanted) = match view.route_for(authority.as_str(), path) {
            Routed::Worker(worker) => (worker, Wanted::Deployed),
            Routed::Preview { worker, version } => (worker, Wanted::Preview(version)),
            Routed::Disabled => return ours(respond::disabled(authority.as_str())),
            Routed::None => match self.default_worker.as_ref().and_then(|name| view.worker(name)) {
                Some(worker) => (worker, Wanted::Deployed),
                None => return self.unrouted(&view, authority.as_str()),
            },
        };
        let worker: Arc<WorkerView> = Arc::clone(worker);
        drop(view);
        let request = self.prepare(request, authority, client.peer);
        let lineage = Lineage::of_client(client.peer.ip());
        let answer = self.dispatcher.dispatch(&worker, wanted, request, lineage).await;
        let mut response = answer.response.map(|body| Outgoing::Worker { body, broken: None });
        if self.version_header == VersionHeader::Send
            && let Some(Decision { version, reason }) = answer.decision
            && let Ok(value) = HeaderValue::try_from(format!("{version}; reason={}", reason.as_str()))
        {
            response.headers_mut().insert(VERSION_HEADER, value);
        }
        response
    }

    /// The request as the guest will see it: with an absolute address, and without the dashboard's session or an override that its
    /// sender may not send.
    fn prepare(&self, request: Request<Incoming>, authority: Authority, peer: SocketAddr) -> Request<Body> {
        let (mut head, body) = request.into_parts();
        let path = std::mem::take(&mut head.uri).into_parts().path_and_query;
        let mut uri = http::uri::Parts::default();
        uri.scheme = Some(http::uri::Scheme::HTTP);
        uri.authority = Some(authority);
        uri.path_and_query = Some(path.unwrap_or_else(|| http::uri::PathAndQuery::from_static("/")));
        head.uri = http::Uri::from_parts(uri).unwrap_or_default();
        cookies::without_session(&mut head.headers);
        let vouched = head.headers.remove(OVERRIDE_TOKEN_HEADER);
        let trusted = match self.overrides {
            Overrides::Any => true,
            Overrides::Loopback => peer.ip().to_canonical().is_loopback(),
            Overrides::Token => vouched.is_some_and(|token| same(token.as_bytes(), self.override_token.as_bytes())),
            Overrides::Off => false,
        };
        if !trusted {
            // It must not come back by a service binding either.
            head.headers.remove(OVERRIDES_HEADER);
        }
        let body = if body.is_end_stream() {
            // It takes no place, so that boxing it allocates nothing.
            Empty::new().map_err(|never| match never {}).boxed_unsync()
        } else {
            Idle::new(body.map_err(Error::from), BODY_IDLE_MAX, || Error::ConnectionReadTimeout).boxed_unsync()
        };
        Request::from_parts(head, body)
    }

    fn unrouted(&self, view: &View, host: &str) -> Response<Outgoing> {
        const SHOWN_MAX: usize = 20;
        self.observer.metrics.unrouted.fetch_add(1, Ordering::Relaxed);
        let named = view
            .workers()
            .filter(|worker| worker.triggers.workers_dev)
            .map(|worker| format!("{}.localhost", worker.name));
        let routes =
            view.workers().flat_map(|worker| worker.triggers.routes.iter().map(|route| route.pattern.to_string()));
        let domains = view.workers().flat_map(|worker| worker.triggers.domains.iter().map(ToString::to_string));
        let hosts: Vec<String> = named.chain(routes).chain(domains).take(SHOWN_MAX).collect();
        ours(respond::no_worker(host, &hosts))
    }
}

impl Client {
    /// The client at `peer`.
    #[must_use]
    pub fn new(peer: SocketAddr) -> Self {
        Self { peer, host: Mutex::default() }
    }

    /// The authority that a request is for: of its target, else its `Host`. Two `Host` headers name none: what stands before this
    /// node may have looked at the other one (RFC 9112, 3.2).
    fn authority(&self, request: &Request<Incoming>) -> Option<Authority> {
        let mut hosts = request.headers().get_all(header::HOST).iter();
        let host = hosts.next();
        if hosts.next().is_some() {
            return None;
        }
        if let Some(authority) = request.uri().authority() {
            return Some(authority.clone());
        }
        let host = host?.as_bytes();
        let mut last = self.host.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = last.as_ref().filter(|last| last.as_str().as_bytes() == host) {
            return Some(last.clone());
        }
        let authority = Authority::from_maybe_shared(Bytes::copy_from_slice(host)).ok()?;
        *last = Some(authority.clone());
        Some(authority)
    }
}

/// Compares in a time that does not depend on where the two differ.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

fn ours(response: Response<Bytes>) -> Response<Outgoing> {
    response.map(|text| Outgoing::Ours(Full::new(text)))
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match self.get_mut() {
            Self::Worker { broken, .. } if broken.is_some() => Poll::Ready(broken.take().map(Err)),
            Self::Worker { body, broken } => match Pin::new(body).poll_frame(cx) {
                Poll::Ready(Some(Err(error))) => {
                    *broken = Some(error);
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
                frame => frame,
            },
            Self::Ours(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Worker { body, broken } => broken.is_none() && body.is_end_stream(),
            Self::Ours(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Worker { body, .. } => body.size_hint(),
            Self::Ours(body) => body.size_hint(),
        }
    }
}
