//! Modules as files: `<data_dir>/modules/<sha256>.wasm`. Identical bytes are stored once (E13).
//!
//! A file is written under a temporary name in [`ModuleStore::temp_dir`], proven there, and then adopted: synced, renamed, the
//! folder synced. So a file under its digest is whole, and a version that names it is committed only after that (`S2`). What
//! no version names is removed at start, when no upload can be under way.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::domain::module::ModuleDigest;

const SUFFIX: &str = ".wasm";

/// The modules of a node, by digest.
#[derive(Debug, Clone)]
pub struct ModuleStore {
    dir: PathBuf,
    temp_dir: PathBuf,
}

impl ModuleStore {
    /// The modules of `data_dir`, whose folders are made if they are missing.
    ///
    /// # Errors
    /// If they cannot be made.
    pub fn open(data_dir: &Path) -> io::Result<Self> {
        let dir = data_dir.join("modules");
        let temp_dir = dir.join("temp");
        fs::create_dir_all(&temp_dir)?;
        sync_dir(&dir)?;
        sync_dir(data_dir)?;
        Ok(Self { dir, temp_dir })
    }

    /// Where the file of `digest` is, or would be.
    #[must_use]
    pub fn path(&self, digest: ModuleDigest) -> PathBuf {
        self.dir.join(format!("{digest}{SUFFIX}"))
    }

    /// Where uploads are written until they are adopted: the same file system, so that a rename is enough.
    #[must_use]
    pub fn temp_dir(&self) -> &Path {
        &self.temp_dir
    }

    /// Makes the file at `temp`, whose bytes have `digest`, the module of that digest, durably. If there is one already, `temp`
    /// is only removed.
    ///
    /// # Errors
    /// If it cannot be synced or renamed; then nothing was adopted.
    pub async fn adopt(&self, temp: &Path, digest: ModuleDigest) -> io::Result<()> {
        let (temp, path, dir) = (temp.to_owned(), self.path(digest), self.dir.clone());
        blocking(move || {
            let size = fs::metadata(&temp)?.len();
            if fs::metadata(&path).is_ok_and(|there| there.is_file() && there.len() == size) {
                fs::remove_file(&temp)?;
            } else {
                File::open(&temp)?.sync_all()?;
                fs::rename(&temp, &path)?;
            }
            // Also where it was there already: whoever renamed it may not have come to this line yet.
            sync_dir(&dir)
        })
        .await
    }

    /// The bytes of a module.
    ///
    /// # Errors
    /// If there is no such file, or it cannot be read.
    pub async fn read(&self, digest: ModuleDigest) -> io::Result<Vec<u8>> {
        let path = self.path(digest);
        blocking(move || fs::read(path)).await
    }

    /// Removes temporary files and the modules that are not `live`. Only at start: an upload that is under way has adopted its
    /// module before its version is known.
    ///
    /// # Errors
    /// If the folder cannot be read. A file that cannot be removed is left, and said so in the log.
    pub fn sweep(&self, live: &HashSet<ModuleDigest>) -> io::Result<()> {
        for path in files(&self.temp_dir)? {
            remove(&path);
        }
        for path in files(&self.dir)? {
            let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(SUFFIX));
            // Files that are not ours stay.
            let digest = name.and_then(|name| name.parse::<ModuleDigest>().ok());
            if digest.is_some_and(|digest| !live.contains(&digest)) {
                remove(&path);
            }
        }
        Ok(())
    }

    /// Those of `live` whose files are missing: their versions cannot run.
    pub(super) fn missing(&self, live: &HashSet<ModuleDigest>) -> Vec<ModuleDigest> {
        live.iter().copied().filter(|digest| !self.path(*digest).is_file()).collect()
    }
}

fn files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let paths = fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.path()));
    let paths: Vec<PathBuf> = paths.collect::<io::Result<_>>()?;
    Ok(paths.into_iter().filter(|path| path.is_file()).collect())
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        tracing::warn!(path = %path.display(), %error, "cannot remove a file that nothing refers to");
    }
}

/// Makes the names in a folder durable. Only Unix can, and has to.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(dir)?.sync_all() } else { Ok(()) }
}

/// Runs what waits for the disk where it may wait.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|panic| Err(io::Error::other(panic)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(n: u8) -> ModuleDigest {
        ModuleDigest::from_bytes([n; 32])
    }

    async fn adopt(modules: &ModuleStore, n: u8) {
        let temp = modules.temp_dir().join(format!("upload-{n}"));
        fs::write(&temp, [n; 3]).unwrap();
        modules.adopt(&temp, digest(n)).await.unwrap();
        assert!(!temp.exists());
    }

    #[tokio::test]
    async fn an_adopted_module_is_stored_once_under_its_digest() {
        let dir = tempfile::tempdir().unwrap();
        let modules = ModuleStore::open(dir.path()).unwrap();
        adopt(&modules, 7).await;
        adopt(&modules, 7).await;
        assert_eq!(modules.read(digest(7)).await.unwrap(), [7; 3]);
        assert_eq!(files(&modules.dir).unwrap(), [modules.path(digest(7))]);
        // A torn file of that name gives way to a whole one.
        fs::write(modules.path(digest(7)), [7; 1]).unwrap();
        adopt(&modules, 7).await;
        assert_eq!(modules.read(digest(7)).await.unwrap(), [7; 3]);
        assert_eq!(modules.read(digest(8)).await.unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(modules.adopt(Path::new("/nowhere/at/all"), digest(8)).await.is_err());
    }

    #[tokio::test]
    async fn a_sweep_leaves_what_is_live_and_what_is_not_ours() {
        let dir = tempfile::tempdir().unwrap();
        let modules = ModuleStore::open(dir.path()).unwrap();
        adopt(&modules, 1).await;
        adopt(&modules, 2).await;
        fs::write(modules.dir.join("README.wasm"), "mine").unwrap();
        fs::write(modules.temp_dir().join("half"), "x").unwrap();
        let live = HashSet::from([digest(1), digest(3)]);
        assert_eq!(modules.missing(&live), [digest(3)]);
        modules.sweep(&live).unwrap();
        assert!(modules.path(digest(1)).exists() && !modules.path(digest(2)).exists());
        assert!(modules.dir.join("README.wasm").exists());
        assert!(files(&modules.temp_dir).unwrap().is_empty());
    }
}
