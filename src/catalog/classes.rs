//! Classes of Durable Objects at an upload: a migration is worked out on the classes of the present, and the bindings of the new
//! version are held against what it leaves (`MIG-*`, `DOI-8`). Everything that is wrong is found at once.

use std::collections::{BTreeMap, BTreeSet};

use super::change::Changes;
use super::{Catalog, Error, View, record};
use crate::domain::class::Classes;
use crate::domain::config::{Config, Fault, FaultKind};
use crate::domain::id::{BindingName, WorkerName};
use crate::domain::migration::{Applied, Migration};
use crate::domain::module::{DURABLE_OBJECT_EXPORTS, ModuleFacts};
use crate::domain::object::{ClassName, ObjectNamespaceId};
use crate::store::Write;

/// What an upload does to classes.
pub(super) struct ClassPlan {
    /// What its migration comes to, if it has one.
    pub(super) applied: Option<Applied>,
    /// The workers whose classes the version binds: the decision rests on them.
    rests_on: BTreeSet<WorkerName>,
}

impl Catalog {
    /// Whether the classes that `config` binds will be there after `migration`, and whether that can be applied: what
    /// [`Catalog::publish`] decides again, asked before a module is proven for nothing.
    ///
    /// # Errors
    /// [`Error::Faults`] with all that is wrong.
    pub fn check_classes(
        &self,
        worker: &WorkerName,
        config: &Config,
        migration: Option<&Migration>,
    ) -> Result<(), Error> {
        plan(&self.view.load(), worker, config, migration).map(drop)
    }

    /// The same of the module too, for who only wants to know: whoever publishes is told then.
    ///
    /// # Errors
    /// As [`Self::check_classes`], and if the module does not implement the classes that the worker has then.
    pub fn check_module(
        &self,
        worker: &WorkerName,
        config: &Config,
        migration: Option<&Migration>,
        module: &ModuleFacts,
    ) -> Result<(), Error> {
        let view = self.view.load();
        check_exports(&view, worker, &plan(&view, worker, config, migration)?, module)
    }
}

/// What an upload does to classes, or all that is wrong with it.
pub(super) fn plan(
    view: &View,
    name: &WorkerName,
    config: &Config,
    migration: Option<&Migration>,
) -> Result<ClassPlan, Error> {
    let before = view.worker(name).map(|worker| worker.classes.clone()).unwrap_or_default();
    let of = |other: &WorkerName| view.worker(other).map(|worker| worker.classes.clone());
    let applied = migration
        .map(|migration| migration.apply(name, &before, of, &draw(migration.creates())?).map_err(Error::Faults))
        .transpose()?;
    let mut faults = Vec::new();
    if let Some(applied) = &applied {
        check_other_workers(view, name, applied, &mut faults);
    }
    let mut rests_on = BTreeSet::new();
    let after = Present { view, name, before: &before, applied: applied.as_ref() };
    for (binding, class, owner) in config.objects() {
        match owner.filter(|owner| *owner != name) {
            None => after.check_own(binding, class, &mut faults),
            Some(owner) => {
                after.check_foreign(binding, class, owner, &mut faults);
                rests_on.insert(owner.clone());
            }
        }
    }
    if faults.is_empty() { Ok(ClassPlan { applied, rests_on }) } else { Err(Error::Faults(faults)) }
}

/// That the component implements the classes that its worker has, or will have.
pub(super) fn check_exports(
    view: &View,
    name: &WorkerName,
    plan: &ClassPlan,
    module: &ModuleFacts,
) -> Result<(), Error> {
    let present = || view.worker(name).map(|worker| &worker.classes);
    let classes = plan.applied.as_ref().map(|applied| &applied.classes).or_else(present);
    let names: Vec<String> =
        classes.into_iter().flat_map(|classes| classes.by_name.keys()).map(|class| format!("`{class}`")).collect();
    if names.is_empty() || module.implements_objects() {
        return Ok(());
    }
    let [first, second] = DURABLE_OBJECT_EXPORTS;
    let message = format!(
        "worker `{name}` has the Durable Object class{} {}, and the component exports neither `{first}` nor `{second}`: export one of them, or delete the class by a migration with `deleted_classes` first",
        if names.len() == 1 { "" } else { "es" },
        names.join(", ")
    );
    Err(Error::Faults(vec![Fault { kind: FaultKind::ClassNotExported, path: "main_module".into(), message }]))
}

impl ClassPlan {
    /// Adds to `changes` what the plan changes beside the worker's own head, and that what it rests on still is as it was.
    pub(super) fn commit(&self, catalog: &Catalog, view: &View, changes: &mut Changes) -> Result<(), Error> {
        let none = BTreeMap::new();
        let sources = self.applied.as_ref().map_or(&none, |applied| &applied.sources);
        for (source, classes) in sources {
            let worker = super::change::known(view, source)?;
            let mut head = worker.head();
            head.classes = classes.clone();
            changes.head(catalog, source, Some(worker), &head)?;
            changes.changes_others = true;
        }
        for owner in self.rests_on.iter().filter(|owner| !sources.contains_key(*owner)) {
            changes.check_head(owner, view.worker(owner));
        }
        Ok(())
    }
}

impl Changes {
    /// Leaves the objects of a class to be deleted, in this very commit: whoever deletes them does it afterwards, and after a
    /// crash too (`MIG-7`).
    pub(super) fn doom(&mut self, worker: &WorkerName, class: &ClassName, namespace: ObjectNamespaceId, now_ms: u64) {
        let record = record::encode_doomed(worker, class, now_ms);
        self.writes.push(Write::put(record::doomed_key(namespace), record));
    }
}

// === impl Present ===

/// The classes of a worker as they were, and as its migration leaves them.
struct Present<'a> {
    view: &'a View,
    name: &'a WorkerName,
    before: &'a Classes,
    applied: Option<&'a Applied>,
}

impl Present<'_> {
    /// A binding of the worker's own class.
    fn check_own(&self, binding: &BindingName, class: &ClassName, faults: &mut Vec<Fault>) {
        let classes = self.applied.map_or(self.before, |applied| &applied.classes);
        if classes.by_name.contains_key(class) {
            return;
        }
        let path = format!("bindings.{binding}.class_name");
        let is_deleted =
            self.applied.is_some_and(|applied| applied.deleted.iter().any(|(deleted, _)| deleted == class));
        let (kind, message) = if is_deleted {
            let message = format!(
                "the migration deletes the class `{class}`, and the binding `{binding}` of this very upload names it: remove the binding"
            );
            (FaultKind::ClassInUse, message)
        } else {
            let message = match self.owner_of(classes.forwards.get(class).copied()) {
                Some((owner, now)) if owner == *self.name => {
                    format!("the class `{class}` is called `{now}` now: name that in the binding `{binding}`")
                }
                Some((owner, now)) => format!(
                    "the class `{class}` was handed to worker `{owner}`, where it is `{now}`: name both in the binding `{binding}` (`script_name`, `class_name`)"
                ),
                None => format!(
                    "cannot bind `{binding}` to the class `{class}`: no migration has made it. Make it by one with `new_sqlite_classes = [\"{class}\"]` and a `deploy`"
                ),
            };
            (FaultKind::ClassUnknown, message)
        };
        faults.push(Fault { kind, path, message });
    }

    /// A binding of a class of another worker.
    fn check_foreign(&self, binding: &BindingName, class: &ClassName, owner: &WorkerName, faults: &mut Vec<Fault>) {
        let taken = self.applied.and_then(|applied| applied.sources.get(owner));
        let classes = taken.or_else(|| self.view.worker(owner).map(|worker| &worker.classes));
        let Some(classes) = classes else {
            let message = format!(
                "the binding `{binding}` names the worker `{owner}`, which is not there: deploy that first, with a migration that makes the class `{class}`"
            );
            let path = format!("bindings.{binding}.script_name");
            return faults.push(Fault { kind: FaultKind::ClassUnknown, path, message });
        };
        if classes.by_name.contains_key(class) {
            return;
        }
        let message = match self.owner_of(classes.forwards.get(class).copied()) {
            Some((now_of, now)) => format!(
                "the class `{class}` of worker `{owner}` is `{now}` of worker `{now_of}` now: name that in the binding `{binding}`"
            ),
            None => format!(
                "the binding `{binding}` names the class `{class}`, which worker `{owner}` does not have: make it there by a migration first"
            ),
        };
        let path = format!("bindings.{binding}.class_name");
        faults.push(Fault { kind: FaultKind::ClassUnknown, path, message });
    }

    /// Who has a namespace after the migration, and as which class.
    fn owner_of(&self, namespace: Option<ObjectNamespaceId>) -> Option<(WorkerName, ClassName)> {
        let namespace = namespace?;
        let classes = self.applied.map_or(self.before, |applied| &applied.classes);
        let own = classes.by_name.iter().find(|(_, class)| class.namespace == namespace);
        match own {
            Some((class, _)) => Some((self.name.clone(), class.clone())),
            None => {
                let (worker, class) = self.view.object_class(namespace)?;
                (worker.name != *self.name).then(|| (worker.name.clone(), class.clone()))
            }
        }
    }
}

/// No live version of another worker may lose the objects that it binds, or find others in their place (`MIG-7`).
fn check_other_workers(view: &View, name: &WorkerName, applied: &Applied, faults: &mut Vec<Fault>) {
    let mut told = BTreeSet::new();
    for other in view.workers().filter(|other| other.name != *name) {
        for bound in other.live().flat_map(|version| view.bound_objects(other, version)) {
            let Some(namespace) = bound.namespace else { continue };
            let is_deleted = applied.deleted.iter().any(|(_, deleted)| *deleted == namespace);
            let is_replaced =
                bound.owner == name && !is_deleted && applied.classes.namespace_of(bound.class) != Some(namespace);
            if !(is_deleted || is_replaced) || !told.insert((&other.name, bound.binding)) {
                continue;
            }
            let what = if is_deleted {
                "the migration would delete the objects that worker"
            } else {
                "the migration would put other objects in place of those that worker"
            };
            let message = format!(
                "{what} `{}` is bound to by `{}` (class `{}` of `{}`): deploy `{}` without that binding first",
                other.name, bound.binding, bound.class, bound.owner, other.name
            );
            faults.push(Fault { kind: FaultKind::ClassInUse, path: "migrations".into(), message });
        }
    }
}

/// Ids for new namespaces.
fn draw(count: usize) -> Result<Vec<ObjectNamespaceId>, Error> {
    let mut bytes = vec![[0; 16]; count];
    getrandom::fill(bytes.as_flattened_mut()).map_err(|source| Error::Random { source })?;
    Ok(bytes.into_iter().map(ObjectNamespaceId::from_bytes).collect())
}
