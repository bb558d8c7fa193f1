#!/usr/bin/env bash
# Builds the example workers into dist/, and the guests of the test suite into ../tests/guests/dist/.
#
#   build.sh                  every example that is written in Rust
#   build.sh hello hello-js   these
#   build.sh --tests          every example, and every test guest
#   build.sh --tests spin     these, test guests among them
#
# What has not changed since it was built is left alone. A compiler for WebAssembly is looked for, and
# on Debian installed if need be; `find_toolchain` says which.
set -euo pipefail

examples=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$examples")
tests=$root/tests/guests
build=$examples/target
debian_packages="rustc-web cargo-web rust-web-src lld wasi-libc"

say() { printf '%s\n' "$*" >&2; }
die() { say "build.sh: $*"; exit 1; }

# --- What there is to build: an example is a folder, a test guest is a file ---------------------------

# A folder with a workspace of its own builds itself: it is there to be copied.
list_examples() {
    (cd "$examples" && for manifest in */Cargo.toml; do
        grep -q '^\[workspace\]' "$manifest" || dirname "$manifest"
    done)
}
list_javascript() { (cd "$examples" && for manifest in */package.json; do dirname "$manifest"; done); }
list_tests() { (cd "$tests" && for file in p?/guests/*.rs wat/*.wat; do basename "${file%.*}"; done); }

# Sets `kind`, `package`, `sources` (what the guest is made of) and `artefact` (where it goes).
describe() {
    local name=$1 file
    artefact=$examples/dist/$name.wasm
    if [[ -f $examples/$name/Cargo.toml ]]; then
        kind=example package=$name
        sources=("$examples"/{Cargo.toml,Cargo.lock,"$name"/{Cargo.toml,src}} "$root/wit")
    elif [[ -f $examples/$name/package.json ]]; then
        kind=javascript package=$name
        sources=("$examples/$name"/{package.json,*.mjs,*.js} "$root/wit/sluice-worker-p2")
    elif [[ -n $with_tests && -f $tests/wat/$name.wat ]]; then
        kind=text package=wat artefact=$tests/dist/$name.wat
        sources=("$tests/wat/$name.wat")
    elif [[ -n $with_tests ]] && file=$(compgen -G "$tests/p?/guests/$name.rs"); then
        kind=test artefact=$tests/dist/$name.wasm
        package=$(basename "$(dirname "$(dirname "$file")")")
        # Only this one needs a system library: it prints and reads variables through it.
        [[ $name != preview1 ]] || kind=preview1
        sources=("$tests"/{Cargo.toml,Cargo.lock,"$package"/{Cargo.toml,src}} "$file")
    else
        die "there is no guest '$name'. There are: $(list_examples | xargs) $(list_javascript | xargs)${with_tests:+ $(list_tests | xargs)}"
    fi
}

# --- What has changed ---------------------------------------------------------------------------------

checksum() { if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi; }

fingerprint() { find "$@" "$examples/build.sh" -type f -print0 | LC_ALL=C sort -z | xargs -0 cat | checksum | cut -c1-64; }

stamp_of() { printf '%s/stamps/%s' "$build" "$(basename "$artefact")"; }

is_current() { [[ -f $artefact && $(cat "$(stamp_of)" 2>/dev/null) == "$(fingerprint "${sources[@]}")" ]]; }

# Puts a built file where it belongs, whole or not at all: a host may be watching.
install_artefact() {
    mkdir -p "$(dirname "$artefact")" "$build/stamps"
    cp "$1" "$artefact.new" && chmod 644 "$artefact.new" && mv "$artefact.new" "$artefact"
    fingerprint "${sources[@]}" > "$(stamp_of)"
    say "built $(basename "$artefact") ($(($(wc -c < "$artefact") / 1024)) KiB)"
}

# --- The compiler -------------------------------------------------------------------------------------

debian_is_ready() {
    [[ -x /usr/bin/rustc && -x /usr/bin/cargo && -x /usr/bin/wasm-ld && -d /usr/lib/wasm32-wasi ]] &&
        [[ -d $(/usr/bin/rustc --print sysroot)/lib/rustlib/src/rust/library ]]
}

# Sets `target`, `target_preview1` (empty if it cannot be built for) and `cargo`, a command line.
find_toolchain() {
    local installed
    installed=$(rustup target list --installed 2>/dev/null || true)
    if grep -qx wasm32-wasip2 <<< "$installed"; then
        target=wasm32-wasip2 cargo=(cargo) target_preview1=$(grep -x wasm32-wasip1 <<< "$installed" || true)
        return
    fi
    if ! debian_is_ready && command -v apt-get >/dev/null && [[ $(id -u) == 0 ]]; then
        say "installing a compiler for WebAssembly: $debian_packages"
        apt-get update -qq >&2 && apt-get install -y -qq --no-install-recommends $debian_packages >&2 || true
    fi
    debian_is_ready || die "no compiler for WebAssembly. Install one by 'rustup target add wasm32-wasip2 wasm32-wasip1'," \
        "or on Debian by 'apt-get install $debian_packages'."
    # Debian's compiler has the standard library for no such target, but its source.
    target=wasm32-unknown-unknown target_preview1=wasm32-wasip1
    cargo=(env PATH=/usr/bin:/bin RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1
        CARGO_UNSTABLE_BUILD_STD=std,panic_abort
        CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=wasm-ld CARGO_TARGET_WASM32_WASIP1_LINKER=wasm-ld
        CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS="-Clink-self-contained=no -Clink-arg=-L/usr/lib/wasm32-wasi"
        /usr/bin/cargo)
}

# compile WORKSPACE TARGET ARGUMENT…: one run of cargo, silent unless it fails.
compile() {
    local workspace=$1 for_target=$2 log=$build/build.log
    shift 2
    # Flags and a job server of an outer build, a test run for example, are not meant for this one.
    (cd "$workspace" && unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_RUSTFLAGS CARGO_BUILD_TARGET \
        RUSTC_WRAPPER RUSTC_WORKSPACE_WRAPPER MAKEFLAGS CARGO_MAKEFLAGS &&
        "${cargo[@]}" build --locked --release --target "$for_target" --target-dir "$build" "$@") > "$log" 2>&1 ||
        { cat "$log" >&2; die "the build failed"; }
}

# --- The build ----------------------------------------------------------------------------------------

build_examples() {
    (($#)) || return 0
    local name
    compile "$examples" "$target" "${@/#/--package=}"
    for name in "$@"; do
        describe "$name"
        install_artefact "$build/$target/release/${name//-/_}.wasm"
    done
}

build_tests() {
    local for_target=$1 name
    shift
    (($#)) || return 0
    if [[ -z $for_target ]]; then
        say "skipped $*: it needs 'rustup target add wasm32-wasip1'"
        return 0
    fi
    compile "$tests" "$for_target" "${@/#/--example=}"
    for name in "$@"; do
        describe "$name"
        install_artefact "$build/$for_target/release/examples/${name//-/_}.wasm"
    done
}

build_javascript() {
    local name=$1
    if ! command -v npm >/dev/null; then
        say "skipped $name: it needs npm"
        return 0
    fi
    (cd "$examples/$name" && npm install --silent --no-audit --no-fund --package-lock=false && npm run --silent build) \
        > "$build/build.log" 2>&1 || { cat "$build/build.log" >&2; die "the build of $name failed"; }
    describe "$name"
    install_artefact "$examples/$name/build/$name.wasm"
}

with_tests= names=()
for argument in "$@"; do
    case $argument in
        --tests) with_tests=yes ;;
        -*) die "unknown option '$argument'" ;;
        *) names+=("$argument") ;;
    esac
done
if ((${#names[@]} == 0)); then
    names=($(list_examples)) # No name has a space in it.
    [[ -z $with_tests ]] || names+=($(list_tests))
fi

# Two builds at once would write the same files.
mkdir -p "$build"
if command -v flock >/dev/null; then
    exec 9> "$build/lock"
    flock 9
fi

example=() test=() preview1=() javascript=() text=()
for name in "${names[@]}"; do
    describe "$name"
    is_current || case $kind in
        example) example+=("$name") ;;
        test) test+=("$name") ;;
        preview1) preview1+=("$name") ;;
        javascript) javascript+=("$name") ;;
        text) text+=("$name") ;;
    esac
done

for name in "${text[@]}"; do
    describe "$name"
    install_artefact "${sources[0]}"
done
for name in "${javascript[@]}"; do
    build_javascript "$name"
done
if ((${#example[@]} + ${#test[@]} + ${#preview1[@]})); then
    find_toolchain
    [[ -d $build/$target ]] || say "building guests for the first time, which takes a minute or two"
    build_examples "${example[@]}"
    build_tests "$target" "${test[@]}"
    build_tests "$target_preview1" "${preview1[@]}"
fi
