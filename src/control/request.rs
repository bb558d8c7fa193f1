//! What an operation takes from a request: names from the path, switches from the query, who calls, and a JSON body.
//!
//! A body is JSON whatever its `Content-Type` says (`WRANGLER_API` 1.3). No message here repeats a value from a body, since
//! any body may hold a secret.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, FromRequestParts, RawPathParams};
use http::request::Parts;
use http::{HeaderMap, header};
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use crate::control::fault::{Code, Fault, Outcome};
use crate::domain::id::{DeploymentId, VersionId, WorkerName};
use crate::domain::limits::{API_BODY_BYTES_MAX, BODY_IDLE_MAX};
use crate::domain::version::{Provenance, Source};

/// Who made a change that says nothing else.
const AUTHOR: &str = "dev@localhost";
/// Bytes of a `Sluice-Author`: those of the longest e-mail address.
const AUTHOR_BYTES_MAX: usize = 254;

/// The named segments of the path, decoded.
#[derive(Debug)]
pub(super) struct Params(Vec<(String, String)>);

/// The query of the URL, decoded; the last of a name counts.
#[derive(Debug)]
pub(super) struct Query(Vec<(String, String)>);

/// Who calls, and by which tool.
#[derive(Debug)]
pub(super) struct Caller(pub(super) Provenance);

/// Where the connection comes from, if the listener tells.
#[derive(Debug)]
pub(super) struct Peer(pub(super) Option<SocketAddr>);

impl Params {
    /// The worker named in the path.
    pub(super) fn worker(&self) -> Outcome<WorkerName> {
        self.get("name").parse().map_err(|error| Fault::new(Code::WorkerName, format!("{error}")))
    }

    /// The version named in the path. What is no id names no version.
    pub(super) fn version(&self) -> Outcome<VersionId> {
        id(self.get("version"), Code::VersionUnknown, "version")
    }

    /// The deployment named in the path.
    pub(super) fn deployment(&self) -> Outcome<DeploymentId> {
        id(self.get("deployment"), Code::DeploymentUnknown, "deployment")
    }

    /// The segment of that name, as the route table calls it.
    pub(super) fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }
}

fn id<T: FromStr<Err: std::fmt::Display>>(text: &str, code: Code, what: &str) -> Outcome<T> {
    text.parse().map_err(|error| Fault::new(code, format!("there is no such {what}: {error}")))
}

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Outcome<Self> {
        let raw = RawPathParams::from_request_parts(parts, state)
            .await
            .map_err(|_| Fault::new(Code::Parameter, "the path is not UTF-8 after percent-decoding"))?;
        Ok(Self(raw.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()))
    }
}

impl Query {
    /// The value of `name`.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A switch: `true` and `1` are on, `false`, `0` and absence are off, anything else is a fault.
    pub(super) fn is_on(&self, name: &str) -> Outcome<bool> {
        match self.get(name) {
            Some("true" | "1" | "") => Ok(true),
            None | Some("false" | "0") => Ok(false),
            Some(_) => Err(Fault::at(Code::Parameter, name, format!("`{name}` is `true` or `false`"))),
        }
    }

    /// The version of that name. What is no id names no version.
    pub(super) fn version(&self, name: &str) -> Outcome<VersionId> {
        id(self.get(name).unwrap_or_default(), Code::VersionUnknown, "version")
    }

    /// A number from 1 to `max`; larger ones are cut.
    pub(super) fn number(&self, name: &str, default: usize, max: usize) -> Outcome<usize> {
        match self.get(name).map(str::parse::<usize>) {
            None => Ok(default.min(max)),
            Some(Ok(number)) if number > 0 => Ok(number.min(max)),
            Some(_) => Err(Fault::at(Code::Parameter, name, format!("`{name}` is a whole number from 1"))),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Outcome<Self> {
        let query = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&parts.uri)
            .map_err(|_| Fault::new(Code::Parameter, "the query of the URL cannot be read"))?;
        Ok(Self(query.0))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Outcome<Self> {
        Ok(Self(provenance(&parts.headers)))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Peer {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Outcome<Self> {
        Ok(Self(parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0)))
    }
}

/// The tool by its `User-Agent`, and the author by the header `Sluice-Author`.
fn provenance(headers: &HeaderMap) -> Provenance {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let tool = text(header::USER_AGENT.as_str()).and_then(|agent| agent.split('/').next());
    let author = text("sluice-author").map(str::trim).filter(|text| (1..=AUTHOR_BYTES_MAX).contains(&text.len()));
    Provenance {
        author: author.unwrap_or(AUTHOR).to_owned(),
        source: match tool {
            Some("wrangler") => Source::Wrangler,
            Some("sluice-dashboard") => Source::Dash,
            _ => Source::Api,
        },
    }
}

/// Reads a JSON body. `shape` says in a few words what was expected.
pub(super) async fn json<T: DeserializeOwned>(body: Body, shape: &str) -> Outcome<T> {
    json_up_to(body, shape, API_BODY_BYTES_MAX).await
}

/// Reads a JSON body of at most `bytes_max` bytes.
pub(super) async fn json_up_to<T: DeserializeOwned>(body: Body, shape: &str, bytes_max: usize) -> Outcome<T> {
    let bytes = all(body, bytes_max).await?;
    serde_json::from_slice(&bytes).map_err(|error| undecodable(&error, "the body", shape))
}

/// A text that is not the JSON it should be. Serde's own text is only told where it cannot hold a value.
pub(super) fn undecodable(error: &serde_json::Error, what: &str, shape: &str) -> Fault {
    let message = match error.classify() {
        Category::Data => {
            format!("{what} is not {shape}: wrong at line {}, column {}", error.line(), error.column())
        }
        Category::Eof | Category::Io => format!("{what} is not JSON, expected {shape}: it ends too early"),
        Category::Syntax => format!("{what} is not JSON, expected {shape}: {error}"),
    };
    Fault::new(Code::Body, message)
}

/// All of a body that is no upload.
pub(super) async fn all(mut body: Body, bytes_max: usize) -> Outcome<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(frame) = soon(body.frame()).await? {
        let frame = frame.map_err(cut_off)?;
        let Some(data) = frame.data_ref() else { continue };
        if bytes.len() + data.len() > bytes_max {
            let message = format!("the body has more than {bytes_max} bytes");
            return Err(Fault::new(Code::TooLarge, message));
        }
        bytes.extend_from_slice(data);
    }
    Ok(bytes)
}

/// Waits for more of a body, but not for ever.
pub(super) async fn soon<T>(more: impl Future<Output = T>) -> Outcome<T> {
    const WAIT: Duration = BODY_IDLE_MAX;
    tokio::time::timeout(WAIT, more).await.map_err(|_| {
        let message = format!("nothing came of the body for {} s; nothing was stored", WAIT.as_secs());
        Fault::new(Code::BodyTooSlow, message)
    })
}

/// The connection ended before the body did.
pub(super) fn cut_off(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Fault {
    Fault::new(Code::BodyCutOff, "the body was cut off before its end; nothing was stored, send it again")
        .caused_by(cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_about_a_body_never_repeats_it() {
        let error = serde_json::from_str::<Vec<u32>>(r#"["hunter2"]"#).unwrap_err();
        assert!(error.to_string().contains("hunter2"));
        let fault = format!("{:?}", undecodable(&error, "the body", "a list"));
        assert!(!fault.contains("hunter2"), "{fault}");
    }

    #[test]
    fn the_author_is_who_the_caller_says_or_the_developer() {
        let of = |pairs: &[(&'static str, &str)]| {
            let headers: HeaderMap =
                pairs.iter().map(|(n, v)| (header::HeaderName::from_static(n), v.parse().unwrap())).collect();
            let provenance = provenance(&headers);
            (provenance.author, provenance.source)
        };
        assert_eq!(of(&[]), (AUTHOR.into(), Source::Api));
        assert_eq!(of(&[("user-agent", "wrangler/4.164.0")]), (AUTHOR.into(), Source::Wrangler));
        assert_eq!(of(&[("user-agent", "sluice-dashboard/0.1")]), (AUTHOR.into(), Source::Dash));
        assert_eq!(
            of(&[("user-agent", "sluice/0.1"), ("sluice-author", "ada@example.com")]),
            ("ada@example.com".into(), Source::Api)
        );
        assert_eq!(of(&[("sluice-author", &"x".repeat(300))]).0, AUTHOR);
    }
}
