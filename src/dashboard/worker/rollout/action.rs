//! What one does with a rollout that is under way: step it forward, pause it, let it go on, abort it. Each shows its effect first, and is done
//! only if the rollout is still as it was then.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use http::{Method, StatusCode};
use maud::{Markup, html};

use crate::catalog::WorkerView;
use crate::control::wire;
use crate::dashboard::guard::Fields;
use crate::dashboard::layout::{self, Page, Place, WorkerTab};
use crate::dashboard::legend::Legend;
use crate::dashboard::session::Session;
use crate::dashboard::worker::rollout::{next_words, status};
use crate::dashboard::worker::wish::{Run, Update, Wish};
use crate::dashboard::worker::{command, named, plan};
use crate::dashboard::{Dashboard, figures, refused};
use crate::domain::evidence::Finding;
use crate::domain::rollout::{Rollout, State as Standing};
use crate::domain::split::{Share, Split};
use crate::rollouts::Status;

/// What can be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Step,
    Pause,
    Resume,
    Abort,
}

impl Action {
    /// In the order of their buttons.
    pub(super) const ALL: [Self; 4] = [Self::Step, Self::Pause, Self::Resume, Self::Abort];

    /// The word in addresses, in the API and on the command line.
    fn word(self) -> &'static str {
        match self {
            Self::Step => "step",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Abort => "abort",
        }
    }

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Step => "Step forward",
            Self::Pause => "Pause",
            Self::Resume => "Resume",
            Self::Abort => "Abort",
        }
    }

    pub(super) fn path(self, worker: &WorkerView) -> String {
        format!("{}/{}", WorkerTab::Rollout.path(worker), self.word())
    }

    pub(super) fn is_possible(self, rollout: &Rollout) -> bool {
        match self {
            Self::Step | Self::Abort => !rollout.state.is_over(),
            Self::Pause => rollout.state == Standing::Running,
            Self::Resume => rollout.state == Standing::Paused,
        }
    }

    /// The share of the new version afterwards, if it deploys.
    fn share(self, rollout: &Rollout) -> Option<Share> {
        match self {
            Self::Step => rollout.next_share(),
            Self::Abort => Some(Share::from_slots(0)),
            Self::Pause | Self::Resume => None,
        }
    }
}

/// `GET /workers/:name/rollout/:action`: what it would do.
pub(in crate::dashboard) async fn page(
    State(dashboard): State<Arc<Dashboard>>,
    session: Session,
    Path((name, action)): Path<(String, String)>,
) -> Response {
    show(&dashboard, &session, &name, &action, &html! {}).await
}

/// `POST` of the same: does it.
pub(in crate::dashboard) async fn act(
    State(dashboard): State<Arc<Dashboard>>,
    session: Session,
    Path((name, word)): Path<(String, String)>,
    fields: Fields,
) -> Response {
    let worker = match named(&dashboard, &name) {
        Ok(worker) => worker,
        Err(response) => return response,
    };
    let Some(action) = Action::ALL.into_iter().find(|action| action.word() == word) else {
        return no_such_page();
    };
    let path = format!("/scripts/{}/rollout/{}", worker.name, action.word());
    let done = dashboard.call_if::<wire::Rollout>(Method::POST, &path, Some(fields.get("seen")), None::<&()>).await;
    match done {
        Ok(_) => Redirect::to(&WorkerTab::Rollout.path(&worker)).into_response(),
        Err(refused) if plan::is_outdated(&refused) => {
            let said = html! {
                div.problem role="alert" {
                    p { strong { "The rollout has moved on meanwhile. Nothing was done." } }
                    p { "Below is how it stands, and what this would do now. Confirm it once more, or leave it." }
                }
            };
            show(&dashboard, &session, &name, &word, &said).await
        }
        Err(refused) => {
            let said = plan::refusal("Nothing was done.", &refused);
            show(&dashboard, &session, &name, &word, &said).await
        }
    }
}

fn no_such_page() -> Response {
    refused::page(StatusCode::NOT_FOUND, "No such page", "Nothing is at this address. It may have been mistyped.")
}

async fn show(dashboard: &Arc<Dashboard>, session: &Session, name: &str, word: &str, said: &Markup) -> Response {
    let worker = match named(dashboard, name) {
        Ok(worker) => worker,
        Err(response) => return response,
    };
    let Some(action) = Action::ALL.into_iter().find(|action| action.word() == word) else {
        return no_such_page();
    };
    let status = match status(dashboard, &worker).await {
        Ok(status) => status,
        Err(response) => return response,
    };
    let body = html! {
        (said)
        @match &status {
            Some(status) => { (preview(dashboard, session, &worker, action, status).await) },
            None => { p { "There is no rollout of this worker." } },
        }
        p { a href=(WorkerTab::Rollout.path(&worker)) { "To the rollout" } }
    };
    let place = Place::Below(&worker, WorkerTab::Rollout, action.title().to_owned());
    let title = format!("{} the rollout of {}", action.title(), worker.name);
    Page { title, place, live: None, body }.respond(dashboard, session)
}

async fn preview(
    dashboard: &Dashboard,
    session: &Session,
    worker: &Arc<WorkerView>,
    action: Action,
    status: &Status,
) -> Markup {
    let (rollout, legend) = (&status.rollout, Legend::of(worker));
    let now_ms = dashboard.clock.now_ms();
    let effect =
        if action.is_possible(rollout) { effect(dashboard, worker, action, status).await } else { Ok(html! {}) };
    html! {
        section #effect aria-labelledby="effect-title" {
            h2 #effect-title { "What it would do" }
            p {
                "The rollout from " (legend.version(rollout.old)) " to " (legend.version(rollout.new)) " is "
                strong { (rollout.state.as_str()) } " at " strong { (figures::share(rollout.share())) } ". " (next_words(status, now_ms))
            }
            @if !action.is_possible(rollout) {
                p { "So there is nothing to " (action.word()) "." }
            } @else {
                @match effect {
                    Ok(effect) => { (effect) (confirm(session, worker, action, status)) },
                    Err(refusal) => { (refusal) },
                }
            }
        }
    }
}

/// The effect in words, and of what deploys the API's answer to a dry run; or why it would be refused.
async fn effect(
    dashboard: &Dashboard,
    worker: &Arc<WorkerView>,
    action: Action,
    status: &Status,
) -> Result<Markup, Markup> {
    let rollout = &status.rollout;
    let words = words(action, status)?;
    let (Some(share), Some(active)) = (action.share(rollout), &worker.active) else { return Ok(words) };
    let entries = Rollout::entries(rollout.old, rollout.new, &active.split, share);
    let split = Split::from_percentages(&entries)
        .map_err(|error| html! { p.problem role="alert" { "It cannot be deployed so: " (error) "." } })?;
    let wish = Wish { update: Update::Immediate, ..Wish::again(worker, &split) };
    let deployment = wish.ask(dashboard, worker, Run::Dry).await;
    let deployment = deployment.map_err(|refused| plan::refusal("The node would refuse it.", &refused))?;
    Ok(html! { (words) (plan::effect(worker, &wish, &split, &deployment)) })
}

fn words(action: Action, status: &Status) -> Result<Markup, Markup> {
    let rollout = &status.rollout;
    Ok(match action {
        Action::Pause => html! {
            p { "It stays at " (figures::share(rollout.share())) ": no further step, and no way back either if a guard is broken. The traffic stays as it is." }
        },
        Action::Resume => html! {
            p { "The step at " (figures::share(rollout.share())) " begins anew: its time of " (figures::span(rollout.plan.every())) ", and what the guards count. The traffic stays as it is." }
        },
        Action::Abort => html! {
            p { "The rollout ends, and the old version gets everything back at once." }
        },
        Action::Step => {
            let broken: Vec<String> = status
                .judged
                .iter()
                .filter(|judged| judged.finding == Finding::Broken)
                .map(|judged| judged.guard.to_string())
                .collect();
            if !broken.is_empty() {
                return Err(html! {
                    p.problem role="alert" { strong { "Nobody steps past a guard that is broken: " (broken.join(", ")) "." } }
                });
            }
            let unsure = status.judged.iter().filter(|judged| judged.finding != Finding::Holds);
            let unsure: Vec<String> = unsure.map(|judged| judged.guard.to_string()).collect();
            html! {
                p {
                    "The next step is deployed now, without waiting for the time of this one. Its own time and what its guards count begin then"
                    @if rollout.next_share() == Some(Share::ALL) { "; it is the last one: the new version has everything, and the rollout is done" }
                    @else if rollout.state == Standing::Paused { "; it stays paused" }
                    ". The deployment says that it was stepped by hand."
                }
                @if !unsure.is_empty() {
                    p.warning { "Not enough data yet for " (unsure.join(", ")) ": nobody knows whether the new version keeps to " @if unsure.len() == 1 { "it." } @else { "them." } }
                }
            }
        }
    })
}

fn confirm(session: &Session, worker: &WorkerView, action: Action, status: &Status) -> Markup {
    let command = format!("sluice rollout {} {}", action.word(), worker.name);
    html! {
        form.confirm method="post" action=(action.path(worker)) {
            (layout::form_secret(session))
            input type="hidden" name="seen" value=(status.tag());
            p.muted { "The same on the command line:" }
            (command::shown(&command))
            p.buttons {
                @match (action, action.share(&status.rollout)) {
                    (Action::Abort, _) => { button.danger type="submit" name="do" value="act" { "Abort" } },
                    (Action::Step, Some(share)) => {
                        button.primary type="submit" name="do" value="act" { "Step forward to " (figures::share(share)) }
                    },
                    _ => { button.primary type="submit" name="do" value="act" { (action.title()) } },
                }
                a href=(WorkerTab::Rollout.path(worker)) { "Cancel" }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_has_its_words() {
        let words: Vec<&str> = Action::ALL.into_iter().map(Action::word).collect();
        assert_eq!(words, ["step", "pause", "resume", "abort"]);
        assert!(Action::ALL.into_iter().all(|action| !action.title().is_empty()));
    }
}
