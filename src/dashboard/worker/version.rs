//! One version: all that is known of it.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use http::StatusCode;
use maud::{Markup, html};

use crate::catalog::WorkerView;
use crate::dashboard::layout::{Page, Place, WorkerTab};
use crate::dashboard::session::Session;
use crate::dashboard::worker::{named, versions};
use crate::dashboard::{Dashboard, figures, parts, refused};
use crate::domain::version::Version;

/// `GET /workers/:name/versions/:version`, by its whole id.
pub(in crate::dashboard) async fn page(
    State(dashboard): State<Arc<Dashboard>>,
    session: Session,
    Path((name, id)): Path<(String, String)>,
) -> Response {
    let worker = match named(&dashboard, &name) {
        Ok(worker) => worker,
        Err(response) => return response,
    };
    let Some(version) = id.parse().ok().and_then(|id| worker.version(id).cloned()) else {
        let message = format!("Worker `{name}` has no version `{id}`. It may have been deleted.");
        return refused::page(StatusCode::NOT_FOUND, "No such version", &message);
    };
    let title = format!("#{} of {}", version.number, worker.name);
    let place = Place::Below(&worker, WorkerTab::Versions, format!("Version #{}", version.number));
    let body = facts(&dashboard, &worker, &version);
    Page { title, place, live: None, body }.respond(&dashboard, &session)
}

fn facts(dashboard: &Dashboard, worker: &WorkerView, version: &Version) -> Markup {
    let now_ms = dashboard.clock.now_ms();
    let port = dashboard.api.data_addr.port();
    let url = worker
        .triggers
        .previews_enabled
        .then(|| format!("http://{}-{}.localhost:{port}/", version.id.short(), worker.name));
    let usage = versions::usage(worker).remove(&version.id).unwrap_or_default();
    let (module, notes) = (&version.module, &version.annotations);
    let id = version.id.to_string();
    let digest = module.digest.to_string();
    html! {
        dl.facts {
            dt { "Id" } dd { code { (id) } (parts::copy(&id, "id")) }
            dt { "Tag" } dd { (parts::text_or_none(notes.tag.as_deref())) }
            dt { "Message" } dd { (parts::text_or_none(notes.message.as_deref())) }
            dt { "Used by" } dd { (versions::used_by(worker, version.id, &usage, now_ms)) }
            dt { "Uploaded" } dd { (parts::moment(version.created_ms)) ", " (parts::ago(version.created_ms, now_ms)) }
            dt { "Author" } dd { (version.provenance.author) " via " (version.provenance.source.as_str()) " (" (notes.triggered_by.as_str()) ")" }
            dt { "Own address" } dd {
                @match &url {
                    Some(url) => { a href=(url) rel="noreferrer" { (url) } },
                    None => { span.muted { "switched off for this worker" } },
                }
            }
            dt { "Module" } dd { code { (digest) } (parts::copy(&digest, "digest")) " " (figures::size(module.size_bytes)) ", WASI " (module.kind.wasi()) }
            dt { "Start-up" } dd { (figures::startup(version.startup)) ", " (figures::size(version.startup.memory_bytes)) " of memory" }
            dt { "Imports" } dd { ul.imports { @for import in &module.imports { li { code { (import) } } } } }
            dt { "Exports" } dd { ul.imports { @for export in &module.exports { li { code { (export) } } } } }
        }
    }
}
