//! Makes an upload so, by the control API: a version, or a version and a deployment of it, as `sluice versions upload` and `sluice deploy`
//! do. Who was faster is not overwritten: the API is told what was seen.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use futures_util::{StreamExt as _, TryStreamExt as _};
use http::{Method, header};
use maud::{Markup, html};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::io::AsyncReadExt as _;

use crate::control::IF_LATEST;
use crate::control::wire::{self, Annotations, DeploymentRequest, DomainRecords, Route, Share, Subdomain};
use crate::dashboard::call::Refused;
use crate::dashboard::guard::Fields;
use crate::dashboard::layout::WorkerTab;
use crate::dashboard::session::Session;
use crate::dashboard::upload::plan::{Plan, Program, plan};
use crate::dashboard::upload::preview::{self, Seen};
use crate::dashboard::worker::{deploy, plan as plans, variables};
use crate::dashboard::{Dashboard, parts};
use crate::domain::id::WorkerName;
use crate::project::triggers::Triggers;

/// Bytes of the module that are read at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// What an upload came to.
struct Made {
    version: wire::Version,
    /// None if it was only uploaded, or if the deployment was refused.
    deployment: Option<wire::Deployment>,
    /// What went wrong after the version was there.
    afterwards: Vec<(&'static str, Refused)>,
}

/// `POST /uploads/:key`.
pub(in crate::dashboard) async fn act(
    State(dashboard): State<Arc<Dashboard>>,
    session: Session,
    Path(key): Path<String>,
    fields: Fields,
) -> Response {
    let Some(dropped) = dashboard.uploads.get(&session, &key) else { return preview::gone() };
    let env = Some(fields.get("env"));
    let Ok(plan) = plan(&dashboard, &dropped, env) else {
        return preview::show(&dashboard, &session, &key, &dropped, env, &html! {}).await;
    };
    let (latest, active) = (fields.get("latest").to_owned(), fields.get("active").to_owned());
    let seen = Seen { latest, active };
    let made = if Seen::of(plan.present.as_deref()) == seen {
        match fields.get("do") {
            "deploy" => deployed(&dashboard, &plan, &seen, &fields).await,
            _ => uploaded(&dashboard, &plan, &seen, &fields).await,
        }
    } else {
        Err(None)
    };
    match made {
        Ok(made) => {
            dashboard.uploads.remove(&session, &key);
            answer(&dashboard, &session, &plan.worker, &made)
        }
        Err(refused) => {
            let said = match refused.filter(|refused| !plans::is_outdated(refused)) {
                Some(refused) => plans::refusal("No version was made.", &refused),
                None => meanwhile(&dashboard, &plan.worker),
            };
            preview::show(&dashboard, &session, &key, &dropped, env, &said).await
        }
    }
}

/// A version without traffic. The error is none if it is known already that someone was faster.
async fn uploaded(dashboard: &Dashboard, plan: &Plan, seen: &Seen, fields: &Fields) -> Result<Made, Option<Refused>> {
    let metadata = plan.for_version(fields.get("tag"), fields.get("message"));
    let path = format!("/scripts/{}/versions", plan.worker);
    let latest = [(IF_LATEST, or_none(&seen.latest))];
    let version = send(dashboard, Method::POST, &path, &latest, &metadata, &plan.program).await?;
    Ok(Made { version, deployment: None, afterwards: Vec::new() })
}

/// A version and its deployment: in one call where the worker is new or migrates, as the command line does it.
async fn deployed(dashboard: &Dashboard, plan: &Plan, seen: &Seen, fields: &Fields) -> Result<Made, Option<Refused>> {
    let mut made = if plan.must_deploy().is_some() {
        let metadata = plan.for_deploy(fields.get("tag"), fields.get("message"));
        let mut headers = vec![(IF_LATEST, or_none(&seen.latest))];
        if !seen.active.is_empty() {
            headers.push((header::IF_MATCH.as_str(), &seen.active));
        }
        let path = format!("/scripts/{}", plan.worker);
        let put: wire::Uploaded = send(dashboard, Method::PUT, &path, &headers, &metadata, &plan.program).await?;
        let facts = put.sluice.ok_or_else(|| Refused::by_us("the node said nothing of the version"))?;
        Made { version: facts.version, deployment: facts.deployment, afterwards: Vec::new() }
    } else {
        let mut made = uploaded(dashboard, plan, seen, fields).await?;
        match give_traffic(dashboard, plan, seen, &made.version, fields.get("message")).await {
            Ok(deployment) => made.deployment = Some(deployment),
            Err(refused) => made.afterwards.push(("It was not deployed", refused)),
        }
        made
    };
    if let Some(config) = plan.config.as_ref().filter(|_| made.deployment.is_some()) {
        made.afterwards.extend(lead(dashboard, &plan.worker, &config.triggers).await);
    }
    Ok(made)
}

async fn give_traffic(
    dashboard: &Dashboard,
    plan: &Plan,
    seen: &Seen,
    version: &wire::Version,
    message: &str,
) -> Result<wire::Deployment, Refused> {
    let request = DeploymentRequest {
        strategy: "percentage".to_owned(),
        versions: vec![Share { version_id: version.id.clone(), percentage: 100.0 }],
        annotations: Annotations {
            message: Some(message.to_owned()).filter(|message| !message.is_empty()),
            ..Annotations::default()
        },
        code_update_strategy: plan.code_update().map(Into::into),
    };
    let path = format!("/scripts/{}/deployments", plan.worker);
    let active = Some(seen.active.as_str()).filter(|active| !active.is_empty());
    let deployment = dashboard.call_if(Method::POST, &path, active, Some(&request)).await?;
    deployment.ok_or_else(|| Refused::by_us("the node said nothing of the deployment"))
}

/// Routes, domains and switches as the file has them. All are tried; the version is live whatever becomes of them.
async fn lead(dashboard: &Dashboard, worker: &WorkerName, triggers: &Triggers) -> Vec<(&'static str, Refused)> {
    async fn put(dashboard: &Dashboard, method: Method, path: String, body: &impl Serialize) -> Result<(), Refused> {
        dashboard.call::<Value>(method, &path, Some(body)).await.map(drop)
    }
    let mut tried = Vec::new();
    let path = |what: &str| format!("/scripts/{worker}/{what}");
    if let Some(routes) = &triggers.routes {
        let patterns: Vec<Route> = routes.patterns.iter().map(Route::from).collect();
        tried.push(("Its routes were not set", put(dashboard, Method::PUT, path("routes"), &patterns).await));
        let records = DomainRecords::from(routes);
        tried.push(("Its domains were not set", put(dashboard, Method::PUT, path("domains/records"), &records).await));
    }
    let switches = Subdomain::from(triggers);
    tried.push(("Its own hosts were not set", put(dashboard, Method::POST, path("subdomain"), &switches).await));
    tried.into_iter().filter_map(|(what, outcome)| Some((what, outcome.err()?))).collect()
}

/// An upload's form, with the module as its file gives it.
async fn send<T: DeserializeOwned>(
    dashboard: &Dashboard,
    method: Method,
    path: &str,
    headers: &[(&'static str, &str)],
    metadata: &Value,
    program: &Program,
) -> Result<T, Refused> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|_| Refused::by_us("The node has no randomness."))?;
    let module = tokio::fs::File::open(&program.path).await.map_err(|error| {
        tracing::error!(%error, module = %program.digest, "cannot read a module");
        Refused::by_us("The module cannot be read; the log of the node says why.")
    })?;
    // Random, so that no file contains it.
    let boundary = format!("sluice-{}", hex::encode(random));
    let (before, after) = variables::around_module(metadata, &boundary);
    let whole = |text: String| futures_util::stream::once(async move { Ok::<_, std::io::Error>(Bytes::from(text)) });
    let chunks = futures_util::stream::try_unfold(module, |mut module| async move {
        let mut chunk = vec![0; CHUNK_BYTES];
        let count = module.read(&mut chunk).await?;
        chunk.truncate(count);
        Ok((count > 0).then(|| (Bytes::from(chunk), module)))
    });
    let body = Body::from_stream(whole(before).chain(chunks.into_stream()).chain(whole(after)).boxed());
    let kind = format!("multipart/form-data; boundary={boundary}");
    let made = dashboard.call_with(method, path, headers, &kind, body).await?;
    made.ok_or_else(|| Refused::by_us("the node said nothing of the version"))
}

fn or_none(id: &str) -> &str {
    if id.is_empty() { "none" } else { id }
}

/// Who was faster, and with what.
fn meanwhile(dashboard: &Dashboard, worker: &WorkerName) -> Markup {
    let view = dashboard.api.catalog.view();
    let now_ms = dashboard.clock.now_ms();
    let Some(present) = view.worker(worker) else {
        return html! { div.problem role="alert" { p { strong { "The worker was deleted meanwhile. Nothing was uploaded." } } } };
    };
    let active = present.active.as_ref();
    html! {
        div.problem role="alert" {
            p { strong { "Someone changed this worker meanwhile. Nothing was overwritten." } }
            @if let Some(latest) = present.latest() {
                p {
                    "The latest version is #" (latest.number) " by " (latest.provenance.author) " via " (latest.provenance.source.as_str())
                    " · " (parts::ago(latest.created_ms, now_ms)) " · " (parts::id(&latest.id.to_string()))
                }
                @if let Some(message) = &latest.annotations.message { p.message { (message) } }
            }
            @if let Some(active) = active {
                p {
                    "The active deployment is by " (active.provenance.author) " via " (active.provenance.source.as_str())
                    " · " (parts::ago(active.created_ms, now_ms)) " · " (parts::id(&active.id.to_string()))
                }
                @if let Some(message) = &active.message { p.message { (message) } }
            }
            p { "Below is what your upload would do now. Confirm it once more, or leave it." }
        }
    }
}

/// To where the new version is seen, or what is left to be done.
fn answer(dashboard: &Dashboard, session: &Session, worker: &WorkerName, made: &Made) -> Response {
    let place = format!("/workers/{worker}/versions/{}", made.version.id);
    if made.afterwards.is_empty() {
        let view = dashboard.api.catalog.view();
        return match (&made.deployment, view.worker(worker)) {
            (Some(deployment), Some(present)) => deploy::deployed(present, deployment),
            _ => Redirect::to(&place).into_response(),
        };
    }
    let view = dashboard.api.catalog.view();
    let present = view.worker(worker);
    let body = html! {
        p {
            "Version " a href=(place) { "#" (made.version.number) } " was made"
            @if made.deployment.is_some() { " and deployed" } "."
        }
        @for (what, refused) in &made.afterwards { (plans::refusal(format!("{what}."), refused)) }
        @if let Some(present) = present {
            p.buttons {
                @if made.deployment.is_none() {
                    a.button href=(deploy::path(present, made.version.id.parse().ok())) { "Deploy…" }
                }
                a href=(WorkerTab::Overview.path(present)) { (worker) }
            }
        }
    };
    preview::respond(dashboard, session, Some(worker), body)
}
