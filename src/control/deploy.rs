//! Deployments: making one (`DEP-1`…`DEP-10`), reading them, deleting one.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use http::{HeaderMap, header};

use crate::catalog::{ApplyMode, Force, NewDeployment, WorkerView};
use crate::control::fault::{Code, Fault, Outcome};
use crate::control::read::existing;
use crate::control::request::{Caller, Params, Query, json};
use crate::control::shape::{self, Answer};
use crate::control::{Api, objects, wire};
use crate::domain::deployment::{CodeUpdate, Deployment};
use crate::domain::id::{DeploymentId, VersionId};
use crate::domain::version;

/// What `code_update_strategy` has to be, for messages.
pub(super) const CODE_UPDATE_SHAPE: &str =
    "`code_update_strategy` is `{\"mode\": \"immediate\"}` or `{\"mode\": \"deferred\", \"max_delay\": seconds}`";

/// Deployments in a list: wrangler reads every version of each of them, one by one.
const LISTED: usize = 10;
const LISTED_MAX: usize = 100;
/// `max_delay` in seconds: what wrangler sends by default.
const MAX_DELAY_DEFAULT_S: f64 = 300.0;

/// `POST …/deployments[?force=true][&dry_run=true]`, with `If-Match` on the active deployment's id (E11).
pub(super) async fn create(
    State(api): State<Arc<Api>>,
    params: Params,
    query: Query,
    Caller(provenance): Caller,
    headers: HeaderMap,
    body: Body,
) -> Outcome<Answer<wire::Deployment>> {
    let worker = params.worker()?;
    let force = if query.is_on("force")? { Force::Yes } else { Force::No };
    let mode = if query.is_on("dry_run")? { ApplyMode::DryRun } else { ApplyMode::Commit };
    let if_match = if_match(&headers)?;
    existing(&api.catalog.view(), &worker)?;
    let request: wire::DeploymentRequest =
        json(body, "`{\"strategy\": \"percentage\", \"versions\": [{\"version_id\": id, \"percentage\": number}, …]}`")
            .await?;
    if request.strategy != "percentage" {
        return Err(Fault::at(Code::Deployment, "strategy", "the only `strategy` is `percentage`"));
    }
    let wish = NewDeployment {
        entries: entries(&request.versions)?,
        message: version::message(request.annotations.message.as_deref().unwrap_or_default()),
        provenance,
        code_update: code_update(request.code_update_strategy)
            .map_err(|message| Fault::at(Code::Deployment, "code_update_strategy", message))?,
        if_match,
        force,
        mode,
    };
    let deployed = api
        .catalog
        .deploy(&worker, wish)
        .await
        .map_err(|error| Fault::from(error).recoded(Code::VersionUnknown, Code::Deployment))?;
    let objects = match (mode, api.catalog.view().worker(&worker)) {
        (ApplyMode::DryRun, Some(worker)) => {
            let plan = api.objects.plan(worker, &deployed.deployment.allotment).await;
            Some(objects::plan(plan.map_err(|fault| objects::store_failed(&fault))?))
        }
        _ => None,
    };
    let facts = wire::DeploymentFacts { moved_slots: deployed.moved_slots, objects, ..Default::default() };
    let answer = Answer::of(shape::deployment(&deployed.deployment, Some(facts)));
    Ok(match mode {
        ApplyMode::Commit => answer.tagged(Some(deployed.deployment.id.to_string())),
        ApplyMode::DryRun => answer.noting(vec!["dry run: nothing was deployed".to_owned()]),
    })
}

/// `GET …/deployments[?per_page=N]`: newest first, the first is active (`DEP-3`).
///
/// One that names a version deleted since is left out: wrangler reads every version that is listed, and fails on the first
/// that is not there.
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    params: Params,
    query: Query,
) -> Outcome<Answer<wire::Deployments>> {
    let view = api.catalog.view();
    let worker = existing(&view, &params.worker()?)?;
    let count = query.number("per_page", LISTED, LISTED_MAX)?;
    let deployments = worker
        .whole_deployments()
        .take(count)
        .map(|deployment| shape::deployment(deployment, shape::moved_slots(worker, deployment.id)))
        .collect();
    let active = worker.active.as_ref().map(|deployment| deployment.id.to_string());
    Ok(Answer::of(wire::Deployments { deployments }).tagged(active))
}

/// `GET …/deployments/:d`: one deployment, with its versions in full under `sluice`.
pub(super) async fn get(State(api): State<Arc<Api>>, params: Params) -> Outcome<Answer<wire::Deployment>> {
    let view = api.catalog.view();
    let worker = existing(&view, &params.worker()?)?;
    let id = params.deployment()?;
    let deployment = find(worker, id)?;
    let mut facts = shape::moved_slots(worker, id).unwrap_or_default();
    let versions = deployment.split.entries().iter().filter_map(|(version, _)| worker.version(*version));
    facts.versions = versions.map(|version| shape::version(worker, version, api.data_addr)).collect();
    Ok(Answer::of(shape::deployment(deployment, Some(facts))))
}

/// `DELETE …/deployments/:d`: any but the active one (`DEP-9`).
pub(super) async fn delete(State(api): State<Arc<Api>>, params: Params) -> Outcome<Answer<()>> {
    let worker = params.worker()?;
    existing(&api.catalog.view(), &worker)?;
    api.catalog.delete_deployment(&worker, params.deployment()?).await?;
    Ok(Answer::done())
}

/// What the wire says of a code update; absence is immediate (ARCHITECTURE 4.4). A part of a second counts as a whole one.
pub(super) fn code_update(strategy: Option<wire::CodeUpdateStrategy>) -> Result<CodeUpdate, &'static str> {
    let Some(strategy) = strategy else { return Ok(CodeUpdate::Immediate) };
    match strategy.mode {
        wire::CodeUpdateMode::Immediate if strategy.max_delay.is_some() => {
            Err("`max_delay` is for `deferred`: `immediate` does not wait")
        }
        wire::CodeUpdateMode::Immediate => Ok(CodeUpdate::Immediate),
        wire::CodeUpdateMode::Deferred => match strategy.max_delay.unwrap_or(MAX_DELAY_DEFAULT_S) {
            seconds if wire::CodeUpdateStrategy::is_delay(seconds) => {
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 86400")]
                let max_delay_s = seconds.ceil() as u32;
                Ok(CodeUpdate::Deferred { max_delay_s })
            }
            _ => Err("`max_delay` is a number of seconds from 0 to 86400, a day"),
        },
    }
}

fn find(worker: &WorkerView, id: DeploymentId) -> Outcome<&Arc<Deployment>> {
    worker
        .deployments
        .iter()
        .find(|deployment| deployment.id == id)
        .ok_or_else(|| crate::catalog::Error::DeploymentUnknown { worker: worker.name.clone(), deployment: id }.into())
}

fn entries(shares: &[wire::Share]) -> Outcome<Vec<(VersionId, f64)>> {
    let entry = |(index, share): (usize, &wire::Share)| match share.version_id.parse() {
        Ok(version) => Ok((version, share.percentage)),
        Err(error) => {
            let place = format!("versions[{index}].version_id");
            Err(Fault::at(Code::Deployment, place, format!("there is no such version: {error}")))
        }
    };
    shares.iter().enumerate().map(entry).collect()
}

/// The deployment that has to be active still. A list of several, or a weak tag, means nothing here.
pub(super) fn if_match(headers: &HeaderMap) -> Outcome<Option<DeploymentId>> {
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim().trim_matches('"');
    text.parse().map(Some).map_err(|error| {
        let message = format!("`If-Match` takes the id of the deployment that has to be active: {error}");
        Fault::at(Code::Parameter, "If-Match", message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_update_is_immediate_unless_it_is_deferred_for_at_most_a_day() {
        let deferred =
            |max_delay| code_update(Some(wire::CodeUpdateStrategy { mode: wire::CodeUpdateMode::Deferred, max_delay }));
        assert_eq!(code_update(None), Ok(CodeUpdate::Immediate));
        assert_eq!(deferred(None), Ok(CodeUpdate::Deferred { max_delay_s: 300 }));
        assert_eq!(deferred(Some(86_400.0)), Ok(CodeUpdate::Deferred { max_delay_s: 86_400 }));
        assert_eq!(deferred(Some(0.5)), Ok(CodeUpdate::Deferred { max_delay_s: 1 }));
        assert_eq!(deferred(Some(0.0)), Ok(CodeUpdate::Deferred { max_delay_s: 0 }));
        assert!(deferred(Some(86_400.5)).is_err() && deferred(Some(-1.0)).is_err());
        let immediate = |max_delay| {
            code_update(Some(wire::CodeUpdateStrategy { mode: wire::CodeUpdateMode::Immediate, max_delay }))
        };
        assert_eq!(immediate(None), Ok(CodeUpdate::Immediate));
        assert!(immediate(Some(0.0)).is_err(), "`DOU-3`");
    }
}
