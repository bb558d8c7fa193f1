//! The wide record of one request: which version ran and why, how it ended, whose fault that was, and what it cost.

use std::net::IpAddr;
use std::time::Duration;

use serde_json::{Value, json};

use crate::domain::decision::Reason;
use crate::domain::id::VersionId;
use crate::domain::outcome::{Blame, Outcome};

/// The id of a request's record: what an error response names, so that its line can be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestId(pub u64);

/// One request, when it has ended.
#[derive(Debug)]
pub struct Record<'a> {
    pub id: RequestId,
    /// Unix time of the beginning in milliseconds.
    pub began_ms: u64,
    pub worker: &'a str,
    pub version: Option<VersionRef<'a>>,
    pub reason: Option<Reason>,
    pub method: &'a str,
    pub scheme: &'a str,
    pub host: &'a str,
    pub path: &'a str,
    pub depth: u8,
    pub status: Option<u16>,
    pub outcome: Outcome,
    pub blame: Option<Blame>,
    pub error: &'a str,
    pub cpu: Duration,
    pub wall: Duration,
    pub memory_bytes: u64,
    pub subrequests: u32,
    pub reused: u32,
    /// What the guest printed.
    pub lines: &'a [Line<'a>],
    pub lines_truncated: bool,
    /// What only a tail asks for, if one listened when the request began.
    pub heard: Option<&'a Heard>,
}

/// A line that the guest printed.
#[derive(Debug, Clone, Copy)]
pub struct Line<'a> {
    /// `stdout` or `stderr`.
    pub stream: &'static str,
    pub text: &'a str,
    /// Unix time of its end in milliseconds.
    pub at_ms: u64,
}

/// What is kept of a request's head because a tail listens: a copy that other requests do not pay for.
#[derive(Debug, Clone)]
pub struct Heard {
    pub headers: http::HeaderMap,
    /// Where the client is whose request led to this one.
    pub client: Option<IpAddr>,
    pub protocol: http::Version,
}

/// The version of a record.
#[derive(Debug, Clone, Copy)]
pub struct VersionRef<'a> {
    pub id: VersionId,
    pub number: u64,
    pub tag: &'a str,
    pub message: &'a str,
}

impl Line<'_> {
    /// The word of `console`'s functions for it.
    #[must_use]
    pub fn level(&self) -> &'static str {
        if self.stream == "stderr" { "error" } else { "log" }
    }
}

impl std::fmt::Display for RequestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Record<'_> {
    /// The record as one line of JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        self.facts().to_string()
    }

    /// The record with the fields that Logpush calls `workers_trace_events` beside it (`OBS-1`): a line of the request log.
    #[must_use]
    pub fn to_log_line(&self) -> String {
        let mut line = self.facts();
        let logs: Vec<Value> = self
            .lines
            .iter()
            .map(|line| json!({ "Level": line.level(), "Message": [line.text], "TimestampMs": line.at_ms }))
            .collect();
        let exceptions: Vec<Value> = self
            .exception()
            .map(|(name, message, at_ms)| json!({ "Name": name, "Message": message, "TimestampMs": at_ms }))
            .into_iter()
            .collect();
        let version = self
            .version
            .map(|version| json!({ "id": version.id.to_string(), "tag": version.tag, "message": version.message }));
        let mut event =
            json!({ "RayID": self.id.to_string(), "Request": { "URL": self.url(), "Method": self.method } });
        if let Some(status) = self.status {
            event["Response"] = json!({ "Status": status });
        }
        let trace = json!({
            "CPUTimeMs": whole_millis(self.cpu),
            "DispatchNamespace": "",
            "Entrypoint": "",
            "Event": event,
            "EventTimestampMs": self.began_ms,
            "EventType": "fetch",
            "Exceptions": exceptions,
            "Logs": logs,
            "Outcome": self.outcome.as_str(),
            "ScriptName": self.worker,
            "ScriptTags": [],
            "ScriptVersion": version,
            "WallTimeMs": whole_millis(self.wall),
        });
        if let (Value::Object(line), Value::Object(trace)) = (&mut line, trace) {
            line.extend(trace);
        }
        line.to_string()
    }

    /// The address as the client asked for it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}{}", self.scheme, self.host, self.path)
    }

    /// What was thrown, so to speak: (name, message, Unix time in milliseconds). A client that goes away throws nothing.
    #[must_use]
    pub fn exception(&self) -> Option<(&'static str, &str, u64)> {
        let name = match self.blame? {
            Blame::Guest => "Error",
            Blame::Host => "InternalError",
            Blame::Caller => return None,
        };
        Some((name, self.error, self.began_ms.saturating_add(whole_millis(self.wall))))
    }

    fn facts(&self) -> Value {
        let lines: Vec<Value> =
            self.lines.iter().map(|line| json!({ "stream": line.stream, "line": line.text })).collect();
        let mut json = json!({
            "event": "request",
            "id": self.id.to_string(),
            "time_ms": self.began_ms,
            "worker": self.worker,
            "version": self.version.map(|version| version.id.to_string()),
            "version_number": self.version.map(|version| version.number),
            "tag": self.version.map(|version| version.tag),
            "reason": self.reason.map(Reason::as_str),
            "method": self.method,
            "host": self.host,
            "path": self.path,
            "depth": self.depth,
            "status": self.status,
            "outcome": self.outcome.as_str(),
            "blame": self.blame.map(Blame::as_str),
            "cpu_ms": millis(self.cpu),
            "wall_ms": millis(self.wall),
            "memory_bytes": self.memory_bytes,
            "subrequests": self.subrequests,
            "reused": self.reused,
            "lines": lines,
        });
        if !self.error.is_empty() {
            json["error"] = self.error.into();
        }
        if self.lines_truncated {
            json["lines_truncated"] = true.into();
        }
        json
    }
}

/// Milliseconds to the microsecond.
fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// Milliseconds, as Cloudflare counts them.
pub(super) fn whole_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A request that went well, for tests to vary.
#[cfg(test)]
pub(super) fn sample() -> Record<'static> {
    Record {
        id: RequestId(7),
        began_ms: 1_000,
        worker: "hello",
        version: Some(VersionRef { id: VersionId::from_random([1; 16]), number: 1, tag: "v1", message: "the first" }),
        reason: Some(Reason::Random),
        method: "GET",
        scheme: "http",
        host: "hello.localhost",
        path: "/",
        depth: 0,
        status: Some(200),
        outcome: Outcome::Ok,
        blame: None,
        error: "",
        cpu: Duration::from_micros(1_500),
        wall: Duration::from_millis(7),
        memory_bytes: 65_536,
        subrequests: 0,
        reused: 0,
        lines: &[],
        lines_truncated: false,
        heard: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    }
}
