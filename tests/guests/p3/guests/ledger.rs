//! A Durable Object that does as it is told, and the worker in front of it: the probe of all that objects promise.
//!
//! The worker hands a request on to an object of the namespace bound as `LEDGER`, or as the header `x-binding` names it. An
//! object's error is the answer 599, with the error as JSON.
//!
//! | Path                | Who gets `/OP…`                                                                        |
//! |---------------------|----------------------------------------------------------------------------------------|
//! | `/NAME/OP…`         | the object with that name                                                              |
//! | `/id/HEX/OP…`       | the object with that id; 400 and the reason if there is no such id                     |
//! | `/new/OP…`          | an object with a new id, which is the answer's header `object-id`                      |
//! | `/-/version`        | the worker itself, as below                                                            |
//! | `/-/storage`        | the worker itself: what storage says to one who is no object                           |
//! | `/-/id?name=`       | the worker itself: `ID NAME`; or `?id=HEX`, or neither for a new id                    |
//! | `/-/order?to=&n=`   | the worker itself, as below                                                            |
//!
//! In a query, `%26` is a `&`. Without `k`, the key is `n`, or `background`. What storage refuses is the answer 500,
//! `storage: ERROR`.
//!
//! | OP of an object                        | What it does                                                        |
//! |----------------------------------------|---------------------------------------------------------------------|
//! | `get?k=`                               | the value, or 404                                                   |
//! | `put?k=&v=`                            | writes; `size=N` writes N bytes, and without either it is the body  |
//! | `append?k=&v=`                         | adds a line to the value                                            |
//! | `delete?k=A,B`                         | how many of them existed                                            |
//! | `list?prefix=&start=&start_after=&end=&reverse=true&limit=` | lines `KEY=VALUE`                              |
//! | `get-many?k=A,B`                       | lines `KEY=VALUE`                                                   |
//! | `put-many?n=&size=`                    | N pairs `many-00000=x…` in one call                                 |
//! | `delete-all`, `sync`                   | these                                                               |
//! | `add?k=&n=&mode=`                      | adds to a number, and answers with the sum; see [`Ledger::add`]     |
//! | `two?v=&pause=MS&trap=1`               | writes `a` and `b`, with no await between them unless there is a pause; then traps |
//! | `put-trap?k=&v=`, `put-error?k=&v=`    | writes, then traps; writes, then returns an error                   |
//! | `trap`, `spin`, `hog?mb=`              | panics; computes for ever; takes so much memory, or all             |
//! | `sleep?ms=`                            | waits                                                               |
//! | `count`                                | how many requests this instance got: 1 after a reset                |
//! | `version`                              | `TAG ID`, or `none`                                                 |
//! | `whoami`                               | `CLASS ID NAME`, with `-` for no name                               |
//! | `stream?n=&ms=&k=`                     | N lines with a pause between them, each written as `k` before it is sent |
//! | `echo`, `pass`                         | the body back: carried over by chunks, or handed on untouched       |
//! | `upload`                               | `BYTES bytes in CHUNKS chunks`                                      |
//! | `call?to=NAME&path=OP…&binding=`       | calls another object, and hands its answer on: for A → B → A        |
//! | `order?to=NAME&n=`                     | N calls `append?k=order&v=I` on one stub, made without awaiting one |
//! | `background?ms=&k=`                    | answers at once, and writes `done` later                            |
//! | `alarm-set?in_ms=`, `alarm-at?ms=`     | sets the alarm, and answers with its time                           |
//! | `alarm-get`, `alarm-delete`            | its time or `none`; no alarm                                        |
//! | `alarm-log`                            | a line `RETRY_COUNT IS_RETRY NOW ALARM` for each run                |
//! | `alarm-mode?…`                         | how the alarm handler behaves; see [`Ledger::ring`]                 |
//!
//! An object cannot be told how to behave before it opens, so its name tells: see [`open_as`]. Every class is this one; `whoami`
//! tells them apart.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use exports::sluice::worker::durable_object::{AlarmInfo, Guest, GuestLiveObject, LiveObject};
use futures::future::join_all;
use serde_json::json;
use sluice::worker::durable_objects::{Namespace, ObjectError, ObjectId};
use sluice::worker::object_storage::{self as storage, ListOptions, StorageError};
use sluice::worker::version_metadata;
use test_guests_p3::wasip3::clocks::system_clock;
use test_guests_p3::wasip3::http::{client, types::Scheme};
use test_guests_p3::wasip3::wit_bindgen::{StreamReader, StreamResult};
use test_guests_p3::wasip3::{spawn_local, wit_future, wit_stream};
use test_guests_p3::{ErrorCode, Fields, Request, Response, answer, decode, parameter, sleep, worker};

wit_bindgen::generate!({
    path: "../../../wit/sluice-worker",
    inline: "
        package test:ledger;
        world guest {
            import sluice:worker/version-metadata@0.1.0;
            import sluice:worker/durable-objects@0.1.0;
            import sluice:worker/object-storage@0.1.0;
            export sluice:worker/durable-object@0.1.0;
        }
    ",
    with: {
        "wasi:clocks/types@0.3.2": test_guests_p3::wasip3::clocks::types,
        "wasi:http/types@0.3.2": test_guests_p3::wasip3::http::types,
    },
    generate_all,
});

// --- The worker -----------------------------------------------------------------------------------------

worker!(handle);
export!(Worker);

async fn handle(request: Request) -> Result<Response, ErrorCode> {
    let target = request.get_path_with_query().unwrap_or_default();
    let (first, rest) = split(&target);
    let binding = request.get_headers().get("x-binding").pop();
    let binding = binding.map_or("LEDGER".into(), |name| String::from_utf8_lossy(&name).into_owned());
    let objects = match Namespace::open(&binding) {
        Ok(objects) => objects,
        Err(why) => return Ok(text(500, format!("{why}\n"))),
    };

    let (id, rest, is_new) = match first {
        "-" => return Ok(itself(&objects, rest).await),
        "new" => (Ok(objects.new_unique_id()), rest, true),
        "id" => {
            let (hex, rest) = split(rest);
            (objects.id_from_string(hex), rest, false)
        }
        name => (Ok(objects.id_from_name(&decode(name))), rest, false),
    };
    let id = match id {
        Ok(id) => id,
        Err(why) => return Ok(text(400, format!("{why}\n"))),
    };

    // The request itself goes on, its body still arriving.
    request.set_path_with_query(Some(&format!("/{rest}"))).expect("a valid path");
    let response = pass_on(objects.get(&id).fetch(request).await);
    Ok(if is_new { with_header(response, "object-id", &id.to_string()) } else { response })
}

/// What the worker answers without an object.
async fn itself(objects: &Namespace, target: &str) -> Response {
    let describe = |id: ObjectId| format!("{} {}\n", id.to_string(), id.name().unwrap_or("-".into()));
    match target.split('?').next().unwrap_or_default() {
        "version" => text(200, version()),
        "storage" => match storage::get("n".into()).await {
            Ok(_) => text(200, "a worker has storage\n"),
            Err(error) => refused(error),
        },
        "id" => match (parameter::<String>(target, "name"), parameter::<String>(target, "id")) {
            (Some(name), _) => text(200, describe(objects.id_from_name(&name))),
            (None, Some(id)) => match objects.id_from_string(&id) {
                Ok(id) => text(200, describe(id)),
                Err(why) => text(400, format!("{why}\n")),
            },
            (None, None) => text(200, describe(objects.new_unique_id())),
        },
        "order" => order(objects, target).await,
        _ => text(404, "see the first lines of this guest's source\n"),
    }
}

// --- The object -----------------------------------------------------------------------------------------

impl Guest for Worker {
    type LiveObject = Ledger;
}

struct Ledger {
    class: String,
    id: String,
    name: Option<String>,
    /// How many requests came.
    count: Cell<u64>,
    /// What `add?mode=memory` adds to.
    sum: Cell<u64>,
    /// What `hog` took.
    hoard: RefCell<Vec<Vec<u8>>>,
}

/// Why an operation has no answer of its own.
enum Failure {
    Storage(StorageError),
    Code(ErrorCode),
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Failure {
        Failure::Storage(error)
    }
}

impl From<ErrorCode> for Failure {
    fn from(error: ErrorCode) -> Failure {
        Failure::Code(error)
    }
}

impl GuestLiveObject for Ledger {
    async fn open(class: String, id: String, name: Option<String>) -> Result<LiveObject, String> {
        open_as(name.as_deref().unwrap_or_default()).await?;
        let (count, sum, hoard) = Default::default();
        Ok(LiveObject::new(Ledger { class, id, name, count, sum, hoard }))
    }

    async fn fetch(&self, request: Request) -> Result<Response, ErrorCode> {
        self.count.set(self.count.get() + 1);
        match self.run(request).await {
            Ok(response) => Ok(response),
            Err(Failure::Storage(error)) => Ok(refused(error)),
            Err(Failure::Code(error)) => Err(error),
        }
    }

    async fn alarm(&self, info: AlarmInfo) -> Result<(), String> {
        self.ring(info).await.unwrap_or_else(|error| Err(format!("storage: {error:?}")))
    }
}

/// Opens as the object's name says: `bad-open…` fails, `trap-open…` panics, `spin-open…` computes for ever, `slow-open-MS` waits,
/// and `open-writes…` counts in `opens` how often it was opened.
async fn open_as(name: &str) -> Result<(), String> {
    let starts = |with: &str| name.starts_with(with);
    if starts("bad-open") {
        return Err(format!("the object `{name}` does not open"));
    }
    assert!(!starts("trap-open"), "this object panics when it opens");
    if starts("spin-open") {
        spin();
    }
    if let Some(ms) = name.strip_prefix("slow-open-") {
        pause(ms.parse().map_err(|_| format!("`{ms}` is no number"))?).await;
    }
    if starts("open-writes") {
        let opened = async { put("opens", number("opens").await? + 1) };
        opened.await.map_err(|error| format!("storage: {error:?}"))?;
    }
    Ok(())
}

impl Ledger {
    async fn run(&self, request: Request) -> Result<Response, Failure> {
        let target = request.get_path_with_query().unwrap_or_default();
        let target = target.trim_start_matches('/');
        let op = target.split('?').next().unwrap_or_default();
        let word = |name| parameter::<String>(target, name);
        let size = |name| parameter::<u64>(target, name);
        let key = word("k").unwrap_or("n".into());
        let value = word("v").unwrap_or_default();
        let keys = || key.split(',').map(str::to_owned).collect();

        Ok(match op {
            "get" => match storage::get(key).await? {
                Some(value) => text(200, String::from_utf8_lossy(&value)),
                None => text(404, "none\n"),
            },
            "put" => {
                let value = match (word("v"), size("size")) {
                    (Some(value), _) => value.into_bytes(),
                    (None, Some(size)) => vec![b'x'; size as usize],
                    (None, None) => body(request).collect().await,
                };
                storage::put(&[(key, value)])?;
                text(200, "ok\n")
            }
            "append" => {
                append(&key, &value).await?;
                text(200, "ok\n")
            }
            "delete" => text(200, format!("{}\n", storage::delete(keys()).await?)),
            "list" => text(200, lines(storage::list(list_options(target)).await?)),
            "get-many" => text(200, lines(storage::get_many(keys()).await?)),
            "put-many" => {
                let value = vec![b'x'; size("size").unwrap_or(1) as usize];
                let pairs = (0..size("n").unwrap_or(1)).map(|i| (format!("many-{i:05}"), value.clone()));
                storage::put(&pairs.collect::<Vec<_>>())?;
                text(200, "ok\n")
            }
            "delete-all" => {
                storage::delete_all()?;
                text(200, "ok\n")
            }
            "sync" => {
                storage::sync().await?;
                text(200, "ok\n")
            }
            "add" => text(200, format!("{}\n", self.add(&key, target).await?)),

            "two" => {
                put("a", &value)?;
                if let Some(ms) = size("pause") {
                    pause(ms).await;
                }
                put("b", &value)?;
                assert!(size("trap").is_none(), "told to panic after two writes");
                text(200, "ok\n")
            }
            "put-trap" => {
                put(&key, &value)?;
                panic!("told to panic after a write");
            }
            "put-error" => {
                put(&key, &value)?;
                return Err(ErrorCode::InternalError(Some("told to fail after a write".into())).into());
            }
            "trap" => panic!("told to panic"),
            "spin" => spin(),
            "hog" => {
                // Touched, so that it is really taken.
                let mut taken = 0;
                while size("mb").is_none_or(|mb| taken < mb) {
                    self.hoard.borrow_mut().push(vec![1; 1 << 20]);
                    taken += 1;
                }
                text(200, format!("{taken} MiB\n"))
            }
            "sleep" => {
                pause(size("ms").unwrap_or(0)).await;
                text(200, "slept\n")
            }

            "count" => text(200, format!("{}\n", self.count.get())),
            "version" => text(200, version()),
            "whoami" => {
                let name = self.name.as_deref().unwrap_or("-");
                text(200, format!("{} {} {name}\n", self.class, self.id))
            }

            "stream" => stream(size("n").unwrap_or(1), size("ms").unwrap_or(0), word("k")),
            "echo" => streaming(copy(body(request))),
            "pass" => streaming(body(request)),
            "upload" => {
                let (bytes, chunks) = measure(body(request)).await;
                text(200, format!("{bytes} bytes in {chunks} chunks\n"))
            }
            "call" | "order" => match Namespace::open(&word("binding").unwrap_or("LEDGER".into())) {
                Ok(objects) if op == "order" => order(&objects, target).await,
                Ok(objects) => {
                    let id = objects.id_from_name(&word("to").unwrap_or_default());
                    let request = request_for(&format!("/{}", word("path").unwrap_or_default()));
                    pass_on(objects.get(&id).fetch(request).await)
                }
                Err(why) => text(500, format!("{why}\n")),
            },
            "background" => {
                let ms = size("ms").unwrap_or(0);
                let key = word("k").unwrap_or("background".into());
                spawn_local(async move {
                    pause(ms).await;
                    let _ = put(&key, "done"); // Nobody is left to hear that it failed.
                });
                text(200, "later\n")
            }

            "alarm-set" => set_alarm(now_ms() + size("in_ms").unwrap_or(0))?,
            "alarm-at" => set_alarm(size("ms").unwrap_or(0))?,
            "alarm-get" => text(200, alarm().await? + "\n"),
            "alarm-delete" => {
                storage::delete_alarm()?;
                text(200, "ok\n")
            }
            "alarm-log" => {
                let log = storage::get("alarm-log".into()).await?.unwrap_or_default();
                text(200, String::from_utf8_lossy(&log))
            }
            "alarm-mode" => {
                put("alarm-mode", target)?;
                put("alarm-runs", 0)?;
                text(200, "ok\n")
            }
            _ => text(404, "see the first lines of this guest's source\n"),
        })
    }

    /// Reads a number, adds `n` to it (or 1) and writes it, and so would lose the updates of another who did so in between.
    ///
    /// | `mode`          | What it awaits                                                                                       |
    /// |-----------------|------------------------------------------------------------------------------------------------------|
    /// | `get-put`       | the number; so it is without a mode                                                                  |
    /// | `get-get-put`   | the number, then another value                                                                       |
    /// | `fetch-get-put` | an answer from `url`, then the number                                                                |
    /// | `get-fetch-put` | the number, then an answer from `url`: others run meanwhile, and **this one does lose their updates** |
    /// | `memory`        | nothing: the number is in memory                                                                     |
    async fn add(&self, key: &str, target: &str) -> Result<u64, Failure> {
        let by = parameter(target, "n").unwrap_or(1);
        let mode: String = parameter(target, "mode").unwrap_or_default();
        let url: String = parameter(target, "url").unwrap_or_default();
        if mode == "memory" {
            self.sum.set(self.sum.get() + by);
            return Ok(self.sum.get());
        }
        if mode == "fetch-get-put" {
            fetch(&url).await?;
        }
        let sum = number(key).await? + by;
        match mode.as_str() {
            "get-get-put" => drop(storage::get("another".into()).await?),
            "get-fetch-put" => fetch(&url).await?,
            _ => {}
        }
        put(key, sum)?;
        Ok(sum)
    }

    /// Writes down that the alarm rang, and then does as the last `alarm-mode?…` said.
    ///
    /// | Parameter         | What the alarm does                                                                                    |
    /// |-------------------|--------------------------------------------------------------------------------------------------------|
    /// | `reset=MS`        | sets another alarm, so long from now                                                                   |
    /// | `sleep=MS`        | waits                                                                                                  |
    /// | `trap=N`          | panics at the first N runs since the mode was set, once what it wrote is durable                       |
    /// | `trap-unsynced=1` | panics at each run without waiting for that, so nothing of the run stays                               |
    /// | `fail=N`          | returns an error at the first N runs                                                                   |
    async fn ring(&self, info: AlarmInfo) -> Result<Result<(), String>, StorageError> {
        let mode = storage::get("alarm-mode".into()).await?.unwrap_or_default();
        let mode = String::from_utf8_lossy(&mode);
        let told = |name| parameter::<u64>(&mode, name);
        let run = number("alarm-runs").await? + 1;

        let line = format!("{} {} {} {}", info.retry_count, info.is_retry, now_ms(), alarm().await?);
        append("alarm-log", &line).await?;
        put("alarm-runs", run)?;
        if let Some(ms) = told("reset") {
            storage::set_alarm(now_ms() + ms)?;
        }
        if let Some(ms) = told("sleep") {
            pause(ms).await;
        }
        if told("trap").is_some_and(|runs| run <= runs) {
            storage::sync().await?;
            panic!("the alarm was told to panic");
        }
        assert!(told("trap-unsynced").is_none(), "the alarm was told to panic");
        let fails = told("fail").is_some_and(|runs| run <= runs);
        Ok(if fails { Err("the alarm was told to fail".into()) } else { Ok(()) })
    }
}

// --- Storage --------------------------------------------------------------------------------------------

fn put(key: &str, value: impl ToString) -> Result<(), StorageError> {
    storage::put(&[(key.into(), value.to_string().into_bytes())])
}

/// The number kept under the key; 0 if there is none.
async fn number(key: &str) -> Result<u64, StorageError> {
    let value = storage::get(key.into()).await?.unwrap_or_default();
    Ok(String::from_utf8_lossy(&value).parse().unwrap_or(0))
}

async fn append(key: &str, line: &str) -> Result<(), StorageError> {
    let value = storage::get(key.into()).await?.unwrap_or_default();
    put(key, format!("{}{line}\n", String::from_utf8_lossy(&value)))
}

fn list_options(target: &str) -> ListOptions {
    ListOptions {
        prefix: parameter(target, "prefix"),
        start: parameter(target, "start"),
        start_after: parameter(target, "start_after"),
        end: parameter(target, "end"),
        reverse: parameter(target, "reverse").unwrap_or(false),
        limit: parameter(target, "limit"),
    }
}

fn lines(pairs: Vec<(String, Vec<u8>)>) -> String {
    pairs.iter().map(|(key, value)| format!("{key}={}\n", String::from_utf8_lossy(value))).collect()
}

async fn alarm() -> Result<String, StorageError> {
    Ok(storage::get_alarm().await?.map_or("none".into(), |ms| ms.to_string()))
}

fn set_alarm(unix_ms: u64) -> Result<Response, StorageError> {
    storage::set_alarm(unix_ms)?;
    Ok(text(200, format!("{unix_ms}\n")))
}

fn refused(error: StorageError) -> Response {
    text(500, format!("storage: {error:?}\n"))
}

// --- Calls ----------------------------------------------------------------------------------------------

/// Calls one stub as often as `n` says, without awaiting one call before the next is made.
async fn order(objects: &Namespace, target: &str) -> Response {
    let id = objects.id_from_name(&parameter::<String>(target, "to").unwrap_or_default());
    let stub = objects.get(&id);
    let paths = (0..parameter(target, "n").unwrap_or(1)).map(|i: u64| format!("/append?k=order&v={i}"));
    // A call is made when its future is polled for the first time, and these are polled in their order.
    let answers = join_all(paths.map(|path| stub.fetch(request_for(&path)))).await;
    let failed = answers.iter().filter(|answer| !matches!(answer, Ok(response) if response.get_status_code() == 200));
    text(200, format!("{} calls, {} failed\n", answers.len(), failed.count()))
}

fn pass_on(answer: Result<Response, ObjectError>) -> Response {
    match answer {
        Ok(response) => response,
        Err(error) => {
            let body = json!({
                "message": error.message,
                "remote": error.remote,
                "retryable": error.retryable,
                "overloaded": error.overloaded,
                "reset": error.durable_object_reset,
            });
            answer_json(599, body.to_string())
        }
    }
}

/// A GET request without a scheme and an authority: an object has no address, so the host may not ask for one.
fn request_for(path: &str) -> Request {
    let (_, trailers) = wit_future::new(|| Ok(None));
    let (request, _sent) = Request::new(Fields::new(), None, trailers, None);
    request.set_path_with_query(Some(path)).expect("a valid path");
    request
}

/// Gets an absolute URL, and waits for the head of the answer.
async fn fetch(url: &str) -> Result<(), ErrorCode> {
    let (scheme, rest) = url.split_once("://").ok_or(ErrorCode::HttpRequestUriInvalid)?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let request = request_for(if path.is_empty() { "/" } else { path });
    let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
    let is_set = request.set_scheme(Some(&scheme)).and_then(|()| request.set_authority(Some(authority)));
    is_set.map_err(|()| ErrorCode::HttpRequestUriInvalid)?;
    client::send(request).await.map(drop)
}

// --- Bodies ---------------------------------------------------------------------------------------------

fn text(status: u16, text: impl Into<String>) -> Response {
    answer(status, &[("content-type", "text/plain")], text.into())
}

fn answer_json(status: u16, text: String) -> Response {
    answer(status, &[("content-type", "application/json")], text)
}

fn body(request: Request) -> StreamReader<u8> {
    let (_, received) = wit_future::new(|| Ok(()));
    Request::consume_body(request, received).0
}

fn streaming(body: StreamReader<u8>) -> Response {
    let (_, trailers) = wit_future::new(|| Ok(None));
    Response::new(Fields::new(), Some(body), trailers).0
}

/// The same response with one more header.
fn with_header(response: Response, name: &str, value: &str) -> Response {
    // Those of a response that came in cannot be changed, but their copy can.
    let headers = response.get_headers().clone();
    headers.append(name, value.as_bytes()).expect("a valid header");
    let status = response.get_status_code();
    let (_, received) = wit_future::new(|| Ok(()));
    let (body, trailers) = Response::consume_body(response, received);
    let (response, _sent) = Response::new(headers, Some(body), trailers);
    response.set_status_code(status).expect("a valid status");
    response
}

fn stream(lines: u64, ms: u64, key: Option<String>) -> Response {
    let (mut writer, body) = wit_stream::new();
    spawn_local(async move {
        for line in 0..lines {
            if line > 0 {
                pause(ms).await;
            }
            if key.as_ref().is_some_and(|key| put(key, line).is_err()) {
                return;
            }
            if !writer.write_all(format!("{line}\n").into_bytes()).await.is_empty() {
                return; // The caller has gone.
            }
        }
    });
    streaming(body)
}

/// A stream of the same bytes, carried over by this guest one chunk at a time.
fn copy(mut from: StreamReader<u8>) -> StreamReader<u8> {
    let (mut to, copied) = wit_stream::new();
    spawn_local(async move {
        while let (StreamResult::Complete(_), chunk) = from.read(Vec::with_capacity(16 * 1024)).await {
            if !to.write_all(chunk).await.is_empty() {
                return; // The caller has gone.
            }
        }
    });
    copied
}

async fn measure(mut body: StreamReader<u8>) -> (usize, usize) {
    let (mut bytes, mut chunks) = (0, 0);
    while let (StreamResult::Complete(length), _) = body.read(Vec::with_capacity(64 * 1024)).await {
        bytes += length;
        chunks += 1;
    }
    (bytes, chunks)
}

// --- The rest -------------------------------------------------------------------------------------------

/// The first part of a path, and what follows its slash.
fn split(path: &str) -> (&str, &str) {
    let path = path.strip_prefix('/').unwrap_or(path);
    path.split_once('/').unwrap_or((path, ""))
}

fn version() -> String {
    match version_metadata::get() {
        Some(version) => format!("{} {}\n", version.tag, version.id),
        None => "none\n".into(),
    }
}

fn now_ms() -> u64 {
    let now = system_clock::now();
    now.seconds as u64 * 1000 + u64::from(now.nanoseconds / 1_000_000)
}

async fn pause(ms: u64) {
    sleep(Duration::from_millis(ms)).await;
}

fn spin() -> ! {
    loop {
        std::hint::black_box(());
    }
}
