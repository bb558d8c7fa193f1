//! `…/scripts/:n/tails`: who wants to watch a worker, and the connection by which they do (`WRANGLER_API` 3.16).
//!
//! The URL that a tail is answered with is a capability: whoever connects to it sends no token, since `wrangler` sends none.
//! The door's rules hold for it as for every call, so no web page of another origin can read along.

use std::net::IpAddr;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, HeaderName, header};
use tokio::time::{Instant, MissedTickBehavior};

use crate::control::Api;
use crate::control::fault::{Code, Fault, Outcome};
use crate::control::request::{Params, Peer, all, undecodable};
use crate::control::shape::{self, Answer};
use crate::control::wire;
use crate::domain::id::{VersionId, WorkerName};
use crate::domain::limits::API_BODY_BYTES_MAX;
use crate::domain::outcome;
use crate::observe::tail::filter::Filter;
use crate::observe::tail::{End, OpenError, Reader, Tail, TailId};

/// The sub-protocol: clients give up on a server that does not say it back.
const PROTOCOL: &str = "trace-v1";
/// Entries of a list in a filter, and filters of a tail: each is work for every request that is watched.
const FILTERS_MAX: usize = 100;
/// What a client has to say fits in this; nothing of it is needed.
const CLIENT_MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// How often a client that says nothing is asked whether it is there, and after how long it is not.
const PING_EVERY: Duration = Duration::from_secs(30);
const SILENCE_MAX: Duration = Duration::from_secs(90);
/// How long a client may take for one event. A slow one loses events; one that has stopped is let go.
const SEND_MAX: Duration = Duration::from_secs(60);

/// `POST …/tails`. The body may be missing: a tail without filters.
pub(super) async fn create(
    State(api): State<Arc<Api>>,
    params: Params,
    peer: Peer,
    headers: HeaderMap,
    body: Body,
) -> Outcome<Answer<wire::Tail>> {
    let worker = known(&api, &params)?;
    let body = all(body, API_BODY_BYTES_MAX).await?;
    let wanted: wire::TailRequest = if body.is_empty() {
        wire::TailRequest::default()
    } else {
        let shape = "`{\"filters\": […]}` with the filters `sampling_rate`, `outcome`, `method`, `header`, `client_ip`, `query` and `scriptVersion`";
        serde_json::from_slice(&body).map_err(|error| undecodable(&error, "the body", shape))?
    };
    let filters = filters(wanted.filters.unwrap_or_default(), peer.0.map(|peer| peer.ip()))?;
    let mut random = [0; 16];
    getrandom::fill(&mut random)
        .map_err(|error| Fault::new(Code::Host, "the node has no randomness").caused_by(error))?;
    let tail = api.tails.create(TailId::from_random(random), worker, filters).map_err(|full| {
        Fault::new(Code::TooManyTails, format!("{full}: delete one, or wait until one that nobody reads has expired"))
    })?;
    Ok(Answer::of(described(&tail, &api, &headers)))
}

/// `GET …/tails`.
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    params: Params,
    headers: HeaderMap,
) -> Outcome<Answer<Vec<wire::Tail>>> {
    let worker = known(&api, &params)?;
    Ok(Answer::of(api.tails.of(&worker).iter().map(|tail| described(tail, &api, &headers)).collect()))
}

/// `DELETE …/tails/:id`. Its worker may be gone.
pub(super) async fn delete(State(api): State<Arc<Api>>, params: Params) -> Outcome<Answer<serde_json::Value>> {
    let worker = params.worker()?;
    if !api.tails.delete(&worker, &TailId::named(params.get("tail"))) {
        return Err(Fault::new(
            Code::TailUnknown,
            format!("worker `{worker}` has no tail of that id; it may have ended"),
        ));
    }
    Ok(Answer::done())
}

/// `GET /tails/:id`, as a WebSocket: one event a message.
pub(super) async fn follow(
    State(api): State<Arc<Api>>,
    params: Params,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Outcome<Response> {
    let upgrade = upgrade.map_err(|refusal| {
        let message = format!("a tail is read over a WebSocket with the sub-protocol `{PROTOCOL}`: {refusal}");
        Fault::new(Code::NoWebSocket, message)
    })?;
    // Before the answer: a client that knows itself connected misses nothing from then on.
    let reader = api.tails.open(&TailId::named(params.get("tail"))).map_err(|error| match error {
        OpenError::Unknown => Fault::new(Code::TailUnknown, format!("{error}")),
        OpenError::Taken => Fault::new(Code::TailTaken, format!("{error}; make a tail of your own")),
    })?;
    let upgrade = upgrade
        .protocols([PROTOCOL])
        .max_message_size(CLIENT_MESSAGE_BYTES_MAX)
        .max_frame_size(CLIENT_MESSAGE_BYTES_MAX)
        // wrangler's first frame is not masked, which servers are to refuse.
        .accept_unmasked_frames(true);
    Ok(upgrade.on_upgrade(move |socket| serve(socket, reader)))
}

fn known(api: &Api, params: &Params) -> Outcome<WorkerName> {
    let name = params.worker()?;
    if api.catalog.view().worker(&name).is_none() {
        let message = format!("This Worker does not exist on your account: there is no worker `{name}`");
        return Err(Fault::new(Code::WorkerUnknown, message));
    }
    Ok(name)
}

fn described(tail: &Tail, api: &Api, headers: &HeaderMap) -> wire::Tail {
    let id = tail.id.as_str();
    // As the caller reached us, which may be through a tunnel.
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.map_or_else(|| api.control_addr.to_string(), str::to_owned);
    wire::Tail { id: id.to_owned(), url: format!("ws://{host}/tails/{id}"), expires_at: shape::time(tail.ends_ms) }
}

// === Filters ===

fn filters(wanted: Vec<wire::TailFilter>, creator: Option<IpAddr>) -> Outcome<Vec<Filter>> {
    let mut filters = Vec::new();
    for (index, filter) in wanted.into_iter().enumerate() {
        read(filter, creator, &mut filters)
            .map_err(|(key, message)| Fault::at(Code::Parameter, format!("filters[{index}].{key}"), message))?;
        if filters.len() > FILTERS_MAX {
            return Err(Fault::at(Code::TooLarge, "filters", format!("more than {FILTERS_MAX} filters")));
        }
    }
    Ok(filters)
}

/// One object of the list, which has one key as wrangler sends it, and may have several.
fn read(
    wanted: wire::TailFilter,
    creator: Option<IpAddr>,
    filters: &mut Vec<Filter>,
) -> Result<(), (&'static str, String)> {
    if let Some(rate) = wanted.sampling_rate {
        if !(0.0..=1.0).contains(&rate) {
            return Err(("sampling_rate", "a sampling rate is a number from 0 to 1".into()));
        }
        filters.push(Filter::SamplingRate(rate));
    }
    if let Some(words) = bounded(wanted.outcome, "outcome")? {
        let known = outcome::Outcome::ALL;
        let of = |word: &String| known.into_iter().find(|outcome| outcome.as_str() == word);
        let outcomes: Option<Vec<_>> = words.iter().map(of).collect();
        filters.push(Filter::Outcome(outcomes.ok_or_else(|| {
            ("outcome", format!("an outcome is one of {}", known.map(outcome::Outcome::as_str).join(", ")))
        })?));
    }
    if let Some(methods) = bounded(wanted.method, "method")? {
        filters.push(Filter::Method(methods));
    }
    if let Some(header) = wanted.header {
        let name = HeaderName::from_str(&header.key);
        let name = name.map_err(|_| ("header.key", "this is no name of a header".to_owned()))?;
        filters.push(Filter::Header { name, holds: header.query });
    }
    if let Some(clients) = bounded(wanted.client_ip, "client_ip")? {
        let of = |text: &String| if text == "self" { creator } else { text.parse().ok() };
        let clients: Option<Vec<_>> = clients.iter().map(of).collect();
        let clients = clients.ok_or_else(|| ("client_ip", "a client is `self` or an IP address".to_owned()))?;
        filters.push(Filter::ClientIp(clients));
    }
    if let Some(text) = wanted.query {
        filters.push(Filter::Line(text));
    }
    if let Some(id) = wanted.script_version {
        let id: VersionId = id.parse().map_err(|error| ("scriptVersion", format!("{error}")))?;
        filters.push(Filter::Version(id));
    }
    Ok(())
}

/// A list with something in it: none would admit nothing, and means nothing.
fn bounded(list: Option<Vec<String>>, key: &'static str) -> Result<Option<Vec<String>>, (&'static str, String)> {
    match list.filter(|list| !list.is_empty()) {
        Some(list) if list.len() > FILTERS_MAX => Err((key, format!("more than {FILTERS_MAX} entries"))),
        list => Ok(list),
    }
}

// === The connection ===

/// Why a connection ends.
enum Parting {
    /// The tail is over.
    End(End),
    /// The client said goodbye, broke the protocol, or has gone.
    Client,
}

async fn serve(socket: WebSocket, reader: Reader) {
    let (mut events, mut client) = socket.split();
    let parting = stream(&mut events, &mut client, &reader).await;
    // A client that ends in order hears of it; for the rest it makes no difference.
    let close = match parting {
        // The one code after which wrangler ends, too.
        Parting::End(End::Deleted) => CloseFrame { code: close_code::NORMAL, reason: "the tail was deleted".into() },
        Parting::End(End::Expired) => CloseFrame { code: close_code::AWAY, reason: "the tail has expired".into() },
        Parting::End(End::Stopped) => CloseFrame { code: close_code::AWAY, reason: "the node stops".into() },
        Parting::Client => return,
    };
    let goodbye = async {
        let _ = events.send(Message::Close(Some(close))).await;
        // Until the client has heard: dropping the socket may take the words back that it has not read.
        while let Some(Ok(_)) = client.next().await {}
    };
    let _ = tokio::time::timeout(Duration::from_secs(2), goodbye).await;
}

async fn stream(
    events: &mut SplitSink<WebSocket, Message>,
    client: &mut SplitStream<WebSocket>,
    reader: &Reader,
) -> Parting {
    let ends_at = tokio::time::sleep_until(reader.ends_at().into());
    tokio::pin!(ends_at);
    let mut pings = tokio::time::interval_at(Instant::now() + PING_EVERY, PING_EVERY);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard_at = Instant::now();
    loop {
        let message = tokio::select! {
            () = &mut ends_at => return Parting::End(End::Expired),
            said = client.next() => match said {
                // Pings are answered below us. The first message says `{"debug": …}`; nothing follows from it.
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Parting::Client,
                Some(Ok(_)) => {
                    heard_at = Instant::now();
                    continue;
                }
            },
            _ = pings.tick() => {
                if heard_at.elapsed() > SILENCE_MAX {
                    return Parting::Client;
                }
                Message::Ping(Bytes::new())
            }
            event = reader.next() => match event {
                Ok(event) => text(event),
                Err(end) => return Parting::End(end),
            },
        };
        let sent = tokio::select! {
            sent = tokio::time::timeout(SEND_MAX, events.send(message)) => sent,
            end = reader.deleted() => return Parting::End(end),
        };
        if !matches!(sent, Ok(Ok(()))) {
            return Parting::Client;
        }
    }
}

/// An event is JSON that we made, so it is UTF-8.
fn text(event: Bytes) -> Message {
    Utf8Bytes::try_from(event.clone()).map_or_else(|_| Message::Binary(event), Message::Text)
}
