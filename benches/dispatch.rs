//! From a request to a guest's answer: through the dispatcher alone, and over loopback HTTP beside a bare hyper server.

#![allow(unreachable_pub, reason = "one binary: nothing in it is reachable from elsewhere")]

mod common;
mod hello;

use std::net::SocketAddr;
use std::sync::Arc;

use criterion::{Criterion, SamplingMode, criterion_group, criterion_main};
use http_body_util::BodyExt as _;
use sluicegate::catalog::WorkerView;
use sluicegate::clock::monotonic;
use sluicegate::dispatch::{Dispatcher, Wanted};
use sluicegate::domain::id::WorkerName;
use sluicegate::host::call::Lineage;
use sluicegate::ingress::crew::Crew;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

use common::{Node, Reuse};

/// As the binary has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Worker, guest, whether its instances are used again.
const WORKERS: [(&str, &str, Reuse); 3] =
    [("fresh", "hello", Reuse::ByGuest), ("reused", "hello", Reuse::Always), ("async", "hello-async", Reuse::ByGuest)];
/// Connections that are kept alive, and the requests that each sends in one iteration.
const CONNECTIONS: usize = 16;
const ROUND: u32 = 16;

fn dispatch(c: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let node = runtime.block_on(async {
        let node = Node::new().await;
        for (worker, guest, reuse) in WORKERS {
            node.upload(worker, &common::guest(guest), reuse).await;
        }
        node
    });
    in_process(c, &runtime, &node);
    over_http(c, &runtime, &node);
}

/// The dispatcher alone, one request after another: decision, instance, guest, record.
fn in_process(c: &mut Criterion, runtime: &Runtime, node: &Node) {
    let mut group = c.benchmark_group("dispatch/in_process");
    let view = node.catalog.view();
    for (worker, ..) in WORKERS {
        let name: WorkerName = worker.parse().expect("a name");
        let worker_view = view.worker(&name).expect("it was uploaded");
        let host = format!("{worker}.localhost");
        runtime.block_on(answer(&node.dispatcher, worker_view, &host));
        group.bench_function(worker, |b| {
            b.to_async(runtime).iter(|| answer(&node.dispatcher, worker_view, &host));
        });
    }
    group.finish();
}

async fn answer(dispatcher: &Arc<Dispatcher>, worker: &Arc<WorkerView>, host: &str) {
    let answer = dispatcher.dispatch(worker, Wanted::Deployed, common::request(host), Lineage::default()).await;
    let body = answer.response.into_body().collect().await.expect("a whole body").to_bytes();
    assert_eq!(body.as_ref(), hello::BODY.as_bytes());
}

/// Over loopback, with [`CONNECTIONS`] at once: what is reported is the time for one request, client included. Only the
/// differences to `bare_hyper` say something.
fn over_http(c: &mut Criterion, runtime: &Runtime, node: &Node) {
    let (bare, data) = runtime.block_on(async {
        let (listener, bare) = bind().await;
        tokio::spawn(hello::serve(listener));
        let data = node.serve(Crew::start().expect("threads")).await;
        (bare, data)
    });
    let mut group = c.benchmark_group("dispatch/http_16_connections");
    group.sampling_mode(SamplingMode::Flat).sample_size(30);
    let subjects = std::iter::once(("bare_hyper", bare)).chain(WORKERS.map(|(worker, ..)| (worker, data)));
    for (subject, address) in subjects {
        let mut clients: Vec<Client> = runtime.block_on(async {
            futures_util::future::join_all((0..CONNECTIONS).map(|_| Client::connect(address, subject))).await
        });
        group.bench_function(subject, |b| {
            b.iter_custom(|iterations| {
                let requests = u32::try_from(iterations).unwrap_or(u32::MAX).saturating_mul(ROUND);
                let began = monotonic();
                clients = runtime.block_on(async {
                    let running = clients.drain(..).map(|mut client| {
                        tokio::spawn(async move {
                            client.send(requests).await;
                            client
                        })
                    });
                    let done = futures_util::future::join_all(running.collect::<Vec<_>>()).await;
                    done.into_iter().map(|client| client.expect("the client ends")).collect()
                });
                // Criterion divides by its iterations; one of them is a round of every connection.
                began.elapsed() / (ROUND * u32::try_from(CONNECTIONS).expect("few"))
            });
        });
    }
    group.finish();
}

async fn bind() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    let address = listener.local_addr().expect("its address");
    (listener, address)
}

/// A connection that sends one request after another, as cheaply as can be: what it costs is measured too.
struct Client {
    stream: TcpStream,
    request: Vec<u8>,
    answer: Vec<u8>,
    /// Bytes of the answer: the same for every request.
    answer_bytes: usize,
}

impl Client {
    async fn connect(address: SocketAddr, worker: &str) -> Self {
        let stream = TcpStream::connect(address).await.expect("a connection");
        stream.set_nodelay(true).expect("no delay");
        let request = format!("GET / HTTP/1.1\r\nhost: {worker}.localhost\r\n\r\n").into_bytes();
        let mut client = Self { stream, request, answer: vec![0; 4096], answer_bytes: 0 };
        client.stream.write_all(&client.request).await.expect("a request");
        while !client.answer[..client.answer_bytes].ends_with(hello::BODY.as_bytes()) {
            let read = client.stream.read(&mut client.answer[client.answer_bytes..]).await.expect("an answer");
            assert!(read > 0, "an unexpected answer: {}", client.answer[..client.answer_bytes].escape_ascii());
            client.answer_bytes += read;
        }
        client
    }

    async fn send(&mut self, requests: u32) {
        for _ in 0..requests {
            self.stream.write_all(&self.request).await.expect("a request");
            self.stream.read_exact(&mut self.answer[..self.answer_bytes]).await.expect("an answer");
            assert!(self.answer[..self.answer_bytes].ends_with(hello::BODY.as_bytes()), "another answer than before");
        }
    }
}

criterion_group!(benches, dispatch);
criterion_main!(benches);
