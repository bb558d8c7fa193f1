//! The wide record of one request: which version ran and why, how it ended, whose fault that was, and what it cost.

use std::net::IpAddr;
use std::time::Duration;

use crate::domain::decision::Reason;
use crate::domain::id::VersionId;
use crate::domain::object::ObjectId;
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
    /// The object that the event was for, if it was for one.
    pub object: Option<ObjectRef<'a>>,
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

/// The Durable Object of a record.
#[derive(Debug, Clone, Copy)]
pub struct ObjectRef<'a> {
    pub class: &'a str,
    pub id: ObjectId,
    pub event: ObjectEvent,
}

/// What an object was to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectEvent {
    Fetch,
    Alarm,
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
    /// Whether it is of an alarm.
    #[must_use]
    pub fn is_alarm(&self) -> bool {
        self.object.is_some_and(|object| object.event == ObjectEvent::Alarm)
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
}

/// Milliseconds, as Cloudflare counts them.
pub(super) fn whole_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A request that went well, for tests to vary.
#[cfg(test)]
pub(in crate::observe) fn sample() -> Record<'static> {
    Record {
        id: RequestId(7),
        began_ms: 1_000,
        worker: "hello",
        version: Some(VersionRef { id: VersionId::from_random([1; 16]), number: 1, tag: "v1", message: "the first" }),
        reason: Some(Reason::Random),
        object: None,
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
