//! The shapes of tails (`WRANGLER_API` 3.16).

use serde::{Deserialize, Serialize};

/// What to watch of a worker (`POST …/tails`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TailRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filters: Option<Vec<TailFilter>>,
}

/// One condition of a tail; wrangler sends one key in each. An unknown one is refused: a client that believes in it would
/// take what it sees for what it asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TailFilter {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampling_rate: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<TailHeader>,
    /// Addresses, or `self` for the caller's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_ip: Option<Vec<String>>,
    /// A text in what the guest printed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    #[serde(default, rename = "scriptVersion", skip_serializing_if = "Option::is_none")]
    pub script_version: Option<String>,
}

/// A header that a request must have, and a text in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TailHeader {
    pub key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
}

/// A tail: where to read it, and until when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tail {
    pub id: String,
    pub url: String,
    pub expires_at: String,
}
