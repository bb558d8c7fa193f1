//! What choosing costs: which worker a host is for, and which version of it a request runs on. No guest, no I/O.

#![allow(unreachable_pub, reason = "one binary: nothing in it is reachable from elsewhere")]

mod common;

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use sluicegate::catalog::{Catalog, Route, Routed};
use sluicegate::domain::allotment::Allotment;
use sluicegate::domain::decision::{Wish, decide};
use sluicegate::domain::id::{VersionId, WorkerName};
use sluicegate::domain::split::Split;

/// As the binary has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Deployments that an allotment has behind it: what a worker goes through in months of gradual roll-outs.
const DEPLOYMENTS: u64 = 100;

/// The worker that is asked for, among others: the middle of the alphabet.
const ASKED: usize = 2;

fn route(c: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut group = c.benchmark_group("route");
    for workers in [1, 100, 1000] {
        let folder = folder.path().join(workers.to_string());
        let view = runtime.block_on(catalog_of(workers, &folder)).view();
        let n = workers / ASKED;
        let hosts = [
            ("localhost", format!("w{n}.localhost")),
            ("with_port_and_capitals", format!("W{n}.Localhost:8787")),
            ("route", format!("w{n}.example.com")),
            ("wildcard_route", format!("a.w{n}.example.org")),
            ("custom_domain", format!("w{n}.example.net")),
        ];
        for (what, host) in hosts {
            assert!(
                matches!(view.route_for(&host, "/shop/cart?id=1"), Routed::Worker(worker) if worker.name.as_str() == format!("w{n}")),
                "`{host}` is for another worker",
            );
            group.bench_function(BenchmarkId::new(what, workers), |b| {
                b.iter(|| {
                    let routed = view.route_for(black_box(&host), black_box("/shop/cart?id=1"));
                    matches!(routed, Routed::Worker(_))
                });
            });
        }
    }
    group.finish();
}

/// A catalog with this many workers; each has a version, a route, a route for all subdomains, and a custom domain.
async fn catalog_of(workers: usize, folder: &std::path::Path) -> Arc<Catalog> {
    std::fs::create_dir_all(folder).expect("a folder");
    let catalog = common::catalog(folder).await;
    for n in 0..workers {
        let worker: WorkerName = format!("w{n}").parse().expect("a name");
        common::publish(&catalog, &worker, common::Reuse::ByGuest, common::imaginary_module()).await;
        let route =
            |pattern: String| Route { pattern: pattern.parse().expect("a pattern"), zone_name: None, zone_id: None };
        let routes = vec![route(format!("w{n}.example.com/shop/*")), route(format!("*.w{n}.example.org/*"))];
        catalog.set_routes(&worker, routes).await.expect("routes");
        let domain = format!("w{n}.example.net").parse().expect("a host name");
        catalog.set_domains(&worker, vec![domain]).await.expect("domains");
    }
    catalog
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

/// A split over that many versions and its allotment, after [`DEPLOYMENTS`] of them with ever different shares.
fn fragmented(versions: usize) -> (Split, Allotment) {
    let mut split = shares(versions, 0);
    let mut allotment = Allotment::derive(None, &split);
    for round in 1..=DEPLOYMENTS {
        split = shares(versions, round);
        allotment = Allotment::derive(Some(&allotment), &split);
    }
    (split, allotment)
}

/// Shares that look random and sum to 100 %, other ones for each round.
fn shares(versions: usize, round: u64) -> Split {
    let mut random = fastrand::Rng::with_seed(round);
    let weights: Vec<f64> = (0..versions).map(|_| 0.1 + random.f64()).collect();
    let sum: f64 = weights.iter().sum();
    let mut left = 100.0;
    let mut entries = Vec::new();
    for (n, weight) in weights.iter().enumerate() {
        let share = if n + 1 == versions { left } else { (weight / sum * 100_000.0).round() / 1000.0 };
        left -= share;
        entries.push((VersionId::from_random([u8::try_from(n + 1).expect("few versions"); 16]), share));
    }
    Split::from_percentages(&entries).expect("shares that sum to 100 %")
}

criterion_group!(benches, route, choose);
criterion_main!(benches);
