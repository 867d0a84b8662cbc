# What the procedures share.
set -eu
. "${MAJORDOMO_SITE:-$(dirname "$0")/site.sh}"

# How long a node may take to be ready, or to vote.
patience_seconds=${PATIENCE_SECONDS:-60}

say() { echo "==> $*"; }

# Waits until a command succeeds; $1 says what for.
wait_for() {
    what=$1; shift
    deadline=$(($(date +%s) + patience_seconds))
    until "$@" > /dev/null 2>&1; do
        if [ "$(date +%s)" -ge "$deadline" ]; then
            echo "$what: not within $patience_seconds s" >&2
            exit 1
        fi
        sleep 0.2
    done
}

is_ready() { majordomo_at "$1" status --ready; }
wait_until_ready() { wait_for "$1 is ready" is_ready "$1"; }

# Whether node $2 votes, as node $1 sees it, and is one member only.
votes() {
    list=$(majordomo_at "$1" member list) && [ "$(echo "$list" | grep -c "^$2 ")" = 1 ] &&
        echo "$list" | grep -q "^$2  *voter  *up "
}

# Lets a node leave without losing a request.
drain() { say "$1 leaves"; majordomo_at "$1" drain --wait --timeout 60s; }

# One node after the other: each is ready before the next one leaves.
restart_one() { drain "$1"; start "$1"; wait_until_ready "$1"; say "$1 is back"; }

# Any node but this one.
another() { for other in $nodes; do [ "$other" = "$1" ] || { echo "$other"; return; }; done; }
