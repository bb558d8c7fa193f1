//! What a version's configuration gives to its guests, made once for each version and shared by its instances.

use std::collections::HashMap;
use std::sync::Arc;

use wasmtime_wasi_config::WasiConfigVariables;

use crate::domain::config::{BindingValue, Config};
use crate::domain::id::WorkerName;
use crate::domain::version::Version;
use crate::host::kv::Namespaces;
use crate::host::outbound::Outbound;
use crate::host::ports::WorkerCaller;
use crate::kv::Kv;

/// The bound capabilities of one version.
pub struct Environment {
    /// Vars, secrets and the version metadata as environment variables.
    pub variables_list: Vec<(String, String)>,
    /// The same for `wasi:config`.
    pub variables: WasiConfigVariables,
    /// None unless the configuration has a `version_metadata` binding (`META-1`).
    pub metadata: Option<Metadata>,
    /// Service bindings by lower-case name: URL parsers lower-case hosts.
    services: HashMap<String, WorkerName>,
    pub namespaces: Namespaces,
    pub workers: Arc<dyn WorkerCaller>,
    pub outbound: Arc<Outbound>,
}

/// What a version says of itself.
#[derive(Debug, Clone)]
pub struct Metadata {
    pub id: String,
    /// Empty if none was given (`META-2`).
    pub tag: String,
    /// RFC 3339 in UTC.
    pub timestamp: String,
}

impl Metadata {
    /// What `version` says of itself.
    #[must_use]
    pub fn of(version: &Version) -> Self {
        Self { id: version.id.to_string(), tag: version.tag().to_owned(), timestamp: rfc3339(version.created_ms) }
    }
}

impl Environment {
    /// Binds `config` for the version that `about` describes. Without `kv` its namespaces are closed to it.
    #[must_use]
    pub fn bind(
        about: &Metadata,
        config: &Config,
        workers: Arc<dyn WorkerCaller>,
        outbound: Arc<Outbound>,
        kv: Option<Arc<Kv>>,
    ) -> Self {
        let mut variables_list = Vec::new();
        let mut services = HashMap::new();
        let mut metadata = None;
        for binding in &config.bindings {
            let name = binding.name.as_str().to_owned();
            match &binding.value {
                BindingValue::Text(value) | BindingValue::Json(value) => variables_list.push((name, value.clone())),
                BindingValue::Secret(value) => variables_list.push((name, value.reveal().to_owned())),
                BindingValue::VersionMetadata => {
                    let json = serde_json::json!({ "id": about.id, "tag": about.tag, "timestamp": about.timestamp });
                    variables_list.push((name, json.to_string()));
                    metadata = Some(about.clone());
                }
                BindingValue::Service { worker } => {
                    services.insert(name.to_ascii_lowercase(), worker.clone());
                }
                // Below, all at once.
                BindingValue::KvNamespace { .. } => {}
            }
        }
        let variables = variables_list.iter().cloned().collect();
        let namespaces = Namespaces::bind(config, kv);
        Self { variables_list, variables, metadata, services, namespaces, workers, outbound }
    }

    /// The worker bound by this name, whatever its case.
    #[must_use]
    pub fn service(&self, binding: &str) -> Option<&WorkerName> {
        if binding.bytes().any(|byte| byte.is_ascii_uppercase()) {
            self.services.get(&binding.to_ascii_lowercase())
        } else {
            self.services.get(binding)
        }
    }
}

/// Unix milliseconds as RFC 3339 in UTC with milliseconds, as the API prints times.
#[must_use]
pub fn rfc3339(unix_ms: u64) -> String {
    let time =
        jiff::Timestamp::from_millisecond(i64::try_from(unix_ms).unwrap_or(i64::MAX)).unwrap_or(jiff::Timestamp::MAX);
    time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}
