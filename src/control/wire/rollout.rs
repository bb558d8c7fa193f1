//! Rollouts on the wire: ours, beside Cloudflare's.

use serde::{Deserialize, Serialize};

use super::short_number;

/// The body of `POST …/scripts/:n/rollout`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RolloutRequest {
    /// The version that is to get everything.
    pub version_id: String,
    /// Rising percentages, the last is 100. Absent: 1, 5, 25, 50, 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<Vec<f64>>,
    /// How long each step stands at the least, in seconds. Absent: 300.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every_seconds: Option<f64>,
    /// Such as `error_rate<1%`. Absent: `error_rate<+1%` and `p99<1.2x`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guards: Option<Vec<String>>,
}

/// A rollout as it stands: the answer of every call about it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    /// `running`, `paused`, `done`, `failed`, `aborted` or `superseded`.
    pub state: String,
    /// What a running one waits for: `time`, `data`, or nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<String>,
    /// What happened last, for people.
    #[serde(default)]
    pub reason: String,
    pub old: RolloutVersion,
    pub new: RolloutVersion,
    #[serde(default)]
    pub author_email: String,
    pub started_on: String,
    /// The share of the new version in percent: of the active deployment, unless the rollout was superseded.
    #[serde(serialize_with = "short_number")]
    pub percentage: f64,
    pub steps: Vec<RolloutStep>,
    pub every_seconds: f64,
    /// The step that comes next; absent when it is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<RolloutNext>,
    /// What both versions did since the evidence is counted. Absent for one that was over before the node started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<RolloutWindow>,
    pub guards: Vec<RolloutGuard>,
    /// What happened, oldest first.
    pub events: Vec<RolloutEvent>,
    /// Why its last attempt to deploy failed; it is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutVersion {
    pub id: String,
    /// Absent if it was deleted since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RolloutStep {
    #[serde(serialize_with = "short_number")]
    pub percentage: f64,
    /// Absent until it went live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live_on: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment_id: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RolloutNext {
    #[serde(serialize_with = "short_number")]
    pub percentage: f64,
    /// It comes then at the earliest, if every guard holds. Absent while the rollout is paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_on: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RolloutWindow {
    /// Windows are numbered through the whole rollout; a step, a resumption and a restart of the node begin one.
    pub number: u32,
    pub since: String,
    pub new: RolloutMeasures,
    pub old: RolloutMeasures,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RolloutMeasures {
    pub requests: u64,
    pub errors: u64,
    /// 0 to 1. Absent without requests, as what follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_rate: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50_ms: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_ms: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_p50_ms: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_p99_ms: Option<f64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RolloutGuard {
    pub guard: String,
    /// `holds`, `broken`, `not_enough_data`, or `unknown` where nothing is counted any more.
    pub state: String,
    /// What was measured, for people.
    #[serde(default)]
    pub measured: String,
    /// What is missing, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
    /// Requests of the new version that were judged, and those that it takes.
    #[serde(default)]
    pub requests: u64,
    #[serde(default)]
    pub requests_needed: u64,
    /// Above 1 there is evidence that the version is over the limit; from `broken_at` on the guard is broken.
    #[serde(default)]
    pub evidence: f64,
    #[serde(default)]
    pub broken_at: f64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutEvent {
    pub on: String,
    pub what: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment_id: Option<String>,
}
