//! One Durable Object: which version it runs and why, what it has stored, its alarm, what happened to it; and how to reset or delete it.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use http::{Method, StatusCode};
use maud::{Markup, html};
use serde::Deserialize;

use crate::catalog::WorkerView;
use crate::control::wire;
use crate::dashboard::guard::Fields;
use crate::dashboard::layout::{self, Page, Place, WorkerTab};
use crate::dashboard::legend::Legend;
use crate::dashboard::session::Session;
use crate::dashboard::worker::{command, history, named, plan};
use crate::dashboard::{Dashboard, figures, parts, refused};
use crate::domain::limits::SLOTS;
use crate::domain::object::ObjectNamespaceId;
use crate::host::object::Address;
use crate::objects::past::Rang;

/// What else the address says.
#[derive(Debug, Default, Deserialize)]
pub(in crate::dashboard) struct Called {
    /// The name by which it was found. Of one that has written nothing nobody else knows it.
    #[serde(default)]
    name: String,
    /// What was just done to it.
    #[serde(default)]
    done: String,
}

/// Where an object is.
#[must_use]
pub fn path(worker: &WorkerView, class: &str, id: &str) -> String {
    format!("{}/{class}/{id}", WorkerTab::Objects.path(worker))
}

/// `GET /workers/:name/objects/:class/:object`, by its id.
pub(in crate::dashboard) async fn page(
    State(dashboard): State<Arc<Dashboard>>,
    session: Session,
    Path((name, class, id)): Path<(String, String, String)>,
    Query(called): Query<Called>,
) -> Response {
    let said = match called.done.as_str() {
        "reset" => {
            html! { p.good role="status" { "It was in memory and has left it. With its next event it starts anew; what it stored is there." } }
        }
        "asleep" => html! { p.good role="status" { "It was not in memory: there was nothing to reset." } },
        "deleted" => html! { p.good role="status" { "All that it had stored is deleted, and its alarm." } },
        _ => html! {},
    };
    shown(&dashboard, &session, (&name, &class, &id), &called.name, &said).await
}

/// `POST` of the same: reset or delete.
pub(in crate::dashboard) async fn act(
    State(dashboard): State<Arc<Dashboard>>,
    session: Session,
    Path((name, class, id)): Path<(String, String, String)>,
    fields: Fields,
) -> Response {
    let worker = match named(&dashboard, &name) {
        Ok(worker) => worker,
        Err(response) => return response,
    };
    let at = api_path(&worker, &class, &id);
    let is_reset = fields.get("do") == "reset";
    if !is_reset && (fields.get("do") != "delete" || fields.get("sure") != "on") {
        let said = html! { p.problem role="alert" { "Nothing was deleted: say that you are sure." } };
        return shown(&dashboard, &session, (&name, &class, &id), fields.get("name"), &said).await;
    }
    let told = if is_reset {
        dashboard.call::<serde_json::Value>(Method::POST, &format!("{at}/reset"), None::<&()>).await
    } else {
        dashboard.call::<serde_json::Value>(Method::DELETE, &at, None::<&()>).await
    };
    match told {
        Ok(told) => {
            let was_live = told.is_some_and(|told| told["was_live"] == true);
            let done = if !is_reset {
                "deleted"
            } else if was_live {
                "reset"
            } else {
                "asleep"
            };
            Redirect::to(&format!("{}?done={done}", path(&worker, &encoded(&class), &encoded(&id)))).into_response()
        }
        Err(refused) => {
            let said = plan::refusal("Nothing was done.", &refused);
            shown(&dashboard, &session, (&name, &class, &id), fields.get("name"), &said).await
        }
    }
}

fn encoded(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

fn api_path(worker: &WorkerView, class: &str, id: &str) -> String {
    format!("/scripts/{}/objects/{}/{}", worker.name, encoded(class), encoded(id))
}

async fn shown(
    dashboard: &Dashboard,
    session: &Session,
    (name, class, id): (&str, &str, &str),
    called: &str,
    said: &Markup,
) -> Response {
    let worker = match named(dashboard, name) {
        Ok(worker) => worker,
        Err(response) => return response,
    };
    let object = match dashboard.call::<wire::Object>(Method::GET, &api_path(&worker, class, id), None::<&()>).await {
        Ok(Some(object)) => object,
        Ok(None) => return refused::page(StatusCode::NOT_FOUND, "No such object", "The node knows nothing of it."),
        Err(refused) => return refused::page(refused.status, "No such object", &refused.to_string()),
    };
    let title =
        object.name.as_deref().or(Some(called)).filter(|name| !name.is_empty()).unwrap_or(&id[..id.len().min(8)]);
    let title = format!("{} {}", object.class_name, figures::cut(title, 80));
    let id = object.namespace_id.parse().ok().and_then(|namespace: ObjectNamespaceId| {
        let id = namespace.parse_id(&object.id).ok()?;
        Some((id, dashboard.api.objects.past(&Address { namespace, id, fork: None })))
    });
    let now_ms = dashboard.clock.now_ms();
    let body = html! {
        (said)
        (facts(&worker, &object, id.as_ref().and_then(|(_, past)| past.rang.as_ref()), now_ms))
        (why(&worker, &object))
        @if let Some((id, past)) = &id {
            (history::section(&worker, *id, past, &as_command(&worker, &object, "history"), now_ms))
        }
        (actions(session, &worker, &object))
    };
    let place = Place::Below(&worker, WorkerTab::Objects, title.clone());
    Page { title: format!("{title} of {}", worker.name), place, live: None, body }.respond(dashboard, session)
}

fn version(legend: &Legend<'_>, id: Option<&String>) -> Markup {
    html! {
        @match id.and_then(|id| id.parse().ok()) {
            Some(id) => { (legend.tagged(id)) },
            None => { span.muted { "none: nothing is deployed" } },
        }
    }
}

fn facts(worker: &WorkerView, object: &wire::Object, rang: Option<&Rang>, now_ms: u64) -> Markup {
    let legend = Legend::of(worker);
    html! {
        dl.facts {
            dt { "Id" } dd { code { (object.id) } (parts::copy(&object.id, "id")) }
            dt { "Name" } dd { (parts::text_or_none(object.name.as_deref())) }
            dt { "Version" } dd { (version(&legend, object.version_id.as_ref())) }
            dt { "In memory" } dd {
                @if !object.live { "no" }
                @else if object.running_version_id == object.version_id { "yes" }
                @else {
                    "yes, still on " (version(&legend, object.running_version_id.as_ref()))
                    @if let Some(left) = object.switches_in_s { ", for " (figures::count(left)) " s at most" }
                }
            }
            dt { "Alarm" } dd { (parts::text_or_none(object.alarm.as_deref())) }
            dt { "Last alarm" } dd { (history::alarm(rang, now_ms)) }
            dt { "Stored" } dd { (figures::size(object.bytes)) }
            dt { "Created" } dd { @match &object.created_on { Some(at) => { (at) }, None => { span.muted { "it has never written anything" } } } }
            dt { "Instances" } dd { (figures::count(object.epoch)) " that have written" }
        }
    }
}

/// Why it runs its version, and what would change that.
fn why(worker: &WorkerView, object: &wire::Object) -> Markup {
    let legend = Legend::of(worker);
    html! {
        section aria-labelledby="why-title" {
            h2 #why-title { "Why this version" }
            p {
                "Its id gives it slot " (figures::count(object.slot.into())) " of " (figures::count(SLOTS.into()))
                @if object.version_id.is_some() { ", which belongs to " (version(&legend, object.version_id.as_ref())) " under the active deployment." }
                @else { "; nothing is deployed, so it has no version." }
            }
            @if let Some(change) = &object.changes_at {
                p { "It moves to another version only when the share of " (version(&legend, Some(&change.version_id)))
                    @if Some(&change.version_id) == object.version_id.as_ref() { " falls to " } @else { " rises to " }
                    strong { (change.percentage) " %" } "." }
            }
            p.muted { "The same on the command line:" }
            (command::shown(&as_command(worker, object, "explain")))
        }
    }
}

fn as_command(worker: &WorkerView, object: &wire::Object, what: &str) -> String {
    format!(
        "sluice objects {what} {} --class {} --name {}",
        object.id,
        command::quoted(&object.class_name),
        worker.name
    )
}

fn actions(session: &Session, worker: &WorkerView, object: &wire::Object) -> Markup {
    let at = path(worker, &object.class_name, &object.id);
    html! {
        section aria-labelledby="actions-title" {
            h2 #actions-title { "Actions" }
            form method="post" action=(at) {
                (layout::form_secret(session))
                p { "Reset: it leaves memory and starts anew with its next event. What it stored stays; what it only remembered is gone." }
                (command::shown(&as_command(worker, object, "reset")))
                p.buttons { button type="submit" name="do" value="reset" { "Reset" } }
            }
            form method="post" action=(at) {
                (layout::form_secret(session))
                p { "Delete: all that it stored, " (figures::size(object.bytes)) ", and its alarm. Nothing brings it back." }
                (command::shown(&as_command(worker, object, "delete")))
                label.choice { input type="checkbox" name="sure" required; " I am sure" }
                p.buttons { button.danger type="submit" name="do" value="delete" { "Delete" } }
            }
        }
    }
}
