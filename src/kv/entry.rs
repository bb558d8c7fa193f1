//! What a writer says of an entry, checked once: its key, how long it lives, and the JSON beside its value.

use super::Error;
use crate::domain::limits::{KV_KEY_BYTES_MAX, KV_LIFE_MIN, KV_METADATA_BYTES_MAX};

/// A key that may be written: 1 to 512 bytes of UTF-8, not `.` or `..`, which no URL can name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryKey(String);

/// When an entry ends, as a writer says it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Life {
    /// Unix seconds.
    pub expiration: Option<i64>,
    /// Seconds from now; wins over `expiration`.
    pub expiration_ttl: Option<i64>,
}

/// What is kept beside a value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes {
    pub(super) expiration: Option<u64>,
    pub(super) metadata: Option<String>,
}

impl EntryKey {
    /// Takes a key.
    ///
    /// # Errors
    /// If it is empty, too long or reserved.
    pub fn new(text: impl Into<String>) -> Result<Self, Error> {
        let text = text.into();
        match text.as_str() {
            "" | "." | ".." => Err(Error::KeyReserved),
            _ if text.len() > KV_KEY_BYTES_MAX => Err(Error::KeyTooLong { bytes: text.len() }),
            _ => Ok(Self(text)),
        }
    }

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A key as it was stored.
    pub(super) fn stored(text: String) -> Self {
        Self(text)
    }
}

impl Attributes {
    /// Checks what a writer says. `metadata` is any JSON; `null` is none.
    ///
    /// # Errors
    /// If the entry would live too short, or the metadata is too large.
    pub fn check(kv: &super::Kv, life: Life, metadata: Option<&serde_json::Value>) -> Result<Self, Error> {
        let (now, least) = (kv.now_s(), KV_LIFE_MIN.as_secs());
        let expiration = match life {
            Life { expiration_ttl: Some(ttl), .. } => {
                let seconds = u64::try_from(ttl).ok().filter(|seconds| *seconds >= least);
                Some(now.saturating_add(seconds.ok_or(Error::TtlTooShort { ttl })?))
            }
            Life { expiration: Some(expiration), .. } => {
                let second = u64::try_from(expiration).ok().filter(|second| *second >= now + least);
                Some(second.ok_or(Error::ExpirationTooEarly { expiration, now })?)
            }
            Life { .. } => None,
        };
        let metadata = metadata.filter(|value| !value.is_null()).map(ToString::to_string);
        match metadata.as_ref().map(String::len) {
            Some(bytes) if bytes > KV_METADATA_BYTES_MAX => Err(Error::MetadataTooLarge { bytes }),
            _ => Ok(Self { expiration, metadata }),
        }
    }
}
