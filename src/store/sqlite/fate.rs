//! What an error of SQLite means: its words for the operator, and what became of the commits it met (P8).

use std::{path::Path, sync::Arc};

use rusqlite::ErrorCode;

use crate::store::{Cause, Error};

/// Where in a group's transaction the error appeared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Before `COMMIT`: nothing can have been made durable.
    Statement,
    /// `COMMIT` itself: the log is written and synced here.
    Seal,
}

/// How undoing went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rollback {
    Clean,
    Failed,
}

/// What became of the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// As if it had never begun. The engine goes on.
    Undone,
    /// It did not happen, but the disk can no longer be relied on: the engine is poisoned.
    Stopped,
    /// It may be on the disk or not: the engine is poisoned.
    Unknown,
}

/// Decides. A failed sync is never retried: the kernel may have dropped the dirty pages and report success the second
/// time. So whatever is not plainly "could not be written, and was undone" ends the engine.
pub(super) fn fate(phase: Phase, cause: &rusqlite::Error, rollback: Rollback) -> Fate {
    let code = cause.sqlite_error_code();
    match (phase, rollback) {
        (Phase::Statement, Rollback::Clean) if !is_broken_disk(code) => Fate::Undone,
        (Phase::Statement, _) => Fate::Stopped,
        (Phase::Seal, Rollback::Clean) if is_refused_write(code) => Fate::Undone,
        (Phase::Seal, _) => Fate::Unknown,
    }
}

/// Whether the disk can no longer be relied on.
pub(super) fn is_broken_disk(code: Option<ErrorCode>) -> bool {
    use ErrorCode::{DatabaseCorrupt, NotADatabase, SystemIoFailure};
    matches!(code, Some(SystemIoFailure | DatabaseCorrupt | NotADatabase))
}

/// The errors with which `COMMIT` stops before the frame that makes a transaction count is whole. A full disk is met
/// when a frame is written, which comes before the sync; if only the sync notices, SQLite says "I/O error".
fn is_refused_write(code: Option<ErrorCode>) -> bool {
    use ErrorCode::{CannotOpen, DatabaseBusy, DatabaseLocked, DiskFull, PermissionDenied, ReadOnly};
    matches!(code, Some(DiskFull | ReadOnly | PermissionDenied | DatabaseBusy | DatabaseLocked | CannotOpen))
}

/// Gives an error of SQLite its words.
pub(super) fn explain(attempt: &'static str, path: &Path, cause: rusqlite::Error) -> Error {
    use ErrorCode::{
        DatabaseBusy, DatabaseCorrupt, DatabaseLocked, DiskFull, NotADatabase, PermissionDenied, ReadOnly,
    };
    let path = path.to_owned();
    let code = cause.sqlite_error_code();
    let source: Cause = Arc::new(cause);
    match code {
        Some(DiskFull) => Error::DiskFull { attempt, path, source },
        Some(ReadOnly | PermissionDenied) => Error::ReadOnly { attempt, path, source },
        Some(DatabaseBusy | DatabaseLocked) => Error::Busy { attempt, path, source },
        Some(DatabaseCorrupt | NotADatabase) => Error::Corrupt { attempt, path, source },
        _ => Error::Io { attempt, path, source },
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;

    fn check(code: std::ffi::c_int, undone: (Phase, Rollback), expected: Fate) {
        let cause = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
        assert_eq!(fate(undone.0, &cause, undone.1), expected, "{cause}, {undone:?}");
    }

    #[test]
    fn p8_only_what_was_plainly_undone_lets_the_engine_go_on() {
        const STATEMENT: (Phase, Rollback) = (Phase::Statement, Rollback::Clean);
        const SEAL: (Phase, Rollback) = (Phase::Seal, Rollback::Clean);
        check(ffi::SQLITE_FULL, STATEMENT, Fate::Undone);
        check(ffi::SQLITE_FULL, SEAL, Fate::Undone);
        check(ffi::SQLITE_BUSY, STATEMENT, Fate::Undone);
        check(ffi::SQLITE_READONLY, SEAL, Fate::Undone);
        check(ffi::SQLITE_IOERR_READ, STATEMENT, Fate::Stopped);
        check(ffi::SQLITE_CORRUPT, STATEMENT, Fate::Stopped);
        check(ffi::SQLITE_IOERR_FSYNC, SEAL, Fate::Unknown);
        check(ffi::SQLITE_NOMEM, SEAL, Fate::Unknown);
        check(ffi::SQLITE_FULL, (Phase::Statement, Rollback::Failed), Fate::Stopped);
        check(ffi::SQLITE_FULL, (Phase::Seal, Rollback::Failed), Fate::Unknown);
    }
}
