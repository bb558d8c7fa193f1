#!/usr/bin/env bash
# Builds the worker into dist/, with the first compiler for WebAssembly that this machine has.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

has_target() { [[ -d "$(rustc --print sysroot 2>/dev/null)/lib/rustlib/$1/lib" ]]; }

# Debian has the standard library for WebAssembly as source: rustc-web cargo-web rust-web-src lld.
has_debian() {
    [[ -x /usr/bin/cargo && -x /usr/bin/rustc && -x /usr/bin/wasm-ld ]] &&
        [[ -d "$(/usr/bin/rustc --print sysroot)/lib/rustlib/src/rust/library" ]]
}

if has_target wasm32-wasip2; then
    target=wasm32-wasip2
    cargo build --release --target $target
elif has_target wasm32-unknown-unknown; then
    # A core module that carries its component's types; Sluice makes the component of it.
    target=wasm32-unknown-unknown
    cargo build --release --target $target
elif has_debian; then
    target=wasm32-unknown-unknown
    env PATH=/usr/bin:/bin RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 CARGO_UNSTABLE_BUILD_STD=std,panic_abort \
        CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=wasm-ld /usr/bin/cargo build --release --target $target
else
    echo "build.sh: no compiler for WebAssembly. Install one by 'rustup target add wasm32-wasip2'," \
        "or on Debian by 'apt-get install rustc-web cargo-web rust-web-src lld'." >&2
    exit 1
fi

mkdir -p dist
cp "${CARGO_TARGET_DIR:-target}/$target/release/worker.wasm" dist/worker.wasm.new
mv dist/worker.wasm.new dist/worker.wasm
# Only wrangler needs this; Sluice runs the component itself.
echo 'export default {};' > dist/shim.js
