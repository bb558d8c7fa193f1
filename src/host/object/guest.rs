//! `object-storage` as guests of both kinds import it. In an instance that is no object every function says so.

use std::sync::Arc;

use bytes::Bytes;
use wasmtime::component::{Accessor, HasData, Linker};

use crate::domain::limits::OBJECT_KEYS_PER_CALL_MAX;
use crate::host::bindings::worker::sluice::worker::object_storage as p3;
use crate::host::bindings::worker_p2::sluice::worker_p2::object_storage as p2;
use crate::host::object::Object;
use crate::host::object::storage::{Fault, Query};
use crate::host::state::State;

struct Storage;

impl HasData for Storage {
    type Data<'a> = &'a mut State;
}

/// Links the storage for guests of WASI 0.2.
pub(in crate::host) fn link_02(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    p2::add_to_linker::<State, Storage>(linker, |state| state)
}

/// Links the storage for guests of WASI 0.3.
pub(in crate::host) fn link_03(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    p3::add_to_linker::<State, Storage>(linker, |state| state)
}

type Pairs = Vec<(String, Vec<u8>)>;

/// The keys and values that there are.
fn pairs(found: impl IntoIterator<Item = (String, Option<Bytes>)>) -> Pairs {
    found.into_iter().filter_map(|(key, value)| Some((key, value?.into()))).collect()
}

/// In key order, each key once.
fn distinct(mut keys: Vec<String>) -> Vec<String> {
    let asked = keys.len();
    keys.sort_unstable();
    keys.dedup();
    // The limit is on what was asked.
    if asked > OBJECT_KEYS_PER_CALL_MAX {
        keys.resize(asked, String::new());
    }
    keys
}

/// In key order, as the contract has it.
async fn get_many(object: &Object, keys: Vec<String>) -> Result<Pairs, Fault> {
    let keys = distinct(keys);
    let values = object.storage.get_many(keys.clone()).await?;
    Ok(pairs(keys.into_iter().zip(values)))
}

async fn list(object: &Object, query: Query) -> Result<Pairs, Fault> {
    let found = object.storage.list(query).await?;
    Ok(found.into_iter().map(|(key, value)| (key, value.into())).collect())
}

async fn delete(object: &Object, keys: Vec<String>) -> Result<u32, Fault> {
    object.storage.delete(distinct(keys)).await
}

/// The parts of the two contracts that read the same but are of different types.
macro_rules! shapes {
    ($p:ident) => {
        impl From<Fault> for $p::StorageError {
            fn from(fault: Fault) -> Self {
                match fault {
                    Fault::TooLarge(limit) => Self::TooLarge(limit),
                    Fault::Superseded => Self::Superseded,
                    Fault::Unavailable(why) => Self::Unavailable(why),
                }
            }
        }

        impl From<$p::ListOptions> for Query {
            fn from(options: $p::ListOptions) -> Self {
                let $p::ListOptions { prefix, start, start_after, end, reverse, limit } = options;
                let limit = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
                Self { prefix: prefix.unwrap_or_default(), start, start_after, end, reverse, limit }
            }
        }
    };
}

shapes!(p2);
shapes!(p3);

// === WASI 0.3 ===

impl p3::Host for State {
    fn put(&mut self, entries: Pairs) -> wasmtime::Result<Result<(), p3::StorageError>> {
        let Some(object) = &self.object else { return Ok(Err(p3::StorageError::NotAnObject)) };
        Ok(object.storage.put(entries).map_err(Into::into))
    }

    fn delete_all(&mut self) -> wasmtime::Result<Result<(), p3::StorageError>> {
        let Some(object) = &self.object else { return Ok(Err(p3::StorageError::NotAnObject)) };
        object.storage.delete_all();
        Ok(Ok(()))
    }

    fn set_alarm(&mut self, due_ms: u64) -> wasmtime::Result<Result<(), p3::StorageError>> {
        let Some(object) = &self.object else { return Ok(Err(p3::StorageError::NotAnObject)) };
        object.storage.set_alarm(due_ms);
        Ok(Ok(()))
    }

    fn delete_alarm(&mut self) -> wasmtime::Result<Result<(), p3::StorageError>> {
        let Some(object) = &self.object else { return Ok(Err(p3::StorageError::NotAnObject)) };
        object.storage.delete_alarm();
        Ok(Ok(()))
    }
}

fn object(accessor: &Accessor<State, Storage>) -> Option<Arc<Object>> {
    accessor.with(|mut store| store.get().object.clone())
}

impl p3::HostWithStore<State> for Storage {
    async fn get(
        accessor: &Accessor<State, Self>,
        key: String,
    ) -> wasmtime::Result<Result<Option<Vec<u8>>, p3::StorageError>> {
        let Some(object) = object(accessor) else { return Ok(Err(p3::StorageError::NotAnObject)) };
        Ok(object.storage.get(&key).await.map(|value| value.map(Into::into)).map_err(Into::into))
    }

    async fn get_many(
        accessor: &Accessor<State, Self>,
        keys: Vec<String>,
    ) -> wasmtime::Result<Result<Pairs, p3::StorageError>> {
        let Some(object) = object(accessor) else { return Ok(Err(p3::StorageError::NotAnObject)) };
        Ok(get_many(&object, keys).await.map_err(Into::into))
    }

    async fn list(
        accessor: &Accessor<State, Self>,
        options: p3::ListOptions,
    ) -> wasmtime::Result<Result<Pairs, p3::StorageError>> {
        let Some(object) = object(accessor) else { return Ok(Err(p3::StorageError::NotAnObject)) };
        Ok(list(&object, options.into()).await.map_err(Into::into))
    }

    async fn delete(
        accessor: &Accessor<State, Self>,
        keys: Vec<String>,
    ) -> wasmtime::Result<Result<u32, p3::StorageError>> {
        let Some(object) = object(accessor) else { return Ok(Err(p3::StorageError::NotAnObject)) };
        Ok(delete(&object, keys).await.map_err(Into::into))
    }

    async fn sync(accessor: &Accessor<State, Self>) -> wasmtime::Result<Result<(), p3::StorageError>> {
        let Some(object) = object(accessor) else { return Ok(Err(p3::StorageError::NotAnObject)) };
        Ok(object.storage.sync().await.map_err(Into::into))
    }

    async fn get_alarm(accessor: &Accessor<State, Self>) -> wasmtime::Result<Result<Option<u64>, p3::StorageError>> {
        let Some(object) = object(accessor) else { return Ok(Err(p3::StorageError::NotAnObject)) };
        Ok(Ok(object.storage.alarm()))
    }
}

// === WASI 0.2 ===

impl p2::Host for State {
    async fn get(&mut self, key: String) -> wasmtime::Result<Result<Option<Vec<u8>>, p2::StorageError>> {
        let Some(object) = &self.object else { return Ok(Err(p2::StorageError::NotAnObject)) };
        Ok(object.storage.get(&key).await.map(|value| value.map(Into::into)).map_err(Into::into))
    }

    async fn get_many(&mut self, keys: Vec<String>) -> wasmtime::Result<Result<Pairs, p2::StorageError>> {
        let Some(object) = &self.object else { return Ok(Err(p2::StorageError::NotAnObject)) };
        Ok(get_many(object, keys).await.map_err(Into::into))
    }

    async fn list(&mut self, options: p2::ListOptions) -> wasmtime::Result<Result<Pairs, p2::StorageError>> {
        let Some(object) = &self.object else { return Ok(Err(p2::StorageError::NotAnObject)) };
        Ok(list(object, options.into()).await.map_err(Into::into))
    }

    async fn put(&mut self, entries: Pairs) -> wasmtime::Result<Result<(), p2::StorageError>> {
        p3::Host::put(self, entries).map(to_02)
    }

    async fn delete(&mut self, keys: Vec<String>) -> wasmtime::Result<Result<u32, p2::StorageError>> {
        let Some(object) = &self.object else { return Ok(Err(p2::StorageError::NotAnObject)) };
        Ok(delete(object, keys).await.map_err(Into::into))
    }

    async fn delete_all(&mut self) -> wasmtime::Result<Result<(), p2::StorageError>> {
        p3::Host::delete_all(self).map(to_02)
    }

    async fn sync(&mut self) -> wasmtime::Result<Result<(), p2::StorageError>> {
        let Some(object) = &self.object else { return Ok(Err(p2::StorageError::NotAnObject)) };
        Ok(object.storage.sync().await.map_err(Into::into))
    }

    async fn get_alarm(&mut self) -> wasmtime::Result<Result<Option<u64>, p2::StorageError>> {
        let Some(object) = &self.object else { return Ok(Err(p2::StorageError::NotAnObject)) };
        Ok(Ok(object.storage.alarm()))
    }

    async fn set_alarm(&mut self, due_ms: u64) -> wasmtime::Result<Result<(), p2::StorageError>> {
        p3::Host::set_alarm(self, due_ms).map(to_02)
    }

    async fn delete_alarm(&mut self) -> wasmtime::Result<Result<(), p2::StorageError>> {
        p3::Host::delete_alarm(self).map(to_02)
    }
}

fn to_02(result: Result<(), p3::StorageError>) -> Result<(), p2::StorageError> {
    result.map_err(|error| match error {
        p3::StorageError::NotAnObject => p2::StorageError::NotAnObject,
        p3::StorageError::TooLarge(limit) => p2::StorageError::TooLarge(limit),
        p3::StorageError::Superseded => p2::StorageError::Superseded,
        p3::StorageError::Unavailable(why) => p2::StorageError::Unavailable(why),
    })
}
