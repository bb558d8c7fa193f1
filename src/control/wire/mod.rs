//! The shapes that cross the control API, as serde types: Cloudflare's REST shape, field by field, with our own
//! additions under a `sluice` object. The API writes them and the command line reads them; both see the same struct, so
//! a field cannot drift. Nothing here checks or decides anything, and no other room may use these types.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

mod deployments;
mod objects;
mod rollout;
mod tail;
mod triggers;

pub use deployments::{
    CodeUpdateMode, CodeUpdateStrategy, Deployment, DeploymentFacts, DeploymentRequest, Deployments, Share,
};
pub use objects::{
    Object, ObjectAlarm, ObjectAssignment, ObjectCounts, ObjectHistory, ObjectMove, ObjectMoves, ObjectPlan,
    ObjectStay, Objects,
};
pub use rollout::{
    Rollout, RolloutEvent, RolloutGuard, RolloutMeasures, RolloutNext, RolloutRequest, RolloutStep, RolloutVersion,
    RolloutWindow,
};
pub use tail::{Tail, TailFilter, TailHeader, TailRequest};
pub use triggers::{Domain, DomainRecords, Route, Subdomain};

/// The only account there is.
pub const ACCOUNT: &str = "local";

/// What every answer is wrapped in. A client looks at `success`, not at the HTTP status.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Envelope<T> {
    pub success: bool,
    #[serde(default)]
    pub errors: Vec<ApiError>,
    #[serde(default)]
    pub messages: Vec<String>,
    /// `null` on failure. Also `null` where an operation has nothing to say.
    #[serde(default = "none")]
    pub result: Option<T>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_info: Option<ResultInfo>,
}

/// One fault, as `errors[]` carries it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiError {
    pub code: u32,
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub documentation_url: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<ErrorSource>,
}

/// Where in the request the fault is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorSource {
    /// A path such as `bindings[2].class_name`.
    pub pointer: String,
}

/// Paging, on lists only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultInfo {
    #[serde(default)]
    pub page: u64,
    #[serde(default)]
    pub per_page: u64,
    #[serde(default)]
    pub count: u64,
    #[serde(default)]
    pub total_count: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// `annotations` of a version or of a deployment (`WRANGLER_API` 2.4); absent keys are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Annotations {
    #[serde(rename = "workers/message", default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    #[serde(rename = "workers/tag", default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    #[serde(rename = "workers/alias", default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    #[serde(rename = "workers/triggered_by", default, skip_serializing_if = "Option::is_none")]
    pub triggered_by: Option<String>,
}

// === The dashboard ===

/// What `POST /sign-in/codes` answers: a way into the dashboard that works once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignInCode {
    pub code: String,
    /// Seconds until it is too old.
    pub expires_in_s: u64,
}

// === Versions ===

/// A version (`WRANGLER_API` 2.1, `VER-4`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Version {
    pub id: String,
    pub number: u64,
    pub metadata: VersionMetadata,
    #[serde(default)]
    pub annotations: Annotations,
    pub resources: VersionResources,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub startup_time_ms: Option<u64>,
    /// Ours, beside Cloudflare's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sluice: Option<VersionFacts>,
}

/// Who made a version, how and when. Times are RFC 3339 in UTC with milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionMetadata {
    pub created_on: String,
    pub modified_on: String,
    pub source: String,
    #[serde(default)]
    pub author_id: String,
    #[serde(default)]
    pub author_email: String,
    #[serde(default)]
    pub has_preview: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct VersionResources {
    #[serde(default)]
    pub script: ScriptResource,
    #[serde(default)]
    pub script_runtime: ScriptRuntime,
    #[serde(default)]
    pub bindings: Vec<Binding>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScriptResource {
    /// The SHA-256 of the module's bytes, hexadecimal.
    #[serde(default)]
    pub etag: String,
    #[serde(default)]
    pub handlers: Vec<String>,
    #[serde(default)]
    pub named_handlers: Vec<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_deployed_from: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScriptRuntime {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compatibility_date: Option<String>,
    #[serde(default)]
    pub compatibility_flags: Vec<String>,
    #[serde(default)]
    pub usage_model: String,
    #[serde(default)]
    pub limits: Limits,
}

/// `limits` of a version, in its metadata and in its view.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subrequests: Option<u64>,
}

/// One binding as uploads send it and views show it. What belongs to the type stays beside it (`text`, `service`, …);
/// a secret's `text` is never in a view (`SEC-7`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// `sluice` on a version: what was found out about its module at upload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VersionFacts {
    /// SHA-256 of the module's bytes as they were uploaded, hexadecimal.
    pub module_sha256: String,
    /// Size of the module as it was uploaded.
    pub size_bytes: u64,
    pub guest: GuestKind,
    #[serde(default)]
    pub imports: Vec<String>,
    #[serde(default)]
    pub exports: Vec<String>,
    /// Linear memory after the instantiation that proved the version.
    pub startup_memory_bytes: u64,
    /// How long its code took to make ready when it was proven, and where that came from: `compiled`, `shared` with a module that
    /// differs in its data only, or `known` from the same module. Absent for versions of nodes that did not measure it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compile_time_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Whether an instance serves more than one request.
    #[serde(default)]
    pub instance_reuse: bool,
    /// The version's own addresses on the data listener, the alias's among them.
    #[serde(default)]
    pub urls: Vec<String>,
}

/// Which WASI generation a guest speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GuestKind {
    #[serde(rename = "0.2")]
    P2,
    #[serde(rename = "0.3")]
    P3,
}

/// `GET …/versions`: newest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Versions {
    pub items: Vec<Version>,
}

/// The answer to `PUT …/workers/scripts/:n`, which uploads and deploys at once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Uploaded {
    /// The worker's name.
    #[serde(default)]
    pub id: String,
    /// The *version's* id: wrangler prints this field as "Current Version ID".
    pub deployment_id: String,
    #[serde(default)]
    pub etag: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub startup_time_ms: Option<u64>,
    #[serde(default)]
    pub created_on: String,
    #[serde(default)]
    pub modified_on: String,
    #[serde(default)]
    pub handlers: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sluice: Option<UploadedFacts>,
}

/// `sluice` on [`Uploaded`]: what a second and third call would have told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UploadedFacts {
    pub version: Version,
    /// Absent for a draft, which is neither a version nor deployed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<Deployment>,
}

// === Classes of Durable Objects ===

/// An item of `GET …/durable_objects/namespaces`: the objects of one class of one worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectNamespace {
    pub id: String,
    /// The worker and the class, in one word.
    pub name: String,
    /// The worker that owns the class.
    pub script: String,
    pub class: String,
    /// Whether the class was made by `new_sqlite_classes`; both kinds are treated alike here.
    pub use_sqlite: bool,
}

/// `GET …/services/:n`: the part of it that the command line reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    pub default_environment: ServiceEnvironment,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceEnvironment {
    pub script: ServiceScript,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceScript {
    /// The tag of the last migration that was applied (`MIG-3`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migration_tag: Option<String>,
}

// === Secrets ===

/// `GET …/secrets` lists these. The value is never told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretItem {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
}

/// The body of `PUT …/secrets`, and a value in [`SecretsBulk`].
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretPut {
    pub name: String,
    pub text: String,
    #[serde(rename = "type")]
    pub kind: String,
}

/// The body of `PATCH …/secrets-bulk`: `null` deletes.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretsBulk {
    pub secrets: BTreeMap<String, Option<SecretPut>>,
}

/// The body of `PATCH …/workers/workers/:n/versions/latest`: `null` deletes.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionPatch {
    #[serde(default)]
    pub env: BTreeMap<String, Option<SecretValue>>,
    #[serde(default)]
    pub annotations: Annotations,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretValue {
    #[serde(rename = "type")]
    pub kind: String,
    pub text: String,
}

// === Workers ===

/// An item of `GET …/workers/scripts`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Worker {
    /// The worker's name.
    pub id: String,
    #[serde(default)]
    pub etag: String,
    #[serde(default)]
    pub created_on: String,
    #[serde(default)]
    pub modified_on: String,
    #[serde(default)]
    pub handlers: Vec<String>,
    #[serde(default)]
    pub sluice: WorkerFacts,
}

/// `sluice` on a listed worker. Both are absent for a draft.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WorkerFacts {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_version_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<Deployment>,
}

/// `GET …/workers/workers/:n`: where a worker answers. Only what the command line reads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerHosts {
    pub subdomain: WorkerSubdomain,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerSubdomain {
    #[serde(default)]
    pub enabled: bool,
    #[serde(default)]
    pub previews_enabled: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// What follows a version's 8 digits or an alias, port included: `-hello.localhost:8787`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview_url_suffix: Option<String>,
}

// === Explain (ours) ===

/// The body of `POST …/workers/scripts/:n/explain`; `GET …?key=K` asks for one key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainRequest {
    /// One answer for each. Empty: one answer for the headers alone.
    #[serde(default)]
    pub keys: Vec<String>,
    /// Request headers that go with every key, `host` among them; names in any case.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
}

/// The answer of `explain`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    #[serde(default)]
    pub deployment_id: String,
    /// In the order of the keys.
    pub answers: Vec<Explained>,
    /// How the answers fell, beside what the deployment asks for; one entry for each version of the deployment, in its order.
    #[serde(default)]
    pub achieved: Vec<Achieved>,
}

/// Why one request would get its version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explained {
    pub key: Option<String>,
    /// Absent where no slot is asked (an override, a version host) or none is known before the draw.
    pub slot: Option<u32>,
    /// Absent where only the draw will tell.
    pub version_id: Option<String>,
    pub version_number: Option<u64>,
    /// `override`, `key`, `random`, `preview`.
    pub reason: String,
    /// The nearest change of the split that would change the answer.
    pub changes_at: Option<ChangesAt>,
}

/// "If this version's share became this, the answer would be another."
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChangesAt {
    pub version_id: String,
    pub percentage: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Achieved {
    pub version_id: String,
    #[serde(default)]
    pub version_number: Option<u64>,
    /// What the deployment asks for, in percent.
    pub configured: f64,
    /// How many of the answers chose this version.
    pub count: u64,
    /// The same in percent of the answers.
    pub achieved: f64,
}

// === The node's address book ===

/// `<data-dir>/addresses.json`, written once both listeners accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    pub data: std::net::SocketAddr,
    pub control: std::net::SocketAddr,
}

/// `100`, not `100.0`: as Cloudflare writes it, and as a script may compare it.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn short_number<S: serde::Serializer>(number: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    #[expect(clippy::cast_possible_truncation, reason = "a share of 0 to 100; what does not fit is written as it is")]
    let whole = *number as i32;
    if f64::from(whole) == *number { serializer.serialize_i32(whole) } else { serializer.serialize_f64(*number) }
}

/// `#[serde(default)]` alone would ask `T: Default` of every caller.
fn none<T>() -> Option<T> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_answers_of_the_specification_decode() {
        let failure = r#"{"success":false,"errors":[{"code":10007,"message":"no"}],"messages":[],"result":null}"#;
        let failure: Envelope<Version> = serde_json::from_str(failure).unwrap();
        assert_eq!((failure.success, failure.errors[0].code), (false, 10007));

        let put = r#"{"success":true,"result":{"deployment_id":"11111111111141118111111111111111"}}"#;
        let put: Envelope<Uploaded> = serde_json::from_str(put).unwrap();
        assert_eq!(put.result.unwrap().deployment_id.len(), 32);
    }

    #[test]
    fn a_version_survives_the_wire_unchanged() {
        let text = r#"{"id":"11111111-1111-4111-8111-111111111111","number":3,
            "metadata":{"created_on":"2026-01-02T03:04:05.678Z","modified_on":"2026-01-02T03:04:05.678Z","source":"wrangler",
              "author_id":"a","author_email":"dev@localhost","has_preview":true},
            "annotations":{"workers/message":"m","workers/tag":"v1.2","workers/alias":"staging","workers/triggered_by":"upload"},
            "resources":{"script":{"etag":"e","handlers":["fetch"],"named_handlers":[],"last_deployed_from":"wrangler"},
              "script_runtime":{"compatibility_date":"2026-01-01","compatibility_flags":[],"usage_model":"standard","limits":{}},
              "bindings":[{"name":"GREETING","type":"plain_text","text":"hello"}]},
            "startup_time_ms":3}"#;
        let version: Version = serde_json::from_str(text).unwrap();
        assert_eq!(version.resources.bindings[0].rest["text"], "hello");
        let back = serde_json::to_value(&version).unwrap();
        assert_eq!(back, serde_json::from_str::<Value>(text).unwrap());
    }
}
