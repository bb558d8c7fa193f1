//! Notes that outlive the worker's instances and versions, in the KV namespace bound as `NOTES`.
//!
//! | Request                   | Answer                                                            |
//! |---------------------------|-------------------------------------------------------------------|
//! | `GET /notes`              | the keys, one a line; the header `next` goes on, as `?cursor=`    |
//! | `GET /notes/<key>`        | the note, or 404                                                  |
//! | `PUT /notes/<key>`        | keeps the body                                                    |
//! | `DELETE /notes/<key>`     | forgets it                                                        |
//! | `POST /visits`            | one more, and how many they are                                   |
//! | `POST /import`            | keeps a note for each line `key=value`                            |
//! | `GET /many/<key>,<key>`   | a line `key=value` for each of them that is there                 |
//! | `DELETE /many/<key>,…`    | forgets them                                                      |

use exports::wasi::http::incoming_handler::Guest;
use wasi::http::types::{Fields, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam};
use wasi::io::streams::StreamError;
use wasi::keyvalue::store::{self, Bucket, Error};
use wasi::keyvalue::{atomics, batch};

wit_bindgen::generate!({
    path: "../../wit/sluice-worker-p2",
    inline: "
        package example:kv-notes;
        world worker {
            include wasi:http/proxy@0.2.12;
            import wasi:keyvalue/store@0.2.0-draft;
            import wasi:keyvalue/atomics@0.2.0-draft;
            import wasi:keyvalue/batch@0.2.0-draft;
        }
    ",
    generate_all,
});

struct KvNotes;
export!(KvNotes);

impl Guest for KvNotes {
    fn handle(request: IncomingRequest, response_out: ResponseOutparam) {
        let answer = answer(request).unwrap_or_else(|error| match error {
            Error::NoSuchStore => Answer::text(503, "no KV namespace is bound as `NOTES`\n"),
            Error::AccessDenied => Answer::text(503, "the KV namespace is closed to this worker\n"),
            Error::Other(why) => Answer::text(400, format!("{why}\n")),
        });
        answer.send(response_out);
    }
}

fn answer(request: IncomingRequest) -> Result<Answer, Error> {
    let target = request.path_with_query().unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    // A store is named as the configuration names the binding.
    let notes = store::open("NOTES")?;
    Ok(match (request.method(), path.split_at_checked(7)) {
        (Method::Get, None) if path == "/notes" => list(&notes, query)?,
        (Method::Get, Some(("/notes/", key))) => match notes.get(key)? {
            Some(note) => Answer { status: 200, next: None, body: note },
            None => Answer::text(404, "there is no such note\n"),
        },
        (Method::Put, Some(("/notes/", key))) => {
            notes.set(key, &body(request))?;
            Answer::text(204, "")
        }
        (Method::Delete, Some(("/notes/", key))) => {
            notes.delete(key)?;
            Answer::text(204, "")
        }
        (Method::Post, _) if path == "/visits" => {
            Answer::text(200, format!("{}\n", atomics::increment(&notes, "visits", 1)?))
        }
        (Method::Post, _) if path == "/import" => {
            let text = String::from_utf8_lossy(&body(request)).into_owned();
            let pairs = text.lines().filter_map(|line| line.split_once('='));
            let pairs: Vec<_> = pairs.map(|(key, note)| (key.to_owned(), note.as_bytes().to_vec())).collect();
            batch::set_many(&notes, &pairs)?;
            Answer::text(200, format!("{}\n", pairs.len()))
        }
        (method, _) if path.starts_with("/many/") => {
            let keys: Vec<String> = path["/many/".len()..].split(',').map(str::to_owned).collect();
            if let Method::Delete = method {
                batch::delete_many(&notes, &keys)?;
                return Ok(Answer::text(204, ""));
            }
            let mut lines = Vec::new();
            for (key, note) in batch::get_many(&notes, &keys)?.into_iter().flatten() {
                lines.extend_from_slice(key.as_bytes());
                lines.push(b'=');
                lines.extend_from_slice(&note);
                lines.push(b'\n');
            }
            Answer { status: 200, next: None, body: lines }
        }
        _ => Answer::text(404, "see the first lines of this worker's source\n"),
    })
}

fn list(notes: &Bucket, query: &str) -> Result<Answer, Error> {
    let cursor = query.strip_prefix("cursor=").and_then(|number| number.parse().ok());
    let page = notes.list_keys(cursor)?;
    let body = page.keys.iter().map(|key| format!("{key}\n")).collect::<String>().into_bytes();
    Ok(Answer { status: 200, next: page.cursor, body })
}

fn body(request: IncomingRequest) -> Vec<u8> {
    let mut bytes = Vec::new();
    let body = request.consume().expect("the body is taken once");
    let stream = body.stream().expect("the stream is taken once");
    loop {
        match stream.blocking_read(64 * 1024) {
            Ok(chunk) => bytes.extend_from_slice(&chunk),
            Err(StreamError::Closed) => return bytes,
            Err(StreamError::LastOperationFailed(_)) => return bytes,
        }
    }
}

struct Answer {
    status: u16,
    /// Where the next page of the list begins.
    next: Option<u64>,
    body: Vec<u8>,
}

impl Answer {
    fn text(status: u16, body: impl Into<String>) -> Answer {
        Answer { status, next: None, body: body.into().into_bytes() }
    }

    fn send(self, response_out: ResponseOutparam) {
        let headers = Fields::new();
        headers.append("content-type", b"text/plain; charset=utf-8").expect("a valid header");
        if let Some(next) = self.next {
            headers.append("next", next.to_string().as_bytes()).expect("a valid header");
        }
        let response = OutgoingResponse::new(headers);
        response.set_status_code(self.status).expect("a valid status");
        let body = response.body().expect("the body is taken once");
        ResponseOutparam::set(response_out, Ok(response));

        let stream = body.write().expect("the stream is taken once");
        // 4,096 bytes are as many as one such write may carry.
        for chunk in self.body.chunks(4096) {
            if stream.blocking_write_and_flush(chunk).is_err() {
                return; // The caller has gone.
            }
        }
        drop(stream);
        let _ = OutgoingBody::finish(body, None);
    }
}
