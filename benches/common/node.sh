# What compare.sh and start.sh share: programs that are built, a node that is started, workers that are uploaded.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
examples=$root/guest-examples/dist
release=${CARGO_TARGET_DIR:-$root/target}/release
work=$(mktemp -d)
children=()
# Numbers with a point, whatever the language; and what a caller uses to reach a node of his is not meant for ours.
export LC_ALL=C
unset SLUICE_API SLUICE_API_TOKEN
: "${SLUICE_ARGS:=}" "${SLUICE:=$release/sluice}"

say() { printf '%s\n' "$*" >&2; }
die() { say "$(basename "$0"): $*"; exit 1; }

finish() {
    ((${#children[@]} == 0)) || kill "${children[@]}" 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT

need() {
    local program
    for program in "$@"; do
        command -v "$program" >/dev/null || die "this needs '$program'; on Debian: apt-get install wrk curl jq util-linux"
    done
}

# build EXAMPLE…: the node, these programs, and the guests. The server of bare hyper is built as the node is; what only sends or makes
# something in a profile that takes less time to build.
build() {
    local example profile
    say "building, which takes a while the first time"
    # By itself: built together with an example, it would be built with what only tests ask of tokio.
    (cd "$root" && { [[ $SLUICE != "$release/sluice" ]] || cargo build --release --quiet --bin sluice; }) || die "the build failed"
    for example; do
        case $example in
            bare-hyper) profile=release ;;
            *) profile=bench ;;
        esac
        # The profile `bench` has the folder of `release`.
        (cd "$root" && cargo build --profile "$profile" --quiet --example "$example") || die "the build failed"
    done
    "$root/guest-examples/build.sh" || die "the guests are not built, so there is nothing to measure"
}

# launch NAME COMMAND…: starts a server and waits, while it compiles too, until it has printed its address (workerd: its port). Sets
# `pid` and `address`.
launch() {
    local name=$1 log=$work/$1.log tries
    shift
    "$@" > "$log" 2>&1 &
    pid=$!
    children+=("$pid")
    for ((tries = 0; tries < 2400; tries++)); do
        address=$(sed -n -e 's|.*http://\(127\.0\.0\.1:[0-9]*\).*|\1|p' \
            -e 's|.*"event":"listen".*"port":\([0-9]*\).*|127.0.0.1:\1|p' "$log" | head -1)
        [[ -z $address ]] || return 0
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.05
    done
    cat "$log" >&2
    die "$name did not start"
}

# start_node FOLDER COMMAND-PREFIX…: `sluice serve`. Sets `node` (its process), `data`, `control` and `token`.
start_node() {
    local folder=$1
    shift
    launch node "$@" "$SLUICE" serve --listen 127.0.0.1:0 --control-listen 127.0.0.1:0 --data-dir "$folder" $SLUICE_ARGS
    node=$pid
    read_node "$folder"
}

# read_node FOLDER: where the node over that folder listens, and its token.
read_node() {
    data=$(jq -r .data "$1/addresses.json") control=$(jq -r .control "$1/addresses.json") token=$(< "$1/token")
}

stop_node() {
    kill "$node" && wait "$node" 2>/dev/null || true
}

# api METHOD PATH CURL-ARGUMENT…: prints the result.
api() {
    local method=$1 path=$2 reply
    shift 2
    reply=$(curl --silent --show-error -X "$method" -H "Authorization: Bearer $token" "$@" \
        "http://$control/client/v4/accounts/local/workers/scripts/$path")
    jq -e 'if .success then .result else error(.errors | tostring) end' <<< "$reply" || die "$method $path: $reply"
}

# upload METHOD PATH MODULE METADATA: METADATA is an object without `main_module`. Prints the result.
upload() {
    api "$1" "$2" -F "metadata=$(jq -c '. + {main_module: "worker.wasm"}' <<< "$4");type=application/json" \
        -F "worker.wasm=@$3;type=application/wasm"
}

# answer HOST: one request to the node; fails unless it is answered by 200.
answer() {
    local status
    status=$(curl --silent --output /dev/null --write-out '%{http_code}' -H "Host: $1" "http://$data/")
    [[ $status == 200 ]] || die "the node answers $status for $1"
}

ticks_a_second=$(getconf CLK_TCK)

# ticks_of PROCESS: its user and system time, in ticks.
ticks_of() {
    local stat
    stat=$(< "/proc/$1/stat")
    set -- ${stat##*) }
    echo $((${12} + ${13}))
}

cpu_model() { sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1; }
memory_gib() { awk '/^MemTotal/ { printf "%.0f", $2 / 1024 / 1024 }' /proc/meminfo; }
