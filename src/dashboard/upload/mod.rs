//! Uploads: a module and a configuration are dropped on a form, what they would do is shown, and then they become a version, with traffic
//! or without. The module is sent once: what was dropped waits here until it is confirmed ([`dropped`]), and is proven while it does.
//!
//! 1. [`mod@receive`] reads the form. 2. [`plan`] says what the files ask for, or all that is wrong with them. 3. [`preview`] tries it, and
//!    shows it beside the latest version. 4. [`confirm`] makes it so by the control API, unless something has changed since.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use http::StatusCode;
use maud::{Markup, html};

use crate::catalog::WorkerView;
use crate::dashboard::call::Refused;
use crate::dashboard::layout::{self, Page, Place, WorkerTab};
use crate::dashboard::legend::Legend;
use crate::dashboard::session::Session;
use crate::dashboard::worker::{Named, plan as plans};
use crate::dashboard::{Dashboard, figures, refused};
use crate::domain::limits::{CONFIGURATION_BYTES_MAX, DASHBOARD_UPLOAD_LIFE, MODULE_BYTES_MAX};

pub mod confirm;
pub mod dropped;
pub mod plan;
pub mod preview;
mod receive;

use dropped::Dropped;
use receive::{Failed, receive};

/// Where files are dropped: for a worker, or for one that is still to be made.
#[must_use]
pub fn path(worker: Option<&WorkerView>) -> String {
    worker.map_or_else(|| "/upload".to_owned(), |worker| format!("/workers/{}/upload", worker.name))
}

/// Where the files that wait under a key are shown and confirmed.
fn path_of(key: &str) -> String {
    format!("/uploads/{key}")
}

/// `GET /upload`.
pub(super) async fn page(State(dashboard): State<Arc<Dashboard>>, session: Session) -> Response {
    show(&dashboard, &session, None, &html! {})
}

/// `POST` of the same.
pub(super) async fn act(State(dashboard): State<Arc<Dashboard>>, session: Session, request: Request) -> Response {
    take(&dashboard, &session, None, request).await
}

/// `GET /workers/:name/upload`.
pub(super) async fn worker_page(
    State(dashboard): State<Arc<Dashboard>>,
    session: Session,
    Named(worker): Named,
) -> Response {
    show(&dashboard, &session, Some(&worker), &html! {})
}

/// `POST` of the same.
pub(super) async fn worker_act(
    State(dashboard): State<Arc<Dashboard>>,
    session: Session,
    Named(worker): Named,
    request: Request,
) -> Response {
    take(&dashboard, &session, Some(&worker), request).await
}

/// Keeps what is dropped, and leads to where it is shown.
async fn take(
    dashboard: &Arc<Dashboard>,
    session: &Session,
    worker: Option<&WorkerView>,
    request: Request,
) -> Response {
    let refused = match receive(dashboard, session, request).await {
        Ok(received) => {
            let dropped = Dropped { on: worker.map(|worker| worker.name.clone()), ..received };
            match dashboard.uploads.keep(session, dropped) {
                Some(key) => {
                    forget_in_time(dashboard);
                    return Redirect::to(&path_of(&key)).into_response();
                }
                None => Refused::by_us("The node has no randomness."),
            }
        }
        Err(Failed::Foreign) => {
            let message = "The form did not come from a page of your present session. Go back, load the page anew and send it again. Nothing was changed.";
            return refused::page(StatusCode::FORBIDDEN, "Form refused", message);
        }
        Err(Failed::Refused(refused)) => refused,
    };
    let mut response = show(dashboard, session, worker, &plans::refusal("The files were not taken.", &refused));
    *response.status_mut() = refused.status;
    response
}

/// Files that nobody comes back for leave the disk all the same.
fn forget_in_time(dashboard: &Arc<Dashboard>) {
    let dashboard = Arc::downgrade(dashboard);
    tokio::spawn(async move {
        tokio::time::sleep(DASHBOARD_UPLOAD_LIFE).await;
        if let Some(dashboard) = dashboard.upgrade() {
            dashboard.uploads.tidy();
        }
    });
}

fn show(dashboard: &Dashboard, session: &Session, worker: Option<&WorkerView>, said: &Markup) -> Response {
    let latest = worker.and_then(|worker| Some((worker, worker.latest()?)));
    let body = html! {
        @if worker.is_none() { h1 { "Upload" } }
        (said)
        section aria-labelledby="upload-title" {
            h2 #upload-title { @if worker.is_none() { "A new worker" } @else { "A new version" } }
            @match latest {
                Some((worker, latest)) => {
                    p {
                        "Drop the component and the project’s configuration. A component alone makes a version like the latest one, "
                        (Legend::of(worker).tagged(latest.id)) "; a configuration alone makes one with that one’s module."
                    }
                },
                None => {
                    p { "Drop the component and the project’s configuration, which has the worker’s name. If there is a worker of that name, it gets a new version." }
                },
            }
            (form(session, &path(worker), ""))
        }
    };
    let (title, place) = match worker {
        Some(worker) => {
            (format!("Upload to {}", worker.name), Place::Below(worker, WorkerTab::Versions, "Upload".to_owned()))
        }
        None => ("New worker".to_owned(), Place::Top),
    };
    Page { title, place, live: None, body }.respond(dashboard, session)
}

/// The form with the two files. `kept` is the key of files that stay where none is chosen anew.
fn form(session: &Session, action: &str, kept: &str) -> Markup {
    html! {
        form.edit method="post" action=(action) enctype="multipart/form-data" data-upload {
            (layout::form_secret(session))
            input type="hidden" name="kept" value=(kept);
            div.drop data-drop {
                p.drop-hint { "Drop both files anywhere in this box, or choose them." }
                label for="configuration" { "Configuration: wrangler.toml, .json or .jsonc" }
                input #configuration type="file" name="configuration" accept=".toml,.json,.jsonc" data-bytes-max=(CONFIGURATION_BYTES_MAX);
                // The last, so that all else is known when it comes.
                label for="module" { "Component: " code { ".wasm" } ", " (figures::size(MODULE_BYTES_MAX)) " at most" }
                input #module type="file" name="module" accept=".wasm,.wat,application/wasm" data-bytes-max=(MODULE_BYTES_MAX);
            }
            p.buttons {
                button.primary type="submit" { "Preview" }
                span.muted data-busy="The node takes the files, compiles the component and tries it…" role="status" { "Nothing is uploaded for good by this." }
            }
        }
    }
}
