//! From a [`ConfigDraft`] to a [`Config`], or to all that is wrong with it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{
    Binding, BindingDraft, BindingValue, Config, ConfigDraft, DraftValue, Inheritance, Isolation, RequestLimits,
    SecretText,
};
use crate::domain::id::{BindingName, WorkerName};
use crate::domain::limits::{BINDINGS_MAX, CPU_TIME_MAX, SUBREQUESTS_MAX, VALUE_BYTES_MAX};
use crate::domain::object::ClassName;

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
}

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
