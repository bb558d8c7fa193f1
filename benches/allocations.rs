//! What one request to a guest allocates, from the socket to the socket, and who asks for it: our code, or what it is built on.
//!
//! Every allocation of [`REQUESTS`] requests is attributed to the innermost function on the stack that belongs to a crate of
//! [`OWNERS`]; containers and the like (`alloc`, `http`, `bytes`, `tokio`…) act for whoever calls them.

#![allow(unreachable_pub, reason = "one binary: nothing in it is reachable from elsewhere")]
#![allow(clippy::print_stdout, reason = "a table for whoever runs it")]
#![allow(unsafe_code, reason = "an allocator that counts can be made in no other way")]

mod common;

use std::alloc::{GlobalAlloc, Layout};
use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use sluicegate::ingress::crew::Crew;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use common::{Node, Reuse};

/// What the guests answer.
const BODY: &[u8] = b"Hello, World!\n";
/// Requests whose allocations are counted, after as many that are not.
const REQUESTS: u32 = 50;
/// Crates that ask for memory on behalf of whoever calls them.
const AGENTS: [&str; 14] = [
    "bytes",
    "futures-channel",
    "futures-core",
    "futures-util",
    "hashbrown",
    "http",
    "http-body",
    "http-body-util",
    "indexmap",
    "mimalloc",
    "smallvec",
    "tokio",
    "tokio-util",
    "tracing",
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
        let data = node.serve(Crew::here()).await;
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

/// [`REQUESTS`] of them. Allocates nothing itself.
async fn ask(client: &mut TcpStream, request: &str) {
    let mut answer = [0; 4096];
    for _ in 0..REQUESTS {
        client.write_all(request.as_bytes()).await.expect("a request");
        let mut bytes = 0;
        while !answer[..bytes].ends_with(BODY) {
            let read = client.read(&mut answer[bytes..]).await.expect("an answer");
            assert!(read > 0, "an unexpected answer: {}", answer[..bytes].escape_ascii());
            bytes += read;
        }
    }
}

fn report(worker: &str, seen: &[(usize, Backtrace)]) {
    let mut places: BTreeMap<(String, String), (u32, usize)> = BTreeMap::new();
    for (bytes, backtrace) in seen {
        let place = places.entry(place(&backtrace.to_string())).or_default();
        place.0 += 1;
        place.1 += bytes;
    }
    let each = |count: u32| f64::from(count) / f64::from(REQUESTS);
    let mut owners: BTreeMap<&str, u32> = BTreeMap::new();
    places.iter().for_each(|((owner, _), (count, _))| *owners.entry(owner).or_default() += count);
    println!("{worker}: {:.2} allocations a request", each(u32::try_from(seen.len()).expect("few")));
    for (owner, count) in owners {
        println!("  {owner}: {:.2}", each(count));
        let mut of_owner: Vec<_> = places.iter().filter(|((name, _), _)| name == owner).collect();
        of_owner.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
        for ((_, function), (count, bytes)) in of_owner {
            println!("    {:6.2} of {:6} bytes  {function}", each(*count), bytes / *count as usize);
        }
    }
}

/// Who asked, and in which function, file and line: the innermost frame that is neither of the standard library nor of an agent. By
/// files, since the names of functions that were inlined do not say whose they are.
fn place(backtrace: &str) -> (String, String) {
    let mut function = "";
    for line in backtrace.lines() {
        let Some(at) = line.trim().strip_prefix("at ") else {
            function = line.split_once(": ").map_or(line, |(_, name)| name);
            continue;
        };
        let owner = if at.starts_with("./src/") {
            Some("ours")
        } else {
            // `…/registry/src/INDEX/CRATE-VERSION/src/…`
            let folder = at.split_once("/registry/src/").and_then(|(_, rest)| rest.split('/').nth(1));
            folder.and_then(|folder| folder.rsplit_once('-')).map(|(name, _)| name)
        };
        if let Some(owner) = owner.filter(|owner| !AGENTS.contains(owner)) {
            let file =
                at.split_once("/src/").map_or(at, |(_, file)| file.rsplit_once("/src/").map_or(file, |(_, file)| file));
            let name = function.split(['<', '{']).next().unwrap_or_default();
            return (owner.to_owned(), format!("{name} ({file})"));
        }
    }
    ("unknown".to_owned(), String::new())
}
