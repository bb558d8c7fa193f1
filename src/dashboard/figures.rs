//! How numbers, times and shares read. Pure; what is rounded here is never rounded into a lie: something is not nothing, and nearly all
//! is not all.

use std::time::Duration;

use crate::domain::measures::Counts;
use crate::domain::module::{Compilation, Startup};
pub use crate::domain::size::words as size;
use crate::domain::split::Share;

/// Where there is no number.
pub const NONE: &str = "–";
/// The width of a bar in its own units.
pub const BAR: u32 = 1000;
/// The narrowest piece of a bar that can be seen.
const PIECE_MIN: u32 = 8;

/// `1,234,567`.
#[must_use]
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let first = digits.len() % 3;
    let (head, rest) = digits.split_at(first);
    let groups = rest.as_bytes().chunks(3).filter_map(|group| std::str::from_utf8(group).ok());
    std::iter::once(head).filter(|head| !head.is_empty()).chain(groups).collect::<Vec<_>>().join(",")
}

/// A number a second: `0`, `0.4`, `12.5`, `1,204`.
#[must_use]
pub fn rate(a_second: f64) -> String {
    match a_second {
        ..=0.0 => "0".to_owned(),
        ..0.1 => "<0.1".to_owned(),
        ..99.95 => format!("{a_second:.1}"),
        _ => {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive, and far below 2^53")]
            let whole = a_second.round() as u64;
            count(whole)
        }
    }
}

/// A share as it was configured, exact to a thousandth of a percent: `20 %`, `33.333 %`.
#[must_use]
pub fn share(share: Share) -> String {
    format!("{} %", share.percent())
}

/// A part of a whole that was counted: `19.6 %`. None if the whole is nothing.
#[must_use]
pub fn part_of(part: u64, whole: u64) -> Option<String> {
    if whole == 0 {
        return None;
    }
    #[expect(clippy::cast_precision_loss, reason = "a share, rounded to a tenth of a percent")]
    let percent = part as f64 * 100.0 / whole as f64;
    Some(match part {
        0 => "0 %".to_owned(),
        _ if part >= whole => "100 %".to_owned(),
        _ if percent < 0.05 => "<0.1 %".to_owned(),
        _ if percent >= 99.95 => ">99.9 %".to_owned(),
        _ => format!("{percent:.1} %"),
    })
}

/// The share of requests that failed.
#[must_use]
pub fn errors(counts: Counts) -> String {
    part_of(counts.errors, counts.requests).unwrap_or_else(|| NONE.to_owned())
}

/// Three digits: `312 µs`, `4.10 ms`, `1.20 s`.
#[must_use]
pub fn duration(duration: Option<Duration>) -> String {
    let Some(duration) = duration else { return NONE.to_owned() };
    let us = duration.as_secs_f64() * 1e6;
    let (amount, unit) = match us {
        ..999.5 => (us, "µs"),
        ..999_500.0 => (us / 1e3, "ms"),
        _ => (us / 1e6, "s"),
    };
    match amount {
        ..9.995 => format!("{amount:.2} {unit}"),
        ..99.95 => format!("{amount:.1} {unit}"),
        _ => format!("{amount:.0} {unit}"),
    }
}

/// How long a version took to start when it was proven, which is known in whole milliseconds.
#[must_use]
pub fn startup(startup: Startup) -> String {
    match startup.time_ms {
        0 => "<1 ms".to_owned(),
        ms => format!("{} ms", count(ms)),
    }
}

/// How long a version's code took to make ready when it was proven, and why that may be next to nothing.
#[must_use]
pub fn compilation(startup: Startup) -> String {
    let Some(Compilation { time_ms, code }) = startup.compilation else { return NONE.to_owned() };
    let time = if time_ms == 0 { "<1 ms".to_owned() } else { format!("{} ms", count(time_ms)) };
    match code.remark() {
        None => time,
        Some(remark) => format!("{time}: {remark}"),
    }
}

/// The beginning of a text, of so many characters at most.
#[must_use]
pub fn cut(text: &str, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// How long ago: `3 min ago`.
#[must_use]
pub fn ago(then_ms: u64, now_ms: u64) -> String {
    let seconds = now_ms.saturating_sub(then_ms) / 1000;
    match seconds {
        ..5 => "just now".to_owned(),
        5..60 => format!("{seconds} s ago"),
        60..3_600 => format!("{} min ago", seconds / 60),
        3_600..172_800 => format!("{} h ago", seconds / 3_600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

/// How long until then: `in 3 min`; what is due or past is `now`.
#[must_use]
pub fn ahead(then_ms: u64, now_ms: u64) -> String {
    // A part of a second is still to come.
    match then_ms.saturating_sub(now_ms).div_ceil(1000) {
        0 => "now".to_owned(),
        seconds @ 1..120 => format!("in {seconds} s"),
        seconds @ 120..7_200 => format!("in {} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("in {} h", seconds / 3_600),
        seconds => format!("in {} days", seconds / 86_400),
    }
}

/// How long something takes, as people say it: `90 s`, `5 min`, `2 h`.
#[must_use]
pub fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    if span.subsec_nanos() > 0 {
        format!("{} s", span.as_secs_f64())
    } else if seconds < 120 || !seconds.is_multiple_of(60) {
        format!("{seconds} s")
    } else if seconds < 7_200 || !seconds.is_multiple_of(3_600) {
        format!("{} min", seconds / 60)
    } else {
        format!("{} h", seconds / 3_600)
    }
}

/// RFC 3339 in UTC, to the second.
#[must_use]
pub fn time(unix_ms: u64) -> String {
    let ms = i64::try_from(unix_ms).unwrap_or(i64::MAX);
    let time = jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::MAX);
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The same for people: `2026-01-02 03:04:05 UTC`.
#[must_use]
pub fn time_for_people(unix_ms: u64) -> String {
    time(unix_ms).replace('T', " ").replace('Z', " UTC")
}

/// Widths of the pieces of a bar for these amounts: they sum to [`BAR`], and what is more than nothing can be seen. All zero if
/// all amounts are.
#[must_use]
pub fn widths(amounts: &[u64]) -> Vec<u32> {
    let total: u128 = amounts.iter().map(|amount| u128::from(*amount)).sum();
    if total == 0 {
        return vec![0; amounts.len()];
    }
    let exact = |amount: u64| u32::try_from(u128::from(amount) * u128::from(BAR) / total).unwrap_or(BAR);
    let mut widths: Vec<u32> =
        amounts.iter().map(|amount| if *amount == 0 { 0 } else { exact(*amount).max(PIECE_MIN) }).collect();
    // What rounding left over, or small pieces took too much, is the widest's: at most 20 pieces share a bar, so it has enough.
    let sum: u32 = widths.iter().sum();
    let widest = (0..widths.len()).max_by_key(|&index| widths[index]).unwrap_or(0);
    widths[widest] = (widths[widest] + BAR).saturating_sub(sum);
    widths
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::compilation as compilation_of;
    use super::*;
    use crate::domain::module::CodeOrigin;

    #[test]
    fn numbers_read_as_people_write_them() {
        assert_eq!([count(0), count(999), count(1000), count(1_234_567)], ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [rate(0.0), rate(0.01), rate(0.44), rate(12.5), rate(1203.6)],
            ["0", "<0.1", "0.4", "12.5", "1,204"]
        );
        let ns = |ns| duration(Some(Duration::from_nanos(ns)));
        assert_eq!(
            [ns(312), ns(312_000), ns(4_104_000), ns(999_600_000), ns(61_000_000_000)],
            ["0.31 µs", "312 µs", "4.10 ms", "1.00 s", "61.0 s"]
        );
        assert_eq!(duration(None), NONE);
        let compiled = |time_ms, code| {
            let compilation = Some(Compilation { time_ms, code });
            compilation_of(Startup { time_ms: 1, memory_bytes: 1, compilation })
        };
        assert_eq!(compiled(12_345, CodeOrigin::Compiled), "12,345 ms");
        assert!(compiled(0, CodeOrigin::Known).starts_with("<1 ms: the same module"));
        assert!(compiled(3, CodeOrigin::Shared).starts_with("3 ms: its code is that of an earlier module"));
        assert_eq!([size(84), size(53_350)], ["84 bytes", "52.1 KiB"]);
        assert_eq!([time(1_767_323_045_678), time_for_people(0)], ["2026-01-02T03:04:05Z", "1970-01-01 00:00:00 UTC"]);
        assert_eq!([ago(0, 4_000), ago(0, 200_000), ago(9, 0)], ["just now", "3 min ago", "just now"]);
        let ahead = |ms: u64| ahead(1_000 + ms, 1_000);
        assert_eq!([ahead(0), ahead(1), ahead(119_001), ahead(7_200_000)], ["now", "in 1 s", "in 2 min", "in 2 h"]);
        let spans = [1, 90, 300, 5_400, 7_200, 7_260, 601].map(|seconds| span(Duration::from_secs(seconds)));
        assert_eq!(spans, ["1 s", "90 s", "5 min", "90 min", "2 h", "121 min", "601 s"]);
        assert_eq!(span(Duration::from_millis(1_500)), "1.5 s");
    }

    #[test]
    fn a_share_is_never_rounded_into_a_lie() {
        let of = |part, whole| part_of(part, whole).unwrap();
        assert_eq!(part_of(0, 0), None);
        assert_eq!([of(0, 9), of(9, 9), of(1, 3), of(1, 2)], ["0 %", "100 %", "33.3 %", "50.0 %"]);
        assert_eq!([of(1, 1_000_000), of(999_999, 1_000_000)], ["<0.1 %", ">99.9 %"]);
        assert_eq!(share(Share::from_slots(33_333)), "33.333 %");
        assert_eq!(share(Share::from_slots(20_000)), "20 %");
    }

    proptest! {
        #[test]
        fn a_bar_is_full_and_shows_every_piece(amounts in prop::collection::vec(0_u64..=1_000_000_000_000, 1..=20)) {
            let widths = widths(&amounts);
            prop_assert_eq!(widths.len(), amounts.len());
            let total: u64 = amounts.iter().sum();
            prop_assert_eq!(widths.iter().sum::<u32>(), if total == 0 { 0 } else { BAR });
            for (amount, width) in amounts.iter().zip(&widths) {
                prop_assert_eq!(*amount == 0, *width == 0);
                prop_assert!(*amount == 0 || *width >= PIECE_MIN);
            }
        }
    }
}
