//! Every metric: name, labels, unit, meaning. Counters are plain atomics, kept by whoever runs a version, so that a request
//! finds them without a look-up; [`Metrics::render`] prints them in the Prometheus text format.
//!
//! Labels are bounded: a version has its own series while it is among the newest [`SERIES_MAX`] that served a request; later
//! ones share the series `version="other"`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::domain::distribution::{BUCKETS, Distribution, bucket_of};
use crate::domain::id::{VersionId, WorkerName};
use crate::domain::measures::{Counts, Measures};
use crate::domain::outcome::Outcome;

/// Versions with series of their own: what a small Prometheus still likes.
pub const SERIES_MAX: usize = 1000;

/// Upper bounds of the histograms' buckets as Prometheus sees them, in microseconds; the last bucket has none.
const BOUNDS_US: [u64; 14] =
    [50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 100_000, 250_000, 1_000_000, 5_000_000, 30_000_000];

/// The counters of one version.
#[derive(Debug, Default)]
pub struct VersionMetrics {
    /// By outcome, in the order of [`Outcome::ALL`].
    outcomes: [AtomicU64; Outcome::ALL.len()],
    /// By the first digit of the status.
    classes: [AtomicU64; 6],
    /// Outcome other than ok, or a status of 500 and above.
    errors: AtomicU64,
    wall: Histogram,
    cpu: Histogram,
    subrequests: AtomicU64,
    /// Requests that an instance served after its first.
    reused: AtomicU64,
    /// The most linear memory that an instance had at the end of a request.
    memory_bytes_max: AtomicU64,
}

/// A [`Distribution`] that is counted from many threads.
#[derive(Debug)]
struct Histogram {
    buckets: Box<[AtomicU64; BUCKETS]>,
    sum_ns: AtomicU64,
}

/// What one request adds.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    pub outcome: Outcome,
    /// The status sent to the client, if one was.
    pub status: Option<u16>,
    pub wall: Duration,
    pub cpu: Duration,
    /// Linear memory of the instance at the end; 0 if none ran.
    pub memory_bytes: u64,
    pub subrequests: u32,
    pub reused: bool,
}

/// A worker and its version; none for the versions that share a series.
pub(super) type Series = (WorkerName, Option<VersionId>);

/// All counters of the node.
#[derive(Debug, Default)]
pub struct Metrics {
    versions: Mutex<BTreeMap<Series, Arc<VersionMetrics>>>,
    /// Requests that matched no worker.
    pub unrouted: AtomicU64,
    /// Requests to workers that had nothing to run.
    pub undeployed: AtomicU64,
    /// Connections accepted by the data listener.
    pub connections: AtomicU64,
}

impl Metrics {
    /// The counters of a version, made if they are not there.
    pub fn of(&self, worker: &WorkerName, version: VersionId) -> Arc<VersionMetrics> {
        let mut versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        let full = versions.len() >= SERIES_MAX;
        let mut key = (worker.clone(), Some(version));
        if full && !versions.contains_key(&key) {
            key.1 = None;
        }
        Arc::clone(versions.entry(key).or_default())
    }

    /// What a version has done on this node since it started; nothing if it has served no request, or shares its series.
    #[must_use]
    pub fn measures(&self, worker: &WorkerName, version: VersionId) -> Option<Measures> {
        let versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        let counters = versions.get(&(worker.clone(), Some(version))).map(Arc::clone);
        drop(versions);
        Some(counters?.measures())
    }

    /// The most linear memory that an instance of a version had at the end of a request, in bytes, since the node started.
    #[must_use]
    pub fn memory_bytes_max(&self, worker: &WorkerName, version: VersionId) -> Option<u64> {
        let versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        versions.get(&(worker.clone(), Some(version))).map(|counters| counters.memory_bytes_max())
    }

    /// The counters of every series.
    pub(super) fn all(&self) -> Vec<(Series, Arc<VersionMetrics>)> {
        let versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        versions.iter().map(|(series, counters)| (series.clone(), Arc::clone(counters))).collect()
    }

    /// Everything in the Prometheus text format. `gauges` are names, helps and values that others keep.
    #[must_use]
    pub fn render(&self, gauges: &[(&str, &str, u64)]) -> String {
        let versions: Vec<_> = self.all().into_iter().map(|(series, counters)| (label(&series), counters)).collect();
        let mut out = String::new();
        head(&mut out, "sluice_requests_total", "counter", "Requests by outcome.");
        for (label, metrics) in &versions {
            for (outcome, count) in Outcome::ALL.iter().zip(&metrics.outcomes) {
                line(
                    &mut out,
                    "sluice_requests_total",
                    &format!("{label},outcome=\"{}\"", outcome.as_str()),
                    load(count),
                );
            }
        }
        head(&mut out, "sluice_responses_total", "counter", "Responses by class of status.");
        for (label, metrics) in &versions {
            for (class, count) in metrics.classes.iter().enumerate().skip(1) {
                line(&mut out, "sluice_responses_total", &format!("{label},class=\"{class}xx\""), load(count));
            }
        }
        for (name, help, pick) in HISTOGRAMS {
            head(&mut out, name, "histogram", help);
            for (label, metrics) in &versions {
                pick(metrics).render(&mut out, name, label);
            }
        }
        for (name, help, pick) in COUNTERS {
            head(&mut out, name, "counter", help);
            for (label, metrics) in &versions {
                line(&mut out, name, label, load(pick(metrics)));
            }
        }
        let node = [
            ("sluice_unrouted_total", "Requests whose host matched no worker.", &self.unrouted),
            ("sluice_undeployed_total", "Requests to workers without a deployment.", &self.undeployed),
            ("sluice_connections_total", "Connections accepted by the data listener.", &self.connections),
        ];
        for (name, help, value) in node {
            head(&mut out, name, "counter", help);
            line(&mut out, name, "", load(value));
        }
        for (name, help, value) in gauges {
            head(&mut out, name, "gauge", help);
            line(&mut out, name, "", *value);
        }
        out
    }
}

type Pick<T> = fn(&VersionMetrics) -> &T;
const HISTOGRAMS: [(&str, &str, Pick<Histogram>); 2] = [
    ("sluice_request_seconds", "Wall time of requests, to the end of the response's body.", |m| &m.wall),
    ("sluice_request_cpu_seconds", "CPU time that guests used for requests.", |m| &m.cpu),
];
const COUNTERS: [(&str, &str, Pick<AtomicU64>); 2] = [
    ("sluice_subrequests_total", "Outgoing requests of guests.", |m| &m.subrequests),
    ("sluice_instance_reuses_total", "Requests served by an instance that had served before.", |m| &m.reused),
];

impl VersionMetrics {
    /// What was counted so far. Requests that end meanwhile may be in one number and not yet in another.
    #[must_use]
    pub fn measures(&self) -> Measures {
        Measures {
            requests: self.outcomes.iter().map(load).sum(),
            errors: load(&self.errors),
            wall: self.wall.distribution(),
            cpu: self.cpu.distribution(),
        }
    }

    /// Requests and errors so far: the two numbers of [`Self::measures`] that cost next to nothing.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts { requests: self.outcomes.iter().map(load).sum(), errors: load(&self.errors) }
    }

    /// The most linear memory that one of its instances had at the end of a request, in bytes; 0 if none ran.
    #[must_use]
    pub fn memory_bytes_max(&self) -> u64 {
        load(&self.memory_bytes_max)
    }

    /// Adds one request.
    pub fn add(&self, sample: Sample) {
        let place = Outcome::ALL.iter().position(|outcome| *outcome == sample.outcome).unwrap_or(0);
        self.outcomes[place].fetch_add(1, Ordering::Relaxed);
        if let Some(status) = sample.status {
            self.classes[usize::from(status / 100).min(5)].fetch_add(1, Ordering::Relaxed);
        }
        if sample.outcome != Outcome::Ok || sample.status.is_some_and(|status| status >= 500) {
            self.errors.fetch_add(1, Ordering::Relaxed);
        }
        self.wall.add(sample.wall);
        self.cpu.add(sample.cpu);
        // Read first: that it grows is rare, and a write would take the line of memory from the other cores.
        if sample.memory_bytes > load(&self.memory_bytes_max) {
            self.memory_bytes_max.fetch_max(sample.memory_bytes, Ordering::Relaxed);
        }
        if sample.subrequests > 0 {
            self.subrequests.fetch_add(u64::from(sample.subrequests), Ordering::Relaxed);
        }
        if sample.reused {
            self.reused.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: Box::new([const { AtomicU64::new(0) }; BUCKETS]), sum_ns: AtomicU64::new(0) }
    }
}

impl Histogram {
    fn add(&self, value: Duration) {
        let ns = u64::try_from(value.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket_of(ns)].fetch_add(1, Ordering::Relaxed);
        self.sum_ns.fetch_add(ns, Ordering::Relaxed);
    }

    fn distribution(&self) -> Distribution {
        Distribution::from_counts(self.buckets.iter().map(load))
    }

    fn render(&self, out: &mut String, name: &str, label: &str) {
        let distribution = self.distribution();
        for us in BOUNDS_US {
            let count = distribution.at_most(Duration::from_micros(us));
            line(out, &format!("{name}_bucket"), &format!("{label},le=\"{}\"", seconds(us * 1000)), count);
        }
        let count = distribution.count();
        line(out, &format!("{name}_bucket"), &format!("{label},le=\"+Inf\""), count);
        let _ = writeln!(out, "{name}_sum{{{label}}} {}", seconds(load(&self.sum_ns)));
        line(out, &format!("{name}_count"), label, count);
    }
}

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn seconds(ns: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of a metric, for people")]
    let seconds = ns as f64 / 1e9;
    seconds.to_string()
}

/// Names and ids have no character that the format would need escaped.
fn label((worker, version): &Series) -> String {
    match version {
        Some(version) => format!("worker=\"{worker}\",version=\"{version}\""),
        None => format!("worker=\"{worker}\",version=\"other\""),
    }
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn line(out: &mut String, name: &str, label: &str, value: u64) {
    let _ = if label.is_empty() { writeln!(out, "{name} {value}") } else { writeln!(out, "{name}{{{label}}} {value}") };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_bounded() {
        let metrics = Metrics::default();
        let worker: WorkerName = "w".parse().unwrap();
        for n in 0..u128::try_from(SERIES_MAX).unwrap() + 10 {
            metrics.of(&worker, VersionId::from_random(n.to_be_bytes()));
        }
        assert_eq!(metrics.versions.lock().unwrap().len(), SERIES_MAX + 1);
        assert!(metrics.render(&[]).contains("version=\"other\""));
    }

    #[test]
    fn buckets_are_cumulative() {
        let metrics = Metrics::default();
        let version = metrics.of(&"w".parse().unwrap(), VersionId::from_random([1; 16]));
        for ms in [1, 2, 700] {
            let sample = Sample {
                outcome: Outcome::Ok,
                status: Some(200),
                wall: Duration::from_millis(ms),
                cpu: Duration::ZERO,
                memory_bytes: ms * 1000,
                subrequests: 0,
                reused: false,
            };
            version.add(sample);
        }
        let measures = metrics.measures(&"w".parse().unwrap(), VersionId::from_random([1; 16])).unwrap();
        assert_eq!((measures.requests, measures.errors, measures.wall.count()), (3, 0, 3));
        assert_eq!(version.counts(), Counts { requests: 3, errors: 0 });
        assert_eq!(version.memory_bytes_max(), 700_000);
        let text = metrics.render(&[("sluice_x", "X.", 3)]);
        assert!(text.contains("le=\"0.001\"} 1\n"), "{text}");
        assert!(text.contains("le=\"0.0025\"} 2\n"));
        assert!(text.contains("le=\"+Inf\"} 3\n"));
        assert!(text.contains("outcome=\"ok\"} 3\n"));
        assert!(text.contains("class=\"2xx\"} 3\n"));
        assert!(text.contains("sluice_x 3\n"));
    }
}
