#!/bin/sh
# The majority is lost for good: a new cluster out of node $1. The others must not come back with the
# directories that they have: here they are emptied.
. "$(dirname "$0")/common.sh"
survivor=$1

for node in $nodes; do stop "$node"; done
on "$survivor" cp -a "$(data_dir "$survivor")" "$(data_dir "$survivor").before-recovery"
on "$survivor" majordomo recover --force-new-cluster --config "$(config_of "$survivor")"
start "$survivor"
wait_until_ready "$survivor"
for node in $nodes; do
    [ "$node" = "$survivor" ] && continue
    on "$node" rm -rf "$(data_dir "$node")"
    start "$node"
    wait_until_ready "$node"
    wait_for "$node votes" votes "$survivor" "$node"
done
majordomo_at "$survivor" member list
