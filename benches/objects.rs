//! Durable Objects beside their limits, in one run: calls beside a bare actor's channel, durable writes beside what the disk can
//! sync; and what an object costs in memory and asleep.
//!
//! `OBJECTS` (100,000) are created, `LIVE` (10,000) of them in memory at once; `ALARMS` (100,000) sleep; `SECONDS_EACH` (2) for
//! each rate.

#![allow(unreachable_pub, reason = "one binary: nothing in it is reachable from elsewhere")]
#![allow(clippy::print_stdout, reason = "a table for whoever runs it")]

mod common;

use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http_body_util::BodyExt as _;
use sluicegate::clock::monotonic;
use sluicegate::dispatch::Dispatcher;
use sluicegate::domain::object::ObjectNamespaceId;
use sluicegate::host::Body;
use sluicegate::host::call::Lineage;
use sluicegate::host::object::Address;
use sluicegate::host::ports::{ObjectCaller as _, ObjectTarget};
use sluicegate::objects::alarms::Ringer;
use sluicegate::objects::{Objects, Settings};
use sluicegate::store::SqliteStore;
use tokio::sync::{mpsc, oneshot};

use common::{Node, Reuse};

/// As the binary has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Calls at once, where there are several.
const AT_ONCE: u64 = 32;

fn main() {
    // `cargo test --benches` and `cargo bench --no-run` only want it to build.
    if std::env::args().any(|arg| arg == "--test") {
        return;
    }
    tokio::runtime::Runtime::new().expect("a runtime").block_on(run());
}

async fn run() {
    let (objects, live) = (number("OBJECTS", 100_000), number("LIVE", 10_000));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().to_owned();
    let store = Arc::new(SqliteStore::open(&path).expect("a store"));
    let settings = Settings { live: u32::try_from(live).expect("a count"), idle: Duration::from_secs(3600) };
    let node = Arc::new(Node::over(store, folder, settings).await);
    node.upload_with("counter", &common::guest("counter"), Reuse::ByGuest, Some("Counter")).await;
    let (worker, class) = ("counter".parse().expect("a name"), "Counter".parse().expect("a class"));
    let namespace = node.objects.namespace(&worker, &class).expect("the class was made");
    let one = Bench { node: Arc::clone(&node), namespace };
    one.call("warm", Ask::Write).await;

    println!("| what | a second | beside its limit |");
    println!("|---|---|---|");
    let channel = actor_channel().await;
    row("a bare actor's channel, one call after another", channel, None);
    let get = one.rate(1, |_, _| "warm".into(), Ask::Read).await;
    row("calls of one object, one after another", get, Some(channel));
    let get = one.rate(AT_ONCE, |_, _| "warm".into(), Ask::Read).await;
    row("calls of one object, 32 at once", get, Some(channel));
    let get = one.rate(AT_ONCE, |caller, _| format!("live-{caller}"), Ask::Read).await;
    row("calls of 32 objects at once", get, Some(channel));
    let syncs = syncs(&path);
    row("the disk: syncs of a small write, one after another", syncs, None);
    let put = one.rate(1, |_, _| "warm".into(), Ask::Write).await;
    row("durable writes of one object, one after another", put, Some(syncs));
    let put = one.rate(AT_ONCE, |_, _| "warm".into(), Ask::Write).await;
    row("durable writes of one object, 32 at once", put, Some(syncs));
    let put = one.rate(AT_ONCE, |caller, _| format!("live-{caller}"), Ask::Write).await;
    row("durable writes of 32 objects at once", put, Some(syncs));

    let before = resident_bytes();
    let began = monotonic();
    one.each(live, |n| format!("o{n}"), Ask::Read).await;
    let in_memory = resident_bytes().saturating_sub(before);
    let woken = live as f64 / began.elapsed().as_secs_f64();
    println!();
    println!("{live} objects in memory: {} KiB each; they came there at {woken:.0} a second", in_memory / live / 1024);
    let disk = folder_bytes(&path);
    let began = monotonic();
    one.each(objects, |n| format!("stored-{n}"), Ask::Write).await;
    let rate = objects as f64 / began.elapsed().as_secs_f64();
    let stored = folder_bytes(&path).saturating_sub(disk);
    println!(
        "{objects} objects created, each with a durable write, at {rate:.0} a second: {} bytes each on disk",
        stored / objects
    );
    let asleep = resident_bytes().saturating_sub(before);
    println!("with {live} of them in memory at most, the node has grown by {} MiB", asleep / (1024 * 1024));
    alarms(&node, number("ALARMS", 100_000)).await;
    node.objects.stop().await;
}

/// What alarms cost that ring in an hour: the scheduler looks only at what is due.
async fn alarms(node: &Arc<Node>, count: u64) {
    node.upload_with("alarm-clock", &common::guest("alarm-clock"), Reuse::ByGuest, Some("Clock")).await;
    let (worker, class) = ("alarm-clock".parse().expect("a name"), "Clock".parse().expect("a class"));
    let namespace = node.objects.namespace(&worker, &class).expect("the class was made");
    let clocks = Bench { node: Arc::clone(node), namespace };
    let ringer: Arc<dyn Ringer> = Arc::<Dispatcher>::clone(&node.dispatcher);
    let ringing = tokio::spawn(Objects::ring_forever(Arc::downgrade(&node.objects), ringer));
    clocks.each(1_000, |n| format!("warm-{n}"), Ask::Alarm).await;
    let before = resident_bytes();
    clocks.each(count, |n| format!("clock-{n}"), Ask::Alarm).await;
    let grown = resident_bytes().saturating_sub(before);
    println!("{count} alarms that sleep: {} MiB", grown / (1024 * 1024));
    ringing.abort();
}

#[derive(Clone, Copy)]
enum Ask {
    Read,
    Write,
    Alarm,
}

#[derive(Clone)]
struct Bench {
    node: Arc<Node>,
    namespace: ObjectNamespaceId,
}

impl Bench {
    async fn call(&self, name: &str, ask: Ask) {
        let id = self.namespace.id_from_name(name);
        let address = Address { namespace: self.namespace, id, fork: None };
        let target = ObjectTarget { address, name: Some(name.into()) };
        let request = match ask {
            Ask::Read => http::Request::get("http://object.internal/"),
            Ask::Write => http::Request::post("http://object.internal/increment"),
            Ask::Alarm => http::Request::post("http://object.internal/at?in_ms=3600000&say=tea"),
        };
        let request = request.body(empty()).expect("a request");
        let answer = self.node.dispatcher.send(target, request, Lineage::default()).await.await;
        let response = answer.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(response.status(), 200);
        response.into_body().collect().await.expect("a whole body");
    }

    /// Calls a second, by so many callers at once.
    async fn rate(&self, callers: u64, name: fn(u64, u64) -> String, ask: Ask) -> f64 {
        let time = Duration::from_secs(number("SECONDS_EACH", 2));
        let done = Arc::new(AtomicU64::new(0));
        let began = monotonic();
        let callers: Vec<_> = (0..callers)
            .map(|caller| {
                let (bench, done) = (self.clone(), Arc::clone(&done));
                tokio::spawn(async move {
                    let mut calls = 0;
                    while began.elapsed() < time {
                        bench.call(&name(caller, calls), ask).await;
                        calls += 1;
                    }
                    done.fetch_add(calls, Ordering::Relaxed);
                })
            })
            .collect();
        for caller in callers {
            caller.await.expect("a caller");
        }
        done.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64()
    }

    /// Calls each of so many objects once.
    async fn each(&self, count: u64, name: fn(u64) -> String, ask: Ask) {
        let next = Arc::new(AtomicU64::new(0));
        let callers: Vec<_> = (0..AT_ONCE * 4)
            .map(|_| {
                let (bench, next) = (self.clone(), Arc::clone(&next));
                tokio::spawn(async move {
                    loop {
                        let n = next.fetch_add(1, Ordering::Relaxed);
                        if n >= count {
                            return;
                        }
                        bench.call(&name(n), ask).await;
                    }
                })
            })
            .collect();
        for caller in callers {
            caller.await.expect("a caller");
        }
    }
}

/// A task with a mailbox that answers: what a call of an object cannot be cheaper than.
async fn actor_channel() -> f64 {
    type Call = (http::Request<Body>, oneshot::Sender<http::Response<Body>>);
    let (sender, mut receiver) = mpsc::unbounded_channel::<Call>();
    let actor = tokio::spawn(async move {
        while let Some((_, reply)) = receiver.recv().await {
            let _ = reply.send(http::Response::new(empty()));
        }
    });
    let time = Duration::from_secs(number("SECONDS_EACH", 2));
    let (began, mut calls) = (monotonic(), 0u64);
    while began.elapsed() < time {
        for _ in 0..100 {
            let (reply, answer) = oneshot::channel();
            let request = http::Request::get("http://object.internal/").body(empty()).expect("a request");
            sender.send((request, reply)).expect("the actor lives");
            answer.await.expect("an answer");
        }
        calls += 100;
    }
    drop(sender);
    actor.await.expect("the actor ends");
    calls as f64 / began.elapsed().as_secs_f64()
}

/// Small writes to a file of the same folder, each synced.
fn syncs(folder: &Path) -> f64 {
    let mut file = File::create(folder.join("syncs")).expect("a file");
    let time = Duration::from_secs(number("SECONDS_EACH", 2));
    let (began, mut count) = (monotonic(), 0u32);
    while began.elapsed() < time {
        file.rewind().expect("a file");
        file.write_all(&[7; 4096]).expect("room on the disk");
        file.sync_data().expect("a sync");
        count += 1;
    }
    f64::from(count) / began.elapsed().as_secs_f64()
}

fn row(what: &str, rate: f64, limit: Option<f64>) {
    let beside = limit.map(|limit| format!("{:.2}", rate / limit)).unwrap_or_default();
    println!("| {what} | {rate:.0} | {beside} |");
}

fn empty() -> Body {
    http_body_util::Empty::new().map_err(|never: std::convert::Infallible| match never {}).boxed_unsync()
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// Memory of this process, by the kernel's account.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("the kernel's account");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the resident size");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib * 1024
}

fn folder_bytes(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).expect("the folder").flatten();
    let files = entries.filter_map(|entry| entry.metadata().ok()).filter(std::fs::Metadata::is_file);
    files.map(|file| file.len()).sum()
}
