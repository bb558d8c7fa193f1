//! What one version has done, in numbers that can be subtracted: of a span of time when two states are.

use crate::domain::distribution::Distribution;

/// Requests that have ended, and those of them that were errors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub requests: u64,
    pub errors: u64,
}

/// Counts of one version since its node started, or over a span of time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Measures {
    /// Requests that have ended.
    pub requests: u64,
    /// Of them, those with an outcome other than ok or a status of 500 and above.
    pub errors: u64,
    /// From the request's first byte to the end of the response's body.
    pub wall: Distribution,
    /// CPU time that the guest used.
    pub cpu: Distribution,
}

impl Measures {
    /// What was counted since `earlier`, an earlier state of the same counts.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(earlier.requests),
            errors: self.errors.saturating_sub(earlier.errors),
            wall: self.wall.since(&earlier.wall),
            cpu: self.cpu.since(&earlier.cpu),
        }
    }

    /// Adds what another has counted.
    pub fn merge(&mut self, other: &Self) {
        self.requests += other.requests;
        self.errors += other.errors;
        self.wall.merge(&other.wall);
        self.cpu.merge(&other.cpu);
    }

    /// The share of requests that were errors; none if there were no requests.
    #[must_use]
    pub fn error_rate(&self) -> Option<f64> {
        Counts { requests: self.requests, errors: self.errors }.error_rate()
    }
}

impl Counts {
    /// What was counted since `earlier`, an earlier state of the same counts.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(earlier.requests),
            errors: self.errors.saturating_sub(earlier.errors),
        }
    }

    /// Adds what another has counted.
    pub fn merge(&mut self, other: Self) {
        self.requests += other.requests;
        self.errors += other.errors;
    }

    /// The share of requests that were errors; none if there were no requests.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    pub fn error_rate(self) -> Option<f64> {
        (self.requests > 0).then(|| self.errors as f64 / self.requests as f64)
    }
}
