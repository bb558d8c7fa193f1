//! Rooms to talk in: each is a Durable Object, and all who listen to it share its memory.
//!
//! | Request               | Answer                                                                                |
//! |-----------------------|---------------------------------------------------------------------------------------|
//! | `POST /<room>/say`    | says the body, on one line, and answers with its number in the room                   |
//! | `GET /<room>/listen`  | a line `<number> <text>` for each message: the last 100, then each as it is said      |
//! | `GET /<room>`         | the last 100                                                                          |
//! | `GET /lobby`          | a line `<room>: <messages>` for each room that was ever talked in, and the sum        |
//!
//! The rooms tell the lobby, an object of another class: objects call objects as the worker does.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use exports::sluice::worker::durable_object::{AlarmInfo, Guest, GuestLiveObject, LiveObject};
use sluice::worker::durable_objects::{Namespace, Stub};
use sluice::worker::object_storage::{self as storage, ListOptions, StorageError};
use wasip3::exports::http::handler::Guest as Handler;
use wasip3::http::types::{ErrorCode, Fields, Method, Request, Response};
use wasip3::wit_bindgen::{StreamReader, StreamWriter};
use wasip3::{spawn_local, wit_future, wit_stream};

wit_bindgen::generate!({
    path: "../../wit/sluice-worker",
    inline: "
        package example:chat-room;
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

/// How many messages a room keeps, and how many may wait for a listener who is slow.
const KEPT: u64 = 100;

// --- The worker, which finds the room ---

impl Handler for Worker {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let path = request.get_path_with_query().unwrap_or_default();
        let path = path.trim_start_matches('/');
        let (room, action) = path.split_once('/').unwrap_or((path, ""));
        let stub = match path {
            "" => return Ok(not_found()),
            "lobby" => object("LOBBY", "lobby"),
            _ => object("ROOM", room),
        };
        let _ = request.set_path_with_query(Some(&format!("/{action}")));
        Ok(match stub {
            Ok(stub) => stub.fetch(request).await.unwrap_or_else(|error| text(503, format!("{}\n", error.message))),
            Err(why) => text(500, format!("{why}\n")),
        })
    }
}

/// A way to the object of that name.
fn object(binding: &str, name: &str) -> Result<Stub, String> {
    let objects = Namespace::open(binding)?;
    Ok(objects.get(&objects.id_from_name(name)))
}

// --- The objects, of two classes ---

enum Object {
    Room(Room),
    Lobby,
}

impl Guest for Worker {
    type LiveObject = Object;
}

impl GuestLiveObject for Object {
    async fn open(class: String, _id: String, name: Option<String>) -> Result<LiveObject, String> {
        let object = match class.as_str() {
            "Room" => Object::Room(Room::open(name.ok_or("a room has a name")?).await.map_err(reason)?),
            "Lobby" => Object::Lobby,
            _ => return Err(format!("this worker has no class `{class}`")),
        };
        Ok(LiveObject::new(object))
    }

    async fn fetch(&self, request: Request) -> Result<Response, ErrorCode> {
        let answer = match self {
            Object::Room(room) => room.answer(request).await,
            Object::Lobby => lobby(request).await,
        };
        answer.map_err(|error| ErrorCode::InternalError(Some(reason(error))))
    }

    async fn alarm(&self, _info: AlarmInfo) -> Result<(), String> {
        Ok(()) // None is ever set.
    }
}

// --- A room ---

struct Room {
    name: String,
    /// The number of the last message.
    said: Cell<u64>,
    listeners: RefCell<Vec<Rc<Listener>>>,
}

impl Room {
    async fn open(name: String) -> Result<Room, StorageError> {
        let last = history(1).await?.pop();
        let said = last.and_then(|line| line.split(' ').next()?.parse().ok()).unwrap_or(0);
        Ok(Room { name, said: Cell::new(said), listeners: RefCell::default() })
    }

    async fn answer(&self, request: Request) -> Result<Response, StorageError> {
        let path = request.get_path_with_query().unwrap_or_default();
        Ok(match (request.get_method(), path.as_str()) {
            (Method::Get, "/") => text(200, history(KEPT).await?.concat()),
            (Method::Get, "/listen") => self.listen(history(KEPT).await?),
            (Method::Post, "/say") => {
                let message = body(request).await;
                text(200, format!("{}\n", self.say(message.trim_end()).await?))
            }
            _ => not_found(),
        })
    }

    /// Nothing happens to the room between the history being read and this, so no message is missed and none comes twice.
    fn listen(&self, history: Vec<String>) -> Response {
        let (writer, body) = wit_stream::new();
        let listener = Rc::new(Listener { waiting: RefCell::default(), writer: Cell::new(Some(writer)) });
        if !history.is_empty() {
            listener.hear(&history.concat());
        }
        self.listeners.borrow_mut().push(listener);
        response(200, body)
    }

    async fn say(&self, message: &str) -> Result<u64, StorageError> {
        let number = self.said.get() + 1;
        self.said.set(number);
        let line = format!("{number} {}\n", message.replace('\n', " "));
        storage::put(&[(key(number), line.clone().into_bytes())])?;

        // Not a word leaves before it is durable, so there is no need to wait for that here.
        self.listeners.borrow_mut().retain(|listener| listener.hear(&line));
        let name = self.name.clone();
        spawn_local(async move { tell_lobby(&name, number).await });

        if let Some(old) = number.checked_sub(KEPT) {
            storage::delete(vec![key(old)]).await?;
        }
        Ok(number)
    }
}

/// Tells how many messages there are, not that there is one more: so a call that is lost, or comes twice, does no harm.
async fn tell_lobby(room: &str, said: u64) {
    let Ok(lobby) = object("LOBBY", "lobby") else {
        return; // There need not be one.
    };
    let (_, trailers) = wit_future::new(|| Ok(None));
    let (request, _sent) = Request::new(Fields::new(), None, trailers, None);
    let _ = request.set_method(&Method::Post);
    let _ = request.set_path_with_query(Some(&format!("/{room}/{said}")));
    let _ = lobby.fetch(request).await;
}

/// The last messages, the oldest first: lines as listeners get them.
async fn history(limit: u64) -> Result<Vec<String>, StorageError> {
    let options = ListOptions { reverse: true, limit: Some(limit as u32), ..all("message/") };
    let messages = storage::list(options).await?.into_iter().rev();
    Ok(messages.map(|(_, line)| String::from_utf8_lossy(&line).into_owned()).collect())
}

/// As many digits for every number, so that keys are in the order of the messages.
fn key(number: u64) -> String {
    format!("message/{number:012}")
}

// --- Those who listen ---

/// One whose answer is still open.
struct Listener {
    /// What it is still to get: a line each, or several at first.
    waiting: RefCell<VecDeque<String>>,
    /// None while a line is being written, and once the listener has gone.
    writer: Cell<Option<StreamWriter<u8>>>,
}

impl Listener {
    /// Gives it a line, and tells whether it is to stay. One that falls too far behind is not: its answer ends.
    fn hear(self: &Rc<Self>, line: &str) -> bool {
        let mut waiting = self.waiting.borrow_mut();
        waiting.push_back(line.to_owned());
        let stays = waiting.len() as u64 <= KEPT;
        drop(waiting);
        self.write();
        stays
    }

    /// Writes what waits, unless that is being done: a slow listener keeps neither the speaker nor the others waiting.
    fn write(self: &Rc<Self>) {
        let Some(mut writer) = self.writer.take() else {
            return;
        };
        let listener = Rc::clone(self);
        spawn_local(async move {
            loop {
                let line = listener.waiting.borrow_mut().pop_front();
                let Some(line) = line else {
                    return listener.writer.set(Some(writer));
                };
                if !writer.write_all(line.into_bytes()).await.is_empty() {
                    return; // It has gone. What is said from now on is left waiting, until that is too much.
                }
            }
        });
    }
}

// --- The lobby ---

async fn lobby(request: Request) -> Result<Response, StorageError> {
    let path = request.get_path_with_query().unwrap_or_default();
    if let (Method::Post, Some((room, said))) = (request.get_method(), path[1..].split_once('/')) {
        let (key, said) = (format!("room/{room}"), said.parse().unwrap_or(0));
        let known = storage::get(key.clone()).await?.map_or(0, number);
        storage::put(&[(key, known.max(said).to_string().into_bytes())])?;
        return Ok(text(200, ""));
    }
    let rooms = storage::list(all("room/")).await?;
    let rooms: Vec<_> = rooms.into_iter().map(|(key, said)| (key["room/".len()..].to_owned(), number(said))).collect();
    let mut answer: String = rooms.iter().map(|(room, said)| format!("{room}: {said}\n")).collect();
    answer += &format!("{} messages in {} rooms\n", rooms.iter().map(|(_, said)| said).sum::<u64>(), rooms.len());
    Ok(text(200, answer))
}

fn number(stored: Vec<u8>) -> u64 {
    String::from_utf8_lossy(&stored).parse().unwrap_or(0)
}

// --- What both need ---

/// To list all keys that begin so.
fn all(prefix: &str) -> ListOptions {
    ListOptions { prefix: Some(prefix.into()), start: None, start_after: None, end: None, reverse: false, limit: None }
}

fn reason(error: StorageError) -> String {
    format!("storage: {error:?}")
}

async fn body(request: Request) -> String {
    let (_, received) = wit_future::new(|| Ok(()));
    let (body, _trailers) = Request::consume_body(request, received);
    String::from_utf8_lossy(&body.collect().await).into_owned()
}

fn not_found() -> Response {
    text(404, "see the first lines of this worker's source\n")
}

fn text(status: u16, text: impl Into<Vec<u8>>) -> Response {
    let (mut writer, body) = wit_stream::new();
    let text = text.into();
    spawn_local(async move {
        writer.write_all(text).await;
    });
    response(status, body)
}

fn response(status: u16, body: StreamReader<u8>) -> Response {
    let headers = Fields::new();
    let _ = headers.append("content-type", b"text/plain; charset=utf-8");
    let (_, trailers) = wit_future::new(|| Ok(None));
    let (response, _sent) = Response::new(headers, Some(body), trailers);
    let _ = response.set_status_code(status);
    response
}
