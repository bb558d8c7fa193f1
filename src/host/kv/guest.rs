//! `wasi:keyvalue` for guests: a store's identifier is the name of its binding. Nothing here charges a subrequest, and nothing
//! blocks a thread: every function waits for the store as a future.

use bytes::Bytes;
use tokio::sync::Semaphore;
use wasmtime::component::{HasData, Linker, Resource};
use wasmtime_wasi::WasiView as _;

use super::{Bucket, told};
use crate::host::bindings::keyvalue::wasi::keyvalue::{atomics, batch, store};
use crate::host::state::State;
use crate::kv::{Attributes, Condition, EntryKey, Error, Pair};

/// Keys in one answer of `list-keys`.
const LISTED: usize = 1000;
/// Values above this size are read in turns.
const LARGE_BYTES: u64 = 1024 * 1024;
/// Turns of all guests: what they read is in memory as a whole, until it is in the guest's. No guest can keep one.
static LARGE_READS: Semaphore = Semaphore::const_new(8);

struct Keyvalue;

impl HasData for Keyvalue {
    type Data<'a> = &'a mut State;
}

type Answer<T> = wasmtime::Result<Result<T, store::Error>>;

/// Links `wasi:keyvalue`.
pub(in crate::host) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    store::add_to_linker::<State, Keyvalue>(linker, |state| state)?;
    atomics::add_to_linker::<State, Keyvalue>(linker, |state| state)?;
    batch::add_to_linker::<State, Keyvalue>(linker, |state| state)
}

impl State {
    fn bucket(&mut self, bucket: &Resource<Bucket>) -> wasmtime::Result<Bucket> {
        let Bucket { namespace, kv } = self.ctx().table.get(bucket)?;
        Ok(Bucket { namespace: *namespace, kv: kv.clone() })
    }
}

fn mapped(error: Error) -> store::Error {
    match error {
        Error::NamespaceUnknown { .. } => store::Error::NoSuchStore,
        error => store::Error::Other(told(&error)),
    }
}

fn keys(texts: Vec<String>) -> Result<Vec<EntryKey>, Error> {
    texts.into_iter().map(EntryKey::new).collect()
}

// === impl store ===

impl store::Host for State {
    async fn open(&mut self, identifier: String) -> Answer<Resource<Bucket>> {
        let Some(namespace) = self.environment.namespaces.get(&identifier) else {
            return Ok(Err(store::Error::NoSuchStore));
        };
        let Some(kv) = self.environment.namespaces.kv.clone() else {
            return Ok(Err(store::Error::AccessDenied));
        };
        if let Err(error) = kv.namespace(namespace).await {
            return Ok(Err(mapped(error)));
        }
        Ok(Ok(self.ctx().table.push(Bucket { namespace, kv })?))
    }
}

impl store::HostBucket for State {
    async fn get(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<Option<Vec<u8>>> {
        let Bucket { namespace, kv } = self.bucket(&bucket)?;
        let value = async {
            let Some(mut found) = kv.get(namespace, &EntryKey::new(key)?).await? else { return Ok(None) };
            let is_large = found.value.size_bytes() > LARGE_BYTES;
            let _turn = if is_large { LARGE_READS.acquire().await.ok() } else { None };
            found.value.bytes().await.map(|bytes| Some(bytes.into()))
        };
        Ok(value.await.map_err(mapped))
    }

    async fn set(&mut self, bucket: Resource<Bucket>, key: String, value: Vec<u8>) -> Answer<()> {
        let Bucket { namespace, kv } = self.bucket(&bucket)?;
        let written = async {
            let key = EntryKey::new(key)?;
            kv.put(namespace, &key, Bytes::from(value), Attributes::default(), Condition::Any).await
        };
        Ok(written.await.map(drop).map_err(mapped))
    }

    async fn delete(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<()> {
        let Bucket { namespace, kv } = self.bucket(&bucket)?;
        let deleted = async { kv.delete(namespace, &EntryKey::new(key)?, Condition::Any).await };
        Ok(deleted.await.map_err(mapped))
    }

    async fn exists(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<bool> {
        let Bucket { namespace, kv } = self.bucket(&bucket)?;
        let exists = async { kv.exists(namespace, &EntryKey::new(key)?).await };
        Ok(exists.await.map_err(mapped))
    }

    async fn list_keys(&mut self, bucket: Resource<Bucket>, cursor: Option<u64>) -> Answer<store::KeyResponse> {
        let Bucket { namespace, kv } = self.bucket(&bucket)?;
        let namespaces = &self.environment.namespaces;
        let text = cursor.map(|number| namespaces.recall(namespace, number));
        if text.as_ref().is_some_and(Option::is_none) {
            let message = "the cursor is unknown, or too old: begin again without one";
            return Ok(Err(store::Error::Other(message.to_owned())));
        }
        let page = kv.list(namespace, "", text.flatten().as_deref(), LISTED).await;
        let answer = page.map(|page| store::KeyResponse {
            keys: page.keys.into_iter().map(|listed| listed.key.as_str().to_owned()).collect(),
            cursor: page.cursor.map(|cursor| namespaces.remember(namespace, cursor)),
        });
        Ok(answer.map_err(mapped))
    }

    async fn drop(&mut self, bucket: Resource<Bucket>) -> wasmtime::Result<()> {
        self.ctx().table.delete(bucket)?;
        Ok(())
    }
}

// === impl atomics ===

impl atomics::Host for State {
    async fn increment(&mut self, bucket: Resource<Bucket>, key: String, delta: u64) -> Answer<u64> {
        let Bucket { namespace, kv } = self.bucket(&bucket)?;
        let sum = async { kv.increment(namespace, &EntryKey::new(key)?, delta).await };
        Ok(sum.await.map_err(mapped))
    }
}

// === impl batch ===

impl batch::Host for State {
    async fn get_many(
        &mut self,
        bucket: Resource<Bucket>,
        texts: Vec<String>,
    ) -> Answer<Vec<Option<(String, Vec<u8>)>>> {
        let Bucket { namespace, kv } = self.bucket(&bucket)?;
        let values = async {
            let keys = keys(texts)?;
            let _turn = LARGE_READS.acquire().await.ok();
            let values = kv.get_many(namespace, &keys).await?;
            let pair = |(key, found): (EntryKey, Option<(_, Bytes)>)| {
                found.map(|(_, bytes)| (key.as_str().to_owned(), bytes.into()))
            };
            Ok(keys.into_iter().zip(values).map(pair).collect())
        };
        Ok(values.await.map_err(mapped))
    }

    async fn set_many(&mut self, bucket: Resource<Bucket>, pairs: Vec<(String, Vec<u8>)>) -> Answer<()> {
        let Bucket { namespace, kv } = self.bucket(&bucket)?;
        let written = async {
            let pair = |(key, value): (String, Vec<u8>)| {
                Ok(Pair { key: EntryKey::new(key)?, value: value.into(), attributes: Attributes::default() })
            };
            kv.put_many(namespace, pairs.into_iter().map(pair).collect::<Result<_, Error>>()?).await
        };
        Ok(written.await.map_err(mapped))
    }

    async fn delete_many(&mut self, bucket: Resource<Bucket>, texts: Vec<String>) -> Answer<()> {
        let Bucket { namespace, kv } = self.bucket(&bucket)?;
        let deleted = async { kv.delete_many(namespace, keys(texts)?).await };
        Ok(deleted.await.map_err(mapped))
    }
}
