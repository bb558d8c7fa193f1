//! What the catalog stores, and where. Records are JSON with a `format` number; the domain knows nothing of either.
//!
//! | Key (family, components) | Record |
//! |---|---|
//! | `10` worker | [`Head`]: what changes about a worker. Every change of the worker checks it and writes it |
//! | `11` worker, number | a [`Version`](crate::domain::version::Version), never written again (`V1`) |
//! | `12` worker, number | a [`Deployment`](crate::domain::deployment::Deployment), never written again (`DEP-1`) |
//! | `13` pattern | who owns a route: what keeps two workers from the same one |
//! | `14` host name | who owns a custom domain |
//! | `15` | the routes without a worker (`RTE-6`) |
//! | `16` namespace | objects whose class is gone, and whose data has to go yet (`MIG-7`) |
//!
//! A new field is optional and has a default; whatever would change the meaning of what is there takes a new format number,
//! and this file learns to read both.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::seal::Unopened;
use super::{Error, Route, Triggers};
use crate::domain::class::{Class, ClassStorage, Classes};
use crate::domain::config::SecretText;
use crate::domain::id::{BindingName, WorkerName};
use crate::domain::object::{ClassName, ObjectNamespaceId};
use crate::domain::route::{Hostname, RoutePattern};
use crate::store::{Entry, Family, Key, Range};

pub(super) mod deployment;
pub(super) mod version;

const HEADS: Family = Family::new(0x10);
const VERSIONS: Family = Family::new(0x11);
const DEPLOYMENTS: Family = Family::new(0x12);
const ROUTE_CLAIMS: Family = Family::new(0x13);
const DOMAIN_CLAIMS: Family = Family::new(0x14);
const DISABLED_ROUTES: Family = Family::new(0x15);
const DOOMED: Family = Family::new(0x16);

/// The format that is written, and the newest that is read.
const FORMAT: u32 = 1;
/// How a record of that format begins.
const PRESENT: &[u8] = b"{\"format\":1,";

/// Why a stored record is no value of the domain.
#[derive(Debug, thiserror::Error)]
pub enum Damaged {
    #[error("it has format {found}, and this Sluice knows formats up to {FORMAT}; start a newer Sluice")]
    NewerFormat { found: u32 },
    #[error("it is not the JSON that was expected")]
    Json { source: serde_json::Error },
    #[error("its `{field}` is not valid")]
    Field { field: &'static str, source: Box<dyn std::error::Error + Send + Sync> },
    #[error(transparent)]
    Secret(Unopened),
}

/// What changes about a worker. Its record's revision is what every change of the worker checks.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Head {
    /// 32 hexadecimal digits, drawn when the worker was made: a worker of the same name later is another one.
    pub(super) tag: String,
    pub(super) created_ms: u64,
    pub(super) counters: Counters,
    pub(super) triggers: Triggers,
    pub(super) settings: serde_json::Value,
    /// Secrets that wait for the first version. Empty once there is one.
    pub(super) draft_secrets: BTreeMap<BindingName, SecretText>,
    pub(super) classes: Classes,
}

/// Numbers that only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counters {
    /// The number of the last version, and of the last deployment.
    pub(super) versions: u64,
    pub(super) deployments: u64,
    /// Versions and deployments deleted: tells a reader that appending is not enough.
    pub(super) deletions: u64,
    /// Edits of the draft's secrets: tells an upload that what it was resolved against is past.
    pub(super) draft_edits: u64,
}

/// The ends of what belongs to a worker.
pub(super) fn head_key(worker: &WorkerName) -> Key {
    Key::family(HEADS).text(worker.as_str())
}

pub(super) fn heads() -> Range {
    Range::under(&Key::family(HEADS))
}

pub(super) fn version_key(worker: &WorkerName, number: u64) -> Key {
    Key::family(VERSIONS).text(worker.as_str()).number(number)
}

pub(super) fn versions(worker: &WorkerName) -> Range {
    Range::under(&Key::family(VERSIONS).text(worker.as_str()))
}

pub(super) fn all_versions() -> Range {
    Range::under(&Key::family(VERSIONS))
}

pub(super) fn deployment_key(worker: &WorkerName, number: u64) -> Key {
    Key::family(DEPLOYMENTS).text(worker.as_str()).number(number)
}

pub(super) fn deployments(worker: &WorkerName) -> Range {
    Range::under(&Key::family(DEPLOYMENTS).text(worker.as_str()))
}

pub(super) fn all_deployments() -> Range {
    Range::under(&Key::family(DEPLOYMENTS))
}

pub(super) fn route_claim_key(pattern: &RoutePattern) -> Key {
    Key::family(ROUTE_CLAIMS).text(pattern.as_str())
}

pub(super) fn domain_claim_key(hostname: &Hostname) -> Key {
    Key::family(DOMAIN_CLAIMS).text(hostname.as_str())
}

pub(super) fn disabled_routes_key() -> Key {
    Key::family(DISABLED_ROUTES)
}

pub(super) fn doomed_key(namespace: ObjectNamespaceId) -> Key {
    Key::family(DOOMED).fixed(namespace.as_bytes())
}

pub(super) fn doomed() -> Range {
    Range::under(&Key::family(DOOMED))
}

/// The doomed namespace of a key.
pub(super) fn doomed_of(key: &Key) -> Result<ObjectNamespaceId, Damaged> {
    let bytes = key.parts(DOOMED).and_then(|mut parts| parts.fixed());
    bytes.map(ObjectNamespaceId::from_bytes).map_err(|source| field("namespace", source))
}

/// The worker whose head is stored under `key`.
pub(super) fn worker_of(key: &Key) -> Result<WorkerName, Damaged> {
    let name = key.parts(HEADS).and_then(|mut parts| parts.text());
    name.map_err(|source| field("worker", source))?.parse().map_err(|source| field("worker", source))
}

/// The number at the end of a key of a version or a deployment.
pub(super) fn deployment_number_of(key: &Key) -> Result<u64, Damaged> {
    let number = key.parts(DEPLOYMENTS).and_then(|mut parts| parts.text().and_then(|_| parts.number()));
    number.map_err(|source| field("number", source))
}

/// Names the record that cannot be read.
pub(super) fn unreadable(entry: &Entry) -> impl FnOnce(Damaged) -> Error {
    move |source| Error::Record { key: entry.key.to_string(), source }
}

// === JSON ===

#[derive(Deserialize)]
struct Header {
    format: u32,
}

/// Any record, with the format in front.
#[derive(Serialize)]
struct Framed<'a, T> {
    format: u32,
    #[serde(flatten)]
    record: &'a T,
}

fn to_json<T: Serialize>(record: &T) -> Vec<u8> {
    serde_json::to_vec(&Framed { format: FORMAT, record }).expect("records are plain data")
}

fn from_json<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Damaged> {
    let json = |source| Damaged::Json { source };
    // The format first: of a newer one nothing else may be taken for granted. What is written today is known by how it begins; a
    // start reads all records, and need not read them twice.
    if !bytes.starts_with(PRESENT) {
        let header: Header = serde_json::from_slice(bytes).map_err(json)?;
        if header.format > FORMAT {
            return Err(Damaged::NewerFormat { found: header.format });
        }
    }
    serde_json::from_slice(bytes).map_err(json)
}

fn field(field: &'static str, source: impl std::error::Error + Send + Sync + 'static) -> Damaged {
    Damaged::Field { field, source: Box::new(source) }
}

fn parse<T>(name: &'static str, text: &str) -> Result<T, Damaged>
where
    T: FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    text.parse().map_err(|source| field(name, source))
}

// === Heads ===

#[derive(Serialize, Deserialize)]
struct HeadRecord {
    tag: String,
    created_ms: u64,
    counters: Counters,
    workers_dev: bool,
    previews_enabled: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    routes: Vec<RouteRecord>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    domains: Vec<String>,
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    settings: serde_json::Value,
    /// Binding → sealed value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    draft_secrets: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    classes: BTreeMap<String, ClassRecord>,
    /// Name that is past → namespace.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    class_forwards: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    migration_tag: Option<String>,
    /// The number of the version that came with the last migration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    migration_version: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct ClassRecord {
    namespace: String,
    storage: StorageRecord,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StorageRecord {
    Kv,
    Sqlite,
}

#[derive(Serialize, Deserialize)]
struct RouteRecord {
    pattern: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    zone_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    zone_id: Option<String>,
}

impl Head {
    pub(super) fn encode(&self, worker: &WorkerName, sealer: &super::Sealer) -> Result<Vec<u8>, Error> {
        let sealed =
            |(name, value): (&BindingName, &SecretText)| Ok((name.to_string(), sealer.seal(worker, name, value)?));
        let routes = self.triggers.routes.iter().map(|route| RouteRecord {
            pattern: route.pattern.to_string(),
            zone_name: route.zone_name.clone(),
            zone_id: route.zone_id.clone(),
        });
        Ok(to_json(&HeadRecord {
            tag: self.tag.clone(),
            created_ms: self.created_ms,
            counters: self.counters,
            workers_dev: self.triggers.workers_dev,
            previews_enabled: self.triggers.previews_enabled,
            routes: routes.collect(),
            domains: self.triggers.domains.iter().map(ToString::to_string).collect(),
            settings: self.settings.clone(),
            draft_secrets: self.draft_secrets.iter().map(sealed).collect::<Result<_, Error>>()?,
            classes: self.classes.by_name.iter().map(|(name, class)| (name.to_string(), class_record(class))).collect(),
            class_forwards: self.classes.forwards.iter().map(|(old, now)| (old.to_string(), now.to_string())).collect(),
            migration_tag: self.classes.tag.clone(),
            migration_version: self.classes.fence,
        }))
    }

    pub(super) fn decode(bytes: &[u8], worker: &WorkerName, sealer: &super::Sealer) -> Result<Self, Damaged> {
        let record: HeadRecord = from_json(bytes)?;
        let route = |route: RouteRecord| {
            let pattern = parse("routes", &route.pattern)?;
            Ok(Route { pattern, zone_name: route.zone_name, zone_id: route.zone_id })
        };
        let opened = |(name, sealed): (String, String)| {
            let name: BindingName = parse("draft_secrets", &name)?;
            let value = sealer.unseal(worker, &name, &sealed).map_err(Damaged::Secret)?;
            Ok((name, value))
        };
        Ok(Self {
            tag: record.tag,
            created_ms: record.created_ms,
            counters: record.counters,
            triggers: Triggers {
                routes: record.routes.into_iter().map(route).collect::<Result<_, Damaged>>()?,
                domains: record.domains.iter().map(|host| parse("domains", host)).collect::<Result<_, Damaged>>()?,
                workers_dev: record.workers_dev,
                previews_enabled: record.previews_enabled,
            },
            settings: record.settings,
            draft_secrets: record.draft_secrets.into_iter().map(opened).collect::<Result<_, Damaged>>()?,
            classes: Classes {
                by_name: record.classes.iter().map(class).collect::<Result<_, Damaged>>()?,
                forwards: record.class_forwards.iter().map(forward).collect::<Result<_, Damaged>>()?,
                tag: record.migration_tag,
                fence: record.migration_version,
            },
        })
    }
}

fn class_record(class: &Class) -> ClassRecord {
    ClassRecord {
        namespace: class.namespace.to_string(),
        storage: match class.storage {
            ClassStorage::Kv => StorageRecord::Kv,
            ClassStorage::Sqlite => StorageRecord::Sqlite,
        },
    }
}

fn class((name, record): (&String, &ClassRecord)) -> Result<(ClassName, Class), Damaged> {
    let storage = match record.storage {
        StorageRecord::Kv => ClassStorage::Kv,
        StorageRecord::Sqlite => ClassStorage::Sqlite,
    };
    Ok((parse("classes", name)?, Class { namespace: parse("classes", &record.namespace)?, storage }))
}

fn forward((old, namespace): (&String, &String)) -> Result<(ClassName, ObjectNamespaceId), Damaged> {
    Ok((parse("class_forwards", old)?, parse("class_forwards", namespace)?))
}

// === Claims, disabled routes, doomed namespaces ===

#[derive(Serialize, Deserialize)]
struct ClaimRecord {
    /// Absent: the route has no worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    worker: Option<String>,
}

/// The record that says who owns a route or a custom domain. Nobody reads it but the store's checks, and a person who looks.
pub(super) fn claim(worker: Option<&WorkerName>) -> Vec<u8> {
    to_json(&ClaimRecord { worker: worker.map(ToString::to_string) })
}

#[derive(Serialize, Deserialize)]
struct DoomedRecord {
    worker: String,
    class: String,
    since_ms: u64,
}

/// What a person who looks can learn of a doomed namespace; the key says all that is needed.
pub(super) fn encode_doomed(worker: &WorkerName, class: &ClassName, since_ms: u64) -> Vec<u8> {
    to_json(&DoomedRecord { worker: worker.to_string(), class: class.to_string(), since_ms })
}

#[derive(Serialize, Deserialize)]
struct DisabledRoutesRecord {
    patterns: Vec<String>,
}

pub(super) fn encode_disabled_routes(patterns: &[RoutePattern]) -> Vec<u8> {
    to_json(&DisabledRoutesRecord { patterns: patterns.iter().map(ToString::to_string).collect() })
}

pub(super) fn decode_disabled_routes(bytes: &[u8]) -> Result<Vec<RoutePattern>, Damaged> {
    let record: DisabledRoutesRecord = from_json(bytes)?;
    record.patterns.iter().map(|pattern| parse("patterns", pattern)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::seal::{IfMissing, Sealer};

    #[test]
    fn a_head_reads_back_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let sealer = Sealer::open(dir.path(), IfMissing::Make).unwrap();
        let worker: WorkerName = "w".parse().unwrap();
        let namespace = |n| ObjectNamespaceId::from_bytes([n; 16]);
        let head = Head {
            tag: "0123".into(),
            created_ms: 5,
            counters: Counters { versions: 1, deployments: 2, deletions: 3, draft_edits: 4 },
            triggers: Triggers {
                routes: vec![Route {
                    pattern: "*.a.test/*".parse().unwrap(),
                    zone_name: Some("a.test".into()),
                    zone_id: None,
                }],
                domains: vec!["shop.test".parse().unwrap()],
                workers_dev: true,
                previews_enabled: false,
            },
            settings: serde_json::json!({"tags": ["x"]}),
            draft_secrets: BTreeMap::from([("S".parse().unwrap(), SecretText::new("hunter2".into()))]),
            classes: Classes {
                by_name: BTreeMap::from([
                    ("Room".parse().unwrap(), Class { namespace: namespace(1), storage: ClassStorage::Sqlite }),
                    ("Log".parse().unwrap(), Class { namespace: namespace(2), storage: ClassStorage::Kv }),
                ]),
                forwards: BTreeMap::from([("Chat".parse().unwrap(), namespace(1))]),
                tag: Some("v2".into()),
                fence: Some(7),
            },
        };
        let bytes = head.encode(&worker, &sealer).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains("hunter2"));
        assert_eq!(Head::decode(&bytes, &worker, &sealer).unwrap(), head);
        assert!(matches!(Head::decode(&bytes, &"v".parse().unwrap(), &sealer), Err(Damaged::Secret(_))));

        // The smallest record of format 1, which later code has to read for ever.
        let old = br#"{"format":1,"tag":"t","created_ms":1,"workers_dev":true,"previews_enabled":true,
            "counters":{"versions":0,"deployments":0,"deletions":0,"draft_edits":0}}"#;
        let old = Head::decode(old, &worker, &sealer).unwrap();
        assert!(old.triggers.routes.is_empty());
        assert_eq!(old.classes, Classes::default());
    }

    #[test]
    fn a_newer_format_is_refused_whatever_else_it_holds() {
        let error = decode_disabled_routes(br#"{"format":2,"patterns":{"new":"shape"}}"#).unwrap_err();
        assert_eq!(error.to_string(), "it has format 2, and this Sluice knows formats up to 1; start a newer Sluice");
        assert!(matches!(decode_disabled_routes(br#"{"patterns":[]}"#), Err(Damaged::Json { .. })));
        assert!(matches!(
            decode_disabled_routes(br#"{"format":1,"patterns":["a*b"]}"#),
            Err(Damaged::Field { field: "patterns", .. })
        ));
    }
}
