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
