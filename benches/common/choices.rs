//! What there is to choose from, for the benches of choosing: many workers by many hosts, and splits with a history.

use std::path::Path;
use std::sync::Arc;

use sluicegate::catalog::{Catalog, Route};
use sluicegate::clock::SystemClock;
use sluicegate::domain::allotment::Allotment;
use sluicegate::domain::id::{VersionId, WorkerName};
use sluicegate::domain::split::Split;
use sluicegate::store::Store;

/// Deployments that an allotment has behind it: what a worker goes through in months of gradual roll-outs.
pub const DEPLOYMENTS: u64 = 100;

/// The path that every host is asked with.
pub const PATH: &str = "/shop/cart?id=1";

/// A catalog with this many workers; each has a version, a route, a route for all subdomains, and a custom domain.
pub async fn catalog_of(workers: usize, store: Arc<dyn Store>, folder: &Path) -> Arc<Catalog> {
    std::fs::create_dir_all(folder).expect("a folder");
    let catalog = Catalog::open(store, folder, Arc::new(SystemClock)).await.expect("an empty catalog opens");
    for n in 0..workers {
        let worker: WorkerName = format!("w{n}").parse().expect("a name");
        super::publish(&catalog, &worker, super::Reuse::ByGuest, super::imaginary_module()).await;
        let route =
            |pattern: String| Route { pattern: pattern.parse().expect("a pattern"), zone_name: None, zone_id: None };
        let routes = vec![route(format!("w{n}.example.com/shop/*")), route(format!("*.w{n}.example.org/*"))];
        catalog.set_routes(&worker, routes).await.expect("routes");
        let domain = format!("w{n}.example.net").parse().expect("a host name");
        catalog.set_domains(&worker, vec![domain]).await.expect("domains");
    }
    catalog
}

/// Ways to ask for the worker in the middle of the alphabet, by what finds it.
pub fn hosts(workers: usize) -> [(&'static str, String); 5] {
    let n = workers / 2;
    [
        ("localhost", format!("w{n}.localhost")),
        ("with_port_and_capitals", format!("W{n}.Localhost:8787")),
        ("route", format!("w{n}.example.com")),
        ("wildcard_route", format!("a.w{n}.example.org")),
        ("custom_domain", format!("w{n}.example.net")),
    ]
}

/// A split over that many versions and its allotment, after [`DEPLOYMENTS`] of them with ever different shares.
pub fn fragmented(versions: usize) -> (Split, Allotment) {
    let mut split = shares(versions, 0);
    let mut allotment = Allotment::derive(None, &split);
    for round in 1..=DEPLOYMENTS {
        split = shares(versions, round);
        allotment = Allotment::derive(Some(&allotment), &split);
    }
    (split, allotment)
}

/// Shares that look random and sum to 100 %, other ones for each round.
pub fn shares(versions: usize, round: u64) -> Split {
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
