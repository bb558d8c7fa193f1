//! Calls of the control API from a page: in process, with the token, as the command line makes them. So nothing is decided twice, and
//! a form can do what a script can.

use std::fmt;

use axum::body::{Body, Bytes};
use axum::response::Response;
use http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tower_service::Service as _;

use crate::control::Fault;
use crate::control::wire::{ACCOUNT, ApiError, Envelope};
use crate::dashboard::Dashboard;

/// What the record of a version or a deployment says it came from: `dash`.
const TOOL: &str = concat!("sluice-dashboard/", env!("CARGO_PKG_VERSION"));

/// A call that the API refused.
#[derive(Debug, Clone)]
pub struct Refused {
    pub status: StatusCode,
    pub errors: Vec<ApiError>,
}

impl Dashboard {
    /// Calls `method …/workers{path}` with a JSON body, if there is one, and opens the envelope. `path` begins with `/` and is
    /// encoded where a name could hold what an address cannot.
    ///
    /// # Errors
    /// What the API said.
    pub async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<Option<T>, Refused> {
        self.call_if(method, path, None, body).await
    }

    /// The same, refused by the API with 412 if `active` is given and is not the id of the active deployment any more.
    ///
    /// # Errors
    /// What the API said.
    pub async fn call_if<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        active: Option<&str>,
        body: Option<&impl Serialize>,
    ) -> Result<Option<T>, Refused> {
        let body = body.map(serde_json::to_vec).transpose().map_err(|error| Refused::ours(&error))?;
        let mut request = self.request(method, path, "application/json");
        if let Some(active) = active {
            request = request.header(header::IF_MATCH, active);
        }
        let request = request.body(Body::from(body.unwrap_or_default())).map_err(|error| Refused::ours(&error))?;
        self.send(request).await
    }

    /// The same with these headers and a body as it is: a form with a module, which is not held in memory.
    ///
    /// # Errors
    /// What the API said.
    pub async fn call_with<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        headers: &[(&'static str, &str)],
        content_type: &str,
        body: Body,
    ) -> Result<Option<T>, Refused> {
        let request = self.request(method, path, content_type);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        self.send(request.body(body).map_err(|error| Refused::ours(&error))?).await
    }

    fn request(&self, method: Method, path: &str, content_type: &str) -> http::request::Builder {
        Request::builder()
            .method(method)
            .uri(format!("/client/v4/accounts/{ACCOUNT}/workers{path}"))
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
            .header(header::USER_AGENT, TOOL)
            .header(header::CONTENT_TYPE, content_type)
    }

    async fn send<T: DeserializeOwned>(&self, request: Request<Body>) -> Result<Option<T>, Refused> {
        let response = self.api_answer(request).await;
        let status = response.status();
        let bytes: Bytes = response.into_body().collect().await.map_err(|error| Refused::ours(&error))?.to_bytes();
        let envelope: Envelope<Value> = serde_json::from_slice(&bytes).map_err(|error| Refused::ours(&error))?;
        if !envelope.success {
            return Err(Refused { status, errors: envelope.errors });
        }
        let result = envelope.result.filter(|value| !value.is_null()).map(serde_json::from_value).transpose();
        result.map_err(|error| Refused::ours(&error))
    }
}

impl Dashboard {
    /// What the API answers to a request that has passed the door.
    pub(super) async fn api_answer(&self, request: Request<Body>) -> Response {
        match self.operations.clone().call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

impl Refused {
    /// What was wrong with a form before anybody was asked.
    #[must_use]
    pub fn by_us(sentence: &str) -> Self {
        let error = ApiError { code: 0, message: sentence.to_owned(), documentation_url: None, source: None };
        Self { status: StatusCode::BAD_REQUEST, errors: vec![error] }
    }

    /// Whether the API refused it for this reason (`control/codes.md`).
    #[must_use]
    pub fn is_for(&self, code: u32) -> bool {
        self.errors.iter().any(|error| error.code == code)
    }

    /// A bug of ours: the caller can do nothing about it.
    fn ours(error: &dyn std::error::Error) -> Self {
        tracing::error!(%error, "the dashboard cannot use the control API");
        let message = "the dashboard could not use the control API; the log of the node says why".to_owned();
        let error = ApiError { code: 10013, message, documentation_url: None, source: None };
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, errors: vec![error] }
    }
}

impl From<Fault> for Refused {
    /// What is asked of the API in process, without a request, is refused in the same words.
    fn from(fault: Fault) -> Self {
        Self { status: fault.status(), errors: fault.told() }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let messages: Vec<&str> = self.errors.iter().map(|error| error.message.as_str()).collect();
        f.write_str(&messages.join("; "))
    }
}

impl std::error::Error for Refused {}
