//! The way out to the network: resolve, check, connect, check again, send.
//!
//! Addresses are checked after the name is resolved and before a connection is made, so that a name cannot point at what a
//! number may not reach.

use std::future::ready;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http_body_util::BodyExt as _;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tower_service::Service;
use wasmtime_wasi_http::{Error, RequestOptions};

use crate::domain::limits::{BODY_IDLE_MAX, CONNECT_WALL_MAX, OUTGOING_HEAD_WALL_MAX};
use crate::host::Body;
use crate::host::idle::Idle;
use crate::host::outbound::policy::Policy;

/// The way out to the network: one for the node, shared by all guests.
pub struct Outbound {
    gate: Arc<Gate>,
    client: Client<HttpsConnector<Guarded>, Body>,
}

struct Gate {
    policy: Policy,
    /// The control listener, which no guest may reach, whatever the policy says. Known once it is bound.
    control: OnceLock<SocketAddr>,
}

impl Outbound {
    /// The way out under `policy`.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        let gate = Arc::new(Gate { policy, control: OnceLock::new() });
        let mut connector = HttpConnector::new_with_resolver(Resolver(Arc::clone(&gate)));
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_WALL_MAX));
        let guarded = Guarded { connector, gate: Arc::clone(&gate) };
        let connector =
            HttpsConnectorBuilder::new().with_webpki_roots().https_or_http().enable_http1().wrap_connector(guarded);
        Self { gate, client: Client::builder(TokioExecutor::new()).build(connector) }
    }

    /// Closes the control listener's address to all guests.
    pub fn protect(&self, control: SocketAddr) {
        // A second call would come from a second node in one process, which has its own `Outbound`.
        let _ = self.gate.control.set(control);
    }

    /// Whether the request may leave, as far as can be said before its name is resolved.
    fn check(&self, uri: &http::Uri) -> Result<(), Error> {
        let host = uri.host().ok_or(Error::HttpRequestUriInvalid)?;
        let https = uri.scheme() == Some(&http::uri::Scheme::HTTPS);
        let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
        let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        // A number never comes to the resolver; a name is checked there.
        let allowed = literal.map_or(true, |address| self.gate.allows(host, address, Some(port)));
        if allowed { Ok(()) } else { Err(Error::DestinationIpProhibited) }
    }

    /// Sends `request`, if the policy lets it.
    pub(super) fn send(
        &self,
        request: http::Request<Body>,
        options: RequestOptions,
    ) -> BoxFuture<'static, Result<http::Response<Body>, Error>> {
        if let Err(error) = self.check(request.uri()) {
            return ready(Err(error)).boxed();
        }
        let sending = self.client.request(request);
        async move {
            let limit = match (options.connect_timeout, options.first_byte_timeout) {
                (None, None) => OUTGOING_HEAD_WALL_MAX,
                (connect, first_byte) => {
                    let first_byte = first_byte.unwrap_or(OUTGOING_HEAD_WALL_MAX);
                    first_byte.saturating_add(connect.unwrap_or(CONNECT_WALL_MAX))
                }
            };
            let response = tokio::time::timeout(limit, sending)
                .await
                .map_err(|_| Error::ConnectionReadTimeout)?
                .map_err(|error| client_error(&error))?;
            let between = options.between_bytes_timeout.unwrap_or(BODY_IDLE_MAX);
            Ok(response.map(|body| {
                Idle::new(body.map_err(Error::from), between, || Error::ConnectionReadTimeout).boxed_unsync()
            }))
        }
        .boxed()
    }
}

// === impl Gate ===

impl Gate {
    fn allows(&self, host: &str, address: IpAddr, port: Option<u16>) -> bool {
        let address = address.to_canonical();
        !port.is_some_and(|port| self.is_control(address, port)) && self.policy.allows(host, address)
    }

    fn is_control(&self, address: IpAddr, port: u16) -> bool {
        self.control.get().is_some_and(|control| {
            let here = control.ip().is_unspecified() || control.ip().to_canonical() == address;
            port == control.port() && (here || address.is_loopback() || address.is_unspecified())
        })
    }
}

/// Connects, and hangs up before a byte is sent if the other end is the control listener: a name may lead there, and the
/// resolver never learns the port.
#[derive(Clone)]
struct Guarded {
    connector: HttpConnector<Resolver>,
    gate: Arc<Gate>,
}

impl Service<http::Uri> for Guarded {
    type Response = TokioIo<TcpStream>;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.connector.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: http::Uri) -> Self::Future {
        let gate = Arc::clone(&self.gate);
        let connecting = self.connector.call(uri);
        async move {
            let stream = connecting.await?;
            let peer = stream.inner().peer_addr()?;
            if gate.is_control(peer.ip().to_canonical(), peer.port()) {
                return Err(std::io::Error::new(std::io::ErrorKind::PermissionDenied, "the control listener").into());
            }
            Ok(stream)
        }
        .boxed()
    }
}

/// Resolves names, and keeps only the addresses that may be reached.
#[derive(Clone)]
struct Resolver(Arc<Gate>);

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = std::io::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let gate = Arc::clone(&self.0);
        async move {
            // Names under `localhost` are this machine's, whatever its resolver knows (RFC 6761).
            let found: Vec<SocketAddr> = if is_local_name(name.as_str()) {
                vec![(Ipv4Addr::LOCALHOST, 0).into(), (Ipv6Addr::LOCALHOST, 0).into()]
            } else {
                // The kind tells it apart from whatever else goes wrong while connecting.
                let unresolved =
                    |error: std::io::Error| std::io::Error::new(std::io::ErrorKind::NotFound, error.to_string());
                tokio::net::lookup_host((name.as_str(), 0)).await.map_err(unresolved)?.collect()
            };
            let allowed: Vec<SocketAddr> =
                found.into_iter().filter(|address| gate.allows(name.as_str(), address.ip(), None)).collect();
            if allowed.is_empty() {
                return Err(std::io::Error::new(
                    std::io::ErrorKind::PermissionDenied,
                    "no address that may be reached",
                ));
            }
            Ok(allowed.into_iter())
        }
        .boxed()
    }
}

fn is_local_name(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    host == "localhost" || host.ends_with(".localhost")
}

/// What went wrong on the network, in the guest's terms.
fn client_error(error: &hyper_util::client::legacy::Error) -> Error {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            return match innermost(io).kind() {
                std::io::ErrorKind::NotFound => Error::DnsError { rcode: None, info_code: None },
                std::io::ErrorKind::PermissionDenied => Error::DestinationIpProhibited,
                std::io::ErrorKind::ConnectionRefused => Error::ConnectionRefused,
                std::io::ErrorKind::TimedOut => Error::ConnectionTimeout,
                std::io::ErrorKind::InvalidData => Error::TlsProtocolError,
                std::io::ErrorKind::HostUnreachable | std::io::ErrorKind::NetworkUnreachable => {
                    Error::DestinationUnavailable
                }
                _ if error.is_connect() => Error::DestinationUnavailable,
                _ => Error::ConnectionTerminated,
            };
        }
        source = cause.source();
    }
    if error.is_connect() { Error::ConnectionRefused } else { Error::HttpProtocolError }
}

/// The error that others were wrapped around: TLS hands its own on inside of one without a kind.
fn innermost(error: &std::io::Error) -> &std::io::Error {
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(inner) => innermost(inner),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_control_listener_is_never_reachable() {
        let gate = Gate { policy: Policy::any(), control: OnceLock::new() };
        gate.control.set("127.0.0.1:8788".parse().unwrap()).unwrap();
        assert!(!gate.allows("127.0.0.1", "127.0.0.1".parse().unwrap(), Some(8788)));
        assert!(!gate.allows("x", "::ffff:127.0.0.1".parse().unwrap(), Some(8788)));
        assert!(!gate.allows("x", "127.9.9.9".parse().unwrap(), Some(8788)));
        assert!(gate.allows("127.0.0.1", "127.0.0.1".parse().unwrap(), Some(8787)));
    }
}
