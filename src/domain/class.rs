//! The classes of a worker: what its migrations have made, and which namespace the objects of each class are in (`DOI-1`).

use std::collections::BTreeMap;

use crate::domain::object::{ClassName, ObjectNamespaceId};

/// What the migrations of a worker have come to. It belongs to the worker and not to a version: all of its versions run the
/// same objects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Classes {
    pub by_name: BTreeMap<ClassName, Class>,
    /// Names that are past, each with the namespace that had it: bindings that were made before a class was renamed or handed
    /// to another worker still find it (`MIG-8`, `MIG-9`).
    pub forwards: BTreeMap<ClassName, ObjectNamespaceId>,
    /// The tag of the last migration (`MIG-3`).
    pub tag: Option<String>,
    /// The number of the version that came with the last migration. No older one can be deployed (`MIG-13`).
    pub fence: Option<u64>,
}

/// A class that a migration made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Class {
    pub namespace: ObjectNamespaceId,
    pub storage: ClassStorage,
}

/// Which storage a class was made with. It never changes (`MIG-10`); both are treated alike here, and it is recorded and shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClassStorage {
    /// `new_classes`.
    Kv,
    /// `new_sqlite_classes`.
    Sqlite,
}

impl Classes {
    /// The namespace of a class, by the name that it has or had.
    #[must_use]
    pub fn namespace_of(&self, class: &ClassName) -> Option<ObjectNamespaceId> {
        self.by_name.get(class).map(|class| class.namespace).or_else(|| self.forwards.get(class).copied())
    }

    /// Whether a version of this number is older than the last migration (`RBK-6`, `MIG-13`).
    #[must_use]
    pub fn fences_off(&self, number: u64) -> bool {
        self.fence.is_some_and(|fence| number < fence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_found_by_the_name_it_has_before_one_that_another_had() {
        let namespace = |n| ObjectNamespaceId::from_bytes([n; 16]);
        let name = |text: &str| text.parse::<ClassName>().unwrap();
        let classes = Classes {
            by_name: BTreeMap::from([(name("New"), Class { namespace: namespace(1), storage: ClassStorage::Kv })]),
            forwards: BTreeMap::from([(name("Old"), namespace(1)), (name("New"), namespace(2))]),
            ..Classes::default()
        };
        assert_eq!(classes.namespace_of(&name("New")), Some(namespace(1)));
        assert_eq!(classes.namespace_of(&name("Old")), Some(namespace(1)));
        assert_eq!(classes.namespace_of(&name("Other")), None);
    }

    #[test]
    fn only_what_is_older_than_the_last_migration_is_fenced_off() {
        assert!(!Classes::default().fences_off(1));
        let classes = Classes { fence: Some(3), ..Classes::default() };
        assert_eq!([2, 3, 4].map(|number| classes.fences_off(number)), [true, false, false]);
    }
}
