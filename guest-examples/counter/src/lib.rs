//! Counts in Durable Objects: one for each name, each with a storage of its own.
//!
//! | Request                  | Answer                                                                     |
//! |--------------------------|----------------------------------------------------------------------------|
//! | `POST /<name>/increment` | adds one: `counter a = 3 (object on v2, worker on v1) (up: 2 calls)`       |
//! | `GET /<name>`            | the same line, without adding                                              |
//!
//! The object and the worker in front of it are of this one component, but need not be of the same version of it while a
//! deployment splits the traffic. The calls are counted in memory, so they begin again when the object does.

use std::cell::Cell;

use exports::sluice::worker::durable_object::{AlarmInfo, Guest, GuestLiveObject, LiveObject};
use sluice::worker::durable_objects::Namespace;
use sluice::worker::object_storage::{self as storage, StorageError};
use sluice::worker::version_metadata;
use wasip3::exports::http::handler::Guest as Handler;
use wasip3::http::types::{ErrorCode, Fields, Method, Request, Response};
use wasip3::{spawn_local, wit_future, wit_stream};

wit_bindgen::generate!({
    path: "../../wit/sluice-worker",
    inline: "
        package example:counter;
        world worker {
            import sluice:worker/version-metadata@0.1.0;
            import sluice:worker/durable-objects@0.1.0;
            import sluice:worker/object-storage@0.1.0;
            export sluice:worker/durable-object@0.1.0;
        }
    ",
    with: {
        "wasi:clocks/types@0.3.2": wasip3::clocks::types,
        "wasi:http/types@0.3.2": wasip3::http::types,
    },
    generate_all,
});

struct Worker;
wasip3::http::service::export!(Worker);
export!(Worker);

/// The header by which the worker tells an object on which version it is.
const WORKER_VERSION: &str = "worker-version";

// --- The worker, which finds the object ---

impl Handler for Worker {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let path = request.get_path_with_query().unwrap_or_default();
        let path = path.trim_start_matches('/');
        let (name, action) = path.split_once('/').unwrap_or((path, ""));
        if name.is_empty() {
            return Ok(text(404, "see the first lines of this worker's source\n"));
        }
        let counters = match Namespace::open("COUNTER") {
            Ok(counters) => counters,
            Err(why) => return Ok(text(500, format!("{why}\n"))),
        };
        let counter = counters.get(&counters.id_from_name(name));
        let answer = counter.fetch(request_for(action, &request.get_method())).await;
        // An error has no answer: the object was reset in between, for example, and the caller may try again.
        Ok(answer.unwrap_or_else(|error| text(503, format!("counter {name}: {}\n", error.message))))
    }
}

fn request_for(action: &str, method: &Method) -> Request {
    let headers = Fields::new();
    let _ = headers.append(WORKER_VERSION, version().as_bytes());
    let (_, trailers) = wit_future::new(|| Ok(None));
    let (request, _sent) = Request::new(headers, None, trailers, None);
    let _ = request.set_method(method);
    let _ = request.set_path_with_query(Some(&format!("/{action}")));
    request
}

// --- The object, which counts ---

struct Counter {
    name: String,
    /// Since this object is in memory.
    calls: Cell<u64>,
}

impl Guest for Worker {
    type LiveObject = Counter;
}

impl GuestLiveObject for Counter {
    async fn open(_class: String, id: String, name: Option<String>) -> Result<LiveObject, String> {
        Ok(LiveObject::new(Counter { name: name.unwrap_or(id), calls: Cell::new(0) }))
    }

    async fn fetch(&self, request: Request) -> Result<Response, ErrorCode> {
        self.calls.set(self.calls.get() + 1);
        let path = request.get_path_with_query().unwrap_or_default();
        let count = match (request.get_method(), path.as_str()) {
            (Method::Get, "/") => count().await,
            (Method::Post, "/increment") => increment().await,
            _ => return Ok(text(404, "see the first lines of this worker's source\n")),
        };
        let count = count.map_err(|error| ErrorCode::InternalError(Some(format!("storage: {error:?}"))))?;

        let worker = request.get_headers().get(WORKER_VERSION).pop().unwrap_or_default();
        let worker = String::from_utf8_lossy(&worker);
        let (name, object, calls) = (&self.name, version(), self.calls.get());
        let line = format!("counter {name} = {count} (object on {object}, worker on {worker}) (up: {calls} calls)\n");
        Ok(text(200, line))
    }

    async fn alarm(&self, _info: AlarmInfo) -> Result<(), String> {
        Ok(()) // None is ever set.
    }
}

async fn count() -> Result<u64, StorageError> {
    let stored = storage::get("count".into()).await?;
    Ok(stored.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes))
}

/// Nothing else happens to the object between its reading and its writing, and the answer leaves only when what is written is
/// durable.
async fn increment() -> Result<u64, StorageError> {
    let count = count().await? + 1;
    storage::put(&[("count".into(), count.to_le_bytes().to_vec())])?;
    Ok(count)
}

// --- What both need ---

/// The tag of the version that runs this, or the beginning of its id.
fn version() -> String {
    match version_metadata::get() {
        Some(version) if version.tag.is_empty() => version.id[..8].into(),
        Some(version) => version.tag,
        None => "an unknown version".into(),
    }
}

fn text(status: u16, text: impl Into<Vec<u8>>) -> Response {
    let headers = Fields::new();
    let _ = headers.append("content-type", b"text/plain; charset=utf-8");
    let (mut writer, body) = wit_stream::new();
    let (_, trailers) = wit_future::new(|| Ok(None));
    let (response, _sent) = Response::new(headers, Some(body), trailers);
    let _ = response.set_status_code(status);
    let text = text.into();
    spawn_local(async move {
        writer.write_all(text).await;
    });
    response
}
