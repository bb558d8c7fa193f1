//! Deleting a version, or a worker with all it has: what goes is listed, and its name is typed, before anything is deleted.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse as _, Redirect, Response};
use http::Method;
use maud::{Markup, html};
use serde_json::Value;

use crate::catalog::WorkerView;
use crate::dashboard::guard::Fields;
use crate::dashboard::layout::{self, Page, Place, WorkerTab};
use crate::dashboard::session::Session;
use crate::dashboard::worker::{Named, NamedVersion, command, plan, versions};
use crate::dashboard::{Dashboard, figures};
use crate::domain::version::Version;

/// The API's code for a worker that others are bound to (`control/codes.md`).
const WORKER_IN_USE: u32 = 95005;

/// Where a version is deleted.
#[must_use]
pub fn version_path(worker: &WorkerView, version: &Version) -> String {
    format!("/workers/{}/versions/{}/delete", worker.name, version.id)
}

/// Where a worker is deleted.
#[must_use]
pub fn worker_path(worker: &WorkerView) -> String {
    format!("/workers/{}/delete", worker.name)
}

/// `GET /workers/:name/versions/:version/delete`.
pub(in crate::dashboard) async fn version_page(
    State(dashboard): State<Arc<Dashboard>>,
    session: Session,
    NamedVersion(worker, version): NamedVersion,
) -> Response {
    show_version(&dashboard, &session, &worker, &version, &html! {})
}

/// `POST` of the same.
pub(in crate::dashboard) async fn version_act(
    State(dashboard): State<Arc<Dashboard>>,
    session: Session,
    NamedVersion(worker, version): NamedVersion,
    fields: Fields,
) -> Response {
    if fields.get("typed").trim() != format!("#{}", version.number) {
        return show_version(&dashboard, &session, &worker, &version, &mistyped());
    }
    let path = format!("/scripts/{}/versions/{}", worker.name, version.id);
    match dashboard.call::<Value>(Method::DELETE, &path, None::<&()>).await {
        Ok(_) => Redirect::to(&WorkerTab::Versions.path(&worker)).into_response(),
        Err(refused) => {
            let said = plan::refusal("Nothing was deleted.", &refused);
            show_version(&dashboard, &session, &worker, &version, &said)
        }
    }
}

/// `GET /workers/:name/delete`.
pub(in crate::dashboard) async fn worker_page(
    State(dashboard): State<Arc<Dashboard>>,
    session: Session,
    Named(worker): Named,
) -> Response {
    show_worker(&dashboard, &session, &worker, &html! {}, &html! {}).await
}

/// `POST` of the same.
pub(in crate::dashboard) async fn worker_act(
    State(dashboard): State<Arc<Dashboard>>,
    session: Session,
    Named(worker): Named,
    fields: Fields,
) -> Response {
    if fields.get("typed").trim() != worker.name.as_str() {
        return show_worker(&dashboard, &session, &worker, &mistyped(), &html! {}).await;
    }
    let force = if fields.get("force") == "on" { "?force=true" } else { "" };
    let path = format!("/scripts/{}{force}", worker.name);
    match dashboard.call::<Value>(Method::DELETE, &path, None::<&()>).await {
        Ok(_) => Redirect::to("/").into_response(),
        Err(refused) => {
            let said = plan::refusal("Nothing was deleted.", &refused);
            let by_force = html! {
                @if refused.is_for(WORKER_IN_USE) {
                    label.choice { input type="checkbox" name="force"; " Delete it although others refer to it: their calls fail then" }
                }
            };
            show_worker(&dashboard, &session, &worker, &said, &by_force).await
        }
    }
}

fn mistyped() -> Markup {
    html! { p.problem role="alert" { "Nothing was deleted: what was typed is not its name." } }
}

/// The form that asks for a name.
fn form(session: &Session, action: &str, name: &str, command: &str, more: &Markup) -> Markup {
    html! {
        form.confirm method="post" action=(action) {
            (layout::form_secret(session))
            label for="typed" { "To delete it, type " code { (name) } }
            input #typed name="typed" required autocomplete="off" spellcheck="false";
            (more)
            p.muted { "The same on the command line, which asks nothing:" }
            (command::shown(command))
            p.buttons { button.danger type="submit" { "Delete " (name) } }
        }
    }
}

fn show_version(
    dashboard: &Dashboard,
    session: &Session,
    worker: &WorkerView,
    version: &Version,
    said: &Markup,
) -> Response {
    let name = format!("#{}", version.number);
    let usage = versions::usage(worker).remove(&version.id).unwrap_or_default();
    let as_command = format!("sluice versions delete {} --name {}", command::name(worker, version.id), worker.name);
    let is_latest = worker.latest().is_some_and(|latest| latest.id == version.id);
    let body = html! {
        (said)
        section aria-labelledby="goes-title" {
            h2 #goes-title { "What goes" }
            ul {
                li { "Version " (name) ", " (figures::cut(version.tag(), 100)) " uploaded " (figures::time_for_people(version.created_ms)) ": nothing brings it back but an upload." }
                li { "Used by: " (versions::used_by(worker, version.id, &usage, dashboard.clock.now_ms())) ". A deployment that names it cannot be made again." }
                @if let Some(alias) = &version.annotations.alias { li { "The alias " code { (alias) } ", unless another version has it." } }
            }
            @if usage.live.is_some() { p.warning { "It is deployed, so it cannot be deleted: deploy something else first." } }
            @else if is_latest { p.warning { "It is the latest version, so it cannot be deleted: upload another first." } }
            @else { (form(session, &version_path(worker, version), &name, &as_command, &html! {})) }
        }
    };
    let place = Place::Below(worker, WorkerTab::Versions, format!("Delete version {name}"));
    Page { title: format!("Delete {name} of {}", worker.name), place, live: None, body }.respond(dashboard, session)
}

async fn show_worker(
    dashboard: &Dashboard,
    session: &Session,
    worker: &WorkerView,
    said: &Markup,
    more: &Markup,
) -> Response {
    let path = format!("/scripts/{}/references", worker.name);
    let references = dashboard.call::<Value>(Method::GET, &path, None::<&()>).await.ok().flatten().unwrap_or_default();
    let (services, objects) = (&references["services"]["incoming"], &references["durable_objects"]);
    let mut by: Vec<&str> = [services, objects]
        .iter()
        .filter_map(|list| list.as_array())
        .flatten()
        .filter_map(|one| one["service"].as_str())
        .collect();
    by.sort_unstable();
    by.dedup();
    let as_command = format!("sluice delete {}", worker.name);
    let triggers = &worker.triggers;
    let body = html! {
        (said)
        section aria-labelledby="goes-title" {
            h2 #goes-title { "What goes" }
            ul {
                li { (figures::count(worker.newest_first().len() as u64)) " versions with their secrets, and every deployment" }
                @for class in worker.classes.by_name.keys() { li { "All objects of class " (class) ", with all that they have stored" } }
                @for route in &triggers.routes { li { "The route " code { (route.pattern) } } }
                @for domain in &triggers.domains { li { "The domain " code { (domain) } } }
                li { "KV namespaces stay." }
            }
            @if !by.is_empty() { p.warning { "Bound to it are: " (by.join(", ")) ". Their calls would fail." } }
            (form(session, &worker_path(worker), worker.name.as_str(), &as_command, more))
        }
    };
    let place = Place::Below(worker, WorkerTab::Overview, "Delete".to_owned());
    Page { title: format!("Delete {}", worker.name), place, live: None, body }.respond(dashboard, session)
}
