//! The only place that prints. Data goes to stdout, everything else to stderr; colour only where a terminal shows it. A
//! reader that has gone away (`sluice versions list | head -1`) is not an error.

use std::fmt::Display;
use std::io::{IsTerminal as _, Write as _};

use anyhow::Error;
use serde::Serialize;

use super::fault;
pub use crate::domain::size::words as size;

/// How data is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Human,
    Json,
}

impl From<bool> for Format {
    /// What `--json` means.
    fn from(json: bool) -> Self {
        if json { Self::Json } else { Self::Human }
    }
}

const RED: &str = "\x1b[1;31m";
const YELLOW: &str = "\x1b[1;33m";
const CYAN: &str = "\x1b[1;36m";
const BOLD: &str = "\x1b[1m";
const PLAIN: &str = "\x1b[0m";

/// A line of data.
pub fn line(text: impl Display) {
    let _ = writeln!(anstream::stdout().lock(), "{text}");
}

/// A line of data in a stream of them. False if its reader has gone away, and the stream can end.
#[must_use]
pub fn line_to_reader(text: impl Display) -> bool {
    let mut stdout = anstream::stdout().lock();
    writeln!(stdout, "{text}").and_then(|()| stdout.flush()).is_ok()
}

/// Bytes of data, as they are.
pub fn bytes(data: &[u8]) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(data).and_then(|()| stdout.flush());
}

/// A line about what is going on.
pub fn note(text: impl Display) {
    let _ = writeln!(anstream::stderr().lock(), "{text}");
}

/// A heading among lines about what is going on.
pub fn heading(text: impl Display) {
    note(format_args!("{BOLD}{text}{PLAIN}"));
}

/// Something that is not as one might think.
pub fn warn(text: impl Display) {
    note(format_args!("{YELLOW}warning:{PLAIN} {text}"));
}

/// What to do.
pub fn hint(text: impl Display) {
    note(format_args!("{CYAN}hint:{PLAIN} {text}"));
}

/// Why the program ends: the chain of causes once, then what to do.
pub fn failure(error: &Error) {
    note(format_args!("{RED}error:{PLAIN} {error:#}"));
    for text in fault::hints(error) {
        hint(text);
    }
}

/// Data for programs.
pub fn json(value: &impl Serialize) {
    match serde_json::to_string_pretty(value) {
        Ok(text) => line(text),
        Err(error) => warn(format_args!("cannot print this as JSON: {error}")),
    }
}

/// Data for people. On a terminal long cells are wrapped, to `COLUMNS` or 80.
pub fn table<const N: usize>(header: [&str; N], rows: impl IntoIterator<Item = [String; N]>) {
    grid(header, rows);
}

/// The same where the number of columns comes out as the program runs.
pub fn grid<H, R>(header: H, rows: impl IntoIterator<Item = R>)
where
    H: IntoIterator<Item: Into<comfy_table::Cell>>,
    R: IntoIterator<Item = String>,
{
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    if std::io::stdout().is_terminal() {
        let columns = u16::try_from(width()).unwrap_or(u16::MAX);
        table.set_width(columns).set_content_arrangement(comfy_table::ContentArrangement::Dynamic);
    }
    table.set_header(header.into_iter().map(Into::into).collect::<Vec<comfy_table::Cell>>());
    for row in rows {
        table.add_row(row.into_iter().collect::<Vec<_>>());
    }
    for text in table.lines() {
        line(text.trim_end());
    }
}

/// Columns of the terminal: as `COLUMNS` says, or as the terminal does; 80 where neither speaks.
pub fn width() -> usize {
    const USUAL: usize = 80;
    let told = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    told.or_else(terminal_width).filter(|columns| *columns > 0).unwrap_or(USUAL)
}

#[cfg(unix)]
fn terminal_width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    Some(usize::from(size.ws_col))
}

#[cfg(not(unix))]
fn terminal_width() -> Option<usize> {
    None
}

/// A progress bar on stderr; nothing where that is no terminal.
pub fn bar(length: u64, what: &str) -> indicatif::ProgressBar {
    let bar = indicatif::ProgressBar::new(length);
    if let Ok(style) = indicatif::ProgressStyle::with_template("{prefix} {bar:30} {percent:>3} %  {msg}") {
        bar.set_style(style.progress_chars("━╸ "));
    }
    bar.with_prefix(what.to_owned())
}

// === How values read ===

/// `20%`, `33.333%`.
pub fn percent(percentage: f64) -> String {
    format!("{}%", (percentage * 1000.0).round() / 1000.0)
}

/// `3 min ago`; a time that cannot be read is shown as it is.
pub fn ago(time: &str) -> String {
    relative(time, jiff::Timestamp::now())
}

fn relative(time: &str, now: jiff::Timestamp) -> String {
    let Ok(then) = time.parse::<jiff::Timestamp>() else {
        return time.to_owned();
    };
    let seconds = now.as_second() - then.as_second();
    match seconds {
        ..5 => "just now".to_owned(),
        5..60 => format!("{seconds} s ago"),
        60..3_600 => format!("{} min ago", seconds / 60),
        3_600..172_800 => format!("{} h ago", seconds / 3_600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

/// `in 3 min`; what is due or past is `now`, and a time that cannot be read is shown as it is.
pub fn ahead(time: &str) -> String {
    until(time, jiff::Timestamp::now())
}

fn until(time: &str, now: jiff::Timestamp) -> String {
    let Ok(then) = time.parse::<jiff::Timestamp>() else {
        return time.to_owned();
    };
    let seconds = then.as_second() - now.as_second();
    match seconds {
        ..=0 => "now".to_owned(),
        1..120 => format!("in {seconds} s"),
        120..7_200 => format!("in {} min", seconds / 60),
        7_200..172_800 => format!("in {} h", seconds / 3_600),
        _ => format!("in {} days", seconds / 86_400),
    }
}

/// A text, or `-` where there is none.
pub fn or_dash(text: Option<&str>) -> String {
    text.filter(|text| !text.is_empty()).unwrap_or("-").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_read_as_people_say_them() {
        assert_eq!([percent(20.0), percent(33.333), percent(0.1 + 0.2)], ["20%", "33.333%", "0.3%"]);
        assert_eq!([size(84), size(53_350), size(64 << 20)], ["84 bytes", "52.1 KiB", "64.0 MiB"]);
        assert_eq!([or_dash(None), or_dash(Some("")), or_dash(Some("x"))], ["-", "-", "x"]);
    }

    #[test]
    fn times_are_told_from_now() {
        let now: jiff::Timestamp = "2026-01-02T12:00:00Z".parse().unwrap();
        for (time, told) in [
            ("2026-01-02T12:00:01.000Z", "just now"),
            ("2026-01-02T11:59:30.000Z", "30 s ago"),
            ("2026-01-02T11:57:00.000Z", "3 min ago"),
            ("2026-01-01T12:00:00.000Z", "24 h ago"),
            ("2025-12-23T12:00:00.000Z", "10 days ago"),
            ("yesterday", "yesterday"),
        ] {
            assert_eq!(relative(time, now), told);
        }
        for (time, told) in [
            ("2026-01-02T11:59:00.000Z", "now"),
            ("2026-01-02T12:00:30.000Z", "in 30 s"),
            ("2026-01-02T12:03:10.000Z", "in 3 min"),
            ("2026-01-03T12:00:00.000Z", "in 24 h"),
            ("2026-01-12T12:00:00.000Z", "in 10 days"),
            ("tomorrow", "tomorrow"),
        ] {
            assert_eq!(until(time, now), told);
        }
    }
}
