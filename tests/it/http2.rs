//! HTTP/2 with prior knowledge on the data listener (h2c): many requests in one connection, bodies and trailers both ways.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Channel};
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::harness::{Node, Upload, example, test_guest};

type Client = SendRequest<Channel<Bytes, Infallible>>;

/// Runs a test against a node, in a runtime of its own.
fn run<F: Future<Output = ()>>(test: impl FnOnce(SocketAddr) -> F, node: &Node) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(test(node.data));
}

async fn connect(address: SocketAddr) -> Client {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (client, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    client
}

fn request(method: &str, worker: &str, path: &str) -> http::request::Builder {
    http::Request::builder().method(method).uri(format!("http://{worker}.localhost{path}"))
}

/// A body without bytes.
fn empty() -> Channel<Bytes, Infallible> {
    Channel::new(1).1
}

async fn get(client: &mut Client, worker: &str, path: &str) -> http::Response<Incoming> {
    client.send_request(request("GET", worker, path).body(empty()).unwrap()).await.unwrap()
}

async fn text(response: http::Response<Incoming>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

/// The next frame, once it is there.
async fn frame(body: &mut Incoming) -> Option<Result<Frame<Bytes>, hyper::Error>> {
    std::future::poll_fn(|cx: &mut Context<'_>| -> Poll<_> { Pin::new(&mut *body).poll_frame(cx) }).await
}

#[test]
fn many_requests_share_one_connection() {
    let node = Node::start();
    node.deploy_module("hello", &example("hello"), Upload::default());
    node.deploy_module("slow", &test_guest("slow-stream"), Upload::default());
    let answers = |address| async move {
        let client = connect(address).await;
        let mut waiting = tokio::task::JoinSet::new();
        for n in 0..50 {
            let (mut client, worker) = (client.clone(), if n % 5 == 0 { "slow" } else { "hello" });
            waiting.spawn(async move { (worker, text(get(&mut client, worker, "/?chunks=2").await).await) });
        }
        let answers = waiting.join_all().await;
        // Ten that take a fifth of a second each held back no one.
        assert!(answers[..40].iter().all(|(worker, text)| *worker == "hello" && text == "Hello, World!\n"));
        assert!(answers[40..].iter().all(|(worker, text)| *worker == "slow" && text == "chunk 000\nchunk 001\n"));
    };
    run(answers, &node);
    assert_eq!(node.metric("sluice_connections_total "), Some(1.0));
}

#[test]
fn bodies_and_trailers_stream_both_ways() {
    let node = Node::logging(&[]);
    node.deploy_module("echo-stream", &example("echo-stream"), Upload::default());
    node.deploy_module("echo-p2", &test_guest("echo-p2"), Upload::default());
    let echo = |address| async move {
        let mut client = connect(address).await;
        for worker in ["echo-stream", "echo-p2"] {
            let (mut sender, body) = Channel::new(1);
            let answer = client.send_request(request("POST", worker, "/").body(body).unwrap());
            let mut body = answer.await.unwrap().into_body();
            for sent in ["one", "two"] {
                sender.send_data(Bytes::from(sent)).await.unwrap();
                assert_eq!(frame(&mut body).await.unwrap().unwrap().into_data().unwrap(), sent);
            }
            let trailers = http::HeaderMap::from_iter([(
                http::HeaderName::from_static("x-sum"),
                http::HeaderValue::from_static("42"),
            )]);
            sender.send_trailers(trailers.clone()).await.unwrap();
            drop(sender);
            assert_eq!(frame(&mut body).await.unwrap().unwrap().into_trailers().unwrap(), trailers, "{worker}");
            assert!(frame(&mut body).await.is_none());
        }
    };
    run(echo, &node);
    assert_eq!(node.record_of("echo-p2", "/").end(), "ok/");
    assert_eq!(node.record_of("echo-stream", "/").end(), "ok/");
}

#[test]
fn head_has_no_body_and_is_no_disconnect() {
    let node = Node::logging(&[]);
    for name in ["hello", "hello-async"] {
        node.deploy_module(name, &example(name), Upload::default());
        let head = |address| async move {
            let mut client = connect(address).await;
            let answer = client.send_request(request("HEAD", name, "/").body(empty()).unwrap()).await.unwrap();
            assert_eq!((answer.status().as_u16(), answer.headers()["content-length"].as_bytes()), (200, &b"14"[..]));
            assert_eq!(text(answer).await, "");
            assert_eq!(text(get(&mut client, name, "/next").await).await, "Hello, World!\n");
        };
        run(head, &node);
        assert_eq!(node.record_of(name, "/").end(), "ok/");
    }
}

#[test]
fn a_stream_that_the_client_resets_ends_its_request_and_no_other() {
    let node = Node::logging(&["--instance-slots", "2"]);
    node.deploy_module("hang", &test_guest("hang"), Upload::default());
    node.deploy_module("slow", &test_guest("slow-stream"), Upload::default());
    node.deploy_module("hello", &example("hello"), Upload::default());
    let reset = |address| async move {
        let mut client = connect(address).await;
        // Dropping what waits for an answer resets its stream.
        let hanging = client.clone().send_request(request("GET", "hang", "/").body(empty()).unwrap());
        assert!(tokio::time::timeout(std::time::Duration::from_millis(300), hanging).await.is_err());
        let mut streaming = get(&mut client, "slow", "/?chunks=100000").await.into_body();
        assert!(frame(&mut streaming).await.is_some());
        drop(streaming);
        assert_eq!(text(get(&mut client, "hello", "/").await).await, "Hello, World!\n");
    };
    run(reset, &node);
    assert_eq!(node.record_of("hang", "/").end(), "canceled/caller");
    assert_eq!(node.record_of("slow", "/?chunks=100000").end(), "responseStreamDisconnected/caller");
    assert_eq!(node.metric("sluice_connections_total "), Some(1.0));
}

#[test]
fn a_guest_that_breaks_its_promise_breaks_its_own_stream_only() {
    let node = Node::logging(&[]);
    for guest in ["drop-body-quietly", "lie-about-length", "trap"] {
        node.deploy_module(guest, &test_guest(guest), Upload::default());
    }
    let broken = |address| async move {
        let mut client = connect(address).await;
        // The reset may overtake the head.
        let half = client.send_request(request("GET", "drop-body-quietly", "/").body(empty()).unwrap()).await;
        if let Ok(half) = half {
            assert!(half.into_body().collect().await.is_err(), "half of a body was taken for all of it");
        }
        assert_eq!(text(get(&mut client, "lie-about-length", "/").await).await, "xxxxx");
        assert!(text(get(&mut client, "trap", "/").await).await.starts_with("error 1101"));
    };
    run(broken, &node);
    assert_eq!(node.metric("sluice_connections_total "), Some(1.0));
}

#[test]
fn headers_beyond_the_limit_are_431() {
    let node = Node::start();
    node.deploy_module("echo-p2", &test_guest("echo-p2"), Upload::default());
    let ask = |address| async move {
        for (kib, status) in [(100, 200), (200, 431)] {
            let mut client = connect(address).await;
            let head = (0..kib)
                .fold(request("GET", "echo-p2", "/"), |head, n| head.header(format!("x-{n}"), "y".repeat(1000)));
            let answer = client.send_request(head.body(empty()).unwrap()).await.unwrap();
            assert_eq!(answer.status(), status, "{kib} KiB");
        }
    };
    run(ask, &node);
}
