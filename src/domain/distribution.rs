//! How durations are distributed: counts in buckets that grow with the duration, so that any quantile is known within a
//! sixteenth, whatever its size, and two spans of time can be added and subtracted.

use std::time::Duration;

/// Each power of two has this many buckets: a bucket is at most a sixteenth wide.
const PARTS: u64 = 16;
const PARTS_BITS: u32 = PARTS.trailing_zeros();
/// Durations of 2^42 ns (73 minutes) and more share the last bucket: no request lives for so long.
const LARGEST_BITS: u32 = 42;
/// The number of buckets.
pub const BUCKETS: usize = ((LARGEST_BITS - PARTS_BITS + 1) * PARTS as u32) as usize;

/// Counts of durations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distribution(Box<[u64; BUCKETS]>);

/// The bucket of a duration in nanoseconds.
#[must_use]
pub const fn bucket_of(ns: u64) -> usize {
    if ns < PARTS {
        #[expect(clippy::cast_possible_truncation, reason = "below 16")]
        return ns as usize;
    }
    let bits = ns.ilog2();
    if bits >= LARGEST_BITS {
        return BUCKETS - 1;
    }
    let shift = bits - PARTS_BITS;
    #[expect(clippy::cast_possible_truncation, reason = "below the number of buckets")]
    let bucket = ((shift as u64 + 1) * PARTS + ((ns >> shift) - PARTS)) as usize;
    bucket
}

/// The least duration of a bucket in nanoseconds; that of the bucket after the last, for its end.
#[must_use]
pub const fn least_ns(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < PARTS {
        return bucket;
    }
    (PARTS + bucket % PARTS) << (bucket / PARTS - 1)
}

impl Default for Distribution {
    fn default() -> Self {
        Self(Box::new([0; BUCKETS]))
    }
}

impl Distribution {
    /// One with these counts, a count for each bucket.
    #[must_use]
    pub fn from_counts(counts: impl IntoIterator<Item = u64>) -> Self {
        let mut distribution = Self::default();
        distribution.0.iter_mut().zip(counts).for_each(|(mine, count)| *mine = count);
        distribution
    }

    /// The buckets that are not empty, with their counts, ascending.
    #[must_use]
    pub fn to_sparse(&self) -> Vec<(u16, u64)> {
        let filled = self.0.iter().enumerate().filter(|(_, count)| **count > 0);
        filled.filter_map(|(bucket, count)| Some((u16::try_from(bucket).ok()?, *count))).collect()
    }

    /// One with these counts in these buckets.
    #[must_use]
    pub fn from_sparse(filled: &[(u16, u64)]) -> Self {
        let mut distribution = Self::default();
        for (bucket, count) in filled {
            if let Some(mine) = distribution.0.get_mut(usize::from(*bucket)) {
                *mine = *count;
            }
        }
        distribution
    }

    /// Counts one duration.
    pub fn add(&mut self, duration: Duration) {
        self.0[bucket_of(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))] += 1;
    }

    /// How many durations were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// How many were at most as long as `duration`, to the precision of a bucket.
    #[must_use]
    pub fn at_most(&self, duration: Duration) -> u64 {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.0[..=bucket_of(ns)].iter().sum()
    }

    /// The duration that a share `quantile` (0 to 1) of all does not exceed; between a bucket's bounds as if they lay evenly.
    /// None if nothing was counted.
    #[must_use]
    pub fn quantile(&self, quantile: f64) -> Option<Duration> {
        let total = self.count();
        if total == 0 {
            return None;
        }
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rank among counts, at least one"
        )]
        let rank = ((quantile.clamp(0.0, 1.0) * total as f64).ceil() as u64).clamp(1, total);
        let mut before = 0;
        let (bucket, count) = self.0.iter().enumerate().find(|(_, count)| {
            before += **count;
            before >= rank
        })?;
        let (least, end) = (least_ns(bucket), least_ns(bucket + 1));
        let into = u128::from(rank - (before - count)) * u128::from(end - least) / u128::from(*count);
        Some(Duration::from_nanos(least + u64::try_from(into).unwrap_or(0)))
    }

    /// What was counted since `earlier`, an earlier state of the same counts.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self::from_counts(self.0.iter().zip(earlier.0.iter()).map(|(now, then)| now.saturating_sub(*then)))
    }

    /// Adds what another has counted.
    pub fn merge(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0.iter()).for_each(|(mine, theirs)| *mine += theirs);
    }

    /// The counts, from the shortest durations to the longest.
    #[must_use]
    pub fn counts(&self) -> &[u64] {
        self.0.as_slice()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_duration_lies_between_the_bounds_of_its_bucket(bits in 0_u32..=LARGEST_BITS, random: u64) {
            let ns = random & ((1 << bits) - 1);
            let bucket = bucket_of(ns);
            prop_assert!(least_ns(bucket) <= ns && ns < least_ns(bucket + 1), "{ns} in {bucket}");
            prop_assert!(least_ns(bucket + 1) - least_ns(bucket) <= (least_ns(bucket) / PARTS).max(1));
        }

        #[test]
        fn a_quantile_is_within_a_sixteenth(mut all in prop::collection::vec(1_u64..50_000_000_000, 1..200), quantile in 0.0_f64..=1.0) {
            let mut distribution = Distribution::default();
            all.iter().for_each(|ns| distribution.add(Duration::from_nanos(*ns)));
            all.sort_unstable();
            #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank")]
            let rank = ((quantile * all.len() as f64).ceil() as usize).max(1);
            let exact = all[rank - 1];
            let told = u64::try_from(distribution.quantile(quantile).unwrap().as_nanos()).unwrap();
            prop_assert!(told.abs_diff(exact) <= exact / PARTS + 1, "{told} for {exact}");
        }
    }

    #[test]
    fn what_is_beyond_measure_shares_the_last_bucket() {
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
        assert_eq!(bucket_of((1 << LARGEST_BITS) - 1), BUCKETS - 1);
        assert_eq!(least_ns(BUCKETS), 1 << LARGEST_BITS);
    }

    #[test]
    fn nothing_has_no_quantile_and_one_is_all_of_them() {
        let mut distribution = Distribution::default();
        assert_eq!(distribution.quantile(0.5), None);
        distribution.add(Duration::from_nanos(7));
        assert_eq!(distribution.quantile(0.0), distribution.quantile(1.0));
        assert_eq!(distribution.at_most(Duration::from_nanos(6)), 0);
        assert_eq!(distribution.at_most(Duration::from_nanos(7)), 1);
    }

    #[test]
    fn spans_are_subtracted_and_merged() {
        let (mut early, mut late) = (Distribution::default(), Distribution::default());
        early.add(Duration::from_millis(1));
        late.add(Duration::from_millis(1));
        late.add(Duration::from_secs(1));
        let mut since = late.since(&early);
        assert_eq!((since.count(), since.at_most(Duration::from_millis(2))), (1, 0));
        since.merge(&early);
        assert_eq!(since, late);
        assert_eq!(Distribution::from_sparse(&late.to_sparse()), late);
        assert_eq!(late.to_sparse().len(), 2);
    }
}
