//! What a version's configuration gives to its guests, made once for each version and shared by its instances.

use std::collections::HashMap;
use std::sync::Arc;

use wasmtime_wasi_config::WasiConfigVariables;

use crate::domain::config::{BindingValue, Config};
use crate::domain::id::WorkerName;
use crate::domain::object::ClassName;
use crate::domain::version::Version;
use crate::host::kv::Namespaces;
use crate::host::outbound::Outbound;
use crate::host::ports::Callers;
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
    /// Bindings of Durable Objects, by name as written.
    objects: HashMap<String, ObjectBinding>,
    /// The names of those by name in lower case; no two are alike there (see [`Config::resolve`]).
    objects_by_address: HashMap<String, String>,
    pub namespaces: Namespaces,
    pub callers: Arc<dyn Callers>,
    pub outbound: Arc<Outbound>,
}

/// Whose objects a binding gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectBinding {
    /// The worker that owns the class: its deployment says which version an object runs (`DOI-8`).
    pub worker: WorkerName,
    pub class: ClassName,
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
    /// Binds `config` for the version of worker `own` that `about` describes. Without `kv` its namespaces are closed to it.
    #[must_use]
    pub fn bind(
        own: &WorkerName,
        about: &Metadata,
        config: &Config,
        callers: Arc<dyn Callers>,
        outbound: Arc<Outbound>,
        kv: Option<Arc<Kv>>,
    ) -> Self {
        let mut variables_list = Vec::new();
        let mut services = HashMap::new();
        let (mut objects, mut objects_by_address) = (HashMap::new(), HashMap::new());
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
                BindingValue::DurableObject { class, worker } => {
                    let worker = worker.as_ref().unwrap_or(own).clone();
                    objects_by_address.insert(name.to_ascii_lowercase(), name.clone());
                    objects.insert(name, ObjectBinding { worker, class: class.clone() });
                }
                // Below, all at once.
                BindingValue::KvNamespace { .. } => {}
            }
        }
        let variables = variables_list.iter().cloned().collect();
        let namespaces = Namespaces::bind(config, kv);
        Self {
            variables_list,
            variables,
            metadata,
            services,
            objects,
            objects_by_address,
            namespaces,
            callers,
            outbound,
        }
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

    /// The Durable Objects bound by this name, whatever its case.
    #[must_use]
    pub fn object(&self, binding: &str) -> Option<&ObjectBinding> {
        self.objects.get(binding).or_else(|| {
            let name = self.objects_by_address.get(&binding.to_ascii_lowercase())?;
            self.objects.get(name)
        })
    }

    /// The names, as written, of all bindings of Durable Objects.
    pub fn object_names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.objects.keys().map(String::as_str)
    }
}

/// Unix milliseconds as RFC 3339 in UTC with milliseconds, as the API prints times.
#[must_use]
pub fn rfc3339(unix_ms: u64) -> String {
    let time =
        jiff::Timestamp::from_millisecond(i64::try_from(unix_ms).unwrap_or(i64::MAX)).unwrap_or(jiff::Timestamp::MAX);
    time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::config::{BindingDraft, ConfigDraft, DraftValue, Inheritance};
    use crate::host::ports::Nobody;

    #[test]
    fn objects_are_found_whatever_the_case_and_say_whose_they_are() {
        let object = |script: Option<&str>| DraftValue::DurableObject {
            class_name: "Room".into(),
            script_name: script.map(Into::into),
        };
        let bindings = [("ROOMS", object(None)), ("chatRooms", object(Some("chat")))];
        let bindings = bindings.map(|(name, value)| BindingDraft { name: name.into(), value });
        let draft = ConfigDraft { bindings: bindings.into(), ..ConfigDraft::default() };
        let config = Config::resolve(&draft, None, Inheritance::Strict).unwrap();
        let own: WorkerName = "web".parse().unwrap();
        let about = Metadata { id: String::new(), tag: String::new(), timestamp: String::new() };
        let outbound = Arc::new(Outbound::new("none".parse().unwrap()));
        let environment = Environment::bind(&own, &about, &config, Arc::new(Nobody), outbound, None);

        let owner = |binding: &str| environment.object(binding).map(|bound| bound.worker.as_str());
        assert_eq!((owner("ROOMS"), owner("rooms"), owner("chatrooms")), (Some("web"), Some("web"), Some("chat")));
        assert_eq!((owner("room"), owner("")), (None, None));
        assert_eq!(environment.object("ROOMS").unwrap().class.as_str(), "Room");
        let mut names: Vec<&str> = environment.object_names().collect();
        names.sort_unstable();
        assert_eq!(names, ["ROOMS", "chatRooms"]);
        assert!(environment.service("rooms").is_none() && environment.variables_list.is_empty());
    }
}
