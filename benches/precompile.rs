//! `precompile COMPONENT ARTIFACT`: compiles with wasmtime's own settings, as `wasmtime compile` does, for machines without it.

#![allow(clippy::print_stderr, reason = "a program for scripts")]

use std::process::ExitCode;

use wasmtime::Engine;

/// As the binary has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [component, artifact] = arguments.as_slice() else {
        eprintln!("usage: precompile COMPONENT ARTIFACT");
        return ExitCode::from(2);
    };
    match precompile(component, artifact) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("precompile: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn precompile(component: &str, artifact: &str) -> wasmtime::Result<()> {
    let code = Engine::default().precompile_component(&std::fs::read(component)?)?;
    Ok(std::fs::write(artifact, code)?)
}
