//! A failure that a person reads: what went wrong, and the line that puts it right. Every command returns one of these
//! (inside `anyhow`, so causes can be chained); [`super::render::failure`] prints it and [`exit_code`] ends the program by it.

use std::process::ExitCode;

use super::refused::Refused;

/// What went wrong, in one sentence, with hints.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    message: String,
    hints: Vec<String>,
    kind: Kind,
}

/// Whose turn it is: exit code 1 means that the work failed, 2 that the command was typed wrongly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Failed,
    Usage,
}

/// The work failed.
pub fn failed(message: impl Into<String>) -> Fault {
    Fault { message: message.into(), hints: Vec::new(), kind: Kind::Failed }
}

/// The command was typed wrongly.
pub fn usage(message: impl Into<String>) -> Fault {
    Fault { message: message.into(), hints: Vec::new(), kind: Kind::Usage }
}

impl Fault {
    /// Adds a line that says what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }
}

/// What to do about `error`: the hints of the fault in it, or what the node's code asks for.
pub fn hints(error: &anyhow::Error) -> Vec<&str> {
    let ours = error.downcast_ref::<Fault>().into_iter().flat_map(|fault| fault.hints.iter().map(String::as_str));
    let node = error.downcast_ref::<Refused>().and_then(Refused::hint);
    ours.chain(node).collect()
}

/// 1 for a failure, 2 for a wrong command line.
pub fn exit_code(error: &anyhow::Error) -> ExitCode {
    let usage = error.downcast_ref::<Fault>().is_some_and(|fault| fault.kind == Kind::Usage);
    ExitCode::from(if usage { 2 } else { 1 })
}
