#!/usr/bin/env bash
# What a version costs that no one asks for: how long a node takes to its first answer, and how much memory it holds.
#
#   start.sh            `sluice serve` is started over a folder with VERSIONS versions of different bytes, all compiled, and over
#                       one with MORE times as many of the same bytes: the time until it listens, and until it has answered.
#                       Memory: what is resident over VERSIONS and over MORE times as many, without traffic.
#   start.sh --json     the same for programs
#
# Set in the environment: VERSIONS=100, MORE=10, STARTS=11 (the median counts), GUEST=hello, SLUICE= (another binary),
# SLUICE_ARGS= (for `sluice serve`).
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common/node.sh"
source "$(dirname "${BASH_SOURCE[0]}")/common/start.sh"

json=
case ${1-} in
    '') ;;
    --json) json=yes ;;
    *) die "usage: start.sh [--json]" ;;
esac
: "${VERSIONS:=100}" "${MORE:=10}" "${STARTS:=11}" "${GUEST:=hello}"
need curl jq
((VERSIONS < 10000 && VERSIONS * MORE <= 100000)) || die "too many versions"
build

# --- Uploading -----------------------------------------------------------------------------------------

# Each version has bytes of its own, and so compiled code of its own: a custom section with a number tells them apart.
distinct() {
    cp "$examples/$GUEST.wasm" "$work/module.wasm"
    printf '\x00\x06\x01n%04d' "$1" >> "$work/module.wasm"
}

# fill FROM TO DISTINCT: uploads versions, 100 to a worker, since that is how many can be deployed.
fill() {
    local n worker
    for ((n = $1; n < $2; n++)); do
        worker=w$((n / 100))
        if [[ -n $3 ]]; then distinct "$n"; else cp "$examples/$GUEST.wasm" "$work/module.wasm"; fi
        if ((n % 100 == 0)); then
            upload PUT "$worker" "$work/module.wasm" '{}' > /dev/null
        else
            upload POST "$worker/versions" "$work/module.wasm" "{\"bindings\": [{\"type\": \"plain_text\", \"name\": \"N\", \"text\": \"$n\"}]}" > /dev/null
        fi
        (((n + 1) % 100)) || say "uploaded $((n + 1)) versions of $2"
    done
}

# --- Memory --------------------------------------------------------------------------------------------

# resident FOLDER: KiB that a node holds after a start over it, without traffic.
resident() {
    start_node "$1"
    sleep 1
    awk '/^VmRSS/ { print $2 }' "/proc/$node/status"
    stop_node
}

# --- Running -------------------------------------------------------------------------------------------

# measure_starts NAME FOLDER: the medians of STARTS starts, in microseconds: listening, first answer, second answer.
measure_starts() {
    local n
    for ((n = 0; n < STARTS; n++)); do start "$2" && stop_node; done
    echo "$1 $(median < "$work/listening") $(median < "$work/first") $(median < "$work/second")"
    rm "$work/listening" "$work/first" "$work/second"
}

many=$((VERSIONS * MORE))
start_node "$work/distinct"
fill 0 "$VERSIONS" distinct
stop_node
measure_starts "$VERSIONS" "$work/distinct" > "$work/starts"

start_node "$work/same"
fill 0 "$VERSIONS" ''
stop_node
few_kib=$(resident "$work/same")
start_node "$work/same"
fill "$VERSIONS" "$many" ''
stop_node
many_kib=$(resident "$work/same")
measure_starts "$many" "$work/same" >> "$work/starts"
each_bytes=$(((many_kib - few_kib) * 1024 / (many - VERSIONS)))

if [[ -n $json ]]; then
    jq -n --rawfile starts "$work/starts" --arg date "$(date -u +%F)" --arg cpu "$(cpu_model)" --arg guest "$GUEST" \
        --argjson few "$few_kib" --argjson many "$many_kib" --argjson each "$each_bytes" '
        {date: $date, machine: {cpu: $cpu}, guest: $guest,
         starts: ($starts | split("\n") | map(select(. != "") | split(" ") | map(tonumber)
             | {versions: .[0], listening_us: .[1], first_answer_us: .[2], second_answer_us: .[3]})),
         memory: {few_kib: $few, many_kib: $many, bytes_per_idle_version: $each}}'
else
    echo "$(date -u +%F), $(cpu_model), $GUEST, medians of $STARTS starts"
    awk '{ printf "%5d versions: listens after %.1f ms, has answered after %.1f ms, the next request takes %.1f ms\n",
        $1, $2 / 1000, $3 / 1000, $4 / 1000 }' "$work/starts"
    echo "resident without traffic: $few_kib KiB with $VERSIONS versions, $many_kib KiB with $many: $each_bytes bytes for each"
fi
