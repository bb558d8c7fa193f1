//! Sockets: connections are accepted, limited, served over HTTP/1.1 and HTTP/2, and drained.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::domain::limits::{CONNECTIONS_MAX, HTTP2_STREAMS_MAX, REQUEST_HEADER_BYTES_MAX, REQUEST_HEADER_WALL_MAX};
use crate::ingress::crew::Crew;
use crate::ingress::serve::{Client, Door};

/// How long it may take until what was cut off has ended.
const CUT_OFF_MAX: Duration = Duration::from_secs(1);

/// Serves `listener` with the threads of `crew` until `stop`; then accepts nothing more, and lets what runs end within `drain`.
pub async fn run(listener: TcpListener, door: Arc<Door>, crew: Arc<Crew>, stop: CancellationToken, drain: Duration) {
    let server = server();
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let cut_off = CancellationToken::new();
    loop {
        let stream = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = accept(&listener, &places) => accepted,
        };
        let Some((stream, peer, place)) = stream else { continue };
        door.observer.metrics.connections.fetch_add(1, Ordering::Relaxed);
        // Small answers must not wait for more to send.
        let _ = stream.set_nodelay(true);
        let seat = crew.seat();
        let stream = match seat.adopt(stream) {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be taken over by the thread that was to serve it");
                continue;
            }
        };
        let begun = Arc::new(AtomicBool::new(false));
        let service = {
            let (door, begun, client) = (Arc::clone(&door), Arc::clone(&begun), Arc::new(Client::new(peer)));
            service_fn(move |request| {
                begun.store(true, Ordering::Relaxed);
                let (door, client) = (Arc::clone(&door), Arc::clone(&client));
                async move { Ok::<_, Infallible>(door.answer(request, &client).await) }
            })
        };
        let cut_off = cut_off.clone();
        let connection = graceful.watch(server.serve_connection(TokioIo::new(stream), service).into_owned());
        seat.serve(async move {
            // How a connection fails is its client's affair; requests in it have records of their own.
            tokio::select! {
                ended = within_limits(connection, &begun) => if let Err(error) = ended {
                    tracing::debug!(error, "a connection ended badly");
                },
                () = cut_off.cancelled() => {}
            }
            drop(place);
        });
    }
    drop(listener);
    if tokio::time::timeout(drain, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests were still running after {} s; they are cut off", drain.as_secs());
        cut_off.cancel();
        // Once all places are free, all requests have ended and have their records.
        let all = u32::try_from(CONNECTIONS_MAX).unwrap_or(u32::MAX);
        let _ = tokio::time::timeout(CUT_OFF_MAX, places.acquire_many(all)).await;
    }
}

/// Gives a connection up whose first request does not come. hyper's own limit on a head begins only once it knows which HTTP
/// it is to speak: a client that sends nothing, or half of HTTP/2's preface, would hold its place for ever.
async fn within_limits<E>(connection: impl Future<Output = Result<(), E>>, begun: &AtomicBool) -> Result<(), E> {
    let mut connection = std::pin::pin!(connection);
    match tokio::time::timeout(REQUEST_HEADER_WALL_MAX, &mut connection).await {
        Ok(ended) => ended,
        Err(_) if begun.load(Ordering::Relaxed) => connection.await,
        Err(_) => Ok(()),
    }
}

type Accepted = (TcpStream, std::net::SocketAddr, tokio::sync::OwnedSemaphorePermit);

/// The next connection, once there is a place for it.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> Option<Accepted> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => Some((stream, peer, place)),
        Err(error) => {
            let client_left = matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset);
            if !client_left {
                // Out of file descriptors, most likely: they come back when connections end.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            None
        }
    }
}

/// Runs the streams of HTTP/2 connections where they can be shared among threads.
#[derive(Clone)]
struct Streams(Handle);

impl<F: Future<Output: Send + 'static> + Send + 'static> hyper::rt::Executor<F> for Streams {
    fn execute(&self, stream: F) {
        self.0.spawn(stream);
    }
}

fn server() -> auto::Builder<Streams> {
    let mut server = auto::Builder::new(Streams(Handle::current()));
    // Never `pipeline_flush`: it lifts hyper's bound on what waits to be written, and holds a response back while there is
    // another request to read.
    server
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_HEADER_WALL_MAX)
        .max_buf_size(REQUEST_HEADER_BYTES_MAX);
    // Not `max_headers`, which is `REQUEST_HEADERS_MAX` as it is: it would cost each request what that says.
    server
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(Duration::from_secs(20)))
        .max_concurrent_streams(HTTP2_STREAMS_MAX)
        .max_header_list_size(u32::try_from(REQUEST_HEADER_BYTES_MAX).unwrap_or(u32::MAX));
    server
}
