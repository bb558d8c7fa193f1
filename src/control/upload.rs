//! Uploads: parts → metadata → the part that is the program → configuration → proof → version, and for `PUT` its deployment.
//!
//! Nothing is stored before the proof (`V2`). While it runs, reads, deployments and traffic go on: no lock is held, and the
//! catalog refuses a configuration that was resolved against a version that is not the latest any more (`UPL-6`); then it is
//! resolved again, and proven again only if that changed it. A client that goes away before the version is stored ends its
//! upload; what is known of one that comes again is in [`repeat`].

use std::path::Path;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use http::HeaderMap;
use serde_json::Value;
use tracing::Instrument as _;

use crate::catalog::{self, AndDeploy, CreateWorker, Expected, Latest, NewVersion, Published, Resolved};
use crate::control::fault::{Code, Fault, Outcome};
use crate::control::form::shown;
use crate::control::metadata::{Call, Metadata};
use crate::control::parts::{self, Module, Parts, plain};
use crate::control::request::{Caller, Params, Query};
use crate::control::shape::{self, Answer};
use crate::control::{Api, deploy, kv, repeat, wire};
use crate::domain::config::{Config, Inheritance};
use crate::domain::id::WorkerName;
use crate::domain::module::ModuleDigest;
use crate::domain::version::Provenance;
use crate::engine::compile::RefusalKind;
use crate::engine::prove::Proven;

/// The header that says which version has to be the latest still.
pub const IF_LATEST: &str = "sluice-if-latest";
/// How often an upload is resolved again because another one came first.
const ATTEMPTS: usize = 8;

/// `PUT …/scripts/:n`: a version, deployed to all traffic. Makes the worker if there is none; makes a draft of wrangler's
/// placeholder (`WRANGLER_API` 3.10).
pub(super) async fn put(
    State(api): State<Arc<Api>>,
    params: Params,
    query: Query,
    Caller(provenance): Caller,
    headers: HeaderMap,
    body: Body,
) -> Outcome<Answer<wire::Uploaded>> {
    let worker = params.worker()?;
    let expected = expected(&headers)?;
    let upload = read(&api, &worker, Call::Deploy, &headers, body).await?;
    if upload.is_draft(&api, &worker) {
        api.catalog.create_draft(&worker).await?;
        return Ok(Answer::of(draft_answer(&api, &worker)).noting(upload.metadata.notes));
    }
    let maker = Maker { inheritance: inheritance(&query), provenance, expected };
    let (done, mut notes) = publish_once(&api, &worker, upload, maker).await?;
    let view = api.catalog.view();
    let Some(record) = view.worker(&worker) else { return Err(gone(&worker)) };
    let version = shape::version(record, &done.published.version, api.data_addr);
    if let Some(settings) = done.settings
        && let Err(error) = api.catalog.set_settings(&worker, settings).await
    {
        // The version is deployed; a failure answered now would make the client upload it again.
        notes.push(format!("the settings could not be stored: {error}"));
    }
    let moved_slots = done.published.moved_slots;
    let deployment = done.published.deployment.map(|deployment| {
        shape::deployment(&deployment, Some(wire::DeploymentFacts { moved_slots, ..Default::default() }))
    });
    let answer = wire::Uploaded {
        id: worker.to_string(),
        deployment_id: version.id.clone(),
        etag: version.resources.script.etag.clone(),
        tag: Some(record.tag.clone()),
        startup_time_ms: version.startup_time_ms,
        created_on: shape::time(record.created_ms),
        modified_on: version.metadata.created_on.clone(),
        handlers: shape::handlers(),
        sluice: Some(wire::UploadedFacts { version, deployment }),
    };
    Ok(Answer::of(answer).noting(notes))
}

/// `POST …/scripts/:n/versions`: a version that is not deployed. The worker must have a record (`CRE-2`).
pub(super) async fn post(
    State(api): State<Arc<Api>>,
    params: Params,
    query: Query,
    Caller(provenance): Caller,
    headers: HeaderMap,
    body: Body,
) -> Outcome<Answer<wire::Version>> {
    let worker = params.worker()?;
    if api.catalog.view().worker(&worker).is_none() {
        return Err(catalog::Error::WorkerUnknown { worker }.into());
    }
    let expected = expected(&headers)?;
    let upload = read(&api, &worker, Call::Version, &headers, body).await?;
    let maker = Maker { inheritance: inheritance(&query), provenance, expected };
    let (done, notes) = publish_once(&api, &worker, upload, maker).await?;
    let view = api.catalog.view();
    let Some(record) = view.worker(&worker) else { return Err(gone(&worker)) };
    Ok(Answer::of(shape::version(record, &done.published.version, api.data_addr)).noting(notes))
}

/// An upload that arrived whole and can be read.
struct Upload {
    call: Call,
    metadata: Metadata,
    parts: Parts,
    /// What the client calls it, if it may send it again.
    key: Option<Vec<u8>>,
}

/// Who uploads, and what they ask for beside the upload itself.
struct Maker {
    inheritance: Inheritance,
    provenance: Provenance,
    /// What they saw.
    expected: Expected,
}

/// What an upload came to.
struct Done {
    published: Published,
    /// The worker's settings as they are to be, if the upload named any.
    settings: Option<Value>,
}

async fn read(api: &Api, worker: &WorkerName, call: Call, headers: &HeaderMap, body: Body) -> Outcome<Upload> {
    let key = repeat::key(headers)?.map(<[u8]>::to_vec);
    let parts = parts::read(headers, body, api.catalog.modules().temp_dir()).await?;
    let metadata = Metadata::parse(&parts.metadata, worker, call)?;
    if metadata.body_part.is_some() {
        let (code, message) = match call {
            Call::Version => (Code::ServiceWorker, "Version upload failed: the service-worker format has no versions"),
            Call::Deploy => (Code::Invalid, "the service-worker format is not offered"),
        };
        return Err(Fault::at(
            code,
            "body_part",
            format!(
                "{message}; upload a component beside an ES module: a `main` that says `export default {{}};`, with `no_bundle = true`"
            ),
        ));
    }
    Ok(Upload { call, metadata, parts, key })
}

impl Upload {
    /// wrangler's placeholder: a script named after a worker that has no version, and no Wasm.
    fn is_draft(&self, api: &Api, worker: &WorkerName) -> bool {
        let view = api.catalog.view();
        let has_version = view.worker(worker).is_some_and(|record| record.latest().is_some());
        let names_itself = self.metadata.main_module.as_deref() == Some(worker.as_str());
        !has_version && names_itself && self.parts.modules.is_empty() && self.metadata.draft.bindings.is_empty()
    }

    /// The part that is the program (`WRANGLER_API` 5.3).
    fn program(&self, worker: &WorkerName) -> Outcome<&Module> {
        let modules = self.parts.modules.as_slice();
        let main = self.metadata.main_module.as_deref().map(plain);
        if let Some(named) = modules.iter().find(|module| Some(module.name.as_str()) == main) {
            return Ok(named);
        }
        if modules.is_empty() {
            return Err(no_wasm(main.unwrap_or_default()));
        }
        let only = |fits: &dyn Fn(&Module) -> bool| {
            let mut fitting = modules.iter().filter(|module| fits(module));
            fitting.next().filter(|_| fitting.next().is_none())
        };
        let script = self.parts.scripts.iter().find(|(name, _)| Some(name.as_str()) == main);
        let script = script.map(|(_, text)| String::from_utf8_lossy(text)).unwrap_or_default();
        let stem = main.map(|main| base(main).rsplit_once('.').map_or(main, |(stem, _)| stem)).unwrap_or_default();
        only(&|module| module.declared)
            .or_else(|| only(&|_| true))
            .or_else(|| only(&|module| imports(&script, base(&module.name))))
            .or_else(|| {
                let known = [stem, worker.as_str(), "worker", "main", "index"];
                only(&|module| known.iter().any(|known| base(&module.name).strip_suffix(".wasm") == Some(known)))
            })
            .ok_or_else(|| {
                let names: Vec<String> = modules.iter().map(|module| format!("`{}`", shown(&module.name))).collect();
                let message = format!(
                    "the upload has {} Wasm parts and does not say which is the program: {}; name it in `main_module`, import it in the main module, or keep `main` in a folder of its own",
                    names.len(),
                    names.join(", ")
                );
                Fault::at(Code::Invalid, "main_module", message)
            })
    }
}

/// Whether a script names this file in quotes, as an import does.
fn imports(script: &str, file: &str) -> bool {
    script.match_indices(file).any(|(at, _)| {
        let before = script[..at].trim_end_matches(|c: char| c.is_alphanumeric() || "./-_".contains(c));
        let after = &script[at + file.len()..];
        before.ends_with(['"', '\'', '`']) && after.starts_with(['"', '\'', '`', '?'])
    })
}

fn base(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

fn no_wasm(main: &str) -> Fault {
    let what = if main.ends_with(".py") {
        "Python source is not run here: build a component of it (componentize-py)"
    } else {
        "JavaScript and TypeScript are not run here: build a component (for JavaScript with componentize-js)"
    };
    let message = format!(
        "the upload holds no Wasm. {what}, and upload it as a `.wasm` file beside a `main` that says `export default {{}};`, with `no_bundle = true`"
    );
    Fault::at(Code::Invalid, "main_module", message)
}

/// What the uploader saw: the active deployment in `If-Match`, and the latest version, or `none`, in `Sluice-If-Latest`.
fn expected(headers: &HeaderMap) -> Outcome<Expected> {
    let latest = match headers.get(IF_LATEST).map(|value| value.to_str().unwrap_or_default().trim()) {
        None => None,
        Some("none") => Some(Latest::None),
        Some(text) => Some(Latest::Version(text.parse().map_err(|error| {
            let message =
                format!("`{IF_LATEST}` takes the id of the version that has to be the latest, or `none`: {error}");
            Fault::at(Code::Parameter, IF_LATEST, message)
        })?)),
    };
    Ok(Expected { latest, active: deploy::if_match(headers)? })
}

fn inheritance(query: &Query) -> Inheritance {
    if query.get("bindings_inherit") == Some("strict") { Inheritance::Strict } else { Inheritance::Lenient }
}

/// Publishes an upload, unless it is one that came before: then it is what that came to.
async fn publish_once(api: &Api, worker: &WorkerName, upload: Upload, maker: Maker) -> Outcome<(Done, Vec<String>)> {
    let Some(key) = &upload.key else { return publish(api, worker, upload, maker, None).await };
    let program = upload.program(worker)?.digest();
    let identity = repeat::identity(key, worker, upload.call, &upload.parts.metadata, program);
    let turn = api.repeats.turn(identity).await;
    let Some(published) = turn.clone().filter(|before| is_still_there(api, worker, before)) else {
        return publish(api, worker, upload, maker, Some(turn)).await;
    };
    let note = format!("this upload came before, by its `Idempotency-Key`: it is version {}", published.version.id);
    // They may be what was left undone.
    let settings = merged_settings(api, worker, &upload.metadata);
    let mut notes = upload.metadata.notes;
    notes.push(note);
    Ok((Done { published, settings }, notes))
}

/// Whether the version is there, and live if it was deployed: else an answer that says so would be untrue.
fn is_still_there(api: &Api, worker: &WorkerName, published: &Published) -> bool {
    let view = api.catalog.view();
    let Some(record) = view.worker(worker) else { return false };
    let active = record.active.as_ref().map(|active| active.id);
    let is_live = published.deployment.as_ref().is_none_or(|deployment| active == Some(deployment.id));
    is_live && record.version(published.version.id).is_some()
}

async fn publish(
    api: &Api,
    worker: &WorkerName,
    upload: Upload,
    maker: Maker,
    mut turn: Option<repeat::Turn>,
) -> Outcome<(Done, Vec<String>)> {
    // Whoever is late hears of it before the compiler works.
    api.catalog.check_expected(worker, maker.expected)?;
    let module = upload.program(worker)?;
    let metadata = &upload.metadata;
    let modules = api.catalog.modules();
    let mut proven: Option<(Config, Proven)> = None;
    for _ in 0..ATTEMPTS {
        let Resolved { config, previous } = resolve(api, worker, metadata, maker.inheritance)?;
        kv::all_exist(api, &config).await?;
        api.catalog.check_classes(worker, &config, metadata.migration.as_ref())?;
        let (proof, is_adopted) = match proven.take() {
            Some((same, proof)) if same == config => (proof, true),
            // The file has its final name since the attempt before.
            Some(_) => (prove(api, worker, &modules.path(module.digest()), module.digest(), &config).await?, true),
            None => (prove(api, worker, module.path(), module.digest(), &config).await?, false),
        };
        if !is_adopted {
            let adopted = modules.adopt(module.path(), module.digest()).await;
            adopted.map_err(|error| Fault::io("keep the module", error))?;
        }
        let version = NewVersion {
            config: config.clone(),
            previous,
            module: proof.facts.clone(),
            startup: api.trials.remembered(module.digest(), proof.startup),
            annotations: metadata.annotations.clone(),
            provenance: maker.provenance.clone(),
            expected: maker.expected,
        };
        let (deploy, create) = match upload.call {
            Call::Version => (AndDeploy::No, CreateWorker::Refuse),
            Call::Deploy => {
                let message = metadata.annotations.message.clone();
                let migration = metadata.migration.clone();
                (AndDeploy::Now { message, code_update: metadata.code_update, migration }, CreateWorker::Allow)
            }
        };
        let (outcome, same_turn) = store(api, worker, version, deploy, create, turn.take()).await;
        turn = same_turn;
        match outcome {
            Ok(published) => {
                api.trials.forget(module.digest());
                let settings = merged_settings(api, worker, metadata);
                return Ok((Done { published, settings }, upload.metadata.notes));
            }
            Err(catalog::Error::Conflict { .. }) => proven = Some((config, proof)),
            Err(error) => return Err(error.into()),
        }
    }
    Err(catalog::Error::Conflict { worker: worker.clone() }.into())
}

/// Stores the version, and what became of it in the upload's turn. Runs to its end though the client goes away: whoever sends
/// the same again waits for it.
async fn store(
    api: &Api,
    worker: &WorkerName,
    version: NewVersion,
    deploy: AndDeploy,
    create: CreateWorker,
    turn: Option<repeat::Turn>,
) -> (Result<Published, catalog::Error>, Option<repeat::Turn>) {
    let Some(mut turn) = turn else { return (api.catalog.publish(worker, version, deploy, create).await, None) };
    let (catalog, worker) = (Arc::clone(&api.catalog), worker.clone());
    let storing = async move {
        let outcome = catalog.publish(&worker, version, deploy, create).await;
        if let Ok(published) = &outcome {
            *turn = Some(published.clone());
        }
        (outcome, Some(turn))
    };
    match tokio::spawn(storing.in_current_span()).await {
        Ok(stored) => stored,
        Err(stopped) => match stopped.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is going down, and this task with it.
            Err(_) => std::future::pending().await,
        },
    }
}

/// The configuration, or all that is wrong with it and with the rest of the metadata.
pub(super) fn resolve(
    api: &Api,
    worker: &WorkerName,
    metadata: &Metadata,
    inheritance: Inheritance,
) -> Outcome<Resolved> {
    let mut faults = metadata.faults.clone();
    match api.catalog.resolve(worker, &metadata.draft, inheritance) {
        Ok(resolved) if faults.is_empty() => Ok(resolved),
        Ok(_) => Err(Fault::config(faults)),
        Err(more) => {
            faults.extend(more);
            Err(Fault::config(faults))
        }
    }
}

pub(super) async fn prove(
    api: &Api,
    worker: &WorkerName,
    file: &Path,
    digest: ModuleDigest,
    config: &Config,
) -> Outcome<Proven> {
    api.prover.prove(worker, file, digest, config).await.map_err(|refusal| {
        let code = match refusal.kind {
            RefusalKind::Invalid => Code::Invalid,
            RefusalKind::TooLarge => Code::TooLarge,
            RefusalKind::Host => Code::Host,
        };
        Fault::new(code, refusal.message)
    })
}

/// The worker's settings with those of the upload put over them; nothing, if it named none.
fn merged_settings(api: &Api, worker: &WorkerName, metadata: &Metadata) -> Option<Value> {
    if metadata.settings.is_empty() {
        return None;
    }
    let view = api.catalog.view();
    let mut settings = view.worker(worker).map(|record| record.settings.clone()).unwrap_or_default();
    if !settings.is_object() {
        settings = Value::Object(serde_json::Map::new());
    }
    if let Value::Object(object) = &mut settings {
        object.extend(metadata.settings.clone());
    }
    Some(settings)
}

fn draft_answer(api: &Api, worker: &WorkerName) -> wire::Uploaded {
    let view = api.catalog.view();
    let record = view.worker(worker);
    wire::Uploaded {
        id: worker.to_string(),
        tag: record.map(|record| record.tag.clone()),
        created_on: record.map(|record| shape::time(record.created_ms)).unwrap_or_default(),
        handlers: shape::handlers(),
        ..wire::Uploaded::default()
    }
}

fn gone(worker: &WorkerName) -> Fault {
    Fault::new(Code::WorkerUnknown, format!("the worker `{worker}` was deleted while this upload was answered"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_import_is_a_name_in_quotes() {
        for script in ["import x from './app.wasm'", "import \"app.wasm\"", "import('./a/app.wasm?module')"] {
            assert!(imports(script, "app.wasm"), "{script}");
        }
        for script in ["// app.wasm", "import './my app.wasm.js'", ""] {
            assert!(!imports(script, "app.wasm"), "{script}");
        }
    }
}
