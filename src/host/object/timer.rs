//! Timers of WASI 0.3, whose end is a delivery where an object waits for it. They stand in for wasmtime's own.

use std::time::Duration;

use wasmtime::component::{Accessor, Linker};

use crate::host::state::State;

/// The version of WASI whose clocks are linked; guests of others of its kind find it by compatibility.
const CLOCK: &str = "wasi:clocks/monotonic-clock@0.3.2";

/// Links the two functions that wait.
pub(in crate::host) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    let mut clock = linker.instance(CLOCK)?;
    clock.func_wrap_concurrent("wait-for", |accessor, (ns,): (u64,)| Box::pin(wait(accessor, ns)))?;
    clock.func_wrap_concurrent("wait-until", |accessor, (mark,): (u64,)| {
        Box::pin(async move {
            let now = accessor.with(|mut store| store.get().monotonic_now_ns())?;
            wait(accessor, mark.saturating_sub(now)).await
        })
    })?;
    linker.allow_shadowing(false);
    Ok(())
}

async fn wait(accessor: &Accessor<State>, ns: u64) -> wasmtime::Result<()> {
    if ns > 0 {
        tokio::time::sleep(Duration::from_nanos(ns)).await;
    }
    if let Some(object) = accessor.with(|mut store| store.get().object.clone()) {
        object.gate.ticket().await;
    }
    Ok(())
}
