//! Compiled code on disk: a node with a warm cache compiles nothing, and maps each artifact when it is first needed.
//!
//! An artifact's name is made of the module's digest and of everything that changes the machine code. Beside it stands its
//! length and checksum, which are checked before the code is mapped: what does not fit is compiled again.
//!
//! A component whose [`template`] was compiled before is not compiled: its artifact is copied from one of the same template, and
//! what varies is put in its place. A script in a language whose tool packs a whole engine beside it is so ready in a
//! fraction of a second.

mod shelf;
mod template;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::domain::module::{GuestKind, ModuleDigest};
use shelf::Shelf;
use template::{Places, Template};

/// The artifacts of one node.
#[derive(Debug, Clone)]
pub struct Artifacts {
    shelf: Shelf,
}

/// An artifact that others with the same template can be made of.
#[derive(Serialize, Deserialize)]
struct Model {
    artifact: String,
    places: Places,
}

impl Artifacts {
    /// Opens the folder, making it if it is not there.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn open(folder: PathBuf) -> io::Result<Self> {
        Ok(Self { shelf: Shelf::open(folder)? })
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
        let template = Template::of(component);
        if let Some(template) = &template {
            if let Some(code) = self.of_model(engine, kind, template, &name)? {
                return Ok(code);
            }
            if let Some(code) = self.of_template(engine, kind, template, &name)? {
                return Ok(code);
            }
        }
        drop(template);
        let code = Component::new(engine, component)?;
        self.keep(&name, "", &code.serialize()?);
        Ok(code)
    }

    /// By an artifact that has the same template.
    fn of_model(
        &self,
        engine: &Engine,
        kind: GuestKind,
        template: &Template,
        name: &str,
    ) -> wasmtime::Result<Option<Component>> {
        let file = model_file(engine, kind, template);
        let key = template.key.to_string();
        let Some(model) = self.shelf.read_note(&file).and_then(|note| serde_json::from_str::<Model>(&note).ok()) else {
            return Ok(None);
        };
        let Some(mut bytes) = self.shelf.read_tagged(&model.artifact, &key) else { return Ok(None) };
        if template.fill(&mut bytes, &model.places).is_none() {
            return Ok(None);
        }
        self.keep(name, &key, &bytes);
        // The newest is the last that will be evicted.
        self.note(&file, &Model { artifact: name.to_owned(), places: model.places });
        self.of_bytes(engine, name, &bytes).map(Some)
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
            tracing::warn!(artifact = name, "the compiled code does not show where its data is; it is compiled as it is");
            return Ok(None);
        };
        self.keep(name, &template.key.to_string(), &bytes);
        self.note(&model_file(engine, kind, template), &Model { artifact: name.to_owned(), places });
        self.of_bytes(engine, name, &bytes).map(Some)
    }

    fn keep(&self, name: &str, tag: &str, bytes: &[u8]) {
        if let Err(error) = self.shelf.write(name, tag, bytes) {
            tracing::warn!(artifact = name, %error, "the compiled artifact could not be kept");
        }
    }

    fn note(&self, file: &str, model: &Model) {
        let note = serde_json::to_string(model).map_err(io::Error::other);
        if let Err(error) = note.and_then(|note| self.shelf.write_note(file, &note)) {
            tracing::warn!(file, %error, "what the compiled artifact is a model for could not be kept");
        }
    }

    fn map(&self, engine: &Engine, name: &str) -> Option<Component> {
        let path = self.shelf.path(name);
        // SAFETY: the file was written by `keep` from what this very build of wasmtime compiled for an engine with these
        // settings (its name says so), in a folder of the node's owner, and its checksum has just been verified.
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

fn model_file(engine: &Engine, kind: GuestKind, template: &Template) -> String {
    format!("{}-{}-{:016x}", template.key, kind.wasi(), compatibility(engine))
}

/// A hash over wasmtime's version, the target and every setting that matters.
fn compatibility(engine: &Engine) -> u64 {
    let mut hash = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hash);
    hash.finish()
}
