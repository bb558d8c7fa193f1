//! How a store fails. [`CommitError`] answers the writer's first question, *did it happen?*; [`Error`] says what was
//! attempted, where, and why that failed. `Display` is one level; the rest is in `source()`.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::Key;

/// What went wrong below. Shared, because one failed sync is the answer to a whole group of commits.
pub type Cause = Arc<dyn std::error::Error + Send + Sync>;

/// Why a store could not do something.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    #[error("cannot {attempt}: the disk that holds `{}` is full", path.display())]
    DiskFull { attempt: &'static str, path: PathBuf, source: Cause },

    #[error("cannot {attempt}: `{}` may not be written", path.display())]
    ReadOnly { attempt: &'static str, path: PathBuf, source: Cause },

    #[error("cannot {attempt}: another program keeps `{}` locked", path.display())]
    Busy { attempt: &'static str, path: PathBuf, source: Cause },

    #[error("cannot {attempt}: `{}` is damaged; restore it from a backup", path.display())]
    Corrupt { attempt: &'static str, path: PathBuf, source: Cause },

    #[error("cannot {attempt} in `{}`", path.display())]
    Io { attempt: &'static str, path: PathBuf, source: Cause },

    /// P8: the engine does not know what is on the disk, and will not build on it.
    #[error("the store takes no commits since one failed half-way; stop this node and start it again")]
    Poisoned { source: Cause },

    /// P9.
    #[error("the folder `{}` is in use by another node", dir.display())]
    InUse { dir: PathBuf },

    #[error("`{}` is not a Sluice store; choose another folder", path.display())]
    Foreign { path: PathBuf },

    #[error(
        "`{}` has format {found}, and this Sluice knows formats up to {supported}; start a newer Sluice", path.display()
    )]
    NewerFormat { path: PathBuf, found: i64, supported: i64 },

    #[error("{what} of {bytes} bytes is larger than a store takes ({bytes_max} bytes)")]
    TooLarge { what: &'static str, bytes: usize, bytes_max: usize },

    #[error("the store is closed")]
    Closed,
}

/// What became of a commit that was not acknowledged (P8).
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommitError {
    /// A check did not hold, so nothing changed (S3). Read again, decide again.
    #[error("`{key}` is not what this commit expected it to be")]
    Conflict { key: Key },

    /// Nothing changed. It may be tried again when the cause is gone.
    #[error("the commit was refused, and nothing changed")]
    Refused { source: Error },

    /// It may have happened or not. Only reading the store after it was opened again tells.
    #[error("it is not known whether the commit happened")]
    Unknown { source: Error },
}

impl Error {
    /// Gives a failure of the file system its words.
    pub(super) fn from_io(attempt: &'static str, path: &Path, cause: io::Error) -> Self {
        let path = path.to_owned();
        let kind = cause.kind();
        let source: Cause = Arc::new(cause);
        match kind {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { attempt, path, source },
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::ReadOnly { attempt, path, source }
            }
            _ => Self::Io { attempt, path, source },
        }
    }
}
