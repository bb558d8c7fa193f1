//! Migrations: what makes, renames, hands over and deletes the classes of a worker (`MIG-1`…`MIG-10`).
//!
//! A class is data, and data has no versions: a migration is for the whole worker, at once, and comes with a version that is
//! deployed to all traffic (`MIG-4`, `MIG-6`). It is a list of steps that are applied in their order, and within a step in this
//! one: deleted, renamed, transferred, new. So a name that a step frees can be taken again by the same step.
//!
//! Objects belong to a namespace, and a namespace keeps its id whatever its class is called and whoever owns it. That is why
//! renaming touches no object, and why a name that is past is remembered with the namespace it stood for
//! ([`Classes::forwards`]) and not with the next name: there is no chain to follow.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::domain::class::{Class, ClassStorage, Classes};
use crate::domain::config::{Fault, FaultKind};
use crate::domain::id::WorkerName;
use crate::domain::limits::{CLASSES_MAX, TAG_BYTES_MAX};
use crate::domain::object::{ClassName, ObjectNamespaceId};

/// A migration as an upload names it; names are unchecked text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Migration {
    /// The tag that the worker has to have (`MIG-3`). None: it has to have none.
    pub old_tag: Option<String>,
    /// The tag that it has afterwards.
    pub new_tag: String,
    pub steps: Vec<Step>,
}

/// What one entry of `[[migrations]]` does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Step {
    pub deleted_classes: Vec<String>,
    pub renamed_classes: Vec<Rename>,
    pub transferred_classes: Vec<Transfer>,
    pub new_classes: Vec<String>,
    pub new_sqlite_classes: Vec<String>,
}

/// A class gets another name (`MIG-8`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rename {
    pub from: String,
    pub to: String,
}

/// A class of another worker becomes one of this worker (`MIG-9`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    pub from: String,
    pub from_script: String,
    pub to: String,
}

/// What a migration came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    pub classes: Classes,
    /// The workers that gave classes away, as they are afterwards.
    pub sources: BTreeMap<WorkerName, Classes>,
    /// Classes that are gone, and the namespaces whose objects have to go (`MIG-7`).
    pub deleted: Vec<(ClassName, ObjectNamespaceId)>,
}

impl Migration {
    /// How many namespaces it makes: as many ids [`Self::apply`] takes.
    #[must_use]
    pub fn creates(&self) -> usize {
        self.steps.iter().map(|step| step.new_classes.len() + step.new_sqlite_classes.len()).sum()
    }

    /// Applies it to the classes of worker `own`. `of` gives the classes of any other worker; `ids` are as many new ids as it
    /// [creates](Self::creates), drawn at random.
    ///
    /// # Errors
    /// Every fault there is, in the order of the steps.
    pub fn apply(
        &self,
        own: &WorkerName,
        classes: &Classes,
        of: impl Fn(&WorkerName) -> Option<Classes>,
        ids: &[ObjectNamespaceId],
    ) -> Result<Applied, Vec<Fault>> {
        let mut faults = Vec::new();
        self.check_tags(own, classes.tag.as_deref(), &mut faults);
        let mut work = Work {
            own,
            of,
            fresh: ids.iter().copied(),
            made: ids.iter().copied().collect(),
            out: Applied { classes: classes.clone(), sources: BTreeMap::new(), deleted: Vec::new() },
            faults,
            path: String::new(),
        };
        // If it does not begin where the worker stands, everything else would be wrong because of that.
        if work.faults.is_empty() {
            for (index, step) in self.steps.iter().enumerate() {
                work.step(step, &format!("migrations.steps[{index}]"));
            }
            work.check_count();
        }
        work.out.classes.tag = Some(self.new_tag.clone());
        if work.faults.is_empty() { Ok(work.out) } else { Err(work.faults) }
    }

    fn check_tags(&self, own: &WorkerName, tag: Option<&str>, faults: &mut Vec<Fault>) {
        if self.old_tag.as_deref() != tag {
            let (named, has) = (tag_text(self.old_tag.as_deref()), tag_text(tag));
            let message = format!(
                "the migration is for a worker with {named}, and `{own}` has {has}: read `migration_tag` of the worker, and send the steps after it with that as `old_tag`"
            );
            faults.push(fault("migrations.old_tag".into(), message));
        } else if Some(self.new_tag.as_str()) == tag {
            let message = format!(
                "`{own}` has the tag `{}` already: a migration that is applied is not sent again",
                self.new_tag
            );
            faults.push(fault("migrations.new_tag".into(), message));
        }
        if !(1..=TAG_BYTES_MAX).contains(&self.new_tag.len()) {
            let message =
                format!("a migration's tag has 1 to {TAG_BYTES_MAX} bytes, this one has {}", self.new_tag.len());
            faults.push(fault("migrations.new_tag".into(), message));
        }
    }
}

fn tag_text(tag: Option<&str>) -> String {
    tag.map_or_else(|| "no migration tag".to_owned(), |tag| format!("the migration tag `{tag}`"))
}

fn fault(path: String, message: String) -> Fault {
    Fault { kind: FaultKind::Migration, path, message }
}

// === impl Work ===

/// A migration that is being applied.
struct Work<'a, F> {
    own: &'a WorkerName,
    of: F,
    fresh: std::iter::Copied<std::slice::Iter<'a, ObjectNamespaceId>>,
    /// Namespaces that this migration makes: no one can have bound them, and no object is in them.
    made: BTreeSet<ObjectNamespaceId>,
    out: Applied,
    faults: Vec<Fault>,
    /// Where the entry stands that is looked at.
    path: String,
}

impl<F: Fn(&WorkerName) -> Option<Classes>> Work<'_, F> {
    fn step(&mut self, step: &Step, path: &str) {
        for (index, name) in step.deleted_classes.iter().enumerate() {
            self.path = format!("{path}.deleted_classes[{index}]");
            self.delete(name);
        }
        for (index, Rename { from, to }) in step.renamed_classes.iter().enumerate() {
            self.path = format!("{path}.renamed_classes[{index}]");
            self.rename(from, to);
        }
        for (index, transfer) in step.transferred_classes.iter().enumerate() {
            self.path = format!("{path}.transferred_classes[{index}]");
            self.transfer(transfer);
        }
        for (key, storage, names) in [
            ("new_classes", ClassStorage::Kv, &step.new_classes),
            ("new_sqlite_classes", ClassStorage::Sqlite, &step.new_sqlite_classes),
        ] {
            for (index, name) in names.iter().enumerate() {
                self.path = format!("{path}.{key}[{index}]");
                self.create(name, storage);
            }
        }
    }

    fn create(&mut self, name: &str, storage: ClassStorage) {
        let Some(namespace) = self.fresh.next() else { return };
        let Some(name) = self.name(name) else { return };
        if let Some(class) = self.out.classes.by_name.get(&name) {
            return match (class.storage, storage) {
                (ClassStorage::Kv, ClassStorage::Sqlite) => self.fault(format_args!(
                    "the class `{name}` exists, made by `new_classes`, and a class never changes its storage (`MIG-10`): make another class, or delete this one with its objects first"
                )),
                _ => self.fault(format_args!(
                    "the class `{name}` exists already: leave it out, a migration is only needed to make it"
                )),
            };
        }
        self.out.classes.by_name.insert(name.clone(), Class { namespace, storage });
        self.out.classes.forwards.remove(&name);
    }

    fn delete(&mut self, name: &str) {
        let Some(name) = self.name(name) else { return };
        let Some(class) = self.take(&name) else { return };
        self.out.classes.forwards.retain(|_, namespace| *namespace != class.namespace);
        if !self.made.contains(&class.namespace) {
            self.out.deleted.push((name, class.namespace));
        }
    }

    fn rename(&mut self, from: &str, to: &str) {
        let (from, to) = (self.name(from), self.name(to));
        let (Some(from), Some(to)) = (from, to) else { return };
        if !self.is_free(&to) {
            return;
        }
        let Some(class) = self.take(&from) else { return };
        if !self.made.contains(&class.namespace) {
            self.out.classes.forwards.insert(from, class.namespace);
        }
        self.put(to, class);
    }

    fn transfer(&mut self, Transfer { from, from_script, to }: &Transfer) {
        let (from, to) = (self.name(from), self.name(to));
        let source = match from_script.parse::<WorkerName>() {
            Ok(source) => source,
            Err(error) => return self.fault(format_args!("`from_script`: {error}")),
        };
        let (Some(from), Some(to)) = (from, to) else { return };
        if source == *self.own {
            return self.fault(format_args!("`{source}` is this worker itself: use `renamed_classes`"));
        }
        if !self.is_free(&to) {
            return;
        }
        let before = self.out.sources.get(&source).cloned().or_else(|| (self.of)(&source));
        let Some(mut classes) = before else {
            return self.fault(format_args!("there is no worker `{source}` to take the class `{from}` from"));
        };
        let Some(class) = classes.by_name.remove(&from) else {
            return self.fault(format_args!("worker `{source}` has no class `{from}`; it has {}", listed(&classes)));
        };
        classes.forwards.insert(from, class.namespace);
        self.out.sources.insert(source, classes);
        self.put(to, class);
    }

    /// Nothing is free twice: two entries may not lead to the same class.
    fn is_free(&mut self, name: &ClassName) -> bool {
        let is_free = !self.out.classes.by_name.contains_key(name);
        if !is_free {
            self.fault(format_args!(
                "the class `{name}` exists already, and objects cannot be merged into it (`MIG-8`, `MIG-9`): do not make it in a migration, or delete it first"
            ));
        }
        is_free
    }

    fn put(&mut self, name: ClassName, class: Class) {
        self.out.classes.forwards.remove(&name);
        self.out.classes.by_name.insert(name, class);
    }

    fn take(&mut self, name: &ClassName) -> Option<Class> {
        let class = self.out.classes.by_name.remove(name);
        if class.is_none() {
            let has = listed(&self.out.classes);
            self.fault(format_args!("there is no class `{name}` (at this step); there is {has}"));
        }
        class
    }

    fn name(&mut self, text: &str) -> Option<ClassName> {
        text.parse().map_err(|error| self.fault(format_args!("{error}"))).ok()
    }

    fn check_count(&mut self) {
        let count = self.out.classes.by_name.len() + self.out.classes.forwards.len();
        if count > CLASSES_MAX {
            self.path = "migrations".into();
            self.fault(format_args!(
                "the worker would have {count} classes and former names of classes, the limit is {CLASSES_MAX}"
            ));
        }
    }

    fn fault(&mut self, message: fmt::Arguments<'_>) {
        self.faults.push(fault(self.path.clone(), message.to_string()));
    }
}

fn listed(classes: &Classes) -> String {
    const SHOWN_MAX: usize = 8;
    let names: Vec<String> = classes.by_name.keys().take(SHOWN_MAX).map(|name| format!("`{name}`")).collect();
    match classes.by_name.len().checked_sub(SHOWN_MAX) {
        _ if names.is_empty() => "none".to_owned(),
        Some(more @ 1..) => format!("{} and {more} more", names.join(", ")),
        _ => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace(n: u8) -> ObjectNamespaceId {
        ObjectNamespaceId::from_bytes([n; 16])
    }

    fn class(name: &str) -> ClassName {
        name.parse().unwrap()
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn made(sqlite: &[&str]) -> Step {
        Step { new_sqlite_classes: names(sqlite), ..Step::default() }
    }

    fn deleted(gone: &[&str]) -> Step {
        Step { deleted_classes: names(gone), ..Step::default() }
    }

    fn renamed(pairs: &[(&str, &str)]) -> Step {
        let rename = |(from, to): &(&str, &str)| Rename { from: (*from).into(), to: (*to).into() };
        Step { renamed_classes: pairs.iter().map(rename).collect(), ..Step::default() }
    }

    fn transferred(from_script: &str, from: &str, to: &str) -> Step {
        let transfer = Transfer { from: from.into(), from_script: from_script.into(), to: to.into() };
        Step { transferred_classes: vec![transfer], ..Step::default() }
    }

    /// A worker with these classes, and the tag `v1`.
    fn worker(classes: &[(&str, u8, ClassStorage)]) -> Classes {
        let made = |(name, n, storage): &(&str, u8, ClassStorage)| {
            (class(name), Class { namespace: namespace(*n), storage: *storage })
        };
        Classes { by_name: classes.iter().map(made).collect(), tag: Some("v1".into()), ..Classes::default() }
    }

    /// Applies steps to the worker `w`; beside it there is `other` with the class `Room`. New namespaces count from 100.
    fn apply(classes: &Classes, steps: Vec<Step>) -> Result<Applied, Vec<String>> {
        let migration = Migration { old_tag: classes.tag.clone(), new_tag: "v2".into(), steps };
        run(classes, &migration)
    }

    fn run(classes: &Classes, migration: &Migration) -> Result<Applied, Vec<String>> {
        let ids: Vec<_> = (100..).map(namespace).take(migration.creates()).collect();
        let other = worker(&[("Room", 50, ClassStorage::Kv)]);
        let of = |name: &WorkerName| (name.as_str() == "other").then(|| other.clone());
        let applied = migration.apply(&"w".parse().unwrap(), classes, of, &ids);
        applied.map_err(|faults| faults.into_iter().map(|fault| format!("{}: {}", fault.path, fault.message)).collect())
    }

    /// `name=namespace` of each class, then `name~namespace` of each forward.
    fn picture(classes: &Classes) -> String {
        let own = classes.by_name.iter().map(|(name, class)| format!("{name}={}", class.namespace.as_bytes()[0]));
        let past = classes.forwards.iter().map(|(name, namespace)| format!("{name}~{}", namespace.as_bytes()[0]));
        own.chain(past).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn classes_are_made_with_the_storage_they_are_listed_under() {
        let step = Step { new_classes: names(&["Log"]), ..made(&["Room"]) };
        let applied = apply(&Classes::default(), vec![step]).unwrap();
        assert_eq!(picture(&applied.classes), "Log=100 Room=101");
        let storage = |name| applied.classes.by_name[&class(name)].storage;
        assert_eq!((storage("Log"), storage("Room")), (ClassStorage::Kv, ClassStorage::Sqlite));
        assert_eq!(applied.classes.tag.as_deref(), Some("v2"));
        assert!(applied.deleted.is_empty() && applied.sources.is_empty());
    }

    #[test]
    fn a_rename_keeps_the_namespace_and_the_old_name_finds_it() {
        let before = worker(&[("A", 1, ClassStorage::Kv)]);
        let once = apply(&before, vec![renamed(&[("A", "B")])]).unwrap().classes;
        assert_eq!(picture(&once), "B=1 A~1");
        assert_eq!(once.by_name[&class("B")].storage, ClassStorage::Kv);
        let twice = apply(&before, vec![renamed(&[("A", "B")]), renamed(&[("B", "C")])]).unwrap().classes;
        assert_eq!(picture(&twice), "C=1 A~1 B~1");
        // Back again, and the name that was freed for another class, in one step.
        let back = apply(&before, vec![renamed(&[("A", "B")]), renamed(&[("B", "A")])]).unwrap().classes;
        assert_eq!(picture(&back), "A=1 B~1");
        let mut reused = renamed(&[("A", "B")]);
        reused.new_sqlite_classes = names(&["A"]);
        assert_eq!(picture(&apply(&before, vec![reused]).unwrap().classes), "A=100 B=1");
    }

    #[test]
    fn a_transfer_takes_the_class_from_its_worker_and_leaves_a_forward_there() {
        let before = worker(&[("A", 1, ClassStorage::Kv)]);
        let applied = apply(&before, vec![transferred("other", "Room", "Chat")]).unwrap();
        assert_eq!(picture(&applied.classes), "A=1 Chat=50");
        let (name, source) = applied.sources.iter().next().unwrap();
        assert_eq!((name.as_str(), picture(source).as_str(), source.tag.as_deref()), ("other", "Room~50", Some("v1")));
        assert!(applied.deleted.is_empty());
        // Only once.
        let twice = vec![transferred("other", "Room", "Chat"), transferred("other", "Room", "Talk")];
        assert_eq!(
            apply(&before, twice).unwrap_err(),
            ["migrations.steps[1].transferred_classes[0]: worker `other` has no class `Room`; it has none"]
        );
    }

    #[test]
    fn deleting_takes_the_forwards_along_and_names_the_objects_that_have_to_go() {
        let mut before = worker(&[("B", 1, ClassStorage::Kv), ("C", 2, ClassStorage::Kv)]);
        before.forwards = BTreeMap::from([(class("A"), namespace(1)), (class("Z"), namespace(2))]);
        let applied = apply(&before, vec![deleted(&["B"])]).unwrap();
        assert_eq!(picture(&applied.classes), "C=2 Z~2");
        assert_eq!(applied.deleted, [(class("B"), namespace(1))]);
        // Emptied and made anew in one step: other objects.
        let mut anew = deleted(&["B"]);
        anew.new_sqlite_classes = names(&["B"]);
        let applied = apply(&before, vec![anew]).unwrap();
        assert_eq!((picture(&applied.classes).as_str(), applied.deleted.len()), ("B=100 C=2 Z~2", 1));
    }

    #[test]
    fn a_whole_history_on_a_new_worker_leaves_nothing_of_what_never_was() {
        let history = vec![made(&["A", "X"]), renamed(&[("A", "B")]), deleted(&["X"])];
        let applied = apply(&Classes::default(), history).unwrap();
        assert_eq!(picture(&applied.classes), "B=100");
        assert!(applied.deleted.is_empty());
    }

    #[test]
    fn a_migration_that_does_not_begin_where_the_worker_stands_is_refused_with_its_tag() {
        let has = worker(&[]);
        let migration = |old: Option<&str>, new: &str| Migration {
            old_tag: old.map(Into::into),
            new_tag: new.into(),
            steps: vec![deleted(&["Nothing"])],
        };
        let refused = |classes: &Classes, old, new| run(classes, &migration(old, new)).unwrap_err();
        let faults = refused(&has, Some("v0"), "v2");
        assert!(faults.len() == 1 && faults[0].contains("`v0`, and `w` has the migration tag `v1`"), "{faults:?}");
        let faults = refused(&has, None, "v2");
        assert!(faults[0].contains("with no migration tag, and `w` has the migration tag `v1`"), "{faults:?}");
        let faults = refused(&Classes::default(), Some("v1"), "v2");
        assert!(faults[0].contains("`w` has no migration tag"), "{faults:?}");
        let faults = refused(&has, Some("v1"), "v1");
        assert!(faults[0].starts_with("migrations.new_tag: `w` has the tag `v1` already"), "{faults:?}");
        assert!(refused(&has, Some("v1"), "")[0].contains("1 to 100 bytes"));
    }

    #[test]
    fn all_faults_come_at_once_with_their_places() {
        let before = worker(&[("A", 1, ClassStorage::Kv), ("B", 2, ClassStorage::Sqlite)]);
        let mut first = renamed(&[("A", "B"), ("Gone", "C"), ("A", "2x")]);
        first.deleted_classes = names(&["Nothing"]);
        first.new_sqlite_classes = names(&["A", "B", "New", "New"]);
        let steps = vec![
            first,
            transferred("w", "A", "D"),
            transferred("nobody", "A", "D"),
            transferred("No Name", "A", "D"),
            transferred("other", "Hall", "D"),
            transferred("other", "Room", "A"),
        ];
        let faults = apply(&before, steps).unwrap_err();
        let places: Vec<&str> = faults.iter().map(|fault| fault.split(": ").next().unwrap()).collect();
        assert_eq!(
            places,
            [
                "migrations.steps[0].deleted_classes[0]",
                "migrations.steps[0].renamed_classes[0]",
                "migrations.steps[0].renamed_classes[1]",
                "migrations.steps[0].renamed_classes[2]",
                "migrations.steps[0].new_sqlite_classes[0]",
                "migrations.steps[0].new_sqlite_classes[1]",
                "migrations.steps[0].new_sqlite_classes[3]",
                "migrations.steps[1].transferred_classes[0]",
                "migrations.steps[2].transferred_classes[0]",
                "migrations.steps[3].transferred_classes[0]",
                "migrations.steps[4].transferred_classes[0]",
                "migrations.steps[5].transferred_classes[0]",
            ]
        );
        assert!(faults[0].contains("there is `A`, `B`"), "{faults:?}");
        assert!(faults[4].contains("never changes its storage"), "{faults:?}");
        assert!(faults[5].contains("exists already"), "{faults:?}");
        assert!(faults[7].contains("use `renamed_classes`"), "{faults:?}");
        assert!(faults[10].contains("it has `Room`"), "{faults:?}");
    }

    #[test]
    fn a_worker_has_a_limited_number_of_classes_and_former_names() {
        let many: Vec<String> = (0..CLASSES_MAX).map(|n| format!("C{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let ids: Vec<_> = (0..=CLASSES_MAX as u128).map(|n| ObjectNamespaceId::from_bytes(n.to_be_bytes())).collect();
        let run = |steps: Vec<Step>| {
            let migration = Migration { old_tag: None, new_tag: "v1".into(), steps };
            migration.apply(&"w".parse().unwrap(), &Classes::default(), |_| None, &ids)
        };
        assert_eq!(run(vec![made(&many)]).unwrap().classes.by_name.len(), CLASSES_MAX);
        let faults = run(vec![made(&many), made(&["Last"])]).unwrap_err();
        assert_eq!((faults.len(), faults[0].path.as_str()), (1, "migrations"));
    }
}
