//! Why the catalog did not do something. Callers match on the variant; `control` gives each its code. `Display` is one level,
//! for whoever called; the cause, for the operator, is in `source()`.

use std::io;
use std::path::PathBuf;

use crate::domain::config::Fault;
use crate::domain::id::{Alias, BindingName, DeploymentId, NamespaceId, VersionId, WorkerName};
use crate::domain::object::ClassName;
use crate::domain::route::{Hostname, RoutePattern};
use crate::domain::{limits, split};
use crate::kv;
use crate::store;

/// Everything that can be refused or fail. Numbers are the codes that clients know.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// 10007.
    #[error("there is no worker `{worker}`")]
    WorkerUnknown { worker: WorkerName },
    /// 10222: the worker is a draft.
    #[error("worker `{worker}` has no versions yet")]
    NoVersions { worker: WorkerName },
    /// 10071 where one is read, 10210 where one is deployed.
    #[error("worker `{worker}` has no version `{version}`")]
    VersionUnknown { worker: WorkerName, version: VersionId },
    /// 10336.
    #[error("worker `{worker}` has no deployment `{deployment}`")]
    DeploymentUnknown { worker: WorkerName, deployment: DeploymentId },
    /// 10210.
    #[error(transparent)]
    Split(split::Error),
    /// 10210 (`VER-9`).
    #[error("version `{version}` cannot be deployed: it is not among the newest {max} versions", max = limits::DEPLOYABLE_VERSIONS)]
    NotDeployable { version: VersionId },
    /// 10210 (`RBK-7`).
    #[error(
        "version `{version}` cannot be deployed: its binding `{binding}` names the KV namespace `{namespace}`, which was deleted"
    )]
    NamespaceGone { version: VersionId, binding: BindingName, namespace: NamespaceId },
    /// 10210 (`RBK-6`, `MIG-13`).
    #[error(
        "version `{version}` cannot be deployed: it is version {number}, older than the migration `{tag}` that came with version {fence}, and its code is for classes as they were before"
    )]
    Fenced { version: VersionId, number: u64, tag: String, fence: u64 },
    /// 10210: as `RBK-7` has it of namespaces.
    #[error(
        "version `{version}` cannot be deployed: its binding `{binding}` names the class `{class}` of worker `{owner}`, which is gone"
    )]
    ObjectsGone { version: VersionId, binding: BindingName, class: ClassName, owner: WorkerName },
    /// 10220 (`DEP-10`). Clients read the names out of this very text.
    #[error("the deployment restores older values of secrets; force it if that is meant. The following secrets have changed: {}", listed(.names))]
    SecretsChanged { names: Vec<BindingName> },
    /// E11: what `If-Match` named is not active any more.
    #[error("the active deployment of `{worker}` is {}, not `{expected}`", named(*.active))]
    NotActive { worker: WorkerName, expected: DeploymentId, active: Option<DeploymentId> },
    /// What the maker of an upload saw is not the latest version any more.
    #[error("the latest version of `{worker}` is {}, not {}", version_or_none(*.latest), version_or_none(*.expected))]
    NotLatest { worker: WorkerName, expected: Option<VersionId>, latest: Option<VersionId> },
    /// 10035: read again, decide again.
    #[error("worker `{worker}` was changed by someone else meanwhile; try again")]
    Conflict { worker: WorkerName },
    /// 10214 (`SEC-2`): edits of settings, and of many secrets at once.
    #[error(
        "Script edit failed. You attempted to deploy the latest version with modified settings, but the latest version isn't currently deployed. Deploy version `{latest}` at 100 %, or edit with `versions secret`"
    )]
    SettingsEditBlocked { latest: VersionId },
    /// 10215 (`SEC-2`).
    #[error(
        "Secret edit failed. You attempted to modify a secret, but the latest version of your Worker isn't currently deployed. Deploy version `{latest}` at 100 %, or edit with `versions secret`"
    )]
    SecretEditBlocked { latest: VersionId },
    /// 10056.
    #[error("worker `{worker}` has no secret `{name}`")]
    SecretUnknown { worker: WorkerName, name: String },
    #[error("worker `{worker}` is bound by {}; force the deletion if that is meant", listed(.by))]
    WorkerInUse { worker: WorkerName, by: Vec<WorkerName> },
    #[error("the alias `{alias}` cannot be used: `{alias}-{worker}` is the name of another worker")]
    AliasTaken { alias: Alias, worker: WorkerName },
    /// `URL-3`.
    #[error("the alias `{alias}` is too long: `{alias}-{worker}` has to fit {max} characters", max = limits::DNS_LABEL_CHARS_MAX)]
    AliasTooLong { alias: Alias, worker: WorkerName },
    /// 10020. Without an owner the pattern belongs to a route that has no worker (`RTE-6`).
    #[error("the route `{pattern}` is already assigned to {}", owner_of(.owner.as_ref()))]
    RouteTaken { pattern: RoutePattern, owner: Option<WorkerName> },
    /// 100116.
    #[error("the domain `{hostname}` already belongs to worker `{owner}`")]
    DomainTaken { hostname: Hostname, owner: WorkerName },
    #[error("{count} routes or domains are more than the limit of {max}", max = limits::ROUTES_MAX)]
    TooManyRoutes { count: usize },
    /// 10338 (`DEP-9`, `VER-11`).
    #[error("the active deployment, and the versions in it, cannot be deleted")]
    ActiveDeployment,
    /// 10339 (`VER-11`).
    #[error("the latest version cannot be deleted")]
    LatestVersion,
    #[error("there are {max} workers already, which is the limit", max = limits::WORKERS_MAX)]
    TooManyWorkers,
    #[error("the settings have {bytes} bytes, the limit is {max}", max = super::SETTINGS_BYTES_MAX)]
    SettingsTooLarge { bytes: usize },
    #[error("the configuration has {} faults, the first: {}", .0.len(), .0.first().map_or("", |fault| &fault.message))]
    Faults(Vec<Fault>),

    #[error("cannot look for the version's KV namespaces")]
    Kv(#[source] kv::Error),

    /// 10035 as well.
    #[error("cannot {attempt}: {attempts} times in a row someone else was faster; try again")]
    Busy { attempt: &'static str, attempts: usize },

    #[error("cannot {attempt}")]
    Store { attempt: &'static str, source: store::Error },
    /// Its source says whether the change may have happened.
    #[error("cannot {attempt}")]
    Commit { attempt: &'static str, source: store::CommitError },
    #[error("the record `{key}` cannot be read")]
    Record { key: String, source: super::record::Damaged },
    #[error("cannot {attempt} `{}`", path.display())]
    Io { attempt: &'static str, path: PathBuf, source: io::Error },
    /// Nothing is made up in its place: what it sealed would be lost without a word.
    #[error(
        "`{}` is missing, and the catalog is not empty; put the file back from a backup, secrets cannot be read without it", path.display()
    )]
    KeyMissing { path: PathBuf },
    #[error("`{}` is no secret key: it has {bytes} bytes, expected 32", path.display())]
    KeyDamaged { path: PathBuf, bytes: usize },
    #[error("the system gives no random numbers")]
    Random { source: getrandom::Error },
}

fn listed<T: ToString>(names: &[T]) -> String {
    names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn named(active: Option<DeploymentId>) -> String {
    active.map_or_else(|| "none".to_owned(), |id| format!("`{id}`"))
}

fn version_or_none(version: Option<VersionId>) -> String {
    version.map_or_else(|| "none".to_owned(), |id| format!("`{id}`"))
}

fn owner_of(owner: Option<&WorkerName>) -> String {
    owner.map_or_else(|| "no worker, which disables it".to_owned(), |worker| format!("worker `{worker}`"))
}
