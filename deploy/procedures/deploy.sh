#!/bin/sh
# Starts all nodes of a new cluster, in any order, and waits until each is ready.
. "$(dirname "$0")/common.sh"
arguments "deploy.sh" "Starts all nodes of a new cluster and waits until each is ready." "" "$@"
running=$(those is_live)
[ -z "$running" ] || refuse "these nodes run already: ${running% }; nothing was done"
for node in $nodes; do
    is_reachable "$node" || refuse "the machine of $node does not answer; nothing was done"
done

for node in $nodes; do start "$node"; done
for node in $nodes; do wait_until_ready "$node"; done
majordomo_at "${nodes%% *}" member list
