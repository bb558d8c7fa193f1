//! The client of the control API: one method for each operation that a command needs, typed by [`crate::control::wire`]. It opens the
//! envelope; a refusal keeps its codes and messages as [`Refused`], so that commands can tell them apart.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use reqwest::header::CONTENT_TYPE;
use reqwest::multipart::{Form, Part};
use reqwest::{Method, RequestBuilder, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::fault::failed;
use super::refused::{Refused, is_missing_worker};
use super::settings::{Target, is_loopback};
use super::upload::Upload;
use crate::control::wire::{
    ACCOUNT, Deployment, DeploymentRequest, Deployments, DomainRecords, Envelope, ExplainRequest, Explanation,
    ResultInfo, Rollout, RolloutRequest, Route, SecretItem, SecretPut, SecretsBulk, Service, SignInCode, Subdomain,
    Tail, TailRequest, Uploaded, Version, VersionPatch, Versions, WorkerHosts,
};

/// How long a node may take to accept a connection. It may take as long as it likes to answer: it compiles.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Versions or deployments asked for at once.
const PAGE: u64 = 100;

/// Which versions to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listing {
    /// Those that can be put in a deployment (`VER-9`).
    Deployable,
    All,
}

/// What a deployment is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    Deploy,
    /// Although secrets have changed since (10220).
    Force,
    /// Check only; nothing is deployed.
    DryRun,
    /// Check only, although secrets have changed since.
    ForcedDryRun,
}

impl Intent {
    /// The same without force.
    pub fn unforced(self) -> Self {
        if self.is_dry() { Self::DryRun } else { Self::Deploy }
    }

    pub fn is_dry(self) -> bool {
        matches!(self, Self::DryRun | Self::ForcedDryRun)
    }

    pub fn is_forced(self) -> bool {
        matches!(self, Self::Force | Self::ForcedDryRun)
    }
}

/// One node's API.
#[derive(Clone, Debug)]
pub struct Api {
    http: reqwest::Client,
    target: Target,
}

impl Api {
    pub fn new(target: Target) -> anyhow::Result<Self> {
        let mut http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(concat!("sluice/", env!("CARGO_PKG_VERSION")));
        if is_loopback(&target.origin) {
            http = http.no_proxy();
        }
        Ok(Self { http: http.build().context("cannot set up an HTTP client")?, target })
    }

    // --- Versions ---

    /// Uploads and deploys at 100 % in one call, or makes the worker's record: the only way for a worker that is not there.
    pub async fn put_script(&self, worker: &str, upload: &Upload) -> anyhow::Result<Uploaded> {
        let mut url = self.url(&["workers", "scripts", worker]);
        url.query_pairs_mut().append_pair("excludeScript", "true").append_pair("bindings_inherit", "strict");
        self.send(Method::PUT, url, |request| Ok(request.multipart(upload.form()?))).await
    }

    pub async fn upload_version(&self, worker: &str, upload: &Upload) -> anyhow::Result<Version> {
        let mut url = self.url(&["workers", "scripts", worker, "versions"]);
        url.query_pairs_mut().append_pair("bindings_inherit", "strict");
        self.send(Method::POST, url, |request| Ok(request.multipart(upload.form()?))).await
    }

    pub async fn version(&self, worker: &str, id: &str) -> anyhow::Result<Version> {
        self.get(&["workers", "scripts", worker, "versions", id]).await
    }

    /// The module of a version, as it was uploaded.
    pub async fn content(&self, worker: &str, id: &str) -> anyhow::Result<Vec<u8>> {
        let mut url = self.url(&["workers", "scripts", worker, "content", "v2"]);
        url.query_pairs_mut().append_pair("version", id);
        let (kind, form) = self.body(url).await?;
        let unreadable = || failed("cannot read the module that the node sent");
        let boundary = multer::parse_boundary(kind).with_context(unreadable)?;
        let whole = futures_util::stream::once(async move { Ok::<_, std::io::Error>(form) });
        let mut form = multer::Multipart::new(whole, boundary);
        let part = form.next_field().await.with_context(unreadable)?.ok_or_else(unreadable)?;
        Ok(part.bytes().await.with_context(unreadable)?.into())
    }

    /// Newest first.
    pub async fn versions(&self, worker: &str, listing: Listing) -> anyhow::Result<Vec<Version>> {
        let path = ["workers", "scripts", worker, "versions"];
        let mut versions: Vec<Version> = Vec::new();
        for page in 1.. {
            let mut url = self.url(&path);
            match listing {
                Listing::Deployable => url.query_pairs_mut().append_pair("deployable", "true"),
                Listing::All => url
                    .query_pairs_mut()
                    .append_pair("page", &page.to_string())
                    .append_pair("per_page", &PAGE.to_string()),
            };
            let (found, info) = self.exchange::<Versions>(Method::GET, url, Ok).await?;
            let found = found.unwrap_or_default().items;
            let last = listing == Listing::Deployable || found.is_empty();
            versions.extend(found);
            let total = info.map_or(0, |info| info.total_count);
            if last || versions.len() as u64 >= total {
                break;
            }
        }
        Ok(versions)
    }

    pub async fn delete_version(&self, worker: &str, id: &str) -> anyhow::Result<()> {
        let url = self.url(&["workers", "scripts", worker, "versions", id]);
        self.exchange::<Value>(Method::DELETE, url, Ok).await.map(drop)
    }

    /// A copy of the latest version with other secrets, not deployed. The answer holds the new version's id.
    pub async fn patch_latest(&self, worker: &str, patch: &VersionPatch) -> anyhow::Result<Value> {
        let url = self.url(&["workers", "workers", worker, "versions", "latest"]);
        self.send(Method::PATCH, url, |request| merge_patch(request, patch)).await
    }

    /// Makes a worker's record without a version, by the placeholder that wrangler sends (`WRANGLER_API` 3.10).
    pub async fn put_draft(&self, worker: &str) -> anyhow::Result<()> {
        let url = self.url(&["workers", "scripts", worker]);
        let metadata = serde_json::json!({"main_module": worker, "bindings": [], "logpush": false}).to_string();
        let module = Part::text("export default { fetch() {} }").file_name(worker.to_owned());
        let module = module.mime_str("application/javascript+module")?;
        let form = Form::new().part("metadata", Part::text(metadata)).part(worker.to_owned(), module);
        self.exchange::<Value>(Method::PUT, url, |request| Ok(request.multipart(form))).await.map(drop)
    }

    // --- Deployments ---

    /// Newest first; the first is active.
    pub async fn deployments(&self, worker: &str) -> anyhow::Result<Vec<Deployment>> {
        let mut url = self.url(&["workers", "scripts", worker, "deployments"]);
        url.query_pairs_mut().append_pair("per_page", &PAGE.to_string());
        let all: Deployments = self.send(Method::GET, url, Ok).await?;
        Ok(all.deployments)
    }

    pub async fn deploy(
        &self,
        worker: &str,
        request: &DeploymentRequest,
        intent: Intent,
    ) -> anyhow::Result<Deployment> {
        let mut url = self.url(&["workers", "scripts", worker, "deployments"]);
        for (name, _) in [("force", intent.is_forced()), ("dry_run", intent.is_dry())].iter().filter(|(_, is)| *is) {
            url.query_pairs_mut().append_pair(name, "true");
        }
        self.send(Method::POST, url, |http| Ok(http.json(request))).await
    }

    // --- Rollouts ---

    /// The newest rollout of a worker.
    pub async fn rollout(&self, worker: &str) -> anyhow::Result<Rollout> {
        self.get(&["workers", "scripts", worker, "rollout"]).await
    }

    pub async fn start_rollout(
        &self,
        worker: &str,
        request: &RolloutRequest,
        intent: Intent,
    ) -> anyhow::Result<Rollout> {
        let mut url = self.url(&["workers", "scripts", worker, "rollout"]);
        if intent.is_forced() {
            url.query_pairs_mut().append_pair("force", "true");
        }
        self.send(Method::POST, url, |http| Ok(http.json(request))).await
    }

    /// `what` is `pause`, `resume`, `step` or `abort`.
    pub async fn change_rollout(&self, worker: &str, what: &str) -> anyhow::Result<Rollout> {
        let url = self.url(&["workers", "scripts", worker, "rollout", what]);
        self.send(Method::POST, url, Ok).await
    }

    // --- Secrets ---

    pub async fn secrets(&self, worker: &str) -> anyhow::Result<Vec<SecretItem>> {
        self.get(&["workers", "scripts", worker, "secrets"]).await
    }

    pub async fn put_secret(&self, worker: &str, secret: &SecretPut) -> anyhow::Result<()> {
        let url = self.url(&["workers", "scripts", worker, "secrets"]);
        self.exchange::<Value>(Method::PUT, url, |request| Ok(request.json(secret))).await.map(drop)
    }

    pub async fn delete_secret(&self, worker: &str, key: &str) -> anyhow::Result<()> {
        let mut url = self.url(&["workers", "scripts", worker, "secrets", key]);
        url.query_pairs_mut().append_pair("url_encoded", "true");
        self.exchange::<Value>(Method::DELETE, url, Ok).await.map(drop)
    }

    pub async fn bulk_secrets(&self, worker: &str, bulk: &SecretsBulk) -> anyhow::Result<()> {
        let url = self.url(&["workers", "scripts", worker, "secrets-bulk"]);
        self.exchange::<Value>(Method::PATCH, url, |request| merge_patch(request, bulk)).await.map(drop)
    }

    // --- Workers ---

    /// Whether the worker has a record.
    pub async fn worker_exists(&self, worker: &str) -> anyhow::Result<bool> {
        Ok(self.service(worker).await?.is_some())
    }

    /// The worker's record, if it has one.
    pub async fn service(&self, worker: &str) -> anyhow::Result<Option<Service>> {
        match self.get(&["workers", "services", worker]).await {
            Ok(service) => Ok(Some(service)),
            Err(error) if is_missing_worker(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Names of what refers to a worker: other workers that bind it as a service, or bind its classes.
    pub async fn references(&self, worker: &str) -> anyhow::Result<Vec<String>> {
        let found: Value = self.get(&["workers", "scripts", worker, "references"]).await?;
        let lists =
            ["/services/incoming", "/durable_objects"].map(|list| found.pointer(list).and_then(Value::as_array));
        let name = |item: &Value| item.get("service").or(item.get("script"))?.as_str().map(str::to_owned);
        let names: BTreeSet<String> = lists.into_iter().flatten().flatten().filter_map(name).collect();
        Ok(names.into_iter().collect())
    }

    pub async fn delete_worker(&self, worker: &str, force: Intent) -> anyhow::Result<()> {
        let mut url = self.url(&["workers", "services", worker]);
        let force = if force == Intent::Force { "true" } else { "false" };
        url.query_pairs_mut().append_pair("force", force);
        self.exchange::<Value>(Method::DELETE, url, Ok).await.map(drop)
    }

    pub async fn put_routes(&self, worker: &str, routes: &[Route]) -> anyhow::Result<()> {
        let url = self.url(&["workers", "scripts", worker, "routes"]);
        self.exchange::<Value>(Method::PUT, url, |request| Ok(request.json(routes))).await.map(drop)
    }

    pub async fn put_domains(&self, worker: &str, records: &DomainRecords) -> anyhow::Result<()> {
        let url = self.url(&["workers", "scripts", worker, "domains", "records"]);
        self.exchange::<Value>(Method::PUT, url, |request| Ok(request.json(records))).await.map(drop)
    }

    pub async fn put_subdomain(&self, worker: &str, subdomain: Subdomain) -> anyhow::Result<()> {
        let url = self.url(&["workers", "scripts", worker, "subdomain"]);
        self.exchange::<Value>(Method::POST, url, |request| Ok(request.json(&subdomain))).await.map(drop)
    }

    pub async fn explain(&self, worker: &str, request: &ExplainRequest) -> anyhow::Result<Explanation> {
        let url = self.url(&["workers", "scripts", worker, "explain"]);
        self.send(Method::POST, url, |http| Ok(http.json(request))).await
    }

    // --- Tails ---

    /// A tail: where to read it.
    pub async fn create_tail(&self, worker: &str, request: &TailRequest) -> anyhow::Result<Tail> {
        let url = self.url(&["workers", "scripts", worker, "tails"]);
        self.send(Method::POST, url, |http| Ok(http.json(request))).await
    }

    pub async fn delete_tail(&self, worker: &str, id: &str) -> anyhow::Result<()> {
        let url = self.url(&["workers", "scripts", worker, "tails", id]);
        self.exchange::<Value>(Method::DELETE, url, Ok).await.map(drop)
    }

    /// `<worker>.localhost:<port>`, by what the node itself says where its address is not known.
    pub async fn host(&self, worker: &str) -> String {
        if let Some(data) = self.target.data {
            return format!("{worker}.localhost:{}", data.port());
        }
        let hosts: Option<WorkerHosts> = self.get(&["workers", "workers", worker]).await.ok();
        let suffix = hosts.and_then(|hosts| hosts.subdomain.preview_url_suffix);
        suffix.map_or_else(|| format!("{worker}.localhost"), |suffix| suffix.trim_start_matches('-').to_owned())
    }

    // --- The dashboard ---

    /// The address of the dashboard's page `next`, for a browser that is to be signed in. It works once.
    pub async fn sign_in_url(&self, next: &str) -> anyhow::Result<Url> {
        let mut url = self.target.origin.clone();
        url.set_path("/sign-in/codes");
        let SignInCode { code, .. } = self.send(Method::POST, url.clone(), Ok).await?;
        url.set_path("/sign-in");
        url.query_pairs_mut().append_pair("code", &code);
        if next != "/" {
            url.query_pairs_mut().append_pair("next", next);
        }
        Ok(url)
    }

    // --- The envelope ---

    pub(super) fn url(&self, segments: &[&str]) -> Url {
        let mut url = self.target.origin.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.clear().extend(["client", "v4", "accounts", ACCOUNT]).extend(segments);
        }
        url
    }

    async fn get<T: DeserializeOwned>(&self, segments: &[&str]) -> anyhow::Result<T> {
        self.send(Method::GET, self.url(segments), Ok).await
    }

    /// The result, which must be there.
    pub(super) async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        url: Url,
        fill: impl FnOnce(RequestBuilder) -> anyhow::Result<RequestBuilder>,
    ) -> anyhow::Result<T> {
        let what = format!("{method} {}", url.path());
        let (result, _) = self.exchange(method, url, fill).await?;
        result.ok_or_else(|| failed(format!("the node answered `{what}` without a result")).into())
    }

    /// Sends what `fill` makes and opens the envelope of the answer.
    pub(super) async fn exchange<T: DeserializeOwned>(
        &self,
        method: Method,
        url: Url,
        fill: impl FnOnce(RequestBuilder) -> anyhow::Result<RequestBuilder>,
    ) -> anyhow::Result<(Option<T>, Option<ResultInfo>)> {
        let what = format!("{method} {}", url.path());
        let request = fill(self.http.request(method, url).bearer_auth(&self.target.token))?;
        let answer = request.send().await.map_err(|error| self.unreachable(error))?;
        let status = answer.status().as_u16();
        let body = answer.bytes().await.map_err(|error| self.unreachable(error))?;
        if body.is_empty() && matches!(status, 204 | 205) {
            return Ok((None, None));
        }
        // Read as plain JSON first: the `result` of a refusal fits no type.
        let envelope: Envelope<Value> = serde_json::from_slice(&body).map_err(|_| {
            failed(format!("`{what}` was answered with status {status} and no JSON"))
                .hint(format!("is `{}` the control API of a Sluice node?", self.target.origin))
        })?;
        if !envelope.success {
            return Err(Refused { status, errors: envelope.errors }.into());
        }
        let result = envelope.result.filter(|value| !value.is_null()).map(serde_json::from_value).transpose();
        let result = result.with_context(|| format!("cannot understand the node's answer to `{what}`"))?;
        Ok((result, envelope.result_info))
    }

    /// The body of an answer that has no envelope; a refusal has one.
    pub(super) async fn bytes(&self, url: Url) -> anyhow::Result<Vec<u8>> {
        self.body(url).await.map(|(_, body)| body.into())
    }

    /// The same with its type.
    async fn body(&self, url: Url) -> anyhow::Result<(String, Bytes)> {
        let request = self.http.get(url.clone()).bearer_auth(&self.target.token);
        let answer = request.send().await.map_err(|error| self.unreachable(error))?;
        let status = answer.status();
        let kind =
            answer.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default().to_owned();
        let body = answer.bytes().await.map_err(|error| self.unreachable(error))?;
        if status.is_success() {
            return Ok((kind, body));
        }
        let errors = serde_json::from_slice::<Envelope<Value>>(&body).map(|envelope| envelope.errors);
        Err(Refused { status: status.as_u16(), errors: errors.unwrap_or_default() }.into())
    }

    fn unreachable(&self, error: reqwest::Error) -> anyhow::Error {
        let origin = self.target.origin.as_str().trim_end_matches('/');
        let error = error.without_url();
        let message = if error.is_connect() {
            format!("cannot reach the node at {origin}")
        } else {
            format!("the connection to the node at {origin} broke")
        };
        anyhow::Error::from(error).context(failed(message).hint(self.target.start_hint.clone()))
    }
}

/// A body that wrangler sends with a media type of its own.
fn merge_patch(request: RequestBuilder, body: &impl Serialize) -> anyhow::Result<RequestBuilder> {
    let text = serde_json::to_string(body)?;
    Ok(request.header(CONTENT_TYPE, "application/merge-patch+json").body(text))
}
