//! Objects by address, for guests that only speak HTTP: `http://<binding>.internal/…` with the header `Sluice-Object: <name>`,
//! or `Sluice-Object-Id: <id>`. An error is a response whose headers say what a stub would.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use wasmtime_wasi_http::Error;

use crate::host::Body;
use crate::host::environment::ObjectBinding;
use crate::host::outbound::Target;
use crate::host::ports::{Callers, ObjectError};

const NAME: HeaderName = HeaderName::from_static("sluice-object");
const ID: HeaderName = HeaderName::from_static("sluice-object-id");
/// In a response: which of the properties of `DOL-10` an error has.
const ERROR: HeaderName = HeaderName::from_static("sluice-object-error");

/// The object that a request's headers name among those that are bound.
///
/// # Errors
/// In the guest's terms: they name none.
pub(in crate::host) fn target(
    callers: &dyn Callers,
    bound: &ObjectBinding,
    headers: &HeaderMap,
) -> Result<Target, Error> {
    let wrong = |message: String| Error::InternalError(Some(message));
    let namespace = callers.namespace(&bound.worker, &bound.class).map_err(wrong)?;
    let text = |name: &HeaderName| headers.get(name).and_then(|value| std::str::from_utf8(value.as_bytes()).ok());
    match (text(&NAME), text(&ID)) {
        (Some(name), _) => Ok(Target::Object { namespace, id: namespace.id_from_name(name), name: Some(name.into()) }),
        (None, Some(id)) => {
            let id = namespace.parse_id(id).map_err(|error| wrong(error.to_string()))?;
            Ok(Target::Object { namespace, id, name: None })
        }
        (None, None) => Err(wrong(format!(
            "a request to the Durable Objects of class `{}` names one of them in the header `Sluice-Object: <name>` or `Sluice-Object-Id: <64 hexadecimal digits>`",
            bound.class
        ))),
    }
}

/// The response in place of one that the object did not give.
pub(in crate::host) fn failed(error: &ObjectError) -> http::Response<Body> {
    let properties = [
        (error.remote, "remote"),
        (error.retryable, "retryable"),
        (error.overloaded, "overloaded"),
        (error.reset, "reset"),
    ];
    let properties: Vec<&str> = properties.into_iter().filter(|(has, _)| *has).map(|(_, word)| word).collect();
    let status = if error.remote { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = Full::new(Bytes::from(format!("{}\n", error.message))).map_err(|never| match never {});
    let mut response = http::Response::new(body.boxed_unsync());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(ERROR, HeaderValue::try_from(properties.join(", ")).unwrap_or(HeaderValue::from_static("")));
    response
}
