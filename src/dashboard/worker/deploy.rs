//! A new deployment: a form with versions and shares, its effect, and then the deployment itself. It is made only if what was active
//! when the effect was shown still is.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use maud::{Markup, html};
use serde::Deserialize;

use crate::catalog::{Force, WorkerView};
use crate::control::wire::Deployment;
use crate::dashboard::call::Refused;
use crate::dashboard::guard::Fields;
use crate::dashboard::layout::{self, Page, Place, WorkerTab};
use crate::dashboard::legend::Legend;
use crate::dashboard::session::Session;
use crate::dashboard::worker::wish::{Run, Update, Wish};
use crate::dashboard::worker::{Named, command, named, plan, rollout};
use crate::dashboard::{Dashboard, figures};
use crate::domain::id::VersionId;
use crate::domain::limits::DEPLOYMENT_VERSIONS_MAX;

/// Which version the form begins with.
#[derive(Debug, Default, Deserialize)]
pub(in crate::dashboard) struct Chosen {
    version: Option<String>,
}

/// Where the form is, with this version at 100 %.
#[must_use]
pub fn path(worker: &WorkerView, version: Option<VersionId>) -> String {
    let chosen = version.map(|version| format!("?version={version}")).unwrap_or_default();
    format!("/workers/{}/deploy{chosen}", worker.name)
}

/// `GET /workers/:name/deploy[?version=ID]`.
pub(in crate::dashboard) async fn page(
    State(dashboard): State<Arc<Dashboard>>,
    session: Session,
    Named(worker): Named,
    Query(chosen): Query<Chosen>,
) -> Response {
    let chosen = chosen.version.and_then(|id| id.parse().ok()).filter(|id| worker.version(*id).is_some());
    let wish = chosen.map_or_else(|| Wish::present(&worker), |version| Wish::all_to(&worker, version));
    respond(&dashboard, &session, &worker, &wish, &html! {}).await
}

/// `POST /workers/:name/deploy`: one more version in the form, the effect, or the deployment.
pub(in crate::dashboard) async fn act(
    State(dashboard): State<Arc<Dashboard>>,
    session: Session,
    Named(worker): Named,
    fields: Fields,
) -> Response {
    let mut wish = Wish::of(&fields);
    let above = match fields.get("do") {
        "add" => {
            fields
                .get("add")
                .parse()
                .ok()
                .filter(|id| worker.version(*id).is_some())
                .into_iter()
                .for_each(|id| wish.add(id));
            html! {}
        }
        "deploy" => match wish.ask(&dashboard, &worker, Run::Real).await {
            Ok(deployment) => return deployed(&worker, &deployment),
            Err(refused) => retry(&dashboard, &session, worker.name.as_str(), &mut wish, Kind::Deploy, &refused).await,
        },
        _ => preview(&dashboard, &session, &worker, &mut wish, Kind::Deploy).await,
    };
    // Somebody may have deployed while we asked.
    let worker = named(&dashboard, worker.name.as_str()).unwrap_or(worker);
    respond(&dashboard, &session, &worker, &wish, &above).await
}

/// Which of the two pages asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Deploy,
    Rollback,
}

/// To where the new deployment is seen.
pub(in crate::dashboard) fn deployed(worker: &WorkerView, deployment: &Deployment) -> Response {
    Redirect::to(&format!("{}#d-{}", WorkerTab::Deployments.path(worker), deployment.id)).into_response()
}

/// After a deployment that was refused: who was faster, and what it would do now; or why not.
pub(super) async fn retry(
    dashboard: &Dashboard,
    session: &Session,
    name: &str,
    wish: &mut Wish,
    kind: Kind,
    refused: &Refused,
) -> Markup {
    let Ok(worker) = named(dashboard, name) else { return plan::refusal("Nothing was deployed.", refused) };
    let is_late = plan::is_outdated(refused);
    let told = if is_late {
        plan::meanwhile(&worker, dashboard.clock.now_ms())
    } else {
        plan::refusal("Nothing was deployed.", refused)
    };
    if !is_late && !plan::is_for_secrets(refused) {
        return told;
    }
    let anew = preview(dashboard, session, &worker, wish, kind).await;
    html! { @if is_late { (told) } (anew) }
}

/// The effect of a wish on what is active now, with the button that makes it so.
pub(super) async fn preview(
    dashboard: &Dashboard,
    session: &Session,
    worker: &Arc<WorkerView>,
    wish: &mut Wish,
    kind: Kind,
) -> Markup {
    wish.seen = worker.active.as_ref().map(|active| active.id.to_string()).unwrap_or_default();
    let told = match (wish.split(), wish.ask(dashboard, worker, Run::Dry).await) {
        (Ok(split), Ok(deployment)) => html! {
            (plan::effect(worker, wish, &split, &deployment))
            (confirm(session, worker, wish, kind))
        },
        (Err(sentence), _) => plan::refusal("These shares cannot be deployed.", &Refused::by_us(&sentence)),
        (_, Err(refused)) => html! {
            (plan::refusal("The node would refuse it.", &refused))
            @if plan::is_for_secrets(&refused) { (by_force(session, worker, wish, kind)) }
        },
    };
    html! {
        section #effect aria-labelledby="effect-title" {
            h2 #effect-title { @if kind == Kind::Deploy { "What it would do" } @else { "What the rollback would do" } }
            (told)
        }
    }
}

impl Kind {
    fn action(self, worker: &WorkerView) -> String {
        match self {
            Self::Deploy => path(worker, None),
            Self::Rollback => format!("/workers/{}/rollback", worker.name),
        }
    }

    fn command(self, worker: &WorkerView, wish: &Wish) -> Option<String> {
        match self {
            Self::Deploy => command::deploy(worker, wish),
            Self::Rollback => command::rollback(worker, wish),
        }
    }
}

fn confirm(session: &Session, worker: &WorkerView, wish: &Wish, kind: Kind) -> Markup {
    let unsaid = Wish { message: String::new(), ..wish.clone() };
    html! {
        form.confirm method="post" action=(kind.action(worker)) {
            (layout::form_secret(session))
            (wish.hidden())
            input type="hidden" name="seen" value=(wish.seen);
            @if wish.force == Force::Yes { input type="hidden" name="force" value="on"; }
            label for="why" { "Message " span.muted { "(why; it stays with the deployment)" } }
            input #why name="message" value=(wish.message) maxlength="1000" autocomplete="off";
            @if let (Some(whole), Some(without)) = (kind.command(worker, wish), kind.command(worker, &unsaid)) {
                p.muted { "The same on the command line:" }
                div data-command=(without) data-message="why" { (command::shown(&whole)) }
            }
            p.buttons {
                @match kind {
                    Kind::Deploy => { button.primary type="submit" name="do" value="deploy" { "Deploy" } },
                    Kind::Rollback => { button.primary type="submit" name="do" value="deploy" { "Roll back" } },
                }
                a href=(WorkerTab::Overview.path(worker)) { "Cancel" }
            }
        }
    }
}

/// The way past secrets that have changed: their old values come back, so it is asked for once more.
fn by_force(session: &Session, worker: &WorkerView, wish: &Wish, kind: Kind) -> Markup {
    html! {
        form method="post" action=(kind.action(worker)) {
            (layout::form_secret(session))
            (wish.hidden())
            input type="hidden" name="message" value=(wish.message);
            input type="hidden" name="force" value="on";
            p { "If their old values are to be live again, go on by force." }
            p.buttons { button type="submit" name="do" value="preview" { "Show what it would do by force" } }
        }
    }
}

async fn respond(
    dashboard: &Dashboard,
    session: &Session,
    worker: &WorkerView,
    wish: &Wish,
    above: &Markup,
) -> Response {
    let body = html! {
        (rollout::warning(dashboard, worker).await)
        (above)
        section aria-labelledby="shares-title" {
            h2 #shares-title { "Versions and their shares" }
            @if worker.latest().is_none() { p.muted { "No version has been uploaded yet." } }
            @else { (form(session, worker, wish)) }
        }
    };
    let place = Place::Below(worker, WorkerTab::Deployments, "Deploy".to_owned());
    Page { title: format!("Deploy {}", worker.name), place, live: None, body }.respond(dashboard, session)
}

fn form(session: &Session, worker: &WorkerView, wish: &Wish) -> Markup {
    let others: Vec<_> =
        worker.deployable().filter(|version| !wish.rows.iter().any(|(known, _)| *known == version.id)).collect();
    html! {
        form.deploy method="post" action=(path(worker, None)) {
            (layout::form_secret(session))
            // What the Enter key presses.
            button.unseen type="submit" name="do" value="preview" tabindex="-1" aria-hidden="true" {}
            (rows(worker, wish))
            p.note #sum-note { "The shares sum to 100 %" output data-sum {} ". A version without a number stays out; one with 0 gets requests by override only." }
            @if !others.is_empty() && wish.rows.len() < DEPLOYMENT_VERSIONS_MAX {
                div.adding {
                    label for="add" { "Another version" }
                    select #add name="add" {
                        @for version in &others {
                            option value=(version.id) {
                                "#" (version.number)
                                @if !version.tag().is_empty() { " " (version.tag()) }
                                @if let Some(message) = &version.annotations.message { " – " (figures::cut(message, 60)) }
                            }
                        }
                    }
                    button type="submit" name="do" value="add" { "Add" }
                }
            }
            @if !worker.classes.by_name.is_empty() { (update(wish)) }
            label for="message" { "Message" }
            input #message name="message" value=(wish.message) maxlength="1000" autocomplete="off";
            p.buttons {
                button.primary type="submit" name="do" value="preview" { "Preview" }
                span.muted { "Nothing is deployed yet by this." }
            }
        }
    }
}

fn rows(worker: &WorkerView, wish: &Wish) -> Markup {
    let legend = Legend::of(worker);
    let now = |id: VersionId| worker.active.as_ref().and_then(|active| active.split.share_of(id));
    html! {
        ul.share-rows data-shares {
            @for (index, (id, share)) in wish.rows.iter().enumerate() {
                li {
                    label for=(format!("share-{index}")) {
                        (legend.tagged(*id))
                        " " span.muted.number {
                            @match now(*id) {
                                Some(share) => { "now " (figures::share(share)) },
                                None => { "not deployed now" },
                            }
                        }
                    }
                    input type="hidden" name="version" value=(id);
                    span.percent {
                        input type="number" id=(format!("share-{index}")) name="share" value=(share) min="0" max="100"
                            step="0.001" inputmode="decimal" aria-describedby="sum-note"
                            data-now=(now(*id).map_or(0.0, |share| share.percent()));
                        " %"
                    }
                }
            }
        }
    }
}

fn update(wish: &Wish) -> Markup {
    let is_deferred = matches!(wish.update, Update::Deferred(_));
    html! {
        fieldset {
            legend { "Durable Objects that change their version" }
            label.choice { input type="radio" name="update" value="immediate" checked[!is_deferred]; " are reset at once" }
            label.choice { input type="radio" name="update" value="deferred" checked[is_deferred]; " when they leave memory, or after" }
            span.percent { input type="number" name="delay" value=(wish.delay()) min="0" max="86400" aria-label="Seconds until they are reset at the latest"; " s" }
        }
    }
}
