//! `--durable-objects-code-update-mode`: when running objects take the code of a deployment (`DOU-3`), as wrangler takes it: one
//! word, or two of which the second says how long they may wait.

use std::ffi::OsString;

use clap::Args;

use crate::domain::deployment::CodeUpdate;

const FLAG: &str = "--durable-objects-code-update-mode";

/// The flag of every command that deploys.
#[derive(Debug, Args)]
pub struct CodeUpdateArgs {
    /// When running Durable Objects get the new code: `immediate`, or `deferred 30s` at the latest [default: what
    /// `durable_objects.code_update_strategy` of the file says, or immediate]
    #[arg(long = "durable-objects-code-update-mode", value_name = "MODE", value_parser = parse)]
    pub code_update: Option<CodeUpdate>,
}

/// Makes one word of `deferred` and the delay after it. What does not read as a delay stays an argument of its own.
pub fn joined(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut joined: Vec<OsString> = Vec::new();
    let mut args = args.into_iter().peekable();
    while let Some(arg) = args.next() {
        let is_last_value = arg == "deferred" && joined.last().is_some_and(|before| before == FLAG);
        let is_whole = arg.to_str().and_then(|arg| arg.strip_prefix(FLAG)) == Some("=deferred");
        let delay =
            args.peek().and_then(|next| next.to_str()).filter(|next| seconds(next).is_some()).map(str::to_owned);
        if arg == "--" {
            joined.push(arg);
            joined.extend(args);
            break;
        }
        match delay.filter(|_| is_last_value || is_whole) {
            Some(delay) => {
                args.next();
                let mut both = arg;
                both.push(format!(" {delay}"));
                joined.push(both);
            }
            None => joined.push(arg),
        }
    }
    joined
}

fn parse(text: &str) -> Result<CodeUpdate, String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    match words.as_slice() {
        ["immediate"] => Ok(CodeUpdate::Immediate),
        ["immediate", ..] => Err("`immediate` does not wait, so it takes no delay".to_owned()),
        ["deferred"] => Ok(CodeUpdate::DEFERRED),
        ["deferred", delay] => seconds(delay)
            .and_then(CodeUpdate::deferred)
            .ok_or_else(|| format!("`{delay}` is no delay from 0 seconds to 24 hours, such as 30s, 5m or 1h")),
        _ => Err("expected `immediate`, or `deferred` with perhaps a delay such as 30s".to_owned()),
    }
}

/// `30`, `30s`, `1.5m`, `500ms`, `2hours`.
fn seconds(text: &str) -> Option<f64> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let factor = match unit {
        "" | "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
        "ms" | "msec" | "msecs" | "millisecond" | "milliseconds" => 0.001,
        "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
        "h" | "hour" | "hours" => 3600.0,
        "d" | "day" | "days" => 86_400.0,
        _ => return None,
    };
    Some(number.parse::<f64>().ok()? * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_is_one_word_or_deferred_with_a_delay() {
        assert_eq!(parse("immediate"), Ok(CodeUpdate::Immediate));
        for (text, max_delay_s) in [
            ("deferred", 300),
            ("deferred 30s", 30),
            ("deferred 30", 30),
            ("deferred 5minutes", 300),
            ("deferred 1.5m", 90),
            ("deferred 500ms", 1),
            ("deferred 24h", 86_400),
            ("deferred 0s", 0),
        ] {
            assert_eq!(parse(text), Ok(CodeUpdate::Deferred { max_delay_s }), "{text}");
        }
        for wrong in ["", "later", "immediate 3s", "deferred 25h", "deferred soon", "deferred s", "deferred 1s 2s"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_delay_joins_its_mode_and_nothing_else_does() {
        let check = |line: &str| {
            let words = joined(line.split(' ').map(OsString::from));
            words.iter().map(|word| word.to_str().unwrap().to_owned()).collect::<Vec<_>>().join("|")
        };
        assert_eq!(check(&format!("x {FLAG} deferred 30s a")), format!("x|{FLAG}|deferred 30s|a"));
        assert_eq!(check(&format!("x {FLAG}=deferred 1h a")), format!("x|{FLAG}=deferred 1h|a"));
        assert_eq!(check(&format!("x {FLAG} deferred a@20")), format!("x|{FLAG}|deferred|a@20"));
        assert_eq!(check(&format!("x {FLAG} immediate 30s")), format!("x|{FLAG}|immediate|30s"));
        assert_eq!(
            check(&format!("x deferred 30s -- {FLAG} deferred 30s")),
            format!("x|deferred|30s|--|{FLAG}|deferred|30s")
        );
    }
}
