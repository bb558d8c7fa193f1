//! The configuration of one worker as the file gives it: typed, with every fault of the file already collected. What is
//! *allowed* (how many bindings, which limits) is the node's to say, at upload; here it only has to be readable.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Map, Value};

use super::keys;
use super::objects::{self, Migration, ObjectBinding};
use super::reader::{Reader, texts};
use super::resolve::{Findings, Located, Values};
use super::triggers::{self, Triggers};
use crate::domain::deployment::CodeUpdate;
use crate::domain::id::{BindingName, WorkerName};

/// What the file says about one worker.
#[derive(Debug, Default)]
pub struct Config {
    /// With the environment's suffix.
    pub name: Option<String>,
    /// Relative to the file's folder.
    pub main: Option<PathBuf>,
    pub build: Build,
    pub compatibility_date: Option<String>,
    pub compatibility_flags: Vec<String>,
    pub vars: Map<String, Value>,
    pub secrets_required: Vec<String>,
    pub services: Vec<Service>,
    pub kv_namespaces: Vec<KvNamespace>,
    pub objects: Vec<ObjectBinding>,
    /// When running objects get the code of a deployment.
    pub code_update: Option<CodeUpdate>,
    pub migrations: Vec<Migration>,
    pub version_metadata: Option<String>,
    pub limits: Option<Value>,
    pub keep_vars: bool,
    pub triggers: Triggers,
    /// Travels as `metadata.sluice`.
    pub sluice: Option<Value>,
    pub unsafe_metadata: Map<String, Value>,
    pub unsafe_bindings: Vec<Value>,
    pub dev: Dev,
}

/// `[build]`: what makes the module.
#[derive(Debug, Default)]
pub struct Build {
    pub command: Option<String>,
    pub cwd: Option<PathBuf>,
    pub watch_dir: Vec<PathBuf>,
}

/// `[dev]`: where `sluice dev` listens.
#[derive(Debug, Default)]
pub struct Dev {
    pub ip: Option<String>,
    pub port: Option<u64>,
}

/// One of `[[services]]`.
#[derive(Debug)]
pub struct Service {
    pub binding: String,
    pub service: String,
    /// `entrypoint`, `props`, `environment`: sent as they are, for the node to judge.
    pub rest: Map<String, Value>,
}

/// One of `[[kv_namespaces]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvNamespace {
    pub binding: String,
    /// Absent in files of those who let wrangler make the namespace.
    pub id: Option<String>,
}

impl Config {
    /// The bindings of KV namespaces that have no id: on a node of one's own nobody else gives it.
    pub fn without_namespace(&self) -> impl Iterator<Item = &str> {
        self.kv_namespaces.iter().filter(|one| one.id.is_none()).map(|one| one.binding.as_str())
    }
}

/// Reads the resolved values of the file.
pub fn read(values: &Values, findings: &mut Findings) -> Config {
    let text = |key: &str| values.get(key).and_then(|located| located.value.as_str()).map(str::to_owned);
    let mut config = Config {
        name: text("name"),
        main: text("main").map(PathBuf::from),
        compatibility_date: text("compatibility_date"),
        keep_vars: values.get("keep_vars").and_then(|located| located.value.as_bool()).unwrap_or(false),
        sluice: values.get("sluice").map(|located| located.value.clone()),
        triggers: triggers::read(values, findings),
        ..Config::default()
    };
    check_name(values.get("name"), findings);
    check_date(values.get("compatibility_date"), findings);
    for (key, located) in values {
        read_key(&mut config, key, located, findings);
    }
    check_bindings(values, findings);
    config
}

fn read_key(config: &mut Config, key: &str, located: &Located, findings: &mut Findings) {
    let Located { path, value } = located;
    match key {
        "compatibility_flags" => config.compatibility_flags = texts(value, path, findings),
        "vars" => config.vars = value.as_object().cloned().unwrap_or_default(),
        "build" => config.build = read_build(located, findings),
        "limits" => config.limits = read_limits(located, findings),
        "services" => config.services = read_services(located, findings),
        "kv_namespaces" => config.kv_namespaces = read_namespaces(located, findings),
        "durable_objects" => {
            config.objects = objects::read_bindings(located, findings);
            config.code_update = objects::read_code_update(located, findings);
        }
        "migrations" => config.migrations = objects::read_migrations(located, findings),
        "unsafe" => read_unsafe(config, located, findings),
        "secrets" => {
            let Some(mut reader) = Reader::of(value, path, findings) else {
                return;
            };
            config.secrets_required = reader.texts("required", findings);
            reader.finish(findings);
        }
        "version_metadata" => {
            let Some(mut reader) = Reader::of(value, path, findings) else {
                return;
            };
            config.version_metadata = reader.required_text("binding", findings);
            reader.finish(findings);
        }
        "dev" => {
            let Some(mut reader) = Reader::of(value, path, findings) else {
                return;
            };
            config.dev = Dev { ip: reader.text("ip", findings), port: reader.whole("port", findings) };
        }
        "sluice" => {
            let Some(mut reader) = Reader::of(value, path, findings) else {
                return;
            };
            reader.truth("instance_reuse", findings);
            reader.finish(findings);
        }
        _ => {}
    }
}

fn read_build(located: &Located, findings: &mut Findings) -> Build {
    let Some(mut reader) = Reader::of(&located.value, &located.path, findings) else {
        return Build::default();
    };
    let command = reader.text("command", findings).filter(|command| !command.trim().is_empty());
    let cwd = reader.text("cwd", findings).map(PathBuf::from);
    let watch_dir = match reader.any("watch_dir") {
        Some(Value::String(folder)) => vec![folder.clone()],
        Some(list) => texts(list, &reader.path("watch_dir"), findings),
        None => Vec::new(),
    };
    reader.any("upload"); // An old key of wrangler's that it ignores as well.
    reader.finish(findings);
    Build { command, cwd, watch_dir: watch_dir.into_iter().map(PathBuf::from).collect() }
}

fn read_limits(located: &Located, findings: &mut Findings) -> Option<Value> {
    let mut reader = Reader::of(&located.value, &located.path, findings)?;
    reader.whole("cpu_ms", findings);
    reader.whole("subrequests", findings);
    reader.finish(findings);
    Some(located.value.clone())
}

fn read_services(located: &Located, findings: &mut Findings) -> Vec<Service> {
    let mut services = Vec::new();
    for (index, item) in located.value.as_array().into_iter().flatten().enumerate() {
        let Some(mut reader) = Reader::of(item, &format!("{}[{index}]", located.path), findings) else {
            continue;
        };
        let (binding, service) = (reader.required_text("binding", findings), reader.required_text("service", findings));
        let mut rest = Map::new();
        for key in ["entrypoint", "environment"] {
            rest.extend(reader.text(key, findings).map(|text| (key.to_owned(), Value::String(text))));
        }
        rest.extend(reader.any("props").map(|props| ("props".to_owned(), props.clone())));
        if reader.any("remote").is_some() {
            findings.without_effect.push(reader.path("remote"));
        }
        reader.finish(findings);
        services.extend(binding.zip(service).map(|(binding, service)| Service { binding, service, rest }));
    }
    services
}

/// The namespaces that a value names.
pub fn read_namespaces(located: &Located, findings: &mut Findings) -> Vec<KvNamespace> {
    let mut namespaces = Vec::new();
    for (index, item) in located.value.as_array().into_iter().flatten().enumerate() {
        let Some(mut reader) = Reader::of(item, &format!("{}[{index}]", located.path), findings) else {
            continue;
        };
        let binding = reader.required_text("binding", findings);
        let id = reader.text("id", findings).filter(|id| !id.is_empty());
        for key in ["preview_id", "remote"] {
            if reader.any(key).is_some() {
                findings.without_effect.push(reader.path(key));
            }
        }
        reader.finish(findings);
        namespaces.extend(binding.map(|binding| KvNamespace { binding, id }));
    }
    namespaces
}

fn read_unsafe(config: &mut Config, located: &Located, findings: &mut Findings) {
    let Some(mut reader) = Reader::of(&located.value, &located.path, findings) else {
        return;
    };
    match reader.any("metadata") {
        Some(Value::Object(metadata)) => config.unsafe_metadata = metadata.clone(),
        Some(other) => {
            let path = reader.path("metadata");
            findings.faults.push(format!("`{path}` must be a table, found {}", keys::noun(other)));
        }
        None => {}
    }
    let path = reader.path("bindings");
    match reader.any("bindings") {
        Some(Value::Array(items)) => {
            for (index, item) in items.iter().enumerate() {
                let Some(mut binding) = Reader::of(item, &format!("{path}[{index}]"), findings) else {
                    continue;
                };
                binding.required_text("name", findings);
                binding.required_text("type", findings);
                config.unsafe_bindings.push(item.clone());
            }
        }
        Some(other) => findings.faults.push(format!("`{path}` must be an array, found {}", keys::noun(other))),
        None => {}
    }
    reader.finish(findings);
}

fn check_name(name: Option<&Located>, findings: &mut Findings) {
    let Some(Located { path, value: Value::String(name) }) = name else {
        return;
    };
    if let Err(error) = name.parse::<WorkerName>() {
        findings.faults.push(format!("`{path}`: {error}"));
    }
}

fn check_date(date: Option<&Located>, findings: &mut Findings) {
    let Some(Located { path, value: Value::String(date) }) = date else {
        return;
    };
    if date.parse::<jiff::civil::Date>().is_err() || date.len() != "2026-01-01".len() {
        findings.faults.push(format!("`{path}` must be a date such as 2026-01-01, found `{date}`"));
    }
}

/// Names of bindings must be names, and no two may be the same: the guest could not tell them apart. They are read where they
/// stand, since an entry with another fault is in no list any more.
fn check_bindings(values: &Values, findings: &mut Findings) {
    let mut seen: BTreeMap<&str, String> = BTreeMap::new();
    for (path, name) in binding_names(values) {
        if let Err(error) = name.parse::<BindingName>() {
            findings.faults.push(format!("`{path}`: {error}"));
        }
        match seen.get(name) {
            Some(other) => findings.faults.push(format!("`{path}` and `{other}` are both named `{name}`")),
            None => drop(seen.insert(name, path)),
        }
    }
}

/// Every name that a binding has in the file, and where it stands.
fn binding_names(values: &Values) -> Vec<(String, &str)> {
    fn items(list: Option<&Value>) -> impl Iterator<Item = (usize, &Value)> {
        list.and_then(Value::as_array).into_iter().flatten().enumerate()
    }
    // One that is missing, empty or no text is a fault already.
    fn named<'a>(path: &str, table: &'a Value, key: &str) -> Option<(String, &'a str)> {
        let name = table.get(key)?.as_str().filter(|name| !name.is_empty())?;
        Some((format!("{path}.{key}"), name))
    }
    let mut names = Vec::new();
    for key in ["vars", "secrets", "services", "kv_namespaces", "durable_objects", "version_metadata", "unsafe"] {
        let Some(Located { path, value }) = values.get(key) else { continue };
        match key {
            "vars" => {
                let keys = value.as_object().into_iter().flat_map(Map::keys);
                names.extend(keys.map(|name| (format!("{path}.{name}"), name.as_str())));
            }
            "secrets" => {
                let required = items(value.get("required"));
                names.extend(required.filter_map(|(n, name)| Some((format!("{path}.required[{n}]"), name.as_str()?))));
            }
            "services" | "kv_namespaces" => {
                names
                    .extend(items(Some(value)).filter_map(|(n, item)| named(&format!("{path}[{n}]"), item, "binding")));
            }
            "durable_objects" | "unsafe" => {
                let bindings = items(value.get("bindings"));
                names.extend(bindings.filter_map(|(n, item)| named(&format!("{path}.bindings[{n}]"), item, "name")));
            }
            _ => names.extend(named(path, value, "binding")),
        }
    }
    names
}
