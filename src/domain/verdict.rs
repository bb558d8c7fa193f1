//! Whether one version is better than another, by what was measured of both, and how sure that is.
//!
//! Versions are measured in short rounds, A B B A, so that each round of one has a neighbour of the other that met the same
//! machine. A pair of neighbours gives one ratio. The interval for *the* ratio is that of Wilcoxon's signed ranks over the
//! logarithms (Hodges and Lehmann): it asks only that the noise be as likely up as down, and one round in which the machine was
//! busy elsewhere moves it little. The more the rounds agree, and the more there are, the narrower it is.
//!
//! A ratio below 1 is better: all that is compared here is a cost.

use std::f64::consts::LN_2;

/// The smallest difference that matters, as a part of the baseline: less than this is within what a change of the compiler,
/// the allocator or the time of day does.
pub const EFFECT_MIN: f64 = 0.03;
/// How often an interval may miss the ratio that it is to hold. Several things are compared in one run, and one of them that is
/// called different by chance spoils the run: so it is less than the usual twentieth.
pub const MISS_MAX: f64 = 0.01;
/// The same as a bound on a normal variable.
const Z: f64 = 2.576;

/// The largest logarithm of a ratio that is believed: its powers, and those of its inverse, are still numbers.
const LOG_MAX: f64 = 300.0;

/// What is said of a version beside the baseline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Finding {
    /// It costs less, and by enough to matter.
    Better,
    /// It costs more, and by enough to matter.
    Worse,
    /// Whatever the difference is, it is too small to matter.
    Same,
    /// None of these can be said yet.
    NotEnoughData,
}

/// What is said of a version when everything that was compared is taken together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    Better,
    Worse,
    /// Better in one thing and worse in another.
    Mixed,
    Same,
    NotEnoughData,
}

/// A ratio of two costs, the version's to the baseline's, and where it can lie.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ratio {
    pub estimate: f64,
    /// The interval's ends; 0 and infinity if nothing is known.
    pub low: f64,
    pub high: f64,
}

/// What a comparison found, with its evidence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judged {
    pub finding: Finding,
    pub ratio: Ratio,
    /// Pairs of rounds that it rests on; 0 if it was counted, not sampled.
    pub pairs: usize,
}

/// Requests that failed, out of all that were sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failures {
    pub failed: u64,
    pub sent: u64,
}

impl Finding {
    /// The word for people and programs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::Same => "no difference that matters",
            Self::NotEnoughData => "not enough data",
        }
    }
}

impl Verdict {
    /// The word for people and programs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::Mixed => "better and worse",
            Self::Same => "no difference that matters",
            Self::NotEnoughData => "not enough data",
        }
    }

    /// Takes findings together. `deciding` are those without which nothing can be called the same; a difference counts
    /// wherever it was found.
    #[must_use]
    pub fn of(deciding: &[Finding], others: &[Finding]) -> Self {
        let any = |wanted: Finding| deciding.iter().chain(others).any(|finding| *finding == wanted);
        match (any(Finding::Better), any(Finding::Worse)) {
            (true, true) => Self::Mixed,
            (true, false) => Self::Better,
            (false, true) => Self::Worse,
            (false, false) if deciding.contains(&Finding::NotEnoughData) => Self::NotEnoughData,
            (false, false) => Self::Same,
        }
    }
}

impl Ratio {
    /// Nothing is known.
    const UNKNOWN: Self = Self { estimate: 1.0, low: 0.0, high: f64::INFINITY };

    /// What it says about a cost.
    #[must_use]
    pub fn finding(&self) -> Finding {
        // The same step up and down, so that exchanging the two versions exchanges the words.
        let (down, up) = (1.0 / (1.0 + EFFECT_MIN), 1.0 + EFFECT_MIN);
        if self.low >= down && self.high <= up {
            Finding::Same
        } else if self.high < 1.0 && self.estimate < down {
            Finding::Better
        } else if self.low > 1.0 && self.estimate > up {
            Finding::Worse
        } else {
            Finding::NotEnoughData
        }
    }
}

/// Judges costs that were sampled: pairs of neighbouring rounds, the baseline's first. A pair in which one is not a positive
/// number says nothing and is left out, and so is one whose ratio no machine could make.
#[must_use]
pub fn of_rounds(pairs: &[(f64, f64)]) -> Judged {
    let logs = pairs.iter().map(|(base, other)| other.ln() - base.ln());
    let logs: Vec<f64> = logs.filter(|log| log.abs() < LOG_MAX).collect();
    let ratio = signed_ranks(&logs);
    Judged { finding: ratio.finding(), ratio, pairs: logs.len() }
}

/// Judges costs that were counted: the least and the most of each, the baseline's first. Where both are one number, so is the
/// ratio.
#[must_use]
pub fn of_counts(base: (u64, u64), other: (u64, u64)) -> Judged {
    #[expect(clippy::cast_precision_loss, reason = "counts of instructions, compared to a percent")]
    let over = |a: u64, b: u64| if a == b { 1.0 } else { a as f64 / b as f64 };
    let (low, high) = (over(other.0, base.1), over(other.1, base.0));
    let ratio = Ratio { estimate: (low * high).sqrt(), low, high };
    let ratio = if low.is_finite() && high.is_finite() { ratio } else { Ratio::UNKNOWN };
    Judged { finding: ratio.finding(), ratio, pairs: 0 }
}

/// Judges failures: one version fails more often if Wilson's intervals for the two shares lie apart.
#[must_use]
pub fn of_failures(base: Failures, other: Failures) -> Finding {
    let (base_share, other_share) = (base.share(), other.share());
    if base.sent == 0 || other.sent == 0 {
        Finding::NotEnoughData
    } else if base.failed == 0 && other.failed == 0 {
        Finding::Same
    } else if other_share.1 < base_share.0 {
        Finding::Better
    } else if other_share.0 > base_share.1 {
        Finding::Worse
    } else {
        Finding::NotEnoughData
    }
}

impl Failures {
    /// Where the share of failures can lie (Wilson's score).
    fn share(self) -> (f64, f64) {
        #[expect(clippy::cast_precision_loss, reason = "requests of a benchmark")]
        let (failed, sent) = (self.failed as f64, (self.sent as f64).max(1.0));
        let (share, z2) = (failed / sent, Z * Z);
        let middle = (share + z2 / (2.0 * sent)) / (1.0 + z2 / sent);
        let half = Z / (1.0 + z2 / sent) * (share * (1.0 - share) / sent + z2 / (4.0 * sent * sent)).sqrt();
        (middle - half, middle + half)
    }
}

// === signed ranks ===

/// The ratio by the means of every two logarithms: their median estimates it, and how many of them may be cut off at each end
/// is what the distribution of signed ranks says.
fn signed_ranks(logs: &[f64]) -> Ratio {
    let mut means = Vec::with_capacity(logs.len() * (logs.len() + 1) / 2);
    for (at, one) in logs.iter().enumerate() {
        means.extend(logs[at..].iter().map(|other| f64::midpoint(*one, *other)));
    }
    means.sort_by(f64::total_cmp);
    let Some(estimate) = median(&means) else { return Ratio::UNKNOWN };
    let (low, high) = match cut_off(logs.len()) {
        Some(cut) => (means[cut].exp(), means[means.len() - 1 - cut].exp()),
        None => (0.0, f64::INFINITY),
    };
    Ratio { estimate: estimate.exp(), low, high }
}

fn median(sorted: &[f64]) -> Option<f64> {
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

/// How many of the means at each end lie outside of the interval; none if even the whole range of so few pairs misses too often.
fn cut_off(pairs: usize) -> Option<usize> {
    // Of the 2^pairs ways to give signs to the ranks 1 to pairs: how many have positive ranks that sum to s.
    let sums = pairs * (pairs + 1) / 2;
    let mut ways = vec![0.0_f64; sums + 1];
    ways[0] = 1.0;
    for rank in 1..=pairs {
        for sum in (rank..=sums).rev() {
            ways[sum] += ways[sum - rank];
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "pairs of rounds")]
    let all = (pairs as f64 * LN_2).exp();
    let mut below = 0.0;
    let within = ways.iter().take_while(|ways| {
        below += *ways / all;
        below <= MISS_MAX / 2.0
    });
    within.count().checked_sub(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn opposite(finding: Finding) -> Finding {
        match finding {
            Finding::Better => Finding::Worse,
            Finding::Worse => Finding::Better,
            other => other,
        }
    }

    #[test]
    fn the_distribution_of_signed_ranks_is_the_one_in_the_tables() {
        // Two-sided 1 %: critical values of Wilcoxon's table for n = 8, 10, 15, 20, 25 and 30.
        for (pairs, cut) in [(8, 0), (10, 3), (15, 15), (20, 37), (25, 68), (30, 109)] {
            assert_eq!(cut_off(pairs), Some(cut), "{pairs}");
        }
        for few in 0..8 {
            assert_eq!(cut_off(few), None, "{few}");
        }
    }

    #[test]
    fn a_steady_ratio_is_found_and_a_few_pairs_find_nothing() {
        let pairs = |ratio: f64, count: usize| of_rounds(&vec![(100.0, 100.0 * ratio); count]);
        assert_eq!(pairs(1.1, 8).finding, Finding::Worse);
        assert_eq!(pairs(0.9, 8).finding, Finding::Better);
        assert_eq!(pairs(1.02, 8).finding, Finding::Same);
        assert_eq!(pairs(1.0, 40).finding, Finding::Same);
        assert_eq!(pairs(2.0, 7).finding, Finding::NotEnoughData);
        assert_eq!(of_rounds(&[]).finding, Finding::NotEnoughData);
        let judged = pairs(1.25, 20);
        assert!((judged.ratio.estimate - 1.25).abs() < 1e-9 && (judged.ratio.low - 1.25).abs() < 1e-9);
        assert_eq!(judged.pairs, 20);
    }

    #[test]
    fn a_few_wild_rounds_change_nothing() {
        let mut pairs = vec![(100.0, 115.0); 30];
        pairs.extend([(100.0, 9_000.0), (5_000.0, 115.0), (100.0, 1.0), (f64::NAN, 115.0), (0.0, 115.0)]);
        let judged = of_rounds(&pairs);
        assert_eq!((judged.finding, judged.pairs), (Finding::Worse, 33));
    }

    #[test]
    fn counts_that_are_one_number_are_compared_as_such() {
        let judged = |base, other| of_counts(base, other).finding;
        assert_eq!(judged((500, 500), (500, 500)), Finding::Same);
        assert_eq!(judged((1_000, 1_000), (1_001, 1_001)), Finding::Same);
        assert_eq!(judged((1_000, 1_000), (1_100, 1_100)), Finding::Worse);
        assert_eq!(judged((1_000, 1_000), (900, 900)), Finding::Better);
        assert_eq!(judged((1_000, 1_300), (1_000, 1_300)), Finding::NotEnoughData);
        assert_eq!(judged((1_000, 1_300), (2_000, 2_300)), Finding::Worse);
        assert_eq!(judged((0, 0), (0, 0)), Finding::Same);
        assert_eq!(judged((0, 0), (5, 5)), Finding::NotEnoughData);
    }

    #[test]
    fn failures_are_told_apart_only_when_there_are_enough_of_them() {
        let judged = |a: (u64, u64), b: (u64, u64)| {
            of_failures(Failures { failed: a.0, sent: a.1 }, Failures { failed: b.0, sent: b.1 })
        };
        assert_eq!(judged((0, 10), (0, 10)), Finding::Same);
        assert_eq!(judged((0, 1_000), (1, 1_000)), Finding::NotEnoughData);
        assert_eq!(judged((0, 1_000), (100, 1_000)), Finding::Worse);
        assert_eq!(judged((100, 1_000), (0, 1_000)), Finding::Better);
        assert_eq!(judged((100, 1_000), (100, 1_000)), Finding::NotEnoughData);
        assert_eq!(judged((0, 0), (5, 10)), Finding::NotEnoughData);
    }

    #[test]
    fn findings_add_up() {
        use Finding::{Better, NotEnoughData, Same, Worse};
        for (deciding, others, verdict) in [
            (vec![Same, Same], vec![Same], Verdict::Same),
            (vec![Same], vec![NotEnoughData], Verdict::Same),
            (vec![NotEnoughData], vec![Same], Verdict::NotEnoughData),
            (vec![NotEnoughData], vec![Worse], Verdict::Worse),
            (vec![Better], vec![NotEnoughData], Verdict::Better),
            (vec![Better], vec![Worse], Verdict::Mixed),
        ] {
            assert_eq!(Verdict::of(&deciding, &others), verdict, "{deciding:?} {others:?}");
        }
    }

    // === simulations ===

    /// Rounds of a machine that is shared: each has its own noise, a slow drift is common to neighbours, some rounds meet a
    /// neighbour that takes a core, and the two of a pair stand in the order A B, then B A.
    fn simulated(random: &mut fastrand::Rng, ratio: f64, pairs: usize) -> Vec<(f64, f64)> {
        let mut drift = 0.0;
        let mut step = |random: &mut fastrand::Rng| {
            // A walk that comes back, and noise of 5 % a round, with a tail: one round in twelve is up to half slower.
            drift = 0.95 * drift + 0.02 * normal(random);
            let hit = if random.u8(..) < 21 { random.f64() * 0.4 } else { 0.0 };
            (drift + 0.05 * normal(random) + hit).exp()
        };
        (0..pairs)
            .map(|pair| {
                let (first, second) = (step(random), step(random));
                let (base, other) = if pair % 2 == 0 { (first, second) } else { (second, first) };
                (80.0 * base, 80.0 * ratio * other)
            })
            .collect()
    }

    fn normal(random: &mut fastrand::Rng) -> f64 {
        let (u, v): (f64, f64) = (random.f64().max(f64::MIN_POSITIVE), random.f64());
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }

    /// How many of 1,000 runs came to each finding.
    fn runs(seed: u64, ratio: f64, pairs: usize) -> impl Fn(Finding) -> usize {
        so_many_runs(1_000, seed, ratio, pairs)
    }

    fn so_many_runs(count: usize, seed: u64, ratio: f64, pairs: usize) -> impl Fn(Finding) -> usize {
        let mut random = fastrand::Rng::with_seed(seed);
        let found: Vec<Finding> =
            (0..count).map(|_| of_rounds(&simulated(&mut random, ratio, pairs)).finding).collect();
        move |wanted| found.iter().filter(|finding| **finding == wanted).count()
    }

    #[test]
    fn a_version_beside_itself_is_rarely_called_different() {
        for (seed, pairs) in [(1, 8), (2, 16), (3, 40)] {
            let found = runs(seed, 1.0, pairs);
            let different = found(Finding::Better) + found(Finding::Worse);
            assert!(different < 25, "{different} of 1,000 with {pairs} pairs");
        }
        // With enough pairs it is mostly called the same.
        let same = so_many_runs(100, 4, 1.0, 200)(Finding::Same);
        assert!(same > 75, "{same} of 100");
    }

    #[test]
    fn a_tenth_is_found_and_never_with_the_wrong_sign() {
        for (ratio, right, wrong) in
            [(1.1, Finding::Worse, Finding::Better), (1.0 / 1.1, Finding::Better, Finding::Worse)]
        {
            let found = runs(5, ratio, 40);
            assert!(found(right) > 900, "{} of 1,000 for {ratio}", found(right));
            assert_eq!(found(wrong), 0, "{ratio}");
        }
    }

    #[test]
    fn intervals_hold_the_ratio_as_often_as_they_promise() {
        let mut random = fastrand::Rng::with_seed(6);
        let held = (0..2_000).filter(|_| {
            let ratio = of_rounds(&simulated(&mut random, 1.07, 24)).ratio;
            ratio.low <= 1.07 && 1.07 <= ratio.high
        });
        let held = held.count();
        assert!(held > 1_960, "{held} of 2,000");
    }

    fn pairs() -> impl Strategy<Value = Vec<(f64, f64)>> {
        proptest::collection::vec((1.0e-3..1.0e6, 1.0e-3..1.0e6), 0..30)
    }

    proptest! {
        #[test]
        fn exchanging_the_versions_exchanges_the_words(pairs in pairs()) {
            let there = of_rounds(&pairs);
            let back = of_rounds(&pairs.iter().map(|(a, b)| (*b, *a)).collect::<Vec<_>>());
            prop_assert_eq!(back.finding, opposite(there.finding));
            prop_assert!((there.ratio.estimate * back.ratio.estimate - 1.0).abs() < 1e-6);
        }

        #[test]
        fn neither_the_unit_nor_the_order_matters(pairs in pairs(), unit in 1.0e-3..1.0e3) {
            let there = of_rounds(&pairs);
            let scaled: Vec<_> = pairs.iter().rev().map(|(a, b)| (a * unit, b * unit)).collect();
            let other = of_rounds(&scaled);
            prop_assert_eq!(there.finding, other.finding);
            prop_assert!((there.ratio.estimate / other.ratio.estimate - 1.0).abs() < 1e-6);
        }

        #[test]
        fn the_estimate_lies_in_its_interval_and_the_finding_follows_from_both(
            pairs in proptest::collection::vec((any::<f64>(), any::<f64>()), 0..20),
        ) {
            let Judged { finding, ratio, .. } = of_rounds(&pairs);
            prop_assert!(ratio.low <= ratio.estimate && ratio.estimate <= ratio.high, "{:?}", ratio);
            match finding {
                Finding::Better => prop_assert!(ratio.high < 1.0),
                Finding::Worse => prop_assert!(ratio.low > 1.0),
                Finding::Same => prop_assert!(ratio.low > 0.97 && ratio.high <= 1.0 + EFFECT_MIN),
                Finding::NotEnoughData => {}
            }
        }

        #[test]
        fn counts_are_as_fair(a in 1_u64..1_000_000, b in 1_u64..1_000_000) {
            let (there, back) = (of_counts((a, a), (b, b)), of_counts((b, b), (a, a)));
            prop_assert_eq!(back.finding, opposite(there.finding));
            prop_assert_eq!(there.finding != Finding::NotEnoughData, true);
        }
    }
}
