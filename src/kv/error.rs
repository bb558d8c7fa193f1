//! Why an operation on a namespace was refused or failed. `Display` is one level, for whoever called.

use crate::domain::id::NamespaceId;
use crate::domain::limits;
use crate::store;

/// Everything that can be refused or fail.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("there is no KV namespace `{id}`")]
    NamespaceUnknown { id: NamespaceId },
    #[error("a KV namespace with the title `{title}` already exists")]
    TitleTaken { title: String },
    #[error("a title has 1 to {max} bytes and no control characters", max = limits::KV_TITLE_BYTES_MAX)]
    Title,
    #[error("there are {max} KV namespaces already, which is the limit", max = limits::KV_NAMESPACES_MAX)]
    TooManyNamespaces,
    #[error("a key cannot be empty, `.` or `..`")]
    KeyReserved,
    #[error("a key of {bytes} bytes is too long, the limit is {max}", max = limits::KV_KEY_BYTES_MAX)]
    KeyTooLong { bytes: usize },
    #[error("the value has more than {max} bytes, which is the limit", max = limits::KV_VALUE_BYTES_MAX)]
    ValueTooLarge,
    #[error("the metadata has {bytes} bytes as JSON, the limit is {max}", max = limits::KV_METADATA_BYTES_MAX)]
    MetadataTooLarge { bytes: usize },
    #[error("an `expiration_ttl` of {ttl} is too short: it is at least {min} seconds", min = limits::KV_LIFE_MIN.as_secs())]
    TtlTooShort { ttl: i64 },
    #[error("the `expiration` {expiration} is too early: it lies at least {min} seconds ahead, and it is {now} now (Unix seconds)", min = limits::KV_LIFE_MIN.as_secs())]
    ExpirationTooEarly { expiration: i64, now: u64 },
    #[error("the cursor is none that a list gave")]
    Cursor,
    #[error("{keys} keys are more than one call takes ({max})", max = limits::KV_BULK_KEYS_MAX)]
    TooManyKeys { keys: usize },
    #[error("the values have more than {max} bytes together, which is the limit of one call", max = limits::KV_BULK_BYTES_MAX)]
    AnswerTooLarge,
    /// The writer said what it expected the key to hold.
    #[error("the key does not hold what this write expected")]
    ConditionFailed,
    #[error("the value is not a number from 0 to {max} in decimal digits, so it cannot be incremented", max = u64::MAX)]
    NotANumber,
    #[error("the number would pass {max}", max = u64::MAX)]
    Overflow,
    /// Another node wrote the key while its value was read here; or its namespace was deleted.
    #[error("the value was replaced while it was read; read it again")]
    Replaced,
    /// Its chunks are garbage by now.
    #[error("the value took too long to arrive; send it again")]
    UploadTooSlow,
    #[error("cannot {attempt}: {attempts} times in a row someone else was faster; try again")]
    Busy { attempt: &'static str, attempts: usize },

    #[error("cannot {attempt}")]
    Store { attempt: &'static str, source: store::Error },
    /// Its source says whether the change may have happened.
    #[error("cannot {attempt}")]
    Commit { attempt: &'static str, source: store::CommitError },
    #[error("the record `{key}` cannot be read: {reason}")]
    Record { key: String, reason: String },
    #[error("the system gives no random numbers")]
    Random { source: getrandom::Error },
}

impl Error {
    /// Whether the node failed, not whoever asked.
    #[must_use]
    pub fn is_hosts(&self) -> bool {
        matches!(self, Self::Store { .. } | Self::Commit { .. } | Self::Record { .. } | Self::Random { .. })
    }
}

/// A failed read, by what it was for.
pub(super) fn reading(attempt: &'static str) -> impl Fn(store::Error) -> Error + Copy {
    move |source| Error::Store { attempt, source }
}
