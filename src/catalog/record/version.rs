//! The stored shape of a [`Version`]. Secrets are sealed, everything else is readable.
//!
//! A start reads all of them, so reading one copies only what is kept: texts are borrowed from the record, and what a module is made
//! of is not made again for each version that has it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Damaged, from_json, parse, to_json};
use crate::catalog::Error;
use crate::catalog::seal::Sealer;
use crate::domain::config::{Binding, BindingValue, Config, Isolation, RequestLimits};
use crate::domain::id::{BindingName, WorkerName};
use crate::domain::module::{CodeOrigin, Compilation, GuestKind, ModuleDigest, ModuleFacts, Startup};
use crate::domain::version::{Annotations, Provenance, Source, Trigger, Version};

#[derive(Serialize, Deserialize)]
struct VersionRecord<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    number: u64,
    created_ms: u64,
    #[serde(borrow)]
    author: Cow<'a, str>,
    #[serde(borrow)]
    source: Cow<'a, str>,
    #[serde(borrow)]
    triggered_by: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    message: Option<Text<'a>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    tag: Option<Text<'a>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    alias: Option<Text<'a>>,
    #[serde(borrow)]
    config: ConfigRecord<'a>,
    #[serde(borrow)]
    module: ModuleRecord<'a>,
    startup_time_ms: u64,
    startup_memory_bytes: u64,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    compilation: Option<CompilationRecord<'a>>,
}

/// A text in a list or an option, where serde would copy a bare `Cow`.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Serialize, Deserialize)]
struct CompilationRecord<'a> {
    time_ms: u64,
    #[serde(borrow)]
    code: Cow<'a, str>,
}

#[derive(Serialize, Deserialize)]
struct ConfigRecord<'a> {
    #[serde(borrow)]
    bindings: Vec<BindingRecord<'a>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    compatibility_date: Option<Text<'a>>,
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    compatibility_flags: Vec<Text<'a>>,
    cpu_ms: u64,
    subrequests: u32,
    isolation: IsolationRecord,
}

/// A binding: its kind says which of the others there are. As one structure, since serde reads a tagged enumeration twice.
#[derive(Serialize, Deserialize)]
struct BindingRecord<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(rename = "type")]
    kind: KindRecord,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    text: Option<Text<'a>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    json: Option<Text<'a>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    sealed: Option<Text<'a>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    service: Option<Text<'a>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    namespace_id: Option<Text<'a>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    class_name: Option<Text<'a>>,
    /// Absent: the worker's own class.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    script_name: Option<Text<'a>>,
}

/// The words are those of an upload's metadata.
#[derive(Serialize, Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum KindRecord {
    PlainText,
    Json,
    SecretText,
    VersionMetadata,
    Service,
    KvNamespace,
    DurableObjectNamespace,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum IsolationRecord {
    ByGuest,
    Fresh,
    Reuse,
}

#[derive(Serialize, Deserialize)]
struct ModuleRecord<'a> {
    #[serde(borrow)]
    sha256: Cow<'a, str>,
    size_bytes: u64,
    wasi: WasiRecord,
    #[serde(borrow)]
    imports: Vec<Text<'a>>,
    #[serde(borrow)]
    exports: Vec<Text<'a>>,
}

#[derive(Serialize, Deserialize, Clone, Copy)]
enum WasiRecord {
    #[serde(rename = "0.2")]
    P2,
    #[serde(rename = "0.3")]
    P3,
}

/// What is known of modules: shared by all versions that have their bytes, so that one more version costs hundreds of bytes, not
/// kilobytes.
#[derive(Default)]
pub(in crate::catalog) struct Facts(HashMap<ModuleDigest, Arc<ModuleFacts>>);

pub(in crate::catalog) fn encode(version: &Version, worker: &WorkerName, sealer: &Sealer) -> Result<Vec<u8>, Error> {
    let annotations = &version.annotations;
    Ok(to_json(&VersionRecord {
        id: version.id.to_string().into(),
        number: version.number,
        created_ms: version.created_ms,
        author: version.provenance.author.as_str().into(),
        source: version.provenance.source.as_str().into(),
        triggered_by: annotations.triggered_by.as_str().into(),
        message: annotations.message.as_deref().map(Text::from),
        tag: annotations.tag.as_deref().map(Text::from),
        alias: annotations.alias.as_ref().map(Text::of),
        config: config_record(&version.config, worker, sealer)?,
        module: ModuleRecord {
            sha256: version.module.digest.to_string().into(),
            size_bytes: version.module.size_bytes,
            wasi: match version.module.kind {
                GuestKind::Wasi02 => WasiRecord::P2,
                GuestKind::Wasi03 => WasiRecord::P3,
            },
            imports: texts(&version.module.imports),
            exports: texts(&version.module.exports),
        },
        startup_time_ms: version.startup.time_ms,
        startup_memory_bytes: version.startup.memory_bytes,
        compilation: version.startup.compilation.map(|compilation| CompilationRecord {
            time_ms: compilation.time_ms,
            code: compilation.code.as_str().into(),
        }),
    }))
}

/// The version in a record; its module is the one in `facts`, if that is the same.
pub(in crate::catalog) fn decode(
    bytes: &[u8],
    worker: &WorkerName,
    sealer: &Sealer,
    facts: &mut Facts,
) -> Result<Version, Damaged> {
    let record: VersionRecord<'_> = from_json(bytes)?;
    Ok(Version {
        id: parse("id", &record.id)?,
        number: record.number,
        created_ms: record.created_ms,
        provenance: Provenance { author: record.author.into_owned(), source: Source::from_name(&record.source) },
        annotations: Annotations {
            message: record.message.map(Text::into_owned),
            tag: record.tag.map(Text::into_owned),
            alias: record.alias.map(|alias| parse("alias", &alias.0)).transpose()?,
            triggered_by: trigger(&record.triggered_by),
        },
        config: Arc::new(config(record.config, worker, sealer)?),
        module: facts.of(&record.module)?,
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

// === impl Facts ===

impl Facts {
    /// Makes known what a version has.
    pub(in crate::catalog) fn note(&mut self, module: &Arc<ModuleFacts>) {
        self.0.entry(module.digest).or_insert_with(|| Arc::clone(module));
    }

    fn of(&mut self, record: &ModuleRecord<'_>) -> Result<Arc<ModuleFacts>, Damaged> {
        let digest = parse("sha256", &record.sha256)?;
        let known = self.0.get(&digest);
        // Another Sluice may have measured the same bytes in another way.
        if let Some(known) = known.filter(|known| record.says(known)) {
            return Ok(Arc::clone(known));
        }
        let module = Arc::new(ModuleFacts {
            digest,
            size_bytes: record.size_bytes,
            kind: record.wasi.kind(),
            imports: owned(&record.imports),
            exports: owned(&record.exports),
        });
        self.note(&module);
        Ok(module)
    }
}

// === impl records ===

impl WasiRecord {
    fn kind(self) -> GuestKind {
        match self {
            Self::P2 => GuestKind::Wasi02,
            Self::P3 => GuestKind::Wasi03,
        }
    }
}

impl ModuleRecord<'_> {
    /// Whether a module of the same digest is the same in all else.
    fn says(&self, known: &ModuleFacts) -> bool {
        let same = |texts: &[Text<'_>], known: &[String]| texts.iter().map(|text| &*text.0).eq(known);
        self.size_bytes == known.size_bytes
            && self.wasi.kind() == known.kind
            && same(&self.imports, &known.imports)
            && same(&self.exports, &known.exports)
    }
}

impl<'a> BindingRecord<'a> {
    fn new(name: &'a BindingName, kind: KindRecord) -> Self {
        Self {
            name: name.as_str().into(),
            kind,
            text: None,
            json: None,
            sealed: None,
            service: None,
            namespace_id: None,
            class_name: None,
            script_name: None,
        }
    }
}

impl<'a> From<&'a str> for Text<'a> {
    fn from(text: &'a str) -> Self {
        Self(text.into())
    }
}

impl Text<'_> {
    fn of(value: &impl ToString) -> Self {
        Self(value.to_string().into())
    }

    fn into_owned(self) -> String {
        self.0.into_owned()
    }
}

fn owned(texts: &[Text<'_>]) -> Vec<String> {
    texts.iter().map(|text| text.0.clone().into_owned()).collect()
}

fn texts(of: &[String]) -> Vec<Text<'_>> {
    of.iter().map(|text| Text::from(text.as_str())).collect()
}

/// What made it. It is shown and decides nothing, so an unknown word is no reason to refuse the record.
pub(super) fn trigger(word: &str) -> Trigger {
    Trigger::from_name(word).unwrap_or(Trigger::Upload)
}

fn config_record<'a>(config: &'a Config, worker: &WorkerName, sealer: &Sealer) -> Result<ConfigRecord<'a>, Error> {
    Ok(ConfigRecord {
        bindings: config.bindings.iter().map(|it| binding_record(it, worker, sealer)).collect::<Result<_, Error>>()?,
        compatibility_date: config.compatibility_date.as_deref().map(Text::from),
        compatibility_flags: texts(&config.compatibility_flags),
        cpu_ms: u64::try_from(config.limits.cpu.as_millis()).unwrap_or(u64::MAX),
        subrequests: config.limits.subrequests,
        isolation: match config.isolation {
            Isolation::ByGuest => IsolationRecord::ByGuest,
            Isolation::Fresh => IsolationRecord::Fresh,
            Isolation::Reuse => IsolationRecord::Reuse,
        },
    })
}

fn binding_record<'a>(binding: &'a Binding, worker: &WorkerName, sealer: &Sealer) -> Result<BindingRecord<'a>, Error> {
    let of = |kind| BindingRecord::new(&binding.name, kind);
    Ok(match &binding.value {
        BindingValue::Text(text) => BindingRecord { text: Some(text.as_str().into()), ..of(KindRecord::PlainText) },
        BindingValue::Json(json) => BindingRecord { json: Some(json.as_str().into()), ..of(KindRecord::Json) },
        BindingValue::Secret(secret) => {
            let sealed = Text(sealer.seal(worker, &binding.name, secret)?.into());
            BindingRecord { sealed: Some(sealed), ..of(KindRecord::SecretText) }
        }
        BindingValue::VersionMetadata => of(KindRecord::VersionMetadata),
        BindingValue::Service { worker } => {
            BindingRecord { service: Some(Text::of(worker)), ..of(KindRecord::Service) }
        }
        BindingValue::KvNamespace { namespace } => {
            BindingRecord { namespace_id: Some(Text::of(namespace)), ..of(KindRecord::KvNamespace) }
        }
        BindingValue::DurableObject { class, worker } => BindingRecord {
            class_name: Some(Text::of(class)),
            script_name: worker.as_ref().map(Text::of),
            ..of(KindRecord::DurableObjectNamespace)
        },
    })
}

fn config(record: ConfigRecord<'_>, worker: &WorkerName, sealer: &Sealer) -> Result<Config, Damaged> {
    // Not collected from the records: that would keep their memory, four times what bindings take.
    let mut bindings = Vec::with_capacity(record.bindings.len());
    for record in record.bindings {
        bindings.push(binding(record, worker, sealer)?);
    }
    Ok(Config {
        bindings,
        compatibility_date: record.compatibility_date.map(Text::into_owned),
        compatibility_flags: owned(&record.compatibility_flags),
        limits: RequestLimits { cpu: Duration::from_millis(record.cpu_ms), subrequests: record.subrequests },
        isolation: match record.isolation {
            IsolationRecord::ByGuest => Isolation::ByGuest,
            IsolationRecord::Fresh => Isolation::Fresh,
            IsolationRecord::Reuse => Isolation::Reuse,
        },
    })
}

fn binding(record: BindingRecord<'_>, worker: &WorkerName, sealer: &Sealer) -> Result<Binding, Damaged> {
    let name: BindingName = parse("bindings", &record.name)?;
    let value = match record.kind {
        KindRecord::PlainText => BindingValue::Text(has("text", record.text)?.into_owned()),
        KindRecord::Json => BindingValue::Json(has("json", record.json)?.into_owned()),
        KindRecord::SecretText => {
            let sealed = has("sealed", record.sealed)?;
            BindingValue::Secret(sealer.unseal(worker, &name, &sealed.0).map_err(Damaged::Secret)?)
        }
        KindRecord::VersionMetadata => BindingValue::VersionMetadata,
        KindRecord::Service => BindingValue::Service { worker: parse("service", &has("service", record.service)?.0)? },
        KindRecord::KvNamespace => {
            let id = has("namespace_id", record.namespace_id)?;
            BindingValue::KvNamespace { namespace: parse("namespace_id", &id.0)? }
        }
        KindRecord::DurableObjectNamespace => BindingValue::DurableObject {
            class: parse("class_name", &has("class_name", record.class_name)?.0)?,
            worker: record.script_name.map(|script| parse("script_name", &script.0)).transpose()?,
        },
    };
    Ok(Binding { name, value })
}

/// What a binding of its kind cannot be without.
fn has<T>(field: &'static str, value: Option<T>) -> Result<T, Damaged> {
    value.ok_or_else(|| Damaged::Json { source: serde::de::Error::missing_field(field) })
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
        let (back, full) = (decode(&bytes, &worker, &sealer, &mut Facts::default()).unwrap(), full());
        assert_eq!((back.id, back.number, back.created_ms), (full.id, full.number, full.created_ms));
        assert_eq!((&back.provenance, &back.annotations), (&full.provenance, &full.annotations));
        assert_eq!((&back.config, &back.module, back.startup), (&full.config, &full.module, full.startup));

        let newer = String::from_utf8(bytes).unwrap().replacen("\"format\":1", "\"format\":9", 1);
        assert!(matches!(
            decode(newer.as_bytes(), &worker, &sealer, &mut Facts::default()),
            Err(Damaged::NewerFormat { found: 9 })
        ));
    }

    #[test]
    fn the_first_format_is_still_read() {
        let dir = tempfile::tempdir().unwrap();
        let sealer = Sealer::open(dir.path(), IfMissing::Make).unwrap();
        let record = br#"{"format":1,"id":"07070707-0707-4707-8707-070707070707","number":1,"created_ms":5,"author":"a","source":"api",
            "triggered_by":"upload","config":{"bindings":[{"name":"T","type":"plain_text","text":"t"},{"name":"M","type":"version_metadata"}],
            "cpu_ms":30000,"subrequests":1000,"isolation":"by_guest"},"module":{"sha256":"0909090909090909090909090909090909090909090909090909090909090909",
            "size_bytes":1,"wasi":"0.2","imports":[],"exports":[]},"startup_time_ms":1,"startup_memory_bytes":2}"#;
        let version = decode(record, &"w".parse().unwrap(), &sealer, &mut Facts::default()).unwrap();
        assert_eq!((version.number, version.config.bindings.len()), (1, 2));
        assert_eq!(version.module.kind, GuestKind::Wasi02);
        assert_eq!(version.startup, Startup { time_ms: 1, memory_bytes: 2, compilation: None });

        // Words that are only shown may be unknown.
        let newer = String::from_utf8(record.to_vec()).unwrap();
        let newer =
            newer.replacen("\"format\":1", "\"format\":1,\"compilation\":{\"time_ms\":5,\"code\":\"dreamt\"}", 1);
        let version = decode(newer.as_bytes(), &"w".parse().unwrap(), &sealer, &mut Facts::default()).unwrap();
        assert_eq!(version.startup.compilation, None);
    }

    #[test]
    fn versions_with_the_same_module_share_what_is_known_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let sealer = Sealer::open(dir.path(), IfMissing::Make).unwrap();
        let worker: WorkerName = "w".parse().unwrap();
        let mut facts = Facts::default();
        let mut read = |version: &Version| {
            decode(&encode(version, &worker, &sealer).unwrap(), &worker, &sealer, &mut facts).unwrap().module
        };
        let first = read(&full());
        assert!(Arc::ptr_eq(&first, &read(&full())));
        // Measured by another Sluice, which knew of fewer imports.
        let mut other = full();
        other.module = Arc::new(ModuleFacts { imports: vec![], ..(*other.module).clone() });
        assert_eq!(read(&other).imports, Vec::<String>::new());
        assert!(Arc::ptr_eq(&first, &read(&full())));
    }

    /// A start that keeps what the records took on their way in costs a kilobyte for each version.
    #[test]
    fn what_is_read_takes_no_more_memory_than_it_needs() {
        let dir = tempfile::tempdir().unwrap();
        let sealer = Sealer::open(dir.path(), IfMissing::Make).unwrap();
        let worker: WorkerName = "w".parse().unwrap();
        let bytes = encode(&full(), &worker, &sealer).unwrap();
        let read = decode(&bytes, &worker, &sealer, &mut Facts::default()).unwrap();
        let (config, module) = (&read.config, &read.module);
        assert_eq!(config.bindings.capacity(), config.bindings.len());
        assert_eq!(config.compatibility_flags.capacity(), config.compatibility_flags.len());
        assert_eq!(
            (module.imports.capacity(), module.exports.capacity()),
            (module.imports.len(), module.exports.len())
        );
    }

    #[test]
    fn a_binding_without_what_its_kind_needs_is_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let sealer = Sealer::open(dir.path(), IfMissing::Make).unwrap();
        let worker: WorkerName = "w".parse().unwrap();
        let bytes = String::from_utf8(encode(&full(), &worker, &sealer).unwrap()).unwrap();
        for (member, field) in [("\"text\":\"t\\n\"", "text"), ("\"service\":\"other\"", "service")] {
            let without = bytes.replacen(&format!(",{member}"), "", 1);
            assert_ne!(without, bytes);
            let Err(damaged) = decode(without.as_bytes(), &worker, &sealer, &mut Facts::default()) else {
                panic!("read without its `{field}`")
            };
            let Damaged::Json { source } = damaged else { panic!("{damaged}") };
            assert_eq!(source.to_string(), format!("missing field `{field}`"));
        }
    }
}
