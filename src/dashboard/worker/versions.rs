//! The versions of a worker: who made each, from what, how it starts, and which deployments use it.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::response::Response;
use maud::{Markup, html};

use crate::catalog::WorkerView;
use crate::dashboard::layout::{Page, Place, WorkerTab};
use crate::dashboard::legend::Legend;
use crate::dashboard::session::Session;
use crate::dashboard::worker::{deploy, named};
use crate::dashboard::workers::Paged;
use crate::dashboard::{Dashboard, figures, parts};
use crate::domain::deployment::Deployment;
use crate::domain::id::VersionId;
use crate::domain::split::Share;
use crate::domain::version::Version;

/// Versions on one page: all that can be deployed.
const PER_PAGE: usize = 100;

/// By which deployments a version is used.
#[derive(Debug, Default)]
pub struct Usage {
    /// Its share now, if it is in the active deployment.
    pub live: Option<Share>,
    /// Deployments that we know of, among the newest hundred.
    pub deployments: u64,
    /// When the newest of them was made, in Unix milliseconds.
    pub last_ms: u64,
}

/// `GET /workers/:name/versions`.
pub(in crate::dashboard) async fn page(
    State(dashboard): State<Arc<Dashboard>>,
    session: Session,
    Path(name): Path<String>,
    Query(paged): Query<Paged>,
) -> Response {
    let worker = match named(&dashboard, &name) {
        Ok(worker) => worker,
        Err(response) => return response,
    };
    let (number, total) = (paged.number(), worker.newest_first().len());
    let shown: Vec<_> = worker.newest_first().skip((number - 1).saturating_mul(PER_PAGE)).take(PER_PAGE).collect();
    let body = html! {
        h2 { (figures::count(total as u64)) @if total == 1 { " version" } @else { " versions" } }
        (table(&worker, &Legend::of(&worker), &shown, dashboard.clock.now_ms()))
        (parts::pages(&format!("{}?", WorkerTab::Versions.path(&worker)), number, PER_PAGE, total))
    };
    let place = Place::Worker(&worker, WorkerTab::Versions);
    let title = format!("Versions of {}", worker.name);
    Page { title, place, live: None, body }.respond(&dashboard, &session)
}

/// How the versions of `worker` are used.
#[must_use]
pub fn usage(worker: &WorkerView) -> HashMap<VersionId, Usage> {
    let mut usage: HashMap<VersionId, Usage> = HashMap::new();
    let uses = |deployment: &Arc<Deployment>| {
        let created_ms = deployment.created_ms;
        deployment.split.entries().to_vec().into_iter().map(move |(id, _)| (id, created_ms))
    };
    for (id, created_ms) in worker.deployments.iter().flat_map(uses) {
        let of_version = usage.entry(id).or_default();
        of_version.deployments += 1;
        of_version.last_ms = of_version.last_ms.max(created_ms);
    }
    for (id, share) in worker.active.iter().flat_map(|active| active.split.entries()) {
        usage.entry(*id).or_default().live = Some(*share);
    }
    usage
}

/// A table of these versions.
pub(super) fn table(worker: &WorkerView, legend: &Legend<'_>, shown: &[&Arc<Version>], now_ms: u64) -> Markup {
    let (usage, unused) = (usage(worker), Usage::default());
    let caption = "Versions, newest first";
    let table = html! {
        table.versions {
            caption.unseen { (caption) }
            thead {
                tr {
                    th scope="col" { "Version" }
                    th scope="col" { "Id" }
                    th scope="col" { "Message" }
                    th scope="col" { "Used by" }
                    th scope="col" { "Uploaded" }
                    th scope="col" { "Author" }
                    th.number scope="col" { "Size" }
                    th.number scope="col" { "Start-up" }
                    th scope="col" { "Imports" }
                    th scope="col" { "Deploy" }
                }
            }
            tbody {
                @for version in shown { (row(worker, legend, version, usage.get(&version.id).unwrap_or(&unused), now_ms)) }
            }
        }
    };
    parts::scrolling(caption, &table)
}

fn row(worker: &WorkerView, legend: &Legend<'_>, version: &Version, usage: &Usage, now_ms: u64) -> Markup {
    let module = &version.module;
    html! {
        tr {
            th scope="row" { (legend.tagged(version.id)) }
            td { (parts::id(&version.id.to_string())) }
            td.text { p.clamp { (parts::text_or_none(version.annotations.message.as_deref())) } }
            td { (used_by(worker, version.id, usage, now_ms)) }
            td { (parts::ago(version.created_ms, now_ms)) }
            td.text.who { (version.provenance.author) " " span.muted { "via " (version.provenance.source.as_str()) } }
            td.number { (figures::size(module.size_bytes)) }
            td.number { (figures::startup(version.startup)) }
            td {
                details {
                    summary { (module.imports.len()) " · WASI " (module.kind.wasi()) }
                    ul.imports { @for import in &module.imports { li { code { (import) } } } }
                }
            }
            td {
                @if worker.is_deployable(version.id) {
                    a href=(deploy::path(worker, Some(version.id))) aria-label=(format!("Deploy #{}", version.number)) { "Deploy…" }
                }
            }
        }
    }
}

/// Its share now, else how often it was deployed.
#[must_use]
pub fn used_by(worker: &WorkerView, version: VersionId, usage: &Usage, now_ms: u64) -> Markup {
    let deployments = format!("{}?version={version}", WorkerTab::Deployments.path(worker));
    html! {
        @if let Some(share) = usage.live { strong.on { "live " (figures::share(share)) } " " }
        @match usage.deployments {
            0 => { span.muted { "no deployment" } },
            count => {
                a href=(deployments) { (count) @if count == 1 { " deployment" } @else { " deployments" } }
                @if usage.live.is_none() { " " span.muted { "last " (parts::ago(usage.last_ms, now_ms)) } }
            },
        }
    }
}
