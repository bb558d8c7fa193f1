//! Requests that a guest sends: to other workers by address, and to the network by policy.
//!
//! `http://<binding>.internal/…` goes to the service or the KV namespace bound by that name; anything else to the network, if the node's policy
//! lets it. Addresses are checked after the name is resolved and before a connection is made, so that a name cannot point at
//! what a number may not reach.

use std::future::ready;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

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
use wasmtime_wasi_http::p3::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::{Error, RequestOptions, WasiHttpHooks};

use crate::domain::id::{NamespaceId, WorkerName};
use crate::domain::limits::{BODY_IDLE_MAX, RESPONSE_HEAD_WALL_MAX};
use crate::host::Body;
use crate::host::call::Call;
use crate::host::environment::Environment;
use crate::host::idle::Idle;
use crate::host::logs::Current;
use crate::host::ports::CallError;

/// The host names of bindings end so; the top-level domain is reserved for private use.
const INTERNAL_SUFFIX: &str = ".internal";
const CONNECT_WALL_MAX: Duration = Duration::from_secs(10);

/// Which addresses guests may reach (`--outbound`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy(Vec<Rule>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Rule {
    Public,
    Any,
    Host(String),
    Network { address: IpAddr, prefix: u8 },
}

/// A word of `--outbound` that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no outbound rule: expected `public`, `any`, `none`, a host name, an address or a network such as `10.0.0.0/8`, separated by commas"
)]
pub struct PolicyError(String);

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

/// Where a request goes.
pub enum Target {
    Worker(WorkerName),
    Namespace(NamespaceId),
    Network,
}

// === impl Policy ===

impl Policy {
    /// Any public address.
    #[must_use]
    pub fn public() -> Self {
        Self(vec![Rule::Public])
    }

    /// Private and loopback addresses as well.
    #[must_use]
    pub fn any() -> Self {
        Self(vec![Rule::Any])
    }

    fn allows(&self, host: &str, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|rule| match rule {
            Rule::Any => true,
            Rule::Public => is_public(address),
            Rule::Host(name) => name.eq_ignore_ascii_case(host),
            Rule::Network { address: network, prefix } => in_network(address, *network, *prefix),
        })
    }
}

impl FromStr for Policy {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let mut rules = Vec::new();
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            rules.push(match word {
                "none" => continue,
                "public" => Rule::Public,
                "any" => Rule::Any,
                _ => parse_place(word).ok_or_else(|| PolicyError(word.to_owned()))?,
            });
        }
        Ok(Self(rules))
    }
}

fn parse_place(word: &str) -> Option<Rule> {
    if let Some((address, prefix)) = word.split_once('/') {
        let address: IpAddr = address.parse().ok()?;
        let prefix: u8 = prefix.parse().ok()?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        return (prefix <= bits).then_some(Rule::Network { address, prefix });
    }
    if let Ok(address) = word.parse::<IpAddr>() {
        return Some(Rule::Network { address, prefix: if address.is_ipv4() { 32 } else { 128 } });
    }
    let is_name = word.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
    is_name.then(|| Rule::Host(word.to_owned()))
}

fn in_network(address: IpAddr, network: IpAddr, prefix: u8) -> bool {
    let shared_bits = match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        _ => return false,
    };
    shared_bits >= u32::from(prefix)
}

/// Whether an address belongs to the public internet: in none of the special-purpose registries.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let shared = a == 100 && (64..128).contains(&b);
    let protocols = a == 192 && b == 0 && c == 0;
    let benchmarking = a == 198 && (b == 18 || b == 19);
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || address.is_multicast()
        || a == 0
        || a >= 240
        || shared
        || protocols
        || benchmarking)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    // An IPv4 address inside another form is judged as itself.
    let segments = address.segments();
    let embedded = match segments {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
        }
        _ => address.to_ipv4(),
    };
    if let Some(embedded) = embedded {
        return is_public_v4(embedded);
    }
    // Only 2000::/3 is global unicast; 2001:db8::/32 is for documentation.
    segments[0] & 0xe000 == 0x2000 && !(segments[0] == 0x2001 && segments[1] == 0xdb8)
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

// === impl Outbound ===

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
}

/// Takes one subrequest from the account, if it has one left.
///
/// # Errors
/// If the account has none left.
pub fn charge(current: &Current) -> Result<Arc<Call>, Error> {
    current.take_subrequest().map_err(|newest| match newest {
        Some(account) => {
            let limit = account.limits.subrequests;
            Error::InternalError(Some(format!("subrequest limit of {limit} passed (`limits.subrequests`)")))
        }
        // Only a guest that is being proven has no account: it may not send before it serves.
        None => Error::HttpRequestDenied,
    })
}

/// Sends a request to its target, for the guest whose account it was charged to.
pub fn send(
    environment: &Environment,
    target: Target,
    request: http::Request<Body>,
    options: Option<RequestOptions>,
    account: &Call,
) -> BoxFuture<'static, Result<http::Response<Body>, Error>> {
    match target {
        Target::Worker(worker) => {
            let Some(lineage) = account.lineage.child() else { return ready(Err(Error::LoopDetected)).boxed() };
            let call = environment.workers.call(&worker, request, lineage);
            call.map(|result| {
                result.map_err(|error| match error {
                    CallError::WorkerUnknown(_) | CallError::NotDeployed(_) => Error::DestinationNotFound,
                })
            })
            .boxed()
        }
        Target::Namespace(namespace) => environment.namespaces.answer(namespace, request).map(Ok).boxed(),
        Target::Network => {
            if let Err(error) = environment.outbound.check(request.uri()) {
                return ready(Err(error)).boxed();
            }
            let outbound = Arc::clone(&environment.outbound);
            async move {
                let options = options.unwrap_or_default();
                let first_byte = options.first_byte_timeout.unwrap_or(RESPONSE_HEAD_WALL_MAX);
                let connect = options.connect_timeout.unwrap_or(CONNECT_WALL_MAX);
                let limit = first_byte.saturating_add(connect);
                let response = tokio::time::timeout(limit, outbound.client.request(request))
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

/// An error of ours as a 0.3 guest sees it.
#[must_use]
pub fn error_code_03(error: Error) -> ErrorCode {
    match error {
        Error::ConfigurationError => ErrorCode::ConfigurationError,
        Error::LoopDetected => ErrorCode::LoopDetected,
        Error::DestinationNotFound => ErrorCode::DestinationNotFound,
        Error::HttpRequestDenied => ErrorCode::HttpRequestDenied,
        Error::InternalError(text) => ErrorCode::InternalError(text),
        other => ErrorCode::InternalError(Some(format!("{other:?}"))),
    }
}

// === impl Hooks ===

/// What `wasi:http` asks of us for one instance.
pub struct Hooks {
    environment: Arc<Environment>,
    current: Arc<Current>,
}

impl Hooks {
    /// The hooks of an instance of the version that `environment` binds.
    #[must_use]
    pub fn new(environment: Arc<Environment>, current: Arc<Current>) -> Self {
        Self { environment, current }
    }

    fn target(&self, uri: &http::Uri) -> Result<Target, Error> {
        let host = uri.host().unwrap_or_default();
        let Some(binding) = strip_suffix_ignore_case(host, INTERNAL_SUFFIX) else { return Ok(Target::Network) };
        match self.environment.service(binding) {
            Some(worker) => Ok(Target::Worker(worker.clone())),
            None => match self.environment.namespaces.get(binding) {
                Some(namespace) => Ok(Target::Namespace(namespace)),
                None => Err(Error::DestinationNotFound),
            },
        }
    }
}

fn strip_suffix_ignore_case<'a>(text: &'a str, suffix: &str) -> Option<&'a str> {
    let cut = text.len().checked_sub(suffix.len())?;
    let tail = text.get(cut..)?;
    tail.eq_ignore_ascii_case(suffix).then(|| &text[..cut])
}

type SendResult = Result<(http::Response<Body>, Box<dyn Future<Output = Result<(), Error>> + Send>), Error>;

impl WasiHttpHooks for Hooks {
    fn send_request(
        &mut self,
        request: http::Request<Body>,
        options: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = SendResult> + Send> {
        let sent = self.target(request.uri()).and_then(|target| {
            let account = charge(&self.current)?;
            Ok(send(&self.environment, target, request, options, &account))
        });
        Box::new(async move {
            let response = sent?.await?;
            let io: Box<dyn Future<Output = Result<(), Error>> + Send> = Box::new(ready(Ok(())));
            Ok((response, io))
        })
    }

    fn default_scheme(&mut self) -> Option<http::uri::Scheme> {
        Some(http::uri::Scheme::HTTP)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(policy: &str, address: &str) -> bool {
        policy.parse::<Policy>().unwrap().allows("example.test", address.parse().unwrap())
    }

    #[test]
    fn public_means_no_private_loopback_link_local_or_disguised_address() {
        for good in ["1.1.1.1", "93.184.216.34", "2606:4700::1111"] {
            assert!(check("public", good), "{good}");
        }
        let bad = [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.0.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "::ffff:127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "::127.0.0.1",
        ];
        for bad in bad {
            assert!(!check("public", bad), "{bad}");
        }
    }

    #[test]
    fn lists_take_networks_hosts_and_words() {
        assert!(check("any", "127.0.0.1"));
        assert!(!check("none", "1.1.1.1"));
        assert!(check("10.0.0.0/8,public", "10.9.9.9"));
        assert!(!check("10.0.0.0/8", "11.0.0.1"));
        assert!(check("example.test", "127.0.0.1"));
        assert!(check("fd00::/8", "fd12::1"));
        assert!("10.0.0.0/33".parse::<Policy>().is_err());
        assert!("http://x".parse::<Policy>().is_err());
    }

    #[test]
    fn the_control_listener_is_never_reachable() {
        let gate = Gate { policy: Policy::any(), control: OnceLock::new() };
        gate.control.set("127.0.0.1:8788".parse().unwrap()).unwrap();
        assert!(!gate.allows("127.0.0.1", "127.0.0.1".parse().unwrap(), Some(8788)));
        assert!(!gate.allows("x", "::ffff:127.0.0.1".parse().unwrap(), Some(8788)));
        assert!(!gate.allows("x", "127.9.9.9".parse().unwrap(), Some(8788)));
        assert!(gate.allows("127.0.0.1", "127.0.0.1".parse().unwrap(), Some(8787)));
    }

    #[test]
    fn addresses_of_bindings_are_matched_without_case() {
        assert_eq!(strip_suffix_ignore_case("api.INTERNAL", INTERNAL_SUFFIX), Some("api"));
        assert_eq!(strip_suffix_ignore_case("internal", INTERNAL_SUFFIX), None);
        assert_eq!(strip_suffix_ignore_case("é", INTERNAL_SUFFIX), None);
    }
}
