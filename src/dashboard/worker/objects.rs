//! A worker's Durable Objects: how many each version has, and a list, page by page.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use http::{Method, StatusCode};
use maud::{Markup, html};
use serde::Deserialize;

use crate::catalog::WorkerView;
use crate::control::wire;
use crate::dashboard::layout::{Page, Place, WorkerTab};
use crate::dashboard::legend::Legend;
use crate::dashboard::session::Session;
use crate::dashboard::worker::{Named, object};
use crate::dashboard::{Dashboard, figures, parts, refused};
use crate::domain::id::VersionId;
use crate::domain::object::ClassName;
use crate::host::ports::StoreFault;
use crate::objects::admin::Info;
use crate::objects::census::Census;

/// Objects on one page.
const PER_PAGE: usize = 100;
/// Which part of the list is meant.
#[derive(Debug, Default, Deserialize)]
pub(in crate::dashboard) struct Shown {
    #[serde(default)]
    class: String,
    #[serde(default)]
    after: String,
}

/// Which object is looked for.
#[derive(Debug, Default, Deserialize)]
pub(in crate::dashboard) struct Sought {
    #[serde(default)]
    class: String,
    #[serde(default)]
    name: String,
}

/// `GET /workers/:name/objects[?class=C][&after=ID]`.
pub(in crate::dashboard) async fn page(
    State(dashboard): State<Arc<Dashboard>>,
    session: Session,
    Named(worker): Named,
    Query(shown): Query<Shown>,
) -> Response {
    let class = worker.classes.by_name.keys().find(|class| class.as_str() == shown.class);
    let class = class.or_else(|| worker.classes.by_name.keys().next()).cloned();
    let body = match class {
        None => Ok(html! { p.muted { "This worker has no classes of Durable Objects." } }),
        Some(class) => contents(&dashboard, &worker, &class, &shown).await,
    };
    match body {
        Ok(body) => {
            let place = Place::Worker(&worker, WorkerTab::Objects);
            Page { title: format!("Objects of {}", worker.name), place, live: None, body }.respond(&dashboard, &session)
        }
        Err(fault) => {
            let message = format!("The objects cannot be read: {fault}. The log of the node says more.");
            refused::page(StatusCode::INTERNAL_SERVER_ERROR, "Storage failed", &message)
        }
    }
}

/// `GET /workers/:name/objects/find?class=C&name=N`: to the object of that name, or of that id. It need not have been there ever.
pub(in crate::dashboard) async fn find(
    State(dashboard): State<Arc<Dashboard>>,
    Named(worker): Named,
    Query(sought): Query<Sought>,
) -> Response {
    let encode =
        |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
    let text = sought.name.trim();
    let is_id = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let by = if is_id { "id" } else { "name" };
    let path = format!("/scripts/{}/objects/{}/{}?by={by}", worker.name, encode(&sought.class), encode(text));
    match dashboard.call::<wire::Object>(Method::GET, &path, None::<&()>).await {
        Ok(Some(found)) => {
            let to = object::path(&worker, &found.class_name, &found.id);
            // The name of one that has written nothing is known by who asks only.
            Redirect::to(&if is_id { to } else { format!("{to}?name={}", encode(text)) }).into_response()
        }
        Ok(None) => refused::page(StatusCode::NOT_FOUND, "No such object", "The node knows nothing of it."),
        Err(refused) => refused::page(refused.status, "No such object", &refused.to_string()),
    }
}

async fn contents(
    dashboard: &Dashboard,
    worker: &WorkerView,
    class: &ClassName,
    shown: &Shown,
) -> Result<Markup, StoreFault> {
    let namespace = worker.classes.namespace_of(class);
    let after = namespace.and_then(|namespace| namespace.parse_id(&shown.after).ok());
    let objects = dashboard.api.objects.list(worker, class, after, PER_PAGE).await?;
    // On the first page alone: it takes longer than a page of the list.
    let census = if after.is_none() { Some(dashboard.api.objects.census(worker, class).await?) } else { None };
    let legend = Legend::of(worker);
    let next = (objects.len() == PER_PAGE).then(|| objects.last()).flatten();
    let path = WorkerTab::Objects.path(worker);
    Ok(html! {
        section aria-labelledby="counts-title" {
            h2 #counts-title { "Objects by version" }
            (classes(worker, class))
            @match &census {
                Some(census) => { (counts(&legend, census)) },
                None => { p { a href=(format!("{path}?class={class}")) { "They are counted on the first page" } } },
            }
        }
        section aria-labelledby="objects-title" {
            h2 #objects-title { "Objects of " (class) }
            (finder(worker, class))
            @if objects.is_empty() { p.muted { @if after.is_some() { "There are no more." } @else { "None has written anything, and none is in memory." } } }
            @else { (table(worker, &legend, &objects, dashboard.clock.now_ms())) }
            nav.pages aria-label="Pages of this list" {
                @if after.is_some() { a href=(format!("{path}?class={class}")) { "First page" } }
                @if let Some(last) = next { a rel="next" href=(format!("{path}?class={class}&after={}", last.id)) { "Next " (PER_PAGE) } }
            }
        }
    })
}

fn classes(worker: &WorkerView, present: &ClassName) -> Markup {
    let path = WorkerTab::Objects.path(worker);
    html! {
        @if worker.classes.by_name.len() > 1 {
            p { "Class: "
                @for (index, class) in worker.classes.by_name.keys().enumerate() {
                    @if index > 0 { " · " }
                    @if class == present { strong { (class) } } @else { a href=(format!("{path}?class={class}")) { (class) } }
                }
            }
        }
    }
}

fn counts(legend: &Legend<'_>, census: &Census) -> Markup {
    let ordered = ordered(legend.worker(), census);
    let pieces: Vec<_> =
        ordered.iter().map(|(id, count)| (id.map(|id| legend.hue(id)).unwrap_or_default(), *count)).collect();
    let name = |id: Option<VersionId>| id.map_or_else(|| "without a version".to_owned(), |id| legend.name(id));
    let number = |count: u64| figures::count(census.of_all(count));
    let words: Vec<String> = ordered.iter().map(|(id, count)| format!("{} {}", name(*id), number(*count))).collect();
    let about = if census.times.is_some() { "about " } else { "" };
    html! {
        @if census.counted > 0 {
            (parts::bar(&pieces, &format!("Objects by version: {about}{}", words.join(", "))))
            ul.shares {
                @for (id, count) in &ordered {
                    li {
                        @match id { Some(id) => { (legend.tagged(*id)) }, None => { "without a version" } }
                        strong.number { (about) (number(*count)) }
                        span.muted.number { (figures::part_of(*count, census.counted).unwrap_or_default()) }
                    }
                }
            }
        }
        p.muted {
            (about) (number(census.counted)) @if census.counted == 1 { " object" } @else { " objects" }
            ", " (figures::count(census.in_memory)) " in memory, " (about) (figures::size(census.of_all(census.bytes))) " of keys and values."
            @if census.times.is_some() { " Told from " (figures::count(census.counted)) " of them: ids are spread evenly." }
        }
    }
}

/// The newest version first; those without one last.
fn ordered(worker: &WorkerView, census: &Census) -> Vec<(Option<VersionId>, u64)> {
    let number = |id: VersionId| worker.version(id).map_or(0, |version| version.number);
    let mut ordered: Vec<_> = census.by_version.iter().map(|(version, count)| (*version, *count)).collect();
    ordered.sort_by_key(|(version, _)| std::cmp::Reverse(version.map(number)));
    ordered
}

fn finder(worker: &WorkerView, class: &ClassName) -> Markup {
    html! {
        form.filters method="get" action=(format!("{}/find", WorkerTab::Objects.path(worker))) {
            input type="hidden" name="class" value=(class);
            div {
                label for="name" { "Name or id" }
                input #name name="name" required maxlength="1024" autocomplete="off" spellcheck="false";
            }
            button type="submit" { "Find" }
        }
    }
}

fn table(worker: &WorkerView, legend: &Legend<'_>, objects: &[Info], now_ms: u64) -> Markup {
    let caption = "Objects in the order of their ids";
    let table = html! {
        table {
            caption.unseen { (caption) }
            thead {
                tr {
                    th scope="col" { "Object" }
                    th scope="col" { "Version" }
                    th scope="col" { "In memory" }
                    th scope="col" { "Alarm" }
                    th.number scope="col" { "Stored" }
                    th scope="col" { "Created" }
                }
            }
            tbody {
                @for info in objects {
                    @let id = info.id.to_string();
                    tr {
                        th scope="row" {
                            a href=(object::path(worker, info.class.as_str(), &id)) {
                                @match &info.name { Some(name) => { (figures::cut(name, 60)) }, None => { code { (id[..8]) } } }
                            }
                        }
                        td { @match info.assigned { Some(id) => { (legend.version(id)) }, None => { "–" } } }
                        td {
                            @match info.running {
                                Some(running) if Some(running) == info.assigned => { "yes" },
                                Some(running) => { "yes, on " (legend.version(running)) },
                                None => { span.muted { "no" } },
                            }
                        }
                        td { @match info.alarm_ms { Some(at) => { (parts::moment(at)) }, None => { span.muted { "–" } } } }
                        td.number { (figures::size(info.bytes)) }
                        td { @match info.created_ms { Some(at) => { (parts::ago(at, now_ms)) }, None => { span.muted { "–" } } } }
                    }
                }
            }
        }
    };
    parts::scrolling(caption, &table)
}
