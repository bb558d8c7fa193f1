//! A worker's requests as they end, live: a tail of the control API, which this session reads as server-sent events. The script
//! makes rows of them out of text, so nothing that a guest printed or a client asked for is ever markup.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::{Query, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::Method;
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::catalog::WorkerView;
use crate::control::wire;
use crate::dashboard::call::Refused;
use crate::dashboard::layout::{Page, Place, WorkerTab};
use crate::dashboard::session::Session;
use crate::dashboard::worker::{Named, command};
use crate::dashboard::{Dashboard, figures};
use crate::domain::id::{VersionId, WorkerName};
use crate::observe::tail::{Reader, TailId, Tails};

/// Versions that can be chosen.
const CHOICE_MAX: usize = 100;

/// Which requests are watched.
#[derive(Debug, Default, Deserialize)]
pub(in crate::dashboard) struct Watched {
    #[serde(default)]
    version: String,
    #[serde(default)]
    status: String,
    #[serde(default)]
    path: String,
}

/// Where the tail of a worker is, with this version chosen.
#[must_use]
pub fn path(worker: &WorkerView, version: VersionId) -> String {
    format!("{}?version={version}", WorkerTab::Tail.path(worker))
}

/// `GET /workers/:name/tail[?version=…][&status=…][&path=…]`.
pub(in crate::dashboard) async fn page(
    State(dashboard): State<Arc<Dashboard>>,
    session: Session,
    Named(worker): Named,
    Query(watched): Query<Watched>,
) -> Response {
    let body = html! {
        section aria-labelledby="watched-title" {
            h2 #watched-title { "Requests as they end" }
            (form(&worker, &watched))
            p.muted { "The same on the command line" @if !watched.path.is_empty() { " (which does not look at paths)" } ":" }
            (command::shown(&as_command(&worker, &watched)))
            noscript { p { "Following requests needs JavaScript here; the command line does not." } }
        }
        section #tail aria-labelledby="tail-title" data-tail=(stream_path(&worker, &watched)) {
            h2 #tail-title { "Events" }
            p.buttons {
                span #tail-state .live role="status" { "not connected" }
                button #tail-pause type="button" aria-pressed="false" { "Pause" }
                button #tail-clear type="button" { "Clear" }
            }
            ol #tail-rows .tail aria-live="off" {}
            p #tail-none .muted { "Nothing has come yet." }
        }
    };
    let place = Place::Worker(&worker, WorkerTab::Tail);
    Page { title: format!("Tail of {}", worker.name), place, live: None, body }.respond(&dashboard, &session)
}

/// `GET /live/workers/:name/tail`, with the same query.
pub(in crate::dashboard) async fn live(
    State(dashboard): State<Arc<Dashboard>>,
    session: Session,
    Named(worker): Named,
    Query(watched): Query<Watched>,
) -> Response {
    let opened = open(&dashboard, &worker, &watched).await;
    let feed = match opened {
        Ok(reader) => Feed {
            tail: Some(reader),
            path: watched.path,
            refused: None,
            stop: dashboard.stop.clone(),
            session,
            is_over: false,
        },
        // A stream whose status is an error would be asked for again and again, and could not say why.
        Err(refused) => Feed {
            tail: None,
            path: String::new(),
            refused: Some(refused.to_string()),
            stop: dashboard.stop.clone(),
            session,
            is_over: false,
        },
    };
    let events = futures_util::stream::unfold(feed, |mut feed| async move {
        let event = feed.next().await?;
        Some((Ok::<_, Infallible>(event), feed))
    });
    // So that a browser that has gone is noticed when nothing happens.
    Sse::new(events).keep_alive(KeepAlive::default()).into_response()
}

/// A tail that is deleted when nobody reads it any more.
struct Open {
    reader: Reader,
    tails: Arc<Tails>,
    worker: WorkerName,
    id: TailId,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.tails.delete(&self.worker, &self.id);
    }
}

async fn open(dashboard: &Dashboard, worker: &WorkerView, watched: &Watched) -> Result<Open, Refused> {
    let path = format!("/scripts/{}/tails", worker.name);
    let request = wire::TailRequest { filters: Some(filters(watched)) };
    let tail: Option<wire::Tail> = dashboard.call(Method::POST, &path, Some(&request)).await?;
    let id = TailId::named(&tail.map(|tail| tail.id).unwrap_or_default());
    let tails = &dashboard.api.tails;
    let reader = tails.open(&id).map_err(|error| Refused::by_us(&error.to_string()))?;
    Ok(Open { reader, tails: Arc::clone(tails), worker: worker.name.clone(), id })
}

fn filters(watched: &Watched) -> Vec<wire::TailFilter> {
    let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let outcome = outcomes(&watched.status).map(|words| words.iter().map(ToString::to_string).collect());
    let filters = [
        wire::TailFilter { script_version: some(&watched.version), ..wire::TailFilter::default() },
        wire::TailFilter { outcome, ..wire::TailFilter::default() },
    ];
    filters.into_iter().filter(|filter| *filter != wire::TailFilter::default()).collect()
}

/// The outcomes that a status of the command line stands for.
fn outcomes(status: &str) -> Option<&'static [&'static str]> {
    match status {
        "ok" => Some(&["ok"]),
        "canceled" => Some(&["canceled", "responseStreamDisconnected"]),
        "error" => Some(&["exception", "exceededCpu", "exceededMemory", "scriptNotFound", "unknown"]),
        _ => None,
    }
}

struct Feed {
    tail: Option<Open>,
    /// What the path of a request has to contain.
    path: String,
    /// Why there is no tail.
    refused: Option<String>,
    stop: CancellationToken,
    session: Session,
    is_over: bool,
}

impl Feed {
    async fn next(&mut self) -> Option<Event> {
        if self.is_over {
            return None;
        }
        loop {
            let Some(open) = &self.tail else {
                let why = self.refused.take().unwrap_or_default();
                return Some(self.last("refused", &why));
            };
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return None,
                () = self.session.over().cancelled() => return Some(self.last("over", "-")),
                () = tokio::time::sleep_until(self.session.ends_at().into()) => return Some(self.last("over", "-")),
                () = tokio::time::sleep_until(open.reader.ends_at().into()) => return Some(self.last("refused", "This tail has run for hours and ended. Load the page anew to go on.")),
                event = open.reader.next() => match event {
                    Ok(event) if admits(&self.path, &event) => {
                        return Some(Event::default().event("tail").data(String::from_utf8_lossy(&event)));
                    }
                    Ok(_) => {}
                    Err(_) => return Some(self.last("refused", "The tail was ended by the node.")),
                },
            }
        }
    }

    fn last(&mut self, name: &str, data: &str) -> Event {
        self.is_over = true;
        // An event without data is none.
        Event::default().event(name).data(if data.is_empty() { "-" } else { data })
    }
}

/// Whether the request of an event has this text in its path or query. What is no request is always told.
fn admits(text: &str, event: &Bytes) -> bool {
    if text.is_empty() {
        return true;
    }
    let event: Value = serde_json::from_slice(event).unwrap_or_default();
    let Some(url) = event["event"]["request"]["url"].as_str() else { return true };
    let path = url.splitn(4, '/').nth(3).unwrap_or_default();
    format!("/{path}").contains(text)
}

fn query(watched: &Watched) -> String {
    let encode =
        |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
    format!("?version={}&status={}&path={}", encode(&watched.version), encode(&watched.status), encode(&watched.path))
}

fn stream_path(worker: &WorkerView, watched: &Watched) -> String {
    format!("/live/workers/{}/tail{}", worker.name, query(watched))
}

fn as_command(worker: &WorkerView, watched: &Watched) -> String {
    let mut words = vec!["sluice".to_owned(), "tail".to_owned(), worker.name.to_string()];
    if let Ok(version) = watched.version.parse() {
        words.extend(["--version-id".to_owned(), command::name(worker, version)]);
    }
    if outcomes(&watched.status).is_some() {
        words.extend(["--status".to_owned(), watched.status.clone()]);
    }
    words.join(" ")
}

fn form(worker: &WorkerView, watched: &Watched) -> Markup {
    let statuses = [("", "any"), ("ok", "ok"), ("error", "failed"), ("canceled", "canceled by the client")];
    html! {
        form.filters method="get" action=(WorkerTab::Tail.path(worker)) {
            div {
                label for="version" { "Version" }
                select #version name="version" {
                    option value="" { "any" }
                    @for version in worker.newest_first().take(CHOICE_MAX) {
                        @let id = version.id.to_string();
                        option value=(id) selected[id == watched.version] {
                            "#" (version.number) @if !version.tag().is_empty() { " " (figures::cut(version.tag(), 40)) }
                        }
                    }
                }
            }
            div {
                label for="status" { "Outcome" }
                select #status name="status" {
                    @for (value, text) in statuses { option value=(value) selected[value == watched.status] { (text) } }
                }
            }
            div {
                label for="path" { "Path contains" }
                input #path name="path" value=(watched.path) maxlength="200" autocomplete="off" spellcheck="false";
            }
            button type="submit" { "Watch" }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_request_is_told_if_its_path_has_the_text() {
        let event = |url: &str| Bytes::from(json!({ "event": { "request": { "url": url } } }).to_string());
        for (text, url, told) in [
            ("", "http://a.test/x", true),
            ("/x", "http://a.test/x?y=1", true),
            ("y=1", "http://a.test/x?y=1", true),
            ("a.test", "http://a.test/x", false),
            ("/z", "http://a.test/x", false),
        ] {
            assert_eq!(admits(text, &event(url)), told, "{text} {url}");
        }
        // An alarm, and what a tail says of itself.
        assert!(admits("/z", &Bytes::from(json!({ "event": { "type": "overload" } }).to_string())));
    }

    #[test]
    fn what_is_asked_for_becomes_filters_and_an_address() {
        let watched = |version: &str, status: &str, path: &str| Watched {
            version: version.to_owned(),
            status: status.to_owned(),
            path: path.to_owned(),
        };
        assert!(filters(&watched("", "nonsense", "/x")).is_empty());
        let both = filters(&watched("dc8dcd28-271b-4367-9840-6c244f84cb40", "canceled", ""));
        assert_eq!(both.len(), 2);
        assert_eq!(both[1].outcome.as_ref().unwrap().len(), 2);
        assert_eq!(query(&watched("", "ok", "a&b=\"<c>")), "?version=&status=ok&path=a%26b%3D%22%3Cc%3E");
    }
}
