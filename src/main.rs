//! The binary: parse, run, print what went wrong, choose the exit code. All of it is in [`sluicegate::cli`].

use std::process::ExitCode;

/// Reused instances gain a tenth by it, and fresh ones lose nothing.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    sluicegate::cli::main()
}
