#!/usr/bin/env bash
# What deployments, and versions that misbehave, do to the requests beside them.
#
#   under-load.sh                both tables
#   under-load.sh deployments    50 deployments a second while every connection asks as fast as it is answered, and without them
#   under-load.sh canaries       a canary at 20 % that spins to its CPU limit, hogs memory to its limit, or traps: what the stable
#                                version's requests notice, which come at a fixed rate whatever becomes of those before; and, to
#                                tell the machine's part from ours, what they notice of another program that loops on the same
#                                core and that the system runs when nothing else does (`chrt --idle`)
#   under-load.sh --json …       the same, with every round, for programs
#
# The node runs on some cores, the load on another. Phases take turns, with and without, so that what disturbs the machine
# disturbs both; a ratio is of the two phases of one round, and the median over the rounds counts. Set in the environment:
#
#   ROUNDS=3              SERVER_CORES=0, LOAD_CORE=1
#   SECONDS_EACH=20       of load for a phase         DEPLOYMENTS=50     a second
#   CONNECTIONS=16        of the full load            RATE=500           requests a second of the canaries' load
#   GUEST=hello           the stable version          CPU_MS=20          of the canaries
#   SLUICE=, SLUICE_ARGS=   another binary; arguments for `serve`
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common/node.sh"

json='' parts=()
for argument in "$@"; do
    case $argument in
        --json) json=yes ;;
        deployments | canaries) parts+=("$argument") ;;
        *) die "usage: under-load.sh [--json] [deployments] [canaries]" ;;
    esac
done
((${#parts[@]})) || parts=(deployments canaries)
: "${ROUNDS:=3}" "${SECONDS_EACH:=20}" "${CONNECTIONS:=16}" "${DEPLOYMENTS:=50}" "${RATE:=500}" "${CPU_MS:=20}" "${GUEST:=hello}"
: "${SERVER_CORES:=0}" "${LOAD_CORE:=1}"
need curl jq taskset
build under-load
"$root/guest-examples/build.sh" --tests spin hog trap
SLUICE_ARGS="$SLUICE_ARGS --version-header"
start_node "$work/data" taskset -c "$SERVER_CORES"
rows=$work/rows
: > "$rows"

# under_load ARGUMENT…: on the load's core.
under_load() { taskset -c "$LOAD_CORE" "$release/examples/under-load" "$@"; }

# Rows: part, round, phase, then what under-load prints: version, answers, failures, p50, p99, p99.9, max.
# row PART ROUND PHASE: the rows of what comes by standard input.
row() { sed "s/^/$1 $2 $3 /" >> "$rows"; }

# versions WORKER CANARY METADATA: a worker with `$GUEST` at 100 %, and one more version. Sets `stable` and `canary`.
versions() {
    stable=$(upload PUT "$1" "$examples/$GUEST.wasm" '{}' | jq -r .deployment_id)
    canary=$(upload POST "$1/versions" "$2" "$3" | jq -r .id)
    answer "$1.localhost"
}

deployments() {
    local round
    versions rollout "$examples/$GUEST.wasm" '{"annotations": {"workers/tag": "second"}}'
    # Both versions are compiled and mapped before anything is measured.
    under_load deploy "$control" "$token" rollout 10 1 "$stable" "$canary" > /dev/null
    under_load full "$data" rollout.localhost "$CONNECTIONS" 2 > /dev/null
    for ((round = 1; round <= ROUNDS; round++)); do
        say "round $round of $ROUNDS: without deployments"
        under_load full "$data" rollout.localhost "$CONNECTIONS" "$SECONDS_EACH" | row deployments "$round" without
        say "round $round of $ROUNDS: $DEPLOYMENTS deployments a second"
        under_load deploy "$control" "$token" rollout "$DEPLOYMENTS" "$SECONDS_EACH" "$stable" "$canary" > "$work/deployed" &
        local deploying=$!
        under_load full "$data" rollout.localhost "$CONNECTIONS" "$SECONDS_EACH" | row deployments "$round" with
        wait "$deploying" || die "the deployments stopped"
        row deployments "$round" made < "$work/deployed"
    done
}

# requests WORKER VERSION OUTCOMES: what the node has counted of a version, by outcome; OUTCOMES is a regular expression.
requests() {
    curl --silent --show-error -H "Authorization: Bearer $token" "http://$control/metrics" | awk -v worker="worker=\"$1\"" \
        -v version="version=\"$2\"" -v outcome="outcome=\"($3)\"" '
        /^sluice_requests_total/ && index($0, worker) && index($0, version) && $0 ~ outcome { sum += $2 } END { print sum + 0 }'
}

# start_loop, stop_loop: a program on the node's core that the system runs only when nothing else does. `loop` is its process.
start_loop() {
    chrt --idle 0 taskset -c "$SERVER_CORES" bash -c 'while :; do :; done' &
    loop=$!
    children+=("$loop")
}
stop_loop() {
    kill "$loop"
    wait "$loop" 2> /dev/null || true
}

canaries() {
    local round kind kinds metadata rate worker loop
    declare -A stables canaries
    kinds=(alone loop spin hog trap)
    command -v chrt > /dev/null || { say "without the loop of another program: there is no chrt" && kinds=(alone spin hog trap); }
    metadata=$(jq -n --argjson ms "$CPU_MS" '{limits: {cpu_ms: $ms}}')
    for kind in alone spin hog trap; do
        if [[ $kind == alone ]]; then
            versions alone "$examples/$GUEST.wasm" '{}'
        else
            versions "$kind" "$root/tests/guests/dist/$kind.wasm" "$metadata"
            api POST "$kind/deployments" -H 'Content-Type: application/json' -d "$(jq -n --arg a "$stable" --arg b "$canary" \
                '{strategy: "percentage", versions: [{version_id: $a, percentage: 80}, {version_id: $b, percentage: 20}]}')" > /dev/null
        fi
        stables[$kind]=$stable canaries[$kind]=$canary
        under_load open "$data" "$kind.localhost" 100 1 > /dev/null
    done
    for ((round = 1; round <= ROUNDS; round++)); do
        for kind in "${kinds[@]}"; do
            say "round $round of $ROUNDS: $kind"
            # Alone, the stable version has as many requests as beside a canary.
            case $kind in
                alone | loop) worker=alone rate=$((RATE * 8 / 10)) ;;
                *) worker=$kind rate=$RATE ;;
            esac
            [[ $kind != loop ]] || start_loop
            under_load open "$data" "$worker.localhost" "$rate" "$SECONDS_EACH" |
                sed -e "s/^${stables[$worker]} /stable /" -e "s/^${canaries[$worker]} /canary /" | row canaries "$round" "$kind"
            [[ $kind != loop ]] || stop_loop
        done
    done
    for kind in spin hog trap; do
        echo "$kind $(requests "$kind" "${stables[$kind]}" '.*') $(requests "$kind" "${stables[$kind]}" '[^o].*') $(
            requests "$kind" "${canaries[$kind]}" '.*') $(requests "$kind" "${canaries[$kind]}" ok)" >> "$work/counted"
    done
}
for part in "${parts[@]}"; do "$part"; done
touch "$work/counted"

# --- The figures ---------------------------------------------------------------------------------------

if [[ -n $json ]]; then
    jq -n --rawfile rows "$rows" --rawfile counted "$work/counted" --arg date "$(date -u +%F)" --arg cpu "$(cpu_model)" \
        --arg kernel "$(uname -r)" --arg guest "$GUEST" --argjson rounds "$ROUNDS" --argjson seconds "$SECONDS_EACH" \
        --argjson connections "$CONNECTIONS" --argjson deployments "$DEPLOYMENTS" --argjson rate "$RATE" --argjson cpu_ms "$CPU_MS" '
        def lines: split("\n") | map(select(. != "") | split(" "));
        {date: $date, machine: {cpu: $cpu, kernel: $kernel},
         settings: {guest: $guest, rounds: $rounds, seconds: $seconds, connections: $connections,
                    deployments_per_s: $deployments, requests_per_s: $rate, canary_cpu_ms: $cpu_ms},
         rows: ($rows | lines | map({part: .[0], round: (.[1] | tonumber), phase: .[2], of: .[3], answers: (.[4] | tonumber),
             failures: (.[5] | tonumber), p50_us: (.[6] | tonumber), p99_us: (.[7] | tonumber), p999_us: (.[8] | tonumber),
             max_us: (.[9] | tonumber)})),
         counted_by_the_node: ($counted | lines | map({canary: .[0], stable_requests: (.[1] | tonumber),
             stable_not_ok: (.[2] | tonumber), canary_requests: (.[3] | tonumber), canary_ok: (.[4] | tonumber)}))}'
    exit
fi
echo "$(date -u +%F), $(cpu_model), node on core $SERVER_CORES, $GUEST, $ROUNDS rounds of $SECONDS_EACH s"
awk -v seconds="$SECONDS_EACH" -v rate="$RATE" -v cpu_ms="$CPU_MS" '
    function median(list, n,    i, j, x) {
        for (i = 2; i <= n; i++) { x = list[i]; for (j = i - 1; j > 0 && list[j] > x; j--) list[j + 1] = list[j]; list[j + 1] = x }
        return n % 2 ? list[(n + 1) / 2] : (list[n / 2] + list[n / 2 + 1]) / 2
    }
    # The median over the rounds of a phase, and of its ratio to another phase of the same round.
    function of(value, phase, who,    list, r) { for (r = 1; r <= rounds; r++) list[r] = value[phase, who, r]; return median(list, rounds) }
    function ratio(value, phase, base, who,    list, r) {
        for (r = 1; r <= rounds; r++) list[r] = value[phase, who, r] / value[base, who, r]
        return median(list, rounds)
    }
    function show(phase, who, base) {
        printf "%-28s %10d %8d %9d %9d %9d", phase (base == "" ? "" : ", " who), answers[phase, who], failures[phase, who],
            of(p50, phase, who), of(p99, phase, who), of(max, phase, who)
        if (base != "") printf " %9.2f", ratio(p99, phase, base, who)
        print ""
    }
    function heading(title) {
        printf "\n%-28s %10s %8s %9s %9s %9s %9s\n", title, "answers", "failed", "p50 µs", "p99 µs", "max µs", "× p99"
    }
    {
        if ($2 > rounds) rounds = $2
        seen[$1] = 1
        answers[$3, $4] += $5; failures[$3, $4] += $6; p50[$3, $4, $2] = $7; p99[$3, $4, $2] = $8; max[$3, $4, $2] = $10
    }
    END {
        if (seen["deployments"]) {
            heading("deployments under full load")
            show("without", "all"); show("with", "all", "without")
            printf "%d deployments, %.1f a second, %d refused; one takes %d µs at the median, %d at the 99th percentile\n",
                answers["made", "all"], answers["made", "all"] / rounds / seconds, failures["made", "all"], of(p50, "made", "all"),
                of(p99, "made", "all")
        }
        if (seen["canaries"]) {
            heading("canaries, " rate " requests/s")
            show("alone", "stable")
            if (("loop", "stable") in answers) show("loop", "stable", "alone")
            for (n = split("spin hog trap", kinds, " "); ++i <= n;) {
                show(kinds[i], "stable", "alone"); show(kinds[i], "canary")
            }
        }
    }' "$rows"
while read -r kind stable_all stable_bad canary_all canary_ok; do
    echo "the node counts, beside $kind: $stable_bad of $stable_all requests of the stable version failed, and $((canary_all - canary_ok)) of $canary_all of the canary"
done < "$work/counted"
