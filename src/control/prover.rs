//! The port through which an upload is proven to start (`V2`): the engine, or in tests whoever plays it.

use std::path::Path;

use futures_util::future::BoxFuture;

use crate::domain::config::Config;
use crate::domain::id::WorkerName;
use crate::domain::module::ModuleDigest;
use crate::engine;
use crate::engine::compile::Refusal;
use crate::engine::prove::Proven;

/// Whoever can tell whether a module with a configuration is a version that starts. It bounds by itself how many proofs run.
pub trait Prover: Send + Sync + 'static {
    /// Compiles, links and instantiates once the module in `file`, whose bytes have `digest`.
    fn prove<'a>(
        &'a self,
        worker: &'a WorkerName,
        file: &'a Path,
        digest: ModuleDigest,
        config: &'a Config,
    ) -> BoxFuture<'a, Result<Proven, Refusal>>;
}

impl Prover for engine::prove::Prover {
    fn prove<'a>(
        &'a self,
        worker: &'a WorkerName,
        file: &'a Path,
        digest: ModuleDigest,
        config: &'a Config,
    ) -> BoxFuture<'a, Result<Proven, Refusal>> {
        Box::pin(self.prove(worker, file, digest, config))
    }
}
