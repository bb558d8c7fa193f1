//! Namespaces themselves: made, listed, renamed, deleted.

use super::error::reading;
use super::{Error, Kv, random, record};
use crate::domain::id::NamespaceId;
use crate::domain::limits::{KV_NAMESPACES_MAX, KV_TITLE_BYTES_MAX};
use crate::store::{Check, CommitError, Entry, Order, Store, Write};

/// How often a change is decided anew because another one was faster.
const ATTEMPTS_MAX: usize = 32;

/// A namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    pub id: NamespaceId,
    pub title: String,
    pub created_ms: u64,
}

/// Whether a namespace is there, for whoever has the store and needs no more than that.
///
/// # Errors
/// If the store cannot be read.
pub async fn exists(store: &dyn Store, id: NamespaceId) -> Result<bool, Error> {
    let found = store.get(&record::namespace_key(id)).await;
    Ok(found.map_err(reading("look for the KV namespace"))?.is_some())
}

impl Kv {
    /// Makes a namespace.
    ///
    /// # Errors
    /// If the title is none or taken, or there are too many.
    pub async fn create(&self, title: &str) -> Result<Namespace, Error> {
        check_title(title)?;
        if self.namespaces().await?.len() >= KV_NAMESPACES_MAX {
            return Err(Error::TooManyNamespaces);
        }
        let namespace = Namespace {
            id: NamespaceId::from_bytes(random()?),
            title: title.to_owned(),
            created_ms: self.clock.now_ms(),
        };
        let (key, title_key) = (record::namespace_key(namespace.id), record::title_key(title));
        let writes = vec![
            Write::put(key.clone(), record::namespace(title, namespace.created_ms)),
            Write::put(title_key.clone(), record::title(namespace.id)),
        ];
        match self.store.commit(vec![Check::absent(key), Check::absent(title_key)], writes).await {
            Ok(_) => Ok(namespace),
            Err(CommitError::Conflict { .. }) => Err(Error::TitleTaken { title: title.to_owned() }),
            Err(source) => Err(Error::Commit { attempt: "make the KV namespace", source }),
        }
    }

    /// All namespaces, by title.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn namespaces(&self) -> Result<Vec<Namespace>, Error> {
        let reading = reading("list the KV namespaces");
        // More than the limit only if two were made at the same moment.
        let entries = self.store.scan(record::namespaces(), Order::Ascending, 2 * KV_NAMESPACES_MAX).await;
        let mut all = entries.map_err(reading)?.iter().map(decode).collect::<Result<Vec<_>, _>>()?;
        all.sort_by(|a, b| a.title.cmp(&b.title).then(a.id.cmp(&b.id)));
        Ok(all)
    }

    /// One namespace.
    ///
    /// # Errors
    /// If there is none.
    pub async fn namespace(&self, id: NamespaceId) -> Result<Namespace, Error> {
        decode(&self.namespace_entry(id).await?)
    }

    /// Gives a namespace another title. Its data, and who is bound to it, stay.
    ///
    /// # Errors
    /// If there is no such namespace, or the title is none or taken.
    pub async fn rename(&self, id: NamespaceId, title: &str) -> Result<Namespace, Error> {
        const ATTEMPT: &str = "rename the KV namespace";
        check_title(title)?;
        for _ in 0..ATTEMPTS_MAX {
            let entry = self.namespace_entry(id).await?;
            let before = decode(&entry)?;
            if before.title == title {
                return Ok(before);
            }
            let title_key = record::title_key(title);
            let checks = vec![Check::version(entry.key.clone(), entry.revision), Check::absent(title_key.clone())];
            let writes = vec![
                Write::put(entry.key, record::namespace(title, before.created_ms)),
                Write::put(title_key.clone(), record::title(id)),
                Write::delete(record::title_key(&before.title)),
            ];
            match self.store.commit(checks, writes).await {
                Ok(_) => return Ok(Namespace { title: title.to_owned(), ..before }),
                Err(CommitError::Conflict { key }) if key == title_key => {
                    return Err(Error::TitleTaken { title: title.to_owned() });
                }
                Err(CommitError::Conflict { .. }) => {}
                Err(source) => return Err(Error::Commit { attempt: ATTEMPT, source }),
            }
        }
        Err(Error::Busy { attempt: ATTEMPT, attempts: ATTEMPTS_MAX })
    }

    /// Deletes a namespace with all that it holds. It is gone when this returns; its room is given back in the background.
    ///
    /// # Errors
    /// If there is no such namespace.
    pub async fn delete_namespace(&self, id: NamespaceId) -> Result<(), Error> {
        const ATTEMPT: &str = "delete the KV namespace";
        for _ in 0..ATTEMPTS_MAX {
            let entry = self.namespace_entry(id).await?;
            let title_key = record::title_key(&decode(&entry)?.title);
            let writes = vec![
                Write::delete(entry.key.clone()),
                Write::delete(title_key),
                Write::put(record::tombstone_key(id), Vec::new()),
            ];
            match self.store.commit(vec![Check::version(entry.key, entry.revision)], writes).await {
                Ok(_) => {
                    self.wake.notify_one();
                    return Ok(());
                }
                Err(CommitError::Conflict { .. }) => {}
                Err(source) => return Err(Error::Commit { attempt: ATTEMPT, source }),
            }
        }
        Err(Error::Busy { attempt: ATTEMPT, attempts: ATTEMPTS_MAX })
    }

    pub(super) async fn namespace_entry(&self, id: NamespaceId) -> Result<Entry, Error> {
        let found = self.store.get(&record::namespace_key(id)).await.map_err(reading("read the KV namespace"))?;
        found.ok_or(Error::NamespaceUnknown { id })
    }
}

fn decode(entry: &Entry) -> Result<Namespace, Error> {
    let (title, created_ms) = record::decode_namespace(entry)?;
    Ok(Namespace { id: record::namespace_of(entry)?, title, created_ms })
}

fn check_title(title: &str) -> Result<(), Error> {
    let fits = (1..=KV_TITLE_BYTES_MAX).contains(&title.len()) && !title.chars().any(char::is_control);
    if fits { Ok(()) } else { Err(Error::Title) }
}
