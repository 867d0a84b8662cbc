# shellcheck shell=sh
# What the procedures share.
set -eu

# A site may say whether version $2 is installed on the machine of node $1.
# shellcheck disable=SC2317 # it is called unless the site has its own
has_version() { true; }

site_file=${MAJORDOMO_SITE:-$(dirname "$0")/site.sh}
if [ ! -r "$site_file" ]; then
    echo "MAJORDOMO_SITE: there is no file $site_file; copy deploy/procedures/site.sh and change it" >&2
    exit 2
fi
# shellcheck source=site.sh
. "$site_file"

# How long a node may take to be ready, or to vote.
patience_seconds=${PATIENCE_SECONDS:-60}

say() { echo "==> $*"; }

# What was asked for can not be done; nothing was changed.
refuse() { echo "$(basename "$0"): $*" >&2; exit 1; }

misuse() {
    echo "$(basename "$0"): $*" >&2
    echo "usage: $synopsis" >&2
    echo "--help says more" >&2
    exit 2
}

# Reads the arguments of a script: `arguments SYNOPSIS ABOUT VARIABLES "$@"`. Each of the variables gets
# one argument. `--yes` is an option of the scripts that have it in their synopsis: it sets is_sure.
arguments() {
    synopsis=$1 about=$2 variables=$3; shift 3
    is_sure=no
    for argument; do
        case $argument in
            -h | --help)
                echo "usage: $synopsis"; echo
                echo "$about"; echo
                echo "The site is $site_file, its nodes are: $nodes. MAJORDOMO_SITE names another one."
                exit 0 ;;
        esac
    done
    for argument; do
        case $argument in
            --yes)
                case $synopsis in *"[--yes]"*) is_sure=yes ;; *) misuse "--yes: there is nothing to confirm" ;; esac ;;
            -*) misuse "$argument: no such option" ;;
            "") misuse "an argument is empty" ;;
            *)
                [ -n "$variables" ] || misuse "$argument: one argument too many"
                variable=${variables%% *}
                eval "$variable=\$argument"
                variables=${variables#"$variable"} variables=${variables# } ;;
        esac
    done
    [ -z "$variables" ] || misuse "an argument is missing"
}

# Whether node $1 is one of the site's.
is_of_site() { case " $nodes " in *" $1 "*) true ;; *) false ;; esac; }
must_be_of_site() {
    is_of_site "$1" || misuse "$1 is no node of this site; its nodes are: $nodes ($site_file)"
}
must_be_a_name() {
    case $1 in *[!A-Za-z0-9._-]*) misuse "$1 is no name of a node: use letters, digits, '-', '_' or '.'" ;; esac
}

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

is_ready() { majordomo_at "$1" status --ready > /dev/null 2>&1; }
wait_until_ready() { wait_for "$1 is ready" is_ready "$1"; }

# Whether the process of node $1 answers, ready or not; whether its machine does.
is_live() { majordomo_at "$1" status --live > /dev/null 2>&1; }
is_reachable() { on "$1" true > /dev/null 2>&1 < /dev/null; }

# The nodes of the site for which a command succeeds: `those is_ready`.
those() { for each in $nodes; do if "$@" "$each"; then printf '%s ' "$each"; fi; done; }

# Another node must be able to go without a majority being lost.
# All but node $1.
all_must_be_ready() {
    for each in $nodes; do
        [ "$each" = "$1" ] || is_ready "$each" ||
            refuse "$each is not ready, and with one more node away there may be no majority; see to $each first"
    done
}

# Nothing that destroys a cluster is done to one that works, unless `--yes` was given.
must_have_lost_its_majority() {
    living=$(those is_live)
    # shellcheck disable=SC2086 # it is a list
    if [ "$(($(echo $living | wc -w) * 2))" -gt "$(echo $nodes | wc -w)" ] && [ "$is_sure" = no ]; then
        refuse "a majority answers (${living% }): nothing was done. If all that is listed above must be done all the same, say --yes"
    fi
}

# Whether node $2 votes, as node $1 sees it, and is one member only.
votes() {
    list=$(majordomo_at "$1" member list) && [ "$(echo "$list" | grep -c "^$2 ")" = 1 ] &&
        echo "$list" | grep -q "^$2  *voter  *up "
}
# Whether it is a member of any kind.
is_member() { majordomo_at "$1" member list 2> /dev/null | grep -q "^$2 "; }

# Lets a node leave without losing a request.
drain() { say "$1 leaves"; majordomo_at "$1" drain --wait --timeout 60s; }

# One node after the other: each is ready before the next one leaves.
restart_one() { drain "$1"; start "$1"; wait_until_ready "$1"; say "$1 is back"; }

# Each node must have the program before the first one leaves.
must_have_version() {
    for each in $nodes; do
        has_version "$each" "$1" || refuse "version $1 is not installed on the machine of $each; nothing was done"
    done
}

# Any node but this one; one that is ready, if there is one.
another() {
    for other in $nodes; do [ "$other" = "$1" ] || ! is_ready "$other" || { echo "$other"; return; }; done
    for other in $nodes; do [ "$other" = "$1" ] || { echo "$other"; return; }; done
}
