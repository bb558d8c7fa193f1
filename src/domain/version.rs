//! A version: module and configuration, made once at upload and never changed (`V1`).

use std::sync::Arc;

use crate::domain::config::Config;
use crate::domain::id::{Alias, BindingName, VersionId};
use crate::domain::limits::{MESSAGE_BYTES_MAX, TAG_BYTES_MAX};
use crate::domain::module::{ModuleFacts, Startup};

/// An immutable version of a worker. It starts: upload proved it (`V2`).
#[derive(Debug, Clone)]
pub struct Version {
    pub id: VersionId,
    /// Counts from 1 for each worker (`VER-5`); deployments name versions by id.
    pub number: u64,
    /// Unix time of the upload in milliseconds.
    pub created_ms: u64,
    pub provenance: Provenance,
    pub annotations: Annotations,
    pub config: Arc<Config>,
    pub module: Arc<ModuleFacts>,
    pub startup: Startup,
}

/// Who made something, and by which way in (`VER-3`, `VER-6`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provenance {
    pub author: String,
    pub source: Source,
}

/// The way in: what the caller said it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Api,
    Dash,
    Wrangler,
}

/// What made a version or a deployment (`workers/triggered_by`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    Upload,
    VersionUpload,
    Secret,
    Rollback,
    Promotion,
    Deployment,
}

/// What the uploader said of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Annotations {
    /// At most [`MESSAGE_BYTES_MAX`]; cut there (`VER-7`).
    pub message: Option<String>,
    /// At most [`TAG_BYTES_MAX`]; not unique (`VER-8`).
    pub tag: Option<String>,
    pub alias: Option<Alias>,
    pub triggered_by: Trigger,
}

/// A tag that is too long.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the tag has {0} bytes, the limit is {TAG_BYTES_MAX}")]
pub struct TagError(usize);

impl Version {
    /// The tag, or the empty text if there is none (`META-2`).
    #[must_use]
    pub fn tag(&self) -> &str {
        self.annotations.tag.as_deref().unwrap_or("")
    }
}

/// Cuts a message at [`MESSAGE_BYTES_MAX`], between characters (`VER-7`). An empty one is none.
#[must_use]
pub fn message(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text[..text.floor_char_boundary(MESSAGE_BYTES_MAX)].to_owned())
}

/// Checks a tag's length (`VER-7`). An empty one is none.
///
/// # Errors
/// If it has more than [`TAG_BYTES_MAX`] bytes.
pub fn tag(text: &str) -> Result<Option<String>, TagError> {
    if text.len() > TAG_BYTES_MAX {
        return Err(TagError(text.len()));
    }
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

/// The secrets in which `target` differs from `live`, sorted: what a rollback has to ask about (`RBK-9`, `DEP-10`).
#[must_use]
pub fn secrets_changed(target: &Version, live: &Version) -> Vec<BindingName> {
    let (ours, theirs) = (target.config.secrets(), live.config.secrets());
    let mut changed: Vec<BindingName> = ours
        .iter()
        .filter(|(name, value)| theirs.get(*name) != Some(value))
        .map(|(name, _)| name)
        .chain(theirs.keys().filter(|name| !ours.contains_key(*name)))
        .map(|name| (*name).clone())
        .collect();
    changed.sort_unstable();
    changed
}

impl Source {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Dash => "dash",
            Self::Wrangler => "wrangler",
        }
    }

    /// The way in of that name; an unknown one came by the API.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        match name {
            "dash" => Self::Dash,
            "wrangler" => Self::Wrangler,
            _ => Self::Api,
        }
    }
}

impl Trigger {
    /// The word on the wire (`VER-6`).
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Upload => "upload",
            Self::VersionUpload => "version_upload",
            Self::Secret => "secret",
            Self::Rollback => "rollback",
            Self::Promotion => "promotion",
            Self::Deployment => "deployment",
        }
    }

    /// The trigger of that name, if there is one.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Upload, Self::VersionUpload, Self::Secret, Self::Rollback, Self::Promotion, Self::Deployment]
            .into_iter()
            .find(|trigger| trigger.as_str() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_cut_between_characters_and_tags_are_refused() {
        assert_eq!(message(""), None);
        let long = "é".repeat(600);
        assert_eq!(message(&long).unwrap().len(), 1000);
        let odd = format!("a{long}");
        assert_eq!(message(&odd).unwrap().len(), 999);
        assert_eq!(tag(&"t".repeat(100)).unwrap().unwrap().len(), 100);
        assert_eq!(tag(&"t".repeat(101)), Err(TagError(101)));
    }
}
