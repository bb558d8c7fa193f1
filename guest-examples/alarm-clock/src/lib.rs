//! Alarm clocks: each is a Durable Object, whose alarm wakes it wherever it sleeps.
//!
//! | Request                                        | Answer                                                           |
//! |------------------------------------------------|------------------------------------------------------------------|
//! | `POST /<name>/at?in_ms=<ms>&say=<text>`        | sets the clock: `clock a rings in 5000 ms: tea`                  |
//! | the same with `&snooze=<times>`                | it rings so many times more, a second apart                      |
//! | `POST /<name>/off`                             | turns it off                                                     |
//! | `GET /<name>`                                  | the same line, and one for each of the last times that it rang   |

use exports::sluice::worker::durable_object::{AlarmInfo, Guest, GuestLiveObject, LiveObject};
use sluice::worker::durable_objects::Namespace;
use sluice::worker::object_storage::{self as storage, ListOptions, StorageError};
use wasip3::clocks::system_clock;
use wasip3::exports::http::handler::Guest as Handler;
use wasip3::http::types::{ErrorCode, Fields, Method, Request, Response};
use wasip3::{spawn_local, wit_future, wit_stream};

wit_bindgen::generate!({
    path: "../../wit/sluice-worker",
    inline: "
        package example:alarm-clock;
        world worker {
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

const SNOOZE_MS: u64 = 1000;
/// How many of the times that it rang are shown.
const SHOWN: u32 = 20;

// --- The worker, which finds the clock ---

impl Handler for Worker {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let path = request.get_path_with_query().unwrap_or_default();
        let path = path.trim_start_matches('/');
        let (name, rest) = path.split_once('/').unwrap_or((path, ""));
        if name.is_empty() {
            return Ok(text(404, "see the first lines of this worker's source\n"));
        }
        let clocks = match Namespace::open("CLOCK") {
            Ok(clocks) => clocks,
            Err(why) => return Ok(text(500, format!("{why}\n"))),
        };
        let clock = clocks.get(&clocks.id_from_name(name));
        let _ = request.set_path_with_query(Some(&format!("/{rest}")));
        let answer = clock.fetch(request).await;
        Ok(answer.unwrap_or_else(|error| text(503, format!("clock {name}: {}\n", error.message))))
    }
}

// --- The object, which rings ---

struct Clock {
    name: String,
}

/// What the clock will do next, as it is stored: `<due> <snoozes> <say>`. The alarm alone would not know what to say.
struct Plan {
    /// In milliseconds since 1970, as the alarm is.
    due: u64,
    snoozes: u32,
    say: String,
}

impl Guest for Worker {
    type LiveObject = Clock;
}

impl GuestLiveObject for Clock {
    async fn open(_class: String, id: String, name: Option<String>) -> Result<LiveObject, String> {
        Ok(LiveObject::new(Clock { name: name.unwrap_or(id) }))
    }

    async fn fetch(&self, request: Request) -> Result<Response, ErrorCode> {
        let target = request.get_path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let answer = match (request.get_method(), path) {
            (Method::Get, "/") => self.show().await,
            (Method::Post, "/off") => off().await,
            (Method::Post, "/at") => match Plan::of_query(query) {
                Some(plan) => plan.keep().map(|()| format!("{}\n", self.line(&plan))),
                None => return Ok(text(400, "how long from now? For example: `?in_ms=5000&say=tea`\n")),
            },
            _ => return Ok(text(404, "see the first lines of this worker's source\n")),
        };
        answer.map(|answer| text(200, answer)).map_err(|error| ErrorCode::InternalError(Some(reason(error))))
    }

    /// An error, or a trap, has it run again.
    async fn alarm(&self, _info: AlarmInfo) -> Result<(), String> {
        ring().await.map_err(reason)
    }
}

impl Clock {
    async fn show(&self) -> Result<String, StorageError> {
        let mut lines = match Plan::stored().await? {
            Some(plan) => self.line(&plan),
            None => format!("clock {} is off", self.name),
        };
        lines.push('\n');
        let options = ListOptions {
            prefix: Some("rang/".into()),
            start: None,
            start_after: None,
            end: None,
            reverse: true,
            limit: Some(SHOWN),
        };
        for (_, line) in storage::list(options).await? {
            lines += &String::from_utf8_lossy(&line);
        }
        Ok(lines)
    }

    fn line(&self, plan: &Plan) -> String {
        format!("clock {} rings in {} ms: {}", self.name, plan.due.saturating_sub(now_ms()), plan.say)
    }
}

/// An alarm rings at least once, so perhaps twice; what the first time did is then found done.
async fn ring() -> Result<(), StorageError> {
    let Some(plan) = Plan::stored().await? else {
        return Ok(()); // It rang, or was turned off meanwhile.
    };
    let now = now_ms();
    if now < plan.due {
        return storage::set_alarm(plan.due); // It was set anew.
    }
    let line = format!("rang at {now}, {} ms late: {}\n", now - plan.due, plan.say);
    // As many digits for every time, so that keys are in the order of time.
    storage::put(&[(format!("rang/{:015}", plan.due), line.into_bytes())])?;
    if plan.snoozes > 0 {
        Plan { due: now + SNOOZE_MS, snoozes: plan.snoozes - 1, say: plan.say }.keep()
    } else {
        storage::delete(vec!["plan".into()]).await.map(drop)
    }
}

async fn off() -> Result<String, StorageError> {
    storage::delete_alarm()?;
    storage::delete(vec!["plan".into()]).await?;
    Ok("off\n".into())
}

impl Plan {
    fn of_query(query: &str) -> Option<Plan> {
        let (mut in_ms, mut snoozes, mut say) = (None, 0, String::from("ring"));
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "in_ms" => in_ms = Some(value.parse::<u64>().ok()?),
                "snooze" => snoozes = value.parse().ok()?,
                "say" => say = value.into_owned(),
                _ => return None,
            }
        }
        Some(Plan { due: now_ms().checked_add(in_ms?)?, snoozes, say })
    }

    async fn stored() -> Result<Option<Plan>, StorageError> {
        let Some(plan) = storage::get("plan".into()).await? else {
            return Ok(None);
        };
        let plan = String::from_utf8_lossy(&plan);
        let mut parts = plan.splitn(3, ' ');
        let mut number = || parts.next().and_then(|part| part.parse().ok()).unwrap_or(0);
        let (due, snoozes) = (number(), number() as u32);
        Ok(Some(Plan { due, snoozes, say: parts.next().unwrap_or_default().into() }))
    }

    /// Nothing is awaited between the plan and its alarm, so storage has both or neither.
    fn keep(&self) -> Result<(), StorageError> {
        let plan = format!("{} {} {}", self.due, self.snoozes, self.say);
        storage::put(&[("plan".into(), plan.into_bytes())])?;
        storage::set_alarm(self.due)
    }
}

fn now_ms() -> u64 {
    let now = system_clock::now();
    now.seconds as u64 * 1000 + u64::from(now.nanoseconds / 1_000_000)
}

fn reason(error: StorageError) -> String {
    format!("storage: {error:?}")
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
