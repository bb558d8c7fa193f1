//! The view: everything that is deployed, at one moment, as the request path reads it. It never changes; a change of one
//! worker makes a new view that shares all other workers with the one before.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::worker::WorkerView;
use crate::domain::id::{BindingName, VersionId, WorkerName};
use crate::domain::object::{ClassName, ObjectNamespaceId};
use crate::domain::route::{HOST_CHARS_MAX, Hit, RoutePattern, RouteTable, normalize_host};
use crate::domain::version::Version;
use crate::store::Revision;

/// The host suffix under which every worker, version and alias has a name of its own.
const LOCAL_SUFFIX: &str = ".localhost";
/// Hexadecimal digits of a version's id in its host name (`URL-1`).
const SHORT_ID_CHARS: usize = 8;

/// All workers at one moment.
#[derive(Debug, Default)]
pub struct View {
    /// Sorted by name.
    workers: Vec<Arc<WorkerView>>,
    routes: Arc<RouteTable>,
    disabled_routes: Arc<DisabledRoutes>,
    /// Who has the class that a namespace holds the objects of.
    objects: Arc<HashMap<ObjectNamespaceId, (WorkerName, ClassName)>>,
    /// The namespaces of classes that are gone, whose objects are not gone yet.
    doomed: Arc<BTreeSet<ObjectNamespaceId>>,
}

/// The routes without a worker (`RTE-6`), sorted, and the revision of their record, if there is one.
#[derive(Debug, Default)]
pub(super) struct DisabledRoutes {
    pub(super) patterns: Vec<RoutePattern>,
    pub(super) revision: Option<Revision>,
}

/// Where a request goes.
#[derive(Debug, Clone, Copy)]
pub enum Routed<'a> {
    /// To a worker; its active deployment, if it has one, chooses the version.
    Worker(&'a Arc<WorkerView>),
    /// To the one version that the host names, deployed or not (`URL-9`).
    Preview { worker: &'a Arc<WorkerView>, version: VersionId },
    /// To a route that has no worker (`RTE-6`).
    Disabled,
    /// To nobody.
    None,
}

/// A binding of Durable Objects, and where it leads.
#[derive(Debug, Clone, Copy)]
pub struct BoundObjects<'a> {
    pub binding: &'a BindingName,
    /// The class and its worker, as the binding names them: both may have changed since (`MIG-8`, `MIG-9`).
    pub class: &'a ClassName,
    pub owner: &'a WorkerName,
    /// None if the class is gone.
    pub namespace: Option<ObjectNamespaceId>,
}

impl View {
    /// The worker of that name.
    #[must_use]
    pub fn worker(&self, name: &WorkerName) -> Option<&Arc<WorkerView>> {
        self.named(name.as_str())
    }

    /// All workers, by name.
    pub fn workers(&self) -> impl ExactSizeIterator<Item = &Arc<WorkerView>> {
        self.workers.iter()
    }

    /// The namespace of the objects of `class` of `worker`, by the name that the class has, or had before it was renamed or
    /// handed to another worker (`MIG-8`, `MIG-9`). None if it never was, or is gone.
    #[must_use]
    pub fn object_namespace(&self, worker: &WorkerName, class: &ClassName) -> Option<ObjectNamespaceId> {
        let namespace = self.worker(worker)?.classes.namespace_of(class)?;
        self.objects.contains_key(&namespace).then_some(namespace)
    }

    /// The worker that owns a namespace now, and the class whose objects it holds: whose deployment says which version an object
    /// runs. None if the class is gone.
    #[must_use]
    pub fn object_class(&self, namespace: ObjectNamespaceId) -> Option<(&Arc<WorkerView>, &ClassName)> {
        let (worker, class) = self.objects.get(&namespace)?;
        Some((self.worker(worker)?, class))
    }

    /// The Durable Objects that `version` of `worker` binds.
    pub fn bound_objects<'a>(
        &'a self,
        worker: &'a WorkerView,
        version: &'a Version,
    ) -> impl Iterator<Item = BoundObjects<'a>> {
        version.config.objects().map(|(binding, class, owner)| {
            let owner = owner.unwrap_or(&worker.name);
            BoundObjects { binding, class, owner, namespace: self.object_namespace(owner, class) }
        })
    }

    /// The namespaces of classes that are gone, whose objects have to be deleted (`MIG-7`).
    pub fn doomed_namespaces(&self) -> impl ExactSizeIterator<Item = ObjectNamespaceId> {
        self.doomed.iter().copied()
    }

    /// The routes without a worker.
    #[must_use]
    pub fn disabled_routes(&self) -> &[RoutePattern] {
        &self.disabled_routes.patterns
    }

    /// Where a request for `host` (as the client sent it: any case, with or without a port) and `path_and_query` goes.
    ///
    /// The names under `.localhost` come first, so that no pattern can hide a worker or a version from its owner; then routes;
    /// then custom domains. Nothing is allocated.
    #[must_use]
    pub fn route_for(&self, host: &str, path_and_query: &str) -> Routed<'_> {
        let mut buffer = [0; HOST_CHARS_MAX];
        let Some(host) = normalize_host(host, &mut buffer) else { return Routed::None };
        if let Some(routed) = host.strip_suffix(LOCAL_SUFFIX).and_then(|label| self.local(label)) {
            return routed;
        }
        match self.routes.lookup(host, path_and_query) {
            Some(Hit::Worker(name)) => self.worker(name).map_or(Routed::None, Routed::Worker),
            Some(Hit::Disabled) => Routed::Disabled,
            None => Routed::None,
        }
    }

    /// What the label before `.localhost` names: a worker, a version or an alias.
    fn local(&self, label: &str) -> Option<Routed<'_>> {
        if let Some(worker) = self.named(label) {
            // The exact name wins, also where its host is switched off.
            return worker.triggers.workers_dev.then_some(Routed::Worker(worker));
        }
        // Names may hold dashes too, so every dash may be the one between the two: the longest worker's name first.
        label.match_indices('-').find_map(|(dash, _)| {
            let (prefix, name) = (&label[..dash], &label[dash + 1..]);
            let worker = self.named(name).filter(|worker| worker.triggers.previews_enabled)?;
            let short = (prefix.len() == SHORT_ID_CHARS).then(|| worker.version_of_short(prefix)).flatten();
            let version = short.or_else(|| worker.alias(prefix))?;
            Some(Routed::Preview { worker, version })
        })
    }

    fn named(&self, name: &str) -> Option<&Arc<WorkerView>> {
        self.position(name).ok().map(|index| &self.workers[index])
    }

    fn position(&self, name: &str) -> Result<usize, usize> {
        self.workers.binary_search_by(|worker| worker.name.as_str().cmp(name))
    }

    // --- Making the next one ---

    /// The view of these workers, of these routes without a worker, and of these namespaces without a class.
    pub(super) fn new(
        mut workers: Vec<Arc<WorkerView>>,
        disabled_routes: Arc<DisabledRoutes>,
        doomed: BTreeSet<ObjectNamespaceId>,
    ) -> Self {
        workers.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let mut view = Self { workers, disabled_routes, doomed: Arc::new(doomed), ..Self::default() };
        view.rebuild_routes();
        view.rebuild_objects();
        view
    }

    /// This view with another state of the worker `name`, or without it. All else is shared.
    pub(super) fn with(
        &self,
        name: &WorkerName,
        worker: Option<Arc<WorkerView>>,
        doomed: BTreeSet<ObjectNamespaceId>,
    ) -> Self {
        let place = self.position(name.as_str());
        let before = place.ok().map(|index| &self.workers[index]);
        let claims = |worker: Option<&Arc<WorkerView>>| {
            worker.map(|worker| (worker.triggers.routes.clone(), worker.triggers.domains.clone())).unwrap_or_default()
        };
        let same_routes = claims(before) == claims(worker.as_ref());
        let classes =
            |worker: Option<&Arc<WorkerView>>| worker.is_some_and(|worker| !worker.classes.by_name.is_empty());
        let same_objects = match (before, &worker) {
            (Some(before), Some(worker)) => before.classes.by_name == worker.classes.by_name,
            (before, worker) => !classes(before) && !classes(worker.as_ref()),
        };
        let mut workers = self.workers.clone();
        match (place, worker) {
            (Ok(index), Some(worker)) => workers[index] = worker,
            (Ok(index), None) => drop(workers.remove(index)),
            (Err(index), Some(worker)) => workers.insert(index, worker),
            (Err(_), None) => {}
        }
        let mut view = Self {
            workers,
            routes: Arc::clone(&self.routes),
            disabled_routes: Arc::clone(&self.disabled_routes),
            objects: Arc::clone(&self.objects),
            doomed: Arc::new(doomed),
        };
        if !same_routes {
            view.rebuild_routes();
        }
        if !same_objects {
            view.rebuild_objects();
        }
        view
    }

    /// What a change of the disabled routes checks.
    pub(super) fn disabled_routes_revision(&self) -> Option<Revision> {
        self.disabled_routes.revision
    }

    fn rebuild_objects(&mut self) {
        let classes = self.workers.iter().flat_map(|worker| {
            let classes = worker.classes.by_name.iter();
            classes.map(|(name, class)| (class.namespace, (worker.name.clone(), name.clone())))
        });
        self.objects = Arc::new(classes.collect());
    }

    fn rebuild_routes(&mut self) {
        let owned = self.workers.iter().flat_map(|worker| {
            worker.triggers.routes.iter().map(|route| (route.pattern.clone(), Some(worker.name.clone())))
        });
        let disabled = self.disabled_routes.patterns.iter().map(|pattern| (pattern.clone(), None));
        let domains = self
            .workers
            .iter()
            .flat_map(|worker| worker.triggers.domains.iter().map(|hostname| (hostname.clone(), worker.name.clone())));
        self.routes = Arc::new(RouteTable::new(owned.chain(disabled), domains));
    }
}
