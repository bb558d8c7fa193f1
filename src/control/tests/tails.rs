//! Tails through the door: who may make one, who may read it, and how it ends.

use futures_util::{SinkExt as _, StreamExt as _};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::handshake::client::Response;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::*;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

impl Node {
    async fn tail(&self, worker: &str, body: &str) -> Reply {
        // As wrangler sends it.
        let headers = [("Content-Type", "text/plain;charset=UTF-8")];
        self.call("POST", &under(&format!("/{worker}/tails")), &headers, body.as_bytes()).await
    }

    async fn connect(&self, url: &str, more: &[(&'static str, &str)]) -> tungstenite::Result<(Socket, Response)> {
        let mut request = url.into_client_request()?;
        for (name, value) in more.iter().chain(&[("sec-websocket-protocol", "trace-v1")]) {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        tokio_tungstenite::connect_async(request).await
    }

    fn url(&self, id: &str) -> String {
        format!("ws://{}/tails/{id}", self.addr)
    }
}

fn refused(outcome: tungstenite::Result<(Socket, Response)>) -> (StatusCode, u64) {
    let Err(tungstenite::Error::Http(response)) = outcome else { panic!("not refused: {outcome:?}") };
    let body: Value = serde_json::from_slice(response.body().as_deref().unwrap_or_default()).unwrap();
    (response.status(), body["errors"][0]["code"].as_u64().unwrap())
}

#[tokio::test]
async fn a_tail_is_read_at_its_url_without_a_token_and_ends_when_it_is_deleted() {
    let node = Node::start().await;
    node.deploy("hello", "m", json!([])).await;
    let tail = node.tail("hello", r#"{"filters":[{"sampling_rate":0.5},{"client_ip":["self"]}]}"#).await.result();
    let (id, url) = (tail["id"].as_str().unwrap(), tail["url"].as_str().unwrap());
    assert_eq!(url, format!("ws://localhost/tails/{id}"), "as the caller named us");
    assert_eq!(id.len(), 32);
    assert!(tail["expires_at"].as_str().unwrap().ends_with('Z'));

    let (mut socket, response) = node.connect(&node.url(id), &[]).await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "trace-v1");
    assert_eq!(refused(node.connect(&node.url(id), &[]).await), (StatusCode::CONFLICT, 95021));
    assert_eq!(node.get("/hello/tails").await.result()[0]["id"], id);

    socket.send(Message::Ping("wrangler tail ping".into())).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::Pong("wrangler tail ping".into()));

    node.send("DELETE", &format!("/hello/tails/{id}"), &json!(null)).await.result();
    let Message::Close(Some(close)) = socket.next().await.unwrap().unwrap() else { panic!("no close") };
    assert_eq!(close.code, CloseCode::Normal);
    assert_eq!(node.send("DELETE", &format!("/hello/tails/{id}"), &json!(null)).await.code(), 95020);
    assert_eq!(refused(node.connect(&node.url(id), &[]).await), (StatusCode::NOT_FOUND, 95020));
    assert_eq!(node.get("/hello/tails").await.result(), json!([]));
}

#[tokio::test]
async fn the_doors_rules_hold_for_a_tail() {
    let node = Node::start().await;
    node.deploy("hello", "m", json!([])).await;
    let tail = node.tail("hello", "").await.result();
    let url = node.url(tail["id"].as_str().unwrap());
    let foreign = node.connect(&url, &[("origin", "http://evil.test")]).await;
    assert_eq!(refused(foreign), (StatusCode::FORBIDDEN, 95002));
    let rebound = node.connect(&url, &[("host", "evil.test")]).await;
    assert_eq!(refused(rebound), (StatusCode::FORBIDDEN, 95001));
    let plain = node.call("GET", &format!("/tails/{}", tail["id"].as_str().unwrap()), &[], b"").await;
    assert_eq!((plain.status, plain.code()), (StatusCode::BAD_REQUEST, 95023));
    assert!(node.connect(&url, &[]).await.is_ok());
    // Making one takes the token, as everything does.
    let stranger = node.call("POST", &under("/hello/tails"), &[("Authorization", "")], b"{}").await;
    assert_eq!(stranger.code(), 10000);
}

#[tokio::test]
async fn wranglers_first_frame_is_taken_although_it_is_not_masked() {
    let node = Node::start().await;
    node.deploy("hello", "m", json!([])).await;
    let tail = node.tail("hello", "{}").await.result();
    let mut socket = TcpStream::connect(node.addr).await.unwrap();
    let head = format!(
        "GET /tails/{} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: trace-v1\r\n\r\n",
        tail["id"].as_str().unwrap()
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let hello = br#"{"debug":false}"#;
    socket.write_all(&[&[0x81, u8::try_from(hello.len()).unwrap()][..], hello].concat()).await.unwrap();
    // A ping with an empty mask: whoever was thrown out gets no pong.
    socket.write_all(&[0x89, 0x82, 0, 0, 0, 0, b'h', b'i']).await.unwrap();
    let mut read = Vec::new();
    while !read.ends_with(&[0x8a, 2, b'h', b'i']) {
        let mut buffer = [0; 1024];
        let count = socket.read(&mut buffer).await.unwrap();
        assert!(count > 0, "the connection ended: {}", String::from_utf8_lossy(&read));
        read.extend_from_slice(&buffer[..count]);
    }
    assert!(read.starts_with(b"HTTP/1.1 101"));
}

#[tokio::test]
async fn what_cannot_be_watched_is_refused_with_its_place() {
    let node = Node::start().await;
    assert_eq!(node.tail("nobody", "{}").await.code(), 10007);
    assert_eq!(node.get("/nobody/tails").await.code(), 10007);
    node.deploy("hello", "m", json!([])).await;
    for (filter, pointer) in [
        (json!({ "sampling_rate": 2 }), "filters[0].sampling_rate"),
        (json!({ "outcome": ["fine"] }), "filters[0].outcome"),
        (json!({ "header": { "key": "a b" } }), "filters[0].header.key"),
        (json!({ "client_ip": ["here"] }), "filters[0].client_ip"),
        (json!({ "method": vec!["GET"; 101] }), "filters[0].method"),
        (json!({ "scriptVersion": "newest" }), "filters[0].scriptVersion"),
    ] {
        let reply = node.tail("hello", &json!({ "filters": [filter] }).to_string()).await;
        assert_eq!((reply.code(), &reply.json()["errors"][0]["source"]["pointer"]), (10004, &json!(pointer)));
    }
    for body in [r#"{"filters":[{"colour":"red"}]}"#, r#"{"filter":[]}"#, "{", "null"] {
        assert_eq!(node.tail("hello", body).await.code(), 10026, "{body}");
    }
    let many = json!({ "filters": vec![json!({ "query": "x" }); 101] });
    assert_eq!(node.tail("hello", &many.to_string()).await.code(), 10027);
    assert!(node.tails.of(&"hello".parse().unwrap()).is_empty(), "a refused tail is no tail");
}

#[tokio::test]
async fn a_log_push_job_is_refused_with_what_to_use_instead() {
    let node = Node::start().await;
    for method in ["POST", "PUT"] {
        let reply = node.call(method, "/client/v4/accounts/local/logpush/jobs", &[], b"{}").await;
        let (code, message) = reply.fault();
        assert_eq!(code, 95004);
        assert!(message.contains("--request-log"), "{message}");
    }
}
