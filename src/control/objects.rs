//! Durable Objects, as people look at them: list, view, reset, delete, and what a deployment would do to them. Ours, beside
//! Cloudflare's.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::State;

use crate::catalog::WorkerView;
use crate::control::fault::{Code, Fault, Outcome};
use crate::control::read::existing;
use crate::control::request::{Params, Query};
use crate::control::shape::{self, Answer};
use crate::control::{Api, wire};
use crate::domain::allotment::slot_of_object;
use crate::domain::object::{ClassName, ObjectId, ObjectNamespaceId};
use crate::host::object::Address;
use crate::host::ports::StoreFault;
use crate::objects::admin::{Info, Plan};

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
