//! A namespace by address, for guests that only speak HTTP: `http://<binding>.internal/<key>`.
//!
//! | Request | Answer |
//! |---|---|
//! | `GET`, `HEAD /<key>` | 200 with the value, or 404. `etag` names this state of the key; `kv-metadata` is JSON, `kv-expiration` Unix seconds |
//! | `PUT /<key>?expiration=…&expiration_ttl=…` with `kv-metadata` | 204; with `if-match` or `if-none-match: *` only if that holds, else 412 |
//! | `DELETE /<key>` | 204, also if it was not there; with `if-match` as above |
//! | `GET /?prefix=…&cursor=…&limit=…` | `{"keys": [{"name", "expiration"?, "metadata"?}], "list_complete", "cursor"?}` |
//!
//! What is refused gets 400, 412 or 413 and a line that says why. These statuses are the guest's interface, not a client's.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::{Namespaces, told};
use crate::domain::id::NamespaceId;
use crate::domain::limits::KV_LIST_MAX;
use crate::host::Body;
use crate::kv::{Attributes, Condition, EntryKey, Error, Found, Kv, Life};
use crate::store::Revision;

const METADATA: &str = "kv-metadata";
const EXPIRATION: &str = "kv-expiration";
/// A value of this size never waits for others to be written.
const SMALL_BYTES: usize = 64 * 1024;

/// A refusal: its status and its line.
type Refused = (StatusCode, String);

impl Namespaces {
    /// What `namespace` answers to a request, as a future that needs no guest.
    pub(in crate::host) fn answer(
        &self,
        namespace: NamespaceId,
        request: Request<Body>,
    ) -> impl Future<Output = Response<Body>> + Send + 'static {
        let (kv, large) = (self.kv.clone(), Arc::clone(&self.large_writes));
        async move {
            let Some(kv) = kv else { return line(StatusCode::FORBIDDEN, "a guest may not call before it serves") };
            match answer(&kv, &large, namespace, request).await {
                Ok(response) => response,
                Err((status, text)) => line(status, &text),
            }
        }
    }
}

async fn answer(
    kv: &Arc<Kv>,
    large: &Semaphore,
    id: NamespaceId,
    request: Request<Body>,
) -> Result<Response<Body>, Refused> {
    let (parts, body) = request.into_parts();
    let query = parts.uri.query().unwrap_or_default();
    let path = parts.uri.path().trim_start_matches('/');
    let is_read = matches!(parts.method, Method::GET | Method::HEAD);
    if path.is_empty() && is_read {
        return list(kv, id, query).await;
    }
    let key = percent_encoding::percent_decode_str(path).decode_utf8();
    let key = key.map_err(|_| bad("the key is not UTF-8 after percent-decoding".to_owned()))?;
    let key = EntryKey::new(key).map_err(|error| refused(&error))?;
    match parts.method {
        Method::GET | Method::HEAD => {
            let found = kv.get(id, &key).await.map_err(|error| refused(&error))?;
            Ok(found.map_or_else(|| line(StatusCode::NOT_FOUND, "key not found"), |found| value(found, &parts.method)))
        }
        Method::PUT => {
            let wish = wish(kv, query, &parts.headers)?;
            put(kv, large, id, &key, wish, body).await
        }
        Method::DELETE => {
            let condition = condition(&parts.headers)?;
            kv.delete(id, &key, condition).await.map_err(|error| refused(&error))?;
            Ok(empty(StatusCode::NO_CONTENT))
        }
        _ => {
            let mut response = line(StatusCode::METHOD_NOT_ALLOWED, "a key takes GET, HEAD, PUT and DELETE");
            response.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static("GET, HEAD, PUT, DELETE"));
            Ok(response)
        }
    }
}

fn value(found: Found, method: &Method) -> Response<Body> {
    let mut response = Response::builder()
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .header(header::CONTENT_LENGTH, found.value.size_bytes())
        .header(header::ETAG, etag(found.revision));
    if let Some(metadata) = &found.metadata {
        response = response.header(METADATA, ascii(metadata));
    }
    if let Some(expiration) = found.expiration {
        response = response.header(EXPIRATION, expiration);
    }
    let body = if method == Method::HEAD {
        full(Bytes::new())
    } else {
        let failed = |error: Error| wasmtime_wasi_http::Error::InternalError(Some(told(&error)));
        StreamBody::new(found.value.stream().map_ok(Frame::data).map_err(failed)).boxed_unsync()
    };
    response.body(body).unwrap_or_else(|_| line(StatusCode::INTERNAL_SERVER_ERROR, "the answer has no valid head"))
}

/// What goes beside a value, and when it may be written.
fn wish(kv: &Kv, query: &str, headers: &HeaderMap) -> Result<(Attributes, Condition), Refused> {
    let life = Life { expiration: number(query, "expiration")?, expiration_ttl: number(query, "expiration_ttl")? };
    let metadata = headers.get(METADATA).map(|value| serde_json::from_slice::<Value>(value.as_bytes()));
    let metadata = metadata.transpose().map_err(|_| bad(format!("the header `{METADATA}` is not JSON")))?;
    let attributes = Attributes::check(kv, life, metadata.as_ref()).map_err(|error| refused(&error))?;
    Ok((attributes, condition(headers)?))
}

async fn put(
    kv: &Arc<Kv>,
    large: &Semaphore,
    id: NamespaceId,
    key: &EntryKey,
    (attributes, condition): (Attributes, Condition),
    mut body: Body,
) -> Result<Response<Body>, Refused> {
    let mut upload = kv.upload(id);
    let (mut bytes, mut turn) = (0, None);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| bad("the body was cut off; nothing was stored".to_owned()))?;
        if let Ok(data) = frame.into_data() {
            bytes += data.len();
            if bytes > SMALL_BYTES && turn.is_none() {
                turn = large.acquire().await.ok();
            }
            upload.push(data).await.map_err(|error| refused(&error))?;
        }
    }
    let revision = upload.finish(key, attributes, condition).await.map_err(|error| refused(&error))?;
    let mut response = empty(StatusCode::NO_CONTENT);
    if let Ok(etag) = etag(revision).parse() {
        response.headers_mut().insert(header::ETAG, etag);
    }
    Ok(response)
}

async fn list(kv: &Kv, id: NamespaceId, query: &str) -> Result<Response<Body>, Refused> {
    let limit = match number(query, "limit")? {
        None => KV_LIST_MAX,
        Some(limit) => usize::try_from(limit)
            .ok()
            .filter(|limit| (1..=KV_LIST_MAX).contains(limit))
            .ok_or_else(|| bad(format!("`limit` is {limit}, expected 1 to {KV_LIST_MAX}")))?,
    };
    let prefix = parameter(query, "prefix").unwrap_or_default();
    let cursor = parameter(query, "cursor").filter(|cursor| !cursor.is_empty());
    let page = kv.list(id, &prefix, cursor.as_deref(), limit).await.map_err(|error| refused(&error))?;
    let keys: Vec<Value> = page
        .keys
        .into_iter()
        .map(|listed| {
            let mut item = json!({ "name": listed.key.as_str() });
            if let Some(expiration) = listed.expiration {
                item["expiration"] = json!(expiration);
            }
            if let Some(metadata) = listed.metadata.and_then(|text| serde_json::from_str(&text).ok()) {
                item["metadata"] = metadata;
            }
            item
        })
        .collect();
    let mut answer = json!({ "keys": keys, "list_complete": page.cursor.is_none() });
    if let Some(cursor) = page.cursor {
        answer["cursor"] = json!(cursor);
    }
    let mut response = Response::new(full(Bytes::from(answer.to_string())));
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    Ok(response)
}

/// What the write expects, by HTTP's own words for it (RFC 9110, 13.1).
fn condition(headers: &HeaderMap) -> Result<Condition, Refused> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default().trim());
    match (text(header::IF_MATCH), text(header::IF_NONE_MATCH)) {
        (None, None) => Ok(Condition::Any),
        (Some("*"), None) => Ok(Condition::Present),
        (None, Some("*")) => Ok(Condition::Absent),
        (Some(tag), None) => {
            let number = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')?.parse().ok());
            // A tag that is none of ours is one that no key has.
            Ok(Condition::Revision(number.map_or(Revision::ZERO, Revision::new)))
        }
        _ => Err(bad("conditions are `if-match: *`, `if-match: \"<etag>\"` or `if-none-match: *`".to_owned())),
    }
}

fn etag(revision: Revision) -> String {
    format!("\"{revision}\"")
}

/// JSON whose characters a header may carry.
fn ascii(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if matches!(c, ' '..='~') {
            text.push(c);
        } else {
            let mut units = [0; 2];
            text.extend(c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")));
        }
    }
    text
}

fn parameter(query: &str, name: &str) -> Option<String> {
    let mut pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let (_, value) = pairs.rfind(|(key, _)| *key == name)?;
    let spaced = value.replace('+', " ");
    Some(percent_encoding::percent_decode_str(&spaced).decode_utf8_lossy().into_owned())
}

fn number(query: &str, name: &str) -> Result<Option<i64>, Refused> {
    let text = parameter(query, name).filter(|text| !text.is_empty());
    let parsed = text.map(|text| text.parse::<i64>()).transpose();
    parsed.map_err(|_| bad(format!("`{name}` is not a whole number")))
}

fn refused(error: &Error) -> Refused {
    let status = match error {
        Error::NamespaceUnknown { .. } => StatusCode::NOT_FOUND,
        Error::ConditionFailed => StatusCode::PRECONDITION_FAILED,
        Error::ValueTooLarge | Error::MetadataTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        Error::Busy { .. } | Error::UploadTooSlow => StatusCode::SERVICE_UNAVAILABLE,
        error if error.is_hosts() => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::BAD_REQUEST,
    };
    (status, told(error))
}

fn bad(text: String) -> Refused {
    (StatusCode::BAD_REQUEST, text)
}

fn line(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(full(Bytes::from(format!("{text}\n"))));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(full(Bytes::new()));
    *response.status_mut() = status;
    response
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_in_a_header_is_the_same_json_in_ascii() {
        let json = r#"{"a":"é😀 \u0001","b":1}"#;
        let text = ascii(json);
        assert!(text.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{text}");
        let (a, b): (Value, Value) = (serde_json::from_str(json).unwrap(), serde_json::from_str(&text).unwrap());
        assert_eq!(a, b);
    }

    #[test]
    fn the_last_of_a_parameter_counts_and_is_decoded() {
        assert_eq!(parameter("prefix=a&prefix=b%2Fc+d", "prefix").as_deref(), Some("b/c d"));
        assert_eq!(parameter("prefixes=a", "prefix"), None);
        assert_eq!(number("limit=", "limit"), Ok(None));
        assert!(number("limit=x", "limit").is_err());
    }

    #[test]
    fn conditions_are_those_of_http() {
        let check = |name: &'static str, value: &str| {
            condition(&[(header::HeaderName::from_static(name), value.parse().unwrap())].into_iter().collect())
        };
        assert_eq!(condition(&HeaderMap::new()), Ok(Condition::Any));
        assert_eq!(check("if-match", "*"), Ok(Condition::Present));
        assert_eq!(check("if-none-match", "*"), Ok(Condition::Absent));
        assert_eq!(check("if-match", "\"7\""), Ok(Condition::Revision(Revision::new(7))));
        assert_eq!(check("if-match", "\"foreign\""), Ok(Condition::Revision(Revision::ZERO)));
        assert!(check("if-none-match", "\"7\"").is_err());
    }
}
