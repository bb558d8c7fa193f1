//! A record as `dev` shows it: a line for a person, and below it what the guest printed and what went wrong.

use std::fmt::Write as _;

use crate::domain::outcome::Blame;
use crate::observe::record::Record;

impl Record<'_> {
    /// `GET /a/b 204 (version 3, 1.2 ms)`, and more lines if there is more to tell.
    #[must_use]
    pub fn to_short_line(&self) -> String {
        let mut text = format!("{} {}", self.method, printable(self.path));
        // Writing to a text never fails.
        let _ = match self.status {
            Some(status) => write!(text, " {status}"),
            None => write!(text, " (no answer)"),
        };
        let millis = self.wall.as_secs_f64() * 1_000.0;
        let _ = match &self.version {
            Some(version) => write!(text, " (version {}, {millis:.1} ms)", version.number),
            None => write!(text, " ({millis:.1} ms)"),
        };
        if self.depth > 0 {
            let _ = write!(text, " · {}, called by another worker", self.worker);
        }
        for line in self.lines {
            let _ = write!(text, "\n  {}", printable(line.text));
        }
        if self.lines_truncated {
            text.push_str("\n  (what it printed beyond this was dropped)");
        }
        if !self.error.is_empty() {
            let whose = match self.blame {
                Some(Blame::Guest) => "worker",
                Some(Blame::Caller) => "client",
                Some(Blame::Host) | None => "node",
            };
            let _ = write!(text, "\n  {whose}: {}", self.error.trim_end().replace('\n', "\n    "));
        }
        text
    }
}

/// Without what would move the cursor of a terminal; tabs and colours of a guest's line stay.
fn printable(text: &str) -> String {
    text.chars().filter(|&char| !char.is_control() || matches!(char, '\t' | '\u{1b}')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::record::{self, Line};

    #[test]
    fn a_request_is_a_line_and_its_troubles_are_below() {
        let mut record = record::sample();
        record.status = Some(500);
        record.wall = std::time::Duration::from_micros(1_240);
        let lines = [Line { stream: "stdout", text: "counting\r", at_ms: 0 }];
        record.lines = &lines;
        record.blame = Some(Blame::Guest);
        record.error = "trap: unreachable\nat f";
        let expected =
            format!("GET {} 500 (version 1, 1.2 ms)\n  counting\n  worker: trap: unreachable\n    at f", record.path);
        assert_eq!(record.to_short_line(), expected);
        record.version = None;
        record.status = None;
        assert!(record.to_short_line().contains(" (no answer) (1.2 ms)"), "{}", record.to_short_line());
    }
}
