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
mod fixed;
pub mod idle;
pub mod kv;
pub mod logs;
pub mod object;
pub mod outbound;
pub mod ports;
pub mod sluice;
pub mod state;
pub mod stirring;

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
    "sluice:worker-p2/object-storage",
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
    "sluice:worker/durable-objects",
    "sluice:worker/object-storage",
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
    object::guest::link_02(linker)?;
    if kind == GuestKind::Wasi03 {
        wasmtime_wasi::p3::add_to_linker(linker)?;
        wasmtime_wasi_http::p3::add_to_linker(linker)?;
        sluice::link_03(linker)?;
        object::guest::link_03(linker)?;
        object::stub::link(linker)?;
        object::timer::link(linker)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmtime::component::Component;
    use wasmtime::{Config, Engine};

    /// A function or a resource of each interface, and its version where it is not the one of WASI. Interfaces without any are
    /// types only: there is nothing to link.
    const ITEMS: &[(&str, &str)] = &[
        ("wasi:http/types", "fields"),
        ("wasi:http/outgoing-handler", "handle"),
        ("wasi:http/client", "send"),
        ("wasi:io/error", "error"),
        ("wasi:io/poll", "poll"),
        ("wasi:io/streams", "input-stream"),
        ("wasi:clocks/wall-clock", "now"),
        ("wasi:clocks/system-clock", "now"),
        ("wasi:clocks/monotonic-clock", "now"),
        ("wasi:random/random", "get-random-u64"),
        ("wasi:random/insecure", "get-insecure-random-u64"),
        ("wasi:random/insecure-seed", "insecure-seed get-insecure-seed"),
        ("wasi:cli/environment", "get-environment"),
        ("wasi:cli/exit", "exit"),
        ("wasi:cli/stdin", "get-stdin read-via-stream"),
        ("wasi:cli/stdout", "get-stdout write-via-stream"),
        ("wasi:cli/stderr", "get-stderr write-via-stream"),
        ("wasi:cli/terminal-input", "terminal-input"),
        ("wasi:cli/terminal-output", "terminal-output"),
        ("wasi:cli/terminal-stdin", "get-terminal-stdin"),
        ("wasi:cli/terminal-stdout", "get-terminal-stdout"),
        ("wasi:cli/terminal-stderr", "get-terminal-stderr"),
        ("wasi:filesystem/types", "descriptor"),
        ("wasi:filesystem/preopens", "get-directories"),
        ("wasi:sockets/types", "tcp-socket"),
        ("wasi:sockets/network", "network"),
        ("wasi:sockets/instance-network", "instance-network"),
        ("wasi:sockets/ip-name-lookup", "resolve-addresses"),
        ("wasi:sockets/tcp", "tcp-socket"),
        ("wasi:sockets/tcp-create-socket", "create-tcp-socket"),
        ("wasi:sockets/udp", "udp-socket"),
        ("wasi:sockets/udp-create-socket", "create-udp-socket"),
        ("wasi:config/store", "get"),
        ("wasi:keyvalue/store", "open"),
        ("wasi:keyvalue/atomics", "increment"),
        ("wasi:keyvalue/batch", "get-many"),
        ("sluice:worker-p2/version-metadata", "get"),
        ("sluice:worker/version-metadata", "get"),
        ("sluice:worker/services", "fetch"),
        ("sluice:worker/durable-objects", "stub"),
        ("sluice:worker/object-storage", "put"),
        ("sluice:worker-p2/object-storage", "put"),
    ];
    const TYPES_ONLY: &[&str] = &["wasi:cli/types", "wasi:clocks/types"];

    fn version(interface: &str, wasi: &str) -> String {
        match interface.split_once('/').unwrap().0 {
            "wasi:config" => "0.2.0-rc.1".to_owned(),
            "wasi:keyvalue" => "0.2.0-draft".to_owned(),
            "sluice:worker" | "sluice:worker-p2" => "0.1.0".to_owned(),
            _ => wasi.to_owned(),
        }
    }

    /// Whether the linker has the item: one that imports it with a type of no interface's is told of the type, not that there
    /// is nothing.
    fn has(linker: &Linker<State>, interface: &str, item: &str) -> bool {
        let import =
            format!(r#"(import "{interface}" (instance (export "{item}" (func (param "p" (list (tuple f32)))))))"#);
        let component =
            Component::new(linker.engine(), wat::parse_str(format!("(component {import})")).unwrap()).unwrap();
        let Err(error) = linker.instantiate_pre(&component).map(drop) else { panic!("{interface} has such a {item}") };
        !format!("{error:#}").contains("implementation is missing")
    }

    #[test]
    fn what_is_offered_is_linked() {
        let mut config = Config::new();
        config.wasm_component_model_async(true);
        let engine = Engine::new(&config).unwrap();
        for (kind, wasi, offered) in
            [(GuestKind::Wasi02, "0.2.0", OFFERED_02), (GuestKind::Wasi03, "0.3.0", OFFERED_03)]
        {
            let mut linker = Linker::new(&engine);
            link(&mut linker, kind).unwrap();
            for interface in offered.iter().filter(|interface| !TYPES_ONLY.contains(interface)) {
                let (_, items) = ITEMS.iter().find(|(known, _)| known == interface).expect(interface);
                let versioned = format!("{interface}@{}", version(interface, wasi));
                let found = items.split(' ').any(|item| has(&linker, &versioned, item));
                assert!(found, "{versioned}: no {items}");
            }
            assert!(!has(&linker, "acme:db/queries@1.0.0", "query"));
        }
    }
}
