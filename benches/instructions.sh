#!/usr/bin/env bash
# Whether choosing has become more expensive, without a clock: instructions for finding the worker of a host and for choosing the
# version of a request, counted by callgrind and compared with instructions.txt.
#
#   instructions.sh             fails if a case takes more than TOLERANCE percent more than is written there
#   instructions.sh --accept    writes what was counted there
#
# Counted in the profile that tests are built in (TARGET_PROFILE=dev): what the compiler does to our code is less there, so the numbers
# are larger than what runs, but they hardly differ from run to run, and nothing has to be compiled for them that tests do not need. They
# belong to one compiler and one architecture; with another the comparison is only shown. TOLERANCE=5
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '%s\n' "$*" >&2; }
die() { say "instructions.sh: $*"; exit 1; }

accept=
case ${1-} in
    '') ;;
    --accept) accept=yes ;;
    *) die "usage: instructions.sh [--accept]" ;;
esac
: "${TOLERANCE:=5}" "${TARGET_PROFILE:=dev}"
expected=benches/instructions.txt
command -v valgrind > /dev/null || die "this needs 'valgrind'; on Debian: apt-get install valgrind"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The name that cargo gives to the folder of the profile `dev` is `debug`.
program=${CARGO_TARGET_DIR:-target}/${TARGET_PROFILE/#dev/debug}/examples/pure-path
cargo build --quiet --profile "$TARGET_PROFILE" --example pure-path
"$program" prepare "$work/catalogs"
# count RUN: one run for all cases. What was counted is written to a file of its own before each, so that the first holds nothing,
# and the last case is in the file that is written at the end. Two patterns that begin alike would be taken for one.
count() {
    local out=$work/$1 part=1 name times total
    valgrind --quiet --tool=callgrind --toggle-collect='*measured*' --dump-before='*pure_path*case*' \
        --callgrind-out-file="$out" "$program" count "$work/catalogs" > "$out.cases" 2> "$out.log" ||
        { cat "$out.log" >&2; die "the count failed"; }
    mv "$out" "$out.$(($(wc -l < "$out.cases") + 1))"
    while read -r name times; do
        part=$((part + 1))
        total=$(sed -n 's/^totals: *//p' "$out.$part")
        [[ -n $total && $total -gt 0 ]] || die "nothing was counted for $name"
        echo "$name $((total / times))"
    done < "$out.cases"
}

# machine: what the figures depend on besides our code.
machine="$(rustc --version), $(rustc -vV | sed -n 's/^host: //p'), profile $TARGET_PROFILE"
# The least of several runs: where keys meet in a hash table depends on a seed that is another one for each process.
{
    echo "# Instructions for one run of each case. Made by: benches/instructions.sh --accept"
    echo "# $machine"
    for run in 1 2 3; do count "$run" || exit; done | awk '
        !($1 in least) { order[++n] = $1; least[$1] = $2 }
        $2 < least[$1] { least[$1] = $2 }
        END { for (i = 1; i <= n; i++) print order[i], least[order[i]] }'
} > "$work/now"

if [[ -n $accept ]]; then
    cp "$work/now" "$expected"
    say "wrote $expected"
    exit
fi
same_machine=
! grep -qxF "# $machine" "$expected" || same_machine=yes
awk -v tolerance="$TOLERANCE" '
    /^#/ { next }
    FNR == NR { before[$1] = $2; next }
    !($1 in before) { printf "%-40s %8d         is new: benches/instructions.sh --accept\n", $1, $2; bad = 1; next }
    {
        change = 100 * ($2 - before[$1]) / before[$1]
        printf "%-40s %8d %+7.1f %%%s\n", $1, $2, change, (change > tolerance ? "   MORE THAN BEFORE" : "")
        if (change > tolerance) bad = 1
        delete before[$1]
    }
    END {
        for (name in before) { printf "%-40s is gone: benches/instructions.sh --accept\n", name; bad = 1 }
        exit bad
    }' "$expected" "$work/now" && exit
if [[ -z $same_machine ]]; then
    say "the figures were made with another compiler or elsewhere, so this is no failure: $(sed -n 2p "$expected")"
    exit
fi
die "choosing takes more instructions than before; if that is meant, benches/instructions.sh --accept writes it down"
