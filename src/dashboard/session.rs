//! Who has signed in, in memory only: a node that starts anew has no sessions. What a browser holds is 256 random bits; what is kept
//! here is their digest, so that looking one up tells nothing by its time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::domain::limits::{DASHBOARD_SESSION_LIFE, DASHBOARD_SESSIONS_MAX};

/// How long a code may be used. A browser that is being started takes seconds.
pub const CODE_LIFE: Duration = Duration::from_secs(60);
/// Codes that wait to be used; with one more the oldest is none any more.
const CODES_MAX: usize = 16;

/// Someone who has signed in. Cheap to clone.
#[derive(Clone)]
pub struct Session(Arc<Inner>);

struct Inner {
    digest: Secret,
    form_secret: String,
    ends_at: Instant,
    over: CancellationToken,
}

type Secret = [u8; 32];

/// The sessions of a node.
pub struct Sessions {
    clock: Arc<dyn Clock>,
    open: Mutex<HashMap<Secret, Session>>,
}

/// Codes that sign in once.
pub struct Codes {
    clock: Arc<dyn Clock>,
    /// With the time from which each is too old, the oldest first.
    waiting: Mutex<Vec<(Secret, Instant)>>,
}

/// The machine has no randomness.
#[derive(Debug, thiserror::Error)]
#[error("cannot draw random bits")]
pub struct NoRandomness(#[source] getrandom::Error);

impl Session {
    /// What a form of this session carries.
    #[must_use]
    pub fn form_secret(&self) -> &str {
        &self.0.form_secret
    }

    /// Whether a form that carries this is one of this session's.
    #[must_use]
    pub fn made(&self, form_secret: &str) -> bool {
        same(&digest(form_secret), &digest(&self.0.form_secret))
    }

    /// When it ends by itself.
    #[must_use]
    pub fn ends_at(&self) -> Instant {
        self.0.ends_at
    }

    /// Is cancelled when the session ends before that.
    #[must_use]
    pub fn over(&self) -> &CancellationToken {
        &self.0.over
    }
}

impl Sessions {
    /// No session yet.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, open: Mutex::default() }
    }

    /// A new session, and what the browser shows to come back to it. If there are too many, the one that would end first ends now.
    ///
    /// # Errors
    /// If the machine has no randomness.
    pub fn open(&self) -> Result<String, NoRandomness> {
        let (secret, form_secret) = (random()?, random()?);
        let now = self.clock.instant();
        let inner = Inner {
            digest: digest(&secret),
            form_secret,
            ends_at: now + DASHBOARD_SESSION_LIFE,
            over: CancellationToken::new(),
        };
        let session = Session(Arc::new(inner));
        let mut open = self.all();
        open.retain(|_, session| session.0.ends_at > now);
        if open.len() >= DASHBOARD_SESSIONS_MAX
            && let Some(first) = open.values().min_by_key(|session| session.0.ends_at).cloned()
        {
            first.0.over.cancel();
            open.remove(&first.0.digest);
        }
        open.insert(session.0.digest, session);
        Ok(secret)
    }

    /// The session that a browser shows `secret` for.
    #[must_use]
    pub fn get(&self, secret: &str) -> Option<Session> {
        let session = self.all().get(&digest(secret)).cloned()?;
        (session.0.ends_at > self.clock.instant()).then_some(session)
    }

    /// Ends a session, and the streams that it reads.
    pub fn end(&self, session: &Session) {
        self.all().remove(&session.0.digest);
        session.0.over.cancel();
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Secret, Session>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Codes {
    /// No code yet.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, waiting: Mutex::default() }
    }

    /// A new code, good for [`CODE_LIFE`].
    ///
    /// # Errors
    /// If the machine has no randomness.
    pub fn make(&self) -> Result<String, NoRandomness> {
        let code = random()?;
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= CODES_MAX {
            waiting.remove(0);
        }
        waiting.push((digest(&code), self.clock.instant() + CODE_LIFE));
        Ok(code)
    }

    /// Whether this is a code that was not used. It is now.
    #[must_use]
    pub fn take(&self, code: &str) -> bool {
        let (now, code) = (self.clock.instant(), digest(code));
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|(_, ends_at)| *ends_at > now);
        let place = waiting.iter().position(|(known, _)| same(known, &code));
        place.map(|place| waiting.remove(place)).is_some()
    }
}

/// 256 random bits, in hexadecimal digits.
fn random() -> Result<String, NoRandomness> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(NoRandomness)?;
    Ok(hex::encode(bytes))
}

fn digest(text: &str) -> Secret {
    Sha256::digest(text.as_bytes()).into()
}

/// Compares in a time that does not depend on where the two differ.
fn same(a: &Secret, b: &Secret) -> bool {
    a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    fn clock() -> Arc<ManualClock> {
        Arc::new(ManualClock::at(0))
    }

    #[test]
    fn a_session_lives_until_its_time_is_over_or_it_is_ended() {
        let clock = clock();
        let sessions = Sessions::new(Arc::<ManualClock>::clone(&clock));
        let (first, second) = (sessions.open().unwrap(), sessions.open().unwrap());
        assert_ne!(first, second);
        assert_eq!(first.len(), 64);
        assert!(sessions.get("").is_none() && sessions.get(&first[1..]).is_none());
        let session = sessions.get(&first).unwrap();
        assert!(session.made(session.form_secret()));
        assert!(!session.made("") && !session.made(&first));
        assert!(!sessions.get(&second).unwrap().made(session.form_secret()));
        sessions.end(&session);
        assert!(session.over().is_cancelled() && sessions.get(&first).is_none());
        clock.advance(DASHBOARD_SESSION_LIFE - Duration::from_secs(1));
        assert!(sessions.get(&second).is_some());
        clock.advance(Duration::from_secs(1));
        assert!(sessions.get(&second).is_none());
    }

    #[test]
    fn sessions_are_bounded_and_the_oldest_makes_room() {
        let clock = clock();
        let sessions = Sessions::new(Arc::<ManualClock>::clone(&clock));
        let first = sessions.open().unwrap();
        let oldest = sessions.get(&first).unwrap();
        let mut last = String::new();
        for _ in 0..DASHBOARD_SESSIONS_MAX {
            clock.advance(Duration::from_secs(1));
            last = sessions.open().unwrap();
        }
        assert_eq!(sessions.all().len(), DASHBOARD_SESSIONS_MAX);
        assert!(oldest.over().is_cancelled() && sessions.get(&first).is_none() && sessions.get(&last).is_some());
    }

    #[test]
    fn a_code_works_once_and_not_for_long() {
        let clock = clock();
        let codes = Codes::new(Arc::<ManualClock>::clone(&clock));
        let code = codes.make().unwrap();
        assert!(!codes.take("") && !codes.take("x"));
        assert!(codes.take(&code) && !codes.take(&code));
        let late = codes.make().unwrap();
        clock.advance(CODE_LIFE);
        assert!(!codes.take(&late));
        let many: Vec<String> = (0..=CODES_MAX).map(|_| codes.make().unwrap()).collect();
        assert!(!codes.take(&many[0]) && codes.take(&many[1]) && codes.take(&many[CODES_MAX]));
    }
}
