//! Small things that pages share: ids, times, versions, bars, lines. Every text comes escaped out of `html!`; nothing here may be given
//! markup as a text.

use maud::{Markup, html};

use crate::dashboard::figures::{self, BAR};
use crate::dashboard::legend::Hue;
use crate::domain::measures::Counts;
use crate::domain::version::Version;

/// The characters of an id that are shown.
const SHORT: usize = 8;
/// The size of a line of points, in its own units.
const LINE: (f64, f64) = (120.0, 28.0);

/// An id: its beginning is seen, the whole is selected and copied.
#[must_use]
pub fn id(whole: &str) -> Markup {
    let cut = whole.char_indices().nth(SHORT).map_or(whole.len(), |(at, _)| at);
    html! {
        span.id {
            code title=(whole) { (whole[..cut]) span.rest { (whole[cut..]) } }
            (copy(whole, "id"))
        }
    }
}

/// A button that copies a text; only shown where the script works.
#[must_use]
pub fn copy(text: &str, what: &str) -> Markup {
    html! {
        button.copy type="button" data-copy=(text) aria-label=(format!("Copy {what} {text}")) {
            svg viewBox="0 0 16 16" width="14" height="14" aria-hidden="true" {
                path d="M5 1.5h7.5a1 1 0 0 1 1 1V11H12V3H5zM2.5 4.5h7a1 1 0 0 1 1 1v8a1 1 0 0 1-1 1h-7a1 1 0 0 1-1-1v-8a1 1 0 0 1 1-1zM3 6v7h6V6z" {}
            }
        }
    }
}

/// How long ago something was; the time itself is a click or a look away.
#[must_use]
pub fn ago(then_ms: u64, now_ms: u64) -> Markup {
    html! {
        time datetime=(figures::time(then_ms)) title=(figures::time_for_people(then_ms)) { (figures::ago(then_ms, now_ms)) }
    }
}

/// A moment.
#[must_use]
pub fn moment(unix_ms: u64) -> Markup {
    html! { time datetime=(figures::time(unix_ms)) { (figures::time_for_people(unix_ms)) } }
}

/// A text, or a dash that says that there is none.
#[must_use]
pub fn text_or_none(text: Option<&str>) -> Markup {
    html! {
        @match text.filter(|text| !text.is_empty()) {
            Some(text) => { (text) },
            None => { span.muted { (figures::NONE) } },
        }
    }
}

/// A version's tag, if it has one.
#[must_use]
pub fn tag(version: &Version) -> Markup {
    html! { @if !version.tag().is_empty() { span.tag { (version.tag()) } } }
}

/// A bar with a piece for each amount, in the colour beside it. `label` is what it says to who cannot see it.
#[must_use]
pub fn bar(pieces: &[(Hue, u64)], label: &str) -> Markup {
    let amounts: Vec<u64> = pieces.iter().map(|(_, amount)| *amount).collect();
    let widths = figures::widths(&amounts);
    let starts = widths.iter().scan(0, |next, width| {
        let start = *next;
        *next += width;
        Some(start)
    });
    let drawn = pieces.iter().zip(&widths).zip(starts).filter(|((_, width), _)| **width > 0);
    html! {
        svg.bar viewBox=(format!("0 0 {BAR} 10")) preserveAspectRatio="none" role="img" aria-label=(label) {
            rect.empty width=(BAR) height="10" {}
            @for (((hue, _), width), start) in drawn {
                // A gap of two units keeps neighbours of one colour apart.
                rect class=(hue.class()) x=(start) width=(width.saturating_sub(2)) height="10" {}
            }
        }
    }
}

/// A bar that is full by `part` of `whole`. `label` is what it says to who cannot see it.
#[must_use]
pub fn progress(part: u64, whole: u64, label: &str) -> Markup {
    let part = part.min(whole);
    let width = if whole == 0 { 0 } else { figures::widths(&[part, whole - part])[0] };
    html! {
        svg.bar viewBox=(format!("0 0 {BAR} 10")) preserveAspectRatio="none" role="img" aria-label=(label) {
            rect.empty width=(BAR) height="10" {}
            @if width > 0 { rect.filled width=(width) height="10" {} }
        }
    }
}

/// A line of requests over the last five minutes, with the errors among them below.
#[must_use]
pub fn line(points: &[Counts]) -> Markup {
    let most = points.iter().map(|point| point.requests).max().unwrap_or(0);
    let errors: u64 = points.iter().map(|point| point.errors).sum();
    let total: u64 = points.iter().map(|point| point.requests).sum();
    let label = format!(
        "Last five minutes: {} requests, {} errors, at most {} in five seconds",
        figures::count(total),
        figures::count(errors),
        figures::count(most)
    );
    let (width, height) = LINE;
    #[expect(clippy::cast_precision_loss, reason = "a place on the screen")]
    let (step, scale) = (width / points.len().saturating_sub(1).max(1) as f64, (height - 3.0) / most.max(1) as f64);
    #[expect(clippy::cast_precision_loss, reason = "a place on the screen")]
    let at = |index: usize, amount: u64| (index as f64 * step, height - 1.0 - amount as f64 * scale);
    let path: Vec<String> = points
        .iter()
        .enumerate()
        .map(|(index, point)| {
            let (x, y) = at(index, point.requests);
            format!("{x:.1},{y:.1}")
        })
        .collect();
    let bottom = height - 1.0;
    html! {
        svg.line viewBox=(format!("0 0 {width} {height}")) preserveAspectRatio="none" role="img" aria-label=(label) {
            title { (label) }
            @if most > 0 {
                polygon.area points=(format!("0,{bottom} {} {width},{bottom}", path.join(" "))) {}
            }
            polyline.edge points=(path.join(" ")) vector-effect="non-scaling-stroke" {}
            @for (index, point) in points.iter().enumerate().filter(|(_, point)| point.errors > 0) {
                @let (x, y) = at(index, point.errors);
                @let y = y.min(bottom - 2.0);
                rect.errors x=(format!("{:.1}", x - step / 2.0)) y=(format!("{y:.1}")) width=(format!("{step:.1}")) height=(format!("{:.1}", height - y)) {}
            }
        }
    }
}

/// A table that scrolls within itself where the window is narrow. `caption` names it.
#[must_use]
pub fn scrolling(caption: &str, table: &Markup) -> Markup {
    html! { div.scroll role="region" tabindex="0" aria-label=(caption) { (table) } }
}

/// The pages of a long list, with links to them. `path` is the list's, up to where `page=` follows.
#[must_use]
pub fn pages(path: &str, present: usize, per_page: usize, total: usize) -> Markup {
    let last = total.div_ceil(per_page).max(1);
    html! {
        @if last > 1 {
            nav.pages aria-label="Pages of this list" {
                @if present > 1 { a rel="prev" href=(format!("{path}page={}", present - 1)) { "Newer" } }
                span { "Page " (present) " of " (last) }
                @if present < last { a rel="next" href=(format!("{path}page={}", present + 1)) { "Older" } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_users_wrote_is_no_markup() {
        let hostile = "<script>alert(1)</script>\" onload=\"x";
        for made in [id(hostile), copy(hostile, hostile), text_or_none(Some(hostile)), scrolling(hostile, &html! {})] {
            assert!(!made.0.contains("<script") && !made.0.contains("\" onload"), "{}", made.0);
            assert!(made.0.contains("&lt;script&gt;"), "{}", made.0);
        }
    }

    #[test]
    fn an_id_is_short_to_see_and_whole_to_copy() {
        let made = id("dc8dcd28-271b-4367-9840-6c244f84cb40").0;
        assert!(made.contains("dc8dcd28<span class=\"rest\">-271b-4367-9840-6c244f84cb40</span>"), "{made}");
        assert!(made.contains("data-copy=\"dc8dcd28-271b-4367-9840-6c244f84cb40\""));
        // Cut between characters, whatever it is.
        assert!(id("äöüäöüäöü").0.contains("äöüäöüäö<span"));
        assert!(id("").0.contains("<code"));
    }

    #[test]
    fn a_bar_is_full_when_all_is_there() {
        assert!(!progress(0, 10, "none").0.contains("filled"));
        assert!(!progress(3, 0, "nothing is needed").0.contains("filled"));
        assert!(
            progress(5, 10, "half").0.contains("<rect class=\"filled\" width=\"500\""),
            "{}",
            progress(5, 10, "half").0
        );
        assert!(progress(11, 10, "more").0.contains("<rect class=\"filled\" width=\"1000\""));
    }

    #[test]
    fn a_line_of_nothing_is_flat_and_one_of_errors_shows_them() {
        let quiet = line(&[Counts::default(); 3]).0;
        assert!(!quiet.contains("area") && quiet.contains("0.0,27.0 60.0,27.0 120.0,27.0"), "{quiet}");
        let failing = line(&[Counts { requests: 1000, errors: 1 }, Counts { requests: 10, errors: 0 }]).0;
        assert_eq!(failing.matches("class=\"errors\"").count(), 1);
        assert!(failing.contains("1,010 requests, 1 errors, at most 1,000"), "{failing}");
        assert!(!line(&[]).0.contains("NaN"));
    }
}
