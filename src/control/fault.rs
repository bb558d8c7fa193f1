//! What went wrong, as the caller reads it: the only place in this room that knows codes and HTTP statuses.
//!
//! A [`Fault`] has one [`Code`] and one sentence for each thing that is wrong. `codes.md` explains every code to people. The
//! operator reads the chain of causes in the log; it never goes into an answer, and neither does a value from the request's body.

use std::error::Error as StdError;
use std::io;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

use crate::catalog;
use crate::control::wire::{ApiError, Envelope, ErrorSource};
use crate::domain::config;
use crate::store;

/// A failed operation: what is answered in place of a result.
#[derive(Debug)]
pub struct Fault {
    code: Code,
    errors: Vec<ApiError>,
    cause: Option<Box<dyn StdError + Send + Sync>>,
}

/// The result of an operation.
pub type Outcome<T> = Result<T, Fault>;

macro_rules! codes {
    ($($name:ident = $number:literal, $status:ident;)*) => {
        /// Why a call failed. Numbers below 90000 are Cloudflare's, those from 95000 are ours.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Code { $($name,)* }

        impl Code {
            /// All of them, for the test that holds `codes.md` to this table.
            #[cfg(test)]
            pub(super) const ALL: &[Self] = &[$(Self::$name,)*];

            /// The number on the wire.
            pub(super) const fn number(self) -> u32 {
                match self { $(Self::$name => $number,)* }
            }

            const fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status,)* }
            }
        }
    };
}

codes! {
    TokenInvalid = 1000, UNAUTHORIZED;
    PathUnknown = 7000, NOT_FOUND;
    MethodUnknown = 7001, METHOD_NOT_ALLOWED;
    AccountUnknown = 7003, NOT_FOUND;
    UserUnreadable = 9109, UNAUTHORIZED;
    Unauthenticated = 10000, UNAUTHORIZED;
    ContentType = 10001, UNSUPPORTED_MEDIA_TYPE;
    Parameter = 10004, BAD_REQUEST;
    WorkerUnknown = 10007, NOT_FOUND;
    KeyUnknown = 10009, NOT_FOUND;
    Host = 10013, INTERNAL_SERVER_ERROR;
    NamespaceTitle = 10014, BAD_REQUEST;
    WorkerName = 10016, BAD_REQUEST;
    RouteTaken = 10020, CONFLICT;
    Invalid = 10021, BAD_REQUEST;
    Body = 10026, BAD_REQUEST;
    TooLarge = 10027, PAYLOAD_TOO_LARGE;
    Conflict = 10035, CONFLICT;
    TooManyWorkers = 10037, FORBIDDEN;
    NamespaceUnknown = 10041, NOT_FOUND;
    SecretUnknown = 10056, NOT_FOUND;
    Inherit = 10057, BAD_REQUEST;
    ClassUnknown = 10061, BAD_REQUEST;
    ClassNotExported = 10070, BAD_REQUEST;
    VersionUnknown = 10071, NOT_FOUND;
    Migration = 10074, BAD_REQUEST;
    ClassInUse = 10086, BAD_REQUEST;
    CpuLimit = 10205, BAD_REQUEST;
    Deployment = 10210, BAD_REQUEST;
    MigrationInVersion = 10211, BAD_REQUEST;
    SettingsEdit = 10214, CONFLICT;
    SecretEdit = 10215, CONFLICT;
    ServiceWorker = 10216, BAD_REQUEST;
    SecretsChanged = 10220, CONFLICT;
    NoVersions = 10222, CONFLICT;
    DeploymentUnknown = 10336, NOT_FOUND;
    ActiveDeployment = 10338, CONFLICT;
    LatestVersion = 10339, CONFLICT;
    DomainTaken = 100_116, CONFLICT;
    ForeignHost = 95001, FORBIDDEN;
    ForeignOrigin = 95002, FORBIDDEN;
    BodyCutOff = 95003, BAD_REQUEST;
    NotOffered = 95004, FORBIDDEN;
    WorkerInUse = 95005, CONFLICT;
    AliasTaken = 95006, CONFLICT;
    BodyTooSlow = 95007, REQUEST_TIMEOUT;
    DiskFull = 95008, INSUFFICIENT_STORAGE;
    PreconditionFailed = 95009, PRECONDITION_FAILED;
    TailUnknown = 95020, NOT_FOUND;
    TailTaken = 95021, CONFLICT;
    TooManyTails = 95022, TOO_MANY_REQUESTS;
    NoWebSocket = 95023, BAD_REQUEST;
    RouteUnknown = 95024, NOT_FOUND;
    ObjectUnknown = 95025, NOT_FOUND;
    Rollout = 95040, BAD_REQUEST;
    RolloutUnderWay = 95041, CONFLICT;
    RolloutUnknown = 95042, NOT_FOUND;
    RolloutState = 95043, CONFLICT;
    RolloutBroken = 95044, CONFLICT;
}

impl Fault {
    /// The status of the answer.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.code.status()
    }

    /// What the caller is told, for who asks in process. It is logged as if it had been answered.
    #[must_use]
    pub fn told(self) -> Vec<ApiError> {
        self.log();
        self.errors
    }

    /// One thing that is wrong. `message` is a whole sentence that says what to do.
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, errors: vec![one(code, message.into(), None)], cause: None }
    }

    /// One thing that is wrong, and where in the request it is.
    pub(super) fn at(code: Code, pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code, errors: vec![one(code, message.into(), Some(pointer.into()))], cause: None }
    }

    /// Several things that are wrong, each with its place.
    pub(super) fn all(code: Code, faults: Vec<(String, String)>) -> Self {
        let errors = faults.into_iter().map(|(pointer, message)| one(code, message, Some(pointer))).collect();
        Self { code, errors, cause: None }
    }

    /// Keeps what caused it, for the log.
    pub(super) fn caused_by(mut self, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// Our own disk or memory failed. Nothing was stored.
    pub(super) fn io(attempt: &str, error: io::Error) -> Self {
        let (code, what) = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => (Code::DiskFull, "the disk is full"),
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                (Code::Host, "the data folder cannot be written")
            }
            _ => (Code::Host, "the node could not use its disk"),
        };
        let message = format!("{what}, so the node cannot {attempt}; nothing was stored. Its log says more.");
        Self::new(code, message).caused_by(error)
    }

    /// A failure below the catalog: of the host, but for the faults of a configuration.
    fn below(error: catalog::Error) -> Self {
        use catalog::Error as E;
        match error {
            E::Faults(faults) => Self::config(faults),
            E::Io { attempt, source, .. } => Self::io(attempt, source),
            E::Store { source: store::Error::DiskFull { .. }, .. }
            | E::Commit { source: store::CommitError::Refused { source: store::Error::DiskFull { .. } }, .. } => {
                Self::new(Code::DiskFull, "the disk is full; nothing was stored").caused_by(error)
            }
            E::Commit { source: store::CommitError::Unknown { .. }, .. } => {
                let message = "the store failed while it wrote, so the change may be stored or not; look before you repeat it. The node's log says more.";
                Self::new(Code::Host, message).caused_by(error)
            }
            error => {
                let message = "the node's store failed; nothing was changed. The node's log says more.";
                Self::new(Code::Host, message).caused_by(error)
            }
        }
    }

    /// All that is wrong with a configuration, each fault with its place.
    ///
    /// The first decides the code: a client looks at no other.
    pub(super) fn config(faults: Vec<config::Fault>) -> Self {
        let code = faults.first().map(|fault| of_kind(fault.kind));
        let errors: Vec<ApiError> =
            faults.into_iter().map(|fault| one(of_kind(fault.kind), fault.message, Some(fault.path))).collect();
        Self { code: code.unwrap_or(Code::Invalid), errors, cause: None }
    }

    /// The same fault, with the place in the request where it is.
    pub(super) fn located(mut self, pointer: String) -> Self {
        if let Some(first) = self.errors.first_mut() {
            first.source = Some(ErrorSource { pointer });
        }
        self
    }

    /// The same fault under another code, where the context says more than the catalog knew.
    pub(super) fn recoded(mut self, from: Code, to: Code) -> Self {
        if self.code == from {
            self.code = to;
            self.errors.iter_mut().filter(|error| error.code == from.number()).for_each(|e| e.code = to.number());
        }
        self
    }

    /// Its code.
    #[cfg(test)]
    pub(super) fn code(&self) -> Code {
        self.code
    }

    fn log(&self) {
        let message = self.errors.first().map_or("", |error| error.message.as_str());
        let cause = self.cause.as_deref().map(chain).unwrap_or_default();
        if self.code.status().is_server_error() {
            tracing::error!(code = self.code.number(), cause, "control call failed: {message}");
        } else {
            tracing::debug!(code = self.code.number(), cause, "control call refused: {message}");
        }
    }
}

impl IntoResponse for Fault {
    fn into_response(mut self) -> Response {
        self.log();
        // wrangler starts a CPU profile of its own when the first message of a 10021 holds this word (`WRANGLER_API` 7). A
        // name that the user chose may hold it, so it is told second then.
        if let Some(first) = self.errors.first()
            && first.code == Code::Invalid.number()
            && first.message.to_ascii_lowercase().contains("startup")
        {
            self.errors.insert(0, one(Code::Invalid, "the upload was refused".into(), None));
        }
        let body: Envelope<()> =
            Envelope { success: false, errors: self.errors, messages: Vec::new(), result: None, result_info: None };
        let mut response = (self.code.status(), Json(body)).into_response();
        if self.code.status() == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<catalog::Error> for Fault {
    fn from(error: catalog::Error) -> Self {
        use catalog::Error as E;
        let sentence = error.to_string();
        let (code, hint) = match &error {
            E::WorkerUnknown { .. } => (Code::WorkerUnknown, "; `deploy` makes one"),
            E::NoVersions { .. } => (Code::NoVersions, "; upload one first"),
            E::VersionUnknown { .. } => (Code::VersionUnknown, "; `versions list` shows those there are"),
            E::DeploymentUnknown { .. } => (Code::DeploymentUnknown, "; `deployments list` shows those there are"),
            E::Split(_) | E::NotDeployable { .. } => (Code::Deployment, ""),
            E::Fenced { .. } => (Code::Deployment, "; deploy that version or a newer one"),
            E::ObjectsGone { .. } => (Code::Deployment, "; upload a version with another binding"),
            E::NamespaceGone { .. } => {
                (Code::Deployment, "; what it held cannot come back, so upload a version with another namespace")
            }
            E::SecretsChanged { .. } => (Code::SecretsChanged, ""),
            E::NotActive { .. } => (Code::PreconditionFailed, "; read the deployments again and decide again"),
            E::NotLatest { .. } => (Code::PreconditionFailed, "; read the versions again and decide again"),
            E::Conflict { .. } | E::Busy { .. } => (Code::Conflict, ""),
            E::SettingsEditBlocked { .. } => (Code::SettingsEdit, ""),
            E::SecretEditBlocked { .. } => (Code::SecretEdit, ""),
            E::SecretUnknown { .. } => (Code::SecretUnknown, "; `secret list` shows those there are"),
            E::WorkerInUse { .. } => (Code::WorkerInUse, ""),
            E::AliasTaken { .. } => (Code::AliasTaken, "; choose another alias"),
            E::AliasTooLong { .. } => (Code::Invalid, ""),
            E::RouteTaken { .. } => (Code::RouteTaken, "; remove it there first"),
            E::DomainTaken { .. } => (Code::DomainTaken, "; remove it there first"),
            E::TooManyRoutes { .. } | E::SettingsTooLarge { .. } => (Code::TooLarge, ""),
            E::ActiveDeployment => (Code::ActiveDeployment, "; deploy something else first"),
            E::LatestVersion => (Code::LatestVersion, "; upload another first"),
            E::TooManyWorkers => (Code::TooManyWorkers, "; delete one first"),
            E::Faults(_) | E::Store { .. } | E::Commit { .. } | E::Io { .. } => return Self::below(error),
            E::Kv { .. } | E::Record { .. } | E::KeyMissing { .. } | E::KeyDamaged { .. } | E::Random { .. } => {
                return Self::below(error);
            }
        };
        Self::new(code, format!("{sentence}{hint}")).caused_by(error)
    }
}

/// The code that clients tell a fault of a configuration apart by.
const fn of_kind(kind: config::FaultKind) -> Code {
    use config::FaultKind as K;
    match kind {
        K::Invalid => Code::Invalid,
        K::Inherit => Code::Inherit,
        K::CpuLimit => Code::CpuLimit,
        K::Migration => Code::Migration,
        K::ClassUnknown => Code::ClassUnknown,
        K::ClassNotExported => Code::ClassNotExported,
        K::ClassInUse => Code::ClassInUse,
    }
}

fn one(code: Code, message: String, pointer: Option<String>) -> ApiError {
    let source = pointer.map(|pointer| ErrorSource { pointer });
    ApiError { code: code.number(), message, documentation_url: None, source }
}

/// An error and its causes on one line.
fn chain(error: &(dyn StdError + Send + Sync + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_heading_and_every_heading_its_code() {
        let headings: Vec<u32> = include_str!("codes.md")
            .lines()
            .filter_map(|line| line.strip_prefix("## ")?.split(' ').next()?.parse().ok())
            .collect();
        for code in Code::ALL {
            assert_eq!(headings.iter().filter(|number| **number == code.number()).count(), 1, "{code:?}");
        }
        assert_eq!(headings.len(), Code::ALL.len());
    }

    #[test]
    fn only_faults_of_the_host_are_server_errors() {
        let server: Vec<&Code> = Code::ALL.iter().filter(|code| code.status().is_server_error()).collect();
        assert_eq!(server, [&Code::Host, &Code::DiskFull]);
    }

    #[test]
    fn a_disk_that_is_full_says_so() {
        let fault = Fault::io("keep the upload", io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!(fault.code(), Code::DiskFull);
        assert!(fault.errors[0].message.contains("the disk is full"));
    }
}
