//! One worker in a [`View`](super::View): its versions, its deployments, and what is not versioned about it (`NV-1`, `NV-3`).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use super::record::{Counters, Head};
use crate::domain::class::Classes;
use crate::domain::config::{Binding, BindingValue, Config, Isolation, RequestLimits, SecretText};
use crate::domain::deployment::Deployment;
use crate::domain::id::{Alias, BindingName, VersionId, WorkerName};
use crate::domain::limits::{ALIASES_MAX, DEPLOYABLE_VERSIONS};
use crate::domain::route::{Hostname, RoutePattern};
use crate::domain::version::Version;
use crate::store::Revision;

/// A worker at one moment.
pub struct WorkerView {
    pub name: WorkerName,
    /// 32 hexadecimal digits: tells this worker from another one that had its name before.
    pub tag: String,
    pub created_ms: u64,
    /// The newest deployment (`DEP-3`); a draft and a worker that was only uploaded to have none.
    pub active: Option<Arc<Deployment>>,
    /// The newest [`DEPLOYMENTS_KEPT`], newest first.
    pub deployments: Vec<Arc<Deployment>>,
    pub triggers: Triggers,
    /// Script settings as the caller set them: `null` where nobody did.
    pub settings: serde_json::Value,
    /// Secrets of a draft, which wait for its first version.
    pub draft_secrets: BTreeMap<BindingName, SecretText>,
    /// The classes of Durable Objects that its migrations have made.
    pub classes: Classes,

    pub(super) counters: Counters,
    /// What a change of this worker checks.
    pub(super) revision: Revision,
    /// The numbers of `deployments`, which their keys need.
    pub(super) deployment_numbers: Vec<u64>,
    /// Ascending by number.
    versions: Vec<Arc<Version>>,
    by_id: HashMap<VersionId, Arc<Version>>,
    /// (first 8 digits of the id, version), sorted.
    by_short: Vec<(u32, VersionId)>,
    /// Sorted by alias.
    aliases: Vec<(Alias, VersionId)>,
}

/// Deployments of a worker that a view holds. Older ones stay in the store.
pub const DEPLOYMENTS_KEPT: usize = 100;

/// By which ways requests come to a worker. Not versioned (`NV-3`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Triggers {
    pub routes: Vec<Route>,
    pub domains: Vec<Hostname>,
    /// Whether `<worker>.localhost` answers.
    pub workers_dev: bool,
    /// Whether the hosts of versions and aliases answer.
    pub previews_enabled: bool,
}

/// A route with what its owner said beside the pattern; the zone is recorded and shown, there are no zones here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    pub pattern: RoutePattern,
    pub zone_name: Option<String>,
    pub zone_id: Option<String>,
}

impl Default for Triggers {
    /// Both hosts answer until someone switches them off.
    fn default() -> Self {
        Self { routes: Vec::new(), domains: Vec::new(), workers_dev: true, previews_enabled: true }
    }
}

impl WorkerView {
    /// The version of that id.
    #[must_use]
    pub fn version(&self, id: VersionId) -> Option<&Arc<Version>> {
        self.by_id.get(&id)
    }

    /// The latest uploaded version.
    #[must_use]
    pub fn latest(&self) -> Option<&Arc<Version>> {
        self.versions.last()
    }

    /// All versions, newest first.
    pub fn newest_first(&self) -> impl ExactSizeIterator<Item = &Arc<Version>> {
        self.versions.iter().rev()
    }

    /// The versions that can be put in a new deployment, newest first (`VER-9`, `VER-10`).
    pub fn deployable(&self) -> impl ExactSizeIterator<Item = &Arc<Version>> {
        self.newest_first().take(DEPLOYABLE_VERSIONS)
    }

    /// Whether the version can be put in a new deployment (`VER-9`).
    #[must_use]
    pub fn is_deployable(&self, id: VersionId) -> bool {
        let oldest = self.versions.len().saturating_sub(DEPLOYABLE_VERSIONS);
        self.version(id).zip(self.versions.get(oldest)).is_some_and(|(version, oldest)| version.number >= oldest.number)
    }

    /// The versions of the active deployment, at 0 % too, in its order.
    pub fn live(&self) -> impl Iterator<Item = &Arc<Version>> {
        let split = self.active.iter().flat_map(|active| active.split.entries());
        split.filter_map(|(version, _)| self.version(*version))
    }

    /// The deployments whose versions all exist still, newest first: what a list may show, since clients read each version of
    /// each deployment and one that is gone fails them.
    pub fn whole_deployments(&self) -> impl Iterator<Item = &Arc<Deployment>> {
        let whole = |deployment: &&Arc<Deployment>| {
            deployment.split.entries().iter().all(|(version, _)| self.by_id.contains_key(version))
        };
        self.deployments.iter().filter(whole)
    }

    /// The newest version that was uploaded with this alias (`URL-2`).
    #[must_use]
    pub fn alias(&self, alias: &str) -> Option<VersionId> {
        let index = self.aliases.binary_search_by(|(known, _)| known.as_str().cmp(alias)).ok()?;
        Some(self.aliases[index].1)
    }

    /// All aliases that answer, sorted.
    pub fn aliases(&self) -> impl ExactSizeIterator<Item = (&Alias, VersionId)> {
        self.aliases.iter().map(|(alias, version)| (alias, *version))
    }

    /// The version whose id begins with these 8 lower-case hexadecimal digits.
    pub(super) fn version_of_short(&self, digits: &str) -> Option<VersionId> {
        // `from_str_radix` takes a sign.
        let short = digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, 16).ok())??;
        let index = self.by_short.partition_point(|(known, _)| *known < short);
        self.by_short.get(index).filter(|(known, _)| *known == short).map(|(_, version)| *version)
    }

    /// The configuration that the next upload inherits from: the latest version's, or a draft's secrets.
    #[must_use]
    pub fn inherited(&self) -> Option<Arc<Config>> {
        match self.latest() {
            Some(latest) => Some(Arc::clone(&latest.config)),
            None if self.draft_secrets.is_empty() => None,
            None => Some(Arc::new(config_of_draft(&self.draft_secrets))),
        }
    }

    /// Whether a version in the active deployment binds another worker: as a service, or one of its classes.
    pub(super) fn binds(&self, other: &WorkerName) -> bool {
        let binds = |binding: &Binding| match &binding.value {
            BindingValue::Service { worker } => worker == other,
            BindingValue::DurableObject { worker, .. } => worker.as_ref() == Some(other),
            _ => false,
        };
        self.live().any(|version| version.config.bindings.iter().any(binds))
    }

    /// What is stored of this worker itself, to be changed and written back.
    pub(super) fn head(&self) -> Head {
        Head {
            tag: self.tag.clone(),
            created_ms: self.created_ms,
            counters: self.counters,
            triggers: self.triggers.clone(),
            settings: self.settings.clone(),
            draft_secrets: self.draft_secrets.clone(),
            classes: self.classes.clone(),
        }
    }

    /// The view of a worker. `versions` ascend by number; `deployments` are newest first, with their numbers.
    pub(super) fn new(
        name: WorkerName,
        head: Head,
        revision: Revision,
        versions: Vec<Arc<Version>>,
        deployments: Vec<(u64, Arc<Deployment>)>,
    ) -> Self {
        let (deployment_numbers, deployments): (Vec<_>, Vec<_>) = deployments.into_iter().unzip();
        let mut by_short: Vec<_> = versions
            .iter()
            .map(|version| (u32::from_str_radix(&version.id.short(), 16).unwrap_or(0), version.id))
            .collect();
        by_short.sort_unstable();
        Self {
            name,
            tag: head.tag,
            created_ms: head.created_ms,
            active: deployments.first().cloned(),
            deployments,
            triggers: head.triggers,
            settings: head.settings,
            draft_secrets: head.draft_secrets,
            classes: head.classes,
            counters: head.counters,
            revision,
            deployment_numbers,
            by_id: versions.iter().map(|version| (version.id, Arc::clone(version))).collect(),
            by_short,
            aliases: newest_of_each_alias(&versions),
            versions,
        }
    }

    pub(super) fn versions(&self) -> &[Arc<Version>] {
        &self.versions
    }
}

/// Each alias with the newest version that has it, of the aliases uploaded last (`URL-3`). Sorted.
fn newest_of_each_alias(versions: &[Arc<Version>]) -> Vec<(Alias, VersionId)> {
    let mut seen = BTreeSet::new();
    let mut aliases = Vec::new();
    for version in versions.iter().rev() {
        if let Some(alias) = &version.annotations.alias
            && aliases.len() < ALIASES_MAX
            && seen.insert(alias)
        {
            aliases.push((alias.clone(), version.id));
        }
    }
    aliases.sort_unstable();
    aliases
}

/// A configuration of nothing but secrets.
pub(super) fn config_of_draft(secrets: &BTreeMap<BindingName, SecretText>) -> Config {
    let binding = |(name, value): (&BindingName, &SecretText)| Binding {
        name: name.clone(),
        value: BindingValue::Secret(value.clone()),
    };
    Config {
        bindings: secrets.iter().map(binding).collect(),
        compatibility_date: None,
        compatibility_flags: Vec::new(),
        limits: RequestLimits::default(),
        isolation: Isolation::ByGuest,
    }
}

/// Its name and its counts: the whole would fill a screen.
impl fmt::Debug for WorkerView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerView")
            .field("name", &self.name)
            .field("versions", &self.versions.len())
            .field("active", &self.active.as_ref().map(|active| active.id))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::module::{GuestKind, ModuleDigest, ModuleFacts, Startup};
    use crate::domain::version::{Annotations, Provenance, Source, Trigger};

    #[test]
    fn the_thousand_aliases_uploaded_last_are_kept() {
        let module = Arc::new(ModuleFacts {
            digest: ModuleDigest::from_bytes([0; 32]),
            size_bytes: 1,
            kind: GuestKind::Wasi02,
            imports: Vec::new(),
            exports: Vec::new(),
        });
        let config = Arc::new(config_of_draft(&BTreeMap::new()));
        let version = |number: u16, alias: String| {
            let mut id = [0; 16];
            id[..2].copy_from_slice(&number.to_be_bytes());
            Arc::new(Version {
                id: VersionId::from_random(id),
                number: number.into(),
                created_ms: 0,
                provenance: Provenance { author: String::new(), source: Source::Api },
                annotations: Annotations {
                    message: None,
                    tag: None,
                    alias: Some(alias.parse().unwrap()),
                    triggered_by: Trigger::Upload,
                },
                config: Arc::clone(&config),
                module: Arc::clone(&module),
                startup: Startup { time_ms: 0, memory_bytes: 0, compilation: None },
            })
        };
        // a0, a1 … a1000, and then a0 again: a1 is the one whose last upload is longest ago.
        let mut versions: Vec<_> = (0..=1000).map(|n| version(n + 1, format!("a{n}"))).collect();
        versions.push(version(1002, "a0".into()));
        let aliases = newest_of_each_alias(&versions);
        assert_eq!(aliases.len(), ALIASES_MAX);
        let of = |alias: &str| aliases.iter().find(|(known, _)| known.as_str() == alias).map(|(_, id)| *id);
        assert_eq!((of("a0"), of("a1"), of("a2")), (Some(versions[1001].id), None, Some(versions[2].id)));
    }
}
