//! Objects whose class is gone. A class goes with a commit of the catalog, at once; its objects may be many, and their data goes
//! afterwards (`MIG-7`). Between the two the namespace is *doomed*: a record that was written in that same commit, and that is
//! there after a crash, until whoever deletes the data says that it is done.

use std::sync::Arc;

use super::change::{Changes, Step, Subject};
use super::{Catalog, Error, record};
use crate::domain::object::ObjectNamespaceId;
use crate::store::Write;

impl Catalog {
    /// The namespaces whose objects have to be deleted. No class has them any more, and none ever will.
    #[must_use]
    pub fn doomed_namespaces(&self) -> Vec<ObjectNamespaceId> {
        self.view.load().doomed_namespaces().collect()
    }

    /// Notes that nothing is left of a doomed namespace. Of one that is not doomed there is nothing to note.
    ///
    /// # Errors
    /// Only if the store fails.
    pub async fn forget_doomed(self: &Arc<Self>, namespace: ObjectNamespaceId) -> Result<(), Error> {
        self.change(Subject::Doomed, "forget a namespace of deleted objects", move |_, view| {
            if !view.doomed_namespaces().any(|doomed| doomed == namespace) {
                return Ok(Step::Answer(()));
            }
            let mut changes = Changes::default();
            changes.writes.push(Write::delete(record::doomed_key(namespace)));
            Ok(Step::Commit(changes, ()))
        })
        .await
    }
}
