//! What is counted of each version. Counters are plain atomics, kept by whoever runs a version, so that a request finds them
//! without a look-up; [`exposition`](super::exposition) says what each means to Prometheus.
//!
//! Labels are bounded: a version has its own series while it is among the newest [`SERIES_MAX`] that served a request; later
//! ones share the series `version="other"`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::domain::distribution::{BUCKETS, Distribution, bucket_of};
use crate::domain::id::{VersionId, WorkerName};
use crate::domain::measures::{Counts, Measures};
use crate::domain::outcome::Outcome;
use crate::domain::stay::Left;
use crate::observe::exposition::Exposition;

/// Versions with series of their own: what a small Prometheus still likes.
pub const SERIES_MAX: usize = 1000;

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
    /// Requests that waited for a permit or for room.
    waits: AtomicU64,
    /// The most linear memory that an instance had at the end of a request.
    memory_bytes_max: AtomicU64,
    /// Durable Objects that came to memory on it.
    objects_started: AtomicU64,
    /// Those that were reset, in the order of [`Left::RESETS`].
    objects_reset: [AtomicU64; Left::RESETS.len()],
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

    /// Tells all of it.
    pub fn expose(&self, text: &mut Exposition) {
        let versions: Vec<_> = self.all().into_iter().map(|(series, counters)| (labels(&series), counters)).collect();
        let versions: Vec<_> =
            versions.iter().map(|((worker, version), counters)| ([&**worker, version], counters)).collect();
        let family = text.family("sluice_requests_total");
        for ([worker, version], counters) in &versions {
            for (outcome, count) in Outcome::ALL.iter().zip(&counters.outcomes) {
                family.value(&[worker, version, outcome.as_str()], load(count));
            }
        }
        let family = text.family("sluice_responses_total");
        for ([worker, version], counters) in &versions {
            for (class, count) in ["1xx", "2xx", "3xx", "4xx", "5xx"].iter().zip(&counters.classes[1..]) {
                family.value(&[worker, version, class], load(count));
            }
        }
        for (name, pick) in HISTOGRAMS {
            let family = text.family(name);
            for (labels, counters) in &versions {
                let histogram = pick(counters);
                family.distribution(labels, &histogram.distribution(), Duration::from_nanos(load(&histogram.sum_ns)));
            }
        }
        for (name, pick) in NUMBERS {
            let family = text.family(name);
            versions.iter().for_each(|(labels, counters)| family.value(labels, load(pick(counters))));
        }
        let of_objects: Vec<_> = versions.iter().filter(|(_, counters)| load(&counters.objects_started) > 0).collect();
        let family = text.family("sluice_object_starts_total");
        for (labels, counters) in &of_objects {
            family.value(labels, load(&counters.objects_started));
        }
        let family = text.family("sluice_object_resets_total");
        for ([worker, version], counters) in &of_objects {
            for (why, count) in Left::RESETS.iter().zip(&counters.objects_reset) {
                family.value(&[worker, version, why], load(count));
            }
        }
        text.single("sluice_unrouted_total", load(&self.unrouted));
        text.single("sluice_undeployed_total", load(&self.undeployed));
        text.single("sluice_connections_total", load(&self.connections));
    }
}

type Pick<T> = fn(&VersionMetrics) -> &T;
const HISTOGRAMS: [(&str, Pick<Histogram>); 2] =
    [("sluice_request_seconds", |m| &m.wall), ("sluice_request_cpu_seconds", |m| &m.cpu)];
const NUMBERS: [(&str, Pick<AtomicU64>); 4] = [
    ("sluice_request_memory_bytes_max", |m| &m.memory_bytes_max),
    ("sluice_subrequests_total", |m| &m.subrequests),
    ("sluice_instance_reuses_total", |m| &m.reused),
    ("sluice_instance_waits_total", |m| &m.waits),
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

    /// A request has to wait before it is run.
    pub fn waits(&self) {
        self.waits.fetch_add(1, Ordering::Relaxed);
    }

    /// A Durable Object came to memory.
    pub fn object_started(&self) {
        self.objects_started.fetch_add(1, Ordering::Relaxed);
    }

    /// One left, which counts if it was reset.
    pub fn object_left(&self, left: &Left) {
        if let Some(index) = left.reset_index() {
            self.objects_reset[index].fetch_add(1, Ordering::Relaxed);
        }
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
}

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// The values of the labels `worker` and `version`.
fn labels((worker, version): &Series) -> (String, String) {
    (worker.to_string(), version.map_or_else(|| "other".to_owned(), |version| version.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exposed(metrics: &Metrics) -> String {
        let mut text = Exposition::default();
        metrics.expose(&mut text);
        text.to_text()
    }

    #[test]
    fn series_are_bounded() {
        let metrics = Metrics::default();
        let worker: WorkerName = "w".parse().unwrap();
        for n in 0..u128::try_from(SERIES_MAX).unwrap() + 10 {
            metrics.of(&worker, VersionId::from_random(n.to_be_bytes()));
        }
        assert_eq!(metrics.versions.lock().unwrap().len(), SERIES_MAX + 1);
        assert!(exposed(&metrics).contains("version=\"other\""));
    }

    #[test]
    fn what_is_counted_is_exposed() {
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
        version.waits();
        metrics.of(&"w".parse().unwrap(), VersionId::from_random([2; 16]));
        version.object_started();
        version.object_left(&Left::Idle);
        version.object_left(&Left::Asked);
        let text = exposed(&metrics);
        // Of versions that no object runs nothing is said.
        assert_eq!(text.matches("sluice_object_starts_total{").count(), 1, "{text}");
        for line in [
            "outcome=\"ok\"} 3\n",
            "class=\"2xx\"} 3\n",
            "le=\"0.0025\"} 2\n",
            "sluice_request_seconds_sum{worker=\"w\",version=\"01010101-0101-4101-8101-010101010101\"} 0.703\n",
            "why=\"asked\"} 1\n",
            "why=\"reassigned\"} 0\n",
            "sluice_instance_waits_total{worker=\"w\",version=\"01010101-0101-4101-8101-010101010101\"} 1\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
