//! A split: which share of a worker's traffic each version of a deployment gets.
//!
//! Shares are counted in slots, thousandths of a percent, so that they can be compared and summed exactly. A split is made
//! once, from what a user asked for, and is valid from then on (`D1`): its shares sum to exactly 100 %.

use crate::domain::id::VersionId;
use crate::domain::limits::{DEPLOYMENT_VERSIONS_MAX, SLOTS, SPLIT_SUM_TOLERANCE_MILLI};

/// A share in slots, of [`SLOTS`]. 20 % is 20,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Share(u32);

/// Ordered shares of 1 to 20 different versions; they sum to exactly [`SLOTS`]. A share of 0 is in the deployment: no traffic
/// comes to it but by an override (`DEP-6`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split(Vec<(VersionId, Share)>);

/// Why a request for a split was refused. The texts are what a caller reads under code 10210.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    #[error("a deployment needs at least 1 version")]
    Empty,
    #[error("a deployment takes at most {DEPLOYMENT_VERSIONS_MAX} versions, got {0}")]
    TooMany(usize),
    #[error("version `{0}` is named twice")]
    Twice(VersionId),
    #[error("the percentage of version `{version}` is {percentage}, expected a number from 0 to 100")]
    OutOfRange { version: VersionId, percentage: f64 },
    #[error("the percentages sum to {0} %, expected 100 %")]
    Sum(f64),
}

impl Share {
    /// All of the traffic.
    pub const ALL: Self = Self(SLOTS);

    /// How many slots this share is.
    #[must_use]
    pub fn slots(self) -> u32 {
        self.0
    }

    /// The share in percent: exact to a thousandth, as the API prints it.
    #[must_use]
    pub fn percent(self) -> f64 {
        f64::from(self.0) / f64::from(SLOTS / 100)
    }

    /// The share of `slots` slots, at most all of them.
    #[must_use]
    pub fn from_slots(slots: u32) -> Self {
        Self(slots.min(SLOTS))
    }
}

impl Split {
    /// A split from percentages, each rounded to a thousandth. The sum may be off by a thousandth of a percent, as wrangler's
    /// rounding leaves it (`DEP-4`); the largest share takes up the difference.
    ///
    /// # Errors
    /// Says which of the rules the request breaks; see [`Error`].
    pub fn from_percentages(entries: &[(VersionId, f64)]) -> Result<Self, Error> {
        if entries.is_empty() {
            return Err(Error::Empty);
        }
        if entries.len() > DEPLOYMENT_VERSIONS_MAX {
            return Err(Error::TooMany(entries.len()));
        }
        let mut shares = Vec::with_capacity(entries.len());
        for (index, &(version, percentage)) in entries.iter().enumerate() {
            if entries[..index].iter().any(|(earlier, _)| *earlier == version) {
                return Err(Error::Twice(version));
            }
            if !(0.0..=100.0).contains(&percentage) {
                return Err(Error::OutOfRange { version, percentage });
            }
            shares.push((version, i64::from(milli(percentage))));
        }
        let sum: i64 = shares.iter().map(|(_, share)| share).sum();
        let off = i64::from(SLOTS) - sum;
        if off.abs() > SPLIT_SUM_TOLERANCE_MILLI {
            let exact: f64 = entries.iter().map(|(_, percentage)| percentage).sum();
            return Err(Error::Sum((exact * 1000.0).round() / 1000.0));
        }
        // The first of the largest: 1,000 slots at least, since 20 shares sum to nearly 100,000.
        let largest = (0..shares.len()).rev().max_by_key(|&index| shares[index].1).unwrap_or(0);
        shares[largest].1 += off;
        Ok(Self(
            shares.into_iter().map(|(version, share)| (version, Share(u32::try_from(share).unwrap_or(0)))).collect(),
        ))
    }

    /// All traffic to one version.
    #[must_use]
    pub fn all_to(version: VersionId) -> Self {
        Self(vec![(version, Share::ALL)])
    }

    /// The versions with their shares, in the order in which the user listed them (`DEP-8`).
    #[must_use]
    pub fn entries(&self) -> &[(VersionId, Share)] {
        &self.0
    }

    /// The share of `version`, if it is in the deployment at all.
    #[must_use]
    pub fn share_of(&self, version: VersionId) -> Option<Share> {
        self.0.iter().find(|(id, _)| *id == version).map(|(_, share)| *share)
    }

    /// The version that has everything, if one has.
    #[must_use]
    pub fn stable(&self) -> Option<VersionId> {
        self.0.iter().find(|(_, share)| *share == Share::ALL).map(|(id, _)| *id)
    }
}

/// Thousandths of a percent, rounded to the nearest. `percentage` is within 0 to 100.
fn milli(percentage: f64) -> u32 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 100,000 by the caller's check")]
    let rounded = (percentage * 1000.0).round() as u32;
    rounded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> VersionId {
        VersionId::from_random([n; 16])
    }

    fn check(percentages: &[f64]) -> Result<Vec<u32>, Error> {
        let entries: Vec<_> = percentages.iter().enumerate().map(|(n, p)| (id(u8::try_from(n).unwrap()), *p)).collect();
        Split::from_percentages(&entries).map(|split| split.entries().iter().map(|(_, s)| s.slots()).collect())
    }

    #[test]
    fn shares_sum_to_every_slot() {
        assert_eq!(check(&[20.0, 80.0]).unwrap(), [20_000, 80_000]);
        assert_eq!(check(&[0.0, 100.0]).unwrap(), [0, 100_000]);
        assert_eq!(check(&[33.333, 33.334, 33.333]).unwrap(), [33_333, 33_334, 33_333]);
    }

    #[test]
    fn a_thousandth_too_little_or_too_much_is_made_up_by_the_largest() {
        assert_eq!(check(&[33.333, 66.666]).unwrap(), [33_333, 66_667]);
        assert_eq!(check(&[99.999]).unwrap(), [100_000]);
        assert_eq!(check(&[50.001, 50.0]).unwrap(), [50_000, 50_000]);
    }

    #[test]
    fn a_wrong_request_is_refused_with_its_reason() {
        assert_eq!(check(&[]), Err(Error::Empty));
        assert_eq!(check(&[1.0; 21]), Err(Error::TooMany(21)));
        assert_eq!(check(&[20.0, 70.0]), Err(Error::Sum(90.0)));
        assert!(matches!(check(&[-1.0, 101.0]), Err(Error::OutOfRange { .. })));
        assert!(matches!(check(&[f64::NAN]), Err(Error::OutOfRange { .. })));
        assert!(matches!(check(&[f64::INFINITY]), Err(Error::OutOfRange { .. })));
        assert_eq!(Split::from_percentages(&[(id(1), 50.0), (id(1), 50.0)]), Err(Error::Twice(id(1))));
    }
}
