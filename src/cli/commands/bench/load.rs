//! The load: rounds of requests to one version after another, each round closed (so many requests under way at any time) or
//! open (so many a second, whatever the answers take). The order turns with every round, A B and then B A, so that a machine
//! that gets slower makes all versions slower by as much.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::http;
use crate::app::lab::{Subject, Template};
use crate::domain::outcome::Outcome;

/// How long a round lasts if nothing speaks for another length: short, so that many fit, and the machine is the same for
/// neighbours.
const ROUND: Duration = Duration::from_millis(125);
/// Rounds of each version: fewer than these cannot be told apart, more take longer to compare than they add.
const ROUNDS_MIN: u32 = 8;
const ROUNDS_MAX: u32 = 200;
/// Requests that a round should hold: below that its median is mostly chance.
const REQUESTS_PER_ROUND: u32 = 30;
/// Below so many requests a round says nothing of its slowest hundredth.
const REQUESTS_FOR_P99: usize = 200;
/// Requests that are due and not yet sent; what is due beyond that is not sent at all, and told.
const BACKLOG_MAX: usize = 20_000;
/// What those count as.
const NOT_SENT: &str = "not sent";
/// The longest time that is told apart from longer ones.
const LATENCY_MAX_NS: u64 = 300_000_000_000;

/// How requests follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// So many under way at any time.
    Closed { connections: usize },
    /// So many a second, at most `connections` of them under way.
    Open { rate: u64, connections: usize },
}

/// What is asked, and by which way.
pub enum Target {
    Lab { subjects: Vec<Subject>, template: Box<Template> },
    Http(http::Address),
}

/// One request and what became of it.
#[derive(Debug, Clone)]
pub struct Shot {
    /// From when it was due, or its connection was free for it, until the last byte.
    pub latency: Duration,
    /// From when it was sent.
    pub wall: Duration,
    /// Of it, how long the guest ran, where that is known.
    pub guest: Option<Duration>,
    /// The status of the answer, if there was one.
    pub status: Option<u16>,
    /// What kind of failure it was, if it was one.
    pub fault: Option<String>,
    /// What it said.
    pub detail: String,
}

/// Everything that one version did.
pub struct Tally {
    /// Nanoseconds, as all times here.
    pub latency: Histogram<u64>,
    pub guest: Histogram<u64>,
    /// What is not the guest's.
    pub rest: Histogram<u64>,
    pub sent: u64,
    /// Answers by their status.
    pub statuses: BTreeMap<u16, u64>,
    pub faults: BTreeMap<String, u64>,
    /// The first failure of each kind, in words.
    pub details: BTreeMap<String, String>,
    /// How long its rounds took.
    pub busy: Duration,
    pub rounds: Vec<Round>,
}

/// What a round comes down to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Round {
    pub requests: usize,
    /// Nanoseconds; not a number if there was no answer.
    pub p50: f64,
    /// The same if the round had too few.
    pub p99: f64,
}

impl Target {
    /// How many versions there are.
    pub fn count(&self) -> usize {
        match self {
            Self::Lab { subjects, .. } => subjects.len(),
            Self::Http(address) => address.count(),
        }
    }

    async fn ask(&self, connection: &mut http::Connection, index: usize) -> Shot {
        match self {
            Self::Http(address) => address.ask(connection, index).await,
            Self::Lab { subjects, template } => {
                let shot = subjects[index].ask(template).await;
                let fault = match (shot.outcome, shot.version == Some(subjects[index].id())) {
                    (_, false) => Some(http::OTHER_VERSION.to_owned()),
                    (Outcome::Ok, true) if shot.status >= 500 => Some(format!("status {}", shot.status)),
                    (Outcome::Ok, true) => None,
                    (outcome, true) => Some(outcome.as_str().to_owned()),
                };
                let status = Some(shot.status);
                Shot { guest: Some(shot.guest), status, fault, detail: shot.message, ..Shot::sent(shot.wall) }
            }
        }
    }
}

impl Shot {
    /// An answer that took so long.
    pub fn sent(wall: Duration) -> Self {
        Self { latency: wall, wall, guest: None, status: None, fault: None, detail: String::new() }
    }
}

impl Pace {
    /// The most requests under way at once.
    pub fn connections(self) -> usize {
        match self {
            Self::Closed { connections } | Self::Open { connections, .. } => connections,
        }
    }

    /// How many rounds of each of `versions` fit into `duration`, and how long one is, where a request takes about `latency`.
    pub fn rounds(self, duration: Duration, versions: usize, latency: Duration) -> (u32, Duration) {
        let between = match self {
            Self::Closed { connections } => latency.div_f64(connections.max(1) as f64),
            Self::Open { rate, .. } => Duration::from_secs(1).div_f64(rate.max(1) as f64),
        };
        let share = duration.div_f64(versions.max(1) as f64);
        let round = ROUND.max(between * REQUESTS_PER_ROUND);
        let count = times(round, share).clamp(ROUNDS_MIN, ROUNDS_MAX);
        match self {
            Self::Closed { .. } => (count, share / count),
            // Whole requests, and at least one in each: a rate is kept, however few rounds there are then.
            Self::Open { .. } => {
                let count = count.min(times(between, share)).max(1);
                (count, between * times(between, share / count).max(1))
            }
        }
    }
}

/// How often a time goes into another one, but for what is lost by counting in nanoseconds.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is less than that, and not negative")]
fn times(part: Duration, whole: Duration) -> u32 {
    (whole.as_secs_f64() / part.as_secs_f64().max(1e-9) + 1e-6).min(f64::from(u32::MAX)) as u32
}

/// Sends requests to one version for `length`. Those that are under way at its end are waited for, unless `stop` comes first.
/// None if it did.
pub async fn round(
    target: &Arc<Target>,
    index: usize,
    pace: Pace,
    length: Duration,
    pool: &Arc<Pool>,
    stop: &CancellationToken,
) -> Option<(Vec<Shot>, Duration)> {
    let began = Instant::now();
    let shots = async {
        match pace {
            Pace::Closed { connections } => closed(target, index, connections, began + length, pool).await,
            Pace::Open { rate, .. } => open(target, index, rate, length, pool).await,
        }
    };
    tokio::select! {
        biased;
        () = stop.cancelled() => None,
        shots = shots => Some((shots, began.elapsed())),
    }
}

async fn closed(target: &Arc<Target>, index: usize, connections: usize, end: Instant, pool: &Arc<Pool>) -> Vec<Shot> {
    let mut running = JoinSet::new();
    for _ in 0..connections {
        let (target, pool) = (Arc::clone(target), Arc::clone(pool));
        running.spawn(async move {
            let mut connection = pool.take();
            let mut shots = Vec::new();
            // In this process a request of several waits here for its turn on a core; over HTTP the server has the queue.
            let waits = connections > 1 && matches!(*target, Target::Lab { .. });
            let mut free = Instant::now();
            loop {
                let shot = target.ask(&mut connection, index).await;
                let failed = shot.fault.is_some();
                let latency = if waits { free.elapsed() } else { shot.wall };
                shots.push(Shot { latency, ..shot });
                if Instant::now() >= end {
                    break;
                }
                // The others are to have their turns. A server that is gone refuses a million times a second.
                if failed {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                free = Instant::now();
                tokio::task::yield_now().await;
            }
            pool.give_back(connection);
            shots
        });
    }
    running.join_all().await.into_iter().flatten().collect()
}

async fn open(target: &Arc<Target>, index: usize, rate: u64, length: Duration, pool: &Arc<Pool>) -> Vec<Shot> {
    let (due_sender, mut due) = mpsc::unbounded_channel();
    // A thread, since timers of the runtime go by milliseconds.
    let pacing = tokio::task::spawn_blocking(move || pace(rate, length, &due_sender));
    let mut running = JoinSet::new();
    let mut shots = Vec::new();
    while let Some(due) = due.recv().await {
        while let Some(done) = running.try_join_next() {
            shots.extend(done);
        }
        if running.len() >= BACKLOG_MAX {
            let detail = format!("{BACKLOG_MAX} requests were waiting to be sent");
            shots.push(Shot { fault: Some(NOT_SENT.to_owned()), detail, ..Shot::sent(Duration::ZERO) });
            continue;
        }
        let (target, pool) = (Arc::clone(target), Arc::clone(pool));
        running.spawn(async move {
            let _permit = pool.permits.acquire().await;
            let mut connection = pool.take();
            let shot = target.ask(&mut connection, index).await;
            pool.give_back(connection);
            // From when it was due: a request that had to wait for others waited for them too.
            Shot { latency: Instant::now().saturating_duration_since(due), ..shot }
        });
    }
    let _ = pacing.await;
    shots.extend(running.join_all().await);
    shots
}

/// Says when each request is due, when it is. Ends when the time is over, or early if nobody listens.
fn pace(rate: u64, length: Duration, due: &mpsc::UnboundedSender<Instant>) {
    let began = Instant::now();
    let between = Duration::from_secs(1).div_f64(rate as f64);
    for number in 0_u32.. {
        let offset = between.mul_f64(f64::from(number)).min(length);
        let now = began.elapsed();
        if offset > now {
            std::thread::sleep(offset - now);
        }
        if offset >= length {
            return;
        }
        if due.send(began + offset).is_err() {
            return;
        }
    }
}

/// Connections that are not in use, and how many there may be.
pub struct Pool {
    idle: Mutex<Vec<http::Connection>>,
    permits: Semaphore,
}

impl Pool {
    pub fn new(connections: usize) -> Arc<Self> {
        Arc::new(Self { idle: Mutex::default(), permits: Semaphore::new(connections) })
    }

    fn take(&self) -> http::Connection {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    fn give_back(&self, connection: http::Connection) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
    }
}

// === impl Tally ===

impl Tally {
    pub fn new() -> anyhow::Result<Self> {
        let histogram = || Histogram::<u64>::new_with_bounds(1, LATENCY_MAX_NS, 3);
        Ok(Self {
            latency: histogram()?,
            guest: histogram()?,
            rest: histogram()?,
            sent: 0,
            statuses: BTreeMap::new(),
            faults: BTreeMap::new(),
            details: BTreeMap::new(),
            busy: Duration::ZERO,
            rounds: Vec::new(),
        })
    }

    /// Adds a round.
    pub fn add(&mut self, shots: Vec<Shot>, took: Duration) {
        self.busy += took;
        let mut answered: Vec<u64> = Vec::with_capacity(shots.len());
        for Shot { latency, wall: _, guest, status, fault, detail } in shots {
            self.sent += 1;
            if let Some(status) = status {
                *self.statuses.entry(status).or_default() += 1;
            }
            if let Some(fault) = fault {
                self.details.entry(fault.clone()).or_insert(detail);
                *self.faults.entry(fault).or_default() += 1;
                continue;
            }
            let latency = nanos(latency);
            answered.push(latency);
            self.latency.saturating_record(latency);
            if let Some(guest) = guest.map(nanos) {
                self.guest.saturating_record(guest);
                self.rest.saturating_record(latency.saturating_sub(guest));
            }
        }
        answered.sort_unstable();
        self.rounds.push(Round {
            requests: answered.len(),
            p50: quantile(&answered, 0.5),
            p99: if answered.len() < REQUESTS_FOR_P99 { f64::NAN } else { quantile(&answered, 0.99) },
        });
    }

    pub fn failed(&self) -> u64 {
        self.faults.values().sum()
    }

    /// Answers a second, while it was its turn.
    pub fn rate(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "requests of a benchmark")]
        let answered = self.latency.len() as f64;
        answered / self.busy.as_secs_f64().max(1e-9)
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX).max(1)
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a place among the requests of a round"
)]
fn quantile(sorted: &[u64], part: f64) -> f64 {
    let place = ((sorted.len() as f64) * part).ceil() as usize;
    sorted.get(place.saturating_sub(1)).map_or(f64::NAN, |value| *value as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_cut_into_rounds_that_hold_enough_requests() {
        let closed = Pace::Closed { connections: 1 };
        let ten = Duration::from_secs(10);
        assert_eq!(closed.rounds(ten, 2, Duration::from_micros(80)), (40, Duration::from_millis(125)));
        // 30 requests of 10 ms: 300 ms a round.
        assert_eq!(closed.rounds(ten, 2, Duration::from_millis(10)).0, 16);
        assert_eq!(closed.rounds(ten, 2, Duration::from_secs(3)).0, ROUNDS_MIN);
        assert_eq!(closed.rounds(Duration::from_secs(3600), 1, Duration::ZERO).0, ROUNDS_MAX);
        let open = Pace::Open { rate: 100, connections: 8 };
        assert_eq!(open.rounds(ten, 2, Duration::from_micros(80)).0, 16);
    }

    /// A rate of one a second was five thousand: each round sent its first request, and was over.
    #[test]
    fn a_round_of_an_open_load_is_as_long_as_its_requests_are_apart() {
        let check = |rate, duration, rounds, length| {
            let open = Pace::Open { rate, connections: 8 };
            let millis = Duration::from_millis;
            assert_eq!(open.rounds(millis(duration), 2, millis(1)), (rounds, millis(length)), "{rate} {duration}");
        };
        check(1, 2_000, 1, 1_000);
        check(1, 20_000, 8, 1_000);
        check(2, 4_000, 4, 500);
        check(20, 2_000, 8, 100);
        check(500, 10_000, 40, 124);
        check(1, 500, 1, 1_000);
    }

    #[test]
    fn a_round_comes_down_to_its_quantiles_and_failures_are_no_latencies() {
        let mut tally = Tally::new().unwrap();
        let shot = |us: u64, fault: Option<&str>| Shot {
            guest: Some(Duration::from_micros(us / 2)),
            fault: fault.map(str::to_owned),
            detail: "why".to_owned(),
            ..Shot::sent(Duration::from_micros(us))
        };
        let mut shots: Vec<Shot> = (1..=1_000).map(|us| shot(us, None)).collect();
        shots.push(shot(1_000_000, Some("exception")));
        tally.add(shots, Duration::from_secs(1));
        tally.add(vec![shot(7, None)], Duration::from_secs(1));
        assert_eq!((tally.sent, tally.failed(), tally.latency.len()), (1_002, 1, 1_001));
        assert_eq!(tally.rounds[0], Round { requests: 1_000, p50: 500_000.0, p99: 990_000.0 });
        assert!(tally.rounds[1].p99.is_nan() && tally.rounds[1].p50 == 7_000.0);
        assert!(tally.latency.max() < 1_100_000 && tally.details["exception"] == "why");
        assert!((tally.rate() - 500.5).abs() < 1e-9);
    }

    #[test]
    fn requests_are_due_at_even_times_and_not_when_the_last_was_answered() {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let began = Instant::now();
        pace(1_000, Duration::from_millis(20), &sender);
        assert!(began.elapsed() >= Duration::from_millis(20));
        drop(sender);
        let mut due = Vec::new();
        while let Ok(at) = receiver.try_recv() {
            due.push(at);
        }
        assert_eq!(due.len(), 20);
        assert!(
            due.windows(2).all(|two| (two[1] - two[0]).abs_diff(Duration::from_millis(1)) < Duration::from_micros(1))
        );
    }
}
