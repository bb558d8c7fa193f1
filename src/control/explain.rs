//! Explain: which version a request would get, why, and at which share that would change. It asks the same rules as the
//! request path, changes nothing, and draws nothing: where only the draw would tell, it says so.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;

use crate::catalog::{Routed, View, WorkerView};
use crate::control::fault::{Code, Fault, Outcome};
use crate::control::read::existing;
use crate::control::request::{Params, Query, json};
use crate::control::shape::Answer;
use crate::control::{Api, wire};
use crate::domain::allotment::slot_of_key;
use crate::domain::decision::{Reason, Wish, decide};
use crate::domain::deployment::Deployment;
use crate::domain::id::{VersionId, WorkerName};

const KEY_HEADER: &str = "cloudflare-workers-version-key";
const OVERRIDES_HEADER: &str = "cloudflare-workers-version-overrides";
/// Keys in one call: a file of this many is some megabytes each way.
const KEYS_MAX: usize = 50_000;

/// `GET …/explain[?key=K]`: one answer.
pub(super) async fn one(
    State(api): State<Arc<Api>>,
    params: Params,
    query: Query,
) -> Outcome<Answer<wire::Explanation>> {
    let keys = query.get("key").map(str::to_owned).into_iter().collect();
    answer(&api, params.worker()?, wire::ExplainRequest { keys, headers: Vec::new() }).await
}

/// `POST …/explain`: an answer for each key, or one for the headers alone.
pub(super) async fn many(
    State(api): State<Arc<Api>>,
    params: Params,
    body: Body,
) -> Outcome<Answer<wire::Explanation>> {
    let worker = params.worker()?;
    existing(&api.catalog.view(), &worker)?;
    let request = json(body, "`{\"keys\": [text, …], \"headers\": [[name, value], …]}`").await?;
    answer(&api, worker, request).await
}

async fn answer(api: &Api, worker: WorkerName, request: wire::ExplainRequest) -> Outcome<Answer<wire::Explanation>> {
    if request.keys.len() > KEYS_MAX {
        let message = format!("there are {} keys, the limit is {KEYS_MAX}; make several calls", request.keys.len());
        return Err(Fault::at(Code::TooLarge, "keys", message));
    }
    let view = api.catalog.view();
    existing(&view, &worker)?;
    // Each key costs a hash: many of them would hold up other requests on this thread.
    let explaining = tokio::task::spawn_blocking(move || explain(&view, &worker, &request));
    let explanation = explaining
        .await
        .map_err(|error| Fault::new(Code::Host, "the node could not explain this").caused_by(error))??;
    Ok(Answer::of(explanation))
}

fn explain(view: &View, name: &WorkerName, request: &wire::ExplainRequest) -> Outcome<wire::Explanation> {
    let worker = existing(view, name)?;
    let header = |wanted: &str| {
        let mut values = request.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
        values.next().map(|(_, value)| value.as_str())
    };
    let preview = match header("host").map(|host| view.route_for(host, "/")) {
        Some(Routed::Preview { worker: other, version }) if other.name == *name => Some(version),
        _ => None,
    };
    let Some(active) = &worker.active else {
        let message = format!("worker `{name}` has no deployment, so no version gets its requests; deploy one first");
        return Err(Fault::new(Code::DeploymentUnknown, message));
    };
    let overriding = overriding(request, name);
    let asker = Asker { worker, active, preview, overriding };
    let answers: Vec<wire::Explained> = match request.keys.as_slice() {
        [] => vec![asker.ask(header(KEY_HEADER))],
        keys => keys.iter().map(|key| asker.ask(Some(key))).collect(),
    };
    let achieved = achieved(worker, active, &answers);
    Ok(wire::Explanation { deployment_id: active.id.to_string(), answers, achieved })
}

struct Asker<'a> {
    worker: &'a WorkerView,
    active: &'a Deployment,
    preview: Option<VersionId>,
    overriding: Option<VersionId>,
}

impl Asker<'_> {
    fn ask(&self, key: Option<&str>) -> wire::Explained {
        let (worker, active) = (&self.worker.name, self.active);
        let wish = Wish { overriding: self.overriding, key: key.map(str::as_bytes) };
        let (version, reason) = match self.preview {
            Some(version) => (version, Reason::Preview),
            None => {
                let decision = decide(worker, &active.split, &active.allotment, wish, || 0);
                (decision.version, decision.reason)
            }
        };
        let slot = (reason == Reason::Key).then(|| slot_of_key(worker, wish.key.unwrap_or_default()));
        // A draw is certain only if there is nothing else to draw.
        let is_known = reason != Reason::Random || active.split.stable().is_some();
        let tipping = slot.map(|slot| active.allotment.tipping(slot));
        wire::Explained {
            key: key.map(str::to_owned),
            slot: slot.map(|slot| slot.index()),
            version_id: is_known.then(|| version.to_string()),
            version_number: is_known.then(|| self.worker.version(version).map(|version| version.number)).flatten(),
            reason: reason.as_str().to_owned(),
            changes_at: tipping.map(|tipping| wire::ChangesAt {
                version_id: tipping.version.to_string(),
                percentage: tipping.share.percent(),
            }),
        }
    }
}

/// How the answers fell, in the order of the deployment.
fn achieved(worker: &WorkerView, active: &Deployment, answers: &[wire::Explained]) -> Vec<wire::Achieved> {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for answer in answers {
        if let Some(version) = &answer.version_id {
            *counts.entry(version.as_str()).or_default() += 1;
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "at most KEYS_MAX answers")]
    let percent = |count: u64| 100.0 * count as f64 / answers.len().max(1) as f64;
    let entry = |(version, share): &(VersionId, crate::domain::split::Share)| {
        let id = version.to_string();
        let count = counts.get(id.as_str()).copied().unwrap_or_default();
        wire::Achieved {
            version_number: worker.version(*version).map(|version| version.number),
            version_id: id,
            configured: share.percent(),
            count,
            achieved: percent(count),
        }
    };
    active.split.entries().iter().map(entry).collect()
}

/// The version that the override header names for this worker; anything wrong with it is no override (`SEL-10`, `SEL-11`).
fn overriding(request: &wire::ExplainRequest, worker: &WorkerName) -> Option<VersionId> {
    let lines: Vec<&str> = request
        .headers
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case(OVERRIDES_HEADER))
        .map(|(_, value)| value.as_str())
        .collect();
    // Several lines are one list (`SEL-17`).
    let dictionary = sfv::Parser::new(&lines.join(", ")).parse::<sfv::Dictionary>().ok()?;
    match dictionary.get(worker.as_str())? {
        sfv::ListEntry::Item(item) => item.bare_item.as_string()?.as_str().parse().ok(),
        sfv::ListEntry::InnerList(_) => None,
    }
}
