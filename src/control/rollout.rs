//! Rollouts: starting one, looking at it, stepping it forward, stopping it. Ours, beside Cloudflare's. Every call answers with the rollout as it stands.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use http::{HeaderMap, header};

use crate::catalog::{self, ApplyMode, Force, View};
use crate::control::deploy::if_match;
use crate::control::fault::{Code, Fault, Outcome};
use crate::control::read::existing;
use crate::control::request::{Caller, Params, Query, json};
use crate::control::shape::{self, Answer};
use crate::control::{Api, wire};
use crate::domain::evidence::{Finding, Judged};
use crate::domain::guard::Guard;
use crate::domain::id::{VersionId, WorkerName};
use crate::domain::measures::Measures;
use crate::domain::rollout::{self, Plan, Stay};
use crate::rollouts::{self, Asked, NewRollout, Status};

/// Larger evidence is told as this: a number that every client can read.
const EVIDENCE_MAX: f64 = 1e12;

/// `POST …/rollout[?force=true][&dry_run=true]`, with `If-Match` on the active deployment's id (E11): its first step is live when this
/// answers.
pub(super) async fn start(
    State(api): State<Arc<Api>>,
    params: Params,
    query: Query,
    Caller(provenance): Caller,
    headers: HeaderMap,
    body: Body,
) -> Outcome<Answer<wire::Rollout>> {
    let worker = params.worker()?;
    let force = if query.is_on("force")? { Force::Yes } else { Force::No };
    let mode = if query.is_on("dry_run")? { ApplyMode::DryRun } else { ApplyMode::Commit };
    let if_match = if_match(&headers)?;
    existing(&api.catalog.view(), &worker)?;
    let request: wire::RolloutRequest = json(
        body,
        "`{\"version_id\": id, \"steps\": [1, 100], \"every_seconds\": 300, \"guards\": [\"error_rate<1%\"]}`, where all but the first \
         can be left out",
    )
    .await?;
    let to = request
        .version_id
        .parse()
        .map_err(|error| Fault::at(Code::Rollout, "version_id", format!("there is no such version: {error}")))?;
    let plan = plan(&request)?;
    let wish = NewRollout { to, plan, provenance, force, if_match, mode };
    let status = api.rollouts.start(&worker, wish).await.map_err(|error| {
        let is_of_version = matches!(
            &error,
            rollouts::Error::HasEverything(_) | rollouts::Error::Catalog(catalog::Error::VersionUnknown { .. })
        );
        let fault = Fault::from(error).recoded(Code::VersionUnknown, Code::Rollout);
        if is_of_version { fault.located("version_id".to_owned()) } else { fault }
    })?;
    let answer = answer(&api, &worker, &status)?;
    Ok(match mode {
        ApplyMode::Commit => answer,
        ApplyMode::DryRun => answer.noting(vec!["dry run: nothing was started".to_owned()]),
    })
}

/// `GET …/rollout`: the newest one, over or not.
pub(super) async fn status(State(api): State<Arc<Api>>, params: Params) -> Outcome<Answer<wire::Rollout>> {
    let worker = params.worker()?;
    answer(&api, &worker, &api.rollouts.status(&worker).await?)
}

/// `POST …/rollout/pause`: it stays where it is, whatever the guards say.
pub(super) async fn pause(
    State(api): State<Arc<Api>>,
    params: Params,
    caller: Caller,
    headers: HeaderMap,
) -> Outcome<Answer<wire::Rollout>> {
    let worker = params.worker()?;
    answer(&api, &worker, &api.rollouts.pause(&worker, &asked(caller, &headers)).await?)
}

/// `POST …/rollout/resume`: its step begins anew.
pub(super) async fn resume(
    State(api): State<Arc<Api>>,
    params: Params,
    caller: Caller,
    headers: HeaderMap,
) -> Outcome<Answer<wire::Rollout>> {
    let worker = params.worker()?;
    answer(&api, &worker, &api.rollouts.resume(&worker, &asked(caller, &headers)).await?)
}

/// `POST …/rollout/step`: its next step is live when this answers.
pub(super) async fn step(
    State(api): State<Arc<Api>>,
    params: Params,
    caller: Caller,
    headers: HeaderMap,
) -> Outcome<Answer<wire::Rollout>> {
    let worker = params.worker()?;
    answer(&api, &worker, &api.rollouts.step(&worker, &asked(caller, &headers)).await?)
}

/// `POST …/rollout/abort`: the old version has everything again when this answers.
pub(super) async fn abort(
    State(api): State<Arc<Api>>,
    params: Params,
    caller: Caller,
    headers: HeaderMap,
) -> Outcome<Answer<wire::Rollout>> {
    let worker = params.worker()?;
    answer(&api, &worker, &api.rollouts.abort(&worker, &asked(caller, &headers)).await?)
}

/// Who asks, and with `If-Match` the state that was looked at: the `ETag` that came with it.
fn asked(Caller(by): Caller, headers: &HeaderMap) -> Asked {
    let seen = headers.get(header::IF_MATCH).map(|value| value.to_str().unwrap_or_default().trim().trim_matches('"'));
    Asked { by, if_match: seen.map(str::to_owned) }
}

fn plan(request: &wire::RolloutRequest) -> Outcome<Plan> {
    let guards = match &request.guards {
        None => Guard::defaults(),
        Some(texts) => {
            let guard = |(index, text): (usize, &String)| {
                text.parse().map_err(|error| Fault::at(Code::Rollout, format!("guards[{index}]"), format!("{error}")))
            };
            texts.iter().enumerate().map(guard).collect::<Outcome<_>>()?
        }
    };
    let every = match request.every_seconds {
        None => Plan::EVERY,
        // What is no number of seconds at all is refused as too short.
        Some(seconds) => Duration::try_from_secs_f64(seconds).unwrap_or(Duration::ZERO),
    };
    Plan::new(request.steps.as_deref().unwrap_or(&Plan::STEPS), every, guards).map_err(|error| {
        use rollout::Error as E;
        let pointer = match error {
            E::StepCount(_) | E::Step(_) | E::Falling { .. } | E::Unfinished(_) => "steps",
            E::Every(_) => "every_seconds",
            E::GuardCount(_) | E::Twice(_) => "guards",
        };
        Fault::at(Code::Rollout, pointer, error.to_string())
    })
}

impl From<rollouts::Error> for Fault {
    fn from(error: rollouts::Error) -> Self {
        use rollouts::Error as E;
        let sentence = error.to_string();
        let (code, hint) = match error {
            E::Catalog(error) => return error.into(),
            E::NotDeployed(_) | E::Split { .. } => (Code::Rollout, "; deploy one at 100 % first"),
            E::HasEverything(_) => (Code::Rollout, "; name another one"),
            E::UnderWay { .. } => (Code::RolloutUnderWay, "; `rollout abort` ends it"),
            E::Unknown(_) => (Code::RolloutUnknown, "; `rollout start` begins one"),
            E::WrongState { .. } => (Code::RolloutState, ""),
            E::Broken { .. } => (Code::RolloutBroken, "; `rollout abort` gives everything back to the old version"),
            E::MovedOn { .. } => (Code::PreconditionFailed, "; look at it again and decide again"),
            E::Store { .. } | E::Commit { .. } | E::Record { .. } => {
                let message = "the node's store failed, so the change may be stored or not; look before you repeat it. The node's log says more.";
                return Self::new(Code::Host, message).caused_by(error);
            }
        };
        Self::new(code, format!("{sentence}{hint}")).caused_by(error)
    }
}

// === shapes ===

fn answer(api: &Api, worker: &WorkerName, status: &Status) -> Outcome<Answer<wire::Rollout>> {
    Ok(Answer::of(shape(&api.catalog.view(), worker, status)).tagged(Some(status.tag())))
}

fn shape(view: &View, worker: &WorkerName, status: &Status) -> wire::Rollout {
    let rollout = &status.rollout;
    let version = |id: VersionId| wire::RolloutVersion {
        id: id.to_string(),
        number: view.worker(worker).and_then(|worker| worker.version(id)).map(|version| version.number),
    };
    let steps = rollout.plan.steps().iter().enumerate().map(|(index, share)| {
        let live = rollout.live.get(index);
        wire::RolloutStep {
            percentage: share.percent(),
            live_on: live.map(|live| shape::time(live.at_ms)),
            deployment_id: live.map(|live| live.deployment.to_string()),
        }
    });
    let next = rollout.next_share().filter(|_| !rollout.state.is_over()).map(|share| wire::RolloutNext {
        percentage: share.percent(),
        due_on: (rollout.state == rollout::State::Running).then(|| shape::time(rollout.due_ms())),
    });
    let window = status.window.as_ref().map(|(since_ms, counted)| wire::RolloutWindow {
        number: rollout.windows,
        since: shape::time(*since_ms),
        new: measures(&counted.new),
        old: measures(&counted.old),
    });
    let guards = match status.judged.as_slice() {
        [] => rollout.plan.guards().iter().map(unjudged).collect(),
        judged => judged.iter().map(guard).collect(),
    };
    wire::Rollout {
        state: rollout.state.as_str().to_owned(),
        waiting_for: match status.stay {
            Some(Stay::Until(_)) => Some("time".to_owned()),
            Some(Stay::ForData) => Some("data".to_owned()),
            _ => None,
        },
        reason: rollout.events.last().map(|event| event.what.clone()).unwrap_or_default(),
        old: version(rollout.old),
        new: version(rollout.new),
        author_email: rollout.provenance.author.clone(),
        started_on: shape::time(rollout.live.first().map_or(0, |live| live.at_ms)),
        percentage: match rollout.state {
            rollout::State::Failed | rollout::State::Aborted => 0.0,
            _ => rollout.share().percent(),
        },
        steps: steps.collect(),
        every_seconds: rollout.plan.every().as_secs_f64(),
        next,
        window,
        guards,
        events: rollout
            .events
            .iter()
            .map(|event| wire::RolloutEvent {
                on: shape::time(event.at_ms),
                what: event.what.clone(),
                deployment_id: event.deployment.map(|id| id.to_string()),
            })
            .collect(),
        trouble: status.trouble.clone(),
    }
}

fn unjudged(guard: &Guard) -> wire::RolloutGuard {
    wire::RolloutGuard { guard: guard.to_string(), state: "unknown".to_owned(), ..Default::default() }
}

fn guard(judged: &Judged) -> wire::RolloutGuard {
    let missing = match judged.finding {
        Finding::NotEnoughData(lack) => Some(lack.to_string()),
        Finding::Holds | Finding::Broken => None,
    };
    wire::RolloutGuard {
        guard: judged.guard.to_string(),
        state: judged.finding.as_str().to_owned(),
        measured: judged.to_string(),
        missing,
        requests: judged.new.requests,
        requests_needed: judged.needed,
        evidence: judged.evidence_ln.exp().min(EVIDENCE_MAX),
        broken_at: judged.broken_at_ln.exp(),
    }
}

fn measures(measures: &Measures) -> wire::RolloutMeasures {
    let ms = |duration: Option<Duration>| duration.map(|duration| duration.as_secs_f64() * 1e3);
    wire::RolloutMeasures {
        requests: measures.requests,
        errors: measures.errors,
        error_rate: measures.error_rate(),
        p50_ms: ms(measures.wall.quantile(0.5)),
        p99_ms: ms(measures.wall.quantile(0.99)),
        cpu_p50_ms: ms(measures.cpu.quantile(0.5)),
        cpu_p99_ms: ms(measures.cpu.quantile(0.99)),
    }
}
