//! The versions of a worker: who made each, from what, how it starts, and which deployments use it.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{Query, State};
use axum::response::Response;
use maud::{Markup, html};

use crate::catalog::WorkerView;
use crate::dashboard::layout::{Page, Place, WorkerTab};
use crate::dashboard::legend::Legend;
use crate::dashboard::session::Session;
use crate::dashboard::worker::{Named, deploy};
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
    Named(worker): Named,
    Query(paged): Query<Paged>,
) -> Response {
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

/// A table of these versions. In a narrow window its rows are boxes, and each cell says what it is; the roles keep it a table for who
/// hears it.
pub(super) fn table(worker: &WorkerView, legend: &Legend<'_>, shown: &[&Arc<Version>], now_ms: u64) -> Markup {
    let (usage, unused) = (usage(worker), Usage::default());
    let caption = "Versions, newest first";
    let table = html! {
        table.versions role="table" {
            caption.unseen { (caption) }
            thead role="rowgroup" {
                tr role="row" {
                    @for column in COLUMNS { th role="columnheader" scope="col" { (column) } }
                }
            }
            tbody role="rowgroup" {
                @for version in shown { (row(worker, legend, version, usage.get(&version.id).unwrap_or(&unused), now_ms)) }
            }
        }
    };
    parts::scrolling(caption, &table)
}

const COLUMNS: [&str; 7] = ["Version", "Message", "Used by", "Uploaded", "Module", "Imports", "Deploy"];

fn row(worker: &WorkerView, legend: &Legend<'_>, version: &Version, usage: &Usage, now_ms: u64) -> Markup {
    let module = &version.module;
    let [_, message, used, uploaded, of_module, imports, to_deploy] = COLUMNS;
    html! {
        tr role="row" {
            th role="rowheader" scope="row" {
                (legend.tagged(version.id))
                span.second { (parts::id(&version.id.to_string())) }
            }
            td role="cell" data-label=(message) { p.clamp { (parts::text_or_none(version.annotations.message.as_deref())) } }
            td role="cell" data-label=(used) { (used_by(worker, version.id, usage, now_ms)) }
            td role="cell" data-label=(uploaded) {
                (parts::ago(version.created_ms, now_ms))
                span.second { (version.provenance.author) " via " (version.provenance.source.as_str()) }
            }
            td.number role="cell" data-label=(of_module) {
                (figures::size(module.size_bytes))
                span.second { "starts in " (figures::startup(version.startup)) }
            }
            td role="cell" data-label=(imports) {
                details {
                    summary { (module.imports.len()) " · WASI " (module.kind.wasi()) }
                    ul.imports { @for import in &module.imports { li { code { (import) } } } }
                }
            }
            td role="cell" data-label=(to_deploy) {
                @if worker.is_deployable(version.id) {
                    a href=(deploy::path(worker, Some(version.id))) aria-label=(format!("Deploy #{}", version.number)) { "Deploy…" }
                } @else { span.muted { "too old" } }
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
