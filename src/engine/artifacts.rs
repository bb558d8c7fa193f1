//! Compiled code on disk: a node with a warm cache compiles nothing, and maps each artifact when it is first needed.
//!
//! An artifact's name is made of the module's digest and of everything that changes the machine code. Beside it stands its
//! length and checksum, which are checked before the code is mapped: what does not fit is compiled again.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use wasmtime::Engine;
use wasmtime::component::Component;

use crate::domain::module::{GuestKind, ModuleDigest};

/// The folder of artifacts of one node.
#[derive(Debug, Clone)]
pub struct Artifacts {
    folder: PathBuf,
}

impl Artifacts {
    /// Opens the folder, making it if it is not there.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn open(folder: PathBuf) -> io::Result<Self> {
        std::fs::create_dir_all(&folder)?;
        Ok(Self { folder })
    }

    fn path(&self, engine: &Engine, digest: ModuleDigest, kind: GuestKind) -> PathBuf {
        // The compatibility hash covers wasmtime's version, the target and every setting that matters.
        let mut hash = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hash);
        self.folder.join(format!("{digest}-{}-{:016x}.cwasm", kind.wasi(), hash.finish()))
    }

    /// The component of an artifact, if there is a sound one.
    #[must_use]
    pub fn load(&self, engine: &Engine, digest: ModuleDigest, kind: GuestKind) -> Option<Component> {
        let path = self.path(engine, digest, kind);
        let expected = std::fs::read_to_string(seal_path(&path)).ok()?;
        let bytes = std::fs::read(&path).ok()?;
        if expected != seal(&bytes) {
            tracing::warn!(path = %path.display(), "the compiled artifact is damaged; it is made again");
            return None;
        }
        drop(bytes);
        // SAFETY: the file was written by `store` from what this very build of wasmtime compiled for an engine with these
        // settings (its name says so), in a folder of the node's owner, and its checksum has just been verified.
        #[expect(unsafe_code, reason = "mapping compiled code is what an artifact cache is for")]
        let component = unsafe { Component::deserialize_file(engine, &path) };
        component
            .inspect_err(|error| tracing::warn!(path = %path.display(), %error, "the compiled artifact does not load; it is made again"))
            .ok()
    }

    /// Keeps the compiled code of a component. A cache that cannot be written costs time, and nothing else.
    pub fn store(&self, engine: &Engine, digest: ModuleDigest, kind: GuestKind, component: &Component) {
        let path = self.path(engine, digest, kind);
        if let Err(error) = component.serialize().map_err(io::Error::other).and_then(|bytes| write(&path, &bytes)) {
            tracing::warn!(path = %path.display(), %error, "the compiled artifact could not be kept");
        }
    }
}

fn seal_path(path: &Path) -> PathBuf {
    path.with_extension("seal")
}

fn seal(bytes: &[u8]) -> String {
    format!("{} {:08x}\n", bytes.len(), crc32fast::hash(bytes))
}

/// Writes the artifact, then its seal, each whole or not at all.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_whole(path, bytes)?;
    write_whole(&seal_path(path), seal(bytes).as_bytes())
}

fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    static COUNTER: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let unique = COUNTER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let temporary = path.with_extension(format!("tmp-{}-{unique}", std::process::id()));
    let mut file = std::fs::File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    std::fs::rename(&temporary, path)
}
