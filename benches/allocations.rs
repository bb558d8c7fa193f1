//! What one request to a guest allocates, from the socket to the socket, and who asks for it: our code, or what it is built on.
//!
//! Every allocation of [`REQUESTS`] requests is attributed to the innermost function on the stack that belongs to a crate of
//! [`OWNERS`]; containers and the like (`alloc`, `http`, `bytes`, `tokio`…) act for whoever calls them.

#![allow(unreachable_pub, reason = "one binary: nothing in it is reachable from elsewhere")]
#![allow(clippy::print_stdout, reason = "a table for whoever runs it")]
#![allow(unsafe_code, reason = "an allocator that counts can be made in no other way")]

mod common;
mod hello;

use std::alloc::{GlobalAlloc, Layout};
use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sluicegate::ingress::listener;
use sluicegate::ingress::serve::{Door, Overrides, VersionHeader};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use common::{Node, Reuse};

/// Requests whose allocations are counted, after as many that are not.
const REQUESTS: u32 = 50;
/// Who can ask for memory, and what the table calls it.
const OWNERS: [(&str, &str); 7] = [
    ("sluicegate", "ours"),
    ("wasmtime_wasi_http", "wasmtime"),
    ("wasmtime_wasi_io", "wasmtime"),
    ("wasmtime_wasi", "wasmtime"),
    ("wasmtime", "wasmtime"),
    ("hyper_util", "hyper"),
    ("hyper", "hyper"),
];

/// As the binary has it, but each allocation is noted where one asks for it.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static INNER: mimalloc::MiMalloc = mimalloc::MiMalloc;

thread_local! {
    static COUNTING: Cell<bool> = const { Cell::new(false) };
    static SEEN: RefCell<Vec<(usize, Backtrace)>> = const { RefCell::new(Vec::new()) };
}

// SAFETY: all of it is done by `INNER`, to which every call is handed on as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller's promises are those that `INNER` asks for.
        unsafe { INNER.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above; the pointer came from `INNER`.
        unsafe { INNER.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        // SAFETY: as above.
        unsafe { INNER.realloc(pointer, layout, size) }
    }
}

fn note(bytes: usize) {
    // Taking a backtrace allocates, and that is not what is counted.
    if COUNTING.replace(false) {
        let backtrace = Backtrace::force_capture();
        SEEN.with_borrow_mut(|seen| seen.push((bytes, backtrace)));
        COUNTING.set(true);
    }
}

fn main() {
    // One thread for everything, so that what is counted on it is all there is.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let node = Node::new().await;
        let data = serve(&node).await;
        for (worker, guest, reuse) in [
            ("reused", "hello", Reuse::Always),
            ("async", "hello-async", Reuse::ByGuest),
            ("fresh", "hello", Reuse::ByGuest),
        ] {
            node.upload(worker, &common::guest(guest), reuse).await;
            let mut client = TcpStream::connect(data).await.expect("a connection");
            let request = format!("GET / HTTP/1.1\r\nhost: {worker}.localhost\r\n\r\n");
            ask(&mut client, &request).await;
            COUNTING.set(true);
            ask(&mut client, &request).await;
            COUNTING.set(false);
            report(worker, &SEEN.take());
        }
    });
}

async fn serve(node: &Node) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    let data = listener.local_addr().expect("its address");
    let door = Door {
        catalog: Arc::clone(&node.catalog),
        dispatcher: Arc::clone(&node.dispatcher),
        observer: Arc::clone(&node.observer),
        default_worker: None,
        version_header: VersionHeader::Omit,
        overrides: Overrides::Any,
        override_token: String::new(),
    };
    tokio::spawn(listener::run(listener, Arc::new(door), CancellationToken::new(), Duration::ZERO));
    data
}

/// [`REQUESTS`] of them. Allocates nothing itself.
async fn ask(client: &mut TcpStream, request: &str) {
    let mut answer = [0; 4096];
    for _ in 0..REQUESTS {
        client.write_all(request.as_bytes()).await.expect("a request");
        let mut bytes = 0;
        while !answer[..bytes].ends_with(hello::BODY.as_bytes()) {
            let read = client.read(&mut answer[bytes..]).await.expect("an answer");
            assert!(read > 0, "an unexpected answer: {}", answer[..bytes].escape_ascii());
            bytes += read;
        }
    }
}

fn report(worker: &str, seen: &[(usize, Backtrace)]) {
    let mut places: BTreeMap<(&str, String), (u32, usize)> = BTreeMap::new();
    for (bytes, backtrace) in seen {
        let place = places.entry(place(&backtrace.to_string())).or_default();
        place.0 += 1;
        place.1 += bytes;
    }
    let each = |count: u32| f64::from(count) / f64::from(REQUESTS);
    println!("{worker}: {:.2} allocations a request", each(u32::try_from(seen.len()).expect("few")));
    for owner in ["ours", "wasmtime", "hyper", "others"] {
        let mut of_owner: Vec<_> = places.iter().filter(|((name, _), _)| *name == owner).collect();
        of_owner.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
        println!("  {owner}: {:.2}", each(of_owner.iter().map(|(_, (count, _))| count).sum()));
        for ((_, function), (count, bytes)) in of_owner {
            println!("    {:6.2} of {:6} bytes  {function}", each(*count), bytes / *count as usize);
        }
    }
}

/// Who asked, and in which function and line.
fn place(backtrace: &str) -> (&'static str, String) {
    let mut lines = backtrace.lines().peekable();
    while let Some(line) = lines.next() {
        let Some((_, function)) = line.split_once(": ").filter(|(number, _)| number.trim().parse::<u32>().is_ok())
        else {
            continue;
        };
        let at = lines.peek().and_then(|next| next.trim().strip_prefix("at ")).unwrap_or_default();
        // `<sluicegate::A as hyper::B>::c` and `sluicegate::a::b` are ours.
        let start = function.trim_start_matches(['<', '&', '(']);
        let owner =
            OWNERS.iter().find(|(name, _)| start.strip_prefix(name).is_some_and(|rest| rest.starts_with([':', '['])));
        if let Some((_, owner)) = owner {
            let at = at.rsplit_once("/src/").map_or(at, |(_, file)| file);
            return (owner, format!("{} ({at})", function.trim()));
        }
    }
    ("others", "no function of ours, of wasmtime's or of hyper's is on the stack".to_owned())
}
