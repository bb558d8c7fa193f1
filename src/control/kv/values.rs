//! One key: its value goes in and out as a stream of bare bytes, for which there is no envelope; and lists of keys.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures_util::TryStreamExt as _;
use http::{HeaderMap, HeaderValue, header};
use http_body_util::BodyExt as _;
use serde_json::Value;

use super::{namespace, too_large};
use crate::control::fault::{Code, Fault, Outcome};
use crate::control::form::{Paced, malformed};
use crate::control::request::{Params, Query, cut_off, soon, undecodable};
use crate::control::shape::Answer;
use crate::control::wire_kv::KvKey;
use crate::control::{Api, wire};
use crate::domain::limits::{KV_LIST_MAX, KV_METADATA_BYTES_MAX, KV_VALUE_BYTES_MAX};
use crate::kv::{Attributes, Condition, EntryKey, Found, Life, Upload};

/// What a form may have beside the value: the metadata, generously spaced, and the headers of the parts.
const FORM_BYTES_MAX: u64 = 64 * 1024;

/// `GET …/values/:k`: the bytes; 404 with 10009 if there are none.
pub(in crate::control) async fn get(State(api): State<Arc<Api>>, params: Params) -> Outcome<Response> {
    let found = find(&api, &params).await?;
    let size_bytes = found.value.size_bytes();
    let logged = |error: &crate::kv::Error| tracing::error!(%error, "a KV value could not be read to its end");
    let mut response = Body::from_stream(found.value.stream().inspect_err(logged)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(size_bytes));
    if let Some(expiration) = found.expiration {
        headers.insert("expiration", HeaderValue::from(expiration));
    }
    Ok(response)
}

/// `GET …/metadata/:k`: the JSON beside the value, in the envelope.
pub(in crate::control) async fn metadata(State(api): State<Arc<Api>>, params: Params) -> Outcome<Answer<Value>> {
    let found = find(&api, &params).await?;
    Ok(found.metadata.as_deref().map(from_stored).map_or_else(|| Answer::of(Value::Null), Answer::of))
}

/// `PUT …/values/:k[?expiration=…][&expiration_ttl=…]`: the body is the value; or a form of `value` and `metadata`.
pub(in crate::control) async fn put(
    State(api): State<Arc<Api>>,
    params: Params,
    query: Query,
    headers: HeaderMap,
    body: Body,
) -> Outcome<Answer<()>> {
    let (id, key) = (namespace(&params)?, key(&params)?);
    let life = Life { expiration: seconds(&query, "expiration")?, expiration_ttl: seconds(&query, "expiration_ttl")? };
    // Before the body is read: most faults are here.
    let plain = Attributes::check(&api.kv, life, None)?;
    api.kv.namespace(id).await?;
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > KV_VALUE_BYTES_MAX + FORM_BYTES_MAX) {
        return Err(too_large());
    }
    let mut upload = api.kv.upload(id);
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let attributes = if kind.trim_start().to_ascii_lowercase().starts_with("multipart/form-data") {
        let metadata = form(kind, body, &mut upload).await?;
        Attributes::check(&api.kv, life, metadata.as_ref())?
    } else {
        raw(body, &mut upload).await?;
        plain
    };
    upload.finish(&key, attributes, Condition::Any).await?;
    Ok(Answer::done())
}

/// `DELETE …/values/:k`. A key that is not there is no error.
pub(in crate::control) async fn delete(State(api): State<Arc<Api>>, params: Params) -> Outcome<Answer<()>> {
    api.kv.delete(namespace(&params)?, &key(&params)?, Condition::Any).await?;
    Ok(Answer::done())
}

/// `GET …/keys?prefix=…&cursor=…&limit=…`. The cursor is empty at the end.
pub(in crate::control) async fn list(
    State(api): State<Arc<Api>>,
    params: Params,
    query: Query,
) -> Outcome<Answer<Vec<KvKey>>> {
    let id = namespace(&params)?;
    let limit = query.number("limit", KV_LIST_MAX, KV_LIST_MAX)?;
    let cursor = query.get("cursor").filter(|cursor| !cursor.is_empty());
    let page = api.kv.list(id, query.get("prefix").unwrap_or_default(), cursor, limit).await?;
    let keys: Vec<KvKey> = page
        .keys
        .into_iter()
        .map(|listed| KvKey {
            name: listed.key.as_str().to_owned(),
            expiration: listed.expiration,
            metadata: listed.metadata.as_deref().map(from_stored),
        })
        .collect();
    let info = wire::ResultInfo {
        count: keys.len() as u64,
        cursor: Some(page.cursor.unwrap_or_default()),
        ..wire::ResultInfo::default()
    };
    Ok(Answer::of(keys).paged(info))
}

/// Metadata as it was stored: it was JSON when it came in, and a text is the honest answer if a record says otherwise.
pub(super) fn from_stored(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}

async fn find(api: &Api, params: &Params) -> Outcome<Found> {
    let found = api.kv.get(namespace(params)?, &key(params)?).await?;
    found.ok_or_else(|| Fault::new(Code::KeyUnknown, "key not found"))
}

fn key(params: &Params) -> Outcome<EntryKey> {
    Ok(EntryKey::new(params.get("key"))?)
}

fn seconds(query: &Query, name: &str) -> Outcome<Option<i64>> {
    let text = query.get(name).filter(|text| !text.is_empty());
    let number = text.map(str::parse::<i64>).transpose();
    number.map_err(|_| Fault::at(Code::Parameter, name, format!("`{name}` is a whole number of seconds")))
}

async fn raw(mut body: Body, upload: &mut Upload) -> Outcome<()> {
    while let Some(frame) = soon(body.frame()).await? {
        if let Ok(data) = frame.map_err(cut_off)?.into_data() {
            upload.push(data).await?;
        }
    }
    Ok(())
}

/// Reads a form; returns its metadata.
async fn form(kind: &str, body: Body, upload: &mut Upload) -> Outcome<Option<Value>> {
    let boundary = multer::parse_boundary(kind)
        .map_err(|_| Fault::new(Code::ContentType, "a form has a boundary, and the parts `value` and `metadata`"))?;
    let gap = Arc::new(AtomicUsize::new(0));
    let limits = multer::SizeLimit::new().whole_stream(KV_VALUE_BYTES_MAX + FORM_BYTES_MAX);
    let constraints = multer::Constraints::new().size_limit(limits);
    let mut form = multer::Multipart::with_constraints(Paced::new(body, Arc::clone(&gap)), boundary, constraints);
    let (mut metadata, mut values) = (None, 0);
    while let Some(mut part) = soon(form.next_field()).await?.map_err(unreadable)? {
        gap.store(0, Ordering::Relaxed);
        let name = part.name().unwrap_or_default().to_owned();
        let mut text = Vec::new();
        while let Some(chunk) = soon(part.chunk()).await?.map_err(unreadable)? {
            gap.store(0, Ordering::Relaxed);
            match name.as_str() {
                "value" => upload.push(chunk).await?,
                "metadata" => text.extend_from_slice(&chunk),
                _ => {}
            }
            // Spaces between its parts do not count, so there is room for some.
            if text.len() > 8 * KV_METADATA_BYTES_MAX {
                return Err(crate::kv::Error::MetadataTooLarge { bytes: text.len() }.into());
            }
        }
        values += usize::from(name == "value");
        if name == "metadata" && !text.is_empty() {
            let parsed = serde_json::from_slice(&text);
            metadata = Some(parsed.map_err(|error| undecodable(&error, "the part `metadata`", "any JSON"))?);
        }
    }
    if values == 1 { Ok(metadata) } else { Err(Fault::new(Code::Body, "a form has one part named `value`")) }
}

fn unreadable(error: multer::Error) -> Fault {
    if matches!(error, multer::Error::StreamSizeExceeded { .. }) { too_large() } else { malformed(error) }
}
