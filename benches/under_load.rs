//! `under-load`: the load and the deployments of `under-load.sh`, in pieces that the script puts together.
//!
//! | | |
//! |---|---|
//! | `full DATA HOST CONNECTIONS SECONDS` | each connection sends its next request as soon as the last is answered |
//! | `open DATA HOST RATE SECONDS` | so many requests a second, whatever becomes of those before |
//! | `deploy CONTROL TOKEN WORKER RATE SECONDS VERSION VERSION` | so many deployments a second, each with another split of the two |
//!
//! What it prints is a line for `all` and one for each version that answered (`none` where none did): its id, answers, failures,
//! and the 50th, 99th and 99.9th percentile and the largest of the time to an answer in microseconds.

#![allow(unreachable_pub, reason = "one binary: nothing in it is reachable from elsewhere")]
#![allow(clippy::print_stdout, reason = "the script reads it")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use hdrhistogram::Histogram;
use sluicegate::clock::monotonic;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// The longest that anyone waits for an answer: longer than the node lets a request wait.
const PATIENCE: Duration = Duration::from_secs(70);
/// The body of a good answer.
const BODY: &[u8] = b"Hello, World!\n";

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let tally = match args.as_slice() {
        ["full", data, host, connections, seconds] => {
            full(data, host, connections.parse()?, Duration::from_secs_f64(seconds.parse()?)).await
        }
        ["open", data, host, rate, seconds] => open(data, host, rate.parse()?, seconds.parse()?).await?,
        ["deploy", control, token, worker, rate, seconds, first, second] => {
            let api = Api { control, token, worker };
            deploy(&api, rate.parse()?, seconds.parse()?, [first, second]).await?
        }
        _ => bail!("usage: see the first lines of benches/under_load.rs"),
    };
    let mut all = Counts::default();
    tally.0.values().for_each(|counts| all.merge(counts));
    all.print("all");
    tally.0.iter().for_each(|(version, counts)| counts.print(version));
    Ok(())
}

/// What became of the requests, by version.
#[derive(Default)]
struct Tally(BTreeMap<String, Counts>);

struct Counts {
    answers: u64,
    failures: u64,
    times: Histogram<u64>,
}

impl Tally {
    fn add(&mut self, reply: &anyhow::Result<Reply>, took: Duration) {
        let version = reply.as_ref().ok().and_then(|reply| reply.version.as_deref()).unwrap_or("none");
        if !self.0.contains_key(version) {
            self.0.insert(version.to_owned(), Counts::default());
        }
        let counts = self.0.get_mut(version).expect("it was put there");
        counts.answers += 1;
        counts.failures += u64::from(!reply.as_ref().is_ok_and(|reply| reply.status == 200));
        counts.times.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    fn merge(&mut self, other: Self) {
        for (version, theirs) in other.0 {
            self.0.entry(version).or_default().merge(&theirs);
        }
    }
}

impl Counts {
    fn merge(&mut self, other: &Self) {
        self.answers += other.answers;
        self.failures += other.failures;
        self.times += &other.times;
    }

    fn print(&self, version: &str) {
        let at = |quantile| self.times.value_at_quantile(quantile);
        let Self { answers, failures, times } = self;
        println!("{version} {answers} {failures} {} {} {} {}", at(0.5), at(0.99), at(0.999), times.max());
    }
}

impl Default for Counts {
    fn default() -> Self {
        let times = Histogram::new_with_max(PATIENCE.as_micros().try_into().expect("less"), 3).expect("a histogram");
        Self { answers: 0, failures: 0, times }
    }
}

// --- The loads -----------------------------------------------------------------------------------------

async fn full(data: &str, host: &str, connections: usize, time: Duration) -> Tally {
    let end = monotonic() + time;
    let clients = (0..connections).map(async |_| {
        let (mut tally, mut connection) = (Tally::default(), None);
        while monotonic() < end {
            let began = monotonic();
            let reply = ask(&mut connection, data, host).await;
            let failed = reply.is_err();
            tally.add(&reply, began.elapsed());
            if failed {
                // Against a node that is gone this would spin.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        tally
    });
    let mut all = Tally::default();
    futures_util::future::join_all(clients).await.into_iter().for_each(|tally| all.merge(tally));
    all
}

/// Requests begin by the clock, on whichever connection is idle, or on a new one: an answer that takes long delays no other
/// request, and is counted from when its request was due.
async fn open(data: &str, host: &str, rate: f64, seconds: f64) -> anyhow::Result<Tally> {
    let mut due = pace(rate, seconds)?;
    let (back, mut idle) = mpsc::unbounded_channel::<Option<Connection>>();
    let (done, mut results) = mpsc::unbounded_channel();
    while let Some(began) = due.recv().await {
        let mut connection = idle.try_recv().ok().flatten();
        let (back, done, data, host) = (back.clone(), done.clone(), data.to_owned(), host.to_owned());
        tokio::spawn(async move {
            let reply = ask(&mut connection, &data, &host).await;
            let _ = done.send((reply, began.elapsed()));
            if connection.is_some() {
                let _ = back.send(connection);
            }
        });
    }
    drop(done);
    let mut tally = Tally::default();
    while let Some((reply, took)) = results.recv().await {
        tally.add(&reply, took);
    }
    Ok(tally)
}

/// Moments at even distances. By a thread: the runtime's own timers are a millisecond apart.
fn pace(rate: f64, seconds: f64) -> anyhow::Result<mpsc::UnboundedReceiver<Instant>> {
    ensure!(rate > 0.0 && seconds > 0.0, "a rate and a time are more than nothing");
    let (sender, receiver) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        let (began, distance) = (monotonic(), Duration::from_secs_f64(1.0 / rate));
        let mut at = Duration::ZERO;
        while at.as_secs_f64() < seconds {
            std::thread::sleep(at.saturating_sub(began.elapsed()));
            // The thread's own lateness is not the node's.
            if sender.send(monotonic()).is_err() {
                return;
            }
            at += distance;
        }
    });
    Ok(receiver)
}

/// The deployments API of one worker.
struct Api<'a> {
    control: &'a str,
    token: &'a str,
    worker: &'a str,
}

async fn deploy(api: &Api<'_>, rate: f64, seconds: f64, versions: [&str; 2]) -> anyhow::Result<Tally> {
    let mut due = pace(rate, seconds)?;
    let (mut tally, mut connection, mut share) = (Tally::default(), None, 0);
    while let Some(began) = due.recv().await {
        share = (share + 37) % 101;
        let body = format!(
            r#"{{"strategy":"percentage","versions":[{{"version_id":"{}","percentage":{share}}},{{"version_id":"{}","percentage":{}}}]}}"#,
            versions[0],
            versions[1],
            100 - share,
        );
        let request = format!(
            "POST /client/v4/accounts/local/workers/scripts/{}/deployments HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer \
             {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            api.worker,
            api.control,
            api.token,
            body.len(),
        );
        let reply = exchange(&mut connection, api.control, request.as_bytes()).await;
        tally.add(&reply, began.elapsed());
    }
    Ok(tally)
}

// --- HTTP, as little as this needs ---------------------------------------------------------------------

struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
}

struct Reply {
    status: u16,
    version: Option<String>,
    body_bytes: usize,
}

/// A request to a worker; a 200 with another body than is expected is an error.
async fn ask(connection: &mut Option<Connection>, data: &str, host: &str) -> anyhow::Result<Reply> {
    let reply = exchange(connection, data, format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n").as_bytes()).await?;
    ensure!(reply.status != 200 || reply.body_bytes == BODY.len(), "another body than expected");
    Ok(reply)
}

/// Sends a request and waits for its answer. The connection is kept for the next one, or dropped if it has failed.
async fn exchange(slot: &mut Option<Connection>, address: &str, request: &[u8]) -> anyhow::Result<Reply> {
    let mut connection = match slot.take() {
        Some(connection) => connection,
        None => {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Connection { stream, received: Vec::with_capacity(4096) }
        }
    };
    let reply = tokio::time::timeout(PATIENCE, async {
        connection.stream.write_all(request).await?;
        connection.receive().await
    });
    let reply = reply.await.context("no answer")??;
    *slot = Some(connection);
    Ok(reply)
}

impl Connection {
    async fn receive(&mut self) -> anyhow::Result<Reply> {
        self.received.clear();
        let head_bytes = loop {
            if let Some(end) = self.received.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            self.more().await?;
        };
        let head = std::str::from_utf8(&self.received[..head_bytes])?;
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).context("no status")?.parse()?;
        let (mut version, mut body_bytes) = (None, None);
        for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
            if name.eq_ignore_ascii_case("sluice-version") {
                version = value.split(';').next().map(str::to_owned);
            } else if name.eq_ignore_ascii_case("content-length") {
                body_bytes = Some(value.parse::<usize>()?);
            }
        }
        let body_bytes = body_bytes.context("an answer that does not say how long it is")?;
        while self.received.len() < head_bytes + body_bytes {
            self.more().await?;
        }
        Ok(Reply { status, version, body_bytes })
    }

    async fn more(&mut self) -> anyhow::Result<()> {
        ensure!(self.stream.read_buf(&mut self.received).await? > 0, "the connection ended within an answer");
        Ok(())
    }
}
