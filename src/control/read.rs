//! Reading workers and versions, and deleting them: what the catalog's view holds, in the shapes of the wire.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, header};
use serde_json::{Value, json};

use crate::catalog::{self, Force, View, WorkerView};
use crate::control::fault::{Code, Fault, Outcome};
use crate::control::request::{Params, Query};
use crate::control::shape::{self, Answer};
use crate::control::{Api, wire};
use crate::domain::config::BindingValue;
use crate::domain::id::WorkerName;
use crate::domain::limits::DEPLOYABLE_VERSIONS;
use crate::domain::object::ObjectNamespaceId;

/// Versions on one page of a list.
const PER_PAGE: usize = 100;
const PER_PAGE_MAX: usize = 1000;
/// What the module's part is called when it is read back.
const CONTENT: &str = "worker.wasm";

/// The worker of that name, or 10007.
pub(super) fn existing<'v>(view: &'v View, worker: &WorkerName) -> Outcome<&'v Arc<WorkerView>> {
    view.worker(worker).ok_or_else(|| catalog::Error::WorkerUnknown { worker: worker.clone() }.into())
}

/// `GET …/workers/scripts`: all workers, drafts too.
pub(super) async fn workers(State(api): State<Arc<Api>>) -> Answer<Vec<wire::Worker>> {
    Answer::of(api.catalog.view().workers().map(|worker| worker_item(worker)).collect())
}

fn worker_item(worker: &WorkerView) -> wire::Worker {
    let latest = worker.latest();
    let created = shape::time(worker.created_ms);
    wire::Worker {
        id: worker.name.to_string(),
        etag: latest.map(|version| version.module.digest.to_string()).unwrap_or_default(),
        modified_on: latest.map_or_else(|| created.clone(), |version| shape::time(version.created_ms)),
        created_on: created,
        handlers: latest.map(|_| shape::handlers()).unwrap_or_default(),
        sluice: wire::WorkerFacts {
            latest_version_id: latest.map(|version| version.id.to_string()),
            deployment: worker
                .active
                .as_ref()
                .map(|active| shape::deployment(active, shape::moved_slots(worker, active.id))),
        },
    }
}

/// `GET …/versions[?deployable=true][&page=N&per_page=N]`: newest first. `deployable` ignores paging (`VER-10`).
pub(super) async fn versions(
    State(api): State<Arc<Api>>,
    params: Params,
    query: Query,
) -> Outcome<Answer<wire::Versions>> {
    let view = api.catalog.view();
    let worker = existing(&view, &params.worker()?)?;
    let total = worker.newest_first().count();
    let (page, per_page) = if query.is_on("deployable")? {
        (1, DEPLOYABLE_VERSIONS)
    } else {
        (query.number("page", 1, usize::MAX)?, query.number("per_page", PER_PAGE, PER_PAGE_MAX)?)
    };
    let items: Vec<wire::Version> = worker
        .newest_first()
        .skip((page - 1).saturating_mul(per_page))
        .take(per_page)
        .map(|version| shape::version(worker, version, api.data_addr))
        .collect();
    let info = wire::ResultInfo {
        page: page as u64,
        per_page: per_page as u64,
        count: items.len() as u64,
        total_count: total as u64,
        cursor: None,
    };
    Ok(Answer::of(wire::Versions { items }).paged(info))
}

/// `GET …/versions/:v`, by its whole id.
pub(super) async fn version(State(api): State<Arc<Api>>, params: Params) -> Outcome<Answer<wire::Version>> {
    let view = api.catalog.view();
    let worker = existing(&view, &params.worker()?)?;
    let id = params.version()?;
    match worker.version(id) {
        Some(version) => Ok(Answer::of(shape::version(worker, version, api.data_addr))),
        None => Err(catalog::Error::VersionUnknown { worker: worker.name.clone(), version: id }.into()),
    }
}

/// `GET …/content/v2[?version=…]`: the module as it was uploaded, in the form that an upload has it in; of the latest version
/// unless the query names one by its whole id.
pub(super) async fn content(State(api): State<Arc<Api>>, params: Params, query: Query) -> Outcome<Response> {
    let view = api.catalog.view();
    let worker = existing(&view, &params.worker()?)?;
    let version = match query.get("version") {
        Some(_) => {
            let id = query.version("version")?;
            let unknown = || catalog::Error::VersionUnknown { worker: worker.name.clone(), version: id };
            worker.version(id).ok_or_else(unknown)?
        }
        None => worker.latest().ok_or_else(|| catalog::Error::WorkerUnknown { worker: worker.name.clone() })?,
    };
    let digest = version.module.digest;
    let module = api.catalog.modules().read(digest).await.map_err(|error| {
        tracing::error!(%error, module = %digest, "cannot read a module");
        Fault::new(Code::Host, "the module cannot be read; the log of the node says why")
    })?;
    // A digest of the module, so that it cannot stand in it.
    let boundary = format!("sluice-{digest}");
    let head = format!(
        "--{boundary}\r\ncontent-disposition: form-data; name=\"{CONTENT}\"; filename=\"{CONTENT}\"\r\n\
         content-type: application/wasm\r\n\r\n"
    );
    let tail = format!("\r\n--{boundary}--\r\n");
    let body = [Bytes::from(head), Bytes::from(module), Bytes::from(tail)].map(Ok::<_, Infallible>);
    let mut response = Body::from_stream(futures_util::stream::iter(body)).into_response();
    let kind = format!("multipart/form-data; boundary={boundary}");
    response.headers_mut().extend([
        (header::CONTENT_TYPE, HeaderValue::try_from(kind).unwrap_or_else(|_| HeaderValue::from_static(""))),
        (HeaderName::from_static("cf-entrypoint"), HeaderValue::from_static(CONTENT)),
    ]);
    Ok(response)
}

/// `DELETE …/versions/:v` (`VER-11`).
pub(super) async fn delete_version(State(api): State<Arc<Api>>, params: Params) -> Outcome<Answer<()>> {
    let worker = params.worker()?;
    existing(&api.catalog.view(), &worker)?;
    api.catalog.delete_version(&worker, params.version()?).await?;
    Ok(Answer::done())
}

/// `DELETE …/services/:n` and `DELETE …/scripts/:n`, `[?force=true]`.
pub(super) async fn delete_worker(State(api): State<Arc<Api>>, params: Params, query: Query) -> Outcome<Answer<()>> {
    let worker = params.worker()?;
    let force = if query.is_on("force")? { Force::Yes } else { Force::No };
    api.catalog.delete_worker(&worker, force).await?;
    Ok(Answer::done())
}

/// `GET …/services/:n` (`WRANGLER_API` 2.5): the first call of every deploy.
pub(super) async fn service(State(api): State<Arc<Api>>, params: Params) -> Outcome<Answer<Value>> {
    let view = api.catalog.view();
    let worker = existing(&view, &params.worker()?)?;
    let latest = worker.latest();
    let created = shape::time(worker.created_ms);
    let modified = latest.map_or_else(|| created.clone(), |version| shape::time(version.created_ms));
    let mut answer = json!({
        "id": worker.name.as_str(),
        "created_on": created,
        "modified_on": modified,
        "default_environment": {
            "environment": "production",
            "created_on": created,
            "modified_on": modified,
            "script": {
                "id": worker.name.as_str(),
                "tag": worker.tag,
                "tags": worker.settings.get("tags").cloned().unwrap_or_else(|| json!([])),
                "etag": latest.map(|version| version.module.digest.to_string()).unwrap_or_default(),
                // Anything else makes wrangler warn, or download a configuration from a dashboard.
                "last_deployed_from": "wrangler",
            },
        },
    });
    // Which migrations a client sends depends on it (`MIG-3`); one that was never there is not `null`.
    if let Some(tag) = &worker.classes.tag {
        answer["default_environment"]["script"]["migration_tag"] = json!(tag);
    }
    Ok(Answer::of(answer))
}

/// `GET …/settings`: the latest version's configuration and the worker's settings, in one object.
pub(super) async fn settings(State(api): State<Arc<Api>>, params: Params) -> Outcome<Answer<Value>> {
    let view = api.catalog.view();
    let worker = existing(&view, &params.worker()?)?;
    let mut answer = json!({ "bindings": [], "compatibility_flags": [], "usage_model": "standard" });
    if let Some(version) = worker.latest() {
        answer["bindings"] = json!(shape::bindings(&version.config));
        answer["compatibility_date"] = json!(version.config.compatibility_date);
        answer["compatibility_flags"] = json!(version.config.compatibility_flags);
        answer["limits"] = json!(shape::limits(&version.config));
    }
    if let (Value::Object(answer), Value::Object(settings)) = (&mut answer, &worker.settings) {
        answer.extend(settings.clone());
    }
    Ok(Answer::of(answer))
}

/// `GET …/references`: which workers are bound to this one or to its classes, now or with their latest version.
pub(super) async fn references(State(api): State<Arc<Api>>, params: Params) -> Outcome<Answer<Value>> {
    let view = api.catalog.view();
    let name = params.worker()?;
    existing(&view, &name)?;
    let incoming: Vec<Value> = view
        .workers()
        .filter(|other| other.name != name && refers_to(other, &name))
        .map(|other| json!({ "service": other.name.as_str(), "environment": "production" }))
        .collect();
    let others = view.workers().filter(|other| other.name != name);
    let objects: Vec<Value> = others.flat_map(|other| bound_classes(&view, other, &name)).collect();
    Ok(Answer::of(json!({
        "services": { "incoming": incoming, "outgoing": [], "pages_function": false },
        "durable_objects": objects,
        "dispatch_outbounds": [],
    })))
}

/// The classes of worker `name` that `worker` binds.
fn bound_classes(view: &View, worker: &WorkerView, name: &WorkerName) -> Vec<Value> {
    let bound = worker.live().chain(worker.latest()).flat_map(|version| view.bound_objects(worker, version));
    let namespaces: BTreeSet<ObjectNamespaceId> = bound.filter_map(|bound| bound.namespace).collect();
    let owned = namespaces.into_iter().filter_map(|namespace| Some((namespace, view.object_class(namespace)?)));
    let ours = owned.filter(|(_, (owner, _))| owner.name == *name);
    ours.map(|(namespace, (owner, class))| {
        json!({
            "service": worker.name.as_str(),
            "environment": "production",
            "durable_object_namespace_id": namespace.to_string(),
            "durable_object_namespace_name": format!("{}_{class}", owner.name),
        })
    })
    .collect()
}

fn refers_to(worker: &WorkerView, name: &WorkerName) -> bool {
    worker
        .live()
        .chain(worker.latest())
        .flat_map(|version| &version.config.bindings)
        .any(|binding| matches!(&binding.value, BindingValue::Service { worker } if worker == name))
}
