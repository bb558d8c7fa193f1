#!/usr/bin/env bash
# How long until an upload is proven and deployed: beside `wasmtime compile` of the same component, and once more with another
# script in it.
#
#   upload.sh            a table
#   upload.sh --json     the same for programs
#
# In each round all take their turn on the same cores: `wasmtime compile`; a new node, the upload of the component, and the upload
# of the component with another script. That is SECOND, or else the component with another greeting written over its own, which
# leaves the code as it is, as the tools for JavaScript and Python do.
#
# Set in the environment: ROUNDS=3 (the medians count), CORES=0,1, GUEST=hello-js, SECOND= (a component), WASMTIME= (a wasmtime 48
# that compiles; else one on PATH, else a program that calls its library likewise), SLUICE= (another binary), SLUICE_ARGS= (for
# `sluice serve`).
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common/node.sh"
source "$(dirname "${BASH_SOURCE[0]}")/common/start.sh"

json=
case ${1-} in
    '') ;;
    --json) json=yes ;;
    *) die "usage: upload.sh [--json]" ;;
esac
: "${ROUNDS:=3}" "${CORES:=0,1}" "${GUEST:=hello-js}" "${SECOND:=}" "${WASMTIME:=$(command -v wasmtime || true)}"
need curl jq taskset
if [[ -n $WASMTIME ]] && "$WASMTIME" compile --help > /dev/null 2>&1; then
    build
    compiler=("$WASMTIME" compile -o "$work/compiled") compiler_name="wasmtime compile"
else
    build precompile
    compiler=("$release/examples/precompile") compiler_name="wasmtime's library, as wasmtime compile"
fi
[[ -f $examples/$GUEST.wasm ]] || die "there is no $examples/$GUEST.wasm; guest-examples/build.sh $GUEST makes it where npm is"
first=$examples/$GUEST.wasm
if [[ -z $SECOND ]]; then
    SECOND=$work/second.wasm
    sed 's/Hello, World!/Hello, Moon!!/g' "$first" > "$SECOND"
    ! cmp --silent "$first" "$SECOND" || die "there is no greeting in $first to write over"
fi

# timed NAME COMMAND…: adds what a command took to the file of that name, in microseconds.
timed() {
    local name=$1 began
    shift
    now && began=$now
    "$@"
    now && echo $((now - began)) >> "$work/$name"
}

compile() {
    if [[ $compiler_name == "wasmtime compile" ]]; then
        taskset -c "$CORES" "${compiler[@]}" "$first"
    else
        taskset -c "$CORES" "${compiler[@]}" "$first" "$work/compiled"
    fi
    rm "$work/compiled"
}
deploy() { upload PUT w "$1" '{}' > /dev/null; }
body() { curl --silent --fail -H 'Host: w.localhost' "http://$data/"; }

for ((n = 0; n < ROUNDS; n++)); do
    timed wasmtime compile
    start_node "$work/node" taskset -c "$CORES"
    timed first deploy "$first"
    old=$(body)
    timed second deploy "$SECOND"
    new=$(body)
    [[ $old != "$new" ]] || say "the second component answers as the first: '$new'"
    stop_node
    rm -rf "$work/node"
    say "round $((n + 1)) of $ROUNDS"
done

wasmtime_us=$(median < "$work/wasmtime") first_us=$(median < "$work/first")
second_us=$(median < "$work/second")
if [[ -n $json ]]; then
    jq -n --arg date "$(date -u +%F)" --arg cpu "$(cpu_model)" --arg guest "$GUEST" --arg cores "$CORES" \
        --argjson wasmtime "$wasmtime_us" --argjson first "$first_us" --argjson second "$second_us" '
        {date: $date, machine: {cpu: $cpu, cores: $cores}, guest: $guest,
         wasmtime_compile_us: $wasmtime, first_upload_us: $first, second_upload_us: $second}'
else
    echo "$(date -u +%F), $(cpu_model), cores $CORES, $GUEST, medians of $ROUNDS rounds"
    awk -v it="$wasmtime_us" -v name="$compiler_name" 'BEGIN { printf "%-40s %7.2f s\n", name, it / 1e6 }'
    awk -v it="$first_us" -v of="$wasmtime_us" 'BEGIN { printf "%-40s %7.2f s, %.2f of that\n", "first upload, proven and deployed", it / 1e6, it / of }'
    awk -v it="$second_us" -v of="$first_us" 'BEGIN { printf "%-40s %7.2f s, %.3f of the first\n", "second upload, another script", it / 1e6, it / of }'
fi
