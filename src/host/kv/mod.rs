//! KV namespaces as guests see them: by `wasi:keyvalue` ([`guest`]) and, for those that only speak HTTP, by address
//! ([`address`]). A guest names a namespace by its binding, and reaches no other (`R1`).

pub mod address;
pub mod guest;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use crate::domain::config::Config;
use crate::domain::id::NamespaceId;
use crate::kv::{Error, Kv};

/// Cursors of `wasi:keyvalue` that are remembered for one version.
const CURSORS_MAX: usize = 1024;
/// Large values that the guests of one version write by address at once.
const LARGE_WRITES: usize = 32;

/// The namespaces that a version is bound to.
pub struct Namespaces {
    /// None while a module is proven: a guest may not write before it serves.
    kv: Option<Arc<Kv>>,
    /// By lower-case name: URL parsers lower-case hosts.
    bound: HashMap<String, NamespaceId>,
    cursors: Mutex<Cursors>,
    /// Turns of large values on their way in by address: each keeps some megabytes here, and a guest may send many at once.
    large_writes: Arc<Semaphore>,
}

/// An open `wasi:keyvalue` bucket.
pub struct Bucket {
    namespace: NamespaceId,
    kv: Arc<Kv>,
}

/// Cursors of `wasi:keyvalue` are numbers, and ours are texts: a number is made of the text, which is remembered for a while.
#[derive(Default)]
struct Cursors {
    texts: HashMap<(NamespaceId, u64), String>,
    oldest_first: VecDeque<(NamespaceId, u64)>,
}

impl Namespaces {
    /// Those of `config`.
    #[must_use]
    pub fn bind(config: &Config, kv: Option<Arc<Kv>>) -> Self {
        let bound = config.namespaces().map(|(name, id)| (name.as_str().to_ascii_lowercase(), id)).collect();
        Self { kv, bound, cursors: Mutex::default(), large_writes: Arc::new(Semaphore::new(LARGE_WRITES)) }
    }

    /// The namespace bound by this name, whatever its case.
    #[must_use]
    pub fn get(&self, binding: &str) -> Option<NamespaceId> {
        self.bound.get(&binding.to_ascii_lowercase()).copied()
    }

    fn remember(&self, namespace: NamespaceId, cursor: String) -> u64 {
        let digest = Sha256::digest(&cursor);
        let number = digest.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        let mut cursors = self.cursors.lock().unwrap_or_else(PoisonError::into_inner);
        if cursors.texts.insert((namespace, number), cursor).is_none() {
            cursors.oldest_first.push_back((namespace, number));
        }
        if cursors.oldest_first.len() > CURSORS_MAX
            && let Some(oldest) = cursors.oldest_first.pop_front()
        {
            cursors.texts.remove(&oldest);
        }
        number
    }

    fn recall(&self, namespace: NamespaceId, number: u64) -> Option<String> {
        self.cursors.lock().unwrap_or_else(PoisonError::into_inner).texts.get(&(namespace, number)).cloned()
    }
}

/// What a guest is told of an error: its own in full, the node's only as such.
fn told(error: &Error) -> String {
    if error.is_hosts() {
        tracing::error!(error = error as &dyn std::error::Error, "a KV operation of a guest failed");
        return "the node's store failed".to_owned();
    }
    error.to_string()
}
