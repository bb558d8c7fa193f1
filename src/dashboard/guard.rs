//! The guard: no page and no stream without a session, and no form without what that session put into it.

use std::sync::Arc;

use axum::extract::{Form, FromRequest, FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Redirect, Response};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, header};

use crate::dashboard::session::{Session, Sessions};
use crate::dashboard::{Dashboard, refused};
use crate::domain::limits::DASHBOARD_SESSION_LIFE;

/// What the session's cookie is called. The data listener keeps it from guests by this name.
pub const COOKIE: &str = crate::domain::limits::DASHBOARD_COOKIE;
/// The field of a form that carries its session's secret.
pub const FORM_SECRET: &str = "csrf";

/// The fields of a form that came from a page of this session.
#[derive(Debug)]
pub struct Fields(Vec<(String, String)>);

/// Before every page: the session, or the way to one.
pub(super) async fn guard(State(dashboard): State<Arc<Dashboard>>, mut request: Request, next: Next) -> Response {
    let Some(session) = session_of(&dashboard.sessions, request.headers()) else {
        // Programs are answered as if there were no pages.
        let is_for_programs = !refused::wants_page(&request) && !request.uri().path().starts_with("/live/");
        return if is_for_programs { dashboard.api_answer(request).await } else { without_session(&request) };
    };
    request.extensions_mut().insert(session);
    next.run(request).await
}

/// The session that a request's cookie names.
pub(super) fn session_of(sessions: &Sessions, headers: &HeaderMap) -> Option<Session> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut cookies = lines.flat_map(|line| line.split(';')).filter_map(|cookie| cookie.trim().split_once('='));
    // Another page of this host may have set one of the same name: any of them may be ours.
    cookies.find_map(|(name, value)| (name == COOKIE).then(|| sessions.get(value)).flatten())
}

/// Who looks at a page comes back to it after signing in. A stream or a form is told plainly: what it would come back to is gone.
fn without_session(request: &Request) -> Response {
    let path = request.uri().path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    if request.uri().path().starts_with("/live/") {
        return (StatusCode::UNAUTHORIZED, "sign in first").into_response();
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let message = "You are not signed in, or not any more. Sign in and do it again.";
        return refused::page(StatusCode::UNAUTHORIZED, "Not signed in", message);
    }
    let next = percent_encoding::utf8_percent_encode(path, percent_encoding::NON_ALPHANUMERIC);
    Redirect::to(&if path == "/" { "/sign-in".to_owned() } else { format!("/sign-in?next={next}") }).into_response()
}

/// The header that makes a browser keep a session. `Secure` is not possible: on a machine of one's own there is no TLS.
pub(super) fn cookie(secret: &str) -> String {
    let seconds = if secret.is_empty() { 0 } else { DASHBOARD_SESSION_LIFE.as_secs() };
    format!("{COOKIE}={secret}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict")
}

impl<S: Sync> FromRequestParts<S> for Session {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Response> {
        // Only a page that was put outside of the guard by mistake has none.
        parts.extensions.get::<Self>().cloned().ok_or_else(|| StatusCode::UNAUTHORIZED.into_response())
    }
}

impl Fields {
    /// The value of the field of that name; empty if there is none.
    #[must_use]
    pub fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// All values of the fields of that name, in the order of the form.
    pub fn all<'a, 'n: 'a>(&'a self, name: &'n str) -> impl Iterator<Item = &'a str> + use<'a, 'n> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

impl<S: Send + Sync> FromRequest<S> for Fields {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let session = request.extensions().get::<Session>().cloned();
        let Form(fields) = Form::<Vec<(String, String)>>::from_request(request, state).await.map_err(|error| {
            let message = "The form cannot be read. Go back, load the page anew and send it again.";
            refused::page(error.status(), "Unreadable form", message)
        })?;
        let fields = Self(fields);
        if !session.is_some_and(|session| session.made(fields.get(FORM_SECRET))) {
            let message = "The form did not come from a page of your present session. Go back, load the page anew and send it again. Nothing was changed.";
            return Err(refused::page(StatusCode::FORBIDDEN, "Form refused", message));
        }
        Ok(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    #[test]
    fn the_cookie_is_found_among_others() {
        let sessions = Sessions::new(Arc::new(SystemClock));
        let secret = sessions.open().unwrap();
        let found = |lines: &[String]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(header::COOKIE, line.parse().unwrap());
            }
            session_of(&sessions, &headers).is_some()
        };
        assert!(found(&[format!("{COOKIE}={secret}")]));
        assert!(found(&[format!("a=b;{COOKIE}=planted; {COOKIE}={secret}")]));
        assert!(found(&["a=b".to_owned(), format!("{COOKIE}={secret}; c=d")]));
        for wrong in [String::new(), format!("x{COOKIE}={secret}"), format!("{COOKIE}={secret}0"), secret.clone()] {
            assert!(!found(std::slice::from_ref(&wrong)), "{wrong}");
        }
    }

    #[test]
    fn a_browser_keeps_the_cookie_to_itself() {
        let cookie = cookie("s");
        for part in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=43200"] {
            assert!(cookie.contains(part), "{cookie}");
        }
    }
}
