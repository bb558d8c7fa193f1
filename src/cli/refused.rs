//! A refusal of the control API: its codes and messages as they came, and what a user can do about each code.

use std::fmt::{self, Display, Formatter};

use crate::control::wire::ApiError;

/// A refusal of the API.
#[derive(Debug)]
pub struct Refused {
    pub status: u16,
    pub errors: Vec<ApiError>,
}

/// Whether a refusal says that there is no such worker.
pub fn is_missing_worker(error: &anyhow::Error) -> bool {
    matches!(code(error), Some(10007 | 10090))
}

/// The code of a refusal.
pub fn code(error: &anyhow::Error) -> Option<u32> {
    error.downcast_ref::<Refused>()?.errors.first().map(|error| error.code)
}

// === impl Refused ===

impl std::error::Error for Refused {}

impl Display for Refused {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let place = |error: &ApiError| error.source.as_ref().map(|source| format!("`{}`: ", source.pointer));
        let text =
            |error: &ApiError| format!("{}{} [code: {}]", place(error).unwrap_or_default(), error.message, error.code);
        match self.errors.as_slice() {
            [] => write!(f, "the node refused with status {} and gave no reason", self.status),
            [one] => f.write_str(&text(one)),
            many => {
                f.write_str("the node refused for these reasons:")?;
                many.iter().try_for_each(|error| write!(f, "\n  - {}", text(error)))
            }
        }
    }
}

impl Refused {
    /// What to do about it, by its code.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self.errors.first()?.code {
            10000 => {
                "the token is not this node's: set SLUICE_API_TOKEN to what stands in its data folder's file `token`"
            }
            10007 | 10090 => "`sluice deploy` in the project's folder makes the worker; is the name right?",
            10041 => "`sluice kv namespace list` shows the namespaces, `sluice kv namespace create TITLE` makes one",
            10057 => "set the secrets first with `sluice secret put NAME`, or in this upload with `--secrets-file`",
            10071 => "`sluice versions list` shows the versions",
            10214 | 10215 => {
                "deploy the latest version first (`sluice versions deploy <version>@100`), or change secrets without \
                 deploying: `sluice versions secret put NAME`"
            }
            10220 => "repeat it with `--force` to deploy it with the secrets it was uploaded with",
            10222 => "the worker has no version yet; `sluice deploy` uploads one",
            95041 => {
                "`sluice rollout status` shows it; `sluice rollout abort` gives everything back to the old version"
            }
            95042 => "`sluice rollout start --to <version>` begins one",
            95025 => "`sluice objects list` shows the objects there are, and their classes",
            95005 => "`--force` deletes it all the same",
            10338 => "deploy another version first: `sluice versions deploy <version>@100`",
            10339 => "the latest version stays; upload another one first",
            _ => return None,
        })
    }
}
