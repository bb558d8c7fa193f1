//! A record as a line of JSON: our own facts and, in the request log, the fields beside them that Logpush calls
//! `workers_trace_events` (`OBS-1`). Written straight into text: a guest may print half a million lines.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use crate::domain::decision::Reason;
use crate::domain::outcome::Blame;
use crate::observe::record::{Line, Record, VersionRef, whole_millis};

/// Bytes of what a guest printed that go into `Logs`, and into the event of a tail; `lines` has all of it.
pub(super) const LOGS_BYTES_MAX: usize = 256 * 1024;
/// What a line costs beside its text, where it is a JSON object.
const LINE_BYTES: usize = 64;

impl Record<'_> {
    /// Our facts alone: what the log of the node says of failures.
    #[must_use]
    pub fn to_json(&self) -> String {
        text(&Facts::of(self))
    }

    /// A line of the request log.
    #[must_use]
    pub fn to_log_line(&self) -> String {
        text(&Both { facts: Facts::of(self), trace: Trace::of(self) })
    }

    /// The lines that fit where they are told twice, and whether those are all.
    pub(super) fn lines_to_show(&self) -> (&[Line<'_>], bool) {
        let mut left = LOGS_BYTES_MAX;
        let fits = |line: &&Line<'_>| {
            let rest = left.checked_sub(line.text.len() + LINE_BYTES);
            left = rest.unwrap_or(left);
            rest.is_some()
        };
        let count = self.lines.iter().take_while(fits).count();
        (&self.lines[..count], count == self.lines.len())
    }
}

/// What is made of texts and numbers always has a form in JSON.
fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

#[derive(Serialize)]
struct Both<'a> {
    #[serde(flatten)]
    facts: Facts<'a>,
    #[serde(flatten)]
    trace: Trace<'a>,
}

#[derive(Serialize)]
struct Facts<'a> {
    event: &'static str,
    id: String,
    time_ms: u64,
    worker: &'a str,
    version: Option<String>,
    version_number: Option<u64>,
    tag: Option<&'a str>,
    reason: Option<&'static str>,
    method: &'a str,
    host: &'a str,
    path: &'a str,
    depth: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    object: Option<String>,
    status: Option<u16>,
    outcome: &'static str,
    blame: Option<&'static str>,
    cpu_ms: f64,
    wall_ms: f64,
    memory_bytes: u64,
    subrequests: u32,
    reused: u32,
    lines: Printed<'a>,
    #[serde(skip_serializing_if = "str::is_empty")]
    error: &'a str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    lines_truncated: bool,
}

/// Each line as `{"stream", "line"}`.
struct Printed<'a>(&'a [Line<'a>]);

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Trace<'a> {
    #[serde(rename = "CPUTimeMs")]
    cpu_time_ms: u64,
    dispatch_namespace: &'static str,
    entrypoint: &'a str,
    event: Value,
    event_timestamp_ms: u64,
    event_type: &'static str,
    exceptions: Value,
    logs: Vec<Log<'a>>,
    outcome: &'static str,
    script_name: &'a str,
    script_tags: [&'static str; 0],
    script_version: Option<Value>,
    wall_time_ms: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Log<'a> {
    level: &'static str,
    message: [&'a str; 1],
    timestamp_ms: u64,
}

impl<'a> Facts<'a> {
    fn of(record: &Record<'a>) -> Self {
        Self {
            event: "request",
            id: record.id.to_string(),
            time_ms: record.began_ms,
            worker: record.worker,
            version: record.version.map(|version| version.id.to_string()),
            version_number: record.version.map(|version| version.number),
            tag: record.version.map(|version| version.tag),
            reason: record.reason.map(Reason::as_str),
            method: record.method,
            host: record.host,
            path: record.path,
            depth: record.depth,
            class: record.object.map(|object| object.class),
            object: record.object.map(|object| object.id.to_string()),
            status: record.status,
            outcome: record.outcome.as_str(),
            blame: record.blame.map(Blame::as_str),
            cpu_ms: millis(record.cpu),
            wall_ms: millis(record.wall),
            memory_bytes: record.memory_bytes,
            subrequests: record.subrequests,
            reused: record.reused,
            lines: Printed(record.lines),
            error: record.error,
            lines_truncated: record.lines_truncated,
        }
    }
}

impl<'a> Trace<'a> {
    fn of(record: &'a Record<'a>) -> Self {
        let mut event = if record.is_alarm() {
            json!({ "RayID": record.id.to_string(), "ScheduledTimeMs": record.began_ms })
        } else {
            json!({ "RayID": record.id.to_string(), "Request": { "URL": record.url(), "Method": record.method } })
        };
        if let Some(status) = record.status.filter(|_| !record.is_alarm()) {
            event["Response"] = json!({ "Status": status });
        }
        let log = |line: &Line<'a>| Log { level: line.level(), message: [line.text], timestamp_ms: line.at_ms };
        Self {
            cpu_time_ms: whole_millis(record.cpu),
            dispatch_namespace: "",
            entrypoint: record.object.map_or("", |object| object.class),
            event,
            event_timestamp_ms: record.began_ms,
            event_type: if record.is_alarm() { "alarm" } else { "fetch" },
            exceptions: record.exception().map_or_else(
                || json!([]),
                |(name, message, at_ms)| json!([{ "Name": name, "Message": message, "TimestampMs": at_ms }]),
            ),
            logs: record.lines_to_show().0.iter().map(log).collect(),
            outcome: record.outcome.as_str(),
            script_name: record.worker,
            script_tags: [],
            script_version: record.version.map(version),
            wall_time_ms: whole_millis(record.wall),
        }
    }
}

impl Serialize for Printed<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct One<'a> {
            stream: &'a str,
            line: &'a str,
        }

        serializer.collect_seq(self.0.iter().map(|line| One { stream: line.stream, line: line.text }))
    }
}

/// The version that ran, as the documentation has it: empty texts where nothing was said (`OBS-2`, `META-2`).
pub(super) fn version(version: VersionRef<'_>) -> Value {
    json!({ "id": version.id.to_string(), "tag": version.tag, "message": version.message })
}

/// Milliseconds to the microsecond.
fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::outcome::Outcome;
    use crate::observe::record::{ObjectEvent, ObjectRef, sample};

    #[test]
    fn a_line_of_the_request_log_has_our_facts_and_those_of_logpush() {
        let lines = [Line { stream: "stderr", text: "oh", at_ms: 1_003 }];
        let record = Record {
            lines: &lines,
            outcome: Outcome::ExceededCpu,
            blame: Some(Blame::Guest),
            error: "too long",
            path: "/a?b",
            ..sample()
        };
        let line: Value = serde_json::from_str(&record.to_log_line()).unwrap();
        let ours: Value = serde_json::from_str(&record.to_json()).unwrap();
        assert_eq!(ours["lines"], json!([{ "stream": "stderr", "line": "oh" }]));
        assert_eq!(
            (&ours["error"], &ours["cpu_ms"], &ours["blame"]),
            (&json!("too long"), &json!(1.5), &json!("guest"))
        );
        for (key, value) in ours.as_object().unwrap() {
            assert_eq!(line[key], *value, "{key}");
        }
        let id = record.version.unwrap().id.to_string();
        let trace = json!({
            "CPUTimeMs": 1,
            "DispatchNamespace": "",
            "Entrypoint": "",
            "Event": {
                "RayID": "0000000000000007",
                "Request": { "URL": "http://hello.localhost/a?b", "Method": "GET" },
                "Response": { "Status": 200 },
            },
            "EventTimestampMs": 1_000,
            "EventType": "fetch",
            "Exceptions": [{ "Name": "Error", "Message": "too long", "TimestampMs": 1_007 }],
            "Logs": [{ "Level": "error", "Message": ["oh"], "TimestampMs": 1_003 }],
            "Outcome": "exceededCpu",
            "ScriptName": "hello",
            "ScriptTags": [],
            "ScriptVersion": { "id": id, "tag": "v1", "message": "the first" },
            "WallTimeMs": 7,
        });
        for (key, value) in trace.as_object().unwrap() {
            assert_eq!(line[key], *value, "{key}");
        }
        assert_eq!(line.as_object().unwrap().len(), ours.as_object().unwrap().len() + trace.as_object().unwrap().len());
    }

    #[test]
    fn a_flood_of_lines_is_told_whole_once_and_cut_the_second_time() {
        let lines: Vec<Line<'_>> = (0..10_000).map(|_| Line { stream: "stdout", text: "x", at_ms: 0 }).collect();
        let line: Value = serde_json::from_str(&Record { lines: &lines, ..sample() }.to_log_line()).unwrap();
        assert_eq!(line["lines"].as_array().unwrap().len(), 10_000);
        assert_eq!(line["Logs"].as_array().unwrap().len(), LOGS_BYTES_MAX / (LINE_BYTES + 1));
    }

    #[test]
    fn an_alarm_of_an_object_is_told_as_one() {
        let id = crate::domain::object::ObjectNamespaceId::from_bytes([7; 16]).id_from_name("a");
        let mut record = sample();
        record.object = Some(ObjectRef { class: "Clock", id, event: ObjectEvent::Alarm });
        let line: Value = serde_json::from_str(&record.to_log_line()).unwrap();
        assert_eq!((&line["EventType"], &line["Entrypoint"]), (&json!("alarm"), &json!("Clock")));
        assert_eq!(line["Event"], json!({ "RayID": "0000000000000007", "ScheduledTimeMs": 1_000 }));
        assert_eq!((&line["class"], &line["object"]), (&json!("Clock"), &json!(id.to_string())));
    }
}
