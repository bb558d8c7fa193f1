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

# timed NAME CPU COMMAND…: adds what a command took to the file of that name, in microseconds, and what the command CPU says that was
# used meanwhile to another.
timed() {
    local name=$1 cpu=$2 began used
    shift 2
    used=$("$cpu") && now && began=$now
    "$@"
    now && echo $((now - began)) >> "$work/$name"
    echo $(($("$cpu") - used)) >> "$work/$name.cpu"
}

# User and system time, in microseconds: of the node, and of the programs that this script has waited for.
of_node() { set -- $(< "/proc/$node/stat") && echo $(((${14} + ${15}) * 1000000 / $(getconf CLK_TCK))); }
of_children() { set -- $(< "/proc/$$/stat") && echo $(((${16} + ${17}) * 1000000 / $(getconf CLK_TCK))); }

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
    timed wasmtime of_children compile
    start_node "$work/node" taskset -c "$CORES"
    timed first of_node deploy "$first"
    old=$(body)
    timed second of_node deploy "$SECOND"
    new=$(body)
    [[ $old != "$new" ]] || say "the second component answers as the first: '$new'"
    stop_node
    rm -rf "$work/node"
    say "round $((n + 1)) of $ROUNDS"
done

wasmtime_us=$(median < "$work/wasmtime") first_us=$(median < "$work/first")
second_us=$(median < "$work/second")
wasmtime_cpu_us=$(median < "$work/wasmtime.cpu") first_cpu_us=$(median < "$work/first.cpu") second_cpu_us=$(median < "$work/second.cpu")
if [[ -n $json ]]; then
    jq -n --arg date "$(date -u +%F)" --arg cpu "$(cpu_model)" --arg guest "$GUEST" --arg cores "$CORES" \
        --argjson wasmtime "[$wasmtime_us, $wasmtime_cpu_us]" --argjson first "[$first_us, $first_cpu_us]" \
        --argjson second "[$second_us, $second_cpu_us]" '
        {date: $date, machine: {cpu: $cpu, cores: $cores}, guest: $guest,
         wasmtime_compile: $wasmtime, first_upload: $first, second_upload: $second} | map_values(if type == "array" then {wall_us: .[0], cpu_us: .[1]} else . end)'
else
    echo "$(date -u +%F), $(cpu_model), cores $CORES, $GUEST, medians of $ROUNDS rounds"
    # row NAME WALL CPU OF-WALL OF-CPU OF-WHAT
    row() {
        awk -v name="$1" -v wall="$2" -v cpu="$3" -v of_wall="$4" -v of_cpu="$5" -v what="$6" 'BEGIN {
            printf "%-42s %6.2f s, %6.2f s of CPU", name, wall / 1e6, cpu / 1e6
            if (what != "") printf ": %.3f and %.3f of %s", wall / of_wall, cpu / of_cpu, what
            print "" }'
    }
    row "$compiler_name" "$wasmtime_us" "$wasmtime_cpu_us" 1 1 ''
    row "first upload, proven and deployed" "$first_us" "$first_cpu_us" "$wasmtime_us" "$wasmtime_cpu_us" that
    row "second upload, another script" "$second_us" "$second_cpu_us" "$first_us" "$first_cpu_us" "the first"
fi
