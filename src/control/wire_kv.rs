//! The shapes of the KV part of the control API, as serde types that the API and the command line share (see
//! [`wire`](crate::control::wire)).

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvNamespace {
    pub id: String,
    pub title: String,
    /// Whether keys may be percent-encoded in paths: always.
    #[serde(default)]
    pub supports_url_encoding: bool,
}

/// What makes or renames a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvTitle {
    pub title: String,
}

/// A key in a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KvKey {
    pub name: String,
    /// Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiration: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Value>,
}

/// One of the pairs of a bulk write.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KvPair {
    pub key: String,
    pub value: String,
    /// The value is in base64.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub base64: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiration: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiration_ttl: Option<i64>,
}

/// Which keys a bulk read asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvBulkGet {
    pub keys: Vec<String>,
    /// `text`, or `json`: values are parsed.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Each value as `{"value", "metadata", "expiration"?}`.
    #[serde(rename = "withMetadata", default, skip_serializing_if = "std::ops::Not::not")]
    pub with_metadata: bool,
}

/// The answer of a bulk read; a key that is not there is `null`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct KvValues {
    pub values: serde_json::Map<String, Value>,
}

/// The answer of a bulk write or delete.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvBulkDone {
    pub successful_key_count: u64,
    #[serde(default)]
    pub unsuccessful_keys: Vec<String>,
}
