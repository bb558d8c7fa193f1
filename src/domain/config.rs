//! A version's configuration: raw becomes valid exactly once, here.
//!
//! A [`ConfigDraft`] is what an upload said, unchecked. [`Config::resolve`] checks all of it, carries over what is inherited
//! from the version before, and either gives a [`Config`] or *all* its faults, each with the place where it is. After that
//! nobody checks again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::domain::id::{BindingName, NamespaceId, WorkerName};
use crate::domain::limits::{BINDINGS_MAX, CPU_TIME_MAX, SUBREQUESTS_MAX, VALUE_BYTES_MAX};
use crate::domain::object::ClassName;

/// A valid configuration. Immutable, shared by whoever runs the version (`V1`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// In the order of the upload; names are unique.
    pub bindings: Vec<Binding>,
    /// Recorded and shown; it changes nothing in a Wasm guest today.
    pub compatibility_date: Option<String>,
    pub compatibility_flags: Vec<String>,
    pub limits: RequestLimits,
    pub isolation: Isolation,
}

/// A named capability of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    pub name: BindingName,
    pub value: BindingValue,
}

/// What a binding gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BindingValue {
    /// A variable that is text.
    Text(String),
    /// A variable that is JSON, as compact text.
    Json(String),
    /// A secret. Its value is never shown (`SEC-7`).
    Secret(SecretText),
    /// The version's own id, tag and time (`META-1`).
    VersionMetadata,
    /// Another worker; its own deployment chooses the version (`SEL-16`).
    Service { worker: WorkerName },
    /// A KV namespace, which is the same whichever version is bound to it (`VER-2`).
    KvNamespace { namespace: NamespaceId },
    /// The objects of a class: of this worker, or of another one, whose deployment then chooses their version (`DOI-8`).
    DurableObject { class: ClassName, worker: Option<WorkerName> },
}

/// A secret's value. Neither `Debug` nor any message shows it, and its memory is wiped when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(Arc<zeroize::Zeroizing<String>>);

/// What one request of the version may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestLimits {
    pub cpu: Duration,
    pub subrequests: u32,
}

/// Whether an instance serves one request or many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// What suits the kind of guest: 0.2 fresh, 0.3 reused.
    ByGuest,
    /// A fresh instance for each request.
    Fresh,
    /// Instances are used again.
    Reuse,
}

/// What an upload said. Names are unchecked text; `path`s of faults are positions in `bindings`.
#[derive(Debug, Clone, Default)]
pub struct ConfigDraft {
    pub bindings: Vec<BindingDraft>,
    /// Bindings of the version before that stay unless named again.
    pub keep: Keep,
    pub compatibility_date: Option<String>,
    pub compatibility_flags: Vec<String>,
    pub cpu_ms: Option<i64>,
    pub subrequests: Option<i64>,
    pub instance_reuse: Option<bool>,
}

/// One binding as uploaded.
#[derive(Debug, Clone)]
pub struct BindingDraft {
    pub name: String,
    pub value: DraftValue,
}

/// What a binding of an upload asks for.
#[derive(Debug, Clone)]
pub enum DraftValue {
    Text(String),
    Json(String),
    Secret(SecretText),
    VersionMetadata,
    Service {
        service: String,
        entrypoint: Option<String>,
    },
    KvNamespace {
        namespace_id: String,
    },
    /// Without `script_name` the class is this worker's own.
    DurableObject {
        class_name: String,
        script_name: Option<String>,
    },
    /// The binding of this name, or of `old_name`, of the version before (`UPL-3`).
    Inherit {
        old_name: Option<String>,
    },
    /// A type that we do not offer; `hint` says what to do instead.
    Unsupported {
        kind: String,
        hint: &'static str,
    },
}

/// Which types of binding of the version before are carried over (`UPL-4`, `keep_bindings`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Keep {
    pub variables: bool,
    pub secrets: bool,
}

/// What to do with an `inherit` that has no source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inheritance {
    /// A fault (10057).
    Strict,
    /// Dropped in silence.
    Lenient,
}

/// One thing wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub kind: FaultKind,
    /// Where: `bindings[2].service`.
    pub path: String,
    /// What, and what to do.
    pub message: String,
}

/// Faults that clients tell apart by code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// The configuration is wrong.
    Invalid,
    /// An inherited binding has no source.
    Inherit,
    /// The CPU limit is out of range.
    CpuLimit,
    /// A migration cannot be applied (`MIG-11`).
    Migration,
    /// A binding names a class that is not there (`MIG-11`).
    ClassUnknown,
    /// The component does not implement the worker's classes (`MIG-11`).
    ClassNotExported,
    /// A class that would go is bound still (`MIG-7`).
    ClassInUse,
}

// === impl SecretText ===

impl SecretText {
    /// Takes a value in.
    #[must_use]
    pub fn new(value: String) -> Self {
        Self(Arc::new(zeroize::Zeroizing::new(value)))
    }

    /// The value, for the guest that is bound to it and for sealing it at rest.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

// === impl Config ===

impl Default for RequestLimits {
    fn default() -> Self {
        Self { cpu: CPU_TIME_MAX, subrequests: SUBREQUESTS_MAX }
    }
}

impl Config {
    /// The valid configuration of `draft`, with what it inherits from `previous`, the latest uploaded version (`CRE-7`, `SEC-5`).
    ///
    /// # Errors
    /// Every fault there is, in the order of the draft.
    pub fn resolve(draft: &ConfigDraft, previous: Option<&Self>, inheritance: Inheritance) -> Result<Self, Vec<Fault>> {
        let mut faults = Faults::default();
        let mut bindings = Vec::with_capacity(draft.bindings.len());
        for (index, entry) in draft.bindings.iter().enumerate() {
            if let Some(binding) =
                resolve_binding(entry, &format!("bindings[{index}]"), previous, inheritance, &mut faults)
            {
                bindings.push(binding);
            }
        }
        // Kept bindings come after those that were named, which win over them.
        let named: BTreeSet<&str> = draft.bindings.iter().map(|entry| entry.name.as_str()).collect();
        for binding in previous.map(|config| config.bindings.as_slice()).unwrap_or_default() {
            let keeps = match binding.value {
                BindingValue::Text(_) | BindingValue::Json(_) => draft.keep.variables,
                BindingValue::Secret(_) => draft.keep.secrets,
                BindingValue::VersionMetadata
                | BindingValue::Service { .. }
                | BindingValue::KvNamespace { .. }
                | BindingValue::DurableObject { .. } => false,
            };
            if keeps && !named.contains(binding.name.as_str()) {
                bindings.push(binding.clone());
            }
        }
        check_names(&bindings, &mut faults);
        let limits = resolve_limits(draft, &mut faults);
        if !faults.0.is_empty() {
            return Err(faults.0);
        }
        Ok(Self {
            bindings,
            compatibility_date: draft.compatibility_date.clone(),
            compatibility_flags: draft.compatibility_flags.clone(),
            limits,
            isolation: match draft.instance_reuse {
                None => Isolation::ByGuest,
                Some(true) => Isolation::Reuse,
                Some(false) => Isolation::Fresh,
            },
        })
    }

    /// A total copy with some secrets set and some removed (`SEC-9`): what every secret edit makes.
    ///
    /// # Errors
    /// The faults of names and values; a name that is another kind of binding is one.
    pub fn with_secrets(
        &self,
        set: &BTreeMap<String, SecretText>,
        remove: &BTreeSet<String>,
    ) -> Result<Self, Vec<Fault>> {
        let mut faults = Faults::default();
        let mut copy = self.clone();
        let mentioned = |name: &str| set.contains_key(name) || remove.contains(name);
        for binding in &self.bindings {
            if mentioned(binding.name.as_str()) && !matches!(binding.value, BindingValue::Secret(_)) {
                let message = format!(
                    "`{}` is a binding of another kind, so it cannot be a secret; choose another name",
                    binding.name
                );
                faults.invalid(format!("secrets.{}", binding.name), message);
            }
        }
        copy.bindings.retain(|binding| !mentioned(binding.name.as_str()));
        for (name, value) in set {
            let path = format!("secrets.{name}");
            check_size(value.reveal(), &path, &mut faults);
            match name.parse::<BindingName>() {
                Ok(name) => copy.bindings.push(Binding { name, value: BindingValue::Secret(value.clone()) }),
                Err(error) => faults.invalid(path, error.to_string()),
            }
        }
        check_names(&copy.bindings, &mut faults);
        if faults.0.is_empty() { Ok(copy) } else { Err(faults.0) }
    }

    /// The secrets by name.
    #[must_use]
    pub fn secrets(&self) -> BTreeMap<&BindingName, &SecretText> {
        self.bindings
            .iter()
            .filter_map(|binding| match &binding.value {
                BindingValue::Secret(value) => Some((&binding.name, value)),
                _ => None,
            })
            .collect()
    }

    /// The binding that gives the version metadata, if there is one.
    #[must_use]
    pub fn version_metadata(&self) -> Option<&BindingName> {
        self.bindings.iter().find(|binding| binding.value == BindingValue::VersionMetadata).map(|binding| &binding.name)
    }

    /// The KV namespaces, each with the binding that gives it.
    pub fn namespaces(&self) -> impl Iterator<Item = (&BindingName, NamespaceId)> {
        self.bindings.iter().filter_map(|binding| match binding.value {
            BindingValue::KvNamespace { namespace } => Some((&binding.name, namespace)),
            _ => None,
        })
    }

    /// The bindings of Durable Objects: the binding, the class, and the worker that owns it, if it is another one.
    pub fn objects(&self) -> impl Iterator<Item = (&BindingName, &ClassName, Option<&WorkerName>)> {
        self.bindings.iter().filter_map(|binding| match &binding.value {
            BindingValue::DurableObject { class, worker } => Some((&binding.name, class, worker.as_ref())),
            _ => None,
        })
    }
}

impl BindingValue {
    /// Whether a guest reaches it at `http://<binding>.internal`.
    #[must_use]
    pub fn has_address(&self) -> bool {
        matches!(self, Self::Service { .. } | Self::KvNamespace { .. } | Self::DurableObject { .. })
    }
}

// === impl resolution ===

#[derive(Default)]
struct Faults(Vec<Fault>);

impl Faults {
    fn invalid(&mut self, path: String, message: String) {
        self.0.push(Fault { kind: FaultKind::Invalid, path, message });
    }
}

fn resolve_binding(
    entry: &BindingDraft,
    path: &str,
    previous: Option<&Config>,
    inheritance: Inheritance,
    faults: &mut Faults,
) -> Option<Binding> {
    let name = match entry.name.parse::<BindingName>() {
        Ok(name) => name,
        Err(error) => {
            faults.invalid(format!("{path}.name"), error.to_string());
            return None;
        }
    };
    let value = match &entry.value {
        DraftValue::Text(text) => {
            check_size(text, path, faults);
            BindingValue::Text(text.clone())
        }
        DraftValue::Json(json) => {
            check_size(json, path, faults);
            BindingValue::Json(json.clone())
        }
        DraftValue::Secret(secret) => {
            check_size(secret.reveal(), path, faults);
            BindingValue::Secret(secret.clone())
        }
        DraftValue::VersionMetadata => BindingValue::VersionMetadata,
        DraftValue::Service { service, entrypoint } => resolve_service(service, entrypoint.as_deref(), path, faults)?,
        DraftValue::KvNamespace { namespace_id } => match namespace_id.parse() {
            Ok(namespace) => BindingValue::KvNamespace { namespace },
            Err(error) => {
                faults
                    .invalid(format!("{path}.namespace_id"), format!("{error}; `sluice kv namespace list` shows them"));
                return None;
            }
        },
        DraftValue::DurableObject { class_name, script_name } => {
            resolve_object(class_name, script_name.as_deref(), path, faults)?
        }
        DraftValue::Inherit { old_name } => {
            let source = old_name.as_deref().unwrap_or(&entry.name);
            let found =
                previous.and_then(|config| config.bindings.iter().find(|binding| binding.name.as_str() == source));
            match found {
                Some(binding) => binding.value.clone(),
                None if inheritance == Inheritance::Lenient => return None,
                None => {
                    // wrangler reads the name out of this very beginning.
                    let message = format!(
                        "inherit binding '{name}' is invalid: the latest version has no binding `{source}`; set it in this upload, or with `secret put` first"
                    );
                    faults.0.push(Fault { kind: FaultKind::Inherit, path: path.to_owned(), message });
                    return None;
                }
            }
        }
        DraftValue::Unsupported { kind, hint } => {
            faults.invalid(
                format!("{path}.type"),
                format!("binding `{name}` has the type `{kind}`, which is not offered here: {hint}"),
            );
            return None;
        }
    };
    Some(Binding { name, value })
}

fn resolve_service(service: &str, entrypoint: Option<&str>, path: &str, faults: &mut Faults) -> Option<BindingValue> {
    if let Some(entrypoint) = entrypoint {
        let message = format!(
            "named entrypoints are not offered (`{entrypoint}`): a component has one HTTP handler; leave `entrypoint` out"
        );
        faults.invalid(format!("{path}.entrypoint"), message);
    }
    match service.parse::<WorkerName>() {
        Ok(worker) => Some(BindingValue::Service { worker }),
        Err(error) => {
            faults.invalid(format!("{path}.service"), error.to_string());
            None
        }
    }
}

fn resolve_object(class: &str, script: Option<&str>, path: &str, faults: &mut Faults) -> Option<BindingValue> {
    let class =
        class.parse::<ClassName>().map_err(|error| faults.invalid(format!("{path}.class_name"), error.to_string()));
    let worker = script
        .map(|script| script.parse::<WorkerName>())
        .transpose()
        .map_err(|error| faults.invalid(format!("{path}.script_name"), error.to_string()));
    Some(BindingValue::DurableObject { class: class.ok()?, worker: worker.ok()? })
}

fn resolve_limits(draft: &ConfigDraft, faults: &mut Faults) -> RequestLimits {
    let mut limits = RequestLimits::default();
    let cpu_max = i64::try_from(CPU_TIME_MAX.as_millis()).unwrap_or(i64::MAX);
    if let Some(cpu_ms) = draft.cpu_ms {
        if (1..=cpu_max).contains(&cpu_ms) {
            limits.cpu = Duration::from_millis(cpu_ms.unsigned_abs());
        } else {
            let message = format!("`cpu_ms` is {cpu_ms}, expected 1 to {cpu_max} milliseconds");
            faults.0.push(Fault { kind: FaultKind::CpuLimit, path: "limits.cpu_ms".into(), message });
        }
    }
    if let Some(subrequests) = draft.subrequests {
        match u32::try_from(subrequests) {
            Ok(number) if number <= SUBREQUESTS_MAX => limits.subrequests = number,
            _ => faults.invalid(
                "limits.subrequests".into(),
                format!("`subrequests` is {subrequests}, expected 0 to {SUBREQUESTS_MAX}"),
            ),
        }
    }
    limits
}

fn check_size(value: &str, path: &str, faults: &mut Faults) {
    if value.len() > VALUE_BYTES_MAX {
        let message = format!("the value has {} bytes, the limit is {VALUE_BYTES_MAX}", value.len());
        faults.invalid(path.to_owned(), message);
    }
}

/// Names are unique; and those that are reached by address are unique without case, since URL parsers lower-case hosts.
fn check_names(bindings: &[Binding], faults: &mut Faults) {
    if bindings.len() > BINDINGS_MAX {
        faults
            .invalid("bindings".into(), format!("there are {} bindings, the limit is {BINDINGS_MAX}", bindings.len()));
    }
    let mut seen = BTreeSet::new();
    let mut addresses: BTreeMap<String, &BindingName> = BTreeMap::new();
    for binding in bindings {
        if !seen.insert(&binding.name) {
            faults.invalid("bindings".into(), format!("the name `{}` is bound twice", binding.name));
        } else if binding.value.has_address()
            && let Some(other) = addresses.insert(binding.name.as_str().to_ascii_lowercase(), &binding.name)
        {
            let address = binding.name.as_str().to_ascii_lowercase();
            let message = format!(
                "`{other}` and `{}` have the same address, http://{address}.internal; rename one",
                binding.name
            );
            faults.invalid("bindings".into(), message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(bindings: Vec<(&str, DraftValue)>) -> ConfigDraft {
        let bindings = bindings.into_iter().map(|(name, value)| BindingDraft { name: name.into(), value }).collect();
        ConfigDraft { bindings, ..ConfigDraft::default() }
    }

    fn secret(value: &str) -> DraftValue {
        DraftValue::Secret(SecretText::new(value.into()))
    }

    fn resolved(draft: &ConfigDraft, previous: Option<&Config>) -> Config {
        Config::resolve(draft, previous, Inheritance::Strict).unwrap()
    }

    #[test]
    fn all_faults_are_reported_at_once_with_their_places() {
        let mut bad = draft(vec![
            ("1x", DraftValue::Text("v".into())),
            ("BIG", DraftValue::Text("v".repeat(VALUE_BYTES_MAX + 1))),
            ("S", DraftValue::Service { service: "Not A Name".into(), entrypoint: Some("Admin".into()) }),
            ("R", DraftValue::Unsupported { kind: "r2_bucket".into(), hint: "there is no R2 here" }),
            ("GONE", DraftValue::Inherit { old_name: None }),
        ]);
        bad.cpu_ms = Some(0);
        bad.subrequests = Some(-1);
        let faults = Config::resolve(&bad, None, Inheritance::Strict).unwrap_err();
        let places: Vec<&str> = faults.iter().map(|fault| fault.path.as_str()).collect();
        assert_eq!(
            places,
            [
                "bindings[0].name",
                "bindings[1]",
                "bindings[2].entrypoint",
                "bindings[2].service",
                "bindings[3].type",
                "bindings[4]",
                "limits.cpu_ms",
                "limits.subrequests"
            ]
        );
        assert!(faults[5].message.starts_with("inherit binding 'GONE' is invalid"));
        assert_eq!(faults[5].kind, FaultKind::Inherit);
    }

    #[test]
    fn kept_and_inherited_bindings_come_from_the_version_before() {
        let first =
            resolved(&draft(vec![("A", DraftValue::Text("1".into())), ("S", secret("s")), ("T", secret("t"))]), None);
        let mut next = draft(vec![("T", secret("new")), ("B", DraftValue::Inherit { old_name: Some("A".into()) })]);
        next.keep.secrets = true;
        let second = resolved(&next, Some(&first));
        let names: Vec<&str> = second.bindings.iter().map(|binding| binding.name.as_str()).collect();
        assert_eq!(names, ["T", "B", "S"]);
        assert_eq!(second.bindings[1].value, BindingValue::Text("1".into()));
        assert_eq!(second.secrets().values().map(|value| value.reveal()).collect::<Vec<_>>(), ["s", "new"]);
        next.keep = Keep { variables: true, secrets: false };
        assert!(resolved(&next, Some(&first)).bindings.iter().any(|binding| binding.name.as_str() == "A"));
    }

    #[test]
    fn a_binding_of_objects_names_a_class_and_perhaps_another_worker() {
        let object = |class: &str, script: Option<&str>| DraftValue::DurableObject {
            class_name: class.into(),
            script_name: script.map(Into::into),
        };
        let first = resolved(&draft(vec![("A", object("Counter", None)), ("B", object("Room", Some("chat")))]), None);
        let found: Vec<_> =
            first.objects().map(|(name, class, worker)| (name.as_str(), class.as_str(), worker)).collect();
        let chat: WorkerName = "chat".parse().unwrap();
        assert_eq!(found, [("A", "Counter", None), ("B", "Room", Some(&chat))]);

        let next = draft(vec![
            ("C", DraftValue::Inherit { old_name: Some("B".into()) }),
            ("c", DraftValue::Service { service: "other".into(), entrypoint: None }),
        ]);
        let faults = Config::resolve(&next, Some(&first), Inheritance::Strict).unwrap_err();
        assert!(faults[0].message.contains("http://c.internal"), "{faults:?}");
        assert_eq!(
            resolved(&draft(vec![("B", DraftValue::Inherit { old_name: None })]), Some(&first)).bindings.len(),
            1
        );

        let faults = Config::resolve(&draft(vec![("A", object("a-b", Some("No Name")))]), None, Inheritance::Strict);
        let places: Vec<_> = faults.unwrap_err().into_iter().map(|fault| fault.path).collect();
        assert_eq!(places, ["bindings[0].class_name", "bindings[0].script_name"]);
    }

    #[test]
    fn an_unresolved_inherit_is_dropped_unless_strict() {
        let wish = draft(vec![("GONE", DraftValue::Inherit { old_name: None })]);
        assert!(Config::resolve(&wish, None, Inheritance::Lenient).unwrap().bindings.is_empty());
    }

    #[test]
    fn addresses_that_differ_only_in_case_collide() {
        let service = || DraftValue::Service { service: "other".into(), entrypoint: None };
        let faults = Config::resolve(&draft(vec![("Api", service()), ("API", service())]), None, Inheritance::Strict)
            .unwrap_err();
        assert!(faults[0].message.contains("http://api.internal"), "{faults:?}");
        let namespace = DraftValue::KvNamespace { namespace_id: "0".repeat(32) };
        let mixed = draft(vec![("NOTES", namespace), ("notes", service())]);
        let faults = Config::resolve(&mixed, None, Inheritance::Strict).unwrap_err();
        assert!(faults[0].message.contains("http://notes.internal"), "{faults:?}");
        // Variables have no address.
        let vars = draft(vec![("Api", DraftValue::Text(String::new())), ("API", service())]);
        assert!(Config::resolve(&vars, None, Inheritance::Strict).is_ok());
    }

    #[test]
    fn a_secret_edit_copies_everything_else() {
        let mut base =
            draft(vec![("A", DraftValue::Text("1".into())), ("S", secret("s")), ("M", DraftValue::VersionMetadata)]);
        base.cpu_ms = Some(50);
        base.instance_reuse = Some(true);
        base.compatibility_flags = vec!["f".into()];
        let base = resolved(&base, None);
        let set = BTreeMap::from([("N".to_owned(), SecretText::new("n".into()))]);
        let copy = base.with_secrets(&set, &BTreeSet::from(["S".to_owned()])).unwrap();
        assert_eq!(copy.secrets().keys().map(|name| name.as_str()).collect::<Vec<_>>(), ["N"]);
        let without = |config: &Config| Config { bindings: Vec::new(), ..config.clone() };
        assert_eq!(without(&copy), without(&base));
        let set = BTreeMap::from([("A".to_owned(), SecretText::new("n".into()))]);
        assert!(base.with_secrets(&set, &BTreeSet::new()).is_err());
    }

    #[test]
    fn a_secret_never_shows_in_debug_output() {
        let config = resolved(&draft(vec![("S", secret("hunter2"))]), None);
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
