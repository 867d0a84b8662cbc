#!/bin/sh
# The majority is lost for good: a new cluster out of node NODE. The others must not come back with the
# directories that they have: here they are emptied.
. "$(dirname "$0")/common.sh"
survivor=
arguments "recover.sh [--yes] NODE" "The majority is lost for good: makes a new cluster out of NODE, the survivor, and empties all
other nodes, which join it. While a majority answers it does nothing but with --yes." survivor "$@"
must_be_of_site "$survivor"
is_reachable "$survivor" || refuse "the machine of $survivor does not answer; nothing was done"
directory=$(data_dir "$survivor")
on "$survivor" test -e "$directory" || refuse "$survivor has no directory $directory; nothing was done"
kept=$directory.before-recovery
if on "$survivor" test -e "$kept"; then kept=$kept-$(date +%Y%m%dT%H%M%S); fi

say "this will be done:"
for node in $nodes; do
    if ! is_reachable "$node"; then
        echo "$node: nothing: its machine does not answer. It must not come back with its directory; use replace-node.sh then"
    elif [ "$node" = "$survivor" ]; then
        echo "$node: killed, $directory copied to $kept, made the only member of a new cluster, started"
    else
        echo "$node: killed, $(data_dir "$node") deleted, started as a new member"
    fi
done
must_have_lost_its_majority

reachable=$(those is_reachable)
for node in $reachable; do stop "$node"; done
on "$survivor" cp -a "$directory" "$kept"
on "$survivor" majordomo recover --force-new-cluster --config "$(config_of "$survivor")"
start "$survivor"
wait_until_ready "$survivor"
for node in $reachable; do
    [ "$node" = "$survivor" ] && continue
    on "$node" rm -rf "$(data_dir "$node")"
    start "$node"
    wait_until_ready "$node"
    wait_for "$node votes" votes "$survivor" "$node"
done
majordomo_at "$survivor" member list
