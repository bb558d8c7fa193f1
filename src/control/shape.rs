//! Domain values in the shapes of the wire, and the envelope around a result. Nothing is decided here but what may be seen:
//! a secret's value may not (`SEC-7`).

use std::net::SocketAddr;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::catalog::WorkerView;
use crate::control::wire;
use crate::domain::config::{Binding, BindingValue, Config, Isolation};
use crate::domain::deployment::Deployment;
use crate::domain::id::DeploymentId;
use crate::domain::limits::{CPU_TIME_MAX, SUBREQUESTS_MAX};
use crate::domain::module::GuestKind;
use crate::domain::version::{Provenance, Version};

/// A successful operation's result, in its envelope.
#[derive(Debug)]
pub(super) struct Answer<T> {
    result: Option<T>,
    info: Option<wire::ResultInfo>,
    messages: Vec<String>,
    etag: Option<String>,
}

impl<T> Answer<T> {
    /// This result.
    pub(super) fn of(result: T) -> Self {
        Self { result: Some(result), info: None, messages: Vec::new(), etag: None }
    }

    /// It was done, and there is nothing to say.
    pub(super) fn done() -> Self {
        Self { result: None, info: None, messages: Vec::new(), etag: None }
    }

    /// With notes to the caller that are no errors.
    pub(super) fn noting(mut self, messages: Vec<String>) -> Self {
        self.messages = messages;
        self
    }

    /// As one page of a list.
    pub(super) fn paged(mut self, info: wire::ResultInfo) -> Self {
        self.info = Some(info);
        self
    }

    /// With the id that an `If-Match` may name later.
    pub(super) fn tagged(mut self, id: Option<String>) -> Self {
        self.etag = id;
        self
    }
}

impl<T: Serialize> IntoResponse for Answer<T> {
    fn into_response(self) -> Response {
        let body = wire::Envelope {
            success: true,
            errors: Vec::new(),
            messages: self.messages,
            result: self.result,
            result_info: self.info,
        };
        let mut response = Json(body).into_response();
        if let Some(etag) = self.etag.and_then(|id| HeaderValue::try_from(format!("\"{id}\"")).ok()) {
            response.headers_mut().insert(header::ETAG, etag);
        }
        response
    }
}

/// A time of the wire: RFC 3339 in UTC, always with milliseconds, so that texts sort as times do.
pub(super) fn time(unix_ms: u64) -> String {
    let ms = i64::try_from(unix_ms).unwrap_or(i64::MAX);
    let time = jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::MAX);
    time.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

/// A version of `worker` (`WRANGLER_API` 2.1). `data` is where its own hosts are served.
pub(super) fn version(worker: &WorkerView, version: &Version, data: SocketAddr) -> wire::Version {
    let created_on = time(version.created_ms);
    let annotations = &version.annotations;
    let config = &version.config;
    wire::Version {
        id: version.id.to_string(),
        number: version.number,
        metadata: wire::VersionMetadata {
            modified_on: created_on.clone(),
            created_on,
            source: version.provenance.source.as_str().to_owned(),
            author_id: author_id(&version.provenance),
            author_email: version.provenance.author.clone(),
            has_preview: worker.triggers.previews_enabled,
        },
        annotations: wire::Annotations {
            message: annotations.message.clone(),
            tag: annotations.tag.clone(),
            alias: annotations.alias.as_ref().map(|alias| alias.as_str().to_owned()),
            triggered_by: Some(annotations.triggered_by.as_str().to_owned()),
        },
        resources: wire::VersionResources {
            script: wire::ScriptResource {
                etag: version.module.digest.to_string(),
                handlers: handlers(),
                named_handlers: Vec::new(),
                last_deployed_from: Some("wrangler".to_owned()),
            },
            script_runtime: wire::ScriptRuntime {
                compatibility_date: config.compatibility_date.clone(),
                compatibility_flags: config.compatibility_flags.clone(),
                usage_model: "standard".to_owned(),
                limits: limits(config),
            },
            bindings: bindings(config),
        },
        startup_time_ms: Some(version.startup.time_ms),
        sluice: Some(facts(worker, version, data)),
    }
}

fn facts(worker: &WorkerView, version: &Version, data: SocketAddr) -> wire::VersionFacts {
    let module = &version.module;
    let mut labels = vec![version.id.short()];
    labels.extend(worker.aliases().filter(|(_, id)| *id == version.id).map(|(alias, _)| alias.to_string()));
    let urls = labels.iter().map(|label| format!("http://{label}-{}.localhost:{}", worker.name, data.port()));
    wire::VersionFacts {
        module_sha256: module.digest.to_string(),
        size_bytes: module.size_bytes,
        guest: match module.kind {
            GuestKind::Wasi02 => wire::GuestKind::P2,
            GuestKind::Wasi03 => wire::GuestKind::P3,
        },
        imports: module.imports.clone(),
        exports: module.exports.clone(),
        startup_memory_bytes: version.startup.memory_bytes,
        compile_time_ms: version.startup.compilation.map(|compilation| compilation.time_ms),
        code: version.startup.compilation.map(|compilation| compilation.code.as_str().to_owned()),
        instance_reuse: match version.config.isolation {
            Isolation::ByGuest => module.kind == GuestKind::Wasi03,
            Isolation::Fresh => false,
            Isolation::Reuse => true,
        },
        urls: if worker.triggers.previews_enabled { urls.collect() } else { Vec::new() },
    }
}

/// The handlers that a component has.
pub(super) fn handlers() -> Vec<String> {
    vec!["fetch".to_owned()]
}

/// The limits that differ from the defaults.
pub(super) fn limits(config: &Config) -> wire::Limits {
    let limits = config.limits;
    wire::Limits {
        cpu_ms: (limits.cpu != CPU_TIME_MAX).then(|| u64::try_from(limits.cpu.as_millis()).unwrap_or(u64::MAX)),
        subrequests: (limits.subrequests != SUBREQUESTS_MAX).then_some(u64::from(limits.subrequests)),
    }
}

/// The bindings as views show them; of a secret the name alone.
pub(super) fn bindings(config: &Config) -> Vec<wire::Binding> {
    config.bindings.iter().map(binding).collect()
}

fn binding(binding: &Binding) -> wire::Binding {
    let (kind, rest) = match &binding.value {
        BindingValue::Text(text) => ("plain_text", json!({ "text": text })),
        BindingValue::Json(text) => {
            // It was compact JSON when it came in; a text is the honest answer if a record says otherwise.
            let value = serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.clone()));
            ("json", json!({ "json": value }))
        }
        BindingValue::Secret(_) => ("secret_text", json!({})),
        BindingValue::VersionMetadata => ("version_metadata", json!({})),
        BindingValue::Service { worker } => {
            ("service", json!({ "service": worker.as_str(), "environment": "production" }))
        }
        BindingValue::KvNamespace { namespace } => ("kv_namespace", json!({ "namespace_id": namespace.to_string() })),
        BindingValue::DurableObject { class, worker } => {
            let mut rest = json!({ "class_name": class.as_str() });
            if let Some(worker) = worker {
                rest["script_name"] = json!(worker.as_str());
            }
            ("durable_object_namespace", rest)
        }
    };
    let rest = match rest {
        Value::Object(rest) => rest,
        _ => Map::new(),
    };
    wire::Binding { name: binding.name.to_string(), kind: kind.to_owned(), rest }
}

/// A secret in a list: never its value.
pub(super) fn secret(name: impl Into<String>) -> wire::SecretItem {
    wire::SecretItem { name: name.into(), kind: "secret_text".to_owned() }
}

/// A deployment (`WRANGLER_API` 2.2).
pub(super) fn deployment(deployment: &Deployment, sluice: Option<wire::DeploymentFacts>) -> wire::Deployment {
    wire::Deployment {
        id: deployment.id.to_string(),
        created_on: time(deployment.created_ms),
        source: deployment.provenance.source.as_str().to_owned(),
        strategy: "percentage".to_owned(),
        author_email: deployment.provenance.author.clone(),
        annotations: wire::Annotations {
            message: deployment.message.clone(),
            triggered_by: Some(deployment.triggered_by.as_str().to_owned()),
            ..wire::Annotations::default()
        },
        versions: deployment
            .split
            .entries()
            .iter()
            .map(|(version, share)| wire::Share { version_id: version.to_string(), percentage: share.percent() })
            .collect(),
        code_update_strategy: Some(deployment.code_update.into()),
        sluice,
    }
}

/// How many slots a deployment of `worker` moved. The oldest we know has nothing to be compared with.
pub(super) fn moved_slots(worker: &WorkerView, id: DeploymentId) -> Option<wire::DeploymentFacts> {
    let index = worker.deployments.iter().position(|deployment| deployment.id == id)?;
    let (this, before) = (worker.deployments.get(index)?, worker.deployments.get(index + 1)?);
    Some(wire::DeploymentFacts { moved_slots: this.allotment.moved_from(&before.allotment), ..Default::default() })
}

/// An id for an author, stable and telling nothing else.
fn author_id(provenance: &Provenance) -> String {
    use sha2::Digest;
    hex::encode(&sha2::Sha256::digest(provenance.author.as_bytes())[..16])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_sort_as_texts() {
        assert_eq!(time(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(time(1_767_323_045_000), "2026-01-02T03:04:05.000Z");
        assert_eq!(time(1_767_323_045_678), "2026-01-02T03:04:05.678Z");
        assert!(!time(u64::MAX).is_empty());
    }
}
