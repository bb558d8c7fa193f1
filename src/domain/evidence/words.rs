//! What was measured, in a few words: for messages of deployments, logs and people.

use std::fmt;

use super::{Finding, Judged, Lack};
use crate::domain::guard::{Limit, Measure};

/// `error_rate 0.1 % of 12,345 (old 0.12 % of 12,001)`, `p99 1.02x (12.1 ms, old 11.9 ms)`, `p99 12.1 ms of 12,345`.
impl fmt::Display for Judged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let measure = self.guard.measure();
        let Some(new) = self.new_value else { return write!(f, "{measure} of no request") };
        match (measure, self.guard.limit(), self.old_value) {
            (Measure::ErrorRate, Limit::Share(_), _) | (Measure::ErrorRate, _, None) => {
                write!(f, "{measure} {} of {}", percent(new), grouped(self.new_requests))
            }
            (Measure::ErrorRate, _, Some(old)) => {
                let (new_count, old_count) = (grouped(self.new_requests), grouped(self.old_requests));
                write!(f, "{measure} {} of {new_count} (old {} of {old_count})", percent(new), percent(old))
            }
            (_, Limit::Times(_), Some(old)) if old > 0.0 => {
                write!(f, "{measure} {:.2}x ({}, old {})", new / old, seconds(new), seconds(old))
            }
            _ => write!(f, "{measure} {} of {}", seconds(new), grouped(self.new_requests)),
        }
    }
}

/// `312 more requests`: what is waited for.
impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::New(missing) => write!(f, "{} more requests of the new version are needed", grouped(*missing)),
            Self::Old(missing) => write!(f, "{} more requests of the old version are needed", grouped(*missing)),
            Self::Clarity => f.write_str("over the limit, by so little that it may be chance"),
        }
    }
}

impl Finding {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::Broken => "broken",
            Self::NotEnoughData(_) => "not_enough_data",
        }
    }
}

/// A count with its thousands apart: `12,345`.
#[must_use]
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A share in percent, to a hundredth: `0.12 %`.
#[must_use]
pub fn percent(share: f64) -> String {
    format!("{} %", (share * 10_000.0).round() / 100.0)
}

/// A duration with three digits: `12.1 ms`.
#[must_use]
pub fn seconds(seconds: f64) -> String {
    let (value, unit) = match seconds {
        s if s >= 1.0 => (s, "s"),
        s if s >= 1e-3 => (s * 1e3, "ms"),
        s => (s * 1e6, "us"),
    };
    let decimals = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.decimals$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_readable() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0.0, 0.001, 0.0712, 1.0].map(percent), ["0 %", "0.1 %", "7.12 %", "100 %"]);
        assert_eq!([0.000_08, 0.0121, 0.25, 1.5].map(seconds), ["80.0 us", "12.1 ms", "250 ms", "1.50 s"]);
    }
}
