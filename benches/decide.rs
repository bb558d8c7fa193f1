//! What choosing costs: which worker a host is for, and which version of it a request runs on. No guest, no I/O.

#![allow(unreachable_pub, reason = "one binary: nothing in it is reachable from elsewhere")]

mod common;

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use sluicegate::catalog::Routed;
use sluicegate::domain::allotment::Allotment;
use sluicegate::domain::decision::{Wish, decide};
use sluicegate::domain::id::WorkerName;
use sluicegate::store::MemoryStore;

use common::choices::{DEPLOYMENTS, PATH, catalog_of, fragmented, hosts, shares};

/// As the binary has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn route(c: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut group = c.benchmark_group("route");
    for workers in [1, 100, 1000] {
        let folder = folder.path().join(workers.to_string());
        let view = runtime.block_on(catalog_of(workers, Arc::new(MemoryStore::new()), &folder)).view();
        let asked = format!("w{}", workers / 2);
        for (what, host) in hosts(workers) {
            assert!(
                matches!(view.route_for(&host, PATH), Routed::Worker(worker) if worker.name.as_str() == asked),
                "`{host}` is for another worker",
            );
            group.bench_function(BenchmarkId::new(what, workers), |b| {
                b.iter(|| {
                    let routed = view.route_for(black_box(&host), black_box(PATH));
                    matches!(routed, Routed::Worker(_))
                });
            });
        }
    }
    group.finish();
}

fn choose(c: &mut Criterion) {
    let worker: WorkerName = "worker".parse().expect("a name");
    let mut group = c.benchmark_group("decide");
    for versions in [2, 20] {
        let (split, allotment) = fragmented(versions);
        let last = split.entries()[versions - 1].0;
        let mut draws = fastrand::Rng::with_seed(1);
        group.bench_function(BenchmarkId::new("draw", versions), |b| {
            b.iter(|| decide(black_box(&worker), &split, &allotment, Wish::default(), || draws.u64(..)));
        });
        let keys: Vec<String> = (0..256).map(|n| format!("user-{n}@example.com")).collect();
        let mut keys = keys.iter().cycle();
        group.bench_function(BenchmarkId::new("key", versions), |b| {
            b.iter(|| {
                let key = keys.next().map(String::as_bytes);
                decide(black_box(&worker), &split, &allotment, Wish { overriding: None, key }, || 0)
            });
        });
        group.bench_function(BenchmarkId::new("override", versions), |b| {
            let wish = Wish { overriding: Some(last), key: Some(b"user") };
            b.iter(|| decide(black_box(&worker), &split, &allotment, black_box(wish), || 0));
        });
    }
    group.finish();

    let mut group = c.benchmark_group("derive");
    for versions in [2, 20] {
        let (_, allotment) = fragmented(versions);
        let next = shares(versions, DEPLOYMENTS + 1);
        group.bench_function(BenchmarkId::from_parameter(versions), |b| {
            b.iter(|| Allotment::derive(Some(black_box(&allotment)), black_box(&next)));
        });
    }
    group.finish();
}

criterion_group!(benches, route, choose);
criterion_main!(benches);
