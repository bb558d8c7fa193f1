//! Deployments on the wire (`WRANGLER_API` 2.2).

use serde::{Deserialize, Serialize};

use super::{Annotations, ObjectPlan, Version, short_number};
use crate::domain::deployment::CodeUpdate;

/// A deployment (`WRANGLER_API` 2.2).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Deployment {
    pub id: String,
    pub created_on: String,
    pub source: String,
    /// Always `percentage`.
    pub strategy: String,
    #[serde(default)]
    pub author_email: String,
    #[serde(default)]
    pub annotations: Annotations,
    pub versions: Vec<Share>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code_update_strategy: Option<CodeUpdateStrategy>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sluice: Option<DeploymentFacts>,
}

/// One entry of a split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Share {
    pub version_id: String,
    #[serde(serialize_with = "short_number")]
    pub percentage: f64,
}

/// When running objects take their new assignment (`DOU-2`).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CodeUpdateStrategy {
    pub mode: CodeUpdateMode,
    /// Seconds; only with `deferred`.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "short_delay")]
    pub max_delay: Option<f64>,
}

impl CodeUpdateStrategy {
    /// What it says. None for a delay that is none, or that has no place.
    #[must_use]
    pub fn update(self) -> Option<CodeUpdate> {
        match (self.mode, self.max_delay) {
            (CodeUpdateMode::Immediate, None) => Some(CodeUpdate::Immediate),
            (CodeUpdateMode::Immediate, Some(_)) => None,
            (CodeUpdateMode::Deferred, None) => Some(CodeUpdate::DEFERRED),
            (CodeUpdateMode::Deferred, Some(seconds)) => CodeUpdate::deferred(seconds),
        }
    }
}

impl From<CodeUpdate> for CodeUpdateStrategy {
    fn from(update: CodeUpdate) -> Self {
        match update {
            CodeUpdate::Immediate => Self { mode: CodeUpdateMode::Immediate, max_delay: None },
            CodeUpdate::Deferred { max_delay_s } => {
                Self { mode: CodeUpdateMode::Deferred, max_delay: Some(f64::from(max_delay_s)) }
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CodeUpdateMode {
    Immediate,
    Deferred,
}

/// `sluice` on a deployment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DeploymentFacts {
    /// How many of the 100,000 slots changed their version against the deployment before (`D2`).
    pub moved_slots: u32,
    /// The versions in full, in the order of the split: only where one deployment was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub versions: Vec<Version>,
    /// What it would do to the worker's Durable Objects: only in the answer to a dry run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects: Option<ObjectPlan>,
}

/// `GET …/deployments`: newest first, the first is active (`DEP-3`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Deployments {
    pub deployments: Vec<Deployment>,
}

/// The body of `POST …/deployments[?force=true][&dry_run=true]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeploymentRequest {
    #[serde(default = "percentage")]
    pub strategy: String,
    pub versions: Vec<Share>,
    #[serde(default)]
    pub annotations: Annotations,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code_update_strategy: Option<CodeUpdateStrategy>,
}

fn percentage() -> String {
    "percentage".to_owned()
}

#[expect(clippy::ref_option, reason = "serde's signature")]
fn short_delay<S: serde::Serializer>(delay: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    match delay {
        Some(delay) => short_number(delay, serializer),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_percentage_is_written_without_a_point() {
        let text = |percentage| serde_json::to_string(&Share { version_id: "a".to_owned(), percentage }).unwrap();
        assert_eq!(text(100.0), r#"{"version_id":"a","percentage":100}"#);
        assert_eq!(text(33.333), r#"{"version_id":"a","percentage":33.333}"#);
    }

    #[test]
    fn a_code_update_survives_the_wire() {
        for update in [CodeUpdate::Immediate, CodeUpdate::DEFERRED, CodeUpdate::Deferred { max_delay_s: 0 }] {
            assert_eq!(CodeUpdateStrategy::from(update).update(), Some(update));
        }
        let text = serde_json::to_string(&CodeUpdateStrategy::from(CodeUpdate::DEFERRED)).unwrap();
        assert_eq!(text, r#"{"mode":"deferred","max_delay":300}"#);
    }
}
