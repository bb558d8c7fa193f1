//! What happened in the last minutes: the counters of each version, read once a second and kept for as long as a page shows them.
//!
//! A request does nothing for it. Counts are kept for each second of five minutes, how durations are distributed for each ten
//! seconds of one minute, and of a version without requests next to nothing is: a thousand busy versions take some MiB.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use crate::clock::Clock;
use crate::domain::distribution::Distribution;
use crate::domain::id::{VersionId, WorkerName};
use crate::domain::measures::{Counts, Measures};
use crate::observe::Observer;
use crate::observe::metrics::{Metrics, Series, VersionMetrics};

/// How often the counters are read.
const TICK: Duration = Duration::from_secs(1);
/// Points of a line that is drawn, and ticks in each of them: five minutes.
pub const POINTS: usize = 60;
const POINT_TICKS: u64 = 5;
/// Ticks that are kept: all points, and the one that is not whole yet.
const TICKS: usize = (POINTS + 1) * POINT_TICKS as usize;
/// Ticks that a rate is of: few enough to follow what happens, enough not to jump.
const RATE_TICKS: usize = 10;
/// Ticks between two states of the distributions, and how many differences of them are kept: a minute, and what has come since.
const SLOT_TICKS: u64 = 10;
const SLOTS: usize = 6;

/// The last minutes of every version with a series of its own, and of the rest together.
#[derive(Debug, Default)]
pub struct History(Mutex<State>);

/// One version's last minutes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Traffic {
    /// Requests a second, over the last ten seconds.
    pub rate: f64,
    /// Over the last five minutes.
    pub recent: Counts,
    /// Since the second of the moment that was asked for, if that is less than five minutes ago; else over the last five minutes.
    pub since: Counts,
    /// [`POINTS`] spans of five seconds, the oldest first.
    pub points: Vec<Counts>,
}

#[derive(Debug, Default)]
struct State {
    /// Ticks so far.
    ticks: u64,
    /// Unix times of the ticks that are kept, in milliseconds, the newest last.
    times_ms: VecDeque<u64>,
    tracks: BTreeMap<Series, Track>,
}

#[derive(Debug, Default)]
struct Track {
    /// At the last tick.
    total: Counts,
    /// The last tick with a request.
    busy_at: u64,
    /// What each tick has added, at its number modulo the length. None while nothing has for five minutes.
    ring: Option<Box<[(u32, u32); TICKS]>>,
    /// The state when the present slot began.
    base: Sparse,
    /// What the slots before it have added, the newest last.
    slots: VecDeque<Sparse>,
}

/// [`Measures`] without the buckets that are empty: most are.
#[derive(Debug, Default)]
struct Sparse {
    counts: Counts,
    wall: Box<[(u16, u64)]>,
    cpu: Box<[(u16, u64)]>,
}

impl History {
    /// Reads the counters of `observer` each second until it is gone.
    pub async fn sample_forever(observer: Weak<Observer>, clock: Arc<dyn Clock>) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            let Some(observer) = observer.upgrade() else { return };
            observer.history.tick(&observer.metrics, clock.now_ms());
        }
    }

    /// Reads the counters.
    pub fn tick(&self, metrics: &Metrics, now_ms: u64) {
        let all = metrics.all();
        let mut state = self.state();
        state.ticks += 1;
        state.times_ms.push_back(now_ms);
        if state.times_ms.len() > TICKS {
            state.times_ms.pop_front();
        }
        let ticks = state.ticks;
        for (series, counters) in all {
            state.tracks.entry(series).or_default().tick(ticks, &counters);
        }
    }

    /// The last minutes of every version of `worker` that had requests since the node started; under no id those that share a series.
    #[must_use]
    pub fn traffic(&self, worker: &WorkerName, since_ms: u64) -> BTreeMap<Option<VersionId>, Traffic> {
        let state = self.state();
        let of_worker = state.tracks.range((worker.clone(), None)..).take_while(|((name, _), _)| name == worker);
        of_worker.map(|((_, version), track)| (*version, state.traffic(track, since_ms))).collect()
    }

    /// What a version has done in the last minute; nothing if it has no series of its own.
    #[must_use]
    pub fn last_minute(&self, metrics: &Metrics, worker: &WorkerName, version: VersionId) -> Measures {
        let Some(now) = metrics.measures(worker, version) else { return Measures::default() };
        let state = self.state();
        let Some(track) = state.tracks.get(&(worker.clone(), Some(version))) else { return now };
        let mut minute = now.since(&track.base.to_measures());
        track.slots.iter().for_each(|slot| minute.merge(&slot.to_measures()));
        minute
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn traffic(&self, track: &Track, since_ms: u64) -> Traffic {
        let known = self.times_ms.len() as u64;
        let sum = |from: u64, to: u64| {
            let mut sum = Counts::default();
            (from.max(self.ticks.saturating_sub(known) + 1)..to).for_each(|tick| sum.merge(track.at(tick)));
            sum
        };
        let end = self.ticks + 1;
        let steps = self.times_ms.len().saturating_sub(1).min(RATE_TICKS);
        let span_ms = match self.times_ms.back() {
            Some(last) => last.saturating_sub(self.times_ms[self.times_ms.len() - 1 - steps]),
            None => 0,
        };
        // The tick in which the moment lies counts too: who deploys and then asks at once is to see it. Up to a second of what came
        // before is in it, at most.
        let before = self.times_ms.iter().take_while(|time| **time <= since_ms).count() as u64;
        let first_since = self.ticks.saturating_sub(known) + 1 + before;
        let last_point = end / POINT_TICKS;
        let points = (0..POINTS as u64).rev().map(|back| match last_point.checked_sub(back + 1) {
            Some(point) => sum(point * POINT_TICKS, (point + 1) * POINT_TICKS),
            None => Counts::default(),
        });
        #[expect(clippy::cast_precision_loss, reason = "a rate, for people")]
        let rate = match span_ms {
            0 => 0.0,
            _ => sum(end - steps as u64, end).requests as f64 * 1000.0 / span_ms as f64,
        };
        Traffic { rate, recent: sum(0, end), since: sum(first_since, end), points: points.collect() }
    }
}

impl Track {
    fn tick(&mut self, tick: u64, counters: &VersionMetrics) {
        let now = counters.counts();
        let added = now.since(self.total);
        self.total = now;
        if added != Counts::default() {
            self.busy_at = tick;
            self.ring.get_or_insert_with(|| Box::new([(0, 0); TICKS]));
        }
        if let Some(ring) = &mut self.ring {
            ring[place(tick)] = (cut(added.requests), cut(added.errors));
            if tick - self.busy_at >= TICKS as u64 {
                self.ring = None;
            }
        }
        if tick.is_multiple_of(SLOT_TICKS) {
            self.end_slot(tick, counters);
        }
    }

    fn end_slot(&mut self, tick: u64, counters: &VersionMetrics) {
        let is_busy = tick - self.busy_at < SLOT_TICKS && self.ring.is_some();
        if is_busy {
            let now = counters.measures();
            self.slots.push_back(Sparse::of(&now.since(&self.base.to_measures())));
            self.base = Sparse::of(&now);
        } else if !self.slots.is_empty() {
            self.slots.push_back(Sparse::default());
        }
        if self.slots.len() > SLOTS {
            self.slots.pop_front();
        }
        if self.slots.iter().all(|slot| slot.counts.requests == 0) {
            self.slots = VecDeque::new();
        }
    }

    fn at(&self, tick: u64) -> Counts {
        let (requests, errors) = self.ring.as_ref().map_or((0, 0), |ring| ring[place(tick)]);
        Counts { requests: requests.into(), errors: errors.into() }
    }
}

impl Sparse {
    fn of(measures: &Measures) -> Self {
        let Measures { requests, errors, wall, cpu } = measures;
        let counts = Counts { requests: *requests, errors: *errors };
        Self { counts, wall: wall.to_sparse().into(), cpu: cpu.to_sparse().into() }
    }

    fn to_measures(&self) -> Measures {
        let Counts { requests, errors } = self.counts;
        let (wall, cpu) = (Distribution::from_sparse(&self.wall), Distribution::from_sparse(&self.cpu));
        Measures { requests, errors, wall, cpu }
    }
}

fn place(tick: u64) -> usize {
    usize::try_from(tick % TICKS as u64).unwrap_or(0)
}

fn cut(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::outcome::Outcome;
    use crate::observe::metrics::Sample;

    const START_MS: u64 = 1_000_000;

    struct Node {
        metrics: Metrics,
        history: History,
        worker: WorkerName,
        now_ms: u64,
    }

    impl Node {
        fn new() -> Self {
            let (metrics, history) = (Metrics::default(), History::default());
            Self { metrics, history, worker: "w".parse().unwrap(), now_ms: START_MS }
        }

        fn add(&self, version: u8, wall_ms: u64, outcome: Outcome) {
            let (wall, cpu) = (Duration::from_millis(wall_ms), Duration::from_millis(1));
            let sample = Sample { outcome, status: None, wall, cpu, memory_bytes: 0, subrequests: 0, reused: false };
            self.metrics.of(&self.worker, id(version)).add(sample);
        }

        fn tick(&mut self, times: u64) {
            for _ in 0..times {
                self.now_ms += 1000;
                self.history.tick(&self.metrics, self.now_ms);
            }
        }

        fn traffic(&self, version: u8, since_ms: u64) -> Traffic {
            self.history.traffic(&self.worker, since_ms).remove(&Some(id(version))).unwrap_or_default()
        }

        fn minute(&self, version: u8) -> Measures {
            self.history.last_minute(&self.metrics, &self.worker, id(version))
        }
    }

    fn id(n: u8) -> VersionId {
        VersionId::from_random([n; 16])
    }

    #[test]
    fn a_rate_is_of_the_last_ten_seconds() {
        let mut node = Node::new();
        node.tick(20);
        for _ in 0..10 {
            (0..3).for_each(|_| node.add(1, 5, Outcome::Ok));
            node.tick(1);
        }
        assert!((node.traffic(1, 0).rate - 3.0).abs() < 1e-9);
        node.tick(5);
        assert!((node.traffic(1, 0).rate - 1.5).abs() < 1e-9);
        node.tick(5);
        assert!(node.traffic(1, 0).rate.abs() < 1e-9);
        assert_eq!(node.traffic(1, 0).recent.requests, 30);
    }

    #[test]
    fn points_hold_every_request_once_and_pass_after_five_minutes() {
        let mut node = Node::new();
        node.add(1, 5, Outcome::Exception);
        node.add(1, 5, Outcome::Ok);
        node.tick(POINT_TICKS * 2);
        let traffic = node.traffic(1, 0);
        let points: Vec<u64> = traffic.points.iter().map(|point| point.requests).collect();
        assert_eq!((points.len(), points.iter().sum::<u64>()), (POINTS, 2));
        assert_eq!(traffic.recent, Counts { requests: 2, errors: 1 });
        node.tick(TICKS as u64 + 1);
        assert_eq!(node.traffic(1, 0).recent, Counts::default());
        let state = node.history.state();
        assert!(state.tracks.values().all(|track| track.ring.is_none() && track.slots.is_empty()));
    }

    #[test]
    fn what_came_more_than_a_second_before_a_moment_is_not_counted_since_it() {
        let mut node = Node::new();
        for _ in 0..4 {
            node.add(1, 5, Outcome::Ok);
            node.tick(1);
        }
        // Ticks at 1, 2, 3 and 4 s. What the tick at 3 s counted may have come after 2.5 s.
        assert_eq!(node.traffic(1, START_MS + 2500).since.requests, 2);
        assert_eq!(node.traffic(1, START_MS + 2000).since.requests, 2);
        assert_eq!(node.traffic(1, 0).since.requests, 4);
        assert_eq!(node.traffic(1, START_MS + 9000).since.requests, 0);
    }

    #[test]
    fn a_minute_is_at_least_its_last_sixty_seconds_and_at_most_ten_more() {
        let mut node = Node::new();
        node.add(1, 900, Outcome::Ok);
        assert_eq!(node.minute(1).requests, 1, "before the first tick");
        node.tick(1);
        assert_eq!(node.minute(1).requests, 1);
        node.tick(58);
        node.add(1, 5, Outcome::Ok);
        assert_eq!(node.minute(1).wall.quantile(1.0).map(|wall| wall.as_millis() > 800), Some(true));
        node.tick(12);
        assert_eq!(node.minute(1).requests, 1);
        assert_eq!(node.minute(1).wall.quantile(1.0).map(|wall| wall.as_millis() < 10), Some(true));
        node.tick(70);
        assert_eq!(node.minute(1), Measures::default());
        // One that comes back is counted from where it was.
        node.tick(1000);
        node.add(1, 5, Outcome::Ok);
        node.tick(3);
        assert_eq!((node.minute(1).requests, node.minute(1).cpu.count()), (1, 1));
        assert_eq!(node.minute(2), Measures::default());
    }

    #[test]
    fn workers_whose_names_begin_alike_are_kept_apart() {
        let mut node = Node::new();
        node.add(1, 5, Outcome::Ok);
        node.tick(1);
        for other in ["v", "w-2", "w2"] {
            assert!(node.history.traffic(&other.parse().unwrap(), 0).is_empty(), "{other}");
        }
    }
}
