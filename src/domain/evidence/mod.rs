//! Whether the guards of a rollout hold, are broken, or cannot be judged yet: the statistics, with nothing beside them.
//!
//! # The problem
//!
//! A rollout looks at its numbers every second and stops at the first look that shows the new version to be worse. The usual
//! test, made for one look, errs with its 5 % *at each look*: a version that is as good as the old one is stopped sooner or
//! later. Waiting for a size agreed beforehand would be honest too, but would let a version that fails every request go on
//! failing until the size is reached. And the numbers are not of the laboratory: traffic comes and goes, a database that is
//! down for ten seconds fails both versions at once, nobody knows the share of errors beforehand.
//!
//! # What we do
//!
//! Each guard bets against itself. It begins with a capital of 1, and at each look stakes it on "the new version is over its
//! limit", at odds that are fair or worse as long as the version keeps to it. Then the capital shrinks or stands, whatever
//! the shares of errors are and however often somebody looks: that it *ever* grows a thousandfold has a chance of one in a
//! thousand (Ville's inequality; the capital is called an e-value). So a guard is [broken](Finding::Broken) when its capital
//! passes a bound, at any look, and [`MISTAKE_MAX`] is the chance that any guard of a whole rollout is ever broken by mistake.
//!
//! The bet of one look: of `n` and `m` requests to new and old, `k` and `j` were bad. For a factor `g` by which the new
//! version may be over its limit `c × old + d`, the capital is multiplied by `a^k × b^j × exp(-d × n × (a - 1))`, where
//! `b = (c n + m) / (g c n + m)` and `a = g b`. Its mean is at most `exp(p n (a - 1) - q m (1 - b) - d n (a - 1))`, since
//! `1 + x <= exp(x)`, and with shares `p <= c q + d` that is at most 1, because `c n (a - 1) = m (1 - b)`. It needs no other
//! assumption: neither the shares, nor that they stay, nor that looks are alike. Both versions meet the same look, so what
//! befalls both is no evidence. A limit that asks nothing of the old version has the plain likelihood ratio of `k` in `n`.
//! The true factor is unknown, so the capital is spread evenly over [`FACTORS`] (a mixture), at the cost of a little patience.
//!
//! *Bad* is an error; or, for a quantile, a request beyond a duration. For `p99<250ms` that duration is 250 ms, and at most 1 %
//! may be bad. For `p99<1.2x` it is, before each look, the old version's p99 so far for the old version, and 1.2 times
//! that for the new, and the new version may have no larger share beyond its own. Durations are known within a sixteenth; what is in
//! doubt counts in favour of the new version. Of wall time, less than [`WALL_SLACK`] more is no difference.
//!
//! Evidence is counted in *windows*: one for each step at least, since a step changes who is served. Window `w` may use
//! `1 / (w (w + 1))` of the chance of a mistake, so that however many there are, it is never used up.
//!
//! # Holding
//!
//! No evidence against a version is no evidence for it. A guard [holds](Finding::Holds) when three things are true: it is not
//! broken; what was measured is within its limit; and there were as many requests as are needed to break it, nine times in ten,
//! if the version were over it by as much again (errors: by two percentage points at least; quantiles: if three times as
//! many requests as allowed were slower). That is the stated sample size; it depends on what is measured of the old version,
//! and is told while it is waited for. Until then there is [not enough data](Finding::NotEnoughData).

use std::time::Duration;

use crate::domain::distribution::{BUCKETS, Distribution, bucket_of, least_ns};
use crate::domain::guard::{Guard, Limit, Measure};
use crate::domain::measures::Measures;

pub mod words;

/// The chance that a rollout of a version that keeps to its guards is stopped by them: a quarter of a percent, so that a team
/// that rolls out daily is called out for nothing less than once in a year.
pub const MISTAKE_MAX: f64 = 0.0025;
/// Factors by which a version may be over its limit, on which bets are laid.
pub const FACTORS: [f64; 8] = [1.15, 1.4, 1.8, 2.5, 4.0, 8.0, 20.0, 100.0];
/// Wall time that is no difference between two versions: what a start of an instance or a busy core costs now and then.
pub const WALL_SLACK: Duration = Duration::from_millis(1);
/// Errors over the limit that the sample size is made to catch, as a share.
const ERRORS_OVER_MIN: f64 = 0.02;
/// How often the sample size catches them: nine in ten, as a bound of a normal variable.
const POWER_Z: f64 = 1.2816;
/// Requests beyond a quantile that have to be known of the old version before the quantile is used as a mark.
const MARK_BEYOND_MIN: f64 = 10.0;

/// What is said of a guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// Enough requests, and within the limit.
    Holds,
    /// The new version is over its limit.
    Broken,
    /// Neither can be said yet, and why.
    NotEnoughData(Lack),
}

/// What is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// So many more requests of the new version.
    New(u64),
    /// So many more requests of the old version, before it is known what it takes.
    Old(u64),
    /// Enough requests, and yet over the limit by so little that chance can explain it.
    Clarity,
}

/// Requests, and how many of them were bad.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    pub requests: u64,
    pub bad: u64,
}

/// A guard's state at a look.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judged {
    pub guard: Guard,
    pub finding: Finding,
    /// The logarithm of the capital: above 0 there is evidence against the version.
    pub evidence_ln: f64,
    /// The evidence that breaks the guard.
    pub broken_at_ln: f64,
    /// What was counted of the new version: bad are errors, or requests beyond the limit's duration.
    pub new: Tally,
    /// The same of the old version, of a relative guard.
    pub old: Tally,
    /// The requests of the new version that it takes for the guard to hold.
    pub needed: u64,
    /// Requests in this window, whether they could be compared or not.
    pub new_requests: u64,
    pub old_requests: u64,
    /// What is measured, in this window: a share, or a quantile in seconds. None without requests.
    pub new_value: Option<f64>,
    pub old_value: Option<f64>,
}

/// The evidence on all guards since a moment.
#[derive(Debug, Clone)]
pub struct Window {
    tests: Vec<Test>,
    opened: Pair,
    /// At the last look that was a bet.
    bet: Pair,
    now: Pair,
}

/// The counts of both versions at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pair {
    pub new: Measures,
    pub old: Measures,
}

/// One guard's bets.
#[derive(Debug, Clone)]
struct Test {
    guard: Guard,
    /// The logarithm of the capital on each factor, before it is spread.
    capital: [f64; FACTORS.len()],
    broken_at: f64,
    /// What counts as slow, and how many of the old version's requests it was taken from; of a compared quantile.
    mark: Option<(Mark, u64)>,
    /// What was bet on.
    new: Tally,
    old: Tally,
}

// === Window ===

impl Window {
    /// Begins to count. `number` is that of the window within its rollout, from 1.
    #[must_use]
    pub fn open(guards: &[Guard], number: u32, counts: Pair) -> Self {
        let number = f64::from(number.max(1));
        let guards_count = u32::try_from(guards.len()).unwrap_or(u32::MAX);
        let broken_at = (f64::from(guards_count) * number * (number + 1.0) / MISTAKE_MAX).ln();
        let test = |guard: &Guard| Test {
            guard: *guard,
            capital: [0.0; FACTORS.len()],
            broken_at,
            mark: None,
            new: Tally::default(),
            old: Tally::default(),
        };
        Self { tests: guards.iter().map(test).collect(), opened: counts.clone(), bet: counts.clone(), now: counts }
    }

    /// Looks: `counts` are later states of the counts that the window was opened with.
    pub fn look(&mut self, counts: Pair) {
        self.now = counts;
        let requests = |now: &Measures, then: &Measures| now.requests.saturating_sub(then.requests);
        let (new, old) = (requests(&self.now.new, &self.bet.new), requests(&self.now.old, &self.bet.old));
        for test in self.tests.iter_mut().filter(|test| !test.guard.is_relative()) {
            test.judge_alone(&self.opened.new, &self.now.new);
        }
        // A look in which only one of them was asked is joined to the next: there is nothing to compare.
        if new == 0 || old == 0 {
            return;
        }
        for test in self.tests.iter_mut().filter(|test| test.guard.is_relative()) {
            test.remark(&self.opened.old, &self.bet.old);
            test.compare(&self.bet, &self.now);
        }
        self.bet.clone_from(&self.now);
    }

    /// What both versions did in this window.
    #[must_use]
    pub fn counted(&self) -> Pair {
        self.now.since(&self.opened)
    }

    /// What is to be said of each guard now.
    #[must_use]
    pub fn judge(&self) -> Vec<Judged> {
        let counted = self.counted();
        self.tests.iter().map(|test| test.judged(&counted, &self.opened.old)).collect()
    }
}

impl Pair {
    /// What was counted since `earlier`.
    fn since(&self, earlier: &Self) -> Self {
        Self { new: self.new.since(&earlier.new), old: self.old.since(&earlier.old) }
    }
}

impl Guard {
    /// Whether it asks the old version.
    #[must_use]
    pub fn is_relative(self) -> bool {
        matches!(self.limit(), Limit::Times(_) | Limit::More(_))
    }

    /// The quantile and the multiple, of a guard that compares durations.
    fn compared_quantile(self) -> Option<(f64, f64)> {
        match (self.measure(), self.limit()) {
            (Measure::Wall(quantile) | Measure::Cpu(quantile), Limit::Times(milli)) => {
                Some((quantile.share(), f64::from(milli) / 1e3))
            }
            _ => None,
        }
    }

    /// The share of requests that may be bad, as `times × the old version's + more`.
    fn allowed(self) -> (f64, f64) {
        match (self.limit(), self.measure()) {
            (Limit::Share(ppm), _) => (0.0, f64::from(ppm) / 1e6),
            (Limit::More(ppm), _) => (1.0, f64::from(ppm) / 1e6),
            (Limit::Times(milli), Measure::ErrorRate) => (f64::from(milli) / 1e3, 0.0),
            (Limit::Times(_), _) => (1.0, 0.0),
            (Limit::Duration(_), Measure::Wall(quantile) | Measure::Cpu(quantile)) => (0.0, 1.0 - quantile.share()),
            (Limit::Duration(_), Measure::ErrorRate) => (0.0, 0.0),
        }
    }
}

impl Measure {
    /// The durations that it is about, if it is about any.
    fn durations(self, measures: &Measures) -> Option<&Distribution> {
        match self {
            Self::ErrorRate => None,
            Self::Wall(_) => Some(&measures.wall),
            Self::Cpu(_) => Some(&measures.cpu),
        }
    }

    fn value(self, measures: &Measures) -> Option<f64> {
        match self {
            Self::ErrorRate => measures.error_rate(),
            Self::Wall(quantile) => measures.wall.quantile(quantile.share()).map(|value| value.as_secs_f64()),
            Self::Cpu(quantile) => measures.cpu.quantile(quantile.share()).map(|value| value.as_secs_f64()),
        }
    }
}

// === Test ===

impl Test {
    /// Takes what counts as slow from what is known of the old version: all that was counted before a look, so that the look cannot
    /// choose it.
    fn remark(&mut self, opened: &Measures, bet: &Measures) {
        let Some((quantile, times)) = self.guard.compared_quantile() else { return };
        let known = bet.requests - opened.requests;
        if self.mark.is_some_and(|(_, then)| known < then + then / 4) {
            return;
        }
        let measure = self.guard.measure();
        let (Some(opened), Some(bet)) = (measure.durations(opened), measure.durations(bet)) else { return };
        let slack = if matches!(measure, Measure::Wall(_)) { WALL_SLACK } else { Duration::ZERO };
        // Of this window if that is enough, and else since the node started.
        let window = bet.since(opened);
        let mark = Mark::of(&window, quantile, times, slack).or_else(|| Mark::of(opened, quantile, times, slack));
        self.mark = mark.map(|mark| (mark, known)).or(self.mark);
    }

    /// Bets on one look at both versions.
    fn compare(&mut self, then: &Pair, now: &Pair) {
        let measure = self.guard.measure();
        let (new, old) = match self.mark {
            _ if measure == Measure::ErrorRate => {
                (Tally::errors(&then.new, &now.new), Tally::errors(&then.old, &now.old))
            }
            Some((mark, _)) => (
                Tally::beyond(measure, &then.new, &now.new, mark.new),
                Tally::beyond(measure, &then.old, &now.old, mark.old),
            ),
            None => return,
        };
        let (times, more) = self.guard.allowed();
        for (capital, factor) in self.capital.iter_mut().zip(FACTORS) {
            *capital += Odds::of(factor, times, more, new.count(), old.count()).gain(new, old);
        }
        self.new.add(new);
        self.old.add(old);
    }

    /// Bets on all that the new version did so far, where nothing is asked of the old one.
    fn judge_alone(&mut self, opened: &Measures, now: &Measures) {
        self.new = match self.guard.limit() {
            Limit::Duration(limit) => {
                let last = bucket_of(u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX));
                Tally::beyond(self.guard.measure(), opened, now, last)
            }
            _ => Tally::errors(opened, now),
        };
        let (_, allowed) = self.guard.allowed();
        for (capital, factor) in self.capital.iter_mut().zip(FACTORS) {
            let (bad, good) = alone(allowed, factor);
            *capital = self.new.bad() * bad + (self.new.count() - self.new.bad()) * good;
        }
    }

    /// The logarithm of the capital over all factors.
    fn evidence(&self) -> f64 {
        let most = self.capital.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = self.capital.iter().map(|capital| (capital - most).exp()).sum();
        most + sum.ln() - factors().ln()
    }

    fn judged(&self, counted: &Pair, old_ever: &Measures) -> Judged {
        let measure = self.guard.measure();
        let evidence = self.evidence();
        let needed = self.needed(counted);
        let (times, more) = self.guard.allowed();
        let allowed = times * self.old.share() + more;
        // One request more or less says nothing.
        let is_within = self.new.bad() <= 1.0 + allowed * self.new.count();
        let finding = if evidence >= self.broken_at {
            Finding::Broken
        } else if let Some(missing) = self.marks_missing(&counted.old, old_ever) {
            Finding::NotEnoughData(Lack::Old(missing))
        } else if self.new.requests < needed {
            Finding::NotEnoughData(Lack::New(needed - self.new.requests))
        } else if is_within {
            Finding::Holds
        } else {
            Finding::NotEnoughData(Lack::Clarity)
        };
        Judged {
            guard: self.guard,
            finding,
            evidence_ln: evidence,
            broken_at_ln: self.broken_at,
            new: self.new,
            old: self.old,
            needed,
            new_requests: counted.new.requests,
            old_requests: counted.old.requests,
            new_value: measure.value(&counted.new),
            old_value: measure.value(&counted.old),
        }
    }

    /// The old version's requests that are missing until its quantile can be a mark.
    fn marks_missing(&self, counted: &Measures, ever: &Measures) -> Option<u64> {
        let (quantile, _) = self.guard.compared_quantile()?;
        let needed = mark_requests_min(quantile);
        let missing = needed.saturating_sub(counted.requests.max(ever.requests));
        (self.mark.is_none() && missing > 0).then_some(missing)
    }

    /// The stated sample size: requests of the new version after which the guard would be broken, nine times in ten, if the version
    /// were over its limit by as much as the room's documentation says.
    fn needed(&self, counted: &Pair) -> u64 {
        let (times, more) = self.guard.allowed();
        let (new, old) = (counted.new.requests.max(1), counted.old.requests.max(1));
        let per_new = ratio(old, new);
        let (old_share, allowed, worse) = match self.guard.measure() {
            Measure::ErrorRate => {
                // What little is known of few requests is not taken for none.
                let is_known = times > 0.0 && self.old.requests > 0;
                let old_share = if is_known { (self.old.bad() + 0.5) / (self.old.count() + 1.0) } else { 0.0 };
                let allowed = (times * old_share + more).min(0.99);
                (old_share, allowed, allowed + allowed.max(ERRORS_OVER_MIN))
            }
            Measure::Wall(quantile) | Measure::Cpu(quantile) => {
                let allowed = 1.0 - quantile.share();
                (allowed, allowed, 3.0 * allowed)
            }
        };
        let worse = worse.min(f64::midpoint(1.0, allowed));
        let bound = self.broken_at + factors().ln();
        let sizes = FACTORS.iter().filter_map(|factor| {
            let (drift, variance) = if times == 0.0 {
                let (bad, good) = alone(allowed, *factor);
                (worse * bad + (1.0 - worse) * good, worse * (1.0 - worse) * (bad - good).powi(2))
            } else {
                let Odds { new, old, fee } = Odds::of(*factor, times, more, 1.0, per_new);
                let old_bad = old_share * per_new;
                (worse * new + old_bad * old - fee, worse * new * new + old_bad * old * old)
            };
            (drift > 0.0).then(|| {
                let spread = POWER_Z * variance.sqrt();
                ((spread + (spread * spread + 4.0 * drift * bound).sqrt()) / (2.0 * drift)).powi(2)
            })
        });
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive, and saturates")]
        let needed = sizes.fold(f64::INFINITY, f64::min).ceil() as u64;
        needed
    }
}

/// What a look multiplies the capital by, as logarithms: for each bad request of the new and of the old version, and less for the
/// look itself.
struct Odds {
    new: f64,
    old: f64,
    fee: f64,
}

impl Odds {
    fn of(factor: f64, times: f64, more: f64, new: f64, old: f64) -> Self {
        let b = (times * new + old) / (factor * times * new + old);
        let a = factor * b;
        Self { new: a.ln(), old: b.ln(), fee: more * new * (a - 1.0) }
    }

    fn gain(&self, new: Tally, old: Tally) -> f64 {
        new.bad() * self.new + old.bad() * self.old - self.fee
    }
}

/// The logarithms by which a bad and a good request multiply the capital that is on `factor`, where `allowed` may be bad.
fn alone(allowed: f64, factor: f64) -> (f64, f64) {
    // Times the odds, so that it stays a share.
    let worse = factor * allowed / (1.0 + (factor - 1.0) * allowed);
    ((worse / allowed).ln(), ((1.0 - worse) / (1.0 - allowed)).ln())
}

// === marks ===

/// The last buckets that are not slow, for each version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    new: usize,
    old: usize,
}

impl Mark {
    /// From what is known of the old version, if that is enough: its quantile's bucket or one of its neighbours, whichever has its
    /// multiple closest below a bound between buckets.
    fn of(known: &Distribution, quantile: f64, times: f64, slack: Duration) -> Option<Self> {
        if known.count() < mark_requests_min(quantile) {
            return None;
        }
        let at = bucket_of(u64::try_from(known.quantile(quantile)?.as_nanos()).unwrap_or(u64::MAX));
        let last = BUCKETS - 1;
        let marks = (at.saturating_sub(1)..=(at + 1).min(last)).map(|old| {
            let end = u128::from(least_ns(old + 1));
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1.1 to 100")]
            let milli = (times * 1e3).round() as u128;
            let wanted = (end * milli).div_ceil(1000).max(end + slack.as_nanos());
            let wanted = u64::try_from(wanted).unwrap_or(u64::MAX);
            // The bucket that ends at or after it.
            let new = bucket_of(wanted.saturating_sub(1));
            (least_ns(new + 1).saturating_sub(wanted) * 1000 / wanted.max(1), Self { new, old })
        });
        marks.min_by_key(|(over, _)| *over).map(|(_, mark)| mark)
    }
}

fn mark_requests_min(quantile: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "10,000 at most")]
    let needed = (MARK_BEYOND_MIN / (1.0 - quantile)).round() as u64;
    needed
}

// === Tally ===

#[expect(clippy::cast_precision_loss, reason = "counts of requests")]
impl Tally {
    fn errors(then: &Measures, now: &Measures) -> Self {
        let requests = now.requests.saturating_sub(then.requests);
        // The counters are read one after the other.
        Self { requests, bad: now.errors.saturating_sub(then.errors).min(requests) }
    }

    fn beyond(measure: Measure, then: &Measures, now: &Measures, last: usize) -> Self {
        let beyond =
            |measures| measure.durations(measures).map_or(0, |all| all.counts()[last + 1..].iter().sum::<u64>());
        let requests = now.requests.saturating_sub(then.requests);
        Self { requests, bad: beyond(now).saturating_sub(beyond(then)).min(requests) }
    }

    fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.bad += other.bad;
    }

    fn bad(self) -> f64 {
        self.bad as f64
    }

    fn count(self) -> f64 {
        self.requests as f64
    }

    /// The share that was bad; 0 of none.
    #[must_use]
    pub fn share(self) -> f64 {
        if self.requests == 0 { 0.0 } else { self.bad() / self.count() }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of requests")]
fn ratio(a: u64, b: u64) -> f64 {
    a as f64 / b as f64
}

#[expect(clippy::cast_precision_loss, reason = "eight")]
fn factors() -> f64 {
    FACTORS.len() as f64
}

#[cfg(test)]
mod tests;
