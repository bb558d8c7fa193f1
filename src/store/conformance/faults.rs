//! What a writer can rely on when a commit fails (P8), with each fault at each commit of a short history.

use super::{Subject, key, memory, sqlite};
use crate::store::{
    Check, CommitError, Revision, Write,
    fault::{Fault, FaultStore},
};

#[tokio::test]
async fn p8_a_refused_commit_never_happened() {
    for Subject { store, _dir } in [memory(), sqlite()] {
        let faulty = FaultStore::at(store.clone(), 2, Fault::Refuse);
        let first = faulty.commit_value("first", None).await.unwrap();
        let refused = faulty.commit_value("second", Some(first)).await;
        assert!(matches!(refused, Err(CommitError::Refused { .. })));
        assert_eq!((faulty.revision().await, *store.watch().borrow()), (Some(first), first));
        // So the same commit may simply be tried again.
        assert_eq!(faulty.commit_value("second", Some(first)).await.unwrap(), first.next());
    }
}

#[tokio::test]
async fn p8_a_lost_acknowledgement_is_found_by_looking() {
    for Subject { store, _dir } in [memory(), sqlite()] {
        let faulty = FaultStore::at(store.clone(), 2, Fault::LoseAnswer);
        let first = faulty.commit_value("first", None).await.unwrap();
        let lost = faulty.commit_value("second", Some(first)).await;
        assert!(matches!(lost, Err(CommitError::Unknown { .. })));
        // Its own check tells whoever tries again; nothing is applied twice.
        let again = faulty.commit_value("second", Some(first)).await;
        assert!(matches!(again, Err(CommitError::Conflict { .. })));
        assert_eq!(faulty.revision().await, Some(first.next()));
    }
}

/// A record that is written with a check, as rooms above do.
trait Record {
    async fn commit_value(&self, value: &'static str, seen: Option<Revision>) -> Result<Revision, CommitError>;
    async fn revision(&self) -> Option<Revision>;
}

impl Record for FaultStore {
    async fn commit_value(&self, value: &'static str, seen: Option<Revision>) -> Result<Revision, CommitError> {
        use crate::store::Store;
        let check = seen.map_or_else(|| Check::absent(key("record")), |seen| Check::version(key("record"), seen));
        self.commit(vec![check], vec![Write::put(key("record"), value)]).await
    }

    async fn revision(&self) -> Option<Revision> {
        use crate::store::Store;
        self.get(&key("record")).await.unwrap().map(|entry| entry.revision)
    }
}
