//! Why a request got no response of its guest: one type, with whose fault it was. It becomes a status in `ingress` only.

use std::time::Duration;

use crate::domain::limits;
use crate::domain::outcome::{Blame, Conclusion, Outcome};
use crate::engine::metered::CpuExceeded;
use crate::host::State;

/// What went wrong between a request and its guest's response.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Failure {
    #[error("the guest trapped: {0}")]
    Trap(String),
    #[error("the guest used more than {} ms of CPU time (`limits.cpu_ms`)", .0.as_millis())]
    CpuTime(Duration),
    #[error("the guest used more than {} MiB of memory", .0 / (1024 * 1024))]
    Memory(u64),
    #[error("the guest gave no response within {} s", limits::RESPONSE_HEAD_WALL_MAX.as_secs())]
    WallTime,
    #[error("the guest ended without a response")]
    NoResponse,
    #[error("the guest answered with the error `{0}`")]
    GuestError(String),
    #[error("the response's headers have {0} bytes, the limit is {max}", max = limits::RESPONSE_HEADER_BYTES_MAX)]
    ResponseHeaders(usize),
    #[error("the client went away before the response")]
    Canceled,
    #[error("too many requests are waiting for this version; try again soon")]
    Overloaded,
    #[error("the version could not be made ready: {0}")]
    NotReady(String),
    #[error("the instance could not be made: {0}")]
    Instantiate(String),
}

impl Failure {
    /// Whose fault it is.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::Trap(_)
            | Self::CpuTime(_)
            | Self::Memory(_)
            | Self::WallTime
            | Self::NoResponse
            | Self::GuestError(_)
            | Self::ResponseHeaders(_) => Blame::Guest,
            Self::Canceled => Blame::Caller,
            Self::Overloaded | Self::NotReady(_) | Self::Instantiate(_) => Blame::Host,
        }
    }

    /// What the request's record says of it.
    #[must_use]
    pub fn conclusion(&self) -> Conclusion {
        Conclusion { outcome: self.outcome(), blame: Some(self.blame()), message: self.to_string() }
    }

    /// How the request ended, in the words of tail and metrics.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Trap(_) | Self::WallTime | Self::NoResponse | Self::GuestError(_) | Self::ResponseHeaders(_) => {
                Outcome::Exception
            }
            Self::CpuTime(_) => Outcome::ExceededCpu,
            Self::Memory(_) => Outcome::ExceededMemory,
            Self::Canceled => Outcome::Canceled,
            Self::Overloaded | Self::NotReady(_) | Self::Instantiate(_) => Outcome::Unknown,
        }
    }
}

/// What an error of the guest's was: one of the limits, or what `other` makes of it.
pub(super) fn classify(error: &wasmtime::Error, state: &State, other: fn(String) -> Failure) -> Failure {
    if error.downcast_ref::<CpuExceeded>().is_some() {
        return Failure::CpuTime(state.meter.budget());
    }
    if state.limiter.refused {
        return Failure::Memory(state.limiter.memory_bytes_max());
    }
    other(one_line(error))
}

/// The cause of an error in one short line: clients and records get it.
pub(super) fn one_line(error: &wasmtime::Error) -> String {
    const CHARS_MAX: usize = 300;
    let text = error.root_cause().to_string();
    text.lines().next().unwrap_or_default().chars().take(CHARS_MAX).collect()
}
