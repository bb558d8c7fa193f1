//! `componentize MODULE COMPONENT`: writes the component that an upload of `MODULE` would run, for hosts that take nothing else.

#![allow(clippy::print_stderr, reason = "a program for scripts")]

use std::process::ExitCode;

use sluicegate::engine::compile;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [module, component] = arguments.as_slice() else {
        eprintln!("usage: componentize MODULE COMPONENT");
        return ExitCode::from(2);
    };
    match componentize(module, component) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("componentize: {error}");
            ExitCode::FAILURE
        }
    }
}

fn componentize(module: &str, component: &str) -> Result<(), String> {
    let bytes = std::fs::read(module).map_err(|error| format!("cannot read `{module}`: {error}"))?;
    let inspected = compile::inspect(&bytes).map_err(|refusal| refusal.message)?;
    std::fs::write(component, &inspected.component).map_err(|error| format!("cannot write `{component}`: {error}"))
}
