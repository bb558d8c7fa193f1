#!/usr/bin/env bash
# What a request costs: sluice beside a bare hyper server, `wasmtime serve` and workerd, in one run.
#
#   compare.sh            a table for each number of connections
#   compare.sh --json     the same, with every round, for programs
#
# Each server runs on one core, the load (wrk) on another. Servers take turns, A B C A B C, so that what disturbs the machine
# disturbs all of them; figures are medians over the rounds. Set in the environment:
#
#   ROUNDS=5          rounds                              SERVER_CORE=0, LOAD_CORE=1
#   SECONDS_EACH=4    of load for a server and a round    STEAL_MAX=5      drop a measurement in which the hypervisor took
#   CONNECTIONS="16 64"   kept alive: these numbers                        more percent than this of both cores
#   SUBJECTS=         a regular expression: only these    FOREIGN_MAX=20   or others used more than this of the server's core
#   WASMTIME=         a wasmtime 48, else one on PATH     SLUICE=, SLUICE_ARGS=   another binary; arguments for `serve`
#   WORKERD=          a workerd, or a folder into which `npm install workerd` has put one; else one on PATH
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common/node.sh"

json=
case ${1-} in
    '') ;;
    --json) json=yes ;;
    *) die "usage: compare.sh [--json]" ;;
esac
: "${ROUNDS:=5}" "${SECONDS_EACH:=4}" "${CONNECTIONS:=16 64}" "${SUBJECTS:=}" "${SERVER_CORE:=0}" "${LOAD_CORE:=1}"
: "${STEAL_MAX:=5}" "${FOREIGN_MAX:=20}" "${WASMTIME:=$(command -v wasmtime || true)}" "${WORKERD:=$(command -v workerd || true)}"
read -ra connections <<< "$CONNECTIONS"
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
# javascript NAME WORKER GUEST METADATA
javascript() {
    [[ -f $examples/$3.wasm && $1 =~ $SUBJECTS ]] || return 0
    say "compiling $3, which takes a while"
    worker "$2" "$examples/$3.wasm" "$4"
    subject "$1" "$node" "$data" "$2.localhost"
}
# The fetch event of componentize-js 0.23 cannot be answered a second time in one instance; a handler of one's own can.
javascript "sluice, JS fresh" js hello-js '{}'
javascript "sluice, JS reused" js-reused hello-js-handler "$reuse"

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
    for guest in hello hello-async hello-js hello-js-handler; do
        [[ ! -f $examples/$guest.wasm ]] || "$release/examples/componentize" "$examples/$guest.wasm" "$work/$guest.wasm"
    done
    resident=(-O pooling-memory-keep-resident=1048576 -O pooling-table-keep-resident=65536 -O pooling-pagemap-scan=auto)
    wasmtime_serve "wasmtime serve, 0.2, defaults" "$work/hello.wasm"
    wasmtime_serve "wasmtime serve, 0.2, memory kept" "$work/hello.wasm" "${resident[@]}"
    wasmtime_serve "wasmtime serve, 0.2, reused" "$work/hello.wasm" --max-instance-reuse-count 100000
    wasmtime_serve "wasmtime serve, 0.3, defaults" "$work/hello-async.wasm"
    [[ ! -f $work/hello-js.wasm ]] || wasmtime_serve "wasmtime serve, JS, defaults" "$work/hello-js.wasm" -S cli
    [[ ! -f $work/hello-js-handler.wasm ]] || wasmtime_serve "wasmtime serve, JS, reused" "$work/hello-js-handler.wasm" -S cli \
        --max-instance-reuse-count 100000
else
    say "without 'wasmtime serve': there is no wasmtime on PATH, and WASMTIME does not name one"
fi

# workerd_binary: the program itself, since what npm puts on a path may be a script that starts it.
workerd_binary() {
    local found=$WORKERD package
    [[ ! -d $found ]] || found=$found/node_modules/workerd/bin/workerd
    found=$(readlink -f "$found") && [[ -f $found ]] || die "there is no workerd at '$WORKERD'"
    if [[ $(head -c 2 "$found") == '#!' ]]; then
        package=$(compgen -G "$(dirname "$found")/../../@cloudflare/workerd-*-*/bin/workerd") ||
            die "'$found' starts a program of another package that is not beside it: npm install workerd"
        found=$package
    fi
    printf '%s' "$found"
}

if [[ -n $WORKERD ]]; then
    workerd=$(workerd_binary)
    say "beside $("$workerd" --version)"
    cat > "$work/hello.js" << 'END'
export default {
  fetch() {
    return new Response('Hello, World!\n', { headers: { 'content-type': 'text/plain' } });
  },
};
END
    cat > "$work/workerd.capnp" << 'END'
using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [(name = "main", worker = (
    modules = [(name = "hello.js", esModule = embed "hello.js")], compatibilityDate = "2026-11-01"))],
  sockets = [(name = "http", address = "127.0.0.1:0", http = (), service = "main")]
);
END
    if [[ "workerd, JS" =~ $SUBJECTS ]]; then
        launch workerd "${pinned[@]}" "$workerd" serve --control-fd=1 "$work/workerd.capnp"
        subject "workerd, JS" "$pid" "$address" localhost
    fi
else
    say "without workerd: there is none on PATH, and WORKERD does not name one"
fi
((${#names[@]})) || die "no subject matches '$SUBJECTS'"

# --- Measuring -----------------------------------------------------------------------------------------

# Of both cores: all ticks and stolen ones; of the server's: those in which a process ran.
machine_ticks() {
    awk -v server="cpu$SERVER_CORE" -v load="cpu$LOAD_CORE" '
        $1 == server || $1 == load { for (i = 2; i <= 9; i++) all += $i; stolen += $9 }
        $1 == server { ran = $2 + $3 + $4 }
        END { print all, stolen, ran }' /proc/stat
}

# load INDEX CONNECTIONS SECONDS: prints what wrk.lua measured.
load() {
    taskset -c "$LOAD_CORE" wrk -t1 -c"$2" -d"$3s" -s "$root/benches/wrk.lua" "http://${addresses[$1]}/" \
        -- "${hosts[$1]}" "${keys[$1]}" | sed -n 's/^measured //p'
}

rows=$work/rows
for ((index = 0; index < ${#names[@]}; index++)); do
    [[ -n $(load "$index" "${connections[0]}" 1) ]] || die "no load reaches ${names[$index]}"
done
for ((round = 1; round <= ROUNDS; round++)); do
    for at_once in "${connections[@]}"; do
        for ((index = 0; index < ${#names[@]}; index++)); do
            say "round $round of $ROUNDS, $at_once connections: ${names[$index]}"
            before=$(machine_ticks) used=$(ticks_of "${pids[$index]}")
            measured=$(load "$index" "$at_once" "$SECONDS_EACH")
            used=$(($(ticks_of "${pids[$index]}") - used)) after=$(machine_ticks)
            echo "$index $round $used $measured $before $after $at_once" >> "$rows"
        done
    done
done

# --- The figures ---------------------------------------------------------------------------------------

# One line for each measurement: connections, index, round, requests a second, CPU µs a request, p50, p99, failed, percent stolen,
# percent of the server's core that others used, kept or dropped.
awk -v tick="$ticks_a_second" -v steal_max="$STEAL_MAX" -v foreign_max="$FOREIGN_MAX" '{
    all = $12 - $9; stolen = 100 * ($13 - $10) / all; foreign = 100 * ($14 - $11 - $3) / (all / 2)
    kept = stolen <= steal_max && foreign <= foreign_max
    print $15, $1, $2, $4 * 1e6 / $5, $3 * 1e6 / tick / $4, $7, $8, $6, stolen, (foreign > 0 ? foreign : 0), (kept ? "kept" : "dropped")
}' "$rows" > "$work/figures"

# summary: connections, index, requests a second, CPU, p50, p99, rounds kept, failed requests; medians of what is kept.
awk -v subjects="${#names[@]}" -v connections="$CONNECTIONS" '
    function median(list, n,    i, j, x) {
        for (i = 2; i <= n; i++) { x = list[i]; for (j = i - 1; j > 0 && list[j] > x; j--) list[j + 1] = list[j]; list[j + 1] = x }
        return n % 2 ? list[(n + 1) / 2] : (list[n / 2] + list[n / 2 + 1]) / 2
    }
    function of(column, group,    list, i) {
        for (i = 1; i <= n[group]; i++) list[i] = kept[group, i, column]
        return median(list, n[group])
    }
    { failed[$1 " " $2] += $8 }
    $11 == "kept" { group = $1 " " $2; n[group]++; for (c = 4; c <= 7; c++) kept[group, n[group], c] = $c }
    END {
        many = split(connections, at_once, " ")
        for (c = 1; c <= many; c++) for (i = 0; i < subjects; i++) {
            group = at_once[c] " " i
            if (n[group]) print group, of(4, group), of(5, group), of(6, group), of(7, group), n[group], failed[group]
            else print group, "-", "-", "-", "-", 0, failed[group]
        }
    }' "$work/figures" > "$work/summary"

for name in "${names[@]}"; do printf '%s\n' "$name"; done > "$work/names"
if [[ -n $json ]]; then
    jq -n --rawfile names "$work/names" --rawfile summary "$work/summary" --rawfile figures "$work/figures" \
        --arg date "$(date -u +%F)" --arg cpu "$(cpu_model)" --arg kernel "$(uname -r)" --arg load "$(cut -d' ' -f1 /proc/loadavg)" \
        --argjson rounds "$ROUNDS" --argjson seconds "$SECONDS_EACH" --arg connections "$CONNECTIONS" '
        def number: if . == "-" then null else tonumber end;
        def lines: split("\n") | map(select(. != "") | split(" "));
        ($names | split("\n")) as $names | ($figures | lines) as $figures | ($summary | lines) as $summary
        | ($summary | map(select($names[.[1] | tonumber] == "bare hyper") | {key: .[0], value: .}) | from_entries) as $bares
        | {date: $date, machine: {cpu: $cpu, kernel: $kernel, load: ($load | tonumber)},
           settings: {rounds: $rounds, seconds: $seconds, connections: ($connections | split(" ") | map(select(. != "") | tonumber))},
           subjects: ($summary | map(. as $s | $bares[$s[0]] as $bare | map(number) as $v | {
               name: $names[$v[1]], connections: $v[0], requests_per_s: $v[2], cpu_us_per_request: $v[3], p50_us: $v[4], p99_us: $v[5],
               times_bare_hyper: (if $bare and $v[2] and ($bare[2] | number) then
                   {wall: (($bare[2] | number) / $v[2]), cpu: ($v[3] / ($bare[3] | number))} else null end),
               rounds_kept: $v[6], failed_requests: $v[7],
               rounds: ($figures | map(select(.[:2] == $s[:2]) | {round: (.[2] | tonumber), requests_per_s: (.[3] | tonumber),
                   cpu_us_per_request: (.[4] | tonumber), p50_us: (.[5] | tonumber), p99_us: (.[6] | tonumber),
                   failed_requests: (.[7] | tonumber), stolen_percent: (.[8] | tonumber), foreign_percent: (.[9] | tonumber),
                   kept: (.[10] == "kept")}))}))}'
else
    say
    echo "$(date -u +%F), $(cpu_model), core $SERVER_CORE for the server, $ROUNDS rounds of $SECONDS_EACH s"
    awk '
        FNR == NR { name[FNR - 1] = $0; next }
        $1 != shown {
            shown = $1; bare_rate = bare_cpu = 0
            printf "\n%-34s %9s %8s %11s %8s %8s %7s\n", $1 " connections", "req/s", "× bare", "CPU µs/req", "× bare", "p99 µs", "rounds"
        }
        $3 == "-" { printf "%-34s %9s\n", name[$2], "(no quiet round)"; next }
        name[$2] == "bare hyper" { bare_rate = $3; bare_cpu = $4 }
        {
            wall = bare_rate ? sprintf("%.2f", bare_rate / $3) : "-"; cpu = bare_cpu ? sprintf("%.2f", $4 / bare_cpu) : "-"
            printf "%-34s %9.0f %7s %11.1f %7s %8.0f %7d", name[$2], $3, wall, $4, cpu, $6, $7
            if ($8) printf "   %d FAILED", $8
            print ""
        }' "$work/names" "$work/summary"
fi
