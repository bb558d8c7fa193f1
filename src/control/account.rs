//! Who one is and what there is beside workers: the calls wrangler makes around its work (`WRANGLER_API` 3.9, 3.12, 3.17).
//!
//! The first four stand outside the guard and answer a wrong token in their own way: wrangler asks them *after* a refusal, to
//! explain it, and fails badly if `accounts` does not answer. They tell no more than that there is one account, `local`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, header};
use serde_json::{Value, json};

use crate::control::Api;
use crate::control::door::unauthenticated;
use crate::control::fault::{Code, Fault, Outcome};
use crate::control::request::{Peer, Query};
use crate::control::shape::Answer;
use crate::control::wire::ACCOUNT;
use crate::observe::exposition;

/// `GET /user/tokens/verify`: 1000 for a wrong token, since 10000 crashes `whoami`.
pub(super) async fn verify(State(api): State<Arc<Api>>, headers: HeaderMap) -> Outcome<Answer<Value>> {
    if !api.token.admits(&headers) {
        return Err(Fault::new(Code::TokenInvalid, "Invalid API Token"));
    }
    Ok(Answer::of(json!({ "id": ACCOUNT, "status": "active" })))
}

/// `GET /user`: 9109 for a wrong token, which clients take for "no e-mail".
pub(super) async fn user(State(api): State<Arc<Api>>, headers: HeaderMap) -> Outcome<Answer<Value>> {
    if !api.token.admits(&headers) {
        return Err(Fault::new(Code::UserUnreadable, "Unauthorized to access requested resource"));
    }
    Ok(Answer::of(json!({ "id": ACCOUNT, "email": "dev@localhost" })))
}

/// `GET /accounts`: the one there is, to anyone.
pub(super) async fn accounts() -> Answer<Value> {
    Answer::of(json!([{ "id": ACCOUNT, "name": ACCOUNT }]))
}

/// `GET /memberships`.
pub(super) async fn memberships(State(api): State<Arc<Api>>, headers: HeaderMap) -> Outcome<Answer<Value>> {
    if !api.token.admits(&headers) {
        return Err(unauthenticated());
    }
    let account = json!({ "id": ACCOUNT, "name": ACCOUNT });
    Ok(Answer::of(json!([{ "id": ACCOUNT, "status": "accepted", "account": account, "roles": ["Administrator"] }])))
}

/// `GET /metrics`, in Prometheus' text form. It names workers and versions, so it takes the token; a scraper on this machine
/// needs none, since whoever can connect from here can read as much from the process list.
pub(super) async fn metrics(State(api): State<Arc<Api>>, peer: Peer, headers: HeaderMap) -> Outcome<Response> {
    let is_near = peer.0.is_some_and(|peer| peer.ip().to_canonical().is_loopback());
    if !is_near && !api.token.admits(&headers) {
        return Err(unauthenticated());
    }
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    Ok(([(header::CONTENT_TYPE, kind)], (api.metrics)()).into_response())
}

/// `GET /grafana.json`: a dashboard that shows the metrics. It says nothing about this node.
pub(super) async fn grafana() -> ([(header::HeaderName, &'static str); 1], &'static str) {
    ([(header::CONTENT_TYPE, "application/json")], exposition::GRAFANA)
}

/// `GET /accounts/local`.
pub(super) async fn account() -> Answer<Value> {
    Answer::of(json!({ "id": ACCOUNT, "name": ACCOUNT }))
}

/// Lists of what there is none of.
pub(super) async fn none() -> Answer<Value> {
    Answer::of(json!([]))
}

/// `GET /zones?name=HOST`: hosts need no registration here, so every name is a zone, and all routes are in it.
pub(super) async fn zones(query: Query) -> Answer<Value> {
    let zone = query.get("name").map(|name| json!({ "id": ACCOUNT, "name": name, "status": "active" }));
    Answer::of(zone.into_iter().collect())
}

/// What belongs to Cloudflare's API and not to ours.
pub(super) async fn not_offered(uri: http::Uri) -> Fault {
    let what = [
        ("asset", "static assets are not offered; serve the files from the component"),
        ("queues", "there are no queues; call another worker by a service binding"),
        ("r2/", "there is no object store; call one by HTTP from the component"),
        ("d1/", "there is no database; call one by HTTP from the component"),
        ("workflows", "there are no workflows"),
        ("previews", "previews with their own settings are not offered; every version has a URL of its own"),
        (
            "logpush",
            "Logpush is not offered; `sluice serve --request-log FILE` writes the fields of `workers_trace_events`, ScriptVersion included, as JSON lines",
        ),
    ];
    let hint =
        what.iter().find(|(part, _)| uri.path().contains(part)).map_or("this is not offered here", |(_, hint)| hint);
    Fault::new(Code::NotOffered, format!("{hint} ({})", uri.path()))
}
