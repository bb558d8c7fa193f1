//! The only clock of the tests, and the only way in which they wait for what another process does.

use std::time::{Duration, Instant};

/// Longer than anything takes that is waited for, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// Now, to measure what a process of its own took.
#[expect(clippy::disallowed_methods, reason = "a process cannot be given a clock of ours")]
pub fn now() -> Instant {
    Instant::now()
}

/// Asks until there is an answer; panics if `what` has not come about after a long while.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let began = now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(began.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
