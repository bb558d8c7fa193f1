#!/usr/bin/env bash
# What a request costs: sluice beside a bare hyper server and beside `wasmtime serve`, in one run.
#
#   compare.sh            a table
#   compare.sh --json     the same, with every round, for programs
#
# Each server runs on one core, the load (wrk) on another. Servers take turns, A B C A B C, so that what disturbs the machine
# disturbs all of them; figures are medians over the rounds. Set in the environment:
#
#   ROUNDS=5          rounds                              SERVER_CORE=0, LOAD_CORE=1
#   SECONDS_EACH=4    of load for a server and a round    STEAL_MAX=5      drop a measurement in which the hypervisor took
#   CONNECTIONS=16    kept alive                                           more percent than this of both cores
#   SUBJECTS=         a regular expression: only these    FOREIGN_MAX=20   or others used more than this of the server's core
#   WASMTIME=         a wasmtime 48, else one on PATH     SLUICE=, SLUICE_ARGS=   another binary; arguments for `serve`
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common/node.sh"

json=
case ${1-} in
    '') ;;
    --json) json=yes ;;
    *) die "usage: compare.sh [--json]" ;;
esac
: "${ROUNDS:=5}" "${SECONDS_EACH:=4}" "${CONNECTIONS:=16}" "${SUBJECTS:=}" "${SERVER_CORE:=0}" "${LOAD_CORE:=1}"
: "${STEAL_MAX:=5}" "${FOREIGN_MAX:=20}" "${WASMTIME:=$(command -v wasmtime || true)}"
(($(nproc --all) >= 2)) || die "this needs two cores: one for the servers, one for the load"
need wrk curl jq taskset

# --- Subjects: name, process, address, host, version keys ------------------------------------------------

names=() pids=() addresses=() hosts=() keys=()

# subject NAME PID ADDRESS HOST [KEYS]
subject() {
    [[ $1 =~ $SUBJECTS ]] || return 0
    names+=("$1") pids+=("$2") addresses+=("$3") hosts+=("$4") keys+=("${5:-0}")
}

build bare-hyper componentize
pinned=(taskset -c "$SERVER_CORE")

launch bare-hyper "${pinned[@]}" "$release/examples/bare-hyper"
subject "bare hyper" "$pid" "$address" localhost

# worker NAME MODULE METADATA [VERSIONS]: a worker of the node; with VERSIONS, a split over two of them.
worker() {
    local name=$1 first second
    first=$(upload PUT "$name" "$2" "$3" | jq -r .deployment_id)
    if [[ -n ${4-} ]]; then
        second=$(upload POST "$name/versions" "$2" "$3" | jq -r .id)
        api POST "$name/deployments" -H 'Content-Type: application/json' -d "$(jq -n --arg a "$first" --arg b "$second" \
            '{strategy: "percentage", versions: [{version_id: $a, percentage: 50}, {version_id: $b, percentage: 50}]}')" > /dev/null
    fi
    answer "$name.localhost"
}

start_node "$work/data" "${pinned[@]}"
reuse='{"sluice": {"instance_reuse": true}}'
worker fresh "$examples/hello.wasm" '{}'
worker reused "$examples/hello.wasm" "$reuse"
worker fresh-split "$examples/hello.wasm" '{}' 2
worker reused-split "$examples/hello.wasm" "$reuse" 2
worker async "$examples/hello-async.wasm" '{}'
subject "sluice, 0.2 fresh" "$node" "$data" fresh.localhost
subject "sluice, 0.2 fresh, split, keys" "$node" "$data" fresh-split.localhost 500
subject "sluice, 0.2 reused" "$node" "$data" reused.localhost
subject "sluice, 0.2 reused, split, keys" "$node" "$data" reused-split.localhost 500
subject "sluice, 0.3" "$node" "$data" async.localhost
if [[ -f $examples/hello-js.wasm && "sluice, JS fresh" =~ $SUBJECTS ]]; then
    say "compiling the JavaScript guest, which takes a while"
    worker js "$examples/hello-js.wasm" '{}'
    # Fresh only: the fetch event of componentize-js 0.23 cannot be answered a second time in one instance.
    subject "sluice, JS fresh" "$node" "$data" js.localhost
fi

# wasmtime_serve NAME COMPONENT ARGUMENT…
wasmtime_serve() {
    local name=$1 component=$2
    shift 2
    [[ $name =~ $SUBJECTS ]] || return 0
    launch "${name//[^a-zA-Z0-9]/-}" "${pinned[@]}" "$WASMTIME" serve --addr 127.0.0.1:0 "$@" "$component"
    subject "$name" "$pid" "$address" localhost
}

if [[ -n $WASMTIME ]]; then
    say "beside $("$WASMTIME" --version)"
    for guest in hello hello-async hello-js; do
        [[ ! -f $examples/$guest.wasm ]] || "$release/examples/componentize" "$examples/$guest.wasm" "$work/$guest.wasm"
    done
    resident=(-O pooling-memory-keep-resident=1048576 -O pooling-table-keep-resident=65536 -O pooling-pagemap-scan=auto)
    wasmtime_serve "wasmtime serve, 0.2, defaults" "$work/hello.wasm"
    wasmtime_serve "wasmtime serve, 0.2, memory kept" "$work/hello.wasm" "${resident[@]}"
    wasmtime_serve "wasmtime serve, 0.2, reused" "$work/hello.wasm" --max-instance-reuse-count 100000
    wasmtime_serve "wasmtime serve, 0.3, defaults" "$work/hello-async.wasm"
    [[ ! -f $work/hello-js.wasm ]] || wasmtime_serve "wasmtime serve, JS, defaults" "$work/hello-js.wasm" -S cli
else
    say "without 'wasmtime serve': there is no wasmtime on PATH, and WASMTIME does not name one"
fi
((${#names[@]})) || die "no subject matches '$SUBJECTS'"

# --- Measuring -----------------------------------------------------------------------------------------

ticks_a_second=$(getconf CLK_TCK)

# User and system time of a process, in ticks.
ticks_of() {
    local stat
    stat=$(< "/proc/$1/stat")
    set -- ${stat##*) }
    echo $((${12} + ${13}))
}

# Of both cores: all ticks and stolen ones; of the server's: those in which a process ran.
machine_ticks() {
    awk -v server="cpu$SERVER_CORE" -v load="cpu$LOAD_CORE" '
        $1 == server || $1 == load { for (i = 2; i <= 9; i++) all += $i; stolen += $9 }
        $1 == server { ran = $2 + $3 + $4 }
        END { print all, stolen, ran }' /proc/stat
}

# load INDEX SECONDS: prints what wrk.lua measured.
load() {
    taskset -c "$LOAD_CORE" wrk -t1 -c"$CONNECTIONS" -d"$2s" -s "$root/benches/wrk.lua" "http://${addresses[$1]}/" \
        -- "${hosts[$1]}" "${keys[$1]}" | sed -n 's/^measured //p'
}

rows=$work/rows
for ((index = 0; index < ${#names[@]}; index++)); do
    [[ -n $(load "$index" 1) ]] || die "no load reaches ${names[$index]}"
done
for ((round = 1; round <= ROUNDS; round++)); do
    for ((index = 0; index < ${#names[@]}; index++)); do
        say "round $round of $ROUNDS: ${names[$index]}"
        before=$(machine_ticks) used=$(ticks_of "${pids[$index]}")
        measured=$(load "$index" "$SECONDS_EACH")
        used=$(($(ticks_of "${pids[$index]}") - used)) after=$(machine_ticks)
        echo "$index $round $used $measured $before $after" >> "$rows"
    done
done

# --- The figures ---------------------------------------------------------------------------------------

# One line for each measurement: index, round, requests a second, CPU µs a request, p50, p99, failed, percent stolen, percent of
# the server's core that others used, kept or dropped.
awk -v tick="$ticks_a_second" -v steal_max="$STEAL_MAX" -v foreign_max="$FOREIGN_MAX" '{
    all = $12 - $9; stolen = 100 * ($13 - $10) / all; foreign = 100 * ($14 - $11 - $3) / (all / 2)
    kept = stolen <= steal_max && foreign <= foreign_max
    print $1, $2, $4 * 1e6 / $5, $3 * 1e6 / tick / $4, $7, $8, $6, stolen, (foreign > 0 ? foreign : 0), (kept ? "kept" : "dropped")
}' "$rows" > "$work/figures"

# summary: index, requests a second, CPU, p50, p99, rounds kept, failed requests; medians of what is kept.
awk -v subjects="${#names[@]}" '
    function median(list, n,    i, j, x) {
        for (i = 2; i <= n; i++) { x = list[i]; for (j = i - 1; j > 0 && list[j] > x; j--) list[j + 1] = list[j]; list[j + 1] = x }
        return n % 2 ? list[(n + 1) / 2] : (list[n / 2] + list[n / 2 + 1]) / 2
    }
    function of(column, index_,    list, i) {
        for (i = 1; i <= n[index_]; i++) list[i] = kept[index_, i, column]
        return median(list, n[index_])
    }
    { failed[$1] += $7 }
    $10 == "kept" { n[$1]++; for (c = 3; c <= 6; c++) kept[$1, n[$1], c] = $c }
    END {
        for (i = 0; i < subjects; i++)
            if (n[i]) print i, of(3, i), of(4, i), of(5, i), of(6, i), n[i], failed[i]
            else print i, "-", "-", "-", "-", 0, failed[i]
    }' "$work/figures" > "$work/summary"

for name in "${names[@]}"; do printf '%s\n' "$name"; done > "$work/names"
if [[ -n $json ]]; then
    jq -n --rawfile names "$work/names" --rawfile summary "$work/summary" --rawfile figures "$work/figures" \
        --arg date "$(date -u +%F)" --arg cpu "$(cpu_model)" --arg kernel "$(uname -r)" --arg load "$(cut -d' ' -f1 /proc/loadavg)" \
        --argjson rounds "$ROUNDS" --argjson seconds "$SECONDS_EACH" --argjson connections "$CONNECTIONS" '
        def number: if . == "-" then null else tonumber end;
        def lines: split("\n") | map(select(. != "") | split(" "));
        ($names | split("\n")) as $names | ($figures | lines) as $figures | ($summary | lines) as $summary
        | ($summary | map(select($names[.[0] | tonumber] == "bare hyper")) | first) as $bare
        | {date: $date, machine: {cpu: $cpu, kernel: $kernel, load: ($load | tonumber)},
           settings: {rounds: $rounds, seconds: $seconds, connections: $connections},
           subjects: ($summary | map(. as $s | map(number) as $v | {
               name: $names[$v[0]], requests_per_s: $v[1], cpu_us_per_request: $v[2], p50_us: $v[3], p99_us: $v[4],
               times_bare_hyper: (if $bare and $v[1] and ($bare[1] | number) then
                   {wall: (($bare[1] | number) / $v[1]), cpu: ($v[2] / ($bare[2] | number))} else null end),
               rounds_kept: $v[5], failed_requests: $v[6],
               rounds: ($figures | map(select(.[0] == $s[0]) | {round: (.[1] | tonumber), requests_per_s: (.[2] | tonumber),
                   cpu_us_per_request: (.[3] | tonumber), p50_us: (.[4] | tonumber), p99_us: (.[5] | tonumber),
                   failed_requests: (.[6] | tonumber), stolen_percent: (.[7] | tonumber), foreign_percent: (.[8] | tonumber),
                   kept: (.[9] == "kept")}))}))}'
else
    say
    echo "$(date -u +%F), $(cpu_model), core $SERVER_CORE for the server, $CONNECTIONS connections, $ROUNDS rounds of $SECONDS_EACH s"
    echo
    awk '
        FNR == NR { name[FNR - 1] = $0; next }
        FNR == 1 { printf "%-34s %9s %8s %11s %8s %8s %7s\n", "server", "req/s", "× bare", "CPU µs/req", "× bare", "p99 µs", "rounds" }
        { if (name[$1] == "bare hyper") { bare_rate = $2; bare_cpu = $3 } }
        $2 == "-" { printf "%-34s %9s\n", name[$1], "(no quiet round)"; next }
        {
            wall = bare_rate ? sprintf("%.2f", bare_rate / $2) : "-"; cpu = bare_cpu ? sprintf("%.2f", $3 / bare_cpu) : "-"
            printf "%-34s %9.0f %7s %11.1f %7s %8.0f %7d", name[$1], $2, wall, $3, cpu, $5, $6
            if ($7) printf "   %d FAILED", $7
            print ""
        }' "$work/names" "$work/summary"
fi
