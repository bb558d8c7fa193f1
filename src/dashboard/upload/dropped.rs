//! What was dropped on a form and waits to be confirmed: a configuration's text and a module's file. Bounded in number and in time, and
//! only for the session that dropped it; whatever leaves here is removed from the disk with it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::clock::Clock;
use crate::control::ModuleFile;
use crate::dashboard::session::Session;
use crate::domain::id::WorkerName;
use crate::domain::limits::{DASHBOARD_UPLOAD_LIFE, DASHBOARD_UPLOADS_MAX};
use crate::project::syntax::Language;

/// Files that were dropped together.
#[derive(Debug, Clone, Default)]
pub struct Dropped {
    /// The worker on whose page that was.
    pub on: Option<WorkerName>,
    pub configuration: Option<Configuration>,
    pub module: Option<Module>,
}

/// A configuration file as it came.
#[derive(Debug, Clone)]
pub struct Configuration {
    pub file_name: String,
    pub language: Language,
    pub text: Arc<str>,
}

/// A module, and what its file was called. Cheap to clone: the file is there as long as one of the clones is.
#[derive(Debug, Clone)]
pub struct Module {
    pub file_name: String,
    pub file: Arc<ModuleFile>,
}

/// All that wait.
pub struct Waiting {
    clock: Arc<dyn Clock>,
    /// The oldest first.
    all: Mutex<Vec<Entry>>,
}

struct Entry {
    key: String,
    /// What only forms of the session carry that dropped it.
    owner: String,
    until: Instant,
    dropped: Dropped,
}

impl Waiting {
    /// Nothing waits.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, all: Mutex::default() }
    }

    /// Lets these files wait for `session`. Returns the key that they are found by; none if the machine has no randomness.
    #[must_use]
    pub fn keep(&self, session: &Session, dropped: Dropped) -> Option<String> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).ok()?;
        let key = hex::encode(random);
        let until = self.clock.instant() + DASHBOARD_UPLOAD_LIFE;
        let entry = Entry { key: key.clone(), owner: session.form_secret().to_owned(), until, dropped };
        let mut all = self.present();
        if all.len() >= DASHBOARD_UPLOADS_MAX {
            all.remove(0);
        }
        all.push(entry);
        Some(key)
    }

    /// What waits under `key`, if it is this session's.
    #[must_use]
    pub fn get(&self, session: &Session, key: &str) -> Option<Dropped> {
        let all = self.present();
        let entry = all.iter().find(|entry| entry.key == key && session.made(&entry.owner))?;
        Some(entry.dropped.clone())
    }

    /// It waits no longer.
    pub fn remove(&self, session: &Session, key: &str) {
        self.present().retain(|entry| entry.key != key || !session.made(&entry.owner));
    }

    /// Nothing of a session that has ended waits.
    pub fn end(&self, session: &Session) {
        self.present().retain(|entry| !session.made(&entry.owner));
    }

    /// Removes what has waited for too long.
    pub fn tidy(&self) {
        drop(self.present());
    }

    fn present(&self) -> MutexGuard<'_, Vec<Entry>> {
        let now = self.clock.instant();
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|entry| entry.until > now);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::dashboard::session::Sessions;

    fn sessions(clock: &Arc<ManualClock>) -> [Session; 2] {
        let sessions = Sessions::new(Arc::<ManualClock>::clone(clock));
        [(); 2].map(|()| sessions.get(&sessions.open().unwrap()).unwrap())
    }

    fn named(file_name: &str) -> Dropped {
        let text = Arc::from("");
        let configuration = Configuration { file_name: file_name.to_owned(), language: Language::Toml, text };
        Dropped { configuration: Some(configuration), ..Dropped::default() }
    }

    #[test]
    fn files_wait_for_who_dropped_them_and_not_for_ever() {
        let clock = Arc::new(ManualClock::at(0));
        let [ours, theirs] = sessions(&clock);
        let waiting = Waiting::new(Arc::<ManualClock>::clone(&clock));
        let key = waiting.keep(&ours, named("a.toml")).unwrap();
        assert_eq!(waiting.get(&ours, &key).unwrap().configuration.unwrap().file_name, "a.toml");
        assert!(waiting.get(&theirs, &key).is_none() && waiting.get(&ours, "").is_none());
        waiting.remove(&theirs, &key);
        assert!(waiting.get(&ours, &key).is_some());
        clock.advance(DASHBOARD_UPLOAD_LIFE);
        assert!(waiting.get(&ours, &key).is_none());
        let key = waiting.keep(&ours, named("b.toml")).unwrap();
        waiting.remove(&ours, &key);
        assert!(waiting.get(&ours, &key).is_none());
        let (key, other) =
            (waiting.keep(&ours, named("c.toml")).unwrap(), waiting.keep(&theirs, named("d.toml")).unwrap());
        waiting.end(&ours);
        assert!(waiting.get(&ours, &key).is_none() && waiting.get(&theirs, &other).is_some());
    }

    #[test]
    fn one_more_than_may_wait_sends_the_oldest_away() {
        let clock = Arc::new(ManualClock::at(0));
        let [ours, _] = sessions(&clock);
        let waiting = Waiting::new(clock);
        let keys: Vec<String> =
            (0..=DASHBOARD_UPLOADS_MAX).map(|_| waiting.keep(&ours, named("a.toml")).unwrap()).collect();
        assert!(waiting.get(&ours, &keys[0]).is_none());
        assert!(keys[1..].iter().all(|key| waiting.get(&ours, key).is_some()));
    }
}
