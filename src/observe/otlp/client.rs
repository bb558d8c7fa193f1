//! The way to a collector: HTTP, with TLS where the address says so. It remembers whether the collector took what it was sent last,
//! so that one that is down is told of once. What is sent, and when it is tried again, is not decided here.

use std::fmt::{self, Debug};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message as _;
use tokio::runtime::Handle;

use crate::domain::limits::{OTLP_ANSWER_BYTES_MAX, OTLP_FLUSH_IN_VAIN_MAX, OTLP_FLUSH_MAX};
use crate::observe::otlp::environment::Destination;

/// A collector, for one kind of signal.
pub(super) struct Client {
    /// `traces` or `metrics`.
    signal: &'static str,
    pub(super) to: Destination,
    http: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    /// Where connections live: spans are sent from a thread of their own.
    runtime: Handle,
    /// What went wrong the last time.
    failure: Mutex<String>,
    is_failing: AtomicBool,
}

impl Client {
    /// A client whose connections live on the runtime that this is called on.
    pub(super) fn new(signal: &'static str, to: Destination) -> Arc<Self> {
        let connector = HttpsConnectorBuilder::new().with_webpki_roots().https_or_http().enable_http1().build();
        Arc::new(Self {
            signal,
            to,
            http: legacy::Client::builder(TokioExecutor::new()).build(connector),
            runtime: Handle::current(),
            failure: Mutex::default(),
            is_failing: AtomicBool::new(false),
        })
    }

    /// Sends a request, with the headers that the operator wants on it; what goes wrong is remembered.
    pub(super) async fn send(&self, mut request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        for (name, value) in &self.to.headers {
            request.headers_mut().insert(name, value.clone());
        }
        let sending = self.http.request(request.map(Full::new));
        let answer = async move {
            let (head, body) = sending.await?.into_parts();
            let body = Limited::new(body, OTLP_ANSWER_BYTES_MAX).collect().await?.to_bytes();
            Ok::<_, HttpError>(Response::from_parts(head, body))
        };
        let timed = tokio::time::timeout(self.to.timeout, answer);
        let result = match timed.await {
            Ok(result) => result,
            Err(_) => Err(format!("no answer within {} ms", self.to.timeout.as_millis()).into()),
        };
        match &result {
            Ok(answer) if answer.status().is_success() => self.hear(answer.body()),
            Ok(answer) => self.remember(format!("it answers {}", answer.status())),
            Err(error) => self.remember(chain(&**error)),
        }
        result
    }

    /// A collector may take a part only, and say so. The answers for metrics have the same form.
    fn hear(&self, body: &[u8]) {
        let partial = ExportTraceServiceResponse::decode(body).ok().and_then(|answer| answer.partial_success);
        if let Some(partial) = partial.filter(|partial| partial.rejected_spans > 0) {
            let (signal, rejected) = (self.signal, partial.rejected_spans);
            tracing::warn!(signal, rejected, why = partial.error_message, "the collector does not take all");
        }
    }

    fn remember(&self, failure: String) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
    }

    /// Notes whether what was sent, however often, was taken in the end.
    pub(super) fn settle(&self, end: End) {
        let (signal, endpoint) = (self.signal, self.to.shown());
        match end {
            End::Taken if self.is_failing.swap(false, Ordering::Relaxed) => {
                tracing::info!(signal, endpoint, "the collector takes them again");
            }
            End::Lost if !self.is_failing.swap(true, Ordering::Relaxed) => {
                let error = self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone();
                tracing::warn!(
                    signal,
                    endpoint,
                    error,
                    "the collector does not take them; nothing more is said until it does"
                );
            }
            End::Taken | End::Lost => {}
        }
    }

    /// Whether it took nothing the last time.
    pub(super) fn is_failing(&self) -> bool {
        self.is_failing.load(Ordering::Relaxed)
    }

    /// How long it may take to send what is left at the end.
    pub(super) fn flush_max(&self) -> std::time::Duration {
        if self.is_failing() { OTLP_FLUSH_IN_VAIN_MAX } else { OTLP_FLUSH_MAX }
    }
}

/// How sending ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Taken,
    Lost,
}

/// An error with its causes: the outermost says no more than that connecting failed.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// What the library's exporter sends by. Its thread belongs to no runtime.
#[derive(Debug, Clone)]
pub(super) struct FromAnyThread(pub(super) Arc<Client>);

#[async_trait]
impl HttpClient for FromAnyThread {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = Arc::clone(&self.0);
        self.0.runtime.spawn(async move { client.send(request).await }).await?
    }
}

impl Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("signal", &self.signal).field("to", &self.to.shown()).finish_non_exhaustive()
    }
}
