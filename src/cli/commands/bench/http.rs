//! Requests over HTTP: keep-alive connections of hyper's, one request at a time on each. The version is chosen by the header
//! of overrides, and an answer that another version gave is no answer.

use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::header::HOST;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::load::Shot;
use crate::app::lab::Template;
use crate::cli::fault::{failed, usage};

const OVERRIDES_HEADER: HeaderName = HeaderName::from_static("cloudflare-workers-version-overrides");
const TOKEN_HEADER: HeaderName = HeaderName::from_static("sluice-override-token");
const VERSION_HEADER: &str = "sluice-version";
/// The slowest answer that still counts as one.
const TIMEOUT: Duration = Duration::from_secs(60);
/// What an answer of another version counts as.
pub const OTHER_VERSION: &str = "other version";

/// Where requests go.
#[derive(Debug, Clone)]
pub struct Address {
    /// What is connected to.
    authority: String,
    /// One for each version.
    variants: Vec<Variant>,
}

/// A version as it is asked for.
#[derive(Debug, Clone)]
struct Variant {
    request: Template,
    /// The version that must answer, if one was asked for.
    id: Option<String>,
}

/// A connection, once there is one.
#[derive(Default)]
pub struct Connection(Option<SendRequest<Full<Bytes>>>);

/// One answer, read to its end.
pub struct Answer {
    pub status: u16,
    /// Which version says that it answered.
    pub version: Option<String>,
    pub body: Bytes,
}

impl Address {
    /// The same request to `authority` for each of `ids`, versions of `worker`; without any it is sent as it is.
    pub fn new(
        authority: &str,
        template: &Template,
        worker: &str,
        ids: &[String],
        token: Option<&str>,
    ) -> anyhow::Result<Self> {
        let mut request = template.clone();
        let target = request.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str).to_owned();
        let host = request.uri.authority().map_or(authority, http::uri::Authority::as_str);
        if !request.headers.contains_key(HOST) {
            request.headers.insert(HOST, HeaderValue::try_from(host)?);
        }
        request.uri = Uri::try_from(target)?;
        if let Some(token) = token {
            request.headers.insert(TOKEN_HEADER, HeaderValue::try_from(token)?);
        }
        let variant = |id: &String| -> anyhow::Result<Variant> {
            let mut request = request.clone();
            let value = HeaderValue::try_from(format!("{worker}=\"{id}\""))
                .with_context(|| format!("`{worker}` cannot be the name of a worker"))?;
            request.headers.insert(OVERRIDES_HEADER, value);
            Ok(Variant { request, id: Some(id.clone()) })
        };
        let variants = if ids.is_empty() {
            vec![Variant { request: request.clone(), id: None }]
        } else {
            ids.iter().map(variant).collect::<anyhow::Result<_>>()?
        };
        Ok(Self { authority: authority.to_owned(), variants })
    }

    /// How many versions are asked for.
    pub fn count(&self) -> usize {
        self.variants.len()
    }

    /// One answer of a version.
    pub async fn ask(&self, connection: &mut Connection, index: usize) -> Shot {
        let began = Instant::now();
        let answer = tokio::time::timeout(TIMEOUT, self.exchange(connection, index)).await;
        let wall = began.elapsed();
        let (fault, detail) = match &answer {
            Ok(Ok(answer)) => match self.fault_of(answer, index) {
                Some((fault, detail)) => (Some(fault), detail),
                None => (None, String::new()),
            },
            Ok(Err(error)) => (Some("connection".to_owned()), format!("{error:#}")),
            Err(_) => (Some("timeout".to_owned()), format!("no answer within {} s", TIMEOUT.as_secs())),
        };
        if !matches!(answer, Ok(Ok(_))) {
            connection.0 = None;
        }
        let status = answer.ok().and_then(Result::ok).map(|answer| answer.status);
        Shot { status, fault, detail, ..Shot::sent(wall) }
    }

    fn fault_of(&self, answer: &Answer, index: usize) -> Option<(String, String)> {
        let wanted = self.variants[index].id.as_deref();
        match (&answer.version, wanted) {
            (Some(version), Some(wanted)) if version != wanted => {
                let detail = format!("version {wanted} was asked for, and {version} answered");
                return Some((OTHER_VERSION.to_owned(), detail));
            }
            _ => {}
        }
        (answer.status >= 500).then(|| {
            let text = String::from_utf8_lossy(&answer.body);
            let line: String = text.lines().next().unwrap_or_default().chars().take(200).collect();
            (format!("status {}", answer.status), line)
        })
    }

    /// Sends one request, over a new connection if need be.
    pub async fn exchange(&self, connection: &mut Connection, index: usize) -> anyhow::Result<Answer> {
        // A server may close a connection that has served its time: that is no failure.
        let kept = match connection.0.take() {
            Some(mut kept) => kept.ready().await.is_ok().then_some(kept),
            None => None,
        };
        let mut sender = match kept {
            Some(kept) => kept,
            None => self.connect().await?,
        };
        let response = sender.send_request(self.request(index)).await.context("the connection broke")?;
        let answer = read(response).await?;
        connection.0 = Some(sender);
        Ok(answer)
    }

    async fn connect(&self) -> anyhow::Result<SendRequest<Full<Bytes>>> {
        let stream = TcpStream::connect(&self.authority).await;
        let stream = stream.with_context(|| format!("cannot connect to {}", self.authority))?;
        stream.set_nodelay(true)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // It ends with its sender, or when the server closes it; the next request then says so.
        tokio::spawn(async move { drop(connection.await) });
        sender.ready().await.context("the connection broke")?;
        Ok(sender)
    }

    fn request(&self, index: usize) -> Request<Full<Bytes>> {
        let Template { method, uri, headers, body } = &self.variants[index].request;
        let mut request = Request::new(Full::new(body.clone()));
        *request.method_mut() = method.clone();
        *request.uri_mut() = uri.clone();
        request.headers_mut().clone_from(headers);
        request
    }
}

async fn read(response: Response<Incoming>) -> anyhow::Result<Answer> {
    let status = response.status().as_u16();
    let version = told_version(response.headers());
    let body = response.into_body().collect().await.context("the answer broke off")?.to_bytes();
    Ok(Answer { status, version, body })
}

/// `<id>; reason=…`: the id.
fn told_version(headers: &HeaderMap) -> Option<String> {
    let told = headers.get(VERSION_HEADER)?.to_str().ok()?;
    Some(told.split(';').next()?.trim().to_owned())
}

/// What a URL names: the authority to connect to, with its port, and the absolute address of the request.
pub fn parse_url(text: &str, path: Option<&str>) -> anyhow::Result<(String, Uri)> {
    let wrong = |why: &str| usage(format!("`--url {text}`: {why}; it looks like http://127.0.0.1:8787/"));
    let url = reqwest::Url::parse(text).map_err(|_| wrong("this is no URL"))?;
    if url.scheme() != "http" {
        return Err(wrong("only http is spoken here").into());
    }
    let host = url.host_str().ok_or_else(|| wrong("it names no host"))?;
    // Every name below `localhost` is this machine (RFC 6761); not every resolver knows.
    let reached = if host.ends_with(".localhost") { "localhost" } else { host };
    let authority = format!("{reached}:{}", url.port_or_known_default().unwrap_or(80));
    let target = match path {
        Some(path) => path.to_owned(),
        None => url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path())),
    };
    let shown = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let uri = Uri::builder().scheme("http").authority(shown).path_and_query(target).build();
    Ok((authority, uri.map_err(|_| wrong("its path cannot be sent"))?))
}

/// Asks each version once, and says clearly why it cannot be measured.
pub async fn preflight(address: &Address, connection: &mut Connection) -> anyhow::Result<Told> {
    let mut told = Told::Yes;
    for (index, variant) in address.variants.iter().enumerate() {
        let mute = || failed(format!("`http://{}` gives no answer", address.authority));
        let answer = tokio::time::timeout(TIMEOUT, address.exchange(connection, index)).await;
        let answer = answer
            .map_err(|_| mute().hint(format!("it took the connection, and said nothing for {} s", TIMEOUT.as_secs())))?
            .map_err(|error| error.context(mute()))?;
        let Some(wanted) = &variant.id else { continue };
        match &answer.version {
            Some(version) if version == wanted => {}
            Some(version) => {
                return Err(failed(format!("version {wanted} was asked for, and {version} answered"))
                    .hint(
                        "an override reaches the versions of the active deployment, also at 0 %: `sluice versions deploy`; \
                         and only where the node takes it: `--overrides any`",
                    )
                    .into());
            }
            None => told = Told::No,
        }
    }
    Ok(told)
}

/// Whether answers say which version gave them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    Yes,
    No,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        for (url, path, authority, uri) in [
            ("http://w.localhost:8787", None, "localhost:8787", "http://w.localhost:8787/"),
            ("http://host/a?b=c", None, "host:80", "http://host/a?b=c"),
            ("http://[::1]:1/a", Some("/x?y"), "[::1]:1", "http://[::1]:1/x?y"),
        ] {
            let (connect, parsed) = parse_url(url, path).unwrap();
            assert_eq!((connect.as_str(), parsed.to_string().as_str()), (authority, uri));
        }
        for wrong in ["https://host/", "host:80", "x", "ftp://host/"] {
            assert!(parse_url(wrong, None).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_version_that_answered_is_read_without_its_reason() {
        let mut headers = HeaderMap::new();
        assert_eq!(told_version(&headers), None);
        headers.insert(VERSION_HEADER, HeaderValue::from_static("abc; reason=override"));
        assert_eq!(told_version(&headers).as_deref(), Some("abc"));
    }
}
