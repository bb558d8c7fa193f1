//! All workers: what each has deployed, and what comes to it.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;

use crate::catalog::WorkerView;
use crate::dashboard::layout::{Page, Place, WorkerTab};
use crate::dashboard::legend::Legend;
use crate::dashboard::live::{self, Part};
use crate::dashboard::session::Session;
use crate::dashboard::{Dashboard, figures, parts, upload};
use crate::domain::measures::Counts;
use crate::observe::history::{POINTS, Traffic};

/// Workers on one page.
const PER_PAGE: usize = 100;

/// Which page of a list is meant.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Paged {
    page: Option<usize>,
}

impl Paged {
    /// The page, from 1.
    pub(super) fn number(&self) -> usize {
        self.page.unwrap_or(1).max(1)
    }
}

/// `GET /`.
pub(super) async fn page(
    State(dashboard): State<Arc<Dashboard>>,
    session: Session,
    Query(paged): Query<Paged>,
) -> Response {
    let number = paged.number();
    let total = dashboard.api.catalog.view().workers().len();
    let body = html! {
        h1 { "Workers" }
        @if total == 0 {
            (nothing_yet())
        } @else {
            p.buttons { a.button href=(upload::path(None)) { "New worker…" } }
            (list(&dashboard, number))
            (parts::pages("/?", number, PER_PAGE, total))
        }
    };
    let live = (total > 0).then(|| format!("/live/workers?page={number}"));
    Page { title: "Workers".to_owned(), place: Place::Top, live, body }.respond(&dashboard, &session)
}

/// `GET /live/workers`.
pub(super) async fn live(
    State(dashboard): State<Arc<Dashboard>>,
    session: Session,
    Query(paged): Query<Paged>,
) -> Response {
    let (feed, number) = (Arc::clone(&dashboard), paged.number());
    live::stream(&dashboard, &session, move || std::future::ready(Some(vec![list(&feed, number)])))
}

fn nothing_yet() -> Markup {
    html! {
        p { "No worker has been uploaded yet. From a terminal:" }
        pre { code { "sluice init my-worker && cd my-worker\nsluice deploy" } }
        p { "Or " a href=(upload::path(None)) { "drop a component and its wrangler.toml" } "." }
    }
}

fn list(dashboard: &Dashboard, number: usize) -> Part {
    let view = dashboard.api.catalog.view();
    let now_ms = dashboard.clock.now_ms();
    let caption = "Workers, what is deployed, and their traffic of the last five minutes";
    let table = html! {
        table.workers {
            caption.unseen { (caption) }
            thead {
                tr {
                    th scope="col" { "Worker" }
                    th.number scope="col" { "Requests/s" }
                    th.number scope="col" { "Errors" }
                    th scope="col" { "Last 5 minutes" }
                    th scope="col" { "Active split" }
                    th.number scope="col" { "Versions" }
                    th scope="col" { "Deployed" }
                }
            }
            tbody {
                @for worker in view.workers().skip((number - 1).saturating_mul(PER_PAGE)).take(PER_PAGE) {
                    (row(dashboard, worker, now_ms))
                }
            }
        }
    };
    Part::new("workers", html! { div #workers { (parts::scrolling(caption, &table)) } })
}

fn row(dashboard: &Dashboard, worker: &WorkerView, now_ms: u64) -> Markup {
    let legend = Legend::of(worker);
    let traffic = whole(dashboard.observer.history.traffic(&worker.name, 0).values());
    html! {
        tr {
            th scope="row" { a href=(WorkerTab::Overview.path(worker)) { (worker.name) } }
            td.number { (figures::rate(traffic.rate)) }
            td.number.bad[traffic.recent.errors > 0] { (figures::errors(traffic.recent)) }
            td { (parts::line(&traffic.points)) }
            td {
                @match &worker.active {
                    Some(active) => {
                        (legend.bar(active))
                        span.split { (legend.words(active.split.entries())) }
                    },
                    None => { span.muted { "nothing is deployed" } },
                }
            }
            td.number { (figures::count(worker.newest_first().len() as u64)) }
            td {
                @match &worker.active {
                    Some(active) => { (parts::ago(active.created_ms, now_ms)) },
                    None => { span.muted { (figures::NONE) } },
                }
            }
        }
    }
}

/// The traffic of all of these versions.
pub(super) fn whole<'a>(versions: impl Iterator<Item = &'a Traffic>) -> Traffic {
    let mut whole = Traffic { points: vec![Counts::default(); POINTS], ..Traffic::default() };
    for traffic in versions {
        whole.rate += traffic.rate;
        whole.recent.merge(traffic.recent);
        whole.since.merge(traffic.since);
        whole.points.iter_mut().zip(&traffic.points).for_each(|(sum, point)| sum.merge(*point));
    }
    whole
}
