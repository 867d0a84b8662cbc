on() {
    machine=$1; shift
    if [ "$1" = majordomo ]; then shift; "$site/$machine" "$@"; else "$@"; fi
}
majordomo_at() { at=$1; shift; on "$at" majordomo "$@" --admin "$(admin_of "$at")"; }
# A process that nobody has asked about yet how it ended does not run any more.
runs() {
    [ -e "$site/$1.pid" ] && state=$(cut -d ' ' -f 3 "/proc/$(cat "$site/$1.pid")/stat" 2> /dev/null) &&
        [ "$state" != Z ]
}
# What has drained says so, and ends a moment later.
ends() { for _ in $(seq 100); do runs "$1" || return 0; sleep 0.05; done; return 1; }
start() {
    ends "$1" || { echo "$1 runs already" >&2; exit 1; }
    setsid "$site/$1" serve --config "$(config_of "$1")" >> "$site/$1.log" 2>&1 < /dev/null &
    echo $! > "$site/$1.pid"
}
stop() {
    runs "$1" || return 0
    kill -KILL "$(cat "$site/$1.pid")" 2> /dev/null || return 0
    ends "$1"
}
install() { eval "to=\$program_$2"; ln -sfn "$to" "$site/$1"; }
has_version() { eval "to=\${program_$2-}"; [ -x "$to" ]; }
