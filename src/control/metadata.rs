//! The `metadata` part of an upload (`WRANGLER_API` 4): JSON from a stranger becomes a [`ConfigDraft`] and what goes with it.
//!
//! Everything that is wrong is found at once. A key that we know and do not offer is refused by name where it would change
//! what the worker does, and noted where it would not; an unknown key is noted. Values are checked by the domain, not here.

use serde_json::{Map, Value};

use crate::control::fault::{Code, Fault, Outcome};
use crate::control::{deploy, migration, request, wire};
use crate::domain::config::{self, BindingDraft, ConfigDraft, DraftValue, FaultKind, Keep, SecretText};
use crate::domain::deployment::CodeUpdate;
use crate::domain::id::{Alias, WorkerName};
use crate::domain::limits::DNS_LABEL_CHARS_MAX;
use crate::domain::migration::Migration;
use crate::domain::version::{self, Annotations, Trigger};

/// What an upload's metadata asks for.
#[derive(Debug)]
pub(super) struct Metadata {
    /// The entry module, for the choice of the part that is the program.
    pub(super) main_module: Option<String>,
    /// The entry of an upload in the service-worker format, which we cannot run.
    pub(super) body_part: Option<String>,
    pub(super) draft: ConfigDraft,
    pub(super) annotations: Annotations,
    pub(super) code_update: CodeUpdate,
    /// What becomes of the worker's classes; only a deploy can say.
    pub(super) migration: Option<Migration>,
    /// Settings that are not versioned (`NV-1`), as far as the upload names them.
    pub(super) settings: Map<String, Value>,
    /// What was ignored.
    pub(super) notes: Vec<String>,
    /// What is wrong with it.
    pub(super) faults: Vec<config::Fault>,
}

/// Which of the two upload calls it came with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    /// `PUT …/scripts/:n`: a version that is deployed at once.
    Deploy,
    /// `POST …/versions`.
    Version,
}

/// Settings of the worker, not of a version.
pub(super) const SETTINGS: &[&str] =
    &["tags", "logpush", "observability", "tail_consumers", "streaming_tail_consumers"];

impl Metadata {
    /// Reads the part.
    pub(super) fn parse(bytes: &[u8], worker: &WorkerName, call: Call) -> Outcome<Self> {
        let value: Value = serde_json::from_slice(bytes)
            .map_err(|error| request::undecodable(&error, "the `metadata` part", "an object"))?;
        let Value::Object(object) = value else {
            return Err(Fault::new(Code::Body, "the `metadata` part is not a JSON object"));
        };
        if call == Call::Version && object.get("migrations").is_some_and(is_something) {
            // Cloudflare's sentence, and what to do.
            let message = "Version upload failed. You attempted to upload a version of a Worker that includes a Durable Object migration, but migrations must be fully applied via a non-versioned deployment. Use `deploy`, or remove `migrations`";
            return Err(Fault::at(Code::MigrationInVersion, "migrations", message));
        }
        let mut reader = Reader {
            worker,
            out: Self {
                main_module: None,
                body_part: None,
                // An upload that says nothing about what to keep still keeps the secrets (`SEC-5`, `CRE-7`).
                draft: ConfigDraft { keep: Keep { variables: false, secrets: true }, ..ConfigDraft::default() },
                annotations: Annotations {
                    message: None,
                    tag: None,
                    alias: None,
                    triggered_by: if call == Call::Deploy { Trigger::Upload } else { Trigger::VersionUpload },
                },
                code_update: CodeUpdate::Immediate,
                migration: None,
                settings: Map::new(),
                notes: Vec::new(),
                faults: Vec::new(),
            },
        };
        for (key, value) in object {
            reader.key(&key, value);
        }
        Ok(reader.out)
    }
}

struct Reader<'a> {
    worker: &'a WorkerName,
    out: Metadata,
}

impl Reader<'_> {
    fn key(&mut self, key: &str, value: Value) {
        match key {
            _ if value.is_null() => {}
            "main_module" => self.out.main_module = self.text(key, value),
            "body_part" => self.out.body_part = self.text(key, value),
            "bindings" => self.bindings(value),
            "keep_bindings" => self.keep_bindings(&value),
            "keep_vars" => self.out.draft.keep.variables |= value == Value::Bool(true),
            "compatibility_date" => self.compatibility_date(value),
            "compatibility_flags" => self.out.draft.compatibility_flags = self.texts(key, value),
            "limits" => self.limits(value),
            "annotations" => self.annotations(value),
            "sluice" => self.sluice(value),
            "code_update_strategy" => self.code_update(value),
            key if SETTINGS.contains(&key) => {
                self.out.settings.insert(key.to_owned(), value);
            }
            "migrations" => self.migrations(value),
            "exports" | "containers" | "assets" => self.refuse(key, &value),
            "placement" | "cache_options" | "usage_model" => {
                if is_something(&value) && value != "standard" {
                    self.out.notes.push(format!("`{key}` has no effect here"));
                }
            }
            // What tools send along, without a meaning for us.
            "package_dependencies" | "handlers" | "named_handlers" | "keep_assets" => {}
            unknown => {
                let name: String = unknown.chars().take(80).collect();
                self.out.notes.push(format!("the metadata key `{name}` is unknown and was ignored"));
            }
        }
    }

    /// Keys that would change what the worker does, if they hold anything.
    fn refuse(&mut self, key: &str, value: &Value) {
        if !is_something(value) {
            return;
        }
        let why = match key {
            "exports" => {
                "classes are not declared by `exports` here: make, rename and delete them by `migrations`, and bind them as `durable_object_namespace`"
            }
            "containers" => "containers are not offered: put the code into the component",
            _ => "static assets are not offered: serve the files from the component",
        };
        self.fault(key, format!("`{key}`: {why}"));
    }

    fn bindings(&mut self, value: Value) {
        let Value::Array(entries) = value else {
            return self.fault("bindings", "`bindings` is not a list");
        };
        for (index, entry) in entries.into_iter().enumerate() {
            let path = format!("bindings[{index}]");
            let Value::Object(mut entry) = entry else {
                self.fault(path, "a binding is an object with `name` and `type`");
                continue;
            };
            let (Some(name), Some(kind)) = (take_text(&mut entry, "name"), take_text(&mut entry, "type")) else {
                self.fault(path, "a binding needs a `name` and a `type`, both text");
                continue;
            };
            match draft_value(&kind, &mut entry, self.worker) {
                Ok(value) => self.out.draft.bindings.push(BindingDraft { name, value }),
                Err((key, message)) => self.fault(format!("{path}.{key}"), message),
            }
        }
    }

    fn keep_bindings(&mut self, value: &Value) {
        let Some(kinds) = value.as_array() else {
            return self.fault("keep_bindings", "`keep_bindings` is a list of binding types");
        };
        let keeps = |kind: &str| kinds.iter().any(|value| value == kind);
        let keep = &mut self.out.draft.keep;
        keep.variables |= keeps("plain_text") || keeps("json");
        keep.secrets = keeps("secret_text");
    }

    fn compatibility_date(&mut self, value: Value) {
        let Some(text) = self.text("compatibility_date", value) else { return };
        if text.parse::<jiff::civil::Date>().is_err() || text.len() != 10 {
            self.fault("compatibility_date", "`compatibility_date` is a date such as `2026-01-31`");
        }
        self.out.draft.compatibility_date = Some(text);
    }

    fn limits(&mut self, value: Value) {
        let Value::Object(limits) = value else {
            return self.fault("limits", "`limits` is an object with `cpu_ms` and `subrequests`");
        };
        for (key, value) in limits {
            let number = value.as_i64();
            match (key.as_str(), number) {
                _ if value.is_null() => {}
                ("cpu_ms", Some(_)) => self.out.draft.cpu_ms = number,
                ("subrequests", Some(_)) => self.out.draft.subrequests = number,
                ("cpu_ms", None) => self.out.faults.push(config::Fault {
                    kind: FaultKind::CpuLimit,
                    path: "limits.cpu_ms".into(),
                    message: "`cpu_ms` is a whole number of milliseconds".into(),
                }),
                ("subrequests", None) => self.fault("limits.subrequests", "`subrequests` is a whole number"),
                _ => self.out.notes.push("`limits` has an unknown key, which was ignored".into()),
            }
        }
    }

    fn annotations(&mut self, value: Value) {
        let Value::Object(mut annotations) = value else {
            return self.fault("annotations", "`annotations` is an object");
        };
        for key in ["workers/message", "workers/tag", "workers/alias"] {
            if annotations.get(key).is_some_and(|value| !value.is_string() && !value.is_null()) {
                self.fault(format!("annotations.{key}"), "expected a text");
            }
        }
        let mut text = |key: &str| take_text(&mut annotations, key).unwrap_or_default();
        let (message, tag, alias) = (text("workers/message"), text("workers/tag"), text("workers/alias"));
        self.out.annotations.message = version::message(&message);
        match version::tag(&tag) {
            Ok(tag) => self.out.annotations.tag = tag,
            Err(error) => self.fault("annotations.workers/tag", error.to_string()),
        }
        if alias.is_empty() {
            return;
        }
        let host_chars = alias.len() + 1 + self.worker.as_str().len();
        match alias.parse::<Alias>() {
            Err(error) => self.fault("annotations.workers/alias", error.to_string()),
            Ok(_) if host_chars > DNS_LABEL_CHARS_MAX => self.fault(
                "annotations.workers/alias",
                format!(
                    "`{alias}-{}` has {host_chars} characters, and a label of a host name takes {DNS_LABEL_CHARS_MAX}; choose a shorter alias",
                    self.worker
                ),
            ),
            Ok(alias) => self.out.annotations.alias = Some(alias),
        }
    }

    fn sluice(&mut self, value: Value) {
        let Value::Object(ours) = value else {
            return self.fault("sluice", "`sluice` is an object");
        };
        for (key, value) in ours {
            match (key.as_str(), &value) {
                (_, Value::Null) => {}
                ("instance_reuse", Value::Bool(reuse)) => self.out.draft.instance_reuse = Some(*reuse),
                ("instance_reuse", _) => self.fault("sluice.instance_reuse", "`instance_reuse` is `true` or `false`"),
                _ => self.out.notes.push("`sluice` has an unknown key, which was ignored".into()),
            }
        }
    }

    fn migrations(&mut self, value: Value) {
        if !is_something(&value) {
            return;
        }
        match migration::read(value) {
            Ok(migration) => self.out.migration = Some(migration),
            Err(faults) => self.out.faults.extend(faults),
        }
    }

    fn code_update(&mut self, value: Value) {
        let strategy = serde_json::from_value::<wire::CodeUpdateStrategy>(value).ok();
        match strategy.ok_or(deploy::CODE_UPDATE_SHAPE).and_then(|strategy| deploy::code_update(Some(strategy))) {
            Ok(update) => self.out.code_update = update,
            Err(message) => self.fault("code_update_strategy", message),
        }
    }

    fn text(&mut self, key: &str, value: Value) -> Option<String> {
        match value {
            Value::String(text) => Some(text),
            _ => {
                self.fault(key, format!("`{key}` is a text"));
                None
            }
        }
    }

    fn texts(&mut self, key: &str, value: Value) -> Vec<String> {
        serde_json::from_value(value).unwrap_or_else(|_| {
            self.fault(key, format!("`{key}` is a list of texts"));
            Vec::new()
        })
    }

    fn fault(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.out.faults.push(config::Fault { kind: FaultKind::Invalid, path: path.into(), message: message.into() });
    }
}

/// What one binding asks for; or the key that is wrong, and why. A value is never repeated.
fn draft_value(
    kind: &str,
    entry: &mut Map<String, Value>,
    own: &WorkerName,
) -> Result<DraftValue, (&'static str, String)> {
    let mut needed = |key: &'static str| {
        take_text(entry, key).ok_or_else(|| (key, format!("a binding of type `{kind}` needs `{key}`, a text")))
    };
    Ok(match kind {
        "plain_text" => DraftValue::Text(needed("text")?),
        "secret_text" => DraftValue::Secret(SecretText::new(needed("text")?)),
        "json" => {
            let value = entry.remove("json").ok_or_else(|| ("json", "a binding of type `json` needs `json`".into()))?;
            DraftValue::Json(value.to_string())
        }
        "version_metadata" => DraftValue::VersionMetadata,
        "service" => DraftValue::Service { service: needed("service")?, entrypoint: take_text(entry, "entrypoint") },
        "kv_namespace" => DraftValue::KvNamespace { namespace_id: needed("namespace_id")? },
        "durable_object_namespace" => object_value(needed("class_name")?, entry, own)?,
        "inherit" => match take_text(entry, "version_id").as_deref() {
            None | Some("latest") => DraftValue::Inherit { old_name: take_text(entry, "old_name") },
            Some(_) => {
                return Err(("version_id", "only `latest` can be inherited from; leave `version_id` out".into()));
            }
        },
        other => DraftValue::Unsupported { kind: other.chars().take(80).collect(), hint: hint(other) },
    })
}

/// A binding of Durable Objects (`DOI-8`). One that names its own worker is one that names none.
fn object_value(
    class_name: String,
    entry: &mut Map<String, Value>,
    own: &WorkerName,
) -> Result<DraftValue, (&'static str, String)> {
    let script_name = take_text(entry, "script_name").filter(|script| !script.is_empty() && script != own.as_str());
    match take_text(entry, "environment").as_deref() {
        None | Some("" | "production") => Ok(DraftValue::DurableObject { class_name, script_name }),
        Some(environment) => {
            let environment: String = environment.chars().take(64).collect();
            let message = format!(
                "an environment is a worker of its own here: leave `environment` out, and name it in `script_name`, as in `{}-{environment}`",
                script_name.as_deref().unwrap_or(own.as_str())
            );
            Err(("environment", message))
        }
    }
}

/// What to do instead of a binding that we do not offer.
fn hint(kind: &str) -> &'static str {
    match kind {
        "r2_bucket" => "there is no object store; call one by HTTP from the component",
        "d1" | "hyperdrive" => "there is no database; call one by HTTP from the component",
        "queue" => "there are no queues; call another worker by a service binding",
        "assets" => "static assets are not offered; serve the files from the component",
        "wasm_module" | "text_blob" | "data_blob" => {
            "modules are not bound; use the ES-module format with the component as the only module"
        }
        "secret_key" => "keys are not offered; store the key as `secret_text`",
        "dispatch_namespace" => "dispatch namespaces are not offered; use a service binding",
        _ => {
            "remove it; offered are plain_text, json, secret_text, version_metadata, service, kv_namespace, durable_object_namespace and inherit"
        }
    }
}

fn take_text(object: &mut Map<String, Value>, key: &str) -> Option<String> {
    match object.remove(key)? {
        Value::String(text) => Some(text),
        _ => None,
    }
}

/// Whether a value says anything: not `null`, `false`, `{}`, `[]` or `""`.
fn is_something(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Array(list) => !list.is_empty(),
        Value::Object(object) => !object.is_empty(),
        Value::String(text) => !text.is_empty(),
        Value::Bool(true) | Value::Number(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(value: &Value, call: Call) -> Outcome<Metadata> {
        Metadata::parse(value.to_string().as_bytes(), &"hello".parse().unwrap(), call)
    }

    fn faults(value: &Value) -> Vec<(String, String)> {
        parse(value, Call::Deploy).unwrap().faults.into_iter().map(|fault| (fault.path, fault.message)).collect()
    }

    #[test]
    fn an_annotation_of_another_type_is_a_fault_and_not_dropped() {
        let value = json!({"main_module": "a", "annotations": {"workers/tag": 5, "workers/message": null, "workers/alias": []}});
        let places: Vec<String> = faults(&value).into_iter().map(|(path, _)| path).collect();
        assert_eq!(places, ["annotations.workers/tag", "annotations.workers/alias"]);
    }

    #[test]
    fn what_wrangler_sends_becomes_a_draft() {
        let metadata = json!({
            "main_module": "shim.js", "compatibility_date": "2026-01-01", "compatibility_flags": ["f"],
            "bindings": [
                {"name": "A", "type": "plain_text", "text": "1"}, {"name": "B", "type": "json", "json": {"x": 1}},
                {"name": "C", "type": "secret_text", "text": "s"}, {"name": "D", "type": "version_metadata"},
                {"name": "E", "type": "service", "service": "other"}, {"name": "F", "type": "inherit"}],
            "keep_bindings": ["secret_text", "secret_key"], "limits": {"cpu_ms": 50},
            "annotations": {"workers/message": "m", "workers/tag": "t", "workers/alias": "staging"},
            "code_update_strategy": {"mode": "deferred", "max_delay": 300}, "logpush": false,
            "sluice": {"instance_reuse": true}, "frobnicate": 1
        });
        let out = parse(&metadata, Call::Version).unwrap();
        assert_eq!(out.faults, []);
        assert_eq!(out.draft.bindings.len(), 6);
        assert_eq!(out.draft.keep, Keep { variables: false, secrets: true });
        assert_eq!((out.draft.cpu_ms, out.draft.instance_reuse), (Some(50), Some(true)));
        assert_eq!(out.code_update, CodeUpdate::Deferred { max_delay_s: 300 });
        assert_eq!(out.annotations.triggered_by, Trigger::VersionUpload);
        assert_eq!(out.annotations.alias.unwrap().as_str(), "staging");
        assert_eq!(out.settings.keys().collect::<Vec<_>>(), ["logpush"]);
        assert_eq!(out.notes, ["the metadata key `frobnicate` is unknown and was ignored"]);
    }

    #[test]
    fn everything_wrong_is_found_at_once() {
        let long = "a".repeat(60);
        let bad = json!({
            "bindings": ["x", {"name": "A"}, {"name": "A", "type": "plain_text"}, {"name": "I", "type": "inherit", "version_id": "7"}],
            "migrations": {"old_tag": "v1"}, "assets": {"jwt": "x"}, "compatibility_date": "tomorrow", "limits": {"cpu_ms": "9"},
            "annotations": {"workers/tag": "t".repeat(101), "workers/alias": long}, "sluice": {"instance_reuse": 1},
        });
        let places: Vec<String> = faults(&bad).into_iter().map(|(path, _)| path).collect();
        assert_eq!(
            places,
            [
                "bindings[0]",
                "bindings[1]",
                "bindings[2].text",
                "bindings[3].version_id",
                "migrations.new_tag",
                "assets",
                "compatibility_date",
                "limits.cpu_ms",
                "annotations.workers/tag",
                "annotations.workers/alias",
                "sluice.instance_reuse"
            ]
        );
    }

    #[test]
    fn empty_parts_of_what_we_do_not_offer_are_no_fault() {
        assert_eq!(faults(&json!({"migrations": {}, "exports": {}, "assets": null, "containers": []})), []);
    }

    #[test]
    fn a_version_upload_with_a_migration_has_its_own_code() {
        let fault = parse(&json!({"migrations": {"new_tag": "v1"}}), Call::Version).unwrap_err();
        assert_eq!(fault.code(), Code::MigrationInVersion);
    }

    #[test]
    fn deep_json_is_refused_and_harmless() {
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        let fault = Metadata::parse(deep.as_bytes(), &"hello".parse().unwrap(), Call::Deploy).unwrap_err();
        assert_eq!(fault.code(), Code::Body);
    }

    #[test]
    fn secrets_are_kept_unless_the_upload_lists_what_to_keep() {
        let keep = |value| parse(&value, Call::Deploy).unwrap().draft.keep;
        assert_eq!(keep(json!({})), Keep { variables: false, secrets: true });
        assert_eq!(keep(json!({"keep_bindings": ["plain_text"]})), Keep { variables: true, secrets: false });
        assert_eq!(keep(json!({"keep_vars": true})), Keep { variables: true, secrets: true });
    }
}
