#!/bin/sh
# Starts all nodes of a new cluster, in any order, and waits until each is ready.
. "$(dirname "$0")/common.sh"

for node in $nodes; do start "$node"; done
for node in $nodes; do wait_until_ready "$node"; done
majordomo_at "${nodes%% *}" member list
