//! Proof that a version can run: compiled, linked, instantiated once, and measured, before it exists (`V2`).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::Store;
use wasmtime::component::Component;

use crate::clock;
use crate::domain::config::Config;
use crate::domain::id::WorkerName;
use crate::domain::limits::STARTUP_CPU_MAX;
use crate::domain::module::{CodeOrigin, Compilation, ModuleDigest, ModuleFacts, Startup};
use crate::engine::compile::{self, Refusal, RefusalKind};
use crate::engine::failure;
use crate::engine::fleet::Fleet;
use crate::engine::metered::{self, CpuExceeded, Metered};
use crate::engine::version_engine::{self, Handler, Linked};
use crate::host::environment::Metadata;
use crate::host::ports::Nobody;
use crate::host::{Environment, State};

/// A guest that waits while it starts is waited for this long.
const START_WALL_MAX: Duration = Duration::from_secs(10);
/// Proofs at once: compiling takes whole cores, and traffic needs them too.
const PROOFS_AT_ONCE: usize = 2;

/// What upload learned of a module.
#[derive(Debug, Clone)]
pub struct Proven {
    pub facts: ModuleFacts,
    pub startup: Startup,
}

/// Proves modules with the fleet's engines.
pub struct Prover {
    fleet: Arc<Fleet>,
    turns: Arc<Semaphore>,
}

impl Prover {
    /// A prover for the fleet that will run what it proves.
    #[must_use]
    pub fn new(fleet: Arc<Fleet>) -> Self {
        Self { fleet, turns: Arc::new(Semaphore::new(PROOFS_AT_ONCE)) }
    }

    /// Proves that the module in `file` can run with `config`, and keeps its compiled code.
    ///
    /// # Errors
    /// What was found and what is expected: see [`Refusal`].
    pub async fn prove(
        &self,
        worker: &WorkerName,
        file: &Path,
        digest: ModuleDigest,
        config: &Config,
    ) -> Result<Proven, Refusal> {
        let (fleet, file) = (Arc::clone(&self.fleet), file.to_owned());
        let (compiled, _turn) = in_turn(&self.turns, move || compile(&fleet, &file, digest)).await?;
        let (facts, component, compilation) = compiled?;
        let linked = self.fleet.pre_instantiate(&component, facts.kind).map_err(|error| {
            Refusal::invalid(format!("the component does not fit its imports: {}", first_lines(&error)))
        })?;
        let mut startup = self.start(worker, &linked, config).await?;
        startup.compilation = Some(compilation);
        let (compile_ms, start_ms) = (compilation.time_ms, startup.time_ms);
        tracing::info!(%worker, module = %digest, wasi = facts.kind.wasi(), compile_ms, start_ms, "a module was proven");
        Ok(Proven { facts, startup })
    }

    /// Instantiates once.
    async fn start(&self, worker: &WorkerName, linked: &Linked, config: &Config) -> Result<Startup, Refusal> {
        // The version has no id yet; one that is plainly none stands in for it.
        let about = Metadata { id: uuid::Uuid::nil().to_string(), tag: String::new(), timestamp: String::new() };
        let outbound = Arc::clone(&self.fleet.outbound);
        let environment = Environment::bind(worker, &about, config, Arc::new(Nobody), outbound, None);
        let memory_bytes_max = self.fleet.engines.settings.guest_memory_bytes;
        let kit = self.fleet.engines.kit(linked.kind());
        // Counted as waiting, so that instances without work make room.
        let slot = version_engine::wait_for(&kit.slots, &kit.waiting).await;
        let _slot = slot.map_err(|_| Refusal::host("all instances are taken by requests that run; try again soon"))?;
        let mut store = Store::new(&kit.engine, State::new(Arc::new(environment), memory_bytes_max));
        metered::arm(&mut store, STARTUP_CPU_MAX);
        let meter = Arc::clone(&store.data().meter);
        let began = clock::monotonic();
        let instantiating = Metered::new(
            async {
                match &linked.handler {
                    Handler::Wasi02(pre) => pre.instantiate_async(&mut store).await.map(drop),
                    Handler::Wasi03(pre) => pre.instantiate_async(&mut store).await.map(drop),
                }
            },
            meter,
            (),
        );
        let result = tokio::time::timeout(START_WALL_MAX, instantiating).await;
        let time_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        match result {
            Ok(Ok(())) => Ok(Startup { time_ms, memory_bytes: store.data().limiter.memory_bytes(), compilation: None }),
            Ok(Err(error)) => Err(refusal_of(&error, store.data())),
            Err(_) => Err(Refusal::invalid(format!("the guest did not start within {} s", START_WALL_MAX.as_secs()))),
        }
    }
}

/// Compiles when it is its turn, on a thread of its own. Nothing stops a compiler: if the caller goes away, its turn lasts until
/// the work is done all the same, or clients that give up and come again would have any number of them run.
async fn in_turn<T: Send + 'static>(
    turns: &Arc<Semaphore>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<(T, OwnedSemaphorePermit), Refusal> {
    let turn = Arc::clone(turns).acquire_owned().await.map_err(|_| Refusal::host("the node is stopping"))?;
    let working = tokio::task::spawn_blocking(move || (work(), turn));
    working.await.map_err(|_| Refusal::host("the compiler failed on this module"))
}

/// Why a guest did not start. Never with the word that makes wrangler profile the upload by itself.
fn refusal_of(error: &wasmtime::Error, state: &State) -> Refusal {
    if error.downcast_ref::<CpuExceeded>().is_some() {
        let limit = STARTUP_CPU_MAX.as_millis();
        return Refusal::invalid(format!(
            "the guest used more than {limit} ms of CPU time while starting: do less before the first request"
        ));
    }
    let cause = failure::one_line(error);
    if state.limiter.refused || cause.contains("memory") && cause.contains("limit") {
        let limit = state.limiter.memory_bytes_max() / (1024 * 1024);
        return Refusal::invalid(format!("the guest needs more than {limit} MiB of memory while starting ({cause})"));
    }
    Refusal::invalid(format!("the guest trapped while starting: {cause}"))
}

/// The module's facts and its code. What is timed is the code alone: a compiler, or the shelf that has it.
fn compile(fleet: &Fleet, file: &Path, digest: ModuleDigest) -> Result<(ModuleFacts, Component, Compilation), Refusal> {
    let bytes =
        std::fs::read(file).map_err(|error| Refusal::host(format!("cannot read the uploaded module back: {error}")))?;
    let inspected = compile::inspect(&bytes)?;
    let facts = ModuleFacts {
        digest,
        size_bytes: bytes.len() as u64,
        kind: inspected.kind,
        imports: inspected.imports,
        exports: inspected.exports,
    };
    let kit = fleet.engines.kit(facts.kind);
    let began = clock::monotonic();
    let (component, code) = match fleet.artifacts.load(&kit.engine, digest, facts.kind) {
        Some(component) => (component, CodeOrigin::Known),
        None => fleet
            .artifacts
            .make(&kit.engine, digest, facts.kind, &inspected.component)
            .map_err(|error| Refusal::invalid(format!("the component does not compile: {}", first_lines(&error))))?,
    };
    let time_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok((facts, component, Compilation { time_ms, code }))
}

/// The whole chain of causes, without line breaks.
fn first_lines(error: &wasmtime::Error) -> String {
    const CHARS_MAX: usize = 600;
    format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ").chars().take(CHARS_MAX).collect()
}

impl Refusal {
    /// Whether the uploader can do something about it.
    #[must_use]
    pub fn is_callers(&self) -> bool {
        self.kind != RefusalKind::Host
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_compiler_whose_caller_went_away_keeps_its_turn_until_it_is_done() {
        let turns = Arc::new(Semaphore::new(1));
        let (began, begun) = tokio::sync::oneshot::channel();
        let (end, ends) = mpsc::channel::<()>();
        let caller = tokio::spawn({
            let turns = Arc::clone(&turns);
            async move { in_turn(&turns, move || (began.send(()), ends.recv())).await.map(drop) }
        });
        begun.await.unwrap();
        caller.abort();
        assert!(caller.await.unwrap_err().is_cancelled());
        assert_eq!(turns.available_permits(), 0);
        end.send(()).unwrap();
        let (result, _turn) = in_turn(&turns, || 7).await.unwrap();
        assert_eq!(result, 7);
    }
}
