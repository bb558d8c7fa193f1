//! The part of the client that speaks of KV namespaces.

use anyhow::Context as _;
use reqwest::multipart::{Form, Part};
use reqwest::{Method, Url};
use serde_json::{Map, Value};

use super::client::Api;
use super::fault::usage;
use crate::control::wire_kv::{KvBulkDone, KvBulkGet, KvKey, KvNamespace, KvPair, KvTitle, KvValues};

/// Namespaces, and keys, asked for at once.
const PAGE: u64 = 1000;
/// Keys of one bulk call, as wrangler sends them; and bytes of their values, well below what a call may have.
const BULK_KEYS: usize = 1000;
const BULK_BYTES: usize = 32 * 1024 * 1024;

/// What is kept beside a value.
#[derive(Clone, Debug, Default)]
pub struct Beside {
    pub ttl: Option<i64>,
    pub expiration: Option<i64>,
    pub metadata: Option<Value>,
}

impl Api {
    pub async fn create_namespace(&self, title: &str) -> anyhow::Result<KvNamespace> {
        let wish = KvTitle { title: title.to_owned() };
        self.send(Method::POST, self.namespaces_url(&[]), |http| Ok(http.json(&wish))).await
    }

    /// All of them, by title.
    pub async fn namespaces(&self) -> anyhow::Result<Vec<KvNamespace>> {
        let mut all = Vec::new();
        for page in 1_u64.. {
            let mut url = self.namespaces_url(&[]);
            url.query_pairs_mut()
                .append_pair("per_page", &PAGE.to_string())
                .append_pair("page", &page.to_string())
                .append_pair("order", "title")
                .append_pair("direction", "asc");
            let more: Vec<KvNamespace> = self.send(Method::GET, url, Ok).await?;
            if more.is_empty() {
                break;
            }
            all.extend(more);
        }
        Ok(all)
    }

    pub async fn rename_namespace(&self, id: &str, title: &str) -> anyhow::Result<KvNamespace> {
        let wish = KvTitle { title: title.to_owned() };
        self.send(Method::PUT, self.namespaces_url(&[id]), |http| Ok(http.json(&wish))).await
    }

    pub async fn delete_namespace(&self, id: &str) -> anyhow::Result<()> {
        self.exchange::<Value>(Method::DELETE, self.namespaces_url(&[id]), Ok).await.map(drop)
    }

    pub async fn put_key(&self, id: &str, key: &str, value: Vec<u8>, beside: &Beside) -> anyhow::Result<()> {
        let mut url = self.value_url(id, key)?;
        for (name, seconds) in [("expiration", beside.expiration), ("expiration_ttl", beside.ttl)] {
            if let Some(seconds) = seconds {
                url.query_pairs_mut().append_pair(name, &seconds.to_string());
            }
        }
        let body = |http: reqwest::RequestBuilder| {
            Ok(match &beside.metadata {
                None => http.body(value),
                Some(metadata) => {
                    http.multipart(Form::new().part("value", Part::bytes(value)).text("metadata", metadata.to_string()))
                }
            })
        };
        self.exchange::<Value>(Method::PUT, url, body).await.map(drop)
    }

    /// The bytes of a value.
    pub async fn get_key(&self, id: &str, key: &str) -> anyhow::Result<Vec<u8>> {
        self.bytes(self.value_url(id, key)?).await
    }

    pub async fn delete_key(&self, id: &str, key: &str) -> anyhow::Result<()> {
        self.exchange::<Value>(Method::DELETE, self.value_url(id, key)?, Ok).await.map(drop)
    }

    /// All keys that begin with `prefix`.
    pub async fn keys(&self, id: &str, prefix: &str) -> anyhow::Result<Vec<KvKey>> {
        let (mut all, mut cursor) = (Vec::new(), String::new());
        loop {
            let mut url = self.namespaces_url(&[id, "keys"]);
            url.query_pairs_mut()
                .append_pair("prefix", prefix)
                .append_pair("cursor", &cursor)
                .append_pair("limit", &PAGE.to_string());
            let (keys, info) = self.exchange::<Vec<KvKey>>(Method::GET, url, Ok).await?;
            all.extend(keys.unwrap_or_default());
            cursor = info.and_then(|info| info.cursor).unwrap_or_default();
            if cursor.is_empty() {
                return Ok(all);
            }
        }
    }

    pub async fn put_bulk(&self, id: &str, pairs: &[KvPair]) -> anyhow::Result<()> {
        for batch in batches(pairs) {
            let url = self.namespaces_url(&[id, "bulk"]);
            self.send::<KvBulkDone>(Method::PUT, url, |http| Ok(http.json(batch))).await?;
        }
        Ok(())
    }

    /// The values by key; `null` where there is none.
    pub async fn get_bulk(&self, id: &str, keys: &[String]) -> anyhow::Result<Map<String, Value>> {
        let mut all = Map::new();
        for batch in keys.chunks(BULK_KEYS) {
            let wish = KvBulkGet { keys: batch.to_vec(), ..KvBulkGet::default() };
            let url = self.namespaces_url(&[id, "bulk", "get"]);
            let some: KvValues = self.send(Method::POST, url, |http| Ok(http.json(&wish))).await?;
            all.extend(some.values);
        }
        Ok(all)
    }

    pub async fn delete_bulk(&self, id: &str, keys: &[String]) -> anyhow::Result<()> {
        for batch in keys.chunks(BULK_KEYS) {
            let url = self.namespaces_url(&[id, "bulk"]);
            self.send::<KvBulkDone>(Method::DELETE, url, |http| Ok(http.json(batch))).await?;
        }
        Ok(())
    }

    /// The namespace that the latest version of `worker` has under `binding`.
    pub async fn bound_namespace(&self, worker: &str, binding: &str) -> anyhow::Result<Option<String>> {
        let url = self.url(&["workers", "scripts", worker, "settings"]);
        let settings: Value = self.send(Method::GET, url, Ok).await.context("cannot look the binding up")?;
        let bindings = settings.get("bindings").and_then(Value::as_array);
        let is_it = |one: &&Value| one["name"] == binding && one["type"] == "kv_namespace";
        let found = bindings.into_iter().flatten().find(is_it);
        Ok(found.and_then(|one| one["namespace_id"].as_str()).map(str::to_owned))
    }

    fn namespaces_url(&self, segments: &[&str]) -> Url {
        self.url(&[&["storage", "kv", "namespaces"], segments].concat())
    }

    fn value_url(&self, id: &str, key: &str) -> anyhow::Result<Url> {
        // A URL would lead elsewhere.
        if matches!(key, "" | "." | "..") {
            return Err(usage("a key cannot be empty, `.` or `..`").into());
        }
        Ok(self.namespaces_url(&[id, "values", key]))
    }
}

/// Pieces of a list that each fit a call.
fn batches(pairs: &[KvPair]) -> Vec<&[KvPair]> {
    let (mut batches, mut start, mut bytes) = (Vec::new(), 0, 0);
    for (index, pair) in pairs.iter().enumerate() {
        let size = pair.key.len() + pair.value.len();
        if index > start && (index - start == BULK_KEYS || bytes + size > BULK_BYTES) {
            batches.push(&pairs[start..index]);
            (start, bytes) = (index, 0);
        }
        bytes += size;
    }
    if start < pairs.len() {
        batches.push(&pairs[start..]);
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_bounded_in_keys_and_in_bytes() {
        let pair = |size: usize| KvPair {
            key: "k".into(),
            value: "v".repeat(size),
            base64: false,
            metadata: None,
            expiration: None,
            expiration_ttl: None,
        };
        let sizes = |pairs: &[KvPair]| batches(pairs).iter().map(|batch| batch.len()).collect::<Vec<_>>();
        assert_eq!(sizes(&[]), [0; 0]);
        assert_eq!(sizes(&vec![pair(1); 2001]), [1000, 1000, 1]);
        assert_eq!(sizes(&vec![pair(20 * 1024 * 1024); 3]), [1, 1, 1]);
    }
}
