//! Alarms as a plain schedule: when one is tried again, and when it is given up (`ALM-4`, `ALM-6`).

use crate::domain::limits::{ALARM_RETRIES_MAX, ALARM_RETRY_MS};

/// An alarm that is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alarm {
    /// Unix time in milliseconds. It never rings before.
    pub due_ms: u64,
    /// Runs that the object's own code failed.
    pub retries: u32,
    /// Runs since then that failed through no fault of its own.
    pub host_failures: u32,
}

/// Whose fault it was that an alarm did not end well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failed {
    /// The object's code's.
    Guest,
    /// Ours: a deployment, a stop, a store that failed.
    Host,
}

impl Alarm {
    /// An alarm that was set for `due_ms`.
    #[must_use]
    pub fn new(due_ms: u64) -> Self {
        Self { due_ms, retries: 0, host_failures: 0 }
    }

    /// When it is tried again after a failure at `now_ms`: later and later, by up to a quarter more (`jitter`, below 1). None if
    /// the object's code has failed too often. What is not its fault does not count, and starts anew when it is.
    #[must_use]
    pub fn after(self, failed: Failed, now_ms: u64, jitter: f64) -> Option<Self> {
        /// The longest wait is 2 to this power times the first.
        const EXPONENT_MAX: u32 = 9;
        let (retries, host_failures, exponent) = match failed {
            Failed::Guest => (self.retries + 1, 0, self.retries),
            Failed::Host => (self.retries, self.host_failures.saturating_add(1), self.host_failures),
        };
        if retries > ALARM_RETRIES_MAX {
            return None;
        }
        let wait = ALARM_RETRY_MS << exponent.min(EXPONENT_MAX);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "below 2^20"
        )]
        let more = (wait as f64 * jitter.clamp(0.0, 1.0) / 4.0) as u64;
        Some(Self { due_ms: now_ms.saturating_add(wait + more), retries, host_failures })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seven_attempts_later_and_later() {
        let mut alarm = Some(Alarm::new(0));
        let mut waits = Vec::new();
        let mut now = 0;
        while let Some(next) = alarm.and_then(|alarm| alarm.after(Failed::Guest, now, 0.0)) {
            waits.push((next.due_ms - now) / 1_000);
            now = next.due_ms;
            alarm = Some(next);
        }
        assert_eq!(waits, [2, 4, 8, 16, 32, 64]);
        let late = Alarm::new(0).after(Failed::Guest, 1_000, 1.0).unwrap();
        assert_eq!(late.due_ms, 1_000 + 2_500);
    }

    #[test]
    fn what_is_not_the_codes_fault_does_not_count_and_is_bounded() {
        let mut alarm = Alarm::new(0).after(Failed::Guest, 0, 0.0).unwrap();
        for _ in 0..100 {
            alarm = alarm.after(Failed::Host, 0, 0.0).unwrap();
            assert_eq!(alarm.retries, 1);
        }
        assert_eq!(alarm.due_ms, 1_024_000);
        // The cause changes: it begins anew.
        let next = alarm.after(Failed::Guest, 0, 0.0).unwrap();
        assert_eq!((next.due_ms, next.host_failures), (4_000, 0));
        assert_eq!(next.after(Failed::Host, 0, 0.0).unwrap().due_ms, 2_000);
    }
}
