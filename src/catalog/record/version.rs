//! The stored shape of a [`Version`]. Secrets are sealed, everything else is readable.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Damaged, from_json, parse, to_json};
use crate::catalog::seal::Sealer;
use crate::catalog::{Error, seal};
use crate::domain::config::{Binding, BindingValue, Config, Isolation, RequestLimits};
use crate::domain::id::{BindingName, WorkerName};
use crate::domain::module::{CodeOrigin, Compilation, GuestKind, ModuleFacts, Startup};
use crate::domain::version::{Annotations, Provenance, Source, Trigger, Version};

#[derive(Serialize, Deserialize)]
struct VersionRecord {
    id: String,
    number: u64,
    created_ms: u64,
    author: String,
    source: String,
    triggered_by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tag: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    alias: Option<String>,
    config: ConfigRecord,
    module: ModuleRecord,
    startup_time_ms: u64,
    startup_memory_bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    compilation: Option<CompilationRecord>,
}

#[derive(Serialize, Deserialize)]
struct CompilationRecord {
    time_ms: u64,
    code: String,
}

#[derive(Serialize, Deserialize)]
struct ConfigRecord {
    bindings: Vec<BindingRecord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    compatibility_date: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    compatibility_flags: Vec<String>,
    cpu_ms: u64,
    subrequests: u32,
    isolation: IsolationRecord,
}

#[derive(Serialize, Deserialize)]
struct BindingRecord {
    name: String,
    #[serde(flatten)]
    value: ValueRecord,
}

/// The words are those of an upload's metadata.
#[derive(Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum ValueRecord {
    PlainText {
        text: String,
    },
    Json {
        json: String,
    },
    SecretText {
        sealed: String,
    },
    VersionMetadata,
    Service {
        service: String,
    },
    KvNamespace {
        namespace_id: String,
    },
    DurableObjectNamespace {
        class_name: String,
        /// Absent: the worker's own class.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        script_name: Option<String>,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum IsolationRecord {
    ByGuest,
    Fresh,
    Reuse,
}

#[derive(Serialize, Deserialize)]
struct ModuleRecord {
    sha256: String,
    size_bytes: u64,
    wasi: WasiRecord,
    imports: Vec<String>,
    exports: Vec<String>,
}

#[derive(Serialize, Deserialize)]
enum WasiRecord {
    #[serde(rename = "0.2")]
    P2,
    #[serde(rename = "0.3")]
    P3,
}

pub(in crate::catalog) fn encode(version: &Version, worker: &WorkerName, sealer: &Sealer) -> Result<Vec<u8>, Error> {
    let annotations = &version.annotations;
    Ok(to_json(&VersionRecord {
        id: version.id.to_string(),
        number: version.number,
        created_ms: version.created_ms,
        author: version.provenance.author.clone(),
        source: version.provenance.source.as_str().to_owned(),
        triggered_by: annotations.triggered_by.as_str().to_owned(),
        message: annotations.message.clone(),
        tag: annotations.tag.clone(),
        alias: annotations.alias.as_ref().map(ToString::to_string),
        config: config_record(&version.config, worker, sealer)?,
        module: ModuleRecord {
            sha256: version.module.digest.to_string(),
            size_bytes: version.module.size_bytes,
            wasi: match version.module.kind {
                GuestKind::Wasi02 => WasiRecord::P2,
                GuestKind::Wasi03 => WasiRecord::P3,
            },
            imports: version.module.imports.clone(),
            exports: version.module.exports.clone(),
        },
        startup_time_ms: version.startup.time_ms,
        startup_memory_bytes: version.startup.memory_bytes,
        compilation: version.startup.compilation.map(|compilation| CompilationRecord {
            time_ms: compilation.time_ms,
            code: compilation.code.as_str().to_owned(),
        }),
    }))
}

pub(in crate::catalog) fn decode(bytes: &[u8], worker: &WorkerName, sealer: &Sealer) -> Result<Version, Damaged> {
    let record: VersionRecord = from_json(bytes)?;
    Ok(Version {
        id: parse("id", &record.id)?,
        number: record.number,
        created_ms: record.created_ms,
        provenance: Provenance { author: record.author, source: Source::from_name(&record.source) },
        annotations: Annotations {
            message: record.message,
            tag: record.tag,
            alias: record.alias.map(|alias| parse("alias", &alias)).transpose()?,
            triggered_by: trigger(&record.triggered_by),
        },
        config: Arc::new(config(record.config, worker, sealer)?),
        module: Arc::new(ModuleFacts {
            digest: parse("sha256", &record.module.sha256)?,
            size_bytes: record.module.size_bytes,
            kind: match record.module.wasi {
                WasiRecord::P2 => GuestKind::Wasi02,
                WasiRecord::P3 => GuestKind::Wasi03,
            },
            imports: record.module.imports,
            exports: record.module.exports,
        }),
        startup: Startup {
            time_ms: record.startup_time_ms,
            memory_bytes: record.startup_memory_bytes,
            // It is shown and decides nothing, so an unknown word is no reason to refuse the record.
            compilation: record.compilation.and_then(|CompilationRecord { time_ms, code }| {
                Some(Compilation { time_ms, code: CodeOrigin::from_name(&code)? })
            }),
        },
    })
}

/// What made it. It is shown and decides nothing, so an unknown word is no reason to refuse the record.
pub(super) fn trigger(word: &str) -> Trigger {
    Trigger::from_name(word).unwrap_or(Trigger::Upload)
}

fn config_record(config: &Config, worker: &WorkerName, sealer: &Sealer) -> Result<ConfigRecord, Error> {
    let record = |binding: &Binding| {
        let value = match &binding.value {
            BindingValue::Text(text) => ValueRecord::PlainText { text: text.clone() },
            BindingValue::Json(json) => ValueRecord::Json { json: json.clone() },
            BindingValue::Secret(secret) => {
                ValueRecord::SecretText { sealed: sealer.seal(worker, &binding.name, secret)? }
            }
            BindingValue::VersionMetadata => ValueRecord::VersionMetadata,
            BindingValue::Service { worker } => ValueRecord::Service { service: worker.to_string() },
            BindingValue::KvNamespace { namespace } => ValueRecord::KvNamespace { namespace_id: namespace.to_string() },
            BindingValue::DurableObject { class, worker } => ValueRecord::DurableObjectNamespace {
                class_name: class.to_string(),
                script_name: worker.as_ref().map(ToString::to_string),
            },
        };
        Ok(BindingRecord { name: binding.name.to_string(), value })
    };
    Ok(ConfigRecord {
        bindings: config.bindings.iter().map(record).collect::<Result<_, Error>>()?,
        compatibility_date: config.compatibility_date.clone(),
        compatibility_flags: config.compatibility_flags.clone(),
        cpu_ms: u64::try_from(config.limits.cpu.as_millis()).unwrap_or(u64::MAX),
        subrequests: config.limits.subrequests,
        isolation: match config.isolation {
            Isolation::ByGuest => IsolationRecord::ByGuest,
            Isolation::Fresh => IsolationRecord::Fresh,
            Isolation::Reuse => IsolationRecord::Reuse,
        },
    })
}

fn config(record: ConfigRecord, worker: &WorkerName, sealer: &Sealer) -> Result<Config, Damaged> {
    let unseal =
        |name: &BindingName, sealed: &str| -> Result<_, seal::Unopened> { sealer.unseal(worker, name, sealed) };
    let binding = |record: BindingRecord| {
        let name: BindingName = parse("bindings", &record.name)?;
        let value = match record.value {
            ValueRecord::PlainText { text } => BindingValue::Text(text),
            ValueRecord::Json { json } => BindingValue::Json(json),
            ValueRecord::SecretText { sealed } => {
                BindingValue::Secret(unseal(&name, &sealed).map_err(Damaged::Secret)?)
            }
            ValueRecord::VersionMetadata => BindingValue::VersionMetadata,
            ValueRecord::Service { service } => BindingValue::Service { worker: parse("service", &service)? },
            ValueRecord::KvNamespace { namespace_id } => {
                BindingValue::KvNamespace { namespace: parse("namespace_id", &namespace_id)? }
            }
            ValueRecord::DurableObjectNamespace { class_name, script_name } => BindingValue::DurableObject {
                class: parse("class_name", &class_name)?,
                worker: script_name.map(|script| parse("script_name", &script)).transpose()?,
            },
        };
        Ok(Binding { name, value })
    };
    Ok(Config {
        bindings: record.bindings.into_iter().map(binding).collect::<Result<_, Damaged>>()?,
        compatibility_date: record.compatibility_date,
        compatibility_flags: record.compatibility_flags,
        limits: RequestLimits { cpu: Duration::from_millis(record.cpu_ms), subrequests: record.subrequests },
        isolation: match record.isolation {
            IsolationRecord::ByGuest => Isolation::ByGuest,
            IsolationRecord::Fresh => Isolation::Fresh,
            IsolationRecord::Reuse => Isolation::Reuse,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::seal::IfMissing;
    use crate::domain::config::SecretText;
    use crate::domain::id::VersionId;
    use crate::domain::module::ModuleDigest;

    fn full() -> Version {
        let binding = |name: &str, value| Binding { name: name.parse().unwrap(), value };
        Version {
            id: VersionId::from_random([7; 16]),
            number: 3,
            created_ms: 1_700_000_000_123,
            provenance: Provenance { author: "dev@localhost".into(), source: Source::Wrangler },
            annotations: Annotations {
                message: Some("first \"é\"".into()),
                tag: Some("v1".into()),
                alias: Some("staging".parse().unwrap()),
                triggered_by: Trigger::VersionUpload,
            },
            config: Arc::new(Config {
                bindings: vec![
                    binding("T", BindingValue::Text("t\n".into())),
                    binding("J", BindingValue::Json("{\"a\":[1.50]}".into())),
                    binding("S", BindingValue::Secret(SecretText::new("hunter2".into()))),
                    binding("M", BindingValue::VersionMetadata),
                    binding("B", BindingValue::Service { worker: "other".parse().unwrap() }),
                    binding("K", BindingValue::KvNamespace { namespace: "0f".repeat(16).parse().unwrap() }),
                    binding("O", BindingValue::DurableObject { class: "Counter".parse().unwrap(), worker: None }),
                    binding(
                        "P",
                        BindingValue::DurableObject {
                            class: "Room".parse().unwrap(),
                            worker: Some("chat".parse().unwrap()),
                        },
                    ),
                ],
                compatibility_date: Some("2026-01-01".into()),
                compatibility_flags: vec!["nodejs_compat".into()],
                limits: RequestLimits { cpu: Duration::from_millis(50), subrequests: 9 },
                isolation: Isolation::Reuse,
            }),
            module: Arc::new(ModuleFacts {
                digest: ModuleDigest::from_bytes([9; 32]),
                size_bytes: 1000,
                kind: GuestKind::Wasi03,
                imports: vec!["wasi:clocks/types@0.3.0".into()],
                exports: vec!["wasi:http/handler@0.3.0".into()],
            }),
            startup: Startup {
                time_ms: 3,
                memory_bytes: 65536,
                compilation: Some(Compilation { time_ms: 412, code: CodeOrigin::Shared }),
            },
        }
    }

    #[test]
    fn a_version_reads_back_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let sealer = Sealer::open(dir.path(), IfMissing::Make).unwrap();
        let worker: WorkerName = "w".parse().unwrap();
        let bytes = encode(&full(), &worker, &sealer).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains("hunter2"));
        let (back, full) = (decode(&bytes, &worker, &sealer).unwrap(), full());
        assert_eq!((back.id, back.number, back.created_ms), (full.id, full.number, full.created_ms));
        assert_eq!((&back.provenance, &back.annotations), (&full.provenance, &full.annotations));
        assert_eq!((&back.config, &back.module, back.startup), (&full.config, &full.module, full.startup));

        let newer = String::from_utf8(bytes).unwrap().replacen("\"format\":1", "\"format\":9", 1);
        assert!(matches!(decode(newer.as_bytes(), &worker, &sealer), Err(Damaged::NewerFormat { found: 9 })));
    }

    #[test]
    fn the_first_format_is_still_read() {
        let dir = tempfile::tempdir().unwrap();
        let sealer = Sealer::open(dir.path(), IfMissing::Make).unwrap();
        let record = br#"{"format":1,"id":"07070707-0707-4707-8707-070707070707","number":1,"created_ms":5,"author":"a","source":"api",
            "triggered_by":"upload","config":{"bindings":[{"name":"T","type":"plain_text","text":"t"},{"name":"M","type":"version_metadata"}],
            "cpu_ms":30000,"subrequests":1000,"isolation":"by_guest"},"module":{"sha256":"0909090909090909090909090909090909090909090909090909090909090909",
            "size_bytes":1,"wasi":"0.2","imports":[],"exports":[]},"startup_time_ms":1,"startup_memory_bytes":2}"#;
        let version = decode(record, &"w".parse().unwrap(), &sealer).unwrap();
        assert_eq!((version.number, version.config.bindings.len()), (1, 2));
        assert_eq!(version.module.kind, GuestKind::Wasi02);
        assert_eq!(version.startup, Startup { time_ms: 1, memory_bytes: 2, compilation: None });

        // Words that are only shown may be unknown.
        let newer = String::from_utf8(record.to_vec()).unwrap();
        let newer =
            newer.replacen("\"format\":1", "\"format\":1,\"compilation\":{\"time_ms\":5,\"code\":\"dreamt\"}", 1);
        let version = decode(newer.as_bytes(), &"w".parse().unwrap(), &sealer).unwrap();
        assert_eq!(version.startup.compilation, None);
    }
}
