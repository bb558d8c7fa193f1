//! A new module for a worker: a version like the latest one in all else, made of a file that is dropped on a form. It gets no traffic
//! until it is deployed. The file passes through as it comes and is never held here.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use futures_util::StreamExt as _;
use http::{Method, StatusCode, header};
use maud::{Markup, html};
use serde_json::json;

use crate::catalog::WorkerView;
use crate::control::wire;
use crate::dashboard::call::Refused;
use crate::dashboard::guard::FORM_SECRET;
use crate::dashboard::layout::{self, Page, Place, WorkerTab};
use crate::dashboard::legend::Legend;
use crate::dashboard::session::Session;
use crate::dashboard::worker::{command, named, plan, variables};
use crate::dashboard::{Dashboard, figures, refused};
use crate::domain::limits::{MODULE_BYTES_MAX, UPLOAD_BYTES_MAX};

/// More than any field beside the file has.
const FIELD_BYTES_MAX: usize = 16 * 1024;

/// Where a module is uploaded.
#[must_use]
pub fn path(worker: &WorkerView) -> String {
    format!("/workers/{}/upload", worker.name)
}

/// `GET /workers/:name/upload`.
pub(in crate::dashboard) async fn page(
    State(dashboard): State<Arc<Dashboard>>,
    session: Session,
    Path(name): Path<String>,
) -> Response {
    match named(&dashboard, &name) {
        Ok(worker) => show(&dashboard, &session, &worker, &html! {}),
        Err(response) => response,
    }
}

/// Why an upload came to nothing.
enum Failed {
    /// Not of a form of this session.
    Foreign,
    Refused(Refused),
}

/// `POST` of the same.
pub(in crate::dashboard) async fn act(
    State(dashboard): State<Arc<Dashboard>>,
    session: Session,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    let worker = match named(&dashboard, &name) {
        Ok(worker) => worker,
        Err(response) => return response,
    };
    match upload(&dashboard, &session, &worker, request).await {
        Ok(version) => Redirect::to(&format!("/workers/{}/versions/{}", worker.name, version.id)).into_response(),
        Err(Failed::Foreign) => {
            let message = "The form did not come from a page of your present session. Go back, load the page anew and send it again. Nothing was changed.";
            refused::page(StatusCode::FORBIDDEN, "Form refused", message)
        }
        Err(Failed::Refused(refused)) => {
            show(&dashboard, &session, &worker, &plan::refusal("No version was made.", &refused))
        }
    }
}

async fn upload(
    dashboard: &Dashboard,
    session: &Session,
    worker: &WorkerView,
    request: Request,
) -> Result<wire::Version, Failed> {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let boundary = multer::parse_boundary(kind).map_err(|_| by_us("The form cannot be read."))?;
    let limits = multer::SizeLimit::new().whole_stream(UPLOAD_BYTES_MAX);
    let constraints = multer::Constraints::new().size_limit(limits);
    let body = request.into_body().into_data_stream();
    let mut form = multer::Multipart::with_constraints(body, boundary, constraints);
    let (mut is_ours, mut message, mut tag, mut latest) = (false, String::new(), String::new(), String::new());
    while let Some(field) = form.next_field().await.map_err(|error| broken(&error))? {
        let name = field.name().unwrap_or_default().to_owned();
        if name == "module" {
            // The form has the file last, so that all else is known by now.
            if !is_ours {
                return Err(Failed::Foreign);
            }
            let metadata = metadata(worker, &latest, &message, &tag).map_err(Failed::Refused)?;
            return send(dashboard, worker, &metadata, field).await;
        }
        let value = text(field).await?;
        match name.as_str() {
            FORM_SECRET => is_ours = session.made(&value),
            "message" => message = value,
            "tag" => tag = value,
            "latest" => latest = value,
            _ => {}
        }
    }
    Err(if is_ours { by_us("No file was chosen.") } else { Failed::Foreign })
}

async fn text(mut field: multer::Field<'static>) -> Result<String, Failed> {
    let mut bytes = Vec::new();
    while let Some(chunk) = field.chunk().await.map_err(|error| broken(&error))? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > FIELD_BYTES_MAX {
            return Err(by_us("A field of the form is too long."));
        }
    }
    String::from_utf8(bytes).map_err(|_| by_us("A field of the form is not text."))
}

fn metadata(worker: &WorkerView, latest: &str, message: &str, tag: &str) -> Result<serde_json::Value, Refused> {
    let Some(present) = worker.latest().filter(|present| present.id.to_string() == latest) else {
        return Err(Refused::by_us(
            "Somebody made another version meanwhile, and this one would be like it. Nothing was made; look at it, and do it again.",
        ));
    };
    let mut metadata = variables::metadata(&present.config, "", None, message);
    if !tag.is_empty() {
        metadata["annotations"]["workers/tag"] = json!(tag);
    }
    Ok(metadata)
}

/// Sends the file on as it comes.
async fn send(
    dashboard: &Dashboard,
    worker: &WorkerView,
    metadata: &serde_json::Value,
    file: multer::Field<'static>,
) -> Result<wire::Version, Failed> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|_| by_us("The node has no randomness."))?;
    // Random, so that no file contains it.
    let boundary = format!("sluice-{}", hex::encode(random));
    let (before, after) = variables::around_module(metadata, &boundary);
    let whole = |text: String| futures_util::stream::once(async move { Ok::<_, multer::Error>(Bytes::from(text)) });
    let body = Body::from_stream(whole(before).boxed().chain(file).chain(whole(after).boxed()));
    let kind = format!("multipart/form-data; boundary={boundary}");
    let path = format!("/scripts/{}/versions", worker.name);
    let made = dashboard.call_with(Method::POST, &path, &kind, body).await.map_err(Failed::Refused)?;
    made.ok_or_else(|| by_us("The node said nothing of the version."))
}

fn by_us(sentence: &str) -> Failed {
    Failed::Refused(Refused::by_us(sentence))
}

fn broken(error: &multer::Error) -> Failed {
    by_us(&match error {
        multer::Error::StreamSizeExceeded { .. } => {
            format!("The upload has more than {}, which is the limit.", figures::size(UPLOAD_BYTES_MAX))
        }
        _ => "The form broke off, or cannot be read.".to_owned(),
    })
}

fn show(dashboard: &Dashboard, session: &Session, worker: &WorkerView, said: &Markup) -> Response {
    let body = html! {
        (said)
        @match worker.latest() {
            None => { p.muted { "There is no version yet. The first one is uploaded with its project, by " code { "sluice deploy" } "." } },
            Some(latest) => {
                section aria-labelledby="upload-title" {
                    h2 #upload-title { "A new module" }
                    p {
                        "It makes version #" (latest.number + 1) " with the configuration and the bindings of the latest one, "
                        (Legend::of(worker).tagged(latest.id)) ". The node compiles it and proves that it starts, which takes a moment. It gets no traffic until you deploy it."
                    }
                    form.edit method="post" action=(path(worker)) enctype="multipart/form-data" {
                        (layout::form_secret(session))
                        input type="hidden" name="latest" value=(latest.id);
                        label for="message" { "Message" }
                        input #message name="message" maxlength="1000" autocomplete="off";
                        label for="tag" { "Tag" }
                        input #tag name="tag" maxlength="100" autocomplete="off" spellcheck="false";
                        label for="module" { "Component, " code { ".wasm" } ", " (figures::size(MODULE_BYTES_MAX)) " at most: choose it, or drop it here" }
                        input #module .drop type="file" name="module" accept=".wasm,.wat,application/wasm" required;
                        p.buttons { button.primary type="submit" { "Upload" } }
                    }
                    p.muted { "With a wrangler.toml, whose configuration is then the version’s:" }
                    (command::shown(&format!("sluice versions upload --name {}", worker.name)))
                }
            },
        }
    };
    let place = Place::Below(worker, WorkerTab::Versions, "Upload".to_owned());
    Page { title: format!("Upload to {}", worker.name), place, live: None, body }.respond(dashboard, session)
}
