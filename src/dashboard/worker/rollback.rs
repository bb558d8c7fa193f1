//! The way back: to a version, or to what a deployment before gave. One click leads here, where the effect is shown, and one more does it.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;

use crate::catalog::WorkerView;
use crate::dashboard::guard::Fields;
use crate::dashboard::layout::{Page, Place, WorkerTab};
use crate::dashboard::session::Session;
use crate::dashboard::worker::Named;
use crate::dashboard::worker::deploy::{self, Kind};
use crate::dashboard::worker::rollout;
use crate::dashboard::worker::wish::{Run, Wish};
use crate::dashboard::{Dashboard, parts};
use crate::domain::deployment::{Deployment, rollback_target};
use crate::domain::id::{DeploymentId, VersionId};
use crate::domain::split::Split;

/// To where.
#[derive(Debug, Default, Deserialize)]
pub(in crate::dashboard) struct Target {
    deployment: Option<String>,
    version: Option<String>,
}

/// Where one goes back to what a deployment gave; none for one that cannot be made again, since a version of it is gone.
#[must_use]
pub fn path(worker: &WorkerView, deployment: &Deployment) -> Option<String> {
    let has_all = deployment.split.entries().iter().all(|(id, _)| worker.is_deployable(*id));
    has_all.then(|| format!("/workers/{}/rollback?deployment={}", worker.name, deployment.id))
}

/// Where one goes back to a version.
#[must_use]
pub fn path_to(worker: &WorkerView, version: VersionId) -> String {
    format!("/workers/{}/rollback?version={version}", worker.name)
}

/// Where one goes back to the version that had all the traffic last, if there is one.
#[must_use]
pub fn default_path(worker: &WorkerView) -> Option<String> {
    rollback_target(worker.whole_deployments().map(|deployment| &deployment.split))?;
    Some(format!("/workers/{}/rollback", worker.name))
}

/// `GET /workers/:name/rollback[?deployment=ID|?version=ID]`: by itself to the version that had all the traffic last.
pub(in crate::dashboard) async fn page(
    State(dashboard): State<Arc<Dashboard>>,
    session: Session,
    Named(worker): Named,
    Query(target): Query<Target>,
) -> Response {
    let body = match wanted(&worker, &target) {
        Some(split) => {
            let mut wish = Wish::again(&worker, &split);
            html! {
                @if let Some(deployment) = of(&worker, &target) { (recalled(deployment, dashboard.clock.now_ms())) }
                (deploy::preview(&dashboard, &session, &worker, &mut wish, Kind::Rollback).await)
            }
        }
        None => html! {
            p { "There is nothing to go back to: no such deployment or version is known, or none but the active one ever had all the traffic." }
            p { a href=(WorkerTab::Versions.path(&worker)) { "Choose a version to deploy" } }
        },
    };
    respond(&dashboard, &session, &worker, &body).await
}

/// `POST /workers/:name/rollback`: the effect once more, or the rollback.
pub(in crate::dashboard) async fn act(
    State(dashboard): State<Arc<Dashboard>>,
    session: Session,
    Named(worker): Named,
    fields: Fields,
) -> Response {
    let mut wish = Wish::of(&fields);
    let body = match fields.get("do") {
        "deploy" => match wish.ask(&dashboard, &worker, Run::Real).await {
            Ok(deployment) => return deploy::deployed(&worker, &deployment),
            Err(refused) => {
                let name = worker.name.as_str();
                deploy::retry(&dashboard, &session, name, &mut wish, Kind::Rollback, &refused).await
            }
        },
        _ => deploy::preview(&dashboard, &session, &worker, &mut wish, Kind::Rollback).await,
    };
    respond(&dashboard, &session, &worker, &body).await
}

fn of<'a>(worker: &'a WorkerView, target: &Target) -> Option<&'a Arc<Deployment>> {
    let id: DeploymentId = target.deployment.as_deref()?.parse().ok()?;
    worker.deployments.iter().find(|deployment| deployment.id == id)
}

fn wanted(worker: &WorkerView, target: &Target) -> Option<Split> {
    match (&target.deployment, &target.version) {
        (Some(_), _) => of(worker, target).map(|deployment| deployment.split.clone()),
        (None, Some(version)) => version.parse().ok().filter(|id| worker.version(*id).is_some()).map(Split::all_to),
        (None, None) => {
            rollback_target(worker.whole_deployments().map(|deployment| &deployment.split)).map(Split::all_to)
        }
    }
}

fn recalled(deployment: &Deployment, now_ms: u64) -> Markup {
    html! {
        p {
            "Back to what was deployed by " (deployment.provenance.author) " " (parts::ago(deployment.created_ms, now_ms))
            " · " (parts::id(&deployment.id.to_string()))
        }
        @if let Some(message) = &deployment.message { p.message { (message) } }
    }
}

async fn respond(dashboard: &Dashboard, session: &Session, worker: &WorkerView, content: &Markup) -> Response {
    let body = html! { (rollout::warning(dashboard, worker).await) (content) };
    let place = Place::Below(worker, WorkerTab::Deployments, "Roll back".to_owned());
    Page { title: format!("Roll back {}", worker.name), place, live: None, body }.respond(dashboard, session)
}
