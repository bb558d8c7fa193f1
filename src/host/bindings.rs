//! The host's side of `wit/`, generated; nothing else.

/// `sluice:worker`, for guests of WASI 0.3.
pub mod worker {
    wasmtime::component::bindgen!({
        inline: "
            package sluice:host-worker;
            world worker {
                import sluice:worker/version-metadata@0.1.0;
                import sluice:worker/services@0.1.0;
                import sluice:worker/durable-objects@0.1.0;
                import sluice:worker/object-storage@0.1.0;
                export sluice:worker/durable-object@0.1.0;
            }
        ",
        path: "wit/sluice-worker",
        world: "sluice:host-worker/worker",
        imports: {
            "sluice:worker/services.fetch": async | store | trappable,
            default: trappable,
        },
        exports: { default: async },
        with: {
            "wasi:http/types": wasmtime_wasi_http::p3::bindings::http::types,
            "wasi:clocks": wasmtime_wasi::p3::bindings::clocks,
            "sluice:worker/durable-objects.namespace": crate::host::object::stub::Namespace,
            "sluice:worker/durable-objects.object-id": crate::host::object::stub::Id,
            "sluice:worker/durable-objects.stub": crate::host::object::stub::Stub,
        },
    });
}

/// `sluice:worker-p2`, for guests of WASI 0.2.
pub mod worker_p2 {
    wasmtime::component::bindgen!({
        inline: "
            package sluice:host-worker-p2;
            world worker {
                import sluice:worker-p2/version-metadata@0.1.0;
                import sluice:worker-p2/object-storage@0.1.0;
                export sluice:worker-p2/durable-object@0.1.0;
            }
        ",
        path: "wit/sluice-worker-p2",
        world: "sluice:host-worker-p2/worker",
        imports: {
            "sluice:worker-p2/version-metadata.get": trappable,
            default: async | trappable,
        },
        exports: { default: async },
        with: {
            "wasi:http/types": wasmtime_wasi_http::p2::bindings::http::types,
            "wasi:io": wasmtime_wasi::p2::bindings::io,
            "wasi:clocks": wasmtime_wasi::p2::bindings::clocks,
        },
        require_store_data_send: true,
    });
}

/// `wasi:keyvalue`, for guests of both kinds.
pub mod keyvalue {
    wasmtime::component::bindgen!({
        inline: "
            package sluice:host-keyvalue;
            world host {
                import wasi:keyvalue/store@0.2.0-draft;
                import wasi:keyvalue/atomics@0.2.0-draft;
                import wasi:keyvalue/batch@0.2.0-draft;
            }
        ",
        path: "wit/sluice-worker-p2",
        world: "sluice:host-keyvalue/host",
        imports: { default: async | trappable },
        with: { "wasi:keyvalue/store.bucket": crate::host::kv::Bucket },
    });
}
