//! Requests that a guest sends: to other workers by address, and to the network by policy.
//!
//! `http://<binding>.internal/…` goes to the service, the KV namespace or the objects bound by that name; anything else to the
//! network, if the node's policy lets it.

mod network;
mod policy;

use std::future::ready;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use wasmtime_wasi_http::p3::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::{Error, RequestOptions, WasiHttpHooks};

use crate::domain::id::{NamespaceId, WorkerName};
use crate::domain::object::{ObjectId, ObjectNamespaceId};
use crate::host::Body;
use crate::host::call::Call;
use crate::host::environment::Environment;
use crate::host::logs::Current;
use crate::host::object::{self, Address, Object};
use crate::host::ports::{CallError, ObjectTarget};
use crate::observe::otlp::Sending;

pub use network::Outbound;
pub use policy::{Policy, PolicyError};

/// The host names of bindings end so; the top-level domain is reserved for private use.
const INTERNAL_SUFFIX: &str = ".internal";

/// Where a request goes.
pub enum Target {
    Worker(WorkerName),
    Namespace(NamespaceId),
    Object { namespace: ObjectNamespaceId, id: ObjectId, name: Option<Arc<str>> },
    Network,
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
    mut request: http::Request<Body>,
    options: Option<RequestOptions>,
    account: &Call,
) -> BoxFuture<'static, Result<http::Response<Body>, Error>> {
    match target {
        Target::Worker(worker) => {
            let child = account.lineage.child(&mut request);
            let Some(lineage) = child else { return ready(Err(Error::LoopDetected)).boxed() };
            let call = environment.callers.call(&worker, request, lineage);
            call.map(|result| {
                result.map_err(|error| match error {
                    CallError::WorkerUnknown(_) | CallError::NotDeployed(_) => Error::DestinationNotFound,
                })
            })
            .boxed()
        }
        Target::Object { namespace, id, name } => {
            let child = account.lineage.child(&mut request);
            let Some(lineage) = child else { return ready(Err(Error::LoopDetected)).boxed() };
            let address = Address { namespace, id, fork: lineage.fork };
            let sending = environment.callers.send(ObjectTarget { address, name }, request, lineage);
            async move { Ok(sending.await.await.unwrap_or_else(|error| object::address::failed(&error))) }.boxed()
        }
        Target::Namespace(namespace) => environment.namespaces.answer(namespace, request).map(Ok).boxed(),
        Target::Network => {
            let span = account.lineage.trace.as_ref().and_then(|trace| trace.send(&mut request));
            let sending = environment.outbound.send(request, options.unwrap_or_default());
            match span {
                Some(span) => traced(span, sending).boxed(),
                None => sending,
            }
        }
    }
}

/// The same, with a span that ends when the answer begins.
async fn traced(
    span: Sending,
    sending: impl Future<Output = Result<http::Response<Body>, Error>>,
) -> Result<http::Response<Body>, Error> {
    let result = sending.await;
    span.end(result.as_ref().map(|response| response.status().as_u16()).map_err(error_word));
    result
}

/// An error of the network in a word, as `wasi:http` calls it.
fn error_word(error: &Error) -> &'static str {
    match error {
        Error::DnsError { .. } => "DNS-error",
        Error::DestinationIpProhibited => "destination-IP-prohibited",
        Error::DestinationUnavailable => "destination-unavailable",
        Error::ConnectionRefused => "connection-refused",
        Error::ConnectionTimeout => "connection-timeout",
        Error::ConnectionReadTimeout => "connection-read-timeout",
        Error::ConnectionTerminated => "connection-terminated",
        Error::TlsProtocolError => "TLS-protocol-error",
        Error::HttpRequestUriInvalid => "HTTP-request-URI-invalid",
        Error::HttpProtocolError => "HTTP-protocol-error",
        _ => "_OTHER",
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
    /// The object that the instance is, if it is one.
    object: Option<Arc<Object>>,
}

impl Hooks {
    /// The hooks of an instance of the version that `environment` binds.
    #[must_use]
    pub fn new(environment: Arc<Environment>, current: Arc<Current>) -> Self {
        Self { environment, current, object: None }
    }

    /// What the instance sends is an object's from now on.
    pub fn of_object(&mut self, object: Arc<Object>) {
        self.object = Some(object);
    }

    fn target(&self, request: &http::Request<Body>) -> Result<Target, Error> {
        let host = request.uri().host().unwrap_or_default();
        let Some(binding) = strip_suffix_ignore_case(host, INTERNAL_SUFFIX) else { return Ok(Target::Network) };
        match self.environment.service(binding) {
            Some(worker) => Ok(Target::Worker(worker.clone())),
            None => match (self.environment.namespaces.get(binding), self.environment.object(binding)) {
                (Some(namespace), _) => Ok(Target::Namespace(namespace)),
                (None, Some(bound)) => object::address::target(&*self.environment.callers, bound, request.headers()),
                (None, None) => Err(Error::DestinationNotFound),
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
        let request = match &self.object {
            Some(object) => request.map(|body| object.outgoing(body)),
            None => request,
        };
        let sent = self.target(&request).and_then(|target| {
            let account = charge(&self.current)?;
            Ok(send(&self.environment, target, request, options, &account))
        });
        let object = self.object.clone();
        Box::new(async move {
            let sent = sent?;
            let response = match &object {
                Some(object) => gated(object, sent).await?,
                None => sent.await?,
            };
            let io: Box<dyn Future<Output = Result<(), Error>> + Send> = Box::new(ready(Ok(())));
            Ok((response, io))
        })
    }

    fn default_scheme(&mut self) -> Option<http::uri::Scheme> {
        Some(http::uri::Scheme::HTTP)
    }
}

/// Through the gates of `object`: sent when what it wrote is durable, and answered in a turn of its own.
pub(super) async fn gated<E: From<Error>>(
    object: &Arc<Object>,
    sent: impl Future<Output = Result<http::Response<Body>, E>>,
) -> Result<http::Response<Body>, E> {
    if !object.storage.confirmed().await {
        return Err(Error::ConnectionTerminated.into());
    }
    let response = sent.await;
    object.gate.ticket().await;
    response.map(|response| response.map(|body| object.incoming(body)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_bindings_are_matched_without_case() {
        assert_eq!(strip_suffix_ignore_case("api.INTERNAL", INTERNAL_SUFFIX), Some("api"));
        assert_eq!(strip_suffix_ignore_case("internal", INTERNAL_SUFFIX), None);
        assert_eq!(strip_suffix_ignore_case("é", INTERNAL_SUFFIX), None);
    }
}
