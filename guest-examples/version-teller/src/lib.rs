//! Tells which version of itself answers, and what its configuration gives it.
//!
//! | Path            | Answer                                                          |
//! |-----------------|-----------------------------------------------------------------|
//! | `/`             | `<GREETING> from version <tag> <id>`                            |
//! | `/env`          | the environment variables, as JSON                              |
//! | `/config`       | all of `wasi:config`, as JSON                                   |
//! | `/config/<key>` | one value of it, or 404                                         |
//! | `/metadata`     | `{"id", "tag", "timestamp"}`, or `null` without such a binding  |
//! | `/headers`      | the request's headers, as JSON                                  |

use exports::wasi::http::incoming_handler::Guest;
use serde_json::{Value, json};
use sluice::worker_p2::version_metadata;
use wasi::cli::environment::get_environment;
use wasi::config::store;
use wasi::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

wit_bindgen::generate!({
    path: "../../wit/sluice-worker-p2",
    inline: "
        package example:version-teller;
        world worker {
            include wasi:http/proxy@0.2.12;
            import wasi:cli/environment@0.2.12;
            import wasi:config/store@0.2.0-rc.1;
            import sluice:worker-p2/version-metadata@0.1.0;
        }
    ",
    generate_all,
});

struct VersionTeller;
export!(VersionTeller);

impl Guest for VersionTeller {
    fn handle(request: IncomingRequest, response_out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let path = target.split('?').next().unwrap_or_default();

        let answer = match path {
            "/" => Answer::text(200, greeting()),
            "/env" => Answer::json(pairs(get_environment())),
            "/config" => match store::get_all() {
                Ok(all) => Answer::json(pairs(all)),
                Err(error) => Answer::text(500, format!("{error:?}\n")),
            },
            "/metadata" => Answer::json(metadata()),
            "/headers" => Answer::json(headers(&request)),
            _ => match path.strip_prefix("/config/").map(store::get) {
                Some(Ok(Some(value))) => Answer::text(200, value),
                Some(Err(error)) => Answer::text(500, format!("{error:?}\n")),
                Some(Ok(None)) | None => Answer::text(404, "not found\n".into()),
            },
        };
        answer.send(response_out);
    }
}

fn greeting() -> String {
    let variables = get_environment();
    let greeting = variables.iter().find(|(name, _)| name == "GREETING");
    let greeting = greeting.map_or("Hello", |(_, value)| value);
    let (id, tag) = match version_metadata::get() {
        Some(version) => (version.id, version.tag),
        None => ("unknown".into(), String::new()),
    };
    let tag = if tag.is_empty() { "untagged" } else { &tag };
    format!("{greeting} from version {tag} {id}\n")
}

fn metadata() -> Value {
    match version_metadata::get() {
        Some(version) => json!({ "id": version.id, "tag": version.tag, "timestamp": version.timestamp }),
        None => Value::Null,
    }
}

fn headers(request: &IncomingRequest) -> Value {
    let mut headers = serde_json::Map::new();
    for (name, value) in request.headers().entries() {
        let value = String::from_utf8_lossy(&value).into_owned();
        match headers.get_mut(&name) {
            // A header that came more than once is one list, as HTTP has it.
            Some(Value::String(list)) => *list += &format!(", {value}"),
            _ => drop(headers.insert(name, value.into())),
        }
    }
    headers.into()
}

fn pairs(pairs: Vec<(String, String)>) -> Value {
    pairs.into_iter().map(|(name, value)| (name, Value::from(value))).collect()
}

struct Answer {
    status: u16,
    content_type: &'static [u8],
    body: String,
}

impl Answer {
    fn text(status: u16, body: String) -> Answer {
        Answer { status, content_type: b"text/plain; charset=utf-8", body }
    }

    fn json(value: Value) -> Answer {
        Answer { status: 200, content_type: b"application/json", body: format!("{value}\n") }
    }

    fn send(self, response_out: ResponseOutparam) {
        let headers = Fields::new();
        headers.append("content-type", self.content_type).expect("a valid header");
        let response = OutgoingResponse::new(headers);
        response.set_status_code(self.status).expect("a valid status");
        let body = response.body().expect("the body is taken once");
        ResponseOutparam::set(response_out, Ok(response));

        let stream = body.write().expect("the stream is taken once");
        // 4,096 bytes are as many as one such write may carry.
        for chunk in self.body.as_bytes().chunks(4096) {
            if stream.blocking_write_and_flush(chunk).is_err() {
                return; // The caller has gone.
            }
        }
        drop(stream);
        let _ = OutgoingBody::finish(body, None);
    }
}
