//! The `metadata` part of an upload, key by key as `WRANGLER_API` 4 describes it, so that a node cannot tell our upload
//! from wrangler's.

use serde_json::{Map, Value, json};

use super::config::{Config, KvNamespace};
use super::objects::ObjectBinding;

/// What the command line adds to the file for one upload.
#[derive(Debug, Default)]
pub struct Extras {
    pub tag: Option<String>,
    pub message: Option<String>,
    pub preview_alias: Option<String>,
    /// `--var K:V`; wins over the file.
    pub vars: Vec<(String, String)>,
    /// `--secrets-file`.
    pub secrets: Vec<(String, String)>,
    pub keep_vars: KeepVars,
    pub compatibility_date: Option<String>,
}

/// Whether variables of the version before stay when this upload does not name them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeepVars {
    /// As the file's `keep_vars` says.
    #[default]
    AsConfigured,
    Always,
}

/// The metadata of an upload whose program is the part `main_module`.
pub fn build(config: &Config, extras: &Extras, main_module: &str) -> Map<String, Value> {
    let mut metadata = Map::new();
    let mut put = |key: &str, value: Value| drop(metadata.insert(key.to_owned(), value));
    put("main_module", json!(main_module));
    put("bindings", Value::Array(bindings(config, extras)));
    if let Some(date) = extras.compatibility_date.as_ref().or(config.compatibility_date.as_ref()) {
        put("compatibility_date", json!(date));
    }
    put("compatibility_flags", json!(config.compatibility_flags));
    put("keep_bindings", keep_bindings(config, extras));
    if let Some(limits) = &config.limits {
        put("limits", limits.clone());
    }
    let annotations = annotations(extras);
    if !annotations.is_empty() {
        put("annotations", Value::Object(annotations));
    }
    if let Some(sluice) = &config.sluice {
        put("sluice", sluice.clone());
    }
    // Assigned last, over everything else: that is wrangler's rule. The program's part keeps the name it is sent under.
    for (key, value) in config.unsafe_metadata.iter().filter(|(key, _)| *key != "main_module") {
        put(key, value.clone());
    }
    metadata
}

fn bindings(config: &Config, extras: &Extras) -> Vec<Value> {
    let overridden = |name: &str| extras.vars.iter().any(|(var, _)| var == name);
    let supplied = |name: &str| extras.secrets.iter().any(|(secret, _)| secret == name);
    let mut bindings = Vec::new();
    for (name, value) in config.vars.iter().filter(|(name, _)| !overridden(name) && !supplied(name)) {
        bindings.push(match value {
            Value::String(text) => json!({"name": name, "type": "plain_text", "text": text}),
            other => json!({"name": name, "type": "json", "json": other}),
        });
    }
    for (name, text) in &extras.vars {
        bindings.push(json!({"name": name, "type": "plain_text", "text": text}));
    }
    for (name, text) in &extras.secrets {
        bindings.push(json!({"name": name, "type": "secret_text", "text": text}));
    }
    for name in config.secrets_required.iter().filter(|name| !supplied(name)) {
        bindings.push(json!({"name": name, "type": "inherit"}));
    }
    if let Some(name) = &config.version_metadata {
        bindings.push(json!({"name": name, "type": "version_metadata"}));
    }
    for service in &config.services {
        let mut binding = Map::new();
        binding.insert("name".to_owned(), json!(service.binding));
        binding.insert("type".to_owned(), json!("service"));
        binding.insert("service".to_owned(), json!(service.service));
        binding.extend(service.rest.clone());
        bindings.push(Value::Object(binding));
    }
    for KvNamespace { binding, id } in &config.kv_namespaces {
        bindings.push(json!({"name": binding, "type": "kv_namespace", "namespace_id": id}));
    }
    for ObjectBinding { name, class_name, rest } in &config.objects {
        let mut binding = Map::new();
        binding.insert("name".to_owned(), json!(name));
        binding.insert("type".to_owned(), json!("durable_object_namespace"));
        binding.insert("class_name".to_owned(), json!(class_name));
        binding.extend(rest.clone());
        bindings.push(Value::Object(binding));
    }
    bindings.extend(config.unsafe_bindings.iter().cloned());
    bindings
}

fn keep_bindings(config: &Config, extras: &Extras) -> Value {
    if config.keep_vars || extras.keep_vars == KeepVars::Always {
        json!(["plain_text", "json", "secret_text", "secret_key"])
    } else {
        json!(["secret_text", "secret_key"])
    }
}

fn annotations(extras: &Extras) -> Map<String, Value> {
    let given =
        [("workers/message", &extras.message), ("workers/tag", &extras.tag), ("workers/alias", &extras.preview_alias)];
    given.into_iter().filter_map(|(key, value)| Some((key.to_owned(), json!(value.as_ref()?)))).collect()
}
