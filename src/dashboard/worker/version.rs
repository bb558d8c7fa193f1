//! One version: all that is known of it.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;

use crate::catalog::WorkerView;
use crate::dashboard::layout::{Page, Place, WorkerTab};
use crate::dashboard::legend::Legend;
use crate::dashboard::session::Session;
use crate::dashboard::worker::{NamedVersion, delete, deploy, diff, rollback, tail, versions};
use crate::dashboard::{Dashboard, figures, parts};
use crate::domain::config::Config;
use crate::domain::version::Version;

/// Versions that one can be compared with.
const CHOICE_MAX: usize = 100;

/// The version that it is compared with; by itself the one that was uploaded before.
#[derive(Debug, Default, Deserialize)]
pub(in crate::dashboard) struct Compared {
    with: Option<String>,
}

/// `GET /workers/:name/versions/:version[?with=ID]`, by its whole id.
pub(in crate::dashboard) async fn page(
    State(dashboard): State<Arc<Dashboard>>,
    session: Session,
    NamedVersion(worker, version): NamedVersion,
    Query(compared): Query<Compared>,
) -> Response {
    let title = format!("#{} of {}", version.number, worker.name);
    let place = Place::Below(&worker, WorkerTab::Versions, format!("Version #{}", version.number));
    let body = html! {
        (facts(&dashboard, &worker, &version))
        (configuration(&version))
        (difference(&worker, &version, &compared))
    };
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
        p.buttons {
            @if worker.is_deployable(version.id) {
                a.button href=(deploy::path(worker, Some(version.id))) { "Deploy…" }
                a.button href=(rollback::path_to(worker, version.id)) { "Roll back to it…" }
            }
            a.button href=(tail::path(worker, version.id)) { "Logs" }
            a.button href=(delete::version_path(worker, version)) { "Delete…" }
        }
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
            dt { "Compiled in" } dd { (figures::compilation(version.startup)) }
            dt { "Start-up" } dd { (figures::startup(version.startup)) ", " (figures::size(version.startup.memory_bytes)) " of memory" }
            dt { "Imports" } dd { ul.imports { @for import in &module.imports { li { code { (import) } } } } }
            dt { "Exports" } dd { ul.imports { @for export in &module.exports { li { code { (export) } } } } }
        }
    }
}

fn configuration(version: &Version) -> Markup {
    html! {
        section #configuration aria-labelledby="configuration-title" {
            h2 #configuration-title { "Configuration" }
            (configured(&version.config))
        }
    }
}

/// Settings and bindings.
#[must_use]
pub fn configured(config: &Config) -> Markup {
    let caption = "Bindings";
    let bindings = html! {
        table {
            caption.unseen { (caption) }
            thead { tr { th scope="col" { "Name" } th scope="col" { "Type" } th scope="col" { "Value" } } }
            tbody {
                @for binding in &config.bindings {
                    @let (kind, value) = diff::binding(&binding.value);
                    tr { th scope="row" { code { (binding.name) } } td { (kind) } td.text { code { (value) } } }
                }
            }
        }
    };
    html! {
        dl.facts.plain {
            @for (name, value) in diff::settings(config) { dt { (name) } dd { (parts::text_or_none(value.as_deref())) } }
        }
        @if config.bindings.is_empty() { p.muted { "It has no bindings." } }
        @else { (parts::scrolling(caption, &bindings)) }
    }
}

fn difference(worker: &WorkerView, version: &Version, compared: &Compared) -> Markup {
    let others: Vec<_> = worker.newest_first().filter(|other| other.id != version.id).collect();
    let before = || others.iter().find(|other| other.number < version.number).or(others.last());
    let other = match &compared.with {
        Some(with) => others.iter().find(|other| other.id.to_string() == *with),
        None => before(),
    };
    let path = Legend::of(worker).path(version.id);
    html! {
        section #difference aria-labelledby="difference-title" {
            h2 #difference-title { "Difference" }
            @if others.is_empty() { p.muted { "There is no other version to compare it with." } }
            @else {
                form.filters method="get" action=(format!("{path}#difference")) {
                    div {
                        label for="with" { "From" }
                        select #with name="with" {
                            @for choice in others.iter().take(CHOICE_MAX) {
                                option value=(choice.id) selected[other.is_some_and(|other| other.id == choice.id)] {
                                    "#" (choice.number) @if !choice.tag().is_empty() { " " (figures::cut(choice.tag(), 40)) }
                                }
                            }
                        }
                    }
                    button type="submit" { "Compare" }
                }
                @match other {
                    Some(other) => {
                        p { "What changes from #" (other.number) " to #" (version.number) ":" }
                        (diff::table(&diff::of(other, version)))
                    },
                    None => { p.problem { "That version is not there any more. Choose another." } },
                }
            }
        }
    }
}
