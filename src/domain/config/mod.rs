//! A version's configuration: raw becomes valid exactly once, here.
//!
//! A [`ConfigDraft`] is what an upload said, unchecked. [`Config::resolve`] checks all of it, carries over what is inherited
//! from the version before, and either gives a [`Config`] or *all* its faults, each with the place where it is. After that
//! nobody checks again.

mod draft;
mod resolve;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::domain::id::{BindingName, NamespaceId, WorkerName};
use crate::domain::limits::{CPU_TIME_MAX, SUBREQUESTS_MAX};
use crate::domain::object::ClassName;

pub use draft::{BindingDraft, ConfigDraft, DraftValue, Inheritance, Keep};
pub use resolve::{Fault, FaultKind};

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
