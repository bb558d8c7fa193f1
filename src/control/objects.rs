//! Durable Objects, as people look at them: list, view, history, reset, delete, and what a deployment would do to them. Ours, beside
//! Cloudflare's.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::State;

use crate::catalog::{DEPLOYMENTS_KEPT, WorkerView};
use crate::control::fault::{Code, Fault, Outcome};
use crate::control::read::existing;
use crate::control::request::{Params, Query};
use crate::control::shape::{self, Answer};
use crate::control::{Api, wire};
use crate::domain::allotment::slot_of_object;
use crate::domain::deployment::assignments;
use crate::domain::object::{ClassName, ObjectId, ObjectNamespaceId};
use crate::domain::stay::Left;
use crate::host::object::Address;
use crate::host::ports::StoreFault;
use crate::objects::admin::{Info, Plan};
use crate::objects::past::{self, Rang};

/// Objects in a page.
const PAGE: usize = 100;
const PAGE_MAX: usize = 1_000;

/// `GET …/scripts/:n/objects[?class=C][&cursor=…][&per_page=N]`: by class, then by id.
pub(super) async fn list(State(api): State<Arc<Api>>, params: Params, query: Query) -> Outcome<Answer<wire::Objects>> {
    let view = api.catalog.view();
    let worker = existing(&view, &params.worker()?)?;
    let limit = query.number("per_page", PAGE, PAGE_MAX)?;
    let cursor =
        query.get("cursor").filter(|cursor| !cursor.is_empty()).map(|text| cursor(worker, text)).transpose()?;
    let classes: Vec<&ClassName> = match query.get("class") {
        Some(class) => vec![class_of(worker, class)?.0],
        None => worker.classes.by_name.keys().collect(),
    };
    let mut objects = Vec::new();
    for class in classes {
        let after = match &cursor {
            Some((at, _)) if class < at => continue,
            Some((at, id)) if class == at => Some(*id),
            _ => None,
        };
        let room = limit - objects.len();
        if room == 0 {
            break;
        }
        objects.extend(api.objects.list(worker, class, after, room).await.map_err(|fault| store_failed(&fault))?);
    }
    // A full page may be the last one; the next is empty then.
    let next = (objects.len() == limit).then(|| objects.last().map(|info| format!("{}/{}", info.class, info.id)));
    let info = wire::ResultInfo {
        count: objects.len() as u64,
        per_page: limit as u64,
        cursor: Some(next.flatten().unwrap_or_default()),
        ..Default::default()
    };
    let counts = api.objects.counts(&worker.name);
    let since_start = wire::ObjectCounts {
        started: counts.started.load(Ordering::Relaxed),
        reassigned: counts.reassigned.load(Ordering::Relaxed),
        failed: counts.failed.load(Ordering::Relaxed),
    };
    let objects = objects.into_iter().map(|info| shape_of(&api, worker, info)).collect();
    Ok(Answer::of(wire::Objects { objects, since_start }).paged(info))
}

/// `GET …/scripts/:n/objects/:class/:object[?by=name]`: also of an object that never was, since it need not be to be assigned.
pub(super) async fn view(State(api): State<Arc<Api>>, params: Params, query: Query) -> Outcome<Answer<wire::Object>> {
    let view = api.catalog.view();
    let worker = existing(&view, &params.worker()?)?;
    let (class, namespace, id) = object(worker, &params, &query)?;
    let mut info = api.objects.view(worker, class, namespace, id).await.map_err(|fault| store_failed(&fault))?;
    if is_by_name(&query)? {
        info.name.get_or_insert_with(|| params.get("object").to_owned());
    }
    Ok(Answer::of(shape_of(&api, worker, info)))
}

/// `GET …/scripts/:n/objects/:class/:object/history[?by=name]`: what it was assigned, by whom, and what happened to it on this node.
pub(super) async fn history(
    State(api): State<Arc<Api>>,
    params: Params,
    query: Query,
) -> Outcome<Answer<wire::ObjectHistory>> {
    let view = api.catalog.view();
    let worker = existing(&view, &params.worker()?)?;
    let (class, namespace, id) = object(worker, &params, &query)?;
    let info = api.objects.view(worker, class, namespace, id).await.map_err(|fault| store_failed(&fault))?;
    let by_name = is_by_name(&query)?.then(|| params.get("object").to_owned());
    let number = |version| worker.version(version).map(|version| version.number);
    let assignments = assignments(&worker.deployments, slot_of_object(&worker.name, id));
    let assignments = assignments.into_iter().map(|(deployment, version)| wire::ObjectAssignment {
        version_id: version.to_string(),
        version_number: number(version),
        on: shape::time(deployment.created_ms),
        deployment_id: deployment.id.to_string(),
        author_email: deployment.provenance.author.clone(),
        source: deployment.provenance.source.as_str().to_owned(),
        triggered_by: deployment.triggered_by.as_str().to_owned(),
        message: deployment.message.clone(),
    });
    let past = api.objects.past(&Address { namespace, id, fork: None });
    let stays = past.stays.iter().map(|stay| wire::ObjectStay {
        version_id: stay.version.to_string(),
        version_number: number(stay.version),
        started_on: shape::time(stay.first_ms),
        starts: stay.starts,
        last_started_on: shape::time(stay.last_ms),
        ended_on: stay.ended.as_ref().map(|ended| shape::time(ended.at_ms)),
        ended_by: stay.ended.as_ref().map(|ended| ended.why.as_str().to_owned()),
        why: stay.ended.as_ref().and_then(|ended| match &ended.why {
            Left::Failed(why) => Some(why.clone()),
            _ => None,
        }),
    });
    Ok(Answer::of(wire::ObjectHistory {
        id: id.to_string(),
        name: info.name.or(by_name),
        class_name: class.as_str().to_owned(),
        created_on: info.created_ms.map(shape::time),
        assignments: assignments.collect(),
        assignments_cut: worker.deployments.len() == DEPLOYMENTS_KEPT,
        stays: stays.collect(),
        stays_since: shape::time(past.since_ms),
        alarm: info.alarm_ms.map(shape::time),
        last_alarm: past.rang.map(alarm),
    }))
}

fn alarm(rang: Rang) -> wire::ObjectAlarm {
    let (outcome, message) = match rang.outcome {
        past::Outcome::Well => ("ok", None),
        past::Outcome::Failed(message) => ("failed", Some(message)),
        past::Outcome::Lost(message) => ("lost", Some(message)),
    };
    wire::ObjectAlarm {
        due_on: shape::time(rang.due_ms),
        ended_on: shape::time(rang.ended_ms),
        outcome: outcome.to_owned(),
        message,
    }
}

/// `POST …/scripts/:n/objects/:class/:object/reset`: it leaves memory; what it stored stays.
pub(super) async fn reset(
    State(api): State<Arc<Api>>,
    params: Params,
    query: Query,
) -> Outcome<Answer<serde_json::Value>> {
    let view = api.catalog.view();
    let worker = existing(&view, &params.worker()?)?;
    let (_, namespace, id) = object(worker, &params, &query)?;
    let was_live = api.objects.reset(&Address { namespace, id, fork: None });
    Ok(Answer::of(serde_json::json!({ "id": id.to_string(), "was_live": was_live })))
}

/// `DELETE …/scripts/:n/objects/:class/:object`: all that it stored, and its alarm.
pub(super) async fn delete(
    State(api): State<Arc<Api>>,
    params: Params,
    query: Query,
) -> Outcome<Answer<serde_json::Value>> {
    let view = api.catalog.view();
    let worker = existing(&view, &params.worker()?)?;
    let (_, namespace, id) = object(worker, &params, &query)?;
    let address = Address { namespace, id, fork: None };
    let existed = api.objects.delete(&address).await.map_err(|fault| store_failed(&fault))?;
    Ok(Answer::of(serde_json::json!({ "id": id.to_string(), "existed": existed })))
}

/// What a deployment would do, on the wire.
pub(super) fn plan(plan: Plan) -> wire::ObjectPlan {
    let moves = plan.moves.into_iter().map(|((from, to), objects)| wire::ObjectMoves {
        from: from.to_string(),
        to: to.to_string(),
        objects,
    });
    let sample = plan.sample.into_iter().map(|(info, to)| wire::ObjectMove {
        id: info.id.to_string(),
        name: info.name,
        class_name: info.class.as_str().to_owned(),
        from: info.assigned.map(|version| version.to_string()).unwrap_or_default(),
        to: to.to_string(),
        live: info.running.is_some(),
    });
    wire::ObjectPlan {
        objects: plan.objects,
        moving: plan.moving,
        live_moving: plan.live_moving,
        moves: moves.collect(),
        sample: sample.collect(),
        is_estimate: plan.is_estimate,
    }
}

/// The store failed: ours, not the caller's.
pub(super) fn store_failed(fault: &StoreFault) -> Fault {
    Fault::new(Code::Host, format!("the objects' storage failed: {fault}"))
}

fn shape_of(api: &Api, worker: &WorkerView, info: Info) -> wire::Object {
    let number = |version| worker.version(version).map(|version| version.number);
    let slot = slot_of_object(&worker.name, info.id);
    let address = Address { namespace: info.namespace, id: info.id, fork: None };
    let tipping = worker.active.as_ref().map(|active| active.allotment.tipping(slot));
    wire::Object {
        id: info.id.to_string(),
        name: info.name,
        class_name: info.class.as_str().to_owned(),
        namespace_id: info.namespace.to_string(),
        version_id: info.assigned.map(|version| version.to_string()),
        version_number: info.assigned.and_then(number),
        live: info.running.is_some(),
        running_version_id: info.running.map(|version| version.to_string()),
        running_version_number: info.running.and_then(number),
        switches_in_s: api.objects.switches_in(&address).map(|left| left.as_secs()),
        alarm: info.alarm_ms.map(shape::time),
        bytes: info.bytes,
        epoch: info.epoch,
        created_on: info.created_ms.map(shape::time),
        slot: slot.index(),
        changes_at: tipping.map(|tipping| wire::ChangesAt {
            version_id: tipping.version.to_string(),
            percentage: tipping.share.percent(),
        }),
    }
}

fn class_of<'a>(worker: &'a WorkerView, text: &str) -> Outcome<(&'a ClassName, ObjectNamespaceId)> {
    let found = worker.classes.by_name.iter().find(|(name, _)| name.as_str() == text);
    found.map(|(name, class)| (name, class.namespace)).ok_or_else(|| {
        let names: Vec<&str> = worker.classes.by_name.keys().map(ClassName::as_str).collect();
        let there = if names.is_empty() { "it has none".to_owned() } else { format!("it has {}", names.join(", ")) };
        let message = format!("worker `{}` has no Durable Object class `{text}`; {there}", worker.name);
        Fault::at(Code::ObjectUnknown, "class", message)
    })
}

fn is_by_name(query: &Query) -> Outcome<bool> {
    match query.get("by") {
        None | Some("id") => Ok(false),
        Some("name") => Ok(true),
        Some(_) => Err(Fault::at(Code::Parameter, "by", "`by` is `id` or `name`")),
    }
}

fn object<'a>(
    worker: &'a WorkerView,
    params: &Params,
    query: &Query,
) -> Outcome<(&'a ClassName, ObjectNamespaceId, ObjectId)> {
    let (class, namespace) = class_of(worker, params.get("class"))?;
    let text = params.get("object");
    let id = if is_by_name(query)? {
        namespace.id_from_name(text)
    } else {
        namespace.parse_id(text).map_err(|error| {
            let message = format!("{error} For the object of a name, add `?by=name`.");
            Fault::at(Code::ObjectUnknown, "object", message)
        })?
    };
    Ok((class, namespace, id))
}

fn cursor(worker: &WorkerView, text: &str) -> Outcome<(ClassName, ObjectId)> {
    let wrong = || Fault::at(Code::Parameter, "cursor", "`cursor` is what the page before gave");
    let (class, id) = text.split_once('/').ok_or_else(wrong)?;
    let (class, namespace) = class_of(worker, class).map_err(|_| wrong())?;
    Ok((class.clone(), namespace.parse_id(id).map_err(|_| wrong())?))
}
