//! Durable Objects on the wire: ours, beside Cloudflare's.

use serde::{Deserialize, Serialize};

use super::ChangesAt;

/// What is known of an object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Object {
    pub id: String,
    /// The name that its id was made from, if it is known.
    pub name: Option<String>,
    pub class_name: String,
    pub namespace_id: String,
    /// The version that it is assigned under the active deployment; none without a deployment.
    pub version_id: Option<String>,
    pub version_number: Option<u64>,
    /// Whether it is in memory, and the version that it runs there: another one while a deferred change waits.
    pub live: bool,
    pub running_version_id: Option<String>,
    pub running_version_number: Option<u64>,
    /// Seconds until a deferred change of its version falls due.
    pub switches_in_s: Option<u64>,
    /// When its alarm rings, RFC 3339.
    pub alarm: Option<String>,
    /// Bytes of its keys and values.
    pub bytes: u64,
    /// Instances of it that have written something.
    pub epoch: u64,
    /// None if it has never written anything.
    pub created_on: Option<String>,
    /// Its slot among the 100,000 of its worker.
    pub slot: u32,
    /// At which share of its version it would move to another.
    pub changes_at: Option<ChangesAt>,
}

/// `GET …/scripts/:n/objects`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Objects {
    pub objects: Vec<Object>,
    /// What happened to the worker's objects since the node started.
    pub since_start: ObjectCounts,
}

/// Counts of a worker's objects, since the node started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectCounts {
    /// Times that an object came to memory.
    pub started: u64,
    /// Times that an object was reset because its assignment changed.
    pub reassigned: u64,
    /// Times that an object was reset because its code failed.
    pub failed: u64,
}

/// `GET …/scripts/:n/objects/:class/:object/history`: what an object was assigned, and what happened to it on this node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ObjectHistory {
    pub id: String,
    pub name: Option<String>,
    pub class_name: String,
    /// None if it has never written anything.
    pub created_on: Option<String>,
    /// The deployments that gave it another version, newest first. Derived from its slot, so also those of before it was there.
    pub assignments: Vec<ObjectAssignment>,
    /// Whether deployments older than those that are kept may have assigned it otherwise.
    pub assignments_cut: bool,
    /// Its times in memory, newest first.
    pub stays: Vec<ObjectStay>,
    /// What was before is not known: the node was not running, or has forgotten it.
    pub stays_since: String,
    /// When its alarm rings.
    pub alarm: Option<String>,
    /// How its last alarm ended, if one did since then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_alarm: Option<ObjectAlarm>,
}

/// A deployment that gave an object another version than it had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectAssignment {
    pub version_id: String,
    /// Absent if it was deleted since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_number: Option<u64>,
    pub on: String,
    pub deployment_id: String,
    #[serde(default)]
    pub author_email: String,
    #[serde(default)]
    pub source: String,
    #[serde(default)]
    pub triggered_by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// A time in memory; several, if nothing but rest lay between them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectStay {
    pub version_id: String,
    /// Absent if it was deleted since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_number: Option<u64>,
    pub started_on: String,
    /// How often it came to memory.
    pub starts: u32,
    pub last_started_on: String,
    /// Absent while it is in memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_on: Option<String>,
    /// `reassigned`, `failed`, `storage_failed`, `superseded`, `deleted`, `asked`, `alarm_too_long`, `stopping`, `made_room` or `idle`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_by: Option<String>,
    /// What its code failed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// How an alarm ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectAlarm {
    pub due_on: String,
    pub ended_on: String,
    /// `ok`; `failed` by its code; or `lost`: it is brought again.
    pub outcome: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// What a deployment would do to objects: in the answer to a dry run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ObjectPlan {
    /// Objects there are: such as have written something, and such as are in memory.
    pub objects: u64,
    /// Those that would be assigned another version.
    pub moving: u64,
    /// Those of them that are in memory, and would be reset: at once, or deferred as the deployment says.
    pub live_moving: u64,
    /// From which version to which, and how many. None moves to a version that loses share.
    pub moves: Vec<ObjectMoves>,
    /// Some of those that move, such as are in memory first.
    pub sample: Vec<ObjectMove>,
    /// Whether there are so many that the numbers, but for `live_moving`, are told from a part of them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_estimate: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectMoves {
    pub from: String,
    pub to: String,
    pub objects: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectMove {
    pub id: String,
    pub name: Option<String>,
    pub class_name: String,
    pub from: String,
    pub to: String,
    pub live: bool,
}
