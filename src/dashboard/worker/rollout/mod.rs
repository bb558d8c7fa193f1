//! A worker's rollout: its steps and where it stands, what both versions did in this step, what each guard says and what it waits for, what
//! comes next, and what happened. What one can do about it is in [`action`] and [`start`].

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use maud::{Markup, html};

use crate::catalog::WorkerView;
use crate::dashboard::layout::{Page, Place, WorkerTab};
use crate::dashboard::legend::Legend;
use crate::dashboard::live::{self, Part};
use crate::dashboard::session::Session;
use crate::dashboard::worker::named;
use crate::dashboard::worker::rollout::action::Action;
use crate::dashboard::{Dashboard, figures, parts, refused};
use crate::domain::id::{DeploymentId, VersionId};
use crate::domain::rollout::{Rollout, State as Standing, Stay};
use crate::domain::split::Share;
use crate::rollouts::{self, Status};

pub mod action;
mod measured;
pub mod start;

/// `GET /workers/:name/rollout`.
pub(in crate::dashboard) async fn page(
    State(dashboard): State<Arc<Dashboard>>,
    session: Session,
    Path(name): Path<String>,
) -> Response {
    let worker = match named(&dashboard, &name) {
        Ok(worker) => worker,
        Err(response) => return response,
    };
    let status = match status(&dashboard, &worker).await {
        Ok(status) => status,
        Err(response) => return response,
    };
    let body = html! { @for part in sections(&dashboard, &worker, status.as_ref()) { (part) } };
    let live = Some(format!("/live{}", WorkerTab::Rollout.path(&worker)));
    let place = Place::Worker(&worker, WorkerTab::Rollout);
    Page { title: format!("Rollout of {}", worker.name), place, live, body }.respond(&dashboard, &session)
}

/// `GET /live/workers/:name/rollout`.
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
            let status = status(&feed, &worker).await.ok()?;
            Some(sections(&feed, &worker, status.as_ref()))
        }
    })
}

/// The newest rollout of a worker, if it has had one; or the page that says why it cannot be told.
async fn status(dashboard: &Dashboard, worker: &WorkerView) -> Result<Option<Status>, Response> {
    match dashboard.api.rollouts.status(&worker.name).await {
        Ok(status) => Ok(Some(status)),
        Err(rollouts::Error::Unknown(_)) => Ok(None),
        Err(error) => Err(refused::page(http::StatusCode::NOT_FOUND, "No rollout", &error.to_string())),
    }
}

/// The rollout of a worker that is running or paused, if there is one.
pub(super) async fn under_way(dashboard: &Dashboard, worker: &WorkerView) -> Option<Status> {
    let status = dashboard.api.rollouts.status(&worker.name).await.ok()?;
    (!status.rollout.state.is_over()).then_some(status)
}

/// Where "Roll out…" leads: to the one that is under way, or to the form that starts one.
pub(super) fn entrance(worker: &WorkerView, under_way: Option<&Status>) -> String {
    if under_way.is_some() { WorkerTab::Rollout.path(worker) } else { start::path(worker, None) }
}

/// For a worker's overview: that a rollout is under way, and how it stands. Empty without one.
pub(super) fn note(worker: &WorkerView, legend: &Legend<'_>, under_way: Option<&Status>, now_ms: u64) -> Part {
    let element = html! {
        div #rollout-note {
            @if let Some(status) = under_way {
                p.banner {
                    strong { "Rollout " (status.rollout.state.as_str()) } " to " (legend.version(status.rollout.new))
                    " at " strong.number { (figures::share(status.rollout.share())) } ". "
                    span.number { (next_words(status, now_ms)) } " "
                    a href=(WorkerTab::Rollout.path(worker)) { "See the rollout" }
                }
            }
        }
    };
    Part::new("rollout-note", element)
}

/// For pages that deploy: that this ends the rollout. Nothing if none is under way.
pub(in crate::dashboard) async fn warning(dashboard: &Dashboard, worker: &WorkerView) -> Markup {
    let Some(status) = under_way(dashboard, worker).await else { return html! {} };
    let legend = Legend::of(worker);
    html! {
        p.warning {
            "A rollout to " (legend.version(status.rollout.new)) " is " (status.rollout.state.as_str()) " at "
            (figures::share(status.rollout.share())) ". Any other deployment ends it: it will deploy nothing more, and guard nothing. "
            a href=(WorkerTab::Rollout.path(worker)) { "See the rollout" }
        }
    }
}

fn sections(dashboard: &Dashboard, worker: &WorkerView, status: Option<&Status>) -> Vec<Part> {
    let now_ms = dashboard.clock.now_ms();
    let Some(status) = status else {
        let hidden = ["compared", "guards", "events"].map(|id| Part::new(id, html! { div id=(id) hidden {} }));
        return std::iter::once(none_yet(worker)).chain(hidden).collect();
    };
    let legend = Legend::of(worker);
    vec![
        standing(worker, &legend, status, now_ms),
        measured::compared(worker, &legend, status, now_ms),
        measured::guards(status),
        events(worker, status, now_ms),
    ]
}

fn none_yet(worker: &WorkerView) -> Part {
    let element = html! {
        section #rollout aria-labelledby="rollout-title" {
            h2 #rollout-title { "No rollout yet" }
            p { "A rollout gives a version more and more of the traffic, step by step, while its guards hold; and gives everything back to the version before as soon as one is broken. Each step is an ordinary deployment." }
            p.buttons { a.button href=(start::path(worker, None)) { "Start a rollout…" } }
        }
    };
    Part::new("rollout", element)
}

fn standing(worker: &WorkerView, legend: &Legend<'_>, status: &Status, now_ms: u64) -> Part {
    let rollout = &status.rollout;
    let started_ms = rollout.live.first().map_or(rollout.since_ms, |live| live.at_ms);
    let actions = Action::ALL.into_iter().filter(|action| action.is_possible(rollout));
    let element = html! {
        section #rollout aria-labelledby="rollout-title" {
            h2 #rollout-title {
                "From " (legend.tagged(rollout.old)) " to " (legend.tagged(rollout.new)) " "
                span.state.(rollout.state.as_str()) { (rollout.state.as_str()) }
            }
            (steps(worker, rollout, now_ms))
            p.next { (next_words(status, now_ms)) }
            @if let Some(trouble) = &status.trouble {
                p.problem role="alert" { strong { "It cannot deploy, and tries again each second: " } (trouble) }
            }
            p.muted {
                "Started by " (rollout.provenance.author) " " (parts::ago(started_ms, now_ms)) " · each step stands for "
                (figures::span(rollout.plan.every())) " at the least"
            }
            p.buttons {
                @for action in actions { a.button href=(action.path(worker)) { (action.title()) "…" } }
                @if rollout.state.is_over() { a.button href=(start::path(worker, None)) { "Start another…" } }
            }
        }
    };
    Part::new("rollout", element)
}

/// The steps as a row: those that were, where it stands with how much of its time is over, and those to come.
fn steps(worker: &WorkerView, rollout: &Rollout, now_ms: u64) -> Markup {
    let here = rollout.live.len().saturating_sub(1);
    html! {
        ol.steps aria-label="Steps" {
            @for (index, share) in rollout.plan.steps().iter().enumerate() {
                @let place = Stand::of(rollout, index, here);
                li class=(place.class()) aria-current=[(place == Stand::Here).then_some("step")] {
                    (bar(rollout, place, now_ms))
                    strong.number { (figures::share(*share)) }
                    span.muted {
                        @match rollout.live.get(index) {
                            Some(live) => {
                                a href=(deployment_path(worker, live.deployment)) { (parts::ago(live.at_ms, now_ms)) }
                            },
                            None => { (place.word()) },
                        }
                    }
                }
            }
        }
    }
}

/// Where a step is beside the one that is live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stand {
    Past,
    /// It is live, or was when the rollout ended.
    Here,
    Ahead,
    /// It will not come.
    Never,
}

impl Stand {
    fn of(rollout: &Rollout, index: usize, here: usize) -> Self {
        match index.cmp(&here) {
            std::cmp::Ordering::Less => Self::Past,
            std::cmp::Ordering::Equal if rollout.state == Standing::Done => Self::Past,
            std::cmp::Ordering::Equal => Self::Here,
            std::cmp::Ordering::Greater if rollout.state.is_over() => Self::Never,
            std::cmp::Ordering::Greater => Self::Ahead,
        }
    }

    fn class(self) -> &'static str {
        match self {
            Self::Past => "past",
            Self::Here => "here",
            Self::Ahead | Self::Never => "ahead",
        }
    }

    fn word(self) -> &'static str {
        if self == Self::Never { "not reached" } else { "to come" }
    }
}

fn bar(rollout: &Rollout, place: Stand, now_ms: u64) -> Markup {
    let whole = rollout.due_ms().saturating_sub(rollout.since_ms);
    match place {
        Stand::Past => parts::progress(1, 1, "over"),
        Stand::Here if rollout.state.is_over() => parts::progress(1, 1, "it ended here"),
        Stand::Here => {
            let over = now_ms.saturating_sub(rollout.since_ms).min(whole);
            let is_paused = rollout.state == Standing::Paused;
            let label = if is_paused { "it is paused here" } else { "it is here, and so much of its time is over" };
            // Time does not count while it is paused.
            parts::progress(if is_paused { 0 } else { over }, whole, label)
        }
        Stand::Ahead | Stand::Never => parts::progress(0, 1, place.word()),
    }
}

/// What comes next, and when; or how it ended.
fn next_words(status: &Status, now_ms: u64) -> String {
    let rollout = &status.rollout;
    let next = rollout.next_share().map(figures::share).unwrap_or_default();
    match (rollout.state, status.stay) {
        (Standing::Running, Some(Stay::Until(due_ms))) => {
            format!("Next: {next} {} at the earliest, if every guard holds.", figures::ahead(due_ms, now_ms))
        }
        (Standing::Running, Some(Stay::ForData)) => {
            format!("Next: {next} as soon as every guard holds. Its time is over; it waits for requests.")
        }
        (Standing::Running, _) => "It deploys at this moment.".to_owned(),
        (Standing::Paused, _) => {
            format!("Next: {next} when it is resumed. Nothing happens by itself, whatever the guards say.")
        }
        (Standing::Done, _) => "It is done: the new version has everything.".to_owned(),
        (Standing::Failed, _) => "A guard was broken, and the old version has everything again.".to_owned(),
        (Standing::Aborted, _) => "Somebody ended it, and the old version has everything again.".to_owned(),
        (Standing::Superseded, _) => "Somebody else deployed. It has left everything as it found it.".to_owned(),
    }
}

fn events(worker: &WorkerView, status: &Status, now_ms: u64) -> Part {
    let element = html! {
        section #events aria-labelledby="events-title" {
            h2 #events-title { "What happened" }
            ol.timeline {
                @for event in status.rollout.events.iter().rev() {
                    li {
                        p.head {
                            (parts::ago(event.at_ms, now_ms)) " · " (parts::moment(event.at_ms))
                            @if let Some(id) = event.deployment {
                                " · " a href=(deployment_path(worker, id)) aria-label=(format!("Deployment {}", id.to_string().get(..8).unwrap_or_default())) { "its deployment" }
                            }
                        }
                        p.message { (event.what) }
                    }
                }
            }
        }
    };
    Part::new("events", element)
}

/// Where a deployment is in the timeline.
fn deployment_path(worker: &WorkerView, id: DeploymentId) -> String {
    format!("{}#d-{id}", WorkerTab::Deployments.path(worker))
}

/// The share that a version has at this moment.
fn share_now(worker: &WorkerView, id: VersionId) -> Option<Share> {
    worker.active.as_ref().and_then(|active| active.split.share_of(id))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::allotment::Allotment;
    use crate::domain::deployment::{CodeUpdate, Deployment};
    use crate::domain::guard::Guard;
    use crate::domain::rollout::Plan;
    use crate::domain::split::Split;
    use crate::domain::version::{Provenance, Source, Trigger};

    fn status() -> Status {
        let [old, new] = [1, 2].map(|n| VersionId::from_random([n; 16]));
        let split = Split::from_percentages(&[(old, 75.0), (new, 25.0)]).unwrap();
        let by = Deployment {
            id: DeploymentId::from_random([1; 16]),
            created_ms: 1_000,
            provenance: Provenance { author: "ada".into(), source: Source::Api },
            triggered_by: Trigger::Deployment,
            message: None,
            allotment: Allotment::derive(None, &split),
            split,
            code_update: CodeUpdate::Immediate,
        };
        let plan = Plan::new(&[25.0, 50.0, 100.0], Duration::from_secs(60), Guard::defaults()).unwrap();
        let rollout = Rollout::begun(plan, old, new, &by);
        Status { rollout, stay: Some(Stay::Until(61_000)), judged: Vec::new(), window: None, trouble: None }
    }

    #[test]
    fn what_comes_next_is_said_in_every_state() {
        let mut status = status();
        assert_eq!(next_words(&status, 31_000), "Next: 50 % in 30 s at the earliest, if every guard holds.");
        status.stay = Some(Stay::ForData);
        assert!(next_words(&status, 99_000).starts_with("Next: 50 % as soon as every guard holds."));
        status.rollout.paused(2_000, "bob");
        assert!(next_words(&status, 99_000).starts_with("Next: 50 % when it is resumed."));
        for (state, word) in [
            (Standing::Done, "done"),
            (Standing::Failed, "broken"),
            (Standing::Aborted, "ended it"),
            (Standing::Superseded, "Somebody else"),
        ] {
            status.rollout.state = state;
            assert!(next_words(&status, 99_000).contains(word), "{word}");
        }
    }

    #[test]
    fn a_step_is_past_here_ahead_or_never() {
        let mut rollout = status().rollout;
        let stands = |rollout: &Rollout| [0, 1, 2].map(|index| Stand::of(rollout, index, rollout.live.len() - 1));
        assert_eq!(stands(&rollout), [Stand::Here, Stand::Ahead, Stand::Ahead]);
        rollout.live.push(rollout.live[0]);
        assert_eq!(stands(&rollout), [Stand::Past, Stand::Here, Stand::Ahead]);
        rollout.state = Standing::Aborted;
        assert_eq!(stands(&rollout), [Stand::Past, Stand::Here, Stand::Never]);
        rollout.live.push(rollout.live[0]);
        rollout.state = Standing::Done;
        assert_eq!(stands(&rollout), [Stand::Past; 3]);
    }
}
