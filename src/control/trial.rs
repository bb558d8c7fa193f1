//! What an upload would come to: resolved, proven and measured as an upload is, and then nothing is stored. For who shows the effect
//! before it is made.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use crate::control::fault::{Code, Fault, Outcome};
use crate::control::metadata::{Call, Metadata};
use crate::control::{Api, kv, upload};
use crate::domain::config::{Config, Inheritance};
use crate::domain::id::WorkerName;
use crate::domain::limits::DASHBOARD_UPLOADS_MAX;
use crate::domain::module::{CodeOrigin, Compilation, ModuleDigest, ModuleFacts, Startup};

/// The version that an upload would make.
#[derive(Debug, Clone)]
pub struct Trial {
    pub config: Config,
    pub module: ModuleFacts,
    pub startup: Startup,
    /// What the metadata asks for without effect.
    pub notes: Vec<String>,
}

/// How modules of trials were compiled. The upload after a trial finds their code made; its version tells of when it was.
#[derive(Debug, Default)]
pub struct Trials(Mutex<VecDeque<(ModuleDigest, Compilation)>>);

impl Api {
    /// Tries an upload of the module in `file`, whose bytes have `digest`, to be deployed at once. Its code is kept, so that the upload
    /// itself takes less.
    ///
    /// # Errors
    /// What the upload would be refused for.
    pub async fn try_upload(
        &self,
        worker: &WorkerName,
        metadata: &Value,
        file: &Path,
        digest: ModuleDigest,
    ) -> Outcome<Trial> {
        let bytes = serde_json::to_vec(metadata).map_err(|error| {
            Fault::new(Code::Invalid, "the configuration cannot be written as JSON").caused_by(error)
        })?;
        let metadata = Metadata::parse(&bytes, worker, Call::Deploy)?;
        let config = upload::resolve(self, worker, &metadata, Inheritance::Lenient)?.config;
        kv::all_exist(self, &config).await?;
        let migration = metadata.migration.as_ref();
        self.catalog.check_classes(worker, &config, migration)?;
        let proven = upload::prove(self, worker, file, digest, &config).await?;
        self.catalog.check_module(worker, &config, migration, &proven.facts)?;
        let startup = self.trials.remembered(digest, proven.startup);
        if let Some(compilation) = startup.compilation.filter(|made| made.code != CodeOrigin::Known) {
            self.trials.remember(digest, compilation);
        }
        Ok(Trial { config, module: proven.facts, startup, notes: metadata.notes })
    }
}

impl Trials {
    /// The same, but for code that a trial made: then that is told.
    pub(super) fn remembered(&self, digest: ModuleDigest, startup: Startup) -> Startup {
        let known = startup.compilation.is_none_or(|found| found.code == CodeOrigin::Known);
        let made = || self.all().iter().find(|(of, _)| *of == digest).map(|(_, made)| *made);
        let made = known.then(made).flatten();
        Startup { compilation: made.or(startup.compilation), ..startup }
    }

    /// A version was made of it: the next of the same module was compiled before.
    pub(super) fn forget(&self, digest: ModuleDigest) {
        self.all().retain(|(of, _)| *of != digest);
    }

    fn remember(&self, digest: ModuleDigest, made: Compilation) {
        let mut all = self.all();
        all.retain(|(of, _)| *of != digest);
        if all.len() >= DASHBOARD_UPLOADS_MAX {
            all.pop_front();
        }
        all.push_back((digest, made));
    }

    fn all(&self) -> MutexGuard<'_, VecDeque<(ModuleDigest, Compilation)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_after_its_trial_tells_of_the_compiler_and_the_next_does_not() {
        let (trials, digest) = (Trials::default(), ModuleDigest::from_bytes([7; 32]));
        let started =
            |code| Startup { time_ms: 1, memory_bytes: 2, compilation: Some(Compilation { time_ms: 900, code }) };
        let compiled = Compilation { time_ms: 4_000, code: CodeOrigin::Compiled };
        trials.remember(digest, compiled);
        assert_eq!(trials.remembered(digest, started(CodeOrigin::Known)).compilation, Some(compiled));
        // What was compiled again, since the cache had lost it, tells of itself.
        assert_eq!(trials.remembered(digest, started(CodeOrigin::Compiled)), started(CodeOrigin::Compiled));
        trials.forget(digest);
        assert_eq!(trials.remembered(digest, started(CodeOrigin::Known)), started(CodeOrigin::Known));
    }

    #[test]
    fn only_so_many_trials_are_remembered() {
        let trials = Trials::default();
        let made = Compilation { time_ms: 1, code: CodeOrigin::Compiled };
        for n in 0..=u8::try_from(DASHBOARD_UPLOADS_MAX).unwrap() {
            trials.remember(ModuleDigest::from_bytes([n; 32]), made);
        }
        assert_eq!(trials.all().len(), DASHBOARD_UPLOADS_MAX);
        assert!(trials.all().iter().all(|(digest, _)| *digest != ModuleDigest::from_bytes([0; 32])));
    }
}
