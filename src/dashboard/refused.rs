//! What a browser is shown where there is no page: the API's refusals as pages, and the headers that every page carries.

use std::sync::Arc;

use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use maud::html;
use serde_json::Value;

use crate::control::wire::Envelope;
use crate::dashboard::{Dashboard, layout};

/// No page is made with anything of another host, nor with a script or a style that stands in it, nor can it be framed.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      form-action 'self'; frame-ancestors 'none'; base-uri 'none'";
/// `same-origin`, since with `no-referrer` a browser hides the origin of forms, which the door wants to see.
const HEADERS: [(HeaderName, &str); 4] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::REFERRER_POLICY, "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];
/// The API's code for requests that pages of other sites make (`codes.md`).
const FOREIGN_ORIGIN: u32 = 95002;
/// More than any refusal of the API has.
const REFUSAL_BYTES_MAX: usize = 64 * 1024;

/// What has no page: the API answers it, unless it is a browser that has lost its way.
pub(super) async fn otherwise(State(dashboard): State<Arc<Dashboard>>, request: Request) -> Response {
    if is_of_the_api(request.uri().path()) || !wants_page(&request) {
        return dashboard.api_answer(request).await;
    }
    page(StatusCode::NOT_FOUND, "No such page", "Nothing is at this address. It may have been deleted, or mistyped.")
}

/// Outermost: what the door or the API refuses to a browser becomes a page, and pages get their headers.
pub(super) async fn for_browsers(request: Request, next: Next) -> Response {
    let as_page = wants_page(&request) && !is_of_the_api(request.uri().path());
    let mut response = next.run(request).await;
    if as_page && response.status().as_u16() >= 400 && !kind_is(response.headers(), "text/html") {
        response = told(response).await;
    }
    if kind_is(response.headers(), "text/html") {
        let headers = response.headers_mut();
        HEADERS.into_iter().for_each(|(name, value)| drop(headers.insert(name, HeaderValue::from_static(value))));
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    }
    response
}

/// A page that says why there is no other.
pub(super) fn page(status: StatusCode, title: &str, message: &str) -> Response {
    let body = html! {
        div.refused {
            p.status { (status.as_u16()) }
            h1 { (title) }
            p { (message) }
            p { a href="/" { "All workers" } }
        }
    };
    layout::bare(status, title, &body)
}

/// The refusal as a page.
async fn told(response: Response) -> Response {
    let (head, body) = response.into_parts();
    let bytes = to_bytes(body, REFUSAL_BYTES_MAX).await.unwrap_or_default();
    let envelope = serde_json::from_slice::<Envelope<Value>>(&bytes);
    let messages = envelope.map(|envelope| envelope.errors).unwrap_or_default();
    if messages.iter().any(|error| error.code == FOREIGN_ORIGIN) {
        let message = "The page of another site led here, and this node takes nothing from those. If it was you who followed a link, go on from here.";
        return page(head.status, "You come from another site", message);
    }
    let messages: Vec<&str> = messages.iter().map(|error| error.message.as_str()).collect();
    let message = match messages[..] {
        [] => "This address does not take such a request.".to_owned(),
        _ => messages.join(" "),
    };
    let title = match head.status {
        StatusCode::NOT_FOUND => "No such page",
        status if status.is_server_error() => "The node failed",
        _ => "Refused",
    };
    let mut response = page(head.status, title, &message);
    if let Some(allow) = head.headers.get(header::ALLOW) {
        response.headers_mut().insert(header::ALLOW, allow.clone());
    }
    response
}

/// Whether it is somebody with a browser who looks.
pub(super) fn wants_page(request: &Request) -> bool {
    let accepts = |value: &HeaderValue| value.to_str().is_ok_and(|value| value.contains("text/html"));
    let forms = ["application/x-www-form-urlencoded", "multipart/form-data"];
    let is_form = *request.method() == Method::POST && forms.iter().any(|kind| kind_is(request.headers(), kind));
    (matches!(*request.method(), Method::GET | Method::HEAD) || is_form)
        && request.headers().get_all(header::ACCEPT).iter().any(accepts)
}

/// Whether programs own this path, whatever they accept.
fn is_of_the_api(path: &str) -> bool {
    path == "/client" || path == "/metrics" || ["/client/", "/tails/"].iter().any(|prefix| path.starts_with(prefix))
}

fn kind_is(headers: &HeaderMap, kind: &str) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    value.is_some_and(|value| value.starts_with(kind))
}

/// A page where nothing went wrong.
pub(super) fn found(body: String) -> Response {
    let kind = HeaderValue::from_static("text/html; charset=utf-8");
    ([(header::CONTENT_TYPE, kind)], body).into_response()
}
