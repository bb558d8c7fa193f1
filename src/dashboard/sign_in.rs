//! Signing in, by the API's token or by a code that works once, and signing out.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Form, Query, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use http::{HeaderMap, HeaderName, StatusCode, header};
use maud::html;
use serde::Deserialize;
use tokio::sync::Semaphore;

use crate::control::wire::{ApiError, Envelope, SignInCode};
use crate::dashboard::guard::{self, Fields};
use crate::dashboard::session::{CODE_LIFE, Session};
use crate::dashboard::{Dashboard, layout, refused};

/// How long a wrong token waits for its answer, and how many may wait at once: a token can be tried four times a second, whoever
/// tries.
const DOUBT: Duration = Duration::from_secs(1);
const DOUBTED_MAX: usize = 4;
/// How long a sign-in waits behind such as were wrong.
const TURN_MAX: Duration = Duration::from_secs(10);

/// Places for tokens that are being looked at.
pub(super) struct Doubt(Arc<Semaphore>);

impl Default for Doubt {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(DOUBTED_MAX)))
    }
}

/// What the address may carry.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    next: String,
    #[serde(default)]
    code: String,
}

/// The form's fields. The token has no `Debug`.
#[derive(Deserialize)]
pub(super) struct Given {
    #[serde(default)]
    token: String,
    #[serde(default)]
    next: String,
}

/// `GET /sign-in[?code=…][&next=…]`: the form; a code signs in at once.
pub(super) async fn page(
    State(dashboard): State<Arc<Dashboard>>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Response {
    if !asked.code.is_empty() {
        if dashboard.codes.take(&asked.code) {
            return welcome(&dashboard, &asked.next);
        }
        return form(StatusCode::UNAUTHORIZED, &asked.next, "That address was used before, or is too old.");
    }
    match guard::session_of(&dashboard.sessions, &headers) {
        Some(_) => Redirect::to(local(&asked.next)).into_response(),
        None => form(StatusCode::OK, &asked.next, ""),
    }
}

/// `POST /sign-in`.
pub(super) async fn sign_in(State(dashboard): State<Arc<Dashboard>>, Form(given): Form<Given>) -> Response {
    let turn = Arc::clone(&dashboard.doubted.0).acquire_owned();
    let Ok(Ok(turn)) = tokio::time::timeout(TURN_MAX, turn).await else {
        let message = "Too many wrong tokens are being tried. Try again in a moment.";
        return form(StatusCode::TOO_MANY_REQUESTS, &given.next, message);
    };
    if dashboard.api.token.is(given.token.trim().as_bytes()) {
        return welcome(&dashboard, &given.next);
    }
    tracing::warn!("somebody tried to sign in to the dashboard with a wrong token");
    // In a task of its own: who hangs up, having guessed by the silence, gets no turn back sooner.
    let doubt = tokio::spawn(async move {
        tokio::time::sleep(DOUBT).await;
        drop(turn);
    });
    let _ = doubt.await;
    form(StatusCode::UNAUTHORIZED, &given.next, "That is not this node’s token.")
}

/// `POST /sign-in/codes`, with the token as a bearer: a way in for a browser that the caller opens.
pub(super) async fn make_code(State(dashboard): State<Arc<Dashboard>>, headers: HeaderMap) -> Response {
    let envelope = |result: Option<SignInCode>, errors: Vec<ApiError>| {
        Json(Envelope { success: errors.is_empty(), errors, messages: Vec::new(), result, result_info: None })
    };
    let fault = |status: StatusCode, code: u32, message: &str| {
        let error = ApiError { code, message: message.to_owned(), documentation_url: None, source: None };
        (status, envelope(None, vec![error])).into_response()
    };
    if !dashboard.api.token.admits(&headers) {
        return fault(
            StatusCode::UNAUTHORIZED,
            10000,
            "Authentication error: send `Authorization: Bearer <token>` with the token in `<data-dir>/token` of the node",
        );
    }
    match dashboard.codes.make() {
        Ok(code) => envelope(Some(SignInCode { code, expires_in_s: CODE_LIFE.as_secs() }), Vec::new()).into_response(),
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "cannot make a code to sign in with");
            fault(StatusCode::INTERNAL_SERVER_ERROR, 10013, "the node has no randomness; its log says more")
        }
    }
}

/// `POST /sign-out`.
pub(super) async fn sign_out(State(dashboard): State<Arc<Dashboard>>, session: Session, _fields: Fields) -> Response {
    dashboard.sessions.end(&session);
    dashboard.uploads.end(&session);
    ([(header::SET_COOKIE, guard::cookie(""))], Redirect::to("/sign-in")).into_response()
}

fn welcome(dashboard: &Dashboard, next: &str) -> Response {
    match dashboard.sessions.open() {
        Ok(secret) => ([(header::SET_COOKIE, guard::cookie(&secret))], Redirect::to(local(next))).into_response(),
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "cannot make a session");
            let message = "The node has no randomness to make a session with. Its log says more.";
            refused::page(StatusCode::INTERNAL_SERVER_ERROR, "Cannot sign in", message)
        }
    }
}

fn form(status: StatusCode, next: &str, fault: &str) -> Response {
    let body = html! {
        div.sign-in {
            h1 { "Sign in" }
            form method="post" action="/sign-in" {
                input type="hidden" name="next" value=(local(next));
                label for="token" { "Token" }
                input #token type="password" name="token" required autocomplete="current-password" autofocus
                    spellcheck="false" aria-describedby=(if fault.is_empty() { "where" } else { "fault where" })
                    aria-invalid=[(!fault.is_empty()).then_some("true")];
                @if !fault.is_empty() { p #fault .fault role="alert" { (fault) } }
                button.primary type="submit" { "Sign in" }
            }
            p #where .muted {
                "The token is in the file " code { "token" } " of the node’s data folder. "
                code { "sluice dashboard" } " opens this page already signed in."
            }
        }
    };
    let mut response = layout::bare(status, "Sign in", &body);
    // The next look at this address may be of one who has signed in.
    response.headers_mut().insert(HeaderName::from_static("vary"), header::HeaderValue::from_static("cookie"));
    response
}

/// The page to go to: one of ours, whatever the address said.
fn local(next: &str) -> &str {
    let is_local = next.starts_with('/')
        && !next.starts_with("//")
        && !next.starts_with("/sign-")
        && next.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if is_local { next } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_led_to_another_site() {
        for ours in ["/", "/workers/a?page=2#x", "/workers/a%20b"] {
            assert_eq!(local(ours), ours);
        }
        for other in
            ["", "//evil.test", "/\\evil.test", "https://evil.test", "x", "/a\r\nSet-Cookie: a=b", "/sign-in", "/ö"]
        {
            assert_eq!(local(other), "/", "{other}");
        }
    }
}
