//! `pure-path`: what `instructions.sh` counts the instructions of: finding the worker of a host, and choosing the version of a request.
//!
//! `pure-path prepare FOLDER` makes catalogs of several sizes; `pure-path count FOLDER` opens them and runs each case
//! [`TIMES`] times in [`measured`], and prints its name. The first is apart because it would take minutes where
//! instructions are counted.

#![allow(unreachable_pub, reason = "one binary: nothing in it is reachable from elsewhere")]
#![allow(clippy::print_stdout, reason = "the script reads it")]

mod common;

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use sluicegate::catalog::{Catalog, Routed};
use sluicegate::clock::SystemClock;
use sluicegate::dispatch::{OVERRIDES_HEADER, overriding};
use sluicegate::domain::decision::{Wish, decide};
use sluicegate::domain::id::WorkerName;
use sluicegate::store::SqliteStore;

use common::choices::{PATH, catalog_of, fragmented, hosts};

/// Runs of each case; the script divides by it.
const TIMES: u64 = 1000;
/// Sizes of catalogs, in workers.
const WORKERS: [usize; 3] = [1, 100, 1000];
/// Sizes of splits.
const VERSIONS: [usize; 2] = [2, 20];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["prepare", folder] => runtime.block_on(prepare(Path::new(folder))),
        ["count", folder] => runtime.block_on(count(Path::new(folder))),
        _ => panic!("usage: pure-path prepare|count FOLDER"),
    }
}

async fn prepare(folder: &Path) {
    for workers in WORKERS {
        let folder = folder.join(workers.to_string());
        std::fs::create_dir_all(&folder).expect("a folder");
        let store = SqliteStore::open(&folder).expect("a store");
        catalog_of(workers, Arc::new(store), &folder).await;
    }
}

async fn count(folder: &Path) {
    for workers in WORKERS {
        let folder = folder.join(workers.to_string());
        let store = SqliteStore::open(&folder).expect("the store that was prepared");
        let catalog = Catalog::open(Arc::new(store), &folder, Arc::new(SystemClock)).await.expect("its catalog");
        let view = catalog.view();
        let asked = format!("w{}", workers / 2);
        for (what, host) in hosts(workers) {
            case(&format!("route/{what}/{workers}"), || {
                let routed = view.route_for(black_box(&host), black_box(PATH));
                assert!(matches!(routed, Routed::Worker(worker) if worker.name.as_str() == asked));
            });
        }
        case(&format!("route/nobody/{workers}"), || {
            assert!(matches!(view.route_for(black_box("nobody.example"), PATH), Routed::None));
        });
    }
    choose();
}

fn choose() {
    let worker: WorkerName = "worker".parse().expect("a name");
    for versions in VERSIONS {
        let (split, allotment) = fragmented(versions);
        let last = split.entries()[versions - 1].0;
        let mut draws = fastrand::Rng::with_seed(1);
        case(&format!("decide/draw/{versions}"), || {
            black_box(decide(black_box(&worker), &split, &allotment, Wish::default(), || draws.u64(..)));
        });
        let keys: Vec<String> = (0..256).map(|n| format!("user-{n:03}@example.com")).collect();
        let mut keys = keys.iter().cycle();
        case(&format!("decide/key/{versions}"), || {
            let wish = Wish { overriding: None, key: keys.next().map(String::as_bytes) };
            black_box(decide(black_box(&worker), &split, &allotment, wish, || 0));
        });
        case(&format!("decide/override/{versions}"), || {
            let wish = Wish { overriding: Some(last), key: Some(b"user") };
            black_box(decide(black_box(&worker), &split, &allotment, black_box(wish), || 0));
        });
        let mut headers = http::HeaderMap::new();
        headers.insert(OVERRIDES_HEADER, format!("other=\"x\", worker=\"{last}\"").parse().expect("a header"));
        case(&format!("override_header/{versions}"), || {
            assert_eq!(overriding(black_box(&headers), &worker), Some(last));
        });
    }
}

/// Runs a case once by itself, so that nothing is counted that happens only the first time, and then counts it.
fn case(name: &str, mut run: impl FnMut()) {
    run();
    measured(&mut run);
    println!("{name} {TIMES}");
}

/// Instructions are counted in here and in nothing else; the script knows it by its name.
#[inline(never)]
fn measured(run: &mut dyn FnMut()) {
    for _ in 0..TIMES {
        run();
    }
}
