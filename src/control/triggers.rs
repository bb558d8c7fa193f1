//! What is about a worker and not about a version (`NV-1`, `NV-3`): routes, custom domains, its hosts under `.localhost`, and
//! its settings. Every call replaces the whole of its kind, as `wrangler triggers deploy` expects.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use serde_json::{Map, Value, json};

use crate::catalog::{self, Triggers, WorkerView};
use crate::control::fault::{Code, Fault, Outcome};
use crate::control::metadata::SETTINGS;
use crate::control::read::existing;
use crate::control::request::{Params, json};
use crate::control::shape::{self, Answer};
use crate::control::{Api, wire};
use crate::domain::route::{Hostname, RoutePattern};

// --- Hosts under `.localhost` ---

/// `GET …/workers/subdomain`: what stands for an account's name under workers.dev.
pub(super) async fn account_subdomain() -> Answer<Value> {
    Answer::of(json!({ "subdomain": wire::ACCOUNT }))
}

/// `GET …/scripts/:n/subdomain`.
pub(super) async fn subdomain(State(api): State<Arc<Api>>, params: Params) -> Outcome<Answer<wire::Subdomain>> {
    let view = api.catalog.view();
    Ok(Answer::of(subdomain_of(&existing(&view, &params.worker()?)?.triggers)))
}

/// `POST …/scripts/:n/subdomain`: previews follow `enabled` where they are not named (`URL-5`).
pub(super) async fn set_subdomain(
    State(api): State<Arc<Api>>,
    params: Params,
    body: Body,
) -> Outcome<Answer<wire::Subdomain>> {
    let worker = params.worker()?;
    existing(&api.catalog.view(), &worker)?;
    let wish: wire::Subdomain = json(body, "`{\"enabled\": true, \"previews_enabled\": true}`").await?;
    let subdomain = catalog::Subdomain { enabled: wish.enabled, previews_enabled: wish.previews_enabled };
    api.catalog.set_subdomain(&worker, subdomain).await?;
    let previews_enabled = Some(wish.previews_enabled.unwrap_or(wish.enabled));
    Ok(Answer::of(wire::Subdomain { enabled: wish.enabled, previews_enabled }))
}

/// `GET …/workers/workers/:n` (`WRANGLER_API` 3.9): where the worker and its versions answer.
pub(super) async fn worker(State(api): State<Arc<Api>>, params: Params) -> Outcome<Answer<Value>> {
    let view = api.catalog.view();
    let worker = existing(&view, &params.worker()?)?;
    let port = api.data_addr.port();
    let created = shape::time(worker.created_ms);
    let updated = worker.latest().map_or_else(|| created.clone(), |version| shape::time(version.created_ms));
    let mut answer = json!({
        "id": worker.tag,
        "name": worker.name.as_str(),
        "created_on": created,
        "updated_on": updated,
        "logpush": false,
        "tags": [],
        "tail_consumers": [],
        "observability": { "enabled": false },
        "subdomain": {
            "enabled": worker.triggers.workers_dev,
            "previews_enabled": worker.triggers.previews_enabled,
            "url": format!("http://{}.localhost:{port}", worker.name),
            // wrangler puts the first 8 digits of a version's id, or an alias, before it.
            "preview_url_suffix": format!("-{}.localhost:{port}", worker.name),
        },
    });
    if let (Value::Object(answer), Value::Object(settings)) = (&mut answer, &worker.settings) {
        answer.extend(settings.clone());
    }
    Ok(Answer::of(answer))
}

fn subdomain_of(triggers: &Triggers) -> wire::Subdomain {
    wire::Subdomain { enabled: triggers.workers_dev, previews_enabled: Some(triggers.previews_enabled) }
}

// --- Routes and domains ---

/// `GET …/zones/:z/workers/routes`: the routes of all workers, since all zones are one.
pub(super) async fn all_routes(State(api): State<Arc<Api>>) -> Answer<Vec<Value>> {
    let view = api.catalog.view();
    let owned = view.workers().flat_map(|worker| route_items(worker).into_iter());
    let disabled =
        view.disabled_routes().iter().map(|pattern| json!({ "id": pattern.as_str(), "pattern": pattern.as_str() }));
    Answer::of(owned.chain(disabled).collect())
}

/// `POST …/zones/:z/workers/routes`: a route without a worker, which disables less specific ones for its pattern (`RTE-6`).
pub(super) async fn disable_route(State(api): State<Arc<Api>>, body: Body) -> Outcome<Answer<Value>> {
    #[derive(serde::Deserialize)]
    struct Wish {
        pattern: String,
        script: Option<String>,
    }
    let Wish { pattern, script } = json(body, "`{\"pattern\": text}`").await?;
    if let Some(script) = script.filter(|script| !script.is_empty()) {
        let message = format!(
            "the routes of a worker are set all at once: `PUT …/workers/scripts/{script}/routes`; here a route is made that has none"
        );
        return Err(Fault::at(Code::Invalid, "script", message));
    }
    let pattern: RoutePattern =
        pattern.parse().map_err(|error| Fault::at(Code::Invalid, "pattern", format!("{error}")))?;
    api.catalog.disable_route(pattern.clone()).await?;
    Ok(Answer::of(json!({ "id": pattern.as_str(), "pattern": pattern.as_str() })))
}

/// `DELETE …/zones/:z/workers/routes/:pattern`: a route without a worker is forgotten.
pub(super) async fn enable_route(State(api): State<Arc<Api>>, params: Params) -> Outcome<Answer<Value>> {
    let unknown = || {
        let message = format!("there is no route without a worker for `{}`", params.get("route"));
        Fault::new(Code::RouteUnknown, message)
    };
    let pattern: RoutePattern = params.get("route").parse().map_err(|_| unknown())?;
    if !api.catalog.view().disabled_routes().contains(&pattern) {
        return Err(unknown());
    }
    api.catalog.enable_route(pattern.clone()).await?;
    Ok(Answer::of(json!({ "id": pattern.as_str() })))
}

/// `GET …/scripts/:n/routes`.
pub(super) async fn routes(State(api): State<Arc<Api>>, params: Params) -> Outcome<Answer<Vec<Value>>> {
    let view = api.catalog.view();
    Ok(Answer::of(route_items(existing(&view, &params.worker()?)?)))
}

/// `PUT …/scripts/:n/routes`: all faults at once, each with its place.
pub(super) async fn set_routes(State(api): State<Arc<Api>>, params: Params, body: Body) -> Outcome<Answer<Vec<Value>>> {
    let worker = params.worker()?;
    existing(&api.catalog.view(), &worker)?;
    let wishes: Vec<wire::Route> = json(body, "`[{\"pattern\": text}, …]`").await?;
    let parse = |wish: wire::Route| {
        let wire::Route { pattern, zone_name, zone_id } = wish;
        let pattern = pattern.parse::<RoutePattern>().map_err(|error| error.to_string())?;
        Ok(catalog::Route { pattern, zone_name, zone_id })
    };
    let routes = all(wishes, "routes", "pattern", parse)?;
    api.catalog.set_routes(&worker, routes).await?;
    let view = api.catalog.view();
    Ok(Answer::of(route_items(existing(&view, &worker)?)))
}

fn route_items(worker: &WorkerView) -> Vec<Value> {
    let item = |route: &catalog::Route| {
        let pattern = route.pattern.as_str();
        json!({ "id": pattern, "pattern": pattern, "script": worker.name.as_str(), "zone_name": route.zone_name })
    };
    worker.triggers.routes.iter().map(item).collect()
}

/// `POST …/scripts/:n/domains/changeset`: what `PUT …/domains/records` with the same hosts would change.
pub(super) async fn domain_changes(State(api): State<Arc<Api>>, params: Params, body: Body) -> Outcome<Answer<Value>> {
    let view = api.catalog.view();
    let worker = existing(&view, &params.worker()?)?;
    let wanted = hostnames(json(body, "`[{\"hostname\": text}, …]`").await?)?;
    let has = &worker.triggers.domains;
    let owner = |hostname: &Hostname| {
        view.workers().find(|other| other.name != worker.name && other.triggers.domains.contains(hostname))
    };
    let item = |hostname: &Hostname| json!({ "hostname": hostname.as_str(), "service": worker.name.as_str() });
    let (taken, free): (Vec<_>, Vec<_>) =
        wanted.iter().filter(|hostname| !has.contains(hostname)).partition(|hostname| owner(hostname).is_some());
    let conflicting = taken.iter().filter_map(|hostname| {
        let owner = owner(hostname)?;
        Some(json!({ "hostname": hostname.as_str(), "service": worker.name.as_str(), "external_dns_record_id": null,
            "existing": { "service": owner.name.as_str() } }))
    });
    Ok(Answer::of(json!({
        "added": free.into_iter().map(item).collect::<Vec<_>>(),
        "removed": has.iter().filter(|hostname| !wanted.contains(hostname)).map(item).collect::<Vec<_>>(),
        "updated": [],
        "conflicting": conflicting.collect::<Vec<_>>(),
    })))
}

/// `PUT …/scripts/:n/domains/records`. A domain of another worker stays there, whatever the `override_…` switches say: they
/// speak of DNS, which is not ours.
pub(super) async fn set_domains(
    State(api): State<Arc<Api>>,
    params: Params,
    body: Body,
) -> Outcome<Answer<Vec<Value>>> {
    let worker = params.worker()?;
    existing(&api.catalog.view(), &worker)?;
    let records: wire::DomainRecords = json(body, "`{\"origins\": [{\"hostname\": text}, …]}`").await?;
    let wanted = hostnames(records.origins)?;
    let items =
        wanted.iter().map(|hostname| json!({ "hostname": hostname.as_str(), "service": worker.as_str() })).collect();
    api.catalog.set_domains(&worker, wanted).await?;
    Ok(Answer::of(items))
}

fn hostnames(domains: Vec<wire::Domain>) -> Outcome<Vec<Hostname>> {
    all(domains, "origins", "hostname", |domain: wire::Domain| {
        domain.hostname.parse::<Hostname>().map_err(|error| error.to_string())
    })
}

/// Each item parsed, or every fault with its place.
fn all<A, B>(items: Vec<A>, list: &str, key: &str, parse: impl Fn(A) -> Result<B, String>) -> Outcome<Vec<B>> {
    let mut good = Vec::with_capacity(items.len());
    let mut faults = Vec::new();
    for (index, item) in items.into_iter().enumerate() {
        match parse(item) {
            Ok(item) => good.push(item),
            Err(message) => faults.push((format!("{list}[{index}].{key}"), message)),
        }
    }
    if faults.is_empty() { Ok(good) } else { Err(Fault::all(Code::Invalid, faults)) }
}

// --- Schedules ---

/// `GET …/scripts/:n/schedules`.
pub(super) async fn schedules(State(api): State<Arc<Api>>, params: Params) -> Outcome<Answer<Value>> {
    existing(&api.catalog.view(), &params.worker()?)?;
    Ok(Answer::of(json!({ "schedules": [] })))
}

/// `PUT …/scripts/:n/schedules`: only none of them, as yet.
pub(super) async fn set_schedules(State(api): State<Arc<Api>>, params: Params, body: Body) -> Outcome<Answer<Value>> {
    existing(&api.catalog.view(), &params.worker()?)?;
    let crons: Vec<Value> = json(body, "`[{\"cron\": text}, …]`").await?;
    if !crons.is_empty() {
        let message = "cron triggers are not offered yet: remove `crons` from the configuration, and call the worker by HTTP from a timer of yours";
        return Err(Fault::at(Code::NotOffered, "crons", message));
    }
    Ok(Answer::of(json!({ "schedules": [] })))
}

// --- Settings ---

/// `GET …/scripts/:n/script-settings`.
pub(super) async fn settings(State(api): State<Arc<Api>>, params: Params) -> Outcome<Answer<Value>> {
    let view = api.catalog.view();
    Ok(Answer::of(settings_of(existing(&view, &params.worker()?)?)))
}

/// `PATCH …/scripts/:n/script-settings`: replaces the keys that are named, `null` removes one. They are kept and shown; what
/// they ask for (Logpush, tail workers) is not there yet.
pub(super) async fn patch_settings(State(api): State<Arc<Api>>, params: Params, body: Body) -> Outcome<Answer<Value>> {
    let worker = params.worker()?;
    let mut settings = known_settings(&existing(&api.catalog.view(), &worker)?.settings);
    let patch: Map<String, Value> = json(body, "an object of settings").await?;
    let mut notes = Vec::new();
    for (key, value) in patch {
        if !SETTINGS.contains(&key.as_str()) {
            let key: String = key.chars().take(80).collect();
            notes.push(format!("the setting `{key}` is unknown and was ignored"));
        } else if value.is_null() {
            settings.remove(&key);
        } else {
            settings.insert(key, value);
        }
    }
    if let Some(fault) = tags_fault(&settings) {
        return Err(fault);
    }
    api.catalog.set_settings(&worker, Value::Object(settings)).await?;
    let view = api.catalog.view();
    Ok(Answer::of(settings_of(existing(&view, &worker)?)).noting(notes))
}

fn settings_of(worker: &WorkerView) -> Value {
    let mut answer =
        json!({ "logpush": false, "observability": { "enabled": false }, "tags": [], "tail_consumers": [] });
    if let Value::Object(answer) = &mut answer {
        answer.extend(known_settings(&worker.settings));
    }
    answer
}

fn known_settings(settings: &Value) -> Map<String, Value> {
    settings.as_object().cloned().unwrap_or_default()
}

/// Tags are read back by wrangler as a list of texts, and it fails on anything else.
fn tags_fault(settings: &Map<String, Value>) -> Option<Fault> {
    let tags = settings.get("tags")?;
    let fits = tags.as_array().is_some_and(|tags| tags.iter().all(Value::is_string));
    (!fits).then(|| Fault::at(Code::Invalid, "tags", "`tags` is a list of texts"))
}
