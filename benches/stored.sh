#!/usr/bin/env bash
# Does cost grow with what is stored? One node is filled to each of SIZES versions in up to 1,000 workers, of MODULES modules
# with different bytes; after each filling its folder is kept. Then a node over each folder takes its turn, A B C A B C:
#
#   start      until it listens, and until it has answered its first request
#   sleeping   what the first request of a version takes that no one asked for since the start, beyond the next of the same
#   memory     what is resident after the start, without traffic
#   request    CPU time of the node for a request, under load for one worker
#
#   stored.sh            a table
#   stored.sh --json     the same for programs
#
# Set in the environment: SIZES="1 100 1000 10000", MODULES=300, ROUNDS=5 (medians), SECONDS_EACH=3, CONNECTIONS=16, SLEEPERS=20
# (in a round), GUEST=hello, SERVER_CORE=0, LOAD_CORE=1, SLUICE= (another binary), SLUICE_ARGS= (for `sluice serve`).
#
# The allocator's huge pages are off: with them memory grows in steps of 2 MiB, of which versions get what share chance gives them.
# Artifacts are in the page cache here, since they have just been written: what is not costs a read of the disk besides.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common/node.sh"
source "$(dirname "${BASH_SOURCE[0]}")/common/start.sh"

export MIMALLOC_ALLOW_THP=0
json=
case ${1-} in
    '') ;;
    --json) json=yes ;;
    *) die "usage: stored.sh [--json]" ;;
esac
: "${SIZES:=1 100 1000 10000}" "${MODULES:=300}" "${ROUNDS:=5}" "${SECONDS_EACH:=3}" "${CONNECTIONS:=16}" "${SLEEPERS:=20}"
: "${GUEST:=hello}" "${SERVER_CORE:=0}" "${LOAD_CORE:=1}"
workers_max=1000
need curl jq wrk taskset
build

# --- Filling -------------------------------------------------------------------------------------------

# Different bytes, and so different code: a custom section with a number tells them apart.
mkdir "$work/modules"
for ((n = 0; n < MODULES; n++)); do
    cp "$examples/$GUEST.wasm" "$work/modules/$n.wasm"
    printf '\x00\x06\x01n%04d' "$n" >> "$work/modules/$n.wasm"
done

# An upload of version N as curl reads it: the first of its worker deploys it, the others only add a version. Each has a
# configuration of its own.
transfer() {
    local worker=w$(($1 % workers_max)) url="http://$control/client/v4/accounts/local/workers/scripts" method=PUT
    (($1 < workers_max)) && url+=/$worker || { url+=/$worker/versions && method=POST; }
    printf 'next\nurl = "%s"\nrequest = %s\nfail\nsilent\nshow-error\noutput = /dev/null\nheader = "Authorization: Bearer %s"\n' \
        "$url" "$method" "$token"
    printf 'form = "metadata={\\"main_module\\":\\"w.wasm\\",\\"bindings\\":[{\\"type\\":\\"plain_text\\",\\"name\\":\\"N\\",\\"text\\":\\"%s\\"}]};type=application/json"\n' "$1"
    printf 'form = "w.wasm=@%s;type=application/wasm"\n' "$work/modules/$(($1 % MODULES)).wasm"
}

# fill FROM TO: in groups that hold no two versions of one worker.
fill() {
    local from to n
    for ((from = $1; from < $2; from = to)); do
        to=$((from + workers_max - from % workers_max))
        ((to <= $2)) || to=$2
        for ((n = from; n < to; n++)); do transfer "$n"; done | tail -n +2 > "$work/transfers"
        curl --parallel --parallel-max 8 --no-progress-meter --config "$work/transfers" || die "an upload failed"
        say "uploaded $to versions"
    done
}

# --- Measuring -----------------------------------------------------------------------------------------

# sleep_and_wake SIZE: adds to `asleep` what the first requests of sleeping workers take beyond their second ones.
sleep_and_wake() {
    local n worker began first
    for ((n = 1; n <= SLEEPERS && n < $1; n++)); do
        worker=w$(((n * 7919 + RANDOM) % ($1 < workers_max ? $1 : workers_max)))
        [[ $worker != w0 ]] || continue
        now && began=$now
        ask "$worker.localhost"
        now && first=$((now - began)) began=$now
        ask "$worker.localhost"
        now && echo $((first - (now - began))) >> "$work/asleep"
    done
}

# round SIZE: one node over the folder of that size; adds a line to `rows`.
round() {
    local resident before after requests
    rm -f "$work/asleep" "$work/listening" "$work/first" "$work/second"
    start "$work/of-$1"
    sleep 1
    resident=$(awk '/^VmRSS/ { print $2 }' "/proc/$node/status")
    sleep_and_wake "$1"
    taskset -apc "$SERVER_CORE" "$node" > /dev/null
    taskset -c "$LOAD_CORE" wrk -t1 -c"$CONNECTIONS" -d1s -s "$root/benches/wrk.lua" "http://$address/" -- w0.localhost > /dev/null
    before=$(ticks_of "$node")
    requests=$(taskset -c "$LOAD_CORE" wrk -t1 -c"$CONNECTIONS" -d"${SECONDS_EACH}s" -s "$root/benches/wrk.lua" \
        "http://$address/" -- w0.localhost | sed -n 's/^measured \([0-9]*\) [0-9]* 0 .*/\1/p')
    after=$(ticks_of "$node")
    [[ -n $requests ]] || die "requests failed under load"
    stop_node
    echo "$1 $(< "$work/listening") $(< "$work/first") $resident $(((after - before) * 1000000000 / ticks_a_second / requests)) \
$([[ ! -f $work/asleep ]] || median < "$work/asleep")" >> "$work/rows"
}

# column SIZE FIELD: the median over the rounds, or nothing.
column() { awk -v size="$1" -v field="$2" '$1 == size && $field != "" { print $field }' "$work/rows" | { grep . || true; } | median; }

filled=0
for size in $SIZES; do
    start_node "$work/node"
    began=$EPOCHSECONDS
    fill "$filled" "$size"
    say "$((size - filled)) uploads took $((EPOCHSECONDS - began)) s"
    filled=$size
    stop_node
    # Modules and compiled code never change, so links will do.
    cp -r "$work/node" "$work/of-$size"
done
for ((n = 0; n < ROUNDS; n++)); do
    for size in $SIZES; do round "$size"; done
    say "round $((n + 1)) of $ROUNDS"
done

for size in $SIZES; do
    echo "$size $(column "$size" 2) $(column "$size" 3) $(column "$size" 4) $(column "$size" 5) $(column "$size" 6)"
done > "$work/medians"
if [[ -n $json ]]; then
    jq -n --rawfile rows "$work/medians" --arg date "$(date -u +%F)" --arg cpu "$(cpu_model)" --arg guest "$GUEST" '
        {date: $date, machine: {cpu: $cpu}, guest: $guest,
         sizes: ($rows | split("\n") | map(select(. != "") | split(" ") | map(tonumber? // null)
             | {versions: .[0], listening_us: .[1], first_answer_us: .[2], resident_kib: .[3], request_cpu_ns: .[4], asleep_us: .[5]}))}'
else
    echo "$(date -u +%F), $(cpu_model), $GUEST, $MODULES modules, medians of $ROUNDS rounds"
    awk 'BEGIN { printf "%8s %10s %14s %14s %8s %15s %12s\n", "versions", "listens ms", "first answer", "CPU µs/request", "× first", "asleep ms more", "bytes each" }
        NR == 1 { size = $1; kib = $4; cpu = $5 }
        { printf "%8d %10.1f %14.1f %14.1f %8.2f %15s %12s\n", $1, $2 / 1000, $3 / 1000, $5 / 1000, $5 / cpu,
            $6 == "" ? "-" : sprintf("%.2f", $6 / 1000), $1 == size ? "-" : sprintf("%d", ($4 - kib) * 1024 / ($1 - size)) }' "$work/medians"
fi
