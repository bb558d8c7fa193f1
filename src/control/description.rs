//! `GET /client/v4/openapi.json`: what the API offers, for programs that read such a description. Kept by hand, since the shapes
//! are Cloudflare's; the tests hold it to the route table. It is no secret, so it takes no token.

use axum::response::{IntoResponse as _, Response};
use http::{HeaderValue, header};

const OPENAPI: &str = include_str!("openapi.json");

/// The description.
pub(super) async fn openapi() -> Response {
    let kind = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, kind)], OPENAPI).into_response()
}
