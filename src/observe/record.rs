//! The wide record of one request: which version ran and why, how it ended, whose fault that was, and what it cost.

use std::time::Duration;

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
    /// What the guest printed: (`stdout` or `stderr`, line).
    pub lines: &'a [(&'static str, &'a str)],
    pub lines_truncated: bool,
}

/// The version of a record.
#[derive(Debug, Clone, Copy)]
pub struct VersionRef<'a> {
    pub id: VersionId,
    pub number: u64,
    pub tag: &'a str,
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
        let lines: Vec<_> =
            self.lines.iter().map(|(stream, line)| serde_json::json!({ "stream": stream, "line": line })).collect();
        let mut json = serde_json::json!({
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
        json.to_string()
    }
}

/// Milliseconds to the microsecond.
fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}
