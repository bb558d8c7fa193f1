//! From a module's bytes to a version that can run: compiled for the first time, mapped from the cache, or sharing the code of
//! another version.

#![allow(unreachable_pub, reason = "one binary: nothing in it is reachable from elsewhere")]

mod common;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, SamplingMode, criterion_group, criterion_main};
use sluicegate::clock::monotonic;
use sluicegate::domain::id::WorkerName;
use sluicegate::domain::version::Version;
use sluicegate::engine::fleet::Fleet;
use sluicegate::engine::prove::Prover;
use tokio::runtime::Runtime;

use common::{Node, Reuse};

/// As the binary has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn ready(c: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let node = runtime.block_on(Node::new());
    // A JavaScript component takes 10 s and more to compile for each sample.
    let guests: &[&str] = if std::env::var_os("SLUICE_BENCH_JS").is_some() {
        &["hello", "hello-async", "hello-js"]
    } else {
        &["hello", "hello-async"]
    };
    for guest in guests {
        let module = common::guest(guest);
        let first = runtime.block_on(node.upload(guest, &module, Reuse::ByGuest));
        let second = runtime.block_on(node.upload(guest, &module, Reuse::ByGuest));
        let worker: WorkerName = guest.parse().expect("a name");
        let mut group = c.benchmark_group(format!("ready/{guest}"));
        group.sampling_mode(SamplingMode::Flat);
        cold(&mut group, &runtime, &node, &module, &first);
        cached(&mut group, &runtime, &node, &worker, &first);
        shared(&mut group, &runtime, &node, &worker, [&first, &second]);
        if *guest == "hello-js" {
            script_changed(&mut group, &runtime, &node, &module, &first);
        }
        group.finish();
    }
}

/// The upload's proof, with no compiled code on disk: component, machine code, one instance, artifact written and synced.
fn cold(group: &mut BenchmarkGroup<'_, WallTime>, runtime: &Runtime, node: &Node, module: &Path, version: &Version) {
    let worker: WorkerName = "cold".parse().expect("a name");
    group.sample_size(10);
    group.bench_function("cold", |b| {
        b.to_async(runtime).iter_custom(async |iterations| {
            let mut took = Duration::ZERO;
            for _ in 0..iterations {
                let folder = tempfile::tempdir().expect("a temporary folder");
                let prover = Prover::new(node.sibling(folder.path()));
                let began = monotonic();
                let proven = prover.prove(&worker, module, version.module.digest, &version.config).await;
                took += began.elapsed();
                assert!(proven.is_ok(), "{proven:?}");
            }
            took
        });
    });
}

/// The upload's proof of a component whose script alone changed, beside the code of the one before.
fn script_changed(
    group: &mut BenchmarkGroup<'_, WallTime>,
    runtime: &Runtime,
    node: &Node,
    module: &Path,
    version: &Version,
) {
    let worker: WorkerName = "changed".parse().expect("a name");
    let bytes = std::fs::read(module).expect("the module can be read");
    let greeting = bytes.windows(13).position(|window| window == b"Hello, World!").expect("the script's text");
    let (folder, numbers) = (tempfile::tempdir().expect("a temporary folder"), AtomicU32::new(0));
    let file = folder.path().join("changed.wasm");
    let prover = Prover::new(node.sibling(&node.artifacts()));
    group.sample_size(10);
    group.bench_function("script_changed", |b| {
        b.to_async(runtime).iter_custom(async |iterations| {
            let mut took = Duration::ZERO;
            for _ in 0..iterations {
                let number = numbers.fetch_add(1, Ordering::Relaxed);
                let mut changed = bytes.clone();
                changed[greeting..greeting + 13].copy_from_slice(format!("Hello {number:07}").as_bytes());
                std::fs::write(&file, &changed).expect("a file");
                let digest = common::digest(&file);
                let began = monotonic();
                let proven = prover.prove(&worker, &file, digest, &version.config).await;
                took += began.elapsed();
                assert!(proven.is_ok(), "{proven:?}");
            }
            took
        });
    });
}

/// A node that was started again: the artifact is checked and mapped, the version linked and bound.
fn cached(
    group: &mut BenchmarkGroup<'_, WallTime>,
    runtime: &Runtime,
    node: &Node,
    worker: &WorkerName,
    version: &Arc<Version>,
) {
    group.sample_size(50);
    group.bench_function("cached", |b| {
        b.to_async(runtime).iter_custom(async |iterations| {
            let mut took = Duration::ZERO;
            for _ in 0..iterations {
                let fleet = node.sibling(&node.artifacts());
                took += time_to_ready(&fleet, node, worker, version).await;
            }
            took
        });
    });
}

/// A version whose bytes are those of one that runs already.
fn shared(
    group: &mut BenchmarkGroup<'_, WallTime>,
    runtime: &Runtime,
    node: &Node,
    worker: &WorkerName,
    [first, second]: [&Arc<Version>; 2],
) {
    let fleet = node.sibling(&node.artifacts());
    runtime.block_on(time_to_ready(&fleet, node, worker, first));
    group.sample_size(50);
    group.bench_function("same_bytes", |b| {
        b.to_async(runtime).iter_custom(async |iterations| {
            let mut took = Duration::ZERO;
            for _ in 0..iterations {
                took += time_to_ready(&fleet, node, worker, second).await;
                fleet.retire(second.id);
            }
            took
        });
    });
}

async fn time_to_ready(fleet: &Arc<Fleet>, node: &Node, worker: &WorkerName, version: &Arc<Version>) -> Duration {
    let workers = node.workers();
    let began = monotonic();
    let engine = fleet.ready(worker, version, &workers).await;
    let took = began.elapsed();
    assert!(engine.is_ok(), "{:?}", engine.err());
    took
}

criterion_group!(benches, ready);
criterion_main!(benches);
