//! What is known of a module once it has been compiled and proven to start.

use std::fmt;
use std::str::FromStr;

/// SHA-256 of a module's bytes as uploaded: its name in the module store. Identical bytes are stored once.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModuleDigest([u8; 32]);

/// Which generation of `wasi:http` a guest speaks, and so which engine runs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GuestKind {
    /// Exports `wasi:http/incoming-handler@0.2.x` and imports nothing async: the engine without component concurrency.
    Wasi02,
    /// Exports `wasi:http/handler@0.3.x`, or uses anything async.
    Wasi03,
}

/// The interfaces by which a component implements classes of Durable Objects, for guests of WASI 0.3 and of 0.2: either does.
pub const DURABLE_OBJECT_EXPORTS: [&str; 2] =
    ["sluice:worker/durable-object@0.1.0", "sluice:worker-p2/durable-object@0.1.0"];

/// The facts of a module, measured at upload. Versions that share their bytes share these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleFacts {
    pub digest: ModuleDigest,
    /// Bytes as uploaded.
    pub size_bytes: u64,
    pub kind: GuestKind,
    /// Interfaces that it imports, as the component names them.
    pub imports: Vec<String>,
    /// Interfaces that it exports.
    pub exports: Vec<String>,
}

/// How a version started when it was proven: wall time in milliseconds, and linear memory in bytes afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Startup {
    pub time_ms: u64,
    pub memory_bytes: u64,
    /// How its code was made ready before; versions of older nodes do not know.
    pub compilation: Option<Compilation>,
}

/// How the machine code of a module was come by when its version was proven, and how long that took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compilation {
    /// Wall time in milliseconds.
    pub time_ms: u64,
    pub code: CodeOrigin,
}

/// Where machine code came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodeOrigin {
    /// All of it was compiled.
    Compiled,
    /// It is that of a module before, which differs in its data only.
    Shared,
    /// The same module had been compiled before.
    Known,
}

impl ModuleFacts {
    /// Whether it implements classes of Durable Objects.
    #[must_use]
    pub fn implements_objects(&self) -> bool {
        self.exports.iter().any(|name| DURABLE_OBJECT_EXPORTS.contains(&name.as_str()))
    }
}

impl ModuleDigest {
    /// The digest of 32 bytes that SHA-256 gave.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl CodeOrigin {
    /// The word on the wire and in records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Compiled => "compiled",
            Self::Shared => "shared",
            Self::Known => "known",
        }
    }

    /// The origin of that name, if there is one.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Compiled, Self::Shared, Self::Known].into_iter().find(|origin| origin.as_str() == name)
    }

    /// What is to be said of a time that is not that of a compiler.
    #[must_use]
    pub fn remark(self) -> Option<&'static str> {
        match self {
            Self::Compiled => None,
            Self::Shared => Some("its code is that of an earlier module, which differs in its data only"),
            Self::Known => Some("the same module had been compiled before"),
        }
    }
}

impl GuestKind {
    /// The version of `wasi:http` as people write it.
    #[must_use]
    pub fn wasi(self) -> &'static str {
        match self {
            Self::Wasi02 => "0.2",
            Self::Wasi03 => "0.3",
        }
    }
}

/// The text is not 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a module digest: expected 64 hexadecimal digits")]
pub struct DigestError(String);

impl FromStr for ModuleDigest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| DigestError(text.chars().take(80).collect()))?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for ModuleDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ModuleDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
