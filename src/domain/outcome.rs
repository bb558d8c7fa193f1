//! How a request ended and whose fault it was, in the words of records, metrics and tail.

/// How a request ended before or after its response began: set once, read when its record is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conclusion {
    pub outcome: Outcome,
    pub blame: Option<Blame>,
    /// One line for people; empty if all is well.
    pub message: String,
}

/// Whose fault a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Blame {
    Guest,
    Caller,
    Host,
}

/// How a request ended (`OBS-4`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    Ok,
    Exception,
    ExceededCpu,
    ExceededMemory,
    Canceled,
    /// The response had begun, and its body broke off.
    ResponseStreamDisconnected,
    /// There was nothing to run.
    ScriptNotFound,
    /// The host failed, or had no room.
    Unknown,
}

impl Blame {
    /// The word in records and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Guest => "guest",
            Self::Caller => "caller",
            Self::Host => "host",
        }
    }
}

impl Outcome {
    /// Every outcome, in the order of the metrics' counters.
    pub const ALL: [Self; 8] = [
        Self::Ok,
        Self::Exception,
        Self::ExceededCpu,
        Self::ExceededMemory,
        Self::Canceled,
        Self::ResponseStreamDisconnected,
        Self::ScriptNotFound,
        Self::Unknown,
    ];

    /// The word on the wire (`OBS-4`).
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Exception => "exception",
            Self::ExceededCpu => "exceededCpu",
            Self::ExceededMemory => "exceededMemory",
            Self::Canceled => "canceled",
            Self::ResponseStreamDisconnected => "responseStreamDisconnected",
            Self::ScriptNotFound => "scriptNotFound",
            Self::Unknown => "unknown",
        }
    }
}
