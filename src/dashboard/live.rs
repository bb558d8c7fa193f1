//! Numbers that move: a stream of server-sent events, each with those parts of a page that have changed since the one before.
//!
//! A part is an element of the page, and is made by the function that made it for the page. So a stream holds no rules of its own, and
//! a page without a stream is whole.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use maud::{Markup, Render};
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::dashboard::Dashboard;
use crate::dashboard::session::Session;

/// How often a page's numbers are made anew.
const EVERY: Duration = Duration::from_secs(1);
/// How long a browser waits before it comes back to a stream that broke.
const COME_BACK_AFTER: Duration = Duration::from_secs(2);

/// An element of a page that is sent anew when it has changed.
pub struct Part {
    id: &'static str,
    element: Markup,
}

impl Part {
    /// `element` is one element, whose `id` is `id`.
    #[must_use]
    pub fn new(id: &'static str, element: Markup) -> Self {
        debug_assert!(element.0.contains(&format!("id=\"{id}\"")), "{id} is not the id of its element");
        Self { id, element }
    }
}

impl Render for Part {
    fn render_to(&self, buffer: &mut String) {
        buffer.push_str(&self.element.0);
    }
}

/// A stream of what `parts` makes, until the session or the node ends, or the browser goes. None from `parts` says that the page is
/// gone.
pub fn stream<F>(dashboard: &Dashboard, session: &Session, parts: impl Fn() -> F + Send + 'static) -> Response
where
    F: Future<Output = Option<Vec<Part>>> + Send + 'static,
{
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let feed = Feed {
        ticks,
        parts: Box::new(move || parts().boxed()),
        shown: HashMap::new(),
        stop: dashboard.stop.clone(),
        session: session.clone(),
        is_over: false,
    };
    let events = futures_util::stream::unfold(feed, |mut feed| async move {
        let event = feed.next().await?;
        Some((Ok::<_, Infallible>(event), feed))
    });
    Sse::new(events).into_response()
}

struct Feed {
    ticks: Interval,
    parts: Box<dyn Fn() -> BoxFuture<'static, Option<Vec<Part>>> + Send>,
    /// What the browser has.
    shown: HashMap<&'static str, Arc<str>>,
    stop: CancellationToken,
    session: Session,
    is_over: bool,
}

impl Feed {
    async fn next(&mut self) -> Option<Event> {
        if self.is_over {
            return None;
        }
        tokio::select! {
            biased;
            // The browser comes back, to the node that is started next.
            () = self.stop.cancelled() => None,
            () = self.session.over().cancelled() => Some(self.last("over")),
            () = tokio::time::sleep_until(self.session.ends_at().into()) => Some(self.last("over")),
            _ = self.ticks.tick() => {
                let parts = (self.parts)().await;
                Some(self.changed(parts))
            }
        }
    }

    fn changed(&mut self, parts: Option<Vec<Part>>) -> Event {
        let Some(parts) = parts else { return self.last("gone") };
        let first = self.shown.is_empty();
        let mut news = serde_json::Map::new();
        for Part { id, element } in parts {
            if self.shown.get(id).is_none_or(|shown| **shown != *element.0) {
                self.shown.insert(id, element.0.as_str().into());
                news.insert(id.to_owned(), element.0.into());
            }
        }
        if news.is_empty() {
            // So that a connection that broke without a word is noticed.
            return Event::default().comment("");
        }
        let event = Event::default().event("parts").data(serde_json::Value::Object(news).to_string());
        if first { event.retry(COME_BACK_AFTER) } else { event }
    }

    fn last(&mut self, name: &str) -> Event {
        self.is_over = true;
        Event::default().event(name).data("-")
    }
}
