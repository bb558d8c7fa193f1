//! A tail, read as `wrangler tail` reads it.

use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Message, WebSocket, client};

use crate::harness::Node;

/// A connected tail.
pub struct Tail {
    socket: WebSocket<TcpStream>,
    pub worker: String,
    pub id: String,
}

impl Node {
    /// Watches a worker.
    pub fn tail(&self, worker: &str, filters: Value) -> Tail {
        let tail = self.api("POST", &format!("/scripts/{worker}/tails"), &json!({ "filters": filters }));
        let mut request = tail["url"].as_str().expect("a URL").into_client_request().expect("a request");
        request.headers_mut().insert("sec-websocket-protocol", "trace-v1".parse().expect("a value"));
        let stream = TcpStream::connect(self.control).expect("the listener accepts");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
        let (socket, response) = client(request, stream).expect("an upgrade");
        assert_eq!(response.headers()["sec-websocket-protocol"], "trace-v1");
        Tail { socket, worker: worker.to_owned(), id: tail["id"].as_str().expect("an id").to_owned() }
    }

    /// Ends a tail.
    pub fn delete_tail(&self, tail: &Tail) {
        self.api("DELETE", &format!("/scripts/{}/tails/{}", tail.worker, tail.id), &Value::Null);
    }
}

impl Tail {
    /// The next event; panics if none comes.
    pub fn event(&mut self) -> Value {
        self.next().unwrap_or_else(|code| panic!("the tail ended with {code:?}"))
    }

    /// The next event, or the code with which the tail ends.
    pub fn next(&mut self) -> Result<Value, Option<CloseCode>> {
        loop {
            match self.socket.read().expect("a message") {
                Message::Text(text) => return Ok(serde_json::from_str(&text).expect("JSON")),
                Message::Close(frame) => return Err(frame.map(|frame| frame.code)),
                _ => {}
            }
        }
    }

    /// The paths of the next events.
    pub fn paths(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|_| path_of(&self.event())).collect()
    }
}

/// The path and query of the request that an event tells of.
pub fn path_of(event: &Value) -> String {
    let url = event["event"]["request"]["url"].as_str().unwrap_or_else(|| panic!("no request in {event}"));
    url.splitn(4, '/').nth(3).map(|path| format!("/{path}")).unwrap_or_default()
}
