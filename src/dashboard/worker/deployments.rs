//! The deployments of a worker as a timeline: who, why, and what moved.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;

use crate::catalog::{DEPLOYMENTS_KEPT, WorkerView};
use crate::dashboard::layout::{Page, Place, WorkerTab};
use crate::dashboard::legend::Legend;
use crate::dashboard::session::Session;
use crate::dashboard::worker::{Named, rollback};
use crate::dashboard::{Dashboard, figures, parts};
use crate::domain::deployment::Deployment;
use crate::domain::id::VersionId;
use crate::domain::split::{Share, Split};
use crate::domain::version::Trigger;

/// Deployments on one page.
const PER_PAGE: usize = 25;

/// What the address may carry.
#[derive(Debug, Default, Deserialize)]
pub(in crate::dashboard) struct Asked {
    page: Option<usize>,
    version: Option<String>,
}

/// `GET /workers/:name/deployments[?version=…]`: all, or those that one version is in.
pub(in crate::dashboard) async fn page(
    State(dashboard): State<Arc<Dashboard>>,
    session: Session,
    Named(worker): Named,
    Query(asked): Query<Asked>,
) -> Response {
    let only: Option<VersionId> = asked.version.as_deref().and_then(|id| id.parse().ok());
    let uses = |index: &usize| only.is_none_or(|id| worker.deployments[*index].split.share_of(id).is_some());
    let all: Vec<usize> = (0..worker.deployments.len()).filter(uses).collect();
    let number = asked.page.unwrap_or(1).max(1);
    let shown: Vec<usize> = all.iter().copied().skip((number - 1).saturating_mul(PER_PAGE)).take(PER_PAGE).collect();
    let (path, legend) = (WorkerTab::Deployments.path(&worker), Legend::of(&worker));
    let body = html! {
        h2 {
            (figures::count(all.len() as u64)) @if all.len() == 1 { " deployment" } @else { " deployments" }
            @if let Some(id) = only { " with " (legend.tagged(id)) }
        }
        @if only.is_some() { p { a href=(path) { "All deployments of " (worker.name) } } }
        @if worker.deployments.len() == DEPLOYMENTS_KEPT { p.muted { "Older ones than the newest " (DEPLOYMENTS_KEPT) " are not shown." } }
        @if all.is_empty() { p.muted { "There is none." } }
        section.plain { (timeline(&worker, &legend, shown, dashboard.clock.now_ms())) }
        (parts::pages(&only.map_or_else(|| format!("{path}?"), |id| format!("{path}?version={id}&")), number, PER_PAGE, all.len()))
    };
    let place = Place::Worker(&worker, WorkerTab::Deployments);
    let title = format!("Deployments of {}", worker.name);
    Page { title, place, live: None, body }.respond(&dashboard, &session)
}

/// These of the deployments of `worker`, which are counted from the newest.
pub(super) fn timeline(
    worker: &WorkerView,
    legend: &Legend<'_>,
    shown: impl IntoIterator<Item = usize>,
    now_ms: u64,
) -> Markup {
    html! {
        ol.timeline {
            @for index in shown {
                @if let Some(deployment) = worker.deployments.get(index) {
                    (entry(legend, deployment, worker.deployments.get(index + 1), now_ms))
                }
            }
        }
    }
}

/// What a deployment was, in a word.
#[must_use]
pub fn what(deployment: &Deployment) -> &'static str {
    match deployment.triggered_by {
        Trigger::Upload => "Uploaded and deployed",
        Trigger::VersionUpload => "Uploaded",
        Trigger::Secret => "Secret changed",
        Trigger::Rollback => "Rolled back",
        Trigger::Promotion => "Promoted",
        Trigger::Deployment => "Deployed",
    }
}

fn entry(legend: &Legend<'_>, deployment: &Deployment, before: Option<&Arc<Deployment>>, now_ms: u64) -> Markup {
    let is_active = legend.is_active(deployment.id);
    let id = deployment.id.to_string();
    html! {
        li id=(format!("d-{id}")) .active[is_active] .rollback[deployment.triggered_by == Trigger::Rollback] {
            p.head {
                strong { (what(deployment)) }
                @if is_active { " " span.on { "active" } }
                " by " (deployment.provenance.author)
                " " span.muted { "via " (deployment.provenance.source.as_str()) }
                " · " (parts::ago(deployment.created_ms, now_ms))
                " · " (parts::id(&id))
                @if let Some(path) = rollback::path(legend.worker(), deployment).filter(|_| !is_active) {
                    " · " a href=(path) aria-label=(format!("Roll back to deployment {}", &id[..8])) { "Roll back to this" }
                }
            }
            @if let Some(message) = &deployment.message { p.message { (message) } }
            (legend.bar(deployment))
            ul.moves {
                @for (version, from, to) in moves(before.map(|before| &before.split), &deployment.split) {
                    li { (legend.version(version)) " " (shift(from, to)) }
                }
                @if let Some(before) = before {
                    @let moved = deployment.allotment.moved_from(&before.allotment);
                    li.muted {
                        @if moved == 0 { "no traffic moved" }
                        @else { (figures::share(Share::from_slots(moved))) " of the traffic moved" }
                    }
                }
            }
        }
    }
}

/// From which share to which: `0 % → 20 %`. What did not change is said once.
pub(super) fn shift(from: Option<Share>, to: Option<Share>) -> Markup {
    html! {
        @match (from, to) {
            (Some(from), Some(to)) if from == to => { (figures::share(to)) },
            (from, Some(to)) => { (from.map_or_else(|| "new".to_owned(), figures::share)) " → " strong { (figures::share(to)) } },
            (Some(from), None) => { (figures::share(from)) " → " strong { "out" } },
            (None, None) => {},
        }
    }
}

/// Every version of either split, with its share before and after: those of the new one in its order, then those that left.
pub(super) fn moves(before: Option<&Split>, after: &Split) -> Vec<(VersionId, Option<Share>, Option<Share>)> {
    let old = |id| before.and_then(|before| before.share_of(id));
    let present = after.entries().iter().map(|(id, share)| (*id, old(*id), Some(*share)));
    let left = before.into_iter().flat_map(Split::entries).filter(|(id, _)| after.share_of(*id).is_none());
    present.chain(left.map(|(id, share)| (*id, Some(*share), None))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_move_names_every_version_of_either_side_once() {
        let id = |n: u8| VersionId::from_random([n; 16]);
        let split = |entries: &[(u8, f64)]| {
            Split::from_percentages(&entries.iter().map(|(n, p)| (id(*n), *p)).collect::<Vec<_>>()).unwrap()
        };
        let (before, after) = (split(&[(1, 60.0), (2, 40.0)]), split(&[(3, 20.0), (2, 80.0)]));
        let share = |percent: u32| Some(Share::from_slots(percent * 1000));
        assert_eq!(
            moves(Some(&before), &after),
            [(id(3), None, share(20)), (id(2), share(40), share(80)), (id(1), share(60), None)]
        );
        assert_eq!(moves(None, &before), [(id(1), None, share(60)), (id(2), None, share(40))]);
        assert_eq!(shift(share(40), share(80)).0, "40 % → <strong>80 %</strong>");
        assert_eq!(shift(share(40), share(40)).0, "40 %");
        assert_eq!(shift(share(40), None).0, "40 % → <strong>out</strong>");
    }
}
