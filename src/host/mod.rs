//! What a guest may ask for: every capability of the sandbox, and nothing else.
//!
//! A capability has three steps: it is *linked* once for each engine ([`link`]), *bound* once for each version
//! ([`Environment`]: what the configuration gives), and *opened* once for each instance ([`State`]). A guest reaches only what
//! its version is bound to (`R1`): there are no files, no sockets and no process behind the WASI interfaces.
//!
//! This room knows no sockets of clients, no routes and no deployments. Calls that go up the stairs (to other workers, later to
//! objects) leave by the traits of [`ports`].

pub mod bindings;
pub mod call;
pub mod environment;
pub mod idle;
pub mod kv;
pub mod logs;
pub mod outbound;
pub mod ports;
pub mod sluice;
pub mod state;

use wasmtime::component::Linker;

use crate::domain::module::GuestKind;

pub use environment::Environment;
pub use state::State;

/// A body on its way in or out of a guest.
pub type Body = wasmtime_wasi_http::WasiBody;

/// Interfaces that guests of both kinds may import, without their versions: what upload names when it refuses another.
///
/// A test checks that each is in the linker.
pub const OFFERED_02: &[&str] = &[
    "wasi:http/types",
    "wasi:http/outgoing-handler",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:clocks/wall-clock",
    "wasi:clocks/monotonic-clock",
    "wasi:random/random",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/stderr",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:cli/terminal-stderr",
    "wasi:filesystem/types",
    "wasi:filesystem/preopens",
    "wasi:sockets/network",
    "wasi:sockets/instance-network",
    "wasi:sockets/ip-name-lookup",
    "wasi:sockets/tcp",
    "wasi:sockets/tcp-create-socket",
    "wasi:sockets/udp",
    "wasi:sockets/udp-create-socket",
    "wasi:config/store",
    "wasi:keyvalue/store",
    "wasi:keyvalue/atomics",
    "wasi:keyvalue/batch",
    "sluice:worker-p2/version-metadata",
];

/// Interfaces that only guests of WASI 0.3 may import.
pub const OFFERED_03: &[&str] = &[
    "wasi:http/types",
    "wasi:http/client",
    "wasi:clocks/types",
    "wasi:clocks/system-clock",
    "wasi:clocks/monotonic-clock",
    "wasi:random/random",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:cli/types",
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/stderr",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:cli/terminal-stderr",
    "wasi:filesystem/types",
    "wasi:filesystem/preopens",
    "wasi:sockets/types",
    "wasi:sockets/ip-name-lookup",
    "sluice:worker/version-metadata",
    "sluice:worker/services",
];

/// Links every capability for guests of one kind. A 0.3 guest may use what a 0.2 guest may: libraries mix them.
///
/// # Errors
/// Only if two of our own definitions collide.
pub fn link(linker: &mut Linker<State>, kind: GuestKind) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)?;
    wasmtime_wasi_config::add_to_linker(linker, |state| {
        wasmtime_wasi_config::WasiConfig::from(&state.environment.variables)
    })?;
    kv::guest::link(linker)?;
    sluice::link_02(linker)?;
    if kind == GuestKind::Wasi03 {
        wasmtime_wasi::p3::add_to_linker(linker)?;
        wasmtime_wasi_http::p3::add_to_linker(linker)?;
        sluice::link_03(linker)?;
    }
    Ok(())
}
