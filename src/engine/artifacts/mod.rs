//! Compiled code on disk: a node with a warm cache compiles nothing, and maps each artifact when it is first needed.
//!
//! An artifact's name is made of the module's digest and of everything that changes the machine code. Beside it stands its
//! length and checksum, which are checked before the code is mapped: what does not fit is compiled again. A large one is not read
//! for that as long as its file is the one that was written (inode, length and time of change), or was checked in this process.
//!
//! A component whose [`template`] was compiled before is not compiled: its artifact is copied from one of the same template, and
//! what varies is put in its place. A script in a language whose tool packs a whole engine beside it is so ready in a
//! fraction of a second.

mod shelf;
mod template;

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use wasmtime::Engine;
use wasmtime::component::Component;

use crate::clock::{Clock as _, SystemClock};
use crate::domain::limits::{ARTIFACT_STALE_AFTER, TEMPLATE_CODE_BYTES_MIN};
use crate::domain::module::{GuestKind, ModuleDigest};
use shelf::{Entry, Need, Shelf};
use template::{Places, Template};

/// The artifacts of one node.
#[derive(Debug, Clone)]
pub struct Artifacts {
    shelf: Arc<Shelf>,
    /// From how much code on a component is compiled by its template.
    template_code_bytes_min: u64,
}

/// Who wants the code of a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Claim {
    /// A version that gets no traffic by itself.
    Version,
    /// A version in an active deployment, or one that runs.
    Traffic,
}

impl Artifacts {
    /// Opens the folder, making it if it is not there. It takes up to `bytes_max`, and for a moment what was compiled since it
    /// was last tidied.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn open(folder: PathBuf, bytes_max: u64) -> io::Result<Self> {
        let shelf = Arc::new(Shelf::open(folder, bytes_max)?);
        Ok(Self { shelf, template_code_bytes_min: TEMPLATE_CODE_BYTES_MIN })
    }

    /// The component of an artifact, if there is a sound one.
    #[must_use]
    pub fn load(&self, engine: &Engine, digest: ModuleDigest, kind: GuestKind) -> Option<Component> {
        let name = name(engine, digest, kind);
        self.shelf.is_sound(&name).then(|| self.map(engine, &name)).flatten()
    }

    /// Makes the component of a module's bytes, and keeps its code: compiled, or made of one that has the same template. Takes
    /// cores for seconds. A cache that cannot be written costs time, and nothing else.
    ///
    /// # Errors
    /// If the bytes do not compile.
    pub fn make(
        &self,
        engine: &Engine,
        digest: ModuleDigest,
        kind: GuestKind,
        component: &[u8],
    ) -> wasmtime::Result<Component> {
        let name = name(engine, digest, kind);
        // Without copy-on-write a picture is copied into each instance, and its empty pages are memory.
        let is_mapped = engine.get_memory_init_cow();
        let template = is_mapped.then(|| Template::of(component, self.template_code_bytes_min)).flatten();
        if let Some(template) = &template {
            if let Some(code) = self.of_model(engine, kind, template, &name) {
                return Ok(code);
            }
            if let Some(code) = self.of_template(engine, kind, template, &name)? {
                return Ok(code);
            }
        }
        drop(template);
        let code = Component::new(engine, component)?;
        self.store(engine, digest, kind, &code);
        Ok(code)
    }

    /// Keeps the compiled code of a component. A cache that cannot be written costs time, and nothing else.
    pub fn store(&self, engine: &Engine, digest: ModuleDigest, kind: GuestKind, component: &Component) {
        let name = name(engine, digest, kind);
        match component.serialize() {
            Ok(bytes) => self.keep(&name, "", &bytes),
            Err(error) => tracing::warn!(artifact = name, %error, "the compiled artifact could not be kept"),
        }
    }

    /// Whether more is kept than the limit allows, as far as is known without looking.
    #[must_use]
    pub fn is_over_full(&self) -> bool {
        self.shelf.is_over_full()
    }

    /// Removes the code of modules that no one claims, and of engines other than `engines`, if it was not used for long; then, if
    /// the limit is passed, more of it: what was used longest ago goes first, what is claimed by traffic last. Reads the folder.
    pub fn tidy(&self, engines: &[&Engine], claims: &HashMap<ModuleDigest, Claim>) {
        let stale_ms = u64::try_from(ARTIFACT_STALE_AFTER.as_millis()).unwrap_or(u64::MAX);
        let stale_before_ms = SystemClock.now_ms().saturating_sub(stale_ms);
        let engines: Vec<String> = engines.iter().map(|engine| format!("{:016x}", compatibility(engine))).collect();
        let need = |entry: &Entry| {
            let digest = entry.name.get(..64).and_then(|digest| digest.parse().ok());
            let claim = digest.and_then(|digest: ModuleDigest| claims.get(&digest));
            let runs_here = engines.iter().any(|engine| entry.name.ends_with(engine));
            match claim {
                _ if entry.used_ms < stale_before_ms && !(runs_here && claim.is_some()) => Need::Stale,
                Some(Claim::Traffic) => Need::Traffic,
                Some(Claim::Version) | None => Need::Some,
            }
        };
        match self.shelf.tidy(need) {
            Ok(tidied) if tidied.needed > 0 => tracing::warn!(
                removed = tidied.removed,
                limit_bytes = self.shelf.bytes_max(),
                "the artifact cache is too small for what is deployed: {} artifacts were removed that requests will wait for; raise `--artifact-cache`",
                tidied.needed
            ),
            Ok(tidied) if tidied.removed > 0 => {
                tracing::info!(removed = tidied.removed, left_bytes = tidied.bytes, "compiled artifacts were removed");
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "the artifact cache could not be looked through"),
        }
    }

    /// By an artifact that has the same template, if there is one that is sound.
    fn of_model(&self, engine: &Engine, kind: GuestKind, template: &Template, name: &str) -> Option<Component> {
        let (note, key) = (note_name(engine, kind, template), template.key.to_string());
        let (model, places) = self.shelf.read_note(&note)?;
        let places: Places = serde_json::from_str(&places).ok()?;
        let mut bytes = self.shelf.read_tagged(&model, &key)?;
        template.fill(&mut bytes, &places)?;
        self.keep(name, &key, &bytes);
        // The newest is the last that goes.
        self.note(&note, name, &places);
        let code = self.of_bytes(engine, name, &bytes);
        match &code {
            Ok(_) => {
                tracing::info!(artifact = name, model, "took the code of a component that differs in its data only")
            }
            Err(error) => {
                tracing::warn!(artifact = name, model, %error, "the code of another does not load; it is compiled")
            }
        }
        code.ok()
    }

    /// By compiling the template; `None` if its patterns are not found in the code.
    fn of_template(
        &self,
        engine: &Engine,
        kind: GuestKind,
        template: &Template,
        name: &str,
    ) -> wasmtime::Result<Option<Component>> {
        let mut bytes = engine.precompile_component(&template.component)?;
        let filled = template.find(&bytes).and_then(|places| template.fill(&mut bytes, &places).map(|()| places));
        let Some(places) = filled else {
            tracing::warn!(
                artifact = name,
                "the compiled code does not show where its data is; it is compiled as it is"
            );
            return Ok(None);
        };
        self.keep(name, &template.key.to_string(), &bytes);
        self.note(&note_name(engine, kind, template), name, &places);
        self.of_bytes(engine, name, &bytes).map(Some)
    }

    fn keep(&self, name: &str, tag: &str, bytes: &[u8]) {
        if let Err(error) = self.shelf.write(name, tag, bytes) {
            tracing::warn!(artifact = name, %error, "the compiled artifact could not be kept");
        }
    }

    /// Notes that others with the same template can be made of this artifact.
    fn note(&self, note: &str, name: &str, places: &Places) {
        let places = serde_json::to_string(places).map_err(io::Error::other);
        if let Err(error) = places.and_then(|places| self.shelf.write_note(note, name, &places)) {
            tracing::warn!(artifact = name, %error, "that others can be made of the artifact could not be noted");
        }
    }

    fn map(&self, engine: &Engine, name: &str) -> Option<Component> {
        let path = self.shelf.path(name);
        // SAFETY: the file was written by `keep` from what this very build of wasmtime compiled for an engine with these
        // settings (its name says so), in a folder of the node's owner, and it is as it was then: by its checksum, or since its
        // file has not changed.
        #[expect(unsafe_code, reason = "mapping compiled code is what an artifact cache is for")]
        let component = unsafe { Component::deserialize_file(engine, &path) };
        component
            .inspect_err(|error| tracing::warn!(path = %path.display(), %error, "the compiled artifact does not load; it is made again"))
            .ok()
    }

    /// The component of bytes that have just been kept: mapped, or copied if they could not be kept.
    fn of_bytes(&self, engine: &Engine, name: &str, bytes: &[u8]) -> wasmtime::Result<Component> {
        if self.shelf.holds(name, bytes)
            && let Some(component) = self.map(engine, name)
        {
            return Ok(component);
        }
        // SAFETY: these bytes were compiled by this build of wasmtime for this engine. What was put in place since are data of
        // the guest, at places that held nothing else.
        #[expect(unsafe_code, reason = "loading compiled code is what an artifact cache is for")]
        unsafe {
            Component::deserialize(engine, bytes)
        }
    }
}

fn name(engine: &Engine, digest: ModuleDigest, kind: GuestKind) -> String {
    format!("{digest}-{}-{:016x}", kind.wasi(), compatibility(engine))
}

fn note_name(engine: &Engine, kind: GuestKind, template: &Template) -> String {
    format!("{}-{}-{:016x}", template.key, kind.wasi(), compatibility(engine))
}

/// A hash over wasmtime's version, the target and every setting that matters.
fn compatibility(engine: &Engine) -> u64 {
    let mut hash = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hash);
    hash.finish()
}

#[cfg(test)]
mod tests;
