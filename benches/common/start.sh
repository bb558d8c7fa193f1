# What start.sh and stored.sh share: how long a node takes to its first answers.

# The median of the numbers on standard input.
median() { sort -n | awk '{ list[NR] = $1 } END { print NR % 2 ? list[(NR + 1) / 2] : (list[NR / 2] + list[NR / 2 + 1]) / 2 }'; }

# now: microseconds. Nothing is forked for it, nor below between a start and its answer.
now() { now=${EPOCHREALTIME/[^0-9]/}; }

# ask HOST: sends a request to the node and waits for the first line of the answer.
ask() {
    local line
    exec {socket}<> "/dev/tcp/127.0.0.1/${address##*:}"
    printf 'GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n' "$1" >&"$socket"
    read -r line <&"$socket"
    exec {socket}>&-
    [[ $line == *' 200 '* ]] || die "the node answered '$line'"
}

# start FOLDER: starts a node and leaves it running; adds what it took to the files `listening`, `first` and `second`.
start() {
    local began listening first second line out
    rm -f "$work/start.out"
    mkfifo "$work/start.out"
    now && began=$now
    "$SLUICE" serve --listen 127.0.0.1:0 --control-listen 127.0.0.1:0 --data-dir "$1" $SLUICE_ARGS \
        > "$work/start.out" 2> "$work/start.log" &
    node=$!
    children+=("$node")
    exec {out}< "$work/start.out"
    read -r line <&"$out" || { cat "$work/start.log" >&2; die "the node did not start"; }
    now && listening=$((now - began))
    address=${line##*http://}
    ask w0.localhost
    now && first=$((now - began)) began=$now
    ask w0.localhost
    now && second=$((now - began))
    cat <&"$out" > /dev/null &
    exec {out}<&-
    echo "$listening" >> "$work/listening" && echo "$first" >> "$work/first" && echo "$second" >> "$work/second"
}
