//! Many keys in one call. A body is JSON and in memory as a whole, so only a few calls go on at once.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::namespace;
use super::values::from_stored;
use crate::control::Api;
use crate::control::fault::{Code, Fault, Outcome};
use crate::control::request::{Params, json_up_to};
use crate::control::shape::Answer;
use crate::control::wire_kv::{KvBulkDone, KvBulkGet, KvPair, KvValues};
use crate::domain::limits::{KV_BULK_BYTES_MAX, KV_BULK_KEYS_MAX};
use crate::kv::{Attributes, EntryKey, Error, Life, Pair};

/// Calls at once: each may take some hundred megabytes.
static TURNS: Semaphore = Semaphore::const_new(2);

/// `PUT …/bulk`: nothing is written if one of the pairs is wrong.
pub(in crate::control) async fn put(
    State(api): State<Arc<Api>>,
    params: Params,
    body: Body,
) -> Outcome<Answer<KvBulkDone>> {
    let id = namespace(&params)?;
    api.kv.namespace(id).await?;
    let _turn = turn().await?;
    let pairs: Vec<KvPair> = json_up_to(body, "`[{\"key\": text, \"value\": text, …}, …]`", KV_BULK_BYTES_MAX).await?;
    check_count(pairs.len())?;
    let count = pairs.len();
    let checked = pairs.into_iter().enumerate().map(|(index, pair)| checked(&api, index, pair));
    api.kv.put_many(id, checked.collect::<Outcome<_>>()?).await?;
    Ok(Answer::of(done(count)))
}

/// `DELETE …/bulk` with a body, and `POST …/bulk/delete`.
pub(in crate::control) async fn delete(
    State(api): State<Arc<Api>>,
    params: Params,
    body: Body,
) -> Outcome<Answer<KvBulkDone>> {
    let id = namespace(&params)?;
    let _turn = turn().await?;
    let names: Vec<String> = json_up_to(body, "`[key, …]`", KV_BULK_BYTES_MAX).await?;
    check_count(names.len())?;
    let count = names.len();
    api.kv.delete_many(id, keys(names)?).await?;
    Ok(Answer::of(done(count)))
}

/// `POST …/bulk/get`.
pub(in crate::control) async fn get(
    State(api): State<Arc<Api>>,
    params: Params,
    body: Body,
) -> Outcome<Answer<KvValues>> {
    let id = namespace(&params)?;
    let _turn = turn().await?;
    let wish: KvBulkGet = json_up_to(body, "`{\"keys\": [key, …]}`", KV_BULK_BYTES_MAX).await?;
    check_count(wish.keys.len())?;
    let is_json = match wish.kind.as_deref() {
        None | Some("text") => false,
        Some("json") => true,
        Some(_) => return Err(Fault::at(Code::Parameter, "type", "`type` is `text` or `json`")),
    };
    let keys = keys(wish.keys)?;
    let found = api.kv.get_many(id, &keys).await?;
    let mut values = serde_json::Map::new();
    for (key, found) in keys.into_iter().zip(found) {
        let value = match found {
            None => Value::Null,
            Some((found, bytes)) => {
                let value = if is_json {
                    serde_json::from_slice(&bytes).map_err(|_| {
                        Fault::at(Code::Parameter, "type", "one of the values is not JSON; ask for `type` `text`")
                    })?
                } else {
                    Value::String(String::from_utf8_lossy(&bytes).into_owned())
                };
                if wish.with_metadata {
                    let metadata = found.metadata.as_deref().map(from_stored);
                    json!({ "value": value, "metadata": metadata, "expiration": found.expiration })
                } else {
                    value
                }
            }
        };
        values.insert(key.as_str().to_owned(), value);
    }
    Ok(Answer::of(KvValues { values }))
}

fn checked(api: &Api, index: usize, pair: KvPair) -> Outcome<Pair> {
    // Which one it was; its key and value are a stranger's.
    let at = |fault: Fault| fault.located(format!("[{index}]"));
    let refused = |error: Error| at(error.into());
    let value = if pair.base64 {
        let decoded = BASE64_STANDARD.decode(pair.value);
        decoded.map_err(|_| at(Fault::new(Code::Parameter, "the value is not base64, as `base64` says")))?
    } else {
        pair.value.into_bytes()
    };
    let life = Life { expiration: pair.expiration, expiration_ttl: pair.expiration_ttl };
    let attributes = Attributes::check(&api.kv, life, pair.metadata.as_ref()).map_err(refused)?;
    Ok(Pair { key: EntryKey::new(pair.key).map_err(refused)?, value: value.into(), attributes })
}

fn keys(names: Vec<String>) -> Outcome<Vec<EntryKey>> {
    let key = |(index, name)| EntryKey::new(name).map_err(|error| Fault::from(error).located(format!("[{index}]")));
    names.into_iter().enumerate().map(key).collect()
}

fn check_count(keys: usize) -> Outcome<()> {
    if keys > KV_BULK_KEYS_MAX { Err(Error::TooManyKeys { keys }.into()) } else { Ok(()) }
}

async fn turn() -> Outcome<SemaphorePermit<'static>> {
    TURNS.acquire().await.map_err(|_| Fault::new(Code::Host, "the node is stopping"))
}

fn done(count: usize) -> KvBulkDone {
    KvBulkDone { successful_key_count: count as u64, unsuccessful_keys: Vec::new() }
}
