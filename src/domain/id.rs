//! Names and ids as types of their own: parsed once at the door, displayed everywhere, never bare strings between rooms.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::domain::limits;

/// Why a text is not a name or an id. `Display` says what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("`{0}` is not a worker name: use 1 to {max} lower-case letters, digits, `-` or `_`, not starting with `-`", max = limits::WORKER_NAME_CHARS_MAX)]
    WorkerName(String),
    #[error("`{0}` is not a binding name: use 1 to {max} letters, digits, `_`, `-` or `.`, starting with a letter or `_`", max = limits::BINDING_NAME_CHARS_MAX)]
    BindingName(String),
    #[error(
        "`{0}` is not an alias: use lower-case letters, digits and `-`, starting with a letter and not ending with `-` (URL-3)"
    )]
    Alias(String),
    #[error("`{0}` is not an id: expected a UUID such as `dc8dcd28-271b-4367-9840-6c244f84cb40`")]
    Uuid(String),
    #[error("`{0}` is not a namespace's id: expected 32 hexadecimal digits, lower case")]
    Namespace(String),
}

/// The name of a worker: what a user deploys, and a label of a host name (`<worker>.localhost`).
///
/// The grammar is wrangler's own for configuration files (`^[a-z0-9_][a-z0-9-_]*$`). Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerName(Arc<str>);

impl WorkerName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for WorkerName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let fits = (1..=limits::WORKER_NAME_CHARS_MAX).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
            && !text.starts_with('-');
        if fits { Ok(Self(text.into())) } else { Err(Error::WorkerName(shortened(text))) }
    }
}

/// The name by which a version's configuration gives a capability to its guest: an environment variable, a `wasi:config` key,
/// and (lower-cased) a label of `http://<binding>.internal`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BindingName(Arc<str>);

impl BindingName {
    /// The name as text, in the case the user wrote.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for BindingName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let fits = (1..=limits::BINDING_NAME_CHARS_MAX).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
            && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if fits { Ok(Self(text.into())) } else { Err(Error::BindingName(shortened(text))) }
    }
}

/// A name for the newest version that was uploaded with it (`URL-2`, `URL-3`): `<alias>-<worker>.localhost`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Alias(Arc<str>);

impl Alias {
    /// The alias as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Alias {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let fits = (1..=limits::DNS_LABEL_CHARS_MAX).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && !text.ends_with('-');
        if fits { Ok(Self(text.into())) } else { Err(Error::Alias(shortened(text))) }
    }
}

/// The id of a version: a UUID, given at upload and never again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VersionId(uuid::Uuid);

/// The id of a deployment: a UUID.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeploymentId(uuid::Uuid);

impl VersionId {
    /// An id from 16 bytes that the caller drew at random.
    #[must_use]
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(uuid::Builder::from_random_bytes(bytes).into_uuid())
    }

    /// The first 8 hexadecimal digits: the label of the version's own host (`URL-1`).
    #[must_use]
    pub fn short(&self) -> String {
        let mut text = self.0.simple().to_string();
        text.truncate(8);
        text
    }
}

impl DeploymentId {
    /// An id from 16 bytes that the caller drew at random.
    #[must_use]
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(uuid::Builder::from_random_bytes(bytes).into_uuid())
    }
}

/// The id of a KV namespace: 32 lower-case hexadecimal digits. It stays when the namespace is renamed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamespaceId([u8; 16]);

impl NamespaceId {
    /// An id from 16 bytes that the caller drew at random, or that were stored.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes, as they are stored.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl FromStr for NamespaceId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let digits = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f');
        let number = Some(text).filter(|text| text.len() == 32 && text.bytes().all(digits));
        let number = number.and_then(|text| u128::from_str_radix(text, 16).ok());
        number.map(|number| Self(number.to_be_bytes())).ok_or_else(|| Error::Namespace(shortened(text)))
    }
}

impl fmt::Display for NamespaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for NamespaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

// === impl text forms ===

/// Reads a UUID in its hyphenated or its 32-digit form, of either case.
fn parse_uuid(text: &str) -> Result<uuid::Uuid, Error> {
    match text.len() {
        32 | 36 => uuid::Uuid::try_parse(text).map_err(|_| Error::Uuid(shortened(text))),
        _ => Err(Error::Uuid(shortened(text))),
    }
}

impl FromStr for VersionId {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        parse_uuid(text).map(Self)
    }
}

impl FromStr for DeploymentId {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        parse_uuid(text).map(Self)
    }
}

macro_rules! display_as_text {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    )*};
}
display_as_text!(WorkerName, BindingName, Alias, VersionId, DeploymentId);

/// A text of a stranger, cut so that an error message stays one line.
fn shortened(text: &str) -> String {
    const CHARS_MAX: usize = 80;
    let mut short: String = text.chars().take(CHARS_MAX).map(|c| if c.is_control() { '?' } else { c }).collect();
    if text.chars().nth(CHARS_MAX).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worker_names_are_dns_safe_and_wrangler_valid() {
        for good in ["hello", "a", "0", "_x", "my-worker_2", &"a".repeat(63)] {
            assert!(good.parse::<WorkerName>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "Upper", "a.b", "../etc", "a/b", "é", &"a".repeat(64), "a b", "a\0"] {
            assert!(bad.parse::<WorkerName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn aliases_follow_url_3() {
        for good in ["staging", "a", "pr-12"] {
            assert!(good.parse::<Alias>().is_ok(), "{good}");
        }
        for bad in ["", "a_b", "UPPER", "1a", "a-", "-a"] {
            assert!(bad.parse::<Alias>().is_err(), "{bad}");
        }
    }

    #[test]
    fn version_ids_print_as_they_are_parsed() {
        let text = "dc8dcd28-271b-4367-9840-6c244f84cb40";
        let id: VersionId = text.parse().unwrap();
        assert_eq!(id.to_string(), text);
        assert_eq!(id.short(), "dc8dcd28");
        assert_eq!("DC8DCD28271B436798406C244F84CB40".parse::<VersionId>().unwrap(), id);
        assert!("dc8dcd28".parse::<VersionId>().is_err());
        assert!("{dc8dcd28-271b-4367-9840-6c244f84cb40}".parse::<VersionId>().is_err());
    }

    #[test]
    fn namespace_ids_are_32_lower_case_digits() {
        let text = "00ff0000000000000000000000000abc";
        assert_eq!(text.parse::<NamespaceId>().unwrap().to_string(), text);
        for bad in ["", "00ff", &text.to_uppercase(), &format!("{text}0"), "+0ff0000000000000000000000000abc"] {
            assert!(bad.parse::<NamespaceId>().is_err(), "{bad}");
        }
    }
}
