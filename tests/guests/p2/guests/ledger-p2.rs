//! A Durable Object for WASI 0.2 that does as it is told, and the worker in front of it: the least of what `ledger` does, by
//! functions that are not async. An object of it takes one event at a time.
//!
//! The worker hands a request on to `http://LEDGER.internal/OP…`, or to the binding that the header `x-binding` names. If that
//! fails, the answer is 599 with the error's name.
//!
//! | Path                     | Who gets `/OP…`                                                                   |
//! |--------------------------|-----------------------------------------------------------------------------------|
//! | `/NAME/OP…`              | the object with that name, by the header `Sluice-Object`                          |
//! | `/id/HEX/OP…`            | the object with that id, by the header `Sluice-Object-Id`                         |
//! | `/-/version`             | the worker itself, as below                                                       |
//! | `/-/storage`             | the worker itself: what storage says to one who is no object                      |
//!
//! In a query, `%26` is a `&`. What storage refuses is the answer 500, `storage: ERROR`.
//!
//! | OP of an object                     | What it does                                                           |
//! |-------------------------------------|------------------------------------------------------------------------|
//! | `get?k=`                            | the value, or 404                                                      |
//! | `put?k=&v=`                         | writes; `size=N` writes N bytes                                        |
//! | `delete?k=A,B`                      | how many of them existed                                               |
//! | `list?prefix=&start=&start_after=&end=&reverse=true&limit=` | lines `KEY=VALUE`                              |
//! | `delete-all`, `sync`                | these                                                                  |
//! | `add?k=&n=`                         | reads a number, adds to it, writes it, and answers with the sum        |
//! | `put-trap?k=&v=`, `put-error?k=&v=` | writes, then traps; writes, then returns an error                      |
//! | `trap`, `spin`, `silent`            | panics; computes for ever; returns without an answer                   |
//! | `sleep?ms=`                         | waits                                                                  |
//! | `count`                             | how many requests this instance got: 1 after a reset                   |
//! | `version`                           | `TAG ID`, or `none`                                                    |
//! | `whoami`                            | `CLASS ID NAME`, with `-` for no name                                  |
//! | `call?to=NAME&path=OP…&binding=`    | calls another object by its address; one that calls back is refused    |
//! | `alarm-set?in_ms=`, `alarm-at?ms=`  | sets the alarm, and answers with its time                              |
//! | `alarm-get`, `alarm-delete`         | its time or `none`; no alarm                                           |
//! | `alarm-log`                         | a line `RETRY_COUNT IS_RETRY NOW ALARM` for each run                   |
//! | `alarm-mode?…`                      | how the alarm handler behaves; see [`Ledger::ring`]                    |
//!
//! An object whose name begins with `bad-open` fails to open, with `trap-open` panics, and with `open-writes` counts in `opens`
//! how often it was opened.

use std::cell::Cell;
use std::time::Duration;

use exports::sluice::worker_p2::durable_object::{AlarmInfo, Guest, GuestLiveObject, LiveObject};
use sluice::worker_p2::object_storage::{self as storage, ListOptions, StorageError};
use sluice::worker_p2::version_metadata;
use test_guests_p2::wasip2::clocks::wall_clock;
use test_guests_p2::wasip2::http::types::{ErrorCode, Method, Scheme};
use test_guests_p2::{
    Fields, IncomingBody, IncomingRequest, IncomingResponse, OutgoingRequest, ResponseOutparam, answer, decode, header,
    parameter, reply, send, sleep, worker,
};

wit_bindgen::generate!({
    path: "../../../wit/sluice-worker-p2",
    inline: "
        package test:ledger-p2;
        world guest {
            import sluice:worker-p2/version-metadata@0.1.0;
            import sluice:worker-p2/object-storage@0.1.0;
            export sluice:worker-p2/durable-object@0.1.0;
        }
    ",
    with: {
        "wasi:clocks/monotonic-clock@0.2.12": test_guests_p2::wasip2::clocks::monotonic_clock,
        "wasi:http/types@0.2.12": test_guests_p2::wasip2::http::types,
        "wasi:io/error@0.2.12": test_guests_p2::wasip2::io::error,
        "wasi:io/poll@0.2.12": test_guests_p2::wasip2::io::poll,
        "wasi:io/streams@0.2.12": test_guests_p2::wasip2::io::streams,
    },
    generate_all,
});

// --- The worker -----------------------------------------------------------------------------------------

worker!(handle);
export!(Worker);

fn handle(request: IncomingRequest, out: ResponseOutparam) {
    let target = request.path_with_query().unwrap_or_default();
    let binding = header(&request, "x-binding").unwrap_or("LEDGER".into());
    let response = match split(&target) {
        ("-", "version") => return answer(out, 200, &version()),
        ("-", "storage") => match storage::get("n") {
            Ok(_) => return answer(out, 200, "a worker has storage\n"),
            Err(error) => return refused(out, error),
        },
        ("id", rest) => {
            let (hex, op) = split(rest);
            call(&binding, ("sluice-object-id", hex), op, Some(&request))
        }
        (name, op) => call(&binding, ("sluice-object", &decode(name)), op, Some(&request)),
    };
    match response {
        Ok(response) => reply(out, response),
        Err(error) => answer(out, 599, &format!("{error}\n")),
    }
}

/// Calls the object that the header names, with the method and the body of another request.
fn call(
    binding: &str,
    (name, value): (&str, &str),
    op: &str,
    like: Option<&IncomingRequest>,
) -> Result<IncomingResponse, String> {
    let fields = Fields::new();
    fields.append(name, value.as_bytes()).map_err(|error| format!("{error:?}"))?;
    let request = OutgoingRequest::new(fields);
    let failed = |()| "invalid request".to_owned();
    request.set_method(&like.map_or(Method::Get, IncomingRequest::method)).map_err(failed)?;
    request.set_scheme(Some(&Scheme::Http)).map_err(failed)?;
    request.set_authority(Some(&format!("{binding}.internal"))).map_err(failed)?;
    request.set_path_with_query(Some(&format!("/{op}"))).map_err(failed)?;
    let body: Option<IncomingBody> = like.map(|like| like.consume().expect("the body is taken once"));
    send(request, body.as_ref())
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
}

enum Reply {
    Text(u16, String),
    /// What another object answered.
    Onward(Result<IncomingResponse, String>),
    Failed(ErrorCode),
    Nothing,
}

impl GuestLiveObject for Ledger {
    fn open(class: String, id: String, name: Option<String>) -> Result<LiveObject, String> {
        let starts = |with: &str| name.as_ref().is_some_and(|name| name.starts_with(with));
        if starts("bad-open") {
            return Err("this object does not open".into());
        }
        assert!(!starts("trap-open"), "this object panics when it opens");
        if starts("open-writes") {
            let opened = number("opens").and_then(|opens| put("opens", opens + 1));
            opened.map_err(|error| format!("storage: {error:?}"))?;
        }
        Ok(LiveObject::new(Ledger { class, id, name, count: Cell::new(0) }))
    }

    fn fetch(&self, request: IncomingRequest, out: ResponseOutparam) {
        self.count.set(self.count.get() + 1);
        let target = request.path_with_query().unwrap_or_default();
        match self.run(target.trim_start_matches('/')) {
            Ok(Reply::Text(status, text)) => answer(out, status, &text),
            Ok(Reply::Onward(Ok(response))) => reply(out, response),
            Ok(Reply::Onward(Err(error))) => answer(out, 599, &format!("{error}\n")),
            Ok(Reply::Failed(error)) => ResponseOutparam::set(out, Err(error)),
            Ok(Reply::Nothing) => drop(out),
            Err(error) => refused(out, error),
        }
    }

    fn alarm(&self, info: AlarmInfo) -> Result<(), String> {
        self.ring(info).unwrap_or_else(|error| Err(format!("storage: {error:?}")))
    }
}

impl Ledger {
    fn run(&self, target: &str) -> Result<Reply, StorageError> {
        let op = target.split('?').next().unwrap_or_default();
        let word = |name| parameter::<String>(target, name);
        let size = |name| parameter::<u64>(target, name);
        let key = word("k").unwrap_or("n".into());
        let value = word("v").unwrap_or_default();
        let text = |text: String| Reply::Text(200, text + "\n");
        let ok = || Reply::Text(200, "ok\n".into());

        Ok(match op {
            "get" => match storage::get(&key)? {
                Some(value) => Reply::Text(200, String::from_utf8_lossy(&value).into_owned()),
                None => Reply::Text(404, "none\n".into()),
            },
            "put" => {
                put(&key, size("size").map_or(value, |size| "x".repeat(size as usize)))?;
                ok()
            }
            "delete" => {
                let keys: Vec<_> = key.split(',').map(str::to_owned).collect();
                text(storage::delete(&keys)?.to_string())
            }
            "list" => Reply::Text(200, lines(storage::list(&list_options(target))?)),
            "delete-all" => {
                storage::delete_all()?;
                ok()
            }
            "sync" => {
                storage::sync()?;
                ok()
            }
            "add" => {
                let sum = number(&key)? + size("n").unwrap_or(1);
                put(&key, sum)?;
                text(sum.to_string())
            }

            "put-trap" => {
                put(&key, &value)?;
                panic!("told to panic after a write");
            }
            "put-error" => {
                put(&key, &value)?;
                Reply::Failed(ErrorCode::InternalError(Some("told to fail after a write".into())))
            }
            "trap" => panic!("told to panic"),
            "spin" => loop {
                std::hint::black_box(());
            },
            "silent" => Reply::Nothing,
            "sleep" => {
                sleep(Duration::from_millis(size("ms").unwrap_or(0)));
                text("slept".into())
            }

            "count" => text(self.count.get().to_string()),
            "version" => Reply::Text(200, version()),
            "whoami" => text(format!("{} {} {}", self.class, self.id, self.name.as_deref().unwrap_or("-"))),
            "call" => {
                let binding = word("binding").unwrap_or("LEDGER".into());
                let to = word("to").unwrap_or_default();
                Reply::Onward(call(&binding, ("sluice-object", &to), &word("path").unwrap_or_default(), None))
            }

            "alarm-set" => text(set_alarm(now_ms() + size("in_ms").unwrap_or(0))?),
            "alarm-at" => text(set_alarm(size("ms").unwrap_or(0))?),
            "alarm-get" => text(alarm()?),
            "alarm-delete" => {
                storage::delete_alarm()?;
                ok()
            }
            "alarm-log" => Reply::Text(200, stored("alarm-log")?),
            "alarm-mode" => {
                put("alarm-mode", target)?;
                put("alarm-runs", 0)?;
                ok()
            }
            _ => Reply::Text(404, "see the first lines of this guest's source\n".into()),
        })
    }

    /// Writes down that the alarm rang, and then does as the last `alarm-mode?…` said.
    ///
    /// | Parameter  | What the alarm does                                                              |
    /// |------------|----------------------------------------------------------------------------------|
    /// | `reset=MS` | sets another alarm, so long from now                                             |
    /// | `sleep=MS` | waits                                                                            |
    /// | `trap=N`   | panics at the first N runs since the mode was set, once what it wrote is durable |
    /// | `fail=N`   | returns an error at the first N runs                                             |
    fn ring(&self, info: AlarmInfo) -> Result<Result<(), String>, StorageError> {
        let mode = stored("alarm-mode")?;
        let told = |name| parameter::<u64>(&mode, name);
        let run = number("alarm-runs")? + 1;

        let log = stored("alarm-log")?;
        put("alarm-log", format!("{log}{} {} {} {}\n", info.retry_count, info.is_retry, now_ms(), alarm()?))?;
        put("alarm-runs", run)?;
        if let Some(ms) = told("reset") {
            storage::set_alarm(now_ms() + ms)?;
        }
        if let Some(ms) = told("sleep") {
            sleep(Duration::from_millis(ms));
        }
        if told("trap").is_some_and(|runs| run <= runs) {
            storage::sync()?;
            panic!("the alarm was told to panic");
        }
        let fails = told("fail").is_some_and(|runs| run <= runs);
        Ok(if fails { Err("the alarm was told to fail".into()) } else { Ok(()) })
    }
}

// --- Storage --------------------------------------------------------------------------------------------

fn put(key: &str, value: impl ToString) -> Result<(), StorageError> {
    storage::put(&[(key.into(), value.to_string().into_bytes())])
}

/// The text kept under the key; empty if there is none.
fn stored(key: &str) -> Result<String, StorageError> {
    Ok(String::from_utf8_lossy(&storage::get(key)?.unwrap_or_default()).into_owned())
}

fn number(key: &str) -> Result<u64, StorageError> {
    Ok(stored(key)?.parse().unwrap_or(0))
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

fn alarm() -> Result<String, StorageError> {
    Ok(storage::get_alarm()?.map_or("none".into(), |ms| ms.to_string()))
}

fn set_alarm(unix_ms: u64) -> Result<String, StorageError> {
    storage::set_alarm(unix_ms)?;
    Ok(unix_ms.to_string())
}

fn refused(out: ResponseOutparam, error: StorageError) {
    answer(out, 500, &format!("storage: {error:?}\n"));
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
    let now = wall_clock::now();
    now.seconds * 1000 + u64::from(now.nanoseconds / 1_000_000)
}
