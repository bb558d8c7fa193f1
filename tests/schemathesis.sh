#!/usr/bin/env bash
# Lets schemathesis (from PyPI) loose on the control API of a fresh node, by the API's own description, and fails on any answer
# that is the node's fault (5xx), that breaks the envelope, or that lets a call pass without the token.
#
#   pip install schemathesis
#   tests/schemathesis.sh [SECONDS] [more arguments for `schemathesis run`]
#
# SECONDS is the time for each of two runs, 60 unless given. The node is the debug build, or the binary that $SLUICE names, on
# ports of its own; nothing is left behind.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

seconds=${1:-60}
shift || true
command -v schemathesis >/dev/null || { echo "schemathesis is not installed: pip install schemathesis" >&2; exit 2; }
sluice=${SLUICE:-}
if [[ -z $sluice ]]; then
    cargo build --quiet
    sluice=$PWD/target/debug/sluice
fi

folder=$(mktemp -d)
node=
stop() {
    if [[ -n $node ]]; then
        kill "$node" 2>/dev/null || true
        wait "$node" 2>/dev/null || true
    fi
    rm -rf "$folder"
}
trap stop EXIT

"$sluice" serve --listen 127.0.0.1:0 --control-listen 127.0.0.1:0 --data-dir "$folder/data" >"$folder/out" 2>"$folder/log" &
node=$!
until [[ -f $folder/data/addresses.json ]]; do
    kill -0 "$node" 2>/dev/null || { cat "$folder/log" >&2; exit 1; }
    sleep 0.1
done
origin=http://$(sed 's/.*"control":"\([^"]*\)".*/\1/' "$folder/data/addresses.json")
token=$(cat "$folder/data/token")

# A worker with a class of objects, and a KV namespace, to call things on: half of the calls would end at "there is no such thing" otherwise.
account=$origin/client/v4/accounts/local
scripts=$account/workers/scripts
id_of() { sed 's/.*"id":"\([^"]*\)".*/\1/'; }
module='(component (core module $m (func (export "f"))) (core instance (instantiate $m)))'
printf '%s' "$module" >"$folder/worker.wat"
example=guest-examples/dist/counter.wasm
metadata='{"main_module":"worker.wasm","migrations":{"new_tag":"v1","steps":[{"new_sqlite_classes":["Counter"]}]}}'
[[ -f $example ]] || { example=$folder/worker.wat metadata='{"main_module":"worker.wasm"}'; }
for name in a hello; do
    curl -sS -o /dev/null -X PUT -H "Authorization: Bearer $token" "$scripts/$name" \
        -F "metadata=$metadata;type=application/json" -F "worker.wasm=@$example;type=application/wasm"
done

namespace=$(curl -sS -H "Authorization: Bearer $token" "$account/storage/kv/namespaces" -d '{"title":"known"}' | id_of)
curl -sS -o /dev/null -X PUT -H "Authorization: Bearer $token" "$account/storage/kv/namespaces/$namespace/values/0" -d 'value'

# What the description cannot say (a share must name a version that exists) makes many calls a refusal, so it is not held
# against the API that it refuses what the description allows.
checks=not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,ignored_auth
run() {
    schemathesis --config-file "$1" run "$origin/client/v4/openapi.json" --origin "$origin" \
        --header "Authorization: Bearer $token" --checks "$checks" --exclude-path-regex '^/tails/' \
        --max-time "$seconds" --continue-on-failure --generation-database none --no-color "${@:2}"
}
status=0
printf '[parameters]\n"path.name" = "hello"\n"path.namespace" = "%s"\n"path.class" = "Counter"\n"query.by" = "name"\n' \
    "$namespace" >"$folder/known.toml"
: >"$folder/any.toml"
echo "== calls on a worker and a namespace that are there"
run "$folder/known.toml" --exclude-operation-id deleteWorker --exclude-operation-id deleteService \
    --exclude-operation-id deleteNamespace "$@" || status=$?
echo "== calls on any"
run "$folder/any.toml" "$@" || status=$?

kill -0 "$node" 2>/dev/null || { echo "the node has died:" >&2; tail -n 50 "$folder/log" >&2; status=1; }
if grep -q 'panicked' "$folder/log"; then
    echo "the node panicked:" >&2
    grep -A5 'panicked' "$folder/log" >&2
    status=1
fi
exit "$status"
