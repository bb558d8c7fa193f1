//! Uploads that are sent again because their answer was lost.
//!
//! An upload whose client goes away before the proof is done makes no version: it ends with its connection. Later than that the
//! node cannot know whether an answer arrived, and wrangler sends the same again by itself, up to twice, after a connection that
//! broke or an answer 5xx. What it sends then does not tell a repetition from another upload of the same, which is another
//! version (`E13`). So who wants to be safe says so: uploads of a worker with the same `Idempotency-Key` and the same content
//! (metadata and program) are one upload, for ten minutes, while the node runs.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::HeaderMap;
use sha2::{Digest, Sha256};
use tokio::sync::OwnedMutexGuard;

use crate::catalog::Published;
use crate::clock;
use crate::control::fault::{Code, Fault, Outcome};
use crate::control::metadata::Call;
use crate::domain::id::WorkerName;
use crate::domain::module::ModuleDigest;

const HEADER: &str = "idempotency-key";
const KEY_BYTES_MAX: usize = 255;
/// Longer than any client goes on trying by itself.
const KEPT_FOR: Duration = Duration::from_secs(600);
/// Uploads remembered. The oldest are forgotten first.
const KEPT_MAX: usize = 1024;

/// The uploads with a key that came lately.
#[derive(Debug, Default)]
pub struct Repeats(Mutex<VecDeque<Known>>);

#[derive(Debug)]
struct Known {
    identity: [u8; 32],
    since: Instant,
    outcome: Arc<tokio::sync::Mutex<Option<Published>>>,
}

/// The turn of one upload among those that are the same: nobody else with its identity is at it. Holds what the one before came to.
pub(super) type Turn = OwnedMutexGuard<Option<Published>>;

/// What the client calls this upload, if it does.
pub(super) fn key(headers: &HeaderMap) -> Outcome<Option<&[u8]>> {
    match headers.get(HEADER).map(|value| value.as_bytes()) {
        None => Ok(None),
        Some(key) if (1..=KEY_BYTES_MAX).contains(&key.len()) => Ok(Some(key)),
        Some(_) => {
            let message = format!("`Idempotency-Key` has 1 to {KEY_BYTES_MAX} bytes");
            Err(Fault::at(Code::Parameter, "Idempotency-Key", message))
        }
    }
}

/// What makes two uploads the same.
pub(super) fn identity(
    key: &[u8],
    worker: &WorkerName,
    call: Call,
    metadata: &[u8],
    program: ModuleDigest,
) -> [u8; 32] {
    let call: &[u8] = if call == Call::Deploy { b"deploy" } else { b"version" };
    let mut hash = Sha256::new();
    for part in [key, worker.as_str().as_bytes(), call, metadata, program.to_string().as_bytes()] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

impl Repeats {
    /// Waits until no other upload of this identity is under way.
    pub(super) async fn turn(&self, identity: [u8; 32]) -> Turn {
        let outcome = self.outcome(identity, clock::monotonic());
        outcome.lock_owned().await
    }

    fn outcome(&self, identity: [u8; 32], now: Instant) -> Arc<tokio::sync::Mutex<Option<Published>>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // In the order of their age.
        while known.front().is_some_and(|oldest| now.duration_since(oldest.since) >= KEPT_FOR) {
            known.pop_front();
        }
        if let Some(same) = known.iter().find(|known| known.identity == identity) {
            return Arc::clone(&same.outcome);
        }
        if known.len() >= KEPT_MAX {
            known.pop_front();
        }
        let outcome = Arc::default();
        known.push_back(Known { identity, since: now, outcome: Arc::clone(&outcome) });
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_is_known_for_ten_minutes_and_among_the_newest_thousand() {
        let (repeats, start) = (Repeats::default(), clock::monotonic());
        let of = |n: u8, seconds: u64| repeats.outcome([n; 32], start + Duration::from_secs(seconds));
        let first = of(1, 0);
        assert!(Arc::ptr_eq(&first, &of(1, 599)));
        assert!(!Arc::ptr_eq(&first, &of(2, 599)));
        let second = of(1, 600);
        assert!(!Arc::ptr_eq(&first, &second));
        for n in 0..KEPT_MAX {
            let mut identity = [0xff; 32];
            identity[..8].copy_from_slice(&n.to_be_bytes());
            repeats.outcome(identity, start + Duration::from_secs(601));
        }
        assert!(!Arc::ptr_eq(&second, &of(1, 601)));
    }

    #[test]
    fn an_identity_is_of_all_that_makes_an_upload() {
        let (one, two) = ("one".parse().unwrap(), "two".parse().unwrap());
        let program = |byte| ModuleDigest::from_bytes([byte; 32]);
        let of = |key: &str, worker: &WorkerName, call, metadata: &str, byte| {
            identity(key.as_bytes(), worker, call, metadata.as_bytes(), program(byte))
        };
        let first = of("k", &one, Call::Deploy, "{}", 1);
        assert_eq!(first, of("k", &one, Call::Deploy, "{}", 1));
        let others = [
            of("l", &one, Call::Deploy, "{}", 1),
            of("k", &two, Call::Deploy, "{}", 1),
            of("k", &one, Call::Version, "{}", 1),
            of("k", &one, Call::Deploy, "{ }", 1),
            of("k", &one, Call::Deploy, "{}", 2),
        ];
        assert!(others.iter().all(|other| *other != first));
    }
}
