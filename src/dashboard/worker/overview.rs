//! A worker at a glance: what is deployed and what it gets, how it does, the newest versions and deployments.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use maud::{Markup, html};

use crate::catalog::WorkerView;
use crate::dashboard::layout::{Page, Place, WorkerTab};
use crate::dashboard::legend::Legend;
use crate::dashboard::live::{self, Part};
use crate::dashboard::session::Session;
use crate::dashboard::worker::traffic::{self, Live, Row};
use crate::dashboard::worker::{Named, delete, deploy, deployments, named, rollback, rollout, variables, versions};
use crate::dashboard::{Dashboard, figures, parts, upload};
use crate::domain::deployment::Deployment;
use crate::rollouts::Status;

/// Versions and deployments that an overview shows.
const VERSIONS: usize = 6;
const DEPLOYMENTS: usize = 4;

/// `GET /workers/:name`.
pub(in crate::dashboard) async fn page(
    State(dashboard): State<Arc<Dashboard>>,
    session: Session,
    Named(worker): Named,
) -> Response {
    let body = html! { @for part in sections(&dashboard, &worker).await { (part) } };
    let live = Some(format!("/live/workers/{}", worker.name));
    let place = Place::Worker(&worker, WorkerTab::Overview);
    Page { title: worker.name.to_string(), place, live, body }.respond(&dashboard, &session)
}

/// `GET /live/workers/:name`.
pub(in crate::dashboard) async fn live(
    State(dashboard): State<Arc<Dashboard>>,
    session: Session,
    Path(name): Path<String>,
) -> Response {
    let feed = Arc::clone(&dashboard);
    live::stream(&dashboard, &session, move || {
        let (feed, name) = (Arc::clone(&feed), name.clone());
        async move {
            let worker = named(&feed, &name).ok()?;
            Some(sections(&feed, &worker).await)
        }
    })
}

/// All of the page: it changes as a whole when somebody deploys.
async fn sections(dashboard: &Dashboard, worker: &WorkerView) -> Vec<Part> {
    let rollout = rollout::under_way(dashboard, worker).await;
    let (live, legend) = (Live::of(dashboard, worker), Legend::of(worker));
    let now_ms = dashboard.clock.now_ms();
    vec![
        addresses(dashboard, worker),
        rollout::note(worker, &legend, rollout.as_ref(), now_ms),
        active(worker, &legend, &live, rollout.as_ref(), now_ms),
        traffic::section(dashboard, worker, &legend, &live),
        newest_versions(worker, &legend, now_ms),
        newest_deployments(worker, &legend, now_ms),
    ]
}

fn addresses(dashboard: &Dashboard, worker: &WorkerView) -> Part {
    let port = dashboard.api.data_addr.port();
    let own = worker.triggers.workers_dev.then(|| format!("http://{}.localhost:{port}/", worker.name));
    let patterns = worker.triggers.routes.iter().map(|route| route.pattern.to_string());
    let others: Vec<String> = patterns.chain(worker.triggers.domains.iter().map(ToString::to_string)).collect();
    let element = html! {
        p #addresses .addresses {
            @if let Some(own) = &own { a href=(own) rel="noreferrer" { (own) } }
            @for other in &others { " " code { (other) } }
            @if own.is_none() && others.is_empty() { span.muted { "No address leads to this worker." } }
        }
    };
    Part::new("addresses", element)
}

fn active(worker: &WorkerView, legend: &Legend<'_>, live: &Live, rollout: Option<&Status>, now_ms: u64) -> Part {
    let element = html! {
        section #active aria-labelledby="active-title" {
            h2 #active-title { "Active deployment" }
            @match &worker.active {
                Some(active) => { (split(legend, active, live, now_ms)) },
                None => { p.muted { "Nothing is deployed: requests to this worker are refused." } },
            }
            p.buttons {
                @if worker.latest().is_some() { a.button href=(deploy::path(worker, None)) { "Deploy…" } }
                @if worker.latest().is_some() { a.button href=(rollout::entrance(worker, rollout)) { "Roll out…" } }
                @if let Some(path) = rollback::default_path(worker) { a.button href=(path) { "Roll back…" } }
                a.button href=(upload::path(Some(worker))) { "Upload…" }
                a.button href=(variables::path(worker)) { "Variables…" }
                a.button href=(delete::worker_path(worker)) { "Delete…" }
            }
        }
    };
    Part::new("active", element)
}

fn split(legend: &Legend<'_>, active: &Deployment, live: &Live, now_ms: u64) -> Markup {
    let deployed: Vec<&Row> = live.rows.iter().filter(|row| row.configured.is_some()).collect();
    let total = live.total();
    let part = |row: &Row| figures::part_of(row.traffic.since.requests, total).unwrap_or_else(|| "–".to_owned());
    let texts: Vec<String> = deployed.iter().map(|row| format!("{} {}", legend.name(row.id), part(row))).collect();
    let achieved = if total == 0 { "no requests".to_owned() } else { texts.join(", ") };
    let pieces: Vec<_> = deployed.iter().map(|row| (legend.hue(row.id), row.traffic.since.requests)).collect();
    html! {
        div.bars {
            span.what { "configured" }
            (legend.bar(active))
            span.what { "achieved" }
            (parts::bar(&pieces, &format!("Achieved: {achieved}")))
        }
        ul.shares {
            @for row in &deployed {
                li {
                    (legend.tagged(row.id))
                    strong.number { (row.configured.map(figures::share).unwrap_or_default()) }
                    span.muted.number { @if total == 0 { "no requests" } @else { (part(row)) " achieved" } }
                }
            }
        }
        p.muted.wide {
            (deployments::what(active)) " by " (active.provenance.author) " "
            (parts::ago(active.created_ms, now_ms)) " · " (parts::id(&active.id.to_string()))
            @if total > 0 { " · achieved of " (figures::count(total)) " requests " (live.since_text()) }
        }
        @if let Some(message) = &active.message { p.message { (message) } }
    }
}

fn newest_versions(worker: &WorkerView, legend: &Legend<'_>, now_ms: u64) -> Part {
    let total = worker.newest_first().len();
    let newest: Vec<_> = worker.newest_first().take(VERSIONS).collect();
    let element = html! {
        section #versions aria-labelledby="versions-title" {
            h2 #versions-title { "Versions" }
            @if total == 0 {
                p.muted { "No version has been uploaded." }
            } @else {
                (versions::table(worker, legend, &newest, now_ms))
                @if total > VERSIONS { p { a href=(WorkerTab::Versions.path(worker)) { "All " (figures::count(total as u64)) " versions" } } }
            }
        }
    };
    Part::new("versions", element)
}

fn newest_deployments(worker: &WorkerView, legend: &Legend<'_>, now_ms: u64) -> Part {
    let total = worker.deployments.len();
    let element = html! {
        section #deployments aria-labelledby="deployments-title" {
            h2 #deployments-title { "Deployments" }
            @if total == 0 {
                p.muted { "Nothing was ever deployed." }
            } @else {
                (deployments::timeline(worker, legend, 0..DEPLOYMENTS.min(total), now_ms))
                @if total > DEPLOYMENTS { p { a href=(WorkerTab::Deployments.path(worker)) { "All deployments" } } }
            }
        }
    };
    Part::new("deployments", element)
}
