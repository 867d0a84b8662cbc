#!/bin/sh
# Brings one node after the other to version $1. Until finalize.sh, roll-back.sh is the way back.
. "$(dirname "$0")/common.sh"
version=$1

majordomo_at "${nodes%% *}" upgrade hold
for node in $nodes; do
    drain "$node"
    install "$node" "$version"
    start "$node"
    wait_until_ready "$node"
    say "$node runs $version"
done
majordomo_at "${nodes%% *}" upgrade status
