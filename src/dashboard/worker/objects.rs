//! A worker's Durable Objects: how many each version has, and a list, page by page.

use std::collections::HashMap;
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
use crate::domain::object::{ClassName, ObjectId};
use crate::host::ports::StoreFault;
use crate::objects::admin::Info;

/// Objects on one page.
const PER_PAGE: usize = 100;
/// Objects of one class that are counted, and in how many at a time they are read: a page has to come soon, however many there are.
const COUNTED_MAX: usize = 20_000;
const COUNTED_AT_ONCE: usize = 1_000;

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

/// What the objects of a class run.
#[derive(Debug, Default, PartialEq, Eq)]
struct Census {
    /// By the version that they are assigned; none without a deployment.
    by_version: HashMap<Option<VersionId>, u64>,
    in_memory: u64,
    bytes: u64,
    total: u64,
    /// Whether there are more than were counted.
    is_cut: bool,
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
    let census = census(dashboard, worker, class).await?;
    let legend = Legend::of(worker);
    let next = (objects.len() == PER_PAGE).then(|| objects.last()).flatten();
    let path = WorkerTab::Objects.path(worker);
    Ok(html! {
        section aria-labelledby="counts-title" {
            h2 #counts-title { "Objects by version" }
            (classes(worker, class))
            (counts(&legend, &census))
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

/// Counts the objects of a class, as many as there may be time for.
async fn census(dashboard: &Dashboard, worker: &WorkerView, class: &ClassName) -> Result<Census, StoreFault> {
    let mut census = Census::default();
    let mut after: Option<ObjectId> = None;
    loop {
        let some = dashboard.api.objects.list(worker, class, after, COUNTED_AT_ONCE).await?;
        some.iter().for_each(|info| census.count(info));
        after = some.last().map(|info| info.id);
        if some.len() < COUNTED_AT_ONCE {
            return Ok(census);
        }
        if census.total >= COUNTED_MAX as u64 {
            census.is_cut = true;
            return Ok(census);
        }
    }
}

impl Census {
    fn count(&mut self, info: &Info) {
        *self.by_version.entry(info.assigned).or_default() += 1;
        self.in_memory += u64::from(info.running.is_some());
        self.bytes += info.bytes;
        self.total += 1;
    }

    /// The newest version first; those without one last.
    fn ordered(&self, number: impl Fn(VersionId) -> u64) -> Vec<(Option<VersionId>, u64)> {
        let mut ordered: Vec<_> = self.by_version.iter().map(|(version, count)| (*version, *count)).collect();
        ordered.sort_by_key(|(version, _)| std::cmp::Reverse(version.map(&number)));
        ordered
    }
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
    let worker = legend.worker();
    let ordered = census.ordered(|id| worker.version(id).map_or(0, |version| version.number));
    let pieces: Vec<_> =
        ordered.iter().map(|(id, count)| (id.map(|id| legend.hue(id)).unwrap_or_default(), *count)).collect();
    let name = |id: Option<VersionId>| id.map_or_else(|| "without a version".to_owned(), |id| legend.name(id));
    let words: Vec<String> =
        ordered.iter().map(|(id, count)| format!("{} {}", name(*id), figures::count(*count))).collect();
    html! {
        @if census.total > 0 {
            (parts::bar(&pieces, &format!("Objects by version: {}", words.join(", "))))
            ul.shares {
                @for (id, count) in &ordered {
                    li {
                        @match id { Some(id) => { (legend.tagged(*id)) }, None => { "without a version" } }
                        strong.number { (figures::count(*count)) }
                        span.muted.number { (figures::part_of(*count, census.total).unwrap_or_default()) }
                    }
                }
            }
        }
        p.muted {
            (figures::count(census.total)) @if census.total == 1 { " object" } @else { " objects" }
            @if census.is_cut { ", and more that are not counted here" }
            ", " (figures::count(census.in_memory)) " in memory, " (figures::size(census.bytes)) " of keys and values."
        }
    }
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
