//! What a tail is asked for, and how its events read. Pure: words in, a request or lines out.

use serde_json::Value;

use super::args::{TailArgs, TailStatus};
use super::fault::{Fault, usage};
use crate::control::wire::{TailFilter, TailHeader, TailRequest};

/// The request that these arguments mean. `version` is the id of the version that they name.
pub fn request(args: &TailArgs, version: Option<String>) -> Result<TailRequest, Fault> {
    if args.sampling_rate.is_some_and(|rate| !(rate > 0.0 && rate < 1.0)) {
        return Err(usage("A sampling rate must be between 0 and 1 in order to have any effect.")
            .hint("`--sampling-rate 0.25` shows a quarter of the requests"));
    }
    let some = |list: Vec<String>| (!list.is_empty()).then_some(list);
    let filters = [
        TailFilter { sampling_rate: args.sampling_rate, ..TailFilter::default() },
        TailFilter { outcome: some(outcomes(&args.status)), ..TailFilter::default() },
        TailFilter { method: some(args.method.clone()), ..TailFilter::default() },
        TailFilter { header: args.header.as_deref().map(header), ..TailFilter::default() },
        TailFilter { client_ip: some(args.ip.clone()), ..TailFilter::default() },
        TailFilter { query: args.search.clone(), ..TailFilter::default() },
        TailFilter { script_version: version, ..TailFilter::default() },
    ];
    Ok(TailRequest { filters: Some(filters.into_iter().filter(|filter| *filter != TailFilter::default()).collect()) })
}

fn outcomes(statuses: &[TailStatus]) -> Vec<String> {
    let words = |status: &TailStatus| match status {
        TailStatus::Ok => &["ok"][..],
        // A client that goes away in the middle of a response has canceled it, too.
        TailStatus::Canceled => &["canceled", "responseStreamDisconnected"],
        TailStatus::Error => &["exception", "exceededCpu", "exceededMemory", "scriptNotFound", "unknown"],
    };
    statuses.iter().flat_map(words).map(ToString::to_string).collect()
}

fn header(text: &str) -> TailHeader {
    match text.split_once(':') {
        Some((key, query)) => TailHeader { key: key.trim().to_owned(), query: Some(query.trim().to_owned()) },
        None => TailHeader { key: text.trim().to_owned(), query: None },
    }
}

/// An event as lines for people, in wrangler's words, with the version that ran. What a guest or a client wrote cannot steer the
/// terminal.
pub fn pretty(event: &Value) -> String {
    let mut lines = vec![headline(event)];
    for log in list(event, "logs") {
        let parts: Vec<String> = list(log, "message").iter().map(text).collect();
        lines.push(format!("  ({}) {}", text(&log["level"]), parts.join(" ")));
    }
    for exception in list(event, "exceptions") {
        lines.push(format!("  ✘ {}: {}", text(&exception["name"]), text(&exception["message"])));
    }
    lines.join("\n")
}

fn headline(event: &Value) -> String {
    let what = &event["event"];
    if what["type"].is_string() {
        return text(&what["message"]);
    }
    let what = match what["request"]["url"].as_str() {
        Some(url) => format!("{} {}", text(&what["request"]["method"]), escaped(url)),
        None => "Unknown Event".to_owned(),
    };
    let number = event["sluice"]["versionNumber"].as_u64().map(|number| format!("#{number}"));
    let tag = event["scriptVersion"]["tag"].as_str().filter(|tag| !tag.is_empty()).map(escaped);
    let version = [number, tag].into_iter().flatten().collect::<Vec<_>>().join(" ");
    let version = if version.is_empty() { version } else { format!(" [{version}]") };
    format!("{what} - {} @ {}{version}", outcome(&event["outcome"]), time(&event["eventTimestamp"]))
}

fn outcome(word: &Value) -> &'static str {
    match word.as_str() {
        Some("ok") => "Ok",
        Some("canceled") => "Canceled",
        Some("exceededCpu") => "Exceeded CPU Limit",
        Some("exceededMemory") => "Exceeded Memory Limit",
        Some("exception") => "Exception Thrown",
        Some("responseStreamDisconnected") => "Client Disconnected",
        Some("scriptNotFound") => "Nothing Deployed",
        _ => "Unknown",
    }
}

fn time(ms: &Value) -> String {
    let time = ms.as_i64().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    time.map_or_else(|| "?".to_owned(), |time| time.strftime("%Y-%m-%d %H:%M:%S.%3fZ").to_string())
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), escaped)
}

/// Control characters as wrangler shows them; tabs and line ends stay.
fn escaped(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut shown, c| {
        if c.is_control() && !matches!(c, '\t' | '\n') {
            shown.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            shown.push(c);
        }
        shown
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{Cli, Command};
    use clap::Parser as _;
    use serde_json::json;

    fn check(line: &str, version: Option<&str>) -> Result<Value, String> {
        let cli = Cli::try_parse_from(line.split_whitespace()).unwrap();
        let Command::Tail(args) = cli.command else { panic!("{line}") };
        let request = request(&args, version.map(str::to_owned)).map_err(|fault| fault.to_string())?;
        Ok(serde_json::to_value(request).unwrap()["filters"].take())
    }

    #[test]
    fn each_flag_is_a_filter_of_its_own() {
        assert_eq!(check("sluice tail w", None).unwrap(), json!([]));
        assert_eq!(
            check(
                "sluice tail w --sampling-rate 0.5 --status ok --status error --method GET --method PUT --header X-A:1 --ip self --search text",
                Some("id")
            )
            .unwrap(),
            json!([
                { "sampling_rate": 0.5 },
                { "outcome": ["ok", "exception", "exceededCpu", "exceededMemory", "scriptNotFound", "unknown"] },
                { "method": ["GET", "PUT"] },
                { "header": { "key": "X-A", "query": "1" } },
                { "client_ip": ["self"] },
                { "query": "text" },
                { "scriptVersion": "id" },
            ])
        );
        assert_eq!(check("sluice tail --header X-A", None).unwrap(), json!([{ "header": { "key": "X-A" } }]));
        for rate in ["0", "1", "NaN", "2"] {
            assert!(check(&format!("sluice tail --sampling-rate {rate}"), None).is_err(), "{rate}");
        }
    }

    #[test]
    fn an_event_reads_as_in_wrangler() {
        let event = json!({
            "outcome": "exception",
            "scriptVersion": { "id": "x", "tag": "v2" },
            "eventTimestamp": 1_767_355_200_123_u64,
            "event": { "request": { "url": "http://w.localhost/", "method": "GET" } },
            "logs": [{ "level": "log", "message": ["hello\u{1b}[31m", { "a": 1 }] }],
            "exceptions": [{ "name": "Error", "message": "boom" }],
            "sluice": { "versionNumber": 2 },
        });
        assert_eq!(
            pretty(&event),
            "GET http://w.localhost/ - Exception Thrown @ 2026-01-02 12:00:00.123Z [#2 v2]\n  (log) hello\\u001b[31m {\"a\":1}\n  ✘ Error: boom"
        );
        let overload =
            json!({ "event": { "type": "overload", "message": "3 left out" }, "logs": [], "exceptions": [] });
        assert_eq!(pretty(&overload), "3 left out");
        assert_eq!(pretty(&json!({ "event": null })), "Unknown Event - Unknown @ ?");
    }
}
