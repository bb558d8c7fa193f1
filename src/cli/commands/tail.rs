//! `tail`: the requests of a worker as they end. The same stream that `wrangler tail` reads; made anew when it breaks.

use std::io::IsTerminal as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::cli::args::{Common, TailArgs, TailFormat};
use crate::cli::client::{Api, Listing};
use crate::cli::commands::{node, versions};
use crate::cli::fault::failed;
use crate::cli::{refused, render, tail};
use crate::control::wire::{Tail, TailRequest};

/// The sub-protocol of a tail.
const PROTOCOL: &str = "trace-v1";
/// Waits between attempts to get a broken tail back, wrangler's.
const BACKOFF: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(16),
];
/// A node that says nothing for so long has gone: it asks every half a minute whether we are there.
const SILENCE_MAX: Duration = Duration::from_secs(90);
/// Who presses Ctrl-C does not wait for longer.
const DELETE_MAX: Duration = Duration::from_secs(2);

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// How following a tail ended.
enum Ended {
    /// The node or the reader of our output wants no more.
    Over,
    /// The connection broke, or the tail grew too old.
    Lost(String),
}

/// `sluice tail`.
pub async fn run(args: &TailArgs, common: &Common) -> anyhow::Result<()> {
    let worker = match &args.worker {
        Some(worker) => worker.clone(),
        None => common.selection().worker()?,
    };
    let api = common.client()?;
    let version = match &args.version_id {
        Some(name) => Some(versions::resolve(&api, &worker, name, Listing::All).await?),
        None => None,
    };
    let request = tail::request(args, version)?;
    let format = match args.format {
        _ if args.json => TailFormat::Json,
        Some(format) => format,
        None if std::io::stdout().is_terminal() => TailFormat::Pretty,
        None => TailFormat::Json,
    };
    let following = Following { api, worker, request, format, tail: Mutex::default() };
    let told_to_stop = node::until_told_to_stop()?;
    let outcome = tokio::select! {
        outcome = following.forever() => outcome,
        () = told_to_stop => Ok(()),
    };
    following.delete().await;
    outcome
}

struct Following {
    api: Api,
    worker: String,
    request: TailRequest,
    format: TailFormat,
    /// The id of the newest tail.
    tail: Mutex<Option<String>>,
}

impl Following {
    async fn forever(&self) -> anyhow::Result<()> {
        let (tail, mut socket) = self.connect().await?;
        render::note(format_args!("Connected to {}, waiting for requests (until {})", self.worker, tail.expires_at));
        loop {
            match self.follow(&mut socket).await {
                Ended::Over => return Ok(()),
                Ended::Lost(why) => render::warn(format_args!("the tail was lost: {why}")),
            }
            socket = self.again().await?;
            render::note(format_args!("Connected to {} again; requests in between were not seen", self.worker));
        }
    }

    async fn connect(&self) -> anyhow::Result<(Tail, Socket)> {
        let tail = self.api.create_tail(&self.worker, &self.request).await?;
        *self.tail.lock().unwrap_or_else(PoisonError::into_inner) = Some(tail.id.clone());
        let mut request = tail.url.as_str().into_client_request().context("the node answered with a wrong address")?;
        request.headers_mut().insert(http::header::SEC_WEBSOCKET_PROTOCOL, http::HeaderValue::from_static(PROTOCOL));
        let (socket, _) = tokio_tungstenite::connect_async(request).await.with_context(|| {
            let host = tail.url.split("/tails/").next().unwrap_or_default().to_owned();
            failed(format!("cannot read the tail at {host}"))
        })?;
        Ok((tail, socket))
    }

    /// Tidies up. A node that has gone, or has forgotten the tail, needs no tidying.
    async fn delete(&self) {
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(id) = tail {
            let _ = tokio::time::timeout(DELETE_MAX, self.api.delete_tail(&self.worker, &id)).await;
        }
    }

    async fn again(&self) -> anyhow::Result<Socket> {
        let mut last = None;
        for wait in BACKOFF {
            tokio::time::sleep(wait).await;
            match self.connect().await {
                Ok((_, socket)) => return Ok(socket),
                // A refusal will be the same next time.
                Err(error) if refused::code(&error).is_some() => return Err(error),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| failed("the tail was lost").into()))
    }

    async fn follow(&self, socket: &mut Socket) -> Ended {
        loop {
            let Ok(message) = tokio::time::timeout(SILENCE_MAX, socket.next()).await else {
                return Ended::Lost("the node says nothing any more".to_owned());
            };
            let text = match message {
                Some(Ok(Message::Text(text))) => text.as_str().to_owned(),
                Some(Ok(Message::Binary(bytes))) => String::from_utf8_lossy(&bytes).into_owned(),
                Some(Ok(Message::Close(frame))) => {
                    return match frame {
                        Some(frame) if frame.code == CloseCode::Normal => Ended::Over,
                        Some(frame) => Ended::Lost(frame.reason.to_string()),
                        None => Ended::Lost("the node closed it".to_owned()),
                    };
                }
                // Pings are answered below us.
                Some(Ok(_)) => continue,
                Some(Err(Error::ConnectionClosed)) | None => return Ended::Lost("the connection ended".to_owned()),
                Some(Err(error)) => return Ended::Lost(error.to_string()),
            };
            if !self.show(&text) {
                return Ended::Over;
            }
        }
    }

    /// False if nobody reads what is printed.
    fn show(&self, event: &str) -> bool {
        match (self.format, serde_json::from_str::<Value>(event)) {
            (TailFormat::Pretty, Ok(event)) => render::line_to_reader(tail::pretty(&event)),
            // As it came: a line of JSON.
            (TailFormat::Json, _) | (_, Err(_)) => render::line_to_reader(event),
        }
    }
}
