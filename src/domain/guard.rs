//! What a new version must keep to while a rollout gives it traffic: one sentence, `p99<1.2x`, as a value.
//!
//! ```text
//! error_rate < 1%      of the new version's requests at most 1 % are errors
//! error_rate < +1%     at most one percentage point more than of the old version's
//! error_rate < 1.5x    at most one and a half times the old version's share
//! p99 < 250ms          99 % of its requests take at most 250 ms
//! p99 < 1.2x           at most 1.2 times what the old version takes
//! cpu_p50 < 1.5x       the same of CPU time
//! ```
//!
//! A limit with `x` or `+` is *relative*: it asks the old version over the same time. The others judge the new version alone.
//! [`crate::domain::evidence`] says when a guard holds and when it is broken.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// One condition on the new version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Guard {
    measure: Measure,
    limit: Limit,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Measure {
    /// The share of requests with an outcome other than ok, or a status of 500 and above.
    ErrorRate,
    /// Of the time from a request's first byte to the end of its response's body.
    Wall(Quantile),
    /// Of the CPU time that a request's guest used.
    Cpu(Quantile),
}

/// The share of requests that take at most as long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Quantile {
    P50,
    P90,
    P95,
    P99,
    P999,
}

/// How much is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Limit {
    /// So many of a million requests.
    Share(u32),
    /// So many of a million requests more than the old version.
    More(u32),
    /// So many thousandths of what the old version has.
    Times(u32),
    /// So long.
    Duration(Duration),
}

/// Why a text is no guard.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(
        "`{0}` is no guard: expected a measure, `<` and a limit, such as `error_rate<1%`, `p99<250ms` or `p99<1.2x`"
    )]
    Shape(String),
    #[error(
        "`{0}` is nothing that a guard measures: expected `error_rate`, `p50`, `p90`, `p95`, `p99`, `p999`, or one of those \
         quantiles of CPU time, such as `cpu_p50`"
    )]
    Measure(String),
    #[error(
        "`{0}` is no limit for `error_rate`: expected a share such as `1%`, a difference to the old version such as `+1%`, or a \
         multiple of the old version's such as `1.5x`"
    )]
    ErrorLimit(String),
    #[error(
        "`{limit}` is no limit for `{measure}`: expected a duration such as `250ms` (units `us`, `ms`, `s`) or a multiple of the \
         old version's such as `1.2x`"
    )]
    TimeLimit { measure: String, limit: String },
    #[error("a share in a guard lies between {SHARE_MIN} % and {SHARE_MAX} %, got `{0}`")]
    ShareRange(String),
    #[error("a multiple in a guard lies between {TIMES_MIN}x and {TIMES_MAX}x, got `{0}`")]
    TimesRange(String),
    #[error("a duration in a guard lies between 1us and 1h, got `{0}`")]
    DurationRange(String),
}

/// The least share in percent: a limit of none at all would be broken by the first error, whatever its reason.
const SHARE_MIN: f64 = 0.01;
const SHARE_MAX: f64 = 99.0;
/// The least multiple: durations are known within a sixteenth, so less than a tenth cannot be told from nothing.
const TIMES_MIN: f64 = 1.1;
const TIMES_MAX: f64 = 100.0;
const DURATION_MIN: Duration = Duration::from_micros(1);
const DURATION_MAX: Duration = Duration::from_secs(3600);

impl Guard {
    /// What a rollout keeps to unless its caller says otherwise.
    #[must_use]
    pub fn defaults() -> Vec<Self> {
        vec![
            Self { measure: Measure::ErrorRate, limit: Limit::More(10_000) },
            Self { measure: Measure::Wall(Quantile::P99), limit: Limit::Times(1200) },
        ]
    }

    #[must_use]
    pub fn measure(self) -> Measure {
        self.measure
    }

    #[must_use]
    pub fn limit(self) -> Limit {
        self.limit
    }
}

impl Quantile {
    const ALL: [(&'static str, Self); 5] =
        [("p50", Self::P50), ("p90", Self::P90), ("p95", Self::P95), ("p99", Self::P99), ("p999", Self::P999)];

    /// The share, 0 to 1.
    #[must_use]
    pub fn share(self) -> f64 {
        match self {
            Self::P50 => 0.5,
            Self::P90 => 0.9,
            Self::P95 => 0.95,
            Self::P99 => 0.99,
            Self::P999 => 0.999,
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(known, _)| *known == name).map(|(_, quantile)| quantile)
    }

    fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, quantile)| *quantile == self).map_or("", |(name, _)| name)
    }
}

// === text ===

impl FromStr for Guard {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (name, limit) = text.split_once('<').ok_or_else(|| Error::Shape(text.to_owned()))?;
        let (name, limit) = (name.trim(), limit.trim());
        if name.is_empty() || limit.is_empty() {
            return Err(Error::Shape(text.to_owned()));
        }
        let measure: Measure = name.parse()?;
        let limit = if let Some(times) = limit.strip_suffix('x') {
            let times = number(times).ok_or_else(|| no_limit(measure, limit))?;
            Limit::Times(
                scaled(times, 1000.0, TIMES_MIN..=TIMES_MAX).ok_or_else(|| Error::TimesRange(limit.to_owned()))?,
            )
        } else if measure == Measure::ErrorRate {
            error_limit(limit)?
        } else {
            Limit::Duration(duration(limit).ok_or_else(|| no_limit(measure, limit))??)
        };
        Ok(Self { measure, limit })
    }
}

impl FromStr for Measure {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let found = match name.strip_prefix("cpu_") {
            _ if name == "error_rate" => Some(Self::ErrorRate),
            Some(quantile) => Quantile::named(quantile).map(Self::Cpu),
            None => Quantile::named(name).map(Self::Wall),
        };
        found.ok_or_else(|| Error::Measure(name.to_owned()))
    }
}

fn no_limit(measure: Measure, limit: &str) -> Error {
    match measure {
        Measure::ErrorRate => Error::ErrorLimit(limit.to_owned()),
        _ => Error::TimeLimit { measure: measure.to_string(), limit: limit.to_owned() },
    }
}

fn error_limit(limit: &str) -> Result<Limit, Error> {
    let unknown = || Error::ErrorLimit(limit.to_owned());
    let share = limit.strip_suffix('%').ok_or_else(unknown)?;
    let (more, share) = match share.strip_prefix('+') {
        Some(share) => (true, share),
        None => (false, share),
    };
    let percent = number(share).ok_or_else(unknown)?;
    let ppm = scaled(percent, 10_000.0, SHARE_MIN..=SHARE_MAX).ok_or_else(|| Error::ShareRange(limit.to_owned()))?;
    Ok(if more { Limit::More(ppm) } else { Limit::Share(ppm) })
}

/// Digits with at most one point: no sign, no exponent, no words.
fn number(text: &str) -> Option<f64> {
    let text = text.trim();
    let plain = text.starts_with(|c: char| c.is_ascii_digit()) && text.chars().all(|c| c.is_ascii_digit() || c == '.');
    plain.then(|| text.parse().ok()).flatten()
}

fn scaled(value: f64, scale: f64, range: std::ops::RangeInclusive<f64>) -> Option<u32> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the range, which is small")]
    range.contains(&value).then(|| (value * scale).round() as u32)
}

fn duration(text: &str) -> Option<Result<Duration, Error>> {
    let units = [("us", 1e3), ("µs", 1e3), ("ms", 1e6), ("s", 1e9)];
    let (digits, ns) = units.into_iter().find_map(|(unit, ns)| Some((text.strip_suffix(unit)?, ns)))?;
    let ns = number(digits)? * ns;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, and is refused below")]
    let duration = Duration::from_nanos(ns.round() as u64);
    let fits = (DURATION_MIN..=DURATION_MAX).contains(&duration);
    Some(if fits { Ok(duration) } else { Err(Error::DurationRange(text.to_owned())) })
}

impl fmt::Display for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}<{}", self.measure, self.limit)
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ErrorRate => f.write_str("error_rate"),
            Self::Wall(quantile) => f.write_str(quantile.name()),
            Self::Cpu(quantile) => write!(f, "cpu_{}", quantile.name()),
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Share(ppm) => write!(f, "{}%", f64::from(*ppm) / 10_000.0),
            Self::More(ppm) => write!(f, "+{}%", f64::from(*ppm) / 10_000.0),
            Self::Times(milli) => write!(f, "{}x", f64::from(*milli) / 1000.0),
            Self::Duration(limit) => {
                let ns = limit.as_nanos();
                let (unit, name) = [(1_000_000_000, "s"), (1_000_000, "ms"), (1000, "us")]
                    .into_iter()
                    .find(|(unit, _)| ns >= *unit)
                    .unwrap_or((1000, "us"));
                let (whole, rest) = (ns / unit, ns % unit);
                let digits = unit.ilog10() as usize;
                let rest = format!("{rest:0digits$}");
                let rest = rest.trim_end_matches('0');
                if rest.is_empty() { write!(f, "{whole}{name}") } else { write!(f, "{whole}.{rest}{name}") }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(text: &str) -> Result<String, String> {
        text.parse::<Guard>().map(|guard| guard.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_guard_is_a_measure_and_a_limit() {
        for (text, canonical) in [
            ("error_rate<1%", "error_rate<1%"),
            (" error_rate < 0.5 % ", "error_rate<0.5%"),
            ("error_rate<+2%", "error_rate<+2%"),
            ("error_rate<1.5x", "error_rate<1.5x"),
            ("p99<1.2x", "p99<1.2x"),
            ("p999 < 250ms", "p999<250ms"),
            ("p50<1.5s", "p50<1.5s"),
            ("p90<1500ms", "p90<1.5s"),
            ("cpu_p95<800us", "cpu_p95<800us"),
            ("cpu_p50<0.25ms", "cpu_p50<250us"),
        ] {
            assert_eq!(shown(text).as_deref(), Ok(canonical), "{text}");
        }
        let defaults: Vec<String> = Guard::defaults().iter().map(ToString::to_string).collect();
        assert_eq!(defaults, ["error_rate<+1%", "p99<1.2x"]);
    }

    #[test]
    fn what_is_no_guard_is_told_what_would_be_one() {
        for (text, expected) in [
            ("p99", "expected a measure, `<` and a limit"),
            ("p99<", "expected a measure, `<` and a limit"),
            ("p99>1.2x", "expected a measure, `<` and a limit"),
            ("p42<1.2x", "expected `error_rate`, `p50`"),
            ("cpu<1.2x", "expected `error_rate`, `p50`"),
            ("error_rate<1", "expected a share such as `1%`"),
            ("error_rate<5ms", "expected a share such as `1%`"),
            ("error_rate<-1%", "expected a share such as `1%`"),
            ("error_rate<NaN%", "expected a share such as `1%`"),
            ("error_rate<=1%", "expected a share such as `1%`"),
            ("p99<5%", "expected a duration such as `250ms`"),
            ("p99<5", "expected a duration such as `250ms`"),
            ("p99<infx", "expected a duration such as `250ms`"),
            ("error_rate<0%", "lies between 0.01 % and 99 %"),
            ("error_rate<100%", "lies between 0.01 % and 99 %"),
            ("p99<1x", "lies between 1.1x and 100x"),
            ("p99<101x", "lies between 1.1x and 100x"),
            ("p99<0ms", "lies between 1us and 1h"),
            ("p99<99999999999999999999s", "lies between 1us and 1h"),
        ] {
            let error = shown(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    fn any_guard() -> impl Strategy<Value = Guard> {
        let quantile = (0..Quantile::ALL.len()).prop_map(|index| Quantile::ALL[index].1);
        let times = (1100_u32..=100_000).prop_map(Limit::Times);
        let of_errors = prop_oneof![
            times.clone(),
            (100_u32..=990_000).prop_map(Limit::Share),
            (100_u32..=990_000).prop_map(Limit::More)
        ];
        let of_times =
            prop_oneof![times, (1000_u64..=3_600_000_000_000).prop_map(|ns| Limit::Duration(Duration::from_nanos(ns)))];
        prop_oneof![
            of_errors.prop_map(|limit| Guard { measure: Measure::ErrorRate, limit }),
            (quantile.clone(), of_times.clone()).prop_map(|(q, limit)| Guard { measure: Measure::Wall(q), limit }),
            (quantile, of_times).prop_map(|(q, limit)| Guard { measure: Measure::Cpu(q), limit }),
        ]
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(guard in any_guard()) {
            prop_assert_eq!(guard.to_string().parse::<Guard>(), Ok(guard));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,20}", limit in "[0-9.+-]{0,24}(x|%|ms|s|us)?") {
            let _ = text.parse::<Guard>();
            let _ = format!("p99<{limit}").parse::<Guard>();
            let _ = format!("error_rate<{limit}").parse::<Guard>();
        }
    }
}
