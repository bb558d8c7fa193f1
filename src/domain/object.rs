//! Durable Objects by name: classes, namespaces and ids (`DOI-1`…`DOI-4`).
//!
//! A *namespace* holds the objects of one class of one worker. It has an id of its own, so that a class can be renamed, and
//! handed to another worker, without its objects noticing. An object's id is derived from the namespace's id and says so: half
//! of it is a code by which an id of another namespace, or one that was made up, is told apart.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

use crate::domain::limits::CLASS_NAME_CHARS_MAX;

/// The name of a class of objects, as the configuration declares it and the guest is told it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClassName(Arc<str>);

/// The id of a namespace of objects: 128 bits, drawn when its class is created; it never changes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectNamespaceId([u8; 16]);

/// The id of an object: 32 bytes, printed as 64 lower-case hexadecimal digits (`DOI-2`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId([u8; 32]);

/// Why a text is no name of a class, no namespace's id, or no id of one of its objects.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(
        "`{0}` is not a class name: use 1 to {CLASS_NAME_CHARS_MAX} letters, digits, `_` or `$`, not starting with a digit"
    )]
    Class(String),
    #[error("`{0}` is not an object namespace's id: expected 32 hexadecimal digits, lower case")]
    Namespace(String),
    /// The text of `DOI-3`.
    #[error("Invalid Durable Object ID: must be 64 hex digits")]
    NotHex,
    /// The text of `DOI-3`.
    #[error("Durable Object ID is not valid for this namespace.")]
    OtherNamespace,
}

// === impl ClassName ===

impl ClassName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ClassName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let fits = (1..=CLASS_NAME_CHARS_MAX).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$'))
            && !text.starts_with(|first: char| first.is_ascii_digit());
        if fits { Ok(Self(text.into())) } else { Err(Error::Class(text.chars().take(64).collect())) }
    }
}

// === impl ObjectNamespaceId ===

impl ObjectNamespaceId {
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

    /// The object with this name: always the same one (`DOI-4`).
    #[must_use]
    pub fn id_from_name(&self, name: &str) -> ObjectId {
        let half = self.code_of(name.as_bytes());
        self.id_of(half)
    }

    /// A new object, from 16 bytes that the caller drew at random.
    #[must_use]
    pub fn id_from_random(&self, bytes: [u8; 16]) -> ObjectId {
        self.id_of(bytes)
    }

    /// Reads what [`ObjectId`] prints.
    ///
    /// # Errors
    /// The text is no id, or is one of another namespace.
    pub fn parse_id(&self, text: &str) -> Result<ObjectId, Error> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| Error::NotHex)?;
        self.owns(ObjectId(bytes)).then_some(ObjectId(bytes)).ok_or(Error::OtherNamespace)
    }

    /// Whether the id is of this namespace: its second half vouches for the first.
    #[must_use]
    pub fn owns(&self, id: ObjectId) -> bool {
        let (half, code) = id.0.split_at(16);
        self.code_of(half) == code
    }

    fn id_of(&self, half: [u8; 16]) -> ObjectId {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(&half);
        bytes[16..].copy_from_slice(&self.code_of(&half));
        ObjectId(bytes)
    }

    /// The first 16 bytes of HMAC-SHA-256 under the SHA-256 of the namespace's id, as workerd derives them.
    fn code_of(&self, bytes: &[u8]) -> [u8; 16] {
        let key: [u8; 32] = Sha256::digest(self.0).into();
        let mut code = [0; 16];
        // Keys of any length are accepted.
        if let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&key) {
            mac.update(bytes);
            code.copy_from_slice(&mac.finalize().into_bytes()[..16]);
        }
        code
    }
}

impl FromStr for ObjectNamespaceId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut bytes = [0; 16];
        let lower = !text.bytes().any(|byte| byte.is_ascii_uppercase());
        match hex::decode_to_slice(text, &mut bytes) {
            Ok(()) if lower => Ok(Self(bytes)),
            _ => Err(Error::Namespace(text.chars().take(64).collect())),
        }
    }
}

// === impl ObjectId ===

impl ObjectId {
    /// The bytes, as they are stored.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// An id that was stored, and checked before.
    #[must_use]
    pub const fn from_stored(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

// === text forms ===

impl fmt::Display for ClassName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ClassName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ObjectNamespaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for ObjectNamespaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMESPACE: ObjectNamespaceId = ObjectNamespaceId::from_bytes([7; 16]);

    #[test]
    fn a_name_has_one_id_and_an_id_reads_back_only_in_its_namespace() {
        let id = NAMESPACE.id_from_name("room");
        assert_eq!(id, NAMESPACE.id_from_name("room"));
        assert_ne!(id, NAMESPACE.id_from_name("Room"));
        let text = id.to_string();
        assert_eq!(text.len(), 64);
        assert_eq!(NAMESPACE.parse_id(&text), Ok(id));
        assert_eq!(NAMESPACE.parse_id(&text.to_uppercase()), Ok(id));
        let other = ObjectNamespaceId::from_bytes([8; 16]);
        assert_eq!(other.parse_id(&text), Err(Error::OtherNamespace));
        assert_eq!(NAMESPACE.parse_id(&"0".repeat(64)), Err(Error::OtherNamespace));
        assert_eq!(NAMESPACE.parse_id(&text[1..]), Err(Error::NotHex));
        assert_eq!(NAMESPACE.parse_id("room"), Err(Error::NotHex));
        let unique = NAMESPACE.id_from_random([1; 16]);
        assert_eq!(NAMESPACE.parse_id(&unique.to_string()), Ok(unique));
    }

    #[test]
    fn the_derivation_never_changes() {
        // Computed with another implementation of HMAC; stored ids depend on it.
        let id = NAMESPACE.id_from_name("room");
        assert_eq!(id.to_string(), "aabbdf524d861fd7cad7c732616c2226a0e9257f01a831f0bafb664ebf8c1dc4");
    }

    #[test]
    fn class_names_are_identifiers() {
        for good in ["Counter", "_x", "$1", "ChatRoom2"] {
            assert_eq!(good.parse::<ClassName>().unwrap().as_str(), good);
        }
        for bad in ["", "2x", "a-b", "a b", "Ä"] {
            assert!(bad.parse::<ClassName>().is_err(), "{bad}");
        }
    }
}
