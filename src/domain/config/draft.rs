//! What an upload said, unchecked.

use super::SecretText;

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
